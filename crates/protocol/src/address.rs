//! Where a node can be reached: a host and a port, in the one form that all parts compare.

use core::net::IpAddr;
use std::fmt;

/// The ports of URIs that name none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// `http://host:port` or `https://host:port`, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
    is_tls: bool,
}

impl Address {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, is_tls: false }
    }

    /// The same, and what is sent there is encrypted, or not.
    #[must_use]
    pub fn with_tls(self, is_tls: bool) -> Self {
        Self { is_tls, ..self }
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// `http://` or `https://`, as an origin begins with it.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Takes `http://host:port` or `https://host:port`, with or without a slash at the end. Without
    /// a scheme it is the first.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Before an '@' there may be a password, which must not come into an error or a log.
        let shown = match text.rsplit_once('@') {
            Some((_, host)) => format!("...@{host}"),
            None => text.to_owned(),
        };
        let wrong = |why: &str| Err(format!("'{shown}' {why}; write it as http://host:port"));
        let trimmed = text.trim();
        let encrypted = trimmed.strip_prefix("https://");
        let is_tls = encrypted.is_some();
        let plain = || trimmed.strip_prefix("http://").unwrap_or(trimmed);
        let rest = encrypted.unwrap_or_else(plain);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return wrong("has a path");
        }
        if rest.contains('@') {
            return wrong("has a name or a password in it, and logins are given in another way");
        }
        let (host, port) = match rest.rsplit_once(':') {
            // A bare IPv6 address has colons but no port.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (rest, None),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || "@?#".contains(c)) {
            return wrong("has no host");
        }
        let port = match port.map(str::parse::<u16>) {
            None if is_tls => HTTPS_PORT,
            None => HTTP_PORT,
            Some(Ok(port)) => port,
            Some(Err(_)) => return wrong("has a port that is not a number up to 65535"),
        };
        Ok(Self::new(host.to_ascii_lowercase(), port).with_tls(is_tls))
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as a socket and the `Host` header want it.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme(), self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_form() {
        for text in ["http://Node:8001", "http://node:8001/", "node:8001", " http://node:8001 "] {
            assert_eq!(Address::parse(text).unwrap().to_string(), "http://node:8001", "{text}");
        }
        assert_eq!(Address::parse("http://[::1]:8001").unwrap().authority(), "[::1]:8001");
        assert_eq!(Address::parse("http://node").unwrap().port(), 80);
        let encrypted = Address::parse("https://Node").unwrap();
        assert_eq!(encrypted.to_string(), "https://node:443");
        assert!(encrypted.is_tls() && encrypted != Address::new("node", 443));
    }

    #[test]
    fn what_stays_on_this_machine_is_known_by_its_address() {
        let is = |text: &str| Address::parse(text).unwrap().is_loopback();
        for here in ["127.0.0.1:1", "http://127.9.9.9:1", "LocalHost:1", "[::1]:1"] {
            assert!(is(here), "{here}");
        }
        for elsewhere in ["10.0.0.1:1", "localhost.example:1", "127.0.0.1.example:1", "[fe80::1]:1"]
        {
            assert!(!is(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_the_right_form() {
        for text in ["", "http://", "http://a:b", "https://", "http://a:1/core", "a:70000"] {
            let message = Address::parse(text).unwrap_err();
            assert!(message.contains("http://host:port"), "{message}");
        }
    }
}
