//! Names of objects: `<prefix>/<namespace>/<name>/<uid>/<kind>-<imageType>[-<attempt>].<extension>`. Pure.
//!
//! The verification id is never part of a name, because it grants access to the session.

use std::fmt;

use super::{content::Format, location::Location};
use crate::api::{EvidenceKind, ImageKind};

/// The folder of one verification, below the prefix of a store: `<namespace>/<name>/<uid>`.
///
/// The namespace always comes first, so that no namespace writes into another one's part of a store. None of the three can be
/// `..`, and a later resource of the same name has another folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Folder {
    namespace: String,
    name: String,
    uid: String,
}

/// The name of one object in its [`Folder`]: one component, at most 160 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

/// Why a name cannot be part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// The namespace is not a DNS label.
    #[error("the namespace cannot be part of a path")]
    Namespace,
    /// The resource's name is not a DNS subdomain.
    #[error("the name of the resource cannot be part of a path")]
    Name,
    /// The uid has other characters than letters, digits and `-`, or more than 64.
    #[error("the uid of the resource cannot be part of a path")]
    Uid,
    /// The image type is not 1 to 32 lower-case letters, digits and `_`.
    #[error("the image type cannot be part of a path")]
    ImageType,
    /// The attempt is negative.
    #[error("the attempt cannot be part of a path")]
    Attempt,
    /// The key is not one that the operator writes.
    #[error("the object's key cannot be part of a path")]
    Key,
}

impl Folder {
    /// The folder of a resource.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`], which the API server's rules for names already exclude.
    pub fn new(namespace: &str, name: &str, uid: &str) -> Result<Self, InvalidPath> {
        if namespace.len() > 63 || !is_label(namespace) {
            return Err(InvalidPath::Namespace);
        }
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(InvalidPath::Name);
        }
        let is_uid = (1..=64).contains(&uid.len())
            && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_uid {
            return Err(InvalidPath::Uid);
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() })
    }

    /// The full address of the folder, for `status.evidence.prefix`. At most 640 characters.
    #[must_use]
    pub fn url(&self, store: &Location) -> String {
        format!("{store}/{self}")
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The resource's uid.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

impl ObjectKey {
    /// The maximum length of a key, in characters.
    pub(crate) const MAX_CHARS: usize = 160;

    /// The list of the stored objects: `manifest.json`.
    #[must_use]
    pub fn manifest() -> Self {
        Self("manifest.json".to_owned())
    }

    /// The portal's response with the results: `details.json`.
    #[must_use]
    pub fn details() -> Self {
        Self("details.json".to_owned())
    }

    /// An image, such as `front-original.jpg` or `redacted-original-0.jpg`.
    ///
    /// # Errors
    ///
    /// [`InvalidPath::ImageType`] or [`InvalidPath::Attempt`].
    pub fn image(
        kind: ImageKind,
        image_type: &str,
        attempt: Option<i32>,
        format: Format,
    ) -> Result<Self, InvalidPath> {
        let stem = image_stem(kind, image_type, attempt)?;
        Ok(Self(format!("{stem}.{}", format.extension())))
    }

    /// Parses a key of status or a manifest.
    ///
    /// # Errors
    ///
    /// [`InvalidPath::Key`] for a name that the operator does not write.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().filter(|byte| *byte == b'.').count() == 1
            && !text.ends_with('.');
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidPath::Key) }
    }

    /// The name in the folder.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of an image without its extension: `<kind>-<imageType>[-<attempt>]`.
///
/// Two different images never have the same stem, because the image type contains no `-`.
///
/// # Errors
///
/// [`InvalidPath::ImageType`] or [`InvalidPath::Attempt`].
pub(crate) fn image_stem(
    kind: ImageKind,
    image_type: &str,
    attempt: Option<i32>,
) -> Result<String, InvalidPath> {
    let is_type = (1..=32).contains(&image_type.len())
        && image_type.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !image_type.starts_with('_')
        && !image_type.ends_with('_');
    if !is_type {
        return Err(InvalidPath::ImageType);
    }
    if attempt.is_some_and(|attempt| attempt < 0) {
        return Err(InvalidPath::Attempt);
    }
    Ok(EvidenceKind::from(kind).stem(image_type, attempt))
}

/// Whether this is a DNS label (RFC 1123), of any length.
pub(crate) fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10";
    const KINDS: [ImageKind; 4] =
        [ImageKind::Redacted, ImageKind::Unredacted, ImageKind::Front, ImageKind::Back];

    #[test]
    fn objects_are_named_by_what_they_are() {
        let key = |kind, image_type, attempt, format| {
            ObjectKey::image(kind, image_type, attempt, format).unwrap().as_str().to_owned()
        };
        assert_eq!(key(ImageKind::Front, "original", None, Format::Jpeg), "front-original.jpg");
        assert_eq!(key(ImageKind::Redacted, "original", Some(0), Format::Jpeg), "redacted-original-0.jpg");
        assert_eq!(
            key(ImageKind::Unredacted, "cropped_2", Some(12), Format::Png),
            "unredacted-cropped_2-12.png"
        );
        assert_eq!(ObjectKey::details().as_str(), "details.json");
        assert_eq!(ObjectKey::manifest().as_str(), "manifest.json");
        let folder = Folder::new("team-a", "customer-42.eu", UID).unwrap();
        let store = Location::parse("s3://evidence/kyc").unwrap();
        assert_eq!(folder.url(&store), format!("s3://evidence/kyc/team-a/customer-42.eu/{UID}"));
    }

    #[test]
    fn no_component_of_a_path_is_a_parent_folder() {
        for bad in ["", ".", "..", "../other", "a/b", "a\\b", "A", "a b", "-a", "a-", "a%2fb", "ä", "a\n"] {
            assert_eq!(Folder::new(bad, "x", UID), Err(InvalidPath::Namespace), "{bad:?}");
            assert_eq!(Folder::new("x", bad, UID), Err(InvalidPath::Name), "{bad:?}");
            let image = ObjectKey::image(ImageKind::Front, bad, None, Format::Jpeg);
            assert!(image.is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a.b", "ä"] {
            assert_eq!(Folder::new("x", "x", bad), Err(InvalidPath::Uid), "{bad:?}");
        }
        assert_eq!(Folder::new("a.b", "x", UID), Err(InvalidPath::Namespace));
        assert_eq!(Folder::new("x", "a..b", UID), Err(InvalidPath::Name));
        assert_eq!(
            ObjectKey::image(ImageKind::Back, "original", Some(-1), Format::Jpeg),
            Err(InvalidPath::Attempt)
        );
        for bad in ["", ".", "..", ".jpg", "a.", "a", "a/b.jpg", "../a.jpg", "a.b.jpg", "A.jpg"] {
            assert_eq!(ObjectKey::parse(bad), Err(InvalidPath::Key), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_key_fits_into_status() {
        let key =
            ObjectKey::image(ImageKind::Unredacted, &"a".repeat(32), Some(i32::MAX), Format::Heic).unwrap();
        assert!(key.as_str().len() <= ObjectKey::MAX_CHARS);
        let folder = Folder::new(&"n".repeat(63), &"a".repeat(253), &"u".repeat(64)).unwrap();
        let store = Location::parse(&format!("s3://{}/{}", "b".repeat(222), "p".repeat(28))).unwrap();
        assert!(folder.url(&store).len() <= 640);
    }

    proptest! {
        #[test]
        fn every_key_can_be_read_back_and_names_one_image(
            images in proptest::collection::hash_set(
                (0_usize..4, "[a-z0-9]([a-z0-9_]{0,3}[a-z0-9])?", proptest::option::of(0_i32..100)),
                1..20,
            )
        ) {
            let keys = images
                .iter()
                .map(|(kind, image_type, attempt)| {
                    ObjectKey::image(KINDS[*kind], image_type, *attempt, Format::Jpeg).unwrap()
                })
                .collect::<HashSet<_>>();
            prop_assert_eq!(keys.len(), images.len());
            for key in keys {
                prop_assert_eq!(ObjectKey::parse(key.as_str()), Ok(key.clone()));
            }
        }
    }
}
