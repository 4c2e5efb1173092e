//! The rows of the second table, but for evidence.

use crate::{
    api::{OnUnknownOutcome, Phase, SessionState, VerificationStatus},
    lifecycle::{
        conclude::{Conclusion, conclude},
        facts::{Facts, KeyFact, KeyFault},
        fixtures::{self, UID},
        local_state::{BlockerKind, Since},
        state::{attempts, state},
        step::{CreateOutcome, Shown, Step, StepOutcome, Wait},
    },
    portal::error::{Failed, NotSent, PortalError},
};

/// One row of the second table.
pub(super) struct Row {
    pub(super) step: &'static str,
    pub(super) outcome: String,
    pub(super) conclusion: Conclusion,
    pub(super) facts: Facts,
}

/// A look or an adoption of an open session at the age of ten minutes.
fn aged() -> Facts {
    Facts { now: fixtures::after(600), ..fixtures::facts() }
}

/// Every row but those of evidence.
pub(super) fn conclusions() -> Vec<Row> {
    let mut rows = create_rows();
    rows.extend(claim_rows());
    rows.extend(look_rows());
    rows.extend(adopt_rows());
    rows.extend(other_rows());
    rows
}

/// What is concluded of a step.
pub(super) fn row(
    step_name: &'static str,
    result: impl Into<String>,
    status: &VerificationStatus,
    step: &Step,
    outcome: &StepOutcome,
    facts: &Facts,
) -> Row {
    let conclusion = conclude(status, &state(UID, status), attempts(status), step, outcome, facts);
    Row { step: step_name, outcome: result.into(), conclusion, facts: facts.clone() }
}

/// The same facts after ten minutes of that complaint.
fn aggrieved(facts: &Facts, what: BlockerKind) -> Facts {
    let mut facts = facts.clone();
    facts.local_state.blocker_kind = Some(Since { what, since: fixtures::now(), count: 9 });
    facts.now = fixtures::after(600);
    facts
}

fn create_rows() -> Vec<Row> {
    let claimed = fixtures::attempted(SessionState::Claimed, 1, 0);
    let spent = fixtures::attempted(SessionState::Claimed, 3, 2);
    let step = Step::Create { attempt: 1 };
    let facts = fixtures::facts();
    let hold = Facts { on_unknown: OnUnknownOutcome::Hold, ..facts.clone() };
    let answer = |error| StepOutcome::Create(CreateOutcome::Answered(Err(error)));
    let lost = || answer(PortalError::Failed(Failed::TimedOut));
    let create = |result: &str, outcome: &StepOutcome, facts: &Facts| {
        row("Create", result, &claimed, &step, outcome, facts)
    };
    let mut rows = vec![
        create("claim lost (409)", &StepOutcome::Create(CreateOutcome::ClaimLost), &facts),
        create("claim not writable", &StepOutcome::Create(CreateOutcome::ClaimNotWritten), &facts),
        create("claimed, request not sent", &StepOutcome::Create(CreateOutcome::NotSent), &facts),
        create("no connection", &answer(PortalError::NotSent(NotSent::Connect)), &facts),
        create("401", &answer(PortalError::KeyRejected), &facts),
        create(
            "401 for ten minutes",
            &answer(PortalError::KeyRejected),
            &aggrieved(&facts, BlockerKind::Key),
        ),
        create("403", &answer(PortalError::AccessDenied), &facts),
        create("400, 422, other 4xx", &answer(PortalError::Invalid), &facts),
        create("… for ten minutes", &answer(PortalError::Invalid), &aggrieved(&facts, BlockerKind::Invalid)),
        create("404", &answer(PortalError::NotFound), &facts),
        create("3xx", &answer(PortalError::Redirected), &facts),
        create("\"Server not configured\"", &answer(PortalError::Unconfigured), &facts),
        create(
            "… for ten minutes",
            &answer(PortalError::Unconfigured),
            &aggrieved(&facts, BlockerKind::Misconfigured),
        ),
        create(
            "4xx that is not in the portal's word, but 408 and 499",
            &answer(PortalError::Unclear { status: 403 }),
            &facts,
        ),
        create("409", &answer(PortalError::Conflict), &facts),
        create("429, 503 with Retry-After", &answer(PortalError::Limited { retry_after: None }), &facts),
        create("unknown", &lost(), &facts),
        row("Create", "unknown, the third", &spent, &step, &lost(), &facts),
        create("unknown, with Hold", &lost(), &hold),
    ];
    if let Some(created) = fixtures::created() {
        let outcome = StepOutcome::Create(CreateOutcome::Answered(Ok(created)));
        rows.push(create("created", &outcome, &facts));
    }
    rows
}

fn claim_rows() -> Vec<Row> {
    let facts = fixtures::facts();
    let claimed = fixtures::attempted(SessionState::Claimed, 1, 0);
    let again = fixtures::attempted(SessionState::Claimed, 2, 1);
    let give_up =
        |outcome: &str, status, step| row("GiveUp", outcome, status, &step, &StepOutcome::Nothing, &facts);
    vec![
        give_up("not created", &claimed, Step::GiveUpRefused),
        give_up("unknown", &claimed, Step::GiveUpLost),
        give_up("unknown, the second", &again, Step::GiveUpLost),
    ]
}

fn look_rows() -> Vec<Row> {
    let open = fixtures::open(Phase::AwaitingUser);
    let Some(id) = fixtures::id() else { return Vec::new() };
    let step = Step::Poll(id);
    let facts = aged();
    let look = |outcome: &str, answer, facts: &Facts| {
        row("Look", outcome, &open, &step, &StepOutcome::Poll(answer), facts)
    };
    let said = |word: &str| Ok(fixtures::details(word, &[]));
    let mut rotated = facts.clone();
    rotated.key = KeyFact::Usable { fingerprint: "8899aabbccddeeff".to_owned() };
    let mut troubled = facts.clone();
    troubled.local_state.failing = Some(Since { what: (), since: fixtures::now(), count: 9 });
    let mut missing = facts.clone();
    missing.local_state.not_found = Some(Since { what: (), since: fixtures::now(), count: 2 });
    let mut long_over = missing.clone();
    long_over.now = fixtures::after(7300);
    long_over.portal_now = Some(long_over.now);
    long_over.local_state.good_looks = 2;
    long_over.local_state.still_since = Some(fixtures::now());
    let mut found = long_over.clone();
    found.polled_at = Some(found.now);
    let young = Facts { now: fixtures::after(30), ..fixtures::facts() };
    let mut rows = vec![look(
        "200 for another id",
        Ok(crate::portal::wire::Details { id: None, ..fixtures::details("verified", &[]) }),
        &facts,
    )];
    rows.extend(
        ["generated", "in_progress", "validating", "needs_manual_review", "a word nobody knows"]
            .map(|word| look(&format!("200, `{word}`"), said(word), &facts)),
    );
    rows.extend(
        ["verified", "rejected", "expired"].map(|word| look(&format!("200, `{word}`"), said(word), &facts)),
    );
    rows.extend(vec![
        look(
            "200, an hour past `expiresAt` by the portal's clock and as long still, the third in a row",
            said("generated"),
            &long_over,
        ),
        look("401", Err(PortalError::KeyRejected), &facts),
        look("401 for ten minutes", Err(PortalError::KeyRejected), &aggrieved(&facts, BlockerKind::Key)),
        look("403", Err(PortalError::AccessDenied), &facts),
        look("403 and another key", Err(PortalError::AccessDenied), &rotated),
        look("404, session under a minute old", Err(PortalError::NotFound), &young),
        look("404", Err(PortalError::NotFound), &facts),
        look("404, the third", Err(PortalError::NotFound), &missing),
        look("… an hour past `expiresAt`", Err(PortalError::NotFound), &long_over),
        look("… and another session of the key is found, or a day of it", Err(PortalError::NotFound), &found),
        look("4xx that is not in the portal's word", Err(PortalError::Unclear { status: 403 }), &facts),
        look("429, 503 with Retry-After", Err(PortalError::Limited { retry_after: None }), &facts),
        look("5xx, transport, bad body", Err(PortalError::Failed(Failed::Cut)), &facts),
        look("… for five minutes", Err(PortalError::Failed(Failed::Cut)), &troubled),
    ]);
    rows
}

fn adopt_rows() -> Vec<Row> {
    let Some(id) = fixtures::id() else { return Vec::new() };
    let step = Step::Adopt(id.clone());
    let facts = Facts { adopt: Some(id), ..fixtures::facts() };
    let mut missing = facts.clone();
    missing.local_state.not_found = Some(Since { what: (), since: fixtures::now(), count: 2 });
    let adopt = |outcome: &str, answer, facts: &Facts| {
        row("Adopt", outcome, &fixtures::fresh(), &step, &StepOutcome::Poll(answer), facts)
    };
    vec![
        adopt("200 that names the id", Ok(fixtures::details("in_progress", &[])), &facts),
        adopt("404", Err(PortalError::NotFound), &facts),
        adopt("404, the third", Err(PortalError::NotFound), &missing),
        adopt("403", Err(PortalError::AccessDenied), &facts),
        adopt("5xx, transport, bad body", Err(PortalError::Failed(Failed::Cut)), &facts),
    ]
}

fn other_rows() -> Vec<Row> {
    let facts = aged();
    let fresh = fixtures::fresh();
    let open = fixtures::open(Phase::AwaitingUser);
    let lost = fixtures::attempted(SessionState::Unknown, 3, 3);
    let mut unreadable = open.clone();
    unreadable.session = None;
    let nothing = &StepOutcome::Nothing;
    let until = fixtures::after(1200);
    let mut paused = facts.clone();
    paused.local_state.paused = Some(fixtures::now());
    let suspended = Facts { suspend: true, ..facts.clone() };
    let restored =
        fixtures::known().map(|known| row("Restore", "", &fresh, &Step::Restore(known), nothing, &facts));
    let mut rows = vec![
        row("Grant", "", &lost, &Step::Retry("1".to_owned()), nothing, &facts),
        row("End", "deadline", &open, &Step::Fail, nothing, &facts),
        row("Settle", "", &fixtures::over(crate::api::Outcome::Verified), &Step::Settle, nothing, &facts),
        row("Show", "suspended", &open, &Step::Show(Shown::Suspended), nothing, &suspended),
        row("Show", "portal not allowed", &open, &Step::Show(Shown::PortalNotAllowed), nothing, &facts),
        row("Show", "no room for a record", &fresh, &Step::Show(Shown::ResourceTooLarge), nothing, &facts),
        row("Show", "status unreadable", &unreadable, &Step::Show(Shown::StatusUnreadable), nothing, &facts),
        row("Show", "lost answers", &lost, &Step::Show(Shown::CreateOutcomeUnknown), nothing, &facts),
        row("Wait", "no key, no link", &fresh, &Step::Wait(Wait::Key(KeyFault::KeyMissing)), nothing, &facts),
        row("Wait", "no key, link", &open, &Step::Wait(Wait::Key(KeyFault::KeyMissing)), nothing, &facts),
        row("Wait", "key refused", &fresh, &Step::Wait(Wait::KeyRejected(until)), nothing, &facts),
        row("Wait", "pause, for a minute or more", &open, &Step::Wait(Wait::Paused(until)), nothing, &paused),
        row("Wait", "breaker, no link", &fresh, &Step::Wait(Wait::Breaker(until)), nothing, &facts),
        row("Wait", "breaker, link", &open, &Step::Wait(Wait::Breaker(until)), nothing, &facts),
        row("Wait", "its time", &open, &Step::Wait(Wait::Due(until)), nothing, &facts),
        row("Forget", "", &open, &Step::Release, nothing, &facts),
    ];
    rows.extend(restored);
    rows
}
