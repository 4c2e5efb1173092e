//! `manifest.json`, the list of what is stored: written last, so that its presence means that the evidence is complete. Pure.
//!
//! The same evidence gives the same bytes, whenever and by whichever process it is written: it has no time of writing,
//! and its objects are in the order of their keys. It holds neither the id of the verification nor its link.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::StoredObject,
    store::{Folder, ObjectKey},
};

/// The version of the format.
const VERSION: u32 = 1;

/// The operator that writes, and its version.
pub const OPERATOR: &str = concat!("okid-operator/", env!("CARGO_PKG_VERSION"));

/// The part of [`OPERATOR`] before the version.
const OPERATOR_NAME: &str = "okid-operator/";

/// What is stored of one verification, and what was absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the format, now 1.
    version: u32,
    /// The operator that wrote it, and its version.
    operator: String,
    /// Namespace of the resource.
    namespace: String,
    /// Name of the resource.
    name: String,
    /// Uid of the resource.
    uid: String,
    /// The portal's last status of the session, such as `verified`.
    portal_status: String,
    /// When the portal last changed it, by the portal's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    portal_updated_at: Option<Timestamp>,
    /// When the operator received it.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// Every object that was requested, in the order of the keys.
    objects: Vec<StoredObject>,
}

/// Why bytes are not a manifest of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableManifest {
    /// Not the JSON that [`Manifest::bytes`] writes.
    #[error("the manifest is not JSON with the fields of a manifest")]
    Json,
    /// Of a later format.
    #[error("the manifest has another version of the format")]
    Version,
    /// An object's key is none.
    #[error("the manifest names a key that leads out of its folder")]
    Key,
}

/// The portal's final answer about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortalEnd<'a> {
    /// `status.portalStatus`.
    pub status: &'a str,
    /// `status.portalUpdatedAt`.
    pub updated_at: Option<Timestamp>,
    /// `status.finishedAt`.
    pub finished_at: Option<Timestamp>,
}

impl Manifest {
    /// Lists what is stored.
    #[must_use]
    pub fn new(folder: &Folder, end: PortalEnd<'_>, objects: &[StoredObject]) -> Self {
        let mut objects = objects.to_vec();
        objects.sort_by(|one, other| one.key.cmp(&other.key));
        Self {
            version: VERSION,
            operator: OPERATOR.to_owned(),
            namespace: folder.namespace().to_owned(),
            name: folder.name().to_owned(),
            uid: folder.uid().to_owned(),
            portal_status: end.status.to_owned(),
            portal_updated_at: end.updated_at,
            finished_at: end.finished_at,
            objects,
        }
    }

    /// The bytes of `manifest.json`: indented JSON, with a new line at the end.
    ///
    /// # Errors
    ///
    /// None for what [`Manifest::new`] makes: strings and numbers can always be written.
    pub fn bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a manifest back.
    ///
    /// # Errors
    ///
    /// [`UnreadableManifest`].
    pub fn parse(bytes: &[u8]) -> Result<Self, UnreadableManifest> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|_| UnreadableManifest::Json)?;
        if manifest.version != VERSION {
            return Err(UnreadableManifest::Version);
        }
        let has_keys = manifest.objects.iter().all(|object| is_key_or_stem(&object.key));
        if has_keys { Ok(manifest) } else { Err(UnreadableManifest::Key) }
    }

    /// Whether those are the bytes that this operator, or another version of it, writes for the same evidence.
    ///
    /// Anyone who can write to the bucket may have put a manifest there that differs. So nothing of it is trusted: each
    /// byte is compared, except the operator's version, which may be another number.
    ///
    /// # Errors
    ///
    /// As of [`bytes`](Self::bytes).
    pub(crate) fn is_written_as(&self, found: &[u8]) -> serde_json::Result<bool> {
        let ours = Self { operator: OPERATOR_NAME.to_owned(), ..self.clone() }.bytes()?;
        let name = OPERATOR_NAME.as_bytes();
        // It is in the second line, before any value that another party controls.
        let Some(at) = ours.windows(name.len()).position(|window| window == name) else { return Ok(false) };
        let (before, after) = ours.split_at(at + name.len());
        let version = found.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        Ok(version.is_some_and(is_version))
    }

    /// Every object that was requested, in the order of the keys.
    #[must_use]
    pub fn objects(&self) -> &[StoredObject] {
        &self.objects
    }
}

/// An absent object has no extension.
fn is_key_or_stem(key: &str) -> bool {
    ObjectKey::parse(key).is_ok() || ObjectKey::parse(&format!("{key}.x")).is_ok()
}

/// Whether this is a version of the operator: three numbers, and for a pre-release `-alpha`, `-beta` or `-rc`, with a
/// number or without. No other text fits.
fn is_version(version: &[u8]) -> bool {
    let is_number = |text: &str| {
        (1..=5).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let Ok(version) = str::from_utf8(version) else { return false };
    let (numbers, stage) =
        version.split_once('-').map_or((version, None), |(numbers, stage)| (numbers, Some(stage)));
    let is_stage = |stage: &str| {
        let (word, number) =
            stage.split_once('.').map_or((stage, None), |(word, number)| (word, Some(number)));
        ["alpha", "beta", "rc"].contains(&word) && number.is_none_or(is_number)
    };
    numbers.split('.').count() == 3 && numbers.split('.').all(is_number) && stage.is_none_or(is_stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EvidenceKind, ObjectState};
    use crate::store::sha256_hex;

    fn object(key: &str, kind: EvidenceKind, state: ObjectState) -> StoredObject {
        let stored = state == ObjectState::Stored;
        StoredObject {
            kind,
            key: key.to_owned(),
            state,
            size: stored.then_some(3),
            sha256: stored.then(|| sha256_hex(b"abc")),
            content_type: stored.then(|| "image/jpeg".to_owned()),
        }
    }

    fn sample(reversed: bool) -> Manifest {
        let folder = Folder::new("team-a", "customer", "0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10").unwrap();
        let mut objects = vec![
            object("back-original", EvidenceKind::Back, ObjectState::Absent),
            object("front-original.jpg", EvidenceKind::Front, ObjectState::Stored),
        ];
        if reversed {
            objects.reverse();
        }
        let end = PortalEnd {
            status: "verified",
            updated_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            finished_at: Some("2026-01-02T03:04:06Z".parse().unwrap()),
        };
        Manifest::new(&folder, end, &objects)
    }

    #[test]
    fn a_manifest_is_these_bytes() {
        let text = String::from_utf8(sample(false).bytes().unwrap()).unwrap();
        let expected = r#"{
  "version": 1,
  "operator": "okid-operator/VERSION",
  "namespace": "team-a",
  "name": "customer",
  "uid": "0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10",
  "portalStatus": "verified",
  "portalUpdatedAt": "2026-01-02T03:04:05Z",
  "finishedAt": "2026-01-02T03:04:06Z",
  "objects": [
    {
      "kind": "Back",
      "key": "back-original",
      "state": "Absent"
    },
    {
      "kind": "Front",
      "key": "front-original.jpg",
      "state": "Stored",
      "size": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "contentType": "image/jpeg"
    }
  ]
}
"#;
        assert_eq!(text, expected.replace("VERSION", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_same_evidence_gives_the_same_bytes() {
        assert_eq!(sample(false).bytes().unwrap(), sample(true).bytes().unwrap());
    }

    #[test]
    fn a_manifest_can_be_read_back() {
        let bytes = sample(false).bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes), Ok(sample(false)));
        assert_eq!(Manifest::parse(b"{}"), Err(UnreadableManifest::Json));
        assert_eq!(Manifest::parse(&bytes[..bytes.len() / 2]), Err(UnreadableManifest::Json));
        let text = String::from_utf8(bytes).unwrap();
        let later = text.replace("\"version\": 1", "\"version\": 2");
        assert_eq!(Manifest::parse(later.as_bytes()), Err(UnreadableManifest::Version));
        let outside = text.replace("front-original.jpg", "../front-original.jpg");
        assert_eq!(Manifest::parse(outside.as_bytes()), Err(UnreadableManifest::Key));
    }

    #[test]
    fn a_manifest_is_ours_if_each_byte_is_but_for_a_number_of_the_version() {
        let ours = sample(false);
        let text = String::from_utf8(ours.bytes().unwrap()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        for other in [version, "0.0.1", "1.22.333", "2.0.0-rc.1", "2.0.0-alpha", "10.0.0-beta.12"] {
            let written = text.replace(OPERATOR, &format!("okid-operator/{other}"));
            assert!(ours.is_written_as(written.as_bytes()).unwrap(), "{other}");
        }
        let operator = |value: &str| text.replace(OPERATOR, value);
        let forged = [
            operator("okid-operator/1.0"),
            operator("okid-operator/1.0.0.0"),
            operator("okid-operator/01.0.0"),
            operator("okid-operator/1.0.0-forged"),
            operator("okid-operator/1.0.0-rc.1.2"),
            operator("okid-operator/1.0.0+build"),
            operator("okid-operator/123456.0.0"),
            operator("okid-operator/"),
            operator("okid-operator/\u{661}.0.0"),
            operator("somebody-else/1.0.0"),
            operator("okid-operator/1.0.0\",\n  \"approvedBy\": \"1.0.0"),
            operator("okid-operator/9.9.9\",\n  \"operator\": \"okid-operator/0.1.0"),
            text.replace("\"version\": 1,", "\"version\": 1,\n  \"approvedBy\": \"somebody\","),
            text.replace("      \"size\": 3,", "      \"size\": 3,\n      \"note\": 1,"),
            text.replace("\"verified\"", "\"rejected\""),
            text.replace("\"size\": 3", "\"size\": 3.0"),
            text.replace("team-a", "team-\\u0061"),
            text.replace("  ", "\t"),
            text.replace('\n', "\r\n"),
            text.trim_end().to_owned(),
            format!("{text}\n"),
            format!("\u{feff}{text}"),
            text.repeat(2),
            serde_json::to_string(&ours).unwrap(),
            String::new(),
        ];
        for forged in forged {
            assert!(!ours.is_written_as(forged.as_bytes()).unwrap(), "{forged}");
        }
    }

    #[test]
    fn a_value_that_looks_like_the_operator_moves_nothing() {
        let ours = Manifest { portal_status: OPERATOR.to_owned(), ..sample(false) };
        let bytes = ours.bytes().unwrap();
        assert!(ours.is_written_as(&bytes).unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let last = text.rfind(OPERATOR).unwrap();
        let forged = format!("{}okid-operator/9.9.9{}", &text[..last], &text[last + OPERATOR.len()..]);
        assert!(!ours.is_written_as(forged.as_bytes()).unwrap());
    }
}
