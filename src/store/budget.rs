//! Limits how many bytes of images the process holds at once. First come, first served, so small images do not starve a
//! large one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The default budget for all images in flight: 64 MiB.
pub const DEFAULT_BYTES: usize = 64 * 1024 * 1024;

/// Bytes per permit, so that any budget fits a semaphore.
const UNIT: usize = 1024;

/// A budget of bytes that all uploads in flight share.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget {
    permits: Arc<Semaphore>,
    units: u32,
}

/// A part of the budget, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    permit: OwnedSemaphorePermit,
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

impl ByteBudget {
    /// A budget of this many bytes, rounded up to whole KiB, at least one.
    #[must_use]
    pub(crate) fn new(bytes: usize) -> Self {
        let units = units(bytes);
        Self { permits: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits until this many bytes are free, and takes them. A request larger than the budget takes all of it.
    ///
    /// Request the largest size that an image can have before its first byte is read, then [`shrink`](HeldBytes::shrink) to
    /// its size. Request nothing while holding bytes: two tasks that do so deadlock.
    pub(crate) async fn hold(&self, bytes: usize) -> HeldBytes {
        let wanted = units(bytes).min(self.units);
        loop {
            // Fails only if the semaphore is closed, which never happens.
            if let Ok(permit) = self.permits.clone().acquire_many_owned(wanted).await {
                return HeldBytes { permit };
            }
        }
    }

    /// Bytes that are held now.
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        (self.units as usize).saturating_sub(self.permits.available_permits()) * UNIT
    }
}

impl HeldBytes {
    /// Returns all but this many bytes. Never takes more.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let held = self.permit.num_permits();
        drop(self.permit.split(held.saturating_sub(units(bytes) as usize)));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_more_bytes_are_held_than_the_budget_has() {
        let budget = ByteBudget::new(4096);
        let first = budget.hold(3000).await;
        assert_eq!(budget.held(), 3072);
        let mut second = Box::pin(budget.hold(2048));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        drop(second.await);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn bytes_that_an_image_does_not_need_are_returned() {
        let budget = ByteBudget::new(4096);
        let mut held = budget.hold(4096).await;
        held.shrink(1025);
        assert_eq!(budget.held(), 2048);
        held.shrink(4096);
        assert_eq!(budget.held(), 2048);
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_request_larger_than_the_budget_waits_for_all_of_it() {
        let budget = ByteBudget::new(2048);
        let held = budget.hold(usize::MAX).await;
        assert_eq!(budget.held(), 2048);
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_large_request_is_not_starved_by_small_ones() {
        let budget = ByteBudget::new(4096);
        let small = budget.hold(1024).await;
        let mut large = Box::pin(budget.hold(4096));
        assert!(large.as_mut().now_or_never().is_none());
        let mut later = Box::pin(budget.hold(1024));
        assert!(later.as_mut().now_or_never().is_none());
        drop(small);
        let large = large.as_mut().now_or_never().unwrap();
        assert!(later.as_mut().now_or_never().is_none());
        drop(large);
        assert!(later.now_or_never().is_some());
    }
}
