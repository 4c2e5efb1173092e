//! Large responses of the fake portal, all sent at once. They are streamed from a few shared bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio::time::timeout;

/// The bytes of one part of a response.
const PART: usize = 16 * 1024;
/// The responses are sent after this time even if a poll is missing, so that none runs into the operator's deadline.
const HELD_FOR: Duration = Duration::from_secs(10);

pub(super) type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// A response of one part.
pub(super) fn whole(text: String) -> ResponseBody {
    Full::from(text).boxed_unsync()
}

/// Responses with large `results`, one for each session.
pub(super) struct LargeResponses {
    /// Bytes of `results`.
    bytes: usize,
    /// Whether the response for a session was sent.
    sent: Vec<AtomicBool>,
    waiting: AtomicU32,
    /// Whether the responses are sent.
    open: watch::Sender<bool>,
    ended: Arc<AtomicU32>,
}

impl LargeResponses {
    pub(super) fn new(bytes: usize, sessions: u32) -> Self {
        Self {
            bytes,
            sent: (0..sessions).map(|_| AtomicBool::new(false)).collect(),
            waiting: AtomicU32::new(0),
            open: watch::Sender::new(false),
            ended: Arc::default(),
        }
    }

    /// How many have ended, completely or not.
    pub(super) fn ended(&self) -> u32 {
        self.ended.load(Ordering::Relaxed)
    }

    /// The details of a session with large `results`, once all sessions are waiting for theirs; without them if this
    /// session has had its own.
    pub(super) async fn respond(&self, session: u32, details: String) -> ResponseBody {
        let Some(sent) = usize::try_from(session).ok().and_then(|session| self.sent.get(session)) else {
            return whole(details);
        };
        self.wait_for_all().await;
        if sent.swap(true, Ordering::Relaxed) {
            return whole(details);
        }
        self.large(&details)
    }

    async fn wait_for_all(&self) {
        let mut open = self.open.subscribe();
        if *open.borrow_and_update() {
            return;
        }
        let waiting = Waiting::join(&self.waiting);
        if usize::try_from(waiting.count) == Ok(self.sent.len()) {
            self.open.send_replace(true);
        }
        // The first that has waited for this long lets all be sent.
        if timeout(HELD_FOR, open.wait_for(|open| *open)).await.is_err() {
            self.open.send_replace(true);
        }
    }

    fn large(&self, details: &str) -> ResponseBody {
        let begin = details.strip_suffix('}').unwrap_or(details).to_owned();
        let begin = begin + r#","results":{"document":{"portrait":""#;
        let part = Bytes::from_static(&[b'A'; PART]);
        let parts = (0..self.bytes.div_ceil(PART)).map(move |_| part.clone());
        let parts = std::iter::once(Bytes::from(begin)).chain(parts).chain([Bytes::from_static(b"\"}}}")]);
        let ended = Ended(Arc::clone(&self.ended));
        let frames = stream::iter(parts).map(move |part| {
            // It ends with this stream.
            let _ = &ended;
            Ok(Frame::data(part))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// A poll that waits. One that is dropped no longer counts.
struct Waiting<'a> {
    all: &'a AtomicU32,
    count: u32,
}

impl<'a> Waiting<'a> {
    fn join(all: &'a AtomicU32) -> Self {
        Self { all, count: all.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Ended(Arc<AtomicU32>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
