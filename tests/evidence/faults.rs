//! What is done to a store while objects are put into it, and what must come of it.

use std::time::Duration;

use http::Method;
use okid_operator::store::{Digested, Metadata, NoResponse, Put, RetryPolicy, Store, StoreError};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::{task::yield_now, time::timeout};

use crate::{
    harness::{Fault, Place, Proxy, RETRY_POLICY, Tokens, key, of, put, service_account, stored_bytes},
    invariants::on,
};

pub(crate) const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>canary</Message></Error>";
pub(crate) const EXPIRED: &str = "<Error><Code>ExpiredToken</Code></Error>";
pub(crate) const BUSY: &str = "<Error><Code>SlowDown</Code></Error>";
const BROKEN: &str = "<Error><Code>InternalError</Code></Error>";

on!(s3:
    what_was_sent_and_never_answered_may_still_arrive_whatever_came_next,
    each_way_in_which_no_answer_comes_has_its_name,
    a_listing_without_end_is_not_read_to_its_end,
    what_was_stored_before_a_500_is_found_and_not_stored_again,
    what_was_stored_before_its_answer_was_lost_is_found_and_not_stored_again,
    an_upload_that_is_reset_in_the_middle_is_made_whole,
    a_busy_store_is_asked_again_and_not_for_ever,
    a_store_that_hangs_is_given_up,
    a_call_ends_in_its_own_time_whatever_the_store_does,
    what_is_larger_is_a_conflict_without_reading_it,
    a_store_that_is_down_takes_the_object_when_it_is_back,
    a_refusal_is_not_repeated,
    what_may_not_be_overwritten_is_looked_at,
    a_refusal_without_end_is_not_read_to_its_end,
    a_store_that_may_not_be_looked_into_is_tried_again_after_an_outage,
    wrong_credentials_are_told_from_missing_permission,
    a_redirect_is_never_followed,
);
on!(google:
    what_was_stored_before_a_500_is_found_and_not_stored_again,
    what_was_stored_before_its_answer_was_lost_is_found_and_not_stored_again,
    an_upload_that_is_reset_in_the_middle_is_made_whole,
    a_busy_store_is_asked_again_and_not_for_ever,
    a_store_that_hangs_is_given_up,
    a_store_that_is_down_takes_the_object_when_it_is_back,
    a_refusal_is_not_repeated,
    what_may_not_be_overwritten_is_looked_at,
    wrong_credentials_are_told_from_missing_permission,
    a_redirect_is_never_followed,
);
on!(azure:
    what_was_stored_before_a_500_is_found_and_not_stored_again,
    what_was_stored_before_its_answer_was_lost_is_found_and_not_stored_again,
    an_upload_that_is_reset_in_the_middle_is_made_whole,
    a_busy_store_is_asked_again_and_not_for_ever,
    a_store_that_hangs_is_given_up,
    a_store_that_is_down_takes_the_object_when_it_is_back,
    a_refusal_is_not_repeated,
    what_may_not_be_overwritten_is_looked_at,
    wrong_credentials_are_told_from_missing_permission,
    a_redirect_is_never_followed,
);

async fn what_was_stored_before_a_500_is_found_and_not_stored_again(place: Place) {
    let store = place.store();
    place.proxy().next([Fault::AnswerAfter(500, BROKEN)]);
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(place.proxy().count(&Method::PUT), 1);
}

async fn what_was_stored_before_its_answer_was_lost_is_found_and_not_stored_again(place: Place) {
    let store = place.store();
    place.proxy().next([Fault::ResetInstead]);
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(place.proxy().count(&Method::PUT), 1);
}

async fn an_upload_that_is_reset_in_the_middle_is_made_whole(place: Place) {
    let store = place.store();
    let bytes = vec![7; 4 << 20];
    place.proxy().next([Fault::ResetAfter(1 << 20)]);
    assert!(!put(&store, &bytes).await.unwrap().already_existed);
    assert_eq!(stored_bytes(&store).await, Some(bytes));
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("front-original.jpg")]));
}

async fn a_busy_store_is_asked_again_and_not_for_ever(place: Place) {
    let store = place.store();
    // The second is the read of what the first may have left.
    place.proxy().next([Fault::Answer(503, BUSY), Fault::Pass]);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    place.proxy().always(Fault::Answer(503, BUSY));
    let before = place.proxy().arrived();
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::OutOfOrder)));
    assert_eq!(place.proxy().arrived() - before, 6, "three attempts, each with a read");
}

async fn a_store_that_hangs_is_given_up(place: Place) {
    let retry_policy = RetryPolicy { request: Duration::from_millis(100), ..RETRY_POLICY };
    let store = place.store_with_policy(retry_policy);
    place.proxy().always(Fault::Hang);
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::TimedOut)));
    // The last one may have been given up before the proxy took it.
    let arrived = async {
        while place.proxy().arrived() < 6 {
            yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), arrived).await.expect("three attempts, each with a read");
    assert_eq!(place.proxy().arrived(), 6);
}

async fn a_call_ends_in_its_own_time_whatever_the_store_does(place: Place) {
    let hour = Duration::from_hours(1);
    let whole = Duration::from_millis(100);
    let store =
        place.store_with_policy(RetryPolicy { request: hour, again_within: hour, whole, ..RETRY_POLICY });
    place.proxy().always(Fault::Hang);
    let calls = async {
        assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::TimedOut)));
        let removal = store.delete(&of("team-a"), &[key("front-original.jpg")]).await;
        assert_eq!(removal, Err(StoreError::NoResponse(NoResponse::TimedOut)));
        let read = store.read(&of("team-a"), &key("front-original.jpg"), 9).await;
        assert_eq!(read, Err(StoreError::NoResponse(NoResponse::TimedOut)));
        assert_eq!(store.keys(&of("team-a")).await, Err(StoreError::NoResponse(NoResponse::TimedOut)));
    };
    timeout(Duration::from_mins(1), calls).await.expect("every call ends");
}

async fn each_way_in_which_no_answer_comes_has_its_name(place: Place) {
    let tls = Tokens::sts("operator", "horse").await;
    let broken = "<Error><Code>InternalError</Code></Error>";
    for (status, body, error) in [
        (500, "<html>500</html>", NoResponse::OutOfOrder.into()),
        (502, "", NoResponse::OutOfOrder.into()),
        (504, "", NoResponse::OutOfOrder.into()),
        (500, broken, StoreError::Unavailable),
        (404, "<html>404</html>", NoResponse::Unusable.into()),
        (
            501,
            "<Error><Code>NotImplemented</Code><Header>If-None-Match</Header></Error>",
            StoreError::NoConditionalWrites,
        ),
        (501, "<Error><Code>NotImplemented</Code></Error>", StoreError::Unsupported),
    ] {
        place.proxy().always(Fault::Answer(status, body));
        assert_eq!(put(&place.store(), b"abc").await, Err(error), "{status} {body}");
    }
    place.proxy().always(Fault::ResetAfter(1));
    assert_eq!(put(&place.store(), b"abc").await, Err(NoResponse::Cut.into()));
    assert_eq!(put(&place.store_elsewhere(&tls.url), b"abc").await, Err(NoResponse::Tls.into()));
    assert_eq!(
        put(&place.store_elsewhere("http://portal.invalid"), b"abc").await,
        Err(NoResponse::Resolve.into())
    );
    place.proxy().always(Fault::AnswerEndlessly(200));
    assert_eq!(place.store().keys(&of("team-a")).await, Err(NoResponse::TooLarge.into()));
}

async fn a_listing_without_end_is_not_read_to_its_end(place: Place) {
    place.proxy().always(Fault::AnswerEndlessly(200));
    assert_eq!(place.store().keys(&of("team-a")).await, Err(NoResponse::TooLarge.into()));
    assert!(place.proxy().endless() < 16 << 20, "its bound, and what the connection's buffers hold");
    let before = place.proxy().arrived();
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>1</NextContinuationToken>\
                <Contents><Key>kyc/team-a/customer/0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10/OTHER</Key><Size>1</Size>\
                <LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>1</ETag></Contents></ListBucketResult>";
    place.proxy().always(Fault::Answer(200, page));
    assert_eq!(place.store().keys(&of("team-a")).await, Err(NoResponse::TooLarge.into()));
    assert_eq!(place.proxy().arrived() - before, 8, "so many pages, with nothing of ours in them");
}

async fn what_is_larger_is_a_conflict_without_reading_it(place: Place) {
    let exists = Fault::Answer(412, "<Error><Code>PreconditionFailed</Code></Error>");
    place.proxy().next([exists, Fault::AnswerEndlessly(200)]);
    assert_eq!(put(&place.store(), b"abc").await, Err(StoreError::Conflict));
    assert!(place.proxy().endless() < 16 << 20, "what the connection's buffers hold, at most");
}

async fn a_store_that_is_down_takes_the_object_when_it_is_back(place: Place) {
    let store = place.store();
    place.proxy().go_down().await;
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::Refused)));
    place.proxy().come_back();
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
}

async fn a_refusal_is_not_repeated(place: Place) {
    let store = place.store();
    for (status, body, error) in [
        (400, EXPIRED, StoreError::CredentialsRefused),
        (401, "canary", StoreError::CredentialsRefused),
        (403, "<Error><Code>AuthenticationFailed</Code></Error>", StoreError::CredentialsRefused),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", StoreError::BucketMissing),
        (301, "<Error><Code>PermanentRedirect</Code></Error>", StoreError::Misconfigured("region")),
        (400, "<html>canary</html>", StoreError::Refused),
    ] {
        let before = place.proxy().arrived();
        place.proxy().next([Fault::Answer(status, body)]);
        let refused = put(&store, b"abc").await;
        assert_eq!(refused, Err(error), "{status}");
        assert_eq!(place.proxy().arrived() - before, 1, "{status}");
        assert!(!format!("{refused:?} {error}").contains("canary"));
    }
    place.proxy().next([Fault::Answer(403, DENIED)]);
    let before = place.proxy().arrived();
    assert_eq!(put(&store, b"abc").await, Err(StoreError::AccessDenied));
    assert_eq!(place.proxy().arrived() - before, 2, "and a read whether it exists");
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
}

async fn what_may_not_be_overwritten_is_looked_at(place: Place) {
    let store = place.store();
    put(&store, b"abc").await.unwrap();
    place.proxy().whenever(Method::PUT, Fault::Answer(403, DENIED));
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(put(&store, b"abd").await, Err(StoreError::Conflict));
    place.proxy().always(Fault::Answer(403, DENIED));
    assert_eq!(put(&store, b"abc").await, Err(StoreError::AccessDenied));
}

async fn a_refusal_without_end_is_not_read_to_its_end(place: Place) {
    place.proxy().next([Fault::AnswerEndlessly(403)]);
    assert_eq!(put(&place.store(), b"abc").await, Err(StoreError::AccessDenied));
    assert!(place.proxy().endless() < 16 << 20, "what the connection's buffers hold, at most");
}

async fn a_store_that_may_not_be_looked_into_is_tried_again_after_an_outage(place: Place) {
    let store = place.store();
    place.proxy().next([Fault::Answer(503, BUSY), Fault::Answer(403, DENIED)]);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    place.proxy().next([Fault::Pass, Fault::Answer(403, DENIED)]);
    assert_eq!(
        put(&store, b"abc").await,
        Err(StoreError::AccessDenied),
        "it is there, and cannot be compared"
    );
}

async fn wrong_credentials_are_told_from_missing_permission(place: Place) {
    let (entry, error) = match place.url().split_once("://").unwrap().0 {
        "s3" => (("aws_secret_access_key", "wrong".to_owned()), StoreError::CredentialsRefused),
        // Azurite says AuthorizationFailure, which at Azure means missing permission, where Azure says
        // AuthenticationFailed.
        "az" => (("azure_storage_account_key", "d3Jvbmc=".to_owned()), StoreError::AccessDenied),
        _ => {
            let other = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
            (("google_service_account_key", service_account(&other)), StoreError::CredentialsRefused)
        }
    };
    assert_eq!(put(&place.store_with(entry.0, entry), b"abc").await, Err(error));
    assert!(!put(&place.store(), b"abc").await.unwrap().already_existed);
}

async fn a_redirect_is_never_followed(place: Place) {
    let nowhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    nowhere.always(Fault::Answer(200, ""));
    let store = place.store();
    for status in [301, 302, 303, 307, 308] {
        place.proxy().next([Fault::Redirect(status, nowhere.url())]);
        assert_eq!(put(&store, b"abc").await, Err(StoreError::Misconfigured("region")), "{status}");
    }
    assert_eq!(nowhere.arrived(), 0);
}

/// Puts bytes under a name, and says whether they may still arrive.
async fn sent(store: &Store, name: &str) -> (Result<Put, StoreError>, bool) {
    let digested = Digested::of("abc".into()).await.unwrap();
    let metadata = Metadata { content_type: "image/jpeg", attributes: &[] };
    let put = store.put(&of("team-a"), &key(name), &digested, metadata).await;
    (put, digested.may_arrive())
}

async fn what_was_sent_and_never_answered_may_still_arrive_whatever_came_next(place: Place) {
    let store = place.store();
    let (put, may_arrive) = sent(&store, "front-original.jpg").await;
    assert!(put.is_ok() && !may_arrive, "what was answered has arrived, the question too");
    place.proxy().next([Fault::Answer(400, EXPIRED)]);
    let (put, may_arrive) = sent(&store, "details.json").await;
    assert!(put.is_err() && !may_arrive, "what was refused never arrives");

    place.proxy().next([Fault::Answer(504, "")]);
    let (put, may_arrive) = sent(&store, "details.json").await;
    assert!(put.is_ok() && may_arrive, "the next try was a good one");
    // The question whether it overwrites is sent too.
    place.proxy().next([Fault::Pass, Fault::ResetInstead]);
    let (put, may_arrive) = sent(&place.store(), "back-original.jpg").await;
    assert!(put.is_ok() && may_arrive, "{put:?}");
    place.proxy().always(Fault::Hang);
    let whole = Duration::from_millis(100);
    let (put, may_arrive) =
        sent(&place.store_with_policy(RetryPolicy { whole, ..RETRY_POLICY }), "manifest.json").await;
    assert!(put == Err(NoResponse::TimedOut.into()) && may_arrive, "it was given up");
}
