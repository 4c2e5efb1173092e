//! The breakers for polls and for creates.

use std::collections::BTreeSet;

use super::*;

#[test]
fn an_outage_of_an_hour_makes_a_handful_of_creates() {
    let start = Instant::now();
    let mut breaker = CreateBreaker::default();
    breaker.failed(start, Failure::OutcomeUnknown, false);
    let mut now = start;
    let mut creates = 1;
    while now < start + Duration::from_hours(1) {
        match breaker.admit(now) {
            Ok(is_trial) => {
                creates += 1;
                breaker.failed(now, Failure::OutcomeUnknown, is_trial);
            }
            Err(until) => {
                assert!(until > now);
                now = until;
            }
        }
    }
    assert!(creates <= 10, "{creates}");
}

#[test]
fn one_create_at_a_time_is_a_trial_and_its_success_closes_the_breaker() {
    let now = Instant::now();
    let mut breaker = CreateBreaker::default();
    assert_eq!(breaker.admit(now), Ok(false));
    breaker.failed(now, Failure::Harmless, false);
    let later = now + Duration::from_secs(5);
    assert_eq!(breaker.admit(later), Ok(true));
    assert_eq!(breaker.admit(later), Err(later + DURING_A_TRIAL));
    breaker.succeeded();
    assert_eq!(breaker.admit(later), Ok(false));
}

#[test]
fn a_recovered_portal_advances_the_next_create_to_the_shortest_wait() {
    let now = Instant::now();
    let mut breaker = CreateBreaker::default();
    for is_trial in [false, true, true] {
        breaker.failed(now, Failure::OutcomeUnknown, is_trial);
        breaker.portal_responded(now);
    }
    breaker.portal_responded(now + Duration::from_secs(1));
    assert!(breaker.admit(now + Duration::from_mins(3)).is_err(), "it was never silent");
    breaker.portal_did_not_respond();
    breaker.portal_responded(now + Duration::from_secs(1));
    assert!(breaker.admit(now + Duration::from_secs(59)).is_err());
    assert_eq!(breaker.admit(now + Duration::from_mins(1)), Ok(true));
}

#[test]
fn a_portal_that_returns_between_a_failed_create_and_the_next_probe_is_believed() {
    let start = Instant::now();
    let mut breaker = CreateBreaker::default();
    // No other request is sent meanwhile.
    let failures: Vec<_> = [0, 1, 3, 7].map(|minutes| start + Duration::from_mins(minutes)).into();
    for now in &failures {
        let is_trial = breaker.admit(*now).unwrap();
        breaker.failed(*now, Failure::OutcomeUnknown, is_trial);
    }
    let last = failures[3];
    breaker.portal_responded(last + PROBE_INTERVAL);
    assert!(breaker.admit(last + Duration::from_secs(59)).is_err());
    assert_eq!(breaker.admit(last + Duration::from_mins(1)), Ok(true));
}

#[test]
fn a_portal_that_fails_to_create_gets_no_more_creates_than_one_that_is_down() {
    for responds_every in [1, 7, 30, 90] {
        let start = Instant::now();
        let mut breaker = CreateBreaker::default();
        breaker.failed(start, Failure::OutcomeUnknown, false);
        let mut creates = 1;
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            if second % responds_every == 0 {
                breaker.portal_responded(now);
            }
            if let Ok(is_trial) = breaker.admit(now) {
                creates += 1;
                breaker.failed(now, Failure::OutcomeUnknown, is_trial);
            }
        }
        assert!(creates <= 10, "{creates} creates with a response each {responds_every} s");
    }
}

#[test]
fn a_probe_is_sent_each_half_minute_while_creates_wait_and_never_otherwise() {
    let start = Instant::now();
    let mut breaker = CreateBreaker::default();
    assert!(!breaker.may_probe(start));
    for is_trial in [false, true, true, true] {
        breaker.failed(start, Failure::OutcomeUnknown, is_trial);
    }
    let closes = start + Duration::from_mins(8);
    assert_eq!(breaker.admit(start), Err(closes));
    let mut probes = Vec::new();
    for second in 0..480 {
        let now = start + Duration::from_secs(second);
        let window = breaker.probe_window(now).unwrap();
        assert_eq!(window.closes, closes);
        if breaker.may_probe(now) {
            assert_eq!(window.opens, now);
            probes.push(now);
        }
    }
    let expected: Vec<_> = (1..16).map(|number| start + PROBE_INTERVAL * number).collect();
    assert_eq!(probes, expected);
    assert!(!breaker.may_probe(closes), "a create may be the trial");
    assert_eq!(breaker.probe_window(closes), None);
    breaker.succeeded();
    assert!(!breaker.may_probe(start + Duration::from_mins(10)));
}

#[test]
fn a_probe_that_is_late_does_not_delay_the_next_one() {
    let start = Instant::now();
    let mut breaker = CreateBreaker::default();
    for is_trial in [false, true, true] {
        breaker.failed(start, Failure::OutcomeUnknown, is_trial);
    }
    let late = Duration::from_secs(1);
    assert!(breaker.may_probe(start + PROBE_INTERVAL + late));
    assert!(!breaker.may_probe(start + PROBE_INTERVAL * 2 - late));
    assert!(breaker.may_probe(start + PROBE_INTERVAL * 2));
    assert!(breaker.may_probe(start + PROBE_INTERVAL * 3 + late * 20));
    assert!(!breaker.may_probe(start + PROBE_INTERVAL * 4), "ten seconds later");
}

#[test]
fn polls_are_admitted_one_a_second_while_most_of_them_fail() {
    let now = Instant::now();
    let mut breaker = PollBreaker::new(now);
    for _ in 0..5 {
        breaker.failed(now);
    }
    assert!(breaker.open_until().is_some());
    let first = breaker.admit(now).unwrap_err();
    let second = breaker.admit(now).unwrap_err();
    assert_eq!(second - first, TRIAL_INTERVAL);
    breaker.succeeded(now);
    assert!(breaker.admit(now).is_ok());
}

#[test]
fn while_polls_fail_one_is_admitted_each_second_however_many_wait() {
    for waiting in [1, 2, 50, 1_000] {
        let start = Instant::now();
        let mut breaker = PollBreaker::new(start);
        for _ in 0..MIN_FAILURES {
            breaker.failed(start);
        }
        let mut plan: BTreeSet<_> = (0..waiting).map(|id| (start, id)).collect();
        let (mut admitted, mut deferred) = (0, 0);
        while let Some((now, id)) = plan.pop_first() {
            if now >= start + Duration::from_mins(10) {
                break;
            }
            // An admitted poll fails, and comes again after its own wait.
            let again = match breaker.admit(now) {
                Ok(()) => {
                    admitted += 1;
                    breaker.failed(now);
                    now + Duration::from_secs(10)
                }
                Err(until) => {
                    deferred += 1;
                    assert!(until > now && until <= now + MAX_WAIT);
                    until
                }
            };
            plan.insert((again, id));
        }
        let most = 10 * 60;
        assert!(((most - 10).min(waiting * 50)..=most).contains(&admitted), "{admitted} polls of {waiting}");
        assert!(deferred <= most + waiting * 12, "{deferred} of {waiting} deferred");
    }
}

#[test]
fn old_failures_are_forgotten() {
    let now = Instant::now();
    let mut breaker = PollBreaker::new(now);
    for _ in 0..4 {
        breaker.failed(now);
    }
    breaker.failed(now + WINDOW);
    assert!(breaker.open_until().is_none());
}
