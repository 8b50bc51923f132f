//! Who hears whom: each node says whom it hears, and passes on what others said, so that every node
//! that can be reached at all knows the ways. A way may lead along paths that work in one direction
//! only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::packet::{Heard, NodeKey, PACKET_BYTES_MAX, Report, WAY_NODES_MAX};

/// Whoever was not heard for this long is not heard, in microseconds: some datagrams may get lost.
const HEARD_MICROS_MAX: u64 = 350_000;

/// A link on which nothing was heard for this long is not well, in microseconds: nothing gets lost
/// on a link.
const LINK_HEARD_MICROS_MAX: u64 = 200_000;

/// A node that has reported by this much later than its link fell silent lives, and the link does
/// not.
const LATER_MICROS: u64 = 150_000;

/// A report that is older counts for nothing, in microseconds.
const REPORT_MICROS_MAX: u64 = 700_000;

/// Nodes beyond this number are not reported on: a report has to fit into a packet.
const NODES_MAX: usize = 64;

/// What a report takes in a packet beside its list, and each in its list, at most.
const REPORT_BYTES: usize = 30;
const HEARD_BYTES: usize = 12;

/// How a packet goes to the next node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Datagram,
    Link(u64),
}

/// How another node was heard here.
#[derive(Debug, Default)]
struct Neighbour {
    by_datagram: Option<u64>,
    /// And on which link.
    by_link: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    /// When the report was made, as far as can be told here.
    at: u64,
    hears: Vec<Heard>,
}

#[derive(Debug)]
pub(crate) struct Hearing {
    me: NodeKey,
    number: u64,
    neighbours: BTreeMap<NodeKey, Neighbour>,
    reports: BTreeMap<NodeKey, Known>,
    /// Where the next packet begins with the reports of others, if not all fit into one.
    turn: usize,
}

fn is_fresh(at: Option<u64>, now: u64) -> bool {
    at.is_some_and(|at| now.saturating_sub(at) < HEARD_MICROS_MAX)
}

impl Hearing {
    /// `first` numbers its first report: higher than in an earlier life, if that is possible.
    pub(crate) fn new(me: NodeKey, first: u64) -> Self {
        let (neighbours, reports) = (BTreeMap::new(), BTreeMap::new());
        Self { me, number: first, neighbours, reports, turn: 0 }
    }

    pub(crate) fn heard(&mut self, from: NodeKey, over: Over, now: u64) {
        if from == self.me
            || (self.neighbours.len() >= NODES_MAX && !self.neighbours.contains_key(&from))
        {
            return;
        }
        let neighbour = self.neighbours.entry(from).or_default();
        match over {
            Over::Datagram => neighbour.by_datagram = Some(now),
            Over::Link(link) => neighbour.by_link = Some((link, now)),
        }
    }

    pub(crate) fn link_closed(&mut self, link: u64) {
        for neighbour in self.neighbours.values_mut() {
            neighbour.by_link.take_if(|(known, _)| *known == link);
        }
    }

    pub(crate) fn learn(&mut self, reports: Vec<Report>, now: u64) {
        for report in reports {
            let age = u64::from(report.age_ms) * 1_000;
            let (node, at) = (report.node, now.saturating_sub(age));
            if node == self.me || age >= REPORT_MICROS_MAX || report.hears.len() > NODES_MAX {
                continue;
            }
            let is_news = self.reports.get(&node).is_none_or(|known| {
                // A node that began anew may count from lower on.
                known.number < report.number || now.saturating_sub(known.at) >= REPORT_MICROS_MAX
            });
            let has_room = self.reports.len() < NODES_MAX || self.reports.contains_key(&node);
            if is_news && has_room {
                let Report { number, hears, .. } = report;
                self.reports.insert(node, Known { number, at, hears });
            }
        }
    }

    /// What is told to the others: whom this node hears, and as many reports of others as fit.
    pub(crate) fn report(&mut self, now: u64) -> Vec<Report> {
        self.number += 1;
        self.reports.retain(|_, known| now.saturating_sub(known.at) < REPORT_MICROS_MAX);
        let hears = self.neighbours.iter().filter_map(|(node, neighbour)| {
            let by_datagram = is_fresh(neighbour.by_datagram, now);
            let by_link = is_fresh(neighbour.by_link.map(|(_, at)| at), now);
            (by_datagram || by_link).then_some(Heard { node: *node, by_datagram, by_link })
        });
        let own = Report { node: self.me, number: self.number, age_ms: 0, hears: hears.collect() };
        let bytes_of = |hears: &[Heard]| REPORT_BYTES + HEARD_BYTES * hears.len();
        let mut room = (PACKET_BYTES_MAX - 2 * REPORT_BYTES).saturating_sub(bytes_of(&own.hears));
        let mut all = vec![own];
        let count = self.reports.len();
        let from = if count == 0 { 0 } else { self.turn % count };
        for (node, known) in self.reports.iter().cycle().skip(from).take(count) {
            let bytes = bytes_of(&known.hears);
            if bytes > room {
                break;
            }
            room -= bytes;
            self.turn += 1;
            let age = now.saturating_sub(known.at) / 1_000;
            let age_ms = u32::try_from(age).unwrap_or(u32::MAX);
            let (node, number, hears) = (*node, known.number, known.hears.clone());
            all.push(Report { node, number, age_ms, hears });
        }
        all
    }

    /// How `by` hears `from`, if it does.
    fn hears(&self, by: NodeKey, from: NodeKey, now: u64) -> Option<Heard> {
        let known = self.reports.get(&by)?;
        if now.saturating_sub(known.at) >= REPORT_MICROS_MAX {
            return None;
        }
        known.hears.iter().find(|heard| heard.node == from).copied()
    }

    /// Whether a link with that node works, in both directions.
    pub(crate) fn is_linked(&self, node: NodeKey, now: u64) -> bool {
        let by_link = self.neighbours.get(&node).and_then(|neighbour| neighbour.by_link);
        by_link.is_some_and(|(_, at)| now.saturating_sub(at) < LINK_HEARD_MICROS_MAX)
            && self.hears(node, self.me, now).is_some_and(|heard| heard.by_link)
    }

    /// Whether a node is known to live though the link with it is not well. One that is only slow,
    /// or stands still, is silent on all paths: a detour would be as slow.
    pub(crate) fn lives_without_link(&self, node: NodeKey, now: u64) -> bool {
        let Some(report) = self.reports.get(&node) else { return false };
        let by_link = self.neighbours.get(&node).and_then(|neighbour| neighbour.by_link);
        let is_deaf = self.hears(node, self.me, now).is_none_or(|heard| !heard.by_link);
        is_deaf || by_link.is_none_or(|(_, at)| report.at >= at + LATER_MICROS)
    }

    /// How a packet goes to a node that hears this one.
    pub(crate) fn step_to(&self, node: NodeKey, now: u64) -> Option<Over> {
        let heard = self.hears(node, self.me, now)?;
        if heard.by_datagram {
            return Some(Over::Datagram);
        }
        let (link, _) = self.neighbours.get(&node)?.by_link?;
        Some(Over::Link(link))
    }

    /// The shortest way to a node: those on it in order, the node itself last.
    pub(crate) fn way_to(&self, to: NodeKey, now: u64) -> Option<Vec<NodeKey>> {
        self.way(self.me, to, now)
    }

    /// Whether that node has a way to this one.
    pub(crate) fn has_way_from(&self, from: NodeKey, now: u64) -> bool {
        self.way(from, self.me, now).is_some()
    }

    fn way(&self, from: NodeKey, to: NodeKey, now: u64) -> Option<Vec<NodeKey>> {
        let mut known: BTreeSet<NodeKey> = self.reports.keys().copied().collect();
        known.insert(self.me);
        let mut seen = BTreeSet::from([from]);
        let mut ways = VecDeque::from([vec![from]]);
        while let Some(way) = ways.pop_front() {
            let last = *way.last().expect("a way begins somewhere");
            for next in &known {
                let is_step = if *next == self.me {
                    self.is_heard(last, now)
                } else if last == self.me {
                    self.step_to(*next, now).is_some()
                } else {
                    self.hears(*next, last, now).is_some()
                };
                if !is_step || !seen.insert(*next) {
                    continue;
                }
                let mut longer = way.clone();
                longer.push(*next);
                if *next == to {
                    return Some(longer.split_off(1));
                }
                if longer.len() <= WAY_NODES_MAX {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    fn is_heard(&self, node: NodeKey, now: u64) -> bool {
        self.neighbours.get(&node).is_some_and(|neighbour| {
            let by_link = neighbour.by_link.map(|(_, at)| at);
            is_fresh(neighbour.by_datagram, now) || is_fresh(by_link, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(node: u64) -> Heard {
        Heard { node: NodeKey(node), by_datagram: true, by_link: false }
    }

    fn report(node: u64, number: u64, hears: &[u64]) -> Report {
        let hears = hears.iter().map(|node| heard(*node)).collect();
        Report { node: NodeKey(node), number, age_ms: 0, hears }
    }

    #[test]
    fn a_way_leads_round_a_ring_of_paths_that_work_one_way() {
        // 1 reaches 3, 3 reaches 2, 2 reaches 1.
        let mut hearing = Hearing::new(NodeKey(1), 0);
        hearing.heard(NodeKey(2), Over::Datagram, 0);
        hearing.learn(vec![report(2, 1, &[3]), report(3, 1, &[1])], 0);
        assert_eq!(hearing.way_to(NodeKey(2), 0), Some(vec![NodeKey(3), NodeKey(2)]));
        assert_eq!(hearing.way_to(NodeKey(3), 0), Some(vec![NodeKey(3)]));
        assert!(hearing.has_way_from(NodeKey(3), 0) && hearing.has_way_from(NodeKey(2), 0));
    }

    #[test]
    fn what_is_old_counts_for_nothing_and_is_not_passed_on() {
        let mut hearing = Hearing::new(NodeKey(1), 0);
        hearing.heard(NodeKey(2), Over::Datagram, 0);
        hearing.learn(vec![report(2, 1, &[1])], 0);
        assert!(hearing.way_to(NodeKey(2), HEARD_MICROS_MAX).is_some());
        assert!(!hearing.has_way_from(NodeKey(2), HEARD_MICROS_MAX));
        assert!(hearing.way_to(NodeKey(2), REPORT_MICROS_MAX).is_none());
        assert_eq!(hearing.report(REPORT_MICROS_MAX).len(), 1);
        // A report that was passed on has its age with it.
        let old = Report { age_ms: 699, ..report(2, 2, &[1]) };
        hearing.learn(vec![old], 800_000);
        assert!(hearing.way_to(NodeKey(2), 800_000).is_some());
        assert!(hearing.way_to(NodeKey(2), 801_000).is_none());
    }

    #[test]
    fn a_node_that_began_anew_may_count_from_lower_on() {
        let mut hearing = Hearing::new(NodeKey(1), 0);
        hearing.learn(vec![report(2, 9, &[1])], 0);
        hearing.learn(vec![report(2, 1, &[])], 1_000);
        assert!(hearing.way_to(NodeKey(2), 1_000).is_some(), "an older report is no news");
        hearing.learn(vec![report(2, 2, &[1])], REPORT_MICROS_MAX);
        assert!(hearing.way_to(NodeKey(2), REPORT_MICROS_MAX).is_some());
    }

    #[test]
    fn reports_of_many_nodes_take_turns_and_fit_into_a_packet() {
        let mut hearing = Hearing::new(NodeKey(u64::MAX), u64::MAX - 9);
        let all: Vec<u64> = (0..40).map(|n| u64::MAX - 100 - n).collect();
        for node in &all {
            hearing.heard(NodeKey(*node), Over::Datagram, 0);
        }
        let reports = all.iter().map(|node| report(*node, u64::MAX, &all[..30]));
        hearing.learn(reports.collect(), 0);
        let mut told = BTreeSet::new();
        for _ in 0..80 {
            hearing.number = 1 << 60;
            let reports = hearing.report(0);
            told.extend(reports.iter().map(|report| report.node));
            let (from, way) = (NodeKey(u64::MAX), vec![NodeKey(u64::MAX)]);
            let packet =
                crate::packet::Packet { from, way, body: crate::packet::Body::Hearing(reports) };
            assert!(packet.encode().len() <= PACKET_BYTES_MAX);
        }
        assert_eq!(told.len(), 41);
    }

    #[test]
    fn a_link_counts_only_when_both_ends_hear_it() {
        let mut hearing = Hearing::new(NodeKey(1), 0);
        hearing.heard(NodeKey(2), Over::Link(7), 0);
        assert!(!hearing.is_linked(NodeKey(2), 0));
        let by_link = Heard { node: NodeKey(1), by_datagram: false, by_link: true };
        let hears = vec![by_link];
        hearing.learn(vec![Report { node: NodeKey(2), number: 1, age_ms: 0, hears }], 0);
        assert!(hearing.is_linked(NodeKey(2), 0));
        assert_eq!(hearing.step_to(NodeKey(2), 0), Some(Over::Link(7)));
        hearing.link_closed(7);
        assert!(!hearing.is_linked(NodeKey(2), 0));
    }
}
