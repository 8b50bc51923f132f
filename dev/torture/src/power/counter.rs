//! An immortal that counts while the power fails: a copy of it beside each node, and a client that
//! gives it one number after the other. Each copy is told at once when a number is missing or comes
//! twice, whatever state its node has given it to begin with.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use immortal::{Context, Immortal, Impulses, Incoming, Options, RunError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::known::{Known, PATIENCE, START_MAX};
use crate::client::Client;

const NAME: &str = "count";

thread_local! {
    /// What the copy that lives on this thread tells.
    static SEEN: RefCell<Arc<Mutex<Seen>>> = RefCell::default();
}

/// What a copy has seen, over all connections to its node.
#[derive(Debug, Default)]
struct Seen {
    /// The number that it handled last.
    number: u64,
    wrong: Option<String>,
    /// The play is over.
    is_over: bool,
}

/// The state that the node keeps.
#[derive(Default, Serialize, Deserialize)]
struct Count {
    count: u64,
}

impl Count {
    /// Every number comes once, and after the one before it.
    fn take(&mut self, number: u64, seen: &mut Seen) {
        if number != self.count + 1 && seen.wrong.is_none() {
            seen.wrong = Some(format!("{number} came after {}", self.count));
        }
        self.count = number;
        seen.number = number;
    }
}

impl Immortal for Count {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, _: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        SEEN.with_borrow(|seen| match incoming.arguments::<(u64,)>() {
            Ok((number,)) => self.take(number, &mut lock(seen)),
            Err(why) => lock(seen).wrong = Some(why.to_string()),
        });
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics with it")
}

/// A copy beside one node.
struct Copy {
    seen: Arc<Mutex<Seen>>,
    impulses: Impulses,
    thread: Option<JoinHandle<()>>,
}

impl Copy {
    fn start(sandbox: &Path) -> Result<Self, String> {
        let options = Options::new(&sandbox.to_string_lossy(), NAME)?;
        let (seen, impulses) = (Arc::<Mutex<Seen>>::default(), Impulses::default());
        let (of_thread, handle) = (Arc::clone(&seen), impulses.clone());
        let thread = std::thread::spawn(move || {
            SEEN.set(Arc::clone(&of_thread));
            loop {
                match immortal::run_with(&options, Count::default, &handle) {
                    Ok(()) => return,
                    // A node does not know the instance before it is registered, nor for a moment
                    // after the node has started.
                    Err(RunError::Refused { code, .. })
                        if code == "UNKNOWN_INSTANCE" && !lock(&of_thread).is_over =>
                    {
                        pause();
                    }
                    Err(why) => {
                        lock(&of_thread).wrong = Some(why.to_string());
                        return;
                    }
                }
            }
        });
        Ok(Self { seen, impulses, thread: Some(thread) })
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        lock(&self.seen).is_over = true;
        self.impulses.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The copies.
pub(super) struct Counter(Vec<Copy>);

impl Counter {
    /// A copy beside each of these sandboxes, for as long as this value lives.
    pub(super) fn start(sandboxes: &[PathBuf]) -> Result<Self, String> {
        let copies = sandboxes.iter().map(|sandbox| Copy::start(sandbox));
        Ok(Self(copies.collect::<Result<_, _>>()?))
    }

    /// Registers the instance; may be done again.
    pub(super) fn register(&self, node: SocketAddr) -> Result<(), String> {
        let body = json!({ "name": NAME, "replicas": self.0.len() });
        let (mut client, began) = (Client::new(node), Instant::now());
        loop {
            let answer = client.ask(("POST", "/core/immortals"), None, Some(&body), PATIENCE);
            match answer {
                Some(answer) if answer.status == 200 => return Ok(()),
                _ if began.elapsed() < START_MAX => pause(),
                answer => return Err(format!("no counter is registered: {answer:?}")),
            }
        }
    }

    /// Gives it the next number once, or the same again under its key; whether that is logged.
    pub(super) fn add(&self, known: &mut Known, client: &mut Client) -> bool {
        let next = known.acknowledged + 1;
        known.sent = known.sent.max(next);
        let path = format!("/core/immortals/{NAME}/impulses");
        let body = json!({ "method": 1, "payload": [next] });
        let key = format!("{NAME}-{next}");
        let answer = client.ask(("POST", &path), Some(&key), Some(&body), PATIENCE);
        let is_logged = answer.is_some_and(|answer| answer.status == 200);
        if is_logged {
            known.acknowledged = next;
        }
        is_logged
    }

    /// Every copy comes to a number that was sent after the power had failed, and has seen all
    /// before it once.
    pub(super) fn check(&self, known: &mut Known, node: SocketAddr) -> Result<(), String> {
        let (mut client, began) = (Client::new(node), Instant::now());
        let wanted = known.sent + 1;
        while known.acknowledged < wanted {
            if !self.add(known, &mut client) {
                pause();
            }
            self.look(began, known)?;
        }
        let is_there = |copy: &Copy| lock(&copy.seen).number >= wanted;
        while !self.0.iter().all(is_there) {
            pause();
            self.look(began, known)?;
        }
        self.look(began, known)
    }

    fn look(&self, began: Instant, known: &Known) -> Result<(), String> {
        for (number, copy) in self.0.iter().enumerate() {
            let seen = lock(&copy.seen);
            if let Some(wrong) = &seen.wrong {
                return Err(format!("the counter beside n{}: {wrong}", number + 1));
            }
            if began.elapsed() > START_MAX {
                return Err(format!(
                    "the counter beside n{} has come to {} only, and {} was acknowledged",
                    number + 1,
                    seen.number,
                    known.acknowledged
                ));
            }
        }
        Ok(())
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_missing_or_comes_twice_is_seen() {
        let look = |numbers: &[u64]| {
            let (mut count, mut seen) = (Count { count: 3 }, Seen::default());
            numbers.iter().for_each(|number| count.take(*number, &mut seen));
            seen.wrong
        };
        assert_eq!(look(&[4, 5, 6]), None);
        assert_eq!(look(&[4, 6, 7]).as_deref(), Some("6 came after 4"));
        assert_eq!(look(&[4, 4]).as_deref(), Some("4 came after 4"));
        assert_eq!(look(&[3]).as_deref(), Some("3 came after 3"));
    }
}
