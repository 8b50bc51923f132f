//! How often one user may do what leaves records in the audit trail and needs no role: log in, and
//! make and end own tokens. Otherwise whoever has a login could fill the disks of a cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::{Code, Problem};

/// A user may do it this number of times at once...
const RECORDED_AT_ONCE_MAX: u32 = 200;

/// ... and then one more each time that this has gone by: 20 a minute.
const RECORDED_EVERY: Duration = Duration::from_secs(3);

/// The most users of whom it is known. Of more, the one who is soonest free again is forgotten.
const PACED_MAX: usize = 10_000;

/// When each user may again do as many at once as one may.
#[derive(Default)]
pub(crate) struct Pace(Mutex<BTreeMap<String, Instant>>);

impl Pace {
    /// This user does one more.
    ///
    /// # Errors
    /// When it has done too many; then nothing is counted.
    pub(crate) fn take(&self, user: &str, now: Instant) -> Result<(), Problem> {
        let mut all = self.lock();
        let free = all.get(user).copied().unwrap_or(now).max(now) + RECORDED_EVERY;
        let early = free.saturating_duration_since(now + RECORDED_EVERY * RECORDED_AT_ONCE_MAX);
        if !early.is_zero() {
            return Err(too_fast(early));
        }
        if all.len() >= PACED_MAX && !all.contains_key(user) {
            all.retain(|_, free| *free > now);
            let soonest = all.iter().min_by_key(|(_, free)| **free).map(|(user, _)| user.clone());
            if let Some(user) = soonest.filter(|_| all.len() >= PACED_MAX) {
                all.remove(&user);
            }
        }
        all.insert(user.to_owned(), free);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_fast(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
    let text = format!(
        "this user has logged in, and changed its own tokens, too many times in a short while, \
         and each time is in the audit trail; try again in {seconds} s, and use one token for long"
    );
    Problem { retry_after_seconds: Some(seconds), ..Problem::new(Code::SlowDown, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_do_many_at_once_and_then_some_each_minute() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert!((0..RECORDED_AT_ONCE_MAX).all(|_| pace.take("jane", now).is_ok()));
        let refused = pace.take("jane", now).unwrap_err();
        assert_eq!((refused.status(), refused.retry_after_seconds), (429, Some(4)));
        assert!(pace.take("joe", now).is_ok());
        let minute = now + Duration::from_secs(60);
        assert!((0..20).all(|_| pace.take("jane", minute).is_ok()));
        assert!(pace.take("jane", minute).is_err());
        let later = now + 2 * RECORDED_EVERY * RECORDED_AT_ONCE_MAX;
        assert!((0..RECORDED_AT_ONCE_MAX).all(|_| pace.take("jane", later).is_ok()));
        assert!(pace.take("jane", later).is_err(), "no more is saved up than that");
    }

    #[test]
    fn what_is_known_has_a_bound_and_who_is_too_fast_is_not_forgotten() {
        let (pace, now) = (Pace::default(), Instant::now());
        assert!((0..RECORDED_AT_ONCE_MAX).all(|_| pace.take("jane", now).is_ok()));
        for n in 0..PACED_MAX + 10 {
            pace.take(&format!("u{n}"), now).unwrap();
        }
        assert_eq!(pace.lock().len(), PACED_MAX);
        assert!(pace.take("jane", now).is_err());
    }
}
