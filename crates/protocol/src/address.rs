//! Where a node can be reached: a host and a port, in the one form that all parts compare.

use std::fmt;

/// The port of a URI that names none.
const HTTP_PORT: u16 = 80;

/// `http://host:port`, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Takes `http://host:port`, with or without the scheme and a slash at the end.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("'{text}' {why}; write it as http://host:port"));
        let trimmed = text.trim();
        if trimmed.starts_with("https://") {
            return wrong("asks for TLS, which a node does not speak");
        }
        let rest = trimmed.strip_prefix("http://").unwrap_or(trimmed);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return wrong("has a path");
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
            None => HTTP_PORT,
            Some(Ok(port)) => port,
            Some(Err(_)) => return wrong("has a port that is not a number up to 65535"),
        };
        Ok(Self::new(host.to_ascii_lowercase(), port))
    }

    pub fn host(&self) -> &str {
        &self.host
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
        write!(f, "http://{}:{}", self.host, self.port)
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
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_the_right_form() {
        for text in ["", "http://", "http://a:b", "https://a:1", "http://a:1/core", "a:70000"] {
            let message = Address::parse(text).unwrap_err();
            assert!(message.contains("http://host:port"), "{message}");
        }
    }
}
