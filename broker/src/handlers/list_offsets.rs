//! ListOffsets: the offset of a time, of the beginning, of the end (KIP-79, KIP-734).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use super::{fetch, leaders};
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::partitions::{Isolation, Partition};
use crate::topics::TopicLookup;

/// Answers for every partition that was asked for.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut counts: BTreeMap<(Text, i32), u32> = BTreeMap::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            *counts
                .entry((topic.name.clone(), asked.partition_index))
                .or_default() += 1;
        }
    }
    let isolation = fetch::isolation(request.isolation_level);
    for topic in request.topics {
        let found = context.topics.find(&topic.name, Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            // What is asked for twice is refused, once.
            match counts.remove(&(topic.name.clone(), asked.partition_index)) {
                Some(1) => partitions.push(answer(context, &found, &asked, isolation, version).await),
                Some(_) => partitions.push(ListOffsetsPartitionResponse {
                    error_code: ErrorCode::InvalidRequest.code(),
                    ..nothing(asked.partition_index)
                }),
                None => {}
            }
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

async fn answer(
    context: &Context,
    topic: &TopicLookup,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let mut answer = nothing(asked.partition_index);
    if !is_known(asked.timestamp, version) {
        answer.error_code = ErrorCode::UnsupportedVersion.code();
        return answer;
    }
    let found = match topic {
        Ok(topic) => match leaders::led(context, topic, asked.partition_index) {
            Ok(partition) => match partition.check_leader_epoch(asked.current_leader_epoch) {
                Ok(()) => {
                    let is_known = knows_the_end(context, &partition);
                    look_up(partition, asked.timestamp, isolation, is_known).await
                }
                Err(code) => Err(code),
            },
            Err(code) => Err(code),
        },
        Err(code) => Err(*code),
    };
    match found {
        Ok(Some((timestamp, offset, epoch))) => {
            answer.timestamp = timestamp;
            answer.offset = offset.0;
            answer.leader_epoch = epoch.0;
        }
        Ok(None) => {}
        Err(ErrorCode::OffsetNotAvailable) if version < OFFSET_NOT_AVAILABLE_FROM_VERSION => {
            answer.error_code = ErrorCode::LeaderNotAvailable.code();
        }
        Err(code) => answer.error_code = code.code(),
    }
    answer
}

fn nothing(partition_index: i32) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..Default::default()
    }
}

/// Whether a version of the request knows what a negative time stands for.
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        EARLIEST.. => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

/// What was found: its timestamp, or -1, its offset, and the epoch of the leader that wrote there.
type Found = (i64, Offset, LeaderEpoch);

/// Whether the end of what was acknowledged is known here. A new leader may not know yet up to where records were
/// acknowledged by the one before it (KIP-207), and one that lost touch with the cluster not how far another one has come
/// since: what they would answer could lie before what was answered already.
fn knows_the_end(context: &Context, partition: &Partition) -> bool {
    partition.is_established() && context.lease.is_certain()
}

async fn look_up(
    partition: Arc<Partition>,
    timestamp: i64,
    isolation: Isolation,
    is_known: bool,
) -> Result<Option<Found>, ErrorCode> {
    let epoch = partition.leader_epoch();
    let watermarks = partition.watermarks();
    let end = watermarks.readable(isolation);
    match timestamp {
        LATEST if !is_known => Err(ErrorCode::OffsetNotAvailable),
        LATEST => Ok(Some((-1, end, epoch))),
        EARLIEST | EARLIEST_LOCAL => {
            let start = watermarks.log_start;
            Ok(Some((-1, start, epoch_at(&partition, start, epoch))))
        }
        // There is no tiered storage: nothing is there, and nothing waits to go there.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(None),
        _ => {
            let time = match timestamp {
                MAX_TIMESTAMP => None,
                time if time >= 0 => Some(time),
                _ => return Err(ErrorCode::UnsupportedVersion),
            };
            match search(partition.clone(), time, end).await? {
                Some((timestamp, offset)) => {
                    Ok(Some((timestamp, offset, epoch_at(&partition, offset, epoch))))
                }
                None if is_known => Ok(None),
                None => Err(ErrorCode::OffsetNotAvailable),
            }
        }
    }
}

/// The epoch of the leader that wrote at `offset`: the last one that had begun by then. `current` where none had.
fn epoch_at(partition: &Partition, offset: Offset, current: LeaderEpoch) -> LeaderEpoch {
    partition
        .with_log(|log| log.leader_epoch_at(offset))
        .unwrap_or(current)
}

/// Looks into segment files, which may have to come from the disk. What is not before `end` is not found.
async fn search(
    partition: Arc<Partition>,
    timestamp: Option<i64>,
    end: Offset,
) -> Result<Option<(i64, Offset)>, ErrorCode> {
    let searched = tokio::task::spawn_blocking(move || {
        partition.with_log(|log| match timestamp {
            Some(timestamp) => log.offset_for_timestamp(timestamp),
            None => log.offset_of_max_timestamp(),
        })
    });
    match searched.await {
        Ok(Ok(found)) => Ok(found
            .map(|f| (f.timestamp, f.offset))
            .filter(|(_, offset)| *offset < end)),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot search the log by time");
            Err(ErrorCode::KafkaStorageError)
        }
        Err(_) => Err(ErrorCode::UnknownServerError),
    }
}

/// Version of ListOffsets that brought the error for an offset that is not known yet.
const OFFSET_NOT_AVAILABLE_FROM_VERSION: i16 = 5;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

#[cfg(test)]
mod tests {
    use millstream_core::cluster::Command;
    use millstream_core::ids::{BrokerId, TopicId, TopicName};
    use millstream_kafka::api::list_offsets::ListOffsetsTopic;

    use super::*;
    use crate::{Broker, Settings};

    /// What is answered in a version for a time of the one partition of `a`: an error's code, an offset.
    async fn ask(context: &Arc<Context>, version: i16, timestamp: i64) -> (i16, i64) {
        let asked = ListOffsetsPartition {
            current_leader_epoch: -1,
            timestamp,
            ..Default::default()
        };
        let topic = ListOffsetsTopic {
            name: Text::from("a"),
            partitions: vec![asked],
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let info = ConnectionInfo {
            id: 1,
            peer: ([127, 0, 0, 1], 5000).into(),
            client_id: Text::default(),
        };
        let answer = handle(context, &info, version, request).await;
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.offset)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_leader_that_lost_touch_does_not_say_where_the_end_is() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::of_test(&dir.path().join("data"));
        let broker = Broker::start(settings).await.unwrap();
        let context = broker.context().clone();
        let create = Command::CreateTopic {
            name: TopicName::new("a").unwrap(),
            id: TopicId(Uuid::new_v4()),
            partitions: vec![vec![BrokerId(context.settings.node_id)]],
            configs: BTreeMap::new(),
        };
        context.controller.apply(create).await.unwrap();
        let known = [ask(&context, 5, LATEST).await, ask(&context, 5, 7).await];
        assert_eq!(known, [(0, 0), (0, -1)]);
        context.lease.end();
        let later = ErrorCode::OffsetNotAvailable.code();
        assert_eq!(ask(&context, 5, LATEST).await, (later, -1));
        assert_eq!(
            ask(&context, 5, 7).await,
            (later, -1),
            "there may be such a record by now"
        );
        let later = ErrorCode::LeaderNotAvailable.code();
        assert_eq!(ask(&context, 4, LATEST).await, (later, -1));
        assert_eq!(
            ask(&context, 5, EARLIEST).await,
            (0, 0),
            "what is known is told on"
        );
        broker.shutdown().await;
    }
}
