//! Reading records: alone from partitions of one's choice, or as a member of a group.
//!
//! A [`Consumer`] is driven by [`Consumer::poll`]: it joins the group when it has to, keeps one fetch under way per
//! broker, and hands out one batch of records at a time. What lies ready is bounded by `fetch_bytes_max` twice over:
//! once being read, once being fetched.

mod fetch;
mod group;
pub(crate) mod protocol;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::fetch::{FetchRequest, FetchResponse, FetchTopic, PartitionData};
use millstream_kafka::records::Scratch;
use millstream_kafka::wire::Text;
use tokio::task::JoinSet;

use crate::admin::{self, OffsetSpec};
use crate::cluster::{Client, Purpose};
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

use fetch::Partition;
use group::Membership;

/// Where to begin in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is kept.
    Earliest,
    /// After the newest record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record of this time or later, in milliseconds since 1970; at the end if there is none.
    Timestamp(i64),
}

/// What to do without a valid offset: none was committed, or it is no longer (or not yet) in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// Begin at the oldest record.
    Earliest,
    /// Begin after the newest record.
    Latest,
    /// Give the caller an error.
    Fail,
}

/// What is read of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Everything, also what may still be aborted or was.
    #[default]
    ReadUncommitted,
    /// What is committed: nothing behind the first record of a transaction that is open.
    ReadCommitted,
}

impl Isolation {
    /// Where there is nothing to read yet.
    fn latest(self) -> OffsetSpec {
        match self {
            Self::ReadUncommitted => OffsetSpec::Latest,
            Self::ReadCommitted => OffsetSpec::LatestStable,
        }
    }
}

/// Settings of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Group to join or to commit for.
    pub group: Option<String>,
    /// Makes a member static: it may go away for a session and finds its partitions again (KIP-345).
    pub group_instance_id: Option<String>,
    /// What to do without a valid offset.
    pub offset_reset: OffsetReset,
    /// What is read of transactions.
    pub isolation: Isolation,
    /// How often positions are committed while polling; `None`: only [`Consumer::commit`] does.
    pub commit_interval: Option<Duration>,
    /// Bytes that one fetch may bring.
    pub fetch_bytes_max: usize,
    /// Bytes that one fetch may bring of one partition.
    pub partition_bytes_max: usize,
    /// Bytes that a fetch waits for.
    pub fetch_bytes_min: usize,
    /// How long a fetch waits for them.
    pub fetch_wait: Duration,
    /// Largest batch once decompressed, in bytes.
    pub batch_bytes_max: usize,
    /// How long the group waits for a sign of life.
    pub session_timeout: Duration,
    /// How long the group waits for members to join again.
    pub rebalance_timeout: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            group_instance_id: None,
            offset_reset: OffsetReset::Latest,
            isolation: Isolation::default(),
            commit_interval: None,
            fetch_bytes_max: 16 << 20,
            partition_bytes_max: 1 << 20,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            batch_bytes_max: 128 << 20,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
        }
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Reads records. See the module for how it is driven.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    membership: Option<Membership>,
    partitions: Vec<Partition>,
    /// Partition whose turn it is to be read.
    turn: usize,
    fetches: JoinSet<Fetched>,
    /// Brokers that a fetch is under way to.
    busy: BTreeSet<i32>,
    scratch: Scratch,
    committed_at: Instant,
    committed: BTreeMap<TopicPartition, i64>,
}

/// What became of one fetch.
#[derive(Debug)]
struct Fetched {
    broker: i32,
    /// Offset that was asked for, by partition.
    asked: HashMap<TopicPartition, i64>,
    answer: Result<FetchResponse>,
}

impl Consumer {
    /// A consumer with nothing to read yet: call [`Consumer::subscribe`] or [`Consumer::assign`].
    pub fn new(client: &Client, config: ConsumerConfig) -> Self {
        Self {
            client: client.clone(),
            config,
            membership: None,
            partitions: Vec::new(),
            turn: 0,
            fetches: JoinSet::new(),
            busy: BTreeSet::new(),
            scratch: Scratch::default(),
            committed_at: Instant::now(),
            committed: BTreeMap::new(),
        }
    }

    /// Reads topics as a member of the configured group, which deals out their partitions. The group is joined at the
    /// next poll.
    ///
    /// # Errors
    /// No group is configured, or a topic does not exist.
    pub async fn subscribe(&mut self, topics: &[&str]) -> Result<()> {
        let Some(group) = &self.config.group else {
            return Err(Error::Invalid("subscribing needs a group".to_owned()));
        };
        for topic in topics {
            self.client.topic(topic, false).await?;
        }
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.membership = Some(Membership::new(&self.client, group, topics, &self.config));
        Ok(())
    }

    /// Reads these partitions from `start` on, whatever a group has committed. Replaces what was assigned.
    ///
    /// # Errors
    /// A partition does not exist, or its leader cannot be asked for offsets.
    pub async fn assign(&mut self, partitions: &[TopicPartition], start: Start) -> Result<()> {
        for at in partitions {
            let topic = self.client.topic(&at.topic, false).await?;
            if !(0..topic.partitions.len() as i32).contains(&at.partition) {
                let count = topic.partitions.len();
                let message = format!(
                    "topic '{}' has no partition {}: it has {count}",
                    at.topic, at.partition
                );
                return Err(Error::Invalid(message));
            }
        }
        let positions = match start {
            Start::Offset(offset) => partitions.iter().map(|at| (at.clone(), offset)).collect(),
            Start::Earliest => self.look_up(partitions, OffsetSpec::Earliest).await?,
            Start::Latest => self.look_up(partitions, self.config.isolation.latest()).await?,
            Start::Timestamp(ms) => {
                let mut found = self.look_up(partitions, OffsetSpec::Timestamp(ms)).await?;
                let missing: Vec<_> = partitions
                    .iter()
                    .filter(|at| !found.contains_key(at))
                    .cloned()
                    .collect();
                found.extend(self.look_up(&missing, self.config.isolation.latest()).await?);
                found
            }
        };
        self.membership = None;
        self.begin(partitions.to_vec(), positions);
        Ok(())
    }

    /// The partitions that are being read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions
            .iter()
            .map(|partition| partition.at.clone())
            .collect()
    }

    /// Offset of the next record of every partition, where it is known.
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        self.partitions
            .iter()
            .filter_map(|p| Some((p.at.clone(), p.position?)))
            .collect()
    }

    /// Reads on at `offset` in an assigned partition; one that is not assigned is left alone.
    pub fn seek(&mut self, at: &TopicPartition, offset: i64) {
        if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.at == *at) {
            partition.seek(offset);
        }
    }

    /// Whether every assigned partition was read up to its end at least once since it was assigned. A member that
    /// has not joined yet has not; one that got no partition has.
    pub fn reached_end(&self) -> bool {
        let joined = self
            .membership
            .as_ref()
            .is_none_or(|membership| !membership.must_join());
        joined && self.partitions.iter().all(|partition| partition.reached_end)
    }

    /// The next records, all of one batch; none when `wait` has passed without any. Takes longer while the group
    /// rebalances.
    ///
    /// # Errors
    /// What does not pass: damaged records, no access, a group that refuses the member. What passes is tried again.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<ConsumedRecord>> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            self.keep_membership().await?;
            self.commit_if_due().await?;
            self.find_positions().await?;
            self.start_fetches();
            if let Some(records) = self.read_ready()? {
                return Ok(records);
            }
            let retry = tokio::time::Instant::now() + self.client.config().retry_backoff;
            let nothing_under_way = self.fetches.is_empty();
            tokio::select! {
                Some(fetched) = self.fetches.join_next() => self.take_in(fetched.ok()).await?,
                () = disturbed(&mut self.membership) => {}
                () = tokio::time::sleep_until(retry.min(deadline)), if nothing_under_way => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(self.read_ready()?.unwrap_or_default());
            }
        }
    }

    /// Commits the positions: everything that poll has handed out counts as done.
    ///
    /// # Errors
    /// No group is configured, or its coordinator refuses: the partitions now belong to another member.
    pub async fn commit(&mut self) -> Result<()> {
        let Some(group) = &self.config.group else {
            return Err(Error::Invalid("committing needs a group".to_owned()));
        };
        let positions: BTreeMap<_, _> = self
            .positions()
            .into_iter()
            .filter(|(at, position)| self.committed.get(at) != Some(position))
            .collect();
        self.committed_at = Instant::now();
        if positions.is_empty() {
            return Ok(());
        }
        let member = self.membership.as_ref().map(Membership::identity);
        admin::commit_offsets(&self.client, group, member, &positions).await?;
        self.committed.extend(positions);
        Ok(())
    }

    /// Commits if the configuration says so, leaves the group, and ends.
    ///
    /// # Errors
    /// The commit was refused.
    pub async fn close(mut self) -> Result<()> {
        let committed = if self.config.commit_interval.is_some() {
            self.commit().await
        } else {
            Ok(())
        };
        if let Some(mut membership) = self.membership.take()
            && let Err(error) = membership.leave().await
        {
            tracing::debug!(%error, "the group will notice by itself that this member is gone");
        }
        committed
    }

    /// Joins the group when it rebalances, and takes over what it deals out.
    async fn keep_membership(&mut self) -> Result<()> {
        if !self.membership.as_ref().is_some_and(Membership::must_join) {
            return Ok(());
        }
        if self.config.commit_interval.is_some() && !self.partitions.is_empty() {
            // The last chance before others read on from the committed offsets. A group that has already moved on
            // refuses, and then others read those records again.
            if let Err(error) = self.commit().await {
                tracing::debug!(%error, "positions were not committed before the rebalance");
            }
        }
        let membership = self.membership.as_mut().expect("checked above");
        let assigned = membership.join().await?;
        tracing::debug!(partitions = assigned.len(), "joined the group");
        for at in &assigned {
            self.client.topic(&at.topic, false).await?;
        }
        self.begin(assigned, BTreeMap::new());
        Ok(())
    }

    fn begin(&mut self, partitions: Vec<TopicPartition>, positions: BTreeMap<TopicPartition, i64>) {
        // Answers to fetches for the former assignment are of no interest.
        self.fetches = JoinSet::new();
        self.busy.clear();
        self.committed.clear();
        self.turn = 0;
        self.partitions = partitions
            .into_iter()
            .map(|at| {
                let position = positions.get(&at).copied();
                let mut partition = Partition::new(at, self.config.isolation);
                if let Some(offset) = position {
                    partition.seek(offset);
                }
                partition
            })
            .collect();
    }

    /// Finds where to begin: at the committed offset, else where the configuration says.
    async fn find_positions(&mut self) -> Result<()> {
        let mut lost: Vec<_> = self
            .partitions
            .iter()
            .filter(|p| p.position.is_none())
            .map(|p| p.at.clone())
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        if let Some(group) = &self.config.group {
            // What was committed here before has been out of range, or it would not be lost.
            let unread: Vec<_> = lost
                .iter()
                .filter(|at| !self.committed.contains_key(at))
                .cloned()
                .collect();
            if self.membership.is_some() && !unread.is_empty() {
                found = admin::committed_offsets(&self.client, group, Some(&unread)).await?;
                self.committed.extend(found.clone());
            }
        }
        lost.retain(|at| !found.contains_key(at));
        if !lost.is_empty() {
            let spec = match self.config.offset_reset {
                OffsetReset::Earliest => OffsetSpec::Earliest,
                OffsetReset::Latest => self.config.isolation.latest(),
                OffsetReset::Fail => {
                    return Err(Error::Invalid(format!(
                        "{} has no valid offset to read on from",
                        lost[0]
                    )));
                }
            };
            found.extend(self.look_up(&lost, spec).await?);
        }
        for partition in &mut self.partitions {
            if let Some(offset) = found.get(&partition.at).filter(|_| partition.position.is_none()) {
                partition.seek(*offset);
            }
        }
        Ok(())
    }

    async fn look_up(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let asked: Vec<_> = partitions.iter().map(|at| (at.clone(), spec)).collect();
        let found = admin::list_offsets(&self.client, &asked).await?;
        Ok(found
            .into_iter()
            .filter_map(|(at, found)| Some((at, found?.offset)))
            .collect())
    }

    fn read_ready(&mut self) -> Result<Option<Vec<ConsumedRecord>>> {
        for _ in 0..self.partitions.len() {
            let turn = self.turn % self.partitions.len();
            self.turn = turn + 1;
            if let Some(records) =
                self.partitions[turn].read(&mut self.scratch, self.config.batch_bytes_max)?
            {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }

    /// Begins a fetch to every leader that has something to give and is not being asked already.
    fn start_fetches(&mut self) {
        let ready: usize = self
            .partitions
            .iter()
            .map(|partition| partition.ready_bytes)
            .sum();
        if ready >= self.config.fetch_bytes_max {
            return;
        }
        let now = Instant::now();
        let mut questions: BTreeMap<i32, (String, Vec<usize>)> = BTreeMap::new();
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            let rests = partition.rests_until.is_some_and(|until| until > now);
            if partition.position.is_none()
                || rests
                || partition.ready_bytes >= self.config.partition_bytes_max
            {
                continue;
            }
            match self.client.leader_broker(&partition.at) {
                Ok(leader) if self.busy.contains(&leader.id) => {}
                Ok(leader) => {
                    questions
                        .entry(leader.id)
                        .or_insert_with(|| (leader.address(), Vec::new()))
                        .1
                        .push(index);
                }
                // Looked for again when the pause is over.
                Err(_) => {
                    partition.rests_until = Some(now + self.client.config().retry_backoff);
                    let (client, topic) = (self.client.clone(), partition.at.topic.clone());
                    tokio::spawn(async move { client.refresh(&[&topic], &client.metadata()).await });
                }
            }
        }
        for (broker, (address, indexes)) in questions {
            let partitions: Vec<&Partition> = indexes.iter().map(|index| &self.partitions[*index]).collect();
            let request = self.question(&partitions);
            let asked: HashMap<_, _> = partitions
                .iter()
                .map(|p| (p.at.clone(), p.question(0).fetch_offset))
                .collect();
            let client = self.client.clone();
            self.busy.insert(broker);
            self.fetches.spawn(async move {
                let answer = fetch(&client, &address, &asked, &request).await;
                Fetched {
                    broker,
                    asked,
                    answer,
                }
            });
        }
    }

    fn question(&self, partitions: &[&Partition]) -> FetchRequest {
        let mut topics: BTreeMap<&str, FetchTopic> = BTreeMap::new();
        for partition in partitions {
            let name = partition.at.topic.as_str();
            let topic = topics.entry(name).or_insert_with(|| FetchTopic {
                topic: Text::from(name),
                ..Default::default()
            });
            topic
                .partitions
                .push(partition.question(self.config.partition_bytes_max));
        }
        FetchRequest {
            replica_id: -1,
            max_wait_ms: self.config.fetch_wait.as_millis() as i32,
            min_bytes: self.config.fetch_bytes_min as i32,
            max_bytes: self.config.fetch_bytes_max as i32,
            isolation_level: match self.config.isolation {
                Isolation::ReadUncommitted => 0,
                Isolation::ReadCommitted => 1,
            },
            session_id: 0,
            session_epoch: -1,
            topics: topics.into_values().collect(),
            ..Default::default()
        }
    }

    async fn take_in(&mut self, fetched: Option<Fetched>) -> Result<()> {
        let Some(Fetched {
            broker,
            asked,
            answer,
        }) = fetched
        else {
            return Ok(());
        };
        self.busy.remove(&broker);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "fetch failed");
                return self.rest(asked.into_keys()).await;
            }
            Err(error) => return Err(error),
        };
        Error::check(answer.error_code, None, || "fetch".to_owned())?;
        let mut resting = Vec::new();
        for topic in answer.responses {
            for data in &topic.partitions {
                let at = TopicPartition::new(&*topic.topic, data.partition_index);
                let Some(offset) = asked.get(&at) else { continue };
                let Some(partition) = self
                    .partitions
                    .iter_mut()
                    .find(|p| p.at == at && p.awaits(*offset))
                else {
                    continue;
                };
                if !accept(partition, data, self.config.offset_reset)? {
                    resting.push(at);
                }
            }
        }
        if resting.is_empty() {
            Ok(())
        } else {
            self.rest(resting.into_iter()).await
        }
    }

    /// Leaves partitions alone for a moment and asks who leads them now.
    async fn rest(&mut self, partitions: impl Iterator<Item = TopicPartition>) -> Result<()> {
        let until = Instant::now() + self.client.config().retry_backoff;
        let resting: BTreeSet<TopicPartition> = partitions.collect();
        for partition in self
            .partitions
            .iter_mut()
            .filter(|partition| resting.contains(&partition.at))
        {
            partition.rests_until = Some(until);
        }
        let topics: BTreeSet<&str> = resting.iter().map(|at| at.topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        if let Err(error) = self.client.refresh(&topics, &self.client.metadata()).await {
            tracing::debug!(%error, "metadata was not refreshed");
        }
        Ok(())
    }

    async fn commit_if_due(&mut self) -> Result<()> {
        let Some(interval) = self.config.commit_interval else {
            return Ok(());
        };
        if self.config.group.is_none() || self.committed_at.elapsed() < interval {
            return Ok(());
        }
        match self.commit().await {
            Err(error) if error.is_retriable() || error.is_lost_membership() => {
                tracing::debug!(%error, "positions were not committed");
                Ok(())
            }
            done => done,
        }
    }
}

/// Takes in a partition's part of an answer. `false`: its leader is elsewhere, or not ready.
fn accept(partition: &mut Partition, data: &PartitionData, reset: OffsetReset) -> Result<bool> {
    match ErrorCode::from_i16(data.error_code) {
        ErrorCode::None => partition.accept(data).map(|()| true),
        ErrorCode::OffsetOutOfRange if reset != OffsetReset::Fail => {
            tracing::warn!(partition = %partition.at, position = partition.position, "offset is out of range; it is reset");
            partition.lose_position();
            Ok(true)
        }
        code if code.retriable() => Ok(false),
        code => Err(Error::Broker {
            what: format!("fetch of {}", partition.at),
            code,
            message: None,
        }),
    }
}

async fn fetch(
    client: &Client,
    address: &str,
    asked: &HashMap<TopicPartition, i64>,
    request: &FetchRequest,
) -> Result<FetchResponse> {
    let connection = client.connection(address, Purpose::Fetches).await?;
    let version = connection.version::<FetchRequest>(FETCH_BY_NAME_VERSION_MAX)?;
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let call = connection.call_at(version, request, client.config().request_timeout + wait);
    let partitions: Vec<_> = asked.keys().collect();
    client.while_led(address, &partitions, call).await
}

async fn disturbed(membership: &mut Option<Membership>) {
    match membership {
        Some(membership) => membership.disturbed().await,
        None => std::future::pending().await,
    }
}

/// The newest version of Fetch that names topics; later ones use their ids (KIP-516).
const FETCH_BY_NAME_VERSION_MAX: i16 = 12;
