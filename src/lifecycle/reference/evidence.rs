//! The rows of both tables that are about evidence.

use std::fmt::Write;

use jiff::SignedDuration;

use super::{
    heading,
    rows::{Row, row},
    step_name,
};
use crate::{
    api::{DeletionPolicy, EvidenceKind, Outcome, VerificationStatus},
    lifecycle::{
        decide::decide,
        evidence::{EvidenceError, EvidenceFacts, FinalizerOutcome, RemovalOutcome, UploadOutcome},
        facts::{AdmissionFact, Due, Facts, KeyFact, KeyFault, PortalFact},
        fixtures::{self, UID},
        local_state::Since,
        state::{attempts, state},
        step::{ReleaseWhen, Shown, Step, StepOutcome, Wait},
    },
    store::no_response::NoResponse,
};

/// A day after the samples began, and more.
const LATE: u64 = 25 * 3600;

/// Facts about what is over and asks for evidence, a minute after the verdict.
fn asking(status: &VerificationStatus) -> Facts {
    Facts {
        now: fixtures::after(60),
        evidence: EvidenceFacts::of(Some(fixtures::evidence_spec(DeletionPolicy::Retain)), status),
        ..fixtures::facts()
    }
}

fn after(stored: UploadOutcome) -> VerificationStatus {
    let status = fixtures::over(Outcome::Verified);
    let facts = asking(&status);
    let concluded = row("", "", &status, &Step::Store, &StepOutcome::Store(stored), &facts).conclusion;
    VerificationStatus { settled: false, ..concluded.status.unwrap_or(status) }
}

fn troubled(error: EvidenceError, stored: UploadOutcome) -> UploadOutcome {
    UploadOutcome { error: Some(error), ..stored }
}

/// Every standing, by name, as the status it is read from.
fn standings() -> Vec<(&'static str, VerificationStatus)> {
    let front = fixtures::stored(vec![fixtures::front()]);
    vec![
        ("Owed", fixtures::over(Outcome::Verified)),
        ("Failed", after(troubled(EvidenceError::Conflict, UploadOutcome::default()))),
        ("Failed, a part is stored", after(troubled(EvidenceError::Conflict, front))),
        ("Complete", after(fixtures::all_stored())),
        ("NotApplicable", fixtures::over(Outcome::Rejected)),
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

/// Deleted so many minutes ago, and tried so often since.
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

fn in_trouble(facts: &mut Facts) {
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
            "deleted ten minutes ago, tried twice, with our finalizer",
            vec![held, |facts| deleted_ago(facts, 10, 2)],
        ),
        ("deleted twenty minutes ago, with our finalizer", vec![held, |facts| deleted_ago(facts, 20, 0)]),
        ("`spec.suspend`", vec![|facts| facts.suspend = true]),
        ("a new value of `okid.io/retry`", vec![|facts| facts.retry = Some("1".to_owned())]),
        ("our finalizer", vec![held]),
        ("`deletionPolicy: Delete`", vec![delete]),
        ("`deletionPolicy: Delete`, our finalizer", vec![delete, held]),
        (
            "`spec.evidence` taken away",
            vec![|facts| {
                facts.evidence.spec = None;
            }],
        ),
        (
            "`spec.evidence` taken away, our finalizer",
            vec![
                |facts| {
                    facts.evidence.spec = None;
                },
                held,
            ],
        ),
        ("owed for a day, in trouble", vec![late, in_trouble]),
        (
            "owed for a day, no key",
            vec![late, |facts| {
                facts.key = KeyFact::Missing(KeyFault::SecretNotFound);
            }],
        ),
        ("owed for a day, without trouble", vec![late]),
        ("portal not allowed", vec![|facts| facts.portal = PortalFact::NotAllowed]),
        ("no key", vec![|facts| facts.key = KeyFact::Missing(KeyFault::SecretNotFound)]),
        (
            "the portal asked for a pause",
            vec![|facts| facts.admission = AdmissionFact::Paused(fixtures::after(120))],
        ),
        ("not due", vec![|facts| facts.due = Due::At(fixtures::after(120))]),
    ]
}

/// The first table for what is over and asks for evidence.
pub(super) fn decisions(page: &mut String) {
    let standings = standings();
    heading(page, standings.iter().map(|(name, _)| *name));
    for (name, changes) in situations() {
        let _ = write!(page, "| {name} |");
        for (_, status) in &standings {
            let mut facts = asking(status);
            for change in &changes {
                change(&mut facts);
            }
            facts.evidence = facts.evidence.after(status);
            let step = decide(&state(UID, status), attempts(status), &facts);
            let _ = write!(page, " {} |", step_name(&step));
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
    let owed = fixtures::over(Outcome::Verified);
    let facts = asking(&owed);
    let store = |outcome: &str, stored, facts: &Facts| {
        row("Store", outcome, &owed, &Step::Store, &StepOutcome::Store(stored), facts)
    };
    let error = |error| troubled(error, UploadOutcome::default());
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
        store("a part of it", fixtures::stored(vec![fixtures::front()]), &facts),
        store(
            "a part of it, no place at the portal",
            UploadOutcome { again_at, ..fixtures::stored(vec![fixtures::front()]) },
            &facts,
        ),
        store("all of it", fixtures::all_stored(), &facts),
        store("all of it, with `deletionPolicy: Delete`", fixtures::all_stored(), &removed),
        store("nothing is there at the portal", fixtures::stored(nothing), &facts),
    ];
    for (words, what) in [
        ("store silent", EvidenceError::StoreSilent(NoResponse::TimedOut)),
        ("no such bucket", EvidenceError::BucketNotFound),
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
    rows.push(store("something else under the same key", error(EvidenceError::Conflict), &facts));
    let unconditional = error(EvidenceError::NoConditionalWrites);
    rows.push(store("store that does not refuse to overwrite", unconditional, &facts));
    rows.push(store("store's Secret invalid", error(EvidenceError::StoreSecretInvalid), &facts));
    rows.push(store("destination not allowed", error(EvidenceError::DestinationNotAllowed), &facts));
    rows
}

fn other_rows() -> Vec<Row> {
    let nothing = &StepOutcome::Nothing;
    let owed = fixtures::over(Outcome::Verified);
    let facts = asking(&owed);
    let failed = after(troubled(EvidenceError::Conflict, UploadOutcome::default()));
    let of_failed = asking(&failed);
    let mut held_and_deleted = facts.clone();
    delete(&mut held_and_deleted);
    held(&mut held_and_deleted);
    deleted(&mut held_and_deleted);
    let remove = |outcome: &str, removed| {
        let step = Step::RemoveEvidence { release_when: ReleaseWhen::OnceRemoved };
        row("RemoveEvidence", outcome, &owed, &step, &StepOutcome::Remove(removed), &held_and_deleted)
    };
    let finalizer = |outcome: &str, end, facts: &Facts| {
        row("AddFinalizer", outcome, &owed, &Step::AddFinalizer, &StepOutcome::AddFinalizer(end), facts)
    };
    let refused_since = |seconds: u64| {
        let mut facts = Facts { now: fixtures::after(60 + seconds), ..facts.clone() };
        let what = EvidenceError::FinalizerDenied;
        facts.local_state.storing = Some(Since { what, since: fixtures::after(60), count: 9 });
        facts.local_state.storing_since = Some(fixtures::after(60));
        facts
    };
    let not_allowed = Step::Show(Shown::PortalNotAllowed);
    let no_key = Step::Wait(Wait::Key(KeyFault::SecretNotFound));
    let mut rows = vec![
        row("GiveUpEvidence", "nobody to ask for a day", &owed, &Step::GiveUpEvidence, nothing, &facts),
        finalizer("", FinalizerOutcome::Added, &facts),
        finalizer("refused", FinalizerOutcome::Refused, &facts),
        finalizer("… for a minute", FinalizerOutcome::Refused, &refused_since(60)),
        finalizer("… for a day", FinalizerOutcome::Refused, &refused_since(LATE)),
        finalizer("not known", FinalizerOutcome::Unknown, &facts),
        row("Wait", "evidence owed, no key", &owed, &no_key, nothing, &facts),
        row("Show", "evidence owed, portal not allowed", &owed, &not_allowed, nothing, &facts),
        row("Show", "evidence failed", &failed, &Step::Show(Shown::Over), nothing, &of_failed),
        row(
            "Show",
            "destination refused",
            &fixtures::fresh(),
            &Step::Show(Shown::DestinationRefused),
            nothing,
            &asking(&fixtures::fresh()),
        ),
        row("Grant", "evidence failed", &failed, &Step::Retry("1".to_owned()), nothing, &of_failed),
        remove("nothing is left", RemovalOutcome::All),
        remove("older versions are left", RemovalOutcome::Versioned),
        remove("nobody could list", RemovalOutcome::Unlisted),
        remove("something is left", RemovalOutcome::GaveUp),
        remove("not yet", RemovalOutcome::NotYet),
        remove("the store rests", RemovalOutcome::NotTried),
    ];
    if let Some(id) = fixtures::id() {
        let open = fixtures::open(crate::api::Phase::InProgress);
        let verified = StepOutcome::Poll(Ok(fixtures::details("verified", &[])));
        rows.insert(
            0,
            row("Look", "200, `verified`, evidence owed", &open, &Step::Poll(id), &verified, &asking(&open)),
        );
    }
    rows
}
