//! Whether there is room for what goes to a destination. The program of the primary is told when
//! there is none, and again when there is. That is advice for whatever brings impulses in, so that
//! it can be slowed down.

use protocol::immortal::ToProgram;
use protocol::instance_write::is_link;

use crate::lead::leader::Primary;
use crate::lead::log_queue::PENDING_BYTES_MAX;
use crate::lead::outbound::IMPULSE_BYTES_MAX;

/// How many destinations without room are remembered. The program is told nothing of further ones.
const SHORT_MAX: usize = 1_000;

impl Primary<'_> {
    /// How many bytes of impulses and messages there is room for on the way to a destination.
    fn room_for(&self, destination: &str) -> usize {
        if destination == self.identity.name {
            return PENDING_BYTES_MAX.saturating_sub(self.lead.queue.bytes());
        }
        self.lead.outbound.impulses.room(destination).min(self.running.output.room())
    }

    /// Something for that destination found no room.
    pub(crate) fn is_short(&mut self, destination: &str) {
        if is_link(destination) {
            // No impulse goes there.
            return;
        }
        let short = &mut self.lead.short;
        if short.len() < SHORT_MAX && short.insert(destination.to_owned()) {
            self.tell_credit(destination, 0);
        }
    }

    /// Tells the program of destinations that have no room, and of those that have room again. Room
    /// counts only when half of it is free, so that not every message causes a frame.
    pub(crate) fn control_flow(&mut self) {
        if self.running.output.is_full() {
            let kept: Vec<String> = self.running.output.kept_destinations().cloned().collect();
            kept.iter().for_each(|destination| self.is_short(destination));
        }
        let own = &self.identity.name;
        let enough = |destination: &str| match destination == own {
            true => PENDING_BYTES_MAX / 2,
            false => IMPULSE_BYTES_MAX / 2,
        };
        let rooms = self.lead.short.iter().map(|name| (name.clone(), self.room_for(name)));
        let again: Vec<(String, usize)> =
            rooms.filter(|(destination, room)| *room >= enough(destination)).collect();
        for (destination, room) in again {
            self.lead.short.remove(&destination);
            self.tell_credit(&destination, room as u64);
        }
    }

    /// The empty name stands for the instance itself.
    fn tell_credit(&mut self, destination: &str, bytes: u64) {
        let is_own = destination == self.identity.name;
        let destination = if is_own { String::new() } else { destination.to_owned() };
        self.running.connection.tell(&ToProgram::Credit { destination, bytes });
    }
}
