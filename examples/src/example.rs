//! `/core/examples`: documents with a name, a counter that never falls, tags and key-value pairs.

use std::collections::{BTreeMap, BTreeSet};

use sdk::service::{Context, Field, FieldType, Patch, Problem, Service, Spec};
use serde::{Deserialize, Serialize};

/// `documentKind` of the documents.
pub(crate) const KIND: &str = "com:vmware:xenon:services:common:ExampleService:ExampleServiceState";

pub struct ExampleService;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExampleState {
    name: Option<String>,
    counter: Option<i64>,
    sorted_counter: Option<i64>,
    key_values: BTreeMap<String, String>,
    tags: BTreeSet<String>,
    id: Option<String>,
    required: Option<String>,
    is_from_migration: Option<bool>,
}

impl Service for ExampleService {
    type State = ExampleState;

    fn spec(&self) -> Spec {
        Spec::new("/core/examples", KIND)
            .about("Documents with a name, a counter, tags and key-value pairs.")
            .retention(100, 20)
            .field(Field::new("name", FieldType::String).required().example("example one"))
            .field(Field::new("counter", FieldType::Long).about("It never falls.").example(5))
            .field(Field::new("sortedCounter", FieldType::Long))
            .field(Field::new("keyValues", FieldType::Map).merge())
            .field(Field::new("tags", FieldType::Collection).merge())
            .field(Field::new("id", FieldType::String))
            .field(Field::new("required", FieldType::String))
            .field(Field::new("isFromMigration", FieldType::Boolean))
    }

    fn put(
        &self,
        _: &mut Context<'_>,
        current: &ExampleState,
        new: ExampleState,
    ) -> Result<ExampleState, Problem> {
        Ok(ExampleState { counter: current.counter.max(new.counter), ..new })
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &ExampleState,
        patch: &Patch,
    ) -> Result<ExampleState, Problem> {
        let new: ExampleState = context.merge(current, patch)?;
        self.put(context, current, new)
    }
}
