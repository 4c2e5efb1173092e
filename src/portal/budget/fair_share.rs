//! A rate with a fair share for each namespace: a namespace has its share and what the others leave unused.
//!
//! No clock: `now` is an argument. May depend on [`token_bucket`](super::token_bucket) and [`waitlist`](super::waitlist).

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    token_bucket::{DEMAND_WINDOW, TokenBucket},
    waitlist::Waitlists,
};
use crate::priority::Priority;

/// A namespace without a request for this long has no share.
const ACTIVE_FOR: Duration = Duration::from_secs(10);
/// How often inactive namespaces are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The last part of the burst is only for namespaces that have not used their share.
const RESERVED_FOR_SHARES: f64 = 0.5;

/// A token bucket, and the shares of the namespaces that use it.
#[derive(Debug)]
pub(super) struct FairShares {
    bucket: TokenBucket,
    shares: HashMap<u32, Share>,
    swept: Instant,
}

/// What one namespace may use before it depends on what the others leave.
#[derive(Debug)]
struct Share {
    tokens: f64,
    refilled_at: Instant,
    requested_at: Instant,
    /// Its deferred requests.
    waitlists: Waitlists,
    demand: Demand,
}

/// How much one namespace requests.
#[derive(Debug)]
struct Demand {
    requested: u32,
    window_began: Instant,
    /// Requests per second that it would make without any stretch, as last measured.
    per_second: f64,
    /// The factor by which its intervals are stretched.
    stretch: f64,
}

impl Share {
    fn new(tokens: f64, now: Instant) -> Self {
        let demand = Demand { requested: 0, window_began: now, per_second: 0.0, stretch: 1.0 };
        Self { tokens, refilled_at: now, requested_at: now, waitlists: Waitlists::new(now), demand }
    }
}

impl Demand {
    /// The measured requests were stretched already, so the full demand is their rate times the stretch.
    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window_began);
        if passed >= DEMAND_WINDOW {
            self.per_second = f64::from(self.requested) / passed.as_secs_f64() * self.stretch;
            self.requested = 0;
            self.window_began = now;
        }
    }
}

impl FairShares {
    pub(super) fn new(rate: f64, burst: Duration, now: Instant) -> Self {
        Self { bucket: TokenBucket::new(rate, burst, now), shares: HashMap::new(), swept: now }
    }

    /// Takes a token if there is one for the namespace, or says when to try again.
    pub(super) fn take(
        &mut self,
        now: Instant,
        namespace: u32,
        priority: Priority,
        is_urgent: bool,
    ) -> Result<(), Instant> {
        self.sweep(now);
        let available = self.bucket.available(now);
        let burst = self.bucket.burst();
        let rate = self.bucket.rate();
        self.shares.entry(namespace).or_insert_with(|| Share::new(burst, now));
        let namespaces = self.namespaces();
        let spacing = self.bucket.spacing().mul_f64(namespaces);
        let Some(share) = self.shares.get_mut(&namespace) else { return Err(now + spacing) };
        share.requested_at = now;
        share.demand.measure(now);
        share.demand.requested = share.demand.requested.saturating_add(1);
        let passed = now.saturating_duration_since(share.refilled_at).as_secs_f64();
        share.refilled_at = share.refilled_at.max(now);
        share.tokens = (share.tokens + passed * rate / namespaces).min((burst / namespaces).max(1.0));
        let is_within_share = share.tokens >= 1.0;
        let is_left_over = namespaces < 2.0 || available > burst * RESERVED_FOR_SHARES;
        if self.bucket.take(now, is_urgent, is_within_share || is_left_over) {
            share.tokens = (share.tokens - 1.0).max(0.0);
            return Ok(());
        }
        Err(share.waitlists.join(priority, now, spacing))
    }

    /// Returns a token that led to no request, which is no demand either: the request asks again.
    pub(super) fn restore(&mut self, namespace: u32) {
        self.bucket.restore();
        if let Some(share) = self.shares.get_mut(&namespace) {
            share.tokens += 1.0;
            share.demand.requested = share.demand.requested.saturating_sub(1);
        }
    }

    /// When a request that waits for something else than the rate tries again: after `from`, spaced by the namespace's share
    /// of the full rate.
    pub(super) fn defer(&mut self, namespace: u32, priority: Priority, from: Instant) -> Instant {
        let spacing = self.bucket.spacing().mul_f64(self.namespaces());
        let share = self.shares.entry(namespace).or_insert_with(|| Share::new(0.0, from));
        share.waitlists.join(priority, from, spacing)
    }

    /// The time between two requests at the full rate.
    pub(super) fn spacing(&self) -> Duration {
        self.bucket.spacing()
    }

    /// Halves the rate, because the portal asked for fewer requests.
    pub(super) fn halve(&mut self, now: Instant) {
        self.bucket.halve(now);
    }

    /// The factor by which the intervals of a namespace are stretched, at least 1: the total demand over the rate, but no
    /// more than the namespace's own demand over its share. A namespace within its share is not stretched by others.
    pub(super) fn stretch(&mut self, now: Instant, namespace: u32) -> f64 {
        self.sweep(now);
        let total = self.bucket.stretch(now);
        let share_of_rate = self.bucket.rate() / self.namespaces();
        let Some(share) = self.shares.get_mut(&namespace) else { return 1.0 };
        share.demand.measure(now);
        share.demand.stretch = total.min(share.demand.per_second / share_of_rate).max(1.0);
        share.demand.stretch
    }

    /// The number of namespaces with a share, at least 1.
    fn namespaces(&self) -> f64 {
        u32::try_from(self.shares.len()).map_or(f64::MAX, f64::from).max(1.0)
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            self.shares.retain(|_, share| now.saturating_duration_since(share.requested_at) < ACTIVE_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests of each namespace are admitted in ten seconds, by its number of requests per second.
    fn admitted(rate: f64, requests: &[(u32, u64)]) -> Vec<usize> {
        let start = Instant::now();
        let mut shares = FairShares::new(rate, Duration::from_millis(200), start);
        let mut plan: Vec<(Instant, u32)> = requests
            .iter()
            .flat_map(|(namespace, each)| {
                (0..each * 10).map(move |number| {
                    (start + Duration::from_nanos(number * 1_000_000_000 / each), *namespace)
                })
            })
            .collect();
        plan.sort();
        let mut admitted = vec![0; requests.len()];
        for (now, namespace) in plan {
            if shares.take(now, namespace, Priority::Create, true).is_ok() {
                admitted[requests.iter().position(|(known, _)| *known == namespace).unwrap()] += 1;
            }
        }
        admitted
    }

    #[test]
    fn a_namespace_that_needs_little_gets_it_beside_one_that_wants_everything() {
        let admitted = admitted(200.0, &[(1, 2_000), (2, 10)]);
        assert!(admitted[1] >= 99, "{admitted:?}");
        assert!((1_500..=2_060).contains(&admitted[0]), "what the other leaves: {admitted:?}");
    }

    #[test]
    fn greedy_namespaces_get_equal_shares_and_together_no_more_than_the_rate() {
        let admitted = admitted(200.0, &[(1, 2_000), (2, 500), (3, 400)]);
        assert!(admitted.iter().sum::<usize>() <= 2_060, "{admitted:?}");
        let (least, most) = (admitted.iter().min().unwrap(), admitted.iter().max().unwrap());
        assert!(*most <= least * 5 / 4, "{admitted:?}");
    }

    #[test]
    fn a_namespace_within_its_share_is_not_stretched_by_another() {
        const HUGE: u32 = 1;
        let start = Instant::now();
        let mut shares = FairShares::new(200.0, Duration::from_millis(200), start);
        for tenth in 0..250_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            for _ in 0..500 {
                let _ = shares.take(now, HUGE, Priority::Idle, false);
            }
            // Forty others, each with two sessions that are sometimes polled together.
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
    fn namespaces_that_exceed_their_shares_are_stretched_until_they_fit() {
        let start = Instant::now();
        let mut shares = FairShares::new(50.0, Duration::from_millis(200), start);
        // A hundred sessions each that are polled once a second, stretched.
        let mut plan: std::collections::BTreeSet<_> =
            (0..200_u32).map(|id| (start + Duration::from_millis(5) * id, id)).collect();
        let mut requested = 0;
        while let Some((now, id)) = plan.pop_first() {
            if now >= start + Duration::from_mins(2) {
                break;
            }
            requested += u32::from(now >= start + Duration::from_mins(1));
            let wait = match shares.take(now, id % 2, Priority::Active, false) {
                Ok(()) => now + Duration::from_secs(1).mul_f64(shares.stretch(now, id % 2)),
                Err(until) => until,
            };
            plan.insert((wait, id));
        }
        assert!((2_000..=4_500).contains(&requested), "{requested} in a minute, at fifty a second");
    }

    #[test]
    fn a_single_namespace_has_the_whole_rate() {
        let admitted = admitted(50.0, &[(1, 500)]);
        assert!((480..=520).contains(&admitted[0]), "{admitted:?}");
    }

    #[test]
    fn no_request_waits_behind_those_of_another_namespace() {
        let now = Instant::now();
        let mut shares = FairShares::new(50.0, Duration::from_millis(200), now);
        let flood: Vec<_> =
            (0..1_000).filter_map(|_| shares.take(now, 1, Priority::Create, true).err()).collect();
        assert!(flood.iter().max().unwrap().duration_since(now) >= Duration::from_secs(15));
        let one = (0..20).find_map(|_| shares.take(now, 2, Priority::Create, true).err());
        assert!(one.is_none_or(|until| until - now <= Duration::from_millis(50)), "{one:?}");
    }
}
