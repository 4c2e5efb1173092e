//! How often each source may call without being authentic: a token bucket for each address. Pure: the time is an argument.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use http::HeaderMap;
use ipnet::IpNet;
use tokio::time::Instant;

/// The most sources with a bucket of their own. Further ones share one.
const MOST_SOURCES: usize = 10_000;
/// For how long a source that was quiet may exceed its rate.
const BURST: Duration = Duration::from_secs(2);

/// Where a call comes from: an IPv4 address, or the network of an IPv6 address, of which one machine has many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    /// Of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }

    /// Of a request: the peer, or what the last trusted proxy says in `X-Forwarded-For`. What stands before that entry may
    /// be the client's own invention.
    pub(super) fn of_request(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: IpAddr| {
            let address = address.to_canonical();
            trusted.iter().any(|network| network.contains(&address))
        };
        let mut found = peer;
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for entry in entries {
            if !is_trusted(found) {
                break;
            }
            let Some(address) = address(entry.trim()) else { break };
            found = address;
        }
        Self::of(found)
    }
}

/// The address in an entry of `X-Forwarded-For`, which may have a port.
fn address(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    entry.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// The buckets of all sources. A bucket is the time at which it is full again.
#[derive(Debug)]
pub(super) struct Sources {
    /// The time that one call takes; nothing, if there is no limit.
    interval: Option<Duration>,
    full_at: HashMap<Source, Instant>,
    /// The bucket of the sources that have none of their own.
    others: Option<Instant>,
    /// When full buckets may be dropped again. All are looked through for that.
    drop_at: Option<Instant>,
}

impl Sources {
    /// Each source may make that many calls per second; `None` for no limit.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.map(|rate| Duration::from_secs_f64(rate.recip()));
        Self { interval, full_at: HashMap::new(), others: None, drop_at: None }
    }

    /// Whether a call of that source is checked. Takes a token from its bucket.
    pub(super) fn admit(&mut self, source: Source, now: Instant) -> bool {
        let Some(interval) = self.interval else { return true };
        if self.full_at.len() >= MOST_SOURCES && self.drop_at.is_none_or(|drop_at| drop_at <= now) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.drop_at = Some(now + BURST);
        }
        let full_at = if self.full_at.len() >= MOST_SOURCES && !self.full_at.contains_key(&source) {
            self.others.get_or_insert(now)
        } else {
            self.full_at.entry(source).or_insert(now)
        };
        let begins_at = (*full_at).max(now);
        let admits = begins_at.saturating_duration_since(now) <= BURST;
        if admits {
            *full_at = begins_at + interval;
        }
        admits
    }

    /// Gives the token of a call back, because the call was authentic.
    pub(super) fn refund(&mut self, source: Source) {
        let Some(interval) = self.interval else { return };
        let full_at = self.full_at.get_mut(&source).or(self.others.as_mut());
        if let Some(full_at) = full_at {
            *full_at = full_at.checked_sub(interval).unwrap_or(*full_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn source(text: &str) -> Source {
        Source::of(ip(text))
    }

    #[test]
    fn a_source_that_floods_is_limited_and_hinders_no_other() {
        let (mut sources, now) = (Sources::new(Some(10.0)), Instant::now());
        let admitted = (0..1_000).filter(|_| sources.admit(source("10.0.0.1"), now)).count();
        assert_eq!(admitted, 21, "two seconds of it, and one");
        assert!(sources.admit(source("10.0.0.2"), now));
        let later = now + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| sources.admit(source("10.0.0.1"), later)).count(), 10);
    }

    #[test]
    fn authentic_calls_are_not_limited() {
        let (mut sources, now) = (Sources::new(Some(1.0)), Instant::now());
        for _ in 0..1_000 {
            assert!(sources.admit(source("10.0.0.1"), now));
            sources.refund(source("10.0.0.1"));
        }
        assert!((0..10).all(|_| Sources::new(None).admit(source("10.0.0.1"), now)), "no limit");
    }

    #[test]
    fn one_machine_has_one_bucket_whichever_of_its_ipv6_addresses_it_uses() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (mut sources, now) = (Sources::new(Some(1.0)), Instant::now());
        let many = (0..20_000_u32).map(|number| Source::of(IpAddr::V4(number.into())));
        let admitted = many.filter(|source| sources.admit(*source, now)).count();
        assert_eq!(sources.full_at.len(), MOST_SOURCES);
        assert_eq!(admitted, MOST_SOURCES + 3, "the further ones share a bucket");
        let later = now + Duration::from_mins(1);
        assert!(sources.admit(source("192.0.2.1"), later));
        assert_eq!(sources.full_at.len(), 1);
    }

    #[test]
    fn only_trusted_proxies_say_where_a_call_comes_from() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let of = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            Source::of_request(ip(peer), &headers, &trusted)
        };
        assert_eq!(of("192.0.2.1", &["198.51.100.1"]), source("192.0.2.1"), "the peer is no proxy of ours");
        assert_eq!(of("10.0.0.7", &["198.51.100.1, 198.51.100.2"]), source("198.51.100.2"));
        assert_eq!(of("10.0.0.7", &["198.51.100.1", "198.51.100.2, 10.0.0.8"]), source("198.51.100.2"));
        assert_eq!(of("::ffff:10.0.0.7", &["[2001:db8::1]:443"]), source("2001:db8::1"));
        for nothing in [&[][..], &["unknown"], &[""]] {
            assert_eq!(of("10.0.0.7", nothing), source("10.0.0.7"), "{nothing:?}");
        }
    }
}
