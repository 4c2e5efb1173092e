//! Kustomize, which gives a generated Secret a name with a hash: `docs/use/finished-checks.md`.

use okid_sandbox::Verdict;

use super::{example, session};
use crate::examples::parse_all;
use crate::harness::{VerificationExt as _, World, new_key};
use crate::manifests::{apply, repository};

/// What the page says about the name of the Secret.
const WITHOUT_HASH: &str = "generatorOptions: {disableNameSuffixHash: true}";
/// Tells Kustomize that a check refers to a Secret.
const REFERENCE: &str = "
nameReference:
- kind: Secret
  version: v1
  fieldSpecs:
  - {kind: Verification, path: spec/apiKeySecretRef/name}
";

/// What Kustomize renders for a check and a Secret with this key, with one more line in the kustomization.
async fn render(world: &World, key: &str, line: &str) -> String {
    let folder = world.folder().join("kustomize");
    std::fs::create_dir_all(&folder).unwrap();
    let kustomization = format!(
        "resources: [check.yaml]\nsecretGenerator: [{{name: okid-api-key, literals: [apiKey={key}]}}]\n{line}\n"
    );
    let files = [
        ("check.yaml", example("verification-minimal.yaml")),
        ("reference.yaml", REFERENCE.to_owned()),
        ("kustomization.yaml", kustomization),
    ];
    for (file, text) in files {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let rendered = world.kubectl(&["kustomize", folder.to_str().unwrap()]).await;
    std::fs::remove_dir_all(folder).unwrap();
    rendered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_secret_without_a_hash_is_found_and_a_new_key_changes_no_check() {
    let page = std::fs::read_to_string(repository("docs/use/finished-checks.md")).unwrap();
    assert!(page.contains(WITHOUT_HASH));
    let world = World::builder().without_secret().start().await;
    let manifest = render(&world, &world.key, WITHOUT_HASH).await;
    apply(&world.cluster, &world.namespace, &manifest).await.unwrap();
    let id = session(&world, "alice").await;
    world.sandbox().finish(&id, Verdict::Verified).unwrap();
    let before = world.until("alice", |seen| seen.status_or_default().settled).await;
    let manifest = render(&world, &new_key(), WITHOUT_HASH).await;
    apply(&world.cluster, &world.namespace, &manifest).await.unwrap();
    assert_eq!(world.get("alice").await.metadata.generation, before.metadata.generation);

    // With a hash in its name, the check does not find the Secret.
    let objects = parse_all(&render(&world, &new_key(), "").await);
    let [secret, check] = &objects[..] else { panic!("a Secret and a check") };
    assert!(secret["metadata"]["name"].as_str().unwrap().starts_with("okid-api-key-"));
    assert_eq!(check["spec"]["apiKeySecretRef"]["name"], "okid-api-key");
    // With a reference it would, but the new name is refused once the check has ended.
    let manifest = render(&world, &new_key(), "configurations: [reference.yaml]").await;
    let refused = apply(&world.cluster, &world.namespace, &manifest).await.unwrap_err();
    assert!(refused.contains("its spec cannot change"), "{refused}");
    world.finish().await;
}
