//! `/core/example-tasks`: deletes all example documents, or those that a query clause names.
//!
//! It goes through them page by page and persists its place after each batch, so the next owner
//! goes on where the last one stopped. It fails when its query fails, and can be cancelled.

use sdk::service::{
    Context, Field, FieldType, Method, Plan, Problem, Query, Request, Response, ServiceOption,
    Spec, Task, find, found,
};
use serde::{Deserialize, Serialize};

use crate::example;

/// How many documents are deleted in one step.
const BATCH: usize = 100;

pub struct ExampleTaskService;

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExampleTaskState {
    /// In seconds.
    task_lifetime: Option<i64>,
    sub_stage: SubStage,
    custom_query_clause: Option<Query>,
    /// Where the next documents are found.
    next_page_link: Option<String>,
    /// What is to be deleted in the next step.
    document_links: Vec<String>,
    deleted_count: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SubStage {
    #[default]
    QueryExamples,
    DeleteExamples,
    Done,
}

impl Task for ExampleTaskService {
    type State = ExampleTaskState;

    fn spec(&self) -> Spec {
        Spec::new(
            "/core/example-tasks",
            "com:vmware:xenon:services:common:ExampleTaskService:ExampleTaskServiceState",
        )
        .about("Deletes all example documents.")
        .option(ServiceOption::IdempotentPost)
        .field(Field::new("taskLifetime", FieldType::Long).about("In seconds.").example(60))
        .field(Field::new("customQueryClause", FieldType::Object).about("Delete only these."))
        .field(Field::new("subStage", FieldType::Enum).internal())
        .field(Field::new("exampleQueryTask", FieldType::Object).internal())
        .field(Field::new("nextPageLink", FieldType::String).internal())
        .field(Field::new("documentLinks", FieldType::Collection).internal())
        .field(Field::new("deletedCount", FieldType::Long).internal())
    }

    fn create(
        &self,
        context: &mut Context<'_>,
        task: &mut ExampleTaskState,
    ) -> Result<(), Problem> {
        match task.task_lifetime.map(u64::try_from) {
            None => Ok(()),
            Some(Ok(seconds)) if seconds > 0 => {
                context.expire_after(seconds.saturating_mul(1_000_000));
                Ok(())
            }
            Some(_) => Err(Problem::bad_request("taskLifetime must be positive")),
        }
    }

    fn plan(&self, _: &Context<'_>, task: &ExampleTaskState) -> Plan {
        match (task.sub_stage, &task.next_page_link) {
            (SubStage::QueryExamples, Some(page)) => Plan::call(Request::get(page)),
            (SubStage::QueryExamples, None) => {
                let mut clauses = vec![Query::equal("documentKind", example::KIND)];
                clauses.extend(task.custom_query_clause.clone());
                Plan::call(find(&clauses, BATCH))
            }
            (SubStage::DeleteExamples, _) => {
                let delete = |link: &String| Request::new(Method::Delete, link.as_str());
                Plan::calls(task.document_links.iter().map(delete).collect())
            }
            (SubStage::Done, _) => Plan::Finish,
        }
    }

    fn learn(
        &self,
        _: &mut Context<'_>,
        task: &mut ExampleTaskState,
        answers: &[Response],
    ) -> Result<(), Problem> {
        if task.sub_stage == SubStage::DeleteExamples {
            let failed = answers.iter().filter(|answer| !answer.is_success()).count();
            if failed > 0 {
                return Err(Problem::bad_request(format!("{failed} deletes failed")));
            }
            task.deleted_count += std::mem::take(&mut task.document_links).len();
        }
        if task.sub_stage == SubStage::QueryExamples {
            let page = found(&answers[0])?;
            (task.document_links, task.next_page_link) = (page.document_links, page.next_page_link);
        }
        task.sub_stage = match (task.document_links.is_empty(), &task.next_page_link) {
            (false, _) => SubStage::DeleteExamples,
            (true, Some(_)) => SubStage::QueryExamples,
            (true, None) => SubStage::Done,
        };
        Ok(())
    }
}
