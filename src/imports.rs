//! Which file imports which: no two of them in a circle, and no module one that is above it. Reads the sources.
//!
//! A private `use` is an import of the file that defines what is named, whatever re-exports it passes through, and so is a
//! path that begins with `crate`, `super` or `self`. A public `use` only re-exports. Tests may import what they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use reader::{Reader, SourceFile};

mod reader;
#[cfg(test)]
mod tests;

/// What each module may import, besides itself. A module that has no row fails the test: think about where it stands.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // Small, and used by all.
    ("backoff", &[]),
    ("clock", &[]),
    ("connect_error", &[]),
    ("failpoints", &[]),
    ("fairness", &[]),
    ("incidents", &[]),
    ("metrics", &[]),
    ("origin", &[]),
    ("permissions", &[]),
    ("priority", &[]),
    ("rate_limit", &[]),
    ("telemetry", &[]),
    ("tls", &[]),
    // The resource, and what is pure.
    ("api", &[]),
    ("lifecycle", &["api", "backoff", "portal", "priority", "store"]),
    // One for each thing that the operator talks to.
    (
        "portal",
        &[
            "backoff",
            "clock",
            "connect_error",
            "fairness",
            "failpoints",
            "incidents",
            "metrics",
            "origin",
            "priority",
            "tls",
        ],
    ),
    ("store", &["api", "backoff", "connect_error", "fairness", "failpoints", "incidents", "origin", "tls"]),
    (
        "cluster",
        &[
            "api",
            "backoff",
            "clock",
            "fairness",
            "lifecycle",
            "incidents",
            "metrics",
            "permissions",
            "portal",
            "rate_limit",
            "tls",
        ],
    ),
    // In memory.
    ("index", &["fairness"]),
    ("workqueue", &["fairness", "index", "priority"]),
    // Which replica reconciles.
    ("leader", &["clock", "cluster", "incidents", "metrics"]),
    // What joins them.
    (
        "evidence",
        &[
            "api",
            "backoff",
            "clock",
            "cluster",
            "failpoints",
            "fairness",
            "lifecycle",
            "incidents",
            "metrics",
            "portal",
            "priority",
            "store",
        ],
    ),
    (
        "reconcile",
        &[
            "api",
            "backoff",
            "clock",
            "cluster",
            "evidence",
            "failpoints",
            "fairness",
            "index",
            "leader",
            "lifecycle",
            "incidents",
            "metrics",
            "portal",
            "priority",
            "rate_limit",
            "store",
            "workqueue",
        ],
    ),
    ("admin", &["metrics", "telemetry"]),
    ("webhook", &["incidents", "metrics", "portal", "rate_limit"]),
    ("settings", &["api", "origin", "portal", "store", "telemetry", "tls"]),
    (
        "operator",
        &[
            "admin",
            "api",
            "clock",
            "cluster",
            "evidence",
            "fairness",
            "index",
            "leader",
            "metrics",
            "permissions",
            "portal",
            "reconcile",
            "settings",
            "store",
            "telemetry",
            "tls",
            "webhook",
            "workqueue",
        ],
    ),
];

/// Of the modules that talk to somebody, `lifecycle` may import these parts alone, which are pure.
const PURE_PARTS: &[&str] =
    &["portal::allowed", "portal::error", "portal::verification_id", "portal::wire", "store::no_response"];

/// Who alone may name the client of each system, as beginnings of paths of other crates.
const CLIENTS: &[(&str, &str)] =
    &[("kube::Client", "cluster"), ("kube::Api", "cluster"), ("object_store", "store")];

/// A module by its path, such as `portal::budget`.
type Module = Vec<String>;

/// The sources of a crate, by module.
#[derive(Debug, Default)]
struct Sources(BTreeMap<Module, SourceFile>);

impl Sources {
    /// Adds a file.
    fn add(&mut self, module: Module, text: &str) {
        let source = Reader::read(&module, text);
        self.0.insert(module, source);
    }

    /// The module that defines what a path names, re-exports followed.
    fn defining(&self, path: &[String]) -> Option<Module> {
        let mut seen = BTreeSet::new();
        let mut path = path.to_vec();
        'again: loop {
            // An import that leads back to itself names another crate's item, and may grow on the way.
            if !seen.insert(path.clone()) || seen.len() > 16 {
                return None;
            }
            let mut module = Module::new();
            for (index, segment) in path.iter().enumerate() {
                let source = self.0.get(&module)?;
                let mut child = module.clone();
                child.push(segment.clone());
                let is_last = index + 1 == path.len();
                let reexported = source.uses.get(segment).filter(|target| **target != child);
                if self.0.contains_key(&child) && !(is_last && reexported.is_some()) {
                    module = child;
                    continue;
                }
                if source.items.contains(segment) {
                    return Some(module);
                }
                if let Some(target) = reexported {
                    path = target.iter().cloned().chain(path[index + 1..].iter().cloned()).collect();
                    continue 'again;
                }
                return Some(module);
            }
            return Some(module);
        }
    }

    /// Which module imports which.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let targets = |module: &Module, source: &SourceFile| {
            let targets = source.imports.iter().filter_map(|path| self.defining(path));
            targets.filter(|target| target != module && !target.is_empty()).collect()
        };
        self.0.iter().map(|(module, source)| (module, targets(module, source))).collect()
    }

    /// Modules that import each other, each circle once, as the modules on the way.
    fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let reachable_from = |from: &Module| {
            let mut reached = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(module) = open.pop() {
                for next in edges.get(&module).into_iter().flatten() {
                    if reached.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            reached
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> =
            edges.keys().map(|module| (*module, reachable_from(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, others) in &reached {
            let circle: Vec<_> = others.iter().filter(|other| reached[*other].contains(*module)).collect();
            if circle.len() > 1 {
                circles.insert(circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(", "));
            }
        }
        circles.into_iter().collect()
    }

    /// Imports of modules that stand above.
    fn against_the_order(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (module, targets) in self.edges() {
            let Some(top) = module.first() else { continue };
            let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| name == top) else {
                found.push(format!("{top} has no place in the order"));
                continue;
            };
            for target in targets {
                let (path, to) = (target.join("::"), &target[0]);
                let is_pure = top != "lifecycle"
                    || !matches!(to.as_str(), "portal" | "store")
                    || PURE_PARTS.iter().any(|part| path == *part || path.starts_with(&format!("{part}::")));
                if to != top && !(allowed.contains(&to.as_str()) && is_pure) {
                    found.push(format!("{} imports {path}", module.join("::")));
                }
            }
        }
        found
    }

    /// Files that name a client which is another module's.
    fn clients_of_others(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (module, source) in &self.0 {
            for external in &source.externals {
                let begins =
                    |client: &str| external == client || external.starts_with(&format!("{client}::"));
                let is_of_another = |(client, owner): &&(&str, &str)| {
                    begins(client) && module.first().is_none_or(|top| top != owner)
                };
                if CLIENTS.iter().any(|client| is_of_another(&client)) {
                    found.push(format!("{} names {external}", module.join("::")));
                }
            }
            let is_client = |path: &&Module| path.last().is_some_and(|name| name == "PortalClient");
            let may = module.first().is_some_and(|top| matches!(top.as_str(), "portal" | "operator"));
            if !may && source.imports.iter().any(|path| is_client(&path)) {
                found.push(format!("{} imports PortalClient", module.join("::")));
            }
        }
        found
    }
}

/// The sources of this crate, but for tests and the program.
fn sources() -> Sources {
    let mut sources = Sources::default();
    for (module, text) in texts() {
        sources.add(module, &text);
    }
    sources
}

/// The text of each of those files.
fn texts() -> Vec<(Module, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = |file: PathBuf| {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        (module, fs::read_to_string(&file).unwrap())
    };
    files_below(&root).into_iter().map(text).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let is_left_out = |path: &Path| {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        matches!(name, "tests" | "main" | "imports" | "documentation")
    };
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries.filter(|path| !is_left_out(path)) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let sources = sources();
    assert!(sources.0.len() > 100, "{}", sources.0.len());
    let circles = sources.circles();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn no_module_imports_one_that_stands_above_it() {
    let found = sources().against_the_order();
    assert!(found.is_empty(), "{} imports:\n{}", found.len(), found.join("\n"));
}

/// Whether the first lines of a file say what it may depend on.
fn says_what_it_may_depend_on(text: &str) -> bool {
    let first: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let first = first.join(" ");
    ["depend", "Depend", "Pure", "**pure**", "State only", "Types only"]
        .iter()
        .any(|words| first.contains(words))
}

#[test]
fn each_module_and_each_file_with_effects_says_what_it_may_depend_on() {
    let effects = ["reconcile", "evidence", "cluster"];
    let must = |module: &Module| {
        module.len() == 1 || module.first().is_some_and(|top| effects.contains(&top.as_str()))
    };
    let silent: Vec<_> = texts()
        .into_iter()
        .filter(|(module, text)| must(module) && !says_what_it_may_depend_on(text))
        .map(|(module, _)| module.join("::"))
        .collect();
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn each_client_is_named_by_the_module_of_its_system_alone() {
    let found = sources().clients_of_others();
    assert!(found.is_empty(), "{} files:\n{}", found.len(), found.join("\n"));
}
