//! The module has no effects: the paths that its files name are compared with what a pure file may name.
//!
//! A path counts if its root is `crate`, the standard library or a dependency of the package. The lists name what is
//! allowed, so anything new is refused until somebody decides about it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What may be named, as prefixes of paths.
struct Allowed {
    what: &'static str,
    paths: &'static [&'static str],
}

const LIFECYCLE: Allowed = Allowed {
    what: "src/lifecycle",
    paths: &[
        "crate::api",
        "crate::backoff",
        "crate::store::no_response",
        "crate::lifecycle",
        "crate::portal::allowed",
        "crate::portal::error",
        "crate::portal::verification_id",
        "crate::portal::wire",
        "crate::priority",
        "jiff::SignedDuration",
        "jiff::Timestamp",
        "std::collections::BTreeMap",
        "std::fmt",
        "std::hash::DefaultHasher",
        "std::hash::Hash",
        "std::hash::Hasher",
        "std::num",
        // Shared and never changed, so a value like any other.
        "std::sync::Arc",
        "std::time::Duration",
    ],
};

const PORTAL_FILES: Allowed = Allowed {
    what: "the pure files of src/portal",
    paths: &[
        "crate::origin",
        "jiff::Timestamp",
        "serde::",
        "serde_json::from_",
        "serde_json::value",
        "std::collections::BTreeMap",
        "std::fmt",
        "std::sync::Arc",
        "std::time::Duration",
        "super::error",
        "super::verification_id",
        "super::wire",
        "thiserror::Error",
        "url::Url",
    ],
};

const API: Allowed = Allowed {
    what: "src/api",
    paths: &[
        "jiff::Timestamp",
        "k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1",
        "kube::CustomResource",
        "kube::CustomResourceExt",
        "schemars::",
        "serde::",
        "serde_json::json",
        "serde_norway::",
        "std::borrow::Cow",
        "std::collections::BTreeMap",
        "std::fmt",
        "std::ops::Not",
        "std::str::FromStr",
        "std::time::Duration",
        "thiserror::Error",
    ],
};

/// Effects that need no path.
const EFFECTS: &[&str] = &[
    "async ",
    ".await",
    "unsafe",
    "static mut",
    "thread_local!",
    "Timestamp::now",
    "Zoned::now",
    "super::super",
    "Instant",
    "SystemTime",
    "print!",
    "println!",
    "eprintln!",
    "dbg!",
    "env!",
    "include_",
    "RandomState",
];

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names with which paths into other crates begin.
fn crates() -> BTreeSet<String> {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).unwrap();
    let own = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names = own.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let mut crates: BTreeSet<String> =
        names.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect();
    assert!(crates.contains("tokio") && crates.contains("k8s_openapi"), "{crates:?}");
    crates.extend(["crate", "super", "std", "core", "alloc"].map(str::to_owned));
    crates
}

/// The program text of a file: no comments, and not the tests at its end.
fn program(source: &str) -> String {
    let program = source.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = program.lines().map(|line| line.split("//").next().unwrap_or_default());
    // A `//` in a string cuts off the rest of its line, which holds no path.
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path of the program, with the braces of `use` expanded.
fn paths(program: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = program;
    while let Some(at) = rest.find("use ") {
        let begins = rest[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        rest = &rest[at + 4..];
        if begins && let Some((tree, tail)) = rest.split_once(';') {
            flatten("", tree, &mut found);
            rest = tail;
        }
    }
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(
        program
            .split(|c| !in_path(c))
            .filter(|word| word.contains("::") && !word.ends_with("::"))
            .map(str::to_owned),
    );
    found
}

fn flatten(before: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((stem, inner)) = tree.split_once('{') else {
        found.push(format!("{before}{tree}"));
        return;
    };
    let inner = &inner[..inner.rfind('}').unwrap_or(inner.len())];
    let mut depth = 0;
    let parts = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        flatten(&format!("{before}{}", stem.trim()), part, found);
    }
}

/// The paths of a file that are not allowed.
fn faults(source: &str, allowed: &Allowed, crates: &BTreeSet<String>) -> Vec<String> {
    // The version of the package is a constant of the build, not of its environment.
    let program = program(&source.replace(r#"env!("CARGO_PKG_VERSION")"#, "\"\""));
    let mut faults: Vec<String> = EFFECTS
        .iter()
        .filter(|effect| program.contains(**effect))
        .map(|effect| (*effect).to_owned())
        .collect();
    for path in paths(&program) {
        let root = path.split("::").next().unwrap_or_default();
        // Everything within the module may be named; `super::super` would lead out of it.
        let of_the_module = root == "super" && allowed.what != PORTAL_FILES.what;
        if !crates.contains(root) || of_the_module {
            continue;
        }
        if !allowed.paths.iter().any(|beginning| path.starts_with(beginning)) {
            faults.push(path);
        }
    }
    faults
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                found.extend(files_below(&path));
            }
        } else {
            found.push(path);
        }
    }
    found
}

#[track_caller]
fn assert_pure(files: &[PathBuf], allowed: &Allowed) {
    let crates = crates();
    for file in files {
        let source = fs::read_to_string(file).unwrap();
        let faults = faults(&source, allowed, &crates);
        assert!(faults.is_empty(), "{} is not a pure file of {}: {faults:?}", file.display(), allowed.what);
    }
}

#[test]
fn the_lifecycle_is_pure() {
    let files = files_below(&package().join("src/lifecycle"));
    assert!(files.len() >= 15, "{files:?}");
    assert!(files.iter().any(|file| file.ends_with("conclude/poll.rs")), "{files:?}");
    assert_pure(&files, &LIFECYCLE);
}

#[test]
fn the_portal_files_that_the_lifecycle_uses_are_pure() {
    let words =
        ["origin.rs", "portal/allowed.rs", "portal/error.rs", "portal/verification_id.rs", "portal/wire.rs"];
    assert_pure(&words.map(|file| package().join("src").join(file)), &PORTAL_FILES);
}

#[test]
fn the_api_touches_nothing() {
    let files = files_below(&package().join("src/api"));
    assert!(files.len() >= 6, "{files:?}");
    assert_pure(&files, &API);
}

#[test]
fn what_a_pure_file_may_not_name_is_found() {
    let crates = crates();
    for impure in [
        "use kube::Client;",
        "use std::{fs, time::Duration};",
        "use std::time::{Duration, Instant};",
        "use crate::{api::Phase, portal::{error::PortalError, client::PortalClient}};",
        "use crate::portal::PortalError;",
        "fn f() { crate::reconcile::driver(); }",
        "fn f() { tracing::info!(\"x\"); }",
        "fn f() -> u32 { rand::random() }",
        "let now = Timestamp::now();",
        "fn f() { jiff::Zoned::default(); }",
        "async fn f() {}",
        "f().await;",
        "let path = std::env::var(\"PATH\");",
        "println!(\"x\");",
        "fn f() { super::super::reconcile::take(); }",
        "use reqwest::{self};",
        "pub use tokio::time::sleep;",
    ] {
        assert!(!faults(impure, &LIFECYCLE, &crates).is_empty(), "{impure}");
    }
    for pure in [
        "use std::time::Duration;",
        "use crate::{\n    api::{Phase, Reason},\n    portal::{error::PortalError, wire::{Created, Details}},\n};",
        "use super::{facts::Facts, state::State};",
        "// tokio::time::sleep",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use tokio::time::Instant;\n}",
    ] {
        assert_eq!(faults(pure, &LIFECYCLE, &crates), Vec::<String>::new(), "{pure}");
    }
}

#[test]
fn a_pure_file_of_the_portal_cannot_reach_the_client_through_super() {
    let crates = crates();
    assert!(!faults("use super::client::PortalClient;", &PORTAL_FILES, &crates).is_empty());
    assert!(faults("use super::verification_id::VerificationId;", &PORTAL_FILES, &crates).is_empty());
}
