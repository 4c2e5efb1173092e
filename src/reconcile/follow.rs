//! Applies the changes of the watch to the index and the queue, and logs interruptions of the watch. May depend on
//! `reconciler`, `cache_entry` and `recent`, and on `cluster` and `index`.

use std::{borrow::Cow, time::Duration};

use futures::StreamExt;
use tokio::time::{Instant, interval};

use super::{cache_entry::CacheEntry, recent::is_small, reconciler::Reconciler};
use crate::{
    api::Verification,
    cluster::{ApiError, Change, INSTALL, Interrupted, WAITING, fairness_key, prune},
    incidents::Incidents,
    index::{Applied, Removed},
    priority::Priority,
};

/// Interval of the heartbeat for `/livez`, and of the removal of resources that are no longer recent.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After this long without an interruption the next one is reported again. Longer than the stream ever pauses.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);

/// Takes what the follower waits for, for `/readyz`; nothing, once the first list is complete.
pub(crate) type OnWaiting = dyn Fn(Option<Cow<'static, str>>) + Send + Sync;

/// Follows the live verifications for as long as the process runs.
pub(crate) async fn follow(reconciler: &Reconciler, namespace: Option<&str>, on_waiting: &OnWaiting) {
    let cluster = &reconciler.cluster;
    let begin = || cluster.watch(namespace);
    let mut stream = std::pin::pin!(begin());
    let mut rolled_back = std::pin::pin!(cluster.until_rolled_back(namespace));
    let mut heartbeat = interval(HEARTBEAT);
    let mut interruptions = Interruptions::default();
    loop {
        cluster.last_contact().follower_alive();
        tokio::select! {
            change = stream.next() => match change {
                Some(change) => note_change(reconciler, on_waiting, &mut interruptions, change),
                None => return,
            },
            () = &mut rolled_back => {
                reconciler.metrics.api_server_rollbacks.inc();
                tracing::warn!(
                    "the API server's state was rolled back, as by a restore of etcd from a backup; listing verifications again and \
                     restoring the sessions that their status has lost"
                );
                reconciler.index().accept_rollback();
                stream.set(begin());
                rolled_back.set(cluster.until_rolled_back(namespace));
            }
            _ = heartbeat.tick() => {
                reconciler.recent.forget_old();
            }
        }
    }
}

fn note_change(
    reconciler: &Reconciler,
    on_waiting: &OnWaiting,
    interruptions: &mut Interruptions,
    change: Change<Verification>,
) {
    match change {
        Change::Init => {
            interruptions.is_listing = true;
            reconciler.index().init();
        }
        Change::Applied(object) => note_applied(reconciler, object, interruptions.is_listing),
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
            let removed = reconciler.index().init_done();
            for removed in removed {
                forget(reconciler, &removed);
            }
            interruptions.init_done();
            on_waiting(None);
            // Nobody waits for the index while a line is written.
            let live = reconciler.index().len();
            tracing::info!(live, "watching verifications");
        }
        Change::Deleted(object) => {
            let removed = reconciler.index().deleted(&object.uid);
            if let Some(removed) = removed {
                forget(reconciler, &removed);
            }
        }
        Change::Interrupted { error, needs_list, pause } => {
            reconciler.metrics.watch_interruptions.inc();
            let Some(why) = error.api_error() else { return };
            if needs_list {
                on_waiting(Some(interruptions.waiting_for(&error, &why)));
            }
            if interruptions.is_new(&error, &why, Instant::now()) {
                log_interruption(&error, &why, pause);
            }
        }
    }
}

/// Interruptions of the watch since the last complete list.
#[derive(Debug, Default)]
struct Interruptions {
    /// Whether there ever was a complete list.
    has_been_complete: bool,
    /// Whether a list has begun and is not complete.
    is_listing: bool,
    /// The action and the code of the response.
    reported: Incidents<(), Vec<(&'static str, Option<u16>)>>,
}

impl Interruptions {
    fn init_done(&mut self) {
        *self = Self { has_been_complete: true, ..Self::default() };
    }

    /// Whether this one is the first of its kind since the last complete list, or since the last one timed out.
    fn is_new(&mut self, error: &Interrupted, why: &ApiError, now: Instant) -> bool {
        self.reported.is_news((error.action(), why.code()), RESOLVE_TIMEOUT, now)
    }

    fn waiting_for(&self, error: &Interrupted, why: &ApiError) -> Cow<'static, str> {
        if is_undefined(why) {
            return WAITING.into();
        }
        let which = if self.has_been_complete { "a new" } else { "the first" };
        format!("{which} list of verifications; tried to {}: {why}", error.action()).into()
    }
}

/// Whether the API server does not serve the resource.
fn is_undefined(why: &ApiError) -> bool {
    why.code() == Some(404)
}

fn log_interruption(error: &Interrupted, why: &ApiError, pause: Duration) {
    let (action, code, reason) = (error.action(), why.code(), why.reason());
    let retry_in_seconds = pause.as_secs_f64();
    match code {
        Some(404) => {
            tracing::warn!(action, code, reason, retry_in_seconds, "waiting for {WAITING}; {INSTALL}");
        }
        Some(400) => tracing::warn!(
            action,
            code,
            reason,
            retry_in_seconds,
            "verifications cannot be watched; the custom resource definition may be older than this operator; {INSTALL}"
        ),
        Some(401 | 403) => tracing::warn!(
            action,
            code,
            reason,
            retry_in_seconds,
            "verifications cannot be watched; the operator needs permission to list and watch them"
        ),
        _ => tracing::warn!(action, code, reason, "the watch of verifications was interrupted; retrying"),
    }
}

fn forget(reconciler: &Reconciler, removed: &Removed<CacheEntry>) {
    reconciler.queue.remove(removed.record_id);
    reconciler.departed(&removed.payload);
    reconciler.recent.forget(removed.record_id);
    reconciler.probe_slots.release(removed.record_id);
    if let Some(session) = removed.payload.session {
        reconciler.sessions.forget(session);
    }
}

/// Notes a resource that was listed or watched. One from a watch need not be read for a while; a list may have a
/// hundred thousand, which are reconciled one after another.
fn note_applied(reconciler: &Reconciler, object: Verification, is_listed: bool) {
    let now = Instant::now();
    let is_fresh = !is_listed && is_small(&object);
    let object = prune(Box::new(object));
    let mut first = now;
    let (applied, stands_by) = {
        let mut index = reconciler.index();
        let stands_by = reconciler.stands_by();
        let applied = index.applied(&object.metadata, |known| {
            if stands_by {
                return reconciler.standing_by(known, &object);
            }
            if let Some(known) = known {
                return reconciler.changed(known, &object);
            }
            let (entry, at) = reconciler.first(&object);
            first = at;
            entry
        });
        (applied, stands_by)
    };
    if stands_by {
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
            reconciler.queue.schedule_at(record_id, first, Priority::Create, fairness_key);
        }
        Applied::Replaced { record_id, removed } => {
            forget(reconciler, &removed);
            reconciler.queue.schedule_at(record_id, first, Priority::Create, fairness_key);
        }
        Applied::Changed(record_id) => reconciler.queue.enqueue(record_id, Priority::Requested, fairness_key),
        // A list that is older than what was known may be of a restored state: only the resource itself shows its
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
