//! A rate that namespaces share: each has its part, and what the others leave. No clock: `now` is an argument.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{bucket::Bucket, line::Lines};
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
        self.parts.entry(namespace).or_insert_with(|| Part {
            tokens: burst,
            filled_at: now,
            asked_at: now,
            lines: Lines::new(now),
        });
        let several = self.several();
        let apart = self.bucket.apart().mul_f64(several);
        let Some(part) = self.parts.get_mut(&namespace) else { return Err(now + apart) };
        part.asked_at = now;
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
        let part = self.parts.entry(namespace).or_insert_with(|| Part {
            tokens: 0.0,
            filled_at: from,
            asked_at: from,
            lines: Lines::new(from),
        });
        part.lines.place(priority, from, apart)
    }

    /// Halves the rate: the portal asked for fewer calls.
    pub(super) fn halve(&mut self, now: Instant) {
        self.bucket.halve(now);
    }

    /// Demand over rate, at least 1, for a namespace that asks for more than its part.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        let stretch = self.bucket.stretch(now);
        let asks_for_more = self.parts.get(&namespace).is_none_or(|part| part.tokens < 1.0);
        if asks_for_more || self.parts.len() < 2 { stretch } else { 1.0 }
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
