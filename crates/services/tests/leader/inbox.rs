//! Writes of instances in a script: what their owners send, and the requests that come of it, which
//! are brought in as a node would.

use bytes::Bytes;
use group::Caller;
use protocol::immortal::{Message, put_message};
use protocol::instance_write::{Numbered, put_link};
use protocol::{GroupId, Method, Request, Response, links};
use serde_json::Value;
use services::{FromInstance, PartitionAnswer, PartitionEvent, PartitionQuestion};

use crate::world::World;

/// The numbers of callers from here on are those of writes of instances.
const FIRST_CALLER: u64 = 10_000;

/// A request that has come of a write, with the opening and the number of the call.
pub(crate) type Write = (u64, u64, Request);

/// The instances that there are.
const INSTANCES: [&str; 3] = ["ledger", "archive", "shared"];

fn group_of(name: &str) -> GroupId {
    let number = INSTANCES.iter().position(|known| *known == name).expect("a known instance");
    GroupId((1 << 20) + u32::try_from(number).expect("there are few"))
}

fn name_of(group: GroupId) -> &'static str {
    INSTANCES.into_iter().find(|name| group_of(name) == group).expect("a known instance")
}

impl World {
    /// `writes ledger 1 3 3 /core/orders/a {"amount":2}`: from number 1 on it has all, and this is
    /// its third, with method 3. `3#7`: it is the call 7.
    pub(crate) fn instance_writes(&mut self, rest: &str) {
        let mut words = rest.splitn(6, ' ');
        let name = words.next().unwrap().to_owned();
        let floor = words.next().unwrap().parse().unwrap();
        let first = words.next().unwrap().parse().unwrap();
        let method = words.next().unwrap();
        let link = words.next().unwrap();
        let payload = put_link(link, words.next().unwrap_or_default().as_bytes());
        let message = match method.split_once('#') {
            None => Message::Fork { method: method.parse().unwrap(), payload },
            Some((method, id)) => {
                let (method, id) = (method.parse().unwrap(), id.parse().unwrap());
                Message::Call { id, method, payload }
            }
        };
        let mut messages = Vec::new();
        put_message(&mut messages, &message);
        let (instance, messages) = (group_of(&name), Bytes::from(messages));
        let sent = FromInstance { instance, name, floor, first, count: 1, messages };
        self.happened(PartitionEvent::InstanceWrites(sent));
    }

    pub(crate) fn instance_asks(&mut self, name: &str) {
        self.happened(PartitionEvent::InstanceAsks { instance: group_of(name) });
    }

    pub(crate) fn acks(&mut self, instance: GroupId, logged: u64, resend_from: Option<u64>) {
        let next = resend_from.map_or(String::new(), |next| format!(", {next} is next"));
        self.say(format!("to {}: {logged} taken{next}", name_of(instance)));
    }

    /// A request has come of a write. Unless writes are held it is brought in at once.
    pub(crate) fn write_comes(&mut self, opening: u64, call: u64, request: Request) {
        let numbered = request.numbered().expect("it is a write of an instance");
        let Numbered { instance, after, number, .. } = *numbered;
        let (method, path) = (request.method.name(), &request.path);
        let body = String::from_utf8_lossy(&request.body);
        let user = request.principal.shown().to_owned();
        let text = format!(
            "write {}: {method} {path} {body} of {}: {number} after {after}, as {user}",
            self.writes.len() + 1,
            name_of(instance)
        );
        self.say(text);
        self.writes.push((opening, call, request));
        if !self.is_held("writes") {
            self.bring_in(self.writes.len());
        }
    }

    /// `enter 3`: the third write is brought in, for the first time or again.
    pub(crate) fn enter_write(&mut self, number: &str) {
        self.bring_in(number.parse().unwrap());
    }

    fn bring_in(&mut self, number: usize) {
        let (.., mut request) = self.writes[number - 1].clone();
        if let Some((document, action)) = request.path.split_once("/actions/") {
            let (document, action) = (document.to_owned(), action.to_owned());
            (request.method, request.path, request.action) =
                (Method::Patch, document, Some(action));
        } else if request.method == Method::Post {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let name = body["documentSelfLink"].as_str().unwrap();
            request.path = format!("{}/{name}", request.path);
            links::check(&request.path).unwrap();
        }
        let caller = FIRST_CALLER + number as u64;
        self.request(caller, PartitionQuestion::Rest(request), None, false);
    }

    /// If the caller is a write of an instance, its leader hears the answer.
    pub(crate) fn write_is_answered(&mut self, caller: &Caller, answer: &PartitionAnswer) {
        let Some(place) = caller.number.checked_sub(FIRST_CALLER + 1) else { return };
        let (PartitionAnswer::Response(response) | PartitionAnswer::Unchanged(response)) = answer
        else {
            return;
        };
        let place = usize::try_from(place).unwrap();
        let (opening, call, _) = self.writes[place];
        self.answered(opening, call, response.clone());
    }

    /// `write-answer 3 503 {"code":"BUSY"}`: the third write was answered so, without coming in.
    pub(crate) fn write_answer(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let number: usize = words.next().unwrap().parse().unwrap();
        let status = words.next().unwrap().parse().unwrap();
        let body = Bytes::from(words.next().unwrap_or("{}").to_owned());
        let (opening, call, _) = self.writes[number - 1];
        self.answered(opening, call, Response::bytes(status, body));
    }

    fn answered(&mut self, opening: u64, call: u64, response: Response) {
        self.happened(PartitionEvent::Called { opening, call, response });
    }

    /// `inbox`: how far the writes of each instance are.
    pub(crate) fn inbox(&mut self) {
        for name in INSTANCES {
            let last = self.last_write_of(group_of(name));
            self.say(format!("{name}: {last} noted"));
        }
    }
}
