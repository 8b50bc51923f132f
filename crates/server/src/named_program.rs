//! A program that has been let in as a copy of one instance says in its first frame which one it
//! is. It must be that one: the right to one instance is no right to another.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::immortal::{HELLO_BYTES_MAX, ToNode, ToProgram, split_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a program may take to say it.
const HELLO_MAX: Duration = Duration::from_secs(10);

/// Reads until it is known which instance the program is. Returns all that was read, for the node;
/// what is no HELLO the node refuses itself.
///
/// # Errors
/// When it is another instance; the program has been told then.
pub(crate) async fn check(
    socket: &mut TcpStream,
    already_read: Bytes,
    name: &str,
) -> io::Result<Bytes> {
    let mut read = BytesMut::from(&already_read[..]);
    let reading = async {
        loop {
            let mut whole = read.clone();
            match split_frame(&mut whole, HELLO_BYTES_MAX).map(|frame| frame.map(ToNode::read)) {
                Ok(Some(Ok(ToNode::Hello(hello)))) => return Ok(Some(hello.instance)),
                Ok(Some(_)) | Err(_) => return Ok(None),
                Ok(None) if socket.read_buf(&mut read).await? == 0 => return Ok(None),
                Ok(None) => {}
            }
        }
    };
    let said: io::Result<Option<String>> = match tokio::time::timeout(HELLO_MAX, reading).await {
        Ok(said) => said,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match said? {
        Some(instance) if instance != name => {
            let text =
                format!("the program was let in as '{name}', and says that it is '{instance}'");
            let mut bytes = Vec::new();
            ToProgram::Error { code: "ACCESS_DENIED".into(), text: text.clone() }.put(&mut bytes);
            socket.write_all(&bytes).await?;
            socket.shutdown().await?;
            Err(io::Error::other(text))
        }
        Some(_) | None => Ok(read.freeze()),
    }
}

#[cfg(test)]
mod tests {
    use protocol::immortal::Hello;
    use tokio::net::TcpListener;

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
            let checked = check(&mut socket, Bytes::copy_from_slice(first), "mine").await;
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
        let (_, told) = said(&other, b"");
        assert!(String::from_utf8_lossy(&told).contains("ACCESS_DENIED"));
        assert!(said(&[255; 64], b"").0, "the node refuses what is no frame");
    }
}
