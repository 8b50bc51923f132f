//! Requests for a kind of documents that this node does not know. Whoever passed them on knows it,
//! so it was defined just now and the definition is on its way, or it was removed just now.

use std::sync::Arc;

use group::Output;
use protocol::{Code, Outcome, Problem, Request, links};
use storage::StoreError;

use super::{Known, PartitionLeader, StepContext};
use crate::kinds::may_be_defined;

/// How long a request waits for the definition, in microseconds.
const WAIT_MICROS: u64 = 2_000_000;

pub(super) struct Waiting {
    until_micros: u64,
    ticket: u64,
    request: Arc<Request>,
    known: Known,
}

impl PartitionLeader {
    /// There is no service here for a request.
    pub(super) fn not_known(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: Arc<Request>,
        known: Known,
    ) {
        let (link, _) = links::split_utility(&request.path);
        let could_be = |link: &str| links::split(link).is_some_and(|(at, _)| may_be_defined(at));
        if !could_be(link) && !may_be_defined(link) {
            let problem = cx.handlers().catalogue.unknown_service(link);
            let link = link.to_owned();
            return self.refuse(cx, ticket, &link, problem);
        }
        let until_micros = cx.now().steady_micros + WAIT_MICROS;
        self.undefined.push(Waiting { until_micros, ticket, request, known });
    }

    /// Looks whether the definitions have come.
    pub(super) fn look_for_definitions(
        &mut self,
        cx: &mut StepContext<'_, '_>,
    ) -> Result<(), StoreError> {
        for waiting in std::mem::take(&mut self.undefined) {
            let Waiting { until_micros, ticket, request, known } = waiting;
            let (link, _) = links::split_utility(&request.path);
            let catalogue = &cx.handlers().catalogue;
            if catalogue.spec_of(link).is_some() || catalogue.spec(link).is_some() {
                self.rest(cx, ticket, request, known)?;
            } else if cx.now().steady_micros < until_micros {
                self.undefined.push(Waiting { until_micros, ticket, request, known });
            } else {
                let text = format!(
                    "the owner of {link} does not know its factory: it was defined or removed just \
                     now; try again"
                );
                let mut problem = Problem::new(Code::NoOwner, text);
                problem.outcome = request.method.is_write().then_some(Outcome::NotApplied);
                cx.put(Output::Refuse { ticket, problem });
            }
        }
        Ok(())
    }
}
