//! A few documents, and statements that are run over them one by one, without any index.

use protocol::{Action, Body, Document, Epoch, Moment};
use query::CompiledQuery;
use serde_json::Value;
use sql::Tables;

pub(crate) const FACTORY: &str = "/core/examples";
pub(crate) const KIND: &str = "com:example:ExampleState";

pub(crate) struct World {
    pub(crate) documents: Vec<Document>,
}

impl Tables for World {
    fn factories(&self) -> Vec<(String, String)> {
        let all = [(FACTORY, KIND), ("/x/same", "X"), ("/y/same", "Y"), ("/z/a", "Z")];
        all.iter().map(|(factory, kind)| ((*factory).to_owned(), (*kind).to_owned())).collect()
    }
}

impl World {
    pub(crate) fn of(bodies: &[(&str, &str)]) -> Self {
        let document = |(name, body): &(&str, &str)| Document {
            link: format!("{FACTORY}/{name}"),
            version: 0,
            epoch: Epoch::default(),
            kind: KIND.into(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "node-1".into(),
            author: None,
            body: Body::from_text(body.as_bytes().to_vec()),
        };
        Self { documents: bodies.iter().map(document).collect() }
    }

    /// The answer to a statement.
    pub(crate) fn answer(&self, sql: &str) -> Vec<u8> {
        let statement = sql::parse(sql, self).unwrap_or_else(|it| panic!("{sql}: {it}"));
        let specification = &statement.specification;
        // As it goes to the partitions.
        let text = serde_json::to_value(specification).unwrap();
        let parsed = query::parse_specification(&text).unwrap_or_else(|it| panic!("{sql}: {it}"));
        assert_eq!(parsed, *specification, "{sql}");
        let compiled = CompiledQuery::new(&parsed).unwrap_or_else(|it| panic!("{sql}: {it}"));
        let found = self
            .documents
            .iter()
            .filter_map(|document| Some((compiled.evaluate(&document.into())?, document)));
        let mut found: Vec<_> = found.collect();
        found.sort_by(|one, other| (&one.0, &one.1.link).cmp(&(&other.0, &other.1.link)));
        if let Some(aggregation) = compiled.aggregation() {
            let mut groups = aggregation.begin();
            for (_, document) in found {
                aggregation.add(&mut groups, &document.into());
            }
            return statement.rows_of_groups(aggregation.rows(groups), 1 << 20, 0).unwrap();
        }
        let limit = specification.result_limit.unwrap_or(usize::MAX);
        let shown = found.into_iter().skip(statement.skip).take(limit);
        let shown: Vec<_> =
            shown.map(|(_, it)| compiled.expanded(it.to_json_bytes(&it.owner))).collect();
        let shown: Vec<&[u8]> = shown.iter().map(|it| &it[..]).collect();
        statement.rows_of_documents(&shown, 1 << 20, 0).unwrap()
    }

    /// The same in short: the columns, and each row after a bar.
    pub(crate) fn rows(&self, sql: &str) -> String {
        let answer = String::from_utf8(self.answer(sql)).unwrap();
        let json: Value = serde_json::from_str(&answer).unwrap();
        let columns: Vec<&str> =
            json["columns"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let mut shown = columns.join(",");
        #[derive(serde::Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            rows: Vec<&'a serde_json::value::RawValue>,
        }
        let raw: Raw<'_> = serde_json::from_str(&answer).unwrap();
        assert_eq!(json["rowCount"], raw.rows.len());
        raw.rows.iter().for_each(|row| shown.push_str(&format!("|{}", row.get())));
        if !json["leftOut"].is_null() {
            shown.push_str(&format!(" leftOut {}", json["leftOut"]));
        }
        shown
    }
}

/// Why a statement is refused.
pub(crate) fn message(sql: &str) -> String {
    match sql::parse(sql, &World::of(&[])) {
        Err(problem) => {
            assert_eq!(problem.status(), 400);
            problem.message
        }
        Ok(statement) => format!("it is not: {:?}", statement.specification),
    }
}
