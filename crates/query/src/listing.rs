//! GET on a factory as a query, with OData's `$filter`, `$orderby`, `$top`, `$skip`, `$limit`,
//! `$count` and `$select`.

use protocol::query::{
    MatchType, Occurance, Query, QueryOption, QuerySpecification, QueryTerm, SortOrder,
};
use protocol::{Moment, Problem, Request, time};
use serde_json::Value;

use crate::filter;
use crate::places::check_tenant_links;
use crate::specification::NO_PAGES;

/// The parameters of a list, with or without a `$` before them.
pub const LIST_PARAMETERS: [&str; 11] = [
    "expand",
    "filter",
    "orderby",
    "orderbytype",
    "top",
    "limit",
    "skip",
    "count",
    "select",
    "tenantLinks",
    "asOf",
];

/// Those of OData that say which documents are shown: with one of them they are shown whole.
const SHOWING: [&str; 5] = ["filter", "orderby", "top", "limit", "skip"];

/// What GET on a factory asks.
#[derive(Clone, Debug, PartialEq)]
pub struct FactoryListing {
    /// `EXPAND_CONTENT`, `COUNT`, `SORT`, `TOP_RESULTS` and `result_limit` are set as asked.
    pub specification: QuerySpecification,
    /// `$limit`: the answer comes in pages of this many (`nextPageLink`).
    pub page: Option<usize>,
    /// `$top`: this many at most, with no next page.
    pub top: Option<usize>,
    /// `$count` with `$limit`: the page, and how many there are in all.
    pub total: bool,
    /// A parameter of OData is there: then the answer also says how many there are in all, where
    /// that is known.
    pub is_odata: bool,
    /// `$skip`: leave out this many of the first (ask for `skip` more and drop them).
    pub skip: usize,
}

/// All latest, undeleted documents of a factory, in order of their links.
pub fn factory_query(factory: &str, kind: Option<&str>) -> QuerySpecification {
    let children = term("documentSelfLink", MatchType::Prefix, format!("{factory}/"));
    let narrower = match kind {
        Some(kind) => {
            clause(Occurance::MustOccur, term("documentKind", MatchType::Term, kind.into()))
        }
        // Children only, not what other factories have further down.
        None => {
            let pattern = format!("{}/*/*", factory.replace('*', "\\*"));
            let deeper = term("documentSelfLink", MatchType::Wildcard, pattern);
            clause(Occurance::MustNotOccur, deeper)
        }
    };
    let clauses = vec![clause(Occurance::MustOccur, children), narrower];
    QuerySpecification {
        query: Query { boolean_clauses: Some(clauses), ..Query::default() },
        ..QuerySpecification::default()
    }
}

fn term(property_name: &str, match_type: MatchType, value: String) -> QueryTerm {
    QueryTerm {
        property_name: property_name.into(),
        match_type: Some(match_type),
        match_value: Some(value.into()),
        ..QueryTerm::default()
    }
}

fn clause(occurance: Occurance, term: QueryTerm) -> Query {
    Query { occurance, term: Some(term), boolean_clauses: None }
}

fn of_links(match_type: MatchType, link: &str) -> QuerySpecification {
    let link = term("documentSelfLink", match_type, link.to_owned());
    let clauses = vec![clause(Occurance::MustOccur, link)];
    QuerySpecification {
        query: Query { boolean_clauses: Some(clauses), ..Query::default() },
        ..QuerySpecification::default()
    }
}

/// The document with that link.
pub fn document_query(link: &str) -> QuerySpecification {
    of_links(MatchType::Term, link)
}

/// All documents whose links begin like that.
pub fn prefix_query(prefix: &str) -> QuerySpecification {
    of_links(MatchType::Prefix, prefix)
}

/// Narrows one of these queries by the text of a `$filter`.
///
/// # Errors
/// `BAD_REQUEST` that says where the filter is wrong.
pub fn add_filter(specification: &mut QuerySpecification, text: &str) -> Result<(), Problem> {
    let filter = filter::parse(text)?;
    specification.query.boolean_clauses.get_or_insert_default().push(filter);
    Ok(())
}

/// The query that a GET on a factory stands for. `kind` narrows it to documents of that kind.
///
/// # Errors
/// `BAD_REQUEST` that says which parameter is wrong, where, and how to write it.
pub fn factory_specification(
    request: &Request,
    factory: &str,
    kind: Option<&str>,
) -> Result<FactoryListing, Problem> {
    request.check_parameters(&LIST_PARAMETERS)?;
    listing_of(request, factory_query(factory, kind))
}

/// The query that the same parameters stand for where all documents are meant.
///
/// # Errors
/// `BAD_REQUEST` that says which parameter is wrong, where, and how to write it.
pub fn all_specification(request: &Request) -> Result<FactoryListing, Problem> {
    request.check_parameters(&LIST_PARAMETERS)?;
    listing_of(request, prefix_query("/"))
}

fn listing_of(
    request: &Request,
    mut specification: QuerySpecification,
) -> Result<FactoryListing, Problem> {
    if let Some(text) = request.parameter("filter") {
        add_filter(&mut specification, &text)?;
    }
    if let Some(order) = request.parameter("orderby") {
        let mut terms = order_by(&order)?;
        if let Some(first) = terms.first_mut() {
            specification.options.push(QueryOption::Sort);
            specification.sort_order = first.sort_order.take();
            first.property_type = request.parameter("orderbytype");
        }
        specification.additional_sort_terms = terms.split_off(1);
        specification.sort_term = terms.pop();
    } else if request.parameter("orderbytype").is_some() {
        return Err(Problem::bad_request(
            "$orderbytype says of which type the field of $orderby is; add $orderby=FIELD, or \
             leave it out",
        ));
    }
    let counts = is_set(request, "count")?;
    let shows = SHOWING.iter().any(|name| request.parameter(name).is_some());
    let is_odata = shows || ["count", "select"].iter().any(|it| request.parameter(it).is_some());
    let is_expanded = match request.parameter("expand") {
        Some(_) => is_set(request, "expand")?,
        None => shows && !counts,
    };
    if let Some(links) = request.parameter("tenantLinks") {
        let links: Value = links.split(',').map(str::trim).collect();
        check_tenant_links("$tenantLinks", &links)?;
    }
    if let Some(names) = request.parameter("select") {
        // Whole documents may be asked for as well; then these fields of them are shown.
        show_fields(&mut specification, &names);
    } else if is_expanded {
        specification.options.push(QueryOption::ExpandContent);
    }
    let (page, top) = (number(request, "limit", 1)?, number(request, "top", 1)?);
    if page.is_some() && top.is_some() {
        return Err(Problem::bad_request(
            "$top and $limit exclude each other: $top=N is the first N, $limit=N is pages of N",
        ));
    }
    // The greatest number that Xenon's clients know says that there are to be no pages.
    let page = page.filter(|page| u64::try_from(*page).is_ok_and(|page| page < NO_PAGES));
    let total = counts && (page.is_some() || top.is_some());
    if counts && !total {
        specification.options.push(QueryOption::Count);
    }
    if top.is_some() {
        specification.options.push(QueryOption::TopResults);
    }
    specification.result_limit = page.or(top);
    let skip = number(request, "skip", 0)?.unwrap_or_default();
    if let Some(at) = as_of(request)? {
        specification.as_of(at);
    }
    Ok(FactoryListing { specification, page, top, total, is_odata, skip })
}

fn show_fields(specification: &mut QuerySpecification, names: &str) {
    specification.options.push(QueryOption::ExpandSelectedFields);
    let names = names.split(',').map(|name| name.trim().replace('/', "."));
    specification.select_terms = names.map(|name| QueryTerm::field(&name)).collect();
}

/// The parameters of a further page, with or without a `$` before them.
pub const PAGE_PARAMETERS: [&str; 4] = ["expand", "limit", "select", "count"];

/// What a further page shall be otherwise than those before it; the pages after it are like it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageWish {
    pub expand: bool,
    limit: Option<usize>,
    select: Option<String>,
    /// Whether it also says how many there are in all.
    pub total: Option<bool>,
}

impl PageWish {
    /// # Errors
    /// `BAD_REQUEST` that says which parameter is wrong, and how to write it.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let total = request.parameter("count").map(|_| is_set(request, "count")).transpose()?;
        Ok(Self {
            expand: is_set(request, "expand")?,
            limit: number(request, "limit", 1)?,
            select: request.parameter("select"),
            total,
        })
    }

    /// Changes the query of the pages before it.
    ///
    /// # Errors
    /// `BAD_REQUEST` for what such pages do not have.
    pub fn put_in(&self, specification: &mut QuerySpecification) -> Result<(), Problem> {
        if let Some(limit) = self.limit {
            if specification.has(QueryOption::GroupBy) {
                return Err(Problem::bad_request(
                    "$limit: the query says by groupResultLimit how many groups come at a time",
                ));
            }
            let is_page = u64::try_from(limit).is_ok_and(|limit| limit < NO_PAGES);
            specification.result_limit = is_page.then_some(limit);
        }
        if let Some(names) = &self.select {
            let shows = [QueryOption::ExpandContent, QueryOption::ExpandSelectedFields];
            specification.options.retain(|option| !shows.contains(option));
            show_fields(specification, names);
        } else if self.expand && !specification.is_expanded() {
            specification.options.push(QueryOption::ExpandContent);
        }
        Ok(())
    }
}

/// The time of `asOf`, if it is there.
///
/// # Errors
/// When it is no time.
pub fn as_of(request: &Request) -> Result<Option<Moment>, Problem> {
    let Some(text) = request.parameter("asOf") else { return Ok(None) };
    // A plus stands for a blank in a query, and no blank is in a time.
    time::moment_of(&text.replace(' ', "+")).map(Some).ok_or_else(|| {
        Problem::bad_request(format!(
            "asOf is '{text}'; write a time, such as 2026-11-30T12:00:00Z, or microseconds since \
             1970"
        ))
    })
}

fn order_by(text: &str) -> Result<Vec<QueryTerm>, Problem> {
    let one = |part: &str| {
        let mut words = part.split_whitespace();
        let (name, order) = match (words.next(), words.next(), words.next()) {
            (Some(name), None, None) => (name, SortOrder::Asc),
            (Some(name), Some(order), None) if order.eq_ignore_ascii_case("asc") => {
                (name, SortOrder::Asc)
            }
            (Some(name), Some(order), None) if order.eq_ignore_ascii_case("desc") => {
                (name, SortOrder::Desc)
            }
            _ => return None,
        };
        let term = QueryTerm::field(&name.replace('/', "."));
        Some(QueryTerm { sort_order: Some(order), ..term })
    };
    text.split(',').map(one).collect::<Option<Vec<_>>>().ok_or_else(|| {
        Problem::bad_request(format!(
            "$orderby is '{text}'; write fields, each with a direction, such as 'name asc' or \
             'name desc, counter'"
        ))
    })
}

/// Whether a parameter is there, unless it is `false`.
///
/// # Errors
/// When its value is another word than `true` or `false`.
pub fn is_set(request: &Request, name: &str) -> Result<bool, Problem> {
    match (name, request.parameter(name).as_deref()) {
        (_, None | Some("false")) => Ok(false),
        (_, Some("" | "true")) | ("expand", Some("documentLinks")) => Ok(true),
        (_, Some(other)) => {
            Err(Problem::bad_request(format!("${name} is '{other}'; write ${name}=true")))
        }
    }
}

fn number(request: &Request, name: &str, least: usize) -> Result<Option<usize>, Problem> {
    let Some(text) = request.parameter(name) else { return Ok(None) };
    match text.parse() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => Err(Problem::bad_request(format!(
            "${name} is '{text}'; it must be a whole number from {least} up"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Method;

    use super::*;
    use crate::compiled::CompiledQuery;

    fn listing(query: &str) -> Result<FactoryListing, Problem> {
        let request =
            Request { query: query.into(), ..Request::new(Method::Get, "/core/examples") };
        let listing = factory_specification(&request, "/core/examples", Some("kind"))?;
        CompiledQuery::new(&listing.specification)?;
        Ok(listing)
    }

    #[test]
    fn all_parameters_are_understood() {
        let listing = listing(
            "expand&$filter=name%20eq%20'a*'+and+counter+ge+5&$orderby=name+desc&$limit=10&\
             $skip=3&$count=false",
        )
        .unwrap();
        let specification = &listing.specification;
        assert_eq!(specification.options, [QueryOption::Sort, QueryOption::ExpandContent]);
        assert_eq!(specification.sort_order, Some(SortOrder::Desc));
        assert_eq!(specification.result_limit, Some(10));
        assert_eq!((listing.page, listing.top, listing.skip), (Some(10), None, 3));
        let clauses = specification.query.boolean_clauses.as_ref().unwrap();
        assert_eq!(clauses.len(), 3);
    }

    /// As in Xenon: who filters, sorts or pages wants to see the documents.
    #[test]
    fn the_parameters_of_odata_show_the_documents() {
        for (query, is_shown, is_odata) in [
            ("", false, false),
            ("expand", true, false),
            ("asOf=1", false, false),
            ("$filter=name%20eq%20'a'", true, true),
            ("$orderby=name", true, true),
            ("$top=3", true, true),
            ("$limit=3", true, true),
            ("$skip=3", true, true),
            ("$count=true", false, true),
            ("$count=true&$limit=3", false, true),
            ("$count=true&$limit=3&expand", true, true),
            ("$count=false&$limit=3", true, true),
            ("$limit=3&expand=false", false, true),
            ("$limit=3&$tenantLinks=/tenants/a", true, true),
        ] {
            let listing = listing(query).unwrap();
            let shown = listing.specification.has(QueryOption::ExpandContent);
            assert_eq!((shown, listing.is_odata), (is_shown, is_odata), "{query}");
        }
        let some = listing("$select=name&$limit=3").unwrap().specification;
        assert_eq!(some.options, [QueryOption::ExpandSelectedFields]);
    }

    #[test]
    fn lists_are_sorted_by_several_fields_and_show_some() {
        let listing = listing("expand&$orderby=name+desc,+a/b&$select=name,+a/b").unwrap();
        let specification = &listing.specification;
        assert_eq!(specification.sort_term, Some(QueryTerm::field("name")));
        assert_eq!(specification.sort_order, Some(SortOrder::Desc));
        let [second] = specification.additional_sort_terms.as_slice() else { panic!() };
        assert_eq!(second.property_name, "a.b");
        assert_eq!(second.sort_order, Some(SortOrder::Asc));
        assert_eq!(specification.select_terms, ["name", "a.b"].map(QueryTerm::field));
        let options = [QueryOption::Sort, QueryOption::ExpandSelectedFields];
        assert_eq!(specification.options, options);
    }

    #[test]
    fn a_list_is_shown_as_it_was() {
        for text in ["2026-12-01T02:25:20+01:00", "2026-12-01T01:25:20Z", "1796088320000000"] {
            let listing = listing(&format!("asOf={text}")).unwrap();
            let at = listing.specification.extent.time_snapshot_boundary_micros;
            assert_eq!(at, Some(1_796_088_320_000_000), "{text}");
            assert!(listing.specification.has(QueryOption::TimeSnapshot));
        }
    }

    #[test]
    fn a_further_page_may_be_otherwise_than_those_before_it() {
        let wish = |query: &str| {
            let request = Request { query: query.into(), ..Request::get("/core/query-page/x") };
            PageWish::of(&request)
        };
        let mut specification = listing("expand&$limit=3").unwrap().specification;
        wish("").unwrap().put_in(&mut specification).unwrap();
        assert_eq!(specification, listing("expand&$limit=3").unwrap().specification);
        wish("$limit=7&$select=a,b/c").unwrap().put_in(&mut specification).unwrap();
        assert_eq!(specification, listing("$limit=7&$select=a,b/c").unwrap().specification);
        wish("limit=2147483647").unwrap().put_in(&mut specification).unwrap();
        assert_eq!(specification.result_limit, None);
        assert_eq!((wish("$count").unwrap().total, wish("").unwrap().total), (Some(true), None));
        assert!(wish("$limit=0").is_err() && wish("$count=maybe").is_err());
        specification.options.push(QueryOption::GroupBy);
        assert!(wish("$limit=1").unwrap().put_in(&mut specification).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (query, why) in [
            ("$filter=a", "$filter is wrong at its end"),
            ("$filters=a", "/core/examples has no parameter 'filters'; it takes expand, filter"),
            ("consistency=local", "/core/examples has no parameter 'consistency'"),
            ("$top=1&top=1", "the parameter 'top' is there more than once"),
            ("expand=all", "$expand is 'all'"),
            ("$orderby=a,,b", "$orderby is 'a,,b'"),
            ("$select=a,,b", "selectTerms[1].propertyName is empty"),
            ("$orderby=a+upward", "$orderby is 'a upward'"),
            ("$orderby=a&$orderbytype=TEXT", "sortTerm.propertyType is 'TEXT'"),
            ("$orderbytype=LONG", "$orderbytype says of which type"),
            ("$top=1&$limit=1", "$top and $limit exclude each other"),
            ("$top=0", "$top is '0'"),
            ("$skip=-1", "$skip is '-1'"),
            ("$count=yes", "$count is 'yes'"),
            ("$tenantLinks=a", "$tenantLinks is [\"a\"]"),
            ("asOf=yesterday", "asOf is 'yesterday'; write a time"),
            ("asOf=v3", "asOf is 'v3'"),
        ] {
            let problem = listing(query).unwrap_err();
            assert!(problem.message.starts_with(why), "{query}: {}", problem.message);
            assert_eq!(problem.status(), 400);
        }
    }
}
