//! A table for queries that are said in the path alone.

use super::tables::check;
use super::world::World;

#[test]
fn queries_without_a_body() {
    let world = World::new();
    let odata = |rest: &str| format!("GET /core/odata-queries{rest}");
    let index = |rest: &str| format!("GET /core/document-index{rest}");
    check(
        &world,
        &[
            (&odata("?$filter=name%20eq%20a"), "", "query limit=None as a task"),
            (
                &odata("?$filter=name%20eq%20a&$limit=5&$skip=1"),
                "",
                "query limit=Some(5) as a task",
            ),
            (&odata(""), "", "400 .. needs a $filter"),
            (&odata("?$filter=name"), "", "400 $filter is wrong"),
            (&odata("?$filter=a%20eq%201&$count=true&$limit=1"), "", "400 $count with $limit"),
            (
                &odata("?$filter=a%20eq%201&$tenantLinks=/t"),
                "",
                "400 .. no parameter 'tenantLinks'",
            ),
            (&odata("?$filter=a%20eq%201&asOf=1800000000000000"), "", "400 .. nobody knows"),
            ("POST /core/odata-queries", "{}", "405"),
            (&index("?documentSelfLink=/core/things/a"), "", "ask GET /core/things/a"),
            (
                &index("?documentSelfLink=/core/things/a&documentVersion=3"),
                "",
                "ask GET /core/things/a?documentVersion=3",
            ),
            (&index("?documentSelfLink=/core/things*&$expand"), "", "query limit=None as a list"),
            (
                &index("?documentSelfLink=/core/things/*&includeDeleted&capability=PERSISTENCE"),
                "",
                "query limit=None as a list",
            ),
            (&index(""), "", "400 .. needs documentSelfLink"),
            (&index("?documentSelfLink=/core/things"), "", "400 /core/things is a factory"),
            (&index("?documentSelfLink=/core/nothing/a"), "", "404"),
            (
                &index("?documentSelfLink=/core/things/a/actions/add"),
                "",
                "400 /core/things/a/actions/add is no document: it is an action",
            ),
            (&index("?documentSelfLink=/core/things/config"), "", "400 .. is no document"),
            (&index("?documentSelfLink=/core/things/a/subscriptions"), "", "400 .. is no document"),
            (&index("?documentSelfLink=/core/things/a&capability=X"), "", "400 capability is 'X'"),
            (&index("?documentSelfLink=/core/things/a&includeDeleted"), "", "400 includeDeleted"),
            (&index("?documentSelfLink=/core/things/a&expand"), "", "400 expand goes with"),
            (
                &index("?documentSelfLink=/core/things*&documentVersion=1"),
                "",
                "400 documentVersion is of one document",
            ),
            ("DELETE /core/document-index", "", "405"),
        ],
    );
}
