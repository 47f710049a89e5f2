//! How a broker starts that is of a cluster.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::cluster::{self, FEATURE_LEVELS};
use millstream_core::ids::BrokerId;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{Broker, StartError, tidy};
use crate::controller::cluster::{Member, MemberConfig};
use crate::controller::entry::{Membership, Way, quorum_directory};
use crate::controller::{InForce, Lease, Services, journal};
use crate::peer::{PeerError, Peers};
use crate::plugins::share::Elsewhere;
use crate::settings::Settings;

/// A broker that other brokers can reach.
pub(super) struct Joining {
    membership: Membership,
    peers: Arc<Peers>,
    address: String,
}

/// A broker with its part in the quorum.
pub(super) struct Joined {
    way: Way,
    peers: Arc<Peers>,
    address: String,
    member: Arc<Member>,
}

impl Joining {
    /// Takes the address for other brokers, and sees to it that the certificates are this broker's.
    pub async fn bind(settings: &Settings, membership: Membership) -> Result<Self, StartError> {
        let listen = resolve(&membership.listen).await?;
        let peers = bind(listen, Path::new(&membership.certs), BrokerId(settings.node_id)).await?;
        let address = match membership.advertised(settings) {
            Some(address) => address,
            None => own_address(&membership.listen, peers.local_addr())?,
        };
        Ok(Self {
            membership,
            peers: Arc::new(peers),
            address,
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> String {
        self.peers.identity().cluster.clone()
    }

    /// Opens the part in the quorum.
    pub async fn open(
        self,
        settings: &Settings,
        in_force: &Arc<InForce>,
        lone_image: Option<String>,
    ) -> Result<Joined, StartError> {
        let config = MemberConfig {
            me: BrokerId(settings.node_id),
            cluster: self.cluster(),
            directory: quorum_directory(Path::new(&settings.data_dir)),
            lease: Duration::from_millis(settings.broker_lease_ms as u64),
            election_ms: settings.quorum_election_timeout_ms as u64,
            lone_image,
        };
        let lease = Arc::new(Lease::ended());
        let member = Member::open(config, self.peers.clone(), in_force.clone(), lease).await?;
        Ok(Joined {
            way: self.membership.way,
            peers: self.peers,
            address: self.address,
            member,
        })
    }
}

impl Joined {
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Broker {
    /// Gets the broker into its cluster, and has it carry out what the cluster decides.
    pub(super) async fn enter(&mut self, joined: Joined, storage: Uuid) -> Result<(), StartError> {
        let Joined {
            way,
            peers,
            address,
            member,
        } = joined;
        let context = self.context.clone();
        let settings = &context.settings;
        let services = Services::new(member.clone());
        services.complete(&context);
        peers.serve(services, member.stopping());
        // The member holds the plugins, through what is in force: they must not hold it too.
        let image = {
            let member = Arc::downgrade(&member);
            move || {
                member
                    .upgrade()
                    .map(|member| member.decided())
                    .unwrap_or_default()
            }
        };
        let elsewhere = Elsewhere::peers(context.node, peers.clone(), Handle::current(), image);
        context.plugins.look_elsewhere(elsewhere);
        let seconds = settings.leader_imbalance_check_interval_seconds as u64;
        let balance = settings
            .auto_leader_rebalance_enable
            .then_some(Duration::from_secs(seconds));
        // They end with this broker's part in the quorum, which is after everything else.
        tokio::spawn(member.clone().confirm());
        tokio::spawn(member.clone().guard(balance));
        tokio::spawn(member.clone().probe());
        tokio::spawn(member.clone().lay_tripwires());
        member.enter(&way, &address, storage).await?;
        let (host, port) = context.advertised.clone();
        let version = member
            .register(
                &way,
                cluster::Broker {
                    id: context.node,
                    host,
                    port,
                    rack: settings.broker_rack.clone(),
                    peer: Some(address),
                    incarnation: Uuid::new_v4().as_u64_pair().0,
                    storage,
                    fingerprint: Some(peers.fingerprint()),
                    features: FEATURE_LEVELS,
                    min_insync: settings.min_insync_replicas.max(1) as usize,
                    ..cluster::Broker::default()
                },
            )
            .await?;
        self.tidy_as_decided(&member).await?;
        context.controller.tell(&context);
        tokio::spawn(member.clone().follow());
        tokio::spawn(member.clone().live());
        tokio::spawn(member.clone().watch_room());
        if !member.carried_out(version).await {
            tracing::warn!(version, "the cluster's image is not in force yet");
        }
        if !member.serves().await {
            tracing::warn!("the cluster does not count on this broker yet");
        }
        Ok(())
    }

    /// Removes, or sets aside, what the cluster does not know any more, and what this broker decided when it was alone.
    async fn tidy_as_decided(&self, member: &Member) -> Result<(), StartError> {
        let directory = PathBuf::from(&self.context.settings.data_dir);
        let (store, plugins) = (self.store.clone(), self.context.plugins.clone());
        let image = member.decided();
        let tidying = tokio::task::spawn_blocking(move || {
            tidy(&directory, &store, &plugins, &image)?;
            let failed = |source| StartError::Directory {
                path: directory.clone(),
                source,
            };
            journal::set_aside(&directory).map_err(failed)
        });
        tidying
            .await
            .map_err(|error| StartError::Thread(std::io::Error::other(error)))?
    }
}

/// The process that this one takes the place of may not have ended altogether.
async fn bind(listen: SocketAddr, certs: &Path, me: BrokerId) -> Result<Peers, PeerError> {
    let deadline = Instant::now() + BIND_WAIT;
    loop {
        match Peers::bind(listen, certs, me) {
            Err(PeerError::Listen { source, .. })
                if source.kind() == ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                tokio::time::sleep(BIND_AGAIN).await;
            }
            bound => return bound,
        }
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, StartError> {
    let wrong = |reason: String| StartError::ClusterAddress {
        address: address.to_owned(),
        reason,
    };
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| wrong(format!("cannot be listened on: {error}")))?;
    found.next().ok_or_else(|| wrong("has no address".to_owned()))
}

/// Where others reach what listens there.
fn own_address(listen: &str, bound: SocketAddr) -> Result<String, StartError> {
    if bound.ip().is_unspecified() {
        return Err(StartError::ClusterAddress {
            address: listen.to_owned(),
            reason: "is every address of this host: millstream.cluster.advertised says at which one other brokers \
                     reach it"
                .to_owned(),
        });
    }
    let host = listen.rsplit_once(':').map_or("", |(host, _)| host);
    Ok(format!("{host}:{}", bound.port()))
}

/// Longest time that an address may be in use still.
const BIND_WAIT: Duration = Duration::from_secs(3);
/// Pause before it is tried again.
const BIND_AGAIN: Duration = Duration::from_millis(50);
