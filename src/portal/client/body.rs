//! Response bodies: read in chunks, decompressed if a proxy compressed them, and retained up to a limit. May depend on
//! [`transport`](super::transport) and on the pure files of [`portal`](crate::portal).

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};
use reqwest::Response;

use super::transport::classify_transport;
use crate::portal::{
    error::{ContentCoding, Failed, PortalError},
    filter::MemberFilter,
};

/// Most bytes that a content coding may add to a body that it does not make smaller.
const CODING_OVERHEAD: usize = 4096;

/// What is retained of a body, and how much.
#[derive(Clone, Copy)]
pub(super) enum Retain {
    /// All of it.
    All {
        /// Longest body, in bytes.
        limit: usize,
    },
    /// The named members of a JSON object.
    Members {
        names: &'static [&'static str],
        /// Most bytes that are retained.
        limit: usize,
        /// Most decoded bytes that are read, including those that are dropped.
        read_limit: usize,
    },
}

/// Reads a body. Allocates no more than the limit; the result has no spare capacity.
///
/// # Errors
///
/// [`Failed::TooLarge`], without reading on; [`Failed::Encoded`] and [`Failed::Unusable`] if the body cannot be decoded; or
/// the error of the connection.
pub(super) async fn read(mut response: Response, retain: Retain) -> Result<Vec<u8>, PortalError> {
    let coding = coding(response.headers())?;
    let mut sink = Sink::new(retain);
    // A chunked body has no known length.
    let declared = response.content_length().unwrap_or_default();
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    if declared > sink.read_limit {
        return Err(PortalError::Failed(Failed::TooLarge));
    }
    if coding == Coding::Identity && sink.filter.is_none() {
        sink.retained.reserve_exact(declared);
    }
    let mut encoded = EncodedBytes::allowed_for(&sink);
    let mut decoder = Decoder::new(coding, sink);
    while let Some(chunk) = response.chunk().await.map_err(|error| classify_transport(&error))? {
        decoder.decode(&chunk)?;
        encoded.count(&chunk)?;
    }
    let mut body = decoder.finish()?;
    body.shrink_to_fit();
    Ok(body)
}

/// Reads the start of a body, at most `limit` bytes, as far as it arrives. Never fails, because the status is already known.
pub(super) async fn read_start(response: &mut Response, limit: usize) -> Vec<u8> {
    let Ok(coding) = coding(response.headers()) else { return Vec::new() };
    let sink = Sink::new(Retain::All { limit });
    let mut encoded = EncodedBytes::allowed_for(&sink);
    let mut decoder = Decoder::new(coding, sink);
    while let Ok(Some(chunk)) = response.chunk().await
        && decoder.decode(&chunk).is_ok()
        && encoded.count(&chunk).is_ok()
    {}
    decoder.into_retained()
}

/// The content codings that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    /// In zlib's format by its definition (RFC 9110 §8.4.1.2), but some servers send a raw deflate stream.
    Deflate,
}

/// The coding that a response declares. Only `identity` was requested, but a proxy may compress.
fn coding(headers: &HeaderMap) -> Result<Coding, PortalError> {
    let encoded = |coding| Err(PortalError::Failed(Failed::Encoded(coding)));
    let named = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let mut codings = named
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity");
    let (first, second) = (codings.next(), codings.next());
    match (first.as_deref(), second) {
        (None, _) => Ok(Coding::Identity),
        (Some("gzip" | "x-gzip"), None) => Ok(Coding::Gzip),
        (Some("deflate"), None) => Ok(Coding::Deflate),
        (Some("br"), None) => encoded(ContentCoding::Brotli),
        (Some("zstd"), None) => encoded(ContentCoding::Zstd),
        (Some("compress" | "x-compress"), None) => encoded(ContentCoding::Compress),
        (Some(_), None | Some(_)) => encoded(ContentCoding::Other),
    }
}

/// Bounds the bytes from the network: a coding may carry any number of bytes that decode to none.
struct EncodedBytes {
    left: usize,
}

impl EncodedBytes {
    /// As many bytes as may be read once decoded, plus the overhead of a coding.
    const fn allowed_for(sink: &Sink) -> Self {
        Self { left: sink.read_limit.saturating_add(CODING_OVERHEAD) }
    }

    fn count(&mut self, chunk: &[u8]) -> Result<(), PortalError> {
        let left = self.left.checked_sub(chunk.len()).ok_or(PortalError::Failed(Failed::TooLarge))?;
        self.left = left;
        Ok(())
    }
}

/// Receives the decoded bytes.
struct Sink {
    retained: Vec<u8>,
    limit: usize,
    read: usize,
    read_limit: usize,
    filter: Option<MemberFilter>,
    is_full: bool,
}

impl Sink {
    fn new(retain: Retain) -> Self {
        let (limit, read_limit, filter) = match retain {
            Retain::All { limit } => (limit, limit, None),
            Retain::Members { names, limit, read_limit } => {
                (limit, read_limit, Some(MemberFilter::new(names)))
            }
        };
        Self { retained: Vec::new(), limit, read: 0, read_limit, filter, is_full: false }
    }

    /// Appends as much of the chunk as fits; false if that is not all of it.
    fn append(&mut self, chunk: &[u8]) -> bool {
        let fits = chunk.len().min(self.read_limit - self.read);
        self.read += fits;
        let fitting = chunk.get(..fits).unwrap_or_default();
        if let Some(filter) = &mut self.filter {
            filter.filter(fitting, &mut self.retained);
        } else {
            if self.retained.capacity() - self.retained.len() < fits {
                // Grows as a vector does, but not past the limit.
                let capacity = (self.retained.capacity() * 2).max(self.retained.len() + fits).min(self.limit);
                self.retained.reserve_exact(capacity - self.retained.len());
            }
            self.retained.extend_from_slice(fitting);
        }
        self.is_full |= fits < chunk.len() || self.retained.len() > self.limit;
        !self.is_full
    }
}

impl Write for Sink {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if self.append(chunk) { Ok(chunk.len()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Identity(Sink),
    Gzip(MultiGzDecoder<Sink>),
    /// Before the two bytes that tell whether this is zlib's format.
    Deflate(Vec<u8>, Sink),
    Zlib(ZlibDecoder<Sink>),
    Raw(DeflateDecoder<Sink>),
}

impl Decoder {
    fn new(coding: Coding, sink: Sink) -> Self {
        match coding {
            Coding::Identity => Self::Identity(sink),
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(sink)),
            Coding::Deflate => Self::Deflate(Vec::new(), sink),
        }
    }

    fn decode(&mut self, chunk: &[u8]) -> Result<(), PortalError> {
        let written = match self {
            Self::Identity(sink) => sink.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
            Self::Zlib(decoder) => decoder.write_all(chunk),
            Self::Raw(decoder) => decoder.write_all(chunk),
            Self::Deflate(start, sink) => {
                start.extend_from_slice(chunk);
                let [first, second, ..] = start.as_slice() else { return Ok(()) };
                // RFC 1950 §2.2: the method is 8, and both bytes together a multiple of 31.
                let is_zlib = first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31);
                let sink = std::mem::replace(sink, Sink::new(Retain::All { limit: 0 }));
                let start = std::mem::take(start);
                *self = if is_zlib {
                    Self::Zlib(ZlibDecoder::new(sink))
                } else {
                    Self::Raw(DeflateDecoder::new(sink))
                };
                return self.decode(&start);
            }
        };
        written.map_err(|_| self.error())
    }

    fn finish(mut self) -> Result<Vec<u8>, PortalError> {
        self.flush().map_err(|_| self.error())?;
        Ok(std::mem::take(&mut self.sink().retained))
    }

    /// Flushes what is decoded; an error if the body is incomplete.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zlib(decoder) => decoder.try_finish(),
            Self::Raw(decoder) => decoder.try_finish(),
            Self::Deflate(start, _) if start.is_empty() => Ok(()),
            Self::Deflate(_, _) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Identity(sink) | Self::Deflate(_, sink) => sink,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Raw(decoder) => decoder.get_mut(),
        }
    }

    /// Why the last chunk was not accepted.
    fn error(&mut self) -> PortalError {
        PortalError::Failed(if self.sink().is_full { Failed::TooLarge } else { Failed::Unusable })
    }

    /// What was retained of a body that may be incomplete.
    fn into_retained(mut self) -> Vec<u8> {
        // What cannot be decoded is left out.
        self.flush().unwrap_or_default();
        std::mem::take(&mut self.sink().retained)
    }
}
