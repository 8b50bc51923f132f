//! Where the durable entries of each group lie, and how much of each segment is still needed.
//!
//! The index is sparse. A span covers entries that follow each other in a group and in the file; it
//! knows the place of its first one only. Whoever reads begins there and skips what belongs to
//! other groups. So the index takes 40 bytes for each group in each 64 KiB of log, whatever the
//! entries' size.

use std::collections::{BTreeMap, VecDeque};

use protocol::{GroupId, Position, Term};

use crate::frame::SECTOR_BYTES;
use crate::record::EntryKind;
use crate::segment::NextSegment;

/// No entry of a span begins further than this behind the span's first one, in bytes of the file.
/// A larger number makes the index smaller, and a read skip more before it finds its entry.
const SPAN_BYTES_MAX: u64 = 64 << 10;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    /// The first sector of the frame, counted in the file.
    sector: u32,
    /// Where the record begins in the frame's payload, in bytes.
    pub(crate) within: u32,
}

impl Place {
    /// The record `within` bytes inside of the payload of the frame at `at` bytes of a segment.
    pub(crate) fn new(segment: u64, at: u64, within: usize) -> Self {
        let sector = u32::try_from(at / SECTOR_BYTES).expect("no segment has 2 TiB");
        let within = u32::try_from(within).expect("FRAME_BYTES_MAX fits");
        Self { segment, sector, within }
    }

    /// Where the frame begins in the file, in bytes.
    pub(crate) fn frame_at(self) -> u64 {
        u64::from(self.sector) * SECTOR_BYTES
    }

    /// Roughly where the record begins in the file, in bytes.
    fn offset(self) -> u64 {
        self.frame_at() + u64::from(self.within)
    }
}

/// Entries of one term that follow each other, both in their group and in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    count: u32,
    /// What they take on the disk, roughly.
    bytes: u32,
    term: u64,
    /// Of the first entry, or of one before it that is not needed any more.
    place: Place,
}

impl Span {
    /// The position after the last one.
    fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Takes `count` of its entries away; gives the bytes they took.
    fn lose(&mut self, count: u64) -> u64 {
        let lost = u64::from(self.bytes) * count / u64::from(self.count).max(1);
        self.bytes -= u32::try_from(lost).expect("a part is no more than the whole");
        self.count -= u32::try_from(count).expect("a part is no more than the whole");
        lost
    }
}

/// What a reader needs to know of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) first: Position,
    /// The position after the last one.
    pub(crate) end: Position,
    pub(crate) term: Term,
    pub(crate) place: Place,
    pub(crate) segment: NextSegment,
}

/// The entries of one group.
#[derive(Debug, Default)]
struct GroupIndex {
    /// In order of positions. They do not overlap. Only while a log is read back may entries be
    /// missing between them.
    spans: VecDeque<Span>,
    /// The position of the record that was noted last. **Invariant:** a span grows only by the
    /// record that follows this one, so between the place of a span and each of its entries lies no
    /// other record of the same position.
    newest: u64,
    /// The entries among them that change the membership.
    memberships: VecDeque<Position>,
}

/// A segment, and what of it is needed.
#[derive(Debug)]
struct Held {
    segment: NextSegment,
    /// For each group how many entries it has here, and the bytes they take on the disk.
    live: BTreeMap<GroupId, (u64, u64)>,
}

/// The segments in use. Their numbers follow each other.
#[derive(Debug, Default)]
struct Segments {
    held: VecDeque<Held>,
    live_bytes: u64,
    file_bytes: u64,
}

impl Segments {
    fn at(&mut self, number: u64) -> Option<&mut Held> {
        let first = self.held.front()?.segment.number;
        self.held.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn add(&mut self, group: GroupId, number: u64, bytes: u64) {
        let held = self.at(number).expect("a record lies in a segment that is in use");
        let (entries, all) = held.live.entry(group).or_default();
        *entries += 1;
        *all += bytes;
        self.live_bytes += bytes;
    }

    fn take(&mut self, group: GroupId, number: u64, count: u64, bytes: u64) {
        self.live_bytes -= bytes;
        let held = self.at(number).expect("what is needed keeps its segment");
        let (entries, all) = held.live.get_mut(&group).expect("it was noted when it was written");
        *entries -= count;
        *all -= bytes;
        if *entries == 0 {
            held.live.remove(&group);
        }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Index {
    groups: BTreeMap<GroupId, GroupIndex>,
    segments: Segments,
}

/// A record of an entry, as the index needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) group: GroupId,
    pub(crate) position: Position,
    pub(crate) term: Term,
    pub(crate) place: Place,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
}

impl Index {
    /// A new entry: it replaces the one at its position and all after it.
    pub(crate) fn entry(&mut self, noted: Noted, kind: EntryKind) {
        let known = self.groups.entry(noted.group).or_default();
        known.cut_from(noted.group, noted.position.0, &mut self.segments);
        known.note(noted, &mut self.segments);
        if kind == EntryKind::Membership {
            known.memberships.push_back(noted.position);
        }
    }

    /// The entry at that position, which is needed, lies at another place from now on. While a log
    /// is read back it may be news that there is one.
    ///
    /// # Errors
    /// When it is another entry than the one that is known.
    pub(crate) fn moved(&mut self, noted: Noted, kind: EntryKind) -> Result<(), String> {
        let Noted { group, position, term, .. } = noted;
        let known = self.groups.entry(group).or_default();
        if let Some(other) = known.term(position.0).filter(|other| *other != term.0) {
            return Err(format!(
                "the entry of group {group} at {position} has term {other}, and its copy {term}"
            ));
        }
        known.take_out(group, position.0, &mut self.segments);
        known.note(noted, &mut self.segments);
        if kind == EntryKind::Membership {
            let at = known.memberships.partition_point(|other| *other < position);
            if known.memberships.get(at) != Some(&position) {
                known.memberships.insert(at, position);
            }
        }
        Ok(())
    }

    /// The entries up to there are not needed, or none at all.
    pub(crate) fn base(&mut self, group: GroupId, position: Position, emptied: bool) {
        let Some(known) = self.groups.get_mut(&group) else { return };
        if emptied {
            known.cut_from(group, 0, &mut self.segments);
        } else {
            known.cut_to(group, position.0, &mut self.segments);
        }
        if known.spans.is_empty() {
            self.groups.remove(&group);
        }
    }

    pub(crate) fn begin_segment(&mut self, segment: NextSegment) {
        self.segments.file_bytes += segment.bytes;
        self.segments.held.push_back(Held { segment, live: BTreeMap::new() });
    }

    /// Forgets the segments before that one, and gives their numbers.
    ///
    /// # Errors
    /// When one of them is needed.
    pub(crate) fn drop_before(&mut self, number: u64) -> Result<Vec<u64>, String> {
        let held = &mut self.segments.held;
        let count = held.iter().take_while(|held| held.segment.number < number).count();
        let needed = held.iter().take(count).find_map(|held| {
            let group = held.live.keys().next()?;
            Some(format!("group {group} has entries in segment {}", held.segment.number))
        });
        if let Some(why) = needed {
            return Err(why);
        }
        let dropped: Vec<Held> = held.drain(..count).collect();
        let bytes: u64 = dropped.iter().map(|held| held.segment.bytes).sum();
        self.segments.file_bytes -= bytes;
        Ok(dropped.iter().map(|held| held.segment.number).collect())
    }

    /// The oldest segment that is needed.
    pub(crate) fn oldest_needed(&self) -> u64 {
        let held = &self.segments.held;
        let needed = held.iter().find(|held| !held.live.is_empty()).or(held.back());
        needed.expect("there is always a newest segment").segment.number
    }

    /// The groups that have entries in the oldest segment; none while it is the only one.
    pub(crate) fn pinning(&self) -> Vec<GroupId> {
        let held = &self.segments.held;
        let oldest = held.front().filter(|_| held.len() > 1);
        oldest.map(|held| held.live.keys().copied().collect()).unwrap_or_default()
    }

    /// How many segments there are, and how many bytes their files have.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.segments.held.len(), self.segments.file_bytes)
    }

    /// What the entries that are needed take on the disk, in bytes.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.segments.live_bytes
    }

    /// Entries in the oldest segment, about that many bytes of them or one span: the group, the
    /// first position and the one after the last.
    pub(crate) fn movable(&self, bytes_max: u64) -> Vec<(GroupId, Position, Position)> {
        let Some(oldest) = self.segments.held.front() else { return Vec::new() };
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (group, (entries, _)) in &oldest.live {
            let mut left = *entries;
            let spans = self.groups.get(group).into_iter().flat_map(|known| &known.spans);
            for span in spans.filter(|span| span.place.segment == oldest.segment.number) {
                if !found.is_empty() && bytes + u64::from(span.bytes) > bytes_max {
                    return found;
                }
                bytes += u64::from(span.bytes);
                found.push((*group, Position(span.first), Position(span.end())));
                left = left.saturating_sub(u64::from(span.count));
                if left == 0 {
                    break;
                }
            }
        }
        found
    }

    /// Where to read the entries of a group from `from` on and before `end`: at most that many
    /// places, the first of them with the entry at `from`. None when that entry is not there.
    pub(crate) fn stretches(
        &self,
        group: GroupId,
        (from, end): (Position, Position),
        count_max: usize,
    ) -> Vec<Stretch> {
        let Some(known) = self.groups.get(&group) else { return Vec::new() };
        let Some(at) = known.span_of(from.0) else { return Vec::new() };
        let first = self.segments.held.front().map_or(0, |held| held.segment.number);
        let held = |number: u64| {
            let at = usize::try_from(number.saturating_sub(first)).ok();
            at.and_then(|at| self.segments.held.get(at)).expect("it is in use").segment
        };
        let spans = known.spans.iter().skip(at).take_while(|span| span.first < end.0);
        let stretch = |span: &Span| Stretch {
            first: Position(span.first),
            end: Position(span.end()),
            term: Term(span.term),
            place: span.place,
            segment: held(span.place.segment),
        };
        spans.take(count_max).map(stretch).collect()
    }

    pub(crate) fn term(&self, group: GroupId, position: Position) -> Option<Term> {
        self.groups.get(&group)?.term(position.0).map(Term)
    }

    /// From which position on which term is in force.
    pub(crate) fn terms(&self, group: GroupId) -> Vec<(Position, Term)> {
        let mut terms: Vec<(Position, Term)> = Vec::new();
        for span in self.groups.get(&group).into_iter().flat_map(|known| &known.spans) {
            if terms.last().is_none_or(|(_, term)| term.0 != span.term) {
                terms.push((Position(span.first), Term(span.term)));
            }
        }
        terms
    }

    pub(crate) fn last(&self, group: GroupId) -> Option<Position> {
        Some(Position(self.groups.get(&group)?.spans.back()?.end() - 1))
    }

    /// What its entries take on the disk.
    pub(crate) fn bytes(&self, group: GroupId) -> u64 {
        let spans = self.groups.get(&group).into_iter().flat_map(|known| &known.spans);
        spans.map(|span| u64::from(span.bytes)).sum()
    }

    pub(crate) fn memberships(&self, group: GroupId) -> Vec<Position> {
        let known = self.groups.get(&group);
        known.map(|known| known.memberships.iter().copied().collect()).unwrap_or_default()
    }

    /// The first position after the base that is not there although a later one is.
    pub(crate) fn gap(&self, group: GroupId, base: Position) -> Option<Position> {
        let mut due = base.0.saturating_add(1);
        for span in self.groups.get(&group).into_iter().flat_map(|known| &known.spans) {
            if span.first != due {
                return Some(Position(due));
            }
            due = span.end();
        }
        None
    }

    /// How many spans there are: what the index takes in memory.
    #[cfg(test)]
    fn spans(&self) -> usize {
        self.groups.values().map(|known| known.spans.len()).sum()
    }
}

impl GroupIndex {
    /// Which span has that position.
    fn span_of(&self, position: u64) -> Option<usize> {
        let at = self.spans.partition_point(|span| span.first <= position).checked_sub(1)?;
        (position < self.spans[at].end()).then_some(at)
    }

    fn term(&self, position: u64) -> Option<u64> {
        self.span_of(position).map(|at| self.spans[at].term)
    }

    /// A record of an entry that is in no span.
    fn note(&mut self, noted: Noted, segments: &mut Segments) {
        let Noted { group, position: Position(position), term: Term(term), place, bytes } = noted;
        segments.add(group, place.segment, bytes);
        let bytes = u32::try_from(bytes).expect("FRAME_BYTES_MAX fits");
        let follows = self.newest.checked_add(1) == Some(position);
        self.newest = position;
        let at = self.spans.partition_point(|span| span.first <= position);
        if let Some(span) = at.checked_sub(1).and_then(|before| self.spans.get_mut(before))
            && follows
            && span.end() == position
            && span.term == term
            && span.place.segment == place.segment
            && place.offset() - span.place.offset() < SPAN_BYTES_MAX
            && let Some(all) = span.bytes.checked_add(bytes)
        {
            (span.count, span.bytes) = (span.count + 1, all);
        } else {
            self.spans.insert(at, Span { first: position, count: 1, bytes, term, place });
        }
    }

    /// Forgets all from that position on.
    fn cut_from(&mut self, group: GroupId, position: u64, segments: &mut Segments) {
        while let Some(span) = self.spans.back_mut().filter(|span| span.end() > position) {
            let count = span.end() - position.max(span.first);
            let lost = span.lose(count);
            segments.take(group, span.place.segment, count, lost);
            if span.count == 0 {
                self.spans.pop_back();
            }
        }
        while self.memberships.back().is_some_and(|last| last.0 >= position) {
            self.memberships.pop_back();
        }
    }

    /// Forgets all up to that position.
    fn cut_to(&mut self, group: GroupId, position: u64, segments: &mut Segments) {
        let end = position.saturating_add(1);
        while let Some(span) = self.spans.front_mut().filter(|span| span.first < end) {
            let count = span.end().min(end) - span.first;
            let lost = span.lose(count);
            span.first += count;
            segments.take(group, span.place.segment, count, lost);
            if span.count == 0 {
                self.spans.pop_front();
            }
        }
        while self.memberships.front().is_some_and(|first| first.0 < end) {
            self.memberships.pop_front();
        }
    }

    /// Forgets the place of one entry.
    fn take_out(&mut self, group: GroupId, position: u64, segments: &mut Segments) {
        let Some(at) = self.span_of(position) else { return };
        let span = &mut self.spans[at];
        let after = span.end() - 1 - position;
        let mut rest = Span { first: position + 1, ..*span };
        let bytes_after = span.lose(after);
        rest.count = u32::try_from(after).expect("a part is no more than the whole");
        rest.bytes = u32::try_from(bytes_after).expect("a part is no more than the whole");
        let lost = span.lose(1);
        segments.take(group, span.place.segment, 1, lost);
        if span.count == 0 {
            self.spans.remove(at);
        }
        if rest.count > 0 {
            let at = self.spans.partition_point(|span| span.first <= position);
            self.spans.insert(at, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::mix;

    /// A record in the file, as a naive list has it.
    #[derive(Clone, Copy, Debug)]
    struct Written {
        group: u32,
        position: u64,
        term: u64,
        kind: EntryKind,
        place: Place,
        bytes: u64,
    }

    /// The file as a list of all records, and of each group the records that are needed.
    #[derive(Default)]
    struct Naive {
        file: Vec<Written>,
        groups: BTreeMap<u32, Vec<Written>>,
        bases: BTreeMap<u32, u64>,
    }

    struct Rng(u64);

    impl Rng {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = mix(self.0);
            self.0 % end
        }
    }

    fn segment(number: u64) -> NextSegment {
        NextSegment::new(number, 1 << 20, 0, None)
    }

    fn written(rng: &mut Rng, naive: &Naive, number: u64, at: &mut u64) -> Written {
        let group = u32::try_from(rng.below(3)).expect("small");
        let base = naive.bases.get(&group).copied().unwrap_or(0);
        let known = naive.groups.get(&group).map_or(&[][..], |known| known);
        let last = known.last().map_or(base, |last| last.position);
        let position = if rng.below(6) == 0 && last > base {
            base + 1 + rng.below(last - base)
        } else {
            last + 1
        };
        // Some frames are small and others long.
        *at += 512 * (1 + rng.below(2) * rng.below(60));
        let within = usize::try_from(rng.below(400)).expect("small");
        let kind = if rng.below(7) == 0 { EntryKind::Membership } else { EntryKind::Normal };
        let (term, bytes) = (1 + rng.below(2), 1 + rng.below(900));
        let place = Place::new(number, *at, within);
        Written { group, position, term, kind, place, bytes }
    }

    fn noted(written: &Written) -> Noted {
        let Written { group, position, term, place, bytes, .. } = *written;
        let (group, position, term) = (GroupId(group), Position(position), Term(term));
        Noted { group, position, term, place, bytes }
    }

    fn step(rng: &mut Rng, index: &mut Index, naive: &mut Naive, at: &mut (u64, u64)) {
        match rng.below(12) {
            0 => {
                *at = (at.0 + 1, 512);
                index.begin_segment(segment(at.0));
            }
            1 => {
                let group = u32::try_from(rng.below(3)).expect("small");
                let base = naive.bases.entry(group).or_default();
                let known = naive.groups.entry(group).or_default();
                *base += rng.below(2 + u64::try_from(known.len()).expect("few"));
                let emptied = known.last().is_none_or(|last| *base > last.position);
                known.retain(|one| one.position > *base);
                index.base(GroupId(group), Position(*base), emptied);
            }
            2 => {
                for (group, from, end) in index.movable(1 + rng.below(3_000)) {
                    at.1 += 512;
                    let known = naive.groups.get_mut(&group.0).expect("it has entries there");
                    let moved = known
                        .iter_mut()
                        .filter(|one| one.position >= from.0 && one.position < end.0);
                    for (one, within) in moved.zip((0..).step_by(50)) {
                        one.place = Place::new(at.0, at.1, within);
                        index.moved(noted(one), one.kind).expect("it is the same entry");
                        naive.file.push(*one);
                    }
                }
            }
            3 => {
                let oldest = index.oldest_needed();
                index.drop_before(oldest).expect("they are not needed");
            }
            _ => {
                let one = written(rng, naive, at.0, &mut at.1);
                index.entry(noted(&one), one.kind);
                let known = naive.groups.entry(one.group).or_default();
                known.retain(|other| other.position < one.position);
                known.push(one);
                naive.file.push(one);
            }
        }
    }

    fn check(index: &Index, naive: &Naive) {
        for (group, known) in &naive.groups {
            let id = GroupId(*group);
            let base = Position(naive.bases.get(group).copied().unwrap_or(0));
            assert_eq!(index.last(id).map(|last| last.0), known.last().map(|last| last.position));
            assert_eq!(index.gap(id, base), None);
            let memberships = known.iter().filter(|one| one.kind == EntryKind::Membership);
            let memberships: Vec<_> = memberships.map(|one| Position(one.position)).collect();
            assert_eq!(index.memberships(id), memberships);
            for one in known {
                assert_eq!(index.term(id, Position(one.position)), Some(Term(one.term)));
                let range = (Position(one.position), Position(one.position + 1));
                let stretch = index.stretches(id, range, 1)[0];
                assert_eq!(stretch.segment.number, one.place.segment);
                let behind = one.place.offset() - stretch.place.offset();
                assert!(behind < SPAN_BYTES_MAX, "{behind} bytes are skipped");
                // Whoever reads on from the place comes to this record before any other of its
                // position.
                let met = naive.file.iter().find(|other| {
                    other.group == *group
                        && other.position == one.position
                        && other.place.segment == stretch.segment.number
                        && other.place.offset() >= stretch.place.offset()
                });
                assert_eq!(met.map(|met| met.place), Some(one.place));
            }
        }
        let needed: u64 = u64::try_from(naive.groups.values().flatten().count()).expect("few");
        let held: u64 =
            index.segments.held.iter().flat_map(|held| held.live.values()).map(|one| one.0).sum();
        assert_eq!(held, needed);
        let oldest = naive.groups.values().flatten().map(|one| one.place.segment).min();
        assert!(oldest.is_none_or(|oldest| index.oldest_needed() == oldest));
        let live: u64 =
            index.segments.held.iter().flat_map(|held| held.live.values()).map(|one| one.1).sum();
        assert_eq!(live, index.live_bytes());
    }

    #[test]
    fn the_index_finds_what_a_naive_list_finds() {
        for seed in 0..150 {
            let (mut index, mut naive) = (Index::default(), Naive::default());
            let (mut rng, mut at) = (Rng(seed), (1, 512));
            index.begin_segment(segment(1));
            for _ in 0..250 {
                step(&mut rng, &mut index, &mut naive, &mut at);
                check(&index, &naive);
            }
        }
    }

    #[test]
    fn many_small_entries_take_one_span() {
        let mut index = Index::default();
        index.begin_segment(segment(1));
        let place = |position: u64| Place::new(1, 512 * position, 0);
        for position in 1..=1_000 {
            let (group, term) = (GroupId(1), Term(1));
            let place = place(position);
            let noted = Noted { group, position: Position(position), term, place, bytes: 512 };
            index.entry(noted, EntryKind::Normal);
        }
        assert_eq!(index.spans(), 8, "one for each 64 KiB");
    }

    #[test]
    fn a_copy_of_another_entry_is_noticed() {
        let mut index = Index::default();
        index.begin_segment(segment(1));
        let noted = |term| {
            let (group, position) = (GroupId(1), Position(1));
            Noted { group, position, term: Term(term), place: Place::new(1, 512, 0), bytes: 1 }
        };
        index.entry(noted(1), EntryKind::Normal);
        assert!(index.moved(noted(2), EntryKind::Normal).unwrap_err().contains("term 1"));
        assert!(index.drop_before(2).unwrap_err().contains("segment 1"));
    }
}
