//! The evidence of a demo: a folder as a store, and its contents. Reads and writes files.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The store that the example names, for the namespace in which the demo applies it.
const STORE: &str = "evidence";
const NAMESPACE: &str = "default";

/// The folder with the evidence, and the file of stores that names it.
pub(super) struct Store {
    pub(super) folder: PathBuf,
    pub(super) file: PathBuf,
}

impl Store {
    /// Creates both in a folder, with which they are deleted.
    pub(super) fn create(parent: &Path) -> Result<Self> {
        let store = Self { folder: parent.join(STORE), file: parent.join("stores.yaml") };
        fs::create_dir(&store.folder).context("create the folder for evidence")?;
        let url = store.folder.display();
        let text = format!("stores:\n- name: {STORE}\n  url: file://{url}\n  namespaces: [{NAMESPACE}]\n");
        fs::write(&store.file, text).context("write the file of stores")?;
        Ok(store)
    }

    /// The stored files, folder by folder: the size in bytes and the name of each.
    pub(super) fn tree(&self) -> Result<String> {
        let mut text = String::new();
        list(&self.folder, STORE, &mut text).context("read the folder with the evidence")?;
        if text.is_empty() {
            text = format!("{STORE}/\n  (nothing: the example asks for evidence after Verified)\n");
        }
        Ok(text)
    }
}

/// The files of a folder under its name, then its folders.
fn list(folder: &Path, name: &str, text: &mut String) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut folders = Vec::new();
    let mut has_files = false;
    for entry in entries {
        let found = entry.metadata()?;
        let entry_name = entry.file_name().to_string_lossy().into_owned();
        if found.is_dir() {
            folders.push((entry.path(), format!("{name}/{entry_name}")));
            continue;
        }
        if !has_files {
            writeln!(text, "{name}/")?;
            has_files = true;
        }
        writeln!(text, "{:>8}  {entry_name}", found.len())?;
    }
    folders.iter().try_for_each(|(folder, name)| list(folder, name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_lists_every_file_with_its_size_below_its_folder() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store::create(parent.path()).unwrap();
        assert_eq!(
            store.tree().unwrap(),
            "evidence/\n  (nothing: the example asks for evidence after Verified)\n"
        );
        let inside = store.folder.join("default/frida");
        fs::create_dir_all(inside.join("uid")).unwrap();
        fs::write(inside.join("uid/manifest.json"), [0; 1234]).unwrap();
        fs::write(inside.join("uid/details.json"), [0; 56]).unwrap();
        let expected = "evidence/default/frida/uid/\n      56  details.json\n    1234  manifest.json\n";
        assert_eq!(store.tree().unwrap(), expected);
    }

    #[test]
    fn the_operator_can_read_the_file_of_stores() {
        use okid_operator::store::{HttpSettings, RetryPolicy, StoreHttp, Stores};
        let parent = tempfile::tempdir().unwrap();
        let store = Store::create(parent.path()).unwrap();
        let text = fs::read_to_string(&store.file).unwrap();
        let trust = okid_operator::tls::client_config(None).unwrap();
        let http = StoreHttp::new(&HttpSettings::default(), trust).unwrap();
        let stores = Stores::read("stores.yaml", &text, &[], &http, RetryPolicy::default()).unwrap();
        let found = stores.find(STORE, NAMESPACE).unwrap();
        assert_eq!(found.location().to_string(), format!("file://{}", store.folder.display()));
    }
}
