//! What every replica does with an input, and what only a follower does with it.

use bytes::Bytes;
use protocol::GroupId;
use protocol::immortal::{Fate, ToProgram};
use storage::StoreError;

use crate::context::Context;
use crate::io::{Input, Output, Request, Response};
use crate::machine::instance::Instance;
use crate::machine::peers::Role;
use crate::machine::program_input::ForLeader;
use crate::seat::states::Seat;
use crate::wire::Between;

/// Inputs that a leader takes in another way than a follower.
#[derive(Debug)]
pub(crate) enum RoleInput {
    Read { program: u64, bytes: Bytes },
    Between { from: GroupId, message: Between },
    OwnerChanged { group: GroupId },
    Request { ticket: u64, request: Request },
    HandOverFailed,
    Tick,
}

impl Instance {
    /// Takes one input. The result is what depends on the role.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        role: Role,
        input: Input,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<RoleInput>, StoreError> {
        match input {
            Input::Settings(settings) => self.set(settings, outputs),
            Input::Written { program, bytes } => {
                if let Some(connection) = self.seat.connection_of(program) {
                    connection.written(bytes);
                }
            }
            Input::Detached { program } => self.detached(program, outputs),
            Input::Peer { from, message } => self.peer(cx, role, from, message, outputs)?,
            Input::PeerReached { replica } => self.tell_status(replica, outputs),
            Input::PeerLost { replica } => self.standbys.lost(replica),
            Input::Read { program, bytes } => return Ok(Some(RoleInput::Read { program, bytes })),
            Input::Between { from, message } => {
                return Ok(Some(RoleInput::Between { from, message }));
            }
            Input::OwnerChanged { group } => return Ok(Some(RoleInput::OwnerChanged { group })),
            Input::Request { ticket, request } => {
                return Ok(Some(RoleInput::Request { ticket, request }));
            }
            Input::HandOverFailed => return Ok(Some(RoleInput::HandOverFailed)),
            Input::Tick => return Ok(Some(RoleInput::Tick)),
        }
        Ok(None)
    }

    /// What time brings to every replica.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn tick(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        self.standbys.forget_old(now);
        let every = self.ping_micros();
        if let Some(connection) = self.seat.connection_mut() {
            connection.ping(now, every);
        }
        self.watch_checkpoint(cx, outputs)
    }

    pub(crate) fn ping_micros(&self) -> u64 {
        self.settings.program_timeout_micros / 4
    }

    /// What a follower does with what depends on the role.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn take_as_follower(
        &mut self,
        cx: &mut Context<'_>,
        input: RoleInput,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match input {
            RoleInput::Read { program, bytes } => {
                self.read_program(cx, program, &bytes, outputs, &mut |follower, _, said| {
                    follower.pass_over(&said);
                    Ok(())
                })
            }
            RoleInput::Request { ticket, .. } => {
                let response = Response::NotOwner;
                outputs.push(Output::Respond { ticket, response });
                Ok(())
            }
            RoleInput::Tick => {
                self.tick(cx, outputs)?;
                self.ask_for_wanted_checkpoint(cx, outputs)?;
                self.adopt_incoming(cx, Role::Follower, outputs)
            }
            // These inputs are for the owner. When this replica was the owner, it has already said
            // what became of them.
            RoleInput::Between { .. }
            | RoleInput::OwnerChanged { .. }
            | RoleInput::HandOverFailed => Ok(()),
        }
    }

    /// Passes over what the program of a standby says, since the copy beside the owner says the
    /// same. An impulse of a standby is lost, and the program is told so.
    fn pass_over(&mut self, said: &ForLeader) {
        match said {
            ForLeader::Sent { .. } | ForLeader::Result { .. } => {}
            ForLeader::Impulse { number, .. } => {
                if let Some(connection) = self.seat.connection_mut() {
                    let fate = ToProgram::Fate { number: *number, fate: Fate::Lost, input: 0 };
                    connection.tell(&fate);
                }
            }
            ForLeader::GenesisBegins
            | ForLeader::GenesisChunk(_)
            | ForLeader::GenesisEnds { .. } => {
                unreachable!("Invariant: only a leader's program is asked for the first state")
            }
        }
    }

    /// Lets everything come to rest after what happened to a follower.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn settle_as_follower(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        assert!(
            !self.seat.is_primary() && !matches!(self.seat, Seat::Genesis(_)),
            "Invariant: a follower's program is neither the primary nor gives the first state"
        );
        self.base.sweep(cx)?;
        self.feed(cx, outputs)?;
        self.spill_outputs(cx)?;
        self.finish(cx, outputs)
    }

    /// When a tick has something to do on every replica. 0: at the next one.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        let incoming = self.transfers.incoming.as_ref();
        let adopts = incoming.is_some_and(|incoming| {
            incoming.is_complete() && incoming.position <= self.history.position
        });
        let ping = self.seat.connection().and_then(|it| it.next_ping(self.ping_micros()));
        let program = self.seat.running().and_then(|running| running.next_wake());
        let at_once = adopts.then_some(0);
        let all = [at_once, ping, program, self.standbys.next_wake(), self.transfers.next_wake()];
        all.into_iter().flatten().min()
    }

    /// The same on a follower: a checkpoint that is wanted of its program is asked for as soon as
    /// the program is at a place where it can be taken.
    pub(crate) fn wakes_as_follower_at(&self) -> Option<u64> {
        let asks = self.checkpoint.is_wanted && self.seat.running().is_some();
        [asks.then_some(0), self.wakes_at()].into_iter().flatten().min()
    }
}
