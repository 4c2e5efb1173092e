//! The defaults of the API server, and the bounds of every field.

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::requests::{ApiResponse, TestNamespace, condition, merge};

mod evidence;

#[tokio::test]
async fn a_minimal_resource_gets_every_default_and_starts_behind_its_generation() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({}), json!({})).await;
    let object = namespace.api().get(&name).await.unwrap();
    assert_eq!(
        object.data["spec"],
        json!({
            "apiKeySecretRef": {"name": "okid-api-key", "key": "apiKey"},
            "mode": "Direct",
            "readyWhen": "Verified",
            "onUnknownOutcome": "Retry",
            "activeDeadline": "168h",
            "suspend": false,
        })
    );
    assert_eq!(object.data["status"], json!({"observedGeneration": -1}));
    assert_eq!(object.metadata.generation, Some(1));
    namespace.delete_all().await;
}

#[tokio::test]
async fn a_default_never_replaces_a_value_of_the_manifest() {
    let namespace = TestNamespace::new().await;
    let given = json!({
        "apiKeySecretRef": {"name": "another", "key": "token", "previousKey": "old-token"},
        "portal": "https://verify.test.okid.io",
        "mode": "Select",
        "readyWhen": "SessionCreated",
        "onUnknownOutcome": "Hold",
        "polling": {"minInterval": "5s", "maxInterval": "5m"},
        "activeDeadline": "24h",
        "suspend": true,
        "adopt": {"verificationId": "ver_one"},
        "evidence": {
            "images": [{"kind": "Back", "imageType": "cropped", "required": true}],
            "results": true,
            "outcomes": ["Rejected", "Verified"],
            "destination": {"url": "gs://evidence", "credentialsSecretRef": {"name": "evidence-store"}},
            "deletionPolicy": "Delete",
        },
        "ttlAfterFinished": "24h",
    });
    let name = namespace.create(given.clone(), json!({})).await;
    assert_eq!(namespace.api().get(&name).await.unwrap().data["spec"], given);
    namespace.delete_all().await;
}

#[tokio::test]
async fn evidence_defaults_to_originals_after_verified_that_are_retained() {
    let namespace = TestNamespace::new().await;
    let spec = json!({"evidence": {"images": [{"kind": "Redacted"}], "destination": {"store": "archive"}}});
    let name = namespace.create(spec, json!({})).await;
    assert_eq!(
        namespace.api().get(&name).await.unwrap().data["spec"]["evidence"],
        json!({
            "images": [{"kind": "Redacted", "imageType": "original", "required": false}],
            "results": false,
            "outcomes": ["Verified"],
            "destination": {"store": "archive"},
            "deletionPolicy": "Retain",
        })
    );
    namespace.delete_all().await;
}

/// A field by its path, valid values, and invalid values.
type Bound = (&'static str, Vec<Value>, Vec<Value>);

fn text(length: usize) -> Value {
    "a".repeat(length).into()
}

fn at_most(path: &'static str, longest: usize) -> Bound {
    (path, vec![text(longest)], vec![text(longest + 1), json!(7)])
}

fn one_of(path: &'static str, words: &[&str]) -> Bound {
    (
        path,
        words.iter().map(|word| json!(word)).collect(),
        vec![json!("verified"), json!("Nonsense"), json!("")],
    )
}

fn time(path: &'static str) -> Bound {
    (path, vec![json!("2026-01-01T12:00:00Z")], vec![json!("tomorrow"), json!(1_767_268_800)])
}

fn list(path: &'static str) -> Bound {
    let words = |count, length| Value::from(vec![text(length); count]);
    (path, vec![words(16, 64)], vec![words(17, 64), words(1, 65)])
}

fn bounds_of_spec() -> Vec<Bound> {
    let interval = |path| -> Bound {
        (
            path,
            vec![json!("5s"), json!("1m30s")],
            ["5", "5d", "-5s", "5 s", "", "0000000000001s"].map(Value::from).into(),
        )
    };
    vec![
        (
            "apiKeySecretRef.name",
            vec![text(1), text(253), json!("a.b-c9")],
            vec![text(0), text(254), json!("Upper"), json!("-a"), json!("a/b"), Value::Null],
        ),
        (
            "apiKeySecretRef.key",
            vec![text(1), text(253), json!("API_key.1-x")],
            vec![text(0), text(254), json!("a/b"), json!("a b")],
        ),
        (
            "apiKeySecretRef.previousKey",
            vec![text(1), text(253), json!("API_key.1-x")],
            vec![text(0), text(254), json!("a/b"), json!("a b")],
        ),
        (
            "portal",
            vec![json!(format!("https://{}", "a".repeat(248)))],
            vec![json!(""), json!(format!("https://{}", "a".repeat(249)))],
        ),
        one_of("mode", &["Direct", "Select"]),
        one_of("readyWhen", &["Verified", "SessionCreated"]),
        one_of("onUnknownOutcome", &["Retry", "Hold"]),
        interval("polling.minInterval"),
        interval("polling.maxInterval"),
        interval("activeDeadline"),
        interval("ttlAfterFinished"),
        ("suspend", vec![json!(true)], vec![json!("true")]),
        (
            "adopt.verificationId",
            vec![text(1), text(128), json!("ver_A.b~c-9")],
            vec![text(0), text(129), json!("ver/../x"), json!("ver 1"), json!("v\u{e9}r"), Value::Null],
        ),
    ]
    .into_iter()
    .chain(evidence::bounds_of_spec())
    .collect()
}

fn bounds_of_status() -> Vec<Bound> {
    let map = |count: usize, length: usize| -> Value {
        (0..count).map(|n| (format!("module{n}"), text(length))).collect::<serde_json::Map<_, _>>().into()
    };
    vec![
        ("observedGeneration", vec![json!(-1), json!(0), json!(i64::MAX)], vec![json!("1")]),
        one_of(
            "phase",
            &[
                "Pending",
                "Creating",
                "AwaitingUser",
                "InProgress",
                "Processing",
                "InReview",
                "Storing",
                "Verified",
                "Rejected",
                "Expired",
                "Failed",
            ],
        ),
        (
            "verificationId",
            vec![text(1), text(128), json!("ver_A.b~c-9")],
            vec![text(0), text(129), json!("../x"), json!("ver\r\nx")],
        ),
        at_most("portalUrl", 1024),
        time("expiresAt"),
        list("flow"),
        list("modules"),
        ("progress", vec![map(16, 64)], vec![map(17, 64), map(1, 65)]),
        at_most("progressSummary", 16),
        at_most("portalStatus", 64),
        time("portalUpdatedAt"),
        ("session.attempt", vec![json!(0), json!(i32::MAX)], vec![json!(-1), json!(1.5), json!("1")]),
        ("session.orphans", vec![json!(0)], vec![json!(-1)]),
        ("session.acknowledged", vec![json!(0)], vec![json!(-1)]),
        one_of("session.state", &["Claimed", "Created", "Adopted", "NotCreated", "Unknown"]),
        at_most("session.uid", 64),
        at_most("session.holder", 128),
        at_most("session.portal", 256),
        time("session.claimedAt"),
        time("session.createdAt"),
        at_most("session.keyFingerprint", 16),
        one_of("outcome", &["Verified", "Rejected", "Expired", "Failed"]),
        time("finishedAt"),
        at_most("lastHandledReconcileAt", 64),
        at_most("lastHandledRetry", 64),
        ("settled", vec![json!(false)], vec![json!("true")]),
        bounds_of_conditions(),
    ]
    .into_iter()
    .chain(evidence::bounds_of_status())
    .collect()
}

fn bounds_of_conditions() -> Bound {
    let many = |count: usize| -> Value {
        (0..count).map(|n| condition(&format!("Type{n}"), "True")).collect::<Vec<_>>().into()
    };
    let with = |name: &str, value: Value| {
        let mut one = condition("Ready", "True");
        one[name] = value;
        json!([one])
    };
    let without = |name: &str| {
        let mut one = condition("Ready", "True");
        one.as_object_mut().unwrap().remove(name);
        json!([one])
    };
    (
        "conditions",
        vec![
            many(10),
            with("type", text(64)),
            with("reason", text(64)),
            with("message", text(256)),
            with("status", json!("Unknown")),
            without("message"),
            without("observedGeneration"),
        ],
        vec![
            many(11),
            json!([condition("Ready", "True"), condition("Ready", "False")]),
            with("type", text(65)),
            with("type", text(0)),
            with("reason", text(65)),
            with("reason", text(0)),
            with("message", text(257)),
            with("status", json!("true")),
            with("lastTransitionTime", json!("now")),
            without("type"),
            without("status"),
            without("reason"),
            without("lastTransitionTime"),
        ],
    )
}

/// An object with only the value at that path.
fn nested(path: &str, value: &Value) -> Value {
    path.rsplit('.').fold(value.clone(), |inner, name| json!({ name: inner }))
}

/// A value, shortened for a message.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

/// Sends every value and returns the deviations from what is expected.
async fn deviations<'a, F: Future<Output = ApiResponse>>(
    bounds: &'a [Bound],
    attempt: impl Fn(&'a str, &'a Value) -> F,
) -> Vec<String> {
    let values = bounds.iter().flat_map(|(path, valid, invalid)| {
        valid
            .iter()
            .map(move |value| (*path, value, true))
            .chain(invalid.iter().map(move |value| (*path, value, false)))
    });
    stream::iter(values)
        .map(|(path, value, is_valid)| {
            let response = attempt(path, value);
            async move {
                match (is_valid, response.await) {
                    (true, ApiResponse::Accepted(_)) => None,
                    (false, ApiResponse::Refused { code: 422, causes }) if names(&causes, path) => None,
                    (_, response) => Some(format!("{path} = {}: {response:?}", shown(value))),
                }
            }
        })
        .buffer_unordered(16)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Whether a cause names the field or a part of it.
fn names(causes: &[(String, String)], path: &str) -> bool {
    causes.iter().any(|(field, _)| {
        let field = field.trim_start_matches("spec.").trim_start_matches("status.");
        field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

#[tokio::test]
async fn every_field_of_spec_accepts_values_within_its_bounds_and_no_others() {
    let namespace = TestNamespace::new().await;
    let bounds = bounds_of_spec();
    let attempt = |path, value| {
        let namespace = &namespace;
        async move {
            let mut spec = evidence::beside(path);
            merge(&mut spec, &nested(path, value));
            namespace.dry_run_create(&spec).await
        }
    };
    let deviations = deviations(&bounds, attempt).await;
    assert!(deviations.is_empty(), "{}", deviations.join("\n"));
    namespace.delete_all().await;
}

#[tokio::test]
async fn every_field_of_status_accepts_values_within_its_bounds_and_no_others() {
    let namespace = TestNamespace::new().await;
    let name = namespace.create(json!({}), json!({})).await;
    let bounds = bounds_of_status();
    let attempt = |path, value| {
        let (namespace, name) = (&namespace, &name);
        async move { namespace.dry_run_status(name, &nested(path, value)).await }
    };
    let deviations = deviations(&bounds, attempt).await;
    assert!(deviations.is_empty(), "{}", deviations.join("\n"));
    namespace.delete_all().await;
}

#[tokio::test]
async fn every_field_of_the_definition_has_a_bound_tested_here() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;

    fn leaves(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        match schema.properties.as_ref().filter(|properties| !properties.is_empty()) {
            None => found.push(path.trim_start_matches('.').to_owned()),
            Some(properties) => {
                for (name, property) in properties {
                    leaves(&format!("{path}.{name}"), property, found);
                }
            }
        }
    }
    let root =
        okid_operator::api::definition().spec.versions.remove(0).schema.unwrap().open_api_v3_schema.unwrap();
    let properties = root.properties.unwrap();
    for (name, bounds) in [("spec", bounds_of_spec()), ("status", bounds_of_status())] {
        let mut fields = Vec::new();
        leaves("", &properties[name], &mut fields);
        let tested: Vec<&str> = bounds.iter().map(|(path, _, _)| *path).collect();
        let missing: Vec<_> = fields.iter().filter(|field| !tested.contains(&field.as_str())).collect();
        assert!(missing.is_empty(), "fields of {name} without a bound here: {missing:?}");
    }
}
