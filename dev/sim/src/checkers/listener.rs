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
    /// Below that version something was said to be missing, by that machine. What a former owner
    /// had sent may still come.
    skipped: Option<(u64, usize)>,
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
        if let Some((below, by)) = known.skipped
            && version < below
            && by != machine
            && method != "POST"
        {
            self.late += 1;
            return Ok(());
        }
        let is_state = key.ends_with("-state");
        // The state as it is takes the place of what came before it, and who owned the subscription
        // before may tell some of that late.
        if is_after_gap || is_state && last.is_some_and(|last| version > last + 1) {
            known.skipped = Some((version, machine));
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

    #[test]
    fn what_was_said_to_be_missing_may_still_come_of_a_former_owner() {
        let told_by = |machine| {
            let (mut subscriber, mut versions) = (Listener::default(), Versions::default());
            [(3, 0, false), (6, 1, true), (4, machine, false), (7, 1, false)].into_iter().all(
                |(version, machine, is_after_gap)| {
                    let body = json!({"documentSelfLink": "/a/b", "documentVersion": version});
                    let (key, method) = (format!("k{version}"), "PATCH");
                    let (key, body) = (&*key, &body);
                    let notified = Notified { machine, key, method, is_after_gap, body };
                    subscriber.notified(&notified, &mut versions).is_ok()
                },
            )
        };
        assert!(told_by(0));
        assert!(!told_by(1), "who has said that it is missing does not tell it");
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
