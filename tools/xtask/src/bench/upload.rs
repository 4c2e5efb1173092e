//! A plain upload loop, the baseline for the operator's uploads. Connects to the loopback interface.
//!
//! It does only what is indispensable: it creates the same objects with the same attributes at the same server, if they do
//! not exist yet, with the same concurrency, each manifest after its images. Its bytes are in memory from the start, and it
//! does nothing else with them.

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

/// The approximate size of a manifest of four images.
const MANIFEST_BYTES: usize = 1_500;

/// What to upload.
pub(super) struct Load {
    pub(super) server: String,
    pub(super) bucket: String,
    /// Number of folders.
    pub(super) folders: u32,
    /// Images in each folder.
    pub(super) images: u32,
    /// Size of each image in bytes.
    pub(super) image_bytes: usize,
    /// Images that are uploaded concurrently.
    pub(super) concurrency: usize,
}

/// Uploads everything.
pub(super) async fn upload(load: Load) -> Result<()> {
    let Load { server, bucket, folders, images, image_bytes, concurrency } = load;
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
    // As many as are uploaded concurrently. A single one would stay in the CPU cache, unlike the bytes of real uploads.
    let bodies: Arc<[Bytes]> = (0..concurrency).map(|_| random(image_bytes)).collect();
    let manifest = random(MANIFEST_BYTES);
    let images_at_once = usize::try_from(images).context("count images")?;
    stream::iter(0..folders)
        .map(|folder| {
            let (store, bodies, manifest) = (Arc::clone(&store), Arc::clone(&bodies), manifest.clone());
            let work = async move {
                stream::iter(0..images)
                    .map(|number| {
                        let image = bodies[(folder * images + number) as usize % bodies.len()].clone();
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
            // A task of its own, so that both threads are used.
            async { tokio::spawn(work).await.context("upload")? }
        })
        .buffer_unordered(concurrency.div_ceil(images_at_once.max(1)))
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
