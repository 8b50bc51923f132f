//! `$filter` of OData: comparisons, `and`, `or`, `not` and parentheses, with the precedence that
//! everybody expects (`not` before `and` before `or`).

use protocol::query::{MatchType, NumericRange, Occurance, Query, QueryTerm};
use protocol::{Problem, time};
use serde_json::Value;

use crate::decimal::exact_number;

/// The longest filter, in bytes.
const FILTER_BYTES_MAX: usize = 16_384;

/// How deep parentheses and `not` may lie in each other: less than clauses in a query.
const PARENTHESES_MAX: usize = 6;

/// What is between the values of `any` and `all`.
const LIST_SEPARATOR: char = ';';

/// What a filter says.
#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Term(QueryTerm),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// A filter as a clause that must occur.
///
/// # Errors
/// `BAD_REQUEST` that says where the filter goes wrong and what is expected there.
pub(crate) fn parse(filter: &str) -> Result<Query, Problem> {
    if filter.len() > FILTER_BYTES_MAX {
        let bytes = filter.len();
        let why = format!("$filter is {bytes} bytes long; the limit is {FILTER_BYTES_MAX}");
        return Err(Problem::bad_request(why));
    }
    let mut parser = Parser { tokens: tokens(filter)?, at: 0, depth: 0 };
    let expression = parser.any()?;
    match parser.peek() {
        None => Ok(expression.into_clause(Occurance::MustOccur)),
        Some(_) => parser.expected("'and', 'or' or the end"),
    }
}

impl Expression {
    fn into_clause(self, occurance: Occurance) -> Query {
        let clauses =
            |clauses: Vec<Query>| Query { occurance, term: None, boolean_clauses: Some(clauses) };
        match self {
            Self::Term(term) => Query { occurance, term: Some(term), boolean_clauses: None },
            Self::Not(inner) if occurance == Occurance::MustOccur => {
                inner.into_clause(Occurance::MustNotOccur)
            }
            Self::Not(inner) => clauses(vec![inner.into_clause(Occurance::MustNotOccur)]),
            Self::All(parts) => {
                let must = |part: Self| part.into_clause(Occurance::MustOccur);
                clauses(parts.into_iter().map(must).collect())
            }
            Self::Any(parts) => {
                let should = |part: Self| part.into_clause(Occurance::ShouldOccur);
                clauses(parts.into_iter().map(should).collect())
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Word(String),
    Quoted(String),
}

struct Parser {
    /// With the number of their first character, counted from 1.
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Expression, Problem> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(join(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, Problem> {
        let mut parts = vec![self.one()?];
        while self.take_word("and") {
            parts.push(self.one()?);
        }
        Ok(join(parts, Expression::All))
    }

    fn one(&mut self) -> Result<Expression, Problem> {
        // A field may be called `not`: then an operator follows.
        let is_field = matches!(self.tokens.get(self.at + 1), Some((_, Token::Word(word)))
            if OPERATORS.contains(&word.to_lowercase().as_str()));
        let is_not = !is_field && self.take_word("not");
        if !is_not && self.peek() != Some(&Token::Open) {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > PARENTHESES_MAX {
            let what = format!("no more than {PARENTHESES_MAX} 'not' and '(' within each other");
            return self.expected(&what);
        }
        if is_not {
            let inner = self.one()?;
            self.depth -= 1;
            return Ok(Expression::Not(Box::new(inner)));
        }
        self.at += 1;
        let inner = self.any()?;
        if self.peek() != Some(&Token::Close) {
            return self.expected("'and', 'or' or ')'");
        }
        self.at += 1;
        self.depth -= 1;
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Expression, Problem> {
        let Some(Token::Word(field)) = self.peek().cloned() else {
            return self.expected("the name of a field or '('");
        };
        self.at += 1;
        let operator = match self.peek() {
            Some(Token::Word(word)) => word.to_lowercase(),
            _ => String::new(),
        };
        if !OPERATORS.contains(&operator.as_str()) {
            return self.expected(&format!("one of {}", OPERATORS.join(", ")));
        }
        self.at += 1;
        let field = field.replace('/', ".");
        let (value, is_number) = match self.peek().cloned() {
            Some(Token::Word(word) | Token::Quoted(word)) if is_date_for(&field, &word) => {
                let Some(moment) = time::moment_of(&word) else {
                    return self.expected("a date with its time, such as 2026-11-30T12:00:00Z");
                };
                (moment.0.into(), true)
            }
            Some(Token::Word(word)) => {
                let is_number = exact_number(&word).is_some();
                (value_of(word), is_number)
            }
            Some(Token::Quoted(text)) => (Value::String(text), false),
            _ => return self.expected("a value: 'text' in quotes, a number, true or false"),
        };
        let is_null = self.peek() == Some(&Token::Word("null".into()));
        let comparison = match operator.as_str() {
            // There is no value there.
            "eq" if is_null => Expression::Not(Box::new(Expression::Term(present(field)))),
            "ne" if is_null => Expression::Term(present(field)),
            _ if is_null => return self.expected("a value: null goes with 'eq' and 'ne'"),
            "eq" => Expression::Term(equal(field, value)),
            "ne" => Expression::Not(Box::new(Expression::Term(equal(field, value)))),
            "any" | "all" => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let values = text.split(LIST_SEPARATOR).map(str::trim).filter(|it| !it.is_empty());
                let parts = values
                    .map(|part| Expression::Term(equal(field.clone(), value_of_list(part))))
                    .collect::<Vec<_>>();
                if parts.is_empty() {
                    return self.expected(&format!("values for '{operator}', such as 'a;b'"));
                }
                let kind = if operator == "any" { Expression::Any } else { Expression::All };
                join(parts, kind)
            }
            _ if is_number => Expression::Term(range(field, &operator, value, "DOUBLE")),
            _ if value.is_string() => Expression::Term(range(field, &operator, value, "STRING")),
            _ => return self.expected(&format!("a number or a text: '{operator}' compares these")),
        };
        self.at += 1;
        Ok(comparison)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let is_next =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted));
        self.at += usize::from(is_next);
        is_next
    }

    fn expected<T>(&self, what: &str) -> Result<T, Problem> {
        let found = match self.tokens.get(self.at) {
            None => "at its end".to_owned(),
            Some((place, token)) => {
                let token = match token {
                    Token::Open => "(",
                    Token::Close => ")",
                    Token::Word(text) | Token::Quoted(text) => text,
                };
                format!("at character {place} ('{token}')")
            }
        };
        Err(Problem::bad_request(format!(
            "$filter is wrong {found}: {what} is expected; for example: name eq 'a*' and (counter \
             ge 5 or tags.item eq 'x')"
        )))
    }
}

const OPERATORS: [&str; 8] = ["eq", "ne", "lt", "le", "gt", "ge", "any", "all"];

fn join(mut parts: Vec<Expression>, kind: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            kind(parts)
        }
        None => kind(parts),
    }
}

/// What is written without quotes.
fn value_of(word: String) -> Value {
    if let Some(number) = exact_number(&word) {
        return number;
    }
    match word.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::String(word),
    }
}

/// One of the values of `any` and `all`, which may have quotes of its own.
fn value_of_list(part: &str) -> Value {
    let within = |quote: char| part.strip_prefix(quote)?.strip_suffix(quote);
    match within('\'').or_else(|| within('"')) {
        Some(text) => Value::String(text.to_owned()),
        None => value_of(part.to_owned()),
    }
}

fn equal(property_name: String, value: Value) -> QueryTerm {
    let pattern = match &value {
        Value::String(text) if text.contains('*') => {
            // Only the star is special here.
            Some(text.replace('\\', "\\\\").replace('?', "\\?"))
        }
        _ => None,
    };
    QueryTerm {
        property_name,
        match_type: Some(if pattern.is_some() { MatchType::Wildcard } else { MatchType::Term }),
        match_value: Some(pattern.map_or(value, Value::String)),
        ..QueryTerm::default()
    }
}

/// What begins like a date and is compared with microseconds since 1970, as all times of documents
/// are.
fn is_date_for(field: &str, word: &str) -> bool {
    let is_year = |year: &str| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
    field.ends_with("Micros") && word.split_once('-').is_some_and(|(year, _)| is_year(year))
}

fn present(property_name: String) -> QueryTerm {
    QueryTerm {
        property_name,
        match_type: Some(MatchType::Wildcard),
        match_value: Some("*".into()),
        ..QueryTerm::default()
    }
}

fn range(property_name: String, operator: &str, end: Value, range_type: &str) -> QueryTerm {
    let is_inclusive = operator.ends_with('e');
    let (min, max) = if operator.starts_with('g') { (Some(end), None) } else { (None, Some(end)) };
    let range = NumericRange {
        number_type: Some(range_type.into()),
        is_min_inclusive: is_inclusive && min.is_some(),
        is_max_inclusive: is_inclusive && max.is_some(),
        min,
        max,
    };
    QueryTerm { property_name, range: Some(range), ..QueryTerm::default() }
}

fn tokens(filter: &str) -> Result<Vec<(usize, Token)>, Problem> {
    let mut tokens = Vec::new();
    let mut chars = filter.chars().enumerate().peekable();
    while let Some((at, char)) = chars.next() {
        let token = match char {
            _ if char.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '\'' | '"' => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        // A quote in the text is written twice.
                        Some((_, next)) if next == char => {
                            if chars.next_if(|(_, again)| *again == char).is_none() {
                                break;
                            }
                            text.push(char);
                        }
                        Some((_, next)) => text.push(next),
                        None => {
                            return Err(Problem::bad_request(format!(
                                "$filter has a quote at character {} that is not closed; a quote \
                                 within a text is written twice",
                                at + 1
                            )));
                        }
                    }
                }
                Token::Quoted(text)
            }
            _ => {
                let mut word = String::from(char);
                while let Some((_, next)) =
                    chars.next_if(|(_, next)| !next.is_whitespace() && !"()'\"".contains(*next))
                {
                    word.push(next);
                }
                Token::Word(word)
            }
        };
        tokens.push((at + 1, token));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clause in short: `+` must, `-` must not, `|` should.
    fn short(query: &Query) -> String {
        let mark = match query.occurance {
            Occurance::MustOccur => "+",
            Occurance::MustNotOccur => "-",
            Occurance::ShouldOccur => "|",
        };
        if let Some(clauses) = &query.boolean_clauses {
            return format!("{mark}({})", clauses.iter().map(short).collect::<Vec<_>>().join(" "));
        }
        let term = query.term.as_ref().unwrap();
        let value = match (&term.match_value, &term.range) {
            (Some(value), _) => format!(
                "{}{value}",
                match term.match_type {
                    Some(MatchType::Wildcard) => "~",
                    _ => "=",
                }
            ),
            (None, Some(NumericRange { min: Some(min), is_min_inclusive, .. })) => {
                format!("{}{min}", if *is_min_inclusive { ">=" } else { ">" })
            }
            (None, Some(NumericRange { max: Some(max), is_max_inclusive, .. })) => {
                format!("{}{max}", if *is_max_inclusive { "<=" } else { "<" })
            }
            _ => "?".into(),
        };
        format!("{mark}{}{value}", term.property_name)
    }

    fn parsed(filter: &str) -> String {
        short(&parse(filter).unwrap())
    }

    #[test]
    fn and_binds_more_than_or_and_parentheses_most() {
        assert_eq!(parsed("a eq 1 or b eq 2 and c eq 3"), "+(|a=1 |(+b=2 +c=3))");
        assert_eq!(parsed("(a eq 1 or b eq 2) and c eq 3"), "+(+(|a=1 |b=2) +c=3)");
        assert_eq!(parsed("not (a eq 1 or b eq 2) and c ne 3"), "+(-(|a=1 |b=2) -c=3)");
        assert_eq!(parsed("a ne 1 or b eq 2"), "+(|(-a=1) |b=2)");
        assert_eq!(parsed("a ne 1"), "-a=1");
        assert_eq!(parsed("not not a eq 1"), "-(-a=1)");
    }

    #[test]
    fn values_have_the_type_in_which_they_are_written() {
        assert_eq!(parsed("a eq '5'"), "+a=\"5\"");
        assert_eq!(parsed("a eq 5.5"), "+a=5.5");
        assert_eq!(parsed("a eq true"), "+a=true");
        assert_eq!(parsed("a eq word"), "+a=\"word\"");
        assert_eq!(parsed("a eq null or b ne null"), "+(|(-a~\"*\") |b~\"*\")");
        assert_eq!(parsed("a eq 'null'"), "+a=\"null\"");
        assert_eq!(parsed("aMicros gt 1970-01-01T00:00:01Z"), "+aMicros>1000000");
        assert_eq!(parsed("aMicros eq '1970-01-01T01:00:00+01:00'"), "+aMicros=0");
        assert_eq!(parsed("aMicros eq 'at noon'"), "+aMicros=\"at noon\"");
        for wrong in ["2026-11-31T00:00:00Z", "'2026-11-30'", "1969-01-01T00:00:00Z"] {
            assert!(parse(&format!("aMicros lt {wrong}")).unwrap_err().message.contains("date"));
        }
        assert_eq!(parsed("a lt '1970-01-01T00:00:01Z'"), "+a<\"1970-01-01T00:00:01Z\"");
        assert!(parse("a lt null").unwrap_err().message.contains("null goes with 'eq'"));
        assert_eq!(parsed("a eq 'it''s (not) and'"), "+a=\"it's (not) and\"");
        assert_eq!(parsed("a eq 'x*?'"), r#"+a~"x*\\?""#);
        assert_eq!(parsed("keyValues/k GE -1"), "+keyValues.k>=-1");
        assert_eq!(parsed("a lt 1 and a gt 2 and a le 3"), "+(+a<1 +a>2 +a<=3)");
        assert_eq!(parsed("a lt 'x' and a ge '5'"), "+(+a<\"x\" +a>=\"5\")");
        assert_eq!(
            parsed("a gt 123456789012345678901234567890"),
            "+a>\"123456789012345678901234567890\""
        );
        assert_eq!(parsed("tags any 'a;b*'"), "+(|tags=\"a\" |tags~\"b*\")");
        assert_eq!(parsed("tags all 'a; b;'"), "+(+tags=\"a\" +tags=\"b\")");
        assert_eq!(parsed("tags any '\"5\";6;'"), "+(|tags=\"5\" |tags=6)");
        assert!(parse("tags any ' ; '").unwrap_err().message.contains("values for 'any'"));
        assert_eq!(parsed("tags all a;b"), "+(+tags=\"a\" +tags=\"b\")");
        assert_eq!(parsed("not eq 1"), "+not=1");
    }

    #[test]
    fn an_error_says_where_and_what_is_expected() {
        let error = |filter: &str| parse(filter).unwrap_err().message;
        assert!(error("").contains("at its end: the name of a field or '(' is expected"));
        assert!(error("a").contains("at its end: one of eq, ne"));
        assert!(error("a is 1").contains("at character 3 ('is'): one of eq, ne"));
        assert!(error("a eq").contains("at its end: a value"));
        assert!(error("a eq 1 b").contains("at character 8 ('b'): 'and', 'or' or the end"));
        assert!(error("(a eq 1").contains("at its end: 'and', 'or' or ')'"));
        assert!(error("a lt true").contains("'lt' compares these"));
        assert!(error("a eq 'x").contains("character 6"));
        assert!(error(&"(".repeat(100)).contains("no more than 6 'not' and '('"));
        assert!(error(&"not ".repeat(4_000)).contains("no more than 6 'not' and '('"));
        assert!(error(&"x".repeat(20_000)).contains("the limit is 16384"));
    }
}
