//! The services that the scripts use.

use std::collections::BTreeMap;

use protocol::{Method, Problem, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use services::{
    Catalogue, Context, Field, FieldType, Patch, Plan, Service, ServiceOption, Spec, Task,
    succeeded,
};

pub(crate) fn catalogue() -> Catalogue {
    Catalogue::new()
        .with(Things)
        .with(Plain("/core/strict", ServiceOption::StrictUpdate))
        .with(Plain("/core/idempotent", ServiceOption::IdempotentPost))
        .with(Plain("/core/fixed", ServiceOption::Immutable))
        .with(Slow)
        .with_task(Walks)
        .with_task(Trips)
        .with(Orders)
        .with_task(Bills)
}

/// Most of what a service can do.
struct Things;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Thing {
    name: String,
    counter: Option<i64>,
    tags: Vec<String>,
    map: BTreeMap<String, String>,
    /// Not described in the spec: its type is known to the state alone.
    undescribed: Option<u8>,
    made_by: Option<String>,
}

impl Service for Things {
    type State = Thing;

    fn spec(&self) -> Spec {
        Spec::new("/core/things", "test:Things:Thing")
            .about("Things.")
            .retention(10, 5)
            .state_bytes_max(400)
            .field(Field::new("name", FieldType::String).required().about("What it is called."))
            .field(Field::new("counter", FieldType::Long).example(1))
            .field(Field::new("tags", FieldType::Collection).merge())
            .field(Field::new("map", FieldType::Map).merge())
            .field(Field::new("madeBy", FieldType::String).internal())
            .patch_kind("test:Things:AddRequest")
    }

    fn create(&self, context: &mut Context<'_>, state: &mut Thing) -> Result<(), Problem> {
        if state.name == "short-lived" {
            context.expire_after(10_000_000);
        }
        state.made_by = Some(context.node_id.to_owned());
        Ok(())
    }

    fn put(&self, _: &mut Context<'_>, current: &Thing, mut new: Thing) -> Result<Thing, Problem> {
        new.made_by.clone_from(&current.made_by);
        Ok(new)
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Thing,
        patch: &Patch,
    ) -> Result<Thing, Problem> {
        if patch.kind.as_deref() == Some("test:Things:AddRequest") {
            let added = patch.fields["add"].as_i64().unwrap_or_default();
            let counter = current.counter.unwrap_or_default() + added;
            return context.merge(current, &change(json!({"counter": counter})));
        }
        assert!(patch.fields.get("name") != Some(&json!("panic")), "asked to panic");
        context.merge(current, patch)
    }

    fn delete(&self, _: &mut Context<'_>, current: &Thing) -> Result<(), Problem> {
        match current.name.as_str() {
            "kept" => Err(Problem::bad_request("this thing is kept")),
            _ => Ok(()),
        }
    }
}

fn change(fields: serde_json::Value) -> Patch {
    let fields = fields.as_object().cloned().unwrap_or_default();
    Patch { fields, ..Patch::default() }
}

/// A service with one option.
struct Plain(&'static str, ServiceOption);

impl Service for Plain {
    type State = serde_json::Map<String, serde_json::Value>;

    fn spec(&self) -> Spec {
        Spec::new(self.0, "test:Plain").option(self.1)
    }
}

/// A service whose handlers may take long.
struct Slow;

impl Service for Slow {
    type State = serde_json::Map<String, serde_json::Value>;

    fn spec(&self) -> Spec {
        Spec::new("/core/slow", "test:Slow").slow()
    }
}

/// A task of `steps` steps; each one PATCHes `path` and learns from the answer.
struct Walks;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Walk {
    steps: u64,
    done: u64,
    pause_micros: u64,
    note: Option<String>,
}

impl Task for Walks {
    type State = Walk;

    fn spec(&self) -> Spec {
        Spec::new("/core/walks", "test:Walk")
            .option(ServiceOption::IdempotentPost)
            .expires_after(3_600_000_000)
            .state_bytes_max(600)
            .field(Field::new("steps", FieldType::Long).required())
            .field(Field::new("done", FieldType::Long).internal())
            .field(Field::new("pauseMicros", FieldType::Long))
            .field(Field::new("note", FieldType::String))
    }

    fn create(&self, _: &mut Context<'_>, state: &mut Walk) -> Result<(), Problem> {
        if state.steps > 100 {
            return Err(Problem::bad_request("steps must be at most 100"));
        }
        Ok(())
    }

    fn plan(&self, _: &Context<'_>, state: &Walk) -> Plan {
        match state.note.as_deref() {
            Some("fail") => return Plan::Fail("asked to fail".into()),
            Some("many") => {
                let request = Request::new(Method::Get, "/core/things/one");
                return Plan::calls(vec![request; services::CALLS_PER_STEP_MAX + 1]);
            }
            Some("wait") => return Plan::wait(state.pause_micros),
            Some("panic") => panic!("asked to panic"),
            _ => {}
        }
        if state.done >= state.steps {
            return Plan::Finish;
        }
        let body = json!({"kind": "test:Things:AddRequest", "add": 1});
        let request = Request::new(Method::Patch, "/core/things/one").with_json(&body);
        if state.note.as_deref() == Some("pair") {
            return Plan::calls(vec![request.clone(), request]);
        }
        Plan::call(request).after(state.pause_micros)
    }

    fn learn(
        &self,
        _: &mut Context<'_>,
        state: &mut Walk,
        answers: &[Response],
    ) -> Result<(), Problem> {
        for answer in answers {
            let body = succeeded(answer)?;
            if let Some(grown) = body["grow"].as_u64() {
                state.note = Some("x".repeat(usize::try_from(grown).unwrap_or_default()));
            }
        }
        if answers.is_empty() {
            state.note = None;
        }
        state.done += 1;
        Ok(())
    }
}

/// Books a seat for each leg, and gives them all back when it is cancelled or fails.
struct Trips;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Trip {
    /// From [`MANY_LEGS`] on each is undone by itself. Of 66 nothing can be planned or undone, and
    /// of 67 nothing can be undone.
    legs: u64,
    booked: u64,
}

pub(crate) const MANY_LEGS: u64 = 500;

impl Task for Trips {
    type State = Trip;

    fn spec(&self) -> Spec {
        Spec::new("/core/trips", "test:Trips:Trip").field(Field::new("legs", FieldType::Long))
    }

    fn plan(&self, _: &Context<'_>, trip: &Trip) -> Plan {
        assert!(trip.legs != 66, "asked to panic");
        if trip.booked == trip.legs {
            return Plan::Finish;
        }
        let seat = format!("/core/things/seat-{}", trip.booked);
        Plan::call(Request::new(Method::Put, seat).with_json(&json!({"name": "taken"})))
    }

    fn learn(
        &self,
        _: &mut Context<'_>,
        trip: &mut Trip,
        answers: &[Response],
    ) -> Result<(), Problem> {
        answers.iter().try_for_each(|answer| succeeded(answer).map(|_| ()))?;
        trip.booked += 1;
        Ok(())
    }

    fn undo(&self, _: &Context<'_>, trip: &Trip) -> Vec<Request> {
        assert!(!(66..68).contains(&trip.legs), "asked to panic once more");
        if trip.legs >= MANY_LEGS {
            let seats = (0..trip.legs).map(|number| format!("/core/things/seat-{number}"));
            return seats.map(|seat| Request::new(Method::Delete, seat)).collect();
        }
        vec![Request::new(Method::Delete, format!("/core/things/seats-to-{}", trip.booked))]
    }
}

/// Tells a ledger of each order, and whomever the order names of its changes.
struct Orders;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Order {
    amount: i64,
    to: Option<String>,
    /// This many bytes go along.
    long: usize,
}

impl Service for Orders {
    type State = Order;

    fn spec(&self) -> Spec {
        Spec::new("/core/orders", "test:Orders:Order")
    }

    fn create(&self, context: &mut Context<'_>, order: &mut Order) -> Result<(), Problem> {
        context.send("ledger", 1, &(order.amount,))
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Order,
        patch: &Patch,
    ) -> Result<Order, Problem> {
        let order: Order = context.merge(current, patch)?;
        let to = order.to.as_deref().unwrap_or("ledger");
        context.send(to, 2, &("x".repeat(order.long), order.amount))?;
        match order.amount {
            13 => Err(Problem::bad_request("no order of 13")),
            _ => Ok(order),
        }
    }

    fn delete(&self, context: &mut Context<'_>, order: &Order) -> Result<(), Problem> {
        context.send("ledger", 3, &())?;
        context.send("archive", 3, &(order.amount,))
    }
}

/// Sends one bill after the other.
struct Bills;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Bill {
    count: u64,
    sent: u64,
}

impl Task for Bills {
    type State = Bill;

    fn spec(&self) -> Spec {
        Spec::new("/core/bills", "test:Bills:Bill").field(Field::new("count", FieldType::Long))
    }

    fn plan(&self, _: &Context<'_>, bill: &Bill) -> Plan {
        if bill.sent == bill.count {
            return Plan::Finish;
        }
        match services::message("ledger", 4, &(bill.sent,)) {
            Ok(message) => Plan::Send(vec![message]),
            Err(problem) => Plan::Fail(problem.message),
        }
    }

    fn learn(
        &self,
        _: &mut Context<'_>,
        bill: &mut Bill,
        answers: &[Response],
    ) -> Result<(), Problem> {
        assert!(answers.is_empty(), "nothing was asked");
        bill.sent += 1;
        Ok(())
    }
}
