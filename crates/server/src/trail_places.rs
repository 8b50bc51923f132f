//! Who may have how many records waiting for the audit trail. What is not done without a record is
//! not done when there is no place for it; so one who asks for much must not keep others from
//! taking its rights away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access::Refusee;
use tokio::sync::mpsc;

/// The most records that wait to be written. What is more is not recorded one by one: how many
/// there were is.
const TRAIL_WAITING_MAX: usize = 1_024;

/// The most in addition that are of admins and of the cluster itself. They are written
/// first.
const TRAIL_KEPT_MAX: usize = 256;

/// The most of it that are of one user, or of one address without a login.
const TRAIL_WAITING_OF_ONE_MAX: usize = 32;

/// Whose a record is.
pub(crate) enum Whose {
    /// An admin's, or the cluster's.
    Kept,
    One(Refusee),
}

/// Where records are put to wait.
pub(crate) struct Places<T> {
    kept: mpsc::Sender<Waits<T>>,
    others: mpsc::Sender<Waits<T>>,
    of_one: Arc<Mutex<BTreeMap<Refusee, usize>>>,
}

/// Where they are taken from.
pub(crate) struct Line<T> {
    kept: mpsc::Receiver<Waits<T>>,
    others: mpsc::Receiver<Waits<T>>,
}

/// One that waits. Its place is free again with the drop.
pub(crate) struct Waits<T> {
    pub(crate) it: T,
    _place: Option<Place>,
}

struct Place {
    of_one: Arc<Mutex<BTreeMap<Refusee, usize>>>,
    whose: Refusee,
}

/// Places for those who wait.
pub(crate) fn line<T>() -> (Places<T>, Line<T>) {
    let (kept, kept_waiting) = mpsc::channel(TRAIL_KEPT_MAX);
    let (others, others_waiting) = mpsc::channel(TRAIL_WAITING_MAX);
    let places = Places { kept, others, of_one: Arc::default() };
    (places, Line { kept: kept_waiting, others: others_waiting })
}

impl<T> Places<T> {
    /// False: there is no place.
    pub(crate) fn put(&self, it: T, whose: Whose) -> bool {
        match whose {
            Whose::Kept => self.kept.try_send(Waits { it, _place: None }).is_ok(),
            Whose::One(whose) => self.place_of(whose).is_some_and(|place| {
                self.others.try_send(Waits { it, _place: Some(place) }).is_ok()
            }),
        }
    }

    fn place_of(&self, whose: Refusee) -> Option<Place> {
        let mut of_one = lock(&self.of_one);
        let count = of_one.get(&whose).copied().unwrap_or(0);
        (count < TRAIL_WAITING_OF_ONE_MAX).then(|| {
            of_one.insert(whose.clone(), count + 1);
            Place { of_one: Arc::clone(&self.of_one), whose }
        })
    }
}

impl<T> Line<T> {
    /// The next to be written. None: nobody puts any more, and all were taken.
    pub(crate) async fn next(&mut self) -> Option<Waits<T>> {
        tokio::select! {
            biased;
            Some(next) = self.kept.recv() => Some(next),
            Some(next) = self.others.recv() => Some(next),
            else => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.others.is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_one = lock(&self.of_one);
        if let Some(count) = of_one.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                of_one.remove(&self.whose);
            }
        }
    }
}

fn lock(of_one: &Mutex<BTreeMap<Refusee, usize>>) -> MutexGuard<'_, BTreeMap<Refusee, usize>> {
    of_one.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_node::run;

    fn user(n: usize) -> Whose {
        Whose::One(Refusee::User(format!("u{n}")))
    }

    #[test]
    fn one_user_has_some_places_and_admins_have_theirs_and_are_first() {
        let (places, mut line) = line();
        assert!((0..TRAIL_WAITING_OF_ONE_MAX).all(|_| places.put("jane", user(0))));
        assert!(!places.put("jane", user(0)));
        let mut more = 0;
        while places.put("others", user(1 + more / TRAIL_WAITING_OF_ONE_MAX)) {
            more += 1;
        }
        assert_eq!(more, TRAIL_WAITING_MAX - TRAIL_WAITING_OF_ONE_MAX);
        assert!((0..TRAIL_KEPT_MAX).all(|_| places.put("admin", Whose::Kept)));
        assert!(!places.put("admin", Whose::Kept));
        run(async {
            for _ in 0..TRAIL_KEPT_MAX {
                assert_eq!(line.next().await.unwrap().it, "admin");
            }
            let first = line.next().await.unwrap();
            assert_eq!(first.it, "jane");
            assert!(!places.put("jane", user(0)), "it is still being written");
            drop(first);
            assert!(places.put("jane", user(0)));
            drop(line);
        });
        assert!(lock(&places.of_one).is_empty());
    }
}
