//! What must hold of a document for a request to be done: HTTP's entity tags, and how many replicas
//! must hold a write before it is acknowledged.

use crate::instance_write::Numbered;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Problem;

/// An entity tag, as it stands in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityTag {
    pub is_weak: bool,
    /// With its quotes.
    pub text: String,
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntityTags {
    /// `*`: there is a document, whatever its version.
    Any,
    Listed(Vec<EntityTag>),
}

impl EntityTags {
    /// For `If-Match`: one of these is the document's, and it is no weak one.
    pub fn name_strongly(&self, etag: Option<&str>) -> bool {
        self.name(etag, |tag| !tag.is_weak)
    }

    /// For `If-None-Match`: one of these is the document's.
    pub fn name_weakly(&self, etag: Option<&str>) -> bool {
        self.name(etag, |_| true)
    }

    fn name(&self, etag: Option<&str>, counts: impl Fn(&EntityTag) -> bool) -> bool {
        let Some(etag) = etag else { return false };
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| counts(tag) && tag.text == etag),
        }
    }
}

impl FromStr for EntityTags {
    type Err = String;

    /// # Errors
    /// A sentence that says what is wrong. A tag that cannot be read is no tag that does not match:
    /// with `If-None-Match` the request would be done.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let tags: Result<Vec<_>, _> = text.split(',').map(|tag| parse_tag(tag.trim())).collect();
        tags.map(Self::Listed)
    }
}

fn parse_tag(text: &str) -> Result<EntityTag, String> {
    let (is_weak, quoted) = match text.strip_prefix("W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('"') => Ok(EntityTag { is_weak, text: quoted.to_owned() }),
        _ => Err(format!(
            "'{text}' is no entity tag; write * or tags in their quotes, such as \"1.0.5f\", with \
             commas between them"
        )),
    }
}

impl fmt::Display for EntityTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Listed(tags) = self else { return f.write_str("*") };
        for (number, tag) in tags.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let weak = if tag.is_weak { "W/" } else { "" };
            write!(f, "{comma}{weak}{}", tag.text)?;
        }
        Ok(())
    }
}

/// What must hold of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// `If-Match`: the document has one of these tags.
    pub if_match: Option<EntityTags>,
    /// `If-None-Match`: the document has none of these tags.
    pub if_none_match: Option<EntityTags>,
    /// It is a write of an immortal, and the next one of that: see [`Numbered`]. No header says
    /// so.
    pub numbered: Option<Box<Numbered>>,
}

impl Conditions {
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Whether a document with this tag, or none, may be read or written. A read that
    /// `If-None-Match` forbids is answered with 304, which is not looked at here.
    ///
    /// # Errors
    /// The header that does not hold, and its value.
    pub fn check(&self, etag: Option<&str>, is_write: bool) -> Result<(), String> {
        match (&self.if_match, &self.if_none_match) {
            (Some(tags), _) if !tags.name_strongly(etag) => Err(format!("If-Match is {tags}")),
            (_, Some(tags)) if is_write && tags.name_weakly(etag) => {
                Err(format!("If-None-Match is {tags}"))
            }
            _ => Ok(()),
        }
    }
}

/// How many replicas must hold a write before it is acknowledged, as the client asks for it
/// (`x-xenon-rpl-quorum`). The membership quorum is needed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteQuorum {
    All,
    Of(u32),
}

impl WriteQuorum {
    /// Xenon's header.
    pub const HEADER: &'static str = "x-xenon-rpl-quorum";
    /// Its value for all replicas.
    const ALL: &'static str = "x-xenon-all";

    /// How many of these replicas are meant.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn of(self, replicas: usize) -> Result<usize, Problem> {
        let asked = match self {
            Self::All => return Ok(replicas),
            Self::Of(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        if asked <= replicas {
            return Ok(asked);
        }
        Err(Problem::bad_request(format!(
            "{} is {asked}, larger than the number of replicas, {replicas}; send a number up to \
             that, or {}",
            Self::HEADER,
            Self::ALL
        )))
    }
}

impl FromStr for WriteQuorum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case(Self::ALL) {
            return Ok(Self::All);
        }
        match text.parse() {
            Ok(count) if count > 0 => Ok(Self::Of(count)),
            _ => Err(format!("is '{text}'; send a number of replicas from 1 up, or {}", Self::ALL)),
        }
    }
}

impl fmt::Display for WriteQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(Self::ALL),
            Self::Of(count) => write!(f, "{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_whole_or_refused() {
        let tags: EntityTags = "\"1.2\" ,W/\"3\"".parse().unwrap();
        assert_eq!(tags.to_string(), "\"1.2\", W/\"3\"");
        assert!(tags.name_strongly(Some("\"1.2\"")) && !tags.name_strongly(Some("\"3\"")));
        assert!(tags.name_weakly(Some("\"3\"")) && !tags.name_weakly(None));
        let any: EntityTags = "*".parse().unwrap();
        assert!(any.name_strongly(Some("\"9\"")) && !any.name_strongly(None));
        for wrong in ["", "1.2", "\"1.2", "\"1\", *", "\"a\"b\"", "w/\"1\"", "\"1\",,\"2\""] {
            assert!(wrong.parse::<EntityTags>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn conditions_hold_or_name_the_header() {
        let of = |if_match: Option<&str>, if_none_match: Option<&str>| Conditions {
            if_match: if_match.map(|tags| tags.parse().unwrap()),
            if_none_match: if_none_match.map(|tags| tags.parse().unwrap()),
            numbered: None,
        };
        let here = Some("\"1\"");
        assert!(of(None, None).check(here, true).is_ok());
        assert!(of(Some("\"0\", \"1\""), None).check(here, true).is_ok());
        assert!(of(Some("\"0\""), None).check(here, false).unwrap_err().starts_with("If-Match"));
        assert!(of(Some("*"), None).check(None, true).is_err());
        assert!(of(None, Some("\"1\"")).check(here, true).unwrap_err().contains("If-None-Match"));
        assert!(of(None, Some("\"1\"")).check(here, false).is_ok(), "a read is answered with 304");
        assert!(of(None, Some("*")).check(None, true).is_ok());
        assert!(of(Some("*"), Some("\"2\"")).check(here, true).is_ok());
    }

    #[test]
    fn a_quorum_is_a_number_of_replicas_or_all() {
        assert_eq!("x-xenon-all".parse::<WriteQuorum>().unwrap().of(3).unwrap(), 3);
        assert_eq!("2".parse::<WriteQuorum>().unwrap().of(3).unwrap(), 2);
        assert_eq!("9".parse::<WriteQuorum>().unwrap().of(3).unwrap_err().status(), 400);
        for wrong in ["0", "-1", "all", "2.5", ""] {
            assert!(wrong.parse::<WriteQuorum>().is_err(), "{wrong}");
        }
    }
}
