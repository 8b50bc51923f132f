//! What stands beside a comparison: a field or an aggregate.

use protocol::Problem;
use protocol::query::{Aggregate, AggregateFunction};
use serde_json::Value as Json;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, Spanned,
};
use sqlparser::tokenizer::Span;

use crate::literal::{Literal, literal};
use crate::place::{problem, refused, unsupported};
use crate::table::{Table, identifiers};

/// The functions that there are, for those who ask for another one.
const FUNCTIONS: &str = "count, sum, avg, min, max, distinct_values, percentile(field, 99) and \
                         histogram(field, 10)";

/// Something that a row or a group has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Field(String),
    Aggregate(Aggregate),
}

impl Operand {
    pub(crate) fn of(expression: &Expr, table: &Table) -> Result<Self, Problem> {
        match expression {
            Expr::Nested(inner) => Self::of(inner, table),
            Expr::Identifier(name) => Ok(Self::Field(name.value.clone())),
            Expr::CompoundIdentifier(parts) => Ok(Self::Field(field_name(parts, table))),
            Expr::Function(function) => aggregate(function, table).map(Self::Aggregate),
            Expr::Value(_) => refused(
                expression.span(),
                "a field or an aggregate is expected here, and not a value",
            ),
            other => unsupported(other.span(), &format!("the expression '{other}'")),
        }
    }
}

/// How a column with an aggregate is called that has no name of its own.
pub(crate) fn shown(aggregate: &Aggregate) -> String {
    let field = aggregate.property_name.as_deref().unwrap_or("*");
    match aggregate.function {
        AggregateFunction::Count => format!("count({field})"),
        AggregateFunction::CountDistinct => format!("count(distinct {field})"),
        AggregateFunction::Sum => format!("sum({field})"),
        AggregateFunction::Avg => format!("avg({field})"),
        AggregateFunction::Min => format!("min({field})"),
        AggregateFunction::Max => format!("max({field})"),
        AggregateFunction::Distinct => format!("distinct_values({field})"),
        AggregateFunction::Percentiles => {
            let percent = aggregate.percents.first().copied().unwrap_or_default();
            format!("percentile({field}, {percent})")
        }
        AggregateFunction::Histogram => {
            let width = aggregate.interval.as_ref().and_then(Json::as_str).unwrap_or_default();
            format!("histogram({field}, {width})")
        }
    }
}

/// The path of a field. The name or the alias of the table may stand before it.
fn field_name(parts: &[Ident], table: &Table) -> String {
    let parts: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
    match parts.as_slice() {
        [first, rest @ ..] if !rest.is_empty() && table.prefixes.iter().any(|it| it == first) => {
            rest.join(".")
        }
        parts => parts.join("."),
    }
}

fn aggregate(function: &Function, table: &Table) -> Result<Aggregate, Problem> {
    let Function {
        name,
        uses_odbc_syntax,
        parameters,
        args,
        within_group,
        filter,
        null_treatment,
        over,
    } = function;
    let at = name.span();
    let said = [
        ("{fn ...}", *uses_odbc_syntax),
        ("a function with two lists", *parameters != FunctionArguments::None),
        ("WITHIN GROUP", !within_group.is_empty()),
        ("FILTER", filter.is_some()),
        ("IGNORE NULLS", null_treatment.is_some()),
        ("OVER", over.is_some()),
    ];
    if let Some((what, _)) = said.iter().find(|(_, is_said)| *is_said) {
        return unsupported(at, what);
    }
    let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) = args
    else {
        return refused(at, &format!("{name} is not known; there are {FUNCTIONS}"));
    };
    if !clauses.is_empty() {
        return unsupported(at, "a clause within the arguments");
    }
    let is_distinct = *duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let parts = identifiers(name)?;
    let called = match parts.as_slice() {
        [one] => one.value.to_lowercase(),
        _ => String::new(),
    };
    let args: Vec<&FunctionArgExpr> = args.iter().map(argument).collect::<Result<_, _>>()?;
    let call = Call { called: &called, args: &args, is_distinct, at, table };
    call.aggregate()
}

fn argument(argument: &FunctionArg) -> Result<&FunctionArgExpr, Problem> {
    match argument {
        FunctionArg::Unnamed(expression) => Ok(expression),
        FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
            unsupported(argument.span(), "an argument with a name")
        }
    }
}

/// A function that is called.
struct Call<'a> {
    called: &'a str,
    args: &'a [&'a FunctionArgExpr],
    is_distinct: bool,
    at: Span,
    table: &'a Table,
}

impl Call<'_> {
    fn aggregate(&self) -> Result<Aggregate, Problem> {
        let function = match (self.called, self.is_distinct) {
            ("count", false) => AggregateFunction::Count,
            ("count", true) => AggregateFunction::CountDistinct,
            ("min", _) => AggregateFunction::Min,
            ("max", _) => AggregateFunction::Max,
            ("sum", false) => AggregateFunction::Sum,
            ("avg", false) => AggregateFunction::Avg,
            ("distinct_values", false) => AggregateFunction::Distinct,
            ("percentile", false) => AggregateFunction::Percentiles,
            ("histogram", false) => AggregateFunction::Histogram,
            (name, true) => return unsupported(self.at, &format!("{name}(distinct ...)")),
            (name, false) => {
                return refused(self.at, &format!("{name} is not known; there are {FUNCTIONS}"));
            }
        };
        let is_with_number =
            matches!(function, AggregateFunction::Percentiles | AggregateFunction::Histogram);
        let (first, number) = match (self.args, is_with_number) {
            ([first], false) => (first, None),
            ([first, second], true) => (first, Some(self.number(second)?)),
            (_, false) => return self.wrong("takes one argument"),
            (_, true) => return self.wrong("takes a field and a number"),
        };
        let mut made = Aggregate { function, ..Aggregate::default() };
        made.property_name = match first {
            FunctionArgExpr::Wildcard if function == AggregateFunction::Count => None,
            FunctionArgExpr::Expr(expression) => match Operand::of(expression, self.table)? {
                Operand::Field(name) => Some(name),
                Operand::Aggregate(_) => return self.wrong("takes a field, and no aggregate"),
            },
            _ => return self.wrong("takes a field"),
        };
        match (function, number) {
            (AggregateFunction::Percentiles, Some(text)) => {
                let percent = text.parse().unwrap_or(f64::NAN);
                if !(percent > 0.0 && percent <= 100.0) {
                    return self.wrong("takes a number above 0 and up to 100");
                }
                made.percents = vec![percent];
            }
            (AggregateFunction::Histogram, Some(text)) => made.interval = Some(text.into()),
            _ => {}
        }
        Ok(made)
    }

    fn number(&self, argument: &FunctionArgExpr) -> Result<String, Problem> {
        let found = match argument {
            FunctionArgExpr::Expr(expression) => literal(expression)?,
            _ => None,
        };
        match found {
            Some(Literal::Number(text)) => Ok(text),
            _ => self.wrong("takes a field and a number"),
        }
    }

    fn wrong<T>(&self, why: &str) -> Result<T, Problem> {
        Err(problem(self.at, &format!("{} {why}", self.called)))
    }
}
