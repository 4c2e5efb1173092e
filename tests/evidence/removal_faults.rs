//! What is done to a store while objects are removed from it, and what must come of it.

use std::time::Duration;

use http::Method;
use okid_operator::store::{Cleared, NoResponse, Remainder, Removal, StoreError};

use crate::{
    faults::{BUSY, DENIED, EXPIRED},
    harness::{Fault, Place, key, of, put, put_as, stored_bytes},
    invariants::on,
};

on!(s3:
    a_store_that_removed_something_is_not_silent_when_it_leaves_the_rest,
    an_object_that_the_store_keeps_is_said,
    what_the_store_keeps_ends_the_emptying_of_a_folder,
    what_the_store_keeps_as_an_older_version_is_not_told_as_removed,
    what_is_known_is_removed_by_whoever_may_not_list,
    a_removal_survives_trouble_that_passes,
    a_404_of_another_server_says_nothing_about_what_is_there,
    a_gateways_refusal_of_a_removal_is_no_answer_of_the_store,
);
on!(google:
    an_object_that_the_store_keeps_is_said,
    what_the_store_keeps_ends_the_emptying_of_a_folder,
    what_is_known_is_removed_by_whoever_may_not_list,
    a_removal_survives_trouble_that_passes,
    a_404_of_another_server_says_nothing_about_what_is_there,
    a_gateways_refusal_of_a_removal_is_no_answer_of_the_store,
);
on!(azure:
    an_object_that_the_store_keeps_is_said,
    what_the_store_keeps_ends_the_emptying_of_a_folder,
    what_the_store_keeps_as_an_older_version_is_not_told_as_removed,
    what_is_known_is_removed_by_whoever_may_not_list,
    a_removal_survives_trouble_that_passes,
    a_404_of_another_server_says_nothing_about_what_is_there,
    a_gateways_refusal_of_a_removal_is_no_answer_of_the_store,
);

async fn an_object_that_the_store_keeps_is_said(place: Place) {
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    for (status, body) in [(403, DENIED), (409, "<Error><Code>BlobImmutableDueToPolicy</Code></Error>")] {
        place.proxy().next([Fault::Answer(status, body)]);
        let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
        assert_eq!(removal, [(key("front-original.jpg"), Removal::Kept)], "{status}");
    }
    place.proxy().next([Fault::Answer(400, EXPIRED)]);
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
    assert_eq!(removal, Err(StoreError::CredentialsRefused));
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
}

async fn what_the_store_keeps_ends_the_emptying_of_a_folder(place: Place) {
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    put_as(&store, "manifest.json", b"{}").await.unwrap();
    place.proxy().whenever(Method::DELETE, Fault::Answer(403, DENIED));
    let both = vec![key("front-original.jpg"), key("manifest.json")];
    let kept = Cleared { kept: both, ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(kept));
    // It says that it has done it, and has not.
    place.proxy().whenever(Method::DELETE, Fault::Answer(204, ""));
    let listed = Cleared { remainder: Remainder::Listed, ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(listed));
    place.proxy().heal();
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(Cleared::default()));
    assert_eq!(stored_bytes(&store).await, None);
}

async fn what_is_known_is_removed_by_whoever_may_not_list(place: Place) {
    let store = place.store();
    for name in ["front-original.jpg", "details.json", "manifest.json", "back-original.jpg"] {
        put_as(&store, name, b"abc").await.unwrap();
    }
    place.proxy().whenever(Method::GET, Fault::Answer(403, DENIED));
    let known = ["front-original.jpg", "details.json", "manifest.json"].map(key);
    let unlisted = Cleared { remainder: Remainder::Unlisted, ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &known).await, Ok(unlisted));
    let passed = place.proxy().passed();
    let removed = passed.iter().filter(|passed| passed.method == Method::DELETE);
    let names: Vec<_> = removed.map(|passed| passed.path.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(names[0], "manifest.json", "nothing says any more that it is complete");
    assert_eq!(names.len(), 3);
    place.proxy().heal();
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("back-original.jpg")]));
}

async fn what_the_store_keeps_as_an_older_version_is_not_told_as_removed(place: Place) {
    let (name, value) = match place.url().split_once("://").unwrap().0 {
        "s3" => ("x-amz-delete-marker", "true"),
        _ => ("x-ms-delete-type-permanent", "false"),
    };
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    place.proxy().whenever(Method::DELETE, Fault::Add(name, value));
    let versioned = Cleared { versioned: vec![key("front-original.jpg")], ..Cleared::default() };
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(versioned));
    assert_eq!(stored_bytes(&store).await, None, "it is gone by its name");
    place.proxy().heal();
    assert_eq!(store.clear(&of("team-a"), &[]).await, Ok(Cleared::default()));
}

async fn a_removal_survives_trouble_that_passes(place: Place) {
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    place.proxy().next([Fault::Answer(503, BUSY), Fault::ResetInstead]);
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await.unwrap();
    assert_eq!(removal, [(key("front-original.jpg"), Removal::Removed)]);
    assert_eq!(stored_bytes(&store).await, None);
    place.proxy().always(Fault::Answer(503, BUSY));
    let before = place.proxy().arrived();
    let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
    assert_eq!(removal, Err(StoreError::NoResponse(NoResponse::OutOfOrder)));
    assert_eq!(place.proxy().arrived() - before, 3);
}

async fn a_404_of_another_server_says_nothing_about_what_is_there(place: Place) {
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    // As a load balancer says it that has nobody to pass a request to.
    for page in ["", "default backend - 404", "<html><body>404 Not Found</body></html>"] {
        place.proxy().always(Fault::Answer(404, page));
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
    place.proxy().heal();
    place.proxy().next([Fault::Answer(404, "")]);
    let keys = store.keys(&of("team-a")).await.unwrap();
    place.proxy().next([Fault::Answer(404, "")]);
    let removals = store.delete(&of("team-a"), &keys).await.unwrap();
    assert_eq!(removals, [(key("front-original.jpg"), Removal::Removed)]);
    assert_eq!(stored_bytes(&store).await, None);
}

async fn a_gateways_refusal_of_a_removal_is_no_answer_of_the_store(place: Place) {
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    let unusable = StoreError::NoResponse(NoResponse::Unusable);
    for status in [403, 409, 412] {
        for page in ["", "<html><body>canary</body></html>", r#"{"error": "forbidden"}"#] {
            place.proxy().always(Fault::Answer(status, page));
            let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
            assert_eq!(removal, Err(unusable), "{status} {page}");
            assert_eq!(store.keys(&of("team-a")).await, Err(unusable), "{status} {page}");
        }
    }
    place.proxy().heal();
    place.proxy().next([Fault::Answer(403, "")]);
    assert_eq!(store.clear(&of("team-a"), &[key("front-original.jpg")]).await, Ok(Cleared::default()));
    assert_eq!(stored_bytes(&store).await, None);
}

async fn a_store_that_removed_something_is_not_silent_when_it_leaves_the_rest(place: Place) {
    let store = place.store();
    let known = ["manifest.json", "front-original.jpg"].map(key);
    let listed = Cleared { remainder: Remainder::Listed, ..Cleared::default() };
    let folder = of("team-a");
    let minute = Duration::from_mins(1);
    for (fault, end) in [
        (Fault::Answer(503, BUSY), Ok(listed)),
        (Fault::Answer(400, EXPIRED), Err(StoreError::CredentialsRefused)),
    ] {
        put_as(&store, "manifest.json", b"{}").await.unwrap();
        place.proxy().next([Fault::Pass]);
        place.proxy().always(fault);
        assert_eq!(store.clear_within(&folder, &known, minute).await, end);
        place.proxy().heal();
    }
    place.proxy().always(Fault::Hang);
    let silent = store.clear_within(&folder, &known, Duration::from_millis(100)).await;
    assert_eq!(silent, Err(NoResponse::TimedOut.into()));
}
