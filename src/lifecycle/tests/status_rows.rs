//! The rows of what waiters see, for both meanings of Ready: each brought about by the turns that lead to it, and read
//! as its readers read it.

use std::time::Duration;

use crate::{
    api::{ConditionStatus, ConditionType, DeletionPolicy, OnUnknownOutcome, ReadyWhen},
    lifecycle::{EvidenceTrouble, Gate, KeyFact, KeyFault, PortalFact, sample, streaks::later},
    portal::trouble::{Failed, Trouble},
};

use super::{
    waiters::{Health, Kstatus, Seen},
    world::{Answer, World, created, looked, not_stored, refused, said},
};

use Health::{Degraded, Healthy, Progressing, Suspended};
use Kstatus::{Current, InProgress, Terminating};

const LOST: Trouble = Trouble::Failed(Failed::TimedOut);
const GENERATION: i64 = 3;

fn fresh(ready_when: ReadyWhen) -> World {
    let mut world = World::fresh(ready_when);
    world.facts.generation = GENERATION;
    world
}

fn open(ready_when: ReadyWhen) -> World {
    let mut session = fresh(ready_when);
    session.turn(created());
    session.pass(60);
    session
}

/// A world after what a row tells.
type Brings = fn(ReadyWhen) -> World;

fn wait(mut world: World) -> World {
    world.turn(Answer::Uncalled);
    world
}

fn say(word: &str, completed: &[&str], ready_when: ReadyWhen) -> World {
    let mut session = open(ready_when);
    session.turn(said(word, completed));
    session
}

/// The same answer for a quarter of an hour.
fn for_long(mut world: World, answer: &Answer) -> World {
    let end = later(world.facts.now, Duration::from_mins(15));
    while world.facts.now < end {
        world.turn_when_due(answer.clone());
        world.pass(30);
    }
    world.turn_when_due(answer.clone());
    world
}

fn not_found(mut world: World) -> World {
    for _ in 0..3 {
        world.turn_when_due(looked(Trouble::NotFound));
    }
    world
}

fn paused(mut world: World) -> World {
    world.facts.gate = Gate::Paused(later(world.facts.now, Duration::from_mins(5)));
    world.turn(Answer::Uncalled);
    world.pass(60);
    wait(world)
}

/// Verified, and evidence is asked for.
fn storing(ready_when: ReadyWhen) -> World {
    let mut world = fresh(ready_when);
    world.facts.evidence.images = Some(sample::images(DeletionPolicy::Retain));
    world.turn(created());
    world.pass(60);
    world.turn(said("verified", &["document", "liveness"]));
    world
}

fn for_a_minute(mut world: World, trouble: EvidenceTrouble) -> World {
    world.pass(60);
    store(world, not_stored(trouble))
}

fn store(mut world: World, answer: Answer) -> World {
    world.turn(answer);
    world
}

/// One row: how it comes about, and for each meaning of Ready the reason of Ready, that of the other condition of the
/// two (with its first letter), and what kstatus and Argo CD make of it.
struct Row {
    state: &'static str,
    brings: Brings,
    verified: Reads,
    session_created: Reads,
}

/// The reason of Ready, the other condition, and what kstatus and Argo CD say.
type Reads = (&'static str, &'static str, Kstatus, Health);

const fn row(state: &'static str, brings: Brings, verified: Reads, session_created: Reads) -> Row {
    Row { state, brings, verified, session_created }
}

/// A row that is the same for both meanings of Ready.
const fn same(name: &'static str, brings: Brings, both: Reads) -> Row {
    row(name, brings, both, both)
}

/// Ready with a link, where the spec asks for no more.
const LINK: Reads = ("SessionCreated", "", Current, Healthy);
const FINISHED: Reads = ("Finished", "", Current, Healthy);

const STORING: Reads = ("StoringEvidence", "R StoringEvidence", InProgress, Progressing);

const ROWS: &[Row] = &[
    same(
        "2 Secret missing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
            wait(world)
        },
        ("Pending", "R Pending", InProgress, Progressing),
    ),
    same(
        "2 portal missing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.gate = Gate::Breaker(later(world.facts.now, Duration::from_mins(1)));
            wait(world)
        },
        ("Pending", "R ProgressingWithRetry", InProgress, Progressing),
    ),
    same(
        "2 budget missing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.gate = Gate::Rate(later(world.facts.now, Duration::from_secs(1)));
            wait(world)
        },
        ("Pending", "R Pending", InProgress, Progressing),
    ),
    same(
        "3 claimed",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.status = world.turn(created()).claimed.unwrap();
            world
        },
        ("CreatingSession", "R CreatingSession", InProgress, Progressing),
    ),
    same(
        "4 answer lost, healing",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.turn(refused(LOST));
            world
        },
        ("CreatingSession", "R CreateOutcomeUnknown", InProgress, Progressing),
    ),
    same(
        "5 answer lost, Hold",
        |ready_when| {
            let mut world = fresh(ready_when);
            world.facts.on_unknown = OnUnknownOutcome::Hold;
            world.turn(refused(LOST));
            world
        },
        ("Pending", "S CreateOutcomeUnknown", Kstatus::Failed, Degraded),
    ),
    same(
        "5 budget spent",
        |ready_when| {
            let mut world = fresh(ready_when);
            for _ in 0..3 {
                world.turn_when_due(refused(LOST));
            }
            wait(world)
        },
        ("Pending", "S CreateOutcomeUnknown", Kstatus::Failed, Degraded),
    ),
    row("6 link published", open, ("AwaitingUser", "R AwaitingUser", InProgress, Suspended), LINK),
    row(
        "7 the person is at it",
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
        |ready_when| for_long(open(ready_when), &looked(LOST)),
        ("ProgressingWithRetry", "R ProgressingWithRetry", InProgress, Progressing),
        LINK,
    ),
    same(
        "10 rate limited without a link",
        |ready_when| paused(fresh(ready_when)),
        ("Pending", "R RateLimited", InProgress, Progressing),
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
        |ready_when| store(storing(ready_when), Answer::Store(sample::stored(vec![sample::front()]))),
        STORING,
        FINISHED,
    ),
    row(
        "11 verdict in, the store in trouble",
        |ready_when| {
            let world = store(storing(ready_when), not_stored(EvidenceTrouble::StoreUnavailable));
            for_a_minute(world, EvidenceTrouble::StoreUnavailable)
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
        "11 verdict in, evidence asked for again",
        |ready_when| {
            let mut world = store(storing(ready_when), not_stored(EvidenceTrouble::Conflict));
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
        |ready_when| store(storing(ready_when), Answer::Store(sample::all_stored())),
        ("Verified", "", Current, Healthy),
        FINISHED,
    ),
    same(
        "13 verified, evidence will never be",
        |ready_when| store(storing(ready_when), not_stored(EvidenceTrouble::Conflict)),
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
        "16 key refused, grace over, without a link",
        |ready_when| for_long(fresh(ready_when), &refused(Trouble::KeyRejected)),
        ("Pending", "S KeyRejected", Kstatus::Failed, Degraded),
    ),
    row(
        "16 key refused, grace over",
        |ready_when| for_long(open(ready_when), &looked(Trouble::AccessDenied)),
        ("AwaitingUser", "S KeyRejected", Kstatus::Failed, Degraded),
        LINK,
    ),
    same(
        "17a deadline",
        |ready_when| {
            let mut world = open(ready_when);
            world.pass(169 * 3600);
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
        ("Pending", "S PortalNotAllowed", Kstatus::Failed, Degraded),
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
        |ready_when| for_long(fresh(ready_when), &refused(Trouble::Unconfigured)),
        ("Pending", "S PortalMisconfigured", Kstatus::Failed, Degraded),
    ),
    same(
        "21 spec unfit",
        |ready_when| for_long(fresh(ready_when), &refused(Trouble::Invalid)),
        ("Pending", "S InvalidSpec", Kstatus::Failed, Degraded),
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
fn expected(row: &Row) -> [(ReadyWhen, Reads); 2] {
    [(ReadyWhen::Verified, row.verified), (ReadyWhen::SessionCreated, row.session_created)]
}

fn seen(world: &World) -> Seen {
    Seen::of(GENERATION, world.facts.suspend, &world.status)
}

#[test]
fn each_row_shows_what_is_promised() {
    for row in ROWS {
        for (ready_when, (ready, other, ..)) in expected(row) {
            let world = (row.brings)(ready_when);
            assert_eq!(world.reason(ConditionType::Ready), Some(ready), "{} {ready_when:?}", row.state);
            let shown = |letter, type_| world.reason(type_).map(|reason| format!("{letter} {reason}"));
            let both = [shown("R", ConditionType::Reconciling), shown("S", ConditionType::Stalled)];
            let both: Vec<String> = both.into_iter().flatten().collect();
            assert_eq!(both.join(" "), other, "{} {ready_when:?}", row.state);
        }
    }
}

#[test]
fn kstatus_flux_and_helm_read_each_row_as_promised() {
    for row in ROWS {
        for (ready_when, (_, _, kstatus, _)) in expected(row) {
            let seen = seen(&(row.brings)(ready_when));
            assert_eq!(seen.kstatus(), kstatus, "{} {ready_when:?}", row.state);
            assert_eq!(seen.flux_faults(), Vec::<&str>::new(), "{} {ready_when:?}", row.state);
        }
    }
}

#[test]
fn argo_cd_reads_each_row_as_promised() {
    for row in ROWS {
        for (ready_when, (.., health)) in expected(row) {
            let seen = seen(&(row.brings)(ready_when));
            assert_eq!(seen.argo_cd(), health, "{} {ready_when:?}", row.state);
        }
    }
}

#[test]
fn kubectl_waits_for_ready_verified_and_finished() {
    for row in ROWS {
        for (ready_when, (_, _, kstatus, _)) in expected(row) {
            let world = (row.brings)(ready_when);
            let seen = seen(&world);
            let over =
                ["11", "12", "13", "14", "15", "17a"].iter().any(|number| row.state.starts_with(number));
            let is_verified = ["11", "12", "13"].iter().any(|number| row.state.starts_with(number));
            assert_eq!(seen.kubectl_waits_for("Ready"), kstatus == Current, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("finished"), over, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("Verified"), is_verified, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("Verified=False"), over && !is_verified, "{}", row.state);
            assert_eq!(seen.kubectl_waits_for("Stalled"), kstatus == Kstatus::Failed, "{}", row.state);
        }
    }
}

#[test]
fn argo_workflows_reads_the_phase_alone() {
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let seen = seen(&(row.brings)(ready_when));
            let failed = ["14", "15", "17a"].iter().any(|number| row.state.starts_with(number));
            let success = seen.argo_workflows("status.phase == Verified");
            let failure = seen.argo_workflows("status.phase in (Rejected, Expired, Failed)");
            // Not before its evidence is stored, or will never be.
            let verified = ["12", "13"].iter().any(|number| row.state.starts_with(number));
            assert_eq!((success, failure), (verified, failed), "{}", row.state);
        }
    }
}

#[test]
fn what_is_not_seen_yet_passes_for_nobody() {
    // Row 1: the default of the definition.
    let seen = Seen::of(1, false, &crate::lifecycle::sample::fresh());
    assert_eq!((seen.kstatus(), seen.argo_cd()), (InProgress, Progressing));
    assert!(!seen.kubectl_waits_for("Ready") && !seen.argo_workflows("status.phase == Verified"));
    assert_eq!(seen.flux_faults(), ["Ready is missing"], "which Flux reports whatever one does");
}

#[test]
fn an_edit_that_is_not_seen_yet_is_in_progress() {
    // Row 19.
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let seen = seen(&(row.brings)(ready_when)).edited();
            assert_eq!((seen.kstatus(), seen.argo_cd()), (InProgress, Progressing), "{}", row.state);
            assert!(!seen.kubectl_waits_for("Ready"), "{}", row.state);
        }
    }
}

#[test]
fn what_is_being_deleted_is_terminating() {
    // Row 20.
    for row in ROWS {
        for (ready_when, _) in expected(row) {
            let seen = seen(&(row.brings)(ready_when)).deleted();
            assert_eq!((seen.kstatus(), seen.argo_cd()), (Terminating, Progressing), "{}", row.state);
        }
    }
}

#[test]
fn verified_is_unknown_until_a_verdict_and_finished_is_never_unknown() {
    for row in ROWS {
        let world = (row.brings)(ReadyWhen::Verified);
        let over = world.status.outcome.is_some();
        let (finished, _) = world.shown(ConditionType::Finished).unwrap();
        let (verified, _) = world.shown(ConditionType::Verified).unwrap();
        assert_eq!(finished == ConditionStatus::True, over, "{}", row.state);
        assert_eq!(verified == ConditionStatus::Unknown, !over, "{}", row.state);
    }
}

#[test]
fn a_key_that_is_refused_beside_a_link_is_seen_in_credentials_ready() {
    // Row 16 with `readyWhen: SessionCreated`: Current, with CredentialsReady False.
    let world = for_long(open(ReadyWhen::SessionCreated), &looked(Trouble::AccessDenied));
    let expected = (ConditionStatus::False, "AccessDenied");
    assert_eq!(world.shown(ConditionType::CredentialsReady), Some(expected));
}

#[test]
fn a_lost_answer_shows_in_session_created() {
    let mut world = fresh(ReadyWhen::Verified);
    world.turn(refused(LOST));
    let expected = (ConditionStatus::Unknown, "OutcomeUnknown");
    assert_eq!(world.shown(ConditionType::SessionCreated), Some(expected));
}

#[test]
fn a_session_that_is_not_found_keeps_its_phase_and_clears_by_itself() {
    let mut world = not_found(open(ReadyWhen::Verified));
    assert_eq!(world.status.phase, Some(crate::api::Phase::AwaitingUser));
    world.turn_when_due(said("generated", &[]));
    assert_eq!(seen(&world).kstatus(), InProgress);
}

#[test]
fn suspending_takes_a_stall_away_and_resuming_shows_it_again() {
    let mut world = not_found(open(ReadyWhen::Verified));
    world.facts.suspend = true;
    world.turn(Answer::Uncalled);
    assert_eq!(seen(&world).kstatus(), InProgress);
    world.facts.suspend = false;
    world.turn_when_due(looked(Trouble::NotFound));
    assert_eq!(seen(&world).kstatus(), Kstatus::Failed);
}
