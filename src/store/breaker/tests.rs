//! The circuit breaker of stores.

use tokio::time::advance;

use super::*;

fn user(namespace: &str, credentials: u64) -> StoreUser {
    let (endpoint, bucket) = ("https://s3.example".to_owned(), "bucket".to_owned());
    StoreUser { endpoint, bucket, namespace: namespace.to_owned(), credentials }
}

fn admits(breaker: &StoreBreaker, user: StoreUser) -> bool {
    breaker.admit(user).is_some()
}

/// A server that responds to neither of the two namespaces that use it.
async fn unresponsive() -> StoreBreaker {
    let breaker = StoreBreaker::default();
    for namespace in ["a", "b"] {
        breaker.admit(user(namespace, 1)).unwrap().did_not_respond();
    }
    advance(UNRESPONSIVE_AFTER).await;
    breaker
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_for_the_user_that_got_no_response_and_for_no_other() {
    let breaker = StoreBreaker::default();
    assert!(admits(&breaker, user("b", 1)));
    breaker.admit(user("a", 1)).unwrap().did_not_respond();
    assert!(!admits(&breaker, user("a", 1)));
    for other in [
        user("a", 2),
        user("b", 1),
        StoreUser { bucket: "other".to_owned(), ..user("a", 1) },
        StoreUser { endpoint: "https://other.example".to_owned(), ..user("a", 1) },
    ] {
        assert!(admits(&breaker, other.clone()), "{other:?}");
    }
    advance(OPEN_FOR).await;
    assert!(admits(&breaker, user("a", 1)));
}

#[tokio::test(start_paused = true)]
async fn one_request_at_a_time_probes_an_open_circuit() {
    let breaker = StoreBreaker::default();
    breaker.admit(user("a", 1)).unwrap().did_not_respond();
    advance(OPEN_FOR).await;
    let probe = breaker.admit(user("a", 1)).unwrap();
    assert!(!admits(&breaker, user("a", 1)));
    probe.did_not_respond();
    assert!(!admits(&breaker, user("a", 1)));
    advance(OPEN_FOR).await;
    breaker.admit(user("a", 1)).unwrap().responded();
    let both = [breaker.admit(user("a", 1)), breaker.admit(user("a", 1))];
    assert!(both.iter().all(Option::is_some));
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_a_result_leaves_it_to_the_next() {
    let breaker = StoreBreaker::default();
    breaker.admit(user("a", 1)).unwrap().did_not_respond();
    advance(OPEN_FOR).await;
    drop(breaker.admit(user("a", 1)).unwrap());
    assert!(admits(&breaker, user("a", 1)));
    let breaker = unresponsive().await;
    drop(breaker.admit(user("a", 1)).unwrap());
    assert!(admits(&breaker, user("b", 1)));
}

#[tokio::test(start_paused = true)]
async fn a_late_response_to_an_earlier_request_closes_the_circuit() {
    let breaker = StoreBreaker::default();
    let [first, second] = [(); 2].map(|()| breaker.admit(user("a", 1)).unwrap());
    first.did_not_respond();
    second.responded();
    assert!(admits(&breaker, user("a", 1)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_responds_to_no_user_has_one_probe_for_all() {
    let breaker = unresponsive().await;
    let probe = breaker.admit(user("b", 2)).unwrap();
    assert!(!admits(&breaker, user("a", 1)));
    assert!(!admits(&breaker, user("c", 1)), "also a user that has not used it yet");
    probe.did_not_respond();
    advance(OPEN_FOR).await;
    breaker.admit(user("c", 1)).unwrap().responded();
    assert!(
        admits(&breaker, user("a", 1)) && admits(&breaker, user("b", 1)),
        "their own circuits are closed too"
    );
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_for_all_after_half_a_minute_of_silence_and_no_earlier() {
    let breaker = StoreBreaker::default();
    for namespace in ["a", "b"] {
        breaker.admit(user(namespace, 1)).unwrap().did_not_respond();
    }
    advance(UNRESPONSIVE_AFTER / 2).await;
    let both = [(); 2].map(|()| breaker.admit(user("c", 1)));
    assert!(both.iter().all(Option::is_some));
    drop(both);
    advance(UNRESPONSIVE_AFTER / 2).await;
    let _probe = breaker.admit(user("c", 1)).unwrap();
    assert!(!admits(&breaker, user("c", 1)));
}

#[tokio::test(start_paused = true)]
async fn one_response_to_any_user_shows_that_the_server_is_up() {
    let breaker = StoreBreaker::default();
    let slow = breaker.admit(user("c", 1)).unwrap();
    for namespace in ["a", "b"] {
        breaker.admit(user(namespace, 1)).unwrap().did_not_respond();
    }
    advance(UNRESPONSIVE_AFTER / 2).await;
    slow.responded();
    breaker.admit(user("a", 1)).unwrap().did_not_respond();
    advance(UNRESPONSIVE_AFTER / 2).await;
    let all = [user("a", 1), user("b", 1), user("c", 1)].map(|user| breaker.admit(user));
    assert!(all.iter().all(Option::is_some), "each has a circuit of its own");
}

#[tokio::test(start_paused = true)]
async fn one_namespace_alone_opens_no_circuit_of_a_server_that_others_use() {
    let breaker = StoreBreaker::default();
    assert!(admits(&breaker, user("b", 1)));
    for credentials in 1..50 {
        breaker.admit(user("a", credentials)).unwrap().did_not_respond();
    }
    advance(UNRESPONSIVE_AFTER).await;
    let both = [breaker.admit(user("b", 1)), breaker.admit(user("b", 1))];
    assert!(both.iter().all(Option::is_some));
    let breaker = StoreBreaker::default();
    for credentials in 1..3 {
        breaker.admit(user("a", credentials)).unwrap().did_not_respond();
    }
    advance(UNRESPONSIVE_AFTER).await;
    let _probe = breaker.admit(user("a", 1)).unwrap();
    assert!(!admits(&breaker, user("a", 2)), "one probe for all of its credentials");
}

#[tokio::test(start_paused = true)]
async fn namespaces_alternate_in_probing_and_do_not_wait_for_one_that_is_gone() {
    let breaker = unresponsive().await;
    let probe = breaker.admit(user("a", 1)).unwrap();
    assert!(!admits(&breaker, user("b", 1)));
    probe.did_not_respond();
    advance(OPEN_FOR).await;
    assert!(!admits(&breaker, user("a", 1)), "the other one probes next");
    breaker.admit(user("b", 1)).unwrap().did_not_respond();
    advance(OPEN_FOR).await;
    let probe = breaker.admit(user("a", 1)).unwrap();
    assert!(!admits(&breaker, user("b", 1)));
    probe.did_not_respond();
    advance(PROBE_PERIOD).await;
    assert!(admits(&breaker, user("a", 1)), "the other one sends no probe");
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_user_of_too_many_is_forgotten() {
    let breaker = StoreBreaker::default();
    assert!(admits(&breaker, user("b", 1)));
    for credentials in 0..MOST as u64 + 10 {
        breaker.admit(user("a", credentials)).unwrap().did_not_respond();
        advance(Duration::from_millis(1)).await;
    }
    let circuits = breaker.circuits.lock();
    assert_eq!(circuits.users.len(), MOST);
    assert!(!circuits.users.contains_key(&user("b", 1)) && circuits.users.contains_key(&user("a", 100)));
}

#[tokio::test(start_paused = true)]
async fn the_unresponsive_server_that_was_used_longest_ago_is_forgotten() {
    let breaker = StoreBreaker::default();
    let at = |number: usize| StoreUser { endpoint: format!("https://{number}.example"), ..user("a", 1) };
    for number in 0..MOST_SERVERS + 10 {
        breaker.admit(at(number)).unwrap().did_not_respond();
        advance(Duration::from_millis(1)).await;
    }
    let circuits = breaker.circuits.lock();
    assert_eq!(circuits.unresponsive.len(), MOST_SERVERS);
    let is_known = |number| circuits.unresponsive.contains_key(&at(number).endpoint);
    assert!(!is_known(9) && is_known(10) && is_known(MOST_SERVERS + 9));
}
