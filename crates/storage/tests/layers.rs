//! The layers over a tree do what one map does, whatever is written, moved, viewed and lost.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use proptest::prelude::*;
use storage::{Batch, Layers, MemoryStore, Reader, Run, StateStore, Tables, Write};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What happens to a store, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Option<u8>)>),
    /// Begins to move what gathered; only if nothing is on its way.
    Begin,
    /// What is on its way gets there.
    End,
    /// What is on its way is in the tree, but that is not known yet.
    Add,
    View,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..40_u8, prop::option::of(any::<u8>()));
    prop_oneof![
        8 => prop::collection::vec(write, 0..6).prop_map(Step::Write),
        2 => Just(Step::Begin),
        1 => Just(Step::Add),
        2 => Just(Step::End),
        2 => Just(Step::View),
        1 => Just(Step::Crash),
    ]
}

/// Keys of several groups and families, some of which begin alike, and short ones.
fn key(number: u8) -> Vec<u8> {
    let mut key = vec![0, 0, 0, number % 3, 0, 0, 0, 1, number % 2];
    match number % 5 {
        0 => key.truncate(usize::from(number % 9) + 1),
        1 => {}
        _ => key.extend_from_slice(format!("/a/{}", number / 5).as_bytes()),
    }
    key
}

#[derive(Default)]
struct World {
    layers: Layers,
    tree: Map,
    run: Option<Run>,
    /// What it must hold now, and what after each number of batches since it was opened.
    model: Map,
    history: Vec<Map>,
    views: Vec<(Tables, Map, Map)>,
}

impl World {
    fn new(tree: Map) -> Self {
        let history = vec![tree.clone()];
        Self { model: tree.clone(), tree, history, ..Self::default() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(writes) => self.write(&writes),
            Step::Begin if self.run.is_none() => self.run = self.layers.begin_run(),
            Step::Begin => {}
            Step::Add => self.add(),
            Step::End => {
                self.add();
                if let Some(run) = self.run.take() {
                    self.layers.end_run(&run);
                }
            }
            Step::View => {
                self.views.push((self.layers.view(), self.tree.clone(), self.model.clone()));
            }
            Step::Crash => *self = Self::new(std::mem::take(&mut self.tree)),
        }
    }

    fn write(&mut self, writes: &[(u8, Option<u8>)]) {
        let mut batch = Batch::new();
        for (number, value) in writes {
            let key = key(*number);
            match value {
                Some(value) => {
                    let former = self.model.insert(key.clone(), vec![*value]);
                    if former.is_none() && value % 2 == 0 {
                        batch.put_new(key, [*value]);
                    } else {
                        batch.put(key, [*value]);
                    }
                }
                None => {
                    self.model.remove(&key);
                    batch.delete(key);
                }
            }
        }
        self.layers.write(batch);
        self.history.push(self.model.clone());
    }

    /// What a crash would leave is the state after as many batches as the run says.
    fn add(&mut self) {
        let Some(run) = &self.run else { return };
        let added = run.each(|key, value| {
            match value {
                Some(value) => self.tree.insert(key.to_vec(), value.to_vec()),
                None => self.tree.remove(key),
            };
            Ok::<(), ()>(())
        });
        assert_eq!(added, Ok(()));
    }

    fn check(&self, from: &[u8], to: &[u8], stop: usize) {
        for number in 0..40 {
            let key = key(number);
            let found =
                self.layers.get(&key).unwrap_or_else(|| self.tree.get(&key).map(|v| &v[..]));
            assert_eq!(found, self.model.get(&key).map(|value| &value[..]), "{key:?}");
        }
        for reverse in [false, true] {
            let tables = self.layers.tables();
            let found = scan(&tables, &self.tree, (from, to), reverse, stop);
            assert_eq!(found, naive(&self.model, (from, to), reverse, stop));
            for (view, tree, model) in &self.views {
                let found = scan(view, tree, (from, to), reverse, stop);
                assert_eq!(found, naive(model, (from, to), reverse, stop));
                assert_eq!(
                    view.get(from).unwrap_or_else(|| tree.get(from).map(|value| &value[..])),
                    model.get(from).map(|value| &value[..])
                );
            }
        }
        let in_tree = usize::try_from(self.layers.in_tree()).expect("few");
        if self.run.is_none() {
            assert_eq!(self.tree, self.history[in_tree], "a crash would leave whole batches");
        }
        if in_tree + 1 == self.history.len() {
            assert_eq!(self.tree, self.model);
        }
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(
    tables: &Tables,
    tree: &Map,
    (from, to): (&[u8], &[u8]),
    reverse: bool,
    stop: usize,
) -> Pairs {
    let mut pairs = Pairs::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pairs.push((key.to_vec(), value.to_vec()));
        if pairs.len() == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut within: Vec<_> = match from < to {
        true => {
            tree.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))).map(Ok).collect()
        }
        false => Vec::new(),
    };
    if reverse {
        within.reverse();
    }
    tables.scan((from, to), reverse, within.into_iter(), &mut visit).expect("a map can be read");
    pairs
}

fn naive(model: &Map, (from, to): (&[u8], &[u8]), reverse: bool, stop: usize) -> Pairs {
    let within = model.iter().filter(|(key, _)| from <= &key[..] && &key[..] < to);
    let mut pairs: Pairs = within.map(|(key, value)| (key.clone(), value.clone())).collect();
    if reverse {
        pairs.reverse();
    }
    pairs.truncate(stop);
    pairs
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() }
}

/// The keys of a batch, each with how long its value is, if it has one.
fn writes() -> impl Strategy<Value = Vec<(u8, Option<usize>)>> {
    prop::collection::vec((0..40_u8, prop::option::of(0..200_usize)), 0..6)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_layers_over_a_tree_are_one_map(
        steps in prop::collection::vec((step(), 0..40_u8, 0..40_u8, 1..9_usize), 1..80)
    ) {
        let mut world = World::new(Map::new());
        for (step, from, to, stop) in steps {
            world.step(step);
            world.check(&key(from), &key(to), stop);
        }
    }

    #[test]
    fn a_store_in_memory_is_one_map_and_a_crash_leaves_whole_batches(
        batches in prop::collection::vec(
            (writes(), 0..60_u8, 0..8_usize),
            1..200,
        )
    ) {
        let mut store = MemoryStore::new();
        let mut history = vec![Map::new()];
        let mut durable = 0;
        for (writes, then, kept) in batches {
            let mut batch = Batch::new();
            let mut model = history.last().unwrap().clone();
            for (number, value) in writes {
                let key = key(number);
                // Long, so that runs are moved often.
                match value.map(|value| vec![number; value * 10]) {
                    Some(value) => {
                        let is_new = model.insert(key.clone(), value.clone()).is_none();
                        let write = if is_new { Write::PutNew } else { Write::Put };
                        batch.writes.push((key, write(value)));
                    }
                    None => {
                        model.remove(&key);
                        batch.delete(key);
                    }
                }
            }
            store.write(batch).unwrap();
            history.push(model);
            if then == 0 {
                store.crash(kept);
                history.truncate((durable + kept + 1).min(history.len()));
                durable = history.len() - 1;
            } else if then < 4 {
                store.persist().unwrap();
                durable = history.len() - 1;
            }
            let mut found = Map::new();
            store.scan(&[], &[0xff; 9], false, &mut |key, value| {
                found.insert(key.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            }).unwrap();
            prop_assert_eq!(&found, history.last().unwrap());
        }
    }
}
