//! Who has sent wrong passwords has to wait, before anything is hashed: by user and by address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::caller::network_of;

/// This number of wrong passwords for one user costs no wait.
const FREE_OF_USER: u32 = 3;

/// The same for one address: several people may sit behind it.
const FREE_OF_ADDRESS: u32 = 10;

/// The longest wait for one user. A stranger who sends wrong passwords on purpose makes the user
/// wait as well, so it is short.
const WAIT_OF_USER_MAX: Duration = Duration::from_secs(30);

/// The longest wait for one address.
const WAIT_OF_ADDRESS_MAX: Duration = Duration::from_secs(900);

/// After this long without a wrong password all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// The most users and addresses that are remembered; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    User(String),
    Address(IpAddr),
}

struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

#[derive(Default)]
pub(crate) struct Throttle {
    failures: Mutex<BTreeMap<Who, Failures>>,
}

impl Throttle {
    /// Whether an attempt may begin, as far as is known before anything is asked.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn check(
        &self,
        user: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Duration> {
        must_wait(&self.lock(), &all(user, address), now)
    }

    /// An attempt begins. It counts as wrong until [`Throttle::succeeded`] says otherwise, so that
    /// many at a time are no way round the wait.
    ///
    /// # Errors
    /// How long to wait; then nothing may be tried.
    pub(crate) fn begin(
        &self,
        user: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut failures = self.lock();
        let who = all(user, address);
        must_wait(&failures, &who, now)?;
        if failures.len() + who.len() > REMEMBERED_MAX {
            forget(&mut failures, now);
        }
        for who in who {
            let known = failures.entry(who.clone());
            let known = known.or_insert(Failures { count: 0, last: now, until: now });
            if now.duration_since(known.last) > FORGOTTEN_AFTER {
                known.count = 0;
            }
            known.count += 1;
            known.last = now;
            known.until = now + wait(&who, known.count);
        }
        Ok(())
    }

    /// The password was right.
    pub(crate) fn succeeded(&self, user: &str, address: Option<IpAddr>) {
        let mut failures = self.lock();
        failures.remove(&Who::User(user.to_owned()));
        // Who knows one password must not be able to guess others for free.
        if let Some(known) = address.and_then(|it| failures.get_mut(&Who::Address(network_of(it))))
        {
            known.count = known.count.saturating_sub(1);
            known.until = known.last;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, Failures>> {
        self.failures.lock().expect("no one panics while counting failures")
    }
}

fn must_wait(
    failures: &BTreeMap<Who, Failures>,
    who: &[Who],
    now: Instant,
) -> Result<(), Duration> {
    let waits = who.iter().filter_map(|who| failures.get(who)).map(|known| known.until);
    waits.filter(|until| *until > now).max().map_or(Ok(()), |until| Err(until - now))
}

fn all(user: &str, address: Option<IpAddr>) -> Vec<Who> {
    let address = address.map(|it| Who::Address(network_of(it)));
    std::iter::once(Who::User(user.to_owned())).chain(address).collect()
}

fn wait(who: &Who, count: u32) -> Duration {
    let (free, most) = match who {
        Who::User(_) => (FREE_OF_USER, WAIT_OF_USER_MAX),
        Who::Address(_) => (FREE_OF_ADDRESS, WAIT_OF_ADDRESS_MAX),
    };
    match count.checked_sub(free + 1) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(1 << over.min(10)).min(most),
    }
}

fn forget(failures: &mut BTreeMap<Who, Failures>, now: Instant) {
    failures.retain(|_, known| now.duration_since(known.last) <= FORGOTTEN_AFTER);
    while failures.len() + 2 > REMEMBERED_MAX {
        let oldest = failures.iter().min_by_key(|(_, known)| known.last);
        let Some(oldest) = oldest.map(|(who, _)| who.clone()) else { return };
        failures.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_each_wrong_password_and_ends_with_the_right_one() {
        let throttle = Throttle::default();
        let (begun, address) = (Instant::now(), Some(IpAddr::from([127, 0, 0, 1])));
        for _ in 0..=FREE_OF_USER {
            throttle.begin("jane", address, begun).unwrap();
        }
        let wait = throttle.begin("jane", address, begun).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        throttle.begin("joe", address, begun).unwrap();
        let later = begun + wait;
        throttle.begin("jane", address, later).unwrap();
        assert_eq!(throttle.begin("jane", None, later), Err(Duration::from_secs(2)));
        throttle.succeeded("jane", address);
        throttle.begin("jane", address, later).unwrap();
    }

    #[test]
    fn an_address_that_guesses_for_many_users_waits_as_well() {
        let throttle = Throttle::default();
        let (now, address) = (Instant::now(), Some(IpAddr::from([10, 0, 0, 9])));
        let mut tried = 0;
        while throttle.begin(&format!("u{tried}"), address, now).is_ok() {
            tried += 1;
        }
        assert_eq!(tried, FREE_OF_ADDRESS + 1);
        throttle.begin("u0", Some(IpAddr::from([10, 0, 0, 8])), now).unwrap();
    }

    #[test]
    fn the_addresses_of_one_network_wait_together() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let address = |n| Some(IpAddr::from([0x2001, 0xdb8, 0, 7, 0, 0, 0, n]));
        for n in 0..=FREE_OF_ADDRESS {
            throttle.begin(&format!("u{n}"), address(u16::try_from(n).unwrap()), now).unwrap();
        }
        assert!(throttle.begin("one more", address(9_999), now).is_err());
        throttle
            .begin("one more", Some(IpAddr::from([0x2001, 0xdb8, 0, 8, 0, 0, 0, 1])), now)
            .unwrap();
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..REMEMBERED_MAX + 100 {
            throttle.begin(&format!("u{n}"), None, now).unwrap();
        }
        assert!(throttle.lock().len() <= REMEMBERED_MAX);
    }
}
