//! What is looked at again and again: whether the program lives, who should own the instance, how
//! all replicas are.

use protocol::ReplicaId;
use protocol::immortal::ToProgram;
use storage::StoreError;

use crate::instance::Instance;
use crate::io::{Context, Output, Peer, ReplicaStatus, Settings};
use crate::office::Lead;
use crate::session::Phase;

/// A status older than this counts for nothing, in microseconds.
const STATUS_MICROS_MAX: u64 = 1_500_000;

/// Replicas tell one another how they are at least so often, in microseconds.
const STATUS_MICROS: u64 = 200_000;

/// A hand-over that came to nothing is tried again after so long, in microseconds.
const HAND_OVER_MICROS: u64 = 500_000;

/// What was said to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    pub to: String,
    /// How many messages.
    pub sent: u64,
    pub confirmed: u64,
    /// What is not confirmed, in bytes, and how much of that is not in memory.
    pub kept_bytes: usize,
    pub on_disk_bytes: usize,
}

impl Instance {
    pub(crate) fn tick(
        &mut self,
        ground: &mut Context<'_>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let now = ground.now.steady_micros;
        self.known.retain(|_, known| now.saturating_sub(known.at) < STATUS_MICROS_MAX);
        self.ping(now);
        self.mind_checkpoint(ground, outputs)?;
        self.adopt_incoming(ground, outputs)?;
        if self.office.is_some() {
            self.fire_timers(ground);
            self.mind_lines(ground, outputs)?;
            self.mind_senders(ground, outputs);
            self.mind_quiet(ground, outputs);
            self.mind_owner(ground.now.steady_micros, outputs);
        }
        Ok(())
    }

    fn ping(&mut self, now: u64) {
        let every = self.settings.program_timeout_micros / 4;
        let Some(session) = &mut self.session else { return };
        if session.door.confirms() && now.saturating_sub(session.pinged) >= every {
            session.pinged = now;
            session.tell(&ToProgram::Ping { number: now });
        }
    }

    /// Whether the program on that replica could become the primary now.
    pub fn is_ready(&self, replica: ReplicaId) -> bool {
        self.known.get(&replica).is_some_and(|known| {
            let status = &known.status;
            status.attached
                && status.caught_up
                && status.held.is_none()
                && status.diverged.is_none()
        })
    }

    /// The other replicas whose programs are ready, the one that has come furthest first.
    pub(crate) fn standbys(&self) -> impl Iterator<Item = ReplicaId> {
        let mut ready: Vec<ReplicaId> = self
            .settings
            .replicas
            .iter()
            .copied()
            .filter(|id| *id != self.me && self.is_ready(*id))
            .collect();
        ready.sort_by_key(|id| std::cmp::Reverse(self.known[id].status.done));
        ready.into_iter()
    }

    /// Whether a program is attached here that may be the primary.
    pub fn is_served(&self) -> bool {
        self.session.is_some() && self.held.is_none() && self.diverged.is_none()
    }

    /// The ownership goes where a program is ready, if there is none here or it gives no sign of life.
    fn mind_owner(&mut self, now: u64, outputs: &mut Vec<Output>) {
        let Some(office) = &self.office else { return };
        if now.saturating_sub(office.handing_since) < HAND_OVER_MICROS {
            return;
        }
        let silent = self.session.as_ref().is_some_and(|session| {
            session.door.confirms()
                && now.saturating_sub(session.heard) > self.settings.program_timeout_micros
        });
        // One that is not out of replay lets one that is go first.
        let is_live = self.session.as_ref().is_some_and(|s| s.phase == Phase::Live);
        let is_served = self.is_served() && (is_live || self.ledger.genesis.is_none());
        let heir = if !is_served || silent {
            // Nobody has begun yet: any attached program will do.
            let waiting = |id: &ReplicaId| {
                self.ledger.genesis.is_none()
                    && self.known.get(id).is_some_and(|known| known.status.attached)
            };
            let others = self.settings.replicas.iter().copied().filter(|id| *id != self.me);
            self.standbys().next().or_else(|| others.clone().find(waiting))
        } else {
            let wanted = office.moving.filter(|(to, until)| now < *until && self.is_ready(*to));
            wanted.map(|(to, _)| to).or_else(|| self.heir_of_upgrade())
        };
        let Some(heir) = heir else { return };
        if silent {
            outputs.push(Output::Note(format!(
                "the program of '{}' gives no sign of life: another one takes over",
                self.name
            )));
            self.blame_for_silence(outputs);
            self.close_session("RELOAD", "no sign of life from this program", outputs);
        }
        if let Some(office) = &mut self.office {
            office.handing_since = now;
        }
        outputs.push(Output::HandOver { to: heir });
    }

    /// A program that hangs on an input each time is held like one that crashes on it.
    fn blame_for_silence(&mut self, outputs: &mut Vec<Output>) {
        let Some(session) = &self.session else { return };
        let done = session.voice.done;
        if session.told > done {
            self.program_failed(done + 1, "it gave no sign of life".into(), outputs);
        }
    }

    /// How this replica is.
    pub fn status(&self) -> ReplicaStatus {
        let session = self.session.as_ref();
        ReplicaStatus {
            attached: session.is_some(),
            caught_up: session
                .is_some_and(|s| s.has_caught_up() && self.ledger.inputs - s.done_input() < 1_000),
            done: session.map_or(0, crate::session::Session::done_input),
            inputs: self.ledger.inputs,
            program_version: self.version_in_use(),
            upgrade_to: session.map_or(0, |s| s.hello.upgrade_to),
            base: self.base.position,
            base_input: self.base.ledger.inputs,
            checkpoint_bytes: self.base.blob.map_or(0, |blob| blob.bytes),
            log_bytes: self.log_bytes,
            held: self.held.clone(),
            diverged: self.diverged.clone(),
        }
    }

    /// Of the programs: of one that is being upgraded the former, until one has made it. Before any has
    /// begun it is the one that the first must have.
    pub fn version_in_use(&self) -> u64 {
        if self.ledger.genesis.is_none() && self.ledger.inputs == 0 {
            return self.settings.first_version;
        }
        self.ledger.upgrading.map_or(self.ledger.program_version, |upgrading| upgrading.from)
    }

    /// Why the owner takes no inputs, and what to do.
    pub(crate) fn why_not_accepting(&self) -> String {
        let others = self.others().map(|(_, status)| status.held.as_ref());
        let held = others.chain([self.held.as_ref()]).flatten().next();
        held.map_or_else(
            || "no program is attached to any replica: start one".to_owned(),
            |held| {
                let (name, input) = (&self.name, held.input);
                format!(
                    "it is held at input {input}, on which its programs fail: mend them and say \
                     'amrita immortal release {name}', or take the input out with 'amrita immortal \
                     skip {name} {input}'"
                )
            },
        )
    }

    /// The last wish for an upgrade came to nothing.
    pub fn has_given_up_the_upgrade(&self) -> bool {
        let Settings { upgrade_version, upgrade_wish, .. } = self.settings;
        upgrade_version.is_some() && upgrade_wish > 0 && upgrade_wish <= self.ledger.given_up
    }

    /// How the other replicas are, as far as they were heard of lately.
    pub fn others(&self) -> impl Iterator<Item = (ReplicaId, &ReplicaStatus)> {
        self.known.iter().map(|(id, known)| (*id, &known.status))
    }

    /// Whether the program here is the primary.
    pub fn is_primary(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_primary)
    }

    /// When it is next to be stepped with [`crate::Input::Tick`], in steady microseconds: a time that
    /// has passed means at the next tick, None that nothing waits for time.
    pub fn next_wake(&self, _lead: Option<&Lead>) -> Option<u64> {
        Some(0)
    }

    /// How it stands with each destination.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        let Some(session) = &self.session else { return Vec::new() };
        let streams = session.voice.streams.iter().map(|(name, stream)| DestinationStatus {
            to: name.clone(),
            sent: stream.count,
            confirmed: stream.confirmed,
            kept_bytes: stream.kept_bytes,
            on_disk_bytes: stream.shelved_bytes,
        });
        streams.collect()
    }

    /// How many bytes are kept in memory for all destinations.
    pub fn memory(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.voice.memory())
    }

    /// How far each sender has come in the log.
    pub fn senders(&self) -> impl Iterator<Item = (protocol::GroupId, u64)> {
        self.ledger.received.iter().map(|(group, last)| (*group, *last))
    }

    /// So that it knows at once who could become the primary, should it be the owner soon.
    pub(crate) fn tell_status(&self, to: ReplicaId, outputs: &mut Vec<Output>) {
        if self.settings.replicas.contains(&to) {
            outputs.push(Output::Peer { to, message: Peer::Status(self.status()) });
        }
    }

    pub(crate) fn mind_status(&mut self, now: u64, outputs: &mut Vec<Output>) {
        let status = self.status();
        let (told, at) = &self.told_status;
        let changed = (status.attached, status.caught_up, &status.held, &status.diverged)
            != (told.attached, told.caught_up, &told.held, &told.diverged);
        if !changed && now.saturating_sub(*at) < STATUS_MICROS {
            return;
        }
        self.told_status = (status.clone(), now);
        for to in self.settings.replicas.clone() {
            if to != self.me {
                outputs.push(Output::Peer { to, message: Peer::Status(status.clone()) });
            }
        }
    }
}
