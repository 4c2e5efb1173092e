//! Draws the document images: small real JPEGs whose text names the requested kind, type and attempt.
//!
//! Pure. May depend on [`person`](crate::person).

use bytes::Bytes;
use font8x8::UnicodeFonts;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageResult, Rgb, RgbImage};

use crate::person::Document;

/// The four kinds of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ImageKind {
    Redacted,
    Unredacted,
    Front,
    Back,
}

impl ImageKind {
    fn title(self) -> &'static str {
        match self {
            Self::Redacted => "REDACTED",
            Self::Unredacted => "UNREDACTED",
            Self::Front => "FRONT",
            Self::Back => "BACK",
        }
    }

    /// A passport has no back.
    pub(crate) fn is_on(self, document: Document) -> bool {
        !(self == Self::Back && document == Document::Passport)
    }
}

const WIDTH: u32 = 428;
const HEIGHT: u32 = 270;
const PAPER: Rgb<u8> = Rgb([226, 232, 238]);
const EDGE: Rgb<u8> = Rgb([43, 89, 132]);
const PHOTO: Rgb<u8> = Rgb([170, 184, 198]);
const BLACK: Rgb<u8> = Rgb([12, 12, 12]);
const INK: Rgb<u8> = Rgb([130, 24, 32]);

/// Draws a specimen.
pub(crate) fn draw(kind: ImageKind, image_type: &str, attempt: u32) -> ImageResult<Bytes> {
    let mut canvas = RgbImage::from_pixel(WIDTH, HEIGHT, PAPER);
    fill(&mut canvas, (0, 0), (WIDTH, 34), EDGE);
    write(&mut canvas, (12, 10), 2, PAPER, "UTOPIA  SPECIMEN");
    if kind != ImageKind::Back {
        // The key's settings would redact these: the portrait and the machine-readable lines.
        let is_redacted = kind == ImageKind::Redacted;
        fill(&mut canvas, (16, 52), (96, 120), if is_redacted { BLACK } else { PHOTO });
        fill(&mut canvas, (0, 220), (WIDTH, 50), if is_redacted { BLACK } else { Rgb([245, 245, 245]) });
        if !is_redacted {
            write(&mut canvas, (10, 230), 1, BLACK, "IDUTOL898902C36<<<<<<<<<<<<<<<");
            write(&mut canvas, (10, 246), 1, BLACK, "ERIKSSON<<ANNA<MARIA<<<<<<<<<<");
        }
    }
    write(&mut canvas, (128, 64), 3, INK, kind.title());
    write(&mut canvas, (128, 108), 2, INK, image_type);
    write(&mut canvas, (128, 140), 2, INK, &format!("attempt {attempt}"));
    write(&mut canvas, (128, 180), 1, INK, "okID sandbox - not a document");
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&canvas)?;
    Ok(jpeg.into())
}

fn fill(canvas: &mut RgbImage, (left, top): (u32, u32), (width, height): (u32, u32), colour: Rgb<u8>) {
    for y in top..top.saturating_add(height) {
        for x in left..left.saturating_add(width) {
            if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
                *pixel = colour;
            }
        }
    }
}

fn write(canvas: &mut RgbImage, (left, top): (u32, u32), scale: u32, colour: Rgb<u8>, text: &str) {
    for (position, letter) in (0u32..).zip(text.chars()) {
        let rows = font8x8::BASIC_FONTS.get(letter).unwrap_or_default();
        for (y, row) in (0u32..).zip(rows) {
            for x in (0u32..8).filter(|x| row >> x & 1 == 1) {
                let corner = (left + (position * 8 + x) * scale, top + y * scale);
                fill(canvas, corner, (scale, scale), colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_different_jpeg() {
        let kinds = [ImageKind::Redacted, ImageKind::Unredacted, ImageKind::Front, ImageKind::Back];
        let images = kinds.map(|kind| draw(kind, "original", 0).unwrap());
        for image in &images {
            let decoded = image::load_from_memory(image).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (WIDTH, HEIGHT));
        }
        for (position, image) in images.iter().enumerate() {
            assert!(!images.iter().skip(position + 1).any(|other| other == image));
        }
        assert_ne!(draw(ImageKind::Front, "cropped", 0).unwrap(), images[2]);
        assert_ne!(draw(ImageKind::Front, "original", 1).unwrap(), images[2]);
    }
}
