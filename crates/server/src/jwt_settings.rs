//! What the settings say of an outside issuer whose tokens are taken.

use std::collections::BTreeMap;
use std::path::PathBuf;

use access::{ClaimedGroups, Terms};
use protocol::Address;

use crate::Failure;

/// The authorities that sign the certificate of the issuer, when nothing is said: those of the
/// system, where Debian and its kin keep them.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

const USER_CLAIM: &str = "sub";

/// Each as it was set.
#[derive(Clone, Debug, Default)]
pub struct JwtSettings {
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub keys: Option<KeyPlace>,
    /// Who signs the certificate of the place where the keys are.
    pub ca: Option<PathBuf>,
    pub user_claim: Option<String>,
    pub groups_claim: Option<String>,
    /// A value of that claim, and the name of a group of this cluster.
    pub groups: BTreeMap<String, String>,
}

/// Where the keys of the issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    File(PathBuf),
    /// Over TLS.
    Url {
        address: Address,
        path: String,
    },
}

/// All of it together.
#[derive(Clone, Debug)]
pub(crate) struct OutsideIssuer {
    pub(crate) terms: Terms,
    pub(crate) keys: KeyPlace,
    pub(crate) ca: PathBuf,
}

impl JwtSettings {
    /// `None`: tokens of outside issuers are not taken.
    ///
    /// # Errors
    /// When some of it is missing, or says nothing without another part.
    pub(crate) fn issuer(&self, demands_login: bool) -> Result<Option<OutsideIssuer>, Failure> {
        let Self { issuer, audience, keys, ca, user_claim, groups_claim, groups } = self;
        let is_any = issuer.is_some() || audience.is_some() || keys.is_some() || ca.is_some();
        if !is_any && user_claim.is_none() && groups_claim.is_none() && groups.is_empty() {
            return Ok(None);
        }
        let (Some(issuer), Some(audience), Some(keys)) = (issuer, audience, keys) else {
            return Err(Failure::new("tokens of an outside issuer need three settings")
                .advise("give --jwt-issuer, --jwt-audience and --jwt-keys, or none of them"));
        };
        if !demands_login {
            return Err(Failure::new("--jwt-issuer says nothing where nobody has to log in")
                .advise("give --auth as well"));
        }
        if groups_claim.is_some() == groups.is_empty() {
            return Err(Failure::new("--jwt-groups-claim and --jwt-groups belong together")
                .advise("say which claim has the groups, and which of them is which here"));
        }
        if ca.is_some() && matches!(keys, KeyPlace::File(_)) {
            return Err(Failure::new("--jwt-ca says nothing when --jwt-keys is a file")
                .advise("leave it out, or give the address of the keys: https://..."));
        }
        let groups = groups_claim.clone().map(|claim| {
            let mapped = groups.clone();
            ClaimedGroups { claim, mapped }
        });
        Ok(Some(OutsideIssuer {
            terms: Terms {
                issuer: issuer.clone(),
                audience: audience.clone(),
                user_claim: user_claim.clone().unwrap_or_else(|| USER_CLAIM.to_owned()),
                groups,
            },
            keys: keys.clone(),
            ca: ca.clone().unwrap_or_else(|| PathBuf::from(AUTHORITIES)),
        }))
    }
}

/// A file, or an address with TLS.
pub(crate) fn key_place(text: &str) -> Result<KeyPlace, String> {
    if text.starts_with("http://") {
        return Err("keys are fetched with TLS only: https://...".to_owned());
    }
    let Some(rest) = text.strip_prefix("https://") else {
        return if text.is_empty() {
            Err("a file or an address is needed".to_owned())
        } else {
            Ok(KeyPlace::File(PathBuf::from(text)))
        };
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(format!("'{text}' is not an address like https://host/path"));
    }
    let address = Address::parse(&format!("https://{authority}"))?;
    Ok(KeyPlace::Url { address, path: path.to_owned() })
}

/// `staff=writers`: the value before the last '=', the name of a group behind it.
pub(crate) fn group(text: &str) -> Result<(String, String), String> {
    let pair = text.rsplit_once('=').map(|(value, name)| (value.trim(), name.trim()));
    match pair {
        Some((value, name)) if !value.is_empty() && !name.is_empty() => {
            protocol::links::check(&format!("{}/{name}", access::USER_GROUPS))
                .map_err(|problem| problem.message)?;
            if name.contains('/') {
                return Err(format!("'{name}' is not the name of a group"));
            }
            Ok((value.to_owned(), name.to_owned()))
        }
        _ => Err(format!("'{text}' is not of the form VALUE=GROUP, as staff=writers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_a_file_or_at_an_address_with_tls() {
        let url = |host: &str, port, path: &str| {
            let address = Address::new(host, port).with_tls(true);
            Ok(KeyPlace::Url { address, path: path.into() })
        };
        assert_eq!(key_place("/etc/keys.json"), Ok(KeyPlace::File("/etc/keys.json".into())));
        assert_eq!(key_place("https://id.example/keys?x=1"), url("id.example", 443, "/keys?x=1"));
        assert_eq!(key_place("https://id.example"), url("id.example", 443, "/"));
        assert_eq!(key_place("https://127.0.0.1:8443/k"), url("127.0.0.1", 8443, "/k"));
        for wrong in ["", "http://id.example/keys", "https://", "https:///k", "https://a:x/k"] {
            assert!(key_place(wrong).is_err(), "{wrong}");
        }
        for wrong in ["https://u@a/k", "https://a/k#f", "https://a/k k", "https://a:0x/k"] {
            assert!(key_place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_of_the_issuer_is_one_of_the_cluster() {
        let pair = |value: &str, name: &str| Ok((value.to_owned(), name.to_owned()));
        assert_eq!(group("staff=writers"), pair("staff", "writers"));
        assert_eq!(group("cn=staff=writers"), pair("cn=staff", "writers"));
        for wrong in ["", "staff", "=writers", "staff=", "staff=a b", "staff=../x", "staff=a/b"] {
            assert!(group(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_that_say_nothing_without_others_are_refused() {
        let whole = JwtSettings {
            issuer: Some("https://issuer".into()),
            audience: Some("amrita".into()),
            keys: Some(KeyPlace::File("k".into())),
            ..JwtSettings::default()
        };
        assert!(JwtSettings::default().issuer(false).unwrap().is_none());
        let terms = whole.issuer(true).unwrap().unwrap().terms;
        assert_eq!((terms.user_claim.as_str(), terms.groups), ("sub", None));
        let why =
            |settings: JwtSettings, demands| settings.issuer(demands).unwrap_err().to_string();
        assert!(why(whole.clone(), false).contains("nobody has to log in"));
        let lacking = JwtSettings { audience: None, ..whole.clone() };
        assert!(why(lacking, true).contains("three settings"));
        let alone = JwtSettings { user_claim: Some("email".into()), ..JwtSettings::default() };
        assert!(why(alone, true).contains("three settings"));
        let claim = JwtSettings { groups_claim: Some("groups".into()), ..whole.clone() };
        assert!(why(claim, true).contains("belong together"));
        let groups = BTreeMap::from([("staff".to_owned(), "writers".to_owned())]);
        assert!(why(JwtSettings { groups, ..whole.clone() }, true).contains("belong together"));
        let ca = JwtSettings { ca: Some("ca.pem".into()), ..whole };
        assert!(why(ca, true).contains("--jwt-ca says nothing"));
    }
}
