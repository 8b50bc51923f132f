//! Lets nodes in that show a token of one use, and makes such tokens. Whether a token counts is
//! decided by [`access::judge`], and once more by the owner of the token's document.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use access::{
    AUTHORITY, CONTACTS_MAX, JOIN_TOKENS, JoinToken, Joiner, NotJoined, OWN_AUTHORITY, judge,
};
use protocol::node_group::{self, NodeGroupState, NodeState, NodeStatus};
use protocol::{Address, Code, Method, Principal, Problem, Request, Response, base64url};
use serde_json::{Map, Value, json};

use crate::ask::{ask, ask_as_system, problem_of};
use crate::authority::{Authority, PublicKey, Subject};
use crate::fields::{check_fields, seconds_of, text_of};
use crate::inbox::Inbox;
use crate::own_tls::moment;
use crate::principal::{digest_of, fill};

/// How long a token to join with counts when nothing is said, in seconds, ...
const JOIN_SECONDS: u64 = 3_600;

/// ... and at most.
const JOIN_SECONDS_MAX: u64 = 30 * 86_400;

const NAME_BYTES: usize = 12;

/// How long it may take to look up what the name of a host means.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);

/// Where nodes come in, if the cluster makes their certificates.
pub(crate) struct Gate {
    /// Where others reach this node.
    pub(crate) public: Address,
}

/// What a node says that wants to be let in.
struct Wish {
    name: String,
    digest: String,
    key: PublicKey,
    key_digest: String,
    subject: Subject,
}

impl Gate {
    /// Gives a node a certificate.
    pub(crate) async fn let_in(
        &self,
        inbox: &Inbox,
        body: &Map<String, Value>,
        from: Option<IpAddr>,
    ) -> Result<(Response, Subject), Problem> {
        let wish = Wish::read(body)?;
        let link = format!("{JOIN_TOKENS}/{}", wish.name);
        let token = ask_as_system(inbox, Request::get(&link)).await;
        let fields = match token.status {
            200 => token.to_json(),
            404 => json!({}),
            _ => return Err(problem_of(&token)),
        };
        let joiner = Joiner { digest: &wish.digest, key: &wish.key_digest };
        let nothing = Map::new();
        let fields = fields.as_object().unwrap_or(&nothing);
        judge(fields, joiner, moment(SystemTime::now())).map_err(not_joined)?;
        let is_same = fields.get("usedBy").and_then(Value::as_str) == Some(&wish.key_digest)
            && fields.get("usedFor").and_then(Value::as_str) == Some(&wish.subject.node_id);
        let is_there = is_at(&wish.subject.host, from).await;
        check_names(living(inbox).await?, &wish.subject, is_same, is_there)?;
        let authority = authority(inbox).await.ok_or_else(no_authority)?;
        // From here on it counts for this key and for no other. The owner refuses a second key.
        let used = json!({"usedBy": wish.key_digest, "usedFor": wish.subject.node_id});
        let use_it = Request::new(Method::Patch, link).with_json(&used);
        let answer = ask_as_system(inbox, use_it).await;
        match answer.status {
            200 => {}
            409 => return Err(not_joined(NotJoined::Used)),
            _ => return Err(problem_of(&answer)),
        }
        let certificate = authority
            .sign(&wish.subject, &wish.key, SystemTime::now())
            .map_err(|failure| Problem::internal(failure.to_string()))?;
        let (subject, contact) = (wish.subject, &self.public);
        tracing::info!(
            target: "amrita",
            "a certificate was made for node {} at {}; it joins by {contact}",
            subject.node_id,
            subject.host
        );
        let body = json!({"certificate": certificate, "authority": authority.certificate});
        Ok((Response::json(200, &body), subject))
    }

    /// A token of one use, if the owner of its document lets its maker make it.
    pub(crate) async fn make_token(
        &self,
        inbox: &Inbox,
        body: &Map<String, Value>,
        principal: Principal,
    ) -> Result<Response, Problem> {
        check_fields(body, "a token to join with", &["expirationSeconds", "about"])?;
        let seconds = seconds_of(body, "expirationSeconds")?;
        let about = text_of(body, "about")?.unwrap_or_default();
        let authority = authority(inbox).await.ok_or_else(no_authority)?;
        let fingerprint = crate::authority::fingerprint_of(&authority.certificate);
        let fingerprint = fingerprint.ok_or_else(no_authority)?;
        let seconds = seconds.unwrap_or(JOIN_SECONDS).clamp(1, JOIN_SECONDS_MAX);
        let (mut name, mut secret) = ([0; NAME_BYTES], [0; access::SECRET_BYTES]);
        fill(&mut name);
        fill(&mut secret);
        let name = base64url::encode(&name);
        let contacts = self.contacts(inbox).await;
        let token = JoinToken { name: name.clone(), secret, fingerprint, contacts };
        let expires = moment(SystemTime::now()).0 + seconds * 1_000_000;
        let body = json!({"documentSelfLink": name, "digest": digest_of(&secret), "about": about,
            "documentExpirationTimeMicros": expires});
        let make = Request::new(Method::Post, JOIN_TOKENS).with_json(&body);
        let answer = ask(inbox, make.on_behalf_of(principal)).await;
        let mut shown = answer.to_json();
        if answer.is_success() {
            shown["token"] = token.text().into();
        }
        Ok(Response { body: shown.to_string().into(), ..answer })
    }

    /// This node, and others that are up.
    async fn contacts(&self, inbox: &Inbox) -> Vec<Address> {
        let group = ask_as_system(inbox, Request::get(node_group::LINK)).await;
        let group: Option<NodeGroupState> = serde_json::from_slice(&group.body).ok();
        let nodes = group.into_iter().flat_map(|group| group.nodes.into_values());
        let others = nodes.filter(|node| node.status == NodeStatus::Available).filter_map(|node| {
            let address = node.group_reference.trim_end_matches(node_group::LINK).to_owned();
            Address::parse(&address).ok().filter(|address| *address != self.public)
        });
        std::iter::once(self.public.clone()).chain(others).take(CONTACTS_MAX).collect()
    }
}

/// What the body of a request to be let in says, for the fuzz targets.
pub(crate) fn read_wish(body: &[u8]) {
    if let Ok(body) = serde_json::from_slice(body) {
        drop(Wish::read(&body));
    }
}

/// The nodes of the cluster that live, with their hosts.
async fn living(inbox: &Inbox) -> Result<Vec<(String, String)>, Problem> {
    let answer = ask_as_system(inbox, Request::get(node_group::LINK)).await;
    if !answer.is_success() {
        return Err(problem_of(&answer));
    }
    let group: NodeGroupState = serde_json::from_slice(&answer.body)
        .map_err(|error| Problem::internal(format!("the nodes cannot be read: {error}")))?;
    let up = group.nodes.into_iter().filter(|(_, node)| node.status != NodeStatus::Unavailable);
    let host = |node: &NodeState| {
        let address = node.group_reference.trim_end_matches(node_group::LINK);
        Address::parse(address).map_or(String::new(), |address| address.host().to_owned())
    };
    Ok(up.map(|(id, node)| (id, host(&node))).collect())
}

/// A certificate says who a node is and where. No token gives one for the place of a node that
/// lives: who had it could be that node for others, and for its clients.
///
/// `is_same`: the token was used for this very name and key, whose first answer may be lost.
/// `is_there`: the request came from that host, where several nodes may be.
fn check_names(
    living: Vec<(String, String)>,
    wish: &Subject,
    is_same: bool,
    is_there: bool,
) -> Result<(), Problem> {
    for (id, host) in living {
        if id == wish.node_id {
            if is_same {
                continue;
            }
            let text =
                format!("a node '{id}' of this cluster is up: give the new one another --id");
            return Err(Problem::new(Code::Refused, text));
        }
        if host == wish.host && !is_there {
            let text = format!(
                "{host} is where node '{id}' of this cluster is, and the request did not come from \
                 there: say with --public-uri where the new node is"
            );
            return Err(Problem::new(Code::Refused, text));
        }
    }
    Ok(())
}

/// Whether an address is that host's, as far as this node can tell.
async fn is_at(host: &str, from: Option<IpAddr>) -> bool {
    let Some(from) = from.map(|from| from.to_canonical()) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let found = tokio::time::timeout(LOOK_UP_MAX, tokio::net::lookup_host((host, 0))).await;
    let is_one = |known: IpAddr| known == from || (known.is_loopback() && from.is_loopback());
    found.is_ok_and(|found| found.is_ok_and(|mut all| all.any(|it| is_one(it.ip().to_canonical()))))
}

impl Wish {
    fn read(body: &Map<String, Value>) -> Result<Self, Problem> {
        let text = |name: &str| {
            let text = body.get(name).and_then(Value::as_str);
            text.ok_or_else(|| Problem::bad_request(format!("{name} is missing: a text")))
        };
        let bytes = |name: &str| {
            let wrong = || Problem::bad_request(format!("{name} must be base64url"));
            base64url::decode(text(name)?).ok_or_else(wrong)
        };
        let (name, node_id, uri) = (text("name")?, text("nodeId")?, text("uri")?);
        let key = bytes("publicKey")?;
        let public = PublicKey::of(&key);
        let public = public.ok_or_else(|| Problem::bad_request("publicKey is no key of P-256"))?;
        let uri = Address::parse(uri).map_err(Problem::bad_request)?;
        if !uri.is_tls() {
            return Err(Problem::bad_request(format!("{uri} is not https://")));
        }
        let node_id = crate::config_values::node_id(node_id).map_err(Problem::bad_request)?;
        if base64url::decode(name).is_none_or(|name| name.len() != NAME_BYTES) {
            return Err(not_joined(NotJoined::Unknown));
        }
        Ok(Self {
            name: name.to_owned(),
            digest: digest_of(&bytes("secret")?),
            key: public,
            key_digest: digest_of(&key),
            subject: Subject { node_id, host: uri.host().to_owned() },
        })
    }
}

/// The cluster's authority, from its document: this node's own replica is good enough, as what it
/// says never changes.
pub(crate) async fn authority(inbox: &Inbox) -> Option<Authority> {
    for link in [&format!("{OWN_AUTHORITY}?consistency=local"), OWN_AUTHORITY] {
        let answer = ask_as_system(inbox, Request::get(link)).await;
        if answer.status != 200 {
            continue;
        }
        let body = answer.to_json();
        if let (Some(certificate), Some(key)) =
            (body["certificate"].as_str(), body["privateKey"].as_str())
        {
            return Authority::of(certificate, key).ok();
        }
    }
    None
}

/// Puts an authority in its document. False: it is to be tried again.
pub(crate) async fn publish(inbox: &Inbox, authority: &Authority) -> bool {
    let body = json!({"documentSelfLink": OWN_AUTHORITY, "certificate": authority.certificate,
        "privateKey": authority.key()});
    let answer = ask_as_system(inbox, Request::new(Method::Post, AUTHORITY).with_json(&body)).await;
    answer.is_success() || answer.status == 409
}

fn no_authority() -> Problem {
    let text = "the cluster has no authority of its own at this moment; try again";
    Problem::new(Code::NoOwner, text)
}

fn not_joined(why: NotJoined) -> Problem {
    match why {
        NotJoined::Unknown => {
            Problem::new(Code::AccessDenied, "the token is not one of this cluster, or has expired")
        }
        NotJoined::Used => Problem::new(Code::AccessDenied, "the token was used by another node"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_node::run;

    #[test]
    fn no_token_gives_a_certificate_for_the_place_of_a_node_that_lives() {
        let living = || vec![("n1".to_owned(), "10.0.0.1".to_owned())];
        let asks = |id: &str, host: &str, is_same, is_there| {
            let wish = Subject { node_id: id.into(), host: host.into() };
            check_names(living(), &wish, is_same, is_there).map_err(|problem| problem.code)
        };
        assert_eq!(asks("n2", "10.0.0.2", false, false), Ok(()));
        assert_eq!(asks("n1", "10.0.0.2", false, true), Err(Code::Refused), "its name");
        assert_eq!(asks("n1", "10.0.0.1", true, false), Ok(()), "it asks once more");
        assert_eq!(asks("n2", "10.0.0.1", false, false), Err(Code::Refused), "its host");
        assert_eq!(
            asks("n2", "10.0.0.1", true, false),
            Err(Code::Refused),
            "by another key's name"
        );
        assert_eq!(asks("n2", "10.0.0.1", false, true), Ok(()), "two nodes of one machine");
    }

    #[test]
    fn a_host_is_known_by_its_addresses() {
        run(async {
            let from = |text: &str| Some(text.parse().unwrap());
            assert!(is_at("10.0.0.1", from("10.0.0.1")).await);
            assert!(is_at("10.0.0.1", from("::ffff:10.0.0.1")).await);
            assert!(is_at("[::1]", from("127.0.0.1")).await, "this machine");
            assert!(!is_at("10.0.0.1", from("10.0.0.2")).await);
            assert!(!is_at("10.0.0.1", None).await);
        });
    }
}
