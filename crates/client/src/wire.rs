//! One connection to one node, for one request at a time.
//!
//! The connection is driven by the request that uses it and by nothing else: no task beside it, no
//! hand-over between threads.

use std::pin::Pin;

use crate::socket::{Socket, Trust};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use protocol::{Address, Behind, BodyType, Request, Response, WriteQuorum};

pub(crate) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<TokioIo<Socket>, Full<Bytes>>>>,
    /// The connection has ended and must not be driven any more.
    over: bool,
}

pub(crate) enum WireError {
    /// The node surely did not get the request.
    NotSent(String),
    /// The node may have got it.
    Broken(String),
    /// It cannot be sent at all.
    Malformed(String),
}

impl Wire {
    pub(crate) async fn connect(
        address: &Address,
        trust: Option<&Trust>,
    ) -> Result<Self, WireError> {
        if address.is_tls() && trust.is_none() {
            return Err(WireError::Malformed(format!(
                "{address} speaks TLS: say whose certificate to believe (AMRITA_CA_FILE for \
                 the command line, Client::with_ca_file in a program)"
            )));
        }
        let not_sent = |error: &dyn std::error::Error| WireError::NotSent(error.to_string());
        let socket = Socket::connect(address, trust).await.map_err(|error| not_sent(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| not_sent(&error))?;
        Ok(Self { sender, connection: Box::pin(connection), over: false })
    }

    pub(crate) fn is_reusable(&self) -> bool {
        !self.over && !self.sender.is_closed()
    }

    pub(crate) async fn ask(
        &mut self,
        address: &Address,
        request: &Request,
        authorization: Option<&str>,
    ) -> Result<Response, WireError> {
        let request = to_http(address, request, authorization)?;
        let Self { sender, connection, over } = self;
        if *over {
            return Err(WireError::NotSent("the connection was closed".into()));
        }
        tokio::select! {
            // The connection first: it knows whether the node has closed it while it was idle.
            biased;
            _ = &mut *connection => *over = true,
            ready = sender.ready() => {
                ready.map_err(|error| WireError::NotSent(error.to_string()))?;
            }
        }
        if *over {
            return Err(WireError::NotSent("the connection was closed".into()));
        }
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| {
                if error.is_canceled() {
                    WireError::NotSent(error.to_string())
                } else {
                    WireError::Broken(error.to_string())
                }
            })?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| WireError::Broken(e.to_string()))?;
            Ok((parts, body.to_bytes()))
        };
        tokio::pin!(exchange);
        let done = tokio::select! {
            biased;
            done = &mut exchange => done,
            _ = &mut *connection => {
                *over = true;
                exchange.await
            }
        };
        let (parts, body) = done?;
        Ok(to_response(parts.status.as_u16(), &parts.headers, body))
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

fn to_http(
    address: &Address,
    request: &Request,
    authorization: Option<&str>,
) -> Result<hyper::Request<Full<Bytes>>, WireError> {
    let mut target = escape(&request.path);
    if !request.query.is_empty() {
        target.push('?');
        target.push_str(&request.query);
    }
    let kind = match request.body_type {
        BodyType::Json => "application/json",
        BodyType::MergePatch => "application/merge-patch+json",
    };
    let mut built = hyper::Request::builder()
        .method(request.method.name())
        .uri(target)
        .header(header::HOST, address.authority());
    if !request.body.is_empty() {
        built = built.header(header::CONTENT_TYPE, kind);
    }
    if let Some(text) = authorization {
        let malformed = |_| WireError::Malformed("the token or password is not plain".into());
        let mut value = HeaderValue::from_str(text).map_err(malformed)?;
        value.set_sensitive(true);
        built = built.header(header::AUTHORIZATION, value);
    }
    if let Some(tags) = &request.conditions.if_match {
        built = built.header(header::IF_MATCH, tags.to_string());
    }
    if let Some(tags) = &request.conditions.if_none_match {
        built = built.header(header::IF_NONE_MATCH, tags.to_string());
    }
    if let Some(quorum) = request.quorum {
        built = built.header(WriteQuorum::HEADER, quorum.to_string());
    }
    if let Some(key) = &request.idempotency_key {
        built = built.header(IDEMPOTENCY_KEY, key);
    }
    for pragma in &request.pragmas {
        built = built.header(header::PRAGMA, pragma);
    }
    built.body(Full::new(request.body.clone())).map_err(|error| {
        let path = &request.path;
        WireError::Malformed(format!("a request for '{path}' cannot be made: {error}"))
    })
}

/// A path as it stands on the wire: what may not stand there is escaped.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"%?#\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn to_response(status: u16, headers: &HeaderMap, body: Bytes) -> Response {
    let text = |name: HeaderName| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    Response {
        status,
        body,
        etag: text(header::ETAG),
        retry_after_seconds: text(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok()),
        location: text(header::LOCATION),
        behind: text(HeaderName::from_static(Behind::HEADER)).and_then(|text| text.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped_and_comes_back_the_same() {
        let path = "/core/examples/ä b%41?";
        let escaped = escape(path);
        assert!(escaped.is_ascii() && !escaped.contains([' ', '?']), "{escaped}");
        assert_eq!(protocol::links::percent_decode(&escaped).unwrap(), path);
    }
}
