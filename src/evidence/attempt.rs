//! One attempt at each thing that is done to a store: one request, and its answer.

use std::{collections::BTreeSet, io, path::PathBuf};

use bytes::Bytes;
use futures::TryStreamExt;
use http::Method;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    azure::AzureAuthorizer, client::HttpRequestBody, path::Path,
};
use sha2::{Digest, Sha256};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    files,
    manifest::hex,
    open::{Azure, Backend},
    path::{Folder, ObjectKey},
    store::{Content, Store},
    trouble::{Answer, StoreTrouble, judge, judge_file, judge_http},
};

/// Most keys that are read of one folder at a time.
pub(super) const MAX_KEYS: usize = 64;

/// What is in the store, compared with what is to be.
pub(super) enum Comparison {
    Same,
    Different,
    Missing,
}

impl Store {
    pub(super) async fn put_once(
        &self,
        path: &Path,
        bytes: Bytes,
        attributes: Attributes,
    ) -> Result<(), Answer> {
        self.limited(async {
            let store = self.backend.store()?;
            if let Backend::File(root) = &self.backend {
                let (root, object) = (root.clone(), PathBuf::from(path.as_ref()));
                return on_disk(move || files::create(&root, &object, &bytes)).await;
            }
            let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
            let put = store.put_opts(path, PutPayload::from(bytes), options).await;
            put.map(|_| ()).map_err(|error| judge(&error))
        })
        .await
    }

    /// Reads what is there, as far as it can be the same.
    pub(super) async fn compare(&self, path: &Path, size: u64, sha256: &str) -> Result<Comparison, Answer> {
        let compared = self.limited(async {
            let found = self
                .backend
                .store()?
                .get_opts(path, GetOptions::default())
                .await
                .map_err(|error| judge(&error))?;
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

    pub(super) async fn read_once(&self, path: &Path, limit: usize) -> Result<Option<Bytes>, Answer> {
        let found = self
            .backend
            .store()?
            .get_opts(path, GetOptions::default())
            .await
            .map_err(|error| judge(&error))?;
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

    /// Of a local folder also the keys of what was never finished, so that it is removed with the rest.
    pub(super) async fn keys_once(&self, folder: &Path) -> Result<Vec<ObjectKey>, Answer> {
        let store = self.backend.store()?;
        let mut keys = BTreeSet::new();
        if let Backend::File(root) = &self.backend {
            let (root, folder) = (root.clone(), PathBuf::from(folder.as_ref()));
            let names = on_disk(move || files::names(&root, &folder)).await?;
            keys.extend(names.iter().filter_map(|name| ObjectKey::parse(name).ok()));
        } else {
            let mut found = store.list(Some(folder));
            while keys.len() < MAX_KEYS
                && let Some(object) = found.try_next().await.map_err(|error| judge(&error))?
            {
                let below = object.location.as_ref().strip_prefix(folder.as_ref());
                keys.extend(
                    below.and_then(|key| key.strip_prefix('/')).and_then(|key| ObjectKey::parse(key).ok()),
                );
            }
        }
        Ok(keys.into_iter().take(MAX_KEYS).collect())
    }

    pub(super) async fn delete_once(&self, path: &Path) -> Result<(), Answer> {
        let store = self.backend.store()?;
        match &self.backend {
            Backend::Az(azure) => delete_blob(azure, path).await,
            Backend::File(root) => {
                let file = root.join(path.as_ref());
                on_disk(move || files::remove(&file)).await
            }
            Backend::S3(_) | Backend::Gs(_) => store.delete(path).await.map_err(|error| judge(&error)),
        }
    }

    pub(super) fn attributes(&self, content: &Content<'_>, sha256: &str) -> Attributes {
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

    /// Removes what a killed process has left of this object.
    pub(super) async fn sweep(&self, path: &Path) -> Result<(), StoreTrouble> {
        let Some(file) = self.file(path) else { return Ok(()) };
        on_disk(move || files::sweep(&file)).await.map_err(|answer| match answer {
            Answer::Trouble(trouble) => trouble,
            Answer::Exists | Answer::NotFound | Answer::NotSent | Answer::Unknown => {
                StoreTrouble::Unavailable
            }
        })
    }

    /// The file or folder of a path, if this store is a folder.
    fn file(&self, path: &Path) -> Option<PathBuf> {
        match &self.backend {
            Backend::File(root) => Some(root.join(path.as_ref())),
            Backend::S3(_) | Backend::Gs(_) | Backend::Az(_) => None,
        }
    }

    pub(super) fn folder_path(&self, folder: &Folder) -> Result<Path, StoreTrouble> {
        let prefix = match &self.backend {
            Backend::File(_) => "",
            Backend::S3(_) | Backend::Gs(_) | Backend::Az(_) => self.location.prefix(),
        };
        Path::parse(format!("{prefix}/{folder}").trim_start_matches('/')).map_err(|_| StoreTrouble::Refused)
    }

    pub(super) fn path(&self, folder: &Folder, key: &ObjectKey) -> Result<Path, StoreTrouble> {
        Ok(self.folder_path(folder)?.join(key.as_str()))
    }

    /// One request and its answer; a lost one may have been received.
    pub(super) async fn limited<T>(
        &self,
        request: impl Future<Output = Result<T, Answer>>,
    ) -> Result<T, Answer> {
        timeout(self.patience.request, request).await.unwrap_or(Err(Answer::Unknown))
    }
}

/// Removes a blob by a request of its own: the library only knows Azure's batches, whose errors do not tell a policy
/// from an outage.
async fn delete_blob(azure: &Azure, path: &Path) -> Result<(), Answer> {
    let credential = azure.store.credentials().get_credential().await.map_err(|error| judge(&error))?;
    let mut request = http::Request::builder()
        .method(Method::DELETE)
        .uri(format!("{}/{path}", azure.container))
        .header("content-length", 0)
        .body(HttpRequestBody::empty())
        .map_err(|_| Answer::Trouble(StoreTrouble::Refused))?;
    AzureAuthorizer::new(&credential, &azure.account)
        .try_authorize(&mut request)
        .map_err(|error| judge(&error))?;
    azure.http.execute(request).await.map(|_| ()).map_err(|error| judge_http(&error))
}

/// Does something with files where nothing else waits for it.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Answer> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| judge_file(&error)),
        Err(_) => Err(Answer::Unknown),
    }
}
