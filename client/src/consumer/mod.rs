//! Reading records: alone from partitions of one's choice, or as a member of a group.
//!
//! A [`Consumer`] is driven by [`Consumer::poll`]: it joins the group when it has to, keeps one fetch under way per
//! broker, and hands out one batch of records at a time. What lies ready is bounded by `fetch_bytes_max` twice over:
//! once being read, once being fetched.

mod config;
mod fetch;
mod group;
mod partition;
mod positions;
pub(crate) mod protocol;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millstream_kafka::records::Scratch;
use tokio::task::JoinSet;

use crate::admin::{self, OffsetSpec};
use crate::cluster::Client;
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

pub use config::{ConsumedRecord, ConsumerConfig, Isolation, OffsetReset, Start};
use fetch::Fetched;
use group::Membership;
use partition::Partition;

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

async fn disturbed(membership: &mut Option<Membership>) {
    match membership {
        Some(membership) => membership.disturbed().await,
        None => std::future::pending().await,
    }
}
