//! What is against the order is found.

use super::*;

#[test]
fn first_lines_that_say_nothing_of_dependencies_are_found() {
    assert!(says_what_it_may_depend_on("//! A table. Pure.\n\nuse x;"));
    assert!(says_what_it_may_depend_on("//! A table.\n//! May depend on `api`.\n"));
    assert!(!says_what_it_may_depend_on("//! A table.\n\n// Pure.\n"));
}

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
    let found = |file: (&'static str, &'static str)| of(&[&others[..], &[file]].concat()).against_the_order();
    assert_eq!(found(("cluster", "use crate::reconcile::Driver;")), ["cluster imports reconcile::driver"]);
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
