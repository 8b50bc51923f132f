//! Lets nodes in that show a token of one use, and makes such tokens. Whether a token counts is
//! decided by [`access::judge`], and once more by the owner of the token's document.

use std::time::SystemTime;

use access::{
    AUTHORITY, CONTACTS_MAX, JOIN_TOKENS, JoinToken, Joiner, NotJoined, OWN_AUTHORITY, judge,
};
use protocol::node_group::{self, NodeGroupState, NodeStatus};
use protocol::{Address, Code, Method, Principal, Problem, Request, Response, base64url};
use serde_json::{Map, Value, json};

use crate::ask::{ask, ask_as_system, problem_of};
use crate::authority::{Authority, PublicKey, Subject};
use crate::inbox::Inbox;
use crate::own_tls::moment;
use crate::principal::{digest_of, fill};

/// How long a token to join with counts when nothing is said, in seconds, ...
const JOIN_SECONDS: u64 = 3_600;

/// ... and at most.
const JOIN_SECONDS_MAX: u64 = 30 * 86_400;

const NAME_BYTES: usize = 12;

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
        let known = ["expirationSeconds", "about"];
        if let Some(other) = body.keys().find(|name| !known.contains(&name.as_str())) {
            let text =
                format!("'{other}' says nothing here; there are expirationSeconds and about");
            return Err(Problem::bad_request(text));
        }
        let authority = authority(inbox).await.ok_or_else(no_authority)?;
        let fingerprint = crate::authority::fingerprint_of(&authority.certificate);
        let fingerprint = fingerprint.ok_or_else(no_authority)?;
        let seconds = body.get("expirationSeconds").and_then(Value::as_u64);
        let seconds = seconds.unwrap_or(JOIN_SECONDS).clamp(1, JOIN_SECONDS_MAX);
        let (mut name, mut secret) = ([0; NAME_BYTES], [0; access::SECRET_BYTES]);
        fill(&mut name);
        fill(&mut secret);
        let name = base64url::encode(&name);
        let contacts = self.contacts(inbox).await;
        let token = JoinToken { name: name.clone(), secret, fingerprint, contacts };
        let expires = moment(SystemTime::now()).0 + seconds * 1_000_000;
        let about = body.get("about").and_then(Value::as_str).unwrap_or_default();
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
