//! Fetch: records out.
//!
//! Reads what is there; where that is less than `min_bytes`, waits until partitions have more or `max_wait_ms` is
//! over. Plain topics answer with slices of their segment files, views with batches that were computed.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use millstream_kafka::wire::Payload;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::fetch_sessions::{Fetched, TOPIC_IDS_FROM_VERSION, Wanted};
use crate::partitions::{FileSlice, Partition, ReadOutcome};
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
        read_committed: request.isolation_level == 1,
        by_id: version >= TOPIC_IDS_FROM_VERSION,
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
    let mut round = Round::read(context, session.wanted(), asked).await;
    while !round.is_enough(min_bytes) && Instant::now() < deadline {
        let more = Arc::new(Notify::new());
        for partition in &round.waiting {
            partition.notify_when_readable(&more);
        }
        // Whatever came between the read and the registration is found now.
        round = Round::read(context, session.wanted(), asked).await;
        if round.is_enough(min_bytes) || tokio::time::timeout_at(deadline, more.notified()).await.is_err() {
            break;
        }
        round = Round::read(context, session.wanted(), asked).await;
    }
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
            ..Default::default()
        },
        round.files,
    )
}

/// What holds for all partitions of a request.
#[derive(Debug, Clone, Copy)]
struct Asked {
    bytes_max: usize,
    read_committed: bool,
    by_id: bool,
}

/// One look at all the partitions that were asked for.
#[derive(Default)]
struct Round {
    answers: Vec<Fetched>,
    files: Vec<FileSlice>,
    bytes: usize,
    failed: bool,
    diverged: bool,
    /// Partitions that had nothing to read.
    waiting: Vec<Arc<Partition>>,
}

impl Round {
    async fn read(context: &Arc<Context>, wanted: &[Wanted], asked: Asked) -> Self {
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
                        .read_one(context, found, want, limit, at_least_one, &mut data)
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
            if asked.read_committed && data.error_code == 0 {
                data.aborted_transactions = Some(Vec::new());
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
        (topic, partition): (Arc<Topic>, Arc<Partition>),
        want: &Wanted,
        limit: usize,
        at_least_one: bool,
        data: &mut PartitionData,
    ) -> Result<(), ErrorCode> {
        data.high_watermark = -1;
        data.last_stable_offset = -1;
        data.log_start_offset = -1;
        data.aborted_transactions = None;
        partition.check_leader_epoch(want.current_leader_epoch)?;
        if let Some(diverging) = diverging(&partition, want)? {
            let watermarks = partition.watermarks();
            data.high_watermark = watermarks.high.0;
            data.last_stable_offset = watermarks.high.0;
            data.log_start_offset = watermarks.log_start.0;
            data.diverging_epoch = diverging;
            self.diverged = true;
            return Ok(());
        }
        let ReadOutcome { slice, watermarks } = match partition.read(Offset(want.offset), limit, at_least_one)
        {
            Ok(outcome) => outcome,
            Err(error) => {
                if error.is_out_of_range() {
                    return Err(ErrorCode::OffsetOutOfRange);
                }
                tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "cannot read the log");
                return Err(ErrorCode::KafkaStorageError);
            }
        };
        data.high_watermark = watermarks.high.0;
        data.last_stable_offset = watermarks.high.0;
        data.log_start_offset = watermarks.log_start.0;
        let Some(slice) = slice else {
            self.waiting.push(partition.clone());
            return Ok(());
        };
        let payload = if let Some(chain) = topic.view() {
            Payload::Bytes(view::compute(context, chain, &partition, slice).await?)
        } else {
            let payload = Payload::External {
                index: self.files.len() as u32,
                len: slice.len as u32,
            };
            self.files.push(slice);
            payload
        };
        self.bytes += payload.len();
        data.records = Some(payload);
        Ok(())
    }

    fn is_enough(&self, min_bytes: usize) -> bool {
        self.failed || self.diverged || self.bytes >= min_bytes || self.waiting.is_empty()
    }
}

/// The partition that is wanted.
fn find(context: &Context, want: &Wanted, by_id: bool) -> Result<(Arc<Topic>, Arc<Partition>), ErrorCode> {
    if by_id && want.topic_id.is_nil() {
        return Err(ErrorCode::UnknownTopicId);
    }
    let topic: Arc<Topic> = context.topics.find(&want.topic, want.topic_id)?;
    let partition = topic.partition(want.partition).cloned();
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok((topic, partition))
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

/// Longest time that a fetch waits, whatever it asks for.
const WAIT_MS_MAX: i32 = 300_000;
