//! An owner whose log stands still for a moment, so that all groups of a cluster can be looked at
//! as they were at one time.
//!
//! While the log is held, what the leader proposes waits here, in order, and goes into the log when
//! the hold ends. A leader notices nothing but a delay. A hold ends with the ownership at the
//! latest.

use storage::StoreError;

use crate::io::{Io, Outputs};
use crate::machine::{LeaderInput, Machine};
use crate::refused::Refusal;
use crate::replica::Replica;

impl<M: Machine> Replica<M>
where
    M::Answer: Refusal,
{
    /// Nothing more of the leader goes into the log, until [`Replica::let_go`]. False when this
    /// replica does not serve as the owner.
    pub fn hold(&mut self) -> bool {
        let Some(leading) = self.leading_mut() else { return false };
        leading.held.get_or_insert_default();
        true
    }

    /// Whether the log is held, and all that is in it is applied here.
    pub fn stands_still(&self) -> bool {
        self.is_held() && self.consensus.applied_position() == self.consensus.last()
    }

    /// The hold ends, and what waited for that goes into the log.
    ///
    /// When there is no room for one, those behind it are refused as well: the leader may propose
    /// something else instead of it, which must not get into the log before what is older. The
    /// newest is refused first, as each may build on the one before it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn let_go(
        &mut self,
        io: &mut Io<'_, M::Around>,
        out: &mut Outputs<M>,
    ) -> Result<(), StoreError> {
        let speaker = self.serving();
        let held = self.leading_mut().and_then(|leading| leading.held.take());
        let mut waiting = held.unwrap_or_default().proposals;
        let mut refused = Vec::new();
        while let Some((proposal, data)) = waiting.pop_front() {
            if !self.propose(proposal, data, io, out)? {
                refused.push(proposal);
                refused.extend(waiting.drain(..).map(|(proposal, _)| proposal));
            }
            if self.serving() != speaker {
                return Ok(());
            }
        }
        let mut outputs = Vec::new();
        for proposal in refused.into_iter().rev() {
            outputs.extend(self.lead_step(io, LeaderInput::Refused { proposal })?);
        }
        self.carry_out(io, outputs, out)
    }
}
