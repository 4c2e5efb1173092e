//! Bodies of answers: read piece by piece, decoded where somebody on the way has compressed them, and no more of them kept than
//! was allowed.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};
use reqwest::Response;

use super::transport::judge_transport;
use crate::portal::{
    error::{ContentCoding, Failed, PortalError},
    filter::MemberFilter,
};

/// Most bytes that a coding may add to a body that it does not make smaller.
const FRAME: usize = 4096;

/// What is kept of a body, and how much.
#[derive(Clone, Copy)]
pub(super) enum Keep {
    /// All of it, of at most that many bytes.
    Whole(usize),
    /// The members of a JSON object that are read.
    Members {
        /// Their names.
        names: &'static [&'static str],
        /// Most bytes that are kept.
        most: usize,
        /// Most bytes that are read, those included that are skipped, and after they were decoded.
        most_read: usize,
    },
}

/// Reads a body. Takes no more memory than was allowed; what it returns takes no more than it has bytes.
///
/// # Errors
///
/// [`Failed::TooLarge`], without reading on; [`Failed::Encoded`] and [`Failed::Unusable`] where it cannot be decoded; or what went
/// wrong on the way.
pub(super) async fn read(mut response: Response, keep: Keep) -> Result<Vec<u8>, PortalError> {
    let coding = coding(response.headers())?;
    let mut sink = Sink::new(keep);
    // The library knows no length of what comes in pieces.
    let announced = response.content_length().unwrap_or_default();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > sink.most_read {
        return Err(PortalError::Failed(Failed::TooLarge));
    }
    if coding == Coding::Identity && sink.filter.is_none() {
        sink.kept.reserve_exact(announced);
    }
    let mut raw = Raw::of(&sink);
    let mut decoder = Decoder::new(coding, sink);
    while let Some(piece) = response.chunk().await.map_err(|error| judge_transport(&error))? {
        decoder.take(&piece)?;
        raw.take(&piece)?;
    }
    let mut kept = decoder.end()?;
    kept.shrink_to_fit();
    Ok(kept)
}

/// Reads the start of a body of at most that many bytes, as far as it comes: the status is known, so nothing here is trouble.
pub(super) async fn read_start(response: &mut Response, most: usize) -> Vec<u8> {
    let Ok(coding) = coding(response.headers()) else { return Vec::new() };
    let sink = Sink::new(Keep::Whole(most));
    let mut raw = Raw::of(&sink);
    let mut decoder = Decoder::new(coding, sink);
    while let Ok(Some(piece)) = response.chunk().await
        && decoder.take(&piece).is_ok()
        && raw.take(&piece).is_ok()
    {}
    decoder.into_kept()
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    /// By its name that of zlib (RFC 9110 §8.4.1.2), but some send it without zlib's frame.
    Deflate,
}

/// The coding that an answer names. Nothing but `identity` was asked for, but somebody on the way may compress.
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

/// What comes over the network: a coding may carry as many bytes as somebody likes that decode to none.
struct Raw {
    left: usize,
}

impl Raw {
    /// As many bytes as may be read of a body once it is decoded, and for the frame of its coding some more.
    const fn of(sink: &Sink) -> Self {
        Self { left: sink.most_read.saturating_add(FRAME) }
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), PortalError> {
        let left = self.left.checked_sub(piece.len()).ok_or(PortalError::Failed(Failed::TooLarge))?;
        self.left = left;
        Ok(())
    }
}

/// Where decoded bytes go.
struct Sink {
    kept: Vec<u8>,
    most: usize,
    read: usize,
    most_read: usize,
    filter: Option<MemberFilter>,
    is_full: bool,
}

impl Sink {
    fn new(keep: Keep) -> Self {
        let (most, most_read, filter) = match keep {
            Keep::Whole(most) => (most, most, None),
            Keep::Members { names, most, most_read } => (most, most_read, Some(MemberFilter::new(names))),
        };
        Self { kept: Vec::new(), most, read: 0, most_read, filter, is_full: false }
    }

    /// Takes what there is room for; false, if that is not all.
    fn take(&mut self, piece: &[u8]) -> bool {
        let fits = piece.len().min(self.most_read - self.read);
        self.read += fits;
        let fitting = piece.get(..fits).unwrap_or_default();
        if let Some(filter) = &mut self.filter {
            filter.take(fitting, &mut self.kept);
        } else {
            if self.kept.capacity() - self.kept.len() < fits {
                // As a vector grows by itself, but not past the limit.
                let capacity = (self.kept.capacity() * 2).max(self.kept.len() + fits).min(self.most);
                self.kept.reserve_exact(capacity - self.kept.len());
            }
            self.kept.extend_from_slice(fitting);
        }
        self.is_full |= fits < piece.len() || self.kept.len() > self.most;
        !self.is_full
    }
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.take(piece) { Ok(piece.len()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Identity(Sink),
    Gzip(MultiGzDecoder<Sink>),
    /// Before the two bytes that tell whether there is a frame.
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

    fn take(&mut self, piece: &[u8]) -> Result<(), PortalError> {
        let done = match self {
            Self::Identity(sink) => sink.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
            Self::Zlib(decoder) => decoder.write_all(piece),
            Self::Raw(decoder) => decoder.write_all(piece),
            Self::Deflate(start, sink) => {
                start.extend_from_slice(piece);
                let [first, second, ..] = start.as_slice() else { return Ok(()) };
                // RFC 1950 §2.2: the method is 8, and both bytes together a multiple of 31.
                let frame = first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31);
                let sink = std::mem::replace(sink, Sink::new(Keep::Whole(0)));
                let start = std::mem::take(start);
                *self = if frame {
                    Self::Zlib(ZlibDecoder::new(sink))
                } else {
                    Self::Raw(DeflateDecoder::new(sink))
                };
                return self.take(&start);
            }
        };
        done.map_err(|_| self.error())
    }

    fn end(mut self) -> Result<Vec<u8>, PortalError> {
        self.flush().map_err(|_| self.error())?;
        Ok(std::mem::take(&mut self.sink().kept))
    }

    /// Hands on what is decoded; an error where the body is not whole.
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

    /// Why the last piece was not taken.
    fn error(&mut self) -> PortalError {
        PortalError::Failed(if self.sink().is_full { Failed::TooLarge } else { Failed::Unusable })
    }

    /// What was kept of a body that may not be whole.
    fn into_kept(mut self) -> Vec<u8> {
        // What cannot be decoded is not there.
        self.flush().unwrap_or_default();
        std::mem::take(&mut self.sink().kept)
    }
}
