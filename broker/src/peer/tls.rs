//! TLS 1.3 between brokers: both sides show a certificate, and both check it.
//!
//! A certificate must come from an authority in `ca.pem`, be valid now, and name a node of the same cluster
//! (`identity.rs`). Who dials a broker by its id wants that node; who is dialled takes the caller for the node that its
//! certificate names. The fingerprint that a broker registered with does not decide: a renewed certificate is used
//! before the quorum can hear of it, and refusing it would keep its broker from telling. Another one is logged.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use millstream_core::ids::BrokerId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::certificates::{Certificates, fingerprint};
use super::rarely::Rarely;
use super::{Identity, IdentityError, Known, transport};

/// What those who dial this broker meet.
///
/// # Errors
/// Key and certificate do not go together.
pub fn server(
    certificates: &Certificates,
    known: &Arc<RwLock<HashMap<BrokerId, Known>>>,
) -> Result<quinn::ServerConfig, IdentityError> {
    let unusable = |error: String| IdentityError::Unusable {
        folder: certificates.folder.clone(),
        reason: error,
    };
    let chain = WebPkiClientVerifier::builder_with_provider(certificates.authorities.clone(), provider())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let callers = Callers {
        chain,
        cluster: certificates.identity.cluster.clone(),
        known: known.clone(),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_client_cert_verifier(Arc::new(callers))
        .with_single_cert(certificates.chain.clone(), certificates.key.clone_key())
        .map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // What is sent before the handshake is over could be sent again by somebody else.
    config.max_early_data_size = 0;
    let quic = QuicServerConfig::try_from(config).map_err(|error| unusable(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(quic));
    server.transport_config(Arc::new(transport::incoming()));
    // Brokers stay where they are.
    server.migration(false);
    Ok(server)
}

/// What this broker dials with: a certain node, or whichever node of the cluster is there.
///
/// # Errors
/// Key and certificate do not go together.
pub fn client(
    certificates: &Certificates,
    node: Option<BrokerId>,
    class: super::Class,
) -> Result<quinn::ClientConfig, String> {
    let callee = Callee {
        authorities: certificates.authorities.clone(),
        algorithms: provider().signature_verification_algorithms,
        cluster: certificates.identity.cluster.clone(),
        node,
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(callee))
        .with_client_auth_cert(certificates.chain.clone(), certificates.key.clone_key())
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.enable_early_data = false;
    let quic = QuicClientConfig::try_from(config).map_err(|error| error.to_string())?;
    let mut client = quinn::ClientConfig::new(Arc::new(quic));
    client.transport_config(Arc::new(transport::outgoing(class)));
    Ok(client)
}

/// Whom a connection leads to.
pub fn identity_of(connection: &quinn::Connection) -> Option<Identity> {
    let shown = connection.peer_identity()?;
    let chain = shown.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Identity::of(chain.first()?)
}

/// The cryptography; there is one, and it is not the process's default, so that nobody else can choose it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Checks the certificates of those who dial.
#[derive(Debug)]
struct Callers {
    chain: Arc<dyn ClientCertVerifier>,
    cluster: String,
    known: Arc<RwLock<HashMap<BrokerId, Known>>>,
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| refuse("caller", end_entity, &error))?;
        let identity = check_name(end_entity, &self.cluster, None)
            .map_err(|error| refuse("caller", end_entity, &error))?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let expected = known
            .get(&identity.node)
            .and_then(|known| known.fingerprint.clone());
        if expected.is_some_and(|expected| expected != fingerprint(end_entity)) {
            tracing::info!(
                node = identity.node.0,
                "a broker has another certificate than when it registered"
            );
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Checks the certificate of the one that is dialled.
#[derive(Debug)]
struct Callee {
    authorities: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    cluster: String,
    node: Option<BrokerId>,
}

impl ServerCertVerifier for Callee {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain(end_entity, &self.authorities, intermediates, now)
            .and_then(|()| check_name(end_entity, &self.cluster, self.node))
            .map_err(|error| refuse("callee", end_entity, &error))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A certificate that is good by itself, but not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum WrongName {
    #[error("it names no node of a cluster")]
    None,
    #[error("it is of cluster '{found}', not '{wanted}'")]
    Cluster { found: String, wanted: String },
    #[error("it is of node {found}, not {wanted}")]
    Node { found: BrokerId, wanted: BrokerId },
}

fn check_name(
    certificate: &CertificateDer<'_>,
    cluster: &str,
    node: Option<BrokerId>,
) -> Result<Identity, Error> {
    let wrong =
        |name: WrongName| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(name))));
    let identity = Identity::of(certificate).ok_or_else(|| wrong(WrongName::None))?;
    if identity.cluster != cluster {
        let (found, wanted) = (identity.cluster, cluster.to_owned());
        return Err(wrong(WrongName::Cluster { found, wanted }));
    }
    match node.filter(|wanted| *wanted != identity.node) {
        Some(wanted) => Err(wrong(WrongName::Node {
            found: identity.node,
            wanted,
        })),
        None => Ok(identity),
    }
}

fn check_chain(
    end_entity: &CertificateDer<'_>,
    authorities: &RootCertStore,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity)?;
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, authorities, intermediates, now, algorithms)
}

/// What others would say to a broker's own certificate.
///
/// # Errors
/// Why they would refuse it.
pub fn check_own(chain: &[CertificateDer<'_>], authorities: &RootCertStore) -> Result<(), String> {
    let (own, intermediates) = chain.split_first().ok_or("there is no certificate")?;
    check_chain(own, authorities, intermediates, UnixTime::now()).map_err(|error| why(&error))
}

/// Whether a handshake failed because the caller has no certificate.
pub fn shows_no_certificate(error: &quinn::ConnectionError) -> bool {
    matches!(error, quinn::ConnectionError::TransportError(error)
        if error.code == quinn::TransportErrorCode::crypto(CERTIFICATE_REQUIRED))
}

/// What a side that refuses a certificate says about it, without the words around it.
pub fn told(reason: &str) -> &str {
    reason.strip_prefix(BEFORE_REASON).unwrap_or(reason)
}

/// What is wrong with a certificate, in words that say which of the usual things it is.
fn why(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it has expired".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "it is not valid yet".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its authority is none of those in ca.pem".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => reason.to_string(),
        other => other.to_string(),
    }
}

/// Tells of a certificate that is refused, here and, with the error, on the other side.
fn refuse(who: &str, certificate: &CertificateDer<'_>, error: &Error) -> Error {
    let named = Identity::of(certificate).map(|identity| identity.dns_name());
    let (certificate, reason) = (named.as_deref().unwrap_or("of no node"), why(error));
    let told = REFUSED.tells(&format!("{who} {certificate} {reason}"), Instant::now());
    if let Some(left_out) = told {
        tracing::warn!(who, certificate, reason, left_out, "certificate refused");
    }
    Error::General(format!("certificate {certificate}: {reason}"))
}

/// Who is refused dials again and again.
static REFUSED: Rarely = Rarely::new();
/// What brokers speak with each other (ALPN, RFC 7301).
const PROTOCOL: &[u8] = b"millstream/1";
/// What rustls says before the text of an [`Error::General`].
const BEFORE_REASON: &str = "unexpected error: ";
/// The alert of TLS 1.3 for that (RFC 8446, 6.2).
const CERTIFICATE_REQUIRED: u8 = 116;
