//! Somebody makes backups while the run goes on. Each must be of one moment, and what is restored
//! of it must be what the replicas had there.

use std::collections::{BTreeMap, VecDeque};

use node::{Page, Restorer};
use protocol::{GroupId, Method, Position, Request, Response, base64url};
use storage::MemoryStore;

use crate::agenda::{SECOND, Time};
use crate::checkers::Broken;
use crate::world::{BACKUP, World};

/// A backup that has come no further for this long is given up.
const PATIENCE: Time = 10 * SECOND;

/// The sandbox of the node that is made of a backup, which nobody else has.
const SANDBOX: u64 = 0xbac0;

/// The backup under way.
#[derive(Default)]
pub(crate) struct Backups {
    reading: Option<Reading>,
    /// When something was asked last, while an answer is waited for.
    asked_at: Option<Time>,
}

struct Reading {
    machine: usize,
    link: String,
    cut: BTreeMap<GroupId, Position>,
    groups: VecDeque<GroupId>,
    after: Vec<u8>,
    pages: Vec<Page>,
}

impl World {
    /// From time to time; only in the scenarios that are about it.
    pub(crate) fn look_at_backups(&mut self) {
        if !self.settings.makes_backups() {
            return;
        }
        let now = self.agenda.now();
        if self.backups.asked_at.is_some_and(|at| now - at < PATIENCE) {
            return;
        }
        self.backups = Backups::default();
        let machine = self.rng.index(self.machines.len());
        if self.rng.chance(300) && !self.machines[machine].foreign && self.machines[machine].is_up()
        {
            self.ask_of_backup(machine, Request::new(Method::Post, "/core/backups"));
        }
    }

    fn ask_of_backup(&mut self, machine: usize, request: Request) {
        self.backups.asked_at = Some(self.agenda.now());
        self.knock(machine, BACKUP, Box::new(request));
    }

    pub(crate) fn backup_told(
        &mut self,
        machine: usize,
        response: &Response,
    ) -> Result<(), Broken> {
        let Backups { reading, asked_at } = std::mem::take(&mut self.backups);
        match (reading, response.status) {
            (None, 201) => self.backup_begun(machine, asked_at.unwrap_or_default(), response),
            (Some(reading), 200) => self.backup_page(reading, response),
            (None, 409 | 503) => {
                self.paths.reached("a backup was refused");
                Ok(())
            }
            // A node that kept it has died.
            (Some(_), 404 | 503) => {
                self.paths.reached("a backup was lost");
                Ok(())
            }
            // The end of a backup that was given up.
            (None, 200 | 404) => Ok(()),
            (_, status) => {
                let what = format!("{status} {}", response.to_json());
                Err(Broken::new("an answer is one of those that make sense", what))
            }
        }
    }

    fn backup_begun(
        &mut self,
        machine: usize,
        asked_at: Time,
        response: &Response,
    ) -> Result<(), Broken> {
        let body = response.to_json();
        let mut cut = BTreeMap::new();
        for group in body["groups"].as_array().into_iter().flatten() {
            let number = |name: &str| group[name].as_u64().expect("it has a number");
            let id = GroupId(u32::try_from(number("group")).expect("groups are small"));
            cut.insert(id, Position(number("position")));
        }
        self.paths.reached("a backup was begun");
        if body["attempts"].as_u64() > Some(1) {
            self.paths.reached("a backup took several attempts");
        }
        self.referee.moments.check(&cut, asked_at)?;
        let link = format!("/core/backups/{}", body["backup"].as_str().expect("it has an id"));
        let groups = cut.keys().copied().collect();
        self.read_backup(Reading {
            machine,
            link,
            cut,
            groups,
            after: Vec::new(),
            pages: Vec::new(),
        })
    }

    fn read_backup(&mut self, reading: Reading) -> Result<(), Broken> {
        let machine = reading.machine;
        let Some(group) = reading.groups.front() else { return self.backup_read(&reading) };
        let mut request = Request::get(&format!("{}/{}", reading.link, group.0));
        if !reading.after.is_empty() {
            request.query = format!("after={}", base64url::encode(&reading.after));
        }
        self.backups.reading = Some(reading);
        self.ask_of_backup(machine, request);
        Ok(())
    }

    fn backup_page(&mut self, mut reading: Reading, response: &Response) -> Result<(), Broken> {
        let unreadable = |why| Broken::new("a page of a backup can be read", why);
        let page = Page::decode(&response.body).map_err(unreadable)?;
        reading.after.clone_from(&page.next);
        if page.next.is_empty() {
            reading.groups.pop_front();
        }
        reading.pages.push(page);
        self.read_backup(reading)
    }

    /// All of it is here: a cluster is made of it.
    fn backup_read(&mut self, reading: &Reading) -> Result<(), Broken> {
        let broken = |why| Broken::new("a backup can be restored", why);
        let mut store = MemoryStore::new();
        let node = ("restored".to_owned(), "http://restored:1".to_owned());
        let mut restorer = Restorer::new(&mut store, node, SANDBOX);
        for page in &reading.pages {
            restorer.take(page.block.clone()).map_err(broken)?;
        }
        restorer.end().map_err(broken)?;
        restorer.seal().map_err(broken)?;
        for (group, position) in reading.cut.iter().filter(|(group, _)| group.is_partition()) {
            self.referee.restored(&store, *group, *position)?;
        }
        self.paths.reached("a backup was restored");
        let end = Request::new(Method::Delete, reading.link.clone());
        self.knock(reading.machine, BACKUP, Box::new(end));
        Ok(())
    }
}
