//! `POST /core/sql`: a statement that reads.

use protocol::Problem;
use protocol::Request;
use serde_json::Value;
use services::Catalogue;
use sql::Tables;

use super::past;
use super::plan::{Plan, check_fields, parse_body};
use crate::pages::Form;
use crate::view::View;

pub(crate) const LINK: &str = "/core/sql";

/// # Errors
/// What of the statement cannot be done, with its place in the text.
pub(super) fn plan(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    let body = parse_body(&request.body)?;
    check_fields(&body, "a statement", &["sql"])?;
    let Value::String(text) = &body["sql"] else {
        let why = "'sql' is needed: a text, such as select name from examples limit 10";
        return Err(Problem::bad_request(why));
    };
    let mut statement = sql::parse(text, &Kinds(view.catalogue()))?;
    let specification = std::mem::take(&mut statement.specification);
    past::check_query(&specification, view)?;
    Ok(Plan::Query(Box::new(specification), Form::Sql(Box::new(statement))))
}

struct Kinds<'a>(&'a Catalogue);

impl Tables for Kinds<'_> {
    fn factories(&self) -> Vec<(String, String)> {
        self.0.specs().map(|spec| (spec.factory.clone(), spec.kind.clone())).collect()
    }
}
