//! Reads secrets and certificate again while the operator runs, so that neither needs a restart. Touches files. May depend
//! on `receiver`, `certificate` and `incidents`.

use std::{error::Error as _, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    certificate::Certificate,
    receiver::{Receiver, Unread},
};
use crate::incidents::Incidents;

/// The kubelet itself takes about a minute to bring a changed Secret.
const EVERY: Duration = Duration::from_secs(5);
/// After this long without a failure the next one is logged again.
const RESOLVE_TIMEOUT: Duration = Duration::from_mins(5);

/// Reads the files every five seconds for as long as the process runs.
pub(super) async fn reload(receiver: Arc<Receiver>, certificate: Option<Arc<Certificate>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures: Incidents<(), Vec<String>> = Incidents::default();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        for Unread { name, error, keeps_secrets } in receiver.reload() {
            let cause = error.source().map(ToString::to_string);
            if !failures.is_news(format!("{name}: {error} {cause:?} {keeps_secrets}"), RESOLVE_TIMEOUT, now) {
                continue;
            }
            if keeps_secrets {
                tracing::warn!(name, %error, cause, "the secrets of a webhook cannot be read; the ones before stay in use");
            } else {
                tracing::warn!(name, %error, cause, "a webhook has no secrets, so that every call of it gets 401");
            }
        }
        match certificate.as_deref().map(Certificate::reload) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => tracing::info!("the certificate of the webhook port was replaced"),
            Some(Err(error)) => {
                if failures.is_news(error.to_string(), RESOLVE_TIMEOUT, now) {
                    let cause = error.source().map(ToString::to_string);
                    tracing::warn!(
                        %error,
                        cause,
                        "the certificate of the webhook port cannot be read; the one before stays in use"
                    );
                }
            }
        }
    }
}
