//! Tells subscribers outside of the cluster: by HTTP requests from a thread of its own, which may
//! be as slow as they like.
//!
//! What a node sends, somebody else has written, and to an address that somebody else has given. So
//! the address is looked at once more here, by what its name means now; no other address that an
//! answer names is asked; and nothing of an answer is passed on but its status.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, PRAGMA, REFERER, USER_AGENT};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use node::{NOTIFICATIONS_MAX, Notification};
use protocol::Address;
use protocol::subscription::{self, split_reference};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::Failure;
use crate::inbox::{Event, Inbox};
use crate::issuer_keys::trusting;

/// How long a subscriber may take for one notification.
const NOTIFICATION_MAX: Duration = Duration::from_secs(10);

/// A longer answer is not read to its end, and its connection is closed.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The most connections that are kept for the next notification. More are closed.
const IDLE_MAX: usize = 64;

type Sender = SendRequest<Full<Bytes>>;

/// The node's end. Dropping it ends the thread.
pub(crate) struct Callbacks {
    /// Tells this thread from that of an earlier life of the node.
    life: u64,
    notifications: mpsc::Sender<Notification>,
}

static LIVES: AtomicU64 = AtomicU64::new(0);

/// What all notifications share.
struct Ends {
    rules: subscription::Callbacks,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<HashMap<String, Vec<Sender>>>,
}

impl Callbacks {
    /// # Errors
    /// When the authorities cannot be read, or there can be no more threads.
    pub(crate) fn start(
        rules: subscription::Callbacks,
        ca: Option<&Path>,
        inbox: &Arc<Inbox>,
    ) -> Result<Self, Failure> {
        let tls = ca.map(|ca| trusting(ca, "--callback-ca")).transpose()?.map(Arc::new);
        let ends = Arc::new(Ends { rules, tls, idle: Mutex::default() });
        let life = LIVES.fetch_add(1, Ordering::Relaxed);
        let (notifications, waiting) = mpsc::channel(NOTIFICATIONS_MAX);
        let failed = |error: io::Error| {
            Failure::new(format!("subscribers cannot be told: there is no thread for it: {error}"))
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let inbox = Arc::clone(inbox);
        let thread = std::thread::Builder::new().name("amrita-callbacks".into());
        let work = move || runtime.block_on(run(life, ends, waiting, inbox));
        thread.spawn(work).map_err(failed)?;
        Ok(Self { life, notifications })
    }

    /// Whether it was this thread that says so.
    pub(crate) fn did(&self, life: u64) -> bool {
        self.life == life
    }

    /// Comes back as [`Event::Notified`].
    pub(crate) fn put(&self, notification: Notification) {
        let sent = self.notifications.try_send(notification);
        sent.expect("the node has no more under way than there is room for");
    }
}

async fn run(
    life: u64,
    ends: Arc<Ends>,
    mut waiting: mpsc::Receiver<Notification>,
    inbox: Arc<Inbox>,
) {
    while let Some(notification) = waiting.recv().await {
        let (ends, inbox) = (Arc::clone(&ends), Arc::clone(&inbox));
        tokio::spawn(async move {
            let number = notification.number;
            let telling = ends.tell(&notification);
            let outcome = tokio::time::timeout(NOTIFICATION_MAX, telling).await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(format!("no answer within {} s", NOTIFICATION_MAX.as_secs()))
            });
            inbox.put(Event::Notified { life, number, outcome });
        });
    }
}

impl Ends {
    async fn tell(&self, notification: &Notification) -> Result<(), String> {
        let (address, path) = split_reference(&notification.reference)?;
        if !self.rules.allow(&address) {
            return Err(format!("nobody may be told at {address}: --callback-allow names it not"));
        }
        let place = address.to_string();
        // One that was kept may have been closed meanwhile: then there is another.
        let kept = self.take(&place);
        if let Some(mut sender) = kept
            && let Ok(answer) = sender.send_request(request(notification, &address, &path)?).await
        {
            return self.heard(place, sender, answer).await;
        }
        let mut sender = self.connect(&address).await?;
        let request = request(notification, &address, &path)?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        self.heard(place, sender, answer).await
    }

    /// Only the status counts. A redirect is no success, and is not followed.
    async fn heard(
        &self,
        place: String,
        sender: Sender,
        answer: Response<Incoming>,
    ) -> Result<(), String> {
        let status = answer.status();
        let rest = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        if rest.is_ok() {
            self.keep(place, sender);
        }
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("it answered {status}")),
        }
    }

    async fn connect(&self, address: &Address) -> Result<Sender, String> {
        let said = |error: io::Error| format!("{address}: {error}");
        let host = address.host().trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, address.port())).await.map_err(said)?;
        let is_named = self.rules.names(address);
        // What is allowed as it is this machine must be this machine, whatever its name means.
        let is_allowed = |at: &SocketAddr| {
            let is_here = at.ip().to_canonical().is_loopback();
            // Nor does it send itself what it does not know to be for itself.
            if is_here { !self.rules.is_own(at.port()) } else { is_named }
        };
        let found: Vec<SocketAddr> = found.filter(is_allowed).collect();
        if found.is_empty() {
            return Err(format!(
                "{address} is the node itself, or is not this machine, and --callback-allow names it \
                 not"
            ));
        }
        let mut last = format!("{address} has no address");
        for at in found {
            match TcpStream::connect(at).await {
                Ok(socket) => return self.greet(address, host, socket).await,
                Err(error) => last = said(error),
            }
        }
        Err(last)
    }

    async fn greet(
        &self,
        address: &Address,
        host: &str,
        socket: TcpStream,
    ) -> Result<Sender, String> {
        let failed = |error: hyper::Error| error.to_string();
        drop(socket.set_nodelay(true));
        if !address.is_tls() {
            let (sender, connection) =
                http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
            tokio::spawn(connection);
            return Ok(sender);
        }
        let tls = self.tls.as_ref().ok_or("there is no --callback-ca, so nobody is trusted")?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, socket).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take(&self, place: &str) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(place)?;
        let sender = senders.pop();
        if senders.is_empty() {
            idle.remove(place);
        }
        sender.filter(|sender| !sender.is_closed())
    }

    fn keep(&self, place: String, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.values().map(Vec::len).sum::<usize>() >= IDLE_MAX {
            idle.clear();
        }
        idle.entry(place).or_default().push(sender);
    }
}

fn request(
    notification: &Notification,
    address: &Address,
    path: &str,
) -> Result<Request<Full<Bytes>>, String> {
    Request::builder()
        .method(notification.method.name())
        .uri(path)
        .header(HOST, address.authority())
        .header(USER_AGENT, concat!("amrita/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(PRAGMA, &notification.pragma)
        .header(REFERER, &notification.referer)
        .header("idempotency-key", &notification.key)
        .body(Full::new(notification.body.clone()))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use protocol::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn notification(reference: String) -> Notification {
        Notification {
            number: 1,
            reference,
            method: Method::Patch,
            pragma: "xn-nt".into(),
            key: "a-1-7".into(),
            referer: "http://127.0.0.1:8000/core/examples/one".into(),
            body: Bytes::from_static(b"{\"counter\":1}"),
        }
    }

    fn ends(allowed: &[&str]) -> Ends {
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        let rules = subscription::Callbacks { allowed, has_authorities: false, own_port: None };
        Ends { rules, tls: None, idle: Mutex::default() }
    }

    /// Answers each request of each connection with this, and gives the first request.
    async fn receiver(answer: &'static str) -> (u16, mpsc::Receiver<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, received) = mpsc::channel(10);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    while let Ok(length @ 1..) = socket.read(&mut head).await {
                        let text = String::from_utf8_lossy(&head[..length]).into_owned();
                        sender.send(text).await.unwrap();
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        (port, received)
    }

    fn run_here(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn a_notification_says_what_it_is_and_its_connection_is_kept() {
        run_here(async {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            let (port, mut received) = receiver(answer).await;
            let ends = ends(&[]);
            let one = notification(format!("http://127.0.0.1:{port}/hook?x=1"));
            ends.tell(&one).await.unwrap();
            let text = received.recv().await.unwrap().to_ascii_lowercase();
            for part in [
                "patch /hook?x=1 http/1.1\r\n",
                "pragma: xn-nt\r\n",
                "idempotency-key: a-1-7\r\n",
                "referer: http://127.0.0.1:8000/core/examples/one\r\n",
                "\r\n\r\n{\"counter\":1}",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
            assert_eq!(ends.idle.lock().unwrap().len(), 1);
            ends.tell(&one).await.unwrap();
            received.recv().await.unwrap();
        });
    }

    #[test]
    fn a_redirect_is_not_followed_and_an_error_is_none() {
        run_here(async {
            let (inner, mut reached) =
                receiver("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let to = format!(
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n"
            );
            for (answer, status) in [
                (&*to.leak(), "302"),
                ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "500"),
                ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "404"),
            ] {
                let (port, _received) = receiver(answer).await;
                let one = notification(format!("http://127.0.0.1:{port}/"));
                let why = ends(&[]).tell(&one).await.unwrap_err();
                assert!(why.contains(status), "{why}");
            }
            assert!(reached.try_recv().is_err());
        });
    }

    #[test]
    fn what_is_not_allowed_is_not_even_connected_to() {
        run_here(async {
            for far in
                ["http://192.0.2.1/", "http://169.254.169.254/latest", "http://[2001:db8::1]/"]
            {
                let why = ends(&[]).tell(&notification(far.into())).await.unwrap_err();
                assert!(why.contains("--callback-allow"), "{far}: {why}");
            }
            // The node does not send requests to itself, though that port is there.
            let (port, mut reached) =
                receiver("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let mut own = ends(&["localhost"]);
            own.rules.own_port = Some(port);
            let why = own.tell(&notification(format!("http://localhost:{port}/"))).await;
            assert!(why.unwrap_err().contains("the node itself"));
            assert!(reached.try_recv().is_err());
            let why = ends(&["elsewhere"]).tell(&notification("http://192.0.2.1/".into())).await;
            assert!(why.unwrap_err().contains("--callback-allow"));
        });
    }
}
