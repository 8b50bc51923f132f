//! TLS, all of it. Outside is a socket whose bytes are encrypted; inside, the rest of the shell has
//! a plain one: a pair of sockets within this process, at whose other end a task encrypts and
//! decrypts. So nothing else has to know whether a connection is encrypted.
//!
//! Nodes know each other by certificates: whoever shows one that the authority in `--tls-client-ca`
//! has signed is a node of the cluster, or, with `--tls-peer-ids`, who has such an id in it.

use std::fs;
use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustix::net::sockopt;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Failure;
use crate::peer_ids::{self, ById, PeerId};

/// How many bytes are encrypted at a time.
const PIECE_BYTES: usize = 32 << 10;

/// How often the files are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// When this side has closed, the other has this long to do the same.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Sent bytes that are not confirmed for this long break a connection.
#[cfg(target_os = "linux")]
const UNCONFIRMED_MILLIS_MAX: u32 = 30_000;

/// How many descriptors an encrypted connection takes: its own, and the pair.
pub(crate) const DESCRIPTORS: usize = 3;

/// Where certificates and the key are, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// This node's certificate, and those between it and the authority.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Who signs the certificates of nodes.
    pub(crate) authority: Option<PathBuf>,
}

pub(crate) struct Tls {
    files: Files,
    /// By which nodes are known; empty: by any certificate of the authority.
    ids: Arc<[PeerId]>,
    current: RwLock<Loaded>,
}

/// What the files said when they were read last.
#[derive(Clone)]
struct Loaded {
    accepts: Arc<ServerConfig>,
    /// `None`: there is no authority by which other nodes could be known.
    dials: Option<Arc<ClientConfig>>,
    changed: Vec<Option<SystemTime>>,
}

/// What is within an encrypted connection.
pub(crate) struct Within {
    pub(crate) socket: TcpStream,
    /// It has shown a certificate of a node.
    pub(crate) is_node: bool,
}

impl Tls {
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub(crate) fn read(files: Files, ids: &[PeerId]) -> Result<Self, Failure> {
        let ids = Arc::from(ids);
        let current = RwLock::new(Loaded::read(&files, &ids)?);
        Ok(Self { files, ids, current })
    }

    /// Whether nodes are known by their certificates.
    pub(crate) fn knows_nodes(&self) -> bool {
        self.files.authority.is_some()
    }

    fn current(&self) -> Loaded {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over what has become of the files, as long as the node lives. Connections that are
    /// open go on as they began.
    pub(crate) async fn follow_files(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if self.files.changed() == self.current().changed {
                continue;
            }
            if let Err(why) = self.read_anew() {
                tracing::warn!(target: "amrita", "TLS stays as it was: {why}");
            }
        }
    }

    /// # Errors
    /// What is wrong with the files. Everything stays as it was then.
    pub(crate) fn read_anew(&self) -> Result<(), Failure> {
        let loaded = Loaded::read(&self.files, &self.ids)?;
        tracing::info!(target: "amrita", "certificates and key were read anew");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// A client, or another node, has connected.
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<Within> {
        break_when_dead(&socket)?;
        let stream = TlsAcceptor::from(self.current().accepts).accept(socket).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let own = shown.and_then(<[_]>::first);
        let is_node = own.is_some_and(|own| peer_ids::is_one_of(&self.ids, own));
        Ok(Within { socket: inner_end(stream)?, is_node })
    }

    /// Another node was connected to.
    pub(crate) async fn dial(&self, host: &str, socket: TcpStream) -> io::Result<TcpStream> {
        let Some(config) = self.current().dials else {
            return Err(io::Error::other("without --tls-client-ca no other node is known"));
        };
        break_when_dead(&socket)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        inner_end(TlsConnector::from(config).connect(name, socket).await?)
    }
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.certificate), Some(&self.key), self.authority.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    fn changed(&self) -> Vec<Option<SystemTime>> {
        self.all().map(|file| fs::metadata(file).and_then(|it| it.modified()).ok()).collect()
    }
}

impl Loaded {
    fn read(files: &Files, ids: &Arc<[PeerId]>) -> Result<Self, Failure> {
        // Before the files are read: what changes meanwhile is seen at the next look.
        let changed = files.changed();
        let chain = certificates(&files.certificate)?;
        check_id(&files.certificate, &chain, ids)?;
        let key = || {
            PrivateKeyDer::from_pem_file(&files.key)
                .map_err(|error| wrong(&files.key, "has no private key that can be read", &error))
        };
        let authority = files.authority.as_deref().map(roots).transpose()?;
        let provider = Arc::new(ring::default_provider());
        let unfit = |error: rustls::Error| {
            wrong(&files.certificate, &format!("does not go with {}", files.key.display()), &error)
        };
        let versions = "the provider speaks the versions of TLS that are the default";
        let accepts = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect(versions);
        let mut accepts = match &authority {
            None => accepts.with_no_client_auth(),
            Some(roots) => {
                let by = WebPkiClientVerifier::builder_with_provider(
                    Arc::clone(roots),
                    Arc::clone(&provider),
                );
                // Clients show tokens; only nodes show certificates.
                let verifier = by.allow_unauthenticated().build();
                let verifier = verifier.map_err(|error| {
                    Failure::new(format!("the authority of --tls-client-ca is none: {error}"))
                })?;
                accepts.with_client_cert_verifier(verifier)
            }
        }
        .with_single_cert(chain.clone(), key()?)
        .map_err(unfit)?;
        accepts.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let dials = match authority {
            None => None,
            Some(roots) => Some(dialing((roots, ids), provider, chain, key()?).map_err(unfit)?),
        };
        Ok(Self { accepts: Arc::new(accepts), dials: dials.map(Arc::new), changed })
    }
}

fn dialing(
    (roots, ids): (Arc<RootCertStore>, &Arc<[PeerId]>),
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier: Arc<dyn ServerCertVerifier> = if ids.is_empty() {
        let by_name = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        by_name.build().map_err(|error| rustls::Error::General(error.to_string()))?
    } else {
        Arc::new(ById::new(ids, roots, &provider))
    };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
}

/// A node that no other would know by its certificate is told so when it starts.
fn check_id(file: &Path, chain: &[CertificateDer<'static>], ids: &[PeerId]) -> Result<(), Failure> {
    let Some(own) = chain.first().filter(|own| !peer_ids::is_one_of(ids, own)) else {
        return Ok(());
    };
    let has = peer_ids::id_of(own).map_or_else(
        || "has not exactly one URI among its names".to_owned(),
        |id| format!("has the id {id}"),
    );
    let wanted: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Err(Failure::new(format!(
        "the certificate in {} {has}, and nodes are known by {}",
        file.display(),
        wanted.join(", ")
    ))
    .advise("give all nodes the same --tls-peer-ids, and each a certificate with such an id"))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreadable = |error| wrong(file, "has no certificate that can be read", &error);
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<_, _>>);
    let found: Vec<_> = found.map_err(unreadable)?;
    if found.is_empty() {
        let text = format!("{} has no certificate", file.display());
        return Err(Failure::new(text).advise("it must be PEM: -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

fn roots(file: &Path) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| wrong(file, "is not an authority's", &error))?;
    }
    Ok(Arc::new(roots))
}

fn wrong(file: &Path, what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{} {what}: {error}", file.display()))
        .advise("--tls-cert, --tls-key and --tls-client-ca are files in PEM")
}

/// Makes the pair, and lets a task carry bytes between its other end and the encrypted stream.
fn inner_end<S>(stream: S) -> io::Result<TcpStream>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (near, far) = StdUnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let far = UnixStream::from_std(far)?;
    tokio::spawn(carry(stream, far));
    // The shell speaks of sockets of TCP; of this one it wants no more than reading and writing.
    TcpStream::from_std(StdTcpStream::from(OwnedFd::from(near)))
}

async fn carry<S: AsyncRead + AsyncWrite>(outer: S, inner: UnixStream) {
    let (outer_in, outer_out) = tokio::io::split(outer);
    let (inner_in, inner_out) = inner.into_split();
    let inwards = pump(outer_in, inner_out);
    let outwards = pump(inner_in, outer_out);
    tokio::pin!(inwards);
    tokio::pin!(outwards);
    tokio::select! {
        _ = &mut inwards => drop(outwards.await),
        _ = &mut outwards => drop(tokio::time::timeout(LINGER_MAX, inwards).await),
    }
}

/// Carries bytes until there are no more, and says so.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..count]).await?;
        to.flush().await?;
    }
}

/// Nobody else looks whether the other end of the encrypted connection is there.
fn break_when_dead(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(socket, UNCONFIRMED_MILLIS_MAX)?;
    Ok(())
}
