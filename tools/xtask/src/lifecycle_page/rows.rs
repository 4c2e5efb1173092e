//! The rows of the second table, except those about evidence.

use okid_operator::{
    api::{OnUnknownOutcome, Outcome, Phase, SessionState, VerificationStatus},
    lifecycle::{
        BlockerKind, Conclusion, CreateOutcome, Deadline, DeletionOutcome, Facts, KeyFact, KeyFault,
        KeyVersion, NotAdmitted, ParsedStatus, PortalStep, Refusal, Shown, Since, StepOutcome, Transition,
        Wait, conclude,
        fixtures::{self, UID},
    },
    portal::{Details, Failed, NotSent, PortalError},
};

use super::cleanup;

/// One row of the second table.
pub(super) struct Row {
    pub(super) step: &'static str,
    pub(super) outcome: String,
    pub(super) conclusion: Conclusion,
    pub(super) facts: Facts,
}

/// Facts ten minutes after the session was created.
fn aged() -> Facts {
    Facts { now: fixtures::after(600), ..fixtures::facts() }
}

/// Every row except those about evidence.
pub(super) fn conclusions() -> Vec<Row> {
    let mut rows = create_rows();
    rows.extend(claim_rows());
    rows.extend(poll_rows());
    rows.extend(adopt_rows());
    rows.extend(other_rows());
    rows.extend(cleanup_rows());
    rows
}

/// The conclusion of a step.
pub(super) fn row(
    step_name: &'static str,
    result: impl Into<String>,
    status: &VerificationStatus,
    outcome: &StepOutcome,
    facts: &Facts,
) -> Row {
    let conclusion = conclude(&ParsedStatus::of(UID, status), outcome, facts);
    Row { step: step_name, outcome: result.into(), conclusion, facts: facts.clone() }
}

/// The same facts after ten minutes of this blocker.
fn blocked_for_ten_minutes(facts: &Facts, what: BlockerKind) -> Facts {
    let mut facts = facts.clone();
    facts.local_state.blocker_kind = Some(Since { what, since: fixtures::now(), count: 9 });
    facts.now = fixtures::after(600);
    facts
}

fn create_rows() -> Vec<Row> {
    let claimed = fixtures::attempted(SessionState::Claimed, 1, 0);
    let spent = fixtures::attempted(SessionState::Claimed, 3, 2);
    let facts = fixtures::facts();
    let hold = Facts { on_unknown: OnUnknownOutcome::Hold, ..facts.clone() };
    let answer = |error| StepOutcome::Create(CreateOutcome::Answered(Err(error)));
    let lost = || answer(PortalError::Failed(Failed::TimedOut));
    let create =
        |result: &str, outcome: &StepOutcome, facts: &Facts| row("Create", result, &claimed, outcome, facts);
    let mut rows = vec![
        create("claim lost (409)", &StepOutcome::Create(CreateOutcome::ClaimLost), &facts),
        create("claim not writable", &StepOutcome::Create(CreateOutcome::ClaimNotWritten), &facts),
        create("claimed, request not sent", &StepOutcome::Create(CreateOutcome::NotSent), &facts),
        create("no connection", &answer(PortalError::NotSent(NotSent::Connect)), &facts),
        create("401", &answer(PortalError::KeyRejected), &facts),
        create(
            "401, for ten minutes",
            &answer(PortalError::KeyRejected),
            &blocked_for_ten_minutes(&facts, BlockerKind::Key),
        ),
        create("403", &answer(PortalError::AccessDenied), &facts),
        create("400, 422, other 4xx", &answer(PortalError::Invalid), &facts),
        create(
            "… for ten minutes",
            &answer(PortalError::Invalid),
            &blocked_for_ten_minutes(&facts, BlockerKind::Invalid),
        ),
        create("404", &answer(PortalError::NotFound), &facts),
        create("3xx", &answer(PortalError::Redirected), &facts),
        create("\"Server not configured\"", &answer(PortalError::Unconfigured), &facts),
        create(
            "… for ten minutes",
            &answer(PortalError::Unconfigured),
            &blocked_for_ten_minutes(&facts, BlockerKind::Misconfigured),
        ),
        create(
            "4xx not in the portal's form, except 408 and 499",
            &answer(PortalError::Unclear { status: 403 }),
            &facts,
        ),
        create("409", &answer(PortalError::Conflict), &facts),
        create("429, 503 with Retry-After", &answer(PortalError::Limited { retry_after: None }), &facts),
        create("outcome unknown", &lost(), &facts),
        row("Create", "outcome unknown, the third", &spent, &lost(), &facts),
        create("outcome unknown, with Hold", &lost(), &hold),
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
    let abandon = |outcome: &str, status, transition| {
        row("Abandon", outcome, status, &StepOutcome::Transition(transition), &facts)
    };
    vec![
        abandon("not created", &claimed, Transition::AbandonUnsent),
        abandon("outcome unknown", &claimed, Transition::AbandonUnknown),
        abandon("outcome unknown, the second", &again, Transition::AbandonUnknown),
    ]
}

fn poll_rows() -> Vec<Row> {
    let open = fixtures::open(Phase::AwaitingUser);
    let Some(id) = fixtures::id() else { return Vec::new() };
    let facts = aged();
    let poll = |outcome: &str, answer, facts: &Facts| {
        row("Poll", outcome, &open, &StepOutcome::Poll { id: id.clone(), answer }, facts)
    };
    let said = |word: &str| Ok(fixtures::details(word, &[]));
    let mut rotated = facts.clone();
    rotated.key = KeyFact::Usable { fingerprint: "8899aabbccddeeff".to_owned() };
    let previous = Facts { key_version: KeyVersion::Previous, ..facts.clone() };
    let mut failing = facts.clone();
    failing.local_state.failing = Some(Since { what: (), since: fixtures::now(), count: 9 });
    let mut missing = facts.clone();
    missing.local_state.not_found = Some(Since { what: (), since: fixtures::now(), count: 2 });
    let mut long_expired = missing.clone();
    long_expired.now = fixtures::after(7300);
    long_expired.portal_now = Some(long_expired.now);
    long_expired.local_state.good_polls = 2;
    long_expired.local_state.still_since = Some(fixtures::now());
    let mut found = long_expired.clone();
    found.polled_at = Some(found.now);
    let young = Facts { now: fixtures::after(30), ..fixtures::facts() };
    let mut rows = vec![poll(
        "200 for another id",
        Ok(Details { id: None, ..fixtures::details("verified", &[]) }),
        &facts,
    )];
    rows.extend(
        ["generated", "in_progress", "validating", "needs_manual_review", "an unknown status"]
            .map(|word| poll(&format!("200, `{word}`"), said(word), &facts)),
    );
    rows.extend(
        ["verified", "rejected", "expired"].map(|word| poll(&format!("200, `{word}`"), said(word), &facts)),
    );
    rows.extend(vec![
        poll(
            "200, an hour past `expiresAt` by the portal's clock, unchanged for an hour, the third in a row",
            said("generated"),
            &long_expired,
        ),
        poll("401", Err(PortalError::KeyRejected), &facts),
        poll(
            "401, for ten minutes",
            Err(PortalError::KeyRejected),
            &blocked_for_ten_minutes(&facts, BlockerKind::Key),
        ),
        poll("403", Err(PortalError::AccessDenied), &facts),
        poll("403 and another key", Err(PortalError::AccessDenied), &rotated),
        poll("401, 403 of the key from before a rotation", Err(PortalError::KeyRejected), &previous),
        poll("404, session under a minute old", Err(PortalError::NotFound), &young),
        poll("404", Err(PortalError::NotFound), &facts),
        poll("404, the third", Err(PortalError::NotFound), &missing),
        poll("… an hour past `expiresAt`", Err(PortalError::NotFound), &long_expired),
        poll("… and another session of the key is found, or after a day", Err(PortalError::NotFound), &found),
        poll("4xx not in the portal's form", Err(PortalError::Unclear { status: 403 }), &facts),
        poll("429, 503 with Retry-After", Err(PortalError::Limited { retry_after: None }), &facts),
        poll("5xx, transport error, unusable body", Err(PortalError::Failed(Failed::Cut)), &facts),
        poll("… for five minutes", Err(PortalError::Failed(Failed::Cut)), &failing),
    ]);
    rows
}

fn adopt_rows() -> Vec<Row> {
    let Some(id) = fixtures::id() else { return Vec::new() };
    let facts = Facts { adopt: Some(id.clone()), ..fixtures::facts() };
    let mut missing = facts.clone();
    missing.now = fixtures::after(600);
    missing.local_state.not_found = Some(Since { what: (), since: fixtures::now(), count: 2 });
    let adopt = |outcome: &str, answer, facts: &Facts| {
        row("Adopt", outcome, &fixtures::fresh(), &StepOutcome::Adopt { id: id.clone(), answer }, facts)
    };
    vec![
        adopt("200 that names the id", Ok(fixtures::details("in_progress", &[])), &facts),
        adopt("404", Err(PortalError::NotFound), &facts),
        adopt("404, the third", Err(PortalError::NotFound), &missing),
        adopt("403", Err(PortalError::AccessDenied), &facts),
        adopt("5xx, transport error, unusable body", Err(PortalError::Failed(Failed::Cut)), &facts),
    ]
}

fn other_rows() -> Vec<Row> {
    let facts = aged();
    let fresh = fixtures::fresh();
    let open = fixtures::open(Phase::AwaitingUser);
    let unknown = fixtures::attempted(SessionState::Unknown, 3, 3);
    let mut inconsistent = open.clone();
    inconsistent.session = None;
    let mut paused = facts.clone();
    paused.local_state.paused = Some(fixtures::now());
    let suspended = Facts { suspend: true, ..facts.clone() };
    let transition = |step, words: &str, status: &VerificationStatus, transition, facts: &Facts| {
        row(step, words, status, &StepOutcome::Transition(transition), facts)
    };
    let show =
        |words: &str, status, shown| transition("Show", words, status, Transition::Show(shown), &facts);
    let wait = |words: &str, status, wait| transition("Wait", words, status, Transition::Wait(wait), &facts);
    let until = fixtures::after(1200);
    let refused = |step, words: &str, status, of, refusal, facts| {
        let not_admitted = NotAdmitted { step: of, refusal, cause: None };
        row(step, format!("not admitted: {words}"), status, &StepOutcome::NotAdmitted(not_admitted), facts)
    };
    let create = |words: &str, refusal| refused("Create", words, &fresh, PortalStep::Create, refusal, &facts);
    let poll = |words: &str, refusal, facts| refused("Poll", words, &open, PortalStep::Poll, refusal, facts);
    let mut late = facts.clone();
    late.deadline = Deadline::Passed { at: fixtures::now(), polled: false, overdue: false, long_ago: true };
    let restored =
        fixtures::known().map(|known| transition("Restore", "", &fresh, Transition::Restore(known), &facts));
    let mut rows = vec![
        transition("Retry", "", &unknown, Transition::Retry("1".to_owned()), &facts),
        transition("Fail", "deadline", &open, Transition::Fail, &facts),
        transition("Settle", "", &fixtures::finished(Outcome::Verified), Transition::Settle, &facts),
        transition("Show", "suspended", &open, Transition::Show(Shown::Suspended), &suspended),
        show("portal not allowed", &open, Shown::PortalNotAllowed),
        show("no room for the record of a session", &fresh, Shown::ResourceTooLarge),
        show("inconsistent status", &inconsistent, Shown::StatusUnreadable),
        show("outcome unknown", &unknown, Shown::CreateOutcomeUnknown),
        wait("no key, no link", &fresh, Wait::Key(KeyFault::KeyMissing)),
        wait("no key, link", &open, Wait::Key(KeyFault::KeyMissing)),
        wait("not due", &open, Wait::Due(until)),
        create("key refused", Refusal::KeyRejected(until)),
        create("breaker open", Refusal::Breaker(until)),
        poll("pause, for a minute or more", Refusal::Paused(until), &paused),
        poll("breaker open", Refusal::Breaker(until), &facts),
        poll("any cause, deadline passed a day ago", Refusal::Breaker(until), &late),
        transition("Release", "", &open, Transition::Release, &facts),
    ];
    rows.extend(restored);
    rows
}

fn cleanup_rows() -> Vec<Row> {
    let facts = |seconds, managed| Facts { cleanup: Some(cleanup(seconds, managed)), ..aged() };
    let (finished, open) = (fixtures::finished(Outcome::Verified), fixtures::open(Phase::InProgress));
    let wait = Transition::Wait(Wait::Ttl(fixtures::after(3600)));
    let show = Transition::Show(Shown::Finished);
    let transition = |step, words: &str, transition, facts: &Facts| {
        row(step, words, &finished, &StepOutcome::Transition(transition), facts)
    };
    let delete = |words: &str, deleted| {
        row("Delete", words, &finished, &StepOutcome::Delete(deleted), &facts(0, false))
    };
    let mut rows = vec![
        transition("Wait", "`spec.ttlAfterFinished`", wait, &facts(3600, false)),
        transition("Show", "Git would bring it back", show, &facts(0, true)),
        delete("deleted", DeletionOutcome::Deleted),
        delete("refused", DeletionOutcome::Refused),
        delete("the store of its evidence does not respond", DeletionOutcome::StoreUnresponsive),
        delete("conflict, or outcome unknown", DeletionOutcome::Unknown),
    ];
    if let Some(id) = fixtures::id() {
        let verified = StepOutcome::Poll { id, answer: Ok(fixtures::details("verified", &[])) };
        rows.insert(
            0,
            row(
                "Poll",
                "200, `verified`, `spec.ttlAfterFinished: 1h`",
                &open,
                &verified,
                &facts(3600, false),
            ),
        );
    }
    rows
}
