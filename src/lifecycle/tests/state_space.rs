//! Everything that a few reconciles of a new resource can lead to. Each reconcile meets everything that may go wrong,
//! and the next one starts from its conclusion. States that differ only in their times count as one.

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
    time::Duration,
};

use digest::digest;
use outcomes::outcomes;

use super::{
    coverage::Coverage,
    grid::as_conclusion,
    invariants::{Concluded, Decided, Shown},
    steps::refusals,
    world::{Answer, World, calls, created, said},
};
use crate::{
    api::{DeletionPolicy, OnUnknownOutcome, ReadyWhen, VerificationStatus},
    lifecycle::{
        cleanup::{CleanupFacts, DeletionOutcome},
        conclude::{Conclusion, Requeue, claim, conclude},
        evidence::RemovalOutcome,
        facts::{Facts, InFlight, PortalFact},
        fixtures::{self, UID},
        key_fact::{KeyFact, KeyFault, KeyVersion},
        since::later,
        state::{ParsedStatus, State, UNKNOWN_OUTCOME_BUDGET, attempts},
        step::{Shown as ShownStep, Step, StepOutcome, Transition, Wait},
    },
};
use parking_lot::Mutex;

mod digest;
mod outcomes;

/// The state space has at least this many states, …
const LEAST_STATES: usize = 14_063;
/// … and at least this many cases are tried.
const LEAST_CASES: usize = 638_254;

/// The number of reconciles in a row.
const DEPTH: usize = 4;

/// A TTL of an hour.
const HOUR_LATER: CleanupFacts = CleanupFacts { ttl: Duration::from_hours(1), managed_by_git_ops: false };

struct StateSpace {
    coverage: Coverage,
    reached: Vec<World>,
}

static STATE_SPACE: LazyLock<StateSpace> = LazyLock::new(explore);

/// Fails if the invariant does not hold over the state space.
#[track_caller]
pub(super) fn holds(invariant: &str) {
    STATE_SPACE.coverage.assert_holds(invariant);
}

fn roots() -> [World; 8] {
    let mut hold = World::fresh(ReadyWhen::Verified);
    hold.facts.on_unknown = OnUnknownOutcome::Hold;
    let mut adopt = World::fresh(ReadyWhen::SessionCreated);
    adopt.facts.adopt = fixtures::id();
    let mut with_finalizer = World::open(ReadyWhen::Verified);
    with_finalizer.facts.evidence.has_finalizer = true;
    let asking = World::asking(ReadyWhen::SessionCreated, DeletionPolicy::Retain);
    let removed = World::asking(ReadyWhen::Verified, DeletionPolicy::Delete);
    let mut deleted_in_time = World::asking(ReadyWhen::Verified, DeletionPolicy::Delete);
    deleted_in_time.facts.cleanup = Some(HOUR_LATER);
    let [verified, session_created] = [ReadyWhen::Verified, ReadyWhen::SessionCreated].map(World::fresh);
    [verified, session_created, hold, adopt, asking, removed, with_finalizer, deleted_in_time]
}

fn explore() -> StateSpace {
    let mut explore = StateSpace { coverage: Coverage::new(), reached: Vec::new() };
    let mut known = HashSet::new();
    let mut edge: Vec<_> = roots().into_iter().filter(|world| known.insert(digest(world))).collect();
    for depth in 1..=DEPTH {
        let next = every_reconcile_of(&edge, &known, depth == DEPTH, &mut explore.coverage);
        explore.reached.append(&mut edge);
        let new = next.into_iter().filter(|(digest, _)| known.insert(*digest));
        edge = new.map(|(_, world)| world).collect();
    }
    explore
}

/// How many states a thread takes at a time.
const CHUNK: usize = 32;

/// What reconciles lead to, each state once.
struct Next<'a> {
    /// States that earlier reconciles led to.
    known: &'a HashSet<u64>,
    /// Whether this is the last level, whose results are not needed.
    is_last: bool,
    /// States that this thread has reached.
    seen: HashSet<u64>,
    /// The new ones with their hash, in the order of the reconciles.
    new: Vec<(u64, World)>,
}

impl Next<'_> {
    fn add(&mut self, world: &World) {
        let digest = digest(world);
        if !self.known.contains(&digest) && self.seen.insert(digest) {
            self.new.push((digest, world.clone()));
        }
    }
}

/// Every reconcile of these states, on two threads. The results are in order, and may occur twice.
fn every_reconcile_of(
    edge: &[World],
    known: &HashSet<u64>,
    is_last: bool,
    coverage: &mut Coverage,
) -> Vec<(u64, World)> {
    let work = Mutex::new(edge.chunks(CHUNK).enumerate());
    let done = Mutex::new((coverage, BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut own = Coverage::new();
                let mut next = Next { known, is_last, seen: HashSet::new(), new: Vec::new() };
                loop {
                    let chunk = work.lock().next();
                    let Some((number, chunk)) = chunk else { break };
                    for world in chunk {
                        every_reconcile(world, &mut own, &mut next);
                    }
                    done.lock().1.insert(number, std::mem::take(&mut next.new));
                }
                done.lock().0.add(own);
            });
        }
    });
    done.into_inner().1.into_values().flatten().collect()
}

fn deleted(base: &Facts) -> Facts {
    let mut facts = Facts { deleting: true, ..base.clone() };
    facts.evidence.deleted_at = Some(base.now);
    facts
}

fn destination_refused(base: &Facts) -> Facts {
    let mut facts = base.clone();
    facts.evidence.destination = super::cause::refused_destination();
    facts
}

/// What may differ in a reconcile.
fn situations(world: &World) -> Vec<Facts> {
    let base = &world.facts;
    let until = later(base.now, Duration::from_mins(2));
    let mut all = vec![
        base.clone(),
        Facts { suspend: true, ..base.clone() },
        Facts { portal: PortalFact::NotAllowed, ..base.clone() },
        Facts { key: KeyFact::Missing(KeyFault::SecretNotFound), ..base.clone() },
        Facts { too_large: true, ..base.clone() },
        deleted(base),
        Facts { reconcile_requested: Some("now".to_owned()), generation: 2, ..base.clone() },
        Facts { key_version: KeyVersion::Previous, ..base.clone() },
    ];
    if matches!(world.state(), State::Finished(_)) {
        let kept = CleanupFacts { managed_by_git_ops: true, ..HOUR_LATER };
        let others = [None, Some(HOUR_LATER), Some(kept)].into_iter();
        let changed = others.filter(|cleanup| *cleanup != base.cleanup);
        all.extend(changed.map(|cleanup| Facts { cleanup, ..base.clone() }));
    }
    if matches!(world.state(), State::Fresh | State::Refused | State::OutcomeUnknown) {
        all.push(destination_refused(base));
    }
    if world.state() == State::Claimed {
        all.push(Facts { in_flight: InFlight::Possible(until), ..base.clone() });
        all.push(Facts { in_flight: InFlight::NeverSent, ..base.clone() });
    }
    if world.status.last_handled_retry.is_none() {
        all.push(Facts { retry: Some("go".to_owned()), ..base.clone() });
    }
    all
}

fn every_reconcile(world: &World, coverage: &mut Coverage, next: &mut Next<'_>) {
    let base = &world.facts;
    for facts in situations(world) {
        let mut reconcile = World { status: world.status.clone(), facts, ..*world };
        let step = reconcile.decide_only();
        let parsed = reconcile.parsed();
        let decided = Decided {
            state: parsed.state(),
            attempts: parsed.attempts(),
            facts: &reconcile.facts,
            step: &step,
        };
        coverage.decided(&decided, "state space");
        let mut see = |parsed: &ParsedStatus<'_>, outcome: Option<&StepOutcome>, conclusion: &Conclusion| {
            let shown_before = Shown::of(parsed.status());
            let case = Concluded::of((parsed, &shown_before), &reconcile.facts, outcome, conclusion);
            coverage.concluded(&case, "state space");
        };
        let until = later(base.now, Duration::from_mins(2));
        for outcome in refusals(&step, until) {
            let conclusion = conclude(&parsed, &outcome, &reconcile.facts);
            see(&parsed, Some(&outcome), &conclusion);
            push_after(world, parsed.status(), &outcome, conclusion, next);
        }
        let claimed = if let Step::Create { attempt } = step {
            let claimed = claim(parsed.status(), attempt, &reconcile.facts);
            see(&parsed, None, &as_conclusion(&claimed, &reconcile.facts));
            // A process may stop here.
            let mut left = World { status: claimed.clone(), facts: base.clone(), ..*world };
            left.restart();
            next.add(&left);
            Some(claimed)
        } else {
            None
        };
        let parsed = claimed.as_ref().map_or(parsed, |claimed| ParsedStatus::of(UID, claimed));
        for outcome in outcomes(&step) {
            let conclusion = conclude(&parsed, &outcome, &reconcile.facts);
            see(&parsed, Some(&outcome), &conclusion);
            push_after(world, parsed.status(), &outcome, conclusion, next);
        }
    }
}

/// What a conclusion leads to: at the time that it names, and some time later, by another process or by this one.
fn push_after(
    world: &World,
    before: &VerificationStatus,
    outcome: &StepOutcome,
    conclusion: Conclusion,
    next: &mut Next<'_>,
) {
    if next.is_last {
        return;
    }
    let status = conclusion.status.unwrap_or_else(|| before.clone());
    let facts = Facts { local_state: conclusion.local_state, ..world.facts.clone() };
    let mut after = World { status, facts, ..*world };
    after.holds_after(outcome);
    match conclusion.next {
        Requeue::Done => return,
        Requeue::At(at) => after.facts.now = after.facts.now.max(at),
        Requeue::Now | Requeue::AwaitChange => {}
    }
    let now = after.facts.now;
    if after.status.outcome.is_some() {
        after.pass(25 * 3600);
        next.add(&after);
        after.facts.now = now;
    }
    next.add(&after);
    let local_state = std::mem::take(&mut after.facts.local_state);
    after.pass(11 * 60);
    next.add(&after);
    after.facts.local_state = local_state;
    after.facts.now = now;
    after.pass(3 * 3600);
    next.add(&after);
}

#[test]
fn the_state_space_reaches_every_live_state() {
    let reached = &STATE_SPACE.reached;
    println!("state space: {} states, {} cases", reached.len(), STATE_SPACE.coverage.cases);
    assert!(reached.len() >= LEAST_STATES, "{}", reached.len());
    assert!(STATE_SPACE.coverage.cases >= LEAST_CASES, "{}", STATE_SPACE.coverage.cases);
    let has = |is: fn(&State) -> bool| reached.iter().any(|world| is(&world.state()));
    assert!(has(|state| *state == State::Claimed));
    assert!(has(|state| *state == State::Refused));
    assert!(has(|state| *state == State::OutcomeUnknown));
    assert!(has(|state| matches!(state, State::Open { .. })));
    assert!(has(|state| matches!(state, State::Finished(_))));
    assert!(!has(|state| matches!(state, State::Inconsistent(_))), "what is written can be read");
}

#[test]
fn no_more_outcomes_are_unknown_than_the_budget_allows() {
    for world in &STATE_SPACE.reached {
        assert!(attempts(&world.status).unacknowledged() <= UNKNOWN_OUTCOME_BUDGET);
    }
}

/// Never stuck: once nothing fails any more, every verification ends or says that it waits for a person.
#[test]
fn every_state_ends_once_nothing_fails_or_waits_for_a_person() {
    for world in &STATE_SPACE.reached {
        let mut well = world.clone();
        well.deadline = jiff::Timestamp::MAX;
        let asks = Step::Transition(Transition::Show(ShownStep::CreateOutcomeUnknown));
        let done = (0..8).any(|_| {
            if let Some(next) = well.facts.local_state.next {
                well.facts.now = well.facts.now.max(next);
            }
            let step = well.decide();
            let answer = if matches!(step, Step::Create { .. }) {
                created()
            } else if calls(&step) {
                said("verified", &[])
            } else if step == Step::Store {
                Answer::Store(fixtures::all_stored())
            } else if matches!(step, Step::RemoveEvidence { .. }) {
                Answer::Remove(RemovalOutcome::All)
            } else if matches!(step, Step::Delete { .. }) {
                Answer::Delete(DeletionOutcome::Deleted)
            } else {
                Answer::Uncalled
            };
            well.reconcile(answer);
            // At the end of its TTL.
            if let Step::Transition(Transition::Wait(Wait::Ttl(at))) = step {
                well.facts.now = at;
            }
            step == asks
                || matches!(step, Step::Delete { .. })
                || step == Step::Transition(Transition::Show(ShownStep::Finished))
                || well.status.settled
        });
        assert!(done, "{:?} {:?}", world.state(), world.facts);
    }
}
