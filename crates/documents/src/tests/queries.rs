//! Queries against the model, while the index follows, is thrown away, and snapshots come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::query::{QueryOption, QuerySpecification, QueryTerm};
use protocol::{Moment, Term};
use query::{
    CompiledQuery, Cursor, Decimal, Hit, Page, Scalar, groups_of, groups_shown, merge, of_group,
};
use random::Random;
use serde_json::Value;

use super::generate::{command, specification};
use super::model::{Found, Model, partition, values_of};
use super::{Site, aggregates};
use crate::bounds::Bounds;
use crate::plan::Way;
use crate::{AppliedCommand, Search, Wanted};

/// How much time goes by with each command, in microseconds.
const STEP_MICROS: u64 = 100;

/// How many worlds are gone through.
const SEEDS: u64 = 32;

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
            1 => {
                Bounds { pending: 2, behind: 2, fields: 6, leaves: 64, listed: [1, 2, 4], lists: 4 }
            }
            2 => Bounds {
                pending: 3,
                behind: 1,
                fields: 100,
                leaves: 64,
                listed: [0, 0, 0],
                lists: 1024,
            },
            _ => Bounds {
                pending: 5,
                behind: 9,
                fields: 100,
                leaves: 200,
                listed: [1, 3, 6],
                lists: 1024,
            },
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
        let Some(expected) = self.model.query(&specification, now) else {
            // Whole, as a page may end before it comes to such a document.
            let is_told = self.sites.iter().any(|Site { store, partition, .. }| {
                let page = partition.query(store, &compiled, None, 1_000, now).unwrap();
                page.forgotten.is_some()
            });
            assert!(is_told, "a version that is gone is missed\n{specification:#?}");
            self.count_past("forgotten");
            return;
        };
        if specification.has(QueryOption::TimeSnapshot) && !expected.is_empty() {
            self.count_past("past");
        }
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
        self.aggregate(&specification, &expected, now);
        if self.random.one_in(5) {
            self.group(&specification, &expected, now);
        }
        self.count(specification, expected.len(), now);
    }

    /// The pages of all groups together have what the query finds, each document in the group of
    /// each of its values.
    fn group(&mut self, specification: &QuerySpecification, expected: &[Found], now: Moment) {
        let field = *self.random.pick(&aggregates::FIELDS);
        let mut grouped = specification.clone();
        grouped.options.push(QueryOption::GroupBy);
        grouped.grouping.group_by_term = Some(QueryTerm::field(field));
        CompiledQuery::new(&grouped).unwrap();
        let compiled = Arc::new(CompiledQuery::new(&groups_of(&grouped)).unwrap());
        let aggregation = Arc::clone(compiled.aggregation().unwrap());
        let mut all = aggregation.begin();
        for site in 0..self.sites.len() {
            all.merge(self.page(site, &compiled, None, 1, now).groups.unwrap());
        }
        let (groups, more) = groups_shown(&grouped, aggregation.rows(all), None).unwrap();
        assert!(!more);
        let names_of = |found: &Found| {
            let values = values_of(&found.document, field);
            let mut names: Vec<String> = values.into_iter().map(name_of).collect();
            if names.is_empty() {
                names.push("DocumentsWithoutResults".into());
            }
            names
        };
        let names: BTreeSet<String> = expected.iter().flat_map(names_of).collect();
        let shown: BTreeSet<String> = groups.iter().map(|group| group.name.clone()).collect();
        assert_eq!(shown, names, "{grouped:#?}");
        for group in groups {
            let of_group = of_group(&grouped, &group.values);
            let compiled = Arc::new(CompiledQuery::new(&of_group).unwrap());
            let found = self.pages(&compiled, 1_000, now);
            let found: Vec<(&str, u64)> =
                found.iter().map(|hit| (hit.link.as_str(), hit.version)).collect();
            let of_name = expected.iter().filter(|found| names_of(found).contains(&group.name));
            let wanted: Vec<(&str, u64)> =
                of_name.map(|found| (found.link.as_str(), found.version)).collect();
            assert_eq!(found, wanted, "{} of {grouped:#?}", group.name);
        }
    }

    fn count_past(&mut self, what: &'static str) {
        *self.ways.entry(what).or_default() += 1;
    }

    fn aggregate(&mut self, specification: &QuerySpecification, expected: &[Found], now: Moment) {
        let specification = aggregates::specification(&mut self.random, specification);
        let compiled = Arc::new(CompiledQuery::new(&specification).unwrap());
        let mut parts = Vec::new();
        for site in 0..self.sites.len() {
            let page = self.page(site, &compiled, None, 1, now);
            assert!(page.hits.is_empty() && !page.more);
            parts.push(page.groups.unwrap());
        }
        let found = aggregates::found(&compiled, parts);
        let expected = aggregates::expected(&specification, expected);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, values) in expected {
            let is_same = |(found, wanted): (&String, &String)| wanted == "*" || found == wanted;
            assert!(
                found[&key].iter().zip(&values).all(is_same),
                "{key:?}: {values:?}, found {:?}\n{specification:#?}",
                found[&key]
            );
        }
    }

    /// All pages of all partitions, each cursor by way of its text.
    fn pages(&mut self, compiled: &Arc<CompiledQuery>, limit: usize, now: Moment) -> Vec<Hit> {
        let mut all = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let pages = (0..self.sites.len())
                .map(|site| self.page(site, compiled, after.as_ref(), limit, now))
                .collect::<Vec<Page>>();
            assert!(pages.iter().all(|page| page.forgotten.is_none()), "nothing is missing");
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

/// As the group of a value is called.
fn name_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            Scalar::Number(Decimal::parse(&number.to_string()).unwrap()).to_json()
        }
        other => other.to_string(),
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
    let all = ["links", "heads", "list", "counted", "sorted", "cut", "past", "forgotten"];
    for way in all {
        assert!(ways.get(way).is_some_and(|times| *times > 20), "{way}: {ways:?}");
    }
}
