//! Statements that are read, run over a few documents, and refused.

use query::CompiledQuery;

use crate::world::{World, message};

fn world() -> World {
    World::of(&[
        ("one", r#"{"name":"a","counter":1,"tags":["x","y"],"a":{"b":1.50},"flag":true}"#),
        ("two", r#"{"name":"b","counter":12345678901234567890123,"tags":[],"flag":false}"#),
        ("three", r#"{"name":"ab%","counter":null,"a":{"b":"t"}}"#),
        ("four", r#"{"name":"a","counter":0.5,"a":{"b":3}}"#),
        ("five", r#"{"counter":7,"tags":"x"}"#),
    ])
}

fn rows(sql: &str) -> String {
    world().rows(sql)
}

#[test]
fn columns_come_as_they_are_written() {
    assert_eq!(
        rows("select name, counter as n, a.b from examples order by counter desc, name limit 3"),
        r#"name,n,a.b|["b",12345678901234567890123,null]|[null,7,null]|["a",1,1.50]"#
    );
    assert_eq!(
        rows(
            "SELECT e.name, tags, \"documentSelfLink\" FROM \"/core/examples\" AS e WHERE tags = 'x'"
        ),
        concat!(
            r#"name,tags,documentSelfLink|[null,"x","/core/examples/five"]"#,
            r#"|["a",["x","y"],"/core/examples/one"]"#
        )
    );
    assert_eq!(
        rows("select * from ExampleState where counter = 7"),
        r#"documentSelfLink,documentVersion,counter,tags|["/core/examples/five",0,7,"x"]"#
    );
}

#[test]
fn a_table_is_read_as_it_was() {
    let at = |sql: &str| {
        let statement = sql::parse(sql, &world()).unwrap();
        statement.specification.extent.time_snapshot_boundary_micros
    };
    let of = "select e.name from examples for system_time as of";
    assert_eq!(at(&format!("{of} '1970-01-01T00:00:01Z' e where e.name = 'a'")), Some(1_000_000));
    assert_eq!(at(&format!("{of} 7 e")), Some(7));
    assert_eq!(at("select count(*) from examples timestamp as of 7"), Some(7));
    assert_eq!(at("select name from examples"), None);
    for (sql, why) in [
        ("select name from examples for system_time as of 'yesterday'", "a time is expected"),
        ("select name from examples for system_time as of true", "a time is expected"),
        ("select name from examples.versions for system_time as of 7", "write one of them"),
        ("select name from examples version as of 7", "only its documents have"),
    ] {
        assert!(message(sql).contains(why), "{sql}: {}", message(sql));
    }
}

#[test]
fn an_object_is_null_and_its_fields_have_names_of_their_own() {
    assert_eq!(rows("select name from examples where a is not null"), "name");
    assert_eq!(rows("select name from examples where a = 'b'"), "name");
    assert_eq!(rows("select name from examples where a.b = 't'"), r#"name|["ab%"]"#);
}

#[test]
fn nothing_is_true_of_null() {
    let links = |condition: &str| {
        let found = rows(&format!("select name from examples where {condition} order by name"));
        found.split_once('|').map_or(String::new(), |(_, rows)| rows.to_owned())
    };
    assert_eq!(links("name <> 'a'"), r#"["ab%"]|["b"]"#);
    assert_eq!(links("not (name = 'a')"), r#"["ab%"]|["b"]"#);
    assert_eq!(links("name is null"), "[null]");
    assert_eq!(links("not (name is null or name = 'a')"), r#"["ab%"]|["b"]"#);
    assert_eq!(links("counter is null"), r#"["ab%"]"#);
    assert_eq!(links("not (counter > 0.5 and name = 'a')"), r#"["a"]|["ab%"]|["b"]"#);
    assert_eq!(links("name not like 'a%'"), r#"["b"]"#);
    assert_eq!(links("name not in ('a', 'b')"), r#"["ab%"]"#);
    assert_eq!(links("counter not between 1 and 10"), r#"["a"]|["b"]"#);
    assert_eq!(links("flag"), r#"["a"]"#);
    assert_eq!(links("flag is false"), r#"["b"]"#);
}

#[test]
fn patterns_and_ranges_say_what_sql_says() {
    let links = |condition: &str| {
        let sql = format!("select name from examples where {condition} order by name");
        rows(&sql).split_once('|').map_or(String::new(), |(_, rows)| rows.to_owned())
    };
    assert_eq!(links("name like 'a%'"), r#"["a"]|["a"]|["ab%"]"#);
    assert_eq!(links("name like 'a_!%' escape '!'"), r#"["ab%"]"#);
    assert_eq!(links("name like '_'"), r#"["a"]|["a"]|["b"]"#);
    assert_eq!(links("name like '*'"), "");
    assert_eq!(links("name > 'a' and name <= 'b'"), r#"["ab%"]|["b"]"#);
    assert_eq!(links("name between 'ab' and 'b'"), r#"["ab%"]|["b"]"#);
    assert_eq!(links("counter > 12345678901234567890122"), r#"["b"]"#);
    assert_eq!(links("counter >= 12345678901234567890124"), "");
    assert_eq!(links("0.5 < counter and 7 >= counter"), r#"["a"]|[null]"#);
    assert_eq!(links("counter = -(-7)"), "[null]");
    assert_eq!(links("counter < .6 or a.b = 3"), r#"["a"]"#);
}

#[test]
fn groups_have_aggregates() {
    assert_eq!(
        rows(
            "select name, count(*), count(counter) n, sum(counter), avg(counter) from examples \
             group by name having n > 0 order by n desc, name"
        ),
        concat!(
            r"name,count(*),n,sum(counter),avg(counter)",
            r#"|["a",2,2,1.5,0.75]"#,
            r#"|["b",1,1,12345678901234567890123,12345678901234567890123]|[null,1,1,7,7]"#
        )
    );
    assert_eq!(rows("select count(*) from examples where name = 'absent'"), "count(*)|[0]");
    assert_eq!(rows("select count(distinct name) from examples"), "count(distinct name)|[3]");
    assert_eq!(
        rows("select distinct name from examples order by 1 desc limit 2 offset 1"),
        r#"name|["ab%"]|["a"]"#
    );
    assert_eq!(
        rows("select percentile(counter, 50) p, min(name), max(a.b) from examples"),
        r#"p,min(name),max(a.b)|[1,"a","t"]"#
    );
    assert_eq!(
        rows("select histogram(counter, 5) h from examples where counter < 10"),
        r#"h|[[{"from":0,"count":2},{"from":5,"count":1}]]"#
    );
    assert_eq!(
        rows("select name from examples group by name having sum(counter) is null"),
        r#"name|["ab%"]"#
    );
    assert_eq!(rows("select sum(a.b) from examples"), r#"sum(a.b)|[4.5] leftOut {"sum(a.b)":1}"#);
}

#[test]
fn limits_count_rows() {
    assert_eq!(rows("select name from examples order by counter limit 0"), "name");
    assert_eq!(
        rows("select name from examples order by counter limit 1 offset 1"),
        r#"name|["a"]"#
    );
}

#[test]
fn what_cannot_be_done_is_refused_by_name_and_place() {
    for (sql, why) in [
        ("", "SQL: one statement is expected"),
        ("select name from examples; select 1", "SQL: one statement is expected"),
        ("selec name from examples", "SQL: Expected: an SQL statement, found: selec at Line: 1"),
        ("delete from examples", "SQL, character 1: DELETE is not supported: SQL only reads"),
        ("select name from nothing", "SQL, character 18: there is no table 'nothing'; there are"),
        ("select name from a join b on true", "SQL, character 18: JOIN is not supported"),
        ("select name from examples, a", "SQL, character 28: a second table is not supported"),
        ("select name", "SQL, character 1: FROM is missing"),
        ("with x as (select 1) select name from x", "SQL, character 1: WITH is not supported"),
        ("select name from examples union select name from a", "UNION is not supported"),
        (
            "select name from examples where a = b",
            "SQL, character 37: a value is expected here, and not a field",
        ),
        ("select name from examples where a = null", "character 37: nothing equals NULL"),
        ("select name from examples where upper(a) = 'x'", "upper is not known; there are count"),
        ("select name from examples where a + 1 = 2", "the expression 'a + 1' is not supported"),
        ("select name from examples where a ilike 'x'", "character 33: ILIKE is not supported"),
        ("select name from examples where a in (select b from c)", "a query within a query"),
        ("select name from examples where a < true", "true and false have no order"),
        ("select name from examples where count(*) > 1", "it goes into HAVING"),
        ("select name from examples where a between 1 and 'x'", "BETWEEN takes two numbers"),
        ("select name, count(*) from examples", "name is neither in GROUP BY nor within"),
        ("select sum(distinct a) from examples", "sum(distinct ...) is not supported"),
        ("select sum(*) from examples", "SQL, character 8: sum takes a field"),
        ("select count(*) over () from examples", "OVER is not supported"),
        ("select *, count(*) from examples", "these rows are groups; name the columns"),
        ("select name from examples order by 2", "there is no column 2; there are 1"),
        ("select name from examples order by name nulls first", "NULLS FIRST"),
        ("select name from examples order by count(*)", "an aggregate sorts groups"),
        ("select name from examples limit x", "a whole number from 0 up is expected here"),
        ("select name from examples fetch first 5 rows only", "FETCH is not supported"),
        ("select name from examples for update", "FOR UPDATE is not supported"),
        ("select top 5 name from examples", "SQL, character 1: TOP is not supported"),
        ("select name from examples limit 1, 1", "SQL: Expected: end of statement"),
        ("select name from examples where a = $1", "$1"),
        (
            "select count(*) from examples group by name having name like 'x'",
            "LIKE in HAVING is not supported",
        ),
        ("select percentile(a, 0) from examples", "percentile takes a number above 0"),
        ("select name from same", "'same' may be \"/x/same\" or \"/y/same\""),
        ("select name from examples\n where a ~ 'x'", "SQL, line 2, character 8: the operator ~"),
        ("insert into examples values (1)", "INSERT is not supported"),
        ("explain analyze select name from examples", "EXPLAIN"),
    ] {
        let message = message(sql);
        assert!(message.contains(why), "{sql}\n  wanted {why}\n  found  {message}");
    }
    let deep = format!("select name from examples where {}a = 1{}", "(".repeat(30), ")".repeat(30));
    assert!(message(&deep).contains("deeper") || message(&deep).contains("no more than 12"));
    let long = format!("select name from examples where a = '{}'", "x".repeat(20_000));
    assert!(message(&long).contains("the limit is 16384"));
}

#[test]
fn a_long_chain_is_read_and_too_many_terms_are_refused() {
    let chain = |count: usize| {
        let terms: Vec<String> = (0..count).map(|n| format!("a={n}")).collect();
        format!("select name from examples where {}", terms.join(" or "))
    };
    assert_eq!(world().rows(&chain(200)), "name");
    let statement = sql::parse(&chain(450), &world()).unwrap();
    let problem = CompiledQuery::new(&statement.specification).unwrap_err();
    assert!(problem.message.contains("the limit is 256"), "{problem}");
}

#[test]
fn all_versions_are_a_table_of_their_own() {
    let statement = sql::parse("select name from examples.versions", &world()).unwrap();
    assert!(statement.specification.has(protocol::query::QueryOption::IncludeAllVersions));
    let statement = sql::parse("explain select name from examples", &world()).unwrap();
    assert!(statement.specification.explain);
}

/// Each becomes a tree that is as deep as the text is long.
#[test]
fn a_chain_of_signs_does_not_exhaust_the_stack() {
    for (first, more) in
        [("a", "+a"), ("a", "||a"), ("a=1", " or a=1"), ("a=1", " and a=1"), ("a", "=a")]
    {
        for count in [900, 2_000, 7_000] {
            let chain = format!("{first}{}", more.repeat(count));
            for sql in [format!("select {chain} from x"), format!("select b from x where {chain}")]
            {
                if sql.len() <= sql::SQL_BYTES_MAX {
                    assert!(sql::parse(&sql, &world()).is_err(), "{first}{more} {count} times");
                }
            }
        }
    }
}

#[test]
fn rows_longer_than_an_answer_may_be_are_not_made() {
    let parse = |sql: &str| sql::parse(sql, &world()).unwrap();
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(1_000));
    let documents = [long.as_bytes(); 10];
    let twice = parse("select name, name as again from examples");
    assert!(twice.rows_of_documents(&documents, 30_000, 0).is_ok());
    assert!(twice.rows_of_documents(&documents, 15_000, 0).is_err());
    // Each with a field of its own.
    let own: Vec<String> = (0..5_000).map(|n| format!(r#"{{"f{n}":1}}"#)).collect();
    let own: Vec<&[u8]> = own.iter().map(String::as_bytes).collect();
    assert!(parse("select * from examples").rows_of_documents(&own, usize::MAX, 0).is_err());
}
