//! Sending records: which partition, in which batch, how often.
//!
//! Every partition has one task, its lane, which owns the batch being filled, the sequence number and the one request
//! in flight. Order per partition follows from that alone, also through retries; while a request is under way the next
//! batch fills, so that a slow disk makes batches larger, not the wait longer. All lanes share a budget of memory:
//! when it is spent, [`Producer::send`] waits.

mod identity;
mod lane;
mod partitioner;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_kafka::partition_of_key;
use millstream_kafka::records::Compression;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::cluster::Client;
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

use lane::{Message, Pending};
use partitioner::Sticky;

/// How many copies of a record must exist before its receipt is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// No receipt at all: the offset is -1, and a loss goes unnoticed.
    None,
    /// The leader has it.
    Leader,
    /// Every in-sync replica has it.
    All,
}

/// Settings of a [`Producer`].
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Copies before a receipt.
    pub acks: Acks,
    /// Whether the broker drops what it has already (KIP-98). Needs [`Acks::All`] and is off without.
    pub idempotence: bool,
    /// Compression of batches.
    pub compression: Compression,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// Size at which a batch is sent at once, in bytes before compression.
    pub batch_bytes: usize,
    /// Largest record, in bytes of key, value and headers.
    pub record_bytes_max: usize,
    /// Memory of all records that have no receipt yet, in bytes.
    pub memory_bytes: usize,
    /// How long a record may take, retries included.
    pub delivery_timeout: Duration,
    /// Whether a topic that does not exist is asked to be created, which the broker may refuse.
    pub create_topics: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 256 * 1024,
            record_bytes_max: 1_048_576,
            memory_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(120),
            create_topics: true,
        }
    }
}

/// A record to send.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    topic: String,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

impl ProducerRecord {
    /// A record for a topic, with neither key nor value.
    pub fn to(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            ..Self::default()
        }
    }

    /// Names the partition instead of leaving it to the key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time, in milliseconds since 1970; without it, the time of sending.
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// Sets the key. Records with the same key go to the same partition.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header; names may repeat.
    pub fn header(mut self, name: impl Into<String>, value: Option<Bytes>) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    fn bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len) + 10)
            .sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers
            + RECORD_OVERHEAD_BYTES
    }
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Partition it was sent to.
    pub partition: i32,
    /// Its offset there; -1 where the broker did not say, as with `acks=0` or a partitioner of the topic's own.
    pub offset: i64,
}

/// The receipt that a record will have. Dropping it loses only the news.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<Receipt>>);

impl Future for Delivery {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|told| told.unwrap_or(Err(Error::Closed("producer"))))
    }
}

/// Sends records in batches. Records of one partition keep the order in which `send` took them.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<TopicPartition, mpsc::Sender<Message>>>,
    routes: Mutex<HashMap<String, Route>>,
    memory: Arc<Semaphore>,
}

/// What the lanes have in common.
#[derive(Debug)]
struct Shared {
    client: Client,
    config: ProducerConfig,
    identity: identity::Identity,
    /// The first record that failed since the last flush.
    failure: Mutex<Option<Error>>,
}

#[derive(Debug)]
struct Route {
    partitions: i32,
    taken: Instant,
    sticky: Sticky,
}

impl Producer {
    /// A producer for a cluster. Nothing is sent before the first record.
    pub fn new(client: &Client, mut config: ProducerConfig) -> Self {
        config.idempotence &= config.acks == Acks::All;
        let memory_units = (config.memory_bytes / MEMORY_UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                client: client.clone(),
                config,
                identity: identity::Identity::default(),
                failure: Mutex::default(),
            }),
            lanes: Mutex::default(),
            routes: Mutex::default(),
            memory: Arc::new(Semaphore::new(memory_units)),
        }
    }

    /// Takes a record and gives back a promise of its receipt. Waits only while memory is short, or for the first
    /// record of a topic while the topic is looked up.
    ///
    /// # Errors
    /// The topic or partition does not exist, or the record is too large.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery> {
        let bytes = record.bytes();
        if bytes > self.shared.config.record_bytes_max {
            return Err(Error::RecordTooLarge {
                bytes,
                bytes_max: self.shared.config.record_bytes_max,
            });
        }
        let partition = self.choose(&record, bytes).await?;
        let units = bytes
            .div_ceil(MEMORY_UNIT_BYTES)
            .min(self.shared.config.memory_bytes / MEMORY_UNIT_BYTES)
            .max(1);
        let memory = self
            .memory
            .clone()
            .acquire_many_owned(units as u32)
            .await
            .expect("the semaphore is never closed");
        let (told, delivery) = oneshot::channel();
        let lane = self.lane(&record.topic, partition);
        let message = Message::Record(Box::new(Pending {
            record,
            bytes,
            told,
            _memory: memory,
        }));
        lane.send(message).await.map_err(|_| Error::Closed("producer"))?;
        Ok(Delivery(delivery))
    }

    /// Waits until every record taken so far has its receipt or its error.
    ///
    /// # Errors
    /// The first error of a record since the last flush.
    pub async fn flush(&self) -> Result<()> {
        let lanes: Vec<_> = lock(&self.lanes).values().cloned().collect();
        let mut waiting = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let (done, is_done) = oneshot::channel();
            if lane.send(Message::Flush(done)).await.is_ok() {
                waiting.push(is_done);
            }
        }
        for lane in waiting {
            let _ = lane.await;
        }
        lock(&self.shared.failure).take().map_or(Ok(()), Err)
    }

    /// Flushes and ends the lanes.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<()> {
        self.flush().await
    }

    async fn choose(&self, record: &ProducerRecord, bytes: usize) -> Result<i32> {
        let age_max = self.shared.client.config().metadata_age_max;
        let known = |routes: &mut HashMap<String, Route>| {
            let route = routes
                .get_mut(&record.topic)
                .filter(|route| route.taken.elapsed() < age_max)?;
            Some(route.partition(record, bytes, self.shared.config.batch_bytes))
        };
        if let Some(chosen) = known(&mut lock(&self.routes)) {
            return chosen;
        }
        let topic = self
            .shared
            .client
            .topic(&record.topic, self.shared.config.create_topics)
            .await?;
        let partitions = topic.partitions.len() as i32;
        let mut routes = lock(&self.routes);
        let route = routes.entry(record.topic.clone()).or_insert_with(|| Route {
            partitions,
            taken: Instant::now(),
            sticky: Sticky::new(&record.topic),
        });
        route.partitions = partitions;
        route.taken = Instant::now();
        route.partition(record, bytes, self.shared.config.batch_bytes)
    }

    fn lane(&self, topic: &str, partition: i32) -> mpsc::Sender<Message> {
        let mut lanes = lock(&self.lanes);
        let at = TopicPartition::new(topic, partition);
        lanes
            .entry(at)
            .or_insert_with_key(|at| {
                let (queue, records) = mpsc::channel(LANE_RECORDS_MAX);
                tokio::spawn(lane::Lane::new(self.shared.clone(), at.clone(), records).run());
                queue
            })
            .clone()
    }
}

impl Route {
    fn partition(&mut self, record: &ProducerRecord, bytes: usize, batch_bytes: usize) -> Result<i32> {
        match (record.partition, &record.key) {
            (Some(partition), _) if (0..self.partitions).contains(&partition) => Ok(partition),
            (Some(partition), _) => Err(Error::Invalid(format!(
                "topic '{}' has no partition {partition}: it has {}, numbered from 0",
                record.topic, self.partitions
            ))),
            (None, Some(key)) => Ok(partition_of_key(key, self.partitions)),
            (None, None) => Ok(self.sticky.next(bytes, batch_bytes, self.partitions)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a record takes beside its own bytes, at most, in a batch.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// Unit in which memory for records is granted, so that the whole budget fits a permit count.
const MEMORY_UNIT_BYTES: usize = 16;
/// Records that wait in one lane; memory bounds their bytes.
const LANE_RECORDS_MAX: usize = 16 * 1024;
