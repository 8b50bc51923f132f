//! One account of memory for what strangers make a node hold: bodies that are being read or worked
//! on, answers that nobody has taken, frames of peers that have not arrived whole, what programs
//! said. Each byte is paid in before it is held, and comes back when it is let go.
//!
//! Who may draw how much of it follows from what must go on: a flood of heads leaves room for
//! bodies, both leave room for answers, all of them leave room for programs, and all leave room for
//! the frames of peers, without which nothing is ever committed and so nothing comes back. And
//! whatever nobody takes, there is some room that only requests draw from.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// The most bytes that clients, programs and peers make a node hold, together. Over it a client is
/// told to come again (503), and programs and peers are read from no further.
pub(crate) const MEMORY_BYTES_MAX: usize = 256 << 20;

/// The most of it that one client holds, by its requests and by answers that it has not taken. Four
/// such clients are needed to fill what there is for requests.
const SHARE_BYTES_MAX: usize = MEMORY_BYTES_MAX / 8;

/// What became of a write is told up to this much of one client: it is done, so it is better told.
const TOLD_BYTES_MAX: usize = 2 * SHARE_BYTES_MAX;

/// So much of the account is for requests, whatever the others hold.
const REQUESTS_BYTES_MIN: usize = MEMORY_BYTES_MAX / 8;

/// An answer up to this size is given when a longer one is not.
const SMALL_BYTES: usize = 64 << 10;

/// Short answers fill the account up to here...
const SMALL_FILL_BYTES_MAX: usize = MEMORY_BYTES_MAX / 8 * 6;

/// ... and those that tell what became of a write up to here.
const TOLD_FILL_BYTES_MAX: usize = MEMORY_BYTES_MAX / 8 * 7;

/// What bytes are held for. The later ones may fill the account further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The head of a request that came in part so far: nobody knows whose it is.
    Head,
    /// A request of a client, from its head until it is answered.
    Request,
    /// An answer that its client has not taken.
    Answer,
    /// What a program said and the node has not looked at.
    Program,
    /// A frame of a peer.
    Peer,
}

const PURPOSES: usize = 5;

impl Purpose {
    /// Up to where it may fill the account.
    fn bytes_max(self) -> usize {
        MEMORY_BYTES_MAX / 8
            * match self {
                Self::Head => 3,
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
    let has_own = purpose == Purpose::Request;
    used.iter().sum::<usize>() + bytes <= purpose.bytes_max()
        || has_own && used[purpose as usize] + bytes <= REQUESTS_BYTES_MIN
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
        let purpose = self.purpose;
        self.grow_if(bytes, SHARE_BYTES_MAX, |used| fits(used, purpose, bytes))
    }

    /// The same for a whole answer. A short one, and one that tells what became of a write, may
    /// fill the account further.
    pub(crate) fn grow_by_answer(&mut self, bytes: usize, is_write: bool) -> bool {
        let within = |most: usize| {
            move |used: &[usize; PURPOSES]| used.iter().sum::<usize>() + bytes <= most
        };
        if is_write {
            self.grow_if(bytes, TOLD_BYTES_MAX, within(TOLD_FILL_BYTES_MAX))
        } else if bytes <= SMALL_BYTES {
            self.grow_if(bytes, SHARE_BYTES_MAX, within(SMALL_FILL_BYTES_MAX))
        } else {
            self.grow(bytes)
        }
    }

    fn grow_if(
        &mut self,
        bytes: usize,
        share_max: usize,
        fits: impl FnOnce(&[usize; PURPOSES]) -> bool,
    ) -> bool {
        let budget = Arc::clone(&self.budget);
        let mut used = budget.lock();
        let has_room = self.is_within(bytes, share_max) && fits(&used);
        if has_room {
            self.count(&mut used, bytes);
        }
        has_room
    }

    fn is_within(&self, bytes: usize, share_max: usize) -> bool {
        self.share.as_ref().is_none_or(|share| share.bytes() + bytes <= share_max)
    }

    /// Whether it is the client itself that leaves no room for this many bytes.
    pub(crate) fn is_over(&self, bytes: usize) -> bool {
        !self.is_within(bytes, SHARE_BYTES_MAX)
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

    /// More than its part is held: what became of writes is not taken.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes() > SHARE_BYTES_MAX
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
        let mut head = budget.open(Purpose::Head);
        assert!(head.grow(MEMORY_BYTES_MAX / 8 * 3));
        assert!(!head.grow(1));
        let mut body = budget.open(Purpose::Request);
        assert!(body.grow(MEMORY_BYTES_MAX / 8));
        assert!(!body.grow(1), "requests have their half");
        let mut answer = budget.open(Purpose::Answer);
        assert!(answer.grow(MEMORY_BYTES_MAX / 8));
        assert!(!answer.grow(1));
        assert!(budget.open(Purpose::Peer).grow(MEMORY_BYTES_MAX / 4));
        drop((head, body, answer));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn answers_that_nobody_takes_leave_room_for_requests_and_have_a_bound_however_short() {
        let budget = Arc::new(Budget::default());
        let mut long = budget.open(Purpose::Answer);
        assert!(long.grow_by_answer(MEMORY_BYTES_MAX / 8 * 5, false));
        assert!(!long.grow_by_answer(SMALL_BYTES + 1, false));
        let mut short = budget.open(Purpose::Answer);
        while short.grow_by_answer(SMALL_BYTES, false) {}
        assert_eq!(budget.used(), SMALL_FILL_BYTES_MAX);
        let mut told = budget.open(Purpose::Answer);
        assert!(told.grow_by_answer(MEMORY_BYTES_MAX / 8, true) && !told.grow_by_answer(1, true));
        let mut body = budget.open(Purpose::Request);
        assert!(body.grow(REQUESTS_BYTES_MIN) && !body.grow(1));
        drop((long, short, told, body));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_who_takes_no_answer_has_its_share_and_is_told_of_writes_for_a_while() {
        let budget = Arc::new(Budget::default());
        let share = Arc::new(Share::default());
        let open = || budget.open(Purpose::Answer).of(Some(Arc::clone(&share)));
        let mut reads = open();
        while reads.grow_by_answer(SMALL_BYTES, false) {}
        assert!(budget.used() == SHARE_BYTES_MAX && reads.is_over(1) && !share.is_over());
        let mut writes = open();
        assert!(writes.grow_by_answer(SHARE_BYTES_MAX, true) && share.is_over());
        assert!(!writes.grow_by_answer(1, true), "it is not told of more");
        assert!(budget.open(Purpose::Answer).grow_by_answer(SMALL_BYTES, false), "others are");
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
