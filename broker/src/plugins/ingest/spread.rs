//! Batches behind a partitioner: into the partitions that it chose, here or through the brokers that lead them.
//!
//! In a transaction each of these partitions asks the coordinator before it begins one, as any partition does: with the
//! one that records came in by, the coordinator has taken all of the topic into the transaction, so that all will get
//! its marker. The partition that records came in by asks once in each of a producer's epochs, to be taken in.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::ids::ProducerId;
use millstream_core::transaction::Producer;
use millstream_kafka::ErrorCode;
use millstream_kafka::records::BatchHeader;

use super::check_size;
use crate::context::{Context, now_ms};
use crate::coordinators::transaction;
use crate::handlers::leaders;
use crate::ingest::{
    InTransaction, Refusal, Safety, Stored, append, check_safety, refuse_append, refuse_batch, refuse_part,
};
use crate::partitions::{Part, Partition};
use crate::plugins::dead_letter::DeadLetters;
use crate::plugins::remote::Outbox;
use crate::topics::Topic;

/// Makes sure that the partition which a batch comes in by belongs to the batch's transaction. `adds` tells whether leaders
/// see to that for their producers (KIP-890).
///
/// # Errors
/// It does not, or nobody can say so now.
pub async fn join(
    context: &Arc<Context>,
    topic: &Topic,
    entrance: &Partition,
    id: &str,
    batch: &BatchHeader,
    adds: bool,
) -> Result<(), Refusal> {
    let (entrances, index) = (&context.plugins.entrances, entrance.index.0);
    if entrances.has_joined(topic.id, index, batch) {
        return Ok(());
    }
    let (producer, name) = (origin(batch), topic.name.as_str());
    transaction::take_part(context, id, producer, name, &[index], adds)
        .await
        .map_err(refuse_part)?;
    entrances.join(topic.id, index, batch, now_ms());
    Ok(())
}

/// Appends to each partition what a partitioner chose for it, here or through the broker that leads it.
pub(super) async fn spread(
    context: &Arc<Context>,
    topic: &Topic,
    entrance: &Partition,
    batches: &[(u32, Bytes)],
    letters: DeadLetters,
    safety: Safety,
    part: Option<InTransaction>,
) -> Result<Stored, Refusal> {
    let id = match &part {
        None => None,
        Some(InTransaction::Spread(id)) => Some(id),
        Some(InTransaction::Here(_)) => {
            let message = "the batch was not meant to be spread over partitions";
            return Err(Refusal::new(ErrorCode::InvalidTxnState, message));
        }
    };
    // Whether all can be stored is looked at before any is, as far as this broker knows.
    let mut targets = Vec::with_capacity(batches.len());
    let mut outbox = Outbox::default();
    for (target, batch) in batches {
        check_size(topic, batch.len())?;
        match leaders::led(context, topic, *target as i32) {
            Ok(partition) => {
                let may_follow = partition.with_log(|log| log.check_sequence(batch));
                may_follow.map_err(|error| refuse_append(&partition, error.into()))?;
                check_safety(&partition, safety)?;
                targets.push((partition, batch));
            }
            Err(ErrorCode::NotLeaderOrFollower) => {
                outbox.add_in(context, topic.id, *target as i32, batch, id)?;
            }
            Err(_) => {
                let message = format!("partition {target}, which the partitioner chose, is not served");
                return Err(Refusal::new(ErrorCode::KafkaStorageError, message));
            }
        }
    }
    let parts = match id {
        Some(id) => take_parts(context, topic.name.as_str(), id, &targets).await?,
        None => Vec::new(),
    };
    let mut parts = parts.into_iter();
    let mut stored = Stored {
        base_offset: None,
        log_append_time_ms: topic.config.log_append_time.then(now_ms),
        log_start_offset: entrance.watermarks().log_start,
        durable: Vec::new(),
    };
    for (partition, batch) in targets {
        let part = append(context, topic, &partition, batch, parts.next())?;
        stored.durable.extend(part.durable);
    }
    if !letters.is_empty() {
        let sent = letters.send(context, entrance, None, &mut outbox)?;
        stored.durable.extend(sent);
    }
    // The disks of all brokers work at the same time.
    outbox.send(context, safety).await?;
    Ok(stored)
}

/// Asks the coordinator, once for all, whether partitions that this broker leads belong to the transaction of the batches
/// that are for them, where these would begin it. Gives for each what lets it.
///
/// # Errors
/// One does not belong to it, or nobody can say so now.
pub async fn take_parts(
    context: &Arc<Context>,
    topic: &str,
    id: &str,
    batches: &[(Arc<Partition>, &Bytes)],
) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::with_capacity(batches.len());
    let (mut asked, mut who) = (Vec::new(), None);
    for (partition, batch) in batches {
        let header = BatchHeader::parse(batch).map_err(refuse_batch)?;
        let producer = origin(&header);
        if *who.get_or_insert(producer) != producer {
            let message = "batches of one transaction have several producers";
            return Err(Refusal::new(ErrorCode::InvalidTxnState, message));
        }
        // Of the sequence at the entrance each partition sees only parts: it cannot count on the first number.
        let guard = partition.begin_verification(&header, false);
        if guard.is_some() {
            asked.push(partition.index.0);
        }
        parts.push(Part(guard));
    }
    if let Some(producer) = who.filter(|_| !asked.is_empty()) {
        let part = transaction::take_part(context, id, producer, topic, &asked, false);
        part.await.map_err(refuse_part)?;
    }
    Ok(parts)
}

/// The producer that the coordinator knows.
fn origin(batch: &BatchHeader) -> Producer {
    Producer {
        id: ProducerId(batch.producer_id).origin().0,
        epoch: batch.producer_epoch,
    }
}
