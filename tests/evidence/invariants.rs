//! Invariants of every kind of store.

use std::collections::HashSet;

use futures::future::join_all;
use http::Method;
use okid_operator::store::{Cleared, Digested, Metadata, PROOF, Removal, StoreError};

use crate::harness::{TestStore, key, of, put, put_as, put_in, stored_bytes};

macro_rules! on {
    ($store:ident: $($invariant:ident),+ $(,)?) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $invariant() {
                    if let Some(test_store) = $crate::harness::TestStore::$store().await {
                        super::$invariant(test_store).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use on;

/// Tests the invariants of every store, and some that not all have.
macro_rules! invariants {
    ($store:ident: $($own:ident),+ $(,)?) => {
        on!($store:
            an_object_is_stored_once_and_counts_as_stored_afterwards,
            other_bytes_are_a_conflict_and_never_overwrite,
            a_removed_object_is_gone_and_may_be_removed_again,
            an_object_that_is_found_has_its_proof,
            a_folder_lists_its_own_keys_only,
            a_folder_of_any_size_is_cleared_and_no_other_one,
            $($own),+
        );
    };
}

// s3s-fs creates missing buckets, and reads before it writes: see `faults` for a missing bucket; several of many writers may
// succeed there.
invariants!(s3: content_type_and_attributes_are_stored, an_image_of_25_mib_is_stored);
invariants!(google:
    a_missing_bucket_is_reported,
    content_type_and_attributes_are_stored,
    one_of_many_writers_wins,
);
invariants!(azure:
    a_missing_bucket_is_reported,
    content_type_and_attributes_are_stored,
    one_of_many_writers_wins,
);
invariants!(folder:
    a_missing_bucket_is_reported,
    one_of_many_writers_wins,
    an_image_of_25_mib_is_stored,
);

async fn an_object_is_stored_once_and_counts_as_stored_afterwards(test_store: TestStore) {
    let store = test_store.store();
    let first = put(&store, b"abc").await.unwrap();
    assert!(!first.already_existed);
    assert_eq!(first.size, 3);
    assert_eq!(first.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    // As after a crash: another process, which knows nothing of the first.
    let again = put(&test_store.store(), b"abc").await.unwrap();
    assert!(again.already_existed);
    assert_eq!(again.sha256, first.sha256);
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
}

async fn other_bytes_are_a_conflict_and_never_overwrite(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    for other in [&b"abd"[..], b"abcd", b""] {
        assert_eq!(put(&store, other).await, Err(StoreError::Conflict), "{other:?}");
    }
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
    assert_eq!(store.read(&of("team-a"), &key("front-original.jpg"), 2).await, Err(StoreError::Conflict));
}

async fn a_removed_object_is_gone_and_may_be_removed_again(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    let keys = [key("manifest.json"), key("front-original.jpg"), key("back-original.jpg")];
    for _ in 0..2 {
        let removals = store.delete(&of("team-a"), &keys).await.unwrap();
        assert_eq!(removals, keys.clone().map(|key| (key, Removal::Removed)));
        assert_eq!(stored_bytes(&store).await, None);
    }
    assert!(!put(&store, b"other").await.unwrap().already_existed);
}

async fn a_folder_lists_its_own_keys_only(test_store: TestStore) {
    let store = test_store.store();
    put_in(&store, &of("team-a2"), "back-original.png", b"abc").await.unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Ok(Vec::new()));
    put(&store, b"abc").await.unwrap();
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("front-original.jpg"), key("manifest.json")]));
}

async fn a_folder_of_any_size_is_cleared_and_no_other_one(test_store: TestStore) {
    let store = test_store.store();
    put_in(&store, &of("team-a2"), "back-original.png", b"abc").await.unwrap();
    // More than one listing returns, with the manifest last.
    for number in 0..70 {
        put_as(&store, &format!("back-original-{number}.jpg"), b"abc").await.unwrap();
    }
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(Cleared::default()));
        assert_eq!(store.keys(&of("team-a")).await, Ok(Vec::new()));
    }
    assert_eq!(store.keys(&of("team-a2")).await, Ok(vec![key("back-original.png")]));
    if test_store.has_proxy() {
        let passed = test_store.proxy().passed();
        let deleted: Vec<_> = passed.iter().filter(|passed| passed.method == Method::DELETE).collect();
        assert_eq!(deleted.len(), 71);
        assert!(deleted[0].path.ends_with("/manifest.json"), "nothing says any more that it is complete");
    }
}

async fn a_missing_bucket_is_reported(test_store: TestStore) {
    let store = test_store.store_at(&test_store.url().replace("evidence", "elsewhere"));
    assert_eq!(put(&store, b"abc").await, Err(StoreError::BucketMissing));
    if test_store.has_proxy() {
        assert_eq!(test_store.proxy().arrived(), 1, "and is not asked for twice");
    }
    assert_eq!(store.keys(&of("team-a")).await, Err(StoreError::BucketMissing));
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
    assert_eq!(removal, Err(StoreError::BucketMissing));
}

async fn content_type_and_attributes_are_stored(test_store: TestStore) {
    let store = test_store.store();
    let sha256 = put(&store, b"abc").await.unwrap().sha256;
    stored_bytes(&store).await.unwrap();
    let passed = test_store.proxy().passed();
    let answer = &passed.iter().find(|passed| passed.method == Method::GET).unwrap().answer;
    let meta = ["x-amz-meta-", "x-goog-meta-", "x-ms-meta-"];
    let stored = |name: &str| meta.iter().find_map(|prefix| answer.get(format!("{prefix}{name}")));
    assert_eq!(answer["content-type"], "image/jpeg");
    assert_eq!(stored("sha256").unwrap(), &sha256);
    assert_eq!(stored("kind").unwrap(), "Front");
    let path = "/kyc/team-a/customer/0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10/front-original.jpg";
    assert!(passed.iter().all(|passed| passed.path.ends_with(path)), "{passed:?}");
}

async fn an_object_that_is_found_has_its_proof(test_store: TestStore) {
    let (store, folder, key) = (test_store.store(), of("team-a"), key("details.json"));
    assert_eq!(store.find(&folder, &key, 3).await, Ok(None));
    let digested = Digested::of("abc".into()).await.unwrap();
    let attributes = [("kind", "results"), (PROOF, "0a1b")];
    let metadata = Metadata { content_type: "application/json", attributes: &attributes };
    store.put(&folder, &key, &digested, metadata).await.unwrap();
    let whole = store.find(&folder, &key, 3).await.unwrap().unwrap();
    assert_eq!((whole.size, whole.sha256.as_str()), (3, digested.sha256()));
    // A folder has no attributes, so it has no proofs.
    let has_attributes = store.has_attributes();
    assert_eq!(whole.proof.as_deref(), has_attributes.then_some("0a1b"));
    assert_eq!(whole.bytes, has_attributes.then(|| "abc".into()));
    assert_eq!(store.find(&folder, &key, 2).await.unwrap().unwrap().bytes, None);
}

async fn one_of_many_writers_wins(test_store: TestStore) {
    let store = test_store.store();
    let bytes: Vec<_> = (0..8_u8).map(|writer| vec![writer; 1000]).collect();
    let puts = join_all(bytes.iter().map(|bytes| put(&store, bytes))).await;
    let winners: Vec<_> = puts.iter().flatten().map(|put| put.sha256.clone()).collect();
    assert_eq!(winners.len(), 1, "{puts:?}");
    let troubles: HashSet<_> = puts.iter().filter_map(|put| put.clone().err()).collect();
    assert_eq!(troubles, HashSet::from([StoreError::Conflict]));
    assert!(bytes.contains(&stored_bytes(&store).await.unwrap()));
}

async fn an_image_of_25_mib_is_stored(test_store: TestStore) {
    let store = test_store.store();
    let bytes = vec![7; 25 << 20];
    assert!(!put(&store, &bytes).await.unwrap().already_existed);
    assert!(put(&store, &bytes).await.unwrap().already_existed);
    assert_eq!(stored_bytes(&store).await, Some(bytes));
}
