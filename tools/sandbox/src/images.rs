//! The images as they are sent: drawn once, and padded to a size.
//!
//! May depend on [`drawing`](crate::drawing). The padding is random.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use image::ImageResult;
use parking_lot::Mutex;
use rand::Rng as _;

use crate::drawing::{ImageKind, draw};

/// Most images in the cache; any word is an image type, so their number is unbounded.
const MAX_CACHED: usize = 16;

/// What identifies an image.
type CacheKey = (ImageKind, String, u32);

/// All images of a portal.
pub(crate) struct Images {
    /// Follows the end of an image, where decoders ignore it. Incompressible.
    padding: Bytes,
    cache: Mutex<HashMap<CacheKey, Bytes>>,
}

impl Images {
    /// Images of at least this many bytes; 0 adds no padding.
    pub(crate) fn new(min_bytes: usize) -> Self {
        let mut padding = vec![0; min_bytes];
        rand::rng().fill_bytes(&mut padding);
        Self { padding: padding.into(), cache: Mutex::default() }
    }

    /// One image.
    pub(crate) fn image(&self, kind: ImageKind, image_type: &str, attempt: u32) -> ImageResult<Bytes> {
        let key = (kind, image_type.to_owned(), attempt);
        if let Some(image) = self.lock().get(&key) {
            return Ok(image.clone());
        }
        // Drawn without the lock, so that only this request waits for it.
        let drawn = draw(kind, image_type, attempt)?;
        let padding = self.padding.get(drawn.len()..).unwrap_or_default();
        let image = Bytes::from([&drawn, padding].concat());
        let mut cache = self.lock();
        if cache.len() < MAX_CACHED {
            cache.insert(key, image.clone());
        }
        Ok(image)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<CacheKey, Bytes>> {
        self.cache.lock()
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Images")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_padded_after_its_end_and_stays_the_same_image() {
        let size = 50_000;
        let images = Images::new(size);
        let image = images.image(ImageKind::Front, "original", 0).unwrap();
        let drawn = draw(ImageKind::Front, "original", 0).unwrap();
        assert_eq!(image.len(), size);
        assert_eq!(image.slice(..drawn.len()), drawn);
        assert_eq!(image::load_from_memory(&image).unwrap(), image::load_from_memory(&drawn).unwrap());
        assert_ne!(images.image(ImageKind::Back, "original", 0).unwrap(), image);
    }

    #[test]
    fn an_image_that_is_not_cached_is_drawn_identically_again() {
        let images = Images::new(30_000);
        let first = images.image(ImageKind::Front, "original", 99).unwrap();
        images.cache.lock().clear();
        for attempt in 0..20 {
            images.image(ImageKind::Front, "cropped", attempt).unwrap();
        }
        assert_eq!(images.cache.lock().len(), MAX_CACHED);
        assert_eq!(images.image(ImageKind::Front, "original", 99).unwrap(), first);
    }

    #[test]
    fn without_a_size_images_are_not_padded() {
        let image = Images::new(0).image(ImageKind::Redacted, "original", 1).unwrap();
        assert_eq!(image, draw(ImageKind::Redacted, "original", 1).unwrap());
    }
}
