//! Every state that two replicas and an API server can reach: requests and responses take any time or are lost, writes of
//! which nobody waits any longer may still arrive, and a replica may be suspended at any point, crash, or release the
//! Lease. In no state may both replicas act.

use std::collections::HashSet;

use super::*;

const SHORT: Timing =
    Timing { lease_duration: at_ticks(2), renew_deadline: at_ticks(1), retry_period: at_ticks(1) };

const fn at_ticks(ticks: u64) -> Duration {
    Duration::from_secs(ticks)
}

/// A Lease at the API server: its record and its resourceVersion.
type Stored = Option<(LeaseRecord, u64)>;

/// A write that is under way: the record, and the version that it replaces; none if it creates the Lease.
#[derive(Clone, Debug)]
struct Write {
    record: LeaseRecord,
    replaces: Option<u64>,
    sent: Duration,
}

#[derive(Clone, Debug)]
enum Request {
    None,
    /// The Lease was read; the response is on its way. When the request was sent does not matter.
    Read(Stored),
    Write(Write),
    Written {
        version: Option<u64>,
        write: Write,
    },
}

#[derive(Clone, Debug)]
struct Replica {
    election: Election,
    /// The version that it has read or written last, if it may write without reading again.
    known: Option<u64>,
    request: Request,
    /// A write whose response is not awaited any more, which may still arrive.
    late: Option<Write>,
}

#[derive(Clone, Debug)]
struct World {
    now: Duration,
    stored: Stored,
    replicas: [Replica; 2],
    /// Numbers the writes and the processes.
    count: u64,
}

/// What distinguishes two worlds: ages instead of times, and equality instead of versions.
type Key = (Holder, [ReplicaKey; 2]);
type ReplicaKey = (Option<(Holder, bool, u64)>, Option<u64>, Option<bool>, RequestKey, Option<Holder>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    NoLease,
    Nobody,
    Replica(usize),
    Crashed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RequestKey {
    None,
    Read { holder: Holder, is_current: bool, is_observed: bool },
    Write(u64),
    Written { is_current: bool, age: u64 },
    Refused,
}

impl Replica {
    fn new(number: usize, process: u64) -> Self {
        let election = Election::new(format!("{number}/{process}"), SHORT);
        Self { election, known: None, request: Request::None, late: None }
    }

    fn acts(&self, now: Duration) -> bool {
        self.election.has_acquired() && self.election.loss(now).is_none()
    }
}

impl World {
    fn start() -> Self {
        Self {
            now: Duration::ZERO,
            stored: None,
            replicas: [Replica::new(0, 0), Replica::new(1, 1)],
            count: 2,
        }
    }

    fn holder(&self, record: Option<&LeaseRecord>) -> Holder {
        let Some(record) = record else { return Holder::NoLease };
        if record.holder.is_empty() {
            return Holder::Nobody;
        }
        let number = self.replicas.iter().position(|replica| replica.election.identity == record.holder);
        number.map_or(Holder::Crashed, Holder::Replica)
    }

    fn version(&self) -> Option<u64> {
        self.stored.as_ref().map(|(_, version)| *version)
    }

    /// The ticks since then, up to that many: more makes no difference.
    fn age(&self, since: Duration, most: Duration) -> u64 {
        self.now.saturating_sub(since).min(most).as_secs()
    }

    fn key(&self) -> Key {
        let current = self.stored.as_ref().map(|(record, _)| record);
        let keys = [0, 1].map(|number| {
            let Replica { election, known, request, late } = &self.replicas[number];
            let record = election.observed.as_ref().map(|observed| &observed.record);
            let observed = election.observed.as_ref().map(|observed| {
                let age = self.age(observed.since, SHORT.lease_duration);
                (self.holder(record), record == current, age)
            });
            let sent = |write: &Write| self.age(write.sent, SHORT.renew_deadline);
            let request = match request {
                Request::None => RequestKey::None,
                Request::Read(read) => RequestKey::Read {
                    holder: self.holder(read.as_ref().map(|(record, _)| record)),
                    is_current: read.as_ref().map(|(_, version)| *version) == self.version(),
                    is_observed: read.as_ref().map(|(record, _)| record) == record,
                },
                // A write of an older version is refused, whatever its age: versions are never used again.
                Request::Write(write) if write.replaces == self.version() => RequestKey::Write(sent(write)),
                Request::Write(_) | Request::Written { version: None, .. } => RequestKey::Refused,
                Request::Written { version, write } => {
                    RequestKey::Written { is_current: *version == self.version(), age: sent(write) }
                }
            };
            let late = late.as_ref().filter(|write| write.replaces == self.version());
            let late = late.map(|write| self.holder(Some(&write.record)));
            let renewed = election.renewed.map(|renewed| self.age(renewed, SHORT.renew_deadline));
            (observed, renewed, known.map(|known| Some(known) == self.version()), request, late)
        });
        (self.holder(current), keys)
    }

    /// The same with the replicas the other way round: what holds for one holds for the other.
    fn mirrored(&self) -> Self {
        let mut mirrored = self.clone();
        mirrored.replicas.reverse();
        mirrored
    }

    /// The compare-and-swap of the API server. The version of what was written, if it was.
    fn write(&mut self, write: &Write) -> Option<u64> {
        if write.replaces != self.version() {
            return None;
        }
        self.count += 1;
        self.stored = Some((write.record.clone(), self.count));
        Some(self.count)
    }

    /// What the replica writes, if the Lease is its own or free.
    fn decide(&mut self, number: usize, replaces: Option<u64>) -> Request {
        self.count += 1;
        let time = time(i64::try_from(self.count).unwrap());
        match self.replicas[number].election.decide(self.now, time) {
            Decision::Write(record) => Request::Write(Write { record, replaces, sent: self.now }),
            Decision::Wait => Request::None,
        }
    }

    /// Another process takes the replica's place. What was sent may still arrive.
    fn restart(&mut self, number: usize, late: Option<Write>) {
        self.count += 1;
        let late = late.or_else(|| self.replicas[number].late.take());
        self.replicas[number] = Replica { late, ..Replica::new(number, self.count) };
    }

    /// The worlds that one event at a replica leads to.
    fn events(&self, number: usize) -> Vec<Self> {
        let replica = &self.replicas[number];
        let with = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            world
        };
        let mut worlds = vec![with(&|world| world.restart(number, None))];
        if let Some(write) = &replica.late {
            worlds.push(with(&|world| {
                world.replicas[number].late = None;
                world.write(write);
            }));
        }
        if replica.acts(self.now) && replica.known.is_some() {
            worlds.push(with(&|world| {
                world.count += 1;
                let time = time(i64::try_from(world.count).unwrap());
                let record = world.replicas[number].election.released(time);
                let replaces = world.replicas[number].known;
                world.restart(number, record.map(|record| Write { record, replaces, sent: world.now }));
            }));
        }
        worlds.extend(self.progress(number));
        worlds
    }

    /// The worlds in which the replica's request makes progress, or is lost.
    fn progress(&self, number: usize) -> Vec<Self> {
        let mut world = self.clone();
        let mut lost = self.clone();
        lost.replicas[number].request = Request::None;
        match self.replicas[number].request.clone() {
            Request::None => {
                let replica = &self.replicas[number];
                world.replicas[number].request = match replica.known {
                    Some(known) if replica.election.has_acquired() => {
                        world.replicas[number].known = None;
                        world.decide(number, Some(known))
                    }
                    _ => Request::Read(self.stored.clone()),
                };
                vec![world]
            }
            Request::Read(read) => {
                let (record, version) = read.unzip();
                world.replicas[number].election.observe(record, self.now);
                if world.replicas[number].election.loss(self.now).is_some() {
                    world.restart(number, None);
                } else {
                    world.replicas[number].request = world.decide(number, version);
                }
                vec![world, lost]
            }
            Request::Write(write) => {
                let version = world.write(&write);
                let late = Some(write.clone());
                world.replicas[number].request = Request::Written { version, write };
                lost.replicas[number].late = late;
                vec![world, lost]
            }
            Request::Written { version, write } => {
                if let Some(version) = version {
                    world.replicas[number].election.wrote(write.record, write.sent, self.now);
                    world.replicas[number].known = Some(version);
                }
                world.replicas[number].request = Request::None;
                vec![world, lost]
            }
        }
    }

    fn tick(&self) -> Self {
        Self { now: self.now + at_ticks(1), ..self.clone() }
    }
}

#[test]
fn two_replicas_never_act_at_the_same_time_whatever_is_late_lost_or_suspended() {
    let mut seen: HashSet<Key> = HashSet::new();
    let mut open = vec![World::start()];
    let mut leaders = HashSet::new();
    while let Some(world) = open.pop() {
        if seen.contains(&world.mirrored().key()) || !seen.insert(world.key()) {
            continue;
        }
        let acting: Vec<_> = (0..2).filter(|number| world.replicas[*number].acts(world.now)).collect();
        assert!(acting.len() <= 1, "{world:#?}");
        leaders.insert(acting.len());
        open.push(world.tick());
        open.extend((0..2).flat_map(|number| world.events(number)));
    }
    println!("{} states", seen.len());
    assert_eq!(leaders.len(), 2, "nobody, and one: {leaders:?}");
    assert!(seen.len() > 10_000, "{}", seen.len());
}
