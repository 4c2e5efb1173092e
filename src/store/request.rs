//! One attempt at each thing that is done to a store: one request, and its answer.

use std::{collections::BTreeSet, error::Error as StdError};

use bytes::Bytes;
use futures::TryStreamExt;
use http::Method;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    azure::AzureAuthorizer,
    client::HttpRequestBody,
    list::{PaginatedListOptions, PaginatedListStore},
    path::Path,
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    backend::{Azure, Backend, Medium},
    client::{Content, Found, PROOF, Removal, Store},
    content::MAX_BYTES,
    error::{Answer, StoreError, is_versioned, judge, judge_http_removal, judge_removal},
    http::AtMost,
    no_response::NoResponse,
    path::{Folder, ObjectKey},
};
use crate::evidence::hex;

/// Most keys that are read of one folder at a time.
pub(crate) const MAX_KEYS: usize = 64;
/// Most names in one answer, of ours and of others.
const PAGE: usize = 1000;
/// Most answers that are read for one listing: a store may have no end.
const MAX_PAGES: usize = 8;

/// What is in the store, compared with what is to be.
pub(crate) enum Comparison {
    Same,
    Different,
    Missing,
}

impl Store {
    pub(crate) async fn put_once(
        &self,
        path: &Path,
        bytes: Bytes,
        attributes: Attributes,
    ) -> Result<(), Answer> {
        self.limited(async {
            match self.backend.medium() {
                Medium::Disk(disk) => disk.create(path.as_ref(), bytes).await,
                Medium::Network(store) => {
                    let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
                    let put = store.put_opts(path, PutPayload::from(bytes), options).await;
                    put.map(|_| ()).map_err(|error| judge(&error))
                }
            }
        })
        .await
    }

    /// Reads what is there, as far as it can be the same.
    pub(crate) async fn compare(&self, path: &Path, size: u64, sha256: &str) -> Result<Comparison, Answer> {
        let compared = self.limited(async {
            let store = match self.backend.medium() {
                Medium::Network(store) => store,
                Medium::Disk(disk) => {
                    let found = disk.digest(path.as_ref(), size).await?;
                    let is_same =
                        found.is_some_and(|(found, digest)| found == size && hex(&digest) == sha256);
                    return Ok(if is_same { Comparison::Same } else { Comparison::Different });
                }
            };
            let whole = usize::try_from(size).unwrap_or(usize::MAX);
            let found = store.get_opts(path, get(whole)).await.map_err(|error| judge(&error))?;
            if found.meta.size != size {
                return Ok(Comparison::Different);
            }
            let mut digest = Sha256::new();
            let mut chunks = found.into_stream();
            while let Some(chunk) = chunks.try_next().await.map_err(|error| judge(&error))? {
                digest.update(&chunk);
            }
            let is_same = hex(&digest.finalize()) == sha256;
            Ok(if is_same { Comparison::Same } else { Comparison::Different })
        });
        match compared.await {
            Err(Answer::NotFound) => Ok(Comparison::Missing),
            other => other,
        }
    }

    pub(crate) async fn read_once(&self, path: &Path, limit: usize) -> Result<Option<Bytes>, Answer> {
        let store = match self.backend.medium() {
            Medium::Network(store) => store,
            Medium::Disk(disk) => return disk.read(path.as_ref(), limit).await,
        };
        let found = store.get_opts(path, get(limit)).await.map_err(|error| judge(&error))?;
        if found.meta.size > limit as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| judge(&error))? {
            if bytes.len() + chunk.len() > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes.into()))
    }

    /// Reads what is there, with what it says of itself; nothing of what is larger than any object of ours.
    pub(crate) async fn find_once(&self, path: &Path, kept: usize) -> Result<Option<Found>, Answer> {
        let store = match self.backend.medium() {
            Medium::Network(store) => store,
            Medium::Disk(disk) => {
                let found = disk.digest(path.as_ref(), MAX_BYTES as u64).await?;
                let found = found.map(|(size, digest)| (size, hex(&digest)));
                return Ok(found.map(|(size, sha256)| Found { size, sha256, proof: None, bytes: None }));
            }
        };
        let found = store.get_opts(path, get(MAX_BYTES)).await.map_err(|error| judge(&error))?;
        if found.meta.size > MAX_BYTES as u64 {
            return Ok(None);
        }
        let proof = found.attributes.get(&Attribute::Metadata(PROOF.into()));
        let proof = proof.map(|proof| proof.as_ref().to_owned());
        let (mut digest, mut size, mut bytes) = (Sha256::new(), 0, Some(Vec::new()));
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| judge(&error))? {
            size += chunk.len();
            if size > MAX_BYTES {
                return Ok(None);
            }
            digest.update(&chunk);
            bytes = bytes.filter(|_| size <= kept);
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(&chunk);
            }
        }
        let sha256 = hex(&digest.finalize());
        Ok(Some(Found { size: size as u64, sha256, proof, bytes: bytes.map(Bytes::from) }))
    }

    /// Who removes them is the one who asks. Of a local folder also the keys of what was never finished, so that it is removed with the rest.
    pub(crate) async fn keys_once(&self, folder: &Path) -> Result<Vec<ObjectKey>, Answer> {
        let store: &dyn PaginatedListStore = match &self.backend {
            Backend::S3(s3) => &s3.store,
            Backend::Gs(store) => store,
            Backend::Az(azure) => &azure.store,
            Backend::File(disk) => return disk.keys(folder.as_ref(), MAX_KEYS).await,
        };
        let prefix = format!("{folder}/");
        let mut keys = BTreeSet::new();
        let mut page_token = None;
        for _ in 0..MAX_PAGES {
            let options =
                PaginatedListOptions { max_keys: Some(PAGE), page_token, ..PaginatedListOptions::default() };
            let page = store.list_paginated(Some(&prefix), options).await;
            let page = page.map_err(|error| judge_removal(&error))?;
            let names =
                page.result.objects.iter().filter_map(|object| {
                    ObjectKey::parse(object.location.as_ref().strip_prefix(&prefix)?).ok()
                });
            keys.extend(names);
            page_token = page.page_token;
            if keys.len() >= MAX_KEYS || page_token.is_none() {
                return Ok(keys.into_iter().take(MAX_KEYS).collect());
            }
        }
        // That nothing of ours is there cannot be said. What is found is enough to go on with.
        if keys.is_empty() {
            Err(Answer::Trouble(NoResponse::TooLarge.into()))
        } else {
            Ok(keys.into_iter().collect())
        }
    }

    pub(crate) async fn delete_once(&self, path: &Path) -> Result<Removal, Answer> {
        match &self.backend {
            Backend::Az(azure) => delete_blob(azure, path).await,
            Backend::File(disk) => disk.remove(path.as_ref()).await.map(|()| Removal::Removed),
            Backend::S3(s3) => removal(s3.store.delete(path).await, judge_removal),
            Backend::Gs(store) => removal(store.delete(path).await, judge_removal),
        }
    }

    pub(crate) fn attributes(&self, content: &Content<'_>, sha256: &str) -> Attributes {
        if !self.backend.has_attributes() {
            return Attributes::new();
        }
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, content.content_type.into());
        attributes.insert(Attribute::Metadata("sha256".into()), sha256.to_owned().into());
        for (name, value) in content.attributes {
            attributes.insert(Attribute::Metadata((*name).into()), (*value).to_owned().into());
        }
        attributes
    }

    pub(crate) fn folder_path(&self, folder: &Folder) -> Result<Path, StoreError> {
        let prefix = match &self.backend {
            Backend::File(_) => "",
            Backend::S3(_) | Backend::Gs(_) | Backend::Az(_) => self.location.prefix(),
        };
        Path::parse(format!("{prefix}/{folder}").trim_start_matches('/')).map_err(|_| StoreError::Refused)
    }

    pub(crate) fn path(&self, folder: &Folder, key: &ObjectKey) -> Result<Path, StoreError> {
        Ok(self.folder_path(folder)?.join(key.as_str()))
    }

    /// One request and its answer; a lost one may have been received.
    pub(crate) async fn limited<T>(
        &self,
        request: impl Future<Output = Result<T, Answer>>,
    ) -> Result<T, Answer> {
        timeout(self.patience.request, request)
            .await
            .unwrap_or(Err(Answer::Unknown(NoResponse::TimedOut.into())))
    }
}

/// What came of a removal. That something is left of it comes as an error: see [`StoreHttp`](super::http::StoreHttp).
fn removal<E: StdError + 'static>(
    removed: Result<(), E>,
    judge: impl Fn(&E) -> Answer,
) -> Result<Removal, Answer> {
    match removed {
        Ok(()) => Ok(Removal::Removed),
        Err(error) if is_versioned(&error) => Ok(Removal::Versioned),
        Err(error) => Err(judge(&error)),
    }
}

/// Asks for an object of at most that many bytes.
fn get(bytes: usize) -> GetOptions {
    let mut options = GetOptions::default();
    options.extensions.insert(AtMost(bytes));
    options
}

/// Removes a blob by a request of its own: the library only knows Azure's batches, whose errors do not tell a policy
/// from an outage.
async fn delete_blob(azure: &Azure, path: &Path) -> Result<Removal, Answer> {
    let credential = azure.store.credentials().get_credential().await;
    let credential = credential.map_err(|error| judge_removal(&error))?;
    let mut request = http::Request::builder()
        .method(Method::DELETE)
        .uri(format!("{}/{path}", azure.container))
        .header("content-length", 0)
        .body(HttpRequestBody::empty())
        .map_err(|_| Answer::Trouble(StoreError::Refused))?;
    AzureAuthorizer::new(&credential, &azure.account)
        .try_authorize(&mut request)
        .map_err(|error| judge(&error))?;
    removal(azure.http.execute(request).await.map(drop), judge_http_removal)
}
