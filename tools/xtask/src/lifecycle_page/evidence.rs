//! The rows about evidence in both tables.

use std::fmt::Write;

use jiff::SignedDuration;

use okid_operator::{
    api::{DeletionPolicy, EvidenceKind, Outcome, Phase, VerificationStatus},
    lifecycle::{
        Due, EvidenceError, EvidenceFacts, Facts, FinalizerOutcome, KeyFact, KeyFault, NotAdmitted,
        PortalFact, PortalStep, Refusal, RemovalOutcome, Shown, Since, StepOutcome, Transition,
        UploadOutcome, Wait, fixtures,
    },
    store::NoResponse,
};

use super::{
    decided, heading,
    rows::{Row, row},
};

/// More than a day after the fixtures' first instant, in seconds.
const LATE: u64 = 25 * 3600;

/// Facts about finished verifications that request evidence, a minute after the verdict.
fn asking(status: &VerificationStatus) -> Facts {
    Facts {
        now: fixtures::after(60),
        evidence: EvidenceFacts::of(Some(fixtures::evidence_spec(DeletionPolicy::Retain)), status),
        ..fixtures::facts()
    }
}

fn after(stored: UploadOutcome) -> VerificationStatus {
    let status = fixtures::finished(Outcome::Verified);
    let facts = asking(&status);
    let concluded = row("", "", &status, &StepOutcome::Store(stored), &facts).conclusion;
    VerificationStatus { settled: false, ..concluded.status.unwrap_or(status) }
}

fn failed_with(error: EvidenceError, stored: UploadOutcome) -> UploadOutcome {
    UploadOutcome { error: Some(error), ..stored }
}

/// Every state of evidence by name, with a status that it is read from.
fn states() -> Vec<(&'static str, VerificationStatus)> {
    let front = fixtures::stored(vec![fixtures::front()]);
    vec![
        ("Pending", fixtures::finished(Outcome::Verified)),
        ("Failed", after(failed_with(EvidenceError::Conflict, UploadOutcome::default()))),
        ("Failed, partly stored", after(failed_with(EvidenceError::Conflict, front))),
        ("Complete", after(fixtures::all_stored())),
        ("NotApplicable", fixtures::finished(Outcome::Rejected)),
    ]
}

type Change = fn(&mut Facts);

fn delete(facts: &mut Facts) {
    facts.evidence.spec = Some(fixtures::evidence_spec(DeletionPolicy::Delete));
}

fn held(facts: &mut Facts) {
    facts.evidence.has_finalizer = true;
}

fn deleted(facts: &mut Facts) {
    facts.deleting = true;
    facts.evidence.deleted_at = Some(facts.now);
}

/// Deleted this many minutes ago, with this many attempts to remove the evidence since.
fn deleted_ago(facts: &mut Facts, minutes: i64, count: u32) {
    let since = facts.now - SignedDuration::from_mins(minutes);
    facts.deleting = true;
    facts.evidence.deleted_at = Some(since);
    facts.local_state.removing = Some(Since { what: (), since, count });
}

fn late(facts: &mut Facts) {
    facts.now = fixtures::after(LATE);
    facts.local_state.storing_since = Some(facts.now - SignedDuration::from_mins(10));
}

fn with_errors(facts: &mut Facts) {
    let what = EvidenceError::StoreUnavailable;
    facts.local_state.storing = Some(Since { what, since: facts.now, count: 9 });
}

fn situations() -> Vec<(&'static str, Vec<Change>)> {
    vec![
        ("nothing special", vec![]),
        ("being deleted", vec![deleted]),
        ("being deleted, with our finalizer", vec![held, deleted]),
        ("deleted ten minutes ago, with our finalizer", vec![held, |facts| deleted_ago(facts, 10, 0)]),
        (
            "deleted ten minutes ago, two attempts to remove, with our finalizer",
            vec![held, |facts| deleted_ago(facts, 10, 2)],
        ),
        ("deleted twenty minutes ago, with our finalizer", vec![held, |facts| deleted_ago(facts, 20, 0)]),
        ("`spec.suspend`", vec![|facts| facts.suspend = true]),
        ("a new value of `okid.io/retry`", vec![|facts| facts.retry = Some("1".to_owned())]),
        ("our finalizer", vec![held]),
        ("`deletionPolicy: Delete`", vec![delete]),
        ("`deletionPolicy: Delete`, our finalizer", vec![delete, held]),
        (
            "`spec.evidence` removed",
            vec![|facts| {
                facts.evidence.spec = None;
            }],
        ),
        (
            "`spec.evidence` removed, our finalizer",
            vec![
                |facts| {
                    facts.evidence.spec = None;
                },
                held,
            ],
        ),
        ("pending for a day, with errors", vec![late, with_errors]),
        (
            "pending for a day, no key",
            vec![late, |facts| {
                facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
            }],
        ),
        ("pending for a day, without errors", vec![late]),
        ("portal not allowed", vec![|facts| facts.portal = PortalFact::NotAllowed]),
        ("no key", vec![|facts| facts.key = KeyFact::Missing(KeyFault::SecretNotFound)]),
        ("not due", vec![|facts| facts.due = Due::At(fixtures::after(120))]),
    ]
}

/// The first table for finished verifications that request evidence.
pub(super) fn decisions(page: &mut String) {
    let states = states();
    heading(page, states.iter().map(|(name, _)| *name));
    let pause = Refusal::Paused(fixtures::after(LATE + 120));
    let refused = [
        ("the portal asked for a pause", vec![], Some(pause)),
        ("pending for a day, and the portal asked for a pause", vec![late as Change], Some(pause)),
    ];
    let situations = situations().into_iter().map(|(name, changes)| (name, changes, None));
    for (name, changes, refusal) in situations.chain(refused) {
        let _ = write!(page, "| {name} |");
        for (_, status) in &states {
            let mut facts = asking(status);
            for change in &changes {
                change(&mut facts);
            }
            facts.evidence = facts.evidence.after(status);
            let _ = write!(page, " {} |", decided(status, &facts, refusal));
        }
        page.push('\n');
    }
}

/// The second table for evidence.
pub(super) fn conclusions() -> Vec<Row> {
    let mut rows = store_rows();
    rows.extend(other_rows());
    rows
}

fn store_rows() -> Vec<Row> {
    let pending = fixtures::finished(Outcome::Verified);
    let facts = asking(&pending);
    let store = |outcome: &str, stored, facts: &Facts| {
        row("Store", outcome, &pending, &StepOutcome::Store(stored), facts)
    };
    let error = |error| failed_with(error, UploadOutcome::default());
    let since = |what, seconds: u64| {
        let mut facts = Facts { now: fixtures::after(60 + seconds), ..facts.clone() };
        facts.local_state.storing = Some(Since { what, since: fixtures::after(60), count: 9 });
        facts.local_state.storing_since = Some(fixtures::after(60));
        facts
    };
    let mut removed = facts.clone();
    delete(&mut removed);
    held(&mut removed);
    let nothing = [EvidenceKind::Front, EvidenceKind::Back].map(fixtures::absent).to_vec();
    let again_at = Some(fixtures::after(90));
    let mut rows = vec![
        store("part of it", fixtures::stored(vec![fixtures::front()]), &facts),
        store(
            "part of it, the next request is not admitted",
            UploadOutcome { again_at, ..fixtures::stored(vec![fixtures::front()]) },
            &facts,
        ),
        store("all of it", fixtures::all_stored(), &facts),
        store("all of it, with `deletionPolicy: Delete`", fixtures::all_stored(), &removed),
        store("the portal has none of it", fixtures::stored(nothing), &facts),
    ];
    for (words, what) in [
        ("no response from the store", EvidenceError::StoreUnresponsive(NoResponse::TimedOut)),
        ("bucket not found", EvidenceError::BucketNotFound),
        ("store misconfigured", EvidenceError::StoreMisconfigured),
        ("store denies access", EvidenceError::StoreAccessDenied),
        ("store's Secret not found", EvidenceError::StoreSecretNotFound),
        ("store's Secret forbidden", EvidenceError::StoreSecretForbidden),
        ("portal unavailable", EvidenceError::PortalUnavailable),
    ] {
        rows.push(store(words, error(what), &facts));
        rows.push(store("… for a minute", error(what), &since(what, 60)));
        rows.push(store("… for a day", error(what), &since(what, LATE)));
    }
    for (words, what) in [
        ("a required image is missing", EvidenceError::ImageNotAvailable),
        ("unusable image", EvidenceError::ImageUnusable),
    ] {
        rows.push(store(words, error(what), &facts));
        rows.push(store("… for ten minutes", error(what), &since(what, 600)));
    }
    rows.push(store("a different object under the same key", error(EvidenceError::Conflict), &facts));
    let unconditional = error(EvidenceError::NoConditionalWrites);
    rows.push(store("store without conditional writes", unconditional, &facts));
    rows.push(store("store's Secret invalid", error(EvidenceError::StoreSecretInvalid), &facts));
    rows.push(store("destination not allowed", error(EvidenceError::DestinationNotAllowed), &facts));
    rows
}

fn other_rows() -> Vec<Row> {
    let pending = fixtures::finished(Outcome::Verified);
    let facts = asking(&pending);
    let failed = after(failed_with(EvidenceError::Conflict, UploadOutcome::default()));
    let of_failed = asking(&failed);
    let mut held_and_deleted = facts.clone();
    delete(&mut held_and_deleted);
    held(&mut held_and_deleted);
    deleted(&mut held_and_deleted);
    let remove = |outcome: &str, removed| {
        row("RemoveEvidence", outcome, &pending, &StepOutcome::RemoveEvidence(removed), &held_and_deleted)
    };
    let finalizer = |outcome: &str, end, facts: &Facts| {
        row("AddFinalizer", outcome, &pending, &StepOutcome::AddFinalizer(end), facts)
    };
    let refused_since = |seconds: u64| {
        let mut facts = Facts { now: fixtures::after(60 + seconds), ..facts.clone() };
        let what = EvidenceError::FinalizerDenied;
        facts.local_state.storing = Some(Since { what, since: fixtures::after(60), count: 9 });
        facts.local_state.storing_since = Some(fixtures::after(60));
        facts
    };
    let fresh = fixtures::fresh();
    let transition = |step, words: &str, status: &VerificationStatus, transition, facts: &Facts| {
        row(step, words, status, &StepOutcome::Transition(transition), facts)
    };
    let show = |words: &str, status: &VerificationStatus, shown| {
        transition("Show", words, status, Transition::Show(shown), &asking(status))
    };
    let mut late = facts.clone();
    self::late(&mut late);
    let refusal = Refusal::Breaker(fixtures::after(LATE + 60));
    let not_admitted = NotAdmitted { step: PortalStep::Store, refusal, cause: None };
    let not_admitted = StepOutcome::NotAdmitted(not_admitted);
    let no_key = Transition::Wait(Wait::Key(KeyFault::SecretNotFound));
    let mut rows = vec![
        transition(
            "AbandonEvidence",
            "no call possible for a day",
            &pending,
            Transition::AbandonEvidence,
            &facts,
        ),
        row("Store", "not admitted: breaker open, a day after the verdict", &pending, &not_admitted, &late),
        finalizer("", FinalizerOutcome::Added, &facts),
        finalizer("refused", FinalizerOutcome::Refused, &facts),
        finalizer("… for a minute", FinalizerOutcome::Refused, &refused_since(60)),
        finalizer("… for a day", FinalizerOutcome::Refused, &refused_since(LATE)),
        finalizer("outcome unknown", FinalizerOutcome::Unknown, &facts),
        transition("Wait", "evidence pending, no key", &pending, no_key, &facts),
        show("evidence pending, portal not allowed", &pending, Shown::PortalNotAllowed),
        show("evidence failed", &failed, Shown::Finished),
        show("destination refused", &fresh, Shown::DestinationRefused),
        transition("Retry", "evidence failed", &failed, Transition::Retry("1".to_owned()), &of_failed),
        remove("nothing is left", RemovalOutcome::All),
        remove("noncurrent versions are left", RemovalOutcome::Versioned),
        remove("listing is not permitted", RemovalOutcome::Unlisted),
        remove("something is left", RemovalOutcome::Abandoned),
        remove("not yet", RemovalOutcome::NotYet),
        remove("the store was not called", RemovalOutcome::NotTried),
    ];
    if let Some(id) = fixtures::id() {
        let open = fixtures::open(Phase::InProgress);
        let verified = StepOutcome::Poll { id, answer: Ok(fixtures::details("verified", &[])) };
        rows.insert(0, row("Poll", "200, `verified`, evidence pending", &open, &verified, &asking(&open)));
    }
    rows
}
