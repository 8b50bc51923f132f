//! Keeps the keys of an outside issuer as new as they must be: read from a file when it changes, or
//! fetched over TLS now and then, and once more when a token names a key that is not known.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::Address;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::Failure;
use crate::jwks::Keys;
use crate::jwt_settings::KeyPlace;

/// How often a file is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often keys are fetched anew when all is well ...
const FETCH_EVERY: Duration = Duration::from_secs(300);

/// ... and when they could not be had.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// However many tokens name keys that are not known, the keys are not had more often than this.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// How long it may take to fetch them.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// A longer list is none.
const LIST_BYTES_MAX: usize = 256 << 10;

pub(crate) struct IssuerKeys {
    place: Place,
    current: RwLock<Arc<Keys>>,
    /// What happened at the last try; held during one, so that there is one at a time.
    last: Mutex<Last>,
}

enum Place {
    File(PathBuf),
    Url { address: Address, path: String, tls: Arc<ClientConfig> },
}

#[derive(Default)]
struct Last {
    tried: Option<Instant>,
    /// When the file was changed that was read last.
    changed: Option<SystemTime>,
    is_well: bool,
}

impl IssuerKeys {
    /// Reads the file. An address is asked later: a node starts while the issuer is away.
    ///
    /// # Errors
    /// When the file has no keys, or the authorities of the address cannot be read.
    pub(crate) fn open(place: &KeyPlace, ca: &Path) -> Result<Self, Failure> {
        let mut last = Last::default();
        let (place, keys) = match place {
            KeyPlace::File(file) => {
                last.changed = changed(file);
                let keys = read(file).map_err(|why| {
                    Failure::new(format!("the keys of --jwt-keys cannot be had: {why}"))
                        .advise("it is a file of the issuer's public keys: a JWKS, in JSON")
                })?;
                (Place::File(file.clone()), keys)
            }
            KeyPlace::Url { address, path } => {
                let (address, path, tls) =
                    (address.clone(), path.clone(), trusting(ca, "--jwt-ca")?);
                (Place::Url { address, path, tls: Arc::new(tls) }, Keys::default())
            }
        };
        Ok(Self { place, current: RwLock::new(Arc::new(keys)), last: Mutex::new(last) })
    }

    pub(crate) fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over what becomes of them, as long as the node lives.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            let is_well = {
                let mut last = self.last.lock().await;
                self.renew(&mut last).await;
                last.is_well
            };
            tokio::time::sleep(match self.place {
                Place::File(_) => LOOK_AGAIN,
                Place::Url { .. } if is_well => FETCH_EVERY,
                Place::Url { .. } => TRY_AGAIN,
            })
            .await;
        }
    }

    /// Looks for a key that is not among these. Whoever makes up names of keys has them looked for
    /// once in a while and no more.
    pub(crate) async fn look_again(&self, before: &Arc<Keys>) -> Arc<Keys> {
        let mut last = self.last.lock().await;
        // Who waited here may have what another one has fetched.
        let is_as_before = Arc::ptr_eq(before, &self.current());
        if is_as_before && last.tried.is_none_or(|at| at.elapsed() >= ASKED_EVERY) {
            self.renew(&mut last).await;
        }
        self.current()
    }

    /// As if keys were being fetched, until the drop.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> impl Sized + '_ {
        self.last.lock().await
    }

    async fn renew(&self, last: &mut Last) {
        // Before, because whoever waits for it may give up; and after, because it may take long:
        // those who have waited for a place that does not answer must not try it one by one.
        last.tried = Some(Instant::now());
        self.try_to_renew(last).await;
        last.tried = Some(Instant::now());
    }

    async fn try_to_renew(&self, last: &mut Last) {
        let had = match &self.place {
            Place::File(file) => {
                // Before it is read: what changes meanwhile is seen at the next look.
                let now = changed(file);
                if now == last.changed {
                    return;
                }
                let had = read(file);
                // What could not be read is read again, though it may not look changed then.
                if had.is_ok() {
                    last.changed = now;
                }
                had
            }
            Place::Url { address, path, tls } => {
                let fetching = fetch(address, path, tls);
                match tokio::time::timeout(FETCH_MAX, fetching).await {
                    Ok(fetched) => fetched.map_err(|why| format!("{address}{path}: {why}")),
                    Err(_) => Err(format!("{address}{path}: no answer")),
                }
            }
        };
        last.is_well = had.is_ok();
        match had {
            Ok(keys) if *self.current() == keys => {}
            Ok(keys) => {
                tracing::info!(target: "amrita", "the keys of the outside issuer are new");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(why) => {
                tracing::warn!(
                    target: "amrita",
                    "the keys of the outside issuer stay as they were: {why}"
                );
            }
        }
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|it| it.modified()).ok()
}

fn read(file: &Path) -> Result<Keys, String> {
    let shown = file.display();
    let length = fs::metadata(file).map_err(|error| format!("{shown}: {error}"))?.len();
    if length > u64::try_from(LIST_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(format!("{shown} has more than {LIST_BYTES_MAX} bytes"));
    }
    let bytes = fs::read(file).map_err(|error| format!("{shown}: {error}"))?;
    Keys::parse(&bytes).map_err(|why| format!("{shown}: {why}"))
}

/// Trusts those whose certificates are in a file, which is that of this setting.
///
/// # Errors
/// When the file has none.
pub(crate) fn trusting(ca: &Path, setting: &str) -> Result<ClientConfig, Failure> {
    let shown = ca.display();
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{shown} has no authority that can be read: {error}"))
            .advise(format!("{setting} is a file in PEM: who signs the certificates there"))
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(ca).map_err(|error| failed(&error))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| failed(&error))?;
        // Among those of a system there are some that are not taken; the others count.
        if let Err(error) = roots.add(certificate) {
            tracing::debug!("an authority in {shown} is passed over: {error}");
        }
    }
    if roots.is_empty() {
        return Err(failed(&"there is none"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One exchange; no other address that an answer names is asked.
async fn fetch(address: &Address, path: &str, tls: &Arc<ClientConfig>) -> Result<Keys, String> {
    let said = |error: io::Error| error.to_string();
    let socket = TcpStream::connect(address.authority()).await.map_err(said)?;
    let host = address.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, socket).await.map_err(said)?;
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, address.authority())
        .header(ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(format!("it answered {status}"));
    }
    let body = Limited::new(answer.into_body(), LIST_BYTES_MAX).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    connection.abort();
    Keys::parse(&body)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use access::{Jwt, NotTaken};
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A list, and a token that one of its keys has signed.
    fn samples() -> (String, String) {
        let samples: Value = serde_json::from_str(include_str!("jwks_samples.json")).unwrap();
        (samples["jwks"].to_string(), samples["good"][0][1].as_str().unwrap().to_owned())
    }

    struct Issuer {
        port: u16,
        certificate: String,
        asked: Arc<AtomicUsize>,
    }

    /// Answers each connection with this, over TLS.
    async fn issuer(answer: String) -> Issuer {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let mut head = [0; 1024];
                drop(stream.read(&mut head).await);
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        });
        Issuer { port, certificate: certificate.pem(), asked }
    }

    fn said(status: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    fn keys_at(port: u16, ca: &str) -> IssuerKeys {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        fs::write(&file, ca).unwrap();
        let address = Address::new("127.0.0.1", port).with_tls(true);
        IssuerKeys::open(&KeyPlace::Url { address, path: "/keys".into() }, &file).unwrap()
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn keys_are_fetched_when_one_is_not_known_and_not_for_each_token_that_is_made_up() {
        run(async {
            let (list, token) = samples();
            let issuer = issuer(said("200 OK", &list)).await;
            let keys = keys_at(issuer.port, &issuer.certificate);
            let jwt = Jwt::parse(&token).unwrap();
            let before = keys.current();
            assert_eq!(before.check(&jwt), Err(NotTaken::Key), "nothing is fetched so far");
            let fetched = keys.look_again(&before).await;
            assert_eq!(fetched.check(&jwt), Ok(()));
            // Who waited for the same finds it there, and who asks for more has to wait.
            keys.look_again(&before).await;
            for _ in 0..50 {
                keys.look_again(&keys.current()).await;
            }
            assert_eq!(issuer.asked.load(Ordering::Relaxed), 1);
            keys.last.lock().await.tried = Instant::now().checked_sub(ASKED_EVERY);
            let again = keys.look_again(&fetched).await;
            assert_eq!(issuer.asked.load(Ordering::Relaxed), 2);
            assert!(Arc::ptr_eq(&again, &fetched), "the same keys stay the same");
        });
    }

    #[test]
    fn who_has_waited_for_a_place_that_is_slow_does_not_ask_it_at_once_again() {
        run(async {
            let key = KeyPair::generate().unwrap();
            let ca = CertificateParams::new(Vec::<String>::new())
                .unwrap()
                .self_signed(&key)
                .unwrap()
                .pem();
            // It takes the connection and says nothing for a while.
            let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let keys = keys_at(silent.local_addr().unwrap().port(), &ca);
            let answers = tokio::spawn(async move {
                let (socket, _) = silent.accept().await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(socket);
                Instant::now()
            });
            keys.look_again(&keys.current()).await;
            let answered = answers.await.unwrap();
            let tried = keys.last.lock().await.tried.unwrap();
            assert!(tried.elapsed() <= answered.elapsed() + Duration::from_millis(100));
        });
    }

    #[test]
    fn a_place_that_is_not_trusted_or_says_something_else_changes_nothing() {
        run(async {
            let (list, _) = samples();
            let long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(LIST_BYTES_MAX));
            for answer in [
                said("302 Found", &list),
                said("500 Internal Server Error", &list),
                said("200 OK", "<html>"),
                said("200 OK", &long),
                "nothing".to_owned(),
            ] {
                let issuer = issuer(answer.clone()).await;
                let keys = keys_at(issuer.port, &issuer.certificate);
                let after = keys.look_again(&keys.current()).await;
                assert_eq!(*after, Keys::default(), "{answer:.40}");
                assert_eq!(issuer.asked.load(Ordering::Relaxed), 1, "{answer:.40}");
            }
            let (first, second) =
                (issuer(said("200 OK", &list)).await, issuer(said("200 OK", &list)).await);
            let keys = keys_at(first.port, &second.certificate);
            assert_eq!(*keys.look_again(&keys.current()).await, Keys::default());
            assert_eq!(first.asked.load(Ordering::Relaxed), 0, "nothing was sent to a stranger");
        });
    }

    #[test]
    fn a_file_is_read_anew_when_it_changes_and_a_broken_one_changes_nothing() {
        run(async {
            let (list, token) = samples();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("keys.json");
            let place = KeyPlace::File(file.clone());
            assert!(IssuerKeys::open(&place, Path::new("")).is_err(), "there is none");
            let write = |text: &str, seconds: u64| {
                fs::write(&file, text).unwrap();
                let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                fs::File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
            };
            let other = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"x",
                "x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
            write(other, 1);
            let keys = IssuerKeys::open(&place, Path::new("")).unwrap();
            let jwt = Jwt::parse(&token).unwrap();
            assert_eq!(keys.current().check(&jwt), Err(NotTaken::Key));
            write(&list, 2);
            let now = keys.look_again(&keys.current()).await;
            assert_eq!(now.check(&jwt), Ok(()));
            write("{", 3);
            keys.renew(&mut *keys.last.lock().await).await;
            assert_eq!(keys.current().check(&jwt), Ok(()), "what was good stays");
            write(other, 3);
            keys.renew(&mut *keys.last.lock().await).await;
            assert_eq!(keys.current().check(&jwt), Err(NotTaken::Key), "it was half written");
            write(&list, 5);
            keys.renew(&mut *keys.last.lock().await).await;
            assert_eq!(keys.current().check(&jwt), Ok(()));
            write(other, 6);
            keys.renew(&mut *keys.last.lock().await).await;
            assert_eq!(keys.current().check(&jwt), Err(NotTaken::Key), "a key was withdrawn");
        });
    }
}
