//! Fetches: one under way to each broker that leads something to read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use millstream_kafka::ErrorCode;
use millstream_kafka::api::fetch::{FetchRequest, FetchResponse, FetchTopic, PartitionData};
use millstream_kafka::wire::Text;

use super::partition::Partition;
use super::{Consumer, Isolation, OffsetReset};
use crate::cluster::{Client, Purpose};
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

/// What became of one fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    broker: i32,
    /// Offset that was asked for, by partition.
    asked: HashMap<TopicPartition, i64>,
    answer: Result<FetchResponse>,
}

impl Consumer {
    /// Begins a fetch to every leader that has something to give and is not being asked already.
    pub(super) fn start_fetches(&mut self) {
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

    /// What a fetch brought goes to the partitions that still wait for it.
    pub(super) async fn take_in(&mut self, fetched: Option<Fetched>) -> Result<()> {
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

/// The newest version of Fetch that names topics; later ones use their ids (KIP-516).
const FETCH_BY_NAME_VERSION_MAX: i16 = 12;
