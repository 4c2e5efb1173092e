//! What was called: counters by endpoint and key, and a record of the last calls.
//!
//! May touch: nothing else. Sessions count their own calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Version};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::orders::FaultId;
use crate::wire::Endpoint;

/// One call as it arrived, and how it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct CallRecord {
    /// Counts up from 0 over all calls of the contract.
    pub number: u64,
    /// When it arrived, on the sandbox's clock.
    pub at: Timestamp,
    /// When it arrived, in real time from the sandbox's start.
    #[serde(rename = "since_start_ms", with = "crate::clock::millis")]
    pub since_start: Duration,
    /// Which call.
    pub endpoint: Endpoint,
    /// The verification id: the one asked for, or the one of the session that a create made. A
    /// create that made none has none.
    pub session: Option<String>,
    /// The status that was answered; `None` while it is under way, and for a call that was cut
    /// before the headers, or whose client left.
    pub status: Option<u16>,
    /// It is no longer under way: answered, cut, or its client left. (A body may still be sent.)
    pub ended: bool,
    /// The fault that struck it.
    pub fault: Option<FaultId>,
    /// The number of the TCP connection, from 1.
    pub connection: u64,
    /// Earlier requests on the same connection: 0 means a fresh one.
    pub earlier_on_connection: u64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The query, as it came.
    pub query: Option<String>,
    /// Bytes the request announced as its body (`Content-Length`); `None` without that header.
    pub body_bytes: Option<u64>,
    /// Header names (lower case) and values, as they came, but for the API key.
    pub headers: Vec<(String, String)>,
    /// The `X-SDK-Key` header as it came; not shown over HTTP.
    #[serde(skip)]
    pub key: Option<String>,
}

impl CallRecord {
    /// The value of a header (lower-case name), if it came. The API key is in [`CallRecord::key`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Calls to one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointCount {
    /// All that arrived.
    pub calls: u64,
    /// Answers by status. What is missing to `calls` hung, was cut, or is under way.
    pub statuses: BTreeMap<u16, u64>,
}

/// What was called so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// TCP connections that were opened, whatever for.
    pub connections: u64,
    /// By endpoint.
    pub endpoints: BTreeMap<Endpoint, EndpointCount>,
    /// Calls by key (as it may be shown) and endpoint; keys that are not known count together, as
    /// `(unknown)`.
    pub keys: BTreeMap<String, BTreeMap<Endpoint, u64>>,
}

/// What is known of a call when it arrives.
pub(crate) struct Arrival<'a> {
    pub(crate) at: Timestamp,
    pub(crate) endpoint: Endpoint,
    pub(crate) session: Option<&'a str>,
    pub(crate) connection: u64,
    pub(crate) earlier_on_connection: u64,
    pub(crate) version: Version,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    /// The key if the portal knows it.
    pub(crate) known_key: Option<&'a Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    start: Instant,
    /// How many records are kept.
    keep: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    endpoints: BTreeMap<Endpoint, EndpointCount>,
    keys: BTreeMap<Option<Arc<str>>, BTreeMap<Endpoint, u64>>,
    records: VecDeque<CallRecord>,
    /// Creates are kept apart, so that no flood of polls washes them away.
    creates: VecDeque<CallRecord>,
    numbers: u64,
}

impl Book {
    fn record(&mut self, number: u64, endpoint: Endpoint) -> Option<&mut CallRecord> {
        let records = if endpoint == Endpoint::Create { &mut self.creates } else { &mut self.records };
        let place = records.binary_search_by_key(&number, |record| record.number).ok()?;
        records.get_mut(place)
    }
}

impl Journal {
    pub(crate) fn new(keep: usize) -> Self {
        Self { start: Instant::now(), keep, book: Mutex::default() }
    }

    /// Counts a call and gives it its number.
    pub(crate) fn arrive(&self, arrival: &Arrival<'_>) -> u64 {
        let mut book = self.book.lock();
        let number = book.numbers;
        book.numbers += 1;
        book.endpoints.entry(arrival.endpoint).or_default().calls += 1;
        let by_key = book.keys.entry(arrival.known_key.cloned()).or_default();
        *by_key.entry(arrival.endpoint).or_default() += 1;
        if self.keep > 0 {
            let record = self.write_down(number, arrival);
            let records =
                if arrival.endpoint == Endpoint::Create { &mut book.creates } else { &mut book.records };
            if records.len() == self.keep {
                records.pop_front();
            }
            records.push_back(record);
        }
        number
    }

    fn write_down(&self, number: u64, arrival: &Arrival<'_>) -> CallRecord {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let header = |name: &str| arrival.headers.get(name).map(|value| text(value.as_bytes()));
        CallRecord {
            number,
            at: arrival.at,
            since_start: self.start.elapsed(),
            endpoint: arrival.endpoint,
            session: arrival.session.map(str::to_owned),
            status: None,
            ended: false,
            fault: None,
            connection: arrival.connection,
            earlier_on_connection: arrival.earlier_on_connection,
            version: format!("{:?}", arrival.version),
            query: arrival.query.map(str::to_owned),
            body_bytes: header("content-length").and_then(|length| length.parse().ok()),
            headers: arrival
                .headers
                .iter()
                .filter(|(name, _)| *name != "x-sdk-key")
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
                .collect(),
            key: header("x-sdk-key"),
        }
    }

    /// Notes the session that a create made.
    pub(crate) fn made(&self, number: u64, id: &str) {
        if let Some(record) = self.book.lock().record(number, Endpoint::Create) {
            record.session = Some(id.to_owned());
        }
    }

    /// Notes the fault that strikes a call.
    pub(crate) fn struck(&self, number: u64, endpoint: Endpoint, fault: FaultId) {
        if let Some(record) = self.book.lock().record(number, endpoint) {
            record.fault = Some(fault);
        }
    }

    /// Notes the status that was answered.
    pub(crate) fn answered(&self, number: u64, endpoint: Endpoint, status: u16) {
        let mut book = self.book.lock();
        *book.endpoints.entry(endpoint).or_default().statuses.entry(status).or_default() += 1;
        if let Some(record) = book.record(number, endpoint) {
            record.status = Some(status);
        }
    }

    /// Notes that a call is no longer under way.
    pub(crate) fn ended(&self, number: u64, endpoint: Endpoint) {
        if let Some(record) = self.book.lock().record(number, endpoint) {
            record.ended = true;
        }
    }

    pub(crate) fn count(&self, endpoint: Endpoint) -> u64 {
        self.book.lock().endpoints.get(&endpoint).map_or(0, |count| count.calls)
    }

    pub(crate) fn counters(&self, connections: u64) -> Counters {
        let book = self.book.lock();
        let mut keys: BTreeMap<String, BTreeMap<Endpoint, u64>> = BTreeMap::new();
        for (key, counts) in &book.keys {
            let name = key.as_deref().map_or_else(|| "(unknown)".to_owned(), crate::keys::shown);
            let shown = keys.entry(name).or_default();
            for (endpoint, calls) in counts {
                *shown.entry(*endpoint).or_default() += calls;
            }
        }
        Counters { connections, endpoints: book.endpoints.clone(), keys }
    }

    /// Calls with this key by endpoint.
    pub(crate) fn count_of_key(&self, key: &str, endpoint: Endpoint) -> u64 {
        let book = self.book.lock();
        book.keys
            .iter()
            .find(|(known, _)| known.as_deref() == Some(key))
            .and_then(|(_, counts)| counts.get(&endpoint))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn creates(&self) -> Vec<CallRecord> {
        self.book.lock().creates.iter().cloned().collect()
    }

    /// The kept records of all calls in the order they arrived.
    pub(crate) fn calls(&self) -> Vec<CallRecord> {
        let book = self.book.lock();
        let mut calls: Vec<_> = book.records.iter().chain(&book.creates).cloned().collect();
        calls.sort_by_key(|record| record.number);
        calls
    }

    /// Sets every counter to 0 and forgets the records.
    pub(crate) fn reset(&self) {
        let mut book = self.book.lock();
        // The numbers go on: a call that is under way must not be taken for a later one.
        *book = Book { numbers: book.numbers, ..Book::default() };
    }
}
