//! A node that is to join a cluster asks it for a certificate, before it begins. It speaks with
//! nobody but the cluster that its token names, and its key never leaves this machine.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{JOIN, JoinToken};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::{Address, base64url};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::fingerprint_of;
use crate::own_tls::OwnTls;
use crate::{Failure, pinned};

/// How long the cluster is asked again when it does not answer, or is not able to at this moment.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// How long one node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A longer answer is none.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What one node said, or why it said nothing.
enum Asked {
    In(Value),
    /// It will not be otherwise when it is asked again.
    Refused(String),
    NotNow(String),
}

/// Gets a certificate by a token. Returns the address of the node that gave it.
pub(crate) async fn join(
    own: &OwnTls,
    token: &JoinToken,
    public: &Address,
) -> Result<Address, Failure> {
    let key = own.joining_key()?;
    let config = pinned::config(token.fingerprint)
        .map_err(|error| Failure::new(format!("TLS cannot be spoken: {error}")))?;
    let config = Arc::new(config);
    let body = json!({
        "name": token.name,
        "secret": base64url::encode(&token.secret),
        "publicKey": base64url::encode(key.public_key_raw()),
        "nodeId": own.subject.node_id,
        "uri": public.to_string(),
    });
    let begun = Instant::now();
    let mut why = String::new();
    while begun.elapsed() < PATIENCE {
        for contact in &token.contacts {
            match ask(contact, &config, &body).await {
                Asked::In(answer) => {
                    let text = |name: &str| answer[name].as_str().unwrap_or_default();
                    let authority = text("authority");
                    if fingerprint_of(authority) != Some(token.fingerprint) {
                        return Err(refused(contact, "its authority is not the one of the token"));
                    }
                    own.joined(&key, text("certificate"), authority)?;
                    return Ok(contact.clone());
                }
                Asked::Refused(why) => return Err(refused(contact, &why)),
                Asked::NotNow(said) => why = format!("{contact}: {said}"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let seconds = PATIENCE.as_secs();
    Err(Failure::new(format!("the cluster has not let this node in for {seconds} s: {why}"))
        .advise("is that node up, and can it be reached from here?"))
}

fn refused(contact: &Address, why: &str) -> Failure {
    Failure::new(format!("{contact} does not let this node in: {why}")).advise(
        "a token to join with is for one node and one hour; make another one: amrita token create \
         --join",
    )
}

async fn ask(contact: &Address, config: &Arc<ClientConfig>, body: &Value) -> Asked {
    match tokio::time::timeout(ANSWER_MAX, exchange(contact, config, body)).await {
        Ok(Ok((StatusCode::OK, answer))) => Asked::In(answer),
        Ok(Ok((status, answer))) => {
            let said = answer["message"].as_str().unwrap_or("it gave no reason");
            let said = format!("{said} ({status})");
            if status.is_server_error() { Asked::NotNow(said) } else { Asked::Refused(said) }
        }
        Ok(Err(error)) if is_another(&error) => {
            Asked::Refused(format!("it is not of the cluster that the token is for ({error})"))
        }
        Ok(Err(error)) => Asked::NotNow(error.to_string()),
        Err(_) => Asked::NotNow("no answer".into()),
    }
}

/// Whether the other end has shown another authority.
fn is_another(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

async fn exchange(
    contact: &Address,
    config: &Arc<ClientConfig>,
    body: &Value,
) -> io::Result<(StatusCode, Value)> {
    let socket = TcpStream::connect(contact.authority()).await?;
    let host = contact.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await?;
    let made = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = made.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::post(JOIN)
        .header(HOST, contact.authority())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}
