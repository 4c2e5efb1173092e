//! Deletes a verification at the end of its `spec.ttlAfterFinished`. May depend on kube's client, `failures`, `request` and
//! `verifications`.

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tokio::time::{error::Elapsed, timeout};

use super::{
    failures::ServerCall,
    request::DEADLINE,
    verifications::{Cluster, says_gone},
};
use crate::api::Verification;

/// The result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// It is deleted, or its finalizers are awaited.
    Done,
    /// It was gone already.
    Gone,
    /// It is another version by now, or another resource of the same name.
    Conflict,
    /// The account, or an admission policy, does not permit it.
    Refused,
    /// The API server did not answer in time, or not usefully, so it may be deleted.
    Unknown,
}

impl Cluster {
    /// Deletes a resource that is unchanged since it was read.
    pub(crate) async fn delete(&self, read: &Verification) -> Deletion {
        let (namespace, name) = (read.namespace().unwrap_or_default(), read.name_any());
        let api: Api<Verification> = Api::namespaced(self.client.clone(), &namespace);
        let preconditions = Preconditions { uid: read.uid(), resource_version: read.resource_version() };
        let params = DeleteParams::background().preconditions(preconditions);
        let permit = self.permit_to_delete(&namespace).await;
        let answer = timeout(DEADLINE, api.delete(&name, &params)).await;
        drop(permit);
        self.failures.note(ServerCall::DeleteVerification, (&namespace, &name), &answer);
        deletion(&answer, &name)
    }
}

fn deletion<T>(answer: &Result<kube::Result<T>, Elapsed>, name: &str) -> Deletion {
    match answer {
        Ok(Ok(_)) => Deletion::Done,
        Ok(Err(kube::Error::Api(status))) => match status.code {
            404 if says_gone(status, name) => Deletion::Gone,
            409 => Deletion::Conflict,
            // An admission policy denies with 422 by default, a webhook with any code of its choice.
            400 | 403 | 422 => Deletion::Refused,
            _ => Deletion::Unknown,
        },
        Ok(Err(_)) | Err(_) => Deletion::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response};
    use kube::{Client, client::Body};
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::{lifecycle::fixtures, metrics::Metrics};

    #[tokio::test]
    async fn only_the_version_that_was_read_is_deleted() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&sent);
        let service = tower::service_fn(move |request: Request<Body>| {
            let requests = Arc::clone(&requests);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                requests.lock().push((parts.method.to_string(), parts.uri.path().to_owned(), body));
                let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Success"});
                Ok::<_, tower::BoxError>(Response::new(Body::from(status.to_string().into_bytes())))
            }
        });
        let cluster = Cluster::new(Client::new(service, "default"), "test", None, Arc::new(Metrics::new()));
        assert_eq!(cluster.delete(&fixtures::verification("alice")).await, Deletion::Done);
        let sent = sent.lock();
        let [(method, path, body)] = &sent[..] else { panic!("one request") };
        assert_eq!(
            (method.as_str(), path.as_str()),
            ("DELETE", "/apis/okid.io/v1alpha1/namespaces/kyc/verifications/alice")
        );
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["preconditions"], json!({"uid": fixtures::UID, "resourceVersion": "1"}));
    }

    #[test]
    fn a_deletion_is_refused_only_where_the_api_server_says_so() {
        let of = |code, reason: &str| {
            let status = json!({
                "status": "Failure", "message": "no", "reason": reason, "code": code, "details": {"name": "alice"},
            });
            let status = Box::new(serde_json::from_value(status).unwrap());
            deletion::<()>(&Ok(Err(kube::Error::Api(status))), "alice")
        };
        assert_eq!(of(404, "NotFound"), Deletion::Gone);
        assert_eq!(of(404, "Failed to parse error data"), Deletion::Unknown);
        assert_eq!(of(409, "Conflict"), Deletion::Conflict);
        assert_eq!([400, 403, 422].map(|code| of(code, "")), [Deletion::Refused; 3]);
        assert_eq!([401, 408, 429, 500, 503].map(|code| of(code, "")), [Deletion::Unknown; 5]);
        assert_eq!(deletion(&Ok(Ok(())), "alice"), Deletion::Done);
    }
}
