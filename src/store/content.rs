//! Recognizes the formats of images that may be stored by their first bytes. Pure.
//!
//! Gateways and file servers often send a wrong content type. So it can only exclude: a response that claims to be markup or a
//! script is not an image, whatever its first bytes are.

/// The maximum size of an image: 25 MiB.
pub(crate) const MAX_BYTES: usize = 25 * 1024 * 1024;

/// The format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// HEIC or HEIF.
    Heic,
    /// PDF, which some portals use for scans.
    Pdf,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Jpeg, Self::Png, Self::WebP, Self::Heic, Self::Pdf];

    /// The extension of an object's key, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Heic => "heic",
            Self::Pdf => "pdf",
        }
    }

    /// The content type with which an object is stored.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Heic => "image/heic",
            Self::Pdf => "application/pdf",
        }
    }

    /// The format of which these are the first bytes.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let at = |from: usize, magic: &[u8]| bytes.get(from..from + magic.len()) == Some(magic);
        if at(0, b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if at(0, b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if at(0, b"RIFF") && at(8, b"WEBP") {
            Some(Self::WebP)
        } else if at(4, b"ftyp") && HEIC_BRANDS.iter().any(|brand| at(8, *brand)) {
            Some(Self::Heic)
        } else if at(0, b"%PDF-") {
            Some(Self::Pdf)
        } else {
            None
        }
    }
}

/// Major brands of HEIC and HEIF (ISO/IEC 23008-12).
const HEIC_BRANDS: [&[u8; 4]; 8] = [b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"];

/// Why bytes are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unusable {
    /// There are no bytes.
    #[error("the image is empty")]
    Empty,
    /// There are more than [`MAX_BYTES`].
    #[error("the image is larger than 25 MiB")]
    TooLarge,
    /// The content type is that of markup, a script or data, such as HTML, JSON or SVG.
    #[error("the content type is that of text, not of an image")]
    ContentType,
    /// The first bytes are not those of a supported format.
    #[error("the bytes are not JPEG, PNG, WebP, HEIC or PDF")]
    Bytes,
}

/// The format of an image that may be stored. `content_type` is the portal's header, if there is one.
///
/// # Errors
///
/// [`Unusable`].
pub(crate) fn inspect(bytes: &[u8], content_type: Option<&str>) -> Result<Format, Unusable> {
    if bytes.is_empty() {
        return Err(Unusable::Empty);
    }
    if bytes.len() > MAX_BYTES {
        return Err(Unusable::TooLarge);
    }
    if content_type.is_some_and(names_text) {
        return Err(Unusable::ContentType);
    }
    Format::of_bytes(bytes).ok_or(Unusable::Bytes)
}

/// Whether a content type is that of text: markup, a script or data. `text/plain` does not count, because servers send it for
/// unknown files (WHATWG MIME Sniffing, "check-for-apache-bug flag").
fn names_text(content_type: &str) -> bool {
    let essence = content_type.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let last = subtype.rsplit('+').next().unwrap_or_default();
    match kind {
        "text" => subtype != "plain",
        "multipart" | "message" => true,
        _ => ["json", "xml", "yaml", "html", "svg", "javascript", "ecmascript"].contains(&last),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const WEBP: &[u8] = b"RIFF\x24\0\0\0WEBPVP8 ";
    const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    const PDF: &[u8] = b"%PDF-1.7\n";

    #[test]
    fn the_first_bytes_determine_the_format_whatever_the_content_type() {
        let images = [
            (JPEG, Format::Jpeg),
            (PNG, Format::Png),
            (WEBP, Format::WebP),
            (HEIC, Format::Heic),
            (PDF, Format::Pdf),
        ];
        let labels = [
            "image/jpeg",
            "IMAGE/JPEG; q=1",
            "image/jpg",
            "image/pjpeg",
            "image/png",
            "image/x-png",
            "image/webp",
            "image/heif",
            "image/gif",
            "image/*",
            "application/pdf",
            "application/x-pdf",
            "application/octet-stream",
            "binary/octet-stream",
            "application/x-download",
            "text/plain; charset=utf-8",
            "video/mp4",
            "unknown",
            "*/*",
            "/",
            "",
        ];
        for (bytes, format) in images {
            assert_eq!(inspect(bytes, None), Ok(format), "without a type");
            for label in labels {
                assert_eq!(inspect(bytes, Some(label)), Ok(format), "{label}");
            }
        }
    }

    #[test]
    fn a_content_type_of_text_is_refused_whatever_the_bytes() {
        for label in [
            "text/html",
            "Text/HTML; charset=utf-8",
            " text/html ",
            "text/html, image/jpeg",
            "text/xml",
            "application/json",
            "application/problem+json",
            "application/xhtml+xml",
            "application/xml",
            "image/svg+xml",
            "image/svg",
            "application/javascript",
            "multipart/form-data; boundary=x",
        ] {
            for bytes in [JPEG, PNG, WEBP, HEIC, PDF, b"<html>", b"{}"] {
                assert_eq!(inspect(bytes, Some(label)), Err(Unusable::ContentType), "{label}");
            }
        }
    }

    #[test]
    fn other_bytes_are_refused_whatever_the_content_type() {
        for (bytes, why) in [
            (&b""[..], Unusable::Empty),
            (b"<!doctype html><p>no", Unusable::Bytes),
            (b"{\"error\":1}", Unusable::Bytes),
            (b"<svg/>", Unusable::Bytes),
            (b"GIF89a", Unusable::Bytes),
            (b" \xff\xd8\xff", Unusable::Bytes),
            (b"\xff\xd8", Unusable::Bytes),
            (b"RIFF\0\0\0\0WAVE", Unusable::Bytes),
            (b"\0\0\0\x18ftypisom", Unusable::Bytes),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", Unusable::Bytes),
        ] {
            for label in [
                None,
                Some("image/jpeg"),
                Some("image/gif"),
                Some("application/octet-stream"),
                Some("text/plain"),
            ] {
                assert_eq!(inspect(bytes, label), Err(why), "{} {label:?}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn an_image_may_have_25_mib_and_no_byte_more() {
        let mut bytes = vec![0; MAX_BYTES + 1];
        bytes[..JPEG.len()].copy_from_slice(JPEG);
        assert_eq!(inspect(&bytes[..MAX_BYTES], None), Ok(Format::Jpeg));
        assert_eq!(inspect(&bytes, None), Err(Unusable::TooLarge));
    }

    #[test]
    fn every_format_has_its_own_extension_and_content_type() {
        for format in Format::ALL {
            let same = |other: &&Format| {
                other.extension() == format.extension() || other.content_type() == format.content_type()
            };
            assert_eq!(Format::ALL.iter().filter(same).count(), 1);
        }
    }

    proptest! {
        #[test]
        fn text_is_never_an_image(text in "[ \\t\\n]*[<{\\[\"][ -~]{0,64}", kind in 0_usize..5) {
            let content_type = Format::ALL[kind].content_type();
            prop_assert_eq!(inspect(text.as_bytes(), Some(content_type)), Err(Unusable::Bytes));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32), content_type in ".{0,16}") {
            let _ = inspect(&bytes, Some(&content_type));
        }
    }
}
