//! Exactly once: what was acknowledged is there one time, what was refused is not there at all, and
//! what nobody knows is there at most once.

use std::collections::{BTreeMap, BTreeSet};

use super::Broken;

const RULE: &str = "what is done is done exactly once";

/// What became of entries, as their writers know it.
#[derive(Debug, Default)]
pub struct Once {
    done: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Once {
    pub fn done(&mut self, entry: &str) {
        self.unknown.remove(entry);
        self.done.insert(entry.to_owned());
    }

    pub fn unknown(&mut self, entry: &str) {
        if !self.done.contains(entry) {
            self.unknown.insert(entry.to_owned());
        }
    }

    /// Compares with what is really there.
    ///
    /// # Errors
    /// When an entry is missing, is there twice, or should not be there.
    pub fn check<'a>(&self, entries: impl Iterator<Item = &'a str>) -> Result<(), Broken> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for entry in entries {
            *counts.entry(entry).or_default() += 1;
        }
        if let Some((entry, count)) = counts.iter().find(|(_, count)| **count > 1) {
            return Err(Broken::new(RULE, format!("{entry} is there {count} times")));
        }
        if let Some(entry) = self.done.iter().find(|entry| !counts.contains_key(entry.as_str())) {
            return Err(Broken::new(RULE, format!("{entry} was acknowledged and is not there")));
        }
        let known = |entry: &str| self.done.contains(entry) || self.unknown.contains(entry);
        if let Some(entry) = counts.keys().find(|entry| !known(entry)) {
            return Err(Broken::new(RULE, format!("{entry} was refused and is there")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_doubled_and_refused_entries_are_found() {
        let mut once = Once::default();
        once.done("a");
        once.unknown("b");
        once.check(["a", "b"].into_iter()).unwrap();
        once.check(["a"].into_iter()).unwrap();
        assert!(once.check(["b"].into_iter()).is_err(), "missing");
        assert!(once.check(["a", "a"].into_iter()).is_err(), "doubled");
        assert!(once.check(["a", "b", "b"].into_iter()).is_err(), "doubled");
        assert!(once.check(["a", "c"].into_iter()).is_err(), "refused");
    }
}
