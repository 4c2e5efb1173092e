//! One TCP connection, and a way to take it over from the HTTP server and break it.
//!
//! Touches its own socket. May depend on nothing of this crate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection as the request handlers see it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Counted from 1, in the order of opening.
    pub(crate) number: u64,
    requests: AtomicU64,
    is_taken_over: AtomicBool,
    final_bytes: Mutex<FinalBytes>,
}

#[derive(Debug, Default)]
struct FinalBytes {
    bytes: Bytes,
    reset: bool,
}

impl Connection {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            requests: AtomicU64::new(0),
            is_taken_over: AtomicBool::new(false),
            final_bytes: Mutex::default(),
        }
    }

    /// Counts a request and says how many came before it.
    pub(crate) fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on nothing that the HTTP server writes is sent: `bytes` are sent instead, then the connection ends. That
    /// happens when the server writes next, so a response must follow.
    pub(crate) fn take_over(&self, bytes: Bytes, reset: bool) {
        *self.final_bytes.lock() = FinalBytes { bytes, reset };
        self.is_taken_over.store(true, Ordering::Release);
    }
}

/// The socket below the HTTP server.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn write_final_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut last = self.connection.final_bytes.lock();
        while last.bytes.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &last.bytes))?;
            last.bytes.advance(written);
        }
        if last.reset {
            self.stream.set_zero_linger()?;
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn is_taken(&self) -> bool {
        self.connection.is_taken_over.load(Ordering::Acquire)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_taken() {
            return self.write_final_bytes(context).map_ok(|()| 0);
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_taken() {
            return self.write_final_bytes(context);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
