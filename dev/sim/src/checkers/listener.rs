//! A subscriber is told of every change, each document's in order. What was told may be told again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Broken;
use super::versions::Versions;

const RULE: &str = "a subscriber is told of every change, each document's in order";

/// One subscriber.
#[derive(Debug, Default)]
pub struct Listener {
    documents: BTreeMap<String, Document>,
    /// Which keys have come: for which version of what, and over which node.
    keys: BTreeMap<String, (String, usize)>,
    /// How many notifications have come.
    pub told: u64,
    /// How many of them had come before ...
    pub again: u64,
    /// ... over another node.
    pub again_by_another: u64,
    /// How many said that something is missing before them.
    pub gaps: u64,
    /// How many came of a former owner, after the next one had said that they are missing.
    pub late: u64,
}

#[derive(Debug, Default)]
struct Document {
    seen: BTreeSet<u64>,
    is_deleted: bool,
    /// Something may be missing before the next one.
    has_gap: bool,
    skipped: Option<Skipped>,
}

/// Versions that were said to be missing, or in place of which the state was told. What a former
/// owner had sent of them may still come, in its order.
#[derive(Debug)]
struct Skipped {
    /// The last version that was told before, if there was one.
    above: Option<u64>,
    below: u64,
    /// Who has said so.
    by: usize,
    /// Somebody else has told something of the document since. Whoever owns the subscription after
    /// that begins where the progress was written down last, which may be long ago.
    is_followed: bool,
    /// Which of them have come late, over which machine.
    late: BTreeMap<usize, BTreeSet<u64>>,
}

impl Skipped {
    /// Whether that may come now of a former owner.
    fn may_be_late(&mut self, version: u64, machine: usize) -> bool {
        let late = self.late.entry(machine).or_default();
        let is_in_order = late.contains(&version) || late.last().is_none_or(|it| *it < version);
        late.insert(version);
        is_in_order && self.above.is_none_or(|above| above < version)
    }
}

/// What came with a notification.
pub struct Notified<'a> {
    pub machine: usize,
    pub key: &'a str,
    pub method: &'a str,
    /// Something may be missing before it.
    pub is_after_gap: bool,
    pub body: &'a Value,
}

impl Listener {
    /// # Errors
    /// When a version comes before an earlier one, or one is missing and nothing says so.
    pub fn notified(
        &mut self,
        notified: &Notified<'_>,
        versions: &mut Versions,
    ) -> Result<(), Broken> {
        let Notified { machine, key, method, is_after_gap, body } = *notified;
        self.told += 1;
        self.gaps += u64::from(is_after_gap);
        let what = format!("{} v{}", body["documentSelfLink"], body["documentVersion"]);
        if let Some((before, by)) = self.keys.insert(key.to_owned(), (what.clone(), machine)) {
            if before != what {
                return Err(Broken::new(RULE, format!("{key} is the key of {before} and {what}")));
            }
            self.again += 1;
            self.again_by_another += u64::from(by != machine);
        }
        let Some(version) = body["documentVersion"].as_u64() else {
            // Nothing but that something is missing.
            self.documents.values_mut().for_each(|known| known.has_gap = true);
            return match is_after_gap {
                true => Ok(()),
                false => Err(Broken::new(RULE, format!("no version: {body}"))),
            };
        };
        versions.saw(body)?;
        let link = body["documentSelfLink"].as_str().unwrap_or_default();
        let known = self.documents.entry(link.to_owned()).or_default();
        let last = known.seen.last().copied();
        // With a POST another document of that name may begin.
        let may_be_another = method == "POST" && (known.is_deleted || known.has_gap);
        if let Some(skipped) = &mut known.skipped {
            skipped.is_followed |= skipped.by != machine;
        }
        if let Some(skipped) = &mut known.skipped
            && version < skipped.below
            && skipped.is_followed
            && !may_be_another
        {
            self.late += 1;
            return match known.seen.contains(&version) || skipped.may_be_late(version, machine) {
                true => Ok(()),
                false => Err(Broken::new(RULE, format!("{link} {version} is late, and strange"))),
            };
        }
        let is_state = key.ends_with("-state");
        // The state as it is takes the place of what came before it, and who owned the subscription
        // before may tell some of that late.
        if is_after_gap || is_state && last.map_or(version > 0, |last| version > last + 1) {
            let former = known.skipped.take();
            let above = former.as_ref().map_or(last, |it| it.above.min(last));
            let late = former.map(|it| it.late).unwrap_or_default();
            let is_followed = false;
            known.skipped = Some(Skipped { above, below: version, by: machine, is_followed, late });
        }
        let fits = match last {
            None => true,
            Some(_) if known.seen.contains(&version) => true,
            Some(_) if is_after_gap || is_state => true,
            Some(last) if known.has_gap => version > last || method == "POST",
            // After its end a document may be made anew, with versions from 0.
            Some(last) => version == last + 1 || (known.is_deleted && method == "POST"),
        };
        if !fits {
            let what = format!("{method} {link} {version} ({key}) came after {last:?}");
            return Err(Broken::new(RULE, what));
        }
        let is_new = !known.seen.contains(&version);
        if is_new && last.is_some_and(|last| version < last) {
            known.seen.clear();
            known.skipped = None;
        }
        known.has_gap &= known.seen.contains(&version);
        known.seen.insert(version);
        known.is_deleted = method == "DELETE";
        Ok(())
    }

    /// What somebody has seen of these documents and the subscriber was not told of.
    pub fn missing(&self, links: &[String], versions: &Versions) -> Option<String> {
        links.iter().find_map(|link| {
            let newest = versions.of(link).map(|(version, _)| version).max()?;
            let told = self.documents.get(link).and_then(|known| known.seen.last().copied());
            (told < Some(newest)).then(|| format!("{link}: {told:?} of {newest} was told"))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Notifications: the version, over which machine, and how.
    fn told_by(all: &[(u64, usize, &str)]) -> bool {
        let (mut subscriber, mut versions) = (Listener::default(), Versions::default());
        all.iter().all(|(version, machine, how)| {
            let body = json!({"documentSelfLink": "/a/b", "documentVersion": version});
            let method = if ["POST", "DELETE"].contains(how) { how } else { "PATCH" };
            let key = if *how == "state" {
                format!("k{version}-state")
            } else {
                format!("k{version}{how}")
            };
            let (key, is_after_gap, body) = (&*key, *how == "gap", &body);
            let notified = Notified { machine: *machine, key, method, is_after_gap, body };
            subscriber.notified(&notified, &mut versions).is_ok()
        })
    }

    #[test]
    fn what_was_said_to_be_missing_may_still_come_of_a_former_owner() {
        for how in ["gap", "state"] {
            let late = |versions: &[(u64, usize)]| {
                let late = versions.iter().map(|(version, machine)| (*version, *machine, ""));
                let all = [(3, 0, ""), (7, 1, how)].into_iter().chain(late).chain([(8, 1, "")]);
                told_by(&all.collect::<Vec<_>>())
            };
            assert!(late(&[(4, 0), (5, 0), (4, 0), (5, 0)]), "again from where it began");
            assert!(late(&[(4, 0), (6, 2)]));
            assert!(!late(&[(4, 1)]), "who has said that it is missing does not tell it");
            assert!(late(&[(7, 2), (4, 1)]), "it was not the owner meanwhile");
            assert!(!late(&[(6, 0), (5, 0)]), "a former owner has its order, too");
            assert!(!late(&[(2, 0)]), "nobody has skipped that one");
            let first = [(7, 1, how), (0, 0, "POST"), (1, 0, ""), (8, 1, "")];
            assert!(told_by(&first), "nothing was told before");
        }
        let next_life = [(3, 0, ""), (7, 1, "gap"), (8, 1, "DELETE"), (0, 1, "POST"), (1, 2, "")];
        assert!(told_by(&next_life));
        assert!(!told_by(&[&next_life[..], &[(3, 2, "")]].concat()), "it is another document");
    }

    fn told(all: &[(u64, &str, bool)]) -> bool {
        let (mut subscriber, mut versions) = (Listener::default(), Versions::default());
        all.iter().all(|(version, method, is_after_gap)| {
            let body = json!({"documentSelfLink": "/a/b", "documentVersion": version});
            let key = format!("k{version}");
            let notified = Notified {
                machine: 0,
                key: &key,
                method,
                is_after_gap: *is_after_gap,
                body: &body,
            };
            subscriber.notified(&notified, &mut versions).is_ok()
        })
    }

    #[test]
    fn a_gap_that_is_not_said_and_a_wrong_order_are_found() {
        let patch = |version| (version, "PATCH", false);
        assert!(told(&[patch(4), patch(5), patch(6), patch(5), patch(6), patch(7)]));
        assert!(told(&[patch(4), (7, "PATCH", true), patch(8)]));
        assert!(told(&[patch(4), (5, "DELETE", false), (0, "POST", false), patch(1)]));
        assert!(!told(&[patch(4), patch(6)]));
        assert!(!told(&[patch(4), patch(3)]));
        assert!(!told(&[patch(4), patch(5), (0, "POST", false)]));
    }

    #[test]
    fn what_was_never_told_is_missing_at_the_end() {
        let (mut subscriber, mut versions) = (Listener::default(), Versions::default());
        let body = |version| json!({"documentSelfLink": "/a/b", "documentVersion": version});
        let links = ["/a/b".to_owned()];
        assert_eq!(subscriber.missing(&links, &versions), None, "nobody has seen it");
        versions.saw(&body(3)).unwrap();
        assert!(subscriber.missing(&links, &versions).is_some());
        let notified =
            Notified { machine: 0, key: "k", method: "PUT", is_after_gap: false, body: &body(3) };
        subscriber.notified(&notified, &mut versions).unwrap();
        assert_eq!(subscriber.missing(&links, &versions), None);
        versions.saw(&body(4)).unwrap();
        assert!(subscriber.missing(&links, &versions).is_some());
    }
}
