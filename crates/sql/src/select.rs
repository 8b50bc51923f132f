//! A `SELECT` as a query: each clause of it, or a refusal of the clause.

use protocol::Problem;
use protocol::query::{
    Aggregate, AggregateFunction, Occurance, QueryOption, QuerySpecification, QueryTerm, SortOrder,
};
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, Offset, OrderBy, OrderByKind, OrderBySort, Query,
    Select, SelectFlavor, SelectItem, SetExpr, Spanned, WildcardAdditionalOptions,
};
use sqlparser::tokenizer::Span;

use crate::condition::{Condition, Test};
use crate::filter::clause;
use crate::group_column::GroupColumn;
use crate::groups::{GroupShape, Named};
use crate::having::Having;
use crate::literal::{Literal, literal};
use crate::operand::{Operand, shown};
use crate::place::{refused, unsupported};
use crate::rows::DocumentColumn;
use crate::statement::{Shape, Statement};
use crate::table::{Table, Tables};

/// How many columns a statement may have.
const COLUMNS_MAX: usize = 256;

/// What is selected, in its order.
enum Item {
    All,
    Of { name: String, operand: Operand, at: Span },
}

/// One of `ORDER BY`.
struct Order {
    by: OrderedBy,
    is_descending: bool,
    at: Span,
}

enum OrderedBy {
    /// The number of a column, by its place or its name.
    Item(usize),
    Operand(Operand),
}

/// The clauses of a statement.
struct Clauses {
    table: Table,
    items: Vec<Item>,
    is_distinct: bool,
    condition: Option<Condition>,
    group_by: Vec<String>,
    having: Option<Condition>,
    order: Vec<Order>,
    limit: Option<usize>,
    skip: usize,
}

pub(crate) fn select(query: &Query, tables: &dyn Tables) -> Result<Statement, Problem> {
    let clauses = Clauses::of(query, tables)?;
    let mut specification = query::factory_query(&clauses.table.factory, Some(&clauses.table.kind));
    if clauses.table.has_all_versions {
        specification.options.push(QueryOption::IncludeAllVersions);
    }
    if let Some(at) = clauses.table.as_of {
        specification.as_of(at);
    }
    if let Some(condition) = &clauses.condition {
        let narrower = clause(condition, true, Occurance::MustOccur)?;
        specification.query.boolean_clauses.get_or_insert_default().push(narrower);
    }
    let has_aggregate = clauses
        .items
        .iter()
        .any(|item| matches!(item, Item::Of { operand: Operand::Aggregate(_), .. }));
    let is_grouped = has_aggregate || clauses.is_distinct || !clauses.group_by.is_empty();
    if is_grouped || clauses.having.is_some() {
        return clauses.into_groups(specification);
    }
    clauses.into_documents(specification)
}

impl Clauses {
    fn of(query: &Query, tables: &dyn Tables) -> Result<Self, Problem> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let at = query.span();
        let said = [
            ("WITH", with.is_some()),
            ("FETCH", fetch.is_some()),
            ("FOR UPDATE", !locks.is_empty()),
            ("FOR", for_clause.is_some()),
            ("SETTINGS", settings.is_some()),
            ("FORMAT", format_clause.is_some()),
            ("|>", !pipe_operators.is_empty()),
        ];
        refuse_first(&said, at)?;
        let select = match &**body {
            SetExpr::Select(select) => select,
            SetExpr::SetOperation { op, .. } => return unsupported(at, &op.to_string()),
            SetExpr::Values(_) => return unsupported(at, "VALUES"),
            _ => return unsupported(at, "a query that is not one SELECT"),
        };
        let (limit, skip) = limits(limit_clause.as_ref())?;
        let mut clauses = Self::of_select(select, tables)?;
        clauses.order = match order_by {
            Some(order_by) => clauses.order_of(order_by)?,
            None => Vec::new(),
        };
        (clauses.limit, clauses.skip) = (limit, skip);
        Ok(clauses)
    }

    fn of_select(select: &Select, tables: &dyn Tables) -> Result<Self, Problem> {
        refuse_rare_parts(select)?;
        let at = select.span();
        let is_distinct = match &select.distinct {
            None | Some(Distinct::All) => false,
            Some(Distinct::Distinct) => true,
            Some(Distinct::On(_)) => return unsupported(at, "DISTINCT ON"),
        };
        let table = match select.from.as_slice() {
            [one] if one.joins.is_empty() => Table::of(&one.relation, tables)?,
            [one] => return unsupported(one.span(), "JOIN"),
            [] => return refused(at, "FROM is missing; name a table"),
            [_, second, ..] => return unsupported(second.span(), "a second table"),
        };
        let condition =
            select.selection.as_ref().map(|it| Condition::of(it, &table)).transpose()?;
        let having = select.having.as_ref().map(|it| Condition::of(it, &table)).transpose()?;
        if select.projection.len() > COLUMNS_MAX {
            return refused(at, &format!("over {COLUMNS_MAX} columns"));
        }
        let items: Vec<Item> =
            select.projection.iter().map(|it| Item::of(it, &table)).collect::<Result<_, _>>()?;
        let group_by = group_by(&select.group_by, &items, &table)?;
        Ok(Self {
            table,
            items,
            is_distinct,
            condition,
            group_by,
            having,
            order: Vec::new(),
            limit: None,
            skip: 0,
        })
    }

    fn order_of(&self, order_by: &OrderBy) -> Result<Vec<Order>, Problem> {
        let OrderBy { kind, interpolate } = order_by;
        let OrderByKind::Expressions(all) = kind else {
            return unsupported(order_by.span(), "ORDER BY ALL");
        };
        if interpolate.is_some() {
            return unsupported(order_by.span(), "INTERPOLATE");
        }
        let mut order = Vec::new();
        for one in all {
            let at = one.expr.span();
            let is_descending = match &one.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(_) => return unsupported(at, "ORDER BY ... USING"),
            };
            if one.options.nulls_first == Some(true) {
                return unsupported(at, "NULLS FIRST (NULL comes last)");
            }
            if one.with_fill.is_some() {
                return unsupported(at, "WITH FILL");
            }
            let by = match self.item_at(&one.expr)? {
                Some(number) => OrderedBy::Item(number),
                None => OrderedBy::Operand(Operand::of(&one.expr, &self.table)?),
            };
            order.push(Order { by, is_descending, at });
        }
        Ok(order)
    }

    /// The column that is meant by its place or by its name.
    fn item_at(&self, expression: &Expr) -> Result<Option<usize>, Problem> {
        if let Some(Literal::Number(text)) = literal(expression)? {
            let place = text.parse::<usize>().ok().filter(|it| (1..=self.items.len()).contains(it));
            return match place {
                Some(place) => Ok(Some(place - 1)),
                None => refused(
                    expression.span(),
                    &format!("there is no column {text}; there are {}", self.items.len()),
                ),
            };
        }
        let Expr::Identifier(wanted) = expression else { return Ok(None) };
        Ok(self.item_named(&wanted.value))
    }

    fn item_named(&self, wanted: &str) -> Option<usize> {
        self.items.iter().position(|it| matches!(it, Item::Of { name, .. } if name == wanted))
    }

    fn into_documents(self, mut specification: QuerySpecification) -> Result<Statement, Problem> {
        let mut columns = Vec::new();
        for item in &self.items {
            columns.push(match item {
                Item::All => DocumentColumn::All,
                Item::Of { name, operand: Operand::Field(path), .. } => {
                    DocumentColumn::Field { name: name.clone(), path: path.clone() }
                }
                Item::Of { at, .. } => return refused(*at, "an aggregate stands beside no field"),
            });
        }
        let mut sorts = Vec::new();
        for order in &self.order {
            let operand = match &order.by {
                OrderedBy::Operand(operand) => operand,
                OrderedBy::Item(number) => match &self.items[*number] {
                    Item::Of { operand, .. } => operand,
                    Item::All => return refused(order.at, "* is no column to sort by"),
                },
            };
            let Operand::Field(name) = operand else {
                return refused(order.at, "an aggregate sorts groups; there is no GROUP BY");
            };
            let direction = if order.is_descending { SortOrder::Desc } else { SortOrder::Asc };
            sorts.push(QueryTerm { sort_order: Some(direction), ..QueryTerm::field(name) });
        }
        if let Some(first) = sorts.first_mut() {
            specification.options.push(QueryOption::Sort);
            specification.sort_order = first.sort_order.take();
            specification.additional_sort_terms = sorts.split_off(1);
            specification.sort_term = sorts.pop();
        }
        if columns.contains(&DocumentColumn::All) {
            specification.options.push(QueryOption::ExpandContent);
        } else {
            specification.options.push(QueryOption::ExpandSelectedFields);
            specification.select_terms = fields_of(&columns);
        }
        if let Some(limit) = self.limit {
            specification.options.push(QueryOption::TopResults);
            specification.result_limit = Some(limit.max(1));
        }
        let shape = match self.limit {
            Some(0) => Shape::Nothing(columns),
            _ => Shape::Documents(columns),
        };
        Ok(Statement { specification, skip: self.skip, shape })
    }

    fn into_groups(self, mut specification: QuerySpecification) -> Result<Statement, Problem> {
        let mut named = Named { keys: self.group_by.clone(), ..Named::default() };
        if self.is_distinct && named.keys.is_empty() {
            for item in &self.items {
                if let Item::Of { operand: Operand::Field(name), .. } = item {
                    named.keys.push(name.clone());
                }
            }
        }
        let mut columns = Vec::new();
        for item in &self.items {
            match item {
                Item::All => {
                    let why = "* is of documents, and these rows are groups; name the columns";
                    return refused(Span::empty(), why);
                }
                Item::Of { name, operand, at } => {
                    columns.push((name.clone(), named.column(operand, *at)?));
                }
            }
        }
        let is_whole = self.is_distinct && !self.group_by.is_empty();
        if is_whole && !is_of_all_keys(&columns, named.keys.len()) {
            let why = "DISTINCT of some columns of a GROUP BY: group by these only";
            return unsupported(Span::empty(), why);
        }
        let mut order = Vec::new();
        for one in &self.order {
            let column = match &one.by {
                OrderedBy::Item(number) => columns[*number].1,
                OrderedBy::Operand(operand) => named.column(operand, one.at)?,
            };
            named.check_single(column, one.at)?;
            order.push((column, one.is_descending));
        }
        let mut column = |test: &Test| match &test.operand {
            Operand::Field(name) => match self.item_named(name) {
                Some(number) => {
                    named.check_single(columns[number].1, test.at)?;
                    Ok(columns[number].1)
                }
                None => named.single(&test.operand, test.at),
            },
            operand => named.single(operand, test.at),
        };
        let having = self.having.as_ref().map(|it| Having::of(it, &mut column)).transpose()?;
        if named.aggregates.is_empty() {
            let count = AggregateFunction::Count;
            named.aggregates.push(Aggregate { function: count, ..Aggregate::default() });
        }
        specification.aggregates = named.aggregates;
        specification.grouping.group_terms =
            named.keys.iter().map(|key| QueryTerm::field(key)).collect();
        let (skip, limit) = (self.skip, self.limit);
        let shape = Shape::Groups(GroupShape { columns, having, order, skip, limit });
        Ok(Statement { specification, skip: 0, shape })
    }
}

impl Item {
    fn of(item: &SelectItem, table: &Table) -> Result<Self, Problem> {
        let at = item.span();
        match item {
            SelectItem::Wildcard(options) if is_plain(options) => Ok(Self::All),
            SelectItem::Wildcard(_) => unsupported(at, "* with EXCEPT and the like"),
            SelectItem::UnnamedExpr(expression) => {
                let operand = Operand::of(expression, table)?;
                let name = match &operand {
                    Operand::Field(name) => name.clone(),
                    Operand::Aggregate(aggregate) => shown(aggregate),
                };
                Ok(Self::Of { name, operand, at })
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let operand = Operand::of(expr, table)?;
                Ok(Self::Of { name: alias.value.clone(), operand, at })
            }
            SelectItem::ExprWithAliases { .. } => unsupported(at, "several names for a column"),
            SelectItem::QualifiedWildcard(..) => unsupported(at, "TABLE.*; write *, which"),
        }
    }
}

fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let is_bare = opt_ilike.is_none() && opt_exclude.is_none() && opt_except.is_none();
    is_bare && opt_replace.is_none() && opt_rename.is_none() && opt_alias.is_none()
}

fn is_of_all_keys(columns: &[(String, GroupColumn)], keys: usize) -> bool {
    (0..keys).all(|key| columns.iter().any(|(_, column)| *column == GroupColumn::Key(key)))
}

fn fields_of(columns: &[DocumentColumn]) -> Vec<QueryTerm> {
    let mut names: Vec<&str> = Vec::new();
    for column in columns {
        if let DocumentColumn::Field { path, .. } = column
            && !names.contains(&path.as_str())
        {
            names.push(path);
        }
    }
    names.into_iter().map(QueryTerm::field).collect()
}

fn refuse_first(said: &[(&str, bool)], at: Span) -> Result<(), Problem> {
    match said.iter().find(|(_, is_said)| *is_said) {
        Some((what, _)) => unsupported(at, what),
        None => Ok(()),
    }
}

/// All that a `SELECT` of some dialect may have, and that of none here.
fn refuse_rare_parts(select: &Select) -> Result<(), Problem> {
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let said = [
        ("a modifier of SELECT", select_modifiers.is_some()),
        ("TOP", top.is_some()),
        ("EXCLUDE", exclude.is_some()),
        ("INTO", into.is_some()),
        ("LATERAL VIEW", !lateral_views.is_empty()),
        ("PREWHERE", prewhere.is_some()),
        ("CONNECT BY", !connect_by.is_empty()),
        ("CLUSTER BY", !cluster_by.is_empty()),
        ("DISTRIBUTE BY", !distribute_by.is_empty()),
        ("SORT BY", !sort_by.is_empty()),
        ("WINDOW", !named_window.is_empty()),
        ("QUALIFY", qualify.is_some()),
        ("SELECT AS", value_table_mode.is_some()),
        ("FROM before SELECT", *flavor != SelectFlavor::Standard),
    ];
    refuse_first(&said, select.span())
}

fn group_by(group_by: &GroupByExpr, items: &[Item], table: &Table) -> Result<Vec<String>, Problem> {
    let GroupByExpr::Expressions(all, modifiers) = group_by else {
        return unsupported(group_by.span(), "GROUP BY ALL");
    };
    if !modifiers.is_empty() {
        return unsupported(group_by.span(), "GROUP BY with ROLLUP, CUBE or TOTALS");
    }
    let mut names = Vec::new();
    for expression in all {
        let at = expression.span();
        let operand = match literal(expression)? {
            Some(Literal::Number(text)) => {
                let place = text.parse::<usize>().ok().and_then(|it| items.get(it.checked_sub(1)?));
                match place {
                    Some(Item::Of { operand, .. }) => operand.clone(),
                    _ => return refused(at, &format!("there is no column {text} to group by")),
                }
            }
            Some(_) => return refused(at, "a field is expected here, and not a value"),
            None => Operand::of(expression, table)?,
        };
        let Operand::Field(name) = operand else {
            return refused(at, "groups are made by fields, and not by aggregates");
        };
        // By the name that a column was given.
        let alias = items.iter().find_map(|item| match item {
            Item::Of { name: alias, operand: Operand::Field(path), .. } if *alias == name => {
                Some(path.clone())
            }
            _ => None,
        });
        let name = alias.unwrap_or(name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// `LIMIT` and `OFFSET`.
fn limits(clause: Option<&LimitClause>) -> Result<(Option<usize>, usize), Problem> {
    let (limit, offset) = match clause {
        None => return Ok((None, 0)),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
            if let Some(first) = limit_by.first() {
                return unsupported(first.span(), "LIMIT BY");
            }
            let offset = offset.as_ref().map(|Offset { value, .. }| value);
            (limit.as_ref(), offset)
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
    };
    let number = |expression: &Expr| match literal(expression)? {
        Some(Literal::Number(text)) if text.parse::<usize>().is_ok() => {
            Ok(text.parse::<usize>().unwrap_or(usize::MAX))
        }
        _ => refused(expression.span(), "a whole number from 0 up is expected here"),
    };
    Ok((limit.map(number).transpose()?, offset.map(number).transpose()?.unwrap_or(0)))
}
