//! Batches for partitions that other brokers lead: what a partitioner chose, and dead letters.
//!
//! The broker that a batch came in by sends each leader one message with all that is for it, and hears what became of
//! every part when it is as safe as the producer asked. Batches keep the producer ids that were derived for them, so a
//! leader knows those that it has already when everything is sent again.
//!
//! A message is: how safe (u8), how many parts (u32), and of each its topic's id (16 bytes), partition (i32), the leader
//! epoch that the sender knows (i32), the transactional id behind its length (u32, 0 if the batch is of no transaction), the
//! length of the batch (u32) and the batch. The answer has an error code (i16) and a sentence (u32 and UTF-8) for each
//! part. All numbers are big-endian.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::ids::{BrokerId, LeaderEpoch};
use millstream_kafka::ErrorCode;
use millstream_kafka::records;
use uuid::Uuid;

use crate::context::Context;
use crate::handlers::leaders;
use crate::ingest::{self, Durable, Refusal, Safety};
use crate::partitions::{self, Partition};
use crate::peer::CallKind;
use crate::plugins::ingest::spread;
use crate::topics::Topic;

/// A batch for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The topic.
    pub topic: Uuid,
    /// Which of its partitions.
    pub partition: i32,
    /// The term of the leader that the sender means.
    pub epoch: LeaderEpoch,
    /// The transactional id under which the batch is part of a transaction.
    pub transaction: Option<Arc<str>>,
    /// The batch, of which the sender has checked the records.
    pub batch: Bytes,
}

/// Batches on their way to other leaders.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: BTreeMap<BrokerId, Vec<Part>>,
}

impl Outbox {
    /// Adds a batch for a partition that this broker does not lead.
    ///
    /// # Errors
    /// Nobody leads it at the moment.
    pub fn add(
        &mut self,
        context: &Context,
        topic: Uuid,
        partition: i32,
        batch: &Bytes,
    ) -> Result<(), Refusal> {
        self.add_in(context, topic, partition, batch, None)
    }

    /// As [`Outbox::add`], of a batch that is part of the transaction under that id.
    ///
    /// # Errors
    /// As [`Outbox::add`].
    pub fn add_in(
        &mut self,
        context: &Context,
        topic: Uuid,
        partition: i32,
        batch: &Bytes,
        transaction: Option<&Arc<str>>,
    ) -> Result<(), Refusal> {
        let image = context.controller.image();
        let leader = leaders::leader(&image, topic, partition).ok_or_else(|| {
            let message = format!("partition {partition}, where records belong, does not exist");
            Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
        })?;
        if leader.id == leaders::NOBODY || leader.id == context.settings.node_id {
            // The image and this broker's logs are about to agree again.
            let message = format!("partition {partition}, where records belong, changes its leader");
            return Err(Refusal::new(ErrorCode::RequestTimedOut, message));
        }
        self.parts.entry(BrokerId(leader.id)).or_default().push(Part {
            topic,
            partition,
            epoch: leader.epoch,
            transaction: transaction.cloned(),
            batch: batch.clone(),
        });
        Ok(())
    }

    /// Sends everything; returns when all of it is where it belongs, as safe as was asked.
    ///
    /// # Errors
    /// Some of it is not, or it is not known. The producer may send again.
    pub async fn send(self, context: &Arc<Context>, safety: Safety) -> Result<(), Refusal> {
        let mut sending = tokio::task::JoinSet::new();
        for (to, parts) in self.parts {
            for message in messages(parts) {
                let context = context.clone();
                sending.spawn(async move { send_to(&context, to, safety, &message).await });
            }
        }
        let mut result = Ok(());
        while let Some(sent) = sending.join_next().await {
            // All are waited for: what is under way when this returns would meet what is sent again.
            let sent = sent.map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()));
            result = result.and(sent.and_then(|sent| sent));
        }
        result
    }
}

/// Parts in messages that are not larger than they have to be.
fn messages(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut messages: Vec<Vec<Part>> = Vec::new();
    let mut room = 0_usize;
    for part in parts {
        let bytes = part.bytes();
        match messages.last_mut() {
            Some(last) if bytes <= room && last.len() < PARTS_MAX => {
                room -= bytes;
                last.push(part);
            }
            _ => {
                room = MESSAGE_BYTES.saturating_sub(bytes);
                messages.push(vec![part]);
            }
        }
    }
    messages
}

async fn send_to(
    context: &Arc<Context>,
    to: BrokerId,
    safety: Safety,
    parts: &[Part],
) -> Result<(), Refusal> {
    let unknown = |reason: String| {
        let message = format!("broker {to} did not say whether it has the records: {reason}");
        Refusal::new(ErrorCode::RequestTimedOut, message)
    };
    let peers = context
        .peers
        .as_ref()
        .ok_or_else(|| unknown("this broker is alone".to_owned()))?;
    let answer = peers
        .call(to, CallKind::Produce, encode(safety, parts), ANSWER_WAIT)
        .await
        .map_err(|error| unknown(error.to_string()))?;
    let answers = decode_answer(answer, parts.len()).map_err(|error| unknown(error.to_string()))?;
    let refused = answers.into_iter().find(|(code, _)| *code != 0);
    refused.map_or(Ok(()), |(code, message)| {
        Err(Refusal::new(code_for_producer(code), message))
    })
}

/// A producer asked the right broker: what it hears must not make it look for another one.
fn code_for_producer(code: i16) -> ErrorCode {
    match ErrorCode::from_i16(code) {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::UnknownTopicId
        | ErrorCode::UnknownTopicOrPartition => ErrorCode::RequestTimedOut,
        code => code,
    }
}

/// Stores what another broker sends for partitions that this one leads. Answers when it is as safe as was asked.
///
/// # Errors
/// The message cannot be read.
pub async fn serve(context: &Arc<Context>, request: Bytes) -> Result<Bytes, String> {
    let (safety, parts) = decode(request).map_err(|error| error.to_string())?;
    let mut outcomes = Vec::with_capacity(parts.len());
    // What is of one transaction is asked about at once.
    for together in parts.chunk_by(|a, b| a.topic == b.topic && a.transaction == b.transaction) {
        outcomes.extend(store(context, together, safety).await);
    }
    let deadline = tokio::time::Instant::now() + DURABLE_WAIT;
    let mut answer = BytesMut::new();
    for outcome in outcomes {
        let settled = match (outcome, safety) {
            (Ok(durable), Safety::InSync) => settle(durable, deadline).await,
            (Ok(_), Safety::Leader) => Ok(()),
            (Err(refusal), _) => Err(refusal),
        };
        let (code, message) = match settled {
            Ok(()) => (0, String::new()),
            Err(refusal) => (refusal.code.code(), refusal.message),
        };
        answer.put_i16(code);
        answer.put_u32(message.len() as u32);
        answer.put_slice(message.as_bytes());
    }
    Ok(answer.freeze())
}

/// Stores parts of one topic, which are of one transaction or of none.
async fn store(context: &Arc<Context>, parts: &[Part], safety: Safety) -> Vec<Result<Vec<Durable>, Refusal>> {
    let places: Vec<_> = parts.iter().map(|part| place(context, part, safety)).collect();
    let (allowed, failed) = match take_parts(context, parts, &places).await {
        Ok(allowed) => (allowed, None),
        Err(refusal) => (Vec::new(), Some(refusal)),
    };
    let mut allowed = allowed.into_iter();
    let each = parts.iter().zip(places).map(|(part, place)| {
        let (topic, partition) = place?;
        if let Some(refusal) = &failed {
            return Err(refusal.clone());
        }
        let stored = ingest::append(context, &topic, &partition, &part.batch, allowed.next().flatten())?;
        Ok(stored.durable)
    });
    each.collect()
}

/// What lets the parts that have a place begin the transaction there; none where they are of no transaction.
async fn take_parts(
    context: &Arc<Context>,
    parts: &[Part],
    places: &[Result<Place, Refusal>],
) -> Result<Vec<Option<partitions::Part>>, Refusal> {
    let placed = parts.iter().zip(places);
    let placed = placed.filter_map(|(part, place)| Some((part, place.as_ref().ok()?)));
    let id = parts.first().and_then(|part| part.transaction.as_ref());
    let batches: Vec<_> = placed
        .clone()
        .map(|(part, (_, partition))| (partition.clone(), &part.batch))
        .collect();
    match (id, placed.clone().next()) {
        (Some(id), Some((_, (topic, _)))) => {
            let taken = spread::take_parts(context, topic.name.as_str(), id, &batches).await?;
            Ok(taken.into_iter().map(Some).collect())
        }
        _ => Ok(batches.iter().map(|_| None).collect()),
    }
}

/// Where a part goes, which this broker has to lead.
fn place(context: &Context, part: &Part, safety: Safety) -> Result<Place, Refusal> {
    let refused = |code: ErrorCode| Refusal::new(code, "the partition is not led here in this term");
    let topic = context.topics.find("", part.topic).map_err(refused)?;
    let partition = ingest::entrance(context, &topic, part.partition)?;
    partition.check_leader_epoch(part.epoch.0).map_err(refused)?;
    ingest::check_safety(&partition, safety)?;
    let limits = records::Limits {
        batch_bytes_max: topic.config.max_message_bytes as usize,
        decompressed_bytes_max: context.settings.decompressed_max_bytes as usize,
    };
    let checked = records::validate(&part.batch, &limits).map_err(ingest::refuse_batch)?;
    if checked.header.attributes.is_transactional() != part.transaction.is_some() {
        let message = "a batch is of a transaction if and only if it comes with a transactional id";
        return Err(Refusal::new(ErrorCode::InvalidTxnState, message));
    }
    Ok((topic, partition))
}

/// A topic, and one of its partitions.
type Place = (Arc<Topic>, Arc<Partition>);

impl Part {
    /// Bytes that it takes in a message.
    fn bytes(&self) -> usize {
        self.batch.len() + self.transaction.as_ref().map_or(0, |id| id.len()) + PART_BYTES
    }
}

async fn settle(durable: Vec<Durable>, deadline: tokio::time::Instant) -> Result<(), Refusal> {
    for durable in durable {
        let safe = ingest::until_safe(durable, deadline).await;
        safe.map_err(|code| Refusal::new(code, "the records are not safe"))?;
    }
    Ok(())
}

/// Why a message of another broker cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum WireError {
    #[error("the message ends too early")]
    Short,
    #[error("the message goes on where it should end")]
    Long,
    #[error("{0} parts in one message")]
    Parts(u32),
    #[error("{0} stands for no safety")]
    Safety(u8),
    #[error("a transactional id is no text")]
    TransactionalId,
}

fn encode(safety: Safety, parts: &[Part]) -> Bytes {
    let bytes: usize = parts.iter().map(Part::bytes).sum();
    let mut message = BytesMut::with_capacity(bytes + 5);
    message.put_u8(match safety {
        Safety::Leader => 1,
        Safety::InSync => 2,
    });
    message.put_u32(parts.len() as u32);
    for part in parts {
        message.put_slice(part.topic.as_bytes());
        message.put_i32(part.partition);
        message.put_i32(part.epoch.0);
        let id = part.transaction.as_deref().unwrap_or_default();
        message.put_u32(id.len() as u32);
        message.put_slice(id.as_bytes());
        message.put_u32(part.batch.len() as u32);
        message.put_slice(&part.batch);
    }
    message.freeze()
}

fn decode(mut message: Bytes) -> Result<(Safety, Vec<Part>), WireError> {
    let safety = match message.try_get_u8().map_err(|_| WireError::Short)? {
        1 => Safety::Leader,
        2 => Safety::InSync,
        other => return Err(WireError::Safety(other)),
    };
    let count = message.try_get_u32().map_err(|_| WireError::Short)?;
    if count as usize > PARTS_MAX {
        return Err(WireError::Parts(count));
    }
    let mut parts = Vec::new();
    for _ in 0..count {
        let topic = message.try_get_u128().map_err(|_| WireError::Short)?;
        let partition = message.try_get_i32().map_err(|_| WireError::Short)?;
        let epoch = message.try_get_i32().map_err(|_| WireError::Short)?;
        let id = take(&mut message)?;
        let id = std::str::from_utf8(&id).map_err(|_| WireError::TransactionalId)?;
        let transaction = (!id.is_empty()).then(|| Arc::from(id));
        let batch = take(&mut message)?;
        parts.push(Part {
            topic: Uuid::from_u128(topic),
            partition,
            epoch: LeaderEpoch(epoch),
            transaction,
            batch,
        });
    }
    match message.is_empty() {
        true => Ok((safety, parts)),
        false => Err(WireError::Long),
    }
}

fn decode_answer(mut answer: Bytes, parts: usize) -> Result<Vec<(i16, String)>, WireError> {
    let mut answers = Vec::with_capacity(parts);
    for _ in 0..parts {
        let code = answer.try_get_i16().map_err(|_| WireError::Short)?;
        let message = take(&mut answer)?;
        answers.push((code, String::from_utf8_lossy(&message).into_owned()));
    }
    match answer.is_empty() {
        true => Ok(answers),
        false => Err(WireError::Long),
    }
}

/// Bytes behind their length.
fn take(from: &mut Bytes) -> Result<Bytes, WireError> {
    let length = from.try_get_u32().map_err(|_| WireError::Short)? as usize;
    match length <= from.len() {
        true => Ok(from.split_to(length)),
        false => Err(WireError::Short),
    }
}

/// Bytes of a part beside its batch.
const PART_BYTES: usize = 32;
/// Most parts of one message.
const PARTS_MAX: usize = 10_000;
/// Bytes of a message that has more than one part.
const MESSAGE_BYTES: usize = 1 << 20;
/// How long a leader waits until what it was sent is safe.
const DURABLE_WAIT: Duration = Duration::from_secs(10);
/// How long the sender waits for its answer: it is to hear why, where there is somebody to say so.
const ANSWER_WAIT: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(partition: i32, bytes: usize) -> Part {
        Part {
            topic: Uuid::from_u128(7),
            partition,
            epoch: LeaderEpoch(3),
            transaction: (partition == 9).then(|| Arc::from("an id")),
            batch: vec![1; bytes].into(),
        }
    }

    #[test]
    fn a_message_says_what_it_was_made_of() {
        let parts = vec![part(0, 0), part(9, 70)];
        for safety in [Safety::Leader, Safety::InSync] {
            assert_eq!(decode(encode(safety, &parts)), Ok((safety, parts.clone())));
        }
    }

    #[test]
    fn a_message_that_is_cut_or_too_long_is_refused() {
        let message = encode(Safety::InSync, &[part(0, 5)]);
        for end in 0..message.len() {
            assert_eq!(decode(message.slice(..end)), Err(WireError::Short));
        }
        let long = [&message[..], &[0]].concat();
        assert_eq!(decode(long.into()), Err(WireError::Long));
        let mut many = message.to_vec();
        many[1] = 0x7f;
        assert!(matches!(decode(many.into()), Err(WireError::Parts(_))));
    }

    #[test]
    fn large_batches_get_messages_of_their_own() {
        let parts = vec![
            part(0, 600 << 10),
            part(1, 300 << 10),
            part(2, 300 << 10),
            part(3, 5 << 20),
            part(4, 1),
        ];
        let lengths: Vec<_> = messages(parts).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
        assert_eq!(messages(vec![part(0, 1); PARTS_MAX + 1]).len(), 2);
    }

    #[test]
    fn a_producer_is_not_sent_away_from_the_right_broker() {
        let wrong = ErrorCode::NotLeaderOrFollower.code();
        assert_eq!(code_for_producer(wrong), ErrorCode::RequestTimedOut);
        let order = ErrorCode::OutOfOrderSequenceNumber;
        assert_eq!(code_for_producer(order.code()), order);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.clone().into());
            let _ = decode_answer(bytes.into(), 3);
        }
    }
}
