//! Faults of a store while objects are removed from it.

use std::time::Duration;

use http::Method;
use okid_operator::store::{Cleared, NoResponse, Remainder, Removal, StoreError};

use crate::{
    faults::{BUSY, DENIED, EXPIRED},
    harness::{Fault, TestStore, key, of, put, put_as, stored_bytes},
    invariants::on,
};

on!(s3:
    a_store_that_removed_some_objects_is_not_unresponsive,
    an_object_that_the_store_retains_is_reported,
    retained_objects_end_the_clearing_of_a_folder,
    an_object_with_a_retained_version_does_not_count_as_removed,
    known_objects_are_removed_without_permission_to_list,
    a_removal_survives_temporary_errors,
    a_404_of_another_server_says_nothing_about_the_objects,
    a_gateways_refusal_of_a_removal_is_not_the_stores,
);
on!(google:
    an_object_that_the_store_retains_is_reported,
    retained_objects_end_the_clearing_of_a_folder,
    known_objects_are_removed_without_permission_to_list,
    a_removal_survives_temporary_errors,
    a_404_of_another_server_says_nothing_about_the_objects,
    a_gateways_refusal_of_a_removal_is_not_the_stores,
);
on!(azure:
    an_object_that_the_store_retains_is_reported,
    retained_objects_end_the_clearing_of_a_folder,
    an_object_with_a_retained_version_does_not_count_as_removed,
    known_objects_are_removed_without_permission_to_list,
    a_removal_survives_temporary_errors,
    a_404_of_another_server_says_nothing_about_the_objects,
    a_gateways_refusal_of_a_removal_is_not_the_stores,
);

async fn an_object_that_the_store_retains_is_reported(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    for (status, body) in [(403, DENIED), (409, "<Error><Code>BlobImmutableDueToPolicy</Code></Error>")] {
        test_store.proxy().next([Fault::Answer(status, body)]);
        let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
        assert_eq!(removal, [(key("front-original.jpg"), Removal::Retained)], "{status}");
    }
    test_store.proxy().next([Fault::Answer(400, EXPIRED)]);
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
    assert_eq!(removal, Err(StoreError::CredentialsRefused));
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
}

async fn retained_objects_end_the_clearing_of_a_folder(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    test_store.proxy().whenever(Method::DELETE, Fault::Answer(403, DENIED));
    let both = vec![key("front-original.jpg"), key("manifest.json")];
    let retained = Cleared { retained: both, ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(retained));
    // The store reports success but does not remove them.
    test_store.proxy().whenever(Method::DELETE, Fault::Answer(204, ""));
    let listed = Cleared { remainder: Remainder::Listed, ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(listed));
    test_store.proxy().heal();
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(Cleared::default()));
    assert_eq!(stored_bytes(&store).await, None);
}

async fn known_objects_are_removed_without_permission_to_list(test_store: TestStore) {
    let store = test_store.store();
    for name in ["front-original.jpg", "details.json", "manifest.json", "back-original.jpg"] {
        put_as(&store, name, b"abc").await.unwrap();
    }
    test_store.proxy().whenever(Method::GET, Fault::Answer(403, DENIED));
    let known = ["front-original.jpg", "details.json", "manifest.json"].map(key);
    let unlisted = Cleared { remainder: Remainder::Unlisted, ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &known).await, Ok(unlisted));
    let passed = test_store.proxy().passed();
    let removed = passed.iter().filter(|passed| passed.method == Method::DELETE);
    let names: Vec<_> = removed.map(|passed| passed.path.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(names[0], "manifest.json", "nothing says any longer that the evidence is complete");
    assert_eq!(names.len(), 3);
    test_store.proxy().heal();
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("back-original.jpg")]));
}

async fn an_object_with_a_retained_version_does_not_count_as_removed(test_store: TestStore) {
    let (name, value) = match test_store.url().split_once("://").unwrap().0 {
        "s3" => ("x-amz-delete-marker", "true"),
        _ => ("x-ms-delete-type-permanent", "false"),
    };
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    test_store.proxy().whenever(Method::DELETE, Fault::Add(name, value));
    let versioned = Cleared { versioned: vec![key("front-original.jpg")], ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(versioned));
    assert_eq!(stored_bytes(&store).await, None, "it no longer exists under its key");
    test_store.proxy().heal();
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(Cleared::default()));
}

async fn a_removal_survives_temporary_errors(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    test_store.proxy().next([Fault::Answer(503, BUSY), Fault::ResetInstead]);
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert_eq!(removal, [(key("front-original.jpg"), Removal::Removed)]);
    assert_eq!(stored_bytes(&store).await, None);
    test_store.proxy().always(Fault::Answer(503, BUSY));
    let before = test_store.proxy().arrived();
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
    assert_eq!(removal, Err(StoreError::NoResponse(NoResponse::OutOfOrder)));
    assert_eq!(test_store.proxy().arrived() - before, 3);
}

async fn a_404_of_another_server_says_nothing_about_the_objects(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    // As from a load balancer without a backend.
    for page in ["", "default backend - 404", "<html><body>404 Not Found</body></html>"] {
        test_store.proxy().always(Fault::Answer(404, page));
        assert_eq!(
            store.keys(&of("team-a")).await,
            Err(StoreError::NoResponse(NoResponse::Unusable)),
            "{page}"
        );
        let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
        assert_eq!(removal, Err(StoreError::NoResponse(NoResponse::Unusable)), "{page}");
        let read = store.read(&of("team-a"), &key("front-original.jpg"), 9).await;
        assert_eq!(read, Err(StoreError::NoResponse(NoResponse::Unusable)), "{page}");
        assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::Unusable)), "{page}");
    }
    test_store.proxy().heal();
    test_store.proxy().next([Fault::Answer(404, "")]);
    let keys = store.keys(&of("team-a")).await.unwrap();
    test_store.proxy().next([Fault::Answer(404, "")]);
    let removals = store.delete(&of("team-a"), &keys).await.unwrap();
    assert_eq!(removals, [(key("front-original.jpg"), Removal::Removed)]);
    assert_eq!(stored_bytes(&store).await, None);
}

async fn a_gateways_refusal_of_a_removal_is_not_the_stores(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    let unusable = StoreError::NoResponse(NoResponse::Unusable);
    for status in [403, 409, 412] {
        for page in ["", "<html><body>canary</body></html>", r#"{"error": "forbidden"}"#] {
            test_store.proxy().always(Fault::Answer(status, page));
            let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
            assert_eq!(removal, Err(unusable), "{status} {page}");
            assert_eq!(store.keys(&of("team-a")).await, Err(unusable), "{status} {page}");
        }
    }
    test_store.proxy().heal();
    test_store.proxy().next([Fault::Answer(403, "")]);
    assert_eq!(store.clear(&of("team-a"), &[key("front-original.jpg")]).await, Ok(Cleared::default()));
    assert_eq!(stored_bytes(&store).await, None);
}

async fn a_store_that_removed_some_objects_is_not_unresponsive(test_store: TestStore) {
    let store = test_store.store();
    let known = ["manifest.json", "front-original.jpg"].map(key);
    let listed = Cleared { remainder: Remainder::Listed, ..Cleared::default() };
    let folder = of("team-a");
    let minute = Duration::from_mins(1);
    for (fault, end) in [
        (Fault::Answer(503, BUSY), Ok(listed)),
        (Fault::Answer(400, EXPIRED), Err(StoreError::CredentialsRefused)),
    ] {
        put_as(&store, "manifest.json", b"{}").await.unwrap();
        test_store.proxy().next([Fault::Pass]);
        test_store.proxy().always(fault);
        assert_eq!(store.clear_within(&folder, &known, minute).await, end);
        test_store.proxy().heal();
    }
    test_store.proxy().always(Fault::Hang);
    let silent = store.clear_within(&folder, &known, Duration::from_millis(100)).await;
    assert_eq!(silent, Err(NoResponse::TimedOut.into()));
}
