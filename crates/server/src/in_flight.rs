//! How many requests one client may have under way, and how many bytes of them: so a client that
//! floods the node slows itself and nobody else. A request is under way until the client has taken
//! its answer, whatever it asks for.
//!
//! A token that nobody has looked up says nothing about who sends it: it can be made up, or have
//! the name of another one's. So a request counts for its user only when its token was found to
//! be right before, and for its address otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::{Bearer, Code, Principal, Problem};

use crate::budget::Share;
use crate::caller::network_of;

/// The most requests that one user, or one address without a token that was right, has under way.
const IN_FLIGHT_OF_ONE_MAX: usize = 1_024;

/// This number more is answered, with a refusal. One more yet has its connection closed: its client
/// asks on and takes nothing.
const REFUSED_OF_ONE_MAX: usize = 1_024;

/// This number more is taken of links of peers, `/livez` and `/readyz`.
const VITAL_OF_ONE_MAX: usize = 64;

/// The most tokens of which it is known whose they are. Of more, the one that was not shown for the
/// longest time is forgotten: its next request counts for its address.
const PROVEN_MAX: usize = 10_000;

/// Whose requests they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    User(Arc<str>),
    Address(Option<IpAddr>),
}

#[derive(Default)]
pub(crate) struct InFlight(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    under_way: BTreeMap<Client, UnderWay>,
    /// By the name of the token.
    proven: BTreeMap<String, Proven>,
    /// Counts the requests with such tokens.
    shown: u64,
}

/// What one client has under way.
#[derive(Default)]
struct UnderWay {
    count: usize,
    /// The bytes of it.
    share: Arc<Share>,
}

struct Proven {
    digest: String,
    user: Arc<str>,
    last: u64,
}

/// Why a request is not taken.
pub(crate) struct Refusal {
    pub(crate) problem: Problem,
    /// The refusal, which counts as well until it is taken. None: it cannot be given any more.
    pub(crate) counted: Option<OneMore>,
}

/// One request that is under way.
pub(crate) struct OneMore {
    all: Arc<Mutex<All>>,
    client: Client,
    /// What its bytes are counted by.
    pub(crate) share: Arc<Share>,
}

impl InFlight {
    /// `is_vital`: it is to get through whatever else this client does.
    ///
    /// # Errors
    /// When too many of this client are under way, or it has not taken too much.
    pub(crate) fn begin(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
        is_vital: bool,
    ) -> Result<OneMore, Refusal> {
        let mut all = lock(&self.0);
        let client = match all.user_of(principal) {
            Some(user) => Client::User(user),
            None => Client::Address(address.map(network_of)),
        };
        let under_way = all.under_way.entry(client.clone()).or_default();
        let refused_from = IN_FLIGHT_OF_ONE_MAX;
        let closed_from = refused_from + REFUSED_OF_ONE_MAX;
        let problem = match under_way.count {
            count if is_vital && count < closed_from + VITAL_OF_ONE_MAX => None,
            count if count >= refused_from => Some(too_many()),
            _ if under_way.share.is_over() => Some(takes_nothing()),
            _ => None,
        };
        if under_way.count >= closed_from
            && let Some(problem) = problem
        {
            return Err(Refusal { problem, counted: None });
        }
        under_way.count += 1;
        let share = Arc::clone(&under_way.share);
        let one_more = OneMore { all: Arc::clone(&self.0), client, share };
        match problem {
            None => Ok(one_more),
            Some(problem) => Err(Refusal { problem, counted: Some(one_more) }),
        }
    }

    /// Whether it is known whose token that is.
    pub(crate) fn knows(&self, principal: &Principal) -> bool {
        lock(&self.0).user_of(principal).is_some()
    }

    /// The node has taken the token of that user.
    pub(crate) fn prove(&self, bearer: &Bearer, user: &str) {
        let mut all = lock(&self.0);
        if all.proven.len() >= PROVEN_MAX && !all.proven.contains_key(&bearer.name) {
            let oldest = all.proven.iter().min_by_key(|(_, proven)| proven.last);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                all.proven.remove(&oldest);
            }
        }
        let proven = Proven { digest: bearer.digest.clone(), user: user.into(), last: all.shown };
        all.proven.insert(bearer.name.clone(), proven);
    }

    /// The node does not take the token, or not any more.
    pub(crate) fn disprove(&self, principal: &Principal) {
        let mut all = lock(&self.0);
        if let Principal::Bearer(bearer) = principal
            && all.user_of(principal).is_some()
        {
            all.proven.remove(&bearer.name);
        }
    }
}

impl All {
    fn user_of(&mut self, principal: &Principal) -> Option<Arc<str>> {
        let bearer = match principal {
            Principal::Bearer(bearer) => bearer,
            // An outside issuer vouches for that one.
            Principal::User(user) => return Some(Arc::clone(user)),
            Principal::Anonymous | Principal::System => return None,
        };
        let proven = self.proven.get_mut(&bearer.name)?;
        if proven.digest != bearer.digest {
            return None;
        }
        self.shown += 1;
        proven.last = self.shown;
        Some(Arc::clone(&proven.user))
    }
}

impl Drop for OneMore {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        if let Some(under_way) = all.under_way.get_mut(&self.client) {
            under_way.count -= 1;
            if under_way.count == 0 {
                all.under_way.remove(&self.client);
            }
        }
    }
}

fn too_many() -> Problem {
    let text = format!(
        "{IN_FLIGHT_OF_ONE_MAX} requests of this client are under way, or answered and the answer \
         is not taken; wait for some of them"
    );
    Problem { retry_after_seconds: Some(1), ..Problem::new(Code::SlowDown, text) }
}

/// Its connection is closed.
fn takes_nothing() -> Problem {
    let text = "this client has not taken answers that it has asked for; take them first";
    Problem::new(Code::Busy, text)
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)));

    fn bearer(name: &str, digest: &str) -> Bearer {
        Bearer { name: name.into(), digest: digest.into(), is_checked: false }
    }

    fn begin(all: &InFlight, who: &Principal, address: Option<IpAddr>) -> Result<OneMore, Refusal> {
        all.begin(who, address, false)
    }

    fn token(name: &str, digest: &str) -> Principal {
        Principal::Bearer(Box::new(bearer(name, digest)))
    }

    /// As many as there may be.
    fn all_of(all: &InFlight, who: impl Fn(usize) -> Principal) -> Vec<OneMore> {
        (0..IN_FLIGHT_OF_ONE_MAX).map(|n| begin(all, &who(n), ADDRESS).ok().unwrap()).collect()
    }

    #[test]
    fn who_floods_slows_itself_and_nobody_else() {
        let all = InFlight::default();
        all.prove(&bearer("a", "x"), "jane");
        all.prove(&bearer("a2", "x"), "jane");
        all.prove(&bearer("b", "x"), "joe");
        let mut held = all_of(&all, |_| token("a", "x"));
        let refused = begin(&all, &token("a", "x"), ADDRESS).err().unwrap();
        assert_eq!(refused.problem.status(), 429);
        assert!(begin(&all, &token("a2", "x"), ADDRESS).is_err(), "another token of the same user");
        assert!(begin(&all, &token("b", "x"), ADDRESS).is_ok());
        assert!(begin(&all, &Principal::Anonymous, ADDRESS).is_ok());
        drop(refused);
        held.pop();
        drop(begin(&all, &token("a", "x"), None).ok().unwrap());
        held.clear();
        assert!(lock(&all.0).under_way.is_empty(), "nothing is counted of who has gone");
    }

    #[test]
    fn refusals_count_too_and_what_is_vital_gets_through() {
        let all = InFlight::default();
        let mut held = all_of(&all, |_| Principal::Anonymous);
        for _ in 0..REFUSED_OF_ONE_MAX {
            let refusal = begin(&all, &Principal::Anonymous, ADDRESS).err().unwrap();
            held.push(refusal.counted.expect("it is told so"));
        }
        let refusal = begin(&all, &Principal::Anonymous, ADDRESS).err().unwrap();
        assert!(refusal.counted.is_none(), "there is an end to that");
        for _ in 0..VITAL_OF_ONE_MAX {
            held.push(all.begin(&Principal::Anonymous, ADDRESS, true).ok().unwrap());
        }
        let refusal = all.begin(&Principal::Anonymous, ADDRESS, true).err().unwrap();
        assert!(refusal.counted.is_none());
        held.clear();
        assert!(lock(&all.0).under_way.is_empty());
    }

    #[test]
    fn tokens_that_are_made_up_are_no_way_round_the_bound() {
        let all = InFlight::default();
        let _held = all_of(&all, |n| token(&format!("made-up-{n}"), "x"));
        assert!(begin(&all, &token("one more", "x"), ADDRESS).is_err());
        assert!(begin(&all, &Principal::Anonymous, ADDRESS).is_err());
        let elsewhere = Some(IpAddr::from([10, 0, 0, 10]));
        assert!(begin(&all, &token("made-up-1", "x"), elsewhere).is_ok());
    }

    #[test]
    fn who_knows_the_name_of_a_token_does_not_use_up_its_share() {
        let all = InFlight::default();
        all.prove(&bearer("a", "right"), "jane");
        let _held = all_of(&all, |_| token("a", "wrong"));
        assert!(begin(&all, &token("a", "wrong"), ADDRESS).is_err());
        assert!(begin(&all, &token("a", "right"), ADDRESS).is_ok());
        all.disprove(&token("a", "wrong"));
        assert!(
            all.knows(&token("a", "right")),
            "a wrong secret does not make the right one unknown"
        );
        all.disprove(&token("a", "right"));
        assert!(!all.knows(&token("a", "right")));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let all = InFlight::default();
        let address = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, n]));
        let _held: Vec<OneMore> = (0..IN_FLIGHT_OF_ONE_MAX)
            .map(|n| {
                begin(&all, &Principal::Anonymous, address(u16::try_from(n).unwrap())).ok().unwrap()
            })
            .collect();
        assert!(begin(&all, &Principal::Anonymous, address(9_999)).is_err());
    }

    #[test]
    fn what_is_known_of_tokens_has_a_bound_and_the_one_in_use_stays() {
        let all = InFlight::default();
        for n in 0..PROVEN_MAX + 100 {
            all.prove(&bearer(&format!("t{n}"), "x"), "jane");
            assert!(all.knows(&token("t0", "x")));
        }
        assert_eq!(lock(&all.0).proven.len(), PROVEN_MAX);
    }
}
