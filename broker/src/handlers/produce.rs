//! Produce: records in.
//!
//! The append of every batch happens before this returns, so that pipelined requests keep their order; waiting for
//! the disk happens in the reply, so that the next request need not wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::cluster::Broker;
use millstream_core::ids::Offset;
use millstream_core::transaction::Producer;
use millstream_kafka::api::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use millstream_kafka::header::RequestHeader;
use millstream_kafka::records::{BatchHeader, Compression};
use millstream_kafka::wire::Text;
use millstream_kafka::{ApiKey, ErrorCode};

use super::leaders::{self, Named};
use super::{pass_on, respond};
use crate::connection::{ConnectionInfo, Disconnect, Reply};
use crate::context::Context;
use crate::coordinators::transaction;
use crate::ingest::{self, Durable, InTransaction, Refusal, Safety};
use crate::partitions::{Part, Partition};
use crate::plugins::ingest::spread;
use crate::topics::{Topic, TopicLookup};

/// Appends the batches and answers when they are as safe as `acks` asks.
///
/// # Errors
/// The connection is closed when a request with `acks=0` cannot be served: it is Kafka's only way to say so.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    header: RequestHeader,
    request: ProduceRequest,
) -> Result<Reply, Disconnect> {
    let started = Instant::now();
    let asked = Asked::of(&request, header.api_version, true);
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let mut pending = take_all(context, header.api_version, &asked, request).await;
    if asked.acks == Acks::None {
        return if pending.failed {
            Err(Disconnect::Malformed(
                "a produce request with acks=0 failed".to_owned(),
            ))
        } else {
            Ok(Reply::Nothing)
        };
    }
    if pending.waits.is_empty() {
        name_leaders(context, header.api_version, &mut pending.answer);
        return respond::<ProduceRequest>(&header, &pending.answer, Vec::new()).map(Reply::Now);
    }
    let context = context.clone();
    Ok(Reply::Later(Box::pin(async move {
        let mut answer = pending.finish(timeout).await;
        name_leaders(&context, header.api_version, &mut answer);
        context.metrics.request(ApiKey::Produce, started.elapsed());
        respond::<ProduceRequest>(&header, &answer, Vec::new()).unwrap_or_default()
    })))
}

/// Stores what another broker passes on for its client, and answers when it is as safe as `acks` asks.
pub async fn store_all(context: &Arc<Context>, version: i16, request: ProduceRequest) -> ProduceResponse {
    let asked = Asked::of(&request, version, false);
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let pending = take_all(context, version, &asked, request).await;
    pending.finish(timeout).await
}

/// Appends the batches, one after the other.
async fn take_all(context: &Arc<Context>, version: i16, asked: &Asked, request: ProduceRequest) -> Pending {
    let mut pending = Pending::default();
    for topic_data in request.topic_data {
        let topic = match topic_data.topic_id.is_nil() && version >= TOPIC_IDS_FROM_VERSION {
            true => Err(ErrorCode::UnknownTopicId),
            false => context.topics.find(&topic_data.name, topic_data.topic_id),
        };
        let mut answer = TopicProduceResponse {
            name: topic_data.name.clone(),
            topic_id: topic_data.topic_id,
            partition_responses: Vec::with_capacity(topic_data.partition_data.len()),
            ..Default::default()
        };
        let TopicProduceData { partition_data, .. } = topic_data;
        for data in partition_data {
            let place = (pending.answer.responses.len(), answer.partition_responses.len());
            let outcome = produce_partition(context, &topic, asked, &data).await;
            let (mut response, waits) = match outcome {
                Outcome::Here(outcome) => answer_partition(data.index, outcome),
                Outcome::Elsewhere(response) => (*response, Vec::new()),
            };
            if response.error_code != 0 && tells_log_start(response.error_code) && is_one_batch(&data) {
                let partition = topic.as_ref().ok().and_then(|topic| topic.partition(data.index));
                response.log_start_offset = partition.map_or(-1, |p| p.watermarks().log_start.0);
            }
            pending.failed |= response.error_code != 0;
            if asked.acks == Acks::All && !waits.is_empty() {
                let partition = topic.as_ref().ok().and_then(|topic| topic.partition(data.index));
                pending.waits.extend(waits.into_iter().map(|durable| Wait {
                    place,
                    durable,
                    partition: partition.cloned(),
                }));
            }
            answer.partition_responses.push(response);
        }
        pending.answer.responses.push(answer);
    }
    pending
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    None,
    Leader,
    All,
    Invalid,
}

/// What holds for all batches of a request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    acks: Acks,
    /// `acks` and the time-out, as they came.
    pub told: (i16, i32),
    pub transactional_id: Option<Text>,
    /// Whether leaders add partitions to transactions for their producers (KIP-890).
    pub adds_partitions: bool,
    knows_zstd: bool,
    /// Whether it came from a client: what another broker has passed on goes no further.
    may_pass_on: bool,
}

impl Asked {
    fn of(request: &ProduceRequest, version: i16, may_pass_on: bool) -> Self {
        Self {
            acks: match request.acks {
                0 => Acks::None,
                1 => Acks::Leader,
                -1 => Acks::All,
                _ => Acks::Invalid,
            },
            told: (request.acks, request.timeout_ms),
            transactional_id: request.transactional_id.clone(),
            adds_partitions: version >= ADDS_PARTITIONS_FROM_VERSION,
            knows_zstd: version >= ZSTD_FROM_VERSION,
            may_pass_on,
        }
    }
}

/// What became of a batch.
enum Outcome {
    Here(Result<ingest::Stored, Refusal>),
    /// What its leader answered.
    Elsewhere(Box<PartitionProduceResponse>),
}

/// An answer that waits for the disk.
#[derive(Default)]
struct Pending {
    answer: ProduceResponse,
    waits: Vec<Wait>,
    /// Whether something was refused already.
    failed: bool,
}

struct Wait {
    place: (usize, usize),
    durable: Durable,
    /// The partition that the batch came in by.
    partition: Option<Arc<Partition>>,
}

impl Pending {
    async fn finish(mut self, timeout: Duration) -> ProduceResponse {
        let deadline = tokio::time::Instant::now() + timeout;
        for wait in self.waits {
            let error = match ingest::until_safe(wait.durable, deadline).await {
                Ok(()) => continue,
                Err(ErrorCode::RequestTimedOut)
                    if wait
                        .partition
                        .is_some_and(|p| p.is_leader() && !p.has_enough_in_sync()) =>
                {
                    ErrorCode::NotEnoughReplicasAfterAppend
                }
                Err(code) => code,
            };
            let response = &mut self.answer.responses[wait.place.0].partition_responses[wait.place.1];
            response.error_code = error.code();
            response.base_offset = -1;
        }
        self.answer
    }
}

async fn produce_partition(
    context: &Arc<Context>,
    topic: &TopicLookup,
    asked: &Asked,
    data: &PartitionProduceData,
) -> Outcome {
    let passes_on = asked.may_pass_on && context.controller.hands_over();
    let found = topic.as_ref().ok().filter(|_| passes_on);
    if let Some(partition) = found.and_then(|topic| topic.partition(data.index)) {
        pass_on::handed_over(context, partition).await;
    }
    let outcome = produce_here(context, topic, asked, data).await;
    if let (Some(topic), Err(refusal)) = (found, &outcome)
        && refusal.code == ErrorCode::NotLeaderOrFollower
        && let Some(response) = pass_on::pass_on(context, asked, topic.id, data).await
    {
        return Outcome::Elsewhere(Box::new(response));
    }
    Outcome::Here(outcome)
}

async fn produce_here(
    context: &Arc<Context>,
    topic: &TopicLookup,
    asked: &Asked,
    data: &PartitionProduceData,
) -> Result<ingest::Stored, Refusal> {
    let payload = data.records.as_ref().and_then(|payload| payload.bytes());
    let topic: &Arc<Topic> = topic
        .as_ref()
        .map_err(|code| Refusal::new(*code, "unknown topic"))?;
    let entrance = ingest::entrance(context, topic, data.index)?;
    take_in(context, topic, &entrance, asked, payload)
        .await
        .map_err(|refusal| refuse_for_now(&entrance, refusal))
}

/// Takes what came for a partition that this broker leads.
async fn take_in(
    context: &Arc<Context>,
    topic: &Arc<Topic>,
    entrance: &Arc<Partition>,
    asked: &Asked,
    payload: Option<&Bytes>,
) -> Result<ingest::Stored, Refusal> {
    if asked.acks == Acks::All && !context.lease.is_valid() {
        // Others may lead already: the client is to look for them, rather than to wait for what cannot come.
        let message = "this broker has lost touch with its cluster";
        return Err(Refusal::new(ErrorCode::NotLeaderOrFollower, message));
    }
    let records: &Bytes = match payload {
        Some(records) if !records.is_empty() => records,
        _ => return Err(Refusal::new(ErrorCode::InvalidRecord, "no records")),
    };
    let header = BatchHeader::parse(records).ok();
    let attributes = header.map(|header| header.attributes);
    if !asked.knows_zstd && attributes.is_some_and(|a| a.compression() == Ok(Compression::Zstd)) {
        return Err(Refusal::new(
            ErrorCode::UnsupportedCompressionType,
            "zstd came with version 7 of the request",
        ));
    }
    if asked.acks == Acks::Invalid {
        return Err(Refusal::new(
            ErrorCode::InvalidRequiredAcks,
            "acks must be 0, 1 or -1",
        ));
    }
    let safety = match asked.acks {
        Acks::All => Safety::InSync,
        _ => Safety::Leader,
    };
    let part = match header.filter(|header| header.attributes.is_transactional()) {
        Some(header) => Some(take_part(context, topic, entrance, asked, &header).await?),
        None => None,
    };
    ingest::store(context, topic, entrance, records, safety, part).await
}

/// Makes sure that a partition belongs to the transaction that a batch is of (KIP-890).
///
/// # Errors
/// It does not, or nobody can say so now.
async fn take_part(
    context: &Arc<Context>,
    topic: &Topic,
    entrance: &Partition,
    asked: &Asked,
    header: &BatchHeader,
) -> Result<InTransaction, Refusal> {
    let Some(id) = &asked.transactional_id else {
        let message = "records of a transaction come with a transactional id";
        return Err(Refusal::new(
            ErrorCode::TransactionalIdAuthorizationFailed,
            message,
        ));
    };
    if topic.partitioner().is_some() {
        spread::join(context, topic, entrance, id, header, asked.adds_partitions).await?;
        return Ok(InTransaction::Spread(Arc::from(&**id)));
    }
    let Some(guard) = entrance.begin_verification(header, asked.adds_partitions) else {
        return Ok(InTransaction::Here(Part(None)));
    };
    let producer = Producer {
        id: header.producer_id,
        epoch: header.producer_epoch,
    };
    let (name, index) = (topic.name.as_str(), [entrance.index.0]);
    let part = transaction::take_part(context, id, producer, name, &index, asked.adds_partitions);
    part.await.map_err(ingest::refuse_part)?;
    Ok(InTransaction::Here(Part(Some(guard))))
}

/// A gap in a producer's sequence numbers is no error of its own where a batch may be missing that was refused: the
/// producer is to send both again. If it heard of the gap, it might believe that records were lost, take a new epoch, and
/// send what is stored once more.
fn refuse_for_now(entrance: &Partition, refusal: Refusal) -> Refusal {
    if refusal.code != ErrorCode::OutOfOrderSequenceNumber {
        if refusal.is_sent_again() {
            entrance.note_refusal();
        }
        return refusal;
    }
    if !entrance.may_miss_batches() {
        return refusal;
    }
    let message = format!("{}, which may come yet: send both again", refusal.message);
    Refusal::new(ErrorCode::NotEnoughReplicas, message)
}

/// Tells a client that asked the wrong broker who leads, and where that is (KIP-951).
fn name_leaders(context: &Context, version: i16, answer: &mut ProduceResponse) {
    let not_leader = ErrorCode::NotLeaderOrFollower.code();
    let topics = answer.responses.iter();
    let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
    if version < LEADERS_FROM_VERSION || partitions.all(|partition| partition.error_code != not_leader) {
        return;
    }
    let image = context.controller.image();
    let mut named = Named::default();
    for topic in &mut answer.responses {
        let id = match topic.topic_id.is_nil() {
            true => image.topic(&topic.name).map(|topic| topic.id.0),
            false => Some(topic.topic_id),
        };
        let partitions = topic.partition_responses.iter_mut();
        for partition in partitions.filter(|partition| partition.error_code == not_leader) {
            let Some(leader) = id.and_then(|id| leaders::leader(&image, id, partition.index)) else {
                continue;
            };
            named.add(leader);
            partition.current_leader = LeaderIdAndEpoch {
                leader_id: leader.id,
                leader_epoch: leader.epoch.0,
                ..Default::default()
            };
        }
    }
    let endpoints = named.endpoints(&image).into_iter();
    answer.node_endpoints = endpoints.map(endpoint).collect();
}

fn endpoint(broker: Broker) -> NodeEndpoint {
    NodeEndpoint {
        node_id: broker.id.0,
        host: Text::from(broker.host.as_str()),
        port: i32::from(broker.port),
        rack: broker.rack.as_deref().map(Text::from),
        ..Default::default()
    }
}

/// Whether the records look like one batch: Kafka refuses all else without asking the log.
fn is_one_batch(data: &PartitionProduceData) -> bool {
    let records = data.records.as_ref().and_then(|payload| payload.bytes());
    records.is_some_and(|records| match records.get(LENGTH_AT..=MAGIC_AT) {
        Some([a, b, c, d, .., magic]) => {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            *magic == 2 && length.saturating_add(LENGTH_AT + 4) == records.len()
        }
        _ => false,
    })
}

/// Whether Kafka tells where the log begins together with an error: where the log was asked, and found no damage.
fn tells_log_start(code: i16) -> bool {
    [
        ErrorCode::InvalidRecord,
        ErrorCode::InvalidTimestamp,
        ErrorCode::UnsupportedCompressionType,
        ErrorCode::UnsupportedForMessageFormat,
        ErrorCode::OutOfOrderSequenceNumber,
        ErrorCode::InvalidProducerEpoch,
        ErrorCode::UnknownProducerId,
        ErrorCode::DuplicateSequenceNumber,
    ]
    .iter()
    .any(|told| told.code() == code)
}

fn answer_partition(
    index: i32,
    outcome: Result<ingest::Stored, Refusal>,
) -> (PartitionProduceResponse, Vec<Durable>) {
    match outcome {
        Ok(stored) => (
            PartitionProduceResponse {
                index,
                base_offset: stored.base_offset.map_or(-1, |Offset(offset)| offset),
                log_append_time_ms: stored.log_append_time_ms.unwrap_or(-1),
                log_start_offset: stored.log_start_offset.0,
                ..Default::default()
            },
            stored.durable,
        ),
        Err(refusal) => (
            PartitionProduceResponse {
                index,
                error_code: refusal.code.code(),
                base_offset: -1,
                log_append_time_ms: -1,
                log_start_offset: -1,
                record_errors: refusal
                    .records
                    .iter()
                    .map(|(batch_index, message)| BatchIndexAndErrorMessage {
                        batch_index: *batch_index,
                        batch_index_error_message: message.as_ref().map(|m| Text::from(m.as_str())),
                        ..Default::default()
                    })
                    .collect(),
                error_message: Some(Text::from(refusal.message.as_str())),
                ..Default::default()
            },
            Vec::new(),
        ),
    }
}

/// Where a batch says how long it is after that.
const LENGTH_AT: usize = 8;
/// Where it says which format it has.
const MAGIC_AT: usize = 16;
/// Version of Produce from which on leaders add partitions to transactions.
const ADDS_PARTITIONS_FROM_VERSION: i16 = 12;
/// Version of Produce from which on clients know zstd (KIP-110).
const ZSTD_FROM_VERSION: i16 = 7;
/// Version of Produce from which on answers name leaders.
const LEADERS_FROM_VERSION: i16 = 10;
/// Version of Produce from which on topics are named by id (KIP-516).
const TOPIC_IDS_FROM_VERSION: i16 = 13;
