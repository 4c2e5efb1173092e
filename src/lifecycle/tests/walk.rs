//! Everything that a few turns can lead to, from a new resource on: each turn meets each thing that may go wrong, and
//! what the turn concludes is the past of the next one. States that differ in nothing but their times are one.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
    time::Duration,
};

use crate::{
    api::{DeletionPolicy, EvidenceKind, OnUnknownOutcome, ReadyWhen},
    lifecycle::{
        CreateEnd, EvidenceTrouble, Facts, FinalizerEnd, Gate, Happened, KeyFact, KeyFault, Next, Past,
        PortalFact, Quiet, Removed, Shown as ShownStep, Step, Stored, claim, conclude, ledger,
        past::LOST_ANSWERS,
        sample,
        streaks::{GRACE, elapsed, later},
    },
    portal::{
        trouble::{Failed, NotSent, Trouble},
        wire::Details,
    },
};

use super::{
    grid::as_conclusion,
    laws::{Concluded, Decided, Shown},
    tally::Tally,
    world::{Answer, World, calls, created, said},
};

/// How many turns deep.
const DEPTH: usize = 4;

struct Walk {
    tally: Tally,
    reached: Vec<World>,
}

static WALK: LazyLock<Walk> = LazyLock::new(walk);

/// Fails if that law does not hold over the walk.
#[track_caller]
pub(super) fn holds(law: &str) {
    WALK.tally.assert_holds(law);
}

fn roots() -> [World; 7] {
    let mut hold = World::fresh(ReadyWhen::Verified);
    hold.facts.on_unknown = OnUnknownOutcome::Hold;
    let mut adopt = World::fresh(ReadyWhen::SessionCreated);
    adopt.facts.adopt = sample::id();
    let mut with_finalizer = World::open(ReadyWhen::Verified);
    with_finalizer.facts.evidence.has_finalizer = true;
    let asking = World::asking(ReadyWhen::SessionCreated, DeletionPolicy::Retain);
    let removed = World::asking(ReadyWhen::Verified, DeletionPolicy::Delete);
    let [verified, session_created] = [ReadyWhen::Verified, ReadyWhen::SessionCreated].map(World::fresh);
    [verified, session_created, hold, adopt, asking, removed, with_finalizer]
}

fn walk() -> Walk {
    let mut walk = Walk { tally: Tally::new(), reached: Vec::new() };
    let mut known = HashSet::new();
    let mut edge = roots().to_vec();
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for world in edge {
            if known.insert(digest(&world)) {
                every_turn(&world, &mut walk.tally, &mut next);
                walk.reached.push(world);
            }
        }
        edge = next;
    }
    walk
}

/// A short hash of a state, but for its times.
fn digest(world: &World) -> u64 {
    let World { status, facts, deadline, portal_ahead: _ } = world;
    let now = facts.now;
    let lasted = |since, long| elapsed(since, now) >= long;
    let streaks = &facts.streaks;
    let mut hasher = DefaultHasher::new();
    let session = status.session.as_ref();
    (status.verification_id.is_some(), status.outcome, status.settled, status.phase).hash(&mut hasher);
    (session.and_then(|session| session.state), ledger(status), Shown::of(status)).hash(&mut hasher);
    (&status.portal_status, &status.progress, &status.last_handled_retry).hash(&mut hasher);
    (facts.ready_when, facts.on_unknown, facts.adopt.is_some()).hash(&mut hasher);
    streaks.failing.map(|streak| streak.lasted(now, Duration::from_mins(5))).hash(&mut hasher);
    streaks.grievance.map(|streak| (streak.what, streak.lasted(now, GRACE))).hash(&mut hasher);
    streaks.not_found.map(|streak| streak.count.min(3)).hash(&mut hasher);
    streaks.paused.map(|since| lasted(since, Duration::from_mins(1))).hash(&mut hasher);
    (&streaks.refused_key, streaks.good_looks.min(3), streaks.changed_at.is_some()).hash(&mut hasher);
    streaks.next.is_some_and(|next| next > now).hash(&mut hasher);
    status.expires_at.map(|end| later(end, Duration::from_hours(1)) <= now).hash(&mut hasher);
    streaks.still_since.is_some_and(|since| lasted(since, Duration::from_hours(1))).hash(&mut hasher);
    (*deadline <= now, session.and_then(|s| s.created_at).map(|at| lasted(at, Duration::from_mins(1))))
        .hash(&mut hasher);
    let evidence = facts.evidence.after(status);
    let objects =
        status.evidence.as_ref().map(|evidence| (evidence.objects.len(), &evidence.manifest_sha256));
    let policy = evidence.images.map(|images| images.deletion_policy);
    (policy, evidence.has_finalizer, evidence.standing, objects).hash(&mut hasher);
    (evidence.owed_since.map(|since| lasted(since, Duration::from_hours(24)))).hash(&mut hasher);
    streaks.removing.map(|tries| tries.count.min(2)).hash(&mut hasher);
    (streaks.storing_since.map(|since| lasted(since, Duration::from_mins(10)))).hash(&mut hasher);
    streaks
        .storing
        .map(|streak| [1, 10].map(|minutes| streak.lasted(now, Duration::from_mins(minutes))))
        .hash(&mut hasher);
    streaks.storing.map(|streak| streak.what).hash(&mut hasher);
    hasher.finish()
}

fn deleted(base: &Facts) -> Facts {
    let mut facts = Facts { deleting: true, ..base.clone() };
    facts.evidence.deleted_at = Some(base.now);
    facts
}

/// What may be the matter in a turn.
fn situations(world: &World) -> Vec<Facts> {
    let base = &world.facts;
    let until = later(base.now, Duration::from_mins(2));
    let mut all = vec![
        base.clone(),
        Facts { suspend: true, ..base.clone() },
        Facts { portal: PortalFact::NotAllowed, ..base.clone() },
        Facts { key: KeyFact::Missing(KeyFault::SecretNotFound), ..base.clone() },
        Facts { gate: Gate::Paused(until), ..base.clone() },
        Facts { gate: Gate::Breaker(until), ..base.clone() },
        Facts { gate: Gate::KeyRejected(until), ..base.clone() },
        deleted(base),
        Facts { reconcile_requested: Some("now".to_owned()), generation: 2, ..base.clone() },
    ];
    if world.past() == Past::Claimed {
        all.push(Facts { quiet: Quiet::No(until), ..base.clone() });
        all.push(Facts { quiet: Quiet::NeverSent, ..base.clone() });
    }
    if world.status.last_handled_retry.is_none() {
        all.push(Facts { retry: Some("go".to_owned()), ..base.clone() });
    }
    all
}

fn outcomes(step: &Step) -> Vec<Happened> {
    let answered = |answer| Happened::Create(CreateEnd::Answered(answer));
    let answered_with = |word, completed: &[&str]| Happened::Look(Ok(sample::details(word, completed)));
    if matches!(step, Step::Create { .. }) {
        let mut all = vec![answered(Ok(sample::created().unwrap())), Happened::Create(CreateEnd::NotSent)];
        all.extend(TROUBLES.map(|trouble| answered(Err(trouble))));
        return all;
    }
    if *step == Step::Store {
        return stores();
    }
    if matches!(step, Step::RemoveEvidence { .. }) {
        let ends = [
            Removed::All,
            Removed::Versioned,
            Removed::Unlisted,
            Removed::GaveUp,
            Removed::NotYet,
            Removed::NotTried,
        ];
        return ends.map(Happened::Remove).into();
    }
    if *step == Step::AddFinalizer {
        return [FinalizerEnd::Added, FinalizerEnd::Refused].map(Happened::AddFinalizer).into();
    }
    if !calls(step) {
        return vec![Happened::Nothing];
    }
    let mut all = vec![
        answered_with("generated", &[]),
        answered_with("in_progress", &["document"]),
        answered_with("validating", &["document", "liveness"]),
        answered_with("verified", &["document", "liveness"]),
        answered_with("rejected", &[]),
        answered_with("expired", &[]),
        answered_with("junk", &[]),
        Happened::Look(Ok(Details { id: None, ..sample::details("verified", &[]) })),
    ];
    all.extend(TROUBLES.map(|trouble| Happened::Look(Err(trouble))));
    all
}

fn stores() -> Vec<Happened> {
    let front = || sample::stored(vec![sample::front()]);
    let troubles =
        [EvidenceTrouble::StoreUnavailable, EvidenceTrouble::ImageNotAvailable, EvidenceTrouble::Conflict];
    let elsewhere = Stored { prefix: "gs://elsewhere".to_owned(), ..front() };
    let back = sample::stored(vec![sample::absent(EvidenceKind::Back)]);
    let mut all = vec![sample::all_stored(), front(), back, elsewhere, Stored::default()];
    all.extend(troubles.map(|trouble| Stored { trouble: Some(trouble), ..Stored::default() }));
    all.push(Stored { trouble: Some(EvidenceTrouble::AccessDenied), ..front() });
    all.into_iter().map(Happened::Store).collect()
}

const TROUBLES: [Trouble; 8] = [
    Trouble::NotSent(NotSent::Connect),
    Trouble::KeyRejected,
    Trouble::Invalid,
    Trouble::NotFound,
    Trouble::Unconfigured,
    Trouble::Unclear { status: 404 },
    Trouble::Limited { retry_after: Some(Duration::from_mins(2)) },
    Trouble::Failed(Failed::Cut),
];

fn every_turn(world: &World, tally: &mut Tally, next: &mut Vec<World>) {
    let base = &world.facts;
    for facts in situations(world) {
        let mut turn = World { facts, ..world.clone() };
        let step = turn.decide();
        let past = turn.past();
        let decided = Decided { past: &past, ledger: ledger(&turn.status), facts: &turn.facts, step: &step };
        tally.decided(&decided, "walk");
        let mut before = turn.status.clone();
        let mut past = past;
        let mut see = |past: &Past, before: &_, happened: &Happened, conclusion: &_| {
            let shown_before = Shown::of(before);
            see_concluded(tally, &turn, &step, past, before, shown_before, happened, conclusion);
        };
        if let Step::Create { attempt } = step {
            let claimed = claim(&before, attempt, &turn.facts);
            see(&past, &before, &Happened::Nothing, &as_conclusion(&claimed, &turn.facts));
            // A process may end here.
            let mut left = World { status: claimed.clone(), facts: base.clone(), ..*world };
            left.restart();
            next.push(left);
            before = claimed;
            past = Past::Claimed;
        }
        for happened in outcomes(&step) {
            let conclusion = conclude(&before, &past, ledger(&before), &step, &happened, &turn.facts);
            see(&past, &before, &happened, &conclusion);
            let status = conclusion.status.clone().unwrap_or_else(|| before.clone());
            let facts = Facts { streaks: conclusion.streaks, ..base.clone() };
            let mut after = World { status, facts, ..*world };
            after.holds_after(&step, &happened);
            match conclusion.next {
                Next::Leave => continue,
                Next::At(at) => after.facts.now = after.facts.now.max(at),
                Next::Now | Next::Watch => {}
            }
            let mut later = after.clone();
            later.pass(11 * 60);
            later.restart();
            let mut much_later = after.clone();
            much_later.pass(3 * 3600);
            if after.status.outcome.is_some() {
                let mut a_day_later = after.clone();
                a_day_later.pass(25 * 3600);
                next.push(a_day_later);
            }
            next.extend([after, later, much_later]);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a case has that many parts")]
fn see_concluded(
    tally: &mut Tally,
    turn: &World,
    step: &Step,
    past: &Past,
    before: &crate::api::VerificationStatus,
    shown_before: Shown,
    happened: &Happened,
    conclusion: &crate::lifecycle::Conclusion,
) {
    let after = conclusion.status.as_ref().map(|status| (status, Shown::of(status)));
    let facts = &turn.facts;
    let case =
        Concluded { past, before, shown_before: &shown_before, facts, step, happened, conclusion, after };
    tally.concluded(&case, "walk");
}

#[test]
fn the_walk_reaches_every_live_past() {
    let reached = &WALK.reached;
    assert!(reached.len() > 1000, "{}", reached.len());
    let has = |is: fn(&Past) -> bool| reached.iter().any(|world| is(&world.past()));
    assert!(has(|past| *past == Past::Claimed));
    assert!(has(|past| *past == Past::Refused));
    assert!(has(|past| *past == Past::Lost));
    assert!(has(|past| matches!(past, Past::Open { .. })));
    assert!(has(|past| matches!(past, Past::Over(_))));
    assert!(!has(|past| matches!(past, Past::Unreadable(_))), "what is written can be read");
}

#[test]
fn no_more_answers_are_lost_than_the_budget_allows() {
    for world in &WALK.reached {
        assert!(ledger(&world.status).unforgiven() <= LOST_ANSWERS);
    }
}

/// Never stuck: whatever happened, once all is well again it ends, or says that it waits for a person.
#[test]
fn from_wherever_it_is_it_ends_once_all_is_well_or_asks_a_person() {
    for world in &WALK.reached {
        let mut well = world.clone();
        well.deadline = jiff::Timestamp::MAX;
        let asks = Step::Show(ShownStep::CreateOutcomeUnknown);
        let done = (0..8).any(|_| {
            if let Some(next) = well.facts.streaks.next {
                well.facts.now = well.facts.now.max(next);
            }
            let step = well.decide();
            let answer = if matches!(step, Step::Create { .. }) {
                created()
            } else if calls(&step) {
                said("verified", &[])
            } else if step == Step::Store {
                Answer::Store(sample::all_stored())
            } else if matches!(step, Step::RemoveEvidence { .. }) {
                Answer::Remove(Removed::All)
            } else {
                Answer::Uncalled
            };
            well.turn(answer);
            step == asks || step == Step::Show(ShownStep::Over) || well.status.settled
        });
        assert!(done, "{:?} {:?}", world.past(), world.facts);
    }
}
