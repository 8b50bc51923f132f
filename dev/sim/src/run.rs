//! A run from beginning to end: load and faults, then quiet, then the last questions.

use crate::agenda::{MILLISECOND, SECOND, Time};
use crate::batches::{has_batches, pair_links};
use crate::checkers::Broken;
use crate::jobs::Job;
use crate::paths::Paths;
use crate::settings::{Fault, Settings};
use crate::trace::Trace;
use crate::work::{Search, Work, tally_links};
use crate::world::{Event, World};

/// When all faults are over, everything must work again within this time.
const HEAL_PATIENCE: Time = 60 * SECOND;

/// When all faults are over, every partition must be served through every node within this time. It
/// is what the slowest seeds need: a machine that is started late, and syncs of 80 ms.
const LIVE_PATIENCE: Time = 10 * SECOND;

/// Where there is always a way round, the longest time without an acknowledged write.
const SERVICE_GAP_MAX: Time = 5 * SECOND;

/// What a run that broke no rule was like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Equal for two runs of a seed.
    pub hash: u64,
    /// Simulated microseconds.
    pub time: Time,
    /// How many inputs, outputs and faults there were.
    pub things: u64,
    /// How many answers were held against the rules.
    pub answers: u64,
    /// How many lives of instances that were registered anew programs have had inputs in.
    pub lives: u64,
    /// The longest time between two acknowledged writes while there were faults.
    pub gap: Time,
    /// How often rare paths were reached.
    pub paths: Paths,
}

/// A run that broke a rule. A panic in a node counts as one.
pub type Failure = Broken;

/// Makes a run, and turns a panic of a node into a failure.
///
/// # Errors
/// When a rule was broken.
pub fn attempt(settings: &Settings, trace: Trace) -> Result<Report, Failure> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(settings, trace)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken::new("nothing panics", text.unwrap_or_else(|| "without words".into())))
    })
}

/// Makes a run.
///
/// # Errors
/// When a rule was broken.
pub fn run(settings: &Settings, trace: Trace) -> Result<Report, Broken> {
    let mut world = World::new(settings.clone(), trace);
    world.run_until(settings.busy)?;
    let gap = world.was_served()?;
    world.settle()?;
    world.comes_to_life()?;
    world.settle_immortals()?;
    world.audit()?;
    world.settle_orders()?;
    world.all_is_told()?;
    world.compare()?;
    world.referee.conclude(&world.workload.jobs, &mut world.trace)?;
    world.paths.add(&world.referee.paths);
    let reader = &world.referee.reader;
    world.paths.count("a change was told", reader.told);
    world.paths.count("a reader of changes fell behind", reader.began_anew);
    Ok(Report {
        hash: world.trace.hash(),
        time: world.agenda.now(),
        things: world.trace.things(),
        answers: world.referee.judged() + world.programs.books.judged(),
        lives: world.programs.books.lives(),
        gap,
        paths: world.paths,
    })
}

impl World {
    /// A look at the whole from time to time.
    pub(crate) fn look(&mut self) -> Result<(), Broken> {
        self.agenda.after(200 * MILLISECOND, Event::Look);
        self.look_at_nodes();
        self.look_at_backups();
        self.look_at_repeats();
        self.look_at_writes();
        self.look_at_subscribers();
        Ok(())
    }

    /// The faults end: all that is broken is mended, and clients end what they do.
    fn settle(&mut self) -> Result<(), Broken> {
        let now = self.agenda.now();
        self.trace.event(now, "", format_args!("the faults end"));
        self.faults.clear();
        self.workload.close();
        self.calm_programs();
        self.calm_copies();
        self.calm_subscribers();
        self.network.heal(now, &mut self.plan);
        // Whoever ran an older program gets the new one.
        for machine in 0..self.machines.len() {
            if self.settings.may_be_older(machine) {
                self.die(machine, false, "it gets another program");
            }
        }
        for machine in 0..self.machines.len() {
            self.machines[machine].heal_disk();
            self.machines[machine].stalled_until = now;
            self.agenda.after(0, Event::Start { machine });
            for seconds in [2, 5, 8] {
                self.agenda.after(seconds * SECOND, Event::Join { machine });
            }
        }
        let patience = now + if self.settings.has(Fault::Remove) { 60 } else { 20 } * SECOND;
        let members_change =
            [Fault::Join, Fault::Remove, Fault::Readdress].iter().any(|it| self.settings.has(*it));
        let is_settled = |world: &Self| {
            let foreign = world.machines.iter().any(|machine| machine.foreign);
            !foreign && (!members_change || world.all_are_members())
        };
        while (!is_settled(self) || !self.workload.is_quiet()) && self.agenda.now() < patience {
            let next = self.agenda.now() + 100 * MILLISECOND;
            self.run_until(next)?;
        }
        self.workload.abandon(self.agenda.now(), &mut self.referee);
        if let Some(lost) = self.machines.iter().find(|machine| machine.has_no_list) {
            let what = format!("{} is a cluster of its own", lost.name);
            return Err(Broken::new("a node whose disk was lost comes back by itself", what));
        }
        let all_must_be_there =
            [Fault::Readdress, Fault::Remove].iter().any(|it| self.settings.has(*it));
        if all_must_be_there && !self.all_are_members() {
            let what = "a machine is not listed, is still leaving, or is not where it is listed";
            return Err(Broken::new("in the end all machines are members", what.to_owned()));
        }
        Ok(())
    }

    /// Holds the longest time without an acknowledged write against what the faults allow.
    fn was_served(&self) -> Result<Time, Broken> {
        let gap = self.service.longest(self.agenda.now());
        let rule = match self.settings.scenario.as_str() {
            "detours" => "there is service while there is a way round",
            "minority" => "there is service while a minority stays down",
            _ => return Ok(gap),
        };
        if self.settings.nodes > 2 && gap > SERVICE_GAP_MAX {
            let what = format!("no write was acknowledged for {:.3} s", crate::trace::seconds(gap));
            return Err(Broken::new(rule, what));
        }
        Ok(gap)
    }

    /// Every partition is served through every node, soon after the faults are over.
    fn comes_to_life(&mut self) -> Result<(), Broken> {
        for machine in 0..self.machines.len() {
            self.workload.add_to_audit(machine, Work::Available);
            for partition in 1..=self.settings.partitions {
                let probe = Work::probe(machine, partition, self.settings.partitions);
                self.workload.add_to_audit(machine, probe);
            }
        }
        let rule = "soon after the faults are over, everything is served";
        self.finish_audit(LIVE_PATIENCE, rule)
    }

    /// Lets the auditor ask all that it has to ask, until it is answered well.
    fn finish_audit(&mut self, patience: Time, rule: &'static str) -> Result<(), Broken> {
        let auditor = self.workload.auditor();
        self.agenda.after(0, Event::Client { client: auditor });
        let patience = self.agenda.now() + patience;
        while let Some(trouble) = self.workload.audit_trouble() {
            if self.agenda.now() > patience {
                return Err(Broken::new(rule, trouble));
            }
            let next = self.agenda.now() + 100 * MILLISECOND;
            self.run_until(next)?;
        }
        Ok(())
    }

    /// Every node must answer every kind of question now.
    fn audit(&mut self) -> Result<(), Broken> {
        let links = self.workload.documents.clone();
        for machine in 0..self.machines.len() {
            self.workload.add_to_audit(machine, Work::Available);
            for link in &links {
                self.workload.add_to_audit(machine, Work::read(link));
            }
            for listing in [true, false] {
                self.workload.add_to_audit(machine, Work::Search(Search::new(listing, None)));
            }
            for partition in 1..=self.settings.partitions {
                let probe = Work::probe(machine, partition, self.settings.partitions);
                self.workload.add_to_audit(machine, probe);
            }
        }
        for link in &links {
            for version in self.referee.young_versions(link) {
                let machine = self.rng.index(self.machines.len());
                let work = Work::OldVersion { link: link.clone(), version, must: true };
                self.workload.add_to_audit(machine, work);
            }
        }
        let jobs = self.workload.jobs.clone();
        for job in &jobs {
            let machine = self.rng.index(self.machines.len());
            self.workload.add_to_audit(machine, Work::End { link: job.link() });
        }
        let pairs = if has_batches(&self.settings) { pair_links() } else { Vec::new() };
        for link in jobs.iter().flat_map(Job::traces).chain(tally_links()).chain(pairs) {
            let machine = self.rng.index(self.machines.len());
            self.workload.add_to_audit(machine, Work::Show { link });
        }
        // The owner of each partition is among them, and it has everything.
        for machine in 0..self.machines.len() {
            let after = self.referee.reader.token().map(str::to_owned);
            self.workload.add_to_audit(machine, Work::Watch { after, seconds: 0 });
        }
        self.finish_audit(HEAL_PATIENCE, "when all is well again, everything works again")
    }

    /// All replicas must come to the same state.
    fn compare(&mut self) -> Result<(), Broken> {
        let patience = self.agenda.now() + HEAL_PATIENCE;
        while !self.referee.compare(&self.machines, self.settings.partitions)? {
            if self.agenda.now() > patience {
                let what = "a replica does not catch up".to_owned();
                return Err(Broken::new("when all is well again, replicas become equal", what));
            }
            let next = self.agenda.now() + 100 * MILLISECOND;
            self.run_until(next)?;
        }
        Ok(())
    }
}
