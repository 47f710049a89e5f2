//! One partition's way out: fills a batch, sends it, waits for the answer, tries again, and only then the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use millstream_kafka::records::{BatchBuilder, Header};
use millstream_kafka::wire::{Payload, Text};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::identity::ProducerId;
use super::{Acks, ProducerRecord, Receipt, Shared, lock};
use crate::cluster::{BACKOFF_FACTOR_MAX, Client, Purpose};
use crate::error::{Error, Result};
use crate::metadata::{Broker, Metadata, TopicPartition};

/// What comes down a lane.
#[derive(Debug)]
pub(super) enum Message {
    /// A record to send.
    Record(Box<Pending>),
    /// Asks to be told when all records before it are settled.
    Flush(oneshot::Sender<()>),
}

/// A record on its way, with the memory it holds.
#[derive(Debug)]
pub(super) struct Pending {
    pub record: ProducerRecord,
    pub bytes: usize,
    pub told: oneshot::Sender<Result<Receipt>>,
    pub _memory: OwnedSemaphorePermit,
}

/// The task that owns a partition's batches.
pub(super) struct Lane {
    shared: Arc<Shared>,
    at: TopicPartition,
    queue: mpsc::Receiver<Message>,
    /// A record that did not fit the last batch.
    carried: Option<Pending>,
    producer: Option<ProducerId>,
    /// Sequence number of the next record.
    sequence: i32,
}

/// A batch that is full or has waited long enough, and who waits for it to be settled.
#[derive(Default)]
struct Gathered {
    records: Vec<Pending>,
    bytes: usize,
    flushed: Option<oneshot::Sender<()>>,
}

impl Lane {
    pub fn new(shared: Arc<Shared>, at: TopicPartition, queue: mpsc::Receiver<Message>) -> Self {
        Self {
            shared,
            at,
            queue,
            carried: None,
            producer: None,
            sequence: 0,
        }
    }

    /// Runs until the producer is gone and everything it took is settled.
    pub async fn run(mut self) {
        while let Some(gathered) = self.gather().await {
            // A batch that the broker finds too large is cut in two, and each half goes its own way, in order.
            let mut batches = VecDeque::from([gathered.records]);
            while let Some(mut batch) = batches.pop_front().filter(|batch| !batch.is_empty()) {
                match self.deliver(&batch).await {
                    Err(error) if error.code() == Some(ErrorCode::MessageTooLarge) && batch.len() > 1 => {
                        let second = batch.split_off(batch.len() / 2);
                        batches.push_front(second);
                        batches.push_front(batch);
                    }
                    outcome => self.settle(batch, outcome),
                }
            }
            if let Some(flushed) = gathered.flushed {
                let _ = flushed.send(());
            }
        }
    }

    /// Collects records until the batch is full, has waited long enough, or is asked for. `None`: the end.
    async fn gather(&mut self) -> Option<Gathered> {
        let mut gathered = Gathered::default();
        if let Some(carried) = self.carried.take() {
            gathered.push(carried);
        } else {
            match self.queue.recv().await? {
                Message::Record(first) => gathered.push(*first),
                Message::Flush(done) => {
                    gathered.flushed = Some(done);
                    return Some(gathered);
                }
            }
        }
        let deadline = tokio::time::Instant::now() + self.shared.config.linger;
        while gathered.bytes < self.shared.config.batch_bytes && gathered.records.len() < BATCH_RECORDS_MAX {
            let message = match self.queue.try_recv() {
                Ok(message) => message,
                Err(_) => match tokio::time::timeout_at(deadline, self.queue.recv()).await {
                    Ok(Some(message)) => message,
                    Ok(None) | Err(_) => break,
                },
            };
            match message {
                Message::Record(record) if gathered.bytes + record.bytes > self.shared.config.batch_bytes => {
                    self.carried = Some(*record);
                    break;
                }
                Message::Record(record) => gathered.push(*record),
                Message::Flush(done) => {
                    gathered.flushed = Some(done);
                    break;
                }
            }
        }
        Some(gathered)
    }

    /// Sends a batch until it is accepted, refused for good, or out of time. Gives the offset of its first record.
    async fn deliver(&mut self, batch: &[Pending]) -> Result<i64> {
        let begun = Instant::now();
        let mut pause = self.shared.client.config().retry_backoff;
        // Whether an attempt may have been accepted without our knowing.
        let mut in_doubt = false;
        let mut encoded = None;
        loop {
            let bytes = match &encoded {
                Some(bytes) => Bytes::clone(bytes),
                None => encoded.insert(self.encode(batch).await?).clone(),
            };
            let seen = self.shared.client.metadata();
            let error = match self.attempt(bytes).await {
                Ok(offset) => {
                    self.sequence = advance(self.sequence, batch.len());
                    return Ok(offset);
                }
                Err(error) => error,
            };
            if error.code() == Some(ErrorCode::DuplicateSequenceNumber) {
                self.sequence = advance(self.sequence, batch.len());
                return Ok(-1);
            }
            let lost_track = error.code().is_some_and(is_sequence_error) && self.shared.config.idempotence;
            let retry = (error.is_retriable() || lost_track && !in_doubt)
                && begun.elapsed() + pause < self.shared.config.delivery_timeout;
            if lost_track || !retry && in_doubt {
                // The sequence numbers no longer tell what the broker has: begin anew under another id.
                self.renew().await?;
                encoded = None;
            }
            if !retry {
                return Err(error);
            }
            in_doubt |= matches!(error, Error::Disconnected { .. } | Error::TimedOut { .. })
                || error.code() == Some(ErrorCode::NotEnoughReplicasAfterAppend)
                || error.code() == Some(ErrorCode::RequestTimedOut);
            tracing::debug!(partition = %self.at, %error, "sending again");
            if self.is_led_by_another(&seen).await {
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.shared.client.config().retry_backoff * BACKOFF_FACTOR_MAX);
            // A broker that does not answer is found out at the next attempt.
            let _ = self.shared.client.refresh(&[&self.at.topic], &seen).await;
        }
    }

    /// Whether the cluster knows by now that another broker leads than one believed: that one is asked at once (KIP-951).
    async fn is_led_by_another(&self, seen: &Metadata) -> bool {
        let client = &self.shared.client;
        let leads = |metadata: &Metadata| {
            metadata
                .leader(&self.at.topic, self.at.partition)
                .map(|broker| broker.id)
        };
        let known = client.metadata();
        let news = match leads(&known) == leads(seen) {
            true => client.refresh(&[&self.at.topic], &known).await.ok(),
            false => Some(known),
        };
        news.is_some_and(|news| leads(&news).is_some() && leads(&news) != leads(seen))
    }

    async fn encode(&mut self, batch: &[Pending]) -> Result<Bytes> {
        if self.shared.config.idempotence && self.producer.is_none() {
            self.renew().await?;
        }
        let producer = self.producer.unwrap_or(ProducerId::NONE);
        let sequence = if self.producer.is_some() {
            self.sequence
        } else {
            -1
        };
        let mut builder = BatchBuilder::new()
            .compression(self.shared.config.compression)
            .producer(producer.id, producer.epoch, sequence);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        for Pending { record, .. } in batch {
            let headers: Vec<Header<'_>> = record
                .headers
                .iter()
                .map(|(name, value)| Header {
                    key: name.as_bytes(),
                    value: value.as_deref(),
                })
                .collect();
            builder
                .append(
                    record.timestamp.unwrap_or(now),
                    record.key.as_deref(),
                    record.value.as_deref(),
                    &headers,
                )
                .map_err(|error| Error::Encode {
                    api: "Produce",
                    reason: error.to_string(),
                })?;
        }
        builder.finish().map_err(|error| Error::Encode {
            api: "Produce",
            reason: error.to_string(),
        })
    }

    async fn renew(&mut self) -> Result<()> {
        if self.shared.config.idempotence {
            self.producer = Some(
                self.shared
                    .identity
                    .other_than(self.producer, &self.shared.client)
                    .await?,
            );
            self.sequence = 0;
        }
        Ok(())
    }

    async fn attempt(&self, records: Bytes) -> Result<i64> {
        let client = &self.shared.client;
        let connection = client.leader(&self.at, Purpose::Requests).await?;
        let version = connection.version::<ProduceRequest>(PRODUCE_BY_NAME_VERSION_MAX)?;
        let limit = client.config().request_timeout;
        let acks = match self.shared.config.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let partition = PartitionProduceData {
            index: self.at.partition,
            records: Some(Payload::Bytes(records)),
            ..Default::default()
        };
        let topic = TopicProduceData {
            name: Text::from(self.at.topic.as_str()),
            partition_data: vec![partition],
            ..Default::default()
        };
        let request = ProduceRequest {
            acks,
            timeout_ms: limit.as_millis() as i32,
            topic_data: vec![topic],
            ..Default::default()
        };
        if acks == 0 {
            connection.send(version, &request).await?;
            return Ok(-1);
        }
        let call = connection.call_at(version, &request, limit);
        let answer = client.while_led(connection.address(), &[&self.at], call).await?;
        learn_leader(client, &self.at, &answer);
        read_answer(&self.at, answer)
    }

    fn settle(&self, batch: Vec<Pending>, outcome: Result<i64>) {
        if let Err(error) = &outcome {
            lock(&self.shared.failure).get_or_insert_with(|| error.clone());
        }
        for (pending, place) in batch.into_iter().zip(0_i64..) {
            let receipt = outcome.clone().map(|base| Receipt {
                partition: self.at.partition,
                offset: if base < 0 { -1 } else { base + place },
            });
            // Nobody may be interested.
            let _ = pending.told.send(receipt);
        }
    }
}

impl Gathered {
    fn push(&mut self, record: Pending) {
        self.bytes += record.bytes;
        self.records.push(record);
    }
}

/// Takes over who leads, where the answer is that the broker that was asked does not (KIP-951).
fn learn_leader(client: &Client, at: &TopicPartition, answer: &ProduceResponse) {
    let partitions = answer.responses.iter().flat_map(|t| &t.partition_responses);
    let mut told = partitions.filter(|p| p.index == at.partition && p.current_leader.leader_id >= 0);
    let Some(leader) = told.next().map(|partition| &partition.current_leader) else {
        return;
    };
    let endpoint = answer
        .node_endpoints
        .iter()
        .find(|e| e.node_id == leader.leader_id);
    let endpoint = endpoint.and_then(|endpoint| {
        Some(Broker {
            id: endpoint.node_id,
            host: endpoint.host.to_string(),
            port: u16::try_from(endpoint.port).ok()?,
            rack: endpoint.rack.as_deref().map(str::to_owned),
        })
    });
    client.learn_leader(at, leader.leader_id, leader.leader_epoch, endpoint);
}

fn read_answer(at: &TopicPartition, answer: ProduceResponse) -> Result<i64> {
    let partition = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .find(|partition| partition.index == at.partition)
        .ok_or_else(|| Error::Invalid(format!("the broker said nothing about {at}")))?;
    let reason = partition
        .record_errors
        .first()
        .and_then(|error| error.batch_index_error_message.as_deref())
        .or(partition.error_message.as_deref());
    Error::check(partition.error_code, reason, || at.to_string())?;
    Ok(partition.base_offset)
}

/// Errors that say that the broker expected other sequence numbers than it got.
fn is_sequence_error(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch
    )
}

/// Sequence numbers go round at 2^31.
fn advance(sequence: i32, records: usize) -> i32 {
    ((i64::from(sequence) + records as i64) & i64::from(i32::MAX)) as i32
}

/// The newest version of Produce that names topics; later ones use their ids.
const PRODUCE_BY_NAME_VERSION_MAX: i16 = 12;
/// Most records of one batch.
const BATCH_RECORDS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_go_round() {
        assert_eq!(advance(0, 3), 3);
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 3), 1);
    }
}
