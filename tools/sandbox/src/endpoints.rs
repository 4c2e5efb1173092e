//! The six endpoints of the guide: who may do what, and the responses.
//!
//! May depend on [`Portal`]. Faults are carried out by [`inject`].

use std::sync::{Arc, OnceLock};

use axum::extract::{Path, Query, Request, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use tracing::info;

use crate::connection::Connection;
use crate::drawing::ImageKind;
use crate::fault_queue::FaultId;
use crate::inject::{Effect, Outcome, inject, send};
use crate::keys::shown;
use crate::portal::Portal;
use crate::request_log::Arrival;
use crate::session::Session;
use crate::wire::{self, Endpoint, PortalResponse};

/// Most bytes of a create's body that are read; its content is ignored.
const MAX_BODY: usize = 64 * 1024;

/// The routes of the guide.
pub(crate) fn routes() -> Router<Arc<Portal>> {
    Endpoint::ALL.into_iter().fold(Router::new(), |router, endpoint| {
        let handler = move |State(portal): State<Arc<Portal>>,
                            Extension(connection): Extension<Arc<Connection>>,
                            id: Option<Path<String>>,
                            request: Request| async move {
            let id = id.map(|Path(id)| id);
            respond(&portal, &connection, endpoint, id.as_deref(), request).await
        };
        let method = if endpoint == Endpoint::Create { post(handler) } else { get(handler) };
        router.route(endpoint.route(), method)
    })
}

/// A request as it is processed.
struct Context<'a> {
    portal: &'a Portal,
    endpoint: Endpoint,
    number: u64,
    /// The key, if the portal knows it.
    key: Option<Arc<str>>,
    id: Option<&'a str>,
    uri: &'a Uri,
    /// The id of the session that this request created.
    created: OnceLock<String>,
}

/// A request in flight. Dropping it records and logs its end, with or without a response.
struct InFlight<'a> {
    context: Context<'a>,
    fault: Option<FaultId>,
    status: Option<u16>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.context.portal.request_log.ended(self.context.number, self.context.endpoint);
        self.context.portal.changed();
        let key = self.context.key.as_deref().map(shown);
        let endpoint = self.context.endpoint.name();
        let session = self.context.id.or(self.context.created.get().map(String::as_str));
        let fault = self.fault.map(|FaultId(fault)| fault);
        if let Some(status) = self.status {
            info!(endpoint, status, session, key, fault, "responded");
        } else {
            info!(endpoint, session, key, fault, "no response");
        }
    }
}

async fn respond(
    portal: &Portal,
    connection: &Connection,
    endpoint: Endpoint,
    id: Option<&str>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let key = head.headers.get("x-sdk-key").and_then(|value| value.to_str().ok());
    let known_key = key.and_then(|key| portal.keys.find(key));
    let number = portal.request_log.arrive(&Arrival {
        at: portal.now(),
        endpoint,
        session: id,
        connection: connection.number,
        earlier_on_connection: connection.count_request(),
        version: head.version,
        query: head.uri.query(),
        headers: &head.headers,
        known_key: known_key.as_ref(),
    });
    if let Some(id) = id {
        portal.with_session(id, |session, _| count(session, endpoint));
    }
    let created = OnceLock::new();
    let context = Context { portal, endpoint, number, key: known_key, id, uri: &head.uri, created };
    let mut in_flight = InFlight { context, fault: None, status: None };
    portal.changed();

    if endpoint == Endpoint::Create {
        // It is read so that the connection can be reused; the portal ignores its content.
        let _ = axum::body::to_bytes(body, MAX_BODY).await;
    }
    let latency = portal.settings().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let outcome = match portal.faults.next_for(endpoint, key, id) {
        None => {
            let response = in_flight.context.process(Effect::Real);
            Outcome { status: Some(response.status), response: send(response, portal.now()) }
        }
        Some(injection) => {
            in_flight.hit_by(injection.id);
            inject(injection, connection, || portal.now(), |effect| in_flight.context.process(effect)).await
        }
    };
    in_flight.finish(outcome)
}

fn count(session: &mut Session, endpoint: Endpoint) {
    let counter = match endpoint {
        Endpoint::Details => &mut session.details_requests,
        Endpoint::Create
        | Endpoint::Image
        | Endpoint::ImageUnredacted
        | Endpoint::ImageFront
        | Endpoint::ImageBack => &mut session.image_requests,
    };
    *counter = counter.saturating_add(1);
}

impl InFlight<'_> {
    fn hit_by(&mut self, fault: FaultId) {
        self.fault = Some(fault);
        self.context.portal.request_log.hit_by(self.context.number, self.context.endpoint, fault);
        self.context.portal.changed();
    }

    fn finish(mut self, outcome: Outcome) -> Response {
        let Outcome { response, status } = outcome;
        self.status = status;
        if let Some(status) = status {
            self.context.portal.request_log.responded(self.context.number, self.context.endpoint, status);
        }
        response
    }
}

impl Context<'_> {
    fn process(&self, effect: Effect) -> PortalResponse {
        if !self.portal.settings().configured {
            return PortalResponse::not_configured();
        }
        let Some(key) = &self.key else {
            return PortalResponse::error(401);
        };
        match (self.endpoint, self.id) {
            (Endpoint::Create, _) => self.create(key, effect),
            (_, None) => PortalResponse::error(404),
            (Endpoint::Details, Some(id)) => self.read(key, id, |session| wire::details(id, session)),
            (Endpoint::Image, Some(id)) => self.attempt(key, id, ImageKind::Redacted),
            (Endpoint::ImageUnredacted, Some(id)) => self.attempt(key, id, ImageKind::Unredacted),
            (Endpoint::ImageFront, Some(id)) => self.side(key, id, ImageKind::Front),
            (Endpoint::ImageBack, Some(id)) => self.side(key, id, ImageKind::Back),
        }
    }

    fn create(&self, key: &Arc<str>, effect: Effect) -> PortalResponse {
        let (id, session) = self.portal.draft(Arc::clone(key));
        let response = wire::created(&id, &session);
        if effect == Effect::Real {
            self.portal.insert(&id, session);
            self.portal.request_log.created(self.number, &id);
            self.portal.changed();
            let _ = self.created.set(id);
        }
        response
    }

    /// Reads a session, if it exists and was created with the key.
    fn read(
        &self,
        key: &Arc<str>,
        id: &str,
        respond: impl FnOnce(&Session) -> PortalResponse,
    ) -> PortalResponse {
        let read = self.portal.with_session(id, |session, _| {
            if session.key == *key { respond(session) } else { PortalResponse::error(403) }
        });
        read.unwrap_or_else(|| PortalResponse::error(404))
    }

    /// The image of one upload.
    fn attempt(&self, key: &Arc<str>, id: &str, kind: ImageKind) -> PortalResponse {
        self.image(key, id, kind, |session, image| {
            (image.attempt_index < session.attempts).then_some(image.attempt_index)
        })
    }

    /// The accepted image of one side.
    fn side(&self, key: &Arc<str>, id: &str, kind: ImageKind) -> PortalResponse {
        self.image(key, id, kind, |session, _| {
            let exists = session.has_document() && kind.is_on(session.document);
            exists.then(|| session.attempts.saturating_sub(1))
        })
    }

    /// The image of a session at the attempt that `attempt` finds, if there is one.
    fn image(
        &self,
        key: &Arc<str>,
        id: &str,
        kind: ImageKind,
        attempt: impl FnOnce(&Session, &ImageParameters) -> Option<u32>,
    ) -> PortalResponse {
        let Some(image) = ImageParameters::parse(self.uri) else {
            return PortalResponse::error(400);
        };
        let mut attempt_index = None;
        let not_found = self.read(key, id, |session| {
            attempt_index = attempt(session, &image);
            PortalResponse::no_image()
        });
        // Drawn outside `read`, which locks all sessions.
        match attempt_index {
            Some(attempt_index) => self
                .portal
                .images
                .image(kind, &image.image_type, attempt_index)
                .map_or_else(|_| PortalResponse::error(500), PortalResponse::jpeg),
            None => not_found,
        }
    }
}

/// The parameters of an image request.
#[derive(Debug, Deserialize)]
struct ImageParameters {
    #[serde(default = "original")]
    image_type: String,
    #[serde(default)]
    attempt_index: u32,
}

fn original() -> String {
    "original".to_owned()
}

impl ImageParameters {
    /// Any short word is an image type, because the guide's list is not exhaustive.
    fn parse(uri: &Uri) -> Option<Self> {
        let Query(image) = Query::<Self>::try_from_uri(uri).ok()?;
        let is_a_word = (1..=32).contains(&image.image_type.len())
            && image.image_type.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        is_a_word.then_some(image)
    }
}
