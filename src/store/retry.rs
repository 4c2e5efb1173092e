//! How long a store is waited for, and how often it is asked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;

/// How long a store is waited for.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Longest time for one request and its answer. Default 1 min.
    pub request: Duration,
    /// A further try begins only so long after the first began. Default 10 s.
    pub again_within: Duration,
    /// Most tries. Default 3.
    pub tries: u32,
    /// The pause before the second try, doubled before each further one, up to half of it less by chance. Default
    /// 250 ms.
    pub pause: Duration,
    /// Longest time for a whole call with all its tries. Default 2 min.
    pub whole: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            request: Duration::from_mins(1),
            again_within: Duration::from_secs(10),
            tries: 3,
            pause: Duration::from_millis(250),
            whole: Duration::from_mins(2),
        }
    }
}

/// How often and how long a call is repeated.
pub(crate) struct Retries {
    patience: RetryPolicy,
    begun: Instant,
    made: u32,
}

impl Retries {
    pub(crate) fn new(patience: RetryPolicy) -> Self {
        Self { patience, begun: Instant::now(), made: 1 }
    }

    /// Waits for the time of the next try, if there is to be one.
    pub(crate) async fn again(&mut self) -> bool {
        let backoff = Backoff::new(self.patience.pause, self.patience.whole);
        let pause = backoff.wait(self.made - 1).mul_f64(rand::random_range(0.5..=1.0));
        if self.made >= self.patience.tries || self.begun.elapsed() + pause > self.patience.again_within {
            return false;
        }
        sleep(pause).await;
        self.made += 1;
        true
    }
}
