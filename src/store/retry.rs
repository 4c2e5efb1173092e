//! The retry policy of calls to a store. May depend on [`backoff`](crate::backoff).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;

/// How often a call is attempted, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The time limit for one request and its response. Default 1 min.
    pub request: Duration,
    /// No attempt starts later than this after the first one started. Default 10 s.
    pub again_within: Duration,
    /// The most attempts. Default 3.
    pub attempts: u32,
    /// The pause before the second attempt, doubled before each further one, with a jitter of up to half of it. Default 250 ms.
    pub pause: Duration,
    /// The time limit for a call with all its attempts. Default 2 min.
    pub whole: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            request: Duration::from_mins(1),
            again_within: Duration::from_secs(10),
            attempts: 3,
            pause: Duration::from_millis(250),
            whole: Duration::from_mins(2),
        }
    }
}

/// The attempts of one call.
pub(crate) struct Retries {
    retry_policy: RetryPolicy,
    begun: Instant,
    made: u32,
}

impl Retries {
    pub(crate) fn new(retry_policy: RetryPolicy) -> Self {
        Self { retry_policy, begun: Instant::now(), made: 1 }
    }

    /// Waits for the next attempt; false if there is none.
    pub(crate) async fn again(&mut self) -> bool {
        let backoff = Backoff::new(self.retry_policy.pause, self.retry_policy.whole);
        let pause = backoff.wait(self.made - 1).mul_f64(rand::random_range(0.5..=1.0));
        if self.made >= self.retry_policy.attempts
            || self.begun.elapsed() + pause > self.retry_policy.again_within
        {
            return false;
        }
        sleep(pause).await;
        self.made += 1;
        true
    }
}
