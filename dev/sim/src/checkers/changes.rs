//! A reader of changes misses nothing and is told nothing twice, at whatever nodes it asks.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Broken;
use super::versions::Versions;

const RULE: &str = "a reader of changes misses nothing and is told nothing twice";

/// All clients together are one reader: each goes on where the last one was.
#[derive(Debug, Default)]
pub struct Reader {
    token: Option<String>,
    last: BTreeMap<String, Seen>,
    /// How many changes it was told.
    pub told: u64,
    /// How often it was told that it had fallen behind.
    pub began_anew: u64,
}

#[derive(Debug)]
struct Seen {
    version: u64,
    is_there: bool,
}

impl Reader {
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Takes the answer to a question for what comes after that token. Another client may have been
    /// quicker: then it says nothing. True when there was a change in it.
    ///
    /// # Errors
    /// When a change is missing, or came before.
    pub fn told(
        &mut self,
        after: Option<&str>,
        body: &Value,
        versions: &mut Versions,
    ) -> Result<bool, Broken> {
        if after != self.token() {
            return Ok(true);
        }
        let strange = |what: &str| Broken::new(RULE, format!("{what}: {body}"));
        let changes = body["changes"].as_array().ok_or_else(|| strange("no changes"))?;
        for change in changes {
            self.one(change, versions)?;
        }
        let token = body["token"].as_str().ok_or_else(|| strange("no token"))?;
        self.token = Some(token.to_owned());
        Ok(!changes.is_empty())
    }

    fn one(&mut self, change: &Value, versions: &mut Versions) -> Result<(), Broken> {
        let link = change["link"].as_str().unwrap_or_default();
        let version = change["version"].as_u64().unwrap_or(u64::MAX);
        let action = change["action"].as_str().unwrap_or_default();
        let is_there = change["isMatch"] == true;
        versions.saw(&change["document"])?;
        let fits = match self.last.get(link) {
            None => true,
            Some(seen) if action == "EXPIRE" => seen.is_there && seen.version == version,
            Some(seen) if seen.is_there => version == seen.version + 1,
            // After the end of a life the next one begins, perhaps from 0.
            Some(_) => action == "POST",
        };
        if !fits {
            let what = format!("{change} came after {:?}", self.last.get(link));
            return Err(Broken::new(RULE, what));
        }
        self.told += 1;
        self.last.insert(link.to_owned(), Seen { version, is_there });
        Ok(())
    }

    /// The changes after that token are not kept any more.
    pub fn fell_behind(&mut self, after: Option<&str>) {
        if after == self.token() {
            self.token = None;
            self.last.clear();
            self.began_anew += 1;
        }
    }

    /// At the end it has read everything: it knows the newest version of each document that it was
    /// told of.
    ///
    /// # Errors
    /// When somebody saw a newer one.
    pub fn conclude(&self, links: &[String], versions: &Versions) -> Result<(), Broken> {
        for link in links {
            let newest = versions.of(link).map(|(version, _)| version).max();
            let told = self.last.get(link).map(|seen| seen.version);
            if told.is_some() && told < newest {
                let what = format!("{link}: {told:?} was the last told, {newest:?} is there");
                return Err(Broken::new(RULE, what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gap_and_a_repeat_are_found() {
        let change = |version: u64, action: &str| {
            json!({"link": "/a/b", "version": version, "action": action,
                "isMatch": action != "DELETE" && action != "EXPIRE",
                "document": {"documentSelfLink": "/a/b", "documentVersion": version}})
        };
        let told = |all: &[(u64, &str)]| {
            let (mut reader, mut versions) = (Reader::default(), Versions::default());
            let changes: Vec<Value> =
                all.iter().map(|(version, action)| change(*version, action)).collect();
            let body = json!({"changes": changes, "token": "t"});
            let told = reader.told(None, &body, &mut versions);
            told.and_then(|_| reader.conclude(&["/a/b".into()], &versions)).is_ok()
        };
        assert!(told(&[(4, "PATCH"), (5, "PUT"), (6, "DELETE"), (7, "POST"), (8, "PATCH")]));
        assert!(told(&[(0, "POST"), (0, "EXPIRE"), (0, "POST"), (1, "PATCH")]));
        for wrong in [
            [(4, "PATCH"), (6, "PATCH")],
            [(4, "PATCH"), (4, "PATCH")],
            [(4, "DELETE"), (4, "DELETE")],
            [(4, "PATCH"), (3, "EXPIRE")],
        ] {
            assert!(!told(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_never_told_is_found_at_the_end() {
        let (mut reader, mut versions) = (Reader::default(), Versions::default());
        let document = |version| json!({"documentSelfLink": "/a/b", "documentVersion": version});
        let change = json!({"link": "/a/b", "version": 1, "action": "PUT", "isMatch": true,
            "document": document(1)});
        reader.told(None, &json!({"changes": [change], "token": "t"}), &mut versions).unwrap();
        assert!(reader.conclude(&["/a/b".into()], &versions).is_ok());
        versions.saw(&document(2)).unwrap();
        assert!(reader.conclude(&["/a/b".into()], &versions).is_err());
    }
}
