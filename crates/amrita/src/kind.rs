//! `amrita kind`: kinds of documents that are defined while the cluster runs.

use std::collections::BTreeMap;

use client::{Client, Method, Request, Response};
use protocol::links::{KINDS, definition_of};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::arguments::{Cluster, Definition, KindCommand};
use crate::outcome::{Outcome, Trouble, unreachable};
use crate::screen;
use crate::verbs::{body_of, client};

pub(crate) async fn run(cluster: &Cluster, command: &KindCommand) -> Outcome {
    let client = client(cluster)?;
    match command {
        KindCommand::List => list(&client, cluster).await,
        KindCommand::Show { link } => {
            let answer = client.get(&definition_of(link)).await;
            screen::show(&answer.map_err(|error| unreachable(&error))?, cluster.json)
        }
        KindCommand::Create { link, definition } => {
            let mut body = fields_of(definition)?;
            let wanted = body.clone();
            body.insert("link", raw(link));
            // One that was removed before may come again.
            let request = Request {
                pragmas: vec!["xn-force-index-update".into()],
                body: raw(&body).get().to_owned().into(),
                ..Request::new(Method::Post, KINDS)
            };
            let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
            if answer.to_json()["code"] == "ALREADY_EXISTS" {
                return is_the_same(&client, cluster, link, &wanted).await;
            }
            if cluster.json || !answer.is_success() {
                return screen::show(&answer, cluster.json);
            }
            screen::say(&format!(
                "{link} is there. To make a document: amrita post {link} '{{...}}'"
            ));
            Ok(())
        }
        KindCommand::Change { link, definition } => {
            let body = fields_of(definition)?;
            if body.is_empty() {
                let why = "say what is to be changed: --schema, --option, --merge and so on";
                return Err(Trouble::usage(why));
            }
            let answer = client.patch(&definition_of(link), &body).await;
            screen::show(&answer.map_err(|error| unreachable(&error))?, cluster.json)
        }
        KindCommand::Remove { link, confirm } => remove(&client, cluster, link, *confirm).await,
    }
}

/// A script may say the same again.
async fn is_the_same(client: &Client, cluster: &Cluster, link: &str, wanted: &Fields) -> Outcome {
    let answer = client.get(&definition_of(link)).await.map_err(|error| unreachable(&error))?;
    let found = answer.to_json();
    let value = |text: &RawValue| serde_json::from_str::<Value>(text.get()).ok();
    if wanted.iter().all(|(name, text)| value(text).is_some_and(|it| found[name] == it)) {
        return screen::done(&answer, cluster.json, &format!("{link} is there already, just so"));
    }
    let why = format!("{link} is there already, and is defined otherwise");
    Err(format!("{why}\n  -> amrita kind show {link}, amrita kind change {link} ...").into())
}

async fn list(client: &Client, cluster: &Cluster) -> Outcome {
    let answer = client.get(&format!("{KINDS}?expand")).await;
    let answer = answer.map_err(|error| unreachable(&error))?;
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    let body = answer.to_json();
    let documents = body["documents"].as_object();
    let rows: Vec<Vec<String>> = documents
        .into_iter()
        .flat_map(serde_json::Map::values)
        .map(|kind| ["link", "kind", "documentation"].map(|name| screen::cell(&kind[name])).into())
        .collect();
    if rows.is_empty() {
        screen::say("no kind is defined; the services of the nodes' program: amrita get /");
    } else {
        screen::say(&screen::table(&["link", "kind", "documentation"], &rows));
    }
    Ok(())
}

/// Documents of a kind that is not there any more would be out of reach.
async fn remove(client: &Client, cluster: &Cluster, link: &str, confirm: bool) -> Outcome {
    let there = client.get(&definition_of(link)).await;
    if there.map_err(|error| unreachable(&error))?.status == 404 {
        return Err(format!("there is no definition of {link}\n  -> amrita kind list").into());
    }
    if !confirm {
        let answer = client.get(&format!("{link}?$count=true")).await;
        let answer: Response = answer.map_err(|error| unreachable(&error))?;
        let count = answer.to_json()["documentCount"].as_u64();
        if let Some(count) = count.filter(|count| *count > 0) {
            return Err(format!(
                "{link} still has documents: {count}. They would stay, but nobody could reach them \
                 until it is defined again\n  -> if you mean it: add --confirm"
            )
            .into());
        }
    }
    let answer = client.delete(&definition_of(link)).await;
    let answer = answer.map_err(|error| unreachable(&error))?;
    if answer.is_success() && answer.body.is_empty() {
        return Err(Trouble::from(format!("there is no definition of {link}")));
    }
    if cluster.json || !answer.is_success() {
        return screen::show(&answer, cluster.json);
    }
    screen::say(&format!("{link} is gone"));
    Ok(())
}

/// The fields of a definition, each as the text that is sent.
type Fields = BTreeMap<&'static str, Box<RawValue>>;

fn fields_of(definition: &Definition) -> Result<Fields, Trouble> {
    let mut fields = Fields::new();
    let mut put = |name, value: Option<Box<RawValue>>| {
        if let Some(value) = value {
            fields.insert(name, value);
        }
    };
    let list = |items: &[String]| (!items.is_empty()).then(|| raw(&items));
    put("schema", definition.schema.as_deref().map(body_of).transpose()?);
    put("kind", definition.kind.as_ref().map(raw));
    put("documentation", definition.about.as_ref().map(raw));
    put("options", list(&definition.option));
    put("merge", list(&definition.merge));
    put("handlers", list(&definition.handlers));
    put("actions", list(&definition.actions));
    put("retentionLimit", definition.keep_versions.as_ref().map(raw));
    put("expiresAfterSeconds", definition.expires_after.as_ref().map(raw));
    Ok(fields)
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("texts and numbers can be written as JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_says_what_was_said_and_nothing_else() {
        let nothing = Definition::default();
        assert!(fields_of(&nothing).unwrap().is_empty());
        let some = Definition {
            schema: Some("{\"type\":\"object\"}".into()),
            option: vec!["IMMUTABLE".into()],
            expires_after: Some(60),
            ..nothing
        };
        let fields = json!(fields_of(&some).unwrap());
        let expected = json!({"schema": {"type": "object"}, "options": ["IMMUTABLE"],
            "expiresAfterSeconds": 60});
        assert_eq!(fields, expected);
        let long = r#"{"maximum": 123456789012345678901234567890}"#;
        let some = Definition { schema: Some(long.into()), ..Definition::default() };
        assert_eq!(fields_of(&some).unwrap()["schema"].get(), long);
        assert_eq!(definition_of("/app/seats/"), "/core/factories/app:seats");
    }

    #[test]
    fn a_schema_that_is_no_json_is_a_mistake_of_use() {
        let wrong = Definition { schema: Some("{type:object}".into()), ..Definition::default() };
        assert!(fields_of(&wrong).unwrap_err().why.contains("not JSON"));
    }
}
