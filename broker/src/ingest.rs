//! A batch's way from a produce request to its partition: check, run plugins, re-compress if the topic asks, append.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::config::CompressionType;
use millstream_core::ids::{Offset, ProducerId};
use millstream_kafka::ErrorCode;
use millstream_kafka::records::{
    self, BatchError, BatchErrorKind, BatchView, Limits, RecordSpan, Scratch, TimestampType, Validated,
};
use millstream_storage::AppendError as LogError;
use tokio::sync::oneshot;

use crate::context::{Context, now_ms};
use crate::handlers::leaders;
use crate::partitions::{AppendError, NotDurable, Part, Partition, Receipt};
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
    pub durable: Vec<Durable>,
}

/// Resolves when what was appended is as safe as the topic asks, or will not become so here.
pub type Durable = oneshot::Receiver<Result<(), NotDurable>>;

/// Waits until what was appended is safe.
///
/// # Errors
/// Kafka's error code for why it is not, or not by then.
pub async fn until_safe(durable: Durable, deadline: tokio::time::Instant) -> Result<(), ErrorCode> {
    match tokio::time::timeout_at(deadline, durable).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(NotDurable::NotLeader))) => Err(ErrorCode::NotLeaderOrFollower),
        Ok(Ok(Err(NotDurable::Storage)) | Err(_)) => Err(ErrorCode::KafkaStorageError),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}

/// Whose word a producer takes for its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// All replicas that are in sync: the leader refuses what too few of them could keep.
    InSync,
    /// The leader's.
    Leader,
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

    /// Whether a producer sends a batch again that was refused so.
    pub fn is_sent_again(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::RequestTimedOut
                | ErrorCode::KafkaStorageError
                | ErrorCode::UnknownServerError
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::NotEnoughReplicasAfterAppend
        )
    }
}

/// How a batch is a part of a transaction.
#[derive(Debug)]
pub enum InTransaction {
    /// It is stored where it came in.
    Here(Part),
    /// A partitioner spreads it: each partition that records go to asks under this transactional id.
    Spread(Arc<str>),
}

impl InTransaction {
    /// Where nothing is spread; a batch that was to be is not verified there.
    pub fn here(self) -> Part {
        match self {
            Self::Here(part) => part,
            Self::Spread(_) => Part(None),
        }
    }
}

/// Stores one batch that a client sent for a partition of `topic`. `part` says that it is of a transaction.
///
/// Without plugins nothing is awaited, so batches of one connection are appended in the order of their requests.
///
/// # Errors
/// What the client did wrong, or what keeps the broker from storing the batch; nothing is stored then.
pub async fn store(
    context: &Arc<Context>,
    topic: &Arc<Topic>,
    entrance: &Arc<Partition>,
    batch: &Bytes,
    safety: Safety,
    part: Option<InTransaction>,
) -> Result<Stored, Refusal> {
    if topic.view().is_some() {
        return Err(Refusal::new(
            ErrorCode::PolicyViolation,
            format!("'{}' is a view: produce to its source", topic.name.as_str()),
        ));
    }
    check_safety(entrance, safety)?;
    let validated = check(context, topic, batch)?;
    let corrected = correct(topic, batch, &validated);
    let batch = corrected.as_ref().unwrap_or(batch);
    if topic.has_ingest_plugins() {
        return crate::plugins::ingest::store(context, topic, entrance, batch, &validated, safety, part)
            .await;
    }
    let stored = append(context, topic, entrance, batch, part.map(InTransaction::here))?;
    context
        .metrics
        .records_in
        .inc_by(u64::from(validated.record_count));
    Ok(stored)
}

/// The partition that a batch comes in by, which this broker has to lead.
///
/// # Errors
/// It does not exist, or another broker leads it.
pub fn entrance(context: &Context, topic: &Topic, index: i32) -> Result<Arc<Partition>, Refusal> {
    leaders::led(context, topic, index).map_err(|code| {
        let message = match code {
            ErrorCode::NotLeaderOrFollower => "another broker leads the partition",
            _ => "the topic has no such partition",
        };
        Refusal::new(code, message)
    })
}

/// Whether enough replicas are in sync for what a producer asks.
///
/// # Errors
/// They are fewer than `min.insync.replicas`.
pub fn check_safety(partition: &Partition, safety: Safety) -> Result<(), Refusal> {
    match safety {
        Safety::InSync if !partition.has_enough_in_sync() => Err(Refusal::new(
            ErrorCode::NotEnoughReplicas,
            "fewer replicas than min.insync.replicas are in sync",
        )),
        _ => Ok(()),
    }
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
    if validated.header.base_offset != 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            "clients may not give records their offsets",
        ));
    }
    if ProducerId(validated.header.producer_id).is_derived() {
        return Err(Refusal::new(
            ErrorCode::InvalidProducerIdMapping,
            "the producer id is none that this broker gives to clients",
        ));
    }
    if !topic.config.log_append_time {
        check_timestamps(context, topic, batch, &validated)?;
    }
    if topic.config.compact {
        check_keys(context, batch)?;
    }
    Ok(validated)
}

/// What is to be compacted is known by its key.
fn check_keys(context: &Context, batch: &[u8]) -> Result<(), Refusal> {
    let reason = "a compacted topic takes no record without a key";
    let mut records = records_where(context, batch, |span| span.key.is_none())?;
    if records.is_empty() {
        return Ok(());
    }
    for (_, told) in &mut records {
        *told = Some(reason.to_owned());
    }
    Err(Refusal {
        records,
        ..Refusal::new(ErrorCode::InvalidRecord, reason)
    })
}

/// The records that something is true of, by their place in the batch.
fn records_where(
    context: &Context,
    batch: &[u8],
    is_meant: impl Fn(&RecordSpan) -> bool,
) -> Result<Vec<(i32, Option<String>)>, Refusal> {
    let view = BatchView::parse(batch).map_err(refuse_batch)?;
    let mut scratch = Scratch::default();
    let data = view
        .data(&mut scratch, context.settings.decompressed_max_bytes as usize)
        .map_err(refuse_batch)?;
    let mut records = Vec::new();
    let each = view.spans(data).each(|span| {
        if is_meant(&span) {
            records.push((span.offset_delta, None));
        }
        Ok(())
    });
    each.map_err(refuse_batch)?;
    Ok(records)
}

/// Timestamps may lie only so far from the broker's clock (KIP-937); -1 stands for none.
fn check_timestamps(
    context: &Context,
    topic: &Topic,
    batch: &[u8],
    validated: &Validated,
) -> Result<(), Refusal> {
    let now = now_ms();
    let is_far = |timestamp: i64| {
        timestamp != -1
            && (timestamp.saturating_sub(now) > topic.config.timestamp_after_max_ms
                || now.saturating_sub(timestamp) > topic.config.timestamp_before_max_ms)
    };
    if !is_far(validated.min_timestamp) && !is_far(validated.max_timestamp) {
        return Ok(());
    }
    let base = validated.header.base_timestamp;
    let records = records_where(context, batch, |span| {
        is_far(base.saturating_add(span.timestamp_delta))
    })?;
    let message = "a timestamp is further from the broker's clock than the topic allows";
    Err(Refusal {
        records,
        ..Refusal::new(ErrorCode::InvalidTimestamp, message)
    })
}

/// The batch with the largest timestamp of its records in its header, where the client has put another there: the
/// index by time and searches rely on it.
fn correct(topic: &Topic, batch: &Bytes, validated: &Validated) -> Option<Bytes> {
    let right = validated.max_timestamp.max(-1);
    if topic.config.log_append_time || validated.header.max_timestamp == right {
        return None;
    }
    let (offset, epoch) = (
        validated.header.base_offset,
        validated.header.partition_leader_epoch,
    );
    let front = records::restamp(batch, offset, epoch, TimestampType::CreateTime, right);
    Some([&front[..], &batch[front.len()..]].concat().into())
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
    part: Option<Part>,
) -> Result<Stored, Refusal> {
    let recompressed = recompress(context, topic, batch)?;
    let batch = recompressed.as_ref().unwrap_or(batch);
    let Receipt {
        appended,
        log_start_offset,
        durable,
    } = match part {
        Some(Part(guard)) => partition.append_verified(batch, now_ms(), guard),
        None => partition.append(batch, now_ms()),
    }
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

/// What a producer hears where its coordinator refuses, as Kafka has it: what passes is as if too few replicas were in
/// sync.
pub fn refuse_part(code: ErrorCode) -> Refusal {
    let told = match code {
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        code => code,
    };
    Refusal::new(
        told,
        format!("the coordinator of the transaction answers {code:?}"),
    )
}

/// Kafka's error for a batch that the partition does not take.
pub fn refuse_append(partition: &Partition, error: AppendError) -> Refusal {
    let error = match error {
        AppendError::NotLeader => {
            return Refusal::new(ErrorCode::NotLeaderOrFollower, error.to_string());
        }
        AppendError::Unverified { .. } => return Refusal::new(ErrorCode::InvalidTxnState, error.to_string()),
        AppendError::Log(error) => error,
    };
    let code = match &error {
        LogError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        LogError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        LogError::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
        LogError::TransactionCoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        LogError::TooManyTransactions { .. } => ErrorCode::PolicyViolation,
        LogError::UnknownProducer { .. } => ErrorCode::UnknownProducerId,
        LogError::DuplicateSequence { .. } => ErrorCode::DuplicateSequenceNumber,
        LogError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        _ => ErrorCode::KafkaStorageError,
    };
    if code == ErrorCode::KafkaStorageError {
        tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "append failed");
    }
    Refusal::new(code, error.to_string())
}
