//! The files that a broker shows others who it is with, and their renewal while it runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use millstream_core::ids::BrokerId;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{Identity, IdentityError, Known, tls};

/// What is in the folder: `ca.pem`, `node.pem`, `node.key`.
pub struct Certificates {
    pub identity: Identity,
    pub authorities: Arc<RootCertStore>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub folder: PathBuf,
    /// When the files were written: as it was before they were read, so that no later change is missed.
    written: [Option<SystemTime>; 3],
}

impl Certificates {
    /// Reads the files, and checks that others will take the certificate.
    ///
    /// # Errors
    /// A file is missing or holds something else, or the certificate is another node's, has expired, or is of another
    /// authority.
    pub fn load(folder: &Path, node: BrokerId) -> Result<Self, IdentityError> {
        let certificates = Self::read(folder, node)?;
        // Others would refuse it: better said now, and here.
        tls::check_own(&certificates.chain, &certificates.authorities)
            .map_err(|reason| wrong(&folder.join(CERTIFICATE), reason))?;
        Ok(certificates)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file is missing or holds something else, or the certificate is another node's.
    pub fn read(folder: &Path, node: BrokerId) -> Result<Self, IdentityError> {
        let written = written(folder);
        let mut authorities = RootCertStore::empty();
        for certificate in chain(&folder.join(AUTHORITY))? {
            authorities
                .add(certificate)
                .map_err(|error| wrong(&folder.join(AUTHORITY), error.to_string()))?;
        }
        let path = folder.join(CERTIFICATE);
        let chain = chain(&path)?;
        let identity = Identity::of(&chain[0]).ok_or_else(|| {
            wrong(
                &path,
                "the certificate names no node of a cluster; `millstream cluster certs` makes those",
            )
        })?;
        if identity.node != node {
            let (found, wanted) = (identity.node, node);
            return Err(IdentityError::OtherNode { path, found, wanted });
        }
        let key_path = folder.join(KEY);
        let key =
            PrivateKeyDer::from_pem_file(&key_path).map_err(|error| wrong(&key_path, reason(&error)))?;
        Ok(Self {
            identity,
            authorities: Arc::new(authorities),
            chain,
            key,
            folder: folder.to_owned(),
            written,
        })
    }

    /// SHA-256 of the certificate, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.chain[0])
    }
}

/// SHA-256 of a certificate, in hexadecimal.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate.as_ref())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(path, reason(&error)))?;
    match certificates.is_empty() {
        true => Err(wrong(path, "there is no certificate in it")),
        false => Ok(certificates),
    }
}

/// What is wrong with a file, without the words of the parser around it.
fn reason(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "there is nothing of that kind in it".to_owned(),
        other => other.to_string(),
    }
}

fn wrong(path: &Path, reason: impl Into<String>) -> IdentityError {
    IdentityError::File {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// Looks at the files from time to time, and takes new ones without a restart.
pub struct Renewal {
    pub endpoint: quinn::Endpoint,
    pub folder: PathBuf,
    pub node: BrokerId,
    pub certificates: Arc<RwLock<Arc<Certificates>>>,
    pub known: Arc<RwLock<HashMap<BrokerId, Known>>>,
}

impl Renewal {
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut told = None;
        while !*shutdown.borrow() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = shutdown.changed() => break,
            }
            let now = written(&self.folder);
            let used = self
                .certificates
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .written;
            if now == used {
                continue;
            }
            match self.renew() {
                Ok(()) => tracing::info!(folder = %self.folder.display(), "new certificates are in use"),
                // Files that are being written are looked at again; those in use go on being used.
                Err(error) if told != Some(now) => {
                    told = Some(now);
                    tracing::warn!(%error, "changed certificates cannot be used");
                }
                Err(_) => {}
            }
        }
    }

    fn renew(&self) -> Result<(), IdentityError> {
        let loaded = Certificates::load(&self.folder, self.node)?;
        let server = tls::server(&loaded, &self.known)?;
        self.endpoint.set_server_config(Some(server));
        *self.certificates.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }
}

fn written(folder: &Path) -> [Option<SystemTime>; 3] {
    [AUTHORITY, CERTIFICATE, KEY]
        .map(|name| folder.join(name).metadata().and_then(|data| data.modified()).ok())
}

/// Certificates of those who may issue certificates of this cluster.
const AUTHORITY: &str = "ca.pem";
/// This node's certificate.
const CERTIFICATE: &str = "node.pem";
/// Its private key.
const KEY: &str = "node.key";
/// Pause between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);
