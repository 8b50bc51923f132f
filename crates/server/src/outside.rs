//! Who shows a token of an outside issuer. Its signature is checked once, beside the node's thread,
//! and then its user's document says what the token says: from there on it is a user like any
//! other, and every node decides by that document.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use access::{Event, Jwt, NotTaken, Outsider, Recorded, Terms, USERS};
use blake2::{Blake2s256, Digest};
use protocol::{Code, Method, Moment, Principal, Problem, Request, Response};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::Failure;
use crate::ask::{ask_as_system, problem_of};
use crate::caller::network_of;
use crate::inbox::Inbox;
use crate::issuer_keys::IssuerKeys;
use crate::jwks::Keys;
use crate::jwt_settings::OutsideIssuer;
use crate::own_tls::moment;
use crate::shares::{Place, Shares};
use crate::trail::{Asked, Trail, not_recorded};

/// How many signatures are checked at a time.
const CHECKS_MAX: usize = 2;

/// How many more tokens may wait for it.
const CHECKS_WAITING_MAX: usize = 64;

/// How many of all these may come from one network: who has no right token must not keep out
/// others.
const CHECKS_OF_ONE_MAX: usize = 8;

/// How many tokens may wait for keys of the issuer that are not known so far. An issuer that does
/// not answer must not take the places of tokens whose keys are known.
const KEYS_WAITING_MAX: usize = 8;

/// The most tokens that are known to be right. Of more, those that were shown first are checked
/// again.
const TAKEN_MAX: usize = 10_000;

/// How often it is tried to record a user whose document somebody else is changing.
const RECORD_TRIES_MAX: u32 = 5;

/// How long to wait until this node goes by what was recorded, and between two looks.
const APPLIED_MAX: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

pub(crate) struct Outside {
    terms: Terms,
    keys: Arc<IssuerKeys>,
    taken: Mutex<Taken>,
    running: Semaphore,
    waiting: Semaphore,
    waiting_for_keys: Semaphore,
    /// Of each network.
    of_each: Shares<IpAddr>,
}

/// Where it is recorded which rights the issuer's word gives and takes, and from where it came.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    pub(crate) trail: &'a Trail,
    pub(crate) address: Option<IpAddr>,
}

/// The tokens that were found to be right, by their hash.
#[derive(Default)]
struct Taken {
    by_hash: HashMap<[u8; 32], Holder>,
    /// With which keys that was found out. With others it is found out again.
    keys: Arc<Keys>,
    /// Counts the tokens.
    count: u64,
}

struct Holder {
    user: Arc<str>,
    until: Moment,
    number: u64,
}

impl Outside {
    pub(crate) fn of(issuer: OutsideIssuer) -> Result<Self, Failure> {
        let keys = IssuerKeys::open(&issuer.keys, &issuer.ca)?;
        Ok(Self {
            terms: issuer.terms,
            keys: Arc::new(keys),
            taken: Mutex::default(),
            running: Semaphore::new(CHECKS_MAX),
            waiting: Semaphore::new(CHECKS_MAX + CHECKS_WAITING_MAX),
            waiting_for_keys: Semaphore::new(KEYS_WAITING_MAX),
            of_each: Shares::of(CHECKS_OF_ONE_MAX),
        })
    }

    /// Keeps the keys of the issuer as new as they must be.
    pub(crate) fn follow_keys(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.keys).follow()
    }

    /// The user of a token that was found to be right before and counts still.
    pub(crate) fn knows(&self, token: &str) -> Option<Arc<str>> {
        self.taken(&self.keys.current()).of(&hash_of(token), now()).ok().flatten()
    }

    /// The link of the user that shows this token.
    ///
    /// # Errors
    /// Why it does not count, or that it cannot be told at this moment.
    pub(crate) async fn user(
        &self,
        inbox: &Inbox,
        records: Records<'_>,
        token: &str,
    ) -> Result<Arc<str>, Problem> {
        let hash = hash_of(token);
        let known = self.taken(&self.keys.current()).of(&hash, now());
        if let Some(user) = known.map_err(not_taken)? {
            return Ok(user);
        }
        let jwt = Jwt::parse(token).map_err(not_taken)?;
        // What need not be asked of the keys costs no more than this.
        let outsider = Outsider::of(&jwt, &self.terms, now()).map_err(not_taken)?;
        let _place = self.place_of(records.address)?;
        let keys = self.check(token).await?;
        record(inbox, records, &outsider).await?;
        let user: Arc<str> = outsider.link.as_str().into();
        self.taken(&keys).put(hash, Arc::clone(&user), outsider.until);
        Ok(user)
    }

    /// A place for a check of this address, until the drop.
    fn place_of(&self, address: Option<IpAddr>) -> Result<Option<Place<'_, IpAddr>>, Problem> {
        let Some(network) = address.map(network_of).filter(|it| !it.is_loopback()) else {
            return Ok(None);
        };
        let text = "too many tokens from your network are being checked; try again";
        let place = self.of_each.take(network);
        place.map(Some).ok_or_else(|| Problem::new(Code::Busy, text))
    }

    /// Whether the issuer has signed it, and with which keys that was found out.
    async fn check(&self, token: &str) -> Result<Arc<Keys>, Problem> {
        let keys = self.keys.current();
        match self.check_with(token, &keys).await? {
            Ok(()) => return Ok(keys),
            Err(NotTaken::Key) => {}
            Err(why) => return Err(not_taken(why)),
        }
        let keys = self.newer(&keys).await?;
        self.check_with(token, &keys).await?.map_err(not_taken)?;
        Ok(keys)
    }

    /// The keys, for a token whose key is not among these.
    async fn newer(&self, keys: &Arc<Keys>) -> Result<Arc<Keys>, Problem> {
        let Ok(_place) = self.waiting_for_keys.try_acquire() else {
            let text = "the keys of the outside issuer are being fetched; try again";
            return Err(Problem::new(Code::Busy, text));
        };
        Ok(self.keys.look_again(keys).await)
    }

    async fn check_with(
        &self,
        token: &str,
        keys: &Arc<Keys>,
    ) -> Result<Result<(), NotTaken>, Problem> {
        let Ok(_place) = self.waiting.try_acquire() else {
            let text = "too many tokens are to be checked at this moment; try again";
            return Err(Problem::new(Code::Busy, text));
        };
        let running = self.running.acquire().await;
        let _turn = running.map_err(|_| Problem::internal("the checks of tokens have ended"))?;
        let (token, keys) = (token.to_owned(), Arc::clone(keys));
        let work = move || keys.check(&Jwt::parse(&token)?);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Problem::internal("a thread for tokens ended by a mistake"))
    }

    /// What is known of tokens that were checked with these keys.
    fn taken(&self, keys: &Arc<Keys>) -> MutexGuard<'_, Taken> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&taken.keys, keys) {
            // A key that the issuer has withdrawn must not count any longer.
            *taken = Taken { keys: Arc::clone(keys), ..Taken::default() };
        }
        taken
    }
}

/// Makes the user's document say what the token says.
async fn record(inbox: &Inbox, records: Records<'_>, outsider: &Outsider) -> Result<(), Problem> {
    for _ in 0..RECORD_TRIES_MAX {
        let known = ask_as_system(inbox, Request::get(&outsider.link)).await;
        let fields = match known.status {
            200 => Some(known.to_json()),
            404 => None,
            _ => return Err(problem_of(&known)),
        };
        let fields = fields.as_ref().and_then(Value::as_object);
        let (request, is_of_rights) = match outsider.recorded(fields).map_err(not_taken)? {
            Recorded::AsItIs => return Ok(()),
            Recorded::Make(body) => (Request::new(Method::Post, USERS).with_json(&body), true),
            Recorded::Change { body, is_of_rights } => {
                let mut patch = Request::new(Method::Patch, outsider.link.as_str());
                // What was read is what is changed.
                let version = known.etag.as_deref().and_then(|version| version.parse().ok());
                patch.conditions.if_match = version;
                (patch.with_json(&body), is_of_rights)
            }
        };
        let is_made = request.method == Method::Post;
        let answer = if is_of_rights {
            records.deed(inbox, &outsider.link, request).await?
        } else {
            ask_as_system(inbox, request).await
        };
        match answer.status {
            200..300 => {
                if is_made {
                    let link = &outsider.link;
                    tracing::info!(target: "amrita", "{link} is new, by its outside issuer");
                }
                let version = answer.to_json()["documentVersion"].as_u64().unwrap_or(0);
                return is_applied(inbox, &outsider.link, version).await;
            }
            409 if is_made => {
                // Another node has made it just now, or somebody has deleted it.
                let again = ask_as_system(inbox, Request::get(&outsider.link)).await;
                if again.status == 404 {
                    return Err(not_taken(NotTaken::Deleted));
                }
            }
            404 | 409 | 412 => {}
            _ => return Err(problem_of(&answer)),
        }
    }
    Err(Problem::new(Code::Busy, "the user of the token is being changed; try again"))
}

impl Records<'_> {
    /// Changes what a user may do: it is recorded before, as whatever changes rights, and what
    /// became of it afterwards. A new user is recorded when it is made: one who was deleted and
    /// comes again and again must not fill the trail with what is not done.
    async fn deed(self, inbox: &Inbox, link: &str, request: Request) -> Result<Response, Problem> {
        let who = Principal::User(link.into());
        let asked = Asked::at(&who, (request.method, link), self.address);
        let is_made = request.method == Method::Post;
        if !is_made && !self.trail.begins(Event::Rights, &asked, link).await {
            return Err(not_recorded());
        }
        let answer = ask_as_system(inbox, request).await;
        if answer.is_success() {
            let came_to = (answer.status, "outside issuer");
            self.trail.done(Event::Rights, &asked, link, came_to).await;
        } else if !is_made {
            let came_to = (answer.status, answer.body.as_ref());
            self.trail.ended(Event::Rights, &asked, link, came_to).await;
        }
        Ok(answer)
    }
}

/// Waits until this node goes by that version of a user. It may be cut off, and it decides by
/// what it has then: that is as before any other change of rights.
async fn is_applied(inbox: &Inbox, link: &str, version: u64) -> Result<(), Problem> {
    let begun = Instant::now();
    while begun.elapsed() < APPLIED_MAX {
        let path = format!("{link}?consistency=local");
        let answer = ask_as_system(inbox, Request::get(&path)).await;
        let has = answer.to_json()["documentVersion"].as_u64();
        if answer.is_success() && has.is_some_and(|has| has >= version) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let text = "the user of the token is new, and this node does not know it so far; try again";
    Err(Problem::new(Code::Busy, text))
}

impl Taken {
    /// # Errors
    /// When its time is over.
    fn of(&mut self, hash: &[u8; 32], now: Moment) -> Result<Option<Arc<str>>, NotTaken> {
        let Some(holder) = self.by_hash.get(hash) else { return Ok(None) };
        if holder.until <= now {
            self.by_hash.remove(hash);
            return Err(NotTaken::Expired);
        }
        Ok(Some(Arc::clone(&holder.user)))
    }

    fn put(&mut self, hash: [u8; 32], user: Arc<str>, until: Moment) {
        if self.by_hash.len() >= TAKEN_MAX {
            // The older half, so that this is not done for each token.
            let newest = self.count.saturating_sub(u64::try_from(TAKEN_MAX / 2).unwrap_or(0));
            self.by_hash.retain(|_, holder| holder.number >= newest);
        }
        let number = self.count;
        self.count += 1;
        self.by_hash.insert(hash, Holder { user, until, number });
    }
}

fn hash_of(token: &str) -> [u8; 32] {
    Blake2s256::digest(token.as_bytes()).into()
}

fn now() -> Moment {
    moment(SystemTime::now())
}

fn not_taken(why: NotTaken) -> Problem {
    let (code, advice) = match why {
        NotTaken::Stranger | NotTaken::Deleted | NotTaken::OtherUser => {
            (Code::AccessDenied, "ask an admin")
        }
        _ => (Code::Unauthorized, "get another one from its issuer"),
    };
    Problem::new(code, format!("the token of the outside issuer is not taken: {why}; {advice}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use protocol::base64url;
    use serde_json::json;

    use super::*;
    use crate::jwt_settings::KeyPlace;

    fn hash(n: usize) -> [u8; 32] {
        hash_of(&n.to_string())
    }

    #[test]
    fn tokens_that_are_known_have_a_bound_and_the_newest_stay() {
        let mut taken = Taken::default();
        for n in 0..3 * TAKEN_MAX {
            taken.put(hash(n), "jane".into(), Moment(10));
            assert!(taken.by_hash.len() <= TAKEN_MAX);
            assert!(taken.of(&hash(n), Moment(9)).unwrap().is_some(), "{n}");
            let earlier = n.saturating_sub(TAKEN_MAX / 2);
            assert!(taken.of(&hash(earlier), Moment(9)).unwrap().is_some(), "{earlier} of {n}");
        }
        assert!(taken.of(&hash(0), Moment(9)).unwrap().is_none());
    }

    #[test]
    fn one_network_has_only_a_few_checks_under_way() {
        let (outside, _) = outside();
        let of = |address: &str| outside.place_of(address.parse().ok());
        let held: Vec<_> = (0..CHECKS_OF_ONE_MAX).map(|_| of("192.0.2.1").ok().unwrap()).collect();
        assert_eq!(of("192.0.2.1").err().unwrap().code, Code::Busy);
        assert!(of("192.0.2.2").is_ok(), "another network");
        drop(held);
        assert!(of("192.0.2.1").is_ok());
    }

    #[test]
    fn a_known_token_ends_when_it_says() {
        let mut taken = Taken::default();
        taken.put(hash(1), "jane".into(), Moment(10));
        assert_eq!(taken.of(&hash(1), Moment(9)).unwrap().as_deref(), Some("jane"));
        assert_eq!(taken.of(&hash(1), Moment(10)), Err(NotTaken::Expired));
        assert_eq!(taken.of(&hash(1), Moment(9)), Ok(None));
    }
    /// Knows the keys of the samples, and a token that one of them has signed.
    fn outside() -> (Outside, String) {
        let samples: Value = serde_json::from_str(include_str!("jwks_samples.json")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        std::fs::write(&file, samples["jwks"].to_string()).unwrap();
        let text = String::new;
        let (issuer, audience, user_claim) = (text(), text(), text());
        let terms = Terms { issuer, audience, user_claim, groups: None };
        let (keys, ca) = (KeyPlace::File(file), PathBuf::new());
        let outside = Outside::of(OutsideIssuer { terms, keys, ca }).unwrap();
        (outside, samples["good"][0][1].as_str().unwrap().to_owned())
    }

    #[test]
    fn keys_that_are_made_up_do_not_keep_out_tokens_whose_keys_are_known() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (outside, good) = outside();
            let outside = Arc::new(outside);
            // The issuer does not answer.
            let fetching = outside.keys.hold().await;
            let header = json!({"alg": "EdDSA", "kid": "made-up"}).to_string();
            let made_up = format!("{}.e30.AAAA", base64url::encode(header.as_bytes()));
            let count = 2 * (CHECKS_MAX + CHECKS_WAITING_MAX);
            let many: Vec<_> = (0..count)
                .map(|_| {
                    let (outside, token) = (Arc::clone(&outside), made_up.clone());
                    tokio::spawn(async move { outside.check(&token).await.map(drop) })
                })
                .collect();
            let begun = Instant::now();
            let ended = || many.iter().filter(|one| one.is_finished()).count();
            while ended() < count - KEYS_WAITING_MAX && begun.elapsed() < APPLIED_MAX {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            assert_eq!(ended(), count - KEYS_WAITING_MAX, "few wait for the keys");
            assert!(outside.check(&good).await.is_ok(), "its key is known");
            drop(fetching);
            for one in many {
                let why = one.await.unwrap().unwrap_err();
                assert!([Code::Busy, Code::Unauthorized].contains(&why.code), "{why:?}");
            }
        });
    }
}
