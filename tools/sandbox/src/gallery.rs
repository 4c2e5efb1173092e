//! The images as they are sent: drawn once, and filled up to a size.
//!
//! May touch: chance, once, for what they are filled up with.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use image::ImageResult;
use parking_lot::Mutex;
use rand::Rng as _;

use crate::images::{Kind, draw};

/// Most pictures that are kept; any word is an image type, so there is no end of them.
const MOST_KEPT: usize = 16;

/// What makes one picture another.
type Name = (Kind, String, u32);

/// All pictures of a portal.
pub(crate) struct Gallery {
    /// Comes after a picture's end, where decoders do not look. Cannot be compressed.
    filling: Bytes,
    kept: Mutex<HashMap<Name, Bytes>>,
}

impl Gallery {
    /// Pictures of so many bytes at least; 0 leaves them as they are drawn.
    pub(crate) fn new(at_least: usize) -> Self {
        let mut filling = vec![0; at_least];
        rand::rng().fill_bytes(&mut filling);
        Self { filling: filling.into(), kept: Mutex::default() }
    }

    /// One picture.
    pub(crate) fn inputs(&self, kind: Kind, image_type: &str, attempt: u32) -> ImageResult<Bytes> {
        let name = (kind, image_type.to_owned(), attempt);
        if let Some(inputs) = self.lock().get(&name) {
            return Ok(inputs.clone());
        }
        // Drawn while nobody waits for it but who asked.
        let drawn = draw(kind, image_type, attempt)?;
        let filling = self.filling.get(drawn.len()..).unwrap_or_default();
        let inputs = Bytes::from([&drawn, filling].concat());
        let mut kept = self.lock();
        if kept.len() < MOST_KEPT {
            kept.insert(name, inputs.clone());
        }
        Ok(inputs)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<Name, Bytes>> {
        self.kept.lock()
    }
}

impl fmt::Debug for Gallery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gallery")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_filled_up_behind_its_end_and_stays_the_same_picture() {
        let size = 50_000;
        let gallery = Gallery::new(size);
        let inputs = gallery.inputs(Kind::Front, "original", 0).unwrap();
        let drawn = draw(Kind::Front, "original", 0).unwrap();
        assert_eq!(inputs.len(), size);
        assert_eq!(inputs.slice(..drawn.len()), drawn);
        assert_eq!(image::load_from_memory(&inputs).unwrap(), image::load_from_memory(&drawn).unwrap());
        assert_ne!(gallery.inputs(Kind::Back, "original", 0).unwrap(), inputs);
    }

    #[test]
    fn a_picture_that_is_not_kept_is_drawn_the_same_again() {
        let gallery = Gallery::new(30_000);
        let first = gallery.inputs(Kind::Front, "original", 99).unwrap();
        gallery.lock().clear();
        for attempt in 0..20 {
            gallery.inputs(Kind::Front, "cropped", attempt).unwrap();
        }
        assert_eq!(gallery.lock().len(), MOST_KEPT);
        assert_eq!(gallery.inputs(Kind::Front, "original", 99).unwrap(), first);
    }

    #[test]
    fn without_a_size_pictures_are_as_they_are_drawn() {
        let inputs = Gallery::new(0).inputs(Kind::Redacted, "original", 1).unwrap();
        assert_eq!(inputs, draw(Kind::Redacted, "original", 1).unwrap());
    }
}
