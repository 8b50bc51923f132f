//! The newest changes: readers that go on at one replica or the other come to the same documents.

use std::collections::BTreeMap;

use protocol::{Moment, Term};
use random::Random;

use super::Site;
use super::equality::{STEP_MICROS, follow};
use super::generate::command;
use super::model::Model;
use crate::Place;

/// Somebody who has nothing but the changes.
struct Reader {
    place: Place,
    live: BTreeMap<String, u64>,
    told: usize,
    began_anew: usize,
}

impl Reader {
    fn new(site: &Site) -> Self {
        let mut reader = Self {
            place: Place::after(site.applied.position),
            live: BTreeMap::new(),
            told: 0,
            began_anew: 0,
        };
        reader.begin_anew(site);
        reader.began_anew = 0;
        reader
    }

    fn begin_anew(&mut self, site: &Site) {
        self.place = Place::after(site.applied.position);
        self.live = live(site);
        self.began_anew += 1;
    }

    /// Takes at most that many changes.
    fn read(&mut self, site: &Site, count: usize) {
        let changes = site.partition.changes();
        let Some(next) = changes.after(self.place, site.applied.position) else {
            return self.begin_anew(site);
        };
        for change in next.take(count) {
            assert!(change.place > self.place);
            self.place = change.place;
            self.told += 1;
            let newest = change.after.as_ref().or(change.before.as_ref()).unwrap();
            let known = self.live.get(&newest.link).copied();
            let before = change.before.as_ref().filter(|before| !before.is_deleted());
            assert_eq!(before.map(|before| before.version), known, "{}", newest.link);
            match change.after.as_ref().filter(|after| !after.is_deleted()) {
                Some(after) => self.live.insert(after.link.clone(), after.version),
                None => self.live.remove(&newest.link),
            };
        }
    }
}

fn live(site: &Site) -> BTreeMap<String, u64> {
    let mut live = BTreeMap::new();
    for folder in ["/core/examples", "/core/examples-two", "/core/examples/deep"] {
        for number in 0..40 {
            let link = format!("{folder}/{number}");
            let latest = site.partition.latest(&site.store, &link).unwrap();
            if let Some(latest) = latest.filter(|latest| !latest.is_deleted()) {
                live.insert(link, latest.version);
            }
        }
    }
    live
}

#[test]
fn readers_miss_nothing_and_are_told_nothing_twice() {
    let (mut told, mut began_anew) = (0, 0);
    for seed in 0..12 {
        let mut random = Random::of_seed(seed);
        let mut sites = [Site::new(1), Site::new(1)];
        let bytes_max = *random.pick(&[2_000, 20_000, 4 << 20]);
        sites[1].partition.set_changes_bytes(bytes_max);
        let mut readers: Vec<Reader> = (0..3).map(|_| Reader::new(&sites[0])).collect();
        let mut model = Model::default();
        let mut now = Moment(STEP_MICROS * 10);
        for _ in 0..600 {
            now.0 += random.below(STEP_MICROS);
            let command = command(&mut random, &model, Term(2), now);
            for site in &mut sites {
                site.applied.term = Term(2);
            }
            let outcome = sites[0].apply(&command);
            assert_eq!(sites[1].apply(&command), outcome);
            follow(&mut model, &sites[0], &command, &outcome);
            if random.one_in(100) {
                sites[1].reopen();
                sites[1].partition.set_changes_bytes(bytes_max);
            }
            assert!(sites[1].partition.changes().bytes() <= bytes_max);
            for reader in &mut readers {
                if random.one_in(4) {
                    let count = random.index(9);
                    reader.read(&sites[random.index(2)], count);
                }
            }
        }
        for reader in &mut readers {
            reader.read(&sites[0], usize::MAX);
            assert_eq!(reader.live, live(&sites[0]), "seed {seed}");
            told += reader.told;
            began_anew += reader.began_anew;
        }
    }
    assert!(told > 5_000 && began_anew > 20, "{told} changes, {began_anew} times anew");
}
