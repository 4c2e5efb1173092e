//! The gate of a key: until the portal has accepted it, its calls go one at a time, and a refused one rests. No clock:
//! `now` is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::Closed;
use crate::portal::{Call, Trouble};

/// A refused key closes its budget for this long, so that one bad key costs two calls in five minutes.
const REFUSED_FOR: Duration = Duration::from_secs(150);
/// Those behind the first call come again after as long as it has been under way, from the first to the second.
const BEHIND_THE_FIRST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Each call in a row without any answer doubles the wait of those behind the next one, up to this.
const BEHIND_SILENCE: Duration = Duration::from_mins(1);

/// What is known of a key, and who finds out more.
#[derive(Debug)]
pub(super) struct KeyGate {
    standing: Standing,
    /// Since when a call finds out for the others.
    tried_since: Option<Instant>,
    /// How many calls in a row should have found out, and were not answered at all.
    silent: u32,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It was never used: one call at a time.
    Unproven,
    /// The portal knows it, and denied a look: looks go freely, creates one at a time.
    Known,
    /// The portal accepts it.
    Good,
    /// The portal refused it; after a while one call tries again.
    Refused { until: Instant },
}

impl KeyGate {
    /// The gate of a key that was never used.
    pub(super) const fn new() -> Self {
        Self { standing: Standing::Unproven, tried_since: None, silent: 0 }
    }

    /// Until when no call may go out at all.
    pub(super) fn refused_until(&self, now: Instant) -> Option<Instant> {
        match self.standing {
            Standing::Refused { until } if now < until => Some(until),
            Standing::Refused { .. } | Standing::Unproven | Standing::Known | Standing::Good => None,
        }
    }

    /// Whether such a call has to wait for another one to find out, and if so, the earliest time to come again, and why.
    pub(super) fn is_tried(&self, now: Instant, call: Call) -> Option<(Instant, Closed)> {
        let since = self.tried_since.filter(|_| self.tries(call))?;
        let (least, most) = BEHIND_THE_FIRST;
        let wait = match self.silent {
            0 => now.saturating_duration_since(since).clamp(least, most),
            silent => most.saturating_mul(2_u32.saturating_pow(silent.min(10))).min(BEHIND_SILENCE),
        };
        let closed = match self.standing {
            Standing::Refused { .. } => Closed::KeyRejected,
            Standing::Unproven | Standing::Known | Standing::Good => Closed::Rate,
        };
        Some((now + wait, closed))
    }

    /// A call goes out. True, if it finds out for the others: it must be reported or given back.
    pub(super) const fn goes(&mut self, now: Instant, call: Call) -> bool {
        let tries = self.tries(call);
        if tries {
            self.tried_since = Some(now);
        }
        tries
    }

    /// Takes in how a call ended.
    pub(super) fn ended(&mut self, now: Instant, call: Call, tried: bool, result: Result<(), &Trouble>) {
        let before = self.standing;
        let news = match (call, result) {
            (_, Err(Trouble::KeyRejected)) | (Call::Create, Err(Trouble::AccessDenied)) => {
                Some(Standing::Refused { until: now + REFUSED_FOR })
            }
            (_, Ok(()) | Err(Trouble::Invalid | Trouble::NotFound | Trouble::Conflict)) => {
                Some(Standing::Good)
            }
            (Call::Look, Err(Trouble::AccessDenied)) => match before {
                Standing::Refused { until } if now < until => None,
                Standing::Good => None,
                Standing::Refused { .. } | Standing::Unproven | Standing::Known => Some(Standing::Known),
            },
            (
                _,
                Err(
                    Trouble::NotSent(_)
                    | Trouble::Redirected
                    | Trouble::Unconfigured
                    | Trouble::Limited { retry_after: _ }
                    | Trouble::Failed(_),
                ),
            ) => None,
        };
        if let Some(news) = news {
            self.standing = news;
            self.silent = 0;
        } else if tried && matches!(result, Err(Trouble::NotSent(_) | Trouble::Failed(_))) {
            self.silent = self.silent.saturating_add(1);
        }
        if tried || matches!(self.standing, Standing::Good) || news.is_some_and(Standing::is_refused) {
            self.tried_since = None;
        }
    }

    /// The call that was to find out did not go out, or nobody knows how it ended.
    pub(super) const fn gave_back(&mut self) {
        self.tried_since = None;
    }

    /// Whether such a call finds out something about the key.
    const fn tries(&self, call: Call) -> bool {
        match (self.standing, call) {
            (Standing::Unproven | Standing::Refused { .. }, _) | (Standing::Known, Call::Create) => true,
            (Standing::Known, Call::Look) | (Standing::Good, _) => false,
        }
    }
}

impl Standing {
    const fn is_refused(self) -> bool {
        match self {
            Self::Refused { .. } => true,
            Self::Unproven | Self::Known | Self::Good => false,
        }
    }
}
