//! Where the leader receives what other replicas forward to it: it writes that into its Lease, and the others read it
//! there. State only.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;

/// The leader's address, as this process has read it last. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaderAddress(Arc<Mutex<Option<SocketAddr>>>);

impl LeaderAddress {
    /// The address, if the Lease has one.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        *self.0.lock()
    }

    /// Notes what the Lease says. A text that is no address is none.
    pub(super) fn note(&self, written: Option<&str>) {
        *self.0.lock() = written.and_then(|text| text.parse().ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_lease_said_last_if_it_is_one() {
        let address = LeaderAddress::default();
        let shared = address.clone();
        for (written, expected) in [
            (Some("10.0.0.7:8443"), Some("10.0.0.7:8443")),
            (Some("[fd00::7]:8443"), Some("[fd00::7]:8443")),
            (Some("okid.example:8443"), None),
            (Some(""), None),
            (None, None),
        ] {
            address.note(written);
            assert_eq!(shared.get(), expected.map(|text| text.parse().unwrap()), "{written:?}");
        }
    }
}
