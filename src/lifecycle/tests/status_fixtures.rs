//! The rows of what clients see, each produced by reconciles, for both meanings of Ready.

use std::time::Duration;

use super::world::{Answer, World, created, not_stored, poll_failed, refused, said};
use crate::{
    api::{OnUnknownOutcome, ReadyWhen},
    lifecycle::{
        cleanup::DeletionOutcome,
        evidence_error::EvidenceError,
        facts::PortalFact,
        fixtures,
        key_fact::{KeyFact, KeyFault},
        since::later,
        step::Refusal,
    },
    portal::error::PortalError,
};

mod worlds;

pub(super) use worlds::{GENERATION, LOST, for_long, fresh, not_found, open};
use worlds::{for_a_minute, paused, say, store, storing, wait, with_ttl};

use Health::{Degraded, Healthy, Progressing, Suspended};
use Kstatus::{Current, InProgress};

/// A result of kstatus, which Flux, Helm 4 and kpt use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kstatus {
    InProgress,
    Failed,
    Current,
}

/// A result of Argo CD, with the health script of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Progressing,
    Suspended,
    Degraded,
    Healthy,
}

/// Produces the state of a row.
pub(super) type Setup = fn(ReadyWhen) -> World;

/// One row: how it is produced, and for each meaning of Ready the reason of Ready, that of Reconciling or Stalled (with
/// its first letter), and what kstatus and Argo CD conclude.
pub(super) struct Row {
    pub(super) state: &'static str,
    pub(super) setup: Setup,
    verified: Reads,
    session_created: Reads,
}

/// The reason of Ready, the other condition, and what kstatus and Argo CD conclude.
pub(super) type Reads = (&'static str, &'static str, Kstatus, Health);

const fn row(state: &'static str, setup: Setup, verified: Reads, session_created: Reads) -> Row {
    Row { state, setup, verified, session_created }
}

/// A row that is the same for both meanings of Ready.
const fn same(name: &'static str, setup: Setup, both: Reads) -> Row {
    row(name, setup, both, both)
}

/// Ready with a link, if the spec requires no more.
const LINK: Reads = ("SessionCreated", "", Current, Healthy);
const FINISHED: Reads = ("Finished", "", Current, Healthy);

const STORING: Reads = ("StoringEvidence", "R StoringEvidence", InProgress, Progressing);

pub(super) const ROWS: &[Row] = &[
    same(
        "2 Secret missing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
            wait(world)
        },
        ("SecretNotFound", "R SecretNotFound", InProgress, Progressing),
    ),
    same(
        "2 portal missing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.refusal = Some(Refusal::Breaker(later(world.facts.now, Duration::from_mins(5))));
            world.reconcile(Answer::Uncalled);
            world.pass(90);
            wait(world)
        },
        ("PortalUnreachable", "R PortalUnreachable", InProgress, Progressing),
    ),
    same(
        "2 budget missing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.refusal = Some(Refusal::Rate(later(world.facts.now, Duration::from_secs(1))));
            wait(world)
        },
        ("Pending", "R Pending", InProgress, Progressing),
    ),
    same(
        "3 claimed",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.status = world.reconcile(created()).claimed.unwrap();
            world
        },
        ("CreatingSession", "R CreatingSession", InProgress, Progressing),
    ),
    same(
        "4 response lost, retried",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.reconcile(refused(LOST));
            world
        },
        ("CreatingSession", "R CreateOutcomeUnknown", InProgress, Progressing),
    ),
    same(
        "5 response lost, Hold",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.on_unknown = OnUnknownOutcome::Hold;
            world.reconcile(refused(LOST));
            world
        },
        ("CreateOutcomeUnknown", "S CreateOutcomeUnknown", Kstatus::Failed, Degraded),
    ),
    same(
        "5 retries spent",
        |ready_when| {
            let mut world = fresh(ready_when);
            for _ in 0..3 {
                world.reconcile_when_due(refused(LOST));
            }
            wait(world)
        },
        ("CreateOutcomeUnknown", "S CreateOutcomeUnknown", Kstatus::Failed, Degraded),
    ),
    row("6 link published", open, ("AwaitingUser", "R AwaitingUser", InProgress, Suspended), LINK),
    row(
        "7 the person has started",
        |ready_when| say("in_progress", &["document"], ready_when),
        ("InProgress", "R InProgress", InProgress, Progressing),
        LINK,
    ),
    row(
        "7 evaluated",
        |ready_when| say("validating", &["document", "liveness"], ready_when),
        ("InProgress", "R InProgress", InProgress, Progressing),
        LINK,
    ),
    row(
        "8 manual review",
        |ready_when| say("needs_manual_review", &[], ready_when),
        ("InReview", "R InReview", InProgress, Suspended),
        LINK,
    ),
    row(
        "9 portal errors while polling",
        |ready_when| for_long(open(ready_when), &poll_failed(LOST)),
        ("ProgressingWithRetry", "R ProgressingWithRetry", InProgress, Progressing),
        LINK,
    ),
    same(
        "10 rate limited without a link",
        |ready_when| paused(fresh(ready_when)),
        ("RateLimited", "R RateLimited", InProgress, Progressing),
    ),
    row(
        "10 rate limited",
        |ready_when| paused(open(ready_when)),
        ("AwaitingUser", "R RateLimited", InProgress, Progressing),
        LINK,
    ),
    row("11 verdict in, storing", storing, STORING, FINISHED),
    row(
        "11 verdict in, one object stored",
        |ready_when| store(storing(ready_when), Answer::Store(fixtures::stored(vec![fixtures::front()]))),
        STORING,
        FINISHED,
    ),
    row(
        "11 verdict in, the store fails",
        |ready_when| {
            let world = store(storing(ready_when), not_stored(EvidenceError::StoreUnavailable));
            for_a_minute(world, EvidenceError::StoreUnavailable)
        },
        STORING,
        FINISHED,
    ),
    row(
        "11 verdict in, suspended",
        |ready_when| {
            let mut world = storing(ready_when);
            world.facts.suspend = true;
            wait(world)
        },
        STORING,
        FINISHED,
    ),
    row(
        "11 verdict in, evidence requested again",
        |ready_when| {
            let mut world = store(storing(ready_when), not_stored(EvidenceError::Conflict));
            world.facts.retry = Some("again".to_owned());
            wait(world)
        },
        STORING,
        FINISHED,
    ),
    row(
        "12 verified",
        |ready_when| say("verified", &["document", "liveness"], ready_when),
        ("Verified", "", Current, Healthy),
        FINISHED,
    ),
    row(
        "12 verified and evidence stored",
        |ready_when| store(storing(ready_when), Answer::Store(fixtures::all_stored())),
        ("Verified", "", Current, Healthy),
        FINISHED,
    ),
    row(
        "12 verified, to be deleted",
        |ready_when| with_ttl(ready_when, false),
        ("Verified", "", Current, Healthy),
        FINISHED,
    ),
    row(
        "12 verified, not deleted because of Git",
        |ready_when| with_ttl(ready_when, true),
        ("Verified", "", Current, Healthy),
        FINISHED,
    ),
    row(
        "12 verified, deletion forbidden",
        |ready_when| store(with_ttl(ready_when, false), Answer::Delete(DeletionOutcome::Refused)),
        ("Verified", "", Current, Healthy),
        FINISHED,
    ),
    same(
        "13 verified, evidence failed",
        |ready_when| store(storing(ready_when), not_stored(EvidenceError::Conflict)),
        ("EvidenceFailed", "S EvidenceFailed", Kstatus::Failed, Degraded),
    ),
    row(
        "14 rejected",
        |ready_when| say("rejected", &[], ready_when),
        ("Rejected", "S Rejected", Kstatus::Failed, Degraded),
        FINISHED,
    ),
    row(
        "15 expired",
        |ready_when| say("expired", &[], ready_when),
        ("Expired", "S Expired", Kstatus::Failed, Degraded),
        FINISHED,
    ),
    same(
        "16 key refused, after the grace period, without a link",
        |ready_when| for_long(fresh(ready_when), &refused(PortalError::KeyRejected)),
        ("KeyRejected", "S KeyRejected", Kstatus::Failed, Degraded),
    ),
    row(
        "16 key refused, after the grace period",
        |ready_when| for_long(open(ready_when), &poll_failed(PortalError::AccessDenied)),
        ("AwaitingUser", "S AccessDenied", Kstatus::Failed, Degraded),
        LINK,
    ),
    same(
        "17a deadline",
        |ready_when| {
            let mut world = open(ready_when);
            world.pass(169 * 3600);
            world.reconcile(said("generated", &[]));
            wait(world)
        },
        ("Failed", "S DeadlineExceeded", Kstatus::Failed, Degraded),
    ),
    same(
        "17b session not found",
        |ready_when| not_found(open(ready_when)),
        ("SessionNotFound", "S SessionNotFound", Kstatus::Failed, Degraded),
    ),
    row(
        "18 suspended",
        |ready_when| {
            let mut world = open(ready_when);
            world.facts.suspend = true;
            wait(world)
        },
        ("Suspended", "", InProgress, Suspended),
        LINK,
    ),
    same(
        "18 suspended without a link",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.suspend = true;
            wait(world)
        },
        ("Suspended", "", InProgress, Suspended),
    ),
    same(
        "21 portal not allowed",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.portal = PortalFact::NotAllowed;
            wait(world)
        },
        ("PortalNotAllowed", "S PortalNotAllowed", Kstatus::Failed, Degraded),
    ),
    same(
        "21 portal not allowed any more",
        |ready_when| {
            let mut world = open(ready_when);
            world.facts.portal = PortalFact::NotAllowed;
            wait(world)
        },
        ("AwaitingUser", "S PortalNotAllowed", Kstatus::Failed, Degraded),
    ),
    same(
        "21 portal misconfigured",
        |ready_when| for_long(fresh(ready_when), &refused(PortalError::Unconfigured)),
        ("PortalMisconfigured", "S PortalMisconfigured", Kstatus::Failed, Degraded),
    ),
    same(
        "21 request refused",
        |ready_when| for_long(fresh(ready_when), &refused(PortalError::Invalid)),
        ("PortalRejectedRequest", "S PortalRejectedRequest", Kstatus::Failed, Degraded),
    ),
    same(
        "21 resource too large",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.too_large = true;
            wait(world)
        },
        ("ResourceTooLarge", "S ResourceTooLarge", Kstatus::Failed, Degraded),
    ),
    same(
        "21 status unreadable",
        |ready_when| {
            let mut world = open(ready_when);
            world.status.session = None;
            wait(world)
        },
        ("AwaitingUser", "S StatusUnreadable", Kstatus::Failed, Degraded),
    ),
];

/// The meanings of Ready, and what a row expects of each.
pub(super) fn expected(row: &Row) -> [(ReadyWhen, Reads); 2] {
    [(ReadyWhen::Verified, row.verified), (ReadyWhen::SessionCreated, row.session_created)]
}
