//! Every combination of past, facts and outcome.
//!
//! First `decide` is asked for every past under every combination of the facts that it reads. Of the cases that do not
//! differ in what `conclude` reads one is kept; each is concluded for every outcome that its step can have, under both
//! meanings of Ready, with and without the annotation, and with every memory of error. The gate, the quiet, the due
//! time, the deletion, what is wrong with a missing key and how far a deadline is behind are not read by `conclude`; a
//! test says so. What is asked for as evidence has its own part, [`grid_evidence`].

use std::sync::LazyLock;

use super::{
    grid_evidence,
    laws::{Concluded, Decided, Shown},
    states,
    steps::{KINDS, kind, outcomes},
    tally::Tally,
};
use crate::{
    api::{OnUnknownOutcome, ReadyWhen, VerificationStatus},
    lifecycle::{
        conclude::{Conclusion, Requeue, claim, conclude},
        decide::decide,
        evidence::EvidenceFacts,
        facts::{AdmissionFact, Deadline, Due, Facts, InFlight, KeyFact, KeyFault, PortalFact},
        fixtures::{self, UID},
        local_state::{BlockerKind, LocalState, Since},
        state::{State, attempts, state},
        step::{Step, StepOutcome},
    },
    priority::Priority,
};
use parking_lot::Mutex;

static TALLY: LazyLock<Tally> = LazyLock::new(run);

/// Fails if that law does not hold over the grid.
#[track_caller]
pub(super) fn holds(law: &str) {
    TALLY.assert_holds(law);
}

fn run() -> Tally {
    let work = Mutex::new(states::all().into_iter());
    let tally = Mutex::new(Tally::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = work.lock().next();
                    let Some(fixtures) = next else { break };
                    let mut own = Tally::new();
                    try_past(fixtures.name, &fixtures.status, &mut own);
                    tally.lock().add(own);
                }
            });
        }
    });
    tally.into_inner()
}

/// The instant of the grid: an hour after the samples began.
const HOUR: u64 = 3600;

fn an_hour_later() -> Facts {
    let now = fixtures::after(HOUR);
    Facts { now, portal_now: Some(now), ..fixtures::facts() }
}

fn deadlines() -> [Deadline; 5] {
    let at = fixtures::after(HOUR - 1800);
    let passed = |looked, overdue, long_ago| Deadline::Passed { at, looked, overdue, long_ago };
    [
        Deadline::Ahead(fixtures::after(168 * HOUR)),
        passed(false, false, false),
        passed(true, false, false),
        passed(false, true, false),
        passed(false, false, true),
    ]
}

fn keys() -> Vec<KeyFact> {
    let usable = |fingerprint: &str| KeyFact::Usable { fingerprint: fingerprint.to_owned() };
    let missing = KeyFault::ALL.into_iter().map(KeyFact::Missing);
    [usable("0011223344556677"), usable("8899aabbccddeeff")].into_iter().chain(missing).collect()
}

fn gates() -> [AdmissionFact; 5] {
    let until = fixtures::after(HOUR + 600);
    [
        AdmissionFact::Open,
        AdmissionFact::Paused(until),
        AdmissionFact::Breaker(until),
        AdmissionFact::KeyRejected(until),
        AdmissionFact::Rate(until),
    ]
}

fn memories() -> [LocalState; 9] {
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
            good_looks: 2,
            key_missing: Some(ago(900)),
            ..LocalState::default()
        },
        LocalState { paused: Some(ago(120)), failing: since(20), ..LocalState::default() },
        LocalState {
            good_looks: 9,
            last_answer: Some(ago(30)),
            changed_at: Some(ago(60)),
            still_since: Some(ago(3600)),
            updated_at: Some(ago(90)),
            shown_at: Some(ago(3)),
            ..LocalState::default()
        },
    ]
}

/// Decides under every combination of facts and hands over those that differ for `conclude`.
fn every_decision(
    state: &State,
    status: &VerificationStatus,
    restored: bool,
    mut see: impl FnMut(&Facts, &Step, bool),
) {
    let attempts = attempts(status);
    // Nothing is asked for here, whatever was asked for before.
    let evidence = EvidenceFacts::of(None, status);
    let mut facts = Facts { generation: 2, evidence, ..an_hour_later() };
    let until = fixtures::after(HOUR + 45);
    let adoptions = if restored { vec![fixtures::id()] } else { vec![None, fixtures::id()] };
    let allowed = facts.portal.clone();
    let mut known = vec![false; KINDS * 2 * 2 * 2 * 2 * 2 * 3];
    let rare = [
        Facts { too_large: true, ..facts.clone() },
        Facts { known: fixtures::known(), ..facts.clone() },
        Facts { known: fixtures::known(), suspend: true, ..facts.clone() },
    ];
    for facts in &rare {
        see(facts, &decide(state, attempts, facts), true);
    }
    for (key_number, key) in keys().into_iter().enumerate() {
        facts.key = key;
        for (portal_number, portal) in [allowed.clone(), PortalFact::NotAllowed].into_iter().enumerate() {
            facts.portal = portal;
            for (adopt_number, adopt) in adoptions.iter().enumerate() {
                facts.adopt.clone_from(adopt);
                for retry in [None, Some("go".to_owned())] {
                    facts.retry = retry;
                    every_plain_fact(&mut facts, until, |facts, numbers| {
                        let step = decide(state, attempts, facts);
                        let [suspend, hold, deadline] = numbers;
                        let place = [(2, suspend), (2, hold), (2, deadline.min(1)), (2, adopt_number)]
                            .into_iter()
                            .chain([(2, portal_number), (3, key_number.min(2))])
                            .fold(kind(&step), |place, (size, number)| place * size + number);
                        let new = !std::mem::replace(&mut known[place], true);
                        see(facts, &step, new);
                    });
                }
            }
        }
    }
}

fn every_plain_fact(facts: &mut Facts, until: jiff::Timestamp, mut see: impl FnMut(&Facts, [usize; 3])) {
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
                    for admission in gates() {
                        facts.admission = admission;
                        for in_flight in [InFlight::None, InFlight::Possible(until), InFlight::NeverSent] {
                            facts.in_flight = in_flight;
                            for due in [Due::Now, Due::At(until)] {
                                facts.due = due;
                                see(facts, [usize::from(suspend), hold_number, deadline_number]);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn try_past(name: &str, status: &VerificationStatus, tally: &mut Tally) {
    let state = state(UID, status);
    let attempts = attempts(status);
    let mut chosen = Vec::new();
    every_decision(&state, status, name.starts_with("restored, open"), |facts, step, new| {
        tally.decided(&Decided { state: &state, attempts, facts, step }, name);
        if new {
            chosen.push((facts.clone(), step.clone()));
        }
    });
    let memories = memories();
    let shown = Shown::of(status);
    for (mut facts, step) in chosen {
        for ready_when in [ReadyWhen::Verified, ReadyWhen::SessionCreated] {
            facts.ready_when = ready_when;
            for memory in &memories {
                facts.local_state.clone_from(memory);
                try_step(name, &state, status, &shown, &facts, &step, tally);
            }
            let portal_now = facts.portal_now.take();
            try_step(name, &state, status, &shown, &facts, &step, tally);
            facts.portal_now = portal_now;
            facts.reconcile_requested = Some("now".to_owned());
            try_step(name, &state, status, &shown, &facts, &step, tally);
            facts.reconcile_requested = None;
        }
    }
    grid_evidence::every_decision(&state, status, |facts, step, memories| {
        tally.decided(&Decided { state: &state, attempts, facts, step }, name);
        for (ready_when, memory) in memories
            .iter()
            .flat_map(|memory| [(ReadyWhen::Verified, memory), (ReadyWhen::SessionCreated, memory)])
        {
            let facts = Facts { ready_when, local_state: memory.clone(), ..facts.clone() };
            try_step(name, &state, status, &shown, &facts, step, tally);
        }
    });
}

fn try_step(
    name: &str,
    state: &State,
    status: &VerificationStatus,
    shown_before: &Shown,
    facts: &Facts,
    step: &Step,
    tally: &mut Tally,
) {
    let mut tell = |state: &State,
                    before: &VerificationStatus,
                    shown_before: &Shown,
                    outcome: &StepOutcome,
                    conclusion: &Conclusion| {
        let after = conclusion.status.as_ref().map(|status| (status, Shown::of(status)));
        let case = Concluded { state, before, shown_before, facts, step, outcome, conclusion, after };
        tally.concluded(&case, name);
    };
    let Step::Create { attempt } = step else {
        for outcome in outcomes(step) {
            let conclusion = conclude(status, state, attempts(status), step, outcome, facts);
            tell(state, status, shown_before, outcome, &conclusion);
        }
        return;
    };
    let claimed = claim(status, *attempt, facts);
    let shown_claimed = Shown::of(&claimed);
    let attempts = attempts(&claimed);
    tell(state, status, shown_before, &StepOutcome::Nothing, &as_conclusion(&claimed, facts));
    for outcome in outcomes(step) {
        let conclusion = conclude(&claimed, &State::Claimed, attempts, step, outcome, facts);
        tell(&State::Claimed, &claimed, &shown_claimed, outcome, &conclusion);
    }
}

/// A claim as the conclusion of a create of which nothing has come yet.
pub(super) fn as_conclusion(claimed: &VerificationStatus, facts: &Facts) -> Conclusion {
    Conclusion {
        status: Some(claimed.clone()),
        next: Requeue::AwaitChange,
        priority: Priority::Create,
        local_state: facts.local_state.clone(),
        events: Vec::new(),
    }
}

#[test]
fn the_grid_is_large_and_takes_every_step() {
    assert!(TALLY.cases > 1_000_000, "{}", TALLY.cases);
    let mut taken = [false; KINDS];
    for fixtures in states::all() {
        let state = state(UID, &fixtures.status);
        every_decision(&state, &fixtures.status, false, |_, step, _| taken[kind(step)] = true);
        grid_evidence::every_decision(&state, &fixtures.status, |_, step, _| taken[kind(step)] = true);
    }
    assert_eq!(taken, [true; KINDS]);
}

#[test]
fn conclude_reads_nothing_that_only_decide_judges() {
    let base = an_hour_later();
    let until = fixtures::after(HOUR + 300);
    let missing = |fault| Facts { key: KeyFact::Missing(fault), ..base.clone() };
    let passed = |deadline| Facts { deadline, ..base.clone() };
    let [_, behind, others @ ..] = deadlines();
    let alike = [
        vec![
            base.clone(),
            // The same again: nothing but the arguments decides.
            base.clone(),
            Facts { admission: AdmissionFact::Paused(until), ..base.clone() },
            Facts { in_flight: InFlight::Possible(until), ..base.clone() },
            Facts { due: Due::At(until), ..base.clone() },
            Facts { deleting: true, ..base.clone() },
            Facts { retry: Some("go".to_owned()), ..base.clone() },
        ],
        KeyFault::ALL.map(missing).to_vec(),
        std::iter::once(behind).chain(others).map(passed).collect(),
    ];
    for fixtures in states::all() {
        let state = state(UID, &fixtures.status);
        let attempts = attempts(&fixtures.status);
        for facts in &alike {
            let step = decide(&state, attempts, &facts[0]);
            for outcome in outcomes(&step) {
                let conclude = |facts| conclude(&fixtures.status, &state, attempts, &step, outcome, facts);
                let expected = conclude(&facts[0]);
                for other in &facts[1..] {
                    assert_eq!(conclude(other), expected, "{}", fixtures.name);
                }
            }
        }
    }
}
