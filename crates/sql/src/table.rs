//! Tables: kinds of documents by the last part of their factory's link, by the whole link in
//! quotes, or by the name of the kind.

use protocol::{Moment, Problem, time};
use sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Spanned, TableAlias, TableFactor, TableVersion,
};
use sqlparser::tokenizer::Span;

use crate::literal::{Literal, literal};
use crate::place::{problem, refused, unsupported};

/// After the name of a table: all versions of its documents.
const VERSIONS: &str = "versions";

/// The factories that there are.
pub trait Tables {
    /// Each with the kind of its documents.
    fn factories(&self) -> Vec<(String, String)>;
}

/// A table that a statement reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    pub(crate) factory: String,
    pub(crate) kind: String,
    pub(crate) has_all_versions: bool,
    /// As it was at that time.
    pub(crate) as_of: Option<Moment>,
    /// What may stand before the name of a field.
    pub(crate) prefixes: Vec<String>,
}

impl Table {
    pub(crate) fn of(factor: &TableFactor, tables: &dyn Tables) -> Result<Self, Problem> {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_directives,
            inheritance,
        } = factor
        else {
            return unsupported(factor.span(), "a table that is not a name");
        };
        let at = name.span();
        let said = [
            ("a table with arguments", args.is_some()),
            ("WITH and hints", !with_hints.is_empty()),
            ("WITH ORDINALITY", *with_ordinality),
            ("PARTITION", !partitions.is_empty()),
            ("a path into a table", json_path.is_some()),
            ("TABLESAMPLE", sample.is_some()),
            ("USE INDEX", !index_directives.is_empty()),
            ("ONLY", inheritance.is_some()),
        ];
        if let Some((what, _)) = said.iter().find(|(_, is_said)| *is_said) {
            return unsupported(at, what);
        }
        let parts = identifiers(name)?;
        let (first, has_all_versions) = match parts.as_slice() {
            [first] => (first, false),
            [first, second] if second.value.eq_ignore_ascii_case(VERSIONS) => (first, true),
            _ => {
                let why = "a table is one name, a link in quotes, or one of these with .versions";
                return refused(at, why);
            }
        };
        let as_of = version.as_ref().map(|version| time_of(version, at)).transpose()?;
        if as_of.is_some() && has_all_versions {
            let why =
                "AS OF shows one version of each document, and .versions all; write one of them";
            return refused(at, why);
        }
        let (factory, kind) = found(first, tables)?;
        let mut prefixes = vec![first.value.clone()];
        if let Some(alias) = alias {
            prefixes = vec![alias_of(alias)?];
        }
        Ok(Self { factory, kind, has_all_versions, as_of, prefixes })
    }
}

/// The time of `FOR SYSTEM_TIME AS OF` or `TIMESTAMP AS OF`.
fn time_of(version: &TableVersion, at: Span) -> Result<Moment, Problem> {
    let expression = match version {
        TableVersion::ForSystemTimeAsOf(it) | TableVersion::TimestampAsOf(it) => it,
        TableVersion::VersionAsOf(_) => {
            let why =
                "a table has no versions, only its documents have; write FOR SYSTEM_TIME AS OF";
            return refused(at, why);
        }
        TableVersion::Function(_) | TableVersion::Changes { .. } => {
            return unsupported(at, "AT, BEFORE and CHANGES of a table; FOR SYSTEM_TIME AS OF");
        }
    };
    let text = match literal(expression)? {
        Some(Literal::Text(text) | Literal::Number(text)) => text,
        Some(Literal::Boolean(_)) | None => String::new(),
    };
    time::moment_of(&text).map_or_else(
        || {
            let why = format!(
                "a time is expected after AS OF, such as '2026-11-30T12:00:00Z' or microseconds \
                 since 1970, and not {expression}"
            );
            refused(expression.span(), &why)
        },
        Ok,
    )
}

fn alias_of(alias: &TableAlias) -> Result<String, Problem> {
    let TableAlias { explicit: _, name, columns, at } = alias;
    if !columns.is_empty() || at.is_some() {
        return unsupported(name.span, "an alias with columns");
    }
    Ok(name.value.clone())
}

pub(crate) fn identifiers(name: &ObjectName) -> Result<Vec<Ident>, Problem> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(ident.clone()),
        ObjectNamePart::Function(_) => unsupported(name.span(), "a name that is computed"),
    };
    name.0.iter().map(part).collect()
}

/// The factory and the kind that a name means.
fn found(name: &Ident, tables: &dyn Tables) -> Result<(String, String), Problem> {
    let all = tables.factories();
    let wanted = name.value.as_str();
    let last =
        |link: &str, separator: char| link.rsplit(separator).next().unwrap_or(link).to_owned();
    let is_meant = |(factory, kind): &&(String, String)| {
        factory == wanted
            || kind == wanted
            || last(factory, '/') == wanted
            || last(kind, ':') == wanted
    };
    let meant: Vec<&(String, String)> = all.iter().filter(is_meant).collect();
    match meant.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let mut names: Vec<String> = all.iter().map(|(it, _)| last(it, '/')).collect();
            names.sort_unstable();
            let why = format!("there is no table '{wanted}'; there are {}", names.join(", "));
            Err(problem(name.span, &why))
        }
        several => {
            let links: Vec<String> =
                several.iter().map(|(factory, _)| format!("\"{factory}\"")).collect();
            let why = format!("'{wanted}' may be {}; write one of these", links.join(" or "));
            Err(problem(name.span, &why))
        }
    }
}
