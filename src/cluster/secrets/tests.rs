//! How often Secrets are read, under a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::json;

use super::*;
use crate::{
    cluster::test_client::{client, failure},
    lifecycle::MISSING_KEY_CHECKED_EVERY,
    portal::ApiKey,
};

/// The reads that an API server received.
#[derive(Default)]
struct Reads {
    total: AtomicUsize,
    /// Concurrent requests: how many there are, and the most there were.
    in_flight: [AtomicUsize; 2],
    /// The namespaces, in the order in which they were read.
    order: Mutex<Vec<String>>,
}

impl Reads {
    fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// Secrets of an API server that has each with those entries, or none, and responds after 10 ms.
fn secrets(entries: Option<&[&str]>) -> (Arc<Secrets>, Arc<Reads>) {
    let reads = Arc::new(Reads::default());
    let counted = Arc::clone(&reads);
    let found = entries.map(|entries| {
        let data: serde_json::Map<_, _> =
            entries.iter().map(|entry| ((*entry).to_owned(), json!("a2V5"))).collect();
        (200, json!({"apiVersion": "v1", "kind": "Secret", "data": data}))
    });
    let response = found.unwrap_or_else(|| failure(404, "NotFound"));
    let client = client(move |request, _| {
        let (counted, response) = (Arc::clone(&counted), response.clone());
        async move {
            let namespace = request.uri.path().split('/').nth(4).unwrap_or_default().to_owned();
            counted.total.fetch_add(1, Ordering::Relaxed);
            counted.order.lock().push(namespace);
            let [now, most] = &counted.in_flight;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            response
        }
    });
    (Arc::new(Secrets::new(client, Arc::default(), Counter::default())), reads)
}

fn at(name: &str, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: name.to_owned(), key: key.to_owned() }
}

async fn key(secrets: &Secrets, namespace: &str, name: &str) -> Result<Arc<ApiKey>, KeyFault> {
    secrets.key(namespace, &at(name, "apiKey")).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_key_is_dropped_within_thirty_seconds_even_without_another_request() {
    let (secrets, reads) = secrets(Some(&["apiKey"]));
    let held = key(&secrets, "team", "okid").await.unwrap();
    sleep(Duration::from_secs(28)).await;
    key(&secrets, "team", "okid").await.unwrap();
    assert_eq!((reads.total(), Arc::strong_count(&held)), (1, 2));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&held), 1, "only the test has it");

    let held = key(&secrets, "team", "okid").await.unwrap();
    assert_eq!(reads.total(), 2);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(Arc::strong_count(&held), 1, "the second time as well");
    sleep(Duration::from_mins(25)).await;
    assert!(secrets.state.lock().cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cached_absence_never_delays_finding_a_new_key_beyond_five_seconds() {
    let (secrets, reads) = secrets(None);
    let began = Instant::now();
    let both = [key(&secrets, "team", "okid"), key(&secrets, "team", "okid")];
    assert!(join_all(both).await.into_iter().all(|found| found.unwrap_err() == KeyFault::SecretNotFound));
    assert_eq!(reads.total(), 1, "one request for all at once");
    while reads.total() == 1 {
        sleep(Duration::from_millis(10)).await;
        key(&secrets, "team", "okid").await.unwrap_err();
    }
    assert!(
        began.elapsed() + MISSING_KEY_CHECKED_EVERY <= Duration::from_millis(5_050),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_thousand_entries_of_one_secret_cost_one_read_each_half_minute() {
    let names: Vec<_> = (0..1_000).map(|number| format!("entry-{number}")).collect();
    let entries: Vec<_> = names.iter().map(String::as_str).collect();
    let (secrets, reads) = secrets(Some(&entries));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(5) {
        for found in
            join_all(names.iter().map(|entry| async { secrets.key("team", &at("okid", entry)).await })).await
        {
            found.unwrap().unwrap();
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(reads.total() <= 11, "{} reads in five minutes", reads.total());
}

#[tokio::test(start_paused = true)]
async fn entries_that_are_requested_one_by_one_are_read_together_once_a_second() {
    let names: Vec<_> = (0..1_000).map(|number| format!("entry-{number}")).collect();
    let entries: Vec<_> = names.iter().map(String::as_str).collect();
    let (secrets, reads) = secrets(Some(&entries));
    let one_each_tenth = names.iter().enumerate().map(|(number, entry)| {
        let secrets = Arc::clone(&secrets);
        async move {
            sleep(Duration::from_millis(100) * u32::try_from(number).unwrap()).await;
            secrets.key("team", &at("okid", entry)).await.unwrap().unwrap();
        }
    });
    join_all(one_each_tenth).await;
    assert!(reads.total() <= 105, "{} reads in a hundred seconds", reads.total());
}

#[tokio::test(start_paused = true)]
async fn two_thousand_waiters_for_one_secret_cost_as_much_as_one() {
    let mut totals = Vec::new();
    for waiting in [1, 2_000] {
        let (secrets, reads) = secrets(None);
        let seek = |number: u32| {
            let secrets = Arc::clone(&secrets);
            async move {
                sleep(MISSING_KEY_CHECKED_EVERY * number / waiting).await;
                for _ in 0..15 {
                    key(&secrets, "team", "okid").await.unwrap_err();
                    sleep(MISSING_KEY_CHECKED_EVERY).await;
                }
            }
        };
        join_all((0..waiting).map(seek)).await;
        totals.push(reads.total());
    }
    assert_eq!(totals[0], 15);
    assert!(totals[1] <= 64, "{} reads in a minute", totals[1]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_a_thousand_missing_secrets_delays_no_other() {
    let (secrets, reads) = secrets(None);
    let begun = Instant::now();
    let flood = (0..1_000).map(|number| {
        let secrets = Arc::clone(&secrets);
        async move {
            for _ in 0..3 {
                key(&secrets, "large", &number.to_string()).await.unwrap_err();
                sleep(MISSING_KEY_CHECKED_EVERY).await;
            }
        }
    });
    let mut flood = Box::pin(join_all(flood));
    let one = async {
        sleep(Duration::from_millis(5)).await;
        let begun = Instant::now();
        key(&secrets, "small", "okid").await.unwrap_err();
        begun.elapsed()
    };
    let mut one = Box::pin(one);
    let took = tokio::select! {
        took = &mut one => took,
        _ = &mut flood => panic!("the flood is over"),
    };
    assert!(took <= Duration::from_millis(12), "alone it takes 10 ms, beside a flood {took:?}");
    assert!(reads.in_flight[1].load(Ordering::Relaxed) <= 5);
    flood.await;
    let most = 100 + usize::try_from(begun.elapsed().as_millis() / 20).unwrap();
    assert!(reads.total() <= most, "{} reads in {:?}", reads.total(), begun.elapsed());
}
