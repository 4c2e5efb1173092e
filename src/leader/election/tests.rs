//! The election by example, and every state that two replicas can reach.

mod model;

use super::*;

const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry_period: Duration::from_secs(2),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A record of that holder, renewed at that second by its own clock.
fn record(holder: &str, renewed: i64) -> LeaseRecord {
    LeaseRecord {
        holder: holder.to_owned(),
        duration: Some(at(15)),
        acquired_at: Some(time(0)),
        renewed_at: Some(time(renewed)),
        transitions: 4,
    }
}

/// A replica that has observed these records at these seconds.
fn observed(records: impl IntoIterator<Item = (u64, LeaseRecord)>) -> Election {
    let mut election = Election::new("me".to_owned(), TIMING);
    for (seconds, record) in records {
        election.observe(Some(record), at(seconds));
    }
    election
}

fn written(election: &Election, seconds: u64) -> Option<LeaseRecord> {
    match election.decide(at(seconds), time(99)) {
        Decision::Write(record) => Some(record),
        Decision::Wait => None,
    }
}

#[test]
fn a_lease_that_does_not_exist_or_is_held_by_nobody_is_acquired_at_once() {
    let mine = LeaseRecord {
        holder: "me".to_owned(),
        duration: Some(at(15)),
        acquired_at: Some(time(99)),
        renewed_at: Some(time(99)),
        transitions: 0,
    };
    assert_eq!(written(&Election::new("me".to_owned(), TIMING), 0), Some(mine.clone()));
    let released = LeaseRecord { duration: Some(at(1)), ..record("", 7) };
    assert_eq!(written(&observed([(0, released)]), 0), Some(LeaseRecord { transitions: 5, ..mine }));
}

#[test]
fn a_lease_of_another_replica_is_acquired_once_it_was_unchanged_for_its_duration() {
    let election = observed([(100, record("other", 0)), (107, record("other", 0))]);
    assert_eq!(written(&election, 114), None);
    assert_eq!(written(&election, 115).unwrap().transitions, 5);
    let renewed = observed([(100, record("other", 0)), (107, record("other", 1))]);
    assert_eq!(written(&renewed, 121), None);
    assert!(written(&renewed, 122).is_some());
}

#[test]
fn another_replica_leads_only_while_its_lease_has_not_expired() {
    let election = observed([(100, record("other", 0))]);
    assert!(election.is_led_by_another(at(114)));
    assert!(!election.is_led_by_another(at(115)));
    assert!(!observed([(100, record("", 0))]).is_led_by_another(at(101)), "it was released");
    assert!(!observed([(100, record("me", 0))]).is_led_by_another(at(101)));
    assert!(!Election::new("me".to_owned(), TIMING).is_led_by_another(at(101)));
}

#[test]
fn the_times_in_a_record_are_compared_with_no_clock() {
    for renewed in [-1_000_000, 0, 1_000_000] {
        let election = observed([(0, record("other", renewed))]);
        assert_eq!(written(&election, 14), None, "{renewed}");
        assert!(written(&election, 15).is_some(), "{renewed}");
    }
}

#[test]
fn the_holder_says_for_how_long_its_lease_is_left_alone() {
    for (duration, expires) in [(Some(at(60)), 60), (Some(at(3)), 3), (None, 15)] {
        let election = observed([(0, LeaseRecord { duration, ..record("other", 0) })]);
        assert_eq!(written(&election, expires - 1), None, "{duration:?}");
        assert!(written(&election, expires).is_some(), "{duration:?}");
    }
}

#[test]
fn a_renewal_keeps_when_the_lease_was_acquired_and_how_often_it_changed_hands() {
    let renewed = written(&observed([(0, record("me", 0))]), 1).unwrap();
    assert_eq!(
        (renewed.acquired_at, renewed.renewed_at, renewed.transitions),
        (Some(time(0)), Some(time(99)), 4)
    );
}

#[test]
fn a_leader_loses_the_lease_after_the_renew_deadline_or_to_another_replica() {
    let mut election = Election::new("me".to_owned(), TIMING);
    assert_eq!((election.loss(at(1_000)), election.has_acquired()), (None, false));
    election.wrote(record("me", 0), at(100), at(104));
    assert!(election.has_acquired());
    assert_eq!(election.loss(at(109)), None);
    assert_eq!(election.loss(at(110)), Some(Loss::Expired), "it counts from when the request was sent");
    election.wrote(record("me", 8), at(108), at(108));
    assert_eq!(election.loss(at(110)), None);
    election.observe(Some(record("other", 9)), at(110));
    assert_eq!((election.loss(at(110)), election.holder()), (Some(Loss::Taken), Some("other")));
}

#[test]
fn a_request_without_a_response_leaves_time_for_another_attempt_to_renew() {
    for retry_period in [1, 2, 8] {
        let timing = Timing { retry_period: at(retry_period), ..TIMING };
        let mut remaining = timing.renew_deadline;
        remaining -= timing.pause(remaining, true);
        remaining -= timing.request_deadline(remaining);
        remaining -= timing.pause(remaining, false);
        // A read and a write.
        assert!(remaining > Duration::from_millis(1_500), "{retry_period}: {remaining:?}");
    }
}

#[test]
fn a_leader_whose_renewals_are_refused_at_once_pauses_between_them() {
    let (mut remaining, mut attempts) = (TIMING.renew_deadline, 0);
    while !remaining.is_zero() {
        let pause = TIMING.pause(remaining, false);
        assert!(pause >= remaining.min(Duration::from_millis(250)) && pause <= TIMING.retry_period);
        remaining -= pause;
        attempts += 1;
    }
    assert!((5..20).contains(&attempts), "{attempts}");
    assert_eq!(TIMING.pause(TIMING.renew_deadline, true), TIMING.retry_period);
}

#[test]
fn a_lease_is_released_by_its_holder_alone_and_for_a_second() {
    assert_eq!(observed([(0, record("other", 0))]).released(time(99)), None);
    assert_eq!(Election::new("me".to_owned(), TIMING).released(time(99)), None);
    let released = observed([(0, record("me", 0))]).released(time(99)).unwrap();
    assert_eq!((released.holder.as_str(), released.duration), ("", Some(at(1))));
    assert_eq!((released.renewed_at, released.transitions), (Some(time(99)), 4));
    assert!(written(&observed([(0, released)]), 0).is_some());
}
