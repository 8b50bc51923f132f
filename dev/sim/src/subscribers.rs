//! Subscribers outside: they are told of changes, take them or not, and answer late or never.

use node::{Input, Notification};
use protocol::subscription::SKIPPED;
use protocol::{Method, Request, Response};
use serde_json::{Value, json};

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::checkers::Broken;
use crate::checkers::listener::{Listener, Notified};
use crate::network::Process;
use crate::settings::Settings;
use crate::work::{EXAMPLES, tally_links};
use crate::world::{Event, SUBSCRIBER, World};
use random::Random;

/// Who has not been answered for this long asks another node.
const PATIENCE: Time = 5 * SECOND;

/// When all is well again, everything must have been told within this time: a subscriber that did
/// not answer is asked again after half a minute.
const TOLD_PATIENCE: Time = 90 * SECOND;

/// One that is told.
struct Subscriber {
    link: String,
    /// Only these documents are looked at: none of them goes without a trace.
    documents: Vec<String>,
    replays: bool,
    is_subscribed: bool,
    told: Listener,
    /// It takes nothing for now.
    away_until: Time,
}

pub(crate) struct Subscribers {
    rng: Random,
    all: Vec<Subscriber>,
    /// Who has asked to be told, and when.
    asking: Option<(usize, Time)>,
    is_calm: bool,
}

/// A notification on its way.
pub(crate) struct Delivery {
    process: Process,
    notification: Notification,
    /// The node hears that it was taken.
    is_answered: bool,
}

impl Subscribers {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut rng = Random::new(settings.seed, "subscribers");
        let mut all = Vec::new();
        if settings.scenario.starts_with("subscriptions") {
            let examples = (0..settings.documents).map(|n| format!("{EXAMPLES}/d{n}")).collect();
            let mut add = |link: &str, documents: Vec<String>| {
                all.push(Subscriber {
                    link: link.to_owned(),
                    documents,
                    replays: rng.chance(500),
                    is_subscribed: false,
                    told: Listener::default(),
                    away_until: 0,
                });
            };
            add(EXAMPLES, examples);
            for tally in tally_links() {
                add(&tally, Vec::new());
            }
        }
        Self { rng, all, asking: None, is_calm: false }
    }

    fn of(&self, reference: &str) -> Option<usize> {
        let number = reference.rsplit_once('/')?.1.parse().ok()?;
        (number < self.all.len()).then_some(number)
    }
}

impl World {
    /// Who is not subscribed so far tries it.
    pub(crate) fn look_at_subscribers(&mut self) {
        let now = self.agenda.now();
        if self.subscribers.asking.is_some_and(|(_, at)| now - at < PATIENCE) {
            return;
        }
        let all = &self.subscribers.all;
        let Some(number) = all.iter().position(|one| !one.is_subscribed) else { return };
        let machine = self.subscribers.rng.index(self.machines.len());
        if self.machines[machine].foreign || !self.machines[machine].is_up() {
            return;
        }
        self.subscribers.asking = Some((number, now));
        let Subscriber { link, replays, .. } = &self.subscribers.all[number];
        let body = json!({
            "reference": format!("http://127.0.0.1:9/{number}"),
            "replayState": replays,
        });
        let request = Request::new(Method::Post, format!("{link}/subscriptions")).with_json(&body);
        self.knock(machine, SUBSCRIBER, Box::new(request));
    }

    pub(crate) fn subscriber_told(&mut self, response: &Response) -> Result<(), Broken> {
        let Some((number, _)) = self.subscribers.asking.take() else { return Ok(()) };
        match response.status {
            200..300 => {
                self.subscribers.all[number].is_subscribed = true;
                self.paths.reached("somebody has subscribed");
                Ok(())
            }
            // Its document is not there so far, or nobody serves.
            404 | 503 | 504 => Ok(()),
            status => {
                let what = format!("{status} {}", response.to_json());
                Err(Broken::new("an answer is one of those that make sense", what))
            }
        }
    }

    /// A node tells somebody something.
    pub(crate) fn notify(&mut self, process: Process, notification: Notification) {
        let Subscribers { rng, all, is_calm, .. } = &mut self.subscribers;
        let now = self.agenda.now();
        let number = notification.number;
        let fail = |why: &str| Input::Notified { number, outcome: Err(why.to_owned()) };
        let Some(to) = notification.reference.rsplit_once('/').and_then(|it| it.1.parse().ok())
        else {
            return;
        };
        let subscriber: &mut Subscriber = match all.get_mut::<usize>(to) {
            Some(subscriber) => subscriber,
            None => return,
        };
        if !*is_calm && rng.chance(5) {
            self.paths.reached("a subscriber went away");
            subscriber.away_until = now + rng.between(100, 8_000) * MILLISECOND;
        }
        let way = rng.delay(MILLISECOND, 50 * MILLISECOND);
        if subscriber.away_until > now && !*is_calm {
            let input = fail("nobody is there");
            return self.agenda.after(way, Event::Tell { process, input });
        }
        match rng.below(100) {
            0..5 if !*is_calm => {
                self.paths.reached("a notification was lost");
                let input = fail("no answer");
                self.agenda.after(way + SECOND, Event::Tell { process, input });
            }
            fate => {
                let is_answered = fate >= 10 || *is_calm;
                let delivery = Box::new(Delivery { process, notification, is_answered });
                self.agenda.after(way, Event::Deliver(delivery));
            }
        }
    }

    /// A notification has reached its subscriber, whether or not the node lives that has sent it.
    pub(crate) fn deliver(&mut self, delivery: Delivery) -> Result<(), Broken> {
        let Delivery { process, notification, is_answered } = delivery;
        let Some(to) = self.subscribers.of(&notification.reference) else { return Ok(()) };
        let body: Value = serde_json::from_slice(&notification.body).unwrap_or_default();
        let notified = Notified {
            machine: process.machine,
            key: &notification.key,
            method: notification.method.name(),
            is_after_gap: notification.pragma.contains(SKIPPED),
            body: &body,
        };
        let told = &mut self.subscribers.all[to].told;
        self.referee.notified(told, &notified)?;
        let number = notification.number;
        let outcome = match is_answered {
            true => Ok(()),
            false => {
                self.paths.reached("a subscriber's answer was lost");
                Err("the answer was lost".to_owned())
            }
        };
        let way = self.subscribers.rng.delay(MILLISECOND, 20 * MILLISECOND);
        let input = Input::Notified { number, outcome };
        self.agenda.after(way, Event::Tell { process, input });
        Ok(())
    }

    /// The faults are over.
    pub(crate) fn calm_subscribers(&mut self) {
        self.subscribers.is_calm = true;
    }

    /// Somebody who could not subscribe so far, although what is subscribed to is there.
    fn unheard(&self) -> Option<String> {
        let all = self.subscribers.all.iter().filter(|one| !one.is_subscribed);
        let is_there = |one: &&Subscriber| {
            !one.documents.is_empty()
                || self.referee.shown(&one.link).is_some_and(|shown| !shown.is_null())
        };
        // They try it one after the other, and what the first one wants may never be made.
        let first = all.take(1).find(is_there);
        first.map(|one| format!("nobody has subscribed to {}", one.link))
    }

    /// Everything that anybody has seen is told at last.
    pub(crate) fn all_is_told(&mut self) -> Result<(), Broken> {
        let patience = self.agenda.now() + TOLD_PATIENCE;
        loop {
            let told = self.subscribers.all.iter().filter(|one| one.is_subscribed);
            let missing = told.filter_map(|Subscriber { told, documents, link, .. }| {
                let documents = match documents[..] {
                    [] => std::slice::from_ref(link),
                    _ => documents,
                };
                self.referee.not_told(told, documents)
            });
            let missing = missing.into_iter().next().or_else(|| self.unheard());
            let Some(missing) = missing else { break };
            if self.agenda.now() > patience {
                let rule = "when all is well again, everything is told";
                return Err(Broken::new(rule, missing));
            }
            let next = self.agenda.now() + 100 * MILLISECOND;
            self.run_until(next)?;
        }
        for Subscriber { told, .. } in &self.subscribers.all {
            self.paths.count("a subscriber was told", told.told);
            self.paths.count("a subscriber was told again", told.again);
            self.paths.count("a subscriber was told again by another node", told.again_by_another);
            self.paths.count("a subscriber was told of a gap", told.gaps);
            self.paths.count("a notification of a former owner came late", told.late);
        }
        Ok(())
    }
}
