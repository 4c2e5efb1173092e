//! Tells that the API server gives turns no usable answer: once for a streak of all turns, not for each resource at each
//! try, because there may be a hundred thousand of them.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, error::Elapsed};

use crate::unanswered::Unanswered;

/// A streak in which nothing failed for this long is over. Longer than any turn waits until it tries again.
const QUIET: Duration = Duration::from_mins(5);

/// A call that turns make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerCall {
    /// Reading a resource before its turn.
    GetVerification,
    /// Writing what a turn concluded.
    PatchStatus,
    /// Writing the finalizer of evidence.
    PatchVerification,
    /// Reading an API key or the credentials of a store.
    GetSecret,
}

impl ServerCall {
    /// The verb of the right that the call needs.
    const fn verb(self) -> &'static str {
        match self {
            Self::GetVerification | Self::GetSecret => "get",
            Self::PatchStatus | Self::PatchVerification => "patch",
        }
    }

    /// The resource of the right that the call needs.
    const fn resource(self) -> &'static str {
        match self {
            Self::GetVerification | Self::PatchVerification => "verifications",
            Self::PatchStatus => "verifications/status",
            Self::GetSecret => "secrets",
        }
    }
}

/// What fails now, as far as it was told: one streak for each call and code.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<Vec<Streak>>);

#[derive(Debug)]
struct Streak {
    call: ServerCall,
    code: Option<u16>,
    /// Whose failure was told. The streak is over when that one succeeds: others may be refused for reasons of their own.
    namespace: String,
    name: String,
    last: Instant,
}

impl Complaints {
    /// Takes note of how a call went, and tells the beginning and the end of a streak.
    pub(super) fn note<T>(
        &self,
        call: ServerCall,
        (namespace, name): (&str, &str),
        answer: &Result<kube::Result<T>, Elapsed>,
    ) {
        let now = Instant::now();
        let (verb, resource) = (call.verb(), call.resource());
        let why = match answer {
            Ok(Ok(_)) => {
                if self.succeeded(call, (namespace, name), now) {
                    tracing::info!(verb, resource, "the API server gives usable answers again");
                }
                return;
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => {
                return self.forget(call, (namespace, name));
            }
            // Somebody else wrote first.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return,
            Ok(Err(error)) => Unanswered::from(error),
            Err(_) => Unanswered::SILENT,
        };
        if self.failed(call, why.code(), (namespace, name), now) {
            let (code, reason) = (why.code(), why.reason());
            tracing::warn!(
                verb,
                resource,
                code,
                reason,
                namespace,
                name,
                "the API server gives no usable answer; what needs one is tried again until it does"
            );
        }
    }

    /// Whether this failure begins a streak.
    fn failed(&self, call: ServerCall, code: Option<u16>, whose: (&str, &str), now: Instant) -> bool {
        let mut streaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = streaks.iter_mut().find(|streak| streak.call == call && streak.code == code);
        if let Some(known) = known {
            let is_over = known.is_quiet(now);
            known.last = now;
            if is_over {
                (known.namespace, known.name) = (whose.0.to_owned(), whose.1.to_owned());
            }
            return is_over;
        }
        let (namespace, name) = (whose.0.to_owned(), whose.1.to_owned());
        streaks.push(Streak { call, code, namespace, name, last: now });
        true
    }

    /// Whether this success ends a streak.
    fn succeeded(&self, call: ServerCall, whose: (&str, &str), now: Instant) -> bool {
        let mut streaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = streaks.len();
        streaks.retain(|streak| streak.call != call || !(streak.is_of(whose) || streak.is_quiet(now)));
        streaks.len() < before
    }

    /// Whose failure was told is gone: the next failure is told of another one.
    fn forget(&self, call: ServerCall, whose: (&str, &str)) {
        let mut streaks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streaks.retain(|streak| streak.call != call || !streak.is_of(whose));
    }
}

impl Streak {
    fn is_of(&self, (namespace, name): (&str, &str)) -> bool {
        self.namespace == namespace && self.name == name
    }

    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: ServerCall = ServerCall::PatchStatus;
    const ALICE: (&str, &str) = ("kyc", "alice");
    const BOB: (&str, &str) = ("kyc", "bob");

    #[test]
    fn a_streak_is_told_once_whoever_fails() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        assert!(complaints.failed(CALL, Some(403), ALICE, now));
        assert!((0..100_000).all(|_| !complaints.failed(CALL, Some(403), BOB, now)));
        assert!(!complaints.succeeded(CALL, BOB, now), "others may succeed meanwhile");
        assert!(!complaints.succeeded(ServerCall::GetVerification, ALICE, now));
        assert!(complaints.succeeded(CALL, ALICE, now));
        assert!(!complaints.succeeded(CALL, ALICE, now));
        assert!(complaints.failed(CALL, Some(403), BOB, now), "the next one is another streak");
    }

    #[test]
    fn each_call_and_each_code_has_a_streak_of_its_own() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        assert!(complaints.failed(CALL, Some(422), ALICE, now));
        assert!(complaints.failed(CALL, Some(403), ALICE, now));
        assert!(complaints.failed(CALL, None, ALICE, now));
        assert!(complaints.failed(ServerCall::GetSecret, Some(403), ALICE, now));
    }

    #[test]
    fn a_streak_without_failures_is_over_after_five_minutes() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        let later = now + QUIET + Duration::from_secs(1);
        assert!(complaints.failed(CALL, Some(403), ALICE, now));
        assert!(!complaints.succeeded(CALL, BOB, now + QUIET));
        assert!(complaints.succeeded(CALL, BOB, later));
        assert!(complaints.failed(CALL, Some(403), ALICE, now));
        assert!(complaints.failed(CALL, Some(403), BOB, later));
        assert!(complaints.succeeded(CALL, BOB, later), "it is told of bob by now");
    }

    #[test]
    fn who_is_gone_keeps_no_streak_open() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        assert!(complaints.failed(CALL, Some(403), ALICE, now));
        complaints.forget(CALL, ALICE);
        assert!(complaints.failed(CALL, Some(403), BOB, now));
    }
}
