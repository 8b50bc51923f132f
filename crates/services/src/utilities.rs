//! What `/template`, `/config` and `/stats` show.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Code, Moment, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::limits::DOCUMENT_QUEUE_MAX;
use crate::{Field, FieldType, Spec};

const KIND_STATS: &str = "com:vmware:xenon:common:ServiceStats";
const KIND_STAT: &str = "com:vmware:xenon:common:ServiceStats:ServiceStat";
const KIND_CONFIG: &str = "com:vmware:xenon:common:ServiceConfiguration";
/// What owners count.
const COUNTERS: [&str; 8] = [
    "GETrequestCount",
    "POSTrequestCount",
    "PUTrequestCount",
    "PATCHrequestCount",
    "DELETErequestCount",
    "OPTIONSrequestCount",
    "requestFailureCount",
    "requestFailureQueueLimitExceededCount",
];
/// Of how many documents one leader keeps counters. Those that came first are forgotten.
const DOCUMENTS_COUNTED_MAX: usize = 1_000;

/// How many values clients may set in the stats of one service or document, beside the counters.
pub(crate) const STATS_SET_MAX: usize = 64;
/// The longest name of such a value, in bytes.
pub(crate) const STAT_NAME_BYTES_MAX: usize = 128;

/// What every document of this system is, in Xenon's words.
const CAPABILITIES: [&str; 3] = ["PERSISTENCE", "REPLICATION", "OWNER_SELECTION"];

/// The answer to GET on `/template`: an empty document with a description of its fields.
pub fn template(spec: &Spec) -> Value {
    let mut fields: Map<String, Value> =
        spec.fields.iter().map(|field| (field.name.clone(), describe(field))).collect();
    if spec.is_task {
        let info = Field::new("taskInfo", FieldType::Object)
            .about("The stage, whether the POST waits for the end, the failure, the duration.");
        let failure = Field::new("failureMessage", FieldType::String).about("Why it FAILED.");
        fields.insert("taskInfo".into(), describe(&info));
        fields.insert("failureMessage".into(), describe(&failure));
    }
    let mut shown = Map::new();
    for field in spec.fields.iter().filter(|field| !field.internal) {
        if let Some(example) = &field.example {
            shown.insert(field.name.clone(), example.clone());
        }
    }
    shown.insert("documentKind".into(), spec.kind.clone().into());
    shown.insert(
        "documentDescription".into(),
        json!({
            "name": spec.kind.rsplit(':').next().unwrap_or_default(),
            "description": spec.documentation,
            "propertyDescriptions": fields,
            "serviceCapabilities": options(spec),
            "versionRetentionLimit": spec.retention_limit,
            "versionRetentionFloor": spec.retention_floor,
            "serializedStateSizeLimit": spec.state_bytes_max,
        }),
    );
    Value::Object(shown)
}

/// The answer to GET on `/config`.
pub fn config(spec: &Spec) -> Value {
    json!({
        "kind": KIND_CONFIG,
        "options": options(spec),
        "versionRetentionLimit": spec.retention_limit,
        "versionRetentionFloor": spec.retention_floor,
        "operationQueueLimit": DOCUMENT_QUEUE_MAX,
        "serializedStateSizeLimit": spec.state_bytes_max,
        "expirationMicros": spec.expiration_micros,
    })
}

/// A request to change the configuration that changes nothing.
///
/// # Errors
/// What it asks for that is not so, or is not known.
pub fn check_config(spec: &Spec, asked: &Value) -> Result<(), Problem> {
    let kind = asked["kind"].as_str().unwrap_or_default();
    if !kind.ends_with("ServiceConfigUpdateRequest") {
        let text = format!(
            "the kind of a change of the configuration is \
             com:vmware:xenon:common:ServiceConfigUpdateRequest, not '{kind}'"
        );
        return Err(Problem::new(Code::UnknownKind, text));
    }
    let config = config(spec);
    let refused = |what: String| {
        let text = format!(
            "{what}: the configuration of {} is part of its program, and no request changes it",
            spec.factory
        );
        Err(Problem::new(Code::Refused, text))
    };
    let has = |option: &Value| {
        // Everything is counted here.
        let known = config["options"].as_array().into_iter().flatten();
        *option == json!("INSTRUMENTATION") || known.into_iter().any(|it| it == option)
    };
    for (name, value) in asked.as_object().into_iter().flatten() {
        let options = || value.as_array().into_iter().flatten();
        match name.as_str() {
            "kind" => {}
            _ if value.is_null() => {}
            "addOptions" if value.is_array() => {
                if let Some(other) = options().find(|option| !has(option)) {
                    return refused(format!("addOptions has {other}"));
                }
            }
            "removeOptions" if value.is_array() => {
                if let Some(other) = options().find(|option| has(option)) {
                    return refused(format!("removeOptions has {other}"));
                }
            }
            _ if config.get(name).is_some() && config[name] == *value => {}
            _ => return refused(format!("{name} is {value}")),
        }
    }
    Ok(())
}

/// The `/stats` of a factory from the parts of its partitions: counts are added up.
pub fn merge_stats(parts: &[Value]) -> Value {
    let mut merged = parts.first().cloned().unwrap_or_else(|| json!({"kind": KIND_STATS}));
    let mut entries: Map<String, Value> = Map::new();
    for (name, entry) in parts.iter().filter_map(|part| part["entries"].as_object()).flatten() {
        match entries.get_mut(name) {
            None => {
                entries.insert(name.clone(), entry.clone());
            }
            Some(sum) => {
                for part in ["latestValue", "accumulatedValue"] {
                    let both = [&*sum, entry].map(|it| it[part].as_f64().unwrap_or_default());
                    sum[part] = (both[0] + both[1]).into();
                }
                let versions = [&*sum, entry].map(|it| it["version"].as_u64().unwrap_or_default());
                sum["version"] = (versions[0] + versions[1]).into();
                let latest = "lastUpdateMicrosUtc";
                let times = [&*sum, entry].map(|it| it[latest].as_u64().unwrap_or_default());
                sum[latest] = times[0].max(times[1]).into();
            }
        }
    }
    merged["entries"] = Value::Object(entries);
    merged
}

/// A value that a client sets in the stats of a service or a document: it is kept by the owner, as
/// the counters are, for as long as that is the owner.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SetStat {
    name: String,
    latest_value: f64,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    kind: Option<String>,
}

impl SetStat {
    /// # Errors
    /// What is wrong with the body, by name.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let value = protocol::json::parse(body).and_then(serde_json::from_value);
        let stat: Self = value.map_err(|error| {
            Problem::bad_body(format!(
                "the body must be a ServiceStat, such as {{\"name\":\"n\",\"latestValue\":1.5}}: {error}"
            ))
        })?;
        if let Some(kind) = stat.kind.as_ref().filter(|kind| *kind != KIND_STAT) {
            return Err(Problem::new(
                Code::UnknownKind,
                format!("the kind of a stat that is set is {KIND_STAT}, not '{kind}'"),
            ));
        }
        let texts = [Some(&stat.name), stat.unit.as_ref()];
        for text in texts.into_iter().flatten() {
            if text.is_empty() || text.len() > STAT_NAME_BYTES_MAX {
                return Err(Problem::bad_body(format!(
                    "name and unit of a stat have from 1 to {STAT_NAME_BYTES_MAX} bytes, and one of \
                     them has {}",
                    text.len()
                )));
            }
        }
        Ok(stat)
    }
}

/// What a service counts, on the owner of one partition, since it became that.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    services: BTreeMap<String, Counters>,
    /// Of the documents that were asked for last.
    documents: BTreeMap<String, Counters>,
    /// In the order in which they came.
    order: VecDeque<String>,
    /// What clients have set, by the links of factories and of documents that have counters.
    set: BTreeMap<String, BTreeMap<String, Set>>,
}

#[derive(Debug)]
struct Set {
    value: f64,
    unit: Option<String>,
    /// How often it was set.
    version: u64,
    updated: Moment,
}

type Counters = BTreeMap<&'static str, Counter>;

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    count: u32,
    updated: Moment,
}

impl Stats {
    /// Counts for the service, and for one of its documents.
    pub(crate) fn count(
        &mut self,
        factory: &str,
        document: Option<&str>,
        name: &'static str,
        now: Moment,
    ) {
        count_in(&mut self.services, factory, name, now);
        let Some(link) = document else { return };
        if count_in(&mut self.documents, link, name, now) {
            self.order.push_back(link.to_owned());
            if self.order.len() > DOCUMENTS_COUNTED_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.documents.remove(&oldest);
                self.set.remove(&oldest);
            }
        }
    }

    /// Sets a value of the service or the document with that link.
    ///
    /// # Errors
    /// When it has too many, or when it would be taken for a counter.
    pub(crate) fn set(&mut self, link: &str, stat: SetStat, now: Moment) -> Result<(), Problem> {
        let SetStat { name, latest_value: value, unit, .. } = stat;
        if COUNTERS.contains(&name.as_str()) {
            let text = format!("{name} is counted by the owner of {link}, and is not set");
            return Err(Problem::new(Code::Refused, text));
        }
        let all = self.set.entry(link.to_owned()).or_default();
        let count = all.len();
        if count >= STATS_SET_MAX && !all.contains_key(&name) {
            let text = format!("{link} has {count} stats that were set; the limit is that");
            return Err(Problem::new(Code::Refused, text));
        }
        let version = all.get(&name).map_or(1, |set| set.version + 1);
        all.insert(name, Set { value, unit, version, updated: now });
        Ok(())
    }

    /// The answer to GET on `/stats` of the factory or one of its documents.
    pub(crate) fn show(
        &self,
        factory: &str,
        document: Option<&str>,
        path: &str,
        node_id: &str,
    ) -> Value {
        let counters = match document {
            Some(link) => self.documents.get(link),
            None => self.services.get(factory),
        };
        let counters = counters.into_iter().flatten();
        let mut entries: Map<String, Value> = counters
            .map(|(name, counter)| {
                let count = f64::from(counter.count);
                let entry = json!({
                    "name": name,
                    "latestValue": count,
                    "accumulatedValue": count,
                    "version": counter.count,
                    "lastUpdateMicrosUtc": counter.updated.0,
                    "kind": KIND_STAT,
                });
                ((*name).to_owned(), entry)
            })
            .collect();
        for (name, set) in self.set.get(document.unwrap_or(factory)).into_iter().flatten() {
            let mut entry = json!({
                "name": name,
                "latestValue": set.value,
                "accumulatedValue": set.value,
                "version": set.version,
                "lastUpdateMicrosUtc": set.updated.0,
                "kind": KIND_STAT,
            });
            if let Some(unit) = &set.unit {
                entry["unit"] = unit.as_str().into();
            }
            entries.insert(name.clone(), entry);
        }
        json!({
            "kind": KIND_STATS,
            "documentKind": KIND_STATS,
            "documentSelfLink": path,
            "documentOwner": node_id,
            "entries": entries,
        })
    }
}

/// True when it is the first of that name.
fn count_in(
    all: &mut BTreeMap<String, Counters>,
    of: &str,
    name: &'static str,
    now: Moment,
) -> bool {
    let is_new = !all.contains_key(of);
    if is_new {
        all.insert(of.to_owned(), BTreeMap::new());
    }
    let counter = all.get_mut(of).expect("it was just made").entry(name).or_default();
    counter.count = counter.count.saturating_add(1);
    counter.updated = now;
    is_new
}

fn options(spec: &Spec) -> Vec<&'static str> {
    let own = spec.options.iter().map(|option| option.name());
    CAPABILITIES.into_iter().chain(own).collect()
}

fn describe(field: &Field) -> Value {
    let usage: Vec<&str> = [
        (field.required, "REQUIRED"),
        (field.merge, "AUTO_MERGE_IF_NOT_NULL"),
        (field.internal, "SERVICE_USE"),
        (!field.required && !field.internal, "OPTIONAL"),
    ]
    .into_iter()
    .filter_map(|(is, name)| is.then_some(name))
    .collect();
    let mut description = json!({
        "typeName": field.field_type.name(),
        "usageOptions": usage,
        "indexingOptions": ["EXPAND"],
        "propertyDocumentation": field.documentation,
    });
    if let Some(example) = &field.example {
        description["exampleValue"] = example.clone();
    }
    description
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_set_beside_the_counters() {
        let mut stats = Stats::default();
        let set = |stats: &mut Stats, link: &str, body: &str| {
            SetStat::parse(body.as_bytes())
                .and_then(|stat| stats.set(link, stat, Moment(9)))
                .map_err(|problem| problem.message)
        };
        stats.count("/core/a", Some("/core/a/x"), "GETrequestCount", Moment(7));
        let value = r#"{"name":"load","latestValue":2.5,"unit":"s"}"#;
        assert_eq!(set(&mut stats, "/core/a/x", value), Ok(()));
        assert_eq!(set(&mut stats, "/core/a/x", r#"{"name":"load","latestValue":3}"#), Ok(()));
        let shown = stats.show("/core/a", Some("/core/a/x"), "/core/a/x/stats", "n1");
        let load = &shown["entries"]["load"];
        assert_eq!((&load["latestValue"], &load["version"]), (&json!(3.0), &json!(2)), "{shown}");
        assert_eq!(shown["entries"]["GETrequestCount"]["latestValue"], 1.0);
        let of_factory = stats.show("/core/a", None, "/core/a/stats", "n1");
        assert!(of_factory["entries"].get("load").is_none(), "{of_factory}");
        for (body, why) in [
            (r#"{"name":"load"}"#, "latestValue"),
            (r#"{"name":"load","latestValue":1,"bins":[]}"#, "bins"),
            (r#"{"name":"load","latestValue":1,"kind":"a:b"}"#, "a:b"),
            (r#"{"name":"","latestValue":1}"#, "bytes"),
            (r#"{"name":"GETrequestCount","latestValue":1}"#, "counted"),
        ] {
            let said = set(&mut stats, "/core/a/x", body).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        for number in 1..STATS_SET_MAX {
            let body = format!(r#"{{"name":"n{number}","latestValue":1}}"#);
            assert_eq!(set(&mut stats, "/core/a/x", &body), Ok(()));
        }
        let one_more = set(&mut stats, "/core/a/x", r#"{"name":"more","latestValue":1}"#);
        assert!(one_more.unwrap_err().contains("limit"));
        for number in 0..=DOCUMENTS_COUNTED_MAX {
            stats.count(
                "/core/a",
                Some(&format!("/core/a/{number}")),
                "GETrequestCount",
                Moment(7),
            );
        }
        assert!(stats.set.is_empty(), "it goes with the counters of its document");
    }

    #[test]
    fn the_stats_of_partitions_are_added_up() {
        let mut one = Stats::default();
        let mut two = Stats::default();
        one.count("/core/a", Some("/core/a/x"), "GETrequestCount", Moment(7));
        two.count("/core/a", None, "GETrequestCount", Moment(5));
        two.count("/core/a", None, "GETrequestCount", Moment(6));
        two.count("/core/a", Some("/core/a/y"), "PUTrequestCount", Moment(6));
        let own = two.show("/core/a", Some("/core/a/y"), "/core/a/y/stats", "n1");
        assert_eq!(own["entries"].as_object().map(Map::len), Some(1), "its own only");
        assert_eq!(own["entries"]["PUTrequestCount"]["latestValue"], 1.0);
        let parts = [one, two].map(|stats| stats.show("/core/a", None, "/core/a/stats", "n1"));
        let all = merge_stats(&parts);
        assert_eq!(all["entries"]["GETrequestCount"]["latestValue"], 3.0);
        assert_eq!(all["entries"]["GETrequestCount"]["lastUpdateMicrosUtc"], 7);
        assert_eq!(all["entries"]["PUTrequestCount"]["version"], 1);
    }
}
