//! The budget as its users see it: they ask for admission, and a [`RequestPermit`] records how the request ended.
//!
//! No clock: `now` is an argument, except when a permit is dropped. May depend on [`breaker`](super::breaker),
//! [`closed`](super::closed), `requester`, the budgets of a key and of a portal, and the pure files of [`portal`](crate::portal).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    breaker::ProbeWindow,
    closed::Closed,
    key_budget::KeyBudget,
    portal_budget::PortalBudget,
    requester::Requester,
    sent_request::{SentRequest, SessionHash, Trial},
};
use crate::{
    portal::{
        error::{Call, PortalError},
        verification_id::VerificationId,
    },
    priority::Priority,
};

/// Whether a request is admitted.
#[derive(Debug)]
pub enum Admission {
    /// It is admitted; the permit records how it ends.
    Go(RequestPermit),
    /// It is not admitted.
    Wait {
        /// When to try again.
        until: Instant,
        /// Why it is not.
        closed: Closed,
    },
}

/// The budget of one portal and key for one namespace. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(super) key: Arc<Mutex<KeyBudget>>,
    pub(super) portal: Arc<Mutex<PortalBudget>>,
    pub(super) requester: Requester,
}

impl Budget {
    /// The same for a requester that reads nothing before it asks again, which may do so sooner.
    #[must_use]
    pub(crate) fn with_free_retries(mut self) -> Self {
        self.requester.reads_to_retry = false;
        self
    }

    /// Asks to send a request.
    #[must_use]
    pub(crate) fn admit(&self, now: Instant, call: Call, priority: Priority) -> Admission {
        let mut key = self.key.lock();
        let admitted = key.admit(&mut self.portal.lock(), now, (call, priority), self.requester);
        drop(key);
        match admitted {
            Ok(trial) => {
                let budget = self.clone();
                Admission::Go(RequestPermit { budget, call, session: None, trial, is_reported: false })
            }
            Err((until, closed)) => Admission::Wait { until, closed },
        }
    }

    /// Until when no poll is admitted, whatever the rate, and why. Consumes nothing.
    #[must_use]
    pub(crate) fn closed(&self, now: Instant) -> Option<(Instant, Closed)> {
        self.key.lock().closed(now)
    }

    /// The last error because of which such requests are not admitted, if it is known.
    #[must_use]
    pub(crate) fn cause(&self, call: Call, closed: Closed) -> Option<PortalError> {
        self.key.lock().cause(call, closed)
    }

    /// Whether the first request with the key is in flight, so that creates wait for its response.
    #[must_use]
    pub(crate) fn awaits_first_response(&self, now: Instant) -> bool {
        self.key.lock().awaits_first_response(now)
    }

    /// Whether the caller should probe now whether the portal responds, because creates wait for that. If so, no other
    /// caller should for half a minute.
    #[must_use]
    pub(crate) fn may_probe(&self, now: Instant) -> bool {
        self.key.lock().may_probe(now)
    }

    /// While creates wait, when probes are sent.
    #[must_use]
    pub(crate) fn probe_window(&self, now: Instant) -> Option<ProbeWindow> {
        self.key.lock().probe_window(now)
    }

    /// The factor by which every interval is stretched, at least 1.
    #[must_use]
    pub(crate) fn stretch(&self, now: Instant) -> f64 {
        let of_key = self.key.lock().stretch(now, self.requester.namespace);
        of_key.max(self.portal.lock().stretch(now, self.requester.namespace))
    }

    /// When a poll of any session of this portal and key last got 200 and that session.
    #[must_use]
    pub(crate) fn polled_at(&self) -> Option<Instant> {
        self.key.lock().polled_at
    }
}

/// Permission to send one request. If it is dropped without a report, the request counts as not sent.
#[derive(Debug)]
pub struct RequestPermit {
    budget: Budget,
    call: Call,
    session: Option<SessionHash>,
    trial: Trial,
    is_reported: bool,
}

impl RequestPermit {
    /// Records that the request was a poll that got 200 and the requested session.
    pub fn polled(&self, now: Instant) {
        self.budget.key.lock().polled_at = Some(now);
    }

    /// Sets the session that is polled. What the portal says about the key only counts if it says so for several sessions.
    #[must_use]
    pub fn about(mut self, session: &VerificationId) -> Self {
        let mut hasher = DefaultHasher::new();
        session.hash(&mut hasher);
        self.session = Some(hasher.finish());
        self
    }

    /// Reports how the request ended. True if creates that had to wait may continue.
    #[expect(clippy::must_use_candidate, reason = "a poll never lets creates continue")]
    pub fn report(mut self, now: Instant, result: Result<(), &PortalError>) -> bool {
        self.is_reported = true;
        let is_refused = result.is_err_and(|error| error.refuses_key(self.call))
            && match self.call {
                Call::Create => true,
                // A single 401 to a poll with an accepted key may be a mistake.
                Call::Poll => self.trial.key,
            };
        self.budget.portal.lock().ended(now, self.budget.requester.namespace, is_refused);
        let sent = SentRequest { call: self.call, session: self.session, trial: self.trial };
        self.budget.key.lock().report(now, sent, result)
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        if !self.is_reported {
            self.budget.portal.lock().abandoned(Instant::now(), self.budget.requester.namespace);
            self.budget.key.lock().abandoned(self.call, self.trial);
        }
    }
}
