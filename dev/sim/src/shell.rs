//! Carries out what a node says, as the real shell does: the log, the state store, the links.

use bytes::Bytes;
use node::{Input, LinkFrame, Output};
use protocol::GroupId;
use replication::MessageKind;
use services::Invocation;
use storage::LogRecord;

use crate::agenda::{MILLISECOND, Time};
use crate::checkers::{Broken, next_events};
use crate::network::Process;
use crate::settings::Fault;
use crate::world::{Event, World};

/// How long after a full disk refused a write, it is tried again.
const LOG_RETRY: Time = 100 * MILLISECOND;

impl World {
    /// Something has happened to the process of a machine. Its node takes all that has happened
    /// when its thread comes round to it.
    pub(crate) fn input(&mut self, machine: usize, input: Input) -> Result<(), Broken> {
        let Some(process) = self.machines[machine].process(machine) else { return Ok(()) };
        let running = self.machines[machine].running.as_mut().expect("it is alive");
        running.inbox.push(input);
        if running.inbox.len() == 1 {
            let delay =
                if self.rng.chance(50) { self.rng.below(2_000) } else { self.rng.below(60) };
            self.agenda.after(delay, Event::Step { process });
        }
        Ok(())
    }

    /// The node takes its inputs, and the shell carries out what it says.
    pub(crate) fn step(&mut self, process: Process) -> Result<(), Broken> {
        let time = self.agenda.now();
        let machine = process.machine;
        let now = self.machines[machine].now(time);
        let name = self.machines[machine].name.clone();
        let running = self.machines[machine].running.as_mut().expect("the caller saw it alive");
        for input in &running.inbox {
            self.trace.input(time, &name, input);
        }
        let mut outputs = Vec::new();
        running.node.step(now, &mut running.inbox, &mut outputs);
        if !self.machines[machine].foreign {
            self.referee.stepped(time, &self.machines[machine])?;
        }
        self.look_at_tasks(machine)?;
        let count = outputs.len();
        for (done, output) in outputs.into_iter().enumerate() {
            if self.faults.dies_halfway(machine, done, count) {
                self.paths.reached("a process died halfway");
                self.die(machine, false, "halfway through its outputs");
                return Ok(());
            }
            self.trace.output(time, &name, &output);
            self.carry_out(process, output)?;
            if !self.is_alive(process) {
                return Ok(());
            }
        }
        self.write_log(process)
    }

    fn invoke(&mut self, process: Process, invocation: Invocation) -> Result<(), Broken> {
        let (usual, worst) = self.settings.handler;
        let delay = self.rng.delay(usual, worst);
        let invocation = Box::new(invocation);
        self.agenda.after(delay, Event::Invoke { process, invocation });
        Ok(())
    }

    fn look_at_tasks(&mut self, machine: usize) -> Result<(), Broken> {
        let machine = &self.machines[machine];
        let running = machine.running.as_ref().expect("the caller saw it alive");
        let is_damaged = machine.store.is_rotten() || machine.store.altered().is_some();
        let tasks = next_events::look(&running.node, is_damaged);
        let tasks = tasks.map_err(|it| it.at(&machine.name))?;
        if tasks > 0 {
            self.paths.reached("a task under way has its next event");
        }
        Ok(())
    }

    fn note_appends(&mut self, records: &[LogRecord]) {
        let now = self.agenda.now();
        for record in records {
            if let LogRecord::Entry { group, entry } = record
                && group.is_instance()
            {
                self.referee.moments.appends(now, *group, entry.position);
            }
        }
    }

    fn carry_out(&mut self, process: Process, output: Output) -> Result<(), Broken> {
        if let Output::Append { records, .. } = &output {
            self.note_appends(records);
        }
        let machine = &mut self.machines[process.machine];
        let running = machine.running.as_mut().expect("the caller saw it alive");
        match output {
            Output::Append { batch, records } => {
                running.waiting.push_back((batch, records));
                Ok(())
            }
            Output::Persist { mark } => {
                self.persist(process, mark);
                Ok(())
            }
            Output::Dial { addresses } => self.keep_links(process, addresses),
            Output::Send { link, frame } => self.send(process, link, &frame),
            Output::Close { link } => self.close_link(process, link),
            Output::Answer { ticket, response } => self.answered(process.machine, ticket, response),
            Output::Catalogue(catalogue) => {
                machine.served = catalogue;
                Ok(())
            }
            Output::Invoke(invocation) => self.invoke(process, invocation),
            Output::Run(job) => {
                // In an order of its own: the threads for jobs are not those for handlers.
                let (usual, worst) = self.settings.handler;
                let delay = self.rng.delay(usual, worst);
                self.agenda.after(delay, Event::Run { process, job: Box::new(job) });
                Ok(())
            }
            Output::Notify(notification) => {
                self.notify(process, notification);
                Ok(())
            }
            Output::GoOn { .. } | Output::Measure => {
                let (delay, input) = (self.rng.below(500), what_comes_back(&output));
                self.agenda.after(delay, Event::Tell { process, input });
                Ok(())
            }
            Output::ProgramTell { program, bytes } => {
                self.program_told(program, &bytes);
                Ok(())
            }
            Output::ProgramClose { program } => {
                self.program_closed_by_node(program);
                Ok(())
            }
            Output::Repro { name, text } => {
                let instance = name.rsplit_once('-').map_or(name.as_str(), |(name, _)| name);
                self.programs.books.diverged(instance, &text)
            }
            Output::StateAside { group } => self.put_aside(process, group),
            Output::WithoutNextEvent { count } => next_events::noticed(count, &machine.name),
            Output::StateFilled { .. } => {
                self.paths.reached("a state was filled anew");
                Ok(())
            }
            Output::Note { text, .. } => self.noted(&text),
            Output::ProgramPorts { .. } => Ok(()),
            Output::Rejoin { contact } => {
                self.rejoins(process, contact);
                Ok(())
            }
            Output::Others { addresses } => {
                machine.keep_others(addresses);
                Ok(())
            }
            Output::Renew { why, .. } => self.renewed(process, why),
            Output::Stopped => self.stopped(process),
            Output::Halt { why } => self.halted(process, &why),
        }
    }

    fn send(&mut self, process: Process, link: u64, frame: &LinkFrame) -> Result<(), Broken> {
        self.promises_are_kept(process, frame)?;
        let now = self.agenda.now();
        let machine = &self.machines[process.machine];
        let running = machine.running.as_ref().expect("the caller saw it alive");
        let frame = frame.concat().into();
        if let Some((connection, end)) = running.links.get(&link).copied() {
            self.network.send(now, connection, end, frame, &mut self.plan);
        } else if let Some(stream) = running.detours.get(&link).copied() {
            return self.mesh(process, mesh::Input::Send { stream, frame });
        }
        Ok(())
    }

    /// Nothing leaves that the disk does not hold.
    fn promises_are_kept(&mut self, process: Process, frame: &[Bytes]) -> Result<(), Broken> {
        let machine = &self.machines[process.machine];
        if machine.foreign {
            return Ok(());
        }
        let memory = self.settings.setup.is_some_and(|setup| setup.memory);
        for (group, message) in node::consensus_in(frame) {
            self.paths.sent(&message);
            let is_owners = matches!(message.kind, MessageKind::Append | MessageKind::Heartbeat);
            if group.is_instance() && is_owners {
                self.referee.moments.saw(self.agenda.now(), group, message.commit);
            }
            // An offer promises nothing of what its sender has on disk.
            if message.kind == MessageKind::Snapshot {
                continue;
            }
            let in_memory = memory && group.is_instance();
            let kept = self.referee.promises.leaves(group, &message, &machine.ledger, in_memory);
            kept.map_err(|broken| broken.at(&machine.name))?;
        }
        Ok(())
    }

    fn put_aside(&mut self, process: Process, group: GroupId) -> Result<(), Broken> {
        self.paths.reached("a state was put aside");
        let machine = &self.machines[process.machine];
        if machine.store.altered() == Some(group) {
            return Ok(());
        }
        let what = format!("{}: group {group}", machine.name);
        Err(Broken::new("only a state that was altered is put aside", what))
    }

    /// What a node says about the states of its groups.
    fn noted(&mut self, text: &str) -> Result<(), Broken> {
        if text.contains("no majority says which is right") {
            return Err(Broken::new("a majority of states is right", text.to_owned()));
        } else if text.ends_with("from the store") {
            self.paths.reached("a subscriber was told from the store");
        } else if text.ends_with("replicas are equal") {
            self.paths.reached("states were compared");
        } else if text.contains("were not confirmed and will be sent") {
            self.paths.reached("a new owner found messages that were not confirmed");
        } else if text.contains("of the log still to write") {
            self.paths.reached("a disk took no more for a while");
        }
        Ok(())
    }

    fn stopped(&mut self, process: Process) -> Result<(), Broken> {
        let name = self.machines[process.machine].name.clone();
        if !self.faults.was_told_to_stop(process) && self.ended_as_removed(process, None) {
            return Ok(());
        }
        self.paths.reached("a node stopped in good order");
        self.die(process.machine, false, "stopped in good order");
        if !self.faults.was_told_to_stop(process) {
            let what = format!("{name} stopped without being told to");
            return Err(Broken::new("a node stops when it is told to", what));
        }
        let pause = self.rng.between(10, 2_000) * MILLISECOND;
        self.agenda.after(pause, Event::Start { machine: process.machine });
        Ok(())
    }

    fn rejoins(&mut self, process: Process, contact: String) {
        self.die(process.machine, false, "leaves its sandbox to join");
        let machine = &mut self.machines[process.machine];
        machine.renew(self.rng.draw() | 1, Some(contact));
        machine.foreign = false;
        if std::mem::take(&mut machine.has_no_list) {
            self.paths.reached("a node that was missed left its own cluster");
        }
        self.agenda.after(20 * MILLISECOND, Event::Start { machine: process.machine });
    }

    fn renewed(&mut self, process: Process, why: String) -> Result<(), Broken> {
        let machine = &self.machines[process.machine];
        if !machine.harmed && !machine.decayed {
            let what = format!("{}: {why}", machine.name);
            return Err(Broken::new("a node that nobody harmed has what it promised", what));
        }
        self.die(process.machine, false, "puts its sandbox aside");
        let sandbox = self.rng.draw() | 1;
        self.machines[process.machine].renew_as_it_forgot(sandbox, why);
        self.agenda.after(20 * MILLISECOND, Event::Start { machine: process.machine });
        Ok(())
    }

    fn halted(&mut self, process: Process, why: &str) -> Result<(), Broken> {
        if self.ended_as_removed(process, Some(why)) || self.ended_as_refused(process, why) {
            return Ok(());
        }
        let machine = &self.machines[process.machine];
        let name = machine.name.clone();
        if !machine.failing {
            let what = format!("{name} halted: {why}");
            return Err(Broken::new("a node halts only when its disk fails", what));
        }
        self.paths.reached("a node halted");
        self.die(process.machine, false, "halted");
        let pause = self.rng.between(10, 1_000) * MILLISECOND;
        self.agenda.after(pause, Event::Start { machine: process.machine });
        Ok(())
    }

    // The log: one write and one sync at a time; what comes meanwhile goes into the next.

    pub(crate) fn write_log(&mut self, process: Process) -> Result<(), Broken> {
        let machine = &mut self.machines[process.machine];
        let Some(running) = &mut machine.running else { return Ok(()) };
        if running.syncing.is_some() || running.waiting.is_empty() || running.short_of_room {
            return Ok(());
        }
        let recovered = std::mem::take(&mut running.retrying);
        let highest = running.waiting.back().expect("it is not empty").0;
        let records: Vec<_> =
            running.waiting.iter().flat_map(|(_, records)| records.iter().cloned()).collect();
        machine.ledger.wrote(&records);
        if let Err(error) = running.log.append(&records) {
            running.retrying = recovered;
            return self.log_failed(process, &error);
        }
        if !machine.foreign {
            self.referee.places.saw(&records);
        }
        running.waiting.clear();
        running.syncing = Some(highest);
        let (usual, worst) = self.settings.sync;
        let delay = self.rng.delay(usual, worst) * machine.disk_slowness;
        self.agenda.after(delay, Event::LogSynced { process });
        if self.settings.has(Fault::KillBeforeSync) && self.faults.dies_before_sync() {
            self.paths.reached("a process died before a sync");
            let (power, at) = (self.rng.chance(500), self.rng.between(0, delay));
            self.agenda.after(at, Event::Die { process, power });
            let pause = self.rng.between(1, 4_000) * MILLISECOND;
            self.agenda.after(at + pause, Event::Start { machine: process.machine });
        }
        if recovered {
            self.agenda.after(0, Event::Tell { process, input: Input::StorageRecovered });
        }
        Ok(())
    }

    /// There may be room again.
    pub(crate) fn retry_log(&mut self, process: Process) -> Result<(), Broken> {
        if let Some(running) = &mut self.machines[process.machine].running {
            running.retrying = std::mem::take(&mut running.short_of_room);
        }
        self.write_log(process)
    }

    fn log_failed(&mut self, process: Process, error: &storage::LogError) -> Result<(), Broken> {
        let full = error.is_full();
        let running = self.machines[process.machine].running.as_mut().expect("it was writing");
        let known = full && std::mem::take(&mut running.retrying);
        running.short_of_room = full;
        if full {
            self.agenda.after(LOG_RETRY, Event::LogRetry { process });
        } else {
            // Nothing more can be written; the node will halt.
            running.waiting.clear();
        }
        if !known {
            let input = Input::StorageFailed { why: error.to_string(), full };
            self.agenda.after(0, Event::Tell { process, input });
        }
        Ok(())
    }

    pub(crate) fn log_synced(&mut self, process: Process) -> Result<(), Broken> {
        let machine = &mut self.machines[process.machine];
        let Some(running) = &mut machine.running else { return Ok(()) };
        let batch = running.syncing.take().expect("a sync was under way");
        if let Err(error) = running.log.sync() {
            if error.is_full() {
                running.syncing = Some(batch);
                self.agenda.after(LOG_RETRY, Event::LogSynced { process });
                return Ok(());
            }
            return self.log_failed(process, &error);
        }
        let frames = running.log.frames();
        machine.ledger.synced();
        self.agenda.after(0, Event::Tell { process, input: Input::LogDurable { batch, frames } });
        self.write_log(process)
    }

    fn persist(&mut self, process: Process, mark: u64) {
        let (usual, worst) = self.settings.persist;
        let delay = self.rng.delay(usual, worst);
        let machine = &mut self.machines[process.machine];
        let written = machine.store.written();
        let running = machine.running.as_mut().expect("the caller saw it alive");
        let done = self.agenda.now().max(running.persist_done) + delay;
        running.persist_done = done;
        self.agenda.at(done, Event::StatePersisted { process, mark, written });
    }

    // The links.

    fn keep_links(&mut self, process: Process, addresses: Vec<String>) -> Result<(), Broken> {
        self.mesh(process, mesh::Input::Keep { addresses: addresses.clone() })?;
        let running = self.machines[process.machine].running.as_mut().expect("it is alive");
        let dropped: Vec<String> =
            running.dials.keys().filter(|known| !addresses.contains(known)).cloned().collect();
        let mut gone = Vec::new();
        for address in dropped {
            let dial = running.dials.remove(&address).expect("it was just listed");
            gone.extend(dial.connection);
        }
        for address in addresses {
            if !running.dials.contains_key(&address) {
                running.dials.insert(address.clone(), crate::machine::Dial::default());
                self.agenda.after(0, Event::Dial { process, address });
            }
        }
        for connection in gone {
            let running = self.machines[process.machine].running.as_ref().expect("it is alive");
            if let Some(link) = running.link_of(connection, 0) {
                self.close_link(process, link)?;
            } else {
                self.network.close(self.agenda.now(), connection, 0, &mut self.plan);
            }
        }
        Ok(())
    }

    /// The node closes a link; like the real shell, the world tells it that it is closed.
    pub(crate) fn close_link(&mut self, process: Process, link: u64) -> Result<(), Broken> {
        let now = self.agenda.now();
        let running = self.machines[process.machine].running.as_mut().expect("it is alive");
        if let Some(stream) = running.detours.get(&link).copied() {
            return self.mesh(process, mesh::Input::Close { stream });
        }
        let Some((connection, end)) = running.links.remove(&link) else { return Ok(()) };
        self.network.close(now, connection, end, &mut self.plan);
        self.connection_gone(process.machine, connection);
        self.agenda.after(MILLISECOND, Event::Tell { process, input: Input::LinkClosed { link } });
        self.mesh(process, mesh::Input::LinkClosed { link })
    }
}

/// What a node gets for an output that is to come back to it.
fn what_comes_back(output: &Output) -> Input {
    match output {
        Output::GoOn { group, opening } => Input::GoOn { group: *group, opening: *opening },
        _ => Input::Measured,
    }
}
