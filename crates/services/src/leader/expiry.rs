//! Documents that have expired go.

use documents::{Command, Retention, Write};
use protocol::{Action, Body, Document, Moment};
use storage::StoreError;

use super::context::StepContext;
use super::proposals::Proposed;
use super::state::PartitionLeader;

/// How many expired documents go with one entry of the log.
const EXPIRE_LINKS_MAX: u32 = 500;
/// How often the leader looks for expired documents.
const EXPIRE_EVERY_MICROS: u64 = 1_000_000;

impl PartitionLeader {
    pub(super) fn tick_expiry(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        if cx.now().steady_micros >= self.clock.expire_at_micros {
            self.clock.expire_at_micros = cx.now().steady_micros + EXPIRE_EVERY_MICROS;
            self.expire(cx)?;
        }
        Ok(())
    }

    /// Proposes that expired documents go, when there are any.
    fn expire(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tasks_expired(cx)?;
        if !self.proposals.is_expiring()
            && cx.partition().expiration_due(cx.reader(), cx.now().wall)?
        {
            self.propose_expiration(cx);
        }
        Ok(())
    }

    /// Proposes that an expired document goes, whatever else has expired. With a long history it is
    /// only the first to go then.
    pub(super) fn propose_purge(&mut self, cx: &mut StepContext<'_, '_>, expired: &Document) {
        let document = Document {
            link: expired.link.clone(),
            version: expired.version + 1,
            epoch: self.duty.epoch,
            kind: expired.kind.clone(),
            action: Action::Delete,
            updated: cx.now().wall,
            expires: Moment(0),
            owner: cx.handlers().node_id.to_string(),
            author: None,
            body: Body::empty(),
        };
        let write = Write {
            document,
            key: None,
            status: 200,
            retention: Retention { limit: 1, floor: 1 },
            source: None,
            task: None,
            purge: true,
            response: None,
            messages: Vec::new(),
            noted: None,
        };
        self.propose(cx, Proposed::Expire, &Command::Write(write));
    }

    pub(super) fn propose_expiration(&mut self, cx: &mut StepContext<'_, '_>) {
        let command = Command::Expire { at: cx.now().wall, links_max: EXPIRE_LINKS_MAX };
        self.propose(cx, Proposed::Expire, &command);
    }
}
