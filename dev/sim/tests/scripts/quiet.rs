//! What happens in groups at rest, and on nodes with different programs.

use protocol::{Method, Request};
use serde_json::{Value, json};

use crate::setup::{Setup, WALL_AT_START};
use crate::{GROUP, document_of, formed, is_whole, number_of, spread};

/// An answer that comes at once.
pub(crate) fn get(setup: &mut Setup, number: usize, target: &str) -> (u16, Value) {
    let ticket = setup.ask(number, Request::get(target));
    setup.until("it is answered", |setup| setup.answer(number, ticket).is_some());
    let answer = setup.answer(number, ticket).expect("it was just there");
    (answer.status, answer.to_json())
}

/// Nobody asks for anything, so the group goes to rest. Its owner has something to do all the same.
#[test]
fn a_document_of_a_group_at_rest_ends_at_its_time() {
    const LIFE_MICROS: u64 = 20_000_000;
    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    let directory = number_of(&setup.look(0, GROUP)["documentOwner"]);
    let (owner, other) = (directory, (directory + 1) % 3);
    let link = document_of(&mut setup, owner);
    let body = json!({ "name": "y", "documentExpirationTimeMicros": WALL_AT_START + LIFE_MICROS });
    let put = setup.ask(owner, Request::new(Method::Put, link.as_str()).with_json(&body));
    setup.until("it is written", |setup| setup.answer(owner, put).is_some());
    setup.run(100);
    let (_, begun) = get(&mut setup, other, &format!("{link}?watch=true"));
    let token = begun["token"].as_str().expect("there is one");
    let rest = format!("{link}?watch=true&wait=30&after={token}");
    let watch = setup.ask(other, Request::get(&rest));
    setup.run(6_000);
    assert!(setup.answer(other, watch).is_none(), "nothing has changed so far");
    setup.run(15_000);
    let told = setup.answer(other, watch).expect("the end was told").to_json();
    assert_eq!(told["changes"][0]["action"], "EXPIRE", "{told}");
}

#[test]
fn a_node_whose_program_lacks_a_service_owns_nothing_and_says_so() {
    let mut setup = formed(3);
    setup.until("three share", |setup| spread(setup, 1) == [1, 1, 2]);
    let link = document_of(&mut setup, 2);
    setup.kill(2);
    setup.set_older(2, true);
    setup.start(2);
    setup.until("it is back", |setup| is_whole(setup, 2, 3));
    setup.until("the others share", |setup| spread(setup, 0) == [0, 2, 2]);
    setup.run(5_000);
    assert_eq!(spread(&mut setup, 0), [0, 2, 2]);

    assert_eq!(get(&mut setup, 0, &link).0, 200);
    let (status, problem) = get(&mut setup, 2, &link);
    let message = problem["message"].as_str().expect("there is one");
    assert_eq!((status, problem["code"].as_str()), (503, Some("NO_OWNER")), "{message}");
    assert!(message.contains("/core/examples") && message.contains("has: ask there"), "{message}");
    assert_eq!(get(&mut setup, 2, "/core/examples").0, 503, "not an empty list");
    assert_eq!(get(&mut setup, 2, "/core/nothing").0, 404, "nobody has that");
    let (_, told) = get(&mut setup, 2, "/core/management/explain");
    let is_told = |told: &Value| {
        told["findings"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it["waitsFor"] == "SERVICE"))
    };
    assert!(is_told(&told), "{told}");
    for asked in 0..3 {
        let nodes = setup.look(asked, GROUP)["nodes"].clone();
        let lacks = &nodes["n3"]["missingServices"];
        assert!(
            lacks.as_array().is_some_and(|all| all.contains(&"/core/examples".into())),
            "{nodes}"
        );
        let status = |name: &str| nodes[name]["status"].clone();
        assert_eq!(
            [status("n1"), status("n2"), status("n3")],
            ["AVAILABLE", "AVAILABLE", "SYNCHRONIZING"],
            "as {asked} sees it"
        );
    }

    // The others are away: it says that nobody can, not that there is nothing.
    setup.kill(0);
    setup.kill(1);
    setup.run(2_000);
    assert_eq!(get(&mut setup, 2, &link).0, 503);
    setup.start(0);
    setup.start(1);

    setup.kill(2);
    setup.set_older(2, false);
    setup.start(2);
    setup.until("three share again", |setup| spread(setup, 0) == [1, 1, 2]);
    let (_, told) = get(&mut setup, 2, "/core/management/explain");
    assert!(!is_told(&told), "{told}");
    let nodes = setup.look(0, GROUP)["nodes"].clone();
    assert_eq!(
        (&nodes["n3"]["status"], &nodes["n3"]["missingServices"]),
        (&"AVAILABLE".into(), &Value::Array(Vec::new()))
    );
}
