use proptest::prelude::*;

use super::*;

/// The guide's step 2, verbatim, including its ellipses where they are JSON.
const GUIDE_CREATED: &str = r#"{ "verificationId": "ver_abc123...", "expiresAt": "2024-01-01T12:00:00Z", "modules": {}, "flow": ["terms", "document", "liveness"] }"#;

/// The guide's step 4.
const GUIDE_DETAILS: &str = r#"{ "verification_id": "ver_abc123...", "status": { "current": "verified", "updated_at": "2024-01-01T12:00:00Z", "progress": { "document": "completed", "liveness": "completed", "form_data": "completed" } }, "results": { "document": {}, "liveness": {}, "form_data": {} } }"#;

fn noon() -> Timestamp {
    "2024-01-01T12:00:00Z".parse().unwrap()
}

fn id(text: &str) -> VerificationId {
    VerificationId::parse(text).unwrap()
}

#[test]
fn the_guides_create_response_is_parsed_completely() {
    assert_eq!(
        parse_created(GUIDE_CREATED.as_bytes()),
        Ok(Created {
            id: id("ver_abc123..."),
            expires_at: Some(noon()),
            flow: ["terms", "document", "liveness"].map(String::from).to_vec(),
            modules: vec![],
            date: None,
        })
    );
}

#[test]
fn the_guides_details_are_parsed_completely_except_for_the_results() {
    let progress = ["document", "liveness", "form_data"];
    assert_eq!(
        parse_details(GUIDE_DETAILS.as_bytes()),
        Ok(Details {
            id: Some(id("ver_abc123...")),
            current: Some("verified".into()),
            updated_at: Some(noon()),
            progress: progress.map(|module| (module.into(), "completed".into())).into(),
            date: None,
        })
    );
}

#[test]
fn details_need_neither_results_nor_all_modules() {
    let body = r#"{"verification_id":"ver_abc123...","status":{"current":"verified","updated_at":"2024-01-01T12:00:00Z","progress":{"document":"completed","liveness":"completed"}}}"#;
    let details = parse_details(body.as_bytes()).unwrap();
    assert_eq!(details.progress.len(), 2);
}

#[test]
fn an_odd_optional_field_never_loses_the_id() {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for odd in [
        "null",
        "true",
        "12",
        "1e999",
        "\"\"",
        "\"soon\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "[[1],{}]",
        r#"{"a":1,"a":2}"#,
        &nested,
    ] {
        for field in ["expiresAt", "flow", "modules", "somethingNew"] {
            let body = format!(r#"{{"{field}":{odd},"verificationId":"ver_1"}}"#);
            let created =
                parse_created(body.as_bytes()).unwrap_or_else(|error| panic!("{body:.80}: {error}"));
            assert_eq!(created.id, id("ver_1"));
            assert_eq!(created.expires_at, None);
        }
    }
}

#[test]
fn flow_and_modules_may_be_lists_or_objects() {
    let body =
        r#"{"verificationId":"v","flow":{"terms":{},"document":1},"modules":["liveness",7,"form_data"]}"#;
    let created = parse_created(body.as_bytes()).unwrap();
    assert_eq!(created.flow, ["terms", "document"]);
    assert_eq!(created.modules, ["liveness", "form_data"]);
}

#[test]
fn an_expiry_is_accepted_only_if_kubernetes_can_write_it() {
    let expiry = |text: &str| {
        let body = format!(r#"{{"verificationId":"v","expiresAt":"{text}"}}"#);
        parse_created(body.as_bytes()).unwrap().expires_at
    };
    assert!(expiry("9999-12-30T00:00:00Z").is_some());
    assert!(expiry("1970-01-01T00:00:00Z").is_some());
    assert!(expiry("2024-01-01T12:00:00.123456+02:00").is_some());
    for refused in [
        "-000001-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "+010000-01-01T00:00:00Z",
        "2024-01-01",
        "2024-01-01T12:00:00",
    ] {
        assert_eq!(expiry(refused), None, "{refused}");
    }
}

#[test]
fn a_body_that_is_not_one_json_object_is_unusable() {
    let deep = "[".repeat(10_000);
    let deep_object = r#"{"a":"#.repeat(10_000);
    let bodies: [&[u8]; 16] = [
        b"",
        b" ",
        b"null",
        b"[]",
        b"\"ver_1\"",
        br#"["ver_1"]"#,
        br#"{"verificationId":"ver_1""#,
        br#"{"verificationId":"ver_1"} x"#,
        br#"{"verificationId":"ver_1","expiresAt":NaN}"#,
        b"\xEF\xBB\xBF{\"verificationId\":\"ver_1\"}",
        br#"{"verificationId":"ver_1","verificationId":"ver_2"}"#,
        b"<html><body>verificationId</body></html>",
        b"{\"verificationId\":\"\xFF\"}",
        b"\0",
        deep.as_bytes(),
        deep_object.as_bytes(),
    ];
    for body in bodies {
        assert_eq!(parse_created(body), Err(UnusableResponse::NotAnObject), "{}", body.escape_ascii());
    }
}

#[test]
fn a_create_without_a_valid_id_is_unusable() {
    let long = format!("\"{}\"", "a".repeat(129));
    for text in [
        "null",
        "1",
        "\"\"",
        "\".\"",
        "\"..\"",
        "\"../x\"",
        "\"a/b\"",
        "\"a\\r\\nb\"",
        "\"a b\"",
        "\"a%2fb\"",
        "\"é\"",
        "[\"a\"]",
        &long,
    ] {
        let body = format!(r#"{{"verificationId":{text}}}"#);
        assert_eq!(parse_created(body.as_bytes()), Err(UnusableResponse::NoUsableId), "{text}");
    }
    assert_eq!(parse_created(b"{}"), Err(UnusableResponse::NoUsableId));
}

#[test]
fn details_of_any_shape_are_parsed_as_far_as_possible() {
    let parsed = |body: &str| parse_details(body.as_bytes()).unwrap();
    assert_eq!(parsed("{}"), Details::default());
    assert_eq!(parsed(r#"{"verification_id":7,"status":null}"#), Details::default());
    assert_eq!(parsed(r#"{"status":"verified"}"#).current.as_deref(), Some("verified"));
    assert_eq!(parsed(r#"{"status":["verified"]}"#).current, None);
    assert_eq!(parsed(r#"{"status":{"current":1,"updated_at":5,"progress":[]}}"#), Details::default());
    assert_eq!(parsed(r#"{"status":{"current":" VERIFIED"}}"#).current.as_deref(), Some(" VERIFIED"));
    let mixed = parsed(r#"{"status":{"progress":{"document":"completed","liveness":{"state":1}}}}"#);
    assert_eq!(mixed.progress, [("document".into(), "completed".into())].into());
}

#[test]
fn contradicting_details_are_unusable() {
    for body in [
        r#"{"verification_id":"a","verification_id":"b"}"#,
        r#"{"status":{"current":"verified","current":"rejected"}}"#,
        r#"{"status":{"progress":{"document":"completed","document":"failed"}}}"#,
    ] {
        assert_eq!(parse_details(body.as_bytes()), Err(UnusableResponse::NotAnObject), "{body}");
    }
}

#[test]
fn deep_results_are_skipped_without_a_trace() {
    let results = format!("{}\"Jane Doe\"{}", r#"{"a":["#.repeat(10_000), "]}".repeat(10_000));
    let body = format!(r#"{{"verification_id":"v","results":{results}}}"#);
    let details = parse_details(body.as_bytes()).unwrap();
    assert!(!format!("{details:?}").contains("Jane"));
}

#[test]
fn counts_and_lengths_are_bounded() {
    let many: Vec<String> = (0..10_000).map(|n| format!(r#""module{n}":"{}""#, "ä".repeat(700))).collect();
    let body =
        format!(r#"{{"status":{{"current":"{}","progress":{{{}}}}}}}"#, "x".repeat(1 << 20), many.join(","));
    let details = parse_details(body.as_bytes()).unwrap();
    assert_eq!(details.current.unwrap().len(), MAX_WORD_BYTES);
    assert_eq!(details.progress.len(), MAX_ENTRIES);
    assert!(details.progress.values().all(|progress| progress.len() == MAX_WORD_BYTES));
    let names: Vec<String> = (0..1_000).map(|n| format!("\"{n}\"")).collect();
    let created =
        parse_created(format!(r#"{{"verificationId":"v","flow":[{}]}}"#, names.join(",")).as_bytes())
            .unwrap();
    assert_eq!(created.flow.len(), MAX_ENTRIES);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let name = prop_oneof![
        "verificationId|verification_id|status|current|updated_at|progress|flow|modules|expiresAt",
        ".{0,8}"
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "ver_[a-z]{1,4}|verified|2024-01-01T12:00:00Z|.{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(name.clone(), inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_parsing_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse_created(&bytes);
        let _ = parse_details(&bytes);
    }

    #[test]
    fn every_json_is_parsed_within_its_bounds(json in any_json()) {
        let body = json.to_string();
        if let Ok(created) = parse_created(body.as_bytes()) {
            prop_assert_eq!(json["verificationId"].as_str(), Some(created.id.as_str()));
        }
        prop_assert_eq!(parse_details(body.as_bytes()).is_ok(), json.is_object());
    }
}
