//! A batch's way from a produce request to its partition: check, run plugins, re-compress if the topic asks, append.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::config::CompressionType;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::ErrorCode;
use millstream_kafka::records::{self, BatchError, BatchErrorKind, BatchView, Limits, Scratch, Validated};
use millstream_storage::AppendError;
use tokio::sync::oneshot;

use crate::context::{Context, now_ms};
use crate::partitions::{Partition, Receipt};
use crate::topics::Topic;

/// What became of a batch.
#[derive(Debug)]
pub struct Stored {
    /// Offset of the first record; none where a partitioner spread the batch.
    pub base_offset: Option<Offset>,
    /// Time that the broker gave the records, where the topic asks for that.
    pub log_append_time_ms: Option<i64>,
    /// First offset of the partition's log.
    pub log_start_offset: Offset,
    /// Each resolves when a part of the batch is durable.
    pub durable: Vec<oneshot::Receiver<()>>,
}

/// Why a batch was not stored, in Kafka's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error code.
    pub code: ErrorCode,
    /// A sentence for the client's log.
    pub message: String,
    /// Records at fault, by their place in the batch, with the reason.
    pub records: Vec<(i32, Option<String>)>,
}

impl Refusal {
    /// A refusal of the whole batch.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            records: Vec::new(),
        }
    }
}

/// Stores one batch that a client sent for a partition of `topic`.
///
/// Without plugins nothing is awaited, so batches of one connection are appended in the order of their requests.
///
/// # Errors
/// What the client did wrong, or what keeps the broker from storing the batch; nothing is stored then.
pub async fn store(
    context: &Arc<Context>,
    topic: &Arc<Topic>,
    partition: i32,
    batch: &Bytes,
    epoch: LeaderEpoch,
) -> Result<Stored, Refusal> {
    if topic.view().is_some() {
        return Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!("'{}' is a view: produce to its source", topic.name.as_str()),
        ));
    }
    let entrance = topic.partition(partition).ok_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            "the topic has no such partition",
        )
    })?;
    let validated = check(context, topic, batch)?;
    if topic.has_ingest_plugins() {
        return crate::plugins::ingest::store(context, topic, entrance, batch, &validated, epoch).await;
    }
    let stored = append(context, topic, entrance, batch, epoch)?;
    context
        .metrics
        .records_in
        .inc_by(u64::from(validated.record_count));
    Ok(stored)
}

/// Checks a client's batch against Kafka's rules and the topic's configuration.
///
/// # Errors
/// Which rule it breaks.
fn check(context: &Context, topic: &Topic, batch: &[u8]) -> Result<Validated, Refusal> {
    if batch.len() > topic.config.max_message_bytes as usize {
        return Err(Refusal::new(
            ErrorCode::MessageTooLarge,
            format!(
                "batch of {} bytes is larger than max.message.bytes={}",
                batch.len(),
                topic.config.max_message_bytes
            ),
        ));
    }
    let limits = Limits {
        batch_bytes_max: topic.config.max_message_bytes as usize,
        decompressed_bytes_max: context.settings.decompressed_max_bytes as usize,
    };
    let validated = records::validate(batch, &limits).map_err(refuse_batch)?;
    if validated.header.attributes.is_control() {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            "clients may not write control batches",
        ));
    }
    if !topic.config.log_append_time {
        check_timestamps(topic, &validated)?;
    }
    Ok(validated)
}

/// Timestamps may lie only so far from the broker's clock (KIP-937).
fn check_timestamps(topic: &Topic, validated: &Validated) -> Result<(), Refusal> {
    let now = now_ms();
    let header = &validated.header;
    let too_late = header.max_timestamp.saturating_sub(now) > topic.config.timestamp_after_max_ms;
    let too_early = now.saturating_sub(header.base_timestamp) > topic.config.timestamp_before_max_ms;
    if header.max_timestamp >= 0 && (too_late || too_early) {
        return Err(Refusal::new(
            ErrorCode::InvalidTimestamp,
            "a timestamp is further from the broker's clock than the topic allows",
        ));
    }
    Ok(())
}

/// Appends a checked batch to one partition.
///
/// # Errors
/// Sequence and disk errors.
pub fn append(
    context: &Context,
    topic: &Topic,
    partition: &Arc<Partition>,
    batch: &Bytes,
    epoch: LeaderEpoch,
) -> Result<Stored, Refusal> {
    let recompressed = recompress(context, topic, batch)?;
    let batch = recompressed.as_ref().unwrap_or(batch);
    let Receipt {
        appended,
        log_start_offset,
        durable,
    } = partition
        .append(batch, epoch, now_ms())
        .map_err(|error| refuse_append(partition, error))?;
    Ok(Stored {
        base_offset: Some(appended.base_offset),
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset,
        durable: durable.into_iter().collect(),
    })
}

/// Compresses a batch the way the topic wants it, if the client did not.
fn recompress(context: &Context, topic: &Topic, batch: &Bytes) -> Result<Option<Bytes>, Refusal> {
    let CompressionType::Codec(codec) = topic.config.compression else {
        return Ok(None);
    };
    let view = BatchView::parse(batch).map_err(refuse_batch)?;
    let wanted = records::Compression::from_id(codec as u8).map_err(refuse_batch)?;
    // A batch that plugins have left nothing of stays without a codec, as Kafka has it after compaction.
    if view.header().records_count == 0 || view.header().attributes.compression() == Ok(wanted) {
        return Ok(None);
    }
    let mut scratch = Scratch::default();
    records::recompress(
        &view,
        wanted,
        &mut scratch,
        context.settings.decompressed_max_bytes as usize,
    )
    .map(Some)
    .map_err(refuse_batch)
}

/// Kafka's error for a batch that cannot be taken.
pub fn refuse_batch(error: BatchError) -> Refusal {
    let code = match error.kind() {
        // These are no damage of the way: the frame is whole, the checksum fits. Sending it again would not help.
        _ if matches!(
            error,
            BatchError::Truncated { .. } | BatchError::Compressed { .. }
        ) =>
        {
            ErrorCode::InvalidRecord
        }
        BatchErrorKind::Corrupt => ErrorCode::CorruptMessage,
        // Kafka does not tell old formats apart here: every version that is offered came after them.
        BatchErrorKind::Invalid | BatchErrorKind::UnsupportedFormat => ErrorCode::InvalidRecord,
        BatchErrorKind::TooLarge => ErrorCode::MessageTooLarge,
        BatchErrorKind::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
    };
    Refusal::new(code, error.to_string())
}

/// Kafka's error for a batch that the log does not take.
pub fn refuse_append(partition: &Partition, error: AppendError) -> Refusal {
    let code = match &error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::UnknownProducer { .. } => ErrorCode::UnknownProducerId,
        AppendError::DuplicateSequence { .. } => ErrorCode::DuplicateSequenceNumber,
        AppendError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        _ => ErrorCode::KafkaStorageError,
    };
    if code == ErrorCode::KafkaStorageError {
        tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "append failed");
    }
    Refusal::new(code, error.to_string())
}
