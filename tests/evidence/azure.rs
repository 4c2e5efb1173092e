//! What holds for Azure only.

use okid_operator::store::{Removal, StoreError};

use crate::harness::{Place, key, of, put, shared_access_signature, stored_bytes};

#[tokio::test]
async fn permission_to_create_and_read_is_enough_for_storing() {
    let Some(place) = Place::azure().await else { return };
    let signature = ("azure_storage_sas_token", shared_access_signature("rc"));
    let store = place.store_with("azure_storage_account_key", signature);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(put(&store, b"abd").await, Err(StoreError::Conflict));
    let removals = store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert_eq!(removals, [(key("front-original.jpg"), Removal::Kept)]);
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
}

#[tokio::test]
async fn permission_to_create_alone_stores_once_and_is_denied_the_second_time() {
    let Some(place) = Place::azure().await else { return };
    let signature = ("azure_storage_sas_token", shared_access_signature("c"));
    let store = place.store_with("azure_storage_account_key", signature);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(put(&store, b"abc").await, Err(StoreError::AccessDenied));
}

#[tokio::test]
async fn permission_to_create_read_list_and_delete_is_enough_for_removing() {
    let Some(place) = Place::azure().await else { return };
    let signature = ("azure_storage_sas_token", shared_access_signature("rcdl"));
    let store = place.store_with("azure_storage_account_key", signature);
    put(&store, b"abc").await.unwrap();
    let keys = store.keys(&of("team-a")).await.unwrap();
    let removals = store.delete(&of("team-a"), &keys).await.unwrap();
    assert_eq!(removals, [(key("front-original.jpg"), Removal::Removed)]);
    assert_eq!(stored_bytes(&store).await, None);
}
