//! Every combination of state, facts and outcome.
//!
//! `decide` runs for every state under every combination of the facts that it reads. Of the cases that are equal in
//! what `conclude` reads, one is kept. Each is concluded for every outcome that its step can have, under both meanings
//! of Ready, with and without the annotation, and with every remembered error. `conclude` does not read what may be in
//! flight, the due time, the deletion, the kind of missing key and how long ago a deadline passed; a test shows that.
//! Evidence has its own part, [`grid_evidence`], and so has `spec.ttlAfterFinished`, [`grid_cleanup`].

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use jiff::Timestamp;

use super::{
    coverage::Coverage,
    grid_cleanup, grid_evidence,
    invariants::{Concluded, Decided, Shown},
    states,
    steps::{KINDS, kind, outcomes, refusals},
};
use crate::{
    api::{OnUnknownOutcome, ReadyWhen, VerificationStatus},
    lifecycle::{
        blocker::BlockerKind,
        conclude::{Conclusion, Requeue, claim, conclude},
        decide::decide,
        evidence::EvidenceFacts,
        facts::{Deadline, Due, Facts, InFlight, PortalFact},
        fixtures::{self, UID},
        key_fact::{KeyFact, KeyFault, KeyVersion},
        local_state::LocalState,
        schedule::Bounds,
        since::Since,
        state::ParsedStatus,
        step::{Step, StepOutcome},
    },
    priority::Priority,
};
use parking_lot::Mutex;

/// The grid has at least this many cases.
const LEAST_CASES: usize = 9_901_887;

static COVERAGE: LazyLock<Coverage> = LazyLock::new(run);

/// Fails if the invariant does not hold over the grid.
#[track_caller]
pub(super) fn holds(invariant: &str) {
    COVERAGE.assert_holds(invariant);
}

fn run() -> Coverage {
    let mut states = states::all();
    // Finished states have the most cases, so they must not come last, when only one thread is left.
    states.sort_by_key(|sample| sample.status.outcome.is_none() || sample.status.settled);
    let work = Mutex::new(states.into_iter());
    let coverage = Mutex::new(Coverage::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = work.lock().next();
                    let Some(fixtures) = next else { break };
                    let mut own = Coverage::new();
                    try_state(fixtures.name, &fixtures.status, &mut own);
                    coverage.lock().add(own);
                }
            });
        }
    });
    coverage.into_inner()
}

/// The instant of the grid: an hour after the fixtures' first instant.
const HOUR: u64 = 3600;

fn an_hour_later() -> Facts {
    let now = fixtures::after(HOUR);
    Facts { now, portal_now: Some(now), ..fixtures::facts() }
}

fn deadlines() -> [Deadline; 5] {
    let at = fixtures::after(HOUR - 1800);
    let passed = |polled, overdue, long_ago| Deadline::Passed { at, polled, overdue, long_ago };
    [
        Deadline::Ahead(fixtures::after(168 * HOUR)),
        passed(false, false, false),
        passed(true, false, false),
        passed(false, true, false),
        passed(false, false, true),
    ]
}

/// Keys, each with which one it is.
fn keys() -> Vec<(KeyFact, KeyVersion)> {
    use KeyVersion::{Current, Previous};
    let usable = |fingerprint: &str| KeyFact::Usable { fingerprint: fingerprint.to_owned() };
    let (created, other) = (usable("0011223344556677"), usable("8899aabbccddeeff"));
    let missing = KeyFault::ALL.into_iter().map(|fault| (KeyFact::Missing(fault), Current));
    [(created.clone(), Current), (other, Current), (created, Previous)].into_iter().chain(missing).collect()
}

fn local_states() -> [LocalState; 9] {
    let ago = |seconds| fixtures::after(HOUR - seconds);
    let since = |seconds| Some(Since { what: (), since: ago(seconds), count: 2 });
    let blocker_kind = |what, seconds| LocalState {
        blocker_kind: Some(Since { what, since: ago(seconds), count: 9 }),
        refused_key: Some("0011223344556677".to_owned()),
        ..LocalState::default()
    };
    [
        LocalState::default(),
        LocalState { failing: since(360), ..LocalState::default() },
        blocker_kind(BlockerKind::Key, 900),
        blocker_kind(BlockerKind::Key, 30),
        blocker_kind(BlockerKind::Misconfigured, 900),
        blocker_kind(BlockerKind::Invalid, 900),
        LocalState {
            not_found: since(600),
            good_polls: 2,
            key_missing: Some(ago(900)),
            ..LocalState::default()
        },
        LocalState { paused: Some(ago(120)), failing: since(20), ..LocalState::default() },
        LocalState {
            good_polls: 9,
            last_answer: Some(ago(30)),
            changed_at: Some(ago(60)),
            still_since: Some(ago(3600)),
            updated_at: Some(ago(90)),
            shown_at: Some(ago(3)),
            ..LocalState::default()
        },
    ]
}

/// The outcomes of a decided step that are concluded: those that differ from all earlier ones in what `conclude` reads.
#[derive(Clone, Copy)]
struct Fresh {
    /// The outcomes of the step.
    outcomes: bool,
    /// The refusals of its call. What follows from them also depends on the deadline and the schedule.
    refusals: bool,
}

/// Decides under every combination of facts, and passes on which outcomes are new to `conclude`.
fn every_decision(parsed: &ParsedStatus<'_>, restored: bool, mut see: impl FnMut(&Facts, &Step, Fresh)) {
    // No evidence is requested here, whatever was requested before.
    let evidence = EvidenceFacts::of(None, parsed.status());
    let mut facts = Facts { generation: 2, evidence, ..an_hour_later() };
    let until = fixtures::after(HOUR + 45);
    let adoptions = if restored { vec![fixtures::id()] } else { vec![None, fixtures::id()] };
    let allowed = facts.portal.clone();
    let mut known = vec![false; KINDS * 2 * 2 * 2 * 2 * 2 * 4];
    let mut known_refused = vec![false; known.len() * 5 * 2];
    let rare = [
        Facts { too_large: true, ..facts.clone() },
        Facts { known: fixtures::known(), ..facts.clone() },
        Facts { known: fixtures::known(), suspend: true, ..facts.clone() },
    ];
    for facts in &rare {
        see(facts, &decide(parsed, facts), Fresh { outcomes: true, refusals: true });
    }
    for (key_number, (key, key_version)) in keys().into_iter().enumerate() {
        facts.key = key;
        facts.key_version = key_version;
        for (portal_number, portal) in [allowed.clone(), PortalFact::NotAllowed].into_iter().enumerate() {
            facts.portal = portal;
            for (adopt_number, adopt) in adoptions.iter().enumerate() {
                facts.adopt.clone_from(adopt);
                for retry in [None, Some("go".to_owned())] {
                    facts.retry = retry;
                    every_plain_fact(&mut facts, until, |facts, numbers| {
                        let step = decide(parsed, facts);
                        let Some([suspend, hold, deadline, due]) = numbers else {
                            return see(facts, &step, Fresh { outcomes: false, refusals: false });
                        };
                        let place = [(2, suspend), (2, hold), (2, deadline.min(1)), (2, adopt_number)]
                            .into_iter()
                            .chain([(2, portal_number), (4, key_number.min(3))])
                            .fold(kind(&step), |place, (size, number)| place * size + number);
                        let outcomes = !std::mem::replace(&mut known[place], true);
                        let place = (place * 5 + deadline) * 2 + due;
                        let refusals = !std::mem::replace(&mut known_refused[place], true);
                        see(facts, &step, Fresh { outcomes, refusals });
                    });
                }
            }
        }
    }
}

/// Passes on every combination of the other facts, with the indexes of those that `conclude` reads too. No outcome is
/// concluded where a session is known, its record might not fit, or the bounds delay a poll, because `conclude` reads
/// none of these.
fn every_plain_fact(facts: &mut Facts, until: Timestamp, mut see: impl FnMut(&Facts, Option<[usize; 4]>)) {
    let bounds = Bounds { min: Some(Duration::from_mins(1)), max: None };
    let mut just_polled = LocalState { last_poll: Some(facts.now), ..LocalState::default() };
    let mut session = fixtures::known();
    for (deadline_number, deadline) in deadlines().into_iter().enumerate() {
        facts.deadline = deadline;
        for (hold_number, on_unknown) in
            [OnUnknownOutcome::Retry, OnUnknownOutcome::Hold].into_iter().enumerate()
        {
            facts.on_unknown = on_unknown;
            for suspend in [false, true] {
                facts.suspend = suspend;
                for deleting in [false, true] {
                    facts.deleting = deleting;
                    for in_flight in [InFlight::None, InFlight::Possible(until), InFlight::NeverSent] {
                        facts.in_flight = in_flight;
                        for (due_number, due) in [Due::Now, Due::At(until)].into_iter().enumerate() {
                            facts.due = due;
                            let numbers = [usize::from(suspend), hold_number, deadline_number, due_number];
                            see(facts, Some(numbers));
                            facts.too_large = true;
                            see(facts, None);
                            facts.known = session.take();
                            see(facts, None);
                            facts.too_large = false;
                            see(facts, None);
                            session = facts.known.take();
                            facts.bounds = bounds;
                            std::mem::swap(&mut facts.local_state, &mut just_polled);
                            see(facts, None);
                            facts.bounds = Bounds::default();
                            std::mem::swap(&mut facts.local_state, &mut just_polled);
                        }
                    }
                }
            }
        }
    }
}

fn try_state(name: &str, status: &VerificationStatus, coverage: &mut Coverage) {
    let parsed = ParsedStatus::of(UID, status);
    let mut chosen = Vec::new();
    every_decision(&parsed, name.starts_with("restored, open"), |facts, step, fresh| {
        let case = Decided { state: parsed.state(), attempts: parsed.attempts(), facts, step };
        coverage.decided(&case, name);
        if fresh.outcomes || (fresh.refusals && step.portal_step().is_some()) {
            chosen.push((facts.clone(), step.clone(), fresh));
        }
    });
    let local_states = local_states();
    let shown = Shown::of(status);
    let until = fixtures::after(HOUR + 600);
    for (mut facts, step, fresh) in chosen {
        let outcomes = if fresh.outcomes { outcomes(&step) } else { Cow::Borrowed(&[][..]) };
        let refusals = if fresh.refusals { refusals(&step, until) } else { Vec::new() };
        let case = Case {
            name,
            parsed: &parsed,
            shown: &shown,
            step: &step,
            outcomes: &outcomes,
            refusals: &refusals,
        };
        for ready_when in [ReadyWhen::Verified, ReadyWhen::SessionCreated] {
            facts.ready_when = ready_when;
            for memory in &local_states {
                facts.local_state.clone_from(memory);
                case.conclude(&facts, coverage);
            }
            let portal_now = facts.portal_now.take();
            case.conclude(&facts, coverage);
            facts.portal_now = portal_now;
            facts.reconcile_requested = Some("now".to_owned());
            case.conclude(&facts, coverage);
            facts.reconcile_requested = None;
        }
    }
    let mut see = |facts: &Facts, step: &Step, local_states: &[LocalState]| {
        let decided = Decided { state: parsed.state(), attempts: parsed.attempts(), facts, step };
        coverage.decided(&decided, name);
        if local_states.is_empty() {
            return;
        }
        let (outcomes, refusals) = (outcomes(step), refusals(step, grid_evidence::soon()));
        let case =
            Case { name, parsed: &parsed, shown: &shown, step, outcomes: &outcomes, refusals: &refusals };
        let mut facts = facts.clone();
        for memory in local_states {
            facts.local_state.clone_from(memory);
            for ready_when in [ReadyWhen::Verified, ReadyWhen::SessionCreated] {
                facts.ready_when = ready_when;
                case.conclude(&facts, coverage);
            }
        }
    };
    grid_evidence::every_decision(&parsed, &mut see);
    grid_cleanup::every_decision(&parsed, &mut see);
}

/// A step that was decided, and its possible outcomes.
struct Case<'a> {
    name: &'a str,
    parsed: &'a ParsedStatus<'a>,
    /// What status shows.
    shown: &'a Shown,
    step: &'a Step,
    outcomes: &'a [StepOutcome],
    refusals: &'a [StepOutcome],
}

impl Case<'_> {
    /// Concludes every outcome under these facts. A refusal comes before the claim, the outcome of a create after it.
    fn conclude(&self, facts: &Facts, coverage: &mut Coverage) {
        let mut see = |before, outcome, conclusion: &Conclusion| {
            coverage.concluded(&Concluded::of(before, facts, outcome, conclusion), self.name);
        };
        let before = (self.parsed, self.shown);
        for refusal in self.refusals {
            let conclusion = conclude(self.parsed, refusal, facts);
            see(before, Some(refusal), &conclusion);
        }
        let claimed = match self.step {
            Step::Create { attempt } if !self.outcomes.is_empty() => {
                let claimed = claim(self.parsed.status(), *attempt, facts);
                see(before, None, &as_conclusion(&claimed, facts));
                Some(claimed)
            }
            Step::Create { attempt: _ }
            | Step::Transition(_)
            | Step::Adopt(_)
            | Step::Poll(_)
            | Step::AddFinalizer
            | Step::Store
            | Step::RemoveEvidence { release_when: _ }
            | Step::Delete { awaits_store: _ } => None,
        };
        let claimed = claimed.as_ref().map(|claimed| (ParsedStatus::of(UID, claimed), Shown::of(claimed)));
        let before = claimed.as_ref().map_or(before, |(parsed, shown)| (parsed, shown));
        for outcome in self.outcomes {
            see(before, Some(outcome), &conclude(before.0, outcome, facts));
        }
    }
}

/// A claim as the conclusion of a create without an outcome yet.
pub(super) fn as_conclusion(claimed: &VerificationStatus, facts: &Facts) -> Conclusion {
    Conclusion {
        status: Some(claimed.clone()),
        next: Requeue::AwaitChange,
        priority: Priority::Create,
        local_state: facts.local_state.clone(),
        events: Vec::new(),
        waits_for: None,
    }
}

#[test]
fn the_grid_is_large_and_takes_every_step() {
    println!("grid: {} cases", COVERAGE.cases);
    assert!(COVERAGE.cases >= LEAST_CASES, "{}", COVERAGE.cases);
    assert_eq!(COVERAGE.taken, [true; KINDS]);
}

#[test]
fn conclude_does_not_read_what_only_decide_needs() {
    let base = an_hour_later();
    let until = fixtures::after(HOUR + 300);
    let missing = |fault| Facts { key: KeyFact::Missing(fault), ..base.clone() };
    let passed = |deadline| Facts { deadline, ..base.clone() };
    let [_, behind, others @ ..] = deadlines();
    let alike = [
        // What follows from a refusal depends on the deadline and the schedule for a poll only.
        (
            vec![
                base.clone(),
                // The same arguments give the same result.
                base.clone(),
                Facts { in_flight: InFlight::Possible(until), ..base.clone() },
                Facts { deleting: true, ..base.clone() },
                Facts { retry: Some("go".to_owned()), ..base.clone() },
            ],
            true,
        ),
        (vec![base.clone(), Facts { due: Due::At(until), ..base.clone() }], false),
        (KeyFault::ALL.map(missing).to_vec(), true),
        (std::iter::once(behind).chain(others).map(passed).collect(), false),
    ];
    for case in states::all() {
        let before = ParsedStatus::of(UID, &case.status);
        for (facts, is_refused) in &alike {
            let step = decide(&before, &facts[0]);
            let mut all = outcomes(&step).into_owned();
            all.extend(if *is_refused { refusals(&step, until) } else { Vec::new() });
            for outcome in all {
                let conclude = |facts| conclude(&before, &outcome, facts);
                let expected = conclude(&facts[0]);
                for other in &facts[1..] {
                    assert_eq!(conclude(other), expected, "{}", case.name);
                }
            }
        }
    }
}
