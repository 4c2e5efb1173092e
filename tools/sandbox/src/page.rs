//! The page that a person clicks through, in place of the portal's own. Plain forms, no script.
//!
//! May depend on [`Portal`], which it changes by the same acts as a scripted person.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Deserialize;

use crate::person::{Act, Document, Verdict};
use crate::portal::Portal;
use crate::session::{Progress, Session};

/// `/` as in the guide's table of modes, and `/verify` as in its sample journey.
pub(crate) fn routes() -> Router<Arc<Portal>> {
    Router::new().route("/", get(show).post(step)).route("/verify", get(show).post(step))
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    verification_id: Option<String>,
    mode: Option<String>,
}

/// The form that a button of the page submits.
#[derive(Debug, Deserialize)]
struct Click {
    verification_id: String,
    /// The module that the person completes or fails.
    module: Option<String>,
    /// `fail` for a failed attempt.
    outcome: Option<String>,
    document: Option<Document>,
    verdict: Option<Verdict>,
}

async fn show(
    State(portal): State<Arc<Portal>>,
    Query(query): Query<PageQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(id) = query.verification_id else {
        return page("okID sandbox", &welcome()).into_response();
    };
    let content = if query.mode.as_deref() == Some("select") {
        let link = direct_link(&uri, &headers, &id);
        portal.with_session(&id, |_, _| selection(&id, &link))
    } else {
        portal.with_session(&id, |session, now| {
            // Opening the link is the person's first act; it changes nothing in a finished session.
            let _ = session.act(&Act::Open, now);
            journey(&id, session)
        })
    };
    match content {
        Some(content) => page("Verify your identity", &content).into_response(),
        None => (StatusCode::NOT_FOUND, page("Unknown verification", &unknown())).into_response(),
    }
}

async fn step(State(portal): State<Arc<Portal>>, Form(click): Form<Click>) -> Response {
    let acts = [
        click.document.map(Act::Show),
        click.module.map(|module| {
            if click.outcome.as_deref() == Some("fail") { Act::Fail(module) } else { Act::Complete(module) }
        }),
        click.verdict.map(Act::Decide),
    ];
    for act in acts.into_iter().flatten() {
        // An act that is no longer possible changes nothing; the page shows the current state.
        let _ = portal.act(&click.verification_id, &act);
    }
    Redirect::to(&direct_path(&click.verification_id)).into_response()
}

fn direct_path(id: &str) -> String {
    let id: String =
        id.chars().filter(|letter| letter.is_ascii_alphanumeric() || "._~-".contains(*letter)).collect();
    format!("/?verification_id={id}")
}

/// The direct link with the host name that the browser used.
fn direct_link(uri: &Uri, headers: &HeaderMap, id: &str) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str));
    format!("http://{}{}", host.unwrap_or("localhost"), direct_path(id))
}

fn page(title: &str, content: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title) " · okID sandbox" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header { p { strong { "okID" } " sandbox" } }
                main { h1 { (title) } (content) }
                footer { p { "A simulation for tests. No data leaves this machine, and no verdict is real." } }
            }
        }
    };
    Html(page.into_string())
}

fn welcome() -> Markup {
    html! {
        p { "Create a session with " code { "POST /api/generate-verification" } ". The link to its page is" }
        p { code { "/?verification_id=…" } " or " code { "/?verification_id=…&mode=select" } }
        p { "All other functions are listed at " a href="/sandbox" { "/sandbox" } "." }
    }
}

fn unknown() -> Markup {
    html! { p { "This verification does not exist, or it was deleted. Ask for a new link." } }
}

fn selection(id: &str, link: &str) -> Markup {
    html! {
        p { "Where do you want to continue? You need a camera and your document." }
        section aria-labelledby="phone" {
            h2 id="phone" { "On your phone" }
            p { "Point its camera at this code." }
            figure role="img" aria-label="QR code of the link" { (qr_code(link)) }
        }
        section aria-labelledby="here" {
            h2 id="here" { "On this device" }
            p { a.button href=(direct_path(id)) { "Continue here" } }
        }
    }
}

fn qr_code(link: &str) -> Markup {
    let svg = QrCode::new(link).map(|code| code.render::<svg::Color<'_>>().min_dimensions(220, 220).build());
    // The XML declaration before the element belongs to a file, not to a page.
    let element = svg.as_ref().ok().and_then(|svg| svg.get(svg.find("<svg")?..));
    html! {
        @match element {
            Some(element) => (PreEscaped(element)),
            None => a href=(link) { (link) },
        }
    }
}

fn journey(id: &str, session: &Session) -> Markup {
    html! {
        ol.steps {
            @for (module, progress) in session.flow.iter().zip(&session.progress) {
                li class=(progress.name()) { span { (title(module)) } " " small { (progress_label(*progress)) } }
            }
        }
        @if session.status.is_finished() {
            (end(session.status.name()))
        } @else if let Some(module) = session.next_module() {
            (module_form(id, module))
            (verdict_form(id, "Or", &[(Verdict::Expired, "Let it expire")]))
        } @else {
            p role="status" { "Thank you. Your data is being checked (" code { (session.status.name()) } ")." }
            (verdict_form(id, "Verdict of the reviewer", &[
                (Verdict::Verified, "Verified"),
                (Verdict::Rejected, "Rejected"),
                (Verdict::NeedsManualReview, "Needs manual review"),
                (Verdict::Expired, "Let it expire"),
            ]))
        }
    }
}

fn title(module: &str) -> &str {
    match module {
        "terms" => "Terms of service",
        "document" => "Identity document",
        "liveness" => "Selfie",
        "form_data" => "Your details",
        other => other,
    }
}

fn progress_label(progress: Progress) -> &'static str {
    match progress {
        Progress::Pending => "to do",
        Progress::InProgress => "started",
        Progress::Completed => "done",
        Progress::Failed => "try again",
        Progress::Skipped => "skipped",
    }
}

fn end(status: &str) -> Markup {
    let sentence = match status {
        "verified" => "Your identity is verified. You can close this page.",
        "rejected" => "Your identity could not be verified.",
        _ => "This verification has expired. Ask for a new link.",
    };
    html! { p.end class=(status) role="status" { (sentence) } }
}

fn module_form(id: &str, module: &str) -> Markup {
    html! {
        form method="post" action="/" {
            h2 { (title(module)) }
            input type="hidden" name="verification_id" value=(id);
            input type="hidden" name="module" value=(module);
            @match module {
                "terms" => p { label { input type="checkbox" required; " I accept the terms of service." } },
                "document" => fieldset {
                    legend { "Which document do you show?" }
                    label { input type="radio" name="document" value="id_card" checked; " Identity card (front and back)" }
                    label { input type="radio" name="document" value="passport"; " Passport (one side)" }
                },
                "liveness" => p { "Look into the camera. (The sandbox has no camera and accepts anything.)" },
                _ => p { label for="email" { "E-mail address " } input id="email" type="email" autocomplete="off"; },
            }
            p {
                button type="submit" { "Continue" }
                @if matches!(module, "document" | "liveness") {
                    " " button.secondary type="submit" name="outcome" value="fail" { "Fail this attempt" }
                }
            }
        }
    }
}

fn verdict_form(id: &str, legend: &str, choices: &[(Verdict, &str)]) -> Markup {
    html! {
        form.reviewer method="post" action="/" {
            input type="hidden" name="verification_id" value=(id);
            fieldset {
                legend { (legend) }
                @for (verdict, label) in choices {
                    button.secondary type="submit" name="verdict" value=(form_value(*verdict)) { (label) } " "
                }
            }
        }
    }
}

fn form_value(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Verified => "verified",
        Verdict::Rejected => "rejected",
        Verdict::NeedsManualReview => "needs_manual_review",
        Verdict::Expired => "expired",
    }
}
