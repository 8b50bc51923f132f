//! `amrita sql`: a statement, and its rows as a table, as JSON or as CSV.

use client::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::arguments::{Cluster, SqlOptions};
use crate::csv::csv_line;
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::client;

const LINK: &str = "/core/sql";

/// The answer to a statement. Each cell is the text that came: a number that is read and written
/// again may be another one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rows<'a> {
    columns: Vec<String>,
    #[serde(borrow)]
    rows: Vec<Vec<&'a RawValue>>,
    #[serde(default)]
    left_out: Option<Value>,
    #[serde(default)]
    explained: Option<Value>,
}

pub(crate) async fn run(cluster: &Cluster, options: &SqlOptions) -> Outcome {
    if options.csv && cluster.json {
        return Err(Trouble::usage("--csv and --json are two forms; leave one of them out"));
    }
    let client = client(cluster)?;
    let body = json!({"sql": options.statement.join(" ")});
    let answer = client.post(LINK, &body).await.map_err(|error| unreachable(&error))?;
    if !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    if cluster.json {
        screen::say(&String::from_utf8_lossy(&answer.body));
        return Ok(());
    }
    show(&answer, options.csv)
}

fn show(answer: &Response, is_csv: bool) -> Outcome {
    let found: Rows<'_> = serde_json::from_slice(&answer.body)
        .map_err(|error| format!("the answer cannot be read: {error}"))?;
    let cells = |row: &Vec<&RawValue>| row.iter().map(|cell| text_of(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = found.rows.iter().map(cells).collect();
    if is_csv {
        screen::say(&csv_line(&found.columns));
        for row in &rows {
            if !screen::is_said(&csv_line(row)) {
                return Ok(());
            }
        }
    } else if rows.is_empty() {
        screen::say("No rows.");
    } else {
        let heading: Vec<&str> = found.columns.iter().map(String::as_str).collect();
        screen::say(&screen::table(&heading, &rows));
    }
    for (column, count) in found.left_out.iter().filter_map(Value::as_object).flatten() {
        screen::aside(&format!("{column}: {count} values were left out, as they are no numbers"));
    }
    if let Some(explained) = found.explained {
        screen::say(&format!("\n{explained:#}"));
    }
    Ok(())
}

/// A text without its quotes, nothing for null, and anything else as it is.
fn text_of(cell: &RawValue) -> String {
    match cell.get() {
        "null" => String::new(),
        json if json.starts_with('"') => serde_json::from_str(json).unwrap_or_default(),
        json => json.to_owned(),
    }
}
