//! A program says in its first frame which instance it is a copy of, or which kind it serves. Until
//! that frame is there the program is nobody: it holds little, not for long, and only a few others
//! may do so with it. One that was let in for one instance must be that one: the right to one is no
//! right to another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::immortal::{HELLO_BYTES_MAX, ToNode, ToProgram, take_frame};
use protocol::links;
use protocol::service::{FromProgram, SERVE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long a program may take to say it.
pub(crate) const HELLO_MAX: Duration = Duration::from_secs(10);

/// The most programs at a time that have not said it. One more is turned away: it comes again.
const NAMELESS_MAX: usize = 64;

/// How many programs have not said who they are.
#[derive(Clone, Default)]
pub(crate) struct Nameless(Arc<AtomicUsize>);

/// The place of one of them; free again with the drop.
pub(crate) struct NamelessOne(Arc<AtomicUsize>);

impl Nameless {
    /// A place for one more, if there is any.
    pub(crate) fn enter(&self) -> Option<NamelessOne> {
        let one = NamelessOne(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < NAMELESS_MAX).then_some(one)
    }
}

impl Drop for NamelessOne {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads until it is known which instance the program is. Returns all that was read, for the node;
/// what is no HELLO the node refuses itself. `only`: the instance that it was let in as. `within`:
/// how long that may take, [`HELLO_MAX`].
///
/// # Errors
/// When it is another instance, and has been told so; or when it says nothing.
pub(crate) async fn check(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    already_read: Bytes,
    only: Option<&str>,
    within: Duration,
) -> io::Result<Bytes> {
    let first = tokio::time::timeout(within, first_frame(socket, already_read)).await;
    let (read, said) = first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match (said, only) {
        (Some(instance), Some(name)) if instance != name => {
            let text = format!(
                "the program was let in for '{name}', and says that it is for '{instance}'"
            );
            let mut bytes = Vec::new();
            ToProgram::Error { code: "ACCESS_DENIED".into(), text: text.clone() }.put(&mut bytes);
            socket.write_all(&bytes).await?;
            socket.shutdown().await?;
            Err(io::Error::other(text))
        }
        _ => Ok(read),
    }
}

/// All that was read, and the instance that is named in it, or the definition of the kind.
async fn first_frame(
    socket: &mut (impl AsyncRead + Unpin),
    already_read: Bytes,
) -> io::Result<(Bytes, Option<String>)> {
    let mut read = already_read;
    loop {
        let mut rest = read.clone();
        match take_frame(&mut rest, HELLO_BYTES_MAX) {
            Ok(Some(frame)) => return Ok((read, named(frame))),
            Err(_) => return Ok((read, None)),
            Ok(None) => {}
        }
        drop(rest);
        let mut more = read.try_into_mut().unwrap_or_else(|read| BytesMut::from(&read[..]));
        if socket.read_buf(&mut more).await? == 0 {
            return Ok((more.freeze(), None));
        }
        read = more.freeze();
    }
}

/// Whom the beginning of a connection names, for the fuzz targets.
pub(crate) fn named_in(bytes: Bytes) -> Option<String> {
    let mut rest = bytes;
    take_frame(&mut rest, HELLO_BYTES_MAX).ok().flatten().and_then(named)
}

/// Whom a first frame names. No instance has the name of a definition, as no name has a slash.
fn named(frame: Bytes) -> Option<String> {
    if frame.first() == Some(&SERVE) {
        return match FromProgram::read(frame) {
            Ok(FromProgram::Serve(serve)) => Some(links::definition_of(&serve.factory)),
            _ => None,
        };
    }
    match ToNode::read(frame) {
        Ok(ToNode::Hello(hello)) => Some(hello.instance),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use protocol::immortal::Hello;
    use protocol::service::{Has, Serve};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn hello(instance: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let hello = Hello {
            instance: instance.into(),
            version_min: 1,
            version_max: 1,
            program_version: 0,
            upgrade_to: 0,
        };
        ToNode::Hello(hello).put(&mut bytes);
        bytes
    }

    /// What the program is told when it says this, and whether it is let in.
    fn said(first: &[u8], second: &[u8]) -> (bool, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut socket, _) = listener.accept().await.unwrap();
            program.write_all(second).await.unwrap();
            program.shutdown().await.unwrap();
            let checked =
                check(&mut socket, Bytes::copy_from_slice(first), Some("mine"), HELLO_MAX).await;
            if let Ok(read) = &checked {
                assert!([first, second].concat().starts_with(read));
            }
            drop(socket);
            let mut told = Vec::new();
            drop(program.read_to_end(&mut told).await);
            (checked.is_ok(), told)
        })
    }

    #[test]
    fn who_is_let_in_for_one_instance_is_that_one() {
        let (mine, other) = (hello("mine"), hello("other"));
        for cut in 0..mine.len() {
            assert!(said(&mine[..cut], &mine[cut..]).0, "{cut}");
            assert!(!said(&other[..cut], &other[cut..]).0, "{cut}");
        }
        let serve = Serve {
            version_min: 1,
            version_max: 1,
            factory: "/mine".into(),
            program_version: String::new(),
            calls_max: 1,
            has: Has::default(),
        };
        let mut bytes = Vec::new();
        FromProgram::Serve(serve).put(&mut bytes);
        assert!(!said(&bytes, b"").0, "the right to an instance is none to a kind");
        let (_, told) = said(&other, b"");
        assert!(String::from_utf8_lossy(&told).contains("ACCESS_DENIED"));
        assert!(said(&[255; 64], b"").0, "the node refuses what is no frame");
    }

    #[test]
    fn who_says_nothing_is_let_go() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (within, whole) = (Duration::from_millis(20), hello("mine"));
        for said in [&b""[..], &whole[..1], &whole[..whole.len() - 1]] {
            let (mut program, mut node) = tokio::io::duplex(1_024);
            let checked = runtime.block_on(async {
                program.write_all(said).await.unwrap();
                let checked = check(&mut node, Bytes::new(), None, within);
                tokio::time::timeout(Duration::from_secs(20), checked).await
            });
            let checked = checked.expect("it is not waited for for ever");
            assert_eq!(checked.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn only_a_few_are_nobody_at_a_time() {
        let nameless = Nameless::default();
        let mut all: Vec<NamelessOne> =
            (0..NAMELESS_MAX).map(|_| nameless.enter().unwrap()).collect();
        assert!(nameless.enter().is_none());
        all.pop();
        assert!(nameless.enter().is_some(), "who was turned away holds no place");
    }
}
