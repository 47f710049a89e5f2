//! Fetch: records out.
//!
//! Reads what is there; where that is less than `min_bytes`, waits until partitions have more or `max_wait_ms` is
//! over. Plain topics answer with slices of their segment files, views with batches that were computed.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::ids::Offset;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use millstream_kafka::wire::Payload;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::fetch_sessions::{Fetched, Wanted};
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
    let read_committed = request.isolation_level == 1;
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
    let mut round = Round::read(context, session.wanted(), bytes_max, read_committed).await;
    while !round.is_enough(min_bytes) && Instant::now() < deadline {
        let more = Arc::new(Notify::new());
        for partition in &round.waiting {
            partition.notify_when_readable(&more);
        }
        // Whatever came between the read and the registration is found now.
        round = Round::read(context, session.wanted(), bytes_max, read_committed).await;
        if round.is_enough(min_bytes) || tokio::time::timeout_at(deadline, more.notified()).await.is_err() {
            break;
        }
        round = Round::read(context, session.wanted(), bytes_max, read_committed).await;
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

/// One look at all the partitions that were asked for.
#[derive(Default)]
struct Round {
    answers: Vec<Fetched>,
    files: Vec<FileSlice>,
    bytes: usize,
    failed: bool,
    /// Partitions that had nothing to read.
    waiting: Vec<Arc<Partition>>,
}

impl Round {
    async fn read(context: &Arc<Context>, wanted: &[Wanted], bytes_max: usize, read_committed: bool) -> Self {
        let mut round = Self {
            answers: Vec::with_capacity(wanted.len()),
            ..Self::default()
        };
        for want in wanted {
            let left = bytes_max.saturating_sub(round.bytes);
            let limit = left.min(want.bytes_max.max(0) as usize);
            // The first batch that is found is sent even if it is larger than was asked for: the client must move on.
            let at_least_one = round.bytes == 0;
            let mut data = PartitionData {
                partition_index: want.partition,
                ..Default::default()
            };
            if let Err(code) = round
                .read_one(context, want, limit, at_least_one, &mut data)
                .await
            {
                data.error_code = code.code();
                round.failed = true;
            }
            if read_committed && data.error_code == 0 {
                data.aborted_transactions = Some(Vec::new());
            }
            if data.records.is_none() {
                data.records = Some(Payload::default());
            }
            round.answers.push(Fetched {
                topic: want.topic.clone(),
                topic_id: want.topic_id,
                data,
            });
        }
        round
    }

    async fn read_one(
        &mut self,
        context: &Arc<Context>,
        want: &Wanted,
        limit: usize,
        at_least_one: bool,
        data: &mut PartitionData,
    ) -> Result<(), ErrorCode> {
        data.high_watermark = -1;
        data.last_stable_offset = -1;
        data.log_start_offset = -1;
        // As Kafka has it, where there is no partition: none instead of no list.
        data.aborted_transactions = Some(Vec::new());
        let topic: Arc<Topic> = context.topics.find(&want.topic, want.topic_id)?;
        let partition = topic
            .partition(want.partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        data.aborted_transactions = None;
        partition.check_leader_epoch(want.current_leader_epoch)?;
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
            Payload::Bytes(view::compute(context, chain, partition, slice).await?)
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
        self.failed || self.bytes >= min_bytes || self.waiting.is_empty()
    }
}

/// Longest time that a fetch waits, whatever it asks for.
const WAIT_MS_MAX: i32 = 300_000;
