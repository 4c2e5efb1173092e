//! The portal's JSON and its errors, as the guide shows them.
//!
//! Pure. May depend on [`session`](crate::session). Responses are values: `endpoints` makes them, `inject` sends or corrupts
//! them.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::person::Document;
use crate::session::{Progress, Session, Status};

/// The six endpoints of the guide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /api/generate-verification`
    Create,
    /// `GET /api/get-verification-details/{id}`
    Details,
    /// `GET /api/get-verification-image/{id}`
    Image,
    /// `GET /api/get-verification-image-unredacted/{id}`
    ImageUnredacted,
    /// `GET /api/get-verification-image-front/{id}`
    ImageFront,
    /// `GET /api/get-verification-image-back/{id}`
    ImageBack,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Details, Self::Image, Self::ImageUnredacted, Self::ImageFront, Self::ImageBack];

    /// The name in JSON and in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Details => "details",
            Self::Image => "image",
            Self::ImageUnredacted => "image_unredacted",
            Self::ImageFront => "image_front",
            Self::ImageBack => "image_back",
        }
    }

    /// The path as a route, with `{id}` for the verification id.
    pub(crate) fn route(self) -> &'static str {
        match self {
            Self::Create => "/api/generate-verification",
            Self::Details => "/api/get-verification-details/{id}",
            Self::Image => "/api/get-verification-image/{id}",
            Self::ImageUnredacted => "/api/get-verification-image-unredacted/{id}",
            Self::ImageFront => "/api/get-verification-image-front/{id}",
            Self::ImageBack => "/api/get-verification-image-back/{id}",
        }
    }
}

/// A response before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortalResponse {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

const JSON: &str = "application/json";

impl PortalResponse {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { status, content_type: JSON, body: body.into() }
    }

    pub(crate) fn jpeg(body: Bytes) -> Self {
        Self { status: 200, content_type: "image/jpeg", body }
    }

    /// The error that the portal documents (or is seen to send) with `status`.
    pub(crate) fn error(status: u16) -> Self {
        let (error, code) = match status {
            400 => ("Invalid request", "INVALID_REQUEST"),
            401 => ("Invalid API key provided", "INVALID_API_KEY"),
            403 => ("API key does not have access to this verification", "ACCESS_DENIED"),
            404 => ("Verification not found", "NOT_FOUND"),
            429 => ("Too many requests", "RATE_LIMITED"),
            status if status < 500 => ("Request refused", "REQUEST_REFUSED"),
            _ => ("Internal server error", "INTERNAL_ERROR"),
        };
        Self::refusal(status, error, code)
    }

    /// The portal has no backend: 500 "Server not configured".
    pub(crate) fn not_configured() -> Self {
        Self::refusal(500, "Server not configured", "SERVER_NOT_CONFIGURED")
    }

    /// 404 for an image that does not exist.
    pub(crate) fn no_image() -> Self {
        Self::refusal(404, "No image found", "IMAGE_NOT_FOUND")
    }

    pub(crate) fn refusal(status: u16, error: &str, code: &str) -> Self {
        Self::json(status, &json!({"error": error, "code": code}))
    }
}

/// The format of a time: RFC 3339 in UTC, to the millisecond.
pub(crate) fn format_time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// An object with these fields in this order.
struct Fields<I>(I);

impl<I, V> Serialize for Fields<I>
where
    I: Iterator<Item = (V, Value)> + Clone,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
}

/// The response to a create.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'a, M> {
    verification_id: &'a str,
    expires_at: String,
    modules: M,
    flow: &'a [String],
}

/// The response to a request for details.
#[derive(Serialize)]
struct Details<'a, P, R> {
    verification_id: &'a str,
    status: StatusBody<'a, P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<R>,
}

#[derive(Serialize)]
struct StatusBody<'a, P> {
    current: &'a str,
    updated_at: String,
    progress: P,
}

/// The response to a create: camelCase, as in the guide.
pub(crate) fn created(id: &str, session: &Session) -> PortalResponse {
    let modules = Fields(checked(session).map(|(module, _)| (module, json!({"enabled": true}))));
    let expires_at = format_time(session.expires_at);
    PortalResponse::json(200, &Created { verification_id: id, expires_at, modules, flow: &session.flow })
}

/// The response to a request for details: `snake_case`, with `results` only once there is a verdict and only for completed
/// modules.
pub(crate) fn details(id: &str, session: &Session) -> PortalResponse {
    let progress = Fields(checked(session).map(|(module, progress)| (module, progress.name().into())));
    let status =
        StatusBody { current: session.status.name(), updated_at: format_time(session.updated_at), progress };
    let verified = session.status == Status::Verified;
    let completed = checked(session).filter(|(_, progress)| *progress == Progress::Completed);
    let results = Fields(completed.map(|(module, _)| (module, result(module, session.document, verified))));
    let results = (verified || session.status == Status::Rejected).then_some(results);
    PortalResponse::json(200, &Details { verification_id: id, status, results })
}

/// The modules in `progress` and `modules`: the whole flow but the terms.
fn checked(session: &Session) -> impl Iterator<Item = (&str, Progress)> + Clone {
    session
        .flow
        .iter()
        .map(String::as_str)
        .zip(session.progress.iter().copied())
        .filter(|(module, _)| *module != "terms")
}

/// Results of an invented person.
fn result(module: &str, document: Document, verified: bool) -> Value {
    match module {
        "document" => json!({
            "type": match document {
                Document::IdCard => "id_card",
                Document::Passport => "passport",
            },
            "country": "UTO",
            "document_number": "L898902C3",
            "first_name": "Anna Maria",
            "last_name": "Eriksson",
            "date_of_birth": "1974-08-12",
            "authentic": verified,
        }),
        "liveness" => json!({"live": true, "score": if verified { 0.98 } else { 0.31 }}),
        _ => json!({"email": "anna.eriksson@example.com"}),
    }
}
