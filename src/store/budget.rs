//! How many bytes of images the process holds at once.
//!
//! Fair: whoever asked first is served first, so a large image is not starved by small ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all images in flight, unless said otherwise: 64 MiB.
pub const DEFAULT_BYTES: usize = 64 * 1024 * 1024;

/// Bytes per permit, so that any budget fits the semaphore's numbers.
const UNIT: usize = 1024;

/// A budget of bytes that everything in flight shares.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    permits: Arc<Semaphore>,
    units: u32,
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct HeldBytes {
    permit: OwnedSemaphorePermit,
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

impl ByteBudget {
    /// A budget of so many bytes, rounded up to whole KiB, at least one.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let units = units(bytes);
        Self { permits: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits until so many bytes are free, and takes them. What is larger than the whole budget takes all of it.
    ///
    /// Ask for the most that an image can have before its first byte is read, then [`keep`](HeldBytes::keep) what it
    /// has. Do not ask for more while holding some: two who do that wait for each other.
    pub async fn hold(&self, bytes: usize) -> HeldBytes {
        let wanted = units(bytes).min(self.units);
        loop {
            // Fails only when the semaphore is closed, which nobody does.
            if let Ok(permit) = self.permits.clone().acquire_many_owned(wanted).await {
                return HeldBytes { permit };
            }
        }
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        (self.units as usize).saturating_sub(self.permits.available_permits()) * UNIT
    }
}

impl HeldBytes {
    /// Gives back all but so many bytes; holds no more than before.
    pub fn keep(&mut self, bytes: usize) {
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
    async fn no_more_is_held_than_the_budget_has() {
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
    async fn what_an_image_does_not_need_is_given_back() {
        let budget = ByteBudget::new(4096);
        let mut held = budget.hold(4096).await;
        held.keep(1025);
        assert_eq!(budget.held(), 2048);
        held.keep(4096);
        assert_eq!(budget.held(), 2048);
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_budget_waits_for_all_of_it() {
        let budget = ByteBudget::new(2048);
        let held = budget.hold(usize::MAX).await;
        assert_eq!(budget.held(), 2048);
        drop(held);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_large_one_is_not_starved_by_small_ones() {
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
