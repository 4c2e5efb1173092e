//! Interned namespaces: each is stored once, however many verifications are in it. Pure.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

/// Names with a number and a reference count each.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    entries: Slab<(Arc<str>, usize)>,
    numbers: HashMap<Arc<str>, usize>,
}

/// The number of a namespace that has verifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NamespaceId(u32);

impl Namespaces {
    /// The number of a namespace, with one more reference to it.
    pub(crate) fn intern(&mut self, name: &str) -> NamespaceId {
        if let Some(&number) = self.numbers.get(name)
            && let Some((_, references)) = self.entries.get_mut(number)
        {
            *references += 1;
            return narrow(number);
        }
        let name: Arc<str> = name.into();
        let number = self.entries.insert((Arc::clone(&name), 1));
        self.numbers.insert(name, number);
        narrow(number)
    }

    /// The number of a namespace, if it has verifications.
    pub(crate) fn find(&self, name: &str) -> Option<NamespaceId> {
        self.numbers.get(name).copied().map(narrow)
    }

    /// The name; empty if no verification is left in the namespace.
    pub(crate) fn name(&self, namespace: NamespaceId) -> &str {
        self.entries.get(namespace.0 as usize).map_or("", |(name, _)| name)
    }

    /// Drops one reference. A namespace without references is removed.
    pub(crate) fn release(&mut self, namespace: NamespaceId) {
        let number = namespace.0 as usize;
        let Some((_, references)) = self.entries.get_mut(number) else {
            return;
        };
        *references -= 1;
        if *references == 0 {
            let (name, _) = self.entries.remove(number);
            self.numbers.remove(&name);
        }
    }

    /// The approximate number of bytes in use.
    pub(crate) fn memory(&self) -> usize {
        let texts: usize = self.numbers.keys().map(|name| name.len() + 16).sum();
        self.entries.capacity() * size_of::<(Arc<str>, usize, usize)>()
            + self.numbers.capacity() * (size_of::<(Arc<str>, usize)>() + 1)
            + texts
    }
}

/// etcd cannot hold as many namespaces as there are numbers.
fn narrow(number: usize) -> NamespaceId {
    NamespaceId(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_stored_once_and_removed_with_its_last_reference() {
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
