//! What is done with bytes of strangers before anybody knows who they are, for the fuzz targets in
//! `dev/fuzz`: heads of requests, tokens, the first bytes of TLS, and what nodes and programs say
//! first. A panic is a finding.

use std::time::Instant;

use access::{JoinToken, Jwt, Outsider, Terms};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use protocol::Moment;

use crate::caller::Caller;
use crate::framing::Framing;
use crate::link_secret::{LinkSecret, Said};
use crate::{attach_paths, gate, h2c, http_request, named_program, principal};

/// The head of a request: where it ends, who sends it, what it asks for, whether it wants an
/// upgrade.
///
/// # Panics
/// When something does not hold together.
pub fn head(bytes: &[u8]) {
    framing(bytes);
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok());
        if let Some((name, value)) = name.zip(value) {
            headers.append(name, value);
        }
    }
    drop(principal::of(&headers));
    let caller = Caller::of(&headers, None);
    if let Some(token) = &caller.foreign {
        self::token(token.as_bytes());
    }
    http_request::unclear_length(&headers);
    let Ok(uri) = Uri::try_from(target) else { return };
    if let Ok(request) = http_request::look(&uri, &headers) {
        assert!(request.path.starts_with('/'), "{}", request.path);
    }
    let mut request = Request::new(Empty::<Bytes>::new());
    (*request.uri_mut(), *request.headers_mut()) = (uri, headers);
    drop(h2c::asked(&request));
}

/// In how many parts bytes come makes no difference to where a request ends.
fn framing(bytes: &[u8]) {
    let complaint = |parts: &[&[u8]]| {
        let framing = Framing::default();
        let heard: Vec<_> = parts.iter().map(|part| framing.hear(part).is_ok()).collect();
        (framing.complaint(), heard.iter().all(|it| *it))
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(complaint(&[bytes]).0, complaint(&[first, second]).0);
}

/// A token of an outside issuer, up to where its signature would be looked at.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(jwt) = Jwt::parse(text) else { return };
    let none = String::new;
    let (issuer, audience, user_claim) = (none(), none(), "sub".to_owned());
    let terms = Terms { issuer, audience, user_claim, groups: None };
    drop(Outsider::of(&jwt, &terms, Moment(1)));
}

/// The first bytes of a connection that may speak TLS: the name that it asks for, and the rest.
pub fn client_hello(mut bytes: &[u8]) {
    let mut acceptor = rustls::server::Acceptor::default();
    while !bytes.is_empty() && acceptor.read_tls(&mut bytes).is_ok_and(|count| count > 0) {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let _ = accepted.client_hello().server_name().map(str::len);
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// What a node says that wants to be let in: before the token in it counts.
pub fn joining(bytes: &[u8]) {
    gate::read_wish(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(JoinToken::parse(text));
    }
}

/// The headers of another node that is to prove that it has the secret of the links: nobody does so
/// by chance.
///
/// # Panics
/// When a stranger is welcome.
pub fn link_proof(bytes: &[u8]) {
    let secret = LinkSecret::of(b"a secret that is long enough to be one, of 32 bytes");
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let names = secret.answer("").headers.map(|(name, _)| name);
    let mut headers = HeaderMap::new();
    for name in names {
        let value = parts.next().and_then(|part| HeaderValue::from_bytes(part).ok());
        value.and_then(|value| headers.insert(name, value));
    }
    assert!(!matches!(secret.judge(&headers, Instant::now()), Said::Welcome(_)));
}

/// The path and the first frame of a program that attaches.
pub fn attaching(bytes: &[u8]) {
    let (path, frame) = bytes.split_at(bytes.iter().position(|it| *it == b'\n').unwrap_or(0));
    if let Ok(path) = std::str::from_utf8(path) {
        attach_paths::attached_at(path);
    }
    drop(named_program::named_in(Bytes::copy_from_slice(frame)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simple generator: the same bytes each time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
        }

        /// One of these, damaged in a few places, or with a part of another one in it.
        fn damaged(&mut self, samples: &[&[u8]]) -> Vec<u8> {
            let mut bytes = samples[self.below(samples.len())].to_vec();
            for _ in 0..self.below(4) {
                let at = self.below(bytes.len() + 1);
                match self.below(4) {
                    0 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                    1 => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                    2 => bytes.truncate(at),
                    _ => {
                        let other = samples[self.below(samples.len())];
                        let from = self.below(other.len());
                        bytes.splice(at.., other[from..].iter().copied());
                    }
                }
            }
            bytes
        }
    }

    fn run(target: fn(&[u8]), samples: &[&[u8]]) {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        samples.iter().for_each(|sample| target(sample));
        (0..20_000).for_each(|_| target(&random.damaged(samples)));
    }

    #[test]
    fn heads_of_strangers_end_nothing() {
        run(
            head,
            &[
                b"/core/examples?$filter=name%20eq%20'a'\nhost: a\nauthorization: Bearer amr_a.b",
                b"http://a/core/%e4%bd%a0/..//x?a=%00&b\ncookie: a=b; xenon-auth-cookie=amr_x.y",
                b"GET /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n",
                b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                b"/\nupgrade: h2c\nconnection: upgrade, http2-settings\nhttp2-settings: AAMAAABk",
                b"/core/x\nauthorization: Basic YTpi\nif-match: \"1.0\", W/\"x\"\npragma: a,,",
                b"*\nhost: [::1]:8000\norigin: null\nx-xenon-rpl-quorum: x-xenon-all",
            ],
        );
    }

    #[test]
    fn tokens_of_strangers_end_nothing() {
        let claims =
            br#"{"iss":"i","sub":"a","aud":["b"],"exp":99999999999,"iat":1,"groups":["g"]}"#;
        let part = |bytes: &[u8]| protocol::base64url::encode(bytes);
        let token = format!("{}.{}.AAAA", part(br#"{"alg":"ES256","kid":"k"}"#), part(claims));
        let critical = format!("{}.{}.", part(br#"{"alg":"none","crit":["x"]}"#), part(b"{}"));
        run(self::token, &[token.as_bytes(), critical.as_bytes(), b"a.b.c", b"..", b"e30.e30.e30"]);
    }

    #[test]
    fn nodes_and_programs_that_are_strangers_end_nothing() {
        let key = protocol::base64url::encode(&[4; 65]);
        let wish = format!(
            "{{\"name\":\"BQUFBQUFBQUFBQUF\",\"secret\":\"AAAA\",\"publicKey\":\"{key}\",\
             \"nodeId\":\"n2\",\"uri\":\"https://10.0.0.2:8000\"}}"
        );
        let text = JoinToken {
            name: "BQUFBQUFBQUFBQUF".into(),
            secret: [1; access::SECRET_BYTES],
            fingerprint: [2; 32],
            contacts: vec![protocol::Address::parse("https://a:1").unwrap()],
        };
        run(joining, &[wish.as_bytes(), text.text().as_bytes(), b"{}", b"amrj_..."]);
        run(link_proof, &[b"AAAA\nBBBB\nCCCC", b"\n\n", b"AAAA"]);
        let mut hello = b"/core/immortals/a/attach\n".to_vec();
        hello.extend_from_slice(&[5, 0, 0, 0, 1, 1, 1, 1, 97]);
        run(attaching, &[&hello, b"/core/factories/app:x/attach\n", b"\n\x01"]);
    }

    #[test]
    fn first_bytes_of_strangers_end_nothing() {
        let mut hello = Vec::new();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = "a.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        client.write_tls(&mut hello).unwrap();
        run(
            client_hello,
            &[&hello, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", b"GET / HTTP/1.1\r\n"],
        );
    }
}
