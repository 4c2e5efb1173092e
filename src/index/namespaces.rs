//! Namespaces, each kept once however many verifications are in it. Pure.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

/// Names with a number each, and a count of who uses it.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    entries: Slab<(Arc<str>, usize)>,
    numbers: HashMap<Arc<str>, usize>,
}

/// The number of a namespace that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Namespace(u32);

impl Namespaces {
    /// The number of a namespace, in use once more.
    pub(crate) fn intern(&mut self, name: &str) -> Namespace {
        if let Some(&number) = self.numbers.get(name)
            && let Some((_, users)) = self.entries.get_mut(number)
        {
            *users += 1;
            return narrow(number);
        }
        let name: Arc<str> = name.into();
        let number = self.entries.insert((Arc::clone(&name), 1));
        self.numbers.insert(name, number);
        narrow(number)
    }

    /// The number of a namespace, if anything is in it.
    pub(crate) fn find(&self, name: &str) -> Option<Namespace> {
        self.numbers.get(name).copied().map(narrow)
    }

    /// The name; empty when nothing is in it any more.
    pub(crate) fn name(&self, namespace: Namespace) -> &str {
        self.entries.get(namespace.0 as usize).map_or("", |(name, _)| name)
    }

    /// Ends one use. A namespace that nobody uses is forgotten.
    pub(crate) fn release(&mut self, namespace: Namespace) {
        let number = namespace.0 as usize;
        let Some((_, users)) = self.entries.get_mut(number) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            let (name, _) = self.entries.remove(number);
            self.numbers.remove(&name);
        }
    }

    /// Bytes in use, about.
    pub(crate) fn memory(&self) -> usize {
        let texts: usize = self.numbers.keys().map(|name| name.len() + 16).sum();
        self.entries.capacity() * size_of::<(Arc<str>, usize, usize)>()
            + self.numbers.capacity() * (size_of::<(Arc<str>, usize)>() + 1)
            + texts
    }
}

/// etcd cannot hold as many namespaces as there are numbers.
fn narrow(number: usize) -> Namespace {
    Namespace(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_kept_once_and_forgotten_with_its_last_user() {
        let mut namespaces = Namespaces::default();
        let first = namespaces.intern("kyc");
        assert_eq!(namespaces.intern("kyc"), first);
        assert_ne!(namespaces.intern("other"), first);
        namespaces.release(first);
        assert_eq!(namespaces.find("kyc"), Some(first));
        assert_eq!(namespaces.name(first), "kyc");
        namespaces.release(first);
        assert_eq!(namespaces.find("kyc"), None);
        assert_eq!(namespaces.name(first), "");
        namespaces.release(first);
        assert_eq!(namespaces.entries.len(), 1);
    }
}
