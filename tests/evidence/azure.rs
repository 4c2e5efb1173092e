//! Permissions of shared access signatures, which only Azure has.

use okid_operator::store::{Removal, StoreError};

use crate::harness::{TestStore, key, of, put, shared_access_signature, stored_bytes};

#[tokio::test]
async fn permission_to_create_and_read_is_enough_to_store() {
    let Some(test_store) = TestStore::azure().await else { return };
    let signature = ("azure_storage_sas_token", shared_access_signature("rc"));
    let store = test_store.store_with("azure_storage_account_key", signature);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(put(&store, b"abd").await, Err(StoreError::Conflict));
    let removals = store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert_eq!(removals, [(key("front-original.jpg"), Removal::Retained)]);
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
}

#[tokio::test]
async fn permission_to_create_stores_once_and_is_denied_the_second_time() {
    let Some(test_store) = TestStore::azure().await else { return };
    let signature = ("azure_storage_sas_token", shared_access_signature("c"));
    let store = test_store.store_with("azure_storage_account_key", signature);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(put(&store, b"abc").await, Err(StoreError::AccessDenied));
}

#[tokio::test]
async fn permission_to_create_read_list_and_delete_is_enough_to_remove() {
    let Some(test_store) = TestStore::azure().await else { return };
    let signature = ("azure_storage_sas_token", shared_access_signature("rcdl"));
    let store = test_store.store_with("azure_storage_account_key", signature);
    put(&store, b"abc").await.unwrap();
    let keys = store.keys(&of("team-a")).await.unwrap();
    let removals = store.delete(&of("team-a"), &keys).await.unwrap();
    assert_eq!(removals, [(key("front-original.jpg"), Removal::Removed)]);
    assert_eq!(stored_bytes(&store).await, None);
}
