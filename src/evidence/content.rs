//! Whether bytes are an image that may be kept: by their first bytes, against what the portal says they are. Pure.

/// Most bytes of an image: 25 MiB.
pub const MAX_BYTES: usize = 25 * 1024 * 1024;

/// What an image is.
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
    /// PDF, as some portals keep scans.
    Pdf,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Jpeg, Self::Png, Self::WebP, Self::Heic, Self::Pdf];

    /// The end of an object's key, without the dot.
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

    /// What a content type names; its parameters do not matter.
    fn of_content_type(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "image/jpeg" | "image/jpg" => Some(Self::Jpeg),
            "image/png" => Some(Self::Png),
            "image/webp" => Some(Self::WebP),
            "image/heic" | "image/heif" => Some(Self::Heic),
            "application/pdf" => Some(Self::Pdf),
            _ => None,
        }
    }

    /// What the first bytes say.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let at = |from: usize, word: &[u8]| bytes.get(from..from + word.len()) == Some(word);
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

/// Why bytes are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unusable {
    /// No byte.
    #[error("the image is empty")]
    Empty,
    /// Over [`MAX_BYTES`].
    #[error("the image is larger than 25 MiB")]
    TooLarge,
    /// The content type names none of the formats: HTML, JSON and SVG among others.
    #[error("the content type is none of JPEG, PNG, WebP, HEIC and PDF")]
    ContentType,
    /// The first bytes are those of none of the formats.
    #[error("the bytes are none of JPEG, PNG, WebP, HEIC and PDF")]
    Bytes,
    /// The bytes are of another format than the content type.
    #[error("the bytes are not what the content type says")]
    Mismatch,
}

/// Whether an image may be kept, and what it is. `content_type` is the portal's header; missing is `image/jpeg`
/// (guide, "Get Verification Image").
///
/// # Errors
///
/// [`Unusable`].
pub fn inspect(bytes: &[u8], content_type: Option<&str>) -> Result<Format, Unusable> {
    if bytes.is_empty() {
        return Err(Unusable::Empty);
    }
    if bytes.len() > MAX_BYTES {
        return Err(Unusable::TooLarge);
    }
    let said =
        content_type.map_or(Some(Format::Jpeg), Format::of_content_type).ok_or(Unusable::ContentType)?;
    let found = Format::of_bytes(bytes).ok_or(Unusable::Bytes)?;
    if said == found { Ok(found) } else { Err(Unusable::Mismatch) }
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
    fn an_image_is_what_both_its_bytes_and_its_content_type_say() {
        for (bytes, content_type, format) in [
            (JPEG, Some("image/jpeg"), Format::Jpeg),
            (JPEG, None, Format::Jpeg),
            (JPEG, Some("IMAGE/JPEG; q=1"), Format::Jpeg),
            (PNG, Some("image/png"), Format::Png),
            (WEBP, Some("image/webp"), Format::WebP),
            (HEIC, Some("image/heic"), Format::Heic),
            (HEIC, Some("image/heif"), Format::Heic),
            (PDF, Some("application/pdf"), Format::Pdf),
        ] {
            assert_eq!(inspect(bytes, content_type), Ok(format), "{content_type:?}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for (bytes, content_type, why) in [
            (&b""[..], None, Unusable::Empty),
            (b"<!doctype html><p>no", None, Unusable::Bytes),
            (b"<html>", Some("text/html"), Unusable::ContentType),
            (b"{\"error\":1}", Some("application/json"), Unusable::ContentType),
            (b"{\"error\":1}", Some("image/jpeg"), Unusable::Bytes),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Some("image/svg+xml"), Unusable::ContentType),
            (b"<svg/>", Some("image/png"), Unusable::Bytes),
            (b"GIF89a", Some("image/gif"), Unusable::ContentType),
            (b" \xff\xd8\xff", None, Unusable::Bytes),
            (b"\xff\xd8", None, Unusable::Bytes),
            (b"RIFF\0\0\0\0WAVE", Some("image/webp"), Unusable::Bytes),
            (b"\0\0\0\x18ftypisom", Some("image/heic"), Unusable::Bytes),
            (PNG, Some("image/jpeg"), Unusable::Mismatch),
            (PNG, None, Unusable::Mismatch),
            (JPEG, Some("application/octet-stream"), Unusable::ContentType),
            (JPEG, Some("text/html"), Unusable::ContentType),
            (JPEG, Some(""), Unusable::ContentType),
        ] {
            assert_eq!(inspect(bytes, content_type), Err(why), "{bytes:?} {content_type:?}");
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
    fn every_format_has_names_of_its_own() {
        for format in Format::ALL {
            assert_eq!(Format::of_content_type(format.content_type()), Some(format));
            assert_eq!(Format::ALL.iter().filter(|other| other.extension() == format.extension()).count(), 1);
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
