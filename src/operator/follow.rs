//! Follows the live verifications into the table and the queue, and says when that is interrupted. Touches the API server.

use std::{borrow::Cow, time::Duration};

use futures::StreamExt;
use tokio::time::{Instant, interval};

use super::{
    definition::{INSTALL, WAITING},
    rewind::until_rewound,
};
use crate::{
    api::Verification,
    doors::admin::Readiness,
    priority::Priority,
    turn::{Memory, Turns, is_small, lean},
    unanswered::Unanswered,
    watch::{Change, Interrupted, Removed, Seen, StreamSettings, changes},
};

/// A sign of life comes this often, and what is no longer fresh is forgotten within this.
const BEAT: Duration = Duration::from_secs(5);
/// After this long without an interruption the next one is told again. Longer than the stream ever pauses.
const QUIET: Duration = Duration::from_mins(5);

/// Follows the live verifications for as long as the process runs.
pub(super) async fn follow(turns: &Turns, namespace: Option<&str>, readiness: &Readiness) {
    let begin = || changes::<Verification>(&turns.client, namespace, StreamSettings::default(), &turns.heard);
    let mut stream = std::pin::pin!(begin());
    let mut rewound = std::pin::pin!(until_rewound(turns, namespace));
    let mut beat = interval(BEAT);
    let mut interruptions = Interruptions::default();
    loop {
        turns.heard.follower();
        tokio::select! {
            change = stream.next() => match change {
                Some(change) => note(turns, readiness, &mut interruptions, change),
                None => return,
            },
            () = &mut rewound => {
                turns.metrics.server_rewinds.inc();
                tracing::warn!(
                    "the state of the API server went back, as after a restore of etcd from a backup; verifications are \
                     listed anew, and a status that lost its session gets it back"
                );
                turns.table().believe();
                stream.set(begin());
                rewound.set(until_rewound(turns, namespace));
            }
            _ = beat.tick() => {
                turns.fresh.forget_old();
            }
        }
    }
}

fn note(
    turns: &Turns,
    readiness: &Readiness,
    interruptions: &mut Interruptions,
    change: Change<Verification>,
) {
    match change {
        Change::Restarted => {
            interruptions.is_listing = true;
            turns.table().restarted();
        }
        Change::Seen(object) => see(turns, object, interruptions.is_listing),
        Change::Undecodable { object, error } => {
            turns.table().still_there(&object.uid);
            turns.metrics.undecodable.inc();
            tracing::warn!(
                namespace = object.namespace,
                name = object.name,
                error,
                "a verification cannot be decoded and is left alone; compare it with the installed definition"
            );
        }
        Change::Synced => {
            let swept = turns.table().synced();
            for removed in swept {
                forget(turns, &removed);
            }
            interruptions.synced();
            readiness.set(None);
            tracing::info!(live = turns.table().len(), "watching verifications");
        }
        Change::Gone(object) => {
            let removed = turns.table().gone(&object.uid);
            if let Some(removed) = removed {
                forget(turns, &removed);
            }
        }
        Change::Interrupted { error, list_is_owed, pause: _ } => {
            turns.metrics.watch_interruptions.inc();
            let Some(why) = error.unanswered() else { return };
            if list_is_owed {
                readiness.set(Some(interruptions.waiting_for(&error, &why)));
            }
            if interruptions.is_new(&error, &why, Instant::now()) {
                tell(&error, &why);
            }
        }
    }
}

/// What of the watch was interrupted since the last whole list.
#[derive(Debug, Default)]
struct Interruptions {
    /// Whether there ever was a whole list.
    is_synced: bool,
    /// Whether a list has begun and is not complete.
    is_listing: bool,
    /// What was tried and the code of the answer, as far as it was told.
    told: Vec<(&'static str, Option<u16>)>,
    last: Option<Instant>,
}

impl Interruptions {
    fn synced(&mut self) {
        *self = Self { is_synced: true, ..Self::default() };
    }

    /// Whether this one is the first of its kind since the last whole list, or since it was quiet.
    fn is_new(&mut self, error: &Interrupted, why: &Unanswered, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.duration_since(last) > QUIET) {
            self.told.clear();
        }
        self.last = Some(now);
        let kind = (error.tried(), why.code());
        let is_new = !self.told.contains(&kind);
        if is_new {
            self.told.push(kind);
        }
        is_new
    }

    fn waiting_for(&self, error: &Interrupted, why: &Unanswered) -> Cow<'static, str> {
        if is_undefined(why) {
            return WAITING.into();
        }
        let which = if self.is_synced { "a new" } else { "the first" };
        format!("{which} list of verifications; tried to {}: {why}", error.tried()).into()
    }
}

/// Whether the API server does not know the resource.
fn is_undefined(why: &Unanswered) -> bool {
    why.code() == Some(404)
}

fn tell(error: &Interrupted, why: &Unanswered) {
    let (tried, code, reason) = (error.tried(), why.code(), why.reason());
    match code {
        Some(404) => tracing::warn!(tried, code, reason, "waiting for {WAITING}; {INSTALL}"),
        Some(400) => tracing::warn!(
            tried,
            code,
            reason,
            "verifications cannot be watched; the definition may be older than this program; {INSTALL}"
        ),
        Some(401 | 403) => tracing::warn!(
            tried,
            code,
            reason,
            "verifications cannot be watched; the operator needs the rights to list and watch them"
        ),
        _ => tracing::warn!(
            tried,
            code,
            reason,
            "the watch of verifications was interrupted; it is tried again until it works"
        ),
    }
}

fn forget(turns: &Turns, removed: &Removed<Memory>) {
    turns.due.remove(removed.slot);
    turns.departed(&removed.payload);
    turns.fresh.forget(removed.slot);
    if let Some(session) = removed.payload.session {
        turns.sessions.forget(session);
    }
}

/// Takes in what was listed or watched. What a watch brought is as good as read, for a while; a list may bring a hundred
/// thousand, and their turns come one after another.
fn see(turns: &Turns, object: Verification, is_listed: bool) {
    let now = Instant::now();
    let is_fresh = !is_listed && is_small(&object);
    let object = lean(Box::new(object));
    let mut first = now;
    let seen = turns.table().seen(&object.metadata, |known| {
        if let Some(known) = known {
            return turns.changed(known, &object);
        }
        let (memory, at) = turns.first(&object);
        first = at;
        memory
    });
    let lane = crate::turn::lane(&object);
    if !matches!(seen, Seen::Unchanged(_) | Seen::Stale(_)) {
        if is_fresh {
            turns.fresh.keep(seen.slot(), object, now);
        } else {
            turns.fresh.forget(seen.slot());
        }
    }
    match seen {
        Seen::New(slot) => {
            turns.due.set(slot, first, Priority::Create, lane);
        }
        Seen::Replaced { slot, removed } => {
            forget(turns, &removed);
            turns.due.set(slot, first, Priority::Create, lane);
        }
        Seen::Changed(slot) => turns.due.now(slot, Priority::Nudge, lane),
        // A list that is older than what was known may be that of a state that was restored: only the resource itself
        // says how it stands.
        Seen::Stale(slot) if is_listed => {
            if let Some(memory) = turns.table().get_mut(slot) {
                memory.read_next();
            }
            turns.due.now(slot, Priority::Nudge, lane);
        }
        Seen::Unchanged(_) | Seen::Stale(_) => {}
    }
}
