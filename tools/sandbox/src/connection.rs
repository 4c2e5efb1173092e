//! One TCP connection: who is on it, and a way to take it from the HTTP server and break it.
//!
//! May touch: its own socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection as the handlers see it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// From 1, in the order they were opened.
    pub(crate) number: u64,
    requests: AtomicU64,
    taken: AtomicBool,
    last_words: Mutex<LastWords>,
}

#[derive(Debug, Default)]
struct LastWords {
    bytes: Bytes,
    reset: bool,
}

impl Connection {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            requests: AtomicU64::new(0),
            taken: AtomicBool::new(false),
            last_words: Mutex::default(),
        }
    }

    /// Counts a request and says how many came before it.
    pub(crate) fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on nothing the HTTP server writes gets out: `bytes` are sent in its place, then
    /// the connection ends. It happens when the server writes next, so an answer must follow.
    pub(crate) fn take_over(&self, bytes: Bytes, reset: bool) {
        *self.last_words.lock() = LastWords { bytes, reset };
        self.taken.store(true, Ordering::Release);
    }
}

/// The socket under the HTTP server.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Line {
    pub(crate) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn speak_last_words(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut words = self.connection.last_words.lock();
        while words.bytes.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &words.bytes))?;
            words.bytes.advance(written);
        }
        if words.reset {
            self.stream.set_zero_linger()?;
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn is_taken(&self) -> bool {
        self.connection.taken.load(Ordering::Acquire)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_taken() {
            return self.speak_last_words(context).map_ok(|()| 0);
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_taken() {
            return self.speak_last_words(context);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
