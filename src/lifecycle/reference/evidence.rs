//! The rows of both tables that are about evidence.

use std::fmt::Write;

use jiff::SignedDuration;

use crate::{
    api::{DeletionPolicy, EvidenceKind, Outcome, VerificationStatus},
    evidence::no_answer::NoAnswer,
    lifecycle::{
        decide::decide,
        evidence::{EvidenceFacts, EvidenceTrouble, FinalizerEnd, Removed, Stored},
        facts::{Due, Facts, Gate, KeyFact, KeyFault, PortalFact},
        past::{ledger, past},
        sample::{self, UID},
        step::{Happened, LetGo, Shown, Step, Wait},
        streaks::Since,
    },
};

use super::{
    heading,
    rows::{Row, row},
    step_name,
};

/// A day after the samples began, and more.
const LATE: u64 = 25 * 3600;

/// Facts about what is over and asks for evidence, a minute after the verdict.
fn asking(status: &VerificationStatus) -> Facts {
    Facts {
        now: sample::after(60),
        evidence: EvidenceFacts::of(Some(sample::images(DeletionPolicy::Retain)), status),
        ..sample::facts()
    }
}

fn after(stored: Stored) -> VerificationStatus {
    let status = sample::over(Outcome::Verified);
    let facts = asking(&status);
    let concluded = row("", "", &status, &Step::Store, &Happened::Store(stored), &facts).conclusion;
    VerificationStatus { settled: false, ..concluded.status.unwrap_or(status) }
}

fn troubled(trouble: EvidenceTrouble, stored: Stored) -> Stored {
    Stored { trouble: Some(trouble), ..stored }
}

/// Every standing, by name, as the status it is read from.
fn standings() -> Vec<(&'static str, VerificationStatus)> {
    let front = sample::stored(vec![sample::front()]);
    vec![
        ("Owed", sample::over(Outcome::Verified)),
        ("Failed", after(troubled(EvidenceTrouble::Conflict, Stored::default()))),
        ("Failed, a part is stored", after(troubled(EvidenceTrouble::Conflict, front))),
        ("Complete", after(sample::all_stored())),
        ("NotOwed", sample::over(Outcome::Rejected)),
    ]
}

type Change = fn(&mut Facts);

fn delete(facts: &mut Facts) {
    facts.evidence.images = Some(sample::images(DeletionPolicy::Delete));
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
    facts.streaks.removing = Some(Since { what: (), since, count });
}

fn late(facts: &mut Facts) {
    facts.now = sample::after(LATE);
    facts.streaks.storing_since = Some(facts.now - SignedDuration::from_mins(10));
}

fn in_trouble(facts: &mut Facts) {
    let what = EvidenceTrouble::StoreUnavailable;
    facts.streaks.storing = Some(Since { what, since: facts.now, count: 9 });
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
            "`spec.images` taken away",
            vec![|facts| {
                facts.evidence.images = None;
            }],
        ),
        (
            "`spec.images` taken away, our finalizer",
            vec![
                |facts| {
                    facts.evidence.images = None;
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
        ("the portal asked for a pause", vec![|facts| facts.gate = Gate::Paused(sample::after(120))]),
        ("not due", vec![|facts| facts.due = Due::At(sample::after(120))]),
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
            let step = decide(&past(UID, status), ledger(status), &facts);
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
    let owed = sample::over(Outcome::Verified);
    let facts = asking(&owed);
    let store = |outcome: &str, stored, facts: &Facts| {
        row("Store", outcome, &owed, &Step::Store, &Happened::Store(stored), facts)
    };
    let trouble = |trouble| troubled(trouble, Stored::default());
    let since = |what, seconds: u64| {
        let mut facts = Facts { now: sample::after(60 + seconds), ..facts.clone() };
        facts.streaks.storing = Some(Since { what, since: sample::after(60), count: 9 });
        facts.streaks.storing_since = Some(sample::after(60));
        facts
    };
    let mut removed = facts.clone();
    delete(&mut removed);
    held(&mut removed);
    let nothing = [EvidenceKind::Front, EvidenceKind::Back].map(sample::absent).to_vec();
    let again_at = Some(sample::after(90));
    let mut rows = vec![
        store("a part of it", sample::stored(vec![sample::front()]), &facts),
        store(
            "a part of it, no place at the portal",
            Stored { again_at, ..sample::stored(vec![sample::front()]) },
            &facts,
        ),
        store("all of it", sample::all_stored(), &facts),
        store("all of it, with `deletionPolicy: Delete`", sample::all_stored(), &removed),
        store("nothing is there at the portal", sample::stored(nothing), &facts),
    ];
    for (words, what) in [
        ("store silent", EvidenceTrouble::StoreSilent(NoAnswer::TimedOut)),
        ("no such bucket", EvidenceTrouble::BucketNotFound),
        ("region, key or another option refused", EvidenceTrouble::StoreMisconfigured),
        ("credentials refused", EvidenceTrouble::AccessDenied),
        ("portal silent, or closed to us", EvidenceTrouble::PortalUnavailable),
    ] {
        rows.push(store(words, trouble(what), &facts));
        rows.push(store("… for a minute", trouble(what), &since(what, 60)));
        rows.push(store("… for a day", trouble(what), &since(what, LATE)));
    }
    for (words, what) in [
        ("a required image is missing", EvidenceTrouble::ImageNotAvailable),
        ("no image, or too large", EvidenceTrouble::ImageUnusable),
    ] {
        rows.push(store(words, trouble(what), &facts));
        rows.push(store("… for ten minutes", trouble(what), &since(what, 600)));
    }
    rows.push(store("something else under the same key", trouble(EvidenceTrouble::Conflict), &facts));
    let unconditional = trouble(EvidenceTrouble::NoConditionalWrites);
    rows.push(store("store that does not refuse to overwrite", unconditional, &facts));
    rows.push(store("destination refused", trouble(EvidenceTrouble::DestinationRefused), &facts));
    rows
}

fn other_rows() -> Vec<Row> {
    let nothing = &Happened::Nothing;
    let owed = sample::over(Outcome::Verified);
    let facts = asking(&owed);
    let failed = after(troubled(EvidenceTrouble::Conflict, Stored::default()));
    let of_failed = asking(&failed);
    let mut held_and_deleted = facts.clone();
    delete(&mut held_and_deleted);
    held(&mut held_and_deleted);
    deleted(&mut held_and_deleted);
    let remove = |outcome: &str, removed| {
        let step = Step::RemoveEvidence { let_go: LetGo::OnceRemoved };
        row("RemoveEvidence", outcome, &owed, &step, &Happened::Remove(removed), &held_and_deleted)
    };
    let finalizer = |outcome: &str, end, facts: &Facts| {
        row("AddFinalizer", outcome, &owed, &Step::AddFinalizer, &Happened::AddFinalizer(end), facts)
    };
    let refused_since = |seconds: u64| {
        let mut facts = Facts { now: sample::after(60 + seconds), ..facts.clone() };
        let what = EvidenceTrouble::FinalizerRefused;
        facts.streaks.storing = Some(Since { what, since: sample::after(60), count: 9 });
        facts.streaks.storing_since = Some(sample::after(60));
        facts
    };
    let not_allowed = Step::Show(Shown::PortalNotAllowed);
    let no_key = Step::Wait(Wait::Key(KeyFault::SecretNotFound));
    let mut rows = vec![
        row("GiveUpEvidence", "nobody to ask for a day", &owed, &Step::GiveUpEvidence, nothing, &facts),
        finalizer("", FinalizerEnd::Added, &facts),
        finalizer("refused", FinalizerEnd::Refused, &facts),
        finalizer("… for a minute", FinalizerEnd::Refused, &refused_since(60)),
        finalizer("… for a day", FinalizerEnd::Refused, &refused_since(LATE)),
        finalizer("not known", FinalizerEnd::Unknown, &facts),
        row("Wait", "evidence owed, no key", &owed, &no_key, nothing, &facts),
        row("Show", "evidence owed, portal not allowed", &owed, &not_allowed, nothing, &facts),
        row("Show", "evidence failed", &failed, &Step::Show(Shown::Over), nothing, &of_failed),
        row(
            "Show",
            "destination refused",
            &sample::fresh(),
            &Step::Show(Shown::DestinationRefused),
            nothing,
            &asking(&sample::fresh()),
        ),
        row("Grant", "evidence failed", &failed, &Step::Grant("1".to_owned()), nothing, &of_failed),
        remove("nothing is left", Removed::All),
        remove("older versions are left", Removed::Versioned),
        remove("nobody could list", Removed::Unlisted),
        remove("something is left", Removed::GaveUp),
        remove("not yet", Removed::NotYet),
        remove("the store rests", Removed::NotTried),
    ];
    if let Some(id) = sample::id() {
        let open = sample::open(crate::api::Phase::InProgress);
        let verified = Happened::Look(Ok(sample::details("verified", &[])));
        rows.insert(
            0,
            row("Look", "200, `verified`, evidence owed", &open, &Step::Look(id), &verified, &asking(&open)),
        );
    }
    rows
}
