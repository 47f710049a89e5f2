//! Offsets of the log: the first, the last, the one of a time; and deleting what lies before one.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_kafka::Request;
use millstream_kafka::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millstream_kafka::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_kafka::wire::Text;

use super::Admin;
use crate::cluster::{Client, Purpose};
use crate::error::{Error, Result};
use crate::metadata::{Metadata, TopicPartition};

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The oldest record that is kept.
    Earliest,
    /// The one after the newest record.
    Latest,
    /// Where those end who read what is committed: at the first open transaction, or after the newest record.
    LatestStable,
    /// The first record of this time or later, in milliseconds since 1970.
    Timestamp(i64),
    /// The record with the greatest timestamp (KIP-734).
    MaxTimestamp,
}

/// An offset that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAt {
    /// The offset.
    pub offset: i64,
    /// Timestamp of its record in milliseconds since 1970, where one was asked for.
    pub timestamp: Option<i64>,
}

impl Admin {
    /// Offsets of partitions; `None` for one that has no record as late as was asked for.
    ///
    /// # Errors
    /// A partition does not exist, or its leader cannot be reached.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAt>>> {
        list_offsets(&self.client, asked).await
    }

    /// Deletes the records before an offset, -1 for all there are. Gives the offset that is now the first.
    ///
    /// # Errors
    /// The partition does not exist, or the offset is beyond its end.
    pub async fn delete_records(&self, at: &TopicPartition, before: i64) -> Result<i64> {
        self.client.topic(&at.topic, false).await?;
        let partition = DeleteRecordsPartition {
            partition_index: at.partition,
            offset: before,
            ..Default::default()
        };
        let topic = DeleteRecordsTopic {
            name: Text::from(at.topic.as_str()),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: self.limit().as_millis() as i32,
            ..Default::default()
        };
        self.client
            .retry(|| async {
                let seen = self.client.metadata();
                let answer = ask_leader(&self.client, at, &seen, &request).await?;
                let found = answer
                    .topics
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .find(|p| p.partition_index == at.partition);
                let what = || format!("deleting records of {at}");
                let Some(found) = found else {
                    return Err(super::topics::said_nothing(what()));
                };
                let checked = Error::check(found.error_code, None, what);
                refreshed(&self.client, &at.topic, &seen, checked).await?;
                Ok(found.low_watermark)
            })
            .await
    }
}

/// Asks every leader for the offsets of its partitions, one request a partition, pipelined.
pub(crate) async fn list_offsets(
    client: &Client,
    asked: &[(TopicPartition, OffsetSpec)],
) -> Result<BTreeMap<TopicPartition, Option<OffsetAt>>> {
    let mut found = BTreeMap::new();
    let mut waiting = tokio::task::JoinSet::new();
    for (at, spec) in asked.iter().cloned() {
        if waiting.len() >= QUESTIONS_MAX {
            take_in(&mut waiting, &mut found).await?;
        }
        let client = client.clone();
        waiting.spawn(async move {
            client.topic(&at.topic, false).await?;
            let offset = client.retry(|| list_one(&client, &at, spec)).await?;
            Ok((at, offset))
        });
    }
    while !waiting.is_empty() {
        take_in(&mut waiting, &mut found).await?;
    }
    Ok(found)
}

type Answered = Result<(TopicPartition, Option<OffsetAt>)>;

async fn take_in(
    waiting: &mut tokio::task::JoinSet<Answered>,
    found: &mut BTreeMap<TopicPartition, Option<OffsetAt>>,
) -> Result<()> {
    if let Some(answered) = waiting.join_next().await {
        let (at, offset) = answered.map_err(|_| Error::Closed("client"))??;
        found.insert(at, offset);
    }
    Ok(())
}

async fn list_one(client: &Client, at: &TopicPartition, spec: OffsetSpec) -> Result<Option<OffsetAt>> {
    let seen = client.metadata();
    let partition = ListOffsetsPartition {
        partition_index: at.partition,
        current_leader_epoch: -1,
        timestamp: match spec {
            OffsetSpec::Earliest => EARLIEST,
            OffsetSpec::Latest | OffsetSpec::LatestStable => LATEST,
            OffsetSpec::MaxTimestamp => MAX_TIMESTAMP,
            OffsetSpec::Timestamp(ms) => ms.max(0),
        },
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: Text::from(at.topic.as_str()),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(spec == OffsetSpec::LatestStable),
        topics: vec![topic],
        ..Default::default()
    };
    let asked = async { client.leader(at, Purpose::Requests).await?.call(&request).await };
    let answer = refreshed(client, &at.topic, &seen, asked.await).await?;
    let found = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .find(|p| p.partition_index == at.partition);
    let what = || format!("offsets of {at}");
    let Some(found) = found else {
        return Err(super::topics::said_nothing(what()));
    };
    refreshed(
        client,
        &at.topic,
        &seen,
        Error::check(found.error_code, None, what),
    )
    .await?;
    let timestamp = (found.timestamp >= 0).then_some(found.timestamp);
    Ok((found.offset >= 0).then_some(OffsetAt {
        offset: found.offset,
        timestamp,
    }))
}

/// Asks the leader of a partition, once; looks for it again if the error may come from asking another.
pub(super) async fn ask_leader<R: Request>(
    client: &Client,
    at: &TopicPartition,
    seen: &Arc<Metadata>,
    request: &R,
) -> Result<R::Response> {
    let asked = async { client.leader(at, Purpose::Requests).await?.call(request).await };
    refreshed(client, &at.topic, seen, asked.await).await
}

/// Looks for the leader again if the error may come from asking another.
pub(super) async fn refreshed<T>(
    client: &Client,
    topic: &str,
    seen: &Arc<Metadata>,
    asked: Result<T>,
) -> Result<T> {
    if asked.as_ref().is_err_and(Error::is_retriable)
        && let Err(error) = client.refresh(&[topic], seen).await
    {
        tracing::debug!(%error, "metadata was not refreshed");
    }
    asked
}

/// Kafka's timestamps that stand for an offset.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// Partitions that are asked about at a time.
const QUESTIONS_MAX: usize = 128;
