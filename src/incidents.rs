//! Incidents: a lasting failure is reported once when it begins and once when it is resolved, however often it is
//! met in between. What an incident is about, and what the reports say, is the caller's. Pure: the time is an argument.
//! Depends on nothing of this crate.

use std::time::Duration;

use tokio::time::Instant;

/// The open incidents, each with what its owner knows of it.
#[derive(Debug)]
pub(crate) struct Incidents<K, D> {
    incidents: Vec<Incident<K, D>>,
    reopens_within: Duration,
}

/// A failure that lasts, or that may come back.
#[derive(Debug)]
pub(crate) struct Incident<K, D> {
    /// What fails.
    pub(crate) key: K,
    /// What its owner knows of it.
    pub(crate) detail: D,
    last_failure: Instant,
    resolve_timeout: Duration,
    opened: Instant,
    resolved: Option<Instant>,
    is_reported: bool,
}

impl<K, D> Default for Incidents<K, D> {
    fn default() -> Self {
        Self { incidents: Vec::new(), reopens_within: Duration::ZERO }
    }
}

impl<K: Clone + PartialEq, D> Incidents<K, D> {
    /// An incident that fails again this soon after it was resolved is the same one: it is reported again only once it
    /// has lasted as long.
    pub(crate) const fn reopened_within(reopens_within: Duration) -> Self {
        Self { incidents: Vec::new(), reopens_within }
    }

    /// Notes a failure. Says whether to report it, and gives what is known of its incident; that is `detail` where the
    /// incident is new, because nothing of that key failed for its `resolve_timeout` or ever.
    pub(crate) fn failed(
        &mut self,
        key: K,
        detail: D,
        resolve_timeout: Duration,
        now: Instant,
    ) -> (bool, &mut D) {
        let found = self.incidents.iter().position(|incident| incident.key == key);
        let index = found.unwrap_or(self.incidents.len());
        let is_new = found.is_none_or(|index| self.incidents[index].is_forgotten(self.reopens_within, now));
        if is_new {
            let incident = Incident {
                key,
                detail,
                last_failure: now,
                resolve_timeout,
                opened: now,
                resolved: None,
                is_reported: true,
            };
            match found {
                Some(index) => self.incidents[index] = incident,
                None => self.incidents.push(incident),
            }
        }
        let incident = &mut self.incidents[index];
        let is_reported = is_new || incident.failed_again(self.reopens_within, now);
        (is_reported, &mut incident.detail)
    }

    /// Resolves the open incidents of which the owner says so, and returns the keys of those to report.
    pub(crate) fn resolve(
        &mut self,
        now: Instant,
        mut is_over: impl FnMut(&mut Incident<K, D>) -> bool,
    ) -> Vec<K> {
        let mut resolved = Vec::new();
        self.incidents.retain_mut(|incident| {
            if incident.resolved.is_some() || !is_over(incident) {
                return true;
            }
            if incident.is_reported {
                resolved.push(incident.key.clone());
            }
            incident.resolved = Some(now);
            !self.reopens_within.is_zero()
        });
        resolved
    }

    /// The incident of that key, open or not.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut Incident<K, D>> {
        self.incidents.iter_mut().find(|incident| incident.key == *key)
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.incidents.len()
    }

    /// Forgets the incident of that key without a report.
    pub(crate) fn forget(&mut self, key: &K) {
        self.incidents.retain(|incident| incident.key != *key);
    }

    /// Forgets all incidents without a report.
    pub(crate) fn clear(&mut self) {
        self.incidents.clear();
    }
}

impl<V: PartialEq> Incidents<(), Vec<V>> {
    /// Notes a failure that shows in several ways, and says whether this one is new to the incident.
    pub(crate) fn is_news(&mut self, value: V, resolve_timeout: Duration, now: Instant) -> bool {
        let (_, known) = self.failed((), Vec::new(), resolve_timeout, now);
        let is_new = !known.contains(&value);
        if is_new {
            known.push(value);
        }
        is_new
    }
}

impl<K, D> Incident<K, D> {
    /// Whether it has ended because nothing has failed for long enough.
    pub(crate) fn has_timed_out(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_failure) > self.resolve_timeout
    }

    /// When something of it failed last.
    pub(crate) const fn last_failure(&self) -> Instant {
        self.last_failure
    }

    /// Whether a failure now is no part of it any more.
    fn is_forgotten(&self, reopens_within: Duration, now: Instant) -> bool {
        self.resolved.map_or_else(|| self.has_timed_out(now), |resolved| now >= resolved + reopens_within)
    }

    /// Whether one more failure is to be reported.
    fn failed_again(&mut self, reopens_within: Duration, now: Instant) -> bool {
        self.last_failure = now;
        if self.resolved.take().is_some() {
            (self.opened, self.is_reported) = (now, false);
        }
        let has_lasted = !self.is_reported && now >= self.opened + reopens_within;
        self.is_reported |= has_lasted;
        has_lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(5);

    #[test]
    fn a_failure_is_reported_when_it_begins_and_when_it_is_resolved() {
        let (mut incidents, now) = (Incidents::default(), Instant::now());
        assert!(incidents.failed("a", 1, TIMEOUT, now).0);
        assert!(incidents.failed("b", 2, TIMEOUT, now).0);
        assert_eq!(incidents.failed("a", 3, TIMEOUT, now), (false, &mut 1));
        assert_eq!(incidents.resolve(now, |incident| incident.key == "a"), ["a"]);
        assert_eq!(incidents.resolve(now, |incident| incident.key == "a"), [""; 0]);
        assert_eq!(incidents.failed("a", 3, TIMEOUT, now), (true, &mut 3));
    }

    #[test]
    fn a_failure_after_the_time_out_is_another_incident() {
        let (mut incidents, begun) = (Incidents::default(), Instant::now());
        assert!(incidents.failed("a", 1, TIMEOUT, begun).0);
        let later = begun + TIMEOUT;
        assert_eq!(incidents.failed("a", 2, TIMEOUT, later), (false, &mut 1));
        assert!(!incidents.get_mut(&"a").unwrap().has_timed_out(later + TIMEOUT));
        let later = later + TIMEOUT + Duration::from_nanos(1);
        assert!(incidents.get_mut(&"a").unwrap().has_timed_out(later));
        assert_eq!(incidents.failed("a", 2, TIMEOUT, later), (true, &mut 2));
    }

    #[test]
    fn an_incident_that_comes_back_soon_is_reported_once_it_lasts() {
        let soon = Duration::from_mins(1);
        let (mut incidents, begun) = (Incidents::reopened_within(soon), Instant::now());
        assert!(incidents.failed("a", (), Duration::MAX, begun).0);
        assert_eq!(incidents.resolve(begun, |_| true), ["a"]);
        assert!(!incidents.failed("a", (), Duration::MAX, begun).0);
        assert_eq!(incidents.resolve(begun, |_| true), [""; 0], "nobody knows that it came back");
        assert!(!incidents.failed("a", (), Duration::MAX, begun).0);
        assert!(incidents.failed("a", (), Duration::MAX, begun + soon).0, "it lasts");
        assert!(!incidents.failed("a", (), Duration::MAX, begun + soon).0);
        assert_eq!(incidents.resolve(begun + soon, |_| true), ["a"]);
        assert!(incidents.failed("a", (), Duration::MAX, begun + soon + soon).0, "it is another one");
    }

    #[test]
    fn each_way_in_which_an_incident_shows_is_news_once() {
        let (mut incidents, now) = (Incidents::default(), Instant::now());
        let news = ["a", "b", "a", "b"].map(|value| incidents.is_news(value, TIMEOUT, now));
        assert_eq!(news, [true, true, false, false]);
        assert!(incidents.is_news("a", TIMEOUT, now + TIMEOUT + TIMEOUT));
        incidents.clear();
        assert!(incidents.is_news("a", TIMEOUT, now));
    }
}
