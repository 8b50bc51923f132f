//! `amrita kind`: kinds of documents that are defined while the cluster runs.

use std::collections::{BTreeMap, BTreeSet};

use client::{Client, Method, Request};
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
            body.insert("link".into(), raw(link));
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
        KindCommand::Change { link, definition, without } => {
            let mut body = fields_of(definition)?;
            for name in without {
                if body.insert(name.clone(), raw(&())).is_some() {
                    return Err(Trouble::usage(format!("{name} is changed and taken away")));
                }
            }
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
    let others = otherwise(&answer.to_json(), wanted);
    if others.is_empty() {
        return screen::done(&answer, cluster.json, &format!("{link} is there already, just so"));
    }
    let why = format!("{link} is there already, and is defined otherwise: {}", others.join(", "));
    Err(format!("{why}\n  -> amrita kind show {link}, amrita kind change {link} ...").into())
}

/// The fields in which a definition is not what is wanted. `kind` is made of the link if nobody
/// says otherwise.
fn otherwise(found: &Value, wanted: &Fields) -> Vec<String> {
    let value = |name: &str| {
        let text = wanted.get(name).map_or("null", |text| text.get());
        serde_json::from_str::<Value>(text).unwrap_or_default()
    };
    let is_nothing = |value: &Value| value.is_null() || *value == Value::Array(Vec::new());
    let is_same = |name: &str| {
        let (is, should) = (&found[name], value(name));
        *is == should || is_nothing(is) && is_nothing(&should) || name == "kind" && should.is_null()
    };
    let is_its_own = |name: &&String| {
        name.as_str() == "documentation" || name.as_str() != "link" && !name.starts_with("document")
    };
    let there = found.as_object().into_iter().flat_map(serde_json::Map::keys).filter(is_its_own);
    let names: BTreeSet<&String> = there.chain(wanted.keys()).collect();
    names.into_iter().filter(|name| !is_same(name)).cloned().collect()
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
    let pragmas = if confirm { vec!["xn-force-index-update".into()] } else { Vec::new() };
    let request = Request { pragmas, ..Request::new(Method::Delete, definition_of(link)) };
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    if !cluster.json && answer.to_json()["code"] == "REFUSED" {
        return Err(format!(
            "{link} still has documents. They would stay, but nobody could reach them until it is \
             defined again\n  -> if you mean it: add --confirm"
        )
        .into());
    }
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
type Fields = BTreeMap<String, Box<RawValue>>;

fn fields_of(definition: &Definition) -> Result<Fields, Trouble> {
    let mut fields = Fields::new();
    let mut put = |name: &str, value: Option<Box<RawValue>>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    // '' is a list of nothing.
    let list = |items: &[String]| {
        let named: Vec<&String> = items.iter().filter(|item| !item.is_empty()).collect();
        (!items.is_empty()).then(|| raw(&named))
    };
    put("schema", definition.schema.as_deref().map(body_of).transpose()?);
    put("kind", definition.kind.as_ref().map(raw));
    put("documentation", definition.about.as_ref().map(raw));
    put("options", list(&definition.option));
    put("merge", list(&definition.merge));
    put("handlers", list(&definition.handlers));
    put("actions", list(&definition.actions));
    put("version", definition.program_version.as_ref().map(raw));
    put("retentionLimit", definition.keep_versions.as_ref().map(raw));
    put("retentionFloor", definition.keep_at_least.as_ref().map(raw));
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
        let some = Definition {
            merge: vec![String::new()],
            actions: vec!["hold".into(), String::new()],
            keep_at_least: Some(3),
            ..Definition::default()
        };
        let fields = json!(fields_of(&some).unwrap());
        assert_eq!(fields, json!({"merge": [], "actions": ["hold"], "retentionFloor": 3}));
        let long = r#"{"maximum": 123456789012345678901234567890}"#;
        let some = Definition { schema: Some(long.into()), ..Definition::default() };
        assert_eq!(fields_of(&some).unwrap()["schema"].get(), long);
        assert_eq!(definition_of("/app/seats/"), "/core/factories/app:seats");
    }

    #[test]
    fn a_definition_that_has_more_is_another_one() {
        let there = json!({"link": "/app/seats", "kind": "app:seats", "documentVersion": 3,
            "documentation": "Seats.", "merge": [], "retentionLimit": 5});
        let wanted = |definition: &Definition| otherwise(&there, &fields_of(definition).unwrap());
        let mut same = Definition {
            about: Some("Seats.".into()),
            keep_versions: Some(5),
            ..Definition::default()
        };
        assert!(wanted(&same).is_empty());
        same.keep_versions = None;
        assert_eq!(wanted(&same), ["retentionLimit"]);
        same.kind = Some("seat".into());
        same.merge = vec!["tags".into()];
        assert_eq!(wanted(&same), ["kind", "merge", "retentionLimit"]);
        assert_eq!(wanted(&Definition::default()), ["documentation", "retentionLimit"]);
    }

    #[test]
    fn a_schema_that_is_no_json_is_a_mistake_of_use() {
        let wrong = Definition { schema: Some("{type:object}".into()), ..Definition::default() };
        assert!(fields_of(&wrong).unwrap_err().why.contains("not JSON"));
    }
}
