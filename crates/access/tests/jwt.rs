//! Tokens of an outside issuer: whatever comes, nothing panics; and what counts is what a second,
//! naive judge says, straight from what was generated.

use access::{Jwt, NotTaken, Outsider, Terms};
use proptest::prelude::*;
use protocol::{Moment, base64url};
use serde_json::{Map, Value, json};

const NOW: u64 = 2_000_000_000;

fn terms() -> Terms {
    Terms {
        issuer: "https://issuer".into(),
        audience: "amrita".into(),
        user_claim: "sub".into(),
        groups: None,
    }
}

/// A claim as it may come: missing, of another form, or near a border.
fn claim() -> impl Strategy<Value = Option<Value>> {
    let texts = ["https://issuer", "amrita", "jane", ""].map(|text| Some(json!(text)));
    let near = (NOW - 70..NOW + 70).prop_map(|at| Some(json!(at)));
    let odd = [json!(null), json!(true), json!([]), json!({}), json!(-1), json!("2000000000")];
    prop_oneof![
        3 => proptest::sample::select(texts.to_vec()),
        4 => near,
        1 => proptest::sample::select(odd.map(Some).to_vec()),
        1 => Just(Some(json!(["x", "amrita"]))),
        1 => Just(None),
    ]
}

/// Mostly right, with some claims replaced.
fn claims() -> impl Strategy<Value = Map<String, Value>> {
    let names = ["iss", "aud", "sub", "iat", "exp", "nbf", "x"];
    let changes =
        proptest::collection::vec((proptest::sample::select(names.to_vec()), claim()), 0..4);
    changes.prop_map(|changes| {
        let right = json!({"iss": "https://issuer", "aud": "amrita", "sub": "jane", "iat": NOW,
            "exp": NOW + 300});
        let mut claims = right.as_object().expect("it is one").clone();
        for (name, value) in changes {
            match value {
                Some(value) => claims.insert(name.to_owned(), value),
                None => claims.remove(name),
            };
        }
        claims
    })
}

fn counts(claims: &Map<String, Value>) -> bool {
    let number = |name: &str| claims.get(name).and_then(Value::as_u64);
    let is_for_us = match &claims.get("aud") {
        Some(Value::String(one)) => one == "amrita",
        Some(Value::Array(all)) => all.contains(&json!("amrita")),
        _ => false,
    };
    claims.get("iss") == Some(&json!("https://issuer"))
        && is_for_us
        && claims.get("sub").and_then(Value::as_str).is_some_and(|name| !name.is_empty())
        && number("exp").is_some_and(|exp| exp + 60 > NOW)
        && number("iat").is_some_and(|iat| iat <= NOW + 60)
        && (!claims.contains_key("nbf") || number("nbf").is_some_and(|nbf| nbf <= NOW + 60))
}

fn token(header: &Value, claims: &Map<String, Value>) -> String {
    let part = |text: String| base64url::encode(text.as_bytes());
    let claims = Value::Object(claims.clone()).to_string();
    format!("{}.{}.AAAA", part(header.to_string()), part(claims))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_counts_is_what_a_naive_judge_says(claims in claims()) {
        let text = token(&json!({"alg": "ES256"}), &claims);
        let jwt = Jwt::parse(&text).expect("its form is right");
        let judged = Outsider::of(&jwt, &terms(), Moment(NOW * 1_000_000));
        prop_assert_eq!(judged.is_ok(), counts(&claims), "{:?}: {:?}", claims, judged);
    }

    #[test]
    fn no_text_brings_it_down(text in "[a-zA-Z0-9_.=-]{0,80}|\\PC{0,40}") {
        // Without a signature nothing is believed; here it is only taken apart.
        if let Ok(jwt) = Jwt::parse(&text) {
            prop_assert!(text.starts_with(jwt.signed));
        }
    }

    #[test]
    fn only_known_algorithms_are_taken(alg in "[A-Za-z0-9]{0,6}", crit in any::<bool>()) {
        let mut header = json!({"alg": alg});
        if crit {
            header["crit"] = json!(["exp"]);
        }
        let text = token(&header, &Map::new());
        let known = access::Algorithm::named(&alg).is_some();
        let expected = match (known, crit) {
            (false, _) => Some(NotTaken::Algorithm),
            (true, true) => Some(NotTaken::Critical),
            (true, false) => None,
        };
        prop_assert_eq!(Jwt::parse(&text).err(), expected);
    }
}
