//! Waits for a state without change notifications. Depends on nothing of the harness.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The timeout of every wait: far longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_mins(5);

/// How often a state without change notifications is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Checks a state without change notifications until there is a result, and returns it. After [`LIMIT`] it panics with a
/// report of what was found instead.
pub(crate) async fn until<T, E>(
    mut check: impl AsyncFnMut() -> Result<T, E>,
    report: impl FnOnce(E) -> String,
) -> T {
    let since = Instant::now();
    loop {
        match check().await {
            Ok(found) => return found,
            Err(instead) if since.elapsed() >= LIMIT => panic!("{}", report(instead)),
            Err(_) => sleep(CHECK_INTERVAL).await,
        }
    }
}

/// A condition of [`until`], where nothing is known but whether it holds.
pub(crate) fn holds(condition: bool) -> Result<(), ()> {
    condition.then_some(()).ok_or(())
}
