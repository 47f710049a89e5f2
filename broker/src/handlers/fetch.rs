//! Fetch: records out.
//!
//! Reads what is there; where that is less than `min_bytes`, waits until partitions have more or `max_wait_ms` is
//! over. Plain topics answer with slices of their segment files, views with batches that were computed. Followers serve
//! consumers too, up to the high watermark that they know, and the leader sends consumers to one that is near (KIP-392).
//! Readers of committed records get what lies before the last stable offset, and with it what of it was aborted (KIP-98).

use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::Image;
use millstream_core::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use millstream_kafka::wire::{Payload, Text};
use millstream_storage::ReadError;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::leaders::{self, Named};
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::fetch_sessions::{Fetched, TOPIC_IDS_FROM_VERSION, Wanted};
use crate::partitions::{FileSlice, Isolation, Partition, ReadOutcome, Watermarks};
use crate::plugins::view;
use crate::topics::Topic;

/// Answers with the batches that were asked for, and the file slices that they lie in.
pub async fn handle(
    context: &Arc<Context>,
    info: &ConnectionInfo,
    version: i16,
    request: FetchRequest,
) -> (FetchResponse, Vec<FileSlice>) {
    let min_bytes = request.min_bytes.max(0) as usize;
    let bytes_max = request.max_bytes.clamp(0, context.settings.fetch_max_bytes) as usize;
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.clamp(0, WAIT_MS_MAX) as u64);
    let asked = Asked {
        bytes_max,
        isolation: isolation(request.isolation_level),
        by_id: version >= TOPIC_IDS_FROM_VERSION,
        may_follow: version >= FOLLOWERS_FROM_VERSION,
        rack: request.rack_id.clone(),
    };
    let session = match context.fetch_sessions.begin(context, info, version, request) {
        Ok(session) => session,
        Err(code) => {
            return (
                FetchResponse {
                    error_code: code.code(),
                    ..Default::default()
                },
                Vec::new(),
            );
        }
    };
    let mut round = Round::read(context, session.wanted(), &asked).await;
    while !round.is_enough(min_bytes) && Instant::now() < deadline {
        let more = Arc::new(Notify::new());
        for partition in &round.waiting {
            partition.notify_when_readable_as(asked.isolation, &more);
        }
        // Whatever came between the read and the registration is found now.
        round = Round::read(context, session.wanted(), &asked).await;
        if round.is_enough(min_bytes) || tokio::time::timeout_at(deadline, more.notified()).await.is_err() {
            break;
        }
        round = Round::read(context, session.wanted(), &asked).await;
    }
    let node_endpoints = name_leaders(context, version, &mut round.answers);
    let (session_id, answers) = context.fetch_sessions.finish(session, round.answers);
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for Fetched {
        topic,
        topic_id,
        data,
    } in answers
    {
        match responses.last_mut() {
            Some(last) if last.topic == topic && last.topic_id == topic_id => last.partitions.push(data),
            _ => responses.push(FetchableTopicResponse {
                topic,
                topic_id,
                partitions: vec![data],
                ..Default::default()
            }),
        }
    }
    (
        FetchResponse {
            session_id,
            responses,
            node_endpoints,
            ..Default::default()
        },
        round.files,
    )
}

/// The same with the records in the answer, for who has no socket that files could be sent to. Knows no sessions.
pub async fn whole(context: &Arc<Context>, version: i16, request: FetchRequest) -> FetchResponse {
    let request = FetchRequest {
        session_id: 0,
        session_epoch: -1,
        ..request
    };
    let (mut answer, files) = handle(context, &ConnectionInfo::of_broker(), version, request).await;
    let partitions = answer
        .responses
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions);
    for data in partitions {
        let Some(Payload::External { index, .. }) = data.records else {
            continue;
        };
        data.records = match files[index as usize].read().await {
            Ok(bytes) => Some(Payload::Bytes(bytes.into())),
            Err(error) => {
                tracing::error!(%error, "cannot read the log");
                data.error_code = ErrorCode::KafkaStorageError.code();
                Some(Payload::default())
            }
        };
    }
    answer
}

/// What holds for all partitions of a request.
#[derive(Debug)]
struct Asked {
    bytes_max: usize,
    isolation: Isolation,
    by_id: bool,
    /// Whether the client knows that followers may answer.
    may_follow: bool,
    /// The client's rack; empty for none.
    rack: Text,
}

/// One look at all the partitions that were asked for.
#[derive(Default)]
struct Round {
    answers: Vec<Fetched>,
    files: Vec<FileSlice>,
    bytes: usize,
    failed: bool,
    diverged: bool,
    /// Whether the client is to ask another replica.
    sent_away: bool,
    /// Partitions that had nothing to read.
    waiting: Vec<Arc<Partition>>,
}

impl Round {
    async fn read(context: &Arc<Context>, wanted: &[Wanted], asked: &Asked) -> Self {
        let mut round = Self {
            answers: Vec::with_capacity(wanted.len()),
            ..Self::default()
        };
        // As Kafka answers: what is not there comes last.
        let mut missing = Vec::new();
        for want in wanted {
            let left = asked.bytes_max.saturating_sub(round.bytes);
            let limit = left.min(want.bytes_max.max(0) as usize);
            // The first batch that is found is sent even if it is larger than was asked for: the client must move on.
            let at_least_one = round.bytes == 0;
            let mut data = PartitionData {
                partition_index: want.partition,
                ..Default::default()
            };
            let mut is_missing = false;
            let read = match find(context, want, asked.by_id) {
                Ok(found) => {
                    round
                        .read_one(context, asked, found, want, (limit, at_least_one), &mut data)
                        .await
                }
                Err(code) => {
                    // As Kafka has it: none instead of no list.
                    data.aborted_transactions = Some(Vec::new());
                    (
                        data.high_watermark,
                        data.last_stable_offset,
                        data.log_start_offset,
                    ) = (-1, -1, -1);
                    is_missing = true;
                    Err(code)
                }
            };
            if let Err(code) = read {
                data.error_code = code.code();
                round.failed = true;
            }
            if data.records.is_none() {
                data.records = Some(Payload::default());
            }
            let answers = if is_missing {
                &mut missing
            } else {
                &mut round.answers
            };
            answers.push(Fetched {
                topic: want.topic.clone(),
                topic_id: want.topic_id,
                data,
            });
        }
        round.answers.append(&mut missing);
        round
    }

    async fn read_one(
        &mut self,
        context: &Arc<Context>,
        asked: &Asked,
        (topic, partition): Found,
        want: &Wanted,
        (limit, at_least_one): (usize, bool),
        data: &mut PartitionData,
    ) -> Result<(), ErrorCode> {
        data.high_watermark = -1;
        data.last_stable_offset = -1;
        data.log_start_offset = -1;
        data.aborted_transactions = None;
        let partition = partition?;
        let leads = partition.is_leader();
        if !leads && !asked.may_follow {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        partition.check_leader_epoch(want.current_leader_epoch)?;
        if let Some(diverging) = diverging(&partition, want)? {
            tell(data, partition.watermarks());
            data.diverging_epoch = diverging;
            self.diverged = true;
            return Ok(());
        }
        let offset = Offset(want.offset);
        let ReadOutcome {
            slice,
            watermarks,
            may_hold_aborted,
        } = partition
            .read_as(asked.isolation, offset, limit, at_least_one)
            .map_err(|error| refuse(&partition, offset, leads && context.lease.is_certain(), &error))?;
        tell(data, watermarks);
        if leads && let Some(near) = preferred(context, asked, &topic, want.partition) {
            data.preferred_read_replica = near.0;
            self.sent_away = true;
            return Ok(());
        }
        let aborted = match &slice {
            Some(slice) if may_hold_aborted => aborted(&partition, offset, slice).await?,
            _ => Vec::new(),
        };
        if let Some(slice) = slice {
            let payload = self.payload(context, &topic, &partition, slice).await?;
            self.bytes += payload.len();
            data.records = Some(payload);
        } else {
            self.waiting.push(partition);
        }
        data.aborted_transactions = (asked.isolation == Isolation::Committed).then_some(aborted);
        Ok(())
    }

    /// The batches in `slice` as readers of the topic get them.
    async fn payload(
        &mut self,
        context: &Arc<Context>,
        topic: &Topic,
        partition: &Arc<Partition>,
        slice: FileSlice,
    ) -> Result<Payload, ErrorCode> {
        if let Some(chain) = topic.view() {
            let computed = view::compute(context, chain, partition, slice).await?;
            return Ok(Payload::Bytes(computed));
        }
        let payload = Payload::External {
            index: self.files.len() as u32,
            len: slice.len as u32,
        };
        self.files.push(slice);
        Ok(payload)
    }

    fn is_enough(&self, min_bytes: usize) -> bool {
        self.failed || self.diverged || self.sent_away || self.bytes >= min_bytes || self.waiting.is_empty()
    }
}

/// A topic, and a partition of it; an error in its place where that is on other brokers.
type Found = (Arc<Topic>, Result<Arc<Partition>, ErrorCode>);

/// What a client wants to see, as Kafka's requests say it.
pub fn isolation(level: i8) -> Isolation {
    match level {
        READ_COMMITTED => Isolation::Committed,
        _ => Isolation::Uncommitted,
    }
}

fn tell(data: &mut PartitionData, watermarks: Watermarks) {
    data.high_watermark = watermarks.high.0;
    data.last_stable_offset = watermarks.last_stable.0;
    data.log_start_offset = watermarks.log_start.0;
}

/// Kafka's error for a read from `offset` on that failed. `knows_the_end` tells whether this broker is sure of what was
/// acknowledged.
fn refuse(partition: &Partition, offset: Offset, knows_the_end: bool, error: &ReadError) -> ErrorCode {
    if !error.is_out_of_range() {
        tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "cannot read the log");
        return ErrorCode::KafkaStorageError;
    }
    // A follower may be behind what the client has seen elsewhere, and so may one that led until it lost touch: a client
    // that believed its end would go back, or skip.
    let is_ahead = offset > partition.watermarks().high;
    match knows_the_end || !is_ahead {
        true => ErrorCode::OffsetOutOfRange,
        false => ErrorCode::OffsetNotAvailable,
    }
}

/// The aborted transactions in what was read from `offset` on, which the client is to skip. They may have to come from the
/// disk.
async fn aborted(
    partition: &Arc<Partition>,
    offset: Offset,
    slice: &FileSlice,
) -> Result<Vec<AbortedTransaction>, ErrorCode> {
    let (of_task, slice) = (partition.clone(), slice.clone());
    let found = tokio::task::spawn_blocking(move || of_task.aborted_in(offset, &slice)).await;
    let found = found.map_err(|_| ErrorCode::UnknownServerError)?;
    let found = found.map_err(|error| refuse(partition, offset, true, &error))?;
    let told = found.into_iter().map(|aborted| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset.0,
        ..Default::default()
    });
    Ok(told.collect())
}

/// The partition that is wanted; none of this broker's own where it is on others.
fn find(context: &Context, want: &Wanted, by_id: bool) -> Result<Found, ErrorCode> {
    if by_id && want.topic_id.is_nil() {
        return Err(ErrorCode::UnknownTopicId);
    }
    let topic: Arc<Topic> = context.topics.find(&want.topic, want.topic_id)?;
    match leaders::local(context, &topic, want.partition) {
        Err(ErrorCode::UnknownTopicOrPartition) => Err(ErrorCode::UnknownTopicOrPartition),
        partition => Ok((topic, partition)),
    }
}

/// The replica that a consumer should read from instead of this one, which leads: one that is in its rack and in sync.
fn preferred(context: &Context, asked: &Asked, topic: &Topic, index: i32) -> Option<BrokerId> {
    if !asked.may_follow || asked.rack.is_empty() {
        return None;
    }
    let me = BrokerId(context.settings.node_id);
    near(
        &context.controller.image(),
        me,
        &asked.rack,
        TopicId(topic.id),
        index,
    )
}

/// The in-sync replica of a partition in `rack`; none if `leader` is in it, or nobody.
fn near(image: &Image, leader: BrokerId, rack: &str, topic: TopicId, index: i32) -> Option<BrokerId> {
    let topic = image.topic_by_id(topic)?;
    let partition = image.partition(topic, PartitionIndex(index))?;
    let is_near = |id: BrokerId| leaders::serving(image, id).is_some_and(|b| b.rack.as_deref() == Some(rack));
    if is_near(leader) {
        return None;
    }
    let near: Vec<BrokerId> = partition.isr.iter().copied().filter(|id| is_near(*id)).collect();
    // Partitions spread over the replicas of a rack that has several.
    let turn = usize::try_from(index).unwrap_or(0).checked_rem(near.len())?;
    Some(near[turn])
}

/// Tells a client that asked the wrong broker who leads; gives where those brokers are (KIP-951).
fn name_leaders(context: &Context, version: i16, answers: &mut [Fetched]) -> Vec<NodeEndpoint> {
    let is_wrong = |fetched: &Fetched| {
        let code = fetched.data.error_code;
        code == ErrorCode::NotLeaderOrFollower.code() || code == ErrorCode::FencedLeaderEpoch.code()
    };
    if version < LEADERS_FROM_VERSION || !answers.iter().any(is_wrong) {
        return Vec::new();
    }
    let image = context.controller.image();
    let mut named = Named::default();
    for fetched in answers.iter_mut().filter(|fetched| is_wrong(fetched)) {
        let index = fetched.data.partition_index;
        let Some(leader) = leaders::leader(&image, fetched.topic_id, index) else {
            continue;
        };
        named.add(leader);
        fetched.data.current_leader = LeaderIdAndEpoch {
            leader_id: leader.id,
            leader_epoch: leader.epoch.0,
            ..Default::default()
        };
    }
    let endpoints = named.endpoints(&image).into_iter().map(|broker| NodeEndpoint {
        node_id: broker.id.0,
        host: Text::from(broker.host.as_str()),
        port: i32::from(broker.port),
        rack: broker.rack.as_deref().map(Text::from),
        ..Default::default()
    });
    endpoints.collect()
}

/// Where the client's log parts from this one, if it says what it has last (KIP-595).
fn diverging(partition: &Partition, want: &Wanted) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if want.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = partition.end_of_leader_epoch(LeaderEpoch(want.last_fetched_epoch));
    let (epoch, end_offset) = end.ok_or(ErrorCode::OffsetOutOfRange)?;
    let differs = epoch.0 < want.last_fetched_epoch || end_offset.0 < want.offset;
    Ok(differs.then(|| EpochEndOffset {
        epoch: epoch.0,
        end_offset: end_offset.0,
        ..Default::default()
    }))
}

/// Kafka's number for the isolation of readers that see only what is decided.
const READ_COMMITTED: i8 = 1;
/// Longest time that a fetch waits, whatever it asks for.
const WAIT_MS_MAX: i32 = 300_000;
/// Version of Fetch from which on followers answer consumers (KIP-392).
const FOLLOWERS_FROM_VERSION: i16 = 11;
/// Version of Fetch from which on answers name leaders (KIP-951). Topics have ids by then.
const LEADERS_FROM_VERSION: i16 = 16;

#[cfg(test)]
mod tests;
