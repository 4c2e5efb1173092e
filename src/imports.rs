//! Which file imports which: no two of them in a circle, and no module one that stands above it. Reads the sources.
//!
//! A private `use` is an import of the file that defines what is named, whatever re-exports it passes through, and so is a
//! path that begins with `crate`, `super` or `self`. A public `use` only re-exports. Tests may import what they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, File, ItemMacro, ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

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
    ("priority", &[]),
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
        &["api", "backoff", "clock", "fairness", "lifecycle", "incidents", "metrics", "portal", "tls"],
    ),
    // In memory.
    ("index", &["fairness"]),
    ("workqueue", &["fairness", "index", "priority"]),
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
            "lifecycle",
            "incidents",
            "metrics",
            "portal",
            "priority",
            "store",
            "workqueue",
        ],
    ),
    ("admin", &["metrics"]),
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
            "metrics",
            "portal",
            "reconcile",
            "settings",
            "store",
            "tls",
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

/// A file that was read.
#[derive(Debug, Default)]
struct Source {
    items: BTreeSet<String>,
    /// What its `use` lines name, by the name that they give it.
    uses: BTreeMap<String, Module>,
    /// Paths that it imports.
    imports: Vec<Module>,
    /// Paths that begin outside of this crate, most of them with the name of another one.
    externals: Vec<String>,
}

/// The sources of a crate, by module.
#[derive(Debug, Default)]
struct Sources(BTreeMap<Module, Source>);

impl Sources {
    /// Adds a file.
    fn add(&mut self, module: Module, text: &str) {
        let file: File =
            syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
        let mut reader = Reader { module: module.clone(), inner: Vec::new(), source: Source::default() };
        reader.visit_file(&file);
        self.0.insert(module, reader.source);
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
        let targets = |module: &Module, source: &Source| {
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

/// Reads one file.
struct Reader {
    module: Module,
    /// Modules within the file.
    inner: Vec<String>,
    source: Source,
}

impl Reader {
    /// A path as seen from the root of the crate; nothing for one of another crate.
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let mut here: Module = self.module.iter().chain(&self.inner).cloned().collect();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some(here.into_iter().chain(path[1..].iter().cloned()).collect()),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                here.truncate(here.len().saturating_sub(ups));
                Some(here.into_iter().chain(path[ups..].iter().cloned()).collect())
            }
            _ => None,
        }
    }

    fn define(&mut self, name: &syn::Ident) {
        if self.inner.is_empty() {
            self.source.items.insert(name.to_string());
        }
    }

    fn take_use(&mut self, tree: &UseTree, before: &[String], is_public: bool) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.take_use(&path.tree, &with(&path.ident), is_public),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take_use(tree, before, is_public);
                }
            }
            UseTree::Name(name) if name.ident == "self" => self.note(before, None, is_public),
            UseTree::Name(name) => self.note(&with(&name.ident), None, is_public),
            UseTree::Rename(name) => self.note(&with(&name.ident), Some(name.rename.to_string()), is_public),
            UseTree::Glob(_) => self.note(before, None, is_public),
        }
    }

    fn note(&mut self, path: &[String], renamed: Option<String>, is_public: bool) {
        let child = [vec!["self".to_owned()], path.to_vec()].concat();
        if self.absolute(path).is_none() {
            self.source.externals.push(path.join("::"));
        }
        let Some(target) = self.absolute(path).or_else(|| self.absolute(&child)) else {
            return;
        };
        if let Some(name) = renamed.or_else(|| path.last().cloned()) {
            self.source.uses.entry(name).or_insert_with(|| target.clone());
        }
        if !is_public {
            self.source.imports.push(target);
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|argument| argument.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.define(&item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.define(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.define(&item.sig.ident);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.define(&item.ident);
        visit::visit_item_static(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.define(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.define(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.define(&item.ident);
        visit::visit_item_type(self, item);
    }

    /// A macro may define what it names.
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        let names = item.mac.tokens.clone().into_iter().filter_map(|token| {
            if let proc_macro2::TokenTree::Ident(name) = token { Some(name.to_string()) } else { None }
        });
        self.source.items.extend(names);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_some() && !is_test(&item.attrs) {
            self.inner.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.inner.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.take_use(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match self.absolute(&segments) {
            Some(target) if segments.len() > 1 => self.source.imports.push(target),
            Some(_) => {}
            None => self.source.externals.push(segments.join("::")),
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The sources of this crate, but for tests and the program.
fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::default();
    for file in files_below(&root) {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Module = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        sources.add(module, &fs::read_to_string(&file).unwrap());
    }
    sources
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
        } else {
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

#[test]
fn each_client_is_named_by_the_module_of_its_system_alone() {
    let found = sources().clients_of_others();
    assert!(found.is_empty(), "{} files:\n{}", found.len(), found.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Sources {
        let mut sources = Sources::default();
        for (module, text) in [("", "mod a; mod b;")].iter().chain(files) {
            let module = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            sources.add(module, text);
        }
        sources
    }

    #[test]
    fn a_circle_is_found_through_re_exports_and_by_paths_in_the_code() {
        let re_export = ("index", "mod table; pub use table::Table;");
        let table = ("index::table", "use crate::workqueue::Queue; pub struct Table;");
        for queue in [
            "use crate::index::Table; pub struct Queue;",
            "pub struct Queue(crate::index::Table);",
            "use crate::{index::{self, Table as Records}}; pub struct Queue;",
            "pub struct Queue; fn f() { let _ = crate::index::table::Table; }",
        ] {
            let circles = of(&[re_export, table, ("workqueue", queue)]).circles();
            assert_eq!(circles, ["index::table, workqueue"], "{queue}");
        }
        for queue in [
            "pub struct Queue;",
            "pub struct Queue; pub use crate::index::Table;",
            "pub struct Queue; #[cfg(test)] mod tests { use crate::index::Table; }",
        ] {
            assert_eq!(of(&[re_export, table, ("workqueue", queue)]).circles(), [""; 0], "{queue}");
        }
    }

    #[test]
    fn an_import_against_the_order_is_found() {
        let driver = ("reconcile::driver", "pub struct Driver;");
        let portal = ("portal::client", "pub struct Client;");
        let error = ("portal::error", "pub enum PortalError {}");
        let others = [
            ("reconcile", "mod driver; pub use driver::Driver;"),
            ("portal", "mod client; pub use client::Client;"),
            driver,
            portal,
            error,
        ];
        let found =
            |file: (&'static str, &'static str)| of(&[&others[..], &[file]].concat()).against_the_order();
        assert_eq!(
            found(("cluster", "use crate::reconcile::Driver;")),
            ["cluster imports reconcile::driver"]
        );
        assert_eq!(found(("lifecycle", "use crate::portal::Client;")), ["lifecycle imports portal::client"]);
        assert_eq!(found(("lifecycle", "use crate::portal::error::PortalError;")), [""; 0]);
        assert_eq!(found(("util", "pub fn f() {}")), ["util has no place in the order"]);
    }

    #[test]
    fn a_client_that_another_module_names_is_found() {
        for (module, text) in [
            ("reconcile", "use kube::{Client, ResourceExt};"),
            ("evidence", "fn f(api: kube::Api<()>) {}"),
            ("evidence", "use object_store::path::Path;"),
        ] {
            assert_eq!(of(&[(module, text)]).clients_of_others().len(), 1, "{text}");
        }
        for (module, text) in
            [("cluster::verifications", "use kube::Client;"), ("reconcile", "use kube::ResourceExt;")]
        {
            assert_eq!(of(&[(module, text)]).clients_of_others(), [""; 0], "{text}");
        }
    }
}
