//! What one file names, defines and imports.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, ItemMacro, ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

use super::Module;

/// A file that was read.
#[derive(Debug, Default)]
pub(super) struct SourceFile {
    pub(super) items: BTreeSet<String>,
    /// What its `use` lines name, by the name that they give it.
    pub(super) uses: BTreeMap<String, Module>,
    /// Paths that it imports.
    pub(super) imports: Vec<Module>,
    /// Paths that begin outside of this crate, most of them with the name of another one.
    pub(super) externals: Vec<String>,
}

/// Reads one file.
pub(super) struct Reader {
    module: Module,
    /// Modules within the file.
    inner: Vec<String>,
    source: SourceFile,
}

impl Reader {
    /// What the text of the file of a module names, defines and imports.
    pub(super) fn read(module: &Module, text: &str) -> SourceFile {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
        let mut reader = Self { module: module.clone(), inner: Vec::new(), source: SourceFile::default() };
        reader.visit_file(&file);
        reader.source
    }

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
