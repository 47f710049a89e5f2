//! What a partition of a transform reads: how far it is, and the records from there on.

use std::sync::Arc;
use std::time::Duration;

use millstream_kafka::api::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use millstream_kafka::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millstream_kafka::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponsePartitions,
};

use super::platform::{Place, Trouble, Who, ask, check, leader, no_answer};
use crate::context::Context;

impl Who {
    /// How far it is; none if nothing was committed yet. Waits for transactions that would change it.
    ///
    /// # Errors
    /// Nobody can say so now.
    pub async fn committed(&self, context: &Arc<Context>) -> Result<Option<Place>, Trouble> {
        let doing = "asking for the committed offset";
        let wanted = OffsetFetchRequestTopics {
            name: self.topic.clone(),
            partition_indexes: vec![self.partition],
            ..Default::default()
        };
        self.patiently(|| async {
            let request = OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup {
                    group_id: self.group.clone(),
                    topics: Some(vec![wanted.clone()]),
                    ..Default::default()
                }],
                require_stable: true,
                ..Default::default()
            };
            let coordinator = self.group_coordinator(context);
            let answer = ask(context, coordinator, OFFSET_FETCH_VERSION, request, doing).await?;
            let mut groups = answer.groups.into_iter();
            let group = groups.next().ok_or_else(|| no_answer(doing))?;
            check(group.error_code, doing)?;
            let mut partitions = group.topics.into_iter().flat_map(|topic| topic.partitions);
            let found = partitions.next().ok_or_else(|| no_answer(doing))?;
            check(found.error_code, doing)?;
            Ok(place(found))
        })
        .await
    }

    /// The offset of a time, or of Kafka's -1 (the end, for readers of what is committed) and -2 (the beginning).
    ///
    /// # Errors
    /// Nobody can say so now.
    pub async fn offset_of(&self, context: &Arc<Context>, timestamp: i64) -> Result<i64, Trouble> {
        let doing = "asking for an offset";
        self.patiently(|| async {
            let request = ListOffsetsRequest {
                isolation_level: READ_COMMITTED,
                topics: vec![ListOffsetsTopic {
                    name: self.topic.clone(),
                    partitions: vec![ListOffsetsPartition {
                        partition_index: self.partition,
                        timestamp,
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let leader = leader(&context.controller.image(), &self.topic, self.partition);
            let answer = ask(context, leader, LIST_OFFSETS_VERSION, request, doing).await?;
            let mut partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
            let found = partitions.next().ok_or_else(|| no_answer(doing))?;
            check(found.error_code, doing)?;
            Ok(found.offset)
        })
        .await
    }

    /// What lies from `offset` on, as soon as there is some, or nothing when `wait` is over.
    ///
    /// # Errors
    /// Nobody can say so now; [`Trouble::Refused`] if the offset lies outside of the log.
    pub async fn read(
        &self,
        context: &Arc<Context>,
        offset: i64,
        bytes_max: i32,
        wait: Duration,
    ) -> Result<PartitionData, Trouble> {
        let doing = "reading";
        let leader = leader(&context.controller.image(), &self.topic, self.partition);
        // Others answer calls within a few seconds.
        let wait = match leader == Some(context.node) {
            true => wait,
            false => wait.min(REMOTE_WAIT_MAX),
        };
        let request = FetchRequest {
            max_wait_ms: wait.as_millis() as i32,
            min_bytes: 1,
            max_bytes: bytes_max,
            isolation_level: READ_COMMITTED,
            topics: vec![FetchTopic {
                topic: self.topic.clone(),
                partitions: vec![FetchPartition {
                    partition: self.partition,
                    fetch_offset: offset,
                    partition_max_bytes: bytes_max,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = ask(context, leader, FETCH_VERSION, request, doing).await?;
        let mut partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        let data = partitions.next().ok_or_else(|| no_answer(doing))?;
        check(data.error_code, doing)?;
        Ok(data)
    }
}

fn place(found: OffsetFetchResponsePartitions) -> Option<Place> {
    (found.committed_offset >= 0).then(|| Place {
        offset: found.committed_offset,
        metadata: found.metadata.map(|text| text.to_string()).unwrap_or_default(),
    })
}

/// Kafka's isolation level of readers that see only what is decided.
const READ_COMMITTED: i8 = 1;
/// Longest time that another broker is to wait for records.
const REMOTE_WAIT_MAX: Duration = Duration::from_millis(500);
/// Versions of the requests that brokers make of each other.
const OFFSET_FETCH_VERSION: i16 = 9;
const LIST_OFFSETS_VERSION: i16 = 8;
const FETCH_VERSION: i16 = 12;
