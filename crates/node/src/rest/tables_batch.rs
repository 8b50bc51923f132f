//! A table for batches.

use ::documents::Atom;
use protocol::{BATCH_REQUESTS_MAX, Principal, RequestKey};
use serde_json::json;

use super::Plan;
use super::batch_parts::Batch;
use super::tables::check;
use super::world::{World, request};

const POST: &str = "POST /core/batch";

/// A batch of these requests.
fn of(requests: &[&str]) -> String {
    format!("{{\"requests\":[{}]}}", requests.join(","))
}

fn planned(world: &World, body: &str, key: Option<&str>) -> Batch {
    let mut request = request(POST, body);
    request.idempotency_key = key.map(str::to_owned);
    request.principal = Principal::User("/core/authz/users/jane".into());
    match super::plan(request, 7, &world.view()) {
        Ok(Plan::Batch(batch)) => *batch,
        Ok(_) => panic!("{body} is no batch"),
        Err(problem) => panic!("{body}: {problem}"),
    }
}

/// The links of all requests, in the order of the batch.
fn links(batch: &Batch) -> Vec<String> {
    let mut links = vec![String::new(); batch.count];
    for part in &batch.atoms {
        let atom = Atom::decode(&part.request.body).unwrap();
        for (place, one) in part.places.iter().zip(atom.requests) {
            links[*place] = one.request.path;
        }
    }
    links
}

#[test]
fn what_is_no_batch_is_refused_by_name() {
    let world = World::new();
    let patch = r#"{"method":"PATCH","path":"/core/things/one","body":{}}"#;
    let twice = of(&[patch, patch]);
    let many = of(&vec![patch; BATCH_REQUESTS_MAX + 1]);
    let one = |rest: &str| of(&[&format!("{{\"method\":\"PATCH\",{rest}}}")]);
    let at = |method: &str, path: &str| {
        of(&[&format!("{{\"method\":\"{method}\",\"path\":\"{path}\"}}")])
    };
    let things = r#""path":"/core/things/one""#;
    check(
        &world,
        &[
            (POST, "", "400 .. requests"),
            (POST, "[]", "400 .. requests"),
            (POST, "{}", "400 .. requests"),
            (POST, r#"{"requests":[]}"#, "400 .. 0 requests .. 10000"),
            (POST, &many, "413 .. 10001 requests .. 10000"),
            (POST, r#"{"requests":[{}],"bogus":1}"#, "400 .. `bogus`"),
            (POST, r#"{"requests":[{}],"atomic":"some"}"#, "400 .. partition or all, not 'some'"),
            (POST, &one(r#""path":"/core/things/one","bogus":1"#), "400 request 0 .. `bogus`"),
            (POST, &twice, "400 request 1 .. /core/things/one .. once"),
            (POST, &at("GET", "/core/things/one"), "400 request 0 .. not 'GET'"),
            (POST, &at("PATCH", "/core/things/one?x=1"), "400 request 0 .. no parameters"),
            (POST, &at("PATCH", "core"), "400 request 0 .. begin with '/'"),
            (POST, &at("PATCH", "/core/things/%zz"), "400 request 0 .. '%'"),
            (POST, &at("PATCH", "/core/things"), "405 request 0 .. does not take PATCH"),
            (POST, &at("DELETE", "/core/management"), "400 request 0 .. by itself"),
            (POST, &at("POST", "/core/query-tasks"), "400 request 0 .. by itself"),
            (POST, &at("POST", "/core/batch"), "400 request 0 .. by itself"),
            (POST, &at("POST", "/core/things/one/stats"), "400 request 0 .. by itself"),
            (POST, &at("POST", "/core/authz/users"), "400 request 0 .. by itself"),
            (POST, &at("DELETE", "/core/factories/a:b"), "400 request 0 .. by itself"),
            (POST, &at("PATCH", "/core/walks/one"), "400 request 0 .. is a task"),
            (POST, &at("PUT", "/core/fixed/one"), "405 request 0"),
            (POST, &at("PATCH", "/app/seats/one"), "seek /app/seats .. for /core/batch"),
            (POST, &one(&format!(r#"{things},"ifMatch":"x""#)), "400 request 0 .. ifMatch .. tag"),
            (POST, &one(&format!(r#"{things},"pragma":"xn-queue""#)), "400 .. 'xn-queue'"),
            (POST, &one(&format!(r#"{things},"pragma":"xn-other""#)), "400 .. 'xn-other'"),
            (POST, &one(&format!(r#"{things},"contentType":"text/x""#)), "415 .. 'text/x'"),
            (POST, &one(&format!(r#"{things},"idempotencyKey":"""#)), "400 .. idempotencyKey"),
            ("GET /core/batch", "", "405"),
            ("POST /core/batch?x=1", &of(&[patch]), "400 .. 'x'"),
            (POST, &of(&[patch]), "batch of 1: [0]"),
        ],
    );
}

#[test]
fn what_is_to_be_atomic_lies_in_one_partition() {
    let world = World::new();
    let post = |name: &str| {
        let body = json!({ "documentSelfLink": name });
        json!({"method": "POST", "path": "/core/things", "body": body})
    };
    let batch = |names: &[&str], atomic: &str| {
        let requests: Vec<_> = names.iter().map(|name| post(name)).collect();
        json!({"requests": requests, "atomic": atomic}).to_string()
    };
    let together = ["{42}/a", "{42}/b", "x{42}", "{42}"];
    let apart = ["a", "b", "c", "d", "e"];
    check(
        &world,
        &[
            (POST, &batch(&together, "all"), "batch of 4: [0, 1, 2, 3]"),
            (POST, &batch(&apart, "all"), "409 'atomic' is all .. partitions .. {42}"),
            (POST, &batch(&["{42}/a/b"], "all"), "400 request 0 .. {42}/a/b"),
            (POST, &batch(&["{42}/stats"], "all"), "400 request 0 .. {42}/stats"),
        ],
    );
    let planned = planned(&world, &batch(&apart, "partition"), None);
    assert!(planned.atoms.len() > 1);
    let all: usize = planned.atoms.iter().map(|part| part.places.len()).sum();
    assert_eq!(all, 5);
}

#[test]
fn with_a_key_a_repeat_means_the_same_documents_and_without_one_none_are_the_same() {
    let world = World::new();
    let post = r#"{"method":"POST","path":"/core/things","body":{}}"#;
    let own = r#"{"method":"POST","path":"/core/things","body":{},"idempotencyKey":"k"}"#;
    let body = of(&[post, post, own]);
    let first = planned(&world, &body, Some("b"));
    assert_eq!(links(&first), links(&planned(&world, &body, Some("b"))));
    let mut names = links(&first);
    names.extend(links(&planned(&world, &of(&[post, post]), None)));
    let one = names[2].clone();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5, "{names:?}");
    // The key of one request names the document as that request by itself would.
    let mut alone = request("POST /core/things", "{}");
    alone.idempotency_key = Some("k".into());
    alone.principal = Principal::User("/core/authz/users/jane".into());
    let Ok(Plan::Ask(_, crate::frame::Question::Rest(alone))) =
        super::plan(alone, 8, &world.view())
    else {
        panic!("it is asked of the owner");
    };
    assert_eq!(alone.path, one);
    let with_key = first.atoms.iter().flat_map(|part| {
        Atom::decode(&part.request.body).unwrap().requests.into_iter().filter_map(|it| it.key)
    });
    let keys: Vec<RequestKey> = with_key.collect();
    let [RequestKey::User { key, .. }] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!(key, "k\n/core/authz/users/jane", "it is the key of who asks");
    let again = r#"{"method":"PATCH","path":"/core/things/x","body":{},"idempotencyKey":"k"}"#;
    check(&world, &[(POST, &of(&[own, again]), "400 request 1 .. same idempotencyKey")]);
    // An entry records each key once: that of the batch would be lost.
    let mut both = request(POST, &of(&[own]));
    both.idempotency_key = Some("k".into());
    let refused = super::plan(both, 9, &world.view()).err().expect("it is refused");
    assert!(refused.message.contains("in its header"), "{}", refused.message);
    let direct = r#"{"method":"POST","path":"/core/walks","body":{"taskInfo":{"isDirect":true}}}"#;
    check(&world, &[(POST, &of(&[direct]), "400 request 0 .. direct task")]);
}
