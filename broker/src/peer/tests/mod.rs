//! Brokers that call each other on loopback, with certificates that are right, and some that are not.

mod calls;
mod refusals;
mod speed;

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{CallKind, Peers, Service};

/// Who may issue certificates of a cluster.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes the files of a node; `until` is the last year that its certificate is valid in.
    fn write(&self, folder: &Path, name: &str, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join("ca.pem"), &self.pem).unwrap();
        std::fs::write(folder.join("node.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("node.key"), key.serialize_pem()).unwrap();
    }

    fn node(&self, cluster: &str, node: i32) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        self.write(
            folder.path(),
            &format!("node-{node}.{cluster}.millstream.internal"),
            4000,
        );
        folder
    }
}

/// A broker that answers.
struct Running {
    peers: Arc<Peers>,
    folder: TempDir,
    _shutdown: watch::Sender<bool>,
}

impl Running {
    fn start(folder: TempDir, node: i32) -> Self {
        let peers = Arc::new(Peers::bind(any_port(), folder.path(), BrokerId(node)).unwrap());
        let (shutdown, down) = watch::channel(false);
        peers.serve(Arc::new(Echo), down);
        Self {
            peers,
            folder,
            _shutdown: shutdown,
        }
    }

    fn knows(&self, other: &Self) {
        let id = other.peers.identity().node;
        self.peers.set_address(id, Some(other.address()), None);
    }

    fn address(&self) -> String {
        self.peers.local_addr().to_string()
    }

    async fn says(&self, to: i32, text: &'static str) -> Result<Bytes, super::PeerError> {
        let request = Bytes::from_static(text.as_bytes());
        self.peers
            .call(BrokerId(to), CallKind::Heartbeat, request, WAIT)
            .await
    }
}

/// Says back what it hears, and from whom.
struct Echo;

impl Service for Echo {
    fn call(
        self: Arc<Self>,
        from: BrokerId,
        kind: CallKind,
        request: Bytes,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> {
        Box::pin(async move {
            match &*request {
                b"refuse" => Err("not today".repeat(10_000)),
                b"wait" => std::future::pending().await,
                _ if kind == CallKind::Heartbeat => {
                    Ok([from.to_string().as_bytes(), b": ", &request].concat().into())
                }
                _ => Ok(request),
            }
        })
    }

    fn replication(
        self: Arc<Self>,
        _: BrokerId,
        mut send: quinn::SendStream,
        mut recv: quinn::RecvStream,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
                // The answer of a follower: how much it has.
                let length = chunk.offset + chunk.bytes.len() as u64;
                if send.write_all(&length.to_be_bytes()).await.is_err() {
                    return;
                }
            }
        })
    }
}

/// Two brokers of a cluster that know of each other.
fn two_brokers() -> (Running, Running) {
    let authority = Authority::new();
    let one = Running::start(authority.node("prod", 1), 1);
    let two = Running::start(authority.node("prod", 2), 2);
    one.knows(&two);
    two.knows(&one);
    (one, two)
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < DEADLINE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const WAIT: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(20);
