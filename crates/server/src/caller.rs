//! Who sends a request, beside the token: from where, and what is shown to log in.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};

use crate::browsers::only;
use crate::principal;

/// What of a request's head matters at the login.
pub(crate) struct Caller {
    pub(crate) address: Option<IpAddr>,
    /// `Authorization`, if it is of the kind `Basic`.
    pub(crate) basic: Option<String>,
    /// A token that looks like one of an outside issuer.
    pub(crate) foreign: Option<Box<str>>,
}

impl Caller {
    pub(crate) fn of(headers: &HeaderMap, address: Option<IpAddr>) -> Self {
        let text = only(headers, &header::AUTHORIZATION).ok().flatten().unwrap_or_default();
        let basic = text.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("basic"));
        let basic = basic.map(|(_, rest)| rest.trim().to_owned());
        Self { address, basic, foreign: principal::foreign(headers).map(Into::into) }
    }
}

/// Whose an address is, where clients are counted by it: who has one address of IPv6 has all of its
/// network, and one of IPv4 may be written as IPv6.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            const NETWORK: u128 = !0 << 64;
            IpAddr::from((u128::from(address) & NETWORK).to_be_bytes())
        }
        other => other,
    }
}
