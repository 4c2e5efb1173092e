//! The six calls: who may do what, and what is answered.
//!
//! May touch: the portal's state. Breaking an answer is `perform`'s work.

use std::sync::{Arc, OnceLock};

use axum::extract::{Path, Query, Request, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use tracing::info;

use crate::connection::Connection;
use crate::images;
use crate::journal::Arrival;
use crate::keys::shown;
use crate::orders::FaultId;
use crate::perform::{Delivery, Keep, perform, send};
use crate::portal::Portal;
use crate::session::Session;
use crate::wire::{self, Answer, Endpoint};

/// Most of a create's body that is read; nothing in it counts.
const MOST_BODY: usize = 64 * 1024;

/// The routes of the contract.
pub(crate) fn routes() -> Router<Arc<Portal>> {
    Endpoint::ALL.into_iter().fold(Router::new(), |router, endpoint| {
        let handler = move |State(portal): State<Arc<Portal>>,
                            Extension(connection): Extension<Arc<Connection>>,
                            id: Option<Path<String>>,
                            request: Request| async move {
            let id = id.map(|Path(id)| id);
            answer(&portal, &connection, endpoint, id.as_deref(), request).await
        };
        let method = if endpoint == Endpoint::Create { post(handler) } else { get(handler) };
        router.route(endpoint.route(), method)
    })
}

/// What a request asks for.
struct Asked<'a> {
    portal: &'a Portal,
    endpoint: Endpoint,
    number: u64,
    /// The key if the portal knows it.
    key: Option<Arc<str>>,
    id: Option<&'a str>,
    uri: &'a Uri,
    /// The id of the session that this call made.
    made: OnceLock<String>,
}

/// A call under way. When it is dropped it has ended, answered or not, and is logged.
struct Visit<'a> {
    asked: Asked<'a>,
    fault: Option<FaultId>,
    status: Option<u16>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.asked.portal.journal.ended(self.asked.number, self.asked.endpoint);
        self.asked.portal.changed();
        let key = self.asked.key.as_deref().map(shown);
        let endpoint = self.asked.endpoint.name();
        let session = self.asked.id.or(self.asked.made.get().map(String::as_str));
        let fault = self.fault.map(|FaultId(fault)| fault);
        if let Some(status) = self.status {
            info!(endpoint, status, session, key, fault, "answered");
        } else {
            info!(endpoint, session, key, fault, "not answered");
        }
    }
}

async fn answer(
    portal: &Portal,
    connection: &Connection,
    endpoint: Endpoint,
    id: Option<&str>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let key = head.headers.get("x-sdk-key").and_then(|value| value.to_str().ok());
    let known_key = key.and_then(|key| portal.keys.find(key));
    let number = portal.journal.arrive(&Arrival {
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
    let asked = Asked { portal, endpoint, number, key: known_key, id, uri: &head.uri, made: OnceLock::new() };
    let mut visit = Visit { asked, fault: None, status: None };
    portal.changed();

    if endpoint == Endpoint::Create {
        // Read so that the connection can be used again; the portal ignores what it says.
        let _ = axum::body::to_bytes(body, MOST_BODY).await;
    }
    let latency = portal.settings().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let delivery = match portal.orders.strike(endpoint, key, id) {
        None => {
            let answer = visit.asked.process(Keep::Yes);
            Delivery { status: Some(answer.status), response: send(answer, portal.now()) }
        }
        Some(strike) => {
            visit.struck(strike.id);
            perform(strike, connection, || portal.now(), |keep| visit.asked.process(keep)).await
        }
    };
    visit.deliver(delivery)
}

fn count(session: &mut Session, endpoint: Endpoint) {
    let counter = match endpoint {
        Endpoint::Details => &mut session.details_calls,
        Endpoint::Create
        | Endpoint::Image
        | Endpoint::ImageUnredacted
        | Endpoint::ImageFront
        | Endpoint::ImageBack => &mut session.image_calls,
    };
    *counter = counter.saturating_add(1);
}

impl Visit<'_> {
    fn struck(&mut self, fault: FaultId) {
        self.fault = Some(fault);
        self.asked.portal.journal.struck(self.asked.number, self.asked.endpoint, fault);
        self.asked.portal.changed();
    }

    fn deliver(mut self, delivery: Delivery) -> Response {
        let Delivery { response, status } = delivery;
        self.status = status;
        if let Some(status) = status {
            self.asked.portal.journal.answered(self.asked.number, self.asked.endpoint, status);
        }
        response
    }
}

impl Asked<'_> {
    fn process(&self, keep: Keep) -> Answer {
        if !self.portal.settings().configured {
            return Answer::not_configured();
        }
        let Some(key) = &self.key else {
            return Answer::error(401);
        };
        match (self.endpoint, self.id) {
            (Endpoint::Create, _) => self.create(key, keep),
            (_, None) => Answer::error(404),
            (Endpoint::Details, Some(id)) => self.read(key, id, |session| wire::details(id, session)),
            (Endpoint::Image, Some(id)) => self.attempt(key, id, images::Kind::Redacted),
            (Endpoint::ImageUnredacted, Some(id)) => self.attempt(key, id, images::Kind::Unredacted),
            (Endpoint::ImageFront, Some(id)) => self.side(key, id, images::Kind::Front),
            (Endpoint::ImageBack, Some(id)) => self.side(key, id, images::Kind::Back),
        }
    }

    fn create(&self, key: &Arc<str>, keep: Keep) -> Answer {
        let (id, session) = self.portal.draft(Arc::clone(key));
        let answer = wire::created(&id, &session);
        if keep == Keep::Yes {
            self.portal.keep(&id, session);
            self.portal.journal.made(self.number, &id);
            self.portal.changed();
            let _ = self.made.set(id);
        }
        answer
    }

    /// Reads a session, if there is one and the key made it.
    fn read(&self, key: &Arc<str>, id: &str, answer: impl FnOnce(&Session) -> Answer) -> Answer {
        let read = self.portal.with_session(id, |session, _| {
            if session.key == *key { answer(session) } else { Answer::error(403) }
        });
        read.unwrap_or_else(|| Answer::error(404))
    }

    /// The image of one upload.
    fn attempt(&self, key: &Arc<str>, id: &str, kind: images::Kind) -> Answer {
        let Some(image) = Image::asked_for(self.uri) else {
            return Answer::error(400);
        };
        self.inputs(key, id, kind, &image.image_type, |session| {
            (image.attempt_index < session.attempts).then_some(image.attempt_index)
        })
    }

    /// The accepted image of one side.
    fn side(&self, key: &Arc<str>, id: &str, kind: images::Kind) -> Answer {
        let Some(image) = Image::asked_for(self.uri) else {
            return Answer::error(400);
        };
        self.inputs(key, id, kind, &image.image_type, |session| {
            let there = session.has_document() && kind.is_on(session.document);
            there.then(|| session.attempts.saturating_sub(1))
        })
    }

    fn inputs(
        &self,
        key: &Arc<str>,
        id: &str,
        kind: images::Kind,
        image_type: &str,
        attempt: impl FnOnce(&Session) -> Option<u32>,
    ) -> Answer {
        let mut attempt_index = None;
        let answer = self.read(key, id, |session| {
            attempt_index = attempt(session);
            Answer::no_image()
        });
        // Drawn outside of `read`, which holds all sessions.
        match attempt_index {
            Some(attempt_index) => self
                .portal
                .gallery
                .inputs(kind, image_type, attempt_index)
                .map_or_else(|_| Answer::error(500), Answer::jpeg),
            None => answer,
        }
    }
}

/// The parameters of an image call.
#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default = "original")]
    image_type: String,
    #[serde(default)]
    attempt_index: u32,
}

fn original() -> String {
    "original".to_owned()
}

impl Image {
    /// Any short word is an image type: the guide's list of them is open.
    fn asked_for(uri: &Uri) -> Option<Self> {
        let Query(image) = Query::<Self>::try_from_uri(uri).ok()?;
        let is_a_word = (1..=32).contains(&image.image_type.len())
            && image.image_type.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        is_a_word.then_some(image)
    }
}
