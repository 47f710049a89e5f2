//! The cluster as one client sees it: connections by broker, cached metadata, leaders and coordinators.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_kafka::ErrorCode;
use millstream_kafka::api::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use millstream_kafka::api::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millstream_kafka::wire::Text;

use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::metadata::{Broker, Metadata, Topic, TopicPartition};

/// Handle to a cluster. Clones share connections and metadata.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    connections: Mutex<HashMap<(String, Purpose), Slot>>,
    metadata: Mutex<Snapshot>,
    /// Held while metadata is being asked for, so that one answer serves everyone who waits.
    refreshing: tokio::sync::Mutex<()>,
    /// Which of the addresses is asked first when any would do; moves on from one that does not answer.
    first: AtomicUsize,
}

/// Place of a connection; the lock is held while it is being made.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

#[derive(Debug, Clone)]
struct Snapshot {
    metadata: Arc<Metadata>,
    taken: Instant,
}

/// What a connection is for. A broker answers in order, so whatever waits has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Everything that is answered soon.
    Requests,
    /// Fetches, which wait for records.
    Fetches,
    /// Joining a group, which waits for its other members.
    Group,
}

impl Client {
    /// Connects to the first bootstrap address that answers and learns who is in the cluster.
    ///
    /// # Errors
    /// No address was given, or none answers.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        if config.bootstrap.is_empty() {
            return Err(Error::Invalid("no bootstrap address was given".to_owned()));
        }
        let client = Self {
            inner: Arc::new(Inner {
                config,
                connections: Mutex::default(),
                metadata: Mutex::new(Snapshot {
                    metadata: Arc::default(),
                    taken: Instant::now(),
                }),
                refreshing: tokio::sync::Mutex::default(),
                first: AtomicUsize::new(0),
            }),
        };
        client.ask_metadata(Some(&[]), false).await?;
        Ok(client)
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// What is known of the cluster now.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.snapshot().metadata
    }

    /// Asks for every topic of the cluster.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn all_topics(&self) -> Result<Arc<Metadata>> {
        self.ask_metadata(None, false).await
    }

    /// A topic, from the cache or from a broker. With `create`, a broker that creates topics by itself may do so,
    /// and it is waited for.
    ///
    /// # Errors
    /// The topic does not exist, its name is invalid, or no broker answers.
    pub async fn topic(&self, name: &str, create: bool) -> Result<Topic> {
        let snapshot = self.snapshot();
        if snapshot.taken.elapsed() < self.inner.config.metadata_age_max
            && let Some(topic) = usable(&snapshot.metadata, name)
        {
            return Ok(topic.clone());
        }
        self.retry(|| async {
            let metadata = self.ask_metadata(Some(&[name]), create).await?;
            if let Some(topic) = usable(&metadata, name) {
                return Ok(topic.clone());
            }
            let code = metadata
                .failed
                .get(name)
                .copied()
                .unwrap_or(ErrorCode::LeaderNotAvailable);
            let unknown = code == ErrorCode::UnknownTopicOrPartition;
            if unknown && !create {
                return Err(Error::Invalid(format!("topic '{name}' does not exist")));
            }
            Err(Error::Broker {
                what: format!("topic '{name}'"),
                code,
                message: None,
            })
        })
        .await
    }

    /// Asks for the topics of these partitions again, unless someone else did since `seen` was the newest.
    pub(crate) async fn refresh(&self, topics: &[&str], seen: &Arc<Metadata>) -> Result<Arc<Metadata>> {
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let current = self.metadata();
        if !Arc::ptr_eq(&current, seen) {
            return Ok(current);
        }
        self.ask_metadata(Some(topics), false).await
    }

    /// Connection to the leader of a partition, with the epoch it leads in.
    pub(crate) async fn leader(&self, at: &TopicPartition, purpose: Purpose) -> Result<Connection> {
        let broker = self.leader_broker(at)?;
        self.connection(&broker.address(), purpose).await
    }

    /// The leader of a partition, as the cache has it.
    pub(crate) fn leader_broker(&self, at: &TopicPartition) -> Result<Broker> {
        self.metadata()
            .leader(&at.topic, at.partition)
            .cloned()
            .ok_or_else(|| Error::Broker {
                what: format!("{at} has no leader"),
                code: ErrorCode::LeaderNotAvailable,
                message: None,
            })
    }

    /// A connection to any broker that can be reached.
    pub(crate) async fn any(&self) -> Result<Connection> {
        let mut last = None;
        for address in self.addresses() {
            match self.connection(&address, Purpose::Requests).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
            self.inner.first.fetch_add(1, Ordering::Relaxed);
        }
        Err(last.expect("there is at least one bootstrap address"))
    }

    /// Where brokers are: those that are known, then those to begin with. The one that answered last comes first.
    fn addresses(&self) -> Vec<String> {
        let known = self.metadata();
        let mut known: Vec<_> = known.brokers.values().map(Broker::address).collect();
        let first = self.inner.first.load(Ordering::Relaxed);
        let turn = first.checked_rem(known.len()).unwrap_or(0);
        known.rotate_left(turn);
        known.extend(self.inner.config.bootstrap.iter().cloned());
        known
    }

    /// A connection to the broker that takes administrative requests, or else to another, which passes them on.
    pub(crate) async fn controller(&self) -> Result<Connection> {
        let metadata = self.metadata();
        if let Some(broker) = metadata.controller.and_then(|id| metadata.brokers.get(&id)) {
            match self.connection(&broker.address(), Purpose::Requests).await {
                Err(error) if error.is_retriable() => {}
                found => return found,
            }
        }
        self.any().await
    }

    /// Waits for an answer of the broker at `address`, but no longer than it leads the partitions: one that hangs or
    /// cannot be reached does not say so.
    ///
    /// # Errors
    /// The call's own, or [`Error::Disconnected`] when another broker leads one of the partitions.
    pub(crate) async fn while_led<T>(
        &self,
        address: &str,
        partitions: &[&TopicPartition],
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut call = pin!(call);
        loop {
            if let Ok(done) = tokio::time::timeout(LEADER_CHECK_INTERVAL, &mut call).await {
                return done;
            }
            let mut topics: Vec<_> = partitions.iter().map(|at| at.topic.as_str()).collect();
            topics.dedup();
            let Ok(metadata) = self.refresh(&topics, &self.metadata()).await else {
                continue;
            };
            let moved = |at: &&&TopicPartition| {
                let leader = metadata.leader(&at.topic, at.partition);
                leader.is_some_and(|leader| leader.address() != address)
            };
            if let Some(at) = partitions.iter().find(moved) {
                return Err(Error::Disconnected {
                    address: address.to_owned(),
                    reason: format!("it did not answer and does not lead {at} any more"),
                });
            }
        }
    }

    /// A connection to the broker that coordinates a group.
    pub(crate) async fn coordinator(&self, group: &str, purpose: Purpose) -> Result<Connection> {
        let broker = self.find_coordinator(GROUP_KEY_TYPE, group).await?;
        self.connection(&broker.address(), purpose).await
    }

    /// The broker that coordinates a transactional id.
    pub(crate) async fn transaction_coordinator(&self, id: &str) -> Result<Broker> {
        self.find_coordinator(TRANSACTION_KEY_TYPE, id).await
    }

    async fn find_coordinator(&self, key_type: i8, key: &str) -> Result<Broker> {
        let connection = self.any().await?;
        let version = connection.version::<FindCoordinatorRequest>(i16::MAX)?;
        let mut request = FindCoordinatorRequest {
            key_type,
            ..Default::default()
        };
        if version >= BATCHED_COORDINATORS_VERSION {
            request.coordinator_keys = vec![Text::from(key)];
        } else {
            request.key = Text::from(key);
        }
        let answer = connection
            .call_at(version, &request, self.inner.config.request_timeout)
            .await?;
        let what = match key_type {
            TRANSACTION_KEY_TYPE => format!("coordinator of transactional id '{key}'"),
            _ => format!("coordinator of group '{key}'"),
        };
        coordinator_broker(&what, answer)
    }

    /// A connection to an address, made if there is none that works.
    pub(crate) async fn connection(&self, address: &str, purpose: Purpose) -> Result<Connection> {
        let slot = {
            let mut all = self
                .inner
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if all.len() > CONNECTIONS_MAX {
                all.retain(|_, slot| {
                    slot.try_lock()
                        .is_ok_and(|c| c.as_ref().is_some_and(|c| !c.has_ended()))
                });
            }
            all.entry((address.to_owned(), purpose)).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.has_ended()) {
            return Ok(connection.clone());
        }
        let connection = Connection::open(address, &self.inner.config).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Repeats a call while its error is one that passes, with growing pauses, for `retry_timeout` at most.
    pub(crate) async fn retry<T, F: Future<Output = Result<T>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let mut retries = self.retries();
        loop {
            match attempt().await {
                Err(error) if retries.again(&error).await => {}
                done => return done,
            }
        }
    }

    /// The pauses between attempts of one call.
    pub(crate) fn retries(&self) -> Retries<'_> {
        Retries {
            config: &self.inner.config,
            begun: Instant::now(),
            pause: self.inner.config.retry_backoff,
        }
    }

    async fn ask_metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<Arc<Metadata>> {
        let request = MetadataRequest {
            topics: topics.map(|topics| {
                let named = |name: &&str| MetadataRequestTopic {
                    name: Some(Text::from(*name)),
                    ..Default::default()
                };
                topics.iter().map(named).collect()
            }),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let answer = self.ask_any(&request).await?;
        let mut current = self.inner.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metadata = Metadata::clone(&current.metadata);
        metadata.merge(answer, topics.is_none());
        let metadata = Arc::new(metadata);
        *current = Snapshot {
            metadata: metadata.clone(),
            taken: Instant::now(),
        };
        Ok(metadata)
    }

    /// Asks one broker after the other. One that takes its time loses its turn, except the last.
    async fn ask_any(&self, request: &MetadataRequest) -> Result<MetadataResponse> {
        let addresses = self.addresses();
        let mut last = None;
        for (n, address) in addresses.iter().enumerate() {
            let limit = match n + 1 < addresses.len() {
                true => METADATA_WAIT.min(self.inner.config.request_timeout),
                false => self.inner.config.request_timeout,
            };
            let asked = async {
                let connection = self.connection(address, Purpose::Requests).await?;
                let version = connection.version::<MetadataRequest>(i16::MAX)?;
                connection.call_at(version, request, limit).await
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
            self.inner.first.fetch_add(1, Ordering::Relaxed);
        }
        Err(last.expect("there is at least one bootstrap address"))
    }

    /// Takes over what a broker says that does not lead a partition about who does (KIP-951). What is older than what
    /// is known, or names a broker that nobody knows, changes nothing.
    pub(crate) fn learn_leader(
        &self,
        at: &TopicPartition,
        leader: i32,
        epoch: i32,
        endpoint: Option<Broker>,
    ) {
        let mut current = self.inner.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metadata) = current.metadata.with_leader(at, leader, epoch, endpoint) {
            current.metadata = Arc::new(metadata);
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.inner
            .metadata
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Attempts of one call so far.
#[derive(Debug)]
pub(crate) struct Retries<'a> {
    config: &'a ClientConfig,
    begun: Instant,
    pause: Duration,
}

impl Retries<'_> {
    /// Pauses and says yes, or says no: the error is not one that passes, or the time is spent.
    pub async fn again(&mut self, error: &Error) -> bool {
        if !error.is_retriable() || self.begun.elapsed() + self.pause >= self.config.retry_timeout {
            return false;
        }
        tracing::debug!(%error, "trying again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.config.retry_backoff * BACKOFF_FACTOR_MAX);
        true
    }
}

fn usable<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a Topic> {
    metadata
        .topics
        .get(name)
        .filter(|topic| !topic.partitions.is_empty())
}

fn coordinator_broker(what: &str, answer: FindCoordinatorResponse) -> Result<Broker> {
    let told = match answer.coordinators.into_iter().next() {
        Some(found) => found,
        None => Coordinator {
            node_id: answer.node_id,
            host: answer.host,
            port: answer.port,
            error_code: answer.error_code,
            error_message: answer.error_message,
            ..Default::default()
        },
    };
    Error::check(told.error_code, told.error_message.as_deref(), || what.to_owned())?;
    let port = u16::try_from(told.port)
        .map_err(|_| Error::Invalid(format!("{what} is said to be on port {}", told.port)))?;
    Ok(Broker {
        id: told.node_id,
        host: told.host.to_string(),
        port,
        rack: None,
    })
}

/// Kafka's key type of a group in FindCoordinator.
const GROUP_KEY_TYPE: i8 = 0;
/// The same of a transactional id.
const TRANSACTION_KEY_TYPE: i8 = 1;
/// FindCoordinator asks for several keys from this version on (KIP-699).
const BATCHED_COORDINATORS_VERSION: i16 = 4;
/// Pauses between attempts grow up to so many times the first.
pub(crate) const BACKOFF_FACTOR_MAX: u32 = 4;
/// How long a broker may take to tell about the cluster while there are others to ask.
const METADATA_WAIT: Duration = Duration::from_secs(1);
/// How often a broker that has not answered is held against who leads now.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Connections beyond this many make room by forgetting those that ended.
const CONNECTIONS_MAX: usize = 1024;
