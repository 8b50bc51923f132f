//! One account of memory for what strangers make a node hold: bodies that are being read or worked
//! on, answers that nobody has taken, frames of peers that have not arrived whole, what programs
//! said. Each byte is paid in before it is held, and comes back when it is let go.
//!
//! Who may draw how much of it follows from what must go on: a flood of bodies leaves room for
//! answers, both leave room for programs, and all leave room for the frames of peers, without which
//! nothing is ever committed and so nothing comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// The most bytes that clients, programs and peers make a node hold, together. Over it a client is
/// told to come again (503), and programs and peers are read from no further.
pub(crate) const MEMORY_BYTES_MAX: usize = 256 << 20;

/// The most of it that the requests of one client hold. Four such clients are needed to fill what
/// there is for requests.
const SHARE_BYTES_MAX: usize = MEMORY_BYTES_MAX / 8;

/// What bytes are held for. The later ones may fill the account further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A request of a client, from its first byte until it is answered.
    Request,
    /// An answer that its client has not taken.
    Answer,
    /// What a program said and the node has not looked at.
    Program,
    /// A frame of a peer.
    Peer,
}

const PURPOSES: usize = 4;

impl Purpose {
    /// Up to where it may fill the account.
    fn bytes_max(self) -> usize {
        MEMORY_BYTES_MAX / 8
            * match self {
                Self::Request => 4,
                Self::Answer => 5,
                Self::Program => 6,
                Self::Peer => 8,
            }
    }
}

#[derive(Default)]
pub(crate) struct Budget {
    used: Mutex<[usize; PURPOSES]>,
    /// Rung when something came back.
    room: Notify,
}

impl Budget {
    /// Bytes in use, for the metrics.
    pub(crate) fn used(&self) -> usize {
        self.lock().iter().sum()
    }

    /// Nothing held so far, to grow by what comes.
    pub(crate) fn open(self: &Arc<Self>, purpose: Purpose) -> Held {
        Held { budget: Arc::clone(self), purpose, bytes: 0, share: None }
    }

    /// Waits until there is room for `bytes`. One who holds nothing for a purpose is let in
    /// whatever the others hold, so that a purpose is never shut out for good.
    pub(crate) async fn take(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Held {
        loop {
            // Must be made before the look, or a ring between the two is missed.
            let room = self.room.notified();
            if let Some(held) = self.take_now(purpose, bytes) {
                return held;
            }
            room.await;
        }
    }

    fn take_now(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Option<Held> {
        let mut used = self.lock();
        let is_let_in = used[purpose as usize] == 0 || fits(&used, purpose, bytes);
        is_let_in.then(|| {
            used[purpose as usize] += bytes;
            Held { budget: Arc::clone(self), purpose, bytes, share: None }
        })
    }

    fn lock(&self) -> MutexGuard<'_, [usize; PURPOSES]> {
        self.used.lock().expect("no one panics while counting")
    }
}

fn fits(used: &[usize; PURPOSES], purpose: Purpose, bytes: usize) -> bool {
    used.iter().sum::<usize>() + bytes <= purpose.bytes_max()
}

/// So much of the account one client has in use. Others are to have theirs, whatever it sends.
#[derive(Default)]
pub(crate) struct Share(AtomicUsize);

/// So much of the account is in use for something. Comes back with the drop.
pub(crate) struct Held {
    budget: Arc<Budget>,
    purpose: Purpose,
    bytes: usize,
    share: Option<Arc<Share>>,
}

impl Held {
    /// Of this client, from now on. Nothing is held so far.
    pub(crate) fn of(mut self, share: Option<Arc<Share>>) -> Self {
        assert_eq!(self.bytes, 0, "what is held already would be given back to the share");
        self.share = share;
        self
    }

    /// Whether there is room for this many bytes more; then they are held.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let budget = Arc::clone(&self.budget);
        let mut used = budget.lock();
        let is_within = |share: &Arc<Share>| share.bytes() + bytes <= SHARE_BYTES_MAX;
        let has_room =
            self.share.as_ref().is_none_or(is_within) && fits(&used, self.purpose, bytes);
        if has_room {
            self.count(&mut used, bytes);
        }
        has_room
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts what is there already and cannot be refused any more.
    pub(crate) fn grow_anyway(&mut self, bytes: usize) {
        let budget = Arc::clone(&self.budget);
        self.count(&mut budget.lock(), bytes);
    }

    fn count(&mut self, used: &mut [usize; PURPOSES], bytes: usize) {
        used[self.purpose as usize] += bytes;
        self.bytes += bytes;
        if let Some(share) = &self.share {
            share.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn give_back_all(&mut self) {
        if self.bytes > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            self.budget.lock()[self.purpose as usize] -= bytes;
            if let Some(share) = &self.share {
                share.0.fetch_sub(bytes, Ordering::Relaxed);
            }
            self.budget.room.notify_waiters();
        }
    }
}

impl Share {
    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_leave_room_for_peers_and_come_back() {
        let budget = Arc::new(Budget::default());
        let mut body = budget.open(Purpose::Request);
        assert!(body.grow(MEMORY_BYTES_MAX / 2));
        assert!(!body.grow(1), "bodies have their half");
        let mut answer = budget.open(Purpose::Answer);
        assert!(answer.grow(MEMORY_BYTES_MAX / 8));
        assert!(!answer.grow(1));
        assert!(budget.open(Purpose::Peer).grow(MEMORY_BYTES_MAX / 4));
        drop((body, answer));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_bodies_of_one_client_leave_room_for_those_of_others() {
        let budget = Arc::new(Budget::default());
        let (one, other) = (Arc::new(Share::default()), Arc::new(Share::default()));
        let mut first = budget.open(Purpose::Request).of(Some(Arc::clone(&one)));
        assert!(first.grow(SHARE_BYTES_MAX - 1));
        let mut second = budget.open(Purpose::Request).of(Some(Arc::clone(&one)));
        assert!(second.grow(1) && !second.grow(1), "it has its share");
        assert!(budget.open(Purpose::Request).of(Some(other)).grow(SHARE_BYTES_MAX));
        drop(first);
        assert!(second.grow(SHARE_BYTES_MAX - 1));
        drop(second);
        assert_eq!((budget.used(), one.bytes()), (0, 0));
    }

    #[test]
    fn one_who_waits_goes_on_when_bytes_come_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let budget = Arc::new(Budget::default());
        runtime.block_on(async {
            let mut answer = budget.open(Purpose::Answer);
            answer.grow_anyway(2 * MEMORY_BYTES_MAX);
            let first = budget.take(Purpose::Peer, 64).await;
            let mut second = std::pin::pin!(budget.take(Purpose::Peer, 64));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(second.as_mut().poll(context).is_ready())
            });
            assert!(!polled.await, "the second must wait");
            drop(answer);
            drop(second.await);
            drop(first);
        });
        assert_eq!(budget.used(), 0);
    }
}
