//! The table of paths, against itself and against the reference.

use super::*;

/// A path of each kind.
fn example(resource: &Resource) -> String {
    let first = resource.path.split(", ").next().expect("there is one");
    first
        .replace("FACTORY", "/core/query-tasks")
        .replace("NAME", "one")
        .replace("TOKEN", "x")
        .replace("...", "x")
}

/// Query tasks have a factory of their own.
fn is_shadowed(resource: &Resource) -> bool {
    *resource == FACTORY
}

#[test]
fn each_kind_of_paths_is_found_by_an_example_of_it() {
    let catalogue = Catalogue::new();
    for resource in SURFACE.into_iter().filter(|it| !is_shadowed(it)) {
        let path = example(resource);
        assert_eq!(Resource::at(&path, &catalogue), Some(resource), "{path}");
    }
    for nothing in ["/core", "/core/nothing", "/core/nothing/one", "/core/immortals/a/b", "/x"] {
        assert_eq!(Resource::at(nothing, &catalogue), None, "{nothing}");
    }
}

#[test]
fn each_verb_refuses_by_name_what_it_does_not_know() {
    let catalogue = Catalogue::new();
    for resource in SURFACE.into_iter().filter(|it| !is_shadowed(it)) {
        let path = example(resource);
        for verb in resource.verbs_at(&path, &catalogue) {
            let request = || Request::new(verb.method, path.clone());
            let refused = |request: Request, name: &str| {
                let problem = resource.check(&request, &catalogue).unwrap_err();
                assert_eq!(problem.status(), 400, "{name} at {path}");
                assert!(problem.message.contains(name), "{path}: {problem}");
            };
            assert!(resource.check(&request(), &catalogue).is_ok(), "{path}");
            refused(Request { query: "nonsense=1".into(), ..request() }, "'nonsense'");
            refused(Request { query: "$nonsense".into(), ..request() }, "'nonsense'");
            refused(Request { pragmas: vec!["xn-other".into()], ..request() }, "'xn-other'");
            for name in verb.parameters {
                let twice = format!("{name}=1&${name}=2");
                refused(Request { query: twice, ..request() }, &format!("'{name}'"));
            }
            for header in [Header::IfMatch, Header::IfNoneMatch, Header::Quorum, Header::Key] {
                let mut request = request();
                match header {
                    Header::Key => request.idempotency_key = Some("k".into()),
                    Header::IfMatch => request.conditions.if_match = "*".parse().ok(),
                    Header::IfNoneMatch => request.conditions.if_none_match = "*".parse().ok(),
                    Header::Quorum => request.quorum = Some(WriteQuorum::All),
                }
                if verb.headers.contains(&header) {
                    assert!(resource.check(&request, &catalogue).is_ok(), "{path}");
                } else {
                    refused(request, header.name());
                }
            }
            if verb.method == Method::Get {
                refused(Request { body: "{}".into(), ..request() }, "body");
            }
            let takes_one = [&DOCUMENT, &FORWARDING].contains(&resource);
            let says_whom = resource == &SUBSCRIPTIONS;
            if verb.method == Method::Delete && !takes_one && !says_whom {
                refused(Request { body: r#"{"a":1}"#.into(), ..request() }, "body");
            }
            let merges = Request { body_type: BodyType::MergePatch, ..request() };
            let is_taken = takes_one && verb.method == Method::Patch;
            let status = resource.check(&merges, &catalogue).map_err(|it| it.status());
            assert_eq!(status, if is_taken { Ok(()) } else { Err(415) }, "{path}");
        }
    }
}

/// As the reference explains it.
fn in_words(needs: Needs) -> &'static str {
    match needs {
        Needs::Nothing => "nothing",
        Needs::Login => "login",
        Needs::Right => "right",
        Needs::Document => "document",
        Needs::Filtered => "filtered",
        Needs::Link => "node",
    }
}

/// The table for people: a row for each verb of each path.
fn reference() -> String {
    let named = |names: &[&str]| {
        let quoted = names.iter().map(|name| format!("`{name}`"));
        quoted.collect::<Vec<_>>().join(", ")
    };
    let mut rows = Vec::new();
    for resource in SURFACE {
        for (number, verb) in resource.verbs.iter().enumerate() {
            let path = if number == 0 { format!("`{}`", resource.path) } else { String::new() };
            let headers: Vec<&str> = verb.headers.iter().map(|header| header.name()).collect();
            rows.push(format!(
                "| {path} | {} | {} | {} | {} | {} | {} |",
                verb.method.name(),
                verb.does,
                named(verb.parameters),
                named(&headers),
                named(verb.pragmas),
                in_words(verb.needs)
            ));
        }
    }
    rows.join("\n")
}

#[test]
fn the_reference_has_this_table() {
    let text = include_str!("../../../../../docs/reference-rest.md");
    let reference = reference();
    assert!(text.contains(&reference), "docs/reference-rest.md must have:\n{reference}");
}

/// What changes the cluster has no owner of a document who would check it.
#[test]
fn what_is_no_document_is_decided_by_the_router() {
    let catalogue = Catalogue::new();
    let of_documents = [
        &FACTORY,
        &DOCUMENT,
        &ACTION,
        &STATS,
        &SUBSCRIPTIONS,
        &EXPLAIN,
        &QUERY_TASKS,
        &QUERY_PAGE,
        &SQL,
        &ODATA,
        &DOCUMENT_INDEX,
        &CHANGES,
        &BATCH,
    ];
    for resource in SURFACE {
        for verb in resource.verbs {
            let is_left = matches!(verb.needs, Needs::Document | Needs::Filtered);
            let is_of_documents = of_documents.contains(&resource);
            assert_eq!(is_left, is_of_documents, "{} {}", verb.method.name(), resource.path);
            let is_open = verb.needs == Needs::Nothing;
            assert_eq!(
                is_open,
                [&LOG_IN, &JOIN, &HEALTH, &CONSOLE].contains(&resource),
                "{}",
                resource.path
            );
        }
    }
    for (method, path) in [
        (Method::Put, "/core/management"),
        (Method::Delete, "/core/node-groups/default"),
        (Method::Get, "/core/node-groups/default/x/y"),
        (Method::Delete, access::LOGIN),
        (Method::Post, "/core/nothing/one"),
    ] {
        let needs = Resource::needs(&Request::new(method, path), &catalogue);
        assert_eq!(needs, None, "{} {path}", method.name());
    }
}

#[test]
fn a_verb_that_is_not_there_is_answered_with_those_that_are() {
    let catalogue = Catalogue::new();
    for (path, method, takes) in [
        ("/core/query-tasks/one", Method::Put, "GET, PATCH, DELETE"),
        ("/core/query-tasks/one", Method::Post, "GET, PATCH, DELETE"),
        ("/core/query-tasks", Method::Delete, "GET, POST"),
        ("/core/management", Method::Patch, "GET, DELETE"),
    ] {
        let resource = Resource::at(path, &catalogue).unwrap();
        let problem = resource.check(&Request::new(method, path), &catalogue).unwrap_err();
        assert_eq!(problem.status(), 405);
        assert!(problem.message.ends_with(&format!("it takes {takes}")), "{problem}");
    }
}
