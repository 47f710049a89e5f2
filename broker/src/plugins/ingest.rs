//! A batch's way in through the plugins of its topic.
//!
//! The ingest chain leaves records out, rewrites them or sends them elsewhere; what is left keeps its place in the batch,
//! so that offsets and sequence numbers are what they would be without the plugins, with holes. Behind a partitioner,
//! the records of each target make a batch of their own, under a producer id that is derived from the producer's and
//! the partition they came in by; the answer's base offset is -1 then.

pub mod spread;

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::config::{CompressionType, OnError};
use millstream_core::ids::ProducerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::records::{BatchView, Compression, Scratch, Validated};
use uuid::Uuid;

use super::chain::{self, Failure, Run};
use super::dead_letter::{self, DeadLetters};
use super::remote::Outbox;
use super::route::{Built, ToStore};
use super::seat::Seat;
use super::stages::{Stage, Stopwatch};
use crate::context::{Context, now_ms};
use crate::ingest::{InTransaction, Refusal, Safety, Stored, append, refuse_batch};
use crate::metrics::Way;
use crate::partitions::Partition;
use crate::topics::{Attached, Topic};

/// Stores what the topic's plugins make of a checked batch that came in by `entrance`.
///
/// # Errors
/// Records that plugins fail on whose policy is to fail, or what keeps the broker from storing the batch. Nothing is
/// stored then, but where a disk fails half-way; the producer may send it again.
pub async fn store(
    context: &Arc<Context>,
    topic: &Arc<Topic>,
    entrance: &Arc<Partition>,
    batch: &Bytes,
    validated: &Validated,
    safety: Safety,
    part: Option<InTransaction>,
) -> Result<Stored, Refusal> {
    let header = &validated.header;
    let (entrances, index) = (&context.plugins.entrances, entrance.index.0);
    let is_watched = topic.partitioner().is_some() && header.has_producer_id();
    if is_watched {
        if ProducerId(header.producer_id)
            .at_entrance(entrance.index)
            .is_none()
        {
            let message = format!("no broker gave producer id {} to a producer", header.producer_id);
            return Err(Refusal::new(ErrorCode::InvalidProducerIdMapping, message));
        }
        if entrances.check(topic.id, index, header)? {
            return Ok(repeated(context, topic, entrance));
        }
    }
    let stored = run(context, topic, entrance, batch, safety, part).await;
    match &stored {
        Ok(_) if is_watched => entrances.note(topic.id, index, header, now_ms()),
        Err(refusal) if is_watched && refusal.is_sent_again() => {
            entrances.miss(topic.id, index, header, now_ms());
        }
        _ => {}
    }
    context
        .metrics
        .records_in
        .inc_by(stored.as_ref().map_or(0, |_| u64::from(validated.record_count)));
    stored
}

/// Runs the plugins and stores what they make of a batch.
async fn run(
    context: &Arc<Context>,
    topic: &Arc<Topic>,
    entrance: &Arc<Partition>,
    batch: &Bytes,
    safety: Safety,
    part: Option<InTransaction>,
) -> Result<Stored, Refusal> {
    let chain: Vec<Arc<Attached>> = topic.ingest().chain(topic.partitioner()).cloned().collect();
    let running = context.plugins.running(&chain).await.map_err(cannot_run)?;
    let seats = chain::take_seats(&chain, &running).await;
    let (to_store, letters) = compute(context, topic, entrance, batch.clone(), seats).await?;
    match to_store {
        ToStore::Same => {
            let stored = append(context, topic, entrance, batch, part.map(InTransaction::here))?;
            with_letters(context, entrance, stored, letters, safety).await
        }
        ToStore::Changed(changed) => {
            check_size(topic, changed.len())?;
            let stored = append(context, topic, entrance, &changed, part.map(InTransaction::here))?;
            with_letters(context, entrance, stored, letters, safety).await
        }
        ToStore::Spread(batches) => {
            spread::spread(context, topic, entrance, &batches, letters, safety, part).await
        }
    }
}

/// The answer for a batch that was spread before. Where its records went is not remembered: it waits until all that they
/// can have gone to is durable, which as a rule it is.
fn repeated(context: &Context, topic: &Topic, entrance: &Partition) -> Stored {
    let letters = topic.ingest().filter_map(|attached| {
        let OnError::DeadLetter(name) = &attached.attachment.on_error else {
            return None;
        };
        let letters = context.topics.find(name, Uuid::nil()).ok()?;
        letters
            .partition(dead_letter::partition(&letters, entrance))
            .cloned()
    });
    // What other brokers lead was safe there before the batch was noted.
    let all = topic.stored_partitions().cloned().chain(letters);
    let all = all.filter(|partition| partition.is_leader());
    Stored {
        base_offset: None,
        log_append_time_ms: topic.config.log_append_time.then(now_ms),
        log_start_offset: entrance.watermarks().log_start,
        durable: all.filter_map(|partition| partition.when_durable()).collect(),
    }
}

/// Runs the chain on a thread that may block.
async fn compute(
    context: &Arc<Context>,
    topic: &Arc<Topic>,
    entrance: &Partition,
    batch: Bytes,
    mut seats: Vec<Seat>,
) -> Result<(ToStore, DeadLetters), Refusal> {
    let thread = context.plugins.threads.clone().acquire_owned().await;
    let decompressed_max = context.settings.decompressed_max_bytes as usize;
    let (codec, entrance) = (topic.config.compression, entrance.index);
    let is_spread = topic.partitioner().is_some();
    let how = Run {
        bytes_max: decompressed_max,
        partitions: topic.partition_count().max(1) as u32,
        entrance: entrance.0 as u32,
    };
    let metrics = context.metrics.clone();
    let computing = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        let view = BatchView::parse(&batch)?;
        let codec = match codec {
            CompressionType::Producer => view.header().compression(),
            CompressionType::Codec(codec) => Compression::from_id(codec as u8)?,
        };
        let mut watch = Stopwatch::start();
        let mut scratch = Scratch::new();
        let data = view.data(&mut scratch, decompressed_max)?;
        watch.lap(Stage::Decompress);
        let mut built = Built::new(view.header(), codec, entrance, is_spread);
        chain::run(&mut seats, &view, data, how, &mut built, &mut watch)?;
        let finished = built.finish()?;
        watch.lap(Stage::Encode);
        metrics.computed(Way::Ingest, &watch);
        Ok(finished)
    });
    match computing.await {
        Ok(computed) => computed.map_err(refuse),
        Err(error) => Err(cannot_run(error.to_string())),
    }
}

/// Sends the dead letters of a batch that was stored in one piece.
async fn with_letters(
    context: &Arc<Context>,
    entrance: &Partition,
    mut stored: Stored,
    letters: DeadLetters,
    safety: Safety,
) -> Result<Stored, Refusal> {
    if !letters.is_empty() {
        let mut outbox = Outbox::default();
        let sent = letters.send(context, entrance, stored.base_offset, &mut outbox)?;
        stored.durable.extend(sent);
        outbox.send(context, safety).await?;
    }
    Ok(stored)
}

fn check_size(topic: &Topic, bytes: usize) -> Result<(), Refusal> {
    let max = topic.config.max_message_bytes;
    if bytes <= max as usize {
        return Ok(());
    }
    let message =
        format!("plugins made a batch of {bytes} bytes, which is larger than max.message.bytes={max}");
    Err(Refusal::new(ErrorCode::MessageTooLarge, message))
}

fn refuse(failure: Failure) -> Refusal {
    let message = failure.message();
    match failure {
        Failure::Records {
            records,
            is_call: false,
            ..
        } => Refusal {
            code: ErrorCode::InvalidRecord,
            message,
            records: records
                .into_iter()
                .map(|(delta, reason)| (delta, Some(reason)))
                .collect(),
        },
        Failure::Records { is_call: true, .. } => Refusal::new(ErrorCode::InvalidRecord, message),
        // The producer tries again.
        Failure::Busy(_) => Refusal::new(ErrorCode::RequestTimedOut, message),
        Failure::Batch(error) => refuse_batch(error),
        Failure::Build(_) | Failure::TooLarge { .. } => Refusal::new(ErrorCode::MessageTooLarge, message),
    }
}

/// The plugins cannot be started at all; the broker's log says so too, for whoever runs it must act.
fn cannot_run(reason: String) -> Refusal {
    tracing::error!(
        reason,
        "the plugins of a topic cannot run; its records are refused"
    );
    Refusal::new(ErrorCode::UnknownServerError, reason)
}
