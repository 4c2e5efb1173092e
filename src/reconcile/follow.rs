//! Applies the changes of the watch to the index and the queue, and logs interruptions of the watch. May depend on
//! `reconciler`, `cache_entry` and `recent`, and on `cluster`, `index` and `metrics`.

use std::{borrow::Cow, time::Duration};

use futures::{StreamExt, stream::select_all};
use tokio::time::{Instant, interval};

use super::{cache_entry::CacheEntry, recent::is_small, reconciler::Reconciler};
use crate::{
    api::Verification,
    cluster::{ApiError, Change, INSTALL, Interrupted, WAITING, fairness_key, prune, scopes},
    incidents::Incidents,
    index::{Applied, Removed},
    metrics::gauge,
    priority::Priority,
};

/// Interval of the heartbeat for `/livez`, and of the removal of resources that are no longer recent.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After this long without an interruption, the next one is reported again. Longer than the stream ever pauses.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);

/// What a list waits for before it was ever complete.
const FIRST_LIST: &str = "the first list of verifications";

/// Receives how far the lists are, whenever that changes.
pub(crate) type OnProgress = dyn Fn(ListProgress) + Send + Sync;

/// How far the lists are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListProgress {
    /// What the follower waits for, for `/readyz`; nothing, once every list is complete, or one is and the others have
    /// failed.
    pub(crate) waiting_for: Option<Cow<'static, str>>,
    /// What it works without, for `/readyz`: a line for each namespace whose list has failed, while another one is complete.
    pub(crate) missing: Vec<String>,
    /// Whether this replica may lead: a list is complete, and none is in its first attempt. A namespace that cannot be
    /// listed, because it was deleted or its `RoleBinding` is missing, does not hold up the others.
    pub(crate) may_lead: bool,
}

/// What is followed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followed {
    /// The namespaces, each by a watch of its own; if there are none, all by one watch.
    pub(crate) namespaces: Vec<String>,
    /// The label selector.
    pub(crate) selector: Option<String>,
}

/// Follows the live verifications for as long as the process runs.
pub(crate) async fn follow(reconciler: &Reconciler, followed: &Followed, on_progress: &OnProgress) {
    let cluster = &reconciler.cluster;
    let scopes = scopes(followed.namespaces.iter().map(String::as_str));
    let selector = followed.selector.as_deref();
    let begin = || {
        let watch = |(number, namespace): (usize, Option<&str>)| {
            cluster.watch(namespace, selector).map(move |change| (number, change)).boxed()
        };
        select_all(scopes.iter().copied().enumerate().map(watch))
    };
    let mut stream = begin();
    let until_rolled_back = || cluster.until_rolled_back(&scopes, || reconciler.is_standby());
    let mut rolled_back = std::pin::pin!(until_rolled_back());
    let mut heartbeat = interval(HEARTBEAT);
    let mut lists: Vec<_> = scopes.iter().map(|namespace| List::new(*namespace)).collect();
    reconciler.metrics.incomplete_lists.set(gauge(lists.len()));
    loop {
        cluster.last_contact().follower_alive();
        tokio::select! {
            change = stream.next() => match change {
                Some((number, change)) => {
                    if note_change(reconciler, &mut lists[number], change) {
                        note_lists(reconciler, &lists, on_progress);
                    }
                }
                None => return,
            },
            () = &mut rolled_back => {
                reconciler.metrics.api_server_rollbacks.inc();
                tracing::warn!(
                    "the API server's state was rolled back, as by a restore of etcd from a backup; listing verifications again and \
                     restoring the sessions that their status has lost"
                );
                reconciler.index().accept_rollback();
                stream = begin();
                rolled_back.set(until_rolled_back());
            }
            _ = heartbeat.tick() => {
                reconciler.recent.forget_old();
            }
        }
    }
}

/// Notes a change of one list. True if the list became complete, or is needed.
fn note_change(reconciler: &Reconciler, list: &mut List<'_>, change: Change<Verification>) -> bool {
    match change {
        Change::Init => {
            list.is_listing = true;
            reconciler.index().init(list.namespace);
        }
        Change::Applied(object) => note_applied(reconciler, object, list.is_listing),
        Change::Undecodable { object, error } => {
            reconciler.index().undecodable(&object.uid);
            reconciler.metrics.undecodable_objects.inc();
            tracing::warn!(
                namespace = object.namespace,
                name = object.name,
                error,
                "a verification cannot be decoded and is ignored; compare it with the installed custom resource definition"
            );
        }
        Change::InitDone => {
            let removed = reconciler.index().init_done(list.namespace);
            for removed in removed {
                forget(reconciler, &removed);
            }
            list.init_done();
            return true;
        }
        Change::Deleted(object) => {
            let removed = reconciler.index().deleted(&object.uid);
            if let Some(removed) = removed {
                forget(reconciler, &removed);
            }
        }
        Change::Interrupted { error, needs_list, pause } => {
            reconciler.metrics.watch_interruptions.inc();
            let Some(why) = error.api_error() else { return false };
            if list.is_new(&error, &why, Instant::now()) {
                log_interruption(list.namespace, &error, &why, pause);
            }
            if needs_list {
                list.interrupted(&error, &why);
                return true;
            }
        }
    }
    false
}

fn note_lists(reconciler: &Reconciler, lists: &[List<'_>], on_progress: &OnProgress) {
    let progress = ListProgress::of(lists);
    let incomplete = lists.iter().filter(|list| list.waiting_for.is_some()).count();
    reconciler.metrics.incomplete_lists.set(gauge(incomplete));
    if incomplete == 0 {
        let live = reconciler.index().len();
        tracing::info!(live, "watching verifications");
    }
    on_progress(progress);
}

impl ListProgress {
    fn of(lists: &[List<'_>]) -> Self {
        let incomplete: Vec<_> =
            lists.iter().filter_map(|list| Some((list, list.waiting_for.as_deref()?))).collect();
        let is_ready = incomplete.len() < lists.len() && incomplete.iter().all(|(list, _)| list.has_failed);
        let missing = |(list, waiting_for): &(&List<'_>, &str)| {
            format!("namespace {}: waiting for {waiting_for}", list.namespace.unwrap_or_default())
        };
        Self {
            waiting_for: lists.iter().find_map(|list| list.waiting_for.clone()).filter(|_| !is_ready),
            missing: incomplete.iter().filter(|_| is_ready).map(missing).collect(),
            may_lead: lists.iter().any(|list| list.has_been_complete)
                && lists.iter().all(|list| list.has_been_complete || list.has_failed),
        }
    }
}

/// One list and watch, and its interruptions since it was complete.
#[derive(Debug)]
struct List<'a> {
    namespace: Option<&'a str>,
    /// What it waits for, if it is not complete.
    waiting_for: Option<Cow<'static, str>>,
    /// Whether there ever was a complete list.
    has_been_complete: bool,
    /// Whether an attempt has failed since the last complete list.
    has_failed: bool,
    /// Whether a list has begun and is not complete.
    is_listing: bool,
    /// The action and the code of the response.
    reported: Incidents<(), Vec<(&'static str, Option<u16>)>>,
}

impl<'a> List<'a> {
    fn new(namespace: Option<&'a str>) -> Self {
        Self {
            namespace,
            waiting_for: Some(FIRST_LIST.into()),
            has_been_complete: false,
            has_failed: false,
            is_listing: false,
            reported: Incidents::default(),
        }
    }

    fn init_done(&mut self) {
        *self = Self { waiting_for: None, has_been_complete: true, ..Self::new(self.namespace) };
    }

    /// Whether this is the first interruption of its kind since the last complete list, or since the last one timed
    /// out.
    fn is_new(&mut self, error: &Interrupted, why: &ApiError, now: Instant) -> bool {
        self.reported.is_news((error.action(), why.code()), RESOLVE_TIMEOUT, now)
    }

    fn interrupted(&mut self, error: &Interrupted, why: &ApiError) {
        self.has_failed = true;
        self.waiting_for = Some(if is_undefined(why) {
            WAITING.into()
        } else {
            let which = if self.has_been_complete { "a new list of verifications" } else { FIRST_LIST };
            format!("{which}; tried to {}: {why}", error.action()).into()
        });
    }
}

/// Whether the API server does not serve the resource.
fn is_undefined(why: &ApiError) -> bool {
    why.code() == Some(404)
}

fn log_interruption(namespace: Option<&str>, error: &Interrupted, why: &ApiError, pause: Duration) {
    let (action, code, reason) = (error.action(), why.code(), why.reason());
    let retry_in_seconds = pause.as_secs_f64();
    match code {
        Some(404) => {
            tracing::warn!(
                namespace,
                action,
                code,
                reason,
                retry_in_seconds,
                "waiting for {WAITING}; {INSTALL}"
            );
        }
        Some(400) => tracing::warn!(
            namespace,
            action,
            code,
            reason,
            retry_in_seconds,
            "verifications cannot be watched; the custom resource definition may be older than this operator; {INSTALL}"
        ),
        Some(401 | 403) => tracing::warn!(
            namespace,
            action,
            code,
            reason,
            retry_in_seconds,
            "verifications cannot be watched; the operator needs permission to list and watch them"
        ),
        _ => tracing::warn!(
            namespace,
            action,
            code,
            reason,
            "the watch of verifications was interrupted; retrying"
        ),
    }
}

fn forget(reconciler: &Reconciler, removed: &Removed<CacheEntry>) {
    reconciler.queue.remove(removed.record_id);
    reconciler.departed(&removed.payload);
    reconciler.recent.forget(removed.record_id);
    reconciler.probe_slots.release(removed.record_id);
    reconciler.requested_polls.forget(removed.record_id);
    if let Some(session) = removed.payload.session {
        reconciler.sessions.forget(session);
    }
}

/// Notes a resource that was listed or watched. One from the watch need not be read for a while. A list may have a
/// hundred thousand, which are reconciled one after another.
fn note_applied(reconciler: &Reconciler, object: Verification, is_listed: bool) {
    let now = Instant::now();
    let is_fresh = !is_listed && is_small(&object);
    let object = prune(Box::new(object));
    let (mut first, mut priority) = (now, Priority::Create);
    let (applied, is_standby) = {
        let mut index = reconciler.index();
        let is_standby = reconciler.is_standby();
        let applied = index.applied(&object.metadata, |known| {
            if is_standby {
                return reconciler.standby_entry(known, &object);
            }
            if let Some(known) = known {
                return reconciler.changed(known, &object);
            }
            let (entry, at) = reconciler.first(&object);
            (first, priority) = (at, entry.first_priority());
            entry
        });
        (applied, is_standby)
    };
    if is_standby {
        if let Applied::Replaced { record_id: _, removed } = &applied {
            forget(reconciler, removed);
        }
        return;
    }
    let fairness_key = fairness_key(&object);
    if !matches!(applied, Applied::Unchanged(_) | Applied::Stale(_)) {
        if is_fresh {
            reconciler.recent.insert(applied.record_id(), object, now);
        } else {
            reconciler.recent.forget(applied.record_id());
        }
    }
    match applied {
        Applied::New(record_id) => {
            reconciler.queue.schedule_at(record_id, first, priority, fairness_key);
            reconciler.request_if_notified(record_id);
        }
        Applied::Replaced { record_id, removed } => {
            forget(reconciler, &removed);
            reconciler.queue.schedule_at(record_id, first, priority, fairness_key);
            reconciler.request_if_notified(record_id);
        }
        Applied::Changed(record_id) => reconciler.queue.enqueue(record_id, Priority::Requested, fairness_key),
        // A list that is older than the known versions may be from a restored state; only the resource itself shows its
        // state.
        Applied::Stale(record_id) if is_listed => {
            if let Some(entry) = reconciler.index().get_mut(record_id) {
                entry.read_next();
            }
            reconciler.queue.enqueue(record_id, Priority::Requested, fairness_key);
        }
        Applied::Unchanged(_) | Applied::Stale(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> (Interrupted, ApiError) {
        let status = kube::core::Status::failure("", "Forbidden").with_code(403);
        let error = Interrupted::List(kube::Error::Api(status.boxed()));
        let why = error.api_error().unwrap();
        (error, why)
    }

    #[test]
    fn a_namespace_that_cannot_be_listed_keeps_no_replica_from_leading() {
        let mut lists = ["hr", "kyc"].map(|namespace| List::new(Some(namespace)));
        assert!(!ListProgress::of(&lists).may_lead);
        let (error, why) = refused();
        lists[0].interrupted(&error, &why);
        assert!(!ListProgress::of(&lists).may_lead, "the other may be complete soon");
        lists[1].init_done();
        let progress = ListProgress::of(&lists);
        assert_eq!((progress.may_lead, progress.waiting_for), (true, None), "it is ready for the other");
        let [missing] = &progress.missing[..] else { panic!("{:?}", progress.missing) };
        assert!(
            missing.starts_with("namespace hr: waiting for the first list of verifications;"),
            "{missing}"
        );
        assert!(missing.ends_with("403 Forbidden"), "{missing}");
        lists[0].init_done();
        let complete = ListProgress { waiting_for: None, missing: Vec::new(), may_lead: true };
        assert_eq!(ListProgress::of(&lists), complete);
    }

    #[test]
    fn a_replica_is_ready_while_a_list_is_complete_and_the_others_have_failed() {
        let mut lists = ["hr", "kyc"].map(|namespace| List::new(Some(namespace)));
        let (error, why) = refused();
        let is_ready = |lists: &[List<'_>]| ListProgress::of(lists).waiting_for.is_none();
        lists[1].init_done();
        assert!(!is_ready(&lists), "the first may be complete soon");
        lists[0].init_done();
        assert!(is_ready(&lists));
        lists[0].interrupted(&error, &why);
        assert!(is_ready(&lists), "the other is still watched");
        lists[1].interrupted(&error, &why);
        assert!(!is_ready(&lists), "nothing is watched");
        assert_eq!(ListProgress::of(&lists).missing, [""; 0]);
    }

    #[test]
    fn without_any_list_no_replica_leads() {
        let mut lists = [List::new(None)];
        let (error, why) = refused();
        lists[0].interrupted(&error, &why);
        assert!(!ListProgress::of(&lists).may_lead);
        lists[0].init_done();
        lists[0].interrupted(&error, &why);
        assert!(ListProgress::of(&lists).may_lead, "a later list is repeated by the leader as well");
    }
}
