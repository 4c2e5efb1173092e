//! A rate that namespaces share: each has its part, and what the others leave. No clock: `now` is an argument.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    bucket::{Bucket, WINDOW},
    line::Lines,
};
use crate::priority::Priority;

/// A namespace that asked for nothing for this long has no part.
const ACTIVE: Duration = Duration::from_secs(10);
/// Those without a part are looked for this often.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// What is left of the burst below this is only for those who have not had their part yet.
const SPARE: f64 = 0.5;

/// A bucket of tokens, and the parts of the namespaces that use it.
#[derive(Debug)]
pub(super) struct Shares {
    bucket: Bucket,
    parts: HashMap<u32, Part>,
    swept: Instant,
}

/// What one namespace may have before it lives on what others leave.
#[derive(Debug)]
struct Part {
    tokens: f64,
    filled_at: Instant,
    asked_at: Instant,
    /// Those of it that wait for the rate.
    lines: Lines,
    demand: Demand,
}

/// How much one namespace asks for.
#[derive(Debug)]
struct Demand {
    asked: u32,
    window_began: Instant,
    /// Calls per second that it would ask for without any stretch, as far as they were measured.
    per_second: f64,
    /// How much its intervals are stretched.
    stretch: f64,
}

impl Part {
    fn new(tokens: f64, now: Instant) -> Self {
        let demand = Demand { asked: 0, window_began: now, per_second: 0.0, stretch: 1.0 };
        Self { tokens, filled_at: now, asked_at: now, lines: Lines::new(now), demand }
    }
}

impl Demand {
    /// What is asked for now was stretched already, so the whole demand is that times the stretch.
    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window_began);
        if passed >= WINDOW {
            self.per_second = f64::from(self.asked) / passed.as_secs_f64() * self.stretch;
            self.asked = 0;
            self.window_began = now;
        }
    }
}

impl Shares {
    pub(super) fn new(rate: f64, burst: Duration, now: Instant) -> Self {
        Self { bucket: Bucket::new(rate, burst, now), parts: HashMap::new(), swept: now }
    }

    /// Takes a token, if there is one for that namespace; else says when to come again.
    pub(super) fn take(
        &mut self,
        now: Instant,
        namespace: u32,
        priority: Priority,
        urgent: bool,
    ) -> Result<(), Instant> {
        self.sweep(now);
        let level = self.bucket.level(now);
        let burst = self.bucket.burst();
        let rate = self.bucket.rate();
        self.parts.entry(namespace).or_insert_with(|| Part::new(burst, now));
        let several = self.several();
        let apart = self.bucket.apart().mul_f64(several);
        let Some(part) = self.parts.get_mut(&namespace) else { return Err(now + apart) };
        part.asked_at = now;
        part.demand.measure(now);
        part.demand.asked = part.demand.asked.saturating_add(1);
        let passed = now.saturating_duration_since(part.filled_at).as_secs_f64();
        part.filled_at = part.filled_at.max(now);
        part.tokens = (part.tokens + passed * rate / several).min((burst / several).max(1.0));
        let has_part = part.tokens >= 1.0;
        let is_left_over = several < 2.0 || level > burst * SPARE;
        let counts = has_part || is_left_over;
        if self.bucket.take(now, urgent, counts) {
            part.tokens = (part.tokens - 1.0).max(0.0);
            return Ok(());
        }
        Err(part.lines.place(priority, now, apart))
    }

    /// Gives a token back that led to no call.
    pub(super) fn give_back(&mut self, namespace: u32) {
        self.bucket.give_back();
        if let Some(part) = self.parts.get_mut(&namespace) {
            part.tokens += 1.0;
        }
    }

    /// When one of that namespace comes again who waits for something else than the rate: as fast as the full rate lets
    /// its part go, from `from` on.
    pub(super) fn line_up(&mut self, namespace: u32, priority: Priority, from: Instant) -> Instant {
        let apart = self.bucket.apart().mul_f64(self.several());
        let part = self.parts.entry(namespace).or_insert_with(|| Part::new(0.0, from));
        part.lines.place(priority, from, apart)
    }

    /// Halves the rate: the portal asked for fewer calls.
    pub(super) fn halve(&mut self, now: Instant) {
        self.bucket.halve(now);
    }

    /// The demand of all over the rate, and no more than that of this namespace over its part: the demand of others
    /// stretches nothing of a namespace that keeps to its part. At least 1.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        self.sweep(now);
        let of_all = self.bucket.stretch(now);
        let part_of_rate = self.bucket.rate() / self.several();
        let Some(part) = self.parts.get_mut(&namespace) else { return 1.0 };
        part.demand.measure(now);
        part.demand.stretch = of_all.min(part.demand.per_second / part_of_rate).max(1.0);
        part.demand.stretch
    }

    fn several(&self) -> f64 {
        u32::try_from(self.parts.len()).map_or(f64::MAX, f64::from).max(1.0)
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= SWEPT_EVERY {
            self.swept = now;
            self.parts.retain(|_, part| now.saturating_duration_since(part.asked_at) < ACTIVE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many calls of each namespace go in ten seconds, when each asks so often in a second.
    fn gone(rate: f64, asks: &[(u32, u64)]) -> Vec<usize> {
        let start = Instant::now();
        let mut shares = Shares::new(rate, Duration::from_millis(200), start);
        let mut plan: Vec<(Instant, u32)> = asks
            .iter()
            .flat_map(|(namespace, each)| {
                (0..each * 10).map(move |number| {
                    (start + Duration::from_nanos(number * 1_000_000_000 / each), *namespace)
                })
            })
            .collect();
        plan.sort();
        let mut gone = vec![0; asks.len()];
        for (now, namespace) in plan {
            if shares.take(now, namespace, Priority::Create, true).is_ok() {
                gone[asks.iter().position(|(asking, _)| *asking == namespace).unwrap()] += 1;
            }
        }
        gone
    }

    #[test]
    fn a_namespace_that_asks_for_little_gets_it_beside_one_that_asks_for_everything() {
        let gone = gone(200.0, &[(1, 2_000), (2, 10)]);
        assert!(gone[1] >= 99, "{gone:?}");
        assert!((1_500..=2_060).contains(&gone[0]), "what the other one leaves: {gone:?}");
    }

    #[test]
    fn those_who_ask_for_everything_get_the_same_and_no_more_than_the_rate_together() {
        let gone = gone(200.0, &[(1, 2_000), (2, 500), (3, 400)]);
        assert!(gone.iter().sum::<usize>() <= 2_060, "{gone:?}");
        let (least, most) = (gone.iter().min().unwrap(), gone.iter().max().unwrap());
        assert!(*most <= least * 5 / 4, "{gone:?}");
    }

    #[test]
    fn a_namespace_that_keeps_to_its_part_is_not_stretched_by_the_demand_of_another() {
        const HUGE: u32 = 1;
        let start = Instant::now();
        let mut shares = Shares::new(200.0, Duration::from_millis(200), start);
        for tenth in 0..250_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            for _ in 0..500 {
                let _ = shares.take(now, HUGE, Priority::Idle, false);
            }
            // Forty others, each with two sessions that are polled at once, now and then.
            for namespace in (2..42).filter(|namespace| namespace % 40 == tenth % 40) {
                for _ in 0..2 {
                    let _ = shares.take(now, namespace, Priority::Create, true);
                }
            }
        }
        let now = start + Duration::from_secs(25);
        assert!(shares.stretch(now, HUGE) > 20.0, "{}", shares.stretch(now, HUGE));
        for namespace in (2..42).chain([99]) {
            let stretch = shares.stretch(now, namespace);
            assert!(stretch <= 1.0, "{namespace} is stretched {stretch} times");
        }
    }

    #[test]
    fn those_who_ask_for_more_than_their_parts_are_stretched_until_they_fit() {
        let start = Instant::now();
        let mut shares = Shares::new(50.0, Duration::from_millis(200), start);
        // A hundred sessions each that are polled once a second, stretched.
        let mut plan: std::collections::BTreeSet<_> =
            (0..200_u32).map(|id| (start + Duration::from_millis(5) * id, id)).collect();
        let mut asked = 0;
        while let Some((now, id)) = plan.pop_first() {
            if now >= start + Duration::from_mins(2) {
                break;
            }
            asked += u32::from(now >= start + Duration::from_mins(1));
            let wait = match shares.take(now, id % 2, Priority::Active, false) {
                Ok(()) => now + Duration::from_secs(1).mul_f64(shares.stretch(now, id % 2)),
                Err(until) => until,
            };
            plan.insert((wait, id));
        }
        assert!((2_000..=4_500).contains(&asked), "{asked} in a minute, at fifty a second");
    }

    #[test]
    fn one_alone_has_all_of_it() {
        let gone = gone(50.0, &[(1, 500)]);
        assert!((480..=520).contains(&gone[0]), "{gone:?}");
    }

    #[test]
    fn who_waits_in_one_namespace_stands_behind_nobody_of_another() {
        let now = Instant::now();
        let mut shares = Shares::new(50.0, Duration::from_millis(200), now);
        let flood: Vec<_> =
            (0..1_000).filter_map(|_| shares.take(now, 1, Priority::Create, true).err()).collect();
        assert!(flood.iter().max().unwrap().duration_since(now) >= Duration::from_secs(15));
        let one = (0..20).find_map(|_| shares.take(now, 2, Priority::Create, true).err());
        assert!(one.is_none_or(|until| until - now <= Duration::from_millis(50)), "{one:?}");
    }
}
