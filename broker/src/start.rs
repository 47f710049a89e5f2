//! How a broker starts, and how it ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::cluster::{self, Command, Image};
use millstream_core::config::{BrokerDefaults, ConfigError, TopicConfig};
use millstream_core::ids::BrokerId;
use millstream_storage::lock::DirLock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::controller::entry::{EntryError, Membership};
use crate::controller::{self, Controller, InForce, Lease, LoadError, Lone};
use crate::coordinators::{GroupCoordinator, ProducerIds, TransactionCoordinator};
use crate::fetch_sessions::FetchSessions;
use crate::identity::{self, IdentityError};
use crate::lanes::Lanes;
use crate::metrics::Metrics;
use crate::partitions::Store;
use crate::peer::PeerError;
use crate::plugins::Plugins;
use crate::replication::Replication;
use crate::settings::{SettingError, Settings};
use crate::topics::Topics;
use crate::workers::Workers;
use crate::{housekeeping, http, listener, workers};

#[cfg(test)]
mod cluster_tests;
mod member;

use member::Joining;

/// A running broker.
pub struct Broker {
    context: Arc<Context>,
    store: Arc<Store>,
    kafka: SocketAddr,
    http: SocketAddr,
    /// Where other brokers reach it.
    cluster: Option<String>,
    tasks: Vec<JoinHandle<()>>,
    _lock: DirLock,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another broker uses the data directory.
    #[error("data directory {0} is in use by another broker")]
    Locked(PathBuf),
    /// The data directory is not this broker's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cluster's image cannot be had.
    #[error(transparent)]
    Image(#[from] LoadError),
    /// Settings do not fit each other.
    #[error(transparent)]
    Settings(#[from] SettingError),
    /// A setting that stands behind topic configurations has a value that a topic cannot have.
    #[error(transparent)]
    Defaults(#[from] ConfigError),
    /// Plugins cannot be kept.
    #[error("plugins: {0}")]
    Plugins(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(io::Error),
    /// The address that clients are to be told is none.
    #[error("millstream.advertised: '{0}' is not HOST:PORT")]
    Advertised(String),
    /// The broker cannot be told to the cluster.
    #[error("the broker cannot be registered: {0}")]
    Register(String),
    /// The broker does not get into its cluster.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Other brokers cannot be reached, or reach this one.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The quorum's files cannot be used.
    #[error("quorum: {0}")]
    Quorum(#[from] millstream_quorum::QuorumError),
    /// The address for other brokers is none.
    #[error("millstream.cluster.listen: '{address}' {reason}")]
    ClusterAddress {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Broker {
    /// Starts a broker. It serves clients when this returns.
    ///
    /// # Errors
    /// Settings, directory or addresses that cannot be used; nothing goes on running then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let started = Instant::now();
        settings.check()?;
        let directory = PathBuf::from(&settings.data_dir);
        let membership = Membership::of(&settings)?;
        let lock = lock(&directory)?;
        let joining = match membership {
            Some(membership) => Some(Joining::bind(&settings, membership).await?),
            None => None,
        };
        let cluster = joining.as_ref().map(Joining::cluster);
        let identity = identity::open(&directory, settings.node_id, cluster.as_deref())?;
        let (kafka_listener, kafka) = listener::bind(&settings.kafka_listen)
            .await
            .map_err(StartError::Listen)?;
        let (http_listener, http) = listener::bind(&settings.http_listen)
            .await
            .map_err(StartError::Listen)?;
        let advertised = advertised(&settings, kafka)?;
        let lanes = Lanes::start(settings.num_network_threads as usize).map_err(StartError::Thread)?;
        raise_open_files_limit();
        let opening = {
            let (settings, is_member) = (settings.clone(), joining.is_some());
            tokio::task::spawn_blocking(move || Opened::open(&settings, &directory, is_member))
        };
        let opened = opening
            .await
            .map_err(|error| StartError::Thread(io::Error::other(error)))??;
        let Opened {
            topics,
            store,
            in_force,
            decider,
            plugins,
            metrics,
        } = opened;
        let joining = match (joining, &decider) {
            (Some(joining), Decider::Quorum { lone_image }) => {
                Some(joining.open(&settings, &in_force, lone_image.clone()).await?)
            }
            _ => None,
        };
        let controller = match decider {
            Decider::Alone(lone) => Controller::lone(&settings, in_force, lone),
            Decider::Quorum { .. } => {
                let member = joining.as_ref().expect("a quorum is that of a member").member();
                Controller::cluster(&settings, in_force, member.clone())
            }
        };
        let (shutdown, _) = watch::channel(false);
        let request_memory_units = Context::memory_units(&settings);
        let peers = joining.as_ref().map(|joined| joined.peers().clone());
        let lease = joining.as_ref().map(|joined| joined.member().lease());
        let replication = Replication::new(&settings, topics.clone(), peers.clone(), store.reports().clone());
        let context = Arc::new(Context {
            node: BrokerId(settings.node_id),
            cluster_id: identity.cluster_id,
            advertised,
            topics,
            controller,
            replication,
            peers,
            lease: lease.unwrap_or_else(|| Arc::new(Lease::without_end())),
            plugins,
            transactions: TransactionCoordinator::new(&settings, &metrics),
            groups: GroupCoordinator::new(&settings, &metrics),
            workers: Workers::new(&settings),
            producer_ids: ProducerIds::default(),
            fetch_sessions: FetchSessions::new(settings.fetch_session_slots as usize),
            metrics,
            request_memory: Arc::new(Semaphore::new(request_memory_units as usize)),
            request_memory_units,
            shutdown,
            settings,
        });
        let mut broker = Self {
            context,
            store,
            kafka,
            http,
            cluster: joining.as_ref().map(|joined| joined.address().to_owned()),
            tasks: Vec::new(),
            _lock: lock,
        };
        let entered = match joining {
            Some(joined) => broker.enter(joined, identity.storage).await,
            None => broker.register().await,
        };
        if let Err(error) = entered {
            broker.shutdown().await;
            return Err(error);
        }
        broker.serve(kafka_listener, http_listener, lanes);
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(%kafka, %http, partitions = broker.context.topics.partitions().len(), took_ms, "ready");
        Ok(broker)
    }

    /// What the parts of the broker reach, for their tests.
    #[cfg(test)]
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The address on which Kafka clients are served.
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka
    }

    /// The address of the admin interface.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// The address at which other brokers reach it; none for a lone broker.
    pub fn cluster_addr(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Resolves with the reason if this broker cannot go on and is to be ended.
    pub async fn failed(&self) -> String {
        self.context.controller.failed().await
    }

    /// Ends: has other brokers take over what it leads, takes no more connections, finishes the requests that are under way, makes everything durable and closes
    /// the logs in good order. What does not end in time is cut off; nothing that was acknowledged depends on it.
    pub async fn shutdown(self) {
        let Self {
            context,
            store,
            tasks,
            _lock: lock,
            ..
        } = self;
        let started = Instant::now();
        context.controller.leave().await;
        context.workers.end().await;
        context.shutdown.send_replace(true);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(SHUTDOWN_WAIT_MS_MAX);
        for mut task in tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!("a task does not end in time and is cut off");
                task.abort();
            }
        }
        context.controller.stop_quorum().await;
        if let Some(peers) = &context.peers {
            peers.end().await;
        }
        let closing = tokio::task::spawn_blocking(move || {
            context.controller.stop();
            store.close(&context.topics.partitions());
            drop(lock);
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "logs not closed in good order; the next start checks them");
        }
        tracing::info!(took_ms = started.elapsed().as_millis() as u64, "ended");
    }

    /// Tells the cluster where this broker is.
    async fn register(&self) -> Result<(), StartError> {
        let Context {
            settings,
            advertised,
            controller,
            ..
        } = &*self.context;
        let (host, port) = advertised.clone();
        let broker = cluster::Broker {
            id: BrokerId(settings.node_id),
            host,
            port,
            rack: settings.broker_rack.clone(),
            min_insync: settings.min_insync_replicas.max(1) as usize,
            ..cluster::Broker::default()
        };
        if let Some(known) = controller.image().brokers().get(&broker.id) {
            let epoch = known.epoch;
            let registered = cluster::Broker {
                epoch,
                ..broker.clone()
            };
            if *known == registered {
                controller.tell(&self.context);
                return Ok(());
            }
        }
        let registered = controller.apply(Command::RegisterBroker { broker }).await;
        registered.map_err(|refused| StartError::Register(refused.message))?;
        controller.tell(&self.context);
        Ok(())
    }

    fn serve(&mut self, kafka: TcpListener, http: TcpListener, lanes: Lanes) {
        let context = &self.context;
        let admin = {
            let context = context.clone();
            async move {
                if let Err(error) = http::serve(http, context).await {
                    tracing::error!(%error, "the admin interface is gone");
                }
            }
        };
        let clients = listener::serve(context.clone(), kafka, Arc::new(lanes));
        self.tasks.push(tokio::spawn(clients));
        self.tasks.push(tokio::spawn(admin));
        self.tasks.push(tokio::spawn(housekeeping::run(context.clone())));
        self.tasks
            .push(tokio::spawn(workers::balance::run(context.clone())));
        let replication = context.replication.clone();
        let shutdown = context.shutdown.subscribe();
        self.tasks
            .push(tokio::spawn(replication.run(context.clone(), shutdown)));
    }
}

/// What is read from the data directory.
struct Opened {
    topics: Arc<Topics>,
    store: Arc<Store>,
    in_force: Arc<InForce>,
    decider: Decider,
    plugins: Arc<Plugins>,
    metrics: Arc<Metrics>,
}

/// Who decides on changes of the image.
enum Decider {
    Alone(Lone),
    Quorum {
        /// What the broker held when it was alone, if it held anything.
        lone_image: Option<String>,
    },
}

impl Opened {
    /// A broker that is alone runs what its journal says. A member of a cluster runs nothing before it knows what the
    /// quorum says: what its disk says may be long over.
    fn open(settings: &Settings, directory: &Path, is_member: bool) -> Result<Self, StartError> {
        let defaults: BrokerDefaults = settings.show().into_iter().collect();
        TopicConfig::parse(&BTreeMap::new(), &defaults)?;
        let metrics = Metrics::new();
        let plugins =
            Plugins::open(directory, settings).map_err(|error| StartError::Plugins(error.to_string()))?;
        let plugins = Arc::new(plugins);
        let me = BrokerId(settings.node_id);
        let store = Store::open(directory, me, metrics.clone()).map_err(StartError::Thread)?;
        let store = Arc::new(store);
        let topics = Arc::new(Topics::new(settings, store.clone(), metrics.clone()));
        let in_force = |image| Arc::new(InForce::new(image, topics.clone(), plugins.clone()));
        let (in_force, decider) = if is_member {
            let lone_image = lone_image(directory)?;
            (in_force(Arc::default()), Decider::Quorum { lone_image })
        } else {
            let (journal, image) = controller::load(directory)?;
            let image = Arc::new(image);
            tidy(directory, &store, &plugins, &image)?;
            topics.carry_out(&topics.plan(image.clone()));
            topics.step_down(&image);
            let in_force = in_force(image);
            let lone = Lone::start(journal, in_force.clone()).map_err(StartError::Thread)?;
            (in_force, Decider::Alone(lone))
        };
        Ok(Self {
            topics,
            store,
            in_force,
            decider,
            plugins,
            metrics,
        })
    }
}

/// Removes, or sets aside, what the image does not name.
fn tidy(directory: &Path, store: &Store, plugins: &Plugins, image: &Image) -> Result<(), StartError> {
    plugins
        .sweep(image)
        .map_err(|error| StartError::Plugins(error.to_string()))?;
    let failed = |source| StartError::Directory {
        path: directory.to_owned(),
        source,
    };
    store.tidy(image).map_err(failed)
}

/// What a broker held when it was alone, encoded; none if it never was, or held neither topics nor plugins.
fn lone_image(directory: &Path) -> Result<Option<String>, StartError> {
    if !controller::journal::is_there(directory) {
        return Ok(None);
    }
    let (_, image) = controller::load(directory)?;
    let holds = image.topics().len() > 0 || image.plugins().next().is_some();
    Ok(holds.then(|| String::from_utf8(image.encode()).expect("JSON is UTF-8")))
}

fn lock(directory: &Path) -> Result<DirLock, StartError> {
    let failed = |source| StartError::Directory {
        path: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    DirLock::acquire(directory).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StartError::Locked(directory.to_owned()),
        _ => failed(error),
    })
}

/// Where clients are told to connect to: what is set, or what is listened on.
fn advertised(settings: &Settings, bound: SocketAddr) -> Result<(String, u16), StartError> {
    let Some(text) = settings.advertised.as_deref().filter(|text| !text.is_empty()) else {
        // The host as it was written: clients may know the broker by that name only.
        let host = settings
            .kafka_listen
            .rsplit_once(':')
            .map_or("", |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        let host = if bound.ip().is_unspecified() || host.is_empty() {
            tracing::warn!(
                "clients elsewhere cannot reach this broker: millstream.advertised does not say by what name"
            );
            "127.0.0.1"
        } else {
            host
        };
        return Ok((host.to_owned(), bound.port()));
    };
    let wrong = || StartError::Advertised(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_matches(['[', ']']);
    match port.parse::<u16>() {
        _ if host.is_empty() => Err(wrong()),
        // The port that was picked, where one was to be picked.
        Ok(0) => Ok((host.to_owned(), bound.port())),
        Ok(port) => Ok((host.to_owned(), port)),
        Err(_) => Err(wrong()),
    }
}

/// Every segment that is read and every connection is an open file.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays");
        }
    }
}

/// Longest time that is waited for requests which are under way when the broker ends.
const SHUTDOWN_WAIT_MS_MAX: u64 = 8_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_serves_one_broker_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Broker::start(Settings::of_test(dir.path())).await.unwrap();
        let id = first.context.cluster_id.clone();
        assert!(matches!(
            Broker::start(Settings::of_test(dir.path())).await,
            Err(StartError::Locked(_))
        ));
        first.shutdown().await;
        let again = Broker::start(Settings::of_test(dir.path())).await.unwrap();
        assert_eq!(again.context.cluster_id, id);
        again.shutdown().await;
    }

    #[tokio::test]
    async fn a_client_that_stays_does_not_keep_the_broker_from_ending() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(Settings::of_test(dir.path())).await.unwrap();
        let _kafka = tokio::net::TcpStream::connect(broker.kafka_addr()).await.unwrap();
        let _http = tokio::net::TcpStream::connect(broker.http_addr()).await.unwrap();
        let wait = Duration::from_millis(SHUTDOWN_WAIT_MS_MAX * 2);
        tokio::time::timeout(wait, broker.shutdown()).await.unwrap();
    }

    #[tokio::test]
    async fn a_default_that_no_topic_can_have_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::of_test(dir.path());
        settings.compression_type = "rar".to_owned();
        assert!(matches!(
            Broker::start(settings).await,
            Err(StartError::Defaults(_))
        ));
    }

    #[test]
    fn clients_are_told_what_is_set_or_what_is_listened_on() {
        let bound = "0.0.0.0:4000".parse().unwrap();
        let told = |listen: &str, set: Option<&str>| {
            let settings = Settings {
                kafka_listen: listen.to_owned(),
                advertised: set.map(str::to_owned),
                ..Settings::default()
            };
            advertised(&settings, bound)
                .map(|(host, port)| format!("{host} {port}"))
                .ok()
        };
        assert_eq!(told("0.0.0.0:0", None).as_deref(), Some("127.0.0.1 4000"));
        assert_eq!(
            told("0.0.0.0:0", Some("broker.example:9092")).as_deref(),
            Some("broker.example 9092")
        );
        assert_eq!(told("0.0.0.0:0", Some("[::1]:0")).as_deref(), Some("::1 4000"));
        for wrong in [
            "broker.example",
            ":9092",
            "broker.example:port",
            "broker.example:70000",
        ] {
            assert_eq!(told("0.0.0.0:0", Some(wrong)), None, "{wrong}");
        }
    }
}
