//! A version of a document is one thing for ever: whoever sees it, wherever and whenever, sees the
//! same content. Who owns the document at present stands beside it, and changes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Broken;

/// Every version that anybody was ever shown.
#[derive(Debug, Default)]
pub struct Versions {
    seen: BTreeMap<(String, u64), Value>,
}

impl Versions {
    /// Takes note of a document as it was shown.
    ///
    /// # Errors
    /// When that version was something else before.
    pub fn saw(&mut self, document: &Value) -> Result<(), Broken> {
        let link = document["documentSelfLink"].as_str();
        let version = document["documentVersion"].as_u64();
        let (Some(link), Some(version)) = (link, version) else {
            return Err(Broken::new(
                "documents are whole",
                format!("without a link or version: {document}"),
            ));
        };
        let mut content = document.clone();
        if let Some(fields) = content.as_object_mut() {
            fields.remove("documentOwner");
        }
        let before = self.seen.entry((link.to_owned(), version)).or_insert_with(|| content.clone());
        if *before == content {
            return Ok(());
        }
        let what = format!("{link} version {version} was {before} and is {document}");
        Err(Broken::new("a version is one thing for ever", what))
    }

    /// What was seen at that version.
    pub fn get(&self, link: &str, version: u64) -> Option<&Value> {
        self.seen.get(&(link.to_owned(), version))
    }

    /// The versions of a document that anybody saw.
    pub fn of<'a>(&'a self, link: &'a str) -> impl Iterator<Item = (u64, &'a Value)> {
        let from = (link.to_owned(), 0);
        self.seen
            .range(from..)
            .take_while(move |((other, _), _)| other == link)
            .map(|((_, version), document)| (*version, document))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_that_changes_is_found() {
        let mut versions = Versions::default();
        let one = json!({ "documentSelfLink": "/a/b", "documentVersion": 3, "name": "x" });
        let other = json!({ "documentSelfLink": "/a/b", "documentVersion": 3, "name": "y" });
        versions.saw(&one).unwrap();
        versions.saw(&one).unwrap();
        assert!(versions.saw(&other).is_err());
        let mut elsewhere = one;
        elsewhere["documentOwner"] = json!("n2");
        versions.saw(&elsewhere).unwrap();
        assert_eq!(versions.of("/a/b").count(), 1);
        assert_eq!(versions.of("/a/").count(), 0);
    }
}
