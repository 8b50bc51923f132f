//! Queries against the model, while the index follows, is thrown away, and snapshots come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::query::{QueryOption, QuerySpecification};
use protocol::{Moment, Term};
use query::{CompiledQuery, Cursor, Hit, Page, merge};
use random::Random;

use super::Site;
use super::generate::{command, specification};
use super::model::{Found, Model, partition};
use crate::bounds::Bounds;
use crate::plan::Way;
use crate::{AppliedCommand, Search, Wanted};

/// How much time goes by with each command, in microseconds.
const STEP_MICROS: u64 = 100;

/// How many worlds are gone through.
const SEEDS: u64 = 24;

struct World {
    random: Random,
    model: Model,
    /// Two partitions.
    sites: Vec<Site>,
    now: Moment,
    term: Term,
    /// How often each way was taken.
    ways: BTreeMap<&'static str, u64>,
    /// How many pages were cut for their bytes.
    cut: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::of_seed(seed);
        let mut sites: Vec<Site> = (1..=2).map(Site::new).collect();
        // With bounds this small the ways for many documents are taken for few.
        let bounds = match random.below(4) {
            0 => Bounds::USUAL,
            1 => Bounds { pending: 2, behind: 2, fields: 6, leaves: 64, listed: [1, 2, 4] },
            2 => Bounds { pending: 3, behind: 1, fields: 100, leaves: 64, listed: [0, 0, 0] },
            _ => Bounds { pending: 5, behind: 9, fields: 100, leaves: 200, listed: [1, 3, 6] },
        };
        for site in &mut sites {
            site.partition.index.bounds = bounds;
            site.partition.set_cache_bytes(if random.one_in(2) { 0 } else { 100_000 });
        }
        Self {
            random,
            model: Model::default(),
            sites,
            now: Moment(1_000_000),
            term: Term(2),
            ways: BTreeMap::new(),
            cut: 0,
        }
    }

    fn apply(&mut self) {
        self.now.0 += STEP_MICROS;
        if self.random.one_in(50) {
            self.term.0 += 1;
        }
        let command = command(&mut self.random, &self.model, self.term, self.now);
        let expected = self.model.apply(self.term, &command);
        let sites: Vec<usize> = match &command {
            crate::Command::Write(write) => vec![partition(&write.document.link)],
            // The model has one list of what is due, so all of it must go.
            crate::Command::Expire { .. } => vec![],
            _ => vec![0, 1],
        };
        for site in sites {
            self.sites[site].applied.term = self.term;
            let outcome = self.sites[site].apply(&command);
            let is_accepted = outcome != AppliedCommand::Fenced;
            assert_eq!(is_accepted, expected, "{command:?}");
        }
        // The model has the fences of both partitions in one place.
        if let crate::Command::Write(crate::Write { source: Some(source), .. }) = &command
            && expected
        {
            self.sites.iter_mut().for_each(|site| {
                site.apply(&crate::Command::Fence(*source));
            });
        }
        if let crate::Command::Expire { at, .. } = command {
            self.model.apply(self.term, &crate::Command::Expire { at, links_max: u32::MAX });
            for site in &mut self.sites {
                while site.partition.expiration_due(&site.store, at).unwrap() {
                    site.apply(&crate::Command::Expire { at, links_max: 2 });
                }
            }
        }
    }

    fn disturb(&mut self) {
        let random = &mut self.random;
        for site in &mut self.sites {
            match random.below(40) {
                0 => site.partition.forget_index(&mut site.store).unwrap(),
                1 => site.reopen(),
                2 => {
                    let before = site.digest();
                    site.install_own_snapshot(1 + random.index(2_000));
                    assert_eq!(site.digest(), before);
                }
                3 | 4 => site.index_wholly(),
                5..15 => {
                    site.partition.index(&mut site.store, 1 + random.index(5)).unwrap();
                }
                _ => {}
            }
        }
    }

    fn ask(&mut self) {
        let now = Moment(self.now.0 + self.random.below(1_000) - 500);
        let specification = specification(&mut self.random, now);
        let compiled = Arc::new(CompiledQuery::new(&specification).unwrap());
        if !self.random.one_in(4) {
            self.sites.iter_mut().for_each(Site::index_wholly);
        }
        let expected = self.model.query(&specification, now);
        let limit = [1, 2, 3, 7, 1_000][self.random.index(5)];
        let found = self.pages(&compiled, limit, now);
        let is_expanded = specification.has(QueryOption::ExpandContent);
        let shown: Vec<Found> = found
            .iter()
            .zip(&expected)
            .map(|(hit, expected)| Found {
                link: hit.link.clone(),
                version: hit.version,
                document: match &hit.document {
                    Some(document) => serde_json::from_slice(document).unwrap(),
                    None if is_expanded => "missing".into(),
                    None => expected.document.clone(),
                },
            })
            .collect();
        assert_eq!(shown, expected, "{specification:#?}");
        assert_eq!(found.len(), expected.len(), "{specification:#?}");
        self.count(specification, expected.len(), now);
    }

    /// All pages of all partitions, each cursor by way of its text.
    fn pages(&mut self, compiled: &Arc<CompiledQuery>, limit: usize, now: Moment) -> Vec<Hit> {
        let mut all = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let pages = (0..self.sites.len())
                .map(|site| self.page(site, compiled, after.as_ref(), limit, now))
                .collect();
            let (hits, more) = merge(pages, limit);
            after = hits.last().map(Hit::cursor);
            let is_last = !more || after.is_none();
            assert!(!more || !hits.is_empty() && hits.len() <= limit);
            all.extend(hits);
            if is_last {
                let links: BTreeSet<_> = all.iter().map(|hit| (&hit.link, hit.version)).collect();
                assert_eq!(links.len(), all.len(), "nothing comes twice");
                return all;
            }
            after = after.map(|after| Cursor::from_text(&after.to_text()).unwrap());
        }
    }

    fn page(
        &mut self,
        site: usize,
        compiled: &Arc<CompiledQuery>,
        after: Option<&Cursor>,
        limit: usize,
        now: Moment,
    ) -> Page {
        let Site { store, partition, .. } = &self.sites[site];
        let plan = partition.view().plan(store, compiled, after, limit, false).unwrap();
        let way = match plan.way {
            Way::Links(_) => "links",
            Way::Heads { .. } => "heads",
            Way::List(_) => "list",
            Way::Counted { .. } => "counted",
            Way::Sorted(_) => "sorted",
        };
        *self.ways.entry(way).or_default() += 1;
        if self.random.one_in(2) {
            return partition.query(store, compiled, after, limit, now).unwrap();
        }
        let bytes = [100, 1_000, usize::MAX][self.random.index(3)];
        let wanted = Wanted { after: after.cloned(), hits: limit, bytes, now };
        let view = partition.view();
        let view = if self.random.one_in(2) { view.in_a_hurry() } else { view };
        let mut search = Search::new(view, Arc::clone(compiled), wanted);
        loop {
            let budget = 1 + self.random.index(1_000);
            if let Some(page) = search.step(store, budget).unwrap() {
                self.cut += u64::from(page.more && page.hits.len() < limit);
                return page;
            }
        }
    }

    fn count(&mut self, mut specification: QuerySpecification, expected: usize, now: Moment) {
        specification.options.push(QueryOption::Count);
        let compiled = Arc::new(CompiledQuery::new(&specification).unwrap());
        let pages = (0..self.sites.len()).map(|site| self.page(site, &compiled, None, 5, now));
        let pages: Vec<Page> = pages.collect::<Vec<_>>();
        let counted: u64 = pages.iter().map(|page| page.count).sum();
        assert!(pages.iter().all(|page| page.hits.is_empty() && !page.more));
        assert_eq!(usize::try_from(counted).unwrap(), expected, "{specification:#?}");
    }

    fn compare(&self) {
        let mut live = 0;
        let mut tasks = Vec::new();
        for site in &self.sites {
            live += usize::try_from(site.partition.document_count()).unwrap();
            tasks.extend(site.partition.tasks_in_progress(&site.store).unwrap());
        }
        tasks.sort();
        assert_eq!(live, self.model.live());
        assert!(tasks.iter().eq(&self.model.tasks), "{tasks:?}");
        for (link, versions) in &self.model.documents {
            let site = &self.sites[partition(link)];
            let latest = site.partition.latest(&site.store, link).unwrap();
            assert_eq!(latest.as_deref(), versions.last());
            let last = versions.last().unwrap().version;
            for version in last.saturating_sub(8)..last + 2 {
                let found = site.partition.version(&site.store, link, version).unwrap();
                let expected = versions.iter().find(|document| document.version == version);
                assert_eq!(found.as_ref(), expected, "{link} {version}");
            }
        }
    }
}

fn run(seed: u64, rounds: u64, ways: &mut BTreeMap<&'static str, u64>) {
    let mut world = World::new(seed);
    for round in 0..rounds {
        for _ in 0..world.random.below(20) {
            world.apply();
            world.disturb();
        }
        world.ask();
        if round % 10 == 0 {
            world.compare();
        }
    }
    *ways.entry("cut").or_default() += world.cut;
    for (way, times) in world.ways {
        *ways.entry(way).or_default() += times;
    }
}

#[test]
fn queries_find_what_the_model_finds_whatever_happens_to_the_index() {
    let mut ways = BTreeMap::new();
    for seed in 0..SEEDS {
        run(seed, 60, &mut ways);
    }
    for way in ["links", "heads", "list", "counted", "sorted", "cut"] {
        assert!(ways.get(way).is_some_and(|times| *times > 20), "{way}: {ways:?}");
    }
}
