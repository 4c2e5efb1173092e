//! How often each invariant applied, and the first case that broke it.

use super::invariants::{self, Concluded, Decided, OfConcluded, OfDecided, Says};

/// How often each invariant applied, and the first case that broke it.
pub(super) struct Coverage {
    of_decided: Vec<OfDecided>,
    of_concluded: Vec<OfConcluded>,
    invariants: Vec<(&'static str, usize, Option<String>)>,
    /// How many cases were tried.
    pub(super) cases: usize,
}

impl Coverage {
    /// Nothing tried yet.
    pub(super) fn new() -> Self {
        let (mut invariants, of_decided): (Vec<_>, Vec<_>) =
            invariants::of_decided().map(|(name, invariant)| ((name, 0, None), invariant)).unzip();
        let (others, of_concluded): (Vec<_>, Vec<_>) =
            invariants::of_concluded().map(|(name, invariant)| ((name, 0, None), invariant)).unzip();
        invariants.extend(others);
        Self { of_decided, of_concluded, invariants, cases: 0 }
    }

    fn note(&mut self, invariant: usize, says: Says, case: impl FnOnce() -> String) {
        if says == Says::Nothing {
            return;
        }
        let (_, spoke, broken) = &mut self.invariants[invariant];
        *spoke += 1;
        if says == Says::Broken {
            broken.get_or_insert_with(case);
        }
    }

    /// Retries the invariants about what is decided.
    pub(super) fn decided(&mut self, case: &Decided, name: &str) {
        self.cases += 1;
        for invariant in 0..self.of_decided.len() {
            let says = self.of_decided[invariant];
            self.note(invariant, says(case), || format!("{name}\n{:?}\n{:?}", case.facts, case.step));
        }
    }

    /// Retries the invariants about what is concluded, but for those that only the grid asks.
    pub(super) fn concluded(&mut self, case: &Concluded, name: &str) {
        self.cases += 1;
        let others = self.of_decided.len();
        for invariant in 0..self.of_concluded.len() {
            let says = self.of_concluded[invariant];
            self.note(others + invariant, says(case), || {
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

    /// Adds what another thread tried.
    pub(super) fn add(&mut self, other: Self) {
        self.cases += other.cases;
        for (mine, theirs) in self.invariants.iter_mut().zip(other.invariants) {
            mine.1 += theirs.1;
            mine.2 = mine.2.take().or(theirs.2);
        }
    }

    /// Fails if an invariant is broken, or never applied.
    #[track_caller]
    pub(super) fn assert_holds(&self, name: &str) {
        let (_, spoke, broken) =
            self.invariants.iter().find(|(invariant, _, _)| *invariant == name).expect("an invariant");
        if let Some(case) = broken {
            panic!("broken: {case}");
        }
        assert!(*spoke > 0, "no case of {} is about it", self.cases);
    }
}
