//! Logs failures of stores: one line when a failure begins and one when it ends. A store that does not respond is logged once
//! for all its users, an error response for the namespace that it concerns. May depend on `destination`, and on `incidents`,
//! `store` and the log.

use std::time::Duration;

use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::destination::ResolvedDestination;
use crate::{api::Verification, incidents::Incidents, store::StoreError};

/// The most stores whose error is remembered; with more it is reported again.
const MOST: usize = 1024;
/// An error that comes back in this time is the same one; it is reported again once it has lasted as long.
const SAME: Duration = Duration::from_mins(1);

/// The namespace that an error is about, empty where it concerns all, and the store.
type Scope = (String, String);

/// The last error of each store.
#[derive(Debug)]
pub(crate) struct StoreFailureLog(Mutex<Incidents<Scope, StoreError>>);

impl Default for StoreFailureLog {
    fn default() -> Self {
        Self(Mutex::new(Incidents::reopened_within(SAME)))
    }
}

impl StoreFailureLog {
    /// Notes an error, and says whether to report it.
    fn begins(&self, scope: Scope, error: StoreError, now: Instant) -> bool {
        let mut last = self.0.lock();
        let known = last.get_mut(&scope).map(|known| known.detail);
        if known.is_none() && last.len() >= MOST {
            last.clear();
        }
        if known.is_some_and(|known| known != error) {
            last.forget(&scope);
        }
        last.failed(scope, error, Duration::MAX, now).0
    }

    /// Notes that there is no error any more, and returns the one whose end is to be reported.
    fn ends(&self, scope: &Scope, now: Instant) -> Option<StoreError> {
        let mut last = self.0.lock();
        let error = last.get_mut(scope)?.detail;
        last.resolve(now, |known| known.key == *scope).pop().map(|_| error)
    }
}

impl StoreFailureLog {
    /// Logs the error of an upload if it is new, and the end of an earlier one. Names neither the store nor anything
    /// that it said.
    pub(super) fn note_upload(
        &self,
        object: &Verification,
        destination: &ResolvedDestination,
        error: Option<StoreError>,
    ) {
        self.note(object, destination, "evidence is not stored", error);
    }

    /// As [`note_upload`](Self::note_upload), for a removal.
    pub(super) fn note_removal(
        &self,
        object: &Verification,
        destination: &ResolvedDestination,
        error: Option<StoreError>,
    ) {
        self.note(object, destination, "evidence is not removed", error);
    }

    fn note(
        &self,
        object: &Verification,
        destination: &ResolvedDestination,
        what: &'static str,
        error: Option<StoreError>,
    ) {
        let (namespace, name, now) =
            (object.namespace().unwrap_or_default(), object.name_any(), Instant::now());
        let store = &destination.store;
        let of_all = (String::new(), format!("{} {}", store.endpoint(), store.location().bucket()));
        let own = (namespace.clone(), format!("{} {what}", store.location()));
        let (scope, others): (_, &[&Scope]) = match error {
            Some(error) if error.is_unresponsive() => (&of_all, &[]),
            Some(_) => (&own, &[&of_all]),
            None => (&own, &[&own, &of_all]),
        };
        for error in others.iter().filter_map(|scope| self.ends(scope, now)) {
            tracing::info!(namespace, name, why = error.label(), "this error of a store has ended");
        }
        if let Some(error) = error
            && self.begins(scope.clone(), error, now)
        {
            tracing::warn!(namespace, name, why = error.label(), error = %error, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NoResponse;

    const MISSING: StoreError = StoreError::BucketMissing;
    const REGION: StoreError = StoreError::Misconfigured("region");

    fn of(namespace: &str) -> Scope {
        (namespace.to_owned(), "s3://evidence".to_owned())
    }

    #[test]
    fn each_failure_is_logged_when_it_begins_and_when_it_ends() {
        let (log, now) = (StoreFailureLog::default(), Instant::now());
        assert!(log.begins(of("a"), MISSING, now));
        assert!(!log.begins(of("a"), MISSING, now));
        assert!(log.begins(of("b"), MISSING, now), "other namespaces are logged separately");
        assert!(log.begins(of("a"), REGION, now));
        assert_eq!(log.ends(&of("a"), now), Some(REGION));
        assert_eq!(log.ends(&of("a"), now), None, "once");
        assert!(log.begins(of("a"), REGION, now + SAME), "it is another one by then");
    }

    #[test]
    fn a_failure_that_comes_and_goes_is_two_lines_until_it_lasts() {
        let (log, begun) = (StoreFailureLog::default(), Instant::now());
        let error = StoreError::NoResponse(NoResponse::TimedOut);
        let mut lines = 0;
        for second in 0..90 {
            let now = begun + Duration::from_secs(second);
            lines += usize::from(log.begins(of(""), error, now));
            lines += usize::from(log.ends(&of(""), now).is_some());
        }
        assert_eq!(lines, 2);
        let later = begun + Duration::from_secs(100);
        assert!(!log.begins(of(""), error, later));
        assert!(log.begins(of(""), error, later + SAME), "it lasts");
        assert_eq!(log.ends(&of(""), later + SAME), Some(error));
    }
}
