//! TLS to a node. The rest of this crate has a plain socket: one end of a pair within this process,
//! at whose other end two threads encrypt and decrypt.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use protocol::Address;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// File with the authority whose certificates are believed.
const CA_FILE: &str = "AMRITA_CA_FILE";

/// How many bytes are read at a time.
const PIECE_BYTES: usize = 32 << 10;

/// What both threads need. To write, a thread takes `sending` first: what is encrypted first must
/// be sent first.
struct Shared {
    connection: Mutex<ClientConnection>,
    sending: Mutex<()>,
    socket: TcpStream,
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn config() -> io::Result<Arc<ClientConfig>> {
    let file = std::env::var_os(CA_FILE).filter(|file| !file.is_empty()).map(PathBuf::from);
    let file = file.ok_or_else(|| {
        other(format!(
            "{CA_FILE} must name the authority to believe: tls/ca.pem of a node's sandbox"
        ))
    })?;
    let wrong =
        |why: &dyn std::fmt::Display| other(format!("{CA_FILE}: {}: {why}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Makes sure that the other end is whom it says it is, and returns the plain end.
pub(crate) fn begin(mut socket: TcpStream, address: &Address) -> io::Result<UnixStream> {
    let host = address.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(other)?;
    let mut connection = ClientConnection::new(config()?, name).map_err(other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    // From here on it waits as long as the program lives.
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    let (near, far) = UnixStream::pair()?;
    let (connection, sending) = (Mutex::new(connection), Mutex::new(()));
    let shared = Arc::new(Shared { connection, sending, socket });
    let (inwards, plain) = (Arc::clone(&shared), far.try_clone()?);
    let thread = |name: &str| thread::Builder::new().name(name.to_owned());
    thread("amrita-tls-in").spawn(move || {
        // How it ends, the program sees by the end of its own socket.
        drop(inwards.decrypt(&plain));
        drop(plain.shutdown(Shutdown::Both));
    })?;
    thread("amrita-tls-out").spawn(move || {
        drop(shared.encrypt(&far));
        drop(shared.socket.shutdown(Shutdown::Both));
    })?;
    Ok(near)
}

impl Shared {
    fn connection(&self) -> MutexGuard<'_, ClientConnection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the node to the program.
    fn decrypt(&self, mut plain: &UnixStream) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut said = Vec::new();
        loop {
            // What came with the handshake is there before anything is read.
            let wants_write = self.take(&mut said)?;
            plain.write_all(&said)?;
            said.clear();
            if wants_write {
                self.send(&[])?;
            }
            let count = (&self.socket).read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            let mut left = &piece[..count];
            while !left.is_empty() {
                self.connection().read_tls(&mut left)?;
                self.take(&mut said)?;
            }
        }
    }

    /// Adds what has been decrypted; true when the other end is to be answered.
    fn take(&self, said: &mut Vec<u8>) -> io::Result<bool> {
        let mut connection = self.connection();
        let state = connection.process_new_packets().map_err(other)?;
        let there = state.plaintext_bytes_to_read();
        let begin = said.len();
        said.resize(begin + there, 0);
        connection.reader().read_exact(&mut said[begin..])?;
        Ok(connection.wants_write())
    }

    /// From the program to the node.
    fn encrypt(&self, mut plain: &UnixStream) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = plain.read(&mut piece)?;
            if count == 0 {
                self.connection().send_close_notify();
                return self.send(&[]);
            }
            self.send(&piece[..count])?;
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut encrypted = Vec::new();
        let mut connection = self.connection();
        connection.writer().write_all(bytes)?;
        while connection.wants_write() {
            connection.write_tls(&mut encrypted)?;
        }
        drop(connection);
        (&self.socket).write_all(&encrypted)
    }
}
