//! The request log: counters by endpoint and key, and a record of each of the last requests.
//!
//! May depend on [`keys`](crate::keys), [`wire`](crate::wire) and [`FaultId`]. Sessions count their own requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Version};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::fault_queue::FaultId;
use crate::wire::Endpoint;

/// One request, and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct RequestRecord {
    /// Counted from 0 over all requests.
    pub number: u64,
    /// When it arrived, on the sandbox's clock.
    pub at: Timestamp,
    /// When it arrived, in real time from the sandbox's start.
    #[serde(rename = "since_start_ms", with = "crate::clock::millis")]
    pub since_start: Duration,
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The verification id: the requested one, or that of the session that a create created, if any.
    pub session: Option<String>,
    /// The status of the response; `None` while the request is in flight, and if it was cut before the headers or its client
    /// disconnected.
    pub status: Option<u16>,
    /// It is no longer in flight: it got a response, was cut, or its client disconnected. (The body may still be sent.)
    pub ended: bool,
    /// The fault that was applied to it.
    pub fault: Option<FaultId>,
    /// The number of the TCP connection, counted from 1.
    pub connection: u64,
    /// Number of earlier requests on the same connection: 0 for a new one.
    pub earlier_on_connection: u64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The query, unchanged.
    pub query: Option<String>,
    /// The length of the body by its `Content-Length`; `None` without that header.
    pub body_bytes: Option<u64>,
    /// Header names (lower case) and values, without the API key.
    pub headers: Vec<(String, String)>,
    /// The `X-SDK-Key` header; not shown over HTTP.
    #[serde(skip)]
    pub key: Option<String>,
}

impl RequestRecord {
    /// The value of a header (lower-case name), if present. The API key is in [`RequestRecord::key`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Requests to one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointCount {
    /// All requests.
    pub requests: u64,
    /// Responses by status. The other requests hung, were cut, or are in flight.
    pub statuses: BTreeMap<u16, u64>,
}

/// All counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// TCP connections that were opened, for any purpose.
    pub connections: u64,
    /// By endpoint.
    pub endpoints: BTreeMap<Endpoint, EndpointCount>,
    /// Requests by key (shortened) and endpoint; unknown keys count together as `(unknown)`.
    pub keys: BTreeMap<String, BTreeMap<Endpoint, u64>>,
}

/// What is known of a request when it arrives.
pub(crate) struct Arrival<'a> {
    pub(crate) at: Timestamp,
    pub(crate) endpoint: Endpoint,
    pub(crate) session: Option<&'a str>,
    pub(crate) connection: u64,
    pub(crate) earlier_on_connection: u64,
    pub(crate) version: Version,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    /// The key, if the portal knows it.
    pub(crate) known_key: Option<&'a Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct RequestLog {
    start: Instant,
    /// Most creates, and most other requests, that are recorded.
    capacity: usize,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    endpoints: BTreeMap<Endpoint, EndpointCount>,
    keys: BTreeMap<Option<Arc<str>>, BTreeMap<Endpoint, u64>>,
    records: VecDeque<RequestRecord>,
    /// Creates are recorded separately, so that many polls do not displace them.
    creates: VecDeque<RequestRecord>,
    numbers: u64,
}

impl History {
    fn record(&mut self, number: u64, endpoint: Endpoint) -> Option<&mut RequestRecord> {
        let records = if endpoint == Endpoint::Create { &mut self.creates } else { &mut self.records };
        let position = records.binary_search_by_key(&number, |record| record.number).ok()?;
        records.get_mut(position)
    }
}

impl RequestLog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { start: Instant::now(), capacity, history: Mutex::default() }
    }

    /// Counts a request and returns its number.
    pub(crate) fn arrive(&self, arrival: &Arrival<'_>) -> u64 {
        let mut history = self.history.lock();
        let number = history.numbers;
        history.numbers += 1;
        history.endpoints.entry(arrival.endpoint).or_default().requests += 1;
        let by_key = history.keys.entry(arrival.known_key.cloned()).or_default();
        *by_key.entry(arrival.endpoint).or_default() += 1;
        if self.capacity > 0 {
            let record = self.record_of(number, arrival);
            let records = if arrival.endpoint == Endpoint::Create {
                &mut history.creates
            } else {
                &mut history.records
            };
            if records.len() == self.capacity {
                records.pop_front();
            }
            records.push_back(record);
        }
        number
    }

    fn record_of(&self, number: u64, arrival: &Arrival<'_>) -> RequestRecord {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let header = |name: &str| arrival.headers.get(name).map(|value| text(value.as_bytes()));
        RequestRecord {
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

    /// Records the session that a create created.
    pub(crate) fn created(&self, number: u64, id: &str) {
        if let Some(record) = self.history.lock().record(number, Endpoint::Create) {
            record.session = Some(id.to_owned());
        }
    }

    /// Records the fault that is applied to a request.
    pub(crate) fn hit_by(&self, number: u64, endpoint: Endpoint, fault: FaultId) {
        if let Some(record) = self.history.lock().record(number, endpoint) {
            record.fault = Some(fault);
        }
    }

    /// Records the status of the response.
    pub(crate) fn responded(&self, number: u64, endpoint: Endpoint, status: u16) {
        let mut history = self.history.lock();
        *history.endpoints.entry(endpoint).or_default().statuses.entry(status).or_default() += 1;
        if let Some(record) = history.record(number, endpoint) {
            record.status = Some(status);
        }
    }

    /// Records that a request is no longer in flight.
    pub(crate) fn ended(&self, number: u64, endpoint: Endpoint) {
        if let Some(record) = self.history.lock().record(number, endpoint) {
            record.ended = true;
        }
    }

    pub(crate) fn count(&self, endpoint: Endpoint) -> u64 {
        self.history.lock().endpoints.get(&endpoint).map_or(0, |count| count.requests)
    }

    pub(crate) fn counters(&self, connections: u64) -> Counters {
        let history = self.history.lock();
        let mut keys: BTreeMap<String, BTreeMap<Endpoint, u64>> = BTreeMap::new();
        for (key, counts) in &history.keys {
            let name = key.as_deref().map_or_else(|| "(unknown)".to_owned(), crate::keys::shown);
            let shown = keys.entry(name).or_default();
            for (endpoint, requests) in counts {
                *shown.entry(*endpoint).or_default() += requests;
            }
        }
        Counters { connections, endpoints: history.endpoints.clone(), keys }
    }

    /// The number of requests to an endpoint with this key.
    pub(crate) fn count_of_key(&self, key: &str, endpoint: Endpoint) -> u64 {
        let history = self.history.lock();
        history
            .keys
            .iter()
            .find(|(known, _)| known.as_deref() == Some(key))
            .and_then(|(_, counts)| counts.get(&endpoint))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn creates(&self) -> Vec<RequestRecord> {
        self.history.lock().creates.iter().cloned().collect()
    }

    /// All records, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<RequestRecord> {
        let history = self.history.lock();
        let mut requests: Vec<_> = history.records.iter().chain(&history.creates).cloned().collect();
        requests.sort_by_key(|record| record.number);
        requests
    }

    /// Resets every counter and deletes the records.
    pub(crate) fn reset(&self) {
        let mut history = self.history.lock();
        // The numbers continue, so that a request in flight is not confused with a later one.
        *history = History { numbers: history.numbers, ..History::default() };
    }
}
