//! Runs Helm. Touches processes and the file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, OnceLock};

use control_plane::{KubernetesVersion, Progress};
use serde::Deserialize as _;
use serde_json::Value;

/// The name of the release and its namespace, as in the documentation.
pub(crate) const RELEASE: &str = "okid-operator";

/// Helm, where `cargo xtask test` has built it.
const HELM: &str = "OKID_TEST_HELM";

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os(HELM) {
    Some(path) => path.into(),
    None => control_plane::helm(Progress::detect()).expect("build helm"),
});

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    repository("charts/okid-operator")
}

/// A file of the chart.
pub(crate) fn read(path: &str) -> String {
    let path = chart().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the files with values, without `-values.yaml`.
pub(crate) fn cases() -> Vec<String> {
    let files = std::fs::read_dir(chart().join("ci")).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> =
        files.filter_map(|name| Some(name.to_str()?.strip_suffix("-values.yaml")?.to_owned())).collect();
    names.sort();
    names
}

/// The file with the values of a case.
pub(crate) fn values_file(case: &str) -> PathBuf {
    chart().join(format!("ci/{case}-values.yaml"))
}

/// What the chart renders.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    /// The documents, with their comments.
    pub(crate) documents: Vec<Document>,
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) object: Value,
}

impl Document {
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap()
    }

    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap()
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// An annotation; empty if there is none.
    pub(crate) fn annotation(&self, name: &str) -> &str {
        self.object["metadata"]["annotations"][name].as_str().unwrap_or_default()
    }
}

impl Rendered {
    /// Reads the documents of a manifest.
    pub(crate) fn parse(text: &str) -> Self {
        let parts = text.split("\n---").map(|text| text.trim_start_matches("---"));
        let documents = parts.filter_map(|text| {
            let document = serde_norway::Deserializer::from_str(text).next()?;
            let object = Value::deserialize(document).unwrap_or_else(|error| panic!("{error}: {text}"));
            object.is_object().then(|| Document { text: text.to_owned(), object })
        });
        Self { documents: documents.collect() }
    }

    /// The objects of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Document> {
        self.documents.iter().filter(|document| document.kind() == kind).collect()
    }

    /// The only object of that kind and name.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Document> {
        self.documents.iter().find(|document| (document.kind(), document.name()) == (kind, name))
    }

    /// The operator's Deployment.
    pub(crate) fn deployment(&self) -> &Value {
        let is_operator = |document: &&&Document| {
            document.object["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
        };
        &self.of_kind("Deployment").iter().find(is_operator).expect("there is a Deployment").object
    }

    /// The operator's container.
    pub(crate) fn container(&self) -> &Value {
        &self.deployment()["spec"]["template"]["spec"]["containers"][0]
    }

    /// The arguments of the operator.
    pub(crate) fn arguments(&self) -> Vec<String> {
        texts(&self.container()["args"])
    }

    /// The values of a flag that may be repeated.
    pub(crate) fn flags(&self, flag: &str) -> Vec<String> {
        let prefix = format!("{flag}=");
        let arguments = self.arguments();
        arguments.iter().filter_map(|argument| argument.strip_prefix(&prefix).map(str::to_owned)).collect()
    }
}

/// The strings of a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Helm, which touches no file of the user.
pub(crate) fn helm(arguments: &[&str]) -> Command {
    static HOME: OnceLock<tempfile::TempDir> = OnceLock::new();
    let home = HOME.get_or_init(|| tempfile::tempdir().expect("make a folder"));
    let mut helm = Command::new(&*PROGRAM);
    helm.args(arguments).current_dir(home).env("KUBECONFIG", "/dev/null");
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        helm.env(folder, home.path().join(folder));
    }
    helm
}

/// What a command prints, or its error output.
pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().expect("run a program");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
}

/// Renders the chart with these arguments, for a cluster with prometheus-operator.
pub(crate) fn template(arguments: &[&str]) -> Result<String, String> {
    let chart = chart();
    let version = KubernetesVersion::NEWEST.as_str();
    let fixed =
        ["template", RELEASE, chart.to_str().unwrap(), "--namespace", RELEASE, "--kube-version", version];
    output(helm(
        &[
            &fixed[..],
            &["--api-versions", "monitoring.coreos.com/v1", "--api-versions", "gateway.networking.k8s.io/v1"],
            arguments,
        ]
        .concat(),
    ))
}

/// Renders the chart with further values, such as `replicas=3`.
pub(crate) fn render_with(case: &str, set: &[&str]) -> Result<Rendered, String> {
    let file = values_file(case);
    let mut arguments = vec!["--values", file.to_str().unwrap()];
    for value in set {
        arguments.extend(["--set-json", value]);
    }
    template(&arguments).map(|text| Rendered::parse(&text))
}

/// What the chart renders in each case.
pub(crate) fn rendered() -> &'static BTreeMap<String, Rendered> {
    static RENDERED: OnceLock<BTreeMap<String, Rendered>> = OnceLock::new();
    RENDERED.get_or_init(|| {
        let render = |case: String| {
            let rendered = render_with(&case, &[]).unwrap_or_else(|error| panic!("{case}: {error}"));
            (case, rendered)
        };
        cases().into_iter().map(render).collect()
    })
}

/// What the chart renders in one case.
pub(crate) fn case(name: &str) -> &'static Rendered {
    &rendered()[name]
}
