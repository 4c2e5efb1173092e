//! The manifests that people copy, applied unchanged except for the address of the portal and the destination of the
//! evidence.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use okid_operator::{
    api::{ObjectState, Phase, Verification},
    evidence::Manifest,
    permissions::{Permission, RUN, Scope},
    store::{Endpoints, HttpSettings, Location, Options, RetryPolicy, StoreHttp, Stores, sha256_hex},
    tls::client_config,
};
use okid_sandbox::Verdict;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::harness::{Cluster, Launch, SECRET, VerificationExt as _, World, holds, until};
use crate::manifests::{apply, kubectl, repository};

/// The line of the full example that names a portal: a comment, because most people do not need it.
const PORTAL: &str = "# portal: https://verify.test.okid.io ";
/// The Secret after a rotation.
const ROTATED: &str = "okid-rotated-key";
/// The store named by the example without credentials.
const STORE: &str = "evidence";
/// Placeholder values.
const PLAIN: [&str; 2] = ["aws_region", "aws_checksum_algorithm"];

/// Every file of `examples/` by its name, in order. Its folders are not for kubectl.
fn examples() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(repository("examples")).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The objects of a manifest.
pub(crate) fn parse_all(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// The one object of a manifest.
pub(crate) fn parse(text: &str) -> Value {
    let [object] = parse_all(text).try_into().unwrap();
    object
}

/// Every object of that kind in the examples.
fn of_kind(kind: &str) -> Vec<Value> {
    let all = examples().into_values().flat_map(|text| parse_all(&text));
    all.filter(|object| object["kind"] == kind).collect()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The store `evidence` as a folder of the world, and the options of an operator that knows it.
fn folder_store(world: &World) -> (PathBuf, Launch) {
    let (folder, file) = (world.folder().join("evidence"), world.folder().join("stores.yaml"));
    std::fs::create_dir(&folder).unwrap();
    let store = json!({"name": STORE, "url": format!("file://{}", folder.display()), "namespaces": ["*"]});
    std::fs::write(&file, json!({"stores": [store]}).to_string()).unwrap();
    (folder, Launch::new().flags(["--stores-file", file.to_str().unwrap()]))
}

/// Finishes a check from its link to the verdict, and to the evidence where it is requested.
async fn finishes(world: &World, name: &str, folder: &Path) {
    let invited = world.until(name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    let evidence = invited.spec.evidence.clone();
    let before = if evidence.is_some() { "EvidenceStored=Unknown/NotStarted" } else { "EvidenceStored=" };
    assert!(invited.shows(&[before]), "{name}");
    world.sandbox().finish(&invited.id().unwrap(), Verdict::Verified).unwrap();
    let is_over = |seen: &Verification| {
        let is_settled = seen.status_or_default().settled;
        seen.phase() == Some(Phase::Verified) && is_settled == seen.spec.ttl_after_finished.is_none()
    };
    let finished = world.until(name, is_over).await;
    let planned = finished.spec.ttl_after_finished.map_or("CleanupReady=", |_| "CleanupReady=True/Scheduled");
    assert!(finished.shows(&[
        planned,
        "Verified=True/Verified",
        "Finished=True/Verified",
        "Reconciling=",
        "Stalled="
    ]));
    assert_eq!((finished.phase(), finished.id()), (Some(Phase::Verified), invited.id()));
    match evidence {
        Some(evidence) => {
            assert!(finished.shows(&["EvidenceStored=True/Stored"]), "{name}");
            is_stored(&finished, evidence.images.len() + usize::from(evidence.results), folder);
        }
        None => assert!(finished.shows(&["EvidenceStored="]), "{name}"),
    }
}

/// Checks that the store has that many objects, as status and manifest say.
fn is_stored(finished: &Verification, count: usize, folder: &Path) {
    let evidence = finished.status_or_default().evidence.unwrap();
    let inside = PathBuf::from(evidence.prefix.strip_prefix("file://").unwrap());
    assert!(inside.starts_with(folder), "{}", inside.display());
    let manifest = std::fs::read(inside.join("manifest.json")).unwrap();
    assert_eq!(evidence.manifest_sha256, Some(sha256_hex(&manifest)));
    let manifest = Manifest::parse(&manifest).unwrap();
    assert_eq!(manifest.objects().len(), count);
    for object in manifest.objects() {
        assert_eq!(object.state, ObjectState::Stored, "{}", object.key);
        let bytes = std::fs::read(inside.join(&object.key)).unwrap();
        assert_eq!(object.sha256, Some(sha256_hex(&bytes)), "{}", object.key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_can_be_applied_and_each_verification_in_it_finishes() {
    let mut world = World::builder().without_secret().without_operator().start().await;
    let (folder, launch) = folder_store(&world);
    let mut names = Vec::new();
    for (file, text) in examples() {
        let result = apply(&world.cluster, &world.namespace, &text).await;
        for object in parse_all(&text) {
            let name = name(&object);
            assert!(object["metadata"].get("namespace").is_none(), "{file} names a namespace");
            assert!(
                result.as_ref().is_ok_and(|output| output.contains(&format!("/{name} created"))),
                "{file}: {result:?}"
            );
            match object["kind"].as_str().unwrap() {
                "Secret" => {}
                "Verification" => {
                    if object["spec"]["evidence"]["destination"]["url"].is_string() {
                        // The bucket does not exist; everything else stays as in the example.
                        let elsewhere = json!({"url": null, "credentialsSecretRef": null, "store": STORE});
                        world.patch_spec(&name, json!({"evidence": {"destination": elsewhere}})).await;
                    }
                    names.push(name);
                }
                kind => panic!("{file} is of the kind {kind}, and this test knows nothing to expect of it"),
            }
        }
    }
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let data = secrets.get(SECRET).await.unwrap().data.unwrap();
    world.sandbox().add_key(&String::from_utf8(data["apiKey"].0.clone()).unwrap());
    let rotated = secrets.get(ROTATED).await.unwrap().data.unwrap();
    world.sandbox().add_key(&String::from_utf8(rotated["apiKey"].0.clone()).unwrap());
    world.start(launch).await;
    assert!(names.len() >= 8);
    join_all(names.iter().map(|name| finishes(&world, name, &folder))).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_full_example_does_what_its_comments_say() {
    let world = World::builder().portals(2).start().await;
    let text = &examples()["verification-full.yaml"];
    assert!(text.contains(PORTAL), "{text}");
    let portal = world.portal(1).url();
    let text = text.replace(PORTAL, &format!("portal: {portal} "));
    apply(&world.cluster, &world.namespace, &text).await.unwrap();

    let name = name(&parse(&text));
    let ready = world.until(&name, |seen| seen.phase() == Some(Phase::AwaitingUser)).await;
    assert!(ready.shows(&["Ready=True/SessionCreated", "Reconciling=", "Stalled="]));
    let id = ready.id().unwrap();
    assert_eq!(
        ready.status_or_default().portal_url.unwrap(),
        format!("{portal}/?verification_id={id}&mode=select")
    );
    assert_eq!((world.portal(0).session_count(), world.portal(1).session_count()), (0, 1));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_full_example_has_every_field_of_the_spec_and_names_the_right_defaults() {
    let world = World::builder().without_operator().start().await;
    let full =
        parse(&examples()["verification-full.yaml"].replace(PORTAL, "portal: https://verify.test.okid.io "));
    let definition = serde_json::to_value(okid_operator::api::definition()).unwrap();
    let known = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    // These two exclude other fields.
    let left_out = ["spec.adopt", "spec.evidence.destination.store"];
    let missing: Vec<_> = unnamed("spec", known, &full["spec"])
        .into_iter()
        .filter(|field| !left_out.contains(&field.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");

    let minimal = &examples()["verification-minimal.yaml"];
    apply(&world.cluster, &world.namespace, minimal).await.unwrap();
    let spec = applied(&world, &name(&parse(minimal))).await;
    let defaults =
        json!({"key": "apiKey", "mode": "Direct", "readyWhen": "Verified", "onUnknownOutcome": "Retry"});
    for (field, default) in defaults.as_object().unwrap() {
        let found = spec.get(field).unwrap_or(&spec["apiKeySecretRef"][field]);
        assert_eq!(found, default, "{field}");
    }

    let evidence = json!({"images": [{"kind": "Front"}], "destination": {"store": STORE}});
    world.apply("evidence", json!({"evidence": evidence})).await;
    let evidence = applied(&world, "evidence").await["evidence"].clone();
    let item = json!({"kind": "Front", "imageType": "original", "required": false});
    assert_eq!(evidence["images"], json!([item]));
    assert_eq!((&evidence["results"], &evidence["outcomes"]), (&json!(false), &json!(["Verified"])));
    assert_eq!(evidence["deletionPolicy"], "Retain");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reads_the_definition_without_a_difference() {
    let cluster = Cluster::shared().await;
    let text = std::fs::read_to_string(repository("crds/verifications.okid.io.yaml")).unwrap();
    let arguments = ["create", "--dry-run=client", "--validate=false", "--output", "json", "--filename", "-"];
    let read = kubectl(cluster, "default", &arguments, &text).await.unwrap();
    let definition: CustomResourceDefinition = serde_json::from_str(&read).unwrap();
    assert!(definition.spec == okid_operator::api::definition().spec, "kubectl reads {read}");
}

/// The fields of a schema that an object lacks, as paths. In a list, one entry must have them.
fn unnamed(path: &str, schema: &Value, object: &Value) -> Vec<String> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields
        .flat_map(|(field, schema)| {
            let path = format!("{path}.{field}");
            match (object.get(field), schema["items"]["properties"].as_object()) {
                (None, _) => vec![path],
                (Some(Value::Array(entries)), Some(fields)) => fields
                    .keys()
                    .filter(|field| entries.iter().all(|entry| entry.get(field.as_str()).is_none()))
                    .map(|field| format!("{path}.{field}"))
                    .collect(),
                (Some(value), _) => unnamed(&path, schema, value),
            }
        })
        .collect()
}

/// The spec as the API server returns it, defaults included.
async fn applied(world: &World, name: &str) -> Value {
    let text = world.kubectl(&["get", "verification", name, "--output", "json"]).await;
    serde_json::from_str::<Value>(&text).unwrap()["spec"].take()
}

/// The options in the Secret of a destination.
fn read_options(destination: &Value, secret: &Value, endpoints: &[&str]) -> Result<Options, String> {
    let location = Location::parse(destination["url"].as_str().unwrap()).unwrap();
    let data = secret["stringData"].as_object().unwrap();
    let entries = data.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap().as_bytes()));
    Options::of_secret(location.scheme(), entries, &Endpoints::new(endpoints).unwrap())
        .map_err(|error| error.to_string())
}

#[test]
fn the_credentials_of_every_example_have_the_right_keys_and_placeholder_values() {
    let secrets: BTreeMap<_, _> =
        of_kind("Secret").into_iter().map(|secret| (name(&secret), secret)).collect();
    let mut schemes = Vec::new();
    for verification in of_kind("Verification") {
        let destination = &verification["spec"]["evidence"]["destination"];
        let Some(secret) = destination["credentialsSecretRef"]["name"].as_str() else { continue };
        let read = read_options(destination, &secrets[secret], &[]);
        assert!(read.is_ok(), "{secret}: {read:?}");
        schemes.push(destination["url"].as_str().unwrap()[..2].to_owned());
    }
    schemes.sort();
    schemes.dedup();
    assert_eq!(schemes, ["az", "gs", "s3"]);
    for (name, secret) in &secrets {
        for (key, value) in secret["stringData"].as_object().unwrap() {
            let is_placeholder = value.as_str().unwrap().contains("your");
            assert!(is_placeholder || PLAIN.contains(&key.as_str()), "{name}: {key}");
        }
    }
}

#[test]
fn the_endpoint_in_the_comment_needs_an_administrator_that_allows_it() {
    let text = examples()["evidence-s3.yaml"].replace("# aws_endpoint:", "aws_endpoint:");
    let objects = parse_all(&text);
    let (secret, destination) = (&objects[0], &objects[1]["spec"]["evidence"]["destination"]);
    assert!(secret["stringData"]["aws_endpoint"].is_string(), "{text}");
    let refused = read_options(destination, secret, &[]).unwrap_err();
    assert_eq!(refused, "aws_endpoint is not on the list of allowed endpoints");
    assert!(read_options(destination, secret, &["https://minio.example"]).is_ok());
}

#[test]
fn the_example_stores_work_with_the_workload_identity_of_each_cloud() {
    let file = "examples/operator/stores.yaml";
    let text = std::fs::read_to_string(repository(file)).unwrap();
    let http = StoreHttp::new(&HttpSettings::default(), client_config(None).unwrap()).unwrap();
    // The variables that the clouds' webhooks add to a pod.
    let identity = [
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/okid-operator"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
        ("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000000"),
        ("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
    ];
    let identity = identity.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for environment in [&identity[..], &[]] {
        let stores = Stores::read(file, &text, environment, &http, RetryPolicy::default()).unwrap();
        let names: Vec<_> = stores.names().collect();
        assert_eq!(names, ["evidence", "evidence-azure", "evidence-gcs", "folder"]);
        assert!(stores.find("evidence", "team-b").is_ok());
        assert!(stores.find("evidence", "team-c").is_err());
        assert!(stores.find("folder", "team-c").is_ok());
    }
    let named: Vec<_> = of_kind("Verification")
        .iter()
        .filter_map(|object| object["spec"]["evidence"]["destination"]["store"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(named, [STORE]);
}

fn rbac_example() -> String {
    std::fs::read_to_string(repository("examples/operator/rbac.yaml")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_role_binding_grants_its_account_exactly_these_permissions() {
    let cluster = Cluster::shared().await;
    apply(cluster, "okid-operator", &rbac_example()).await.unwrap();
    let may = async |namespace: &str, (group, resource, verb): (&str, &str, &str)| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        // The permission is for one Lease; nobody can create under a name that is known beforehand.
        let name = if resource == "leases" && verb != "create" { "/okid-operator" } else { "" };
        let resource = format!("{}{name}", format!("{resource}.{group}").trim_end_matches('.'));
        let subresource = format!("--subresource={subresource}");
        let account = "--as=system:serviceaccount:okid-operator:okid-operator";
        let question = ["auth", "can-i", verb, &resource, &subresource, account];
        kubectl(cluster, namespace, &question, "").await.is_ok()
    };
    let needed = |permission: &Permission| (permission.api_group, permission.resource, permission.verb);
    for permission in RUN {
        let namespace = match permission.scope {
            Scope::WatchedNamespaces => "default",
            Scope::OwnNamespace => "okid-operator",
        };
        let is_granted = async || holds(may(namespace, needed(permission)).await);
        until(is_granted, |()| format!("the API server does not grant {permission:?}")).await;
    }
    let never = [("", "secrets", "list"), ("okid.io", "verifications", "delete"), ("", "pods", "get")];
    let for_leases = RUN.iter().filter(|permission| permission.is_for_leader_election()).map(needed);
    for permission in never.into_iter().chain(for_leases) {
        assert!(!may("default", permission).await, "{permission:?}");
    }
}
