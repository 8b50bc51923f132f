//! The handlers of a kind that has some of them in a program outside: what is drafted for the
//! program, and how what it gives is judged.

use protocol::{Body, Problem};
use serde_json::{Map, Value};

use crate::Context;
use crate::handlers::{Erased, Handlers, Step, Stepped};
use crate::kinds::Kind;
use crate::merge::Patch;
use crate::outside::{Draft, Outside};
use crate::state::{check_types, stored};

pub(crate) struct ServedKind {
    /// What the node does by itself.
    own: Erased<Kind>,
    outside: Outside,
}

impl ServedKind {
    pub(crate) fn new(kind: Kind, outside: Outside) -> Self {
        Self { own: Erased(kind), outside }
    }
}

impl Handlers for ServedKind {
    fn create(
        &self,
        context: &mut Context<'_>,
        fields: Map<String, Value>,
    ) -> Result<Body, Problem> {
        self.own.create(context, fields)
    }

    fn put(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        fields: Map<String, Value>,
    ) -> Result<Body, Problem> {
        self.own.put(context, current, fields)
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &Body,
        patch: Patch,
    ) -> Result<Body, Problem> {
        self.own.patch(context, current, patch)
    }

    fn delete(&self, context: &mut Context<'_>, current: &Body) -> Result<(), Problem> {
        self.own.delete(context, current)
    }

    fn step(
        &self,
        context: &mut Context<'_>,
        body: &Body,
        step: &Step,
    ) -> Result<Stepped, Problem> {
        self.own.step(context, body, step)
    }

    fn outside(&self) -> Option<&Outside> {
        Some(&self.outside)
    }

    /// The schema does not judge it: the program may well put right what is missing.
    fn draft(&self, context: &Context<'_>, draft: Draft<'_>) -> Result<Body, Problem> {
        let fields = match draft {
            Draft::Create(mut fields) | Draft::Put(mut fields) => {
                fields.retain(|_, value| !value.is_null());
                check_types(context.spec, &fields)?;
                self.own.0.fill(&mut fields);
                fields
            }
            Draft::Patch(current, patch) => {
                let current: Map<String, Value> = stored(context.spec, current)?;
                context.merge(&current, patch)?
            }
        };
        Ok(Body::from_map(fields))
    }

    fn judge(
        &self,
        _: &Context<'_>,
        _: Option<&Body>,
        state: Map<String, Value>,
    ) -> Result<Body, Problem> {
        self.own.0.check(&state)?;
        Ok(Body::from_map(state))
    }
}
