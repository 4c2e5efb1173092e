//! The rows of the second table, but for evidence.

use crate::{
    api::{OnUnknownOutcome, Phase, SessionState, VerificationStatus},
    lifecycle::{
        conclude::{Conclusion, conclude},
        facts::{Facts, KeyFact, KeyFault},
        past::{ledger, past},
        sample::{self, UID},
        step::{CreateEnd, Happened, Shown, Step, Wait},
        streaks::{Grievance, Since},
    },
    portal::trouble::{Failed, NotSent, Trouble},
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
    Facts { now: sample::after(600), ..sample::facts() }
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
    outcome: impl Into<String>,
    status: &VerificationStatus,
    step: &Step,
    happened: &Happened,
    facts: &Facts,
) -> Row {
    let conclusion = conclude(status, &past(UID, status), ledger(status), step, happened, facts);
    Row { step: step_name, outcome: outcome.into(), conclusion, facts: facts.clone() }
}

/// The same facts after ten minutes of that complaint.
fn aggrieved(facts: &Facts, what: Grievance) -> Facts {
    let mut facts = facts.clone();
    facts.streaks.grievance = Some(Since { what, since: sample::now(), count: 9 });
    facts.now = sample::after(600);
    facts
}

fn create_rows() -> Vec<Row> {
    let claimed = sample::attempted(SessionState::Claimed, 1, 0);
    let spent = sample::attempted(SessionState::Claimed, 3, 2);
    let step = Step::Create { attempt: 1 };
    let facts = sample::facts();
    let hold = Facts { on_unknown: OnUnknownOutcome::Hold, ..facts.clone() };
    let answer = |trouble| Happened::Create(CreateEnd::Answered(Err(trouble)));
    let lost = || answer(Trouble::Failed(Failed::TimedOut));
    let create = |outcome: &str, happened: &Happened, facts: &Facts| {
        row("Create", outcome, &claimed, &step, happened, facts)
    };
    let mut rows = vec![
        create("claim lost (409)", &Happened::Create(CreateEnd::ClaimLost), &facts),
        create("claim not writable", &Happened::Create(CreateEnd::ClaimNotWritten), &facts),
        create("claimed, request not sent", &Happened::Create(CreateEnd::NotSent), &facts),
        create("no connection", &answer(Trouble::NotSent(NotSent::Connect)), &facts),
        create("401", &answer(Trouble::KeyRejected), &facts),
        create("401 for ten minutes", &answer(Trouble::KeyRejected), &aggrieved(&facts, Grievance::Key)),
        create("403", &answer(Trouble::AccessDenied), &facts),
        create("400, 422, other 4xx", &answer(Trouble::Invalid), &facts),
        create("… for ten minutes", &answer(Trouble::Invalid), &aggrieved(&facts, Grievance::Invalid)),
        create("404", &answer(Trouble::NotFound), &facts),
        create("3xx", &answer(Trouble::Redirected), &facts),
        create("\"Server not configured\"", &answer(Trouble::Unconfigured), &facts),
        create(
            "… for ten minutes",
            &answer(Trouble::Unconfigured),
            &aggrieved(&facts, Grievance::Misconfigured),
        ),
        create(
            "4xx that is not in the portal's word, but 408 and 499",
            &answer(Trouble::Unclear { status: 403 }),
            &facts,
        ),
        create("409", &answer(Trouble::Conflict), &facts),
        create("429, 503 with Retry-After", &answer(Trouble::Limited { retry_after: None }), &facts),
        create("unknown", &lost(), &facts),
        row("Create", "unknown, the third", &spent, &step, &lost(), &facts),
        create("unknown, with Hold", &lost(), &hold),
    ];
    if let Some(created) = sample::created() {
        let happened = Happened::Create(CreateEnd::Answered(Ok(created)));
        rows.push(create("created", &happened, &facts));
    }
    rows
}

fn claim_rows() -> Vec<Row> {
    let facts = sample::facts();
    let claimed = sample::attempted(SessionState::Claimed, 1, 0);
    let again = sample::attempted(SessionState::Claimed, 2, 1);
    let give_up =
        |outcome: &str, status, step| row("GiveUp", outcome, status, &step, &Happened::Nothing, &facts);
    vec![
        give_up("not created", &claimed, Step::GiveUpRefused),
        give_up("unknown", &claimed, Step::GiveUpLost),
        give_up("unknown, the second", &again, Step::GiveUpLost),
    ]
}

fn look_rows() -> Vec<Row> {
    let open = sample::open(Phase::AwaitingUser);
    let Some(id) = sample::id() else { return Vec::new() };
    let step = Step::Look(id);
    let facts = aged();
    let look = |outcome: &str, answer, facts: &Facts| {
        row("Look", outcome, &open, &step, &Happened::Look(answer), facts)
    };
    let said = |word: &str| Ok(sample::details(word, &[]));
    let mut rotated = facts.clone();
    rotated.key = KeyFact::Usable { fingerprint: "8899aabbccddeeff".to_owned() };
    let mut troubled = facts.clone();
    troubled.streaks.failing = Some(Since { what: (), since: sample::now(), count: 9 });
    let mut missing = facts.clone();
    missing.streaks.not_found = Some(Since { what: (), since: sample::now(), count: 2 });
    let mut long_over = missing.clone();
    long_over.now = sample::after(7300);
    long_over.portal_now = Some(long_over.now);
    long_over.streaks.good_looks = 2;
    long_over.streaks.still_since = Some(sample::now());
    let mut found = long_over.clone();
    found.polled_at = Some(found.now);
    let young = Facts { now: sample::after(30), ..sample::facts() };
    let mut rows = vec![look(
        "200 for another id",
        Ok(crate::portal::wire::Details { id: None, ..sample::details("verified", &[]) }),
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
        look("401", Err(Trouble::KeyRejected), &facts),
        look("401 for ten minutes", Err(Trouble::KeyRejected), &aggrieved(&facts, Grievance::Key)),
        look("403", Err(Trouble::AccessDenied), &facts),
        look("403 and another key", Err(Trouble::AccessDenied), &rotated),
        look("404, session under a minute old", Err(Trouble::NotFound), &young),
        look("404", Err(Trouble::NotFound), &facts),
        look("404, the third", Err(Trouble::NotFound), &missing),
        look("… an hour past `expiresAt`", Err(Trouble::NotFound), &long_over),
        look("… and another session of the key is found, or a day of it", Err(Trouble::NotFound), &found),
        look("4xx that is not in the portal's word", Err(Trouble::Unclear { status: 403 }), &facts),
        look("429, 503 with Retry-After", Err(Trouble::Limited { retry_after: None }), &facts),
        look("5xx, transport, bad body", Err(Trouble::Failed(Failed::Cut)), &facts),
        look("… for five minutes", Err(Trouble::Failed(Failed::Cut)), &troubled),
    ]);
    rows
}

fn adopt_rows() -> Vec<Row> {
    let Some(id) = sample::id() else { return Vec::new() };
    let step = Step::Adopt(id.clone());
    let facts = Facts { adopt: Some(id), ..sample::facts() };
    let mut missing = facts.clone();
    missing.streaks.not_found = Some(Since { what: (), since: sample::now(), count: 2 });
    let adopt = |outcome: &str, answer, facts: &Facts| {
        row("Adopt", outcome, &sample::fresh(), &step, &Happened::Look(answer), facts)
    };
    vec![
        adopt("200 that names the id", Ok(sample::details("in_progress", &[])), &facts),
        adopt("404", Err(Trouble::NotFound), &facts),
        adopt("404, the third", Err(Trouble::NotFound), &missing),
        adopt("403", Err(Trouble::AccessDenied), &facts),
        adopt("5xx, transport, bad body", Err(Trouble::Failed(Failed::Cut)), &facts),
    ]
}

fn other_rows() -> Vec<Row> {
    let facts = aged();
    let fresh = sample::fresh();
    let open = sample::open(Phase::AwaitingUser);
    let lost = sample::attempted(SessionState::Unknown, 3, 3);
    let mut unreadable = open.clone();
    unreadable.session = None;
    let nothing = &Happened::Nothing;
    let until = sample::after(1200);
    let mut paused = facts.clone();
    paused.streaks.paused = Some(sample::now());
    let suspended = Facts { suspend: true, ..facts.clone() };
    let restored =
        sample::known().map(|known| row("Restore", "", &fresh, &Step::Restore(known), nothing, &facts));
    let mut rows = vec![
        row("Grant", "", &lost, &Step::Grant("1".to_owned()), nothing, &facts),
        row("End", "deadline", &open, &Step::End, nothing, &facts),
        row("Settle", "", &sample::over(crate::api::Outcome::Verified), &Step::Settle, nothing, &facts),
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
        row("Forget", "", &open, &Step::Forget, nothing, &facts),
    ];
    rows.extend(restored);
    rows
}
