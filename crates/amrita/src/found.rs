//! What a query has found, over all pages of the answer. Documents stay the text that came: a
//! number that is read and written again may be another one.

use std::collections::BTreeMap;

use client::{Client, Response};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::outcome::{Trouble, refusal, unreachable};

/// The fields of an object, each as the text that came.
type Fields = BTreeMap<String, Box<RawValue>>;

/// The answer to a query task, with its results apart.
pub(crate) struct Found {
    task: Fields,
    results: Fields,
    pub(crate) page: Page,
}

/// Results, or one page of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    #[serde(default)]
    pub(crate) document_links: Vec<String>,
    #[serde(default)]
    documents: Option<Fields>,
    #[serde(default)]
    pub(crate) document_count: u64,
    #[serde(default)]
    pub(crate) next_page_link: Option<String>,
}

impl Found {
    /// None when there are no results: a task that is not direct has none so far.
    pub(crate) fn of(answer: &Response) -> Option<Self> {
        let mut task: Fields = serde_json::from_slice(&answer.body).ok()?;
        let text = task.remove("results")?;
        let results = serde_json::from_str(text.get()).ok()?;
        let page = serde_json::from_str(text.get()).ok()?;
        Some(Self { task, results, page })
    }

    /// With a limit the first answer has no results but a link to the first page of them.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub(crate) async fn add_pages(&mut self, client: &Client, limit: usize) -> Result<(), Trouble> {
        while self.page.document_links.len() < limit
            && let Some(next) = self.page.next_page_link.take()
        {
            let answer = client.get(&next).await.map_err(|error| unreachable(&error))?;
            if !answer.is_success() {
                return Err(refusal(&answer));
            }
            let page = page_of(&answer.body)
                .map_err(|error| format!("the page {next} cannot be read: {error}"))?;
            self.page.document_links.extend(page.document_links);
            let documents = self.page.documents.get_or_insert_default();
            documents.extend(page.documents.unwrap_or_default());
            self.page.next_page_link = page.next_page_link;
        }
        Ok(())
    }

    /// The task with all results that were found, in one line.
    pub(crate) fn into_json(self) -> String {
        let Self { mut task, mut results, page } = self;
        let Page { document_links, documents, next_page_link, .. } = page;
        let mut put = |name: &str, value: Box<RawValue>| results.insert(name.to_owned(), value);
        put("documentCount", raw(&document_links.len()));
        put("documentLinks", raw(&document_links));
        if let Some(documents) = documents {
            put("documents", raw(&documents));
        }
        match next_page_link {
            Some(next) => put("nextPageLink", raw(&next)),
            None => results.remove("nextPageLink"),
        };
        task.insert("results".to_owned(), raw(&results));
        raw(&task).get().to_owned()
    }

    /// What is in a field of a document; empty where there is none.
    pub(crate) fn cell(&self, link: &str, path: &str) -> String {
        let documents = self.page.documents.as_ref();
        documents.and_then(|it| it.get(link)).map_or_else(String::new, |it| cell(it, path))
    }
}

fn page_of(body: &[u8]) -> Result<Page, serde_json::Error> {
    let fields: Fields = serde_json::from_slice(body)?;
    match fields.get("results") {
        Some(results) => serde_json::from_str(results.get()),
        None => serde_json::from_slice(body),
    }
}

fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("texts and numbers can be written as JSON")
}

/// `taskInfo.stage` is the field `stage` of `taskInfo`, and `tags.item` an item of the list `tags`:
/// then all of them are shown.
pub(crate) fn cell(document: &RawValue, path: &str) -> String {
    let mut value = document;
    let mut fields: BTreeMap<String, &RawValue>;
    for name in path.split('.') {
        if name == "item" && value.get().starts_with('[') {
            continue;
        }
        fields = serde_json::from_str(value.get()).unwrap_or_default();
        match fields.get(name) {
            Some(field) => value = field,
            None => return String::new(),
        }
    }
    match value.get() {
        "null" => String::new(),
        text => serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More digits than any number of this machine has.
    const LONG: &str = "123456789012345678901234567890";

    fn answer(body: &str) -> Response {
        Response { body: body.to_owned().into(), ..Response::json(200, &serde_json::Value::Null) }
    }

    #[test]
    fn a_field_is_shown_digit_for_digit() {
        let text =
            format!(r#"{{"a":{{"b":{LONG}}},"c":1.10,"d":"x\"y","tags":["a","b"],"n":null}}"#);
        let document = RawValue::from_string(text).unwrap();
        for (path, shown) in [
            ("a.b", LONG),
            ("c", "1.10"),
            ("d", "x\"y"),
            ("tags.item", r#"["a","b"]"#),
            ("n", ""),
            ("none", ""),
            ("c.d", ""),
        ] {
            assert_eq!(cell(&document, path), shown, "{path}");
        }
    }

    #[test]
    fn pages_become_one_answer_and_its_task_stays() {
        let body = r#"{"results":{"documentLinks":[],"nextPageLink":"/p"},"taskInfo":{"a":1.10}}"#;
        let mut found = Found::of(&answer(body)).unwrap();
        let page = format!(r#"{{"documentLinks":["/x"],"documents":{{"/x":{{"a":{LONG}}}}}}}"#);
        for body in [page.clone(), format!(r#"{{"results":{page}}}"#)] {
            found.page = page_of(body.as_bytes()).unwrap();
            assert_eq!(found.cell("/x", "a"), LONG);
        }
        let expected = format!(
            r#"{{"results":{{"documentCount":1,"documentLinks":["/x"],"documents":{{"/x":{{"a":{LONG}}}}}}},"taskInfo":{{"a":1.10}}}}"#
        );
        assert_eq!(found.into_json(), expected);
        assert!(Found::of(&answer(r#"{"taskInfo":{}}"#)).is_none());
    }
}
