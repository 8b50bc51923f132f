//! Which services the programs of the members have. All nodes should run the same program, and
//! while one program is replaced by another they do not. A node whose program lacks a service owns
//! nothing that another one can own, and never says of a document that it does not exist because it
//! does not know the service.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ReplicaId;

use crate::serving::words::KindPrograms;

/// What is known of the members' services.
#[derive(Default)]
pub(crate) struct MemberServices {
    /// The factories that each other member's program serves, as it said last, also when it is away
    /// now.
    of_members: BTreeMap<ReplicaId, Vec<String>>,
    /// The factories of this node's program, in order.
    own: Vec<String>,
    /// The factories that this node's program lacks, each with a member whose program has it.
    lacking: BTreeMap<String, ReplicaId>,
    /// The programs outside that have the handlers of kinds.
    pub(crate) outside: BTreeMap<String, KindPrograms>,
}

impl MemberServices {
    /// What members say.
    pub(crate) fn heard<'a>(&mut self, said: impl Iterator<Item = (ReplicaId, &'a [String])>) {
        for (id, services) in said {
            let known = self.of_members.get(&id);
            if known.is_none_or(|known| known != services) {
                self.of_members.insert(id, services.to_vec());
            }
        }
    }

    /// `own`: the factories of this node's program, in order.
    pub(crate) fn compare(&mut self, own: &[String], is_member: impl Fn(ReplicaId) -> bool) {
        if self.own != own {
            self.own = own.to_vec();
        }
        self.of_members.retain(|id, _| is_member(*id));
        let all = self.of_members.iter().flat_map(|(id, all)| all.iter().map(move |it| (it, *id)));
        let lacking = all.filter(|(factory, _)| own.binary_search(factory).is_err());
        self.lacking = lacking.map(|(factory, id)| (factory.clone(), id)).collect();
    }

    pub(crate) fn lacks_any(&self) -> bool {
        !self.lacking.is_empty()
    }

    /// The factories that a member's program lacks, as far as this node, `me`, has heard.
    pub(crate) fn missing_at(&self, member: ReplicaId, me: ReplicaId) -> Vec<String> {
        let has = if member == me { Some(&self.own) } else { self.of_members.get(&member) };
        let Some(has) = has else { return Vec::new() };
        let all: BTreeSet<&String> =
            self.of_members.values().chain([&self.own]).flatten().collect();
        all.into_iter().filter(|factory| !has.contains(factory)).cloned().collect()
    }

    /// A member whose program serves that factory, which this node's does not.
    pub(crate) fn who_has(&self, factory: &str) -> Option<ReplicaId> {
        self.lacking.get(factory).copied()
    }

    /// Nothing is known of any other member so far.
    pub(crate) fn knows_nobody(&self) -> bool {
        self.of_members.is_empty()
    }

    /// What this node's program lacks, for people.
    pub(crate) fn in_words<'a>(
        &self,
        name: impl Fn(ReplicaId) -> Option<&'a str>,
    ) -> Option<String> {
        if self.lacking.is_empty() {
            return None;
        }
        let factories: Vec<&str> = self.lacking.keys().map(String::as_str).collect();
        let others: BTreeSet<&str> = self.lacking.values().filter_map(|id| name(*id)).collect();
        let others: Vec<&str> = others.into_iter().collect();
        let (factories, others) = (factories.join(", "), others.join(", "));
        Some(format!("its program lacks {factories}, which that of {others} has"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N2: ReplicaId = ReplicaId(2);
    const N3: ReplicaId = ReplicaId(3);

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_a_member_has_said_counts_until_it_says_something_else_or_is_no_member() {
        let mut services = MemberServices::default();
        assert!(services.knows_nobody());
        let (own, more) = (names(&["/a", "/b"]), names(&["/a", "/b", "/c"]));
        services.heard([(N2, own.as_slice()), (N3, more.as_slice())].into_iter());
        services.compare(&own, |_| true);
        assert_eq!(services.who_has("/c"), Some(N3));
        assert_eq!(services.who_has("/a"), None);
        let words = services.in_words(|id| (id == N3).then_some("n3"));
        assert_eq!(words.as_deref(), Some("its program lacks /c, which that of n3 has"));
        // It is away: nothing is heard.
        services.heard([(N2, own.as_slice())].into_iter());
        services.compare(&own, |_| true);
        assert!(services.lacks_any());
        let me = ReplicaId(1);
        assert_eq!(services.missing_at(me, me), ["/c"]);
        assert_eq!(services.missing_at(N2, me), ["/c"]);
        assert!(services.missing_at(N3, me).is_empty());
        services.compare(&own, |id| id != N3);
        assert!(services.missing_at(me, me).is_empty(), "nobody has more");
        assert!(!services.lacks_any() && !services.knows_nobody());
        services.heard([(N2, more.as_slice())].into_iter());
        services.compare(&own, |_| true);
        assert_eq!(services.who_has("/c"), Some(N2));
        services.heard([(N2, own.as_slice())].into_iter());
        services.compare(&own, |_| true);
        assert!(!services.lacks_any(), "it was set back to the older program");
    }
}
