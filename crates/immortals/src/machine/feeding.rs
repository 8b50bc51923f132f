//! Programs attach, and are fed: first the state of the base, then what was logged, then what is
//! logged now.

use protocol::immortal::Hello;
use storage::StoreError;

use crate::adapter::Adapter;
use crate::context::Context;
use crate::describe::describe;
use crate::io::{Output, Settings};
use crate::machine::instance::Instance;
use crate::seat::connection::Connection;
use crate::seat::running::Fed;
use crate::seat::states::{Loaded, Seat};

/// The code and the text with which a program is turned away.
struct TurnedAway {
    code: &'static str,
    text: String,
}

impl Instance {
    /// A program wants to attach. If it may not, it is told why. `gives_up_upgrade`: the owner's
    /// entry that gives an upgrade up is on its way into the log, and what a program sends
    /// meanwhile would not fit.
    pub(crate) fn seat_program(
        &mut self,
        cx: &mut Context<'_>,
        program: u64,
        adapter: Adapter,
        hello: Hello,
        gives_up_upgrade: bool,
        outputs: &mut Vec<Output>,
    ) {
        let mut connection = Connection::new(program, adapter, hello, cx.now.steady_micros);
        self.let_the_last_copy_in(outputs);
        if let Some(TurnedAway { code, text }) = self.why_not(&connection.hello, gives_up_upgrade) {
            self.note_if_it_cannot_be_told(&connection, "turned away", &text, outputs);
            if self.seat.is_vacant() {
                self.health.trouble.let_go = Some(text.clone());
            }
            return connection.close(code, &text, outputs);
        }
        let me = self.identity.me;
        let replica = self.settings.replicas.iter().position(|id| *id == me).unwrap_or(0);
        let version = self.base.record.input_state.program_version;
        connection.welcome(&self.identity.node, replica as u64, version);
        self.seat = Seat::Waiting(connection);
    }

    /// A program that has diverged is kept away for the sake of the others. Without others the
    /// instance would be gone with it, so it may come again: its state is made from the log alone.
    fn let_the_last_copy_in(&mut self, outputs: &mut Vec<Output>) {
        let is_fenced = self.health.trouble.diverged.is_some();
        let mut others = self.standbys.statuses();
        if !is_fenced || others.any(|(_, status)| status.attached && status.is_good()) {
            return;
        }
        self.health.overlook();
        outputs.push(Output::Note(format!(
            "the program of '{}' on this node has diverged, and there is no other copy: it is let \
             in again, and what it said before counts as it is recorded",
            self.identity.name
        )));
    }

    fn why_not(&self, hello: &Hello, gives_up_upgrade: bool) -> Option<TurnedAway> {
        let name = &self.identity.name;
        let turned_away = |code, text| Some(TurnedAway { code, text });
        if !self.seat.is_vacant() {
            let text = format!(
                "another program is attached to this node's replica of '{name}': end it first"
            );
            return turned_away("ATTACHED", text);
        }
        if gives_up_upgrade {
            let text = format!("an upgrade of '{name}' is being given up: connect again");
            return turned_away("RELOAD", text);
        }
        if let Some(held) = &self.health.trouble.held {
            let text = format!(
                "programs failed {} times on input {} of '{name}' ({}): mend the program, then \
                 'amrita immortal release {name}', or take the input out with 'amrita immortal \
                 skip {name} {}'",
                held.tries, held.input, held.message, held.input
            );
            return turned_away("HELD", text);
        }
        if self.health.trouble.diverged.is_some() {
            let text = format!(
                "this replica of '{name}' has diverged; see GET /core/immortals/{name}, then \
                 'amrita immortal release {name}'"
            );
            return turned_away("DIVERGED", text);
        }
        self.why_not_that_version(hello).and_then(|text| turned_away("PROGRAM_VERSION", text))
    }

    fn why_not_that_version(&self, hello: &Hello) -> Option<String> {
        let (name, state) = (&self.identity.name, &self.history.input_state);
        let (version, upgrade_to) = (hello.program_version, hello.upgrade_to);
        if state.genesis.is_none() {
            let wants = self.settings.first_version;
            return (version != wants)
                .then(|| format!("'{name}' begins with program version {wants}, not {version}"));
        }
        let (at_base, now) = (self.base.record.input_state.program_version, state.program_version);
        // While an upgrade is open, programs of both outcomes are let in.
        let is_open = state.upgrading.is_some_and(|upgrading| upgrading.from == at_base);
        let fits = version == at_base && (now == at_base || is_open || upgrade_to == now);
        (!fits).then(|| {
            format!(
                "'{name}' is at program version {now} (its last checkpoint at {at_base}), and this \
                 program has version {version}, upgrade to {upgrade_to}"
            )
        })
    }

    /// A replica that was taken away keeps no program: the program would be in the way of the next
    /// one if the replica comes back.
    pub(crate) fn set(&mut self, settings: Settings, outputs: &mut Vec<Output>) {
        self.settings = settings;
        if !self.settings.replicas.contains(&self.identity.me) {
            let name = &self.identity.name;
            let text = format!("the replica of '{name}' on this node was taken away");
            self.close_seat("NOT_HERE", &text, outputs);
        }
    }

    /// Feeds the program as far as possible.
    ///
    /// # Errors
    /// When the store fails, or the log holds what cannot be read.
    pub(crate) fn feed(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.name_the_message(cx);
        if self.settings.paused {
            return Ok(());
        }
        self.seat.load(cx, &self.base, self.limits)?;
        let care = self.health.needs_care();
        if self.seat.go_on_loading(cx, &self.history, care)? == Loaded::Outdated {
            let text = "a later checkpoint has taken the place of the one that was being loaded";
            self.close_seat("RELOAD", text, outputs);
            return Ok(());
        }
        let Seat::Running(running) = &mut self.seat else { return Ok(()) };
        let is_overlooked = self.health.trouble.overlooked.is_some();
        running.checks.are_off = is_overlooked && !running.is_live();
        let fed = running.feed(cx, &self.history, &self.identity);
        if let Some(why) = running.connection.adapter.why_close() {
            self.close_seat("RELOAD", &why, outputs);
            return Ok(());
        }
        match fed {
            Ok(Fed::Well) => Ok(()),
            Ok(Fed::Differs(mark)) => {
                self.has_diverged(&mark, outputs);
                Ok(())
            }
            Ok(Fed::Outdated(version)) => {
                let text = format!("'{}' is at program version {version} now", self.identity.name);
                self.close_seat("UPGRADED", &text, outputs);
                Ok(())
            }
            Err(why) => Err(self.bad_entry(self.history.position, &why)),
        }
    }

    /// Looks up the message at which programs fail, for people.
    fn name_the_message(&mut self, cx: &Context<'_>) {
        let unnamed = self.health.trouble.held.as_ref().filter(|held| held.message.is_empty());
        let Some(input) = unnamed.map(|held| held.input) else { return };
        let found = self.logged_message(cx, input).map(|(name, message)| {
            let from = if name.is_empty() { "the node".to_owned() } else { format!("'{name}'") };
            format!("{} from {from}", describe(&message))
        });
        if let Some(held) = &mut self.health.trouble.held {
            held.message =
                found.unwrap_or_else(|| "a message that is no longer in the log".to_owned());
        }
    }

    /// Moves what is too much for memory to the store, and removes from the store what nothing
    /// refers to.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn spill_outputs(&mut self, cx: &mut Context<'_>) -> Result<(), StoreError> {
        let mut released = Vec::new();
        if let Seat::Running(running) = &mut self.seat {
            released = running.output.take_released();
            let blocks = running.output.spill();
            self.spill.put(cx.store, &cx.space, blocks)?;
        }
        // While a checkpoint comes in, blocks that came for an earlier one are kept, since this
        // checkpoint may need them, too.
        if self.transfers.incoming.is_none() {
            released.extend(self.spill.take_suspects());
        }
        let Self { seat, base, transfers, spill, .. } = self;
        spill.remove_garbage(cx.store, &cx.space, released, |id| {
            base.record.refers_to(id) || seat.refers_to(id) || transfers.refers_to(id)
        })
    }

    /// The last part of every step: writes what is to be written, removes what is to be removed,
    /// and tells the others.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn finish(
        &mut self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.seat.flush(outputs);
        self.base.remove_discarded(cx)?;
        let (now, me) = (cx.now.steady_micros, self.identity.me);
        self.standbys.tell(self.status(), now, self.settings.others(me), outputs);
        Ok(())
    }
}
