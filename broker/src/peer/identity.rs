//! Who a broker is, as its certificate says: `node-ID.CLUSTER.millstream.internal` among its DNS names.

use std::path::PathBuf;

use millstream_core::ids::BrokerId;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster: String,
    /// Id of the node.
    pub node: BrokerId,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The certificate is another node's.
    #[error("{path} is the certificate of node {found}, but this broker's node id is {wanted}")]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// The node that it names.
        found: BrokerId,
        /// This node.
        wanted: BrokerId,
    },
    /// Key and certificate, or certificate and authority, do not go together.
    #[error("the certificates in {folder} cannot be used: {reason}")]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl Identity {
    /// Reads the name out of a certificate; none if it is no node's.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = EndEntityCert::try_from(certificate).ok()?;
        parsed.valid_dns_names().find_map(Self::parse)
    }

    /// The node of a name such as `node-3.prod.millstream.internal`.
    pub fn parse(name: &str) -> Option<Self> {
        let (node, cluster) = name.strip_suffix(SUFFIX)?.strip_prefix(PREFIX)?.split_once('.')?;
        let is_number = !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit());
        let node = is_number.then(|| node.parse().ok()).flatten()?;
        (!cluster.is_empty()).then(|| Self {
            cluster: cluster.to_owned(),
            node: BrokerId(node),
        })
    }

    /// The DNS name that the certificate of a node has.
    pub fn dns_name(&self) -> String {
        format!("{PREFIX}{}.{}{SUFFIX}", self.node, self.cluster)
    }
}

const PREFIX: &str = "node-";
const SUFFIX: &str = ".millstream.internal";
