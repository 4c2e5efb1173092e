//! How often each source may call without being authentic: a token bucket for each. Pure: the time is an argument.
//! Depends on `rate_limit`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use http::HeaderMap;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::rate_limit::RateLimiter;

/// The most networks with a bucket of their own. Further ones share one.
const MOST_NETWORKS: usize = 10_000;
/// The most sources that are known because their calls were authentic. Of more, those that called last are known.
const MOST_AUTHENTIC: usize = 1_000;
/// How long a source is known after an authentic call.
const AUTHENTIC_FOR: Duration = Duration::from_hours(1);
/// For how long a source that was quiet may exceed its rate.
const BURST: Duration = Duration::from_secs(2);

/// Where a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

/// What one machine may have: an IPv4 address, or a /48 of IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl Source {
    /// Of an address. One that a NAT64 translated is the IPv4 address that it holds: the others of its network are the whole
    /// IPv4 internet.
    pub(super) fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let IpAddr::V6(v6) = address else { return Self(address) };
        match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
                Self(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into())
            }
            _ => Self(address),
        }
    }

    /// Its network.
    pub(super) fn network(self) -> Network {
        match self.0 {
            IpAddr::V4(_) => Network(self.0),
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                Network(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into())
            }
        }
    }

    /// Of a request: the peer, or what the last trusted proxy says in `X-Forwarded-For`. What stands before that entry may
    /// be the client's own invention.
    pub(super) fn of_request(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let mut found = peer;
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for entry in entries {
            if !is_trusted(found, trusted) {
                break;
            }
            let Some(address) = address(entry.trim()) else { break };
            found = address;
        }
        Self::of(found)
    }
}

/// Whether a peer is a trusted proxy, whose connections carry the calls of many.
pub(super) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    let address = peer.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The address in an entry of `X-Forwarded-For`, which may have a port.
fn address(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    entry.parse().ok().or_else(with_port).or_else(in_brackets)
}

/// The buckets of all sources.
#[derive(Debug)]
pub(super) struct Sources {
    /// The time that one call takes; nothing, if there is no limit.
    interval: Option<Duration>,
    buckets: HashMap<Network, RateLimiter>,
    /// The bucket of the networks that have none of their own.
    others: RateLimiter,
    /// When full buckets may be dropped again. All are looked through for that.
    drop_at: Option<Instant>,
    authentic: HashMap<Source, Authentic>,
}

/// A source whose calls were authentic. Its bucket is its own, whatever others of its network do.
#[derive(Debug)]
struct Authentic {
    last: Instant,
    bucket: RateLimiter,
}

impl Authentic {
    fn is_known(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < AUTHENTIC_FOR
    }
}

impl Sources {
    /// Each source may make that many calls per second; `None` for no limit.
    pub(super) fn new(rate: Option<f64>) -> Self {
        let interval = rate.map(|rate| Duration::from_secs_f64(rate.recip()));
        let (buckets, authentic) = (HashMap::new(), HashMap::new());
        Self { interval, buckets, others: RateLimiter::default(), drop_at: None, authentic }
    }

    /// Whether a call of that source is checked. Takes a token from its bucket.
    pub(super) fn admit(&mut self, source: Source, now: Instant) -> bool {
        let Some(interval) = self.interval else { return true };
        let bucket = match self.authentic.get_mut(&source).filter(|known| known.is_known(now)) {
            Some(known) => &mut known.bucket,
            None => self.bucket(source.network(), now),
        };
        let admits = bucket.next(now, BURST) <= now;
        if admits {
            bucket.add(now, interval);
        }
        admits
    }

    /// The bucket of a network, or that of all others.
    fn bucket(&mut self, network: Network, now: Instant) -> &mut RateLimiter {
        if self.buckets.len() >= MOST_NETWORKS && self.drop_at.is_none_or(|drop_at| drop_at <= now) {
            self.buckets.retain(|_, bucket| !bucket.is_idle(now));
            self.drop_at = Some(now + BURST);
        }
        if self.buckets.len() >= MOST_NETWORKS && !self.buckets.contains_key(&network) {
            &mut self.others
        } else {
            self.buckets.entry(network).or_default()
        }
    }

    /// Whether a call of that source was authentic within the last hour.
    pub(super) fn is_authentic(&self, source: Source, now: Instant) -> bool {
        self.authentic.get(&source).is_some_and(|known| known.is_known(now))
    }

    /// Notes an authentic call, and gives its token back.
    pub(super) fn authenticated(&mut self, source: Source, now: Instant) {
        let interval = self.interval.unwrap_or_default();
        if let Some(known) = self.authentic.get_mut(&source) {
            known.bucket.refund(interval);
            known.last = now;
            return;
        }
        self.buckets.get_mut(&source.network()).unwrap_or(&mut self.others).refund(interval);
        if self.authentic.len() >= MOST_AUTHENTIC {
            let oldest = self.authentic.iter().min_by_key(|(_, known)| known.last);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.authentic.remove(&oldest);
            }
        }
        self.authentic.insert(source, Authentic { last: now, bucket: RateLimiter::default() });
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
            sources.authenticated(source("10.0.0.1"), now);
        }
        assert!((0..10).all(|_| Sources::new(None).admit(source("10.0.0.1"), now)), "no limit");
    }

    #[test]
    fn one_machine_has_one_bucket_whichever_of_its_ipv6_addresses_it_uses() {
        let network = |text: &str| source(text).network();
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:ffff:ffff::"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:2:2::1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
        let (mut sources, now) = (Sources::new(Some(1.0)), Instant::now());
        let many = (0..20_000_u16).map(|subnet| IpAddr::from([0x2001, 0xdb8, 1, subnet, 0, 0, 0, 1]));
        let admitted = many.filter(|address| sources.admit(Source::of(*address), now)).count();
        assert_eq!((admitted, sources.buckets.len()), (3, 1));
    }

    #[test]
    fn an_ipv4_address_is_the_same_source_in_every_form() {
        for form in ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1:2:3:4:10.0.0.1"] {
            assert_eq!(source(form), source("10.0.0.1"), "{form}");
        }
        assert_ne!(source("64:ff9b::10.0.0.1").network(), source("64:ff9b::10.0.0.2").network());
    }

    #[test]
    fn a_source_that_was_authentic_within_an_hour_keeps_its_rate_whatever_others_do() {
        let (mut sources, now) = (Sources::new(Some(1.0)), Instant::now());
        let (portal, neighbour) = (source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert!(sources.admit(portal, now));
        sources.authenticated(portal, now);
        let flood = (1..20_000_u32).map(|number| Source::of(Ipv4Addr::from(number).into()));
        let mut flood = |now| {
            for source in flood.clone().chain(std::iter::repeat_n(neighbour, 10)) {
                sources.admit(source, now);
            }
            assert!(!sources.admit(neighbour, now) && !sources.admit(source("192.0.2.1"), now));
            (sources.is_authentic(portal, now), (0..10).filter(|_| sources.admit(portal, now)).count())
        };
        assert_eq!(flood(now), (true, 3));
        assert_eq!(flood(now + AUTHENTIC_FOR - Duration::from_secs(1)), (true, 3));
        assert_eq!(flood(now + AUTHENTIC_FOR), (false, 0));
    }

    #[test]
    fn of_too_many_authentic_sources_the_last_ones_are_known() {
        let (mut sources, start) = (Sources::new(None), Instant::now());
        let source = |number: u32| Source::of(Ipv4Addr::from(number).into());
        for number in 0..1_500 {
            sources.authenticated(source(number), start + Duration::from_millis(number.into()));
        }
        let now = start + Duration::from_secs(2);
        let known: Vec<_> = (0..1_500).filter(|number| sources.is_authentic(source(*number), now)).collect();
        assert_eq!(known, (500..1_500).collect::<Vec<_>>());
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (mut sources, now) = (Sources::new(Some(1.0)), Instant::now());
        let many = (0..20_000_u32).map(|number| Source::of(IpAddr::V4(number.into())));
        let admitted = many.filter(|source| sources.admit(*source, now)).count();
        assert_eq!(sources.buckets.len(), MOST_NETWORKS);
        assert_eq!(admitted, MOST_NETWORKS + 3, "the further ones share a bucket");
        let later = now + Duration::from_mins(1);
        assert!(sources.admit(source("192.0.2.1"), later));
        assert_eq!(sources.buckets.len(), 1);
    }

    #[test]
    fn only_trusted_proxies_say_where_a_call_comes_from() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
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
        assert_eq!(
            of("fd00::7", &["2001:db8::1, [fd00::8]"]),
            source("2001:db8::1"),
            "two proxies over IPv6"
        );
        assert_eq!(of("fd00::7", &["2001:db8::1, fe80::8%eth0"]), source("fd00::7"), "no address");
        assert_eq!(of("64:ff9b::10.0.0.7", &["198.51.100.1"]), source("10.0.0.7"), "anyone behind the NAT64");
        for nothing in [&[][..], &["unknown"], &[""]] {
            assert_eq!(of("10.0.0.7", nothing), source("10.0.0.7"), "{nothing:?}");
        }
    }
}
