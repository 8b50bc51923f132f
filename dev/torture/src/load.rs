//! Clients that write and read all the time, and note what came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use torture::client::Client;

use crate::cluster::address_of;

/// Between two writes of a document.
const PAUSE: Duration = Duration::from_millis(5);

/// A write that was tried for so long ends as unknown.
const WRITE_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The value that was written or read.
    pub(crate) value: String,
    pub(crate) is_write: bool,
    /// None: nobody knows what became of it.
    pub(crate) done: Option<Done>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) at: Instant,
    pub(crate) version: u64,
    /// The term of the owner that wrote that version.
    pub(crate) epoch: u64,
}

impl Done {
    /// What an answer says.
    fn now(document: &Value) -> Self {
        let number = |field: &str| document[field].as_u64().unwrap_or(u64::MAX);
        let (version, epoch) = (number("documentVersion"), number("documentEpoch"));
        Self { at: Instant::now(), version, epoch }
    }
}

/// What was done to each document, in the order in which its client did it.
pub(crate) type History = BTreeMap<String, Vec<Operation>>;

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    /// How long a client waits for one node, in milliseconds, before it asks the next.
    patience: Arc<AtomicU64>,
    history: Arc<Mutex<History>>,
    threads: Vec<JoinHandle<()>>,
}

struct Writer {
    link: String,
    clients: Vec<Client>,
    node: usize,
    number: u64,
    patience: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Makes documents and begins to write them, one client for each.
    pub(crate) fn begin(nodes: usize, documents: usize) -> Result<Self, String> {
        let mut load = Self {
            stop: Arc::default(),
            patience: Arc::new(AtomicU64::new(150)),
            history: Arc::default(),
            threads: Vec::new(),
        };
        for document in 0..documents {
            let name = format!("d{document}");
            let link = format!("/core/examples/{name}");
            let clients: Vec<Client> =
                (1..=nodes).map(|node| Client::new(address_of(node))).collect();
            let mut writer = Writer {
                link: link.clone(),
                clients,
                node: document % nodes,
                number: 0,
                patience: Arc::clone(&load.patience),
                stop: Arc::clone(&load.stop),
            };
            writer.make(&name)?;
            load.history.lock().expect("no panic").insert(link, Vec::new());
            let history = Arc::clone(&load.history);
            load.threads.push(std::thread::spawn(move || writer.write_on(&history)));
        }
        Ok(load)
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).expect("it is short");
        self.patience.store(millis, Ordering::Relaxed);
    }

    /// The longest time between two acknowledged writes of one document, of all documents, that
    /// touches the time from `since` to `until`.
    pub(crate) fn without_service(&self, since: Instant, until: Instant) -> Duration {
        let history = self.history.lock().expect("no panic");
        let of_document = |operations: &Vec<Operation>| {
            let written = operations.iter().filter(|operation| operation.is_write);
            let done = written.filter_map(|operation| operation.done.map(|done| done.at));
            let mut longest = Duration::ZERO;
            let mut before = since;
            for at in done.filter(|at| *at > since) {
                if before < until {
                    longest = longest.max(at - before);
                }
                before = at;
            }
            if before < until { longest.max(until - before) } else { longest }
        };
        history.values().map(of_document).max().unwrap_or_default()
    }

    /// How often a document was written by another owner than before, since then.
    pub(crate) fn owner_changes(&self, since: Instant) -> usize {
        let history = self.history.lock().expect("no panic");
        let of_document = |operations: &Vec<Operation>| {
            let written = operations.iter().filter(|operation| operation.is_write);
            let done: Vec<Done> = written.filter_map(|operation| operation.done).collect();
            let pairs = done.windows(2).filter(|pair| pair[1].at > since);
            pairs.filter(|pair| pair[0].epoch != pair[1].epoch).count()
        };
        history.values().map(of_document).sum()
    }

    /// Waits until each document was written anew; how long that took.
    pub(crate) fn wait_for_service(&self, patience: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        let is_served = |operations: &Vec<Operation>| {
            let written = operations.iter().rev().filter(|operation| operation.is_write);
            let mut done = written.filter_map(|operation| operation.done);
            done.next().is_some_and(|done| done.at > begun)
        };
        while !self.history.lock().expect("no panic").values().all(is_served) {
            if begun.elapsed() > patience {
                return Err(format!("a document is not written for {} s", patience.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(begun.elapsed())
    }

    pub(crate) fn end(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        std::mem::take(&mut self.history.lock().expect("no panic"))
    }
}

impl Writer {
    fn make(&mut self, name: &str) -> Result<(), String> {
        let body = json!({ "documentSelfLink": name, "name": "first" });
        for _ in 0..100 {
            let key = format!("make-{name}");
            let answer = self.ask(("POST", "/core/examples"), Some(&key), Some(&body));
            if answer.is_some_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{name} cannot be made"))
    }

    fn ask(
        &mut self,
        what: (&str, &str),
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let patience = Duration::from_millis(self.patience.load(Ordering::Relaxed));
        let answer = self.clients[self.node].ask(what, key, body, patience);
        let answer = answer.map(|answer| (answer.status, answer.body));
        if answer.as_ref().is_none_or(|(status, _)| *status >= 500) {
            self.node = (self.node + 1) % self.clients.len();
        }
        answer
    }

    fn write_on(mut self, history: &Mutex<History>) {
        while !self.stop.load(Ordering::Relaxed) {
            self.number += 1;
            let operation = if self.number.is_multiple_of(4) { self.read() } else { self.write() };
            if let Some(operation) = operation {
                let mut history = history.lock().expect("no panic");
                history.get_mut(&self.link).expect("it was put in").push(operation);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn write(&mut self) -> Option<Operation> {
        let value = format!("v{}", self.number);
        let key = format!("{}-{value}", self.link.replace('/', "-"));
        let (link, body) = (self.link.clone(), json!({ "name": value }));
        let began = Instant::now();
        let mut done = None;
        while began.elapsed() < WRITE_MAX {
            match self.ask(("PATCH", &link), Some(&key), Some(&body)) {
                Some((200, body)) => {
                    done = Some(Done::now(&body));
                    break;
                }
                // Refused at once: the next node may know better.
                Some(_) => std::thread::sleep(Duration::from_millis(5)),
                None => {}
            }
            // In the middle of a fault that does not end.
            if self.stop.load(Ordering::Relaxed) && began.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        Some(Operation { value, is_write: true, done })
    }

    fn read(&mut self) -> Option<Operation> {
        let link = self.link.clone();
        let (status, body) = self.ask(("GET", &link), None, None)?;
        if status != 200 {
            return None;
        }
        let value = body["name"].as_str().unwrap_or_default().to_owned();
        let done = Some(Done::now(&body));
        Some(Operation { value, is_write: false, done })
    }
}
