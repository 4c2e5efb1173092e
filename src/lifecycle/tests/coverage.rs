//! How often each invariant applied, and the first case that violated it.

use super::{
    invariants::{self, Checked, Concluded, Decided, OfConcluded, OfDecided},
    steps::{KINDS, kind},
};

/// An invariant, how often it applied, and the first case that violated it.
struct Check<Invariant> {
    name: &'static str,
    invariant: Invariant,
    applied: usize,
    broken: Option<String>,
}

impl<Invariant> Check<Invariant> {
    fn of((name, invariant): (&'static str, Invariant)) -> Self {
        Self { name, invariant, applied: 0, broken: None }
    }

    fn note(&mut self, says: Checked, case: impl FnOnce() -> String) {
        match says {
            Checked::NotApplicable => {}
            Checked::Holds => self.applied += 1,
            Checked::Broken => {
                self.applied += 1;
                self.broken.get_or_insert_with(case);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.broken = self.broken.take().or(other.broken);
    }
}

/// How often each invariant applied, and the first case that violated it.
pub(super) struct Coverage {
    of_decided: Vec<Check<OfDecided>>,
    of_concluded: Vec<Check<OfConcluded>>,
    /// How many cases were tried.
    pub(super) cases: usize,
    /// Which kinds of steps were decided.
    pub(super) taken: [bool; KINDS],
}

impl Coverage {
    /// Nothing is checked yet.
    pub(super) fn new() -> Self {
        Self {
            of_decided: invariants::of_decided().map(Check::of).collect(),
            of_concluded: invariants::of_concluded().map(Check::of).collect(),
            cases: 0,
            taken: [false; KINDS],
        }
    }

    /// Checks the invariants about what is decided.
    pub(super) fn decided(&mut self, case: &Decided, name: &str) {
        self.cases += 1;
        self.taken[kind(case.step)] = true;
        for check in &mut self.of_decided {
            check.note((check.invariant)(case), || format!("{name}\n{:?}\n{:?}", case.facts, case.step));
        }
    }

    /// Checks the invariants about what is concluded, except those that only the grid checks.
    pub(super) fn concluded(&mut self, case: &Concluded, name: &str) {
        self.cases += 1;
        for check in &mut self.of_concluded {
            check.note((check.invariant)(case), || {
                format!(
                    "{name}\n{:?}\n{:?}\nbefore {:?}\nafter {:?}\nnext {:?} events {:?}\n{:?}",
                    case.facts,
                    case.outcome,
                    case.shown_before,
                    case.after,
                    case.conclusion.next,
                    case.conclusion.events,
                    case.conclusion.local_state
                )
            });
        }
    }

    /// Adds what another thread checked.
    pub(super) fn add(&mut self, other: Self) {
        self.cases += other.cases;
        for (mine, theirs) in self.taken.iter_mut().zip(other.taken) {
            *mine |= theirs;
        }
        for (mine, theirs) in self.of_decided.iter_mut().zip(other.of_decided) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.of_concluded.iter_mut().zip(other.of_concluded) {
            mine.add(theirs);
        }
    }

    /// Fails if an invariant is violated, or never applied.
    #[track_caller]
    pub(super) fn assert_holds(&self, name: &str) {
        let of_decided = self.of_decided.iter().map(|check| (check.name, check.applied, &check.broken));
        let of_concluded = self.of_concluded.iter().map(|check| (check.name, check.applied, &check.broken));
        let (_, applied, broken) =
            of_decided.chain(of_concluded).find(|(check, _, _)| *check == name).expect("an invariant");
        if let Some(case) = broken {
            panic!("broken: {case}");
        }
        assert!(applied > 0, "it applied to none of {} cases", self.cases);
    }
}
