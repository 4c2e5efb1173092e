//! Which law spoke how often, and what broke it.

use super::laws::{self, Concluded, Decided, OfConcluded, OfDecided, Says};

/// How often each law spoke, and the first case that broke it.
pub(super) struct Tally {
    of_decided: Vec<OfDecided>,
    of_concluded: Vec<OfConcluded>,
    laws: Vec<(&'static str, usize, Option<String>)>,
    /// How many cases were tried.
    pub(super) cases: usize,
}

impl Tally {
    /// Nothing tried yet.
    pub(super) fn new() -> Self {
        let (mut laws, of_decided): (Vec<_>, Vec<_>) =
            laws::of_decided().map(|(name, law)| ((name, 0, None), law)).unzip();
        let (others, of_concluded): (Vec<_>, Vec<_>) =
            laws::of_concluded().map(|(name, law)| ((name, 0, None), law)).unzip();
        laws.extend(others);
        Self { of_decided, of_concluded, laws, cases: 0 }
    }

    fn note(&mut self, law: usize, says: Says, case: impl FnOnce() -> String) {
        if says == Says::Nothing {
            return;
        }
        let (_, spoke, broken) = &mut self.laws[law];
        *spoke += 1;
        if says == Says::Broken {
            broken.get_or_insert_with(case);
        }
    }

    /// Retries the laws about what is decided.
    pub(super) fn decided(&mut self, case: &Decided, name: &str) {
        self.cases += 1;
        for law in 0..self.of_decided.len() {
            let says = self.of_decided[law];
            self.note(law, says(case), || format!("{name}\n{:?}\n{:?}", case.facts, case.step));
        }
    }

    /// Retries the laws about what is concluded, but for those that only the grid asks.
    pub(super) fn concluded(&mut self, case: &Concluded, name: &str) {
        self.cases += 1;
        let others = self.of_decided.len();
        for law in 0..self.of_concluded.len() {
            let says = self.of_concluded[law];
            self.note(others + law, says(case), || {
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
        for (mine, theirs) in self.laws.iter_mut().zip(other.laws) {
            mine.1 += theirs.1;
            mine.2 = mine.2.take().or(theirs.2);
        }
    }

    /// Fails if a law was broken, or never spoke.
    #[track_caller]
    pub(super) fn assert_holds(&self, name: &str) {
        let (_, spoke, broken) = self.laws.iter().find(|(law, _, _)| *law == name).expect("a law");
        if let Some(case) = broken {
            panic!("broken: {case}");
        }
        assert!(*spoke > 0, "no case of {} is about it", self.cases);
    }
}
