//! The document images: small real JPEGs whose text names what was asked for.
//!
//! Pure.

use bytes::Bytes;
use font8x8::UnicodeFonts;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageResult, Rgb, RgbImage};

use crate::person::Document;

/// The four kinds of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Redacted,
    Unredacted,
    Front,
    Back,
}

impl Kind {
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
pub(crate) fn draw(kind: Kind, image_type: &str, attempt: u32) -> ImageResult<Bytes> {
    let mut inputs = RgbImage::from_pixel(WIDTH, HEIGHT, PAPER);
    fill(&mut inputs, (0, 0), (WIDTH, 34), EDGE);
    write(&mut inputs, (12, 10), 2, PAPER, "UTOPIA  SPECIMEN");
    if kind != Kind::Back {
        // What the key's settings would black out: the portrait and the machine-readable lines.
        let hidden = kind == Kind::Redacted;
        fill(&mut inputs, (16, 52), (96, 120), if hidden { BLACK } else { PHOTO });
        fill(&mut inputs, (0, 220), (WIDTH, 50), if hidden { BLACK } else { Rgb([245, 245, 245]) });
        if !hidden {
            write(&mut inputs, (10, 230), 1, BLACK, "IDUTOL898902C36<<<<<<<<<<<<<<<");
            write(&mut inputs, (10, 246), 1, BLACK, "ERIKSSON<<ANNA<MARIA<<<<<<<<<<");
        }
    }
    write(&mut inputs, (128, 64), 3, INK, kind.title());
    write(&mut inputs, (128, 108), 2, INK, image_type);
    write(&mut inputs, (128, 140), 2, INK, &format!("attempt {attempt}"));
    write(&mut inputs, (128, 180), 1, INK, "okID sandbox - not a document");
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 80).encode_image(&inputs)?;
    Ok(jpeg.into())
}

fn fill(inputs: &mut RgbImage, (left, top): (u32, u32), (width, height): (u32, u32), colour: Rgb<u8>) {
    for y in top..top.saturating_add(height) {
        for x in left..left.saturating_add(width) {
            if let Some(pixel) = inputs.get_pixel_mut_checked(x, y) {
                *pixel = colour;
            }
        }
    }
}

fn write(inputs: &mut RgbImage, (left, top): (u32, u32), scale: u32, colour: Rgb<u8>, text: &str) {
    for (place, letter) in (0u32..).zip(text.chars()) {
        let rows = font8x8::BASIC_FONTS.get(letter).unwrap_or_default();
        for (y, row) in (0u32..).zip(rows) {
            for x in (0u32..8).filter(|x| row >> x & 1 == 1) {
                let corner = (left + (place * 8 + x) * scale, top + y * scale);
                fill(inputs, corner, (scale, scale), colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_jpeg_of_its_own() {
        let kinds = [Kind::Redacted, Kind::Unredacted, Kind::Front, Kind::Back];
        let images = kinds.map(|kind| draw(kind, "original", 0).unwrap());
        for image in &images {
            let inputs = image::load_from_memory(image).unwrap();
            assert_eq!((inputs.width(), inputs.height()), (WIDTH, HEIGHT));
        }
        for (place, image) in images.iter().enumerate() {
            assert!(!images.iter().skip(place + 1).any(|other| other == image));
        }
        assert_ne!(draw(Kind::Front, "cropped", 0).unwrap(), images[2]);
        assert_ne!(draw(Kind::Front, "original", 1).unwrap(), images[2]);
    }
}
