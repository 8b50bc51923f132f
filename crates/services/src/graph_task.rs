//! Graph queries: from the documents that one query finds along their links to those of the next,
//! stage by stage.
//!
//! Each stage is a query like any other, asked with the rights of whoever made the task. So nobody
//! is led by a link to what that one may not see, and every bound of a query holds for each stage.

use std::collections::BTreeSet;

use protocol::query::{self, GRAPH_LINK, KIND, Query, QueryTerm};
use protocol::{BUILT_IN_FIELDS, Method, Problem, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::task::check_stays;
use crate::{Context, Field, FieldType, Patch, Plan, Spec, Task, succeeded};

/// How long the task and its results are kept.
const EXPIRATION_MICROS: u64 = 600 * 1_000_000;

/// The largest task with its results, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// How many stages a graph query may have.
const STAGES_MAX: usize = 32;

/// Only what has led on to a document of the next stage stays.
const FILTER: &str = "FILTER_STAGE_RESULTS";

/// From a document to those that have a link to it.
const USE_LINK_TERM: &str = "USE_LINK_TERM";

/// `/core/graph-queries`.
pub(crate) struct GraphQueryService;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct GraphQueryState {
    /// Query tasks, each with its results once it was run.
    stages: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth_limit: Option<usize>,
    /// How many stages were run.
    current_depth: usize,
    #[serde(skip_serializing_if = "Value::is_null")]
    tenant_links: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    result_links: Value,
}

impl Task for GraphQueryService {
    type State = GraphQueryState;

    fn spec(&self) -> Spec {
        Spec::new(GRAPH_LINK, "com:vmware:xenon:services:common:GraphQueryTask")
            .about("Follows links from the documents of one query to those of the next.")
            .expires_after(EXPIRATION_MICROS)
            .state_bytes_max(BYTES_MAX)
            .field(
                Field::new("stages", FieldType::Collection).required().about(
                    "Query tasks: each finds among the documents that the last one leads to.",
                ),
            )
            .field(
                Field::new("options", FieldType::Collection)
                    .about("FILTER_STAGE_RESULTS, or USE_LINK_TERM."),
            )
            .field(
                Field::new("depthLimit", FieldType::Long)
                    .about("How many stages there are, if it is said."),
            )
            .field(Field::new("currentDepth", FieldType::Long).about("How many stages were run."))
    }

    fn create(&self, _: &mut Context<'_>, state: &mut GraphQueryState) -> Result<(), Problem> {
        state.check()?;
        for number in 0..state.stages.len() {
            let prepared = state.prepared(number)?;
            // A wrong stage is refused now, rather than when its turn comes.
            ::query::CompiledQuery::new(&::query::parse_specification(&prepared)?)
                .map_err(|problem| at_stage(number, &problem))?;
        }
        Ok(())
    }

    fn patch(
        &self,
        context: &mut Context<'_>,
        current: &GraphQueryState,
        patch: &Patch,
    ) -> Result<GraphQueryState, Problem> {
        check_stays("a graph query", current, &patch.fields)?;
        context.merge(current, &Patch { fields: Map::new(), ..patch.clone() })
    }

    fn plan(&self, _: &Context<'_>, state: &GraphQueryState) -> Plan {
        let depth = state.current_depth;
        if depth == state.stages.len() {
            return Plan::Finish;
        }
        let links = match depth {
            0 => state.seeds(),
            _ => match state.leads_to(depth - 1) {
                links if links.is_empty() => return Plan::Finish,
                links => Some(links),
            },
        };
        let specification = state.prepared(depth).and_then(|it| state.scoped(depth, it, links));
        match specification {
            Ok(specification) => {
                let body = json!({"taskInfo": {"isDirect": true}, "querySpec": specification});
                Plan::call(Request::new(Method::Post, query::LINK).with_json(&body))
            }
            Err(problem) => Plan::Fail(at_stage(depth, &problem).message),
        }
    }

    fn learn(
        &self,
        context: &mut Context<'_>,
        state: &mut GraphQueryState,
        answers: &[Response],
    ) -> Result<(), Problem> {
        let depth = state.current_depth;
        let answer = answers.first().ok_or_else(|| Problem::internal("the query got no answer"))?;
        if answer.body.len() > context.spec.state_bytes_max / 2 {
            return Err(Problem::bad_request(format!(
                "stage {depth} has found {} bytes, too much to be kept: narrow its query, or leave \
                 out EXPAND_CONTENT",
                answer.body.len()
            )));
        }
        let mut answer = succeeded(answer).map_err(|problem| at_stage(depth, &problem))?;
        let results = answer["results"].take();
        if results.is_null() {
            return Err(Problem::internal("a stage was answered without results"));
        }
        state.stages[depth]["results"] = results;
        state.stages[depth]["documentKind"] = KIND.into();
        state.current_depth += 1;
        let is_last = state.current_depth == state.stages.len() || state.leads_to(depth).is_empty();
        if is_last && state.has(FILTER) {
            state.filter();
        }
        Ok(())
    }
}

impl GraphQueryState {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|it| it == option)
    }

    fn check(&self) -> Result<(), Problem> {
        let wrong = |text: String| Err(Problem::bad_request(text));
        let count = self.stages.len();
        if count == 0 || count > STAGES_MAX {
            return wrong(format!("stages are {count}; there may be from 1 to {STAGES_MAX}"));
        }
        if let Some(limit) = self.depth_limit.filter(|limit| *limit != count) {
            return wrong(format!(
                "depthLimit is {limit}, and there are {count} stages: each is run once. Leave it out"
            ));
        }
        if self.current_depth > 0 {
            return wrong("Do not specify currentDepth: internal use only".into());
        }
        let known = [FILTER, USE_LINK_TERM];
        if let Some(other) = self.options.iter().find(|it| !known.contains(&it.as_str())) {
            return wrong(format!("options has '{other}'; there are {}", known.join(" and ")));
        }
        if self.has(FILTER) && self.has(USE_LINK_TERM) {
            return wrong(format!("options have {FILTER} and {USE_LINK_TERM}; drop one"));
        }
        ::query::check_tenant_links("tenantLinks", &self.tenant_links)?;
        let links = &self.result_links;
        if !links.is_null() && links.as_array().is_none_or(|items| !items.is_empty()) {
            return wrong(format!("resultLinks is {links}, and says nothing here; leave it out"));
        }
        self.stages.iter().enumerate().try_for_each(|(number, stage)| check_stage(number, stage))
    }

    /// The query of a stage, before the one before it has an outcome.
    fn prepared(&self, number: usize) -> Result<Value, Problem> {
        let mut specification = self.stages[number]["querySpec"].clone();
        let is_last = number + 1 == self.stages.len();
        let Value::Object(fields) = &mut specification else {
            return Err(Problem::bad_request(format!("stages[{number}].querySpec is missing")));
        };
        if self.has(USE_LINK_TERM) {
            // The links lead the other way: they are compared, and not selected.
            let terms = fields.remove("linkTerms").unwrap_or_default();
            if number > 0 && terms.as_array().is_none_or(|terms| terms.len() != 1) {
                return Err(Problem::bad_request(format!(
                    "stages[{number}].querySpec.linkTerms: {USE_LINK_TERM} needs one, the field with \
                     the link to a document of the stage before"
                )));
            }
            return Ok(specification);
        }
        let options = fields.entry("options").or_insert_with(|| json!([]));
        if let (false, Value::Array(options)) = (is_last, options)
            && !options.iter().any(|it| it == "SELECT_LINKS")
        {
            options.push("SELECT_LINKS".into());
        }
        Ok(specification)
    }

    /// The same, narrowed to what the stage before leads to.
    fn scoped(
        &self,
        number: usize,
        specification: Value,
        links: Option<BTreeSet<String>>,
    ) -> Result<Value, Problem> {
        let mut parsed = ::query::parse_specification(&specification)?;
        let Some(links) = links else {
            return serde_json::to_value(parsed)
                .map_err(|error| Problem::internal(error.to_string()));
        };
        if links.len() > ::query::MATCH_VALUES_MAX {
            return Err(Problem::bad_request(format!(
                "the stage before leads to {} documents; a stage goes on from {} at most: narrow",
                links.len(),
                ::query::MATCH_VALUES_MAX
            )));
        }
        let field = match number > 0 && self.has(USE_LINK_TERM) {
            true => self.stages[number]["querySpec"]["linkTerms"][0]["propertyName"].as_str(),
            false => Some("documentSelfLink"),
        };
        let match_values = links.into_iter().map(Value::from).collect();
        let term = QueryTerm { match_values, ..QueryTerm::field(field.unwrap_or_default()) };
        parsed.and(Query { term: Some(term), ..Query::default() });
        serde_json::to_value(parsed).map_err(|error| Problem::internal(error.to_string()))
    }

    /// Among which documents the first stage finds, when its results name some to begin with.
    fn seeds(&self) -> Option<BTreeSet<String>> {
        let results = &self.stages.first()?["results"];
        (!results.is_null()).then(|| texts(&results["documentLinks"]))
    }

    /// The links along which the documents of a stage lead on.
    fn leads_to(&self, number: usize) -> BTreeSet<String> {
        let name = if self.has(USE_LINK_TERM) { "documentLinks" } else { "selectedLinks" };
        texts(&self.stages[number]["results"][name])
    }

    /// From the last stage back to the first: what leads to nothing goes. A stage that was not run
    /// has found nothing.
    fn filter(&mut self) {
        for number in (1..self.stages.len().min(self.current_depth + 1)).rev() {
            let found = texts(&self.stages[number]["results"]["documentLinks"]);
            let results = &mut self.stages[number - 1]["results"];
            let each = results["selectedLinksPerDocument"].as_object().cloned().unwrap_or_default();
            let leads = |links: &Value| {
                let mut links = links.as_object().into_iter().flat_map(Map::values);
                links.any(|link| link.as_str().is_some_and(|link| found.contains(link)))
            };
            let stays = |document: &str| each.get(document).is_some_and(leads);
            let mut count = 0;
            if let Some(links) = results["documentLinks"].as_array_mut() {
                links.retain(|link| link.as_str().is_some_and(stays));
                count = links.len();
            }
            for name in ["documents", "selectedLinksPerDocument"] {
                if let Some(fields) = results[name].as_object_mut() {
                    fields.retain(|document, _| stays(document));
                }
            }
            if let Some(links) = results["selectedLinks"].as_array_mut() {
                links.retain(|link| link.as_str().is_some_and(|link| found.contains(link)));
            }
            if let Some(documents) = results["selectedDocuments"].as_object_mut() {
                documents.retain(|link, _| found.contains(link));
            }
            results["documentCount"] = count.into();
        }
    }
}

fn texts(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn check_stage(number: usize, stage: &Value) -> Result<(), Problem> {
    const KNOWN: [&str; 7] = [
        "taskInfo",
        "querySpec",
        "kind",
        "indexLink",
        "nodeSelectorLink",
        "tenantLinks",
        "results",
    ];
    let at = format!("stages[{number}]");
    let wrong = |text: String| Err(Problem::bad_request(text));
    let Value::Object(fields) = stage else { return wrong(format!("{at} is no JSON object")) };
    let is_known = |name: &str| KNOWN.contains(&name) || BUILT_IN_FIELDS.contains(&name);
    if let Some(name) = fields.keys().find(|name| !is_known(name)) {
        return wrong(format!("{at} has no field '{name}'; it has {}", KNOWN.join(", ")));
    }
    ::query::check_places(&format!("{at}."), stage)?;
    let results = &stage["results"];
    if !results.is_null() && (number > 0 || texts(&results["documentLinks"]).is_empty()) {
        return wrong(format!(
            "{at}.results says nothing here: every stage is run, and only the first may have \
             results.documentLinks, among which it finds. Leave it out"
        ));
    }
    let specification = &stage["querySpec"];
    if !specification["resultLimit"].is_null() {
        return wrong(format!(
            "{at}.querySpec.resultLimit must be null: a stage has no pages. Narrow its query"
        ));
    }
    if !specification["expectedResultCount"].is_null() && specification["expectedResultCount"] != 0
    {
        return wrong(format!(
            "{at}.querySpec.expectedResultCount says nothing here: a stage is run once. Leave it out"
        ));
    }
    let options = texts(&specification["options"]);
    let of_pages = ["COUNT", "GROUP_BY", "INCLUDE_ALL_VERSIONS"];
    match of_pages.into_iter().find(|name| options.contains(*name)) {
        Some(name) => {
            wrong(format!("{at}.querySpec.options have {name}, which gives no links to follow"))
        }
        None => Ok(()),
    }
}

fn at_stage(number: usize, problem: &Problem) -> Problem {
    Problem { message: format!("stage {number}: {}", problem.message), ..problem.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(stages: Value, options: &[&str]) -> GraphQueryState {
        let options = options.iter().map(|it| (*it).to_owned()).collect();
        let stages = stages.as_array().unwrap().clone();
        GraphQueryState { stages, options, ..GraphQueryState::default() }
    }

    fn stage(field: &str) -> Value {
        json!({"querySpec": {
            "query": {"term": {"propertyName": "name", "matchValue": "x"}},
            "linkTerms": [{"propertyName": field}],
        }})
    }

    fn last() -> Value {
        json!({"querySpec": {"query": {"term": {"propertyName": "name", "matchValue": "y"}}}})
    }

    #[test]
    fn a_stage_goes_on_from_what_the_last_one_leads_to() {
        let mut graph = state(json!([stage("parentLink"), last()]), &[]);
        graph.check().unwrap();
        let first = graph.prepared(0).unwrap();
        assert_eq!(first["options"], json!(["SELECT_LINKS"]));
        graph.stages[0]["results"] =
            json!({"documentLinks": ["/a/1"], "selectedLinks": ["/b/1", "/b/2"]});
        let links = graph.leads_to(0);
        let second = graph.scoped(1, graph.prepared(1).unwrap(), Some(links)).unwrap();
        let clauses = &second["query"]["booleanClauses"];
        assert_eq!(clauses[0]["term"]["matchValue"], "y");
        assert_eq!(clauses[1]["term"]["propertyName"], "documentSelfLink");
        assert_eq!(clauses[1]["term"]["matchValues"], json!(["/b/1", "/b/2"]));
    }

    #[test]
    fn links_are_followed_backwards_by_the_term_of_the_next_stage() {
        let mut graph = state(json!([last(), stage("parentLink")]), &[USE_LINK_TERM]);
        graph.stages[0]["results"] = json!({"documentLinks": ["/a/1"]});
        let second = graph.scoped(1, graph.prepared(1).unwrap(), Some(graph.leads_to(0))).unwrap();
        let term = &second["query"]["booleanClauses"][1]["term"];
        assert_eq!(
            (&term["propertyName"], &term["matchValues"]),
            (&json!("parentLink"), &json!(["/a/1"]))
        );
        assert!(second["linkTerms"].is_null());
        let without = state(json!([last(), last()]), &[USE_LINK_TERM]);
        assert!(without.prepared(1).unwrap_err().message.contains("needs one"));
    }

    /// The fields of a Java client's query task have values from the beginning.
    #[test]
    fn the_usual_places_are_taken_and_the_first_stage_may_begin_with_links() {
        let usual = |mut stage: Value| {
            stage["indexLink"] = "/core/document-index".into();
            stage["nodeSelectorLink"] = "/core/node-selectors/default".into();
            stage["tenantLinks"] = json!(["/tenants/a"]);
            stage
        };
        let mut first = usual(stage("p"));
        let graph = state(json!([first, usual(last())]), &[]);
        graph.check().unwrap();
        assert_eq!(graph.seeds(), None);
        first["results"] = json!({"documentLinks": ["/a/1"]});
        for options in [&[][..], &[USE_LINK_TERM]] {
            let graph = state(json!([first, usual(stage("p"))]), options);
            graph.check().unwrap();
            let scoped = graph.scoped(0, graph.prepared(0).unwrap(), graph.seeds()).unwrap();
            let term = &scoped["query"]["booleanClauses"][1]["term"];
            assert_eq!(term["propertyName"], "documentSelfLink");
            assert_eq!(term["matchValues"], json!(["/a/1"]));
        }
    }

    #[test]
    fn what_leads_to_nothing_is_filtered_out() {
        let mut graph = state(json!([stage("p"), last()]), &[FILTER]);
        graph.current_depth = 2;
        graph.stages[0]["results"] = json!({
            "documentLinks": ["/a/1", "/a/2"], "documentCount": 2,
            "documents": {"/a/1": {}, "/a/2": {}},
            "selectedLinks": ["/b/1", "/b/2"],
            "selectedDocuments": {"/b/1": {}, "/b/2": {}},
            "selectedLinksPerDocument": {"/a/1": {"p": "/b/1"}, "/a/2": {"p": "/b/2"}},
        });
        graph.stages[1]["results"] = json!({"documentLinks": ["/b/2"], "documentCount": 1});
        graph.filter();
        assert_eq!(
            graph.stages[0]["results"],
            json!({
                "documentLinks": ["/a/2"], "documentCount": 1, "documents": {"/a/2": {}},
                "selectedLinks": ["/b/2"], "selectedDocuments": {"/b/2": {}},
                "selectedLinksPerDocument": {"/a/2": {"p": "/b/2"}},
            })
        );
    }

    #[test]
    fn what_leads_to_a_stage_that_was_not_run_is_filtered_out() {
        let mut graph = state(json!([stage("p"), stage("q"), last()]), &[FILTER]);
        graph.current_depth = 2;
        graph.stages[0]["results"] = json!({
            "documentLinks": ["/a/1"], "documentCount": 1, "selectedLinks": ["/b/1"],
            "selectedLinksPerDocument": {"/a/1": {"p": "/b/1"}},
        });
        graph.stages[1]["results"] = json!({"documentLinks": ["/b/1"], "documentCount": 1});
        graph.filter();
        for stage in &graph.stages[..2] {
            assert_eq!(stage["results"]["documentLinks"], json!([]));
            assert_eq!(stage["results"]["documentCount"], 0);
        }
        assert!(graph.stages[2]["results"].is_null());
    }

    #[test]
    fn what_would_be_passed_over_is_refused_by_name() {
        let refused = |graph: &GraphQueryState| graph.check().unwrap_err().message;
        let with = |name: &str, value: Value| {
            let mut stage = last();
            stage[name] = value;
            state(json!([stage]), &[])
        };
        assert!(refused(&state(json!([]), &[])).contains("from 1 to 32"));
        assert!(refused(&with("bogus", json!(1))).contains("'bogus'"));
        assert!(refused(&with("results", json!({}))).contains("results"));
        let seeded = with("results", json!({"documentLinks": ["/a"]})).stages.remove(0);
        let later = state(json!([stage("p"), seeded]), &[]);
        assert!(refused(&later).contains("stages[1].results"));
        assert!(refused(&with("tenantLinks", json!("/t"))).contains("tenantLinks"));
        assert!(refused(&with("indexLink", json!("/other"))).contains("stages[0].indexLink is"));
        assert!(refused(&with("nodeSelectorLink", json!("/a"))).contains("nodeSelectorLink is"));
        let limited = json!([{"querySpec": {"resultLimit": 1}}]);
        assert!(refused(&state(limited, &[])).contains("resultLimit"));
        let awaited = json!([{"querySpec": {"expectedResultCount": 1}}]);
        assert!(refused(&state(awaited, &[])).contains("expectedResultCount"));
        let counted = json!([{"querySpec": {"options": ["COUNT"]}}]);
        assert!(refused(&state(counted, &[])).contains("COUNT"));
        assert!(refused(&state(json!([last()]), &["OTHER"])).contains("'OTHER'"));
        let both = state(json!([last()]), &[FILTER, USE_LINK_TERM]);
        assert!(refused(&both).contains("drop one"));
        let deep = GraphQueryState { depth_limit: Some(3), ..state(json!([last()]), &[]) };
        assert!(refused(&deep).contains("depthLimit is 3"));
    }
}
