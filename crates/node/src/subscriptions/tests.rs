//! How many subscriptions there may be.

use protocol::Action;
use protocol::subscription::Subscription;

use super::*;

fn make(name: &str, user: Option<&str>) -> Request {
    let principal_link = user.map(str::to_owned);
    let made = Subscription { principal_link, ..Subscription::default() };
    let mut body = serde_json::to_value(&made).unwrap();
    body["documentSelfLink"] = format!("{LINK}/{name}").into();
    Request::new(Method::Post, LINK).with_json(&body)
}

fn with(count: usize, user: Option<&str>, all: &mut Subscriptions) {
    for number in 0..count {
        let name = format!("{}-{number}", user.unwrap_or_default());
        let document = Document {
            link: format!("{LINK}/{name}"),
            version: 0,
            epoch: Term(1),
            kind: String::new(),
            action: Action::Post,
            updated: Moment(1),
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: protocol::Body::from_text(
                String::from_utf8(make(&name, user).body.to_vec()).unwrap(),
            ),
        };
        let known = Known::of(&document, GroupId(1)).unwrap();
        all.known.insert(document.link, known);
    }
}

#[test]
fn who_is_there_may_be_changed_when_there_is_room_for_no_more() {
    let mut all = Subscriptions::default();
    with(SUBSCRIPTIONS_OF_USER_MAX - 1, Some("jane"), &mut all);
    assert!(all.check_room(&make("new", Some("jane"))).is_ok());
    with(SUBSCRIPTIONS_OF_USER_MAX, Some("jane"), &mut all);
    let refused = all.check_room(&make("new", Some("jane"))).unwrap_err();
    assert!(refused.message.contains("jane has 200"), "{}", refused.message);
    assert!(all.check_room(&make("jane-7", Some("jane"))).is_ok());
    assert!(all.check_room(&make("new", Some("june"))).is_ok());
    assert!(all.check_room(&make("new", None)).is_ok());
    with(SUBSCRIPTIONS_MAX - SUBSCRIPTIONS_OF_USER_MAX, None, &mut all);
    let refused = all.check_room(&make("new", None)).unwrap_err();
    assert!(refused.message.contains("there are 2000"), "{}", refused.message);
    assert!(all.check_room(&make("-7", None)).is_ok());
}
