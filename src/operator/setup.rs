//! Opens what the settings name: files of certificate authorities, the file of stores, the HTTP clients, and the
//! candidate of the leader election.

use std::{fs, io, path::PathBuf, sync::Arc};

use rustls::ClientConfig;

use crate::{
    api::ImageKind,
    clock::Clock,
    cluster::{Cluster, LeaseRef},
    evidence::EvidenceContext,
    leader::{Elector, Timing},
    metrics::Metrics,
    portal::{ClientSettings, InvalidClient, PortalClient},
    settings::{LeaderElection, PodReference, ProxyUrl, Settings},
    store::{HttpSettings, InvalidStores, RetryPolicy, StoreHttp, Stores, http::InvalidHttp},
    tls::{CaBundle, InvalidTrust, client_config},
    webhook::{InvalidCertificate, InvalidEndpoints, InvalidForwarder},
};

/// Why something that the settings name could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Setup {
    /// A file cannot be read.
    #[error("cannot read the file named by {flag}")]
    File {
        /// The flag that names the file.
        flag: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A file of certificate authorities cannot be used.
    #[error("check {flag}")]
    Authorities {
        /// The flag that names the file.
        flag: &'static str,
        /// What is wrong with the file.
        source: InvalidTrust,
    },
    /// The machine's own certificate authorities cannot be used.
    #[error(transparent)]
    Trust(InvalidTrust),
    /// The file of stores cannot be used.
    #[error("check --stores-file")]
    Stores(#[from] InvalidStores),
    /// There is no client for stores.
    #[error("cannot set up the HTTP client for stores")]
    StoreClient(#[from] InvalidHttp),
    /// There is no client for portals.
    #[error(transparent)]
    PortalClient(InvalidClient),
    /// The file with the names of notifications cannot be used.
    #[error("check --webhooks-file")]
    Webhooks(#[from] InvalidEndpoints),
    /// The certificate for notifications cannot be used.
    #[error("check --webhook-tls-cert-file and --webhook-tls-key-file")]
    WebhookCertificate(#[from] InvalidCertificate),
    /// There is no client for the leader.
    #[error(transparent)]
    Forwarder(#[from] InvalidForwarder),
}

/// Makes the client for portals.
///
/// # Errors
///
/// [`Setup`].
pub(super) fn portal_client(settings: &Settings) -> Result<PortalClient, Setup> {
    let authorities = Authority { flag: "--portal-ca-file", file: settings.portal_ca_file.as_ref() };
    let extra_ca_pem = authorities.read()?;
    let proxy = settings.portal_proxy.as_ref().map(ProxyUrl::url).cloned();
    let client = PortalClient::new(&ClientSettings { proxy, extra_ca_pem, ..ClientSettings::default() });
    client.map_err(|invalid| match invalid {
        InvalidClient::Trust(invalid) => authorities.blame(invalid),
        InvalidClient::Http(_) => Setup::PortalClient(invalid),
    })
}

/// Makes the candidate of the leader election, if there is one. Its identity is the Pod or the machine, and this run.
pub(super) fn elector(
    settings: &Settings,
    run_id: u64,
    (cluster, clock, metrics): (Arc<Cluster>, Clock, Arc<Metrics>),
) -> Option<Elector> {
    let election = settings.leader_election.clone()?;
    let LeaderElection { lease_name, lease_namespace, lease_duration, renew_deadline, retry_period } =
        election;
    let own_pod = settings.own_pod.as_ref();
    let namespace = match (&lease_namespace, own_pod) {
        (Some(namespace), _) => namespace.as_str(),
        (None, Some(PodReference { namespace, .. })) => namespace,
        (None, None) => cluster.own_namespace(),
    };
    let lease = LeaseRef { namespace: namespace.to_owned(), name: lease_name };
    let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    let process = own_pod.map_or_else(machine, |pod| pod.name.clone());
    let timing = Timing { lease_duration, renew_deadline, retry_period };
    Some(Elector::new(cluster, clock, metrics, lease, (format!("{process}_{run_id:016x}"), timing)))
}

/// Makes what evidence is stored with.
///
/// # Errors
///
/// [`Setup`].
pub(super) fn evidence(settings: &Settings) -> Result<EvidenceContext, Setup> {
    let http = StoreHttp::new(&HttpSettings::default(), store_trust(settings)?)?;
    let stores = match &settings.stores_file {
        None => Stores::default(),
        Some(file) => {
            let text = fs::read_to_string(file);
            let text = text.map_err(|source| Setup::File { flag: "--stores-file", source })?;
            let environment: Vec<_> = std::env::vars().collect();
            Stores::read(&file.display().to_string(), &text, &environment, &http, RetryPolicy::default())?
        }
    };
    let forbidden = settings.forbidden_images.iter().copied().map(ImageKind::from).collect();
    Ok(EvidenceContext::new(stores, settings.allowed_store_endpoints.clone(), http, forbidden))
}

fn store_trust(settings: &Settings) -> Result<ClientConfig, Setup> {
    let authorities = Authority { flag: "--store-ca-file", file: settings.store_ca_file.as_ref() };
    client_config(authorities.read()?.as_deref()).map_err(|invalid| authorities.blame(invalid))
}

/// A file of certificate authorities, which need not be given.
struct Authority<'a> {
    flag: &'static str,
    file: Option<&'a PathBuf>,
}

impl Authority<'_> {
    /// Reads the file and logs what is in it.
    fn read(&self) -> Result<Option<Vec<u8>>, Setup> {
        let Some(file) = self.file else { return Ok(None) };
        let pem = fs::read(file).map_err(|source| Setup::File { flag: self.flag, source })?;
        let CaBundle { certificates, skipped_blocks } =
            CaBundle::parse(&pem).map_err(|invalid| self.blame(invalid.into()))?;
        tracing::info!(
            flag = self.flag,
            certificates = certificates.len(),
            skipped_blocks,
            "read CA certificates"
        );
        Ok(Some(pem))
    }

    /// Names the flag, unless only the machine's authorities were used.
    fn blame(&self, source: InvalidTrust) -> Setup {
        match self.file {
            Some(_) => Setup::Authorities { flag: self.flag, source },
            None => Setup::Trust(source),
        }
    }
}
