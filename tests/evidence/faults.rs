//! Faults of a store while objects are put into it.

use std::time::Duration;

use http::Method;
use okid_operator::store::{Digested, Metadata, NoResponse, Put, RetryPolicy, Store, StoreError};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::{task::yield_now, time::timeout};

use crate::{
    harness::{
        Fault, Proxy, RETRY_POLICY, TestStore, TokenServer, key, of, put, service_account, stored_bytes,
    },
    invariants::on,
};

pub(crate) const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>canary</Message></Error>";
pub(crate) const EXPIRED: &str = "<Error><Code>ExpiredToken</Code></Error>";
pub(crate) const BUSY: &str = "<Error><Code>SlowDown</Code></Error>";
const BROKEN: &str = "<Error><Code>InternalError</Code></Error>";

on!(s3:
    a_request_without_a_response_may_still_arrive_whatever_came_next,
    each_cause_of_a_missing_response_has_its_own_error,
    an_endless_listing_is_not_read_to_its_end,
    an_object_that_was_stored_before_a_500_is_not_stored_again,
    an_object_whose_response_was_lost_is_not_stored_again,
    an_upload_that_is_reset_in_the_middle_is_completed,
    a_busy_store_is_retried_a_bounded_number_of_times,
    a_call_to_a_store_that_hangs_is_abandoned,
    a_call_ends_within_its_time_limit_whatever_the_store_does,
    a_larger_object_is_a_conflict_that_is_not_read,
    a_store_that_was_down_accepts_the_object_when_it_is_back,
    a_request_that_is_refused_is_not_retried,
    a_read_is_retried_after_a_conflict_with_another_operation,
    an_object_that_may_not_be_overwritten_is_compared,
    an_endless_error_response_is_not_read_to_its_end,
    an_endless_redirect_is_not_read_to_its_end,
    a_store_that_denies_reads_is_retried_after_an_outage,
    wrong_credentials_are_distinguished_from_missing_permissions,
    a_redirect_is_never_followed,
);
on!(google:
    an_object_that_was_stored_before_a_500_is_not_stored_again,
    an_object_whose_response_was_lost_is_not_stored_again,
    an_upload_that_is_reset_in_the_middle_is_completed,
    a_busy_store_is_retried_a_bounded_number_of_times,
    a_call_to_a_store_that_hangs_is_abandoned,
    a_store_that_was_down_accepts_the_object_when_it_is_back,
    a_request_that_is_refused_is_not_retried,
    a_read_is_retried_after_a_conflict_with_another_operation,
    an_object_that_may_not_be_overwritten_is_compared,
    wrong_credentials_are_distinguished_from_missing_permissions,
    a_redirect_is_never_followed,
);
on!(azure:
    an_object_that_was_stored_before_a_500_is_not_stored_again,
    an_object_whose_response_was_lost_is_not_stored_again,
    an_upload_that_is_reset_in_the_middle_is_completed,
    a_busy_store_is_retried_a_bounded_number_of_times,
    a_call_to_a_store_that_hangs_is_abandoned,
    a_store_that_was_down_accepts_the_object_when_it_is_back,
    a_request_that_is_refused_is_not_retried,
    a_read_is_retried_after_a_conflict_with_another_operation,
    an_object_that_may_not_be_overwritten_is_compared,
    wrong_credentials_are_distinguished_from_missing_permissions,
    a_redirect_is_never_followed,
);

async fn an_object_that_was_stored_before_a_500_is_not_stored_again(test_store: TestStore) {
    let store = test_store.store();
    test_store.proxy().next([Fault::AnswerAfter(500, BROKEN)]);
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(test_store.proxy().count(&Method::PUT), 1);
}

async fn an_object_whose_response_was_lost_is_not_stored_again(test_store: TestStore) {
    let store = test_store.store();
    test_store.proxy().next([Fault::ResetInstead]);
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(test_store.proxy().count(&Method::PUT), 1);
}

async fn an_upload_that_is_reset_in_the_middle_is_completed(test_store: TestStore) {
    let store = test_store.store();
    let bytes = vec![7; 4 << 20];
    test_store.proxy().next([Fault::ResetAfter(1 << 20)]);
    assert!(!put(&store, &bytes).await.unwrap().already_existed);
    assert_eq!(stored_bytes(&store).await, Some(bytes));
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("front-original.jpg")]));
}

async fn a_busy_store_is_retried_a_bounded_number_of_times(test_store: TestStore) {
    let store = test_store.store();
    // The second is the read of the object that the first may have stored.
    test_store.proxy().next([Fault::Answer(503, BUSY), Fault::Pass]);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    test_store.proxy().always(Fault::Answer(503, BUSY));
    let before = test_store.proxy().arrived();
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::OutOfOrder)));
    assert_eq!(test_store.proxy().arrived() - before, 6, "three attempts, each with a read");
}

async fn a_call_to_a_store_that_hangs_is_abandoned(test_store: TestStore) {
    let retry_policy = RetryPolicy { request: Duration::from_millis(100), ..RETRY_POLICY };
    let store = test_store.store_with_policy(retry_policy);
    test_store.proxy().always(Fault::Hang);
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::TimedOut)));
    // The last one may have been abandoned before the proxy accepted it.
    let arrived = async {
        while test_store.proxy().arrived() < 6 {
            yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), arrived).await.expect("three attempts, each with a read");
    assert_eq!(test_store.proxy().arrived(), 6);
}

async fn a_call_ends_within_its_time_limit_whatever_the_store_does(test_store: TestStore) {
    let hour = Duration::from_hours(1);
    let whole = Duration::from_millis(100);
    let store = test_store.store_with_policy(RetryPolicy {
        request: hour,
        again_within: hour,
        whole,
        ..RETRY_POLICY
    });
    test_store.proxy().always(Fault::Hang);
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

async fn each_cause_of_a_missing_response_has_its_own_error(test_store: TestStore) {
    let tls = TokenServer::sts("operator", "horse").await;
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
        test_store.proxy().always(Fault::Answer(status, body));
        assert_eq!(put(&test_store.store(), b"abc").await, Err(error), "{status} {body}");
    }
    test_store.proxy().always(Fault::ResetAfter(1));
    assert_eq!(put(&test_store.store(), b"abc").await, Err(NoResponse::Cut.into()));
    assert_eq!(put(&test_store.store_elsewhere(&tls.url), b"abc").await, Err(NoResponse::Tls.into()));
    assert_eq!(
        put(&test_store.store_elsewhere("http://portal.invalid"), b"abc").await,
        Err(NoResponse::Resolve.into())
    );
    test_store.proxy().always(Fault::AnswerEndlessly(200));
    assert_eq!(test_store.store().keys(&of("team-a")).await, Err(NoResponse::TooLarge.into()));
}

async fn an_endless_listing_is_not_read_to_its_end(test_store: TestStore) {
    test_store.proxy().always(Fault::AnswerEndlessly(200));
    assert_eq!(test_store.store().keys(&of("team-a")).await, Err(NoResponse::TooLarge.into()));
    assert!(test_store.proxy().endless() < 16 << 20, "its limit, and what the connection's buffers hold");
    let before = test_store.proxy().arrived();
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>1</NextContinuationToken>\
                <Contents><Key>kyc/team-a/customer/0b1e6d5c-7c0e-4b0e-9d57-1f6a8e7f2a10/OTHER</Key><Size>1</Size>\
                <LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>1</ETag></Contents></ListBucketResult>";
    test_store.proxy().always(Fault::Answer(200, page));
    assert_eq!(test_store.store().keys(&of("team-a")).await, Err(NoResponse::TooLarge.into()));
    assert_eq!(
        test_store.proxy().arrived() - before,
        8,
        "the limit of pages, without any key of the operator"
    );
}

async fn a_larger_object_is_a_conflict_that_is_not_read(test_store: TestStore) {
    let exists = Fault::Answer(412, "<Error><Code>PreconditionFailed</Code></Error>");
    test_store.proxy().next([exists, Fault::AnswerEndlessly(200)]);
    assert_eq!(put(&test_store.store(), b"abc").await, Err(StoreError::Conflict));
    assert!(test_store.proxy().endless() < 16 << 20, "what the connection's buffers hold, at most");
}

async fn a_store_that_was_down_accepts_the_object_when_it_is_back(test_store: TestStore) {
    let store = test_store.store();
    test_store.proxy().go_down().await;
    assert_eq!(put(&store, b"abc").await, Err(StoreError::NoResponse(NoResponse::Refused)));
    test_store.proxy().come_back();
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
}

async fn a_request_that_is_refused_is_not_retried(test_store: TestStore) {
    let store = test_store.store();
    for (status, body, error) in [
        (400, EXPIRED, StoreError::CredentialsRefused),
        (401, "canary", StoreError::CredentialsRefused),
        (403, "<Error><Code>AuthenticationFailed</Code></Error>", StoreError::CredentialsRefused),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", StoreError::BucketMissing),
        (301, "<Error><Code>PermanentRedirect</Code></Error>", StoreError::Misconfigured("region")),
        (400, "<html>canary</html>", StoreError::Refused),
    ] {
        let before = test_store.proxy().arrived();
        test_store.proxy().next([Fault::Answer(status, body)]);
        let refused = put(&store, b"abc").await;
        assert_eq!(refused, Err(error), "{status}");
        assert_eq!(test_store.proxy().arrived() - before, 1, "{status}");
        assert!(!format!("{refused:?} {error}").contains("canary"));
    }
    test_store.proxy().next([Fault::Answer(403, DENIED)]);
    let before = test_store.proxy().arrived();
    assert_eq!(put(&store, b"abc").await, Err(StoreError::AccessDenied));
    assert_eq!(test_store.proxy().arrived() - before, 2, "one of them reads whether the object exists");
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
}

async fn a_read_is_retried_after_a_conflict_with_another_operation(test_store: TestStore) {
    let (store, proxy) = (test_store.store(), test_store.proxy());
    put(&store, b"abc").await.unwrap();
    let conflict = || Fault::Answer(409, "<Error><Code>OperationAborted</Code></Error>");
    let before = proxy.arrived();
    proxy.next([conflict(), conflict()]);
    assert_eq!(stored_bytes(&store).await.as_deref(), Some(&b"abc"[..]));
    assert_eq!(proxy.arrived() - before, 3);
    proxy.next([conflict(), conflict()]);
    assert_eq!(store.keys(&of("team-a")).await, Ok(vec![key("front-original.jpg")]));
    assert_eq!(proxy.arrived() - before, 6);
    proxy.always(conflict());
    let read = store.read(&of("team-a"), &key("front-original.jpg"), 9).await;
    assert_eq!(read, Err(StoreError::Unavailable));
    assert_eq!(proxy.arrived() - before, 9, "three attempts");
}

async fn an_object_that_may_not_be_overwritten_is_compared(test_store: TestStore) {
    let store = test_store.store();
    put(&store, b"abc").await.unwrap();
    test_store.proxy().whenever(Method::PUT, Fault::Answer(403, DENIED));
    assert!(put(&store, b"abc").await.unwrap().already_existed);
    assert_eq!(put(&store, b"abd").await, Err(StoreError::Conflict));
    test_store.proxy().always(Fault::Answer(403, DENIED));
    assert_eq!(put(&store, b"abc").await, Err(StoreError::AccessDenied));
}

async fn an_endless_error_response_is_not_read_to_its_end(test_store: TestStore) {
    test_store.proxy().next([Fault::AnswerEndlessly(403)]);
    assert_eq!(put(&test_store.store(), b"abc").await, Err(StoreError::AccessDenied));
    assert!(test_store.proxy().endless() < 16 << 20, "what the connection's buffers hold, at most");
}

async fn an_endless_redirect_is_not_read_to_its_end(test_store: TestStore) {
    test_store.proxy().next([Fault::AnswerEndlessly(307)]);
    assert_eq!(put(&test_store.store(), b"abc").await, Err(StoreError::Misconfigured("region")));
    assert!(test_store.proxy().endless() < 16 << 20, "what the connection's buffers hold, at most");
}

async fn a_store_that_denies_reads_is_retried_after_an_outage(test_store: TestStore) {
    let store = test_store.store();
    test_store.proxy().next([Fault::Answer(503, BUSY), Fault::Answer(403, DENIED)]);
    assert!(!put(&store, b"abc").await.unwrap().already_existed);
    test_store.proxy().next([Fault::Pass, Fault::Answer(403, DENIED)]);
    assert_eq!(
        put(&store, b"abc").await,
        Err(StoreError::AccessDenied),
        "the object exists and cannot be compared"
    );
}

async fn wrong_credentials_are_distinguished_from_missing_permissions(test_store: TestStore) {
    let (entry, error) = match test_store.url().split_once("://").unwrap().0 {
        "s3" => (("aws_secret_access_key", "wrong".to_owned()), StoreError::CredentialsRefused),
        // Azurite says AuthorizationFailure, which at Azure means missing permission, where Azure says
        // AuthenticationFailed.
        "az" => (("azure_storage_account_key", "d3Jvbmc=".to_owned()), StoreError::AccessDenied),
        _ => {
            let other = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
            (("google_service_account_key", service_account(&other)), StoreError::CredentialsRefused)
        }
    };
    assert_eq!(put(&test_store.store_with(entry.0, entry), b"abc").await, Err(error));
    assert!(!put(&test_store.store(), b"abc").await.unwrap().already_existed);
}

async fn a_redirect_is_never_followed(test_store: TestStore) {
    let nowhere = Proxy::start("127.0.0.1:9".parse().unwrap());
    nowhere.always(Fault::Answer(200, ""));
    let store = test_store.store();
    for status in [301, 302, 303, 307, 308] {
        test_store.proxy().next([Fault::Redirect(status, nowhere.url())]);
        assert_eq!(put(&store, b"abc").await, Err(StoreError::Misconfigured("region")), "{status}");
    }
    assert_eq!(nowhere.arrived(), 0);
}

/// Puts an object, and returns whether it may still arrive.
async fn sent(store: &Store, name: &str) -> (Result<Put, StoreError>, bool) {
    let digested = Digested::of("abc".into()).await.unwrap();
    let metadata = Metadata { content_type: "image/jpeg", attributes: &[] };
    let put = store.put(&of("team-a"), &key(name), &digested, metadata).await;
    (put, digested.may_arrive())
}

async fn a_request_without_a_response_may_still_arrive_whatever_came_next(test_store: TestStore) {
    let store = test_store.store();
    let (put, may_arrive) = sent(&store, "front-original.jpg").await;
    assert!(put.is_ok() && !may_arrive, "both requests got a response");
    test_store.proxy().next([Fault::Answer(400, EXPIRED)]);
    let (put, may_arrive) = sent(&store, "details.json").await;
    assert!(put.is_err() && !may_arrive, "a refused request never arrives");

    test_store.proxy().next([Fault::Answer(504, "")]);
    let (put, may_arrive) = sent(&store, "details.json").await;
    assert!(put.is_ok() && may_arrive, "the next attempt succeeded");
    // So is the request that checks for conditional writes.
    test_store.proxy().next([Fault::Pass, Fault::ResetInstead]);
    let (put, may_arrive) = sent(&test_store.store(), "back-original.jpg").await;
    assert!(put.is_ok() && may_arrive, "{put:?}");
    test_store.proxy().always(Fault::Hang);
    let whole = Duration::from_millis(100);
    let (put, may_arrive) =
        sent(&test_store.store_with_policy(RetryPolicy { whole, ..RETRY_POLICY }), "manifest.json").await;
    assert!(put == Err(NoResponse::TimedOut.into()) && may_arrive, "it was abandoned");
}
