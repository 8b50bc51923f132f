//! The order in which a leader does things.

use bytes::Bytes;
use storage::StoreError;

use crate::context::Context;
use crate::io::Output;
use crate::lead::leader::{Leader, Reach};
use crate::machine::inputs::RoleInput;
use crate::machine::peers::Role;

impl Leader<'_> {
    /// Takes one thing that happened and that a leader takes in another way than a follower.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        input: RoleInput,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match input {
            RoleInput::Read { program, bytes } => self.read(cx, program, &bytes, outputs),
            RoleInput::Between { from, message } => self.between(cx, from, message, outputs),
            RoleInput::OwnerChanged { group } => self.owner_changed(cx, group, outputs),
            RoleInput::Request { ticket, request } => {
                self.request(cx, ticket, request, outputs);
                Ok(())
            }
            RoleInput::HandOverFailed => {
                self.lead.succession.failed();
                Ok(())
            }
            RoleInput::Tick => self.tick(cx, outputs),
        }
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        program: u64,
        bytes: &Bytes,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Self { machine, lead } = self;
        machine.read_program(cx, program, bytes, outputs, &mut |machine, cx, said| {
            Leader::new(machine, lead).program_said(cx, said)
        })
    }

    fn tick(&mut self, cx: &mut Context<'_>, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        let now = cx.now.steady_micros;
        self.machine.tick(cx, outputs)?;
        self.schedule_checkpoints(cx, outputs)?;
        self.machine.adopt_incoming(cx, Role::Leader, outputs)?;
        if let Some(mut primary) = self.primary()
            && primary.reach != Reach::Nowhere
        {
            primary.fire_timers(cx);
        }
        self.retry(cx, outputs)?;
        self.forget_senders(cx, outputs);
        self.log_quietly(cx, outputs);
        self.find_successor(now, outputs);
        Ok(())
    }

    /// Lets everything come to rest after what happened.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn settle(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.machine.base.sweep(cx)?;
        self.ask_for_genesis();
        self.machine.feed(cx, outputs)?;
        if self.make_primary(cx) {
            // An adapter may have kept back what the program said too early.
            let program = self.machine.seat.connection().map_or(0, |it| it.program);
            self.read(cx, program, &Bytes::new(), outputs)?;
        }
        if !self.machine.seat.is_primary() {
            self.lead.upgrade.forget_results();
        }
        self.drive_upgrade(cx.now.steady_micros, outputs);
        self.accept(cx.now.steady_micros, outputs);
        self.start();
        self.upload_genesis(cx, outputs)?;
        if let Some(mut primary) = self.primary() {
            primary.send_all(cx, outputs)?;
        }
        self.flush(cx, outputs);
        if let Some(mut primary) = self.primary() {
            primary.control_flow();
        }
        self.machine.spill_outputs(cx)?;
        self.machine.finish(cx, outputs)
    }
}
