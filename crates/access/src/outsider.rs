//! Users that an outside issuer vouches for. Such a user is a user like any other: a document, by
//! which every node decides. The document is named after the token's claim, and has the groups that
//! the newest token named. So a task of such a user goes on under another owner, and a group that
//! the issuer has taken away is gone with the next token, even for who still has an older one.

use std::collections::{BTreeMap, BTreeSet};

use protocol::Moment;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::jwt::{Jwt, NotTaken};
use crate::paths::{USER_GROUPS, USERS};

/// What the names of all such users begin with. No issuer can vouch for a user of the cluster's
/// own, such as `admin`, whatever its tokens say.
const OUTSIDER_BEGINNING: &str = "jwt.";

/// The longest value of the claim that names a user, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// What a node believes, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub issuer: String,
    pub audience: String,
    /// The claim that names the user.
    pub user_claim: String,
    pub groups: Option<ClaimedGroups>,
}

/// Which groups of the issuer are which of the cluster. What is not named here says nothing: no
/// issuer can make somebody an admin unless the node's settings say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedGroups {
    pub claim: String,
    /// A value of the claim, and the name of the group.
    pub mapped: BTreeMap<String, String>,
}

/// Who shows a token, as its issuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outsider {
    /// The link of the user.
    pub link: String,
    /// Until when the token counts.
    pub until: Moment,
    issuer: String,
    subject: String,
    /// In seconds since 1970.
    issued: u64,
    /// `None`: the settings say that tokens name no groups.
    groups: Option<BTreeSet<String>>,
}

/// What is to become of a user's document, so that it says what the token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    Make(Value),
    Change {
        body: Value,
        /// Another person or other groups than before, and not merely a newer token.
        is_of_rights: bool,
    },
    AsItIs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    issuer: Option<String>,
    subject: Option<String>,
    outside_group_links: BTreeSet<String>,
    outside_issued_seconds: u64,
}

impl Outsider {
    /// What a token says whose signature was found to be right.
    ///
    /// # Errors
    /// When it does not count here, or not now.
    pub fn of(jwt: &Jwt<'_>, terms: &Terms, now: Moment) -> Result<Self, NotTaken> {
        let (issued, until) = jwt.check(&terms.issuer, &terms.audience, now)?;
        let name = short(jwt.claim(&terms.user_claim)).ok_or(NotTaken::UserClaim)?;
        if terms.user_claim == "email" && jwt.claim("email_verified") != Some(&json!(true)) {
            return Err(NotTaken::UserClaim);
        }
        // An issuer may give a name to another person; `sub` is never anybody else.
        let subject = short(jwt.claims.get("sub")).ok_or(NotTaken::Claim("sub"))?;
        let groups = terms.groups.as_ref().map(|groups| groups.of(jwt));
        Ok(Self {
            link: format!("{USERS}/{OUTSIDER_BEGINNING}{}", plain(name)),
            until: Moment(until.saturating_mul(1_000_000)),
            issuer: terms.issuer.clone(),
            subject: subject.to_owned(),
            issued,
            groups,
        })
    }

    /// What becomes of the user's document, if there is one.
    ///
    /// # Errors
    /// When the user is another one, or nobody that the cluster knows anything of.
    pub fn recorded(&self, known: Option<&Map<String, Value>>) -> Result<Recorded, NotTaken> {
        let mut groups = self.groups.clone().unwrap_or_default();
        let Some(known) = known else {
            if groups.is_empty() {
                return Err(NotTaken::Stranger);
            }
            let mut made = self.says(&groups);
            made["documentSelfLink"] = self.link.as_str().into();
            // Required of a user. It is no address, so no group of all addresses of a place, made
            // for users of our own, takes in who only has such an address at the issuer.
            made["email"] = self.link[USERS.len() + 1..].replace('@', "~40").into();
            return Ok(Recorded::Make(made));
        };
        let known: Document = serde_json::from_value(Value::Object(known.clone()))
            .map_err(|_| NotTaken::OtherUser)?;
        let is_other = |known: &Option<String>, ours: &str| {
            known.as_deref().is_some_and(|known| known != ours)
        };
        if is_other(&known.issuer, &self.issuer) || is_other(&known.subject, &self.subject) {
            return Err(NotTaken::OtherUser);
        }
        let is_new = known.issuer.is_none() || known.subject.is_none();
        let says_nothing = self.groups.is_none() && known.outside_group_links.is_empty();
        // Of two tokens the newer one counts for both.
        let is_older = self.issued < known.outside_issued_seconds;
        // Of two of one second nobody can tell which one that is: what both say counts.
        let is_as_old = self.issued == known.outside_issued_seconds;
        if is_as_old && !is_new {
            groups.retain(|group| known.outside_group_links.contains(group));
        }
        let says_the_same = is_as_old && groups == known.outside_group_links;
        Ok(if !is_new && (is_older || says_the_same || says_nothing) {
            Recorded::AsItIs
        } else {
            let is_of_rights = is_new || groups != known.outside_group_links;
            Recorded::Change { body: self.says(&groups), is_of_rights }
        })
    }

    fn says(&self, groups: &BTreeSet<String>) -> Value {
        json!({"issuer": self.issuer, "subject": self.subject, "outsideGroupLinks": groups,
            "outsideIssuedSeconds": self.issued})
    }
}

impl ClaimedGroups {
    /// Values of another form are not groups.
    fn of(&self, jwt: &Jwt<'_>) -> BTreeSet<String> {
        let values: Vec<&str> = match jwt.claim(&self.claim) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let names = values.into_iter().filter_map(|value| self.mapped.get(value));
        names.map(|name| format!("{USER_GROUPS}/{name}")).collect()
    }
}

/// A claim that is a text, and not too long for a name.
fn short(claim: Option<&Value>) -> Option<&str> {
    let text = claim.and_then(Value::as_str);
    text.filter(|it| !it.is_empty() && it.len() <= NAME_BYTES_MAX)
}

/// A text as a part of a link; two texts never become one.
fn plain(text: &str) -> String {
    use std::fmt::Write;
    let mut plain = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"@._-".contains(&byte) {
            plain.push(char::from(byte));
        } else {
            write!(plain, "~{byte:02x}").expect("writing to memory cannot fail");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use protocol::{base64url, links};

    use super::*;

    const NOW: Moment = Moment(2_000_000_000 * 1_000_000);

    fn terms() -> Terms {
        let mapped = [("staff", "writers"), ("ops", "operators")];
        let mapped = mapped.map(|(value, name)| (value.to_owned(), name.to_owned())).into();
        Terms {
            issuer: "https://issuer".into(),
            audience: "amrita".into(),
            user_claim: "sub".into(),
            groups: Some(ClaimedGroups { claim: "groups".into(), mapped }),
        }
    }

    fn claims(issued: u64, groups: &Value) -> Value {
        json!({"iss": "https://issuer", "aud": "amrita", "sub": "jane", "iat": issued,
            "exp": 2_000_000_300_u64, "groups": groups})
    }

    fn outsider(claims: &Value, terms: &Terms) -> Result<Outsider, NotTaken> {
        let part = |value: &Value| base64url::encode(value.to_string().as_bytes());
        let text = format!("{}.{}.AA", part(&json!({"alg": "ES256"})), part(claims));
        Outsider::of(&Jwt::parse(&text).unwrap(), terms, NOW)
    }

    fn fields(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn only_groups_that_are_mapped_count() {
        let of = |groups: Value| {
            let outsider = outsider(&claims(1, &groups), &terms()).unwrap();
            outsider.groups.unwrap().into_iter().collect::<Vec<_>>()
        };
        let writers = "/core/authz/user-groups/writers";
        assert_eq!(of(json!(["staff", "admins", "admin", 7, null])), [writers]);
        assert_eq!(of(json!("staff")), [writers]);
        for nothing in [json!(null), json!(7), json!({"staff": true}), json!(["Staff"])] {
            assert!(of(nothing.clone()).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_user_of_an_issuer_is_none_of_the_clusters_own_and_no_two_have_one_name() {
        let of = |subject: &str| {
            let mut claims = claims(1, &json!([]));
            claims["sub"] = subject.into();
            outsider(&claims, &terms()).map(|outsider| outsider.link)
        };
        assert_eq!(of("admin").unwrap(), "/core/authz/users/jwt.admin");
        let subjects = ["a/../admin", "a|b", "a~7cb", "é", "..", "a b", "?", "A", "a", "stats"];
        let links: BTreeSet<String> = subjects.map(|it| of(it).unwrap()).into();
        assert_eq!(links.len(), subjects.len());
        for link in links {
            links::check(&link).unwrap();
            assert_eq!(links::split(&link).unwrap().0, USERS, "{link}");
        }
        assert_eq!(of(""), Err(NotTaken::UserClaim));
        assert_eq!(of(&"x".repeat(NAME_BYTES_MAX + 1)), Err(NotTaken::UserClaim));
        // Escaped, the longest name still is a link.
        links::check(&of(&"/".repeat(NAME_BYTES_MAX)).unwrap()).unwrap();
        let by_mail = Terms { user_claim: "email".into(), ..terms() };
        let mut claims = claims(1, &json!([]));
        assert_eq!(outsider(&claims, &by_mail), Err(NotTaken::UserClaim));
        claims["email"] = "jane@example.com".into();
        for unverified in [json!(null), json!(false), json!("true"), json!(1)] {
            claims["email_verified"] = unverified;
            assert_eq!(outsider(&claims, &by_mail), Err(NotTaken::UserClaim), "{claims}");
        }
        claims.as_object_mut().unwrap().remove("email_verified");
        assert_eq!(outsider(&claims, &by_mail), Err(NotTaken::UserClaim), "nobody says so");
        claims["email_verified"] = true.into();
        assert!(outsider(&claims, &by_mail).is_ok());
    }

    #[test]
    fn a_name_that_the_issuer_gives_to_another_person_does_not_make_it_the_same_user() {
        let by_name = Terms { user_claim: "preferred_username".into(), ..terms() };
        let mut claims = claims(100, &json!(["staff"]));
        claims["preferred_username"] = "jane".into();
        claims["sub"] = "4711".into();
        let jane = outsider(&claims, &by_name).unwrap();
        assert_eq!(jane.link, "/core/authz/users/jwt.jane");
        let Recorded::Make(made) = jane.recorded(None).unwrap() else { panic!("nobody was there") };
        assert_eq!(made["subject"], "4711");
        claims["iat"] = 200.into();
        let later = outsider(&claims, &by_name).unwrap().recorded(Some(&fields(&made)));
        let is_known = matches!(later, Ok(Recorded::Change { is_of_rights: false, .. }));
        assert!(is_known, "{later:?}");
        claims["sub"] = "4712".into();
        let heir = outsider(&claims, &by_name).unwrap();
        assert_eq!(heir.recorded(Some(&fields(&made))), Err(NotTaken::OtherUser));
        for nobody in [json!(null), json!(""), json!(7), json!("x".repeat(NAME_BYTES_MAX + 1))] {
            claims["sub"] = nobody;
            assert_eq!(outsider(&claims, &by_name), Err(NotTaken::Claim("sub")));
        }
    }

    #[test]
    fn no_user_of_an_issuer_has_an_address() {
        let mut claims = claims(100, &json!(["staff"]));
        claims["sub"] = "jane@acme.com".into();
        let Recorded::Make(made) = outsider(&claims, &terms()).unwrap().recorded(None).unwrap()
        else {
            panic!("nobody was there")
        };
        assert_eq!(made["documentSelfLink"], "/core/authz/users/jwt.jane@acme.com");
        assert_eq!(made["email"], "jwt.jane~40acme.com");
    }

    #[test]
    fn of_two_tokens_of_one_second_only_what_both_say_counts() {
        let of = |groups: Value| outsider(&claims(100, &groups), &terms()).unwrap();
        let (more, less, none) =
            (of(json!(["staff", "ops"])), of(json!(["staff"])), of(json!(["guests"])));
        let Recorded::Make(made) = more.recorded(None).unwrap() else { panic!("nobody was there") };
        let Recorded::Change { body: changed, is_of_rights: true } =
            less.recorded(Some(&fields(&made))).unwrap()
        else {
            panic!("it has fewer")
        };
        let known = fields(&changed);
        assert_eq!(known["outsideGroupLinks"], json!(["/core/authz/user-groups/writers"]));
        for one in [&more, &less] {
            assert_eq!(one.recorded(Some(&known)), Ok(Recorded::AsItIs));
        }
        let Recorded::Change { body: changed, is_of_rights: true } =
            none.recorded(Some(&known)).unwrap()
        else {
            panic!("it has none")
        };
        assert_eq!(changed["outsideGroupLinks"], json!([]));
    }

    #[test]
    fn the_newest_token_says_which_groups_a_user_has() {
        let of = |issued, groups: Value| outsider(&claims(issued, &groups), &terms()).unwrap();
        let first = of(100, json!(["staff", "ops"]));
        let Recorded::Make(made) = first.recorded(None).unwrap() else {
            panic!("nobody was there")
        };
        let known = fields(&made);
        assert_eq!(first.recorded(Some(&known)), Ok(Recorded::AsItIs));
        // The issuer has taken a group away: the older token does not bring it back.
        let second = of(200, json!(["staff"]));
        let Recorded::Change { body: changed, is_of_rights: true } =
            second.recorded(Some(&known)).unwrap()
        else {
            panic!("it is newer")
        };
        let known = fields(&changed);
        assert_eq!(known["outsideGroupLinks"], json!(["/core/authz/user-groups/writers"]));
        assert_eq!(first.recorded(Some(&known)), Ok(Recorded::AsItIs));
        // One that says the same is recorded as well, or one between the two could bring it back.
        let third = of(300, json!(["staff"]));
        let third = third.recorded(Some(&known));
        assert!(matches!(third, Ok(Recorded::Change { is_of_rights: false, .. })));
        let none_left = of(400, json!([]));
        let Recorded::Change { body: changed, is_of_rights: true } =
            none_left.recorded(Some(&known)).unwrap()
        else {
            panic!("it is newer")
        };
        assert_eq!(changed["outsideGroupLinks"], json!([]));
    }

    #[test]
    fn nobody_becomes_another_user_and_strangers_leave_nothing() {
        let jane = outsider(&claims(100, &json!(["staff"])), &terms()).unwrap();
        for (field, value) in [("issuer", "https://other"), ("subject", "joe")] {
            let mut known = fields(&jane.says(&BTreeSet::new()));
            known.insert(field.into(), value.into());
            assert_eq!(jane.recorded(Some(&known)), Err(NotTaken::OtherUser), "{field}");
        }
        let stranger = outsider(&claims(100, &json!(["guests"])), &terms()).unwrap();
        assert_eq!(stranger.recorded(None), Err(NotTaken::Stranger));
        // An admin has made the user by hand: the first token takes the place.
        let by_hand = fields(&json!({"userGroupLinks": ["/core/authz/user-groups/acme"]}));
        let taken = stranger.recorded(Some(&by_hand));
        assert!(matches!(taken, Ok(Recorded::Change { is_of_rights: true, .. })));
        let without = Terms { groups: None, ..terms() };
        let jane = outsider(&claims(100, &json!(["staff"])), &without).unwrap();
        assert_eq!(jane.recorded(None), Err(NotTaken::Stranger));
        let known = fields(&jane.says(&BTreeSet::new()));
        let later = outsider(&claims(200, &json!(["staff"])), &without).unwrap();
        assert_eq!(later.recorded(Some(&known)), Ok(Recorded::AsItIs), "no write for each token");
    }
}
