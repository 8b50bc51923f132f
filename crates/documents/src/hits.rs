//! The best hits so far of a query under way.

use std::collections::BTreeSet;

use query::{Forgotten, Groups, Hit};

/// The first hits of all that were found, in order: one more than a page may have at most, and no
/// more bytes than it may have, but for one hit.
#[derive(Debug)]
pub(crate) struct Hits {
    best: BTreeSet<Hit>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
    /// Hits behind the last one were dropped, as there were too many bytes.
    is_cut: bool,
}

/// What a query under way has found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) hits: Hits,
    pub(crate) count: u64,
    /// What is to be said of all hits together.
    pub(crate) groups: Option<Groups>,
    /// A version that may be a hit is not kept any more.
    pub(crate) forgotten: Option<Forgotten>,
}

impl Findings {
    /// More would change nothing: for a page that is in order, or for groups that are too many.
    pub(crate) fn are_full(&self, is_in_order: bool) -> bool {
        let is_over = self.groups.as_ref().is_some_and(Groups::is_over);
        is_over || is_in_order && self.hits.are_full()
    }
}

impl Hits {
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { best: BTreeSet::new(), bytes: 0, count_max, bytes_max, is_cut: false }
    }

    /// Hits behind the last one do not come into the page.
    pub(crate) fn are_full(&self) -> bool {
        self.is_cut || self.best.len() > self.count_max
    }

    /// Whether the hit would be among the best.
    pub(crate) fn want(&self, hit: &Hit) -> bool {
        !self.are_full() || self.best.last().is_none_or(|last| hit < last)
    }

    pub(crate) fn insert(&mut self, hit: Hit) {
        let bytes = hit.bytes();
        if self.best.insert(hit) {
            self.bytes += bytes;
        }
        let count_max = self.count_max.saturating_add(1);
        while self.best.len() > count_max || self.best.len() > 1 && self.bytes > self.bytes_max {
            self.is_cut |= self.best.len() <= count_max;
            let last = self.best.pop_last().expect("there is one more than may be");
            self.bytes -= last.bytes();
        }
    }

    /// The hits of the page, and whether there are more.
    pub(crate) fn take(&mut self) -> (Vec<Hit>, bool) {
        let more = self.are_full();
        let best = std::mem::take(&mut self.best);
        (best.into_iter().take(self.count_max).collect(), more)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn hit(link: usize, bytes: usize) -> Hit {
        let document = Some(Bytes::from(vec![b'x'; bytes]));
        let (sort_key, selected) = (Vec::new(), Vec::new());
        Hit { sort_key, link: format!("{link:03}"), version: 0, document, selected }
    }

    fn links(hits: &mut Hits) -> (Vec<String>, bool) {
        let (hits, more) = hits.take();
        (hits.into_iter().map(|hit| hit.link).collect(), more)
    }

    #[test]
    fn the_first_ones_are_kept_whatever_the_order_in_which_they_come() {
        for order in [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]] {
            let mut hits = Hits::new(10, 2_500);
            for number in order {
                if hits.want(&hit(number, 0)) {
                    hits.insert(hit(number, 1_000));
                }
            }
            assert_eq!(links(&mut hits), (vec!["001".to_owned(), "002".to_owned()], true));
        }
    }

    #[test]
    fn one_hit_is_kept_however_large_it_is() {
        let mut hits = Hits::new(10, 100);
        hits.insert(hit(2, 5_000));
        assert!(!hits.are_full());
        hits.insert(hit(1, 5_000));
        assert_eq!(links(&mut hits), (vec!["001".to_owned()], true));
    }

    #[test]
    fn a_small_hit_behind_one_that_was_dropped_is_dropped_too() {
        let mut hits = Hits::new(10, 1_500);
        hits.insert(hit(1, 1_000));
        hits.insert(hit(2, 1_000));
        assert!(!hits.want(&hit(3, 1)));
        assert_eq!(links(&mut hits), (vec!["001".to_owned()], true));
    }

    #[test]
    fn more_than_were_asked_for_are_told() {
        let mut hits = Hits::new(2, usize::MAX);
        (0..2).for_each(|number| hits.insert(hit(number, 1)));
        assert!(!hits.are_full());
        hits.insert(hit(2, 1));
        assert_eq!(links(&mut hits), (vec!["000".to_owned(), "001".to_owned()], true));
    }
}
