//! Where a store is: a bucket, container or folder, and a prefix in it. Pure.

use std::fmt;

/// The kind of store that an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3 and compatible stores.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// A folder on the operator's machine.
    File,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 4] = [Self::S3, Self::Gs, Self::Az, Self::File];

    /// The part of the address before `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::File => "file",
        }
    }
}

/// The address of a store: `scheme://bucket[/prefix]` or `file:///folder`.
///
/// At most 256 ASCII characters, without `.` or `..` segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    scheme: Scheme,
    bucket: String,
    prefix: String,
}

/// Why an address cannot be used. Does not repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLocation {
    /// It is too long.
    #[error("write at most {} characters", Location::MAX_CHARS)]
    Length,
    /// The scheme is missing or unknown.
    #[error("start with s3://, gs:// or az://")]
    Scheme,
    /// The name after the scheme is invalid.
    #[error(
        "after the scheme write the name of a bucket or container: 3 to 222 lower-case letters, digits and - . _"
    )]
    Bucket,
    /// The path after the name is invalid.
    #[error(
        "in the path use letters, digits and - . _ between single slashes, without '.', '..' or a slash at the end"
    )]
    Path,
    /// The folder is not absolute.
    #[error("write a folder as file:///absolute/path")]
    Folder,
}

impl Location {
    /// The maximum length of an address, in characters.
    pub(crate) const MAX_CHARS: usize = 256;

    /// Parses an address.
    ///
    /// # Errors
    ///
    /// [`InvalidLocation`]. Nothing is decoded, repaired or guessed.
    pub fn parse(url: &str) -> Result<Self, InvalidLocation> {
        if url.len() > Self::MAX_CHARS {
            return Err(InvalidLocation::Length);
        }
        let (scheme, rest) = url.split_once("://").ok_or(InvalidLocation::Scheme)?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|candidate| candidate.as_str() == scheme)
            .ok_or(InvalidLocation::Scheme)?;
        let (bucket, prefix) = match rest.split_once('/') {
            Some((bucket, prefix)) => (bucket, Some(prefix)),
            None => (rest, None),
        };
        if scheme == Scheme::File {
            let folder = prefix.filter(|_| bucket.is_empty()).ok_or(InvalidLocation::Folder)?;
            check_path(folder)?;
            return Ok(Self { scheme, bucket: String::new(), prefix: folder.to_owned() });
        }
        let is_bucket = (3..=222).contains(&bucket.len())
            && bucket.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
            && bucket.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && bucket.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && !bucket.contains("..");
        if !is_bucket {
            return Err(InvalidLocation::Bucket);
        }
        if let Some(prefix) = prefix {
            check_path(prefix)?;
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.unwrap_or_default().to_owned() })
    }

    /// The kind of store.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket or container; empty for a folder.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The path below the bucket, without a slash at either end, may be empty; for a folder its absolute path without
    /// the first slash.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme.as_str(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(formatter, "/{}", self.prefix) }
    }
}

fn check_path(path: &str) -> Result<(), InvalidLocation> {
    let is_path = path.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    });
    if is_path { Ok(()) } else { Err(InvalidLocation::Path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_it_was_written() {
        for (url, scheme, bucket, prefix) in [
            ("s3://evidence", Scheme::S3, "evidence", ""),
            ("s3://evidence.eu/kyc/2026", Scheme::S3, "evidence.eu", "kyc/2026"),
            ("gs://my_bucket/a", Scheme::Gs, "my_bucket", "a"),
            ("az://container/A.b_c-d", Scheme::Az, "container", "A.b_c-d"),
            ("file:///var/lib/evidence", Scheme::File, "", "var/lib/evidence"),
        ] {
            let location = Location::parse(url).unwrap();
            assert_eq!(
                (location.scheme(), location.bucket(), location.prefix()),
                (scheme, bucket, prefix),
                "{url}"
            );
            assert_eq!(location.to_string(), url);
        }
    }

    #[test]
    fn an_ambiguous_address_is_refused() {
        for (url, error) in [
            ("", InvalidLocation::Scheme),
            ("S3://evidence", InvalidLocation::Scheme),
            ("https://evidence", InvalidLocation::Scheme),
            ("s3:/evidence", InvalidLocation::Scheme),
            ("s3://", InvalidLocation::Bucket),
            ("s3://ab", InvalidLocation::Bucket),
            ("s3://Evidence", InvalidLocation::Bucket),
            ("s3://evidence#x", InvalidLocation::Bucket),
            ("s3://evidence:80", InvalidLocation::Bucket),
            ("s3://user@evidence", InvalidLocation::Bucket),
            ("s3://evi..dence", InvalidLocation::Bucket),
            ("s3://.evidence", InvalidLocation::Bucket),
            ("s3://evidence/", InvalidLocation::Path),
            ("s3://evidence/..", InvalidLocation::Path),
            ("s3://evidence/a/../b", InvalidLocation::Path),
            ("s3://evidence/a//b", InvalidLocation::Path),
            ("s3://evidence/a/.", InvalidLocation::Path),
            ("s3://evidence/a?b", InvalidLocation::Path),
            ("s3://evidence/%2e%2e", InvalidLocation::Path),
            ("s3://evidence/a\\b", InvalidLocation::Path),
            ("file://host/folder", InvalidLocation::Folder),
            ("file://", InvalidLocation::Folder),
            ("file:///", InvalidLocation::Path),
            ("file:///a/../../etc", InvalidLocation::Path),
        ] {
            assert_eq!(Location::parse(url), Err(error), "{url}");
        }
        assert_eq!(Location::parse(&format!("s3://{}", "a".repeat(300))), Err(InvalidLocation::Length));
    }
}
