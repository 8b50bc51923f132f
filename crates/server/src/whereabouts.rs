//! Where the other nodes of a sandbox's cluster are, as far as `node.json` tells: needed when log
//! and state do not, or may not be believed.

use protocol::Address;
use serde::{Deserialize, Serialize};

use crate::Failure;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Whereabouts {
    /// The peer list that the node was last started with; empty if it never was.
    pub(crate) peers: Vec<String>,
    /// Any node of the cluster that this sandbox, which began empty, was to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) join: Option<String>,
    /// The address of another member, once there was one: others were promised something, whatever
    /// log and state say, and also when there is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact: Option<String>,
    /// Where the other members are, as the directory last said. `None`: that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Vec<String>>,
}

impl Whereabouts {
    /// Of a sandbox that is empty.
    pub(crate) fn named(peers: &[Address]) -> Self {
        Self { peers: texts(peers), ..Self::default() }
    }

    /// The directory says that the other members are there.
    pub(crate) fn keep_members(&mut self, members: Vec<String>) {
        if let Some(first) = members.first()
            && self.contact.as_ref().is_none_or(|contact| !members.contains(contact))
        {
            self.contact = Some(first.clone());
        }
        self.members = Some(members);
    }

    /// Takes the list that a start names, if it is one of the same cluster. It is kept: nodes come
    /// and go and move, and after some years none of the first list may be left.
    ///
    /// # Errors
    /// When it is not, or when there are no others. `shown`: the sandbox.
    pub(crate) fn take_list(&mut self, list: &[Address], shown: &str) -> Result<(), Failure> {
        let list = texts(list);
        if list.is_empty() {
            return Ok(());
        }
        let known: Vec<&String> = self.all().collect();
        if known.is_empty() {
            return Err(Failure::new(format!(
                "the sandbox {shown} belongs to a cluster of one, which no other node has joined; a \
                 peer list cannot be added to it before one has"
            ))
            .advise(
                "start without --peer-nodes, or name an empty --sandbox to begin as a new node of \
                 that list",
            ));
        }
        if !list.iter().any(|peer| known.contains(&peer)) {
            let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
            return Err(Failure::new(format!(
                "the sandbox {shown} belongs to another cluster: that of {}",
                known.join(",")
            ))
            .advise(
                "check --peer-nodes, or name another --sandbox. If all of its nodes have other \
                 addresses since, name one of the former addresses as well, this once",
            ));
        }
        self.peers = list;
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        let members = self.members.iter().flatten();
        members.chain(&self.peers).chain(&self.join).chain(&self.contact)
    }

    /// Another node of the cluster, if there is one, as far as is known without any data. `own`:
    /// where this node is; `named`: the list that this start names.
    ///
    /// **Invariant:** `None` when the directory has last said that there is no other member,
    /// whatever nodes there were before. Whoever puts a sandbox aside relies on it: nobody else has
    /// what is in it.
    pub(crate) fn another(&self, own: &str, named: &[Address]) -> Option<String> {
        let is_other = |uri: &&String| **uri != own;
        if let Some(members) = &self.members {
            return members.iter().find(is_other).cloned();
        }
        let named = texts(named);
        let listed = named.iter().chain(&self.peers).find(is_other);
        listed.or(self.join.as_ref()).or(self.contact.as_ref()).cloned()
    }

    /// Whether nobody else was ever promised anything: a copy is a backup then.
    pub(crate) fn was_always_alone(&self) -> bool {
        let has_members = self.members.as_ref().is_some_and(|members| !members.is_empty());
        self.contact.is_none() && self.join.is_none() && self.peers.len() <= 1 && !has_members
    }

    /// What a person must know who has started the node at `own` without a list of peers: with an
    /// empty sandbox, the same command begins a second cluster. `None` where that is not so.
    pub(crate) fn how_to_start(&self, own: &str, makes_certificates: bool) -> Option<String> {
        let members = self.members.as_ref().filter(|members| !members.is_empty())?;
        let how = if makes_certificates {
            "with --join TOKEN, of `amrita token create --join` at another node".to_owned()
        } else {
            let all: Vec<&str> =
                [own].into_iter().chain(members.iter().map(String::as_str)).collect();
            format!("from now on with --peer-nodes {}", all.join(","))
        };
        Some(format!(
            "this node was started without a list of its peers and has {} by now. If its disk is \
             ever lost, the same command begins a second, empty cluster: start it {how}",
            match members.len() {
                1 => "one".to_owned(),
                many => many.to_string(),
            }
        ))
    }
}

fn texts(list: &[Address]) -> Vec<String> {
    list.iter().map(Address::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<Address> {
        names.iter().map(|name| Address::new(*name, 1)).collect()
    }

    fn uris(names: &[&str]) -> Vec<String> {
        texts(&list(names))
    }

    fn another(known: &Whereabouts, own: &str, named: &[&str]) -> Option<String> {
        known.another(&uris(&[own])[0], &list(named))
    }

    #[test]
    fn a_list_is_taken_as_nodes_move_one_after_the_other() {
        let mut known = Whereabouts::named(&list(&["a", "b", "c"]));
        known.keep_members(uris(&["b", "c"]));
        for moved in [["x", "b", "c"], ["x", "y", "c"], ["x", "y", "z"]] {
            known.take_list(&list(&moved), "here").unwrap();
            known.keep_members(uris(&moved[1..]));
        }
        assert_eq!(known.peers, uris(&["x", "y", "z"]));
        // As the directory has them, also where no start in between named any of them.
        let mut slept = Whereabouts::named(&list(&["a", "b", "c"]));
        slept.keep_members(uris(&["y", "z"]));
        slept.take_list(&list(&["x", "y", "z"]), "here").unwrap();
        let why = slept.take_list(&list(&["q", "r"]), "here").unwrap_err().to_string();
        assert!(why.contains("another cluster") && why.contains("former addresses"), "{why}");
        slept.take_list(&list(&["q", "r", "x"]), "here").unwrap();
    }

    #[test]
    fn a_node_that_began_alone_takes_a_list_once_another_has_joined() {
        let mut known = Whereabouts::default();
        known.keep_members(Vec::new());
        let why = known.take_list(&list(&["a", "b"]), "here").unwrap_err().to_string();
        assert!(why.contains("cluster of one"), "{why}");
        known.keep_members(uris(&["b"]));
        known.take_list(&list(&["a", "b"]), "here").unwrap();
        // A start without a list knows the last one.
        known.take_list(&[], "here").unwrap();
        assert_eq!(known.peers, uris(&["a", "b"]));
        // Of a sandbox that knows no more than that there was somebody.
        let mut old =
            Whereabouts { contact: Some(uris(&["b"]).remove(0)), ..Whereabouts::default() };
        old.take_list(&list(&["a", "b"]), "here").unwrap();
    }

    #[test]
    fn nobody_is_asked_who_was_removed() {
        let mut known = Whereabouts::named(&list(&["a", "b", "c"]));
        assert_eq!(another(&known, "a", &[]), Some(uris(&["b"])[0].clone()));
        known.keep_members(uris(&["c", "d"]));
        assert_eq!(another(&known, "a", &["a", "b"]), Some(uris(&["c"])[0].clone()));
        known.keep_members(Vec::new());
        assert_eq!(another(&known, "a", &["a", "b", "c"]), None, "it is alone now");
        assert!(!known.was_always_alone(), "and others were promised something");
        assert!(known.contact.is_some());
    }

    #[test]
    fn who_began_alone_is_told_how_to_start_when_it_is_alone_no_more() {
        let mut known = Whereabouts::default();
        assert_eq!(known.how_to_start("http://a:1", false), None);
        known.keep_members(Vec::new());
        assert_eq!(known.how_to_start("http://a:1", false), None);
        known.keep_members(uris(&["b"]));
        let said = known.how_to_start("http://a:1", false).unwrap();
        assert!(said.contains("--peer-nodes http://a:1,http://b:1"), "{said}");
        assert!(known.how_to_start("http://a:1", true).unwrap().contains("--join TOKEN"));
    }
}
