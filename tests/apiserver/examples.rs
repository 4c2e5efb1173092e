//! The manifests that people copy, applied as they are but for the address of the portal.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use okid_operator::api::Phase;
use okid_sandbox::Verdict;
use serde_json::{Value, json};

use crate::harness::{Seen as _, World};
use crate::manifests::{apply, repository};

/// The line of the full example that names a portal: a comment, because most people do not need it.
const PORTAL: &str = "# portal: https://verify.test.okid.io ";

/// Every file of `examples/` by its name, in order.
fn examples() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(repository("examples")).unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The one object of a manifest.
fn parse(text: &str) -> Value {
    serde_norway::from_str(text).unwrap()
}

/// From the link to the verdict.
async fn goes_the_whole_way(world: &World, name: &str) {
    let invited = world.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    world.sandbox().finish(&invited.id().unwrap(), Verdict::Verified).unwrap();
    let over = world.until(name, |seen| seen.found().settled).await;
    assert!(over.shows(&["Verified=True/Verified", "Finished=True/Verified", "Reconciling=", "Stalled="]));
    assert_eq!((over.phase(), over.id()), (Some(Phase::Verified), invited.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_is_applied_and_every_verification_in_them_goes_the_whole_way() {
    let world = World::builder().without_secret().start().await;
    let mut names = Vec::new();
    // By name: the Secret comes first.
    for (file, text) in examples() {
        let object = parse(&text);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(object["metadata"].get("namespace").is_none(), "{file} names a namespace");
        let said = apply(world.cluster, &world.namespace, &text).await;
        assert!(
            said.as_ref().is_ok_and(|said| said.contains(&format!("/{name} created"))),
            "{file}: {said:?}"
        );
        match object["kind"].as_str().unwrap() {
            "Secret" => {
                let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
                let data = secrets.get(&name).await.unwrap().data.unwrap();
                let key = String::from_utf8(data["apiKey"].0.clone()).unwrap();
                world.sandbox().add_key(&key);
            }
            "Verification" => names.push(name),
            kind => panic!("{file} is of the kind {kind}, and this test knows nothing to expect of it"),
        }
    }
    assert!(names.len() >= 2);
    for name in &names {
        goes_the_whole_way(&world, name).await;
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_full_example_does_what_its_comments_say() {
    let world = World::builder().portals(2).start().await;
    let text = &examples()["verification-full.yaml"];
    assert!(text.contains(PORTAL), "{text}");
    let portal = world.portal(1).url();
    let text = text.replace(PORTAL, &format!("portal: {portal} "));
    apply(world.cluster, &world.namespace, &text).await.unwrap();

    let name = parse(&text)["metadata"]["name"].as_str().unwrap().to_owned();
    let ready = world.until(&name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(ready.shows(&["Ready=True/SessionCreated", "Reconciling=", "Stalled="]));
    let id = ready.id().unwrap();
    assert_eq!(ready.found().portal_url.unwrap(), format!("{portal}/?verification_id={id}&mode=select"));
    assert_eq!((world.portal(0).session_count(), world.portal(1).session_count()), (0, 1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_full_example_names_every_field_of_the_spec_and_every_default_it_speaks_of() {
    let world = World::builder().without_operator().start().await;
    let full =
        parse(&examples()["verification-full.yaml"].replace(PORTAL, "portal: https://verify.test.okid.io "));
    let definition = okid_operator::api::definition();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let known = schema.properties.as_ref().unwrap()["spec"].properties.as_ref().unwrap();
    for field in known.keys().filter(|field| *field != "adopt") {
        assert!(full["spec"].get(field).is_some(), "{field} is missing; only adopt is for another story");
    }

    let minimal = &examples()["verification-minimal.yaml"];
    apply(world.cluster, &world.namespace, minimal).await.unwrap();
    let name = parse(minimal)["metadata"]["name"].as_str().unwrap().to_owned();
    let spec = serde_json::to_value(world.get(&name).await.spec).unwrap();
    let defaults =
        json!({"key": "apiKey", "mode": "Direct", "readyWhen": "Verified", "onUnknownOutcome": "Retry"});
    for (field, default) in defaults.as_object().unwrap() {
        let found = spec.get(field).unwrap_or(&spec["apiKeySecretRef"][field]);
        assert_eq!(found, default, "{field}");
    }
    world.finish().await;
}
