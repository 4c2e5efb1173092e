//! The faults that are ordered, and whose turn it is.
//!
//! May touch: nothing else.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;
use crate::wire::Endpoint;

/// The number of an ordered fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// An ordered fault and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultView {
    /// Its number.
    pub id: FaultId,
    /// How many calls it has struck.
    pub hits: u64,
    /// How many more it will strike; `None` until it is cleared.
    pub left: Option<u32>,
    /// The fault.
    pub fault: Fault,
}

/// A fault that strikes a call.
#[derive(Debug)]
pub(crate) struct Strike {
    pub(crate) id: FaultId,
    pub(crate) fault: Fault,
    /// Cancelled when the fault is cleared.
    pub(crate) cleared: CancellationToken,
}

#[derive(Debug)]
struct Order {
    view: FaultView,
    cleared: CancellationToken,
}

/// All ordered faults, in their order. A fault that is used up stays until it is cleared, so that
/// its hits can be read and its hanging calls let go.
#[derive(Debug, Default)]
pub(crate) struct Orders(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    orders: Vec<Order>,
    ordered: u64,
}

impl Orders {
    pub(crate) fn place(&self, fault: Fault) -> FaultId {
        let mut book = self.0.lock();
        book.ordered += 1;
        let id = FaultId(book.ordered);
        let view = FaultView { id, hits: 0, left: fault.times, fault };
        book.orders.push(Order { view, cleared: CancellationToken::new() });
        id
    }

    /// The first fault that applies to this call; it is counted.
    pub(crate) fn strike(
        &self,
        endpoint: Endpoint,
        key: Option<&str>,
        session: Option<&str>,
    ) -> Option<Strike> {
        let mut book = self.0.lock();
        let order = book.orders.iter_mut().find(|order| {
            let fault = &order.view.fault;
            order.view.left != Some(0)
                && fault.call.covers(endpoint)
                && (fault.key.is_none() || fault.key.as_deref() == key)
                && (fault.session.is_none() || fault.session.as_deref() == session)
        })?;
        order.view.hits += 1;
        order.view.left = order.view.left.map(|left| left.saturating_sub(1));
        let fault = order.view.fault.clone();
        Some(Strike { id: order.view.id, fault, cleared: order.cleared.clone() })
    }

    /// Says whether there was such a fault.
    pub(crate) fn clear(&self, id: FaultId) -> bool {
        let mut book = self.0.lock();
        let Some(place) = book.orders.iter().position(|order| order.view.id == id) else {
            return false;
        };
        book.orders.remove(place).cleared.cancel();
        true
    }

    pub(crate) fn clear_all(&self) {
        for order in self.0.lock().orders.drain(..) {
            order.cleared.cancel();
        }
    }

    pub(crate) fn views(&self) -> Vec<FaultView> {
        self.0.lock().orders.iter().map(|order| order.view.clone()).collect()
    }
}
