//! The page about the installation: its values, its list of images and its versions are those of the chart.

use std::collections::BTreeSet;

use control_plane::{Folder, KubernetesVersion};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::helm::{RELEASE, Rendered, case, chart, helm, read, repository, template, texts};
use crate::objects::{kubectl, restricted, run};
use crate::release::get;
use crate::release::{kubectl_in, until_served};

fn page() -> String {
    std::fs::read_to_string(repository("docs/install.md")).unwrap()
}

/// The text of a section.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{heading}"));
    rest.split("\n## ").next().unwrap()
}

/// The blocks of code in a text, without their indentation.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(code) => {
                let block = blocks.last_mut().unwrap();
                *block += code;
                block.push('\n');
            }
            None if line.is_empty() => blocks.last_mut().unwrap().push('\n'),
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.trim().is_empty());
    blocks
}

/// The values in a text. A block may have those of several releases, each after a comment.
fn values(text: &str) -> Vec<String> {
    let is_values = |block: &String| {
        let value: Result<Value, _> = serde_norway::from_str(block);
        value.is_ok_and(|value| value.is_object())
    };
    let releases = blocks(text).into_iter().flat_map(|block| {
        let releases = block.replace("\n# ", "\n---\n# ");
        releases.split("\n---\n").map(str::to_owned).collect::<Vec<_>>()
    });
    releases.filter(is_values).collect()
}

/// Writes values to a file.
fn file(folder: &Folder, values: &str) -> String {
    let path = folder.path().join("values.yaml");
    std::fs::write(&path, values).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn all_values_on_the_page_are_values_of_the_chart() {
    let folder = Folder::create("okid-chart-").unwrap();
    let all = values(&page());
    assert!(all.len() >= 8, "{all:?}");
    for values in all {
        let rendered = template(&["--values", &file(&folder, &values)]);
        assert!(rendered.is_ok(), "{values}\n{rendered:?}");
    }
}

/// The images of all containers.
fn images(rendered: &Rendered) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for document in &rendered.documents {
        let spec = &document.object["spec"];
        for pod in [spec, &spec["template"]["spec"]] {
            for container in pod["containers"].as_array().into_iter().flatten() {
                images.insert(container["image"].as_str().unwrap().to_owned());
            }
        }
    }
    images
}

#[test]
fn the_images_for_an_air_gap_and_those_of_the_chart_are_listed() {
    let rendered = images(case("sandbox"));
    assert_eq!(rendered.len(), 2, "{rendered:?}");
    let page = page();
    let rows = section(&page, "Air gap").lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let listed: BTreeSet<_> = rows.map(|(image, _)| image.to_owned()).collect();
    assert_eq!(listed, rendered);

    let chart: Value = serde_norway::from_str(&read("Chart.yaml")).unwrap();
    let annotation = chart["annotations"]["artifacthub.io/images"].as_str().unwrap();
    let annotated: Vec<Value> = serde_norway::from_str(annotation).unwrap();
    let annotated: BTreeSet<_> =
        annotated.iter().map(|entry| entry["image"].as_str().unwrap().to_owned()).collect();
    assert_eq!(annotated, rendered);
}

#[test]
fn the_page_and_the_chart_name_the_supported_versions_of_kubernetes() {
    let [oldest, ..] = KubernetesVersion::SUPPORTED;
    let chart: Value = serde_norway::from_str(&read("Chart.yaml")).unwrap();
    assert_eq!(chart["kubeVersion"], format!(">={}.0-0", oldest.minor()));
    let page = page();
    assert!(page.contains(&format!("needs Kubernetes {} or newer", oldest.minor())));
    let versions = section(&page, "Supported versions");
    for version in KubernetesVersion::SUPPORTED {
        let row = format!("\n| {} | {} | ", version.minor(), version.as_str().trim_start_matches('v'));
        assert!(versions.contains(&row), "{version}");
    }
}

/// What Artifact Hub reads of the repository, and the example that it shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_artifact_hub_shows_is_well_formed_and_its_example_is_accepted() {
    let repository = std::fs::read_to_string(repository("charts/artifacthub-repo.yml")).unwrap();
    let repository: Value = serde_norway::from_str(&repository).unwrap();
    assert_eq!(repository["ignore"][0]["name"], RELEASE);

    let cluster = crate::objects::cluster().await;
    cluster.install_definition().await;
    let chart: Value = serde_norway::from_str(&read("Chart.yaml")).unwrap();
    let annotations = chart["annotations"].as_object().unwrap();
    let list = |name: &str| -> Vec<Value> {
        serde_norway::from_str(annotations[&format!("artifacthub.io/{name}")].as_str().unwrap()).unwrap()
    };
    for example in list("crdsExamples") {
        let apply = ["apply", "--dry-run=server", "--validate=strict", "--filename", "-"];
        let (_, errors, succeeded) = kubectl(cluster, &apply, &example.to_string());
        assert!(succeeded && errors.is_empty(), "{errors}");
    }
    let definition = okid_operator::api::definition();
    let [shown] = list("crds").try_into().unwrap();
    assert_eq!(shown["name"], definition.metadata.name.unwrap());
    assert_eq!(shown["kind"], definition.spec.names.kind);
    assert_eq!(shown["version"], definition.spec.versions[0].name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_releases_on_the_page_share_a_cluster_and_each_resource_belongs_to_one_of_them() {
    let cluster = Cluster::start().await;
    let folder = Folder::create("okid-chart-").unwrap();
    let chart = chart().to_str().unwrap().to_owned();
    let page = page();
    let releases = values(section(&page, "Several releases"));
    assert_eq!(releases.len(), 3, "{releases:?}");
    let mut selectors = Vec::new();
    let mut leases = BTreeSet::new();
    for (index, values) in releases.iter().enumerate() {
        let (name, values) = (format!("okid-{index}"), file(&folder, values));
        let namespace = format!("namespace-{}", index % 2);
        restricted(&cluster, &namespace);
        let install = ["install", &name, &chart, "--namespace", &namespace, "--values", &values];
        let mut command = helm(&install);
        command.env("KUBECONFIG", cluster.kubeconfig());
        let (_, errors, succeeded) = run(command, "");
        assert!(succeeded && errors.is_empty(), "{name}: {errors}");
        let rendered = Rendered::parse(&template(&["--values", &values]).unwrap());
        selectors.extend(rendered.flags("--selector"));
        let deployments = get(&cluster, &namespace, "deployments");
        for deployment in deployments["items"].as_array().unwrap() {
            let arguments = texts(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]);
            let lease = arguments.iter().find(|argument| argument.starts_with("--leader-lease-name="));
            leases.insert((namespace.clone(), lease.unwrap().clone()));
        }
    }
    assert_eq!(leases.len(), 3, "{leases:?}");

    until_served(&cluster);
    let labels =
        [json!({"sharding.fluxcd.io/key": "shard1"}), json!({"sharding.fluxcd.io/key": "shard2"}), json!({})];
    for (index, labels) in labels.iter().enumerate() {
        let manifest = json!({
            "apiVersion": "okid.io/v1alpha1", "kind": "Verification",
            "metadata": {"name": format!("shard-{index}"), "labels": labels},
            "spec": {"apiKeySecretRef": {"name": "okid-api-key"}},
        });
        kubectl_in(&cluster, &["apply", "--filename", "-"], &manifest.to_string());
    }
    for (index, selector) in selectors.iter().enumerate() {
        let get = ["get", "verifications", "--selector", selector, "--output", "name"];
        let selected = kubectl_in(&cluster, &get, "");
        assert_eq!(selected.trim(), format!("verification.okid.io/shard-{index}"), "{selector}");
    }
}
