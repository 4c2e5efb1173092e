//! Every combination of past, facts and outcome.
//!
//! First `decide` is asked for every past under every combination of the facts that it reads. Of the cases that do not
//! differ in what `conclude` reads one is kept; each is concluded for every outcome that its step can have, under both
//! meanings of Ready, with and without the annotation, and with every memory of trouble. The gate, the quiet, the due
//! time, the deletion, what is wrong with a missing key and how far a deadline is behind are not read by `conclude`; a
//! test says so. What is asked for as evidence has its own part, [`grid_evidence`].

use std::sync::{LazyLock, Mutex};

use crate::{
    api::{OnUnknownOutcome, ReadyWhen, VerificationStatus},
    lifecycle::{
        Conclusion, Deadline, Due, EvidenceFacts, Facts, Gate, Happened, KeyFact, KeyFault, Next, Past,
        PortalFact, Quiet, Since, Step, Streaks, claim, conclude, decide, ledger, past,
        sample::{self, UID},
        streaks::Grievance,
    },
    priority::Priority,
};

use super::{
    grid_evidence,
    laws::{Concluded, Decided, Shown},
    pasts,
    steps::{KINDS, kind, outcomes},
    tally::Tally,
};

static TALLY: LazyLock<Tally> = LazyLock::new(run);

/// Fails if that law does not hold over the grid.
#[track_caller]
pub(super) fn holds(law: &str) {
    TALLY.assert_holds(law);
}

fn run() -> Tally {
    let work = Mutex::new(pasts::all().into_iter());
    let tally = Mutex::new(Tally::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap().next();
                    let Some(sample) = next else { break };
                    let mut own = Tally::new();
                    try_past(sample.name, &sample.status, &mut own);
                    tally.lock().unwrap().add(own);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// The instant of the grid: an hour after the samples began.
const HOUR: u64 = 3600;

fn an_hour_later() -> Facts {
    let now = sample::after(HOUR);
    Facts { now, portal_now: Some(now), ..sample::facts() }
}

fn deadlines() -> [Deadline; 5] {
    let at = sample::after(HOUR - 1800);
    let passed = |looked, overdue, long_ago| Deadline::Passed { at, looked, overdue, long_ago };
    [
        Deadline::Ahead(sample::after(168 * HOUR)),
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

fn gates() -> [Gate; 5] {
    let until = sample::after(HOUR + 600);
    [Gate::Open, Gate::Paused(until), Gate::Breaker(until), Gate::KeyRejected(until), Gate::Rate(until)]
}

fn memories() -> [Streaks; 9] {
    let ago = |seconds| sample::after(HOUR - seconds);
    let since = |seconds| Some(Since { what: (), since: ago(seconds), count: 2 });
    let grievance = |what, seconds| Streaks {
        grievance: Some(Since { what, since: ago(seconds), count: 9 }),
        refused_key: Some("0011223344556677".to_owned()),
        ..Streaks::default()
    };
    [
        Streaks::default(),
        Streaks { failing: since(360), ..Streaks::default() },
        grievance(Grievance::Key, 900),
        grievance(Grievance::Key, 30),
        grievance(Grievance::Misconfigured, 900),
        grievance(Grievance::Invalid, 900),
        Streaks { not_found: since(600), good_looks: 2, key_missing: Some(ago(900)), ..Streaks::default() },
        Streaks { paused: Some(ago(120)), failing: since(20), ..Streaks::default() },
        Streaks {
            good_looks: 9,
            last_answer: Some(ago(30)),
            changed_at: Some(ago(60)),
            still_since: Some(ago(3600)),
            updated_at: Some(ago(90)),
            shown_at: Some(ago(3)),
            ..Streaks::default()
        },
    ]
}

/// Decides under every combination of facts and hands over those that differ for `conclude`.
fn every_decision(
    past: &Past,
    status: &VerificationStatus,
    restored: bool,
    mut see: impl FnMut(&Facts, &Step, bool),
) {
    let ledger = ledger(status);
    // Nothing is asked for here, whatever was asked for before.
    let evidence = EvidenceFacts::of(None, status);
    let mut facts = Facts { generation: 2, evidence, ..an_hour_later() };
    let until = sample::after(HOUR + 45);
    let adoptions = if restored { vec![sample::id()] } else { vec![None, sample::id()] };
    let allowed = facts.portal.clone();
    let mut known = vec![false; KINDS * 2 * 2 * 2 * 2 * 2 * 3];
    let rare = [
        Facts { too_large: true, ..facts.clone() },
        Facts { known: sample::known(), ..facts.clone() },
        Facts { known: sample::known(), suspend: true, ..facts.clone() },
    ];
    for facts in &rare {
        see(facts, &decide(past, ledger, facts), true);
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
                        let step = decide(past, ledger, facts);
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
                    for gate in gates() {
                        facts.gate = gate;
                        for quiet in [Quiet::Yes, Quiet::No(until), Quiet::NeverSent] {
                            facts.quiet = quiet;
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
    let past = past(UID, status);
    let ledger = ledger(status);
    let mut chosen = Vec::new();
    every_decision(&past, status, name.starts_with("restored, open"), |facts, step, new| {
        tally.decided(&Decided { past: &past, ledger, facts, step }, name);
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
                facts.streaks.clone_from(memory);
                try_step(name, &past, status, &shown, &facts, &step, tally);
            }
            let portal_now = facts.portal_now.take();
            try_step(name, &past, status, &shown, &facts, &step, tally);
            facts.portal_now = portal_now;
            facts.reconcile_requested = Some("now".to_owned());
            try_step(name, &past, status, &shown, &facts, &step, tally);
            facts.reconcile_requested = None;
        }
    }
    grid_evidence::every_decision(&past, status, |facts, step, memories| {
        tally.decided(&Decided { past: &past, ledger, facts, step }, name);
        for (ready_when, memory) in memories
            .iter()
            .flat_map(|memory| [(ReadyWhen::Verified, memory), (ReadyWhen::SessionCreated, memory)])
        {
            let facts = Facts { ready_when, streaks: memory.clone(), ..facts.clone() };
            try_step(name, &past, status, &shown, &facts, step, tally);
        }
    });
}

fn try_step(
    name: &str,
    past: &Past,
    status: &VerificationStatus,
    shown_before: &Shown,
    facts: &Facts,
    step: &Step,
    tally: &mut Tally,
) {
    let mut tell = |past: &Past,
                    before: &VerificationStatus,
                    shown_before: &Shown,
                    happened: &Happened,
                    conclusion: &Conclusion| {
        let after = conclusion.status.as_ref().map(|status| (status, Shown::of(status)));
        let case = Concluded { past, before, shown_before, facts, step, happened, conclusion, after };
        tally.concluded(&case, name);
    };
    let Step::Create { attempt } = step else {
        for happened in outcomes(step) {
            let conclusion = conclude(status, past, ledger(status), step, happened, facts);
            tell(past, status, shown_before, happened, &conclusion);
        }
        return;
    };
    let claimed = claim(status, *attempt, facts);
    let shown_claimed = Shown::of(&claimed);
    let ledger = ledger(&claimed);
    tell(past, status, shown_before, &Happened::Nothing, &as_conclusion(&claimed, facts));
    for happened in outcomes(step) {
        let conclusion = conclude(&claimed, &Past::Claimed, ledger, step, happened, facts);
        tell(&Past::Claimed, &claimed, &shown_claimed, happened, &conclusion);
    }
}

/// A claim as the conclusion of a create of which nothing has come yet.
pub(super) fn as_conclusion(claimed: &VerificationStatus, facts: &Facts) -> Conclusion {
    Conclusion {
        status: Some(claimed.clone()),
        next: Next::Watch,
        priority: Priority::Create,
        streaks: facts.streaks.clone(),
        events: Vec::new(),
    }
}

#[test]
fn the_grid_is_large_and_takes_every_step() {
    assert!(TALLY.cases > 1_000_000, "{}", TALLY.cases);
    let mut taken = [false; KINDS];
    for sample in pasts::all() {
        let past = past(UID, &sample.status);
        every_decision(&past, &sample.status, false, |_, step, _| taken[kind(step)] = true);
        grid_evidence::every_decision(&past, &sample.status, |_, step, _| taken[kind(step)] = true);
    }
    assert_eq!(taken, [true; KINDS]);
}

#[test]
fn conclude_reads_nothing_that_only_decide_judges() {
    let base = an_hour_later();
    let until = sample::after(HOUR + 300);
    let missing = |fault| Facts { key: KeyFact::Missing(fault), ..base.clone() };
    let passed = |deadline| Facts { deadline, ..base.clone() };
    let [_, behind, others @ ..] = deadlines();
    let alike = [
        vec![
            base.clone(),
            // The same again: nothing but the arguments decides.
            base.clone(),
            Facts { gate: Gate::Paused(until), ..base.clone() },
            Facts { quiet: Quiet::No(until), ..base.clone() },
            Facts { due: Due::At(until), ..base.clone() },
            Facts { deleting: true, ..base.clone() },
            Facts { retry: Some("go".to_owned()), ..base.clone() },
        ],
        KeyFault::ALL.map(missing).to_vec(),
        std::iter::once(behind).chain(others).map(passed).collect(),
    ];
    for sample in pasts::all() {
        let past = past(UID, &sample.status);
        let ledger = ledger(&sample.status);
        for facts in &alike {
            let step = decide(&past, ledger, &facts[0]);
            for happened in outcomes(&step) {
                let conclude = |facts| conclude(&sample.status, &past, ledger, &step, happened, facts);
                let expected = conclude(&facts[0]);
                for other in &facts[1..] {
                    assert_eq!(conclude(other), expected, "{}", sample.name);
                }
            }
        }
    }
}
