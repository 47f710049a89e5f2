//! Requests of Kafka's that brokers send each other: a client's records that are passed on, what a leader asks the
//! coordinator of a transaction, the markers that this one has leaders write, and all that the workers of transforms do.
//!
//! They go by the connections of brokers, whose certificates say who asks, and are answered by the handlers that clients
//! reach. A message is the number of the API and its version (two bytes each, big endian), and the request without a
//! header; the answer is the response without one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_core::ids::BrokerId;
use millstream_kafka::api::add_partitions_to_txn::AddPartitionsToTxnRequest;
use millstream_kafka::api::delete_groups::DeleteGroupsRequest;
use millstream_kafka::api::end_txn::EndTxnRequest;
use millstream_kafka::api::fetch::FetchRequest;
use millstream_kafka::api::init_producer_id::InitProducerIdRequest;
use millstream_kafka::api::list_offsets::ListOffsetsRequest;
use millstream_kafka::api::offset_commit::OffsetCommitRequest;
use millstream_kafka::api::offset_fetch::OffsetFetchRequest;
use millstream_kafka::api::produce::ProduceRequest;
use millstream_kafka::api::txn_offset_commit::TxnOffsetCommitRequest;
use millstream_kafka::api::write_txn_markers::WriteTxnMarkersRequest;
use millstream_kafka::wire::{Chunk, Message, Reader, Writer};
use millstream_kafka::{ApiKey, Request};

use super::{
    add_partitions_to_txn, delete_groups, end_txn, fetch, init_producer_id, list_offsets, offset_commit,
    offset_fetch, produce, txn_offset_commit, write_txn_markers,
};
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::peer::CallKind;

/// Has another broker answer a request.
///
/// # Errors
/// It cannot be asked, or does not answer, in words.
pub async fn ask<R: Request>(
    context: &Arc<Context>,
    broker: BrokerId,
    version: i16,
    request: R,
) -> Result<R::Response, String> {
    let mut message = BytesMut::new();
    message.put_i16(R::KEY as i16);
    message.put_i16(version);
    encode(&mut message, &request, version)?;
    let peers = context.peers.as_ref().ok_or("this broker is alone")?;
    let answer = peers.call(broker, CallKind::Request, message.freeze(), ANSWER_WAIT);
    let answer = answer.await.map_err(|error| error.to_string())?;
    R::Response::decode(&mut Reader::new(answer), version).map_err(|error| error.to_string())
}

/// A request that brokers make of each other.
pub trait Shared: Request {
    /// Answers it here.
    fn answered(
        context: &Arc<Context>,
        version: i16,
        request: Self,
    ) -> impl Future<Output = Self::Response> + Send;
}

/// Has a broker answer a request, which may be this one.
///
/// # Errors
/// As [`ask`].
pub async fn ask_any<R: Shared>(
    context: &Arc<Context>,
    broker: BrokerId,
    version: i16,
    request: R,
) -> Result<R::Response, String> {
    match broker == context.node {
        true => Ok(R::answered(context, version, request).await),
        false => ask(context, broker, version, request).await,
    }
}

macro_rules! shared {
    ($( $key:ident => $request:ident: |$context:ident, $version:ident, $asked:ident| $answer:expr; )+) => {
        $( impl Shared for $request {
            async fn answered(
                $context: &Arc<Context>,
                $version: i16,
                $asked: Self,
            ) -> Self::Response {
                $answer.await
            }
        } )+

        /// Answers another broker's request.
        ///
        /// # Errors
        /// It cannot be read, or is none that brokers send.
        pub async fn serve(context: &Arc<Context>, message: Bytes) -> Result<Bytes, String> {
            let Some((head, _)) = message.split_first_chunk::<4>() else {
                return Err("a request of an API has four bytes in front".to_owned());
            };
            let [a, b, c, d] = *head;
            let (key, version) = (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]));
            let key = ApiKey::from_i16(key).filter(|key| key.versions().contains(&version));
            let body = Reader::new(message.slice(head.len()..));
            match key {
                $( Some(ApiKey::$key) => answer::<$request>(context, version, body).await, )+
                _ => Err("brokers do not ask that of each other".to_owned()),
            }
        }
    };
}

shared! {
    Produce => ProduceRequest: |context, version, asked| produce::store_all(context, version, asked);
    AddPartitionsToTxn => AddPartitionsToTxnRequest:
        |context, version, asked| add_partitions_to_txn::answer(context, version, asked);
    WriteTxnMarkers => WriteTxnMarkersRequest: |context, _version, asked| write_txn_markers::answer(context, asked);
    Fetch => FetchRequest: |context, version, asked| fetch::whole(context, version, asked);
    ListOffsets => ListOffsetsRequest:
        |context, version, asked| list_offsets::handle(context, &ConnectionInfo::of_broker(), version, asked);
    InitProducerId => InitProducerIdRequest:
        |context, version, asked| init_producer_id::handle(context, &ConnectionInfo::of_broker(), version, asked);
    EndTxn => EndTxnRequest:
        |context, version, asked| end_txn::handle(context, &ConnectionInfo::of_broker(), version, asked);
    TxnOffsetCommit => TxnOffsetCommitRequest:
        |context, version, asked| txn_offset_commit::handle(context, &ConnectionInfo::of_broker(), version, asked);
    OffsetCommit => OffsetCommitRequest:
        |context, version, asked| offset_commit::handle(context, &ConnectionInfo::of_broker(), version, asked);
    OffsetFetch => OffsetFetchRequest:
        |context, version, asked| offset_fetch::handle(context, &ConnectionInfo::of_broker(), version, asked);
    DeleteGroups => DeleteGroupsRequest:
        |context, version, asked| delete_groups::handle(context, &ConnectionInfo::of_broker(), version, asked);
}

async fn answer<R: Shared>(context: &Arc<Context>, version: i16, mut body: Reader) -> Result<Bytes, String> {
    let request = decode::<R>(&mut body, version)?;
    let mut answer = BytesMut::new();
    encode(
        &mut answer,
        &R::answered(context, version, request).await,
        version,
    )?;
    Ok(answer.freeze())
}

fn decode<R: Request>(body: &mut Reader, version: i16) -> Result<R, String> {
    R::decode(body, version).map_err(|error| error.to_string())
}

fn encode(to: &mut BytesMut, message: &impl Message, version: i16) -> Result<(), String> {
    let mut writer = Writer::new();
    message
        .encode(&mut writer, version)
        .map_err(|error| error.to_string())?;
    for chunk in writer.finish() {
        match chunk {
            Chunk::Bytes(chunk) => to.extend_from_slice(&chunk),
            _ => return Err("files are not sent to brokers so".to_owned()),
        }
    }
    Ok(())
}

/// Longest time that an answer is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
