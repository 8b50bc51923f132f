//! `amrita export`: all documents of a kind, or those that a filter finds, one on each line. They
//! come page by page, so nothing is held but one page.

use std::collections::BTreeMap;

use client::Response;
use protocol::links;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::arguments::{Cluster, ExportOptions};
use crate::csv::csv_line;
use crate::found::cell;
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::client;

/// How many documents a page has at most.
const PAGE: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(default)]
    document_links: Vec<String>,
    #[serde(borrow, default)]
    documents: BTreeMap<String, &'a RawValue>,
    #[serde(default)]
    next_page_link: Option<String>,
}

pub(crate) async fn run(cluster: &Cluster, options: &ExportOptions) -> Outcome {
    if options.csv == options.show.is_empty() {
        let why = "--csv and --show go together: --csv --show documentSelfLink,name,counter";
        return Err(Trouble::usage(why));
    }
    if options.csv && cluster.json {
        return Err(Trouble::usage("--csv and --json are two forms; leave one of them out"));
    }
    let client = client(cluster)?;
    if options.csv {
        screen::say(&csv_line(&options.show));
    }
    let mut next = Some(first_page(options));
    while let Some(link) = next.take() {
        let answer = client.get(&link).await.map_err(|error| unreachable(&error))?;
        if !answer.is_success() {
            return screen::show(&answer, cluster.json);
        }
        next = write(&answer, options)?;
    }
    Ok(())
}

fn first_page(options: &ExportOptions) -> String {
    let factory = options.factory.trim_end_matches('/');
    let slash = if factory.starts_with('/') { "" } else { "/" };
    let filter = options.filter.as_ref().map_or_else(String::new, |filter| {
        format!("&$filter={}", links::percent_encode(filter, b"-._~"))
    });
    format!("{slash}{factory}?expand&$limit={PAGE}{filter}")
}

/// Writes a page, and says where the next one is. When nobody reads any more, there is none.
fn write(answer: &Response, options: &ExportOptions) -> Result<Option<String>, Trouble> {
    let page: Page<'_> = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("a page of documents cannot be read: {error}"))?;
    for document in page.document_links.iter().filter_map(|link| page.documents.get(link)) {
        let line = match options.csv {
            true => {
                let cells = options.show.iter().map(|path| cell(document, path));
                csv_line(&cells.collect::<Vec<_>>())
            }
            false => document.get().to_owned(),
        };
        if !screen::is_said(&line) {
            return Ok(None);
        }
    }
    Ok(page.next_page_link)
}
