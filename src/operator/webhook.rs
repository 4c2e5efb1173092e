//! Sets up the receiver of notifications, if there is one. May depend on the modules that the operator wires.

use std::{fs, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{error::RunOperator, setup::Setup};
use crate::{
    admin::listen::listen,
    leader::LeaderAddress,
    metrics::Metrics,
    reconcile::Reconciler,
    settings::{Settings, WebhookSettings},
    webhook::{Certificate, CertificateFiles, Endpoints, Forwarder, Receiver, ReceiverSettings, Role, serve},
};

/// A receiver that listens and accepts no connection yet.
pub(super) struct Webhook {
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    endpoints: Endpoints,
    settings: WebhookSettings,
}

impl Webhook {
    /// Reads the files that the settings name, and listens. Nothing, if no notifications are received.
    ///
    /// # Errors
    ///
    /// [`RunOperator::Setup`] and [`RunOperator::Webhook`].
    pub(super) fn open(settings: &Settings) -> Result<Option<Self>, RunOperator> {
        let Some(webhook) = &settings.webhook else { return Ok(None) };
        let text = fs::read_to_string(&webhook.file);
        let text = text.map_err(|source| Setup::File { flag: "--webhooks-file", source })?;
        let endpoints = Endpoints::parse(&text, &settings.allowed_portals, &settings.default_portal);
        let endpoints = endpoints.map_err(Setup::from)?;
        let files =
            webhook.certificate.clone().map(|(certificate, key)| CertificateFiles { certificate, key });
        let certificate = files.map(Certificate::load).transpose().map_err(Setup::from)?;
        let listener = listen(webhook.address).map_err(RunOperator::Webhook)?;
        if let Ok(webhook_address) = listener.local_addr() {
            let names: Vec<_> = endpoints.names().collect();
            let (names, tls) = (names.join(", "), certificate.is_some());
            tracing::info!(%webhook_address, names, tls, "receiving notifications of portals");
        }
        let certificate = certificate.map(Arc::new);
        Ok(Some(Self { listener, certificate, endpoints, settings: webhook.clone() }))
    }

    /// Where other replicas reach it: at this Pod's address, or where it listens, if that is one address.
    pub(super) fn own_address(&self) -> Option<SocketAddr> {
        let listens = self.listener.local_addr().ok()?;
        let ip = self.settings.pod_ip.or_else(|| Some(listens.ip()).filter(|ip| !ip.is_unspecified()));
        if ip.is_none() {
            tracing::warn!(
                "other replicas cannot forward notifications to this one while it leads, because its address is not known; set \
                 --pod-ip"
            );
        }
        Some(SocketAddr::new(ip?, listens.port()))
    }

    /// Receives until the shutdown.
    ///
    /// # Errors
    ///
    /// [`Setup`].
    pub(super) fn start(
        self,
        (reconciler, leader): (&Arc<Reconciler>, Option<LeaderAddress>),
        metrics: &Arc<Metrics>,
        shutdown: &CancellationToken,
    ) -> Result<JoinHandle<()>, Setup> {
        let Self { listener, certificate, endpoints, settings } = self;
        let (leads, notified) = (Arc::clone(reconciler), Arc::clone(reconciler));
        let role = move || {
            if leads.leads() {
                Role::Leads
            } else {
                Role::Standby(leader.as_ref().and_then(LeaderAddress::get))
            }
        };
        let receiver = Receiver::new(ReceiverSettings {
            endpoints,
            source_rate: settings.source_rate.get(),
            trusted_proxies: settings.trusted_proxies,
            forwarder: Forwarder::new(certificate.clone())?,
            metrics: Arc::clone(metrics),
            role: Box::new(role),
            on_notification: Box::new(move |portal, id| notified.notified(portal, id)),
            shutdown: shutdown.clone(),
        });
        Ok(tokio::spawn(serve(listener, Arc::new(receiver), certificate)))
    }
}

/// Ends the receiver. At a shutdown it ends by itself, once the calls that have begun are answered.
pub(super) async fn end(receiving: JoinHandle<()>, shutdown: &CancellationToken) {
    if !shutdown.is_cancelled() {
        receiving.abort();
    }
    // A panic was logged when it happened.
    let _ = receiving.await;
}
