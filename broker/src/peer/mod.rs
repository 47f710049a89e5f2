//! Other brokers, over QUIC: who they are, calls to them, streams of replication.
//!
//! Both sides of a connection show a certificate that names their cluster and node id (`identity.rs`, `tls.rs`); nobody
//! else gets further than the handshake. A broker dials two connections to each other one ([`Class`]): what the quorum
//! says is never behind records that are copied, neither in a queue nor in what congestion control allows. A call is
//! one stream: its kind and the request, a status and the answer (`frame.rs`). What calls are about, this module does not
//! know: a [`Service`] answers them.

mod certificates;
mod frame;
mod identity;
mod link;
mod rarely;
mod serve;
mod serving;
mod tls;
mod transport;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use tokio::sync::watch;

use certificates::Certificates;
pub use identity::{Identity, IdentityError};
use link::Link;
use serving::Serving;

/// The socket for other brokers, and the ways to them.
pub struct Peers {
    endpoint: quinn::Endpoint,
    identity: Identity,
    fingerprint: String,
    folder: PathBuf,
    /// What connections are made with; replaced when the files change.
    certificates: Arc<RwLock<Arc<Certificates>>>,
    known: Arc<RwLock<HashMap<BrokerId, Known>>>,
    links: RwLock<HashMap<(BrokerId, Class), Arc<Link>>>,
    serving: Serving,
}

/// Where a broker is reached, and by which certificate it is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    address: String,
    fingerprint: Option<String>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Small things that others wait for: the quorum, heartbeats, requests that are passed on.
    Control,
    /// Much at a time: replication, batches that a partitioner sends on, plugins.
    Bulk,
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// The quorum among itself.
    Quorum,
    /// A command for the quorum's leader.
    Submit,
    /// A broker is alive.
    Heartbeat,
    /// Batches for partitions that the other one leads.
    Produce,
    /// A request of Kafka's protocol.
    Request,
    /// The bytes of a plugin, or the wish for them.
    PluginBytes,
    /// How transforms are that the other one runs.
    Workers,
}

/// Answers what other brokers ask.
pub trait Service: Send + Sync {
    /// Answers a call. An error is told to the other side as text.
    fn call(
        self: Arc<Self>,
        from: BrokerId,
        kind: CallKind,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

    /// Serves a stream of replication until it ends.
    fn replication(
        self: Arc<Self>,
        from: BrokerId,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Why another broker cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address cannot be listened on.
    #[error("cannot listen for other brokers on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nobody has said where the broker is.
    #[error("the address of broker {0} is not known")]
    Unknown(BrokerId),
    /// The address is none.
    #[error("'{0}' is no address that can be resolved")]
    Address(String),
    /// No connection comes about.
    #[error("no connection to {to}: {reason}")]
    Connect {
        /// Broker and address.
        to: String,
        /// Why not.
        reason: String,
    },
    /// The request is larger than such calls may be.
    #[error("a call of {bytes} bytes is too large: {max} are allowed")]
    TooLarge {
        /// Bytes of the request.
        bytes: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// The connection broke while the call was under way.
    #[error("the connection to {to} broke: {reason}")]
    Broken {
        /// Broker and address.
        to: String,
        /// How.
        reason: String,
    },
    /// The other side answered with an error.
    #[error("{to} answers: {reason}")]
    Refused {
        /// Broker and address.
        to: String,
        /// What it says.
        reason: String,
    },
    /// The cluster does not count on the broker any more: whoever took over can be asked.
    #[error("{0} is out of service")]
    OutOfService(String),
    /// No answer came in time.
    #[error("no answer from {to} within {waited:?}")]
    TimedOut {
        /// Broker and address.
        to: String,
        /// How long was waited.
        waited: Duration,
    },
}

/// How a connection to another broker is doing.
#[derive(Debug, Clone)]
pub struct PeerStats {
    /// The broker.
    pub id: BrokerId,
    /// What the connection is for.
    pub class: Class,
    /// Time there and back, as measured now.
    pub rtt: Duration,
    /// Packets that were lost so far.
    pub lost_packets: u64,
    /// Bytes that may be under way at a time.
    pub congestion_window: u64,
}

impl Peers {
    /// Takes the address and the certificates in `folder`, which must be those of `node`. Must be called in a runtime.
    ///
    /// # Errors
    /// Certificates that cannot be used, or are another node's; an address that is taken.
    pub fn bind(address: SocketAddr, folder: &Path, node: BrokerId) -> Result<Self, PeerError> {
        let certificates = Certificates::load(folder, node)?;
        let known = Arc::default();
        let server = tls::server(&certificates, &known)?;
        let endpoint = transport::endpoint(address, server, &certificates.key)
            .map_err(|source| PeerError::Listen { address, source })?;
        Ok(Self {
            endpoint,
            identity: certificates.identity.clone(),
            fingerprint: certificates.fingerprint(),
            folder: folder.to_owned(),
            certificates: Arc::new(RwLock::new(Arc::new(certificates))),
            known,
            links: RwLock::default(),
            serving: Serving::default(),
        })
    }

    /// The cluster and node that the certificate names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// SHA-256 of the certificate that this broker started with, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint
            .local_addr()
            .expect("a socket that is bound has an address")
    }

    /// Says where a broker is reached and which certificate it has; none forgets it.
    pub fn set_address(&self, id: BrokerId, address: Option<String>, fingerprint: Option<String>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = address else {
            known.remove(&id);
            drop(known);
            for class in [Class::Control, Class::Bulk] {
                let gone = self
                    .links
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&(id, class));
                if let Some(link) = gone {
                    link.close();
                }
            }
            return;
        };
        known.insert(id, Known { address, fingerprint });
    }

    /// Says which brokers the cluster counts on. Calls to the others end, but for those that the cluster is run by: their
    /// connections may still seem to live, and that they do not is found out later.
    pub fn set_serving(&self, brokers: BTreeSet<BrokerId>) {
        self.serving.set(brokers);
    }

    /// Asks a broker.
    ///
    /// # Errors
    /// It cannot be reached, refuses, does not answer in time, or goes out of service meanwhile.
    pub async fn call(
        &self,
        to: BrokerId,
        kind: CallKind,
        request: Bytes,
        wait: Duration,
    ) -> Result<Bytes, PeerError> {
        let known = self.known(to)?;
        let name = format!("broker {to} at {}", known.address);
        let calling = async {
            let connection = self.connection(to, kind.class(), &known).await?;
            link::call(&connection, kind, &request, &name).await
        };
        let answer = tokio::select! {
            answer = tokio::time::timeout(wait, calling) => answer,
            () = self.serving.ends(to, kind) => return Err(PeerError::OutOfService(name)),
        };
        match answer {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::TimedOut {
                to: name,
                waited: wait,
            }),
        }
    }

    /// Asks whichever broker of the cluster is behind an address, and says which it is.
    ///
    /// # Errors
    /// As [`Peers::call`].
    pub async fn call_address(
        &self,
        address: &str,
        kind: CallKind,
        request: Bytes,
        wait: Duration,
    ) -> Result<(Identity, Bytes), PeerError> {
        let calling = async {
            let certificates = self.certificates();
            let connection =
                link::connect(&self.endpoint, &certificates, None, address, Class::Control).await?;
            let identity = tls::identity_of(&connection).ok_or_else(|| PeerError::Connect {
                to: address.to_owned(),
                reason: "it shows no certificate".to_owned(),
            })?;
            let answer = link::call(&connection, kind, &request, address).await;
            connection.close(CLOSE_DONE, b"done");
            Ok((identity, answer?))
        };
        match tokio::time::timeout(wait, calling).await {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::TimedOut {
                to: address.to_owned(),
                waited: wait,
            }),
        }
    }

    /// Opens a stream of replication to a leader.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn open_replication(
        &self,
        to: BrokerId,
    ) -> Result<(quinn::SendStream, quinn::RecvStream), PeerError> {
        let known = self.known(to)?;
        let connection = self.connection(to, Class::Bulk, &known).await?;
        link::open_replication(&connection, &format!("broker {to} at {}", known.address)).await
    }

    /// Answers other brokers, and reads the certificates again when they change, until `shutdown` is true.
    pub fn serve(&self, service: Arc<dyn Service>, shutdown: watch::Receiver<bool>) {
        tokio::spawn(serve::accept(self.endpoint.clone(), service, shutdown.clone()));
        let renewal = certificates::Renewal {
            endpoint: self.endpoint.clone(),
            folder: self.folder.clone(),
            node: self.identity.node,
            certificates: self.certificates.clone(),
            known: self.known.clone(),
        };
        tokio::spawn(renewal.run(shutdown));
    }

    /// How the connections to other brokers are doing, in the order of their ids.
    pub fn stats(&self) -> Vec<PeerStats> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let open = links
            .iter()
            .filter_map(|((id, class), link)| Some(link.stats(*id, *class, &link.open()?)));
        let mut stats: Vec<PeerStats> = open.collect();
        stats.sort_by_key(|stats| (stats.id, stats.class));
        stats
    }

    /// Ends all connections.
    pub fn close(&self) {
        self.endpoint.close(CLOSE_DONE, b"the broker ends");
    }

    /// Closes every connection, and gives the address back once the other sides have been told.
    pub async fn end(&self) {
        self.close();
        let links = std::mem::take(&mut *self.links.write().unwrap_or_else(PoisonError::into_inner));
        drop(links);
        if tokio::time::timeout(END_WAIT, self.endpoint.wait_idle())
            .await
            .is_err()
        {
            tracing::debug!("other brokers were not all told that this one ends");
        }
        // Whoever still holds a handle would keep the address, which the next start of this broker needs. An endpoint
        // keeps the socket that it had before, too, so it gets two others.
        for _ in 0..2 {
            let elsewhere = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0));
            if let Err(error) = elsewhere.and_then(|socket| self.endpoint.rebind(socket)) {
                tracing::debug!(%error, "the address for other brokers is given back later");
            }
        }
    }

    async fn connection(
        &self,
        to: BrokerId,
        class: Class,
        known: &Known,
    ) -> Result<quinn::Connection, PeerError> {
        let link = {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            links.get(&(to, class)).cloned()
        };
        let link = link.unwrap_or_else(|| {
            let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
            links.entry((to, class)).or_default().clone()
        });
        link.connection(&self.endpoint, &self.certificates(), to, known, class)
            .await
    }

    fn known(&self, id: BrokerId) -> Result<Known, PeerError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned().ok_or(PeerError::Unknown(id))
    }

    fn certificates(&self) -> Arc<Certificates> {
        self.certificates
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        })
    }
}

impl CallKind {
    const ALL: [Self; 7] = [
        Self::Quorum,
        Self::Submit,
        Self::Heartbeat,
        Self::Produce,
        Self::Request,
        Self::PluginBytes,
        Self::Workers,
    ];

    /// The connection that it goes by.
    pub fn class(self) -> Class {
        match self {
            Self::Quorum | Self::Submit | Self::Heartbeat => Class::Control,
            Self::Produce | Self::Request | Self::PluginBytes | Self::Workers => Class::Bulk,
        }
    }

    /// Largest request or answer, in bytes.
    fn bytes_max(self) -> usize {
        match self {
            Self::Heartbeat => 64 << 10,
            Self::Workers => 16 << 20,
            // A snapshot of the image; a command that brings one.
            Self::Quorum | Self::Submit => 64 << 20,
            // The largest produce request, and what is around it.
            Self::Produce | Self::Request => 101 << 20,
            // The largest plugin that can be allowed, and what is around it.
            Self::PluginBytes => (1 << 30) + 4096,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Quorum => 1,
            Self::Submit => 2,
            Self::Heartbeat => 3,
            Self::Produce => 4,
            Self::PluginBytes => 5,
            Self::Request => 6,
            Self::Workers => 7,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Begins a stream of replication, where a call has its kind.
const REPLICATION: u8 = 100;
/// Longest time that other brokers are told that this one ends.
const END_WAIT: Duration = Duration::from_millis(300);
/// The connection is not needed any more.
const CLOSE_DONE: quinn::VarInt = quinn::VarInt::from_u32(0);
/// What came is none of what brokers say to each other.
const CLOSE_GARBAGE: quinn::VarInt = quinn::VarInt::from_u32(1);

#[cfg(test)]
mod tests;
