//! What a browser may do here. A page of any site can make the browser of whoever looks at it send
//! requests to this machine, so a node on loopback is not out of reach of strangers.
//!
//! Three things give such a request away: the name that it calls the node by (a site may let its
//! own name point at this machine), the origin that a browser adds, and the type of a body that a
//! form can send without being asked. Programs send no origin, so nothing changes for them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use protocol::{Code, Problem};

use crate::allow::Allowed;
use protocol::Address;

use crate::Config;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Stands in a setting for every name or every origin.
const ANY: &str = "*";

/// How long a browser may remember that an origin is allowed, in seconds.
const REMEMBERED_SECONDS: &str = "600";

const HEADERS_TAKEN: &str = "accept, authorization, content-encoding, content-type, \
                             idempotency-key, if-match, if-none-match, pragma, x-xenon-auth-token, \
                             x-xenon-ctx-id, x-xenon-rpl-quorum";

const HEADERS_SHOWN: &str = "allow, amrita-behind, etag, location, retry-after, x-xenon-auth-token";

/// Who may speak to this node through a browser.
pub(crate) struct Browsers {
    /// Names that the node may be called by, beside addresses in figures and `localhost`.
    hosts: BTreeSet<String>,
    /// Origins whose pages may speak to it.
    origins: BTreeSet<String>,
    /// How the node's own origin begins.
    scheme: &'static str,
}

/// What a request of an allowed page gets with its answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AllowedOrigin(HeaderValue);

impl Browsers {
    pub(crate) fn new(config: &Config, public: &Address) -> Self {
        let mut hosts: BTreeSet<String> =
            config.security.browsers.allowed_hosts.iter().cloned().collect();
        hosts.insert(public.host().to_owned());
        hosts.extend(config.founding.peer_nodes.iter().map(|peer| peer.host().to_owned()));
        if let Ok(name) = rustix::system::uname().nodename().to_str() {
            hosts.insert(name.to_ascii_lowercase());
        }
        let origins = config.security.browsers.cors_origins.iter().cloned().collect();
        Self { hosts, origins, scheme: config.scheme() }
    }

    /// Whether to answer at all, and what the answer must say to a page of another origin.
    pub(crate) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<AllowedOrigin>, Problem> {
        let host = self.check_host(uri, headers)?;
        let Some(origin) = only(headers, &header::ORIGIN)? else {
            return check_site(method, headers).map(|()| None);
        };
        let same = host.is_some_and(|host| {
            let its = origin.strip_prefix(self.scheme).and_then(|rest| rest.strip_prefix("://"));
            its.is_some_and(|its| its.eq_ignore_ascii_case(host))
        });
        if same {
            return Ok(None);
        }
        if self.origins.contains(ANY) || self.origins.contains(origin) {
            let value = headers.get(header::ORIGIN).cloned();
            return Ok(value.map(AllowedOrigin));
        }
        Err(forbidden(format!(
            "a page of {origin} may not speak to this node; if it should, start the node with \
             --cors-origins {origin}"
        )))
    }

    /// The name that the request calls the node by. A page whose own name was made to point here
    /// gives itself away by that name.
    fn check_host<'a>(
        &self,
        uri: &'a Uri,
        headers: &'a HeaderMap,
    ) -> Result<Option<&'a str>, Problem> {
        let named = only(headers, &header::HOST)?;
        let Some(named) = uri.authority().map(|authority| authority.as_str()).or(named) else {
            return Ok(None);
        };
        let name = without_port(named);
        let figures = name.trim_start_matches('[').trim_end_matches(']');
        if figures.parse::<IpAddr>().is_ok() {
            return Ok(Some(named));
        }
        let name = name.to_ascii_lowercase();
        let is_known = name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.contains(name.as_str())
            || self.hosts.contains(ANY);
        if is_known {
            return Ok(Some(named));
        }
        Err(forbidden(format!(
            "this node is not called '{name}'; ask it by its address, or start it with \
             --allowed-hosts {name}"
        )))
    }
}

/// Browsers that send no origin with a request still say that it comes from another site. Whoever
/// follows a link only looks.
fn check_site(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let site = only(headers, &FETCH_SITE)?.unwrap_or("none");
    let looks = *method == Method::GET && only(headers, &FETCH_MODE)? == Some("navigate");
    if looks || ["none", "same-origin"].contains(&site) {
        return Ok(());
    }
    Err(forbidden(format!(
        "a browser sent this for a page of another site ({FETCH_SITE}: {site}); open the link \
         itself, or allow the page's origin with --cors-origins"
    )))
}

/// A browser asks before it sends what a form could not send.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl AllowedOrigin {
    /// To be put on each answer to the page.
    pub(crate) fn put(self, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let shown = HeaderValue::from_static(HEADERS_SHOWN);
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
    }

    /// The rest of the answer to a preflight.
    pub(crate) fn put_preflight(self, allowed: &Allowed, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allowed.header(None));
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS_TAKEN),
            (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_SECONDS),
        ] {
            answer.insert(name, HeaderValue::from_static(value));
        }
        self.put(answer);
    }
}

/// The one value of a header that must not stand there twice.
pub(crate) fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let message = format!("the header {name} is there more than once; send it once");
        return Err(Problem::bad_request(message));
    }
    let wrong = |_| Problem::bad_request(format!("the header {name} must be plain ASCII"));
    value.to_str().map(Some).map_err(wrong)
}

fn without_port(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => host,
        _ => authority,
    }
}

fn forbidden(message: String) -> Problem {
    Problem::new(Code::Forbidden, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browsers() -> Browsers {
        let config = Config {
            founding: crate::config::Founding {
                peer_nodes: vec![Address::new("node-2", 8000)],
                ..Default::default()
            },
            security: crate::config::Security {
                browsers: crate::config::BrowserSettings {
                    allowed_hosts: vec!["front.example".into()],
                    cors_origins: vec!["https://app.example".into()],
                },
                ..Default::default()
            },
            ..Config::default()
        };
        Browsers::new(&config, &Address::new("node-1", 8000))
    }

    fn check(
        method: &Method,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<Option<AllowedOrigin>, Problem> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = pairs.iter().map(pair).collect();
        browsers().check(method, &Uri::from_static("/core/examples"), &headers)
    }

    #[test]
    fn a_node_answers_to_its_own_names_only() {
        for host in [
            "127.0.0.1:8000",
            "[::1]:8000",
            "::1",
            "10.1.2.3",
            "LOCALHOST:1",
            "amrita.localhost",
            "node-1:8000",
            "node-2",
            "front.example:80",
        ] {
            assert!(check(&Method::POST, &[("host", host)]).is_ok(), "{host}");
        }
        for host in ["evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            let problem = check(&Method::GET, &[("host", host)]).unwrap_err();
            assert_eq!((problem.status(), problem.code), (403, Code::Forbidden), "{host}");
            assert!(problem.message.contains("--allowed-hosts"), "{problem}");
        }
        assert!(check(&Method::GET, &[]).is_ok(), "HTTP/1.0 has no Host");
    }

    #[test]
    fn a_page_of_another_origin_is_refused_unless_it_is_allowed() {
        let host = ("host", "127.0.0.1:8000");
        let of = |origin| check(&Method::POST, &[host, ("origin", origin)]);
        assert_eq!(of("http://127.0.0.1:8000").unwrap(), None, "the node's own pages");
        let allowed = of("https://app.example").unwrap().unwrap();
        let mut answer = HeaderMap::new();
        allowed.put(&mut answer);
        assert_eq!(answer["access-control-allow-origin"], "https://app.example");
        for other in ["null", "http://127.0.0.1:3000", "http://evil.example", "https://127.0.0.1"] {
            let problem = of(other).unwrap_err();
            assert!(problem.message.contains("--cors-origins"), "{problem}");
        }
    }

    #[test]
    fn a_link_may_be_followed_and_nothing_else_comes_from_another_site() {
        let site = |method, more: &[(&'static str, &'static str)]| {
            let all = [&[("host", "localhost"), ("sec-fetch-site", "cross-site")], more].concat();
            check(&method, &all).is_ok()
        };
        assert!(site(Method::GET, &[("sec-fetch-mode", "navigate")]));
        assert!(!site(Method::POST, &[("sec-fetch-mode", "navigate")]));
        assert!(!site(Method::GET, &[("sec-fetch-mode", "no-cors")]));
        assert!(check(&Method::GET, &[("sec-fetch-site", "none")]).is_ok());
    }
}
