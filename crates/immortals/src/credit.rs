//! Whether there is room for what goes to a destination. The program of the primary is told when there is
//! none, and again when there is: advice for what brings impulses in, so that it can be slowed down.

use protocol::immortal::ToProgram;

use crate::instance::Instance;
use crate::office::{IMPULSE_BYTES_MAX, PENDING_BYTES_MAX};

/// So many bytes of impulses may wait for all destinations together; more are refused.
pub(crate) const IMPULSE_BYTES_ALL_MAX: usize = 64 << 20;

/// So many destinations are remembered for which there is no room. Nothing is told of more of them.
const SHORT_MAX: usize = 1_000;

impl Instance {
    /// How many bytes of impulses and sends there is room for on the way to a destination.
    fn room_for(&self, destination: &str) -> usize {
        let Some(office) = &self.office else { return 0 };
        if destination == self.name {
            return PENDING_BYTES_MAX.saturating_sub(office.pending_bytes);
        }
        let impulses = office.impulses.get(destination).map_or(0, |(stream, _)| stream.kept_bytes);
        let of_sends = self.session.as_ref().map_or(0, |session| session.voice.room());
        let rooms = [
            IMPULSE_BYTES_MAX.saturating_sub(impulses),
            IMPULSE_BYTES_ALL_MAX.saturating_sub(office.impulse_bytes),
            of_sends,
        ];
        rooms.into_iter().min().unwrap_or(0)
    }

    /// Something for that destination found no room.
    pub(crate) fn is_short(&mut self, destination: &str) {
        let (Some(office), Some(session)) = (&mut self.office, &mut self.session) else { return };
        if office.short.len() >= SHORT_MAX || !session.is_primary {
            return;
        }
        if office.short.insert(destination.to_owned()) {
            let destination = shown(&self.name, destination);
            session.tell(&ToProgram::Credit { destination, bytes: 0 });
        }
    }

    /// Looks whether there is room again. Half of it, so that not every message is told of.
    pub(crate) fn mind_credit(&mut self) {
        if self.is_full() {
            for destination in self.waits_for() {
                self.is_short(&destination);
            }
        }
        let Some(office) = &self.office else { return };
        let enough = |destination: &str| match destination == self.name {
            true => PENDING_BYTES_MAX / 2,
            false => IMPULSE_BYTES_MAX / 2,
        };
        let again: Vec<(String, usize)> = office
            .short
            .iter()
            .map(|destination| (destination.clone(), self.room_for(destination)))
            .filter(|(destination, room)| *room >= enough(destination))
            .collect();
        let (Some(office), Some(session)) = (&mut self.office, &mut self.session) else { return };
        for (destination, room) in again {
            office.short.remove(&destination);
            let destination = shown(&self.name, &destination);
            session.tell(&ToProgram::Credit { destination, bytes: room as u64 });
        }
    }

    /// So much is kept for destinations that are away that the program is told no more inputs.
    fn is_full(&self) -> bool {
        let session = self.session.as_ref().filter(|session| session.is_primary);
        session.is_some_and(|session| session.voice.is_full())
    }

    /// The destinations because of which the program is told no more inputs. None: it is.
    pub fn waits_for(&self) -> Vec<String> {
        let Some(session) = self.session.as_ref().filter(|_| self.is_full()) else {
            return Vec::new();
        };
        let kept = session
            .voice
            .streams
            .iter()
            .filter(|(name, stream)| stream.kept_bytes > 0 && **name != self.name);
        kept.map(|(name, _)| name.clone()).collect()
    }
}

/// Its own name is the empty one.
fn shown(own: &str, destination: &str) -> String {
    if destination == own { String::new() } else { destination.to_owned() }
}
