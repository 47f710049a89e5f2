//! Requests of Kafka's that brokers send each other: a client's records that are passed on, what a leader asks the
//! coordinator of a transaction, and the markers that this one has leaders write.
//!
//! They go by the connections of brokers, whose certificates say who asks, and are answered by the handlers that clients
//! reach. A message is the number of the API and its version (two bytes each, big endian), and the request without a
//! header; the answer is the response without one.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_core::ids::BrokerId;
use millstream_kafka::api::add_partitions_to_txn::AddPartitionsToTxnRequest;
use millstream_kafka::api::produce::ProduceRequest;
use millstream_kafka::api::write_txn_markers::WriteTxnMarkersRequest;
use millstream_kafka::wire::{Chunk, Message, Reader, Writer};
use millstream_kafka::{ApiKey, Request};

use super::{add_partitions_to_txn, produce, write_txn_markers};
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
    let answer = peers
        .call(broker, CallKind::Request, message.freeze(), ANSWER_WAIT)
        .await
        .map_err(|error| error.to_string())?;
    R::Response::decode(&mut Reader::new(answer), version).map_err(|error| error.to_string())
}

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
    let mut body = Reader::new(message.slice(head.len()..));
    let mut answer = BytesMut::new();
    match key {
        Some(ApiKey::Produce) => {
            let request = decode::<ProduceRequest>(&mut body, version)?;
            encode(
                &mut answer,
                &produce::store_all(context, version, request).await,
                version,
            )?;
        }
        Some(ApiKey::AddPartitionsToTxn) => {
            let request = decode::<AddPartitionsToTxnRequest>(&mut body, version)?;
            let added = add_partitions_to_txn::answer(context, version, request).await;
            encode(&mut answer, &added, version)?;
        }
        Some(ApiKey::WriteTxnMarkers) => {
            let request = decode::<WriteTxnMarkersRequest>(&mut body, version)?;
            encode(
                &mut answer,
                &write_txn_markers::answer(context, request).await,
                version,
            )?;
        }
        _ => return Err("brokers do not ask that of each other".to_owned()),
    }
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
