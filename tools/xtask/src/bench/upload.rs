//! A plain upload loop: what the operator's uploads are compared with. Touches the loopback interface.
//!
//! It does what nobody can do without: the same objects with the same attributes to the same server, created only where
//! nothing is, as many at once, each manifest after its images. Its bytes are in memory already; nobody is asked for
//! them, and nothing else is done with them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, PutMode, PutOptions, PutPayload};
use okid_operator::evidence::OPERATOR;
use rand::Rng as _;

use super::store::{ACCESS_KEY, SECRET_KEY};

/// About what a manifest of four images has.
const MANIFEST_BYTES: usize = 1_500;

/// What is uploaded.
pub(super) struct Load {
    pub(super) server: String,
    pub(super) bucket: String,
    /// How many folders.
    pub(super) folders: u32,
    /// Images in each.
    pub(super) images: u32,
    /// Bytes of each.
    pub(super) image_bytes: usize,
    /// Images that are under way at once.
    pub(super) at_once: usize,
}

/// Uploads everything.
pub(super) async fn upload(load: Load) -> Result<()> {
    let Load { server, bucket, folders, images, image_bytes, at_once } = load;
    let store = AmazonS3Builder::new()
        .with_endpoint(server)
        .with_allow_http(true)
        .with_bucket_name(&bucket)
        .with_region("eu-central-1")
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .build()
        .context("open the store")?;
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    // As many as are under way: one alone would never leave the processor's cache, as no real upload's bytes do.
    let pictures: Arc<[Bytes]> = (0..at_once).map(|_| random(image_bytes)).collect();
    let manifest = random(MANIFEST_BYTES);
    let images_at_once = usize::try_from(images).context("count images")?;
    stream::iter(0..folders)
        .map(|folder| {
            let (store, pictures, manifest) = (Arc::clone(&store), Arc::clone(&pictures), manifest.clone());
            let work = async move {
                stream::iter(0..images)
                    .map(|number| {
                        let image = pictures[(folder * images + number) as usize % pictures.len()].clone();
                        create(&store, format!("kyc/{folder}/{number}.jpg"), ("front", "image/jpeg"), image)
                    })
                    .buffer_unordered(images_at_once)
                    .try_collect::<()>()
                    .await?;
                create(
                    &store,
                    format!("kyc/{folder}/manifest.json"),
                    ("manifest", "application/json"),
                    manifest,
                )
                .await
            };
            // On both threads.
            async { tokio::spawn(work).await.context("upload")? }
        })
        .buffer_unordered(at_once.div_ceil(images_at_once.max(1)))
        .try_collect()
        .await
}

async fn create(
    store: &Arc<dyn ObjectStore>,
    path: String,
    (kind, content_type): (&str, &str),
    bytes: Bytes,
) -> Result<()> {
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, content_type.to_owned()),
        (Attribute::Metadata("sha256".into()), "0".repeat(64)),
        (Attribute::Metadata("kind".into()), kind.to_owned()),
        (Attribute::Metadata("operator".into()), OPERATOR.to_owned()),
    ]);
    let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
    store.put_opts(&Path::from(path), PutPayload::from(bytes), options).await.context("put an object")?;
    Ok(())
}

fn random(bytes: usize) -> Bytes {
    let mut random = vec![0; bytes];
    rand::rng().fill_bytes(&mut random);
    random.into()
}
