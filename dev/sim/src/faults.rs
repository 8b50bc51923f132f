//! What goes wrong, and when. A fault is drawn, aimed and begun here; what follows from it is the
//! business of the machine, the disk or the network.
//!
//! Anything may go wrong at any time but for one thing: a majority of the replicas keeps its disk.
//! No system that stores data can live without that.

use std::collections::{BTreeMap, BTreeSet};

use node::Input;
use protocol::{GroupId, Method, Request, Response};
use serde_json::json;

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::checkers::Broken;
use crate::machine::Machine;
use crate::members::Members;
use crate::network::Process;
use crate::settings::Fault;
use crate::world::{Event, PROBE, Relief, World};
use random::Random;

/// The chance, in a thousand, that an armed process dies before its sync.
const DIES_BEFORE_SYNC: u64 = 4;

/// What nodes say of the cluster counts only so long after a disk was lost: before, they may not
/// have noticed.
const WHOLE_AFTER: Time = 1_500 * MILLISECOND;

/// And it must have been so for this long.
const WHOLE_FOR: Time = 600 * MILLISECOND;

/// The attempt of requests whose answer nobody waits for.
pub(crate) const NOBODY: u64 = 0;

/// State of the faults.
pub(crate) struct Faults {
    rng: Random,
    /// Faults happen at all.
    bad: bool,
    /// The process of that machine dies when it has carried out some of its next outputs.
    halfway: Option<usize>,
    told_to_stop: Vec<Process>,
    /// Disks that were lost and may not be made good yet.
    disks_lost: usize,
    lost_at: Time,
    /// Since when each machine has said that the cluster is whole.
    pub(crate) whole_since: BTreeMap<usize, Time>,
    pub(crate) joined: bool,
    before_sync: bool,
    /// These stay down until the faults are over.
    down: BTreeSet<usize>,
    hours_have_gone: bool,
    pub(crate) members: Members,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Random::new(seed, "faults"),
            bad: true,
            halfway: None,
            told_to_stop: Vec::new(),
            disks_lost: 0,
            lost_at: 0,
            whole_since: BTreeMap::new(),
            joined: false,
            before_sync: true,
            down: BTreeSet::new(),
            hours_have_gone: false,
            members: Members::new(seed),
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        self.bad
    }

    /// No more faults from now on.
    pub(crate) fn clear(&mut self) {
        self.bad = false;
        self.halfway = None;
        self.before_sync = false;
        self.down.clear();
    }

    /// Whether the process dies now, when it has carried out `done` of `count` outputs.
    pub(crate) fn dies_halfway(&mut self, machine: usize, done: usize, count: usize) -> bool {
        if self.halfway != Some(machine) || count < 3 {
            return false;
        }
        let dies = done > 0 && self.rng.chance(300);
        if dies {
            self.halfway = None;
        }
        dies
    }

    pub(crate) fn dies_before_sync(&mut self) -> bool {
        self.before_sync && self.rng.chance(DIES_BEFORE_SYNC)
    }

    pub(crate) fn stays_down(&self, machine: usize) -> bool {
        self.down.contains(&machine)
    }

    pub(crate) fn was_told_to_stop(&self, process: Process) -> bool {
        self.told_to_stop.contains(&process)
    }
}

impl World {
    /// One more fault, perhaps; and a date for the next.
    pub(crate) fn fault(&mut self) -> Result<(), Broken> {
        if !self.faults.bad || self.settings.faults.is_empty() {
            return Ok(());
        }
        let faults: Vec<Fault> = self.settings.faults.iter().copied().collect();
        let fault = *self.faults.rng.pick(&faults);
        let target = self.faults.rng.index(self.machines.len());
        let pause = self.faults.rng.between(10 * MILLISECOND, self.settings.fault_pause);
        self.agenda.after(pause, Event::Fault);
        let now = self.agenda.now();
        self.trace.event(now, "", format_args!("fault: {} at n{}", fault.name(), target + 1));
        self.strike(fault, target)
    }

    fn strike(&mut self, fault: Fault, target: usize) -> Result<(), Broken> {
        let forgets = matches!(fault, Fault::Kill | Fault::Power)
            && self.settings.setup.is_some_and(|setup| setup.memory);
        match fault {
            // It has nothing that could be lost.
            _ if self.machines[target].has_no_list && Fault::OF_DISKS_LOST.contains(&fault) => {}
            // A process that ends forgets what a disk would have kept.
            Fault::Kill | Fault::Power if forgets && !self.may_lose_a_disk() => {}
            Fault::Kill => self.kill(target, false),
            Fault::KillTwo => {
                let other = (target + 1) % self.machines.len();
                self.kill(target, false);
                self.kill(other, self.machines.len() > 1 && target.is_multiple_of(2));
            }
            Fault::Power => self.kill(target, true),
            Fault::PowerAll => {
                if self.faults.rng.chance(300) {
                    for machine in 0..self.machines.len() {
                        self.kill(machine, true);
                    }
                }
            }
            Fault::KillHalfway => self.arm(target),
            Fault::Stall => {
                let until = self.faults.rng.between(50, 3_000) * MILLISECOND;
                self.machines[target].stalled_until = self.agenda.now() + until;
            }
            Fault::Clock => self.shift_clock(target),
            Fault::Cut => self.cut(target),
            Fault::Partial | Fault::Ring | Fault::Loss => self.strike_paths(fault, target),
            Fault::Isolate => self.isolate(target),
            Fault::StayDown => self.stay_down(target),
            Fault::Hours => self.let_hours_go_by(),
            Fault::Alter => self.alter(target)?,
            Fault::Reset => {
                let other = self.faults.rng.index(self.machines.len());
                self.network.reset(self.agenda.now(), target, other, &mut self.plan);
            }
            Fault::Slow => self.slow_path(target),
            Fault::SlowDisk => {
                self.machines[target].disk_slowness = self.faults.rng.between(5, 100);
                self.relief_for_disk(target);
            }
            Fault::Full => {
                self.machines[target].disk.fill(true);
                self.tell_of_room(target, true);
                self.relief_for_disk(target);
            }
            Fault::DiskFails => {
                self.machines[target].failing = true;
                let operations = self.faults.rng.below(6);
                self.machines[target].disk.fail_after(operations);
                self.relief_for_disk(target);
            }
            Fault::Decay => self.decay(target),
            Fault::SetBack => self.set_back(target),
            Fault::LoseLog | Fault::LoseState | Fault::Rot => self.lose_a_part(fault, target),
            Fault::Wipe => self.wipe(target),
            Fault::Stop => self.stop(target)?,
            Fault::Join => self.join(),
            Fault::Remove => self.remove_some_node(target),
            Fault::Readdress => self.readdress(target),
            Fault::Quorum => self.workload.change_quorum(),
            Fault::KillProgram => self.strike_program(false)?,
            Fault::StallProgram => self.strike_program(true)?,
            Fault::Move => self.move_some_instance(),
            Fault::Replicas => self.change_replicas(),
            Fault::Upgrade => self.upgrade_something()?,
            // These are drawn where they happen.
            Fault::KillBeforeSync | Fault::LostAnswer => {}
        }
        Ok(())
    }

    fn kill(&mut self, machine: usize, power: bool) {
        self.die(machine, power, "killed");
        self.start_later(machine);
    }

    /// Sometimes at once, sometimes after the others have long gone on.
    fn start_later(&mut self, machine: usize) {
        let longest = if self.faults.rng.chance(500) { 200 } else { 4_000 };
        let pause = self.faults.rng.between(1, longest) * MILLISECOND;
        self.agenda.after(pause, Event::Start { machine });
    }

    fn arm(&mut self, machine: usize) {
        self.faults.halfway = Some(machine);
    }

    /// Its clients ask it all the same. It was an owner, and does not know for a while that it is
    /// none any more.
    fn isolate(&mut self, machine: usize) {
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            self.network.cut(machine, other);
            self.network.cut(other, machine);
        }
        self.paths.reached("a machine was cut off from all others");
        let after = self.faults.rng.between(500, 3_000) * MILLISECOND;
        self.agenda.after(after, Event::Relief(Relief::Network));
    }

    /// A majority goes on without it.
    fn stay_down(&mut self, machine: usize) {
        if self.faults.down.len() < (self.settings.nodes - 1) / 2 && self.machines[machine].is_up()
        {
            self.faults.down.insert(machine);
            self.paths.reached("a machine stayed down");
            self.die(machine, false, "killed for good");
        }
    }

    /// One machine at a time, so that a majority says what is right.
    fn alter(&mut self, machine: usize) -> Result<(), Broken> {
        let is_altered = self.machines.iter().any(|machine| machine.store.altered().is_some());
        if is_altered || self.machines.len() < 3 || !self.is_whole() {
            return Ok(());
        }
        let groups = u64::from(self.settings.partitions);
        let group = u32::try_from(self.faults.rng.between(0, groups)).expect("it came from one");
        self.paths.reached("a state was altered");
        let altered = self.machines[machine].store.alter(GroupId(group));
        altered.map_err(|error| Broken::new("a state can be altered", error.to_string()))
    }

    /// Clocks go on while machines are off.
    fn let_hours_go_by(&mut self) {
        if self.faults.hours_have_gone || self.agenda.now() < 2 * SECOND {
            return;
        }
        self.faults.hours_have_gone = true;
        self.workload.hours_went_by();
        self.paths.reached("hours went by");
        let seconds = self.faults.rng.between(3_600, 20 * 3_600);
        for machine in 0..self.machines.len() {
            self.die(machine, true, "switched off");
            let micros = i64::try_from(seconds * SECOND).expect("some hours fit");
            self.machines[machine].shift_clock(micros);
            let pause = self.faults.rng.between(1, 500) * MILLISECOND;
            self.agenda.after(pause, Event::Start { machine });
        }
    }

    fn shift_clock(&mut self, machine: usize) {
        // A majority of the clocks is right, where it matters to the second what time it is.
        if self.settings.scenario == "mortals-clock" && (machine > 0 || self.machines.len() < 3) {
            return;
        }
        // Where there are documents, keys of requests would be forgotten after hours, as they may
        // be.
        let hours = self.settings.setup.is_some() && self.faults.rng.chance(300);
        let seconds = self.faults.rng.between(1, if hours { 8 * 3_600 } else { 120 });
        let micros = i64::try_from(seconds * SECOND).expect("some hours fit");
        let back = self.faults.rng.chance(500);
        self.machines[machine].shift_clock(if back { -micros } else { micros });
    }

    fn cut(&mut self, machine: usize) {
        let count = self.machines.len();
        let others: Vec<usize> = (0..count).filter(|other| *other != machine).collect();
        match self.faults.rng.below(4) {
            0 => others.iter().for_each(|other| self.network.cut(machine, *other)),
            1 => others.iter().for_each(|other| self.network.cut(*other, machine)),
            2 if !others.is_empty() => {
                let other = *self.faults.rng.pick(&others);
                self.network.cut(machine, other);
                self.network.cut(other, machine);
            }
            _ => {
                for other in others {
                    self.network.cut(machine, other);
                    self.network.cut(other, machine);
                }
            }
        }
        self.relief_for_network();
    }

    /// For longer than a machine's own cuts, and in ways that leave a way round.
    fn strike_paths(&mut self, fault: Fault, target: usize) {
        let count = self.machines.len();
        let next = |machine: usize| (machine + 1) % count;
        // A cut of two and a ring together leave a machine that nobody reaches: no way round.
        if self.settings.scenario == "detours" {
            self.network.heal(self.agenda.now(), &mut self.plan);
        }
        match fault {
            _ if count < 3 => return,
            Fault::Partial => {
                self.network.cut(target, next(target));
                self.network.cut(next(target), target);
            }
            Fault::Ring => {
                (0..count).for_each(|machine| self.network.cut(machine, next(machine)));
            }
            _ => self.network.lose(self.faults.rng.between(20, 250)),
        }
        let after = self.faults.rng.between(1_000, 8_000) * MILLISECOND;
        self.agenda.after(after, Event::Relief(Relief::Network));
    }

    fn slow_path(&mut self, machine: usize) {
        let other = self.faults.rng.index(self.machines.len());
        let more = self.faults.rng.between(5, 400) * MILLISECOND;
        self.network.slow_down(machine, other, more);
        self.relief_for_network();
    }

    fn relief_for_network(&mut self) {
        let after = self.faults.rng.between(100, 3_000) * MILLISECOND;
        self.agenda.after(after, Event::Relief(Relief::Network));
    }

    fn relief_for_disk(&mut self, machine: usize) {
        let after = self.faults.rng.between(50, 3_000) * MILLISECOND;
        self.agenda.after(after, Event::Relief(Relief::Disk(machine)));
    }

    fn tell_of_room(&mut self, machine: usize, is_low: bool) {
        if let Some(process) = self.machines[machine].process(machine) {
            self.agenda.after(0, Event::Tell { process, input: Input::Room { is_low } });
        }
    }

    pub(crate) fn relieve(&mut self, relief: Relief) -> Result<(), Broken> {
        match relief {
            Relief::Network => self.network.heal(self.agenda.now(), &mut self.plan),
            Relief::Disk(machine) => {
                self.machines[machine].heal_disk();
                self.tell_of_room(machine, false);
            }
        }
        Ok(())
    }

    /// Asks each node how it sees the cluster.
    pub(crate) fn look_at_nodes(&mut self) {
        for machine in 0..self.machines.len() {
            if self.machines[machine].foreign || !self.machines[machine].is_up() {
                self.faults.whole_since.remove(&machine);
                continue;
            }
            let request = Request::new(Method::Get, protocol::node_group::LINK);
            self.knock(machine, PROBE, Box::new(request));
        }
    }

    /// How a node sees the cluster: whole, when every node is up and votes in every group.
    pub(crate) fn probed(&mut self, machine: usize, response: &Response) {
        let group = response.to_json();
        let nodes = group["nodes"].as_object();
        let is_expected = |machine: &usize| {
            !self.machines[*machine].foreign && !self.faults.members.is_gone(*machine)
        };
        let expected = (0..self.machines.len()).filter(is_expected).count();
        let is_where_it_says = |node: &serde_json::Value| {
            let place = node["groupReference"].as_str().unwrap_or_default();
            self.machines.iter().any(|machine| {
                node["id"] == machine.name.as_str() && place.starts_with(machine.uri.as_str())
            })
        };
        let is_in = |node: &serde_json::Value| {
            node["status"] == "AVAILABLE" && node["isLeaving"] == false && is_where_it_says(node)
        };
        let is_whole =
            nodes.is_some_and(|nodes| nodes.len() == expected && nodes.values().all(is_in));
        self.look_at_who_asks(machine, &group);
        let now = self.agenda.now();
        if is_whole {
            self.faults.whole_since.entry(machine).or_insert(now);
            self.look_who_is_in();
        } else {
            self.faults.whole_since.remove(&machine);
        }
    }

    /// Whether every disk that was lost has been made good: all nodes have said so for a while.
    pub(crate) fn is_whole(&self) -> bool {
        let settled = self.faults.lost_at + WHOLE_AFTER;
        let said =
            |machine: usize| {
                self.machines[machine].foreign
                    || self.faults.whole_since.get(&machine).is_some_and(|since| {
                        *since > settled && since + WHOLE_FOR < self.agenda.now()
                    })
            };
        (0..self.machines.len()).all(said)
    }

    /// Whether one more disk may be lost: a majority of the replicas must keep theirs. A replica
    /// that is being replaced counts as lost until it is.
    fn may_lose_a_disk(&mut self) -> bool {
        let allowed = (self.settings.nodes - 1) / 2;
        if self.is_whole() {
            self.faults.disks_lost = 0;
        } else if self.faults.disks_lost == 0 {
            return false;
        }
        if self.faults.disks_lost >= allowed || !self.referee.is_formed() {
            return false;
        }
        self.faults.disks_lost += 1;
        self.faults.lost_at = self.agenda.now();
        self.faults.whole_since.clear();
        true
    }

    fn decay(&mut self, machine: usize) {
        if self.machines[machine].decayed || !self.may_lose_a_disk() {
            return;
        }
        if !self.machines[machine].disk.decay(&mut self.faults.rng) {
            self.faults.disks_lost -= 1;
            return;
        }
        self.machines[machine].decayed = true;
        self.kill(machine, false);
    }

    /// The first time a copy of the sandbox is made, whatever the node is doing; later that is put
    /// back, whole or in part.
    fn set_back(&mut self, machine: usize) {
        if self.machines[machine].has_no_copy() {
            return self.machines[machine].make_copy();
        }
        if self.machines[machine].harmed || !self.may_lose_a_disk() {
            return;
        }
        self.die(machine, false, "its sandbox is set back");
        let part = self.faults.rng.below(3);
        self.machines[machine].put_back(part != 1, part != 2);
        self.start_later(machine);
    }

    fn lose_a_part(&mut self, fault: Fault, machine: usize) {
        let is_new = self.machines[machine].ledger.is_empty();
        if is_new || self.machines[machine].harmed || !self.may_lose_a_disk() {
            return;
        }
        self.machines[machine].harmed = true;
        match fault {
            // It goes on until it reads something.
            Fault::Rot => return self.machines[machine].store.rot(),
            Fault::LoseLog => {
                self.die(machine, false, "its log is removed");
                self.machines[machine].disk.wipe();
            }
            _ => {
                self.die(machine, false, "its state is removed");
                self.machines[machine].store.wipe();
            }
        }
        self.start_later(machine);
    }

    fn wipe(&mut self, machine: usize) {
        if self.machines[machine].ledger.is_empty() || !self.may_lose_a_disk() {
            return;
        }
        self.die(machine, true, "its sandbox is removed");
        let sandbox = self.faults.rng.draw() | 1;
        // Its operator starts it again with the flags it had.
        let join = self.machines[machine].join.clone().filter(|_| machine >= self.settings.nodes);
        self.machines[machine].renew(sandbox, join);
        // Or without them, as a node is started that began alone: it founds a cluster of its own,
        // and no client finds it in time. (With a quorum of several it would not start.)
        let is_founder = machine < self.settings.nodes && !self.settings.has(Fault::Remove);
        let may_begin = is_founder && self.settings.membership_quorum.is_none();
        if may_begin && self.faults.rng.chance(300) {
            self.paths.reached("a node with an empty sandbox began alone");
            self.machines[machine].has_no_list = true;
            self.machines[machine].foreign = true;
        }
        self.start_later(machine);
    }

    fn stop(&mut self, machine: usize) -> Result<(), Broken> {
        let Some(process) = self.machines[machine].process(machine) else { return Ok(()) };
        self.faults.told_to_stop.push(process);
        if self.faults.rng.chance(500) {
            let request = Request::new(Method::Delete, protocol::node_group::MANAGEMENT_LINK);
            self.knock(machine, NOBODY, Box::new(request));
        } else {
            self.agenda.after(0, Event::Tell { process, input: Input::Stop });
        }
        // A node that cannot hand over is killed by its operator after a while.
        self.agenda.after(20 * SECOND, Event::Die { process, power: false });
        self.agenda.after(20 * SECOND + 1, Event::Start { machine });
        Ok(())
    }

    /// A new machine is told to join at its start; or it begins alone and is told later.
    fn join(&mut self) {
        if self.faults.joined || !self.referee.is_formed() {
            return;
        }
        self.faults.joined = true;
        let number = self.machines.len();
        let mut machine = Machine::new(number, &[], self.faults.rng.draw() | 1, 0);
        if self.faults.rng.chance(500) {
            machine.join = Some(self.machines[0].uri.clone());
        } else {
            machine.foreign = true;
            self.agenda.after(SECOND, Event::Join { machine: number });
        }
        self.machines.push(machine);
        self.faults.members.begins_anew(number);
        self.agenda.after(0, Event::Start { machine: number });
    }

    /// An operator asks a machine that is a cluster of its own to join.
    pub(crate) fn ask_to_join(&mut self, machine: usize) {
        if !self.machines[machine].foreign || self.machines[machine].has_no_list {
            return;
        }
        let contact = format!("{}{}", self.machines[0].uri, protocol::node_group::LINK);
        let body = json!({
            "kind": "com:vmware:xenon:services:common:NodeGroupService:JoinPeerRequest",
            "memberGroupReference": contact,
        });
        let request = Request::new(Method::Post, protocol::node_group::LINK).with_json(&body);
        self.knock(machine, NOBODY, Box::new(request));
        // It is refused while there is nobody whom it could join.
        self.agenda.after(2 * SECOND, Event::Join { machine });
    }
}
