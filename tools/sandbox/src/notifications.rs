//! Notifications: the portal calls a webhook whenever a session changes, and on request also in ways that it should not.
//!
//! The guide names neither a format nor a signature, so both are this sandbox's own. Calls the webhook. May depend on
//! [`Portal`].

use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::portal::Portal;

/// How often scripted persons are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long the webhook may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// The webhook that is called, and how a call is signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its URL.
    pub url: String,
    /// The key of the HMAC-SHA256 over the body.
    pub secret: String,
    /// The header with the HMAC in hexadecimal.
    pub header: String,
}

/// What happens to a notification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It is signed and sent once.
    #[default]
    Signed,
    /// It is not sent.
    Lost,
    /// It is signed and sent twice.
    Doubled,
    /// It is sent with the signature of another secret.
    Forged,
}

/// The notifications of one portal.
#[derive(Debug)]
pub(crate) struct Notifications {
    webhook: Mutex<Option<Webhook>>,
    delivery: Mutex<Delivery>,
    queue: UnboundedSender<(String, Delivery)>,
}

impl Notifications {
    /// None until there is a webhook. What is queued is sent by [`deliver`].
    pub(crate) fn new() -> (Self, UnboundedReceiver<(String, Delivery)>) {
        let (queue, queued) = unbounded_channel();
        (Self { webhook: Mutex::default(), delivery: Mutex::default(), queue }, queued)
    }

    /// Notifies about a session that has changed.
    pub(crate) fn changed(&self, id: &str) {
        let delivery = *self.delivery.lock();
        self.send(id, delivery);
    }

    /// Notifies about a session in that way, if there is a webhook.
    fn send(&self, id: &str, delivery: Delivery) {
        if self.webhook.lock().is_some() {
            // Without a task that delivers, the portal is being stopped.
            let _ = self.queue.send((id.to_owned(), delivery));
        }
    }
}

impl Portal {
    /// Notifies this webhook whenever a session changes; `None` notifies nobody.
    pub fn set_webhook(&self, webhook: Option<Webhook>) {
        *self.notifications.webhook.lock() = webhook;
    }

    /// What happens to notifications from now on.
    pub fn set_delivery(&self, delivery: Delivery) {
        *self.notifications.delivery.lock() = delivery;
    }

    /// Notifies about a session in this way, whether it has changed or not.
    pub fn notify(&self, id: &str, delivery: Delivery) {
        self.notifications.send(id, delivery);
    }
}

/// Delivers what is queued, until the portal is dropped.
pub(crate) async fn deliver(portal: Weak<Portal>, mut queued: UnboundedReceiver<(String, Delivery)>) {
    let client = Client::builder().no_proxy().timeout(ANSWERED_WITHIN).build().unwrap_or_default();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = queued.recv() => next,
            _ = ticks.tick() => {
                let Some(portal) = portal.upgrade() else { return };
                if portal.notifications.webhook.lock().is_some() {
                    portal.catch_up();
                }
                continue;
            }
        };
        let (Some((id, delivery)), Some(portal)) = (next, portal.upgrade()) else { return };
        let Some(webhook) = portal.notifications.webhook.lock().clone() else { continue };
        tokio::spawn(call(client.clone(), Arc::new(webhook), id, delivery));
    }
}

async fn call(client: Client, webhook: Arc<Webhook>, id: String, delivery: Delivery) {
    let (secret, times) = match delivery {
        Delivery::Signed => (webhook.secret.clone(), 1),
        Delivery::Lost => return,
        Delivery::Doubled => (webhook.secret.clone(), 2),
        Delivery::Forged => (format!("{} forged", webhook.secret), 1),
    };
    let body = json!({"event": "status_changed", "verification_id": id}).to_string();
    let signature = signature(&secret, body.as_bytes());
    for _ in 0..times {
        let request = client.post(&webhook.url).header(&webhook.header, &signature);
        match request.header("content-type", "application/json").body(body.clone()).send().await {
            Ok(answer) => tracing::debug!(status = answer.status().as_u16(), "called the webhook"),
            Err(error) => tracing::warn!(%error, "call the webhook"),
        }
    }
}

fn signature(secret: &str, body: &[u8]) -> String {
    // HMAC accepts a key of any length.
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok().map(|mac| mac.chain_update(body));
    let bytes = mac.map(|mac| mac.finalize().into_bytes());
    bytes.iter().flatten().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
