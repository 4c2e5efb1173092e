//! Forwards a call to the leader, unchanged: its body and the headers that prove it. One hop only. Calls another replica.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use reqwest::{Client, redirect::Policy};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{sync::Semaphore, time::timeout};

use super::certificate::Certificate;

/// Marks a call that another replica has forwarded.
pub(super) const FORWARDED_BY_A_REPLICA: HeaderName = HeaderName::from_static("okid-operator-forwarded");
/// How long the leader may take, with the wait for a place. Callers commonly give up after five seconds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// How long the connection may take, which stays within the cluster.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);
/// Shorter than the leader keeps an idle connection.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// The most calls to the leader at once. Further ones wait, so that a batch of calls does not exceed the leader's limits.
const MOST_AT_ONCE: usize = 32;

/// Why no client for the leader can be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for the leader cannot be set up")]
pub enum InvalidForwarder {
    /// TLS cannot be set up.
    Tls(#[source] rustls::Error),
    /// The client cannot be built.
    Http(#[source] reqwest::Error),
}

/// What became of a forwarded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    /// The leader has accepted it.
    Accepted,
    /// The leader found that it is not authentic, because it has read other secrets.
    Refused,
    /// There was no leader, or no response of it that a caller can use.
    NoLeader,
}

/// Forwards calls.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    client: Client,
    scheme: &'static str,
    places: Arc<Semaphore>,
}

/// Whether another replica has forwarded the call.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED_BY_A_REPLICA)
}

impl Forwarder {
    /// Forwards over TLS if this replica has a certificate: the leader then has it too.
    ///
    /// # Errors
    ///
    /// [`InvalidForwarder`].
    pub(crate) fn new(certificate: Option<Arc<Certificate>>) -> Result<Self, InvalidForwarder> {
        let builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECTED_WITHIN)
            .pool_idle_timeout(KEPT_FOR);
        let (builder, scheme) = match certificate {
            None => (builder, "http"),
            Some(certificate) => (builder.tls_backend_preconfigured(config(certificate)?), "https"),
        };
        let client = builder.build().map_err(InvalidForwarder::Http)?;
        Ok(Self { client, scheme, places: Arc::new(Semaphore::new(MOST_AT_ONCE)) })
    }

    /// Forwards a call.
    pub(super) async fn forward(
        &self,
        leader: SocketAddr,
        name: &str,
        headers: &HeaderMap,
        (proof, body): (HeaderName, Bytes),
    ) -> Forwarded {
        let kept = [proof, CONTENT_TYPE].into_iter();
        let mut forwarded: HeaderMap = kept
            .filter_map(|name| {
                let value = headers.get(&name)?.clone();
                Some((name, value))
            })
            .collect();
        forwarded.insert(FORWARDED_BY_A_REPLICA, HeaderValue::from_static("1"));
        let url = format!("{}://{leader}/notify/{name}", self.scheme);
        let call = async {
            let _place = self.places.acquire().await.ok()?;
            self.client.post(url).headers(forwarded).body(body).send().await.ok()
        };
        match timeout(ANSWERED_WITHIN, call).await.ok().flatten().map(|response| response.status()) {
            Some(StatusCode::ACCEPTED) => Forwarded::Accepted,
            Some(StatusCode::UNAUTHORIZED) => Forwarded::Refused,
            _ => Forwarded::NoLeader,
        }
    }
}

fn config(certificate: Arc<Certificate>) -> Result<ClientConfig, InvalidForwarder> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = ReplicaVerifier { certificate, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(InvalidForwarder::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// Accepts the certificate that this replica has itself. It names the public host, and not the address of a Pod.
#[derive(Debug)]
struct ReplicaVerifier {
    certificate: Arc<Certificate>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ReplicaVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificate.is_of_a_replica(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
