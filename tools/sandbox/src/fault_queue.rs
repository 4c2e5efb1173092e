//! The injected faults, and which of them applies to a request.
//!
//! May depend on [`fault`](crate::fault) and [`wire`](crate::wire).

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::fault::Fault;
use crate::wire::Endpoint;

/// The number of an injected fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// An injected fault and its use so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultView {
    /// Its number.
    pub id: FaultId,
    /// To how many requests it has been applied.
    pub hits: u64,
    /// To how many more it applies; `None` for all until it is cleared.
    pub left: Option<u32>,
    /// The fault.
    pub fault: Fault,
}

/// The fault for a request.
#[derive(Debug)]
pub(crate) struct Injection {
    pub(crate) id: FaultId,
    pub(crate) fault: Fault,
    /// Cancelled when the fault is cleared.
    pub(crate) cleared: CancellationToken,
}

#[derive(Debug)]
struct QueuedFault {
    view: FaultView,
    cleared: CancellationToken,
}

/// All injected faults, oldest first. A fault that is used up stays until it is cleared, so that its hits can be read and its
/// hanging requests released.
#[derive(Debug, Default)]
pub(crate) struct FaultQueue(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    faults: Vec<QueuedFault>,
    last_id: u64,
}

impl FaultQueue {
    pub(crate) fn push(&self, fault: Fault) -> FaultId {
        let mut queue = self.0.lock();
        queue.last_id += 1;
        let id = FaultId(queue.last_id);
        let view = FaultView { id, hits: 0, left: fault.times, fault };
        queue.faults.push(QueuedFault { view, cleared: CancellationToken::new() });
        id
    }

    /// The oldest fault that applies to this request; it counts as applied.
    pub(crate) fn next_for(
        &self,
        endpoint: Endpoint,
        key: Option<&str>,
        session: Option<&str>,
    ) -> Option<Injection> {
        let mut queue = self.0.lock();
        let queued = queue.faults.iter_mut().find(|queued| {
            let fault = &queued.view.fault;
            queued.view.left != Some(0)
                && fault.call.covers(endpoint)
                && (fault.key.is_none() || fault.key.as_deref() == key)
                && (fault.session.is_none() || fault.session.as_deref() == session)
        })?;
        queued.view.hits += 1;
        queued.view.left = queued.view.left.map(|left| left.saturating_sub(1));
        let fault = queued.view.fault.clone();
        Some(Injection { id: queued.view.id, fault, cleared: queued.cleared.clone() })
    }

    /// Returns whether there was such a fault.
    pub(crate) fn clear(&self, id: FaultId) -> bool {
        let mut queue = self.0.lock();
        let Some(position) = queue.faults.iter().position(|queued| queued.view.id == id) else {
            return false;
        };
        queue.faults.remove(position).cleared.cancel();
        true
    }

    pub(crate) fn clear_all(&self) {
        for queued in self.0.lock().faults.drain(..) {
            queued.cleared.cancel();
        }
    }

    pub(crate) fn views(&self) -> Vec<FaultView> {
        self.0.lock().faults.iter().map(|queued| queued.view.clone()).collect()
    }
}
