//! From a frame to a handler and back: one file per API.
//!
//! A handler authorises, translates Kafka's types to ours, asks the owner of the state and translates back; Kafka's
//! wire types go no further. Which versions are offered is decided here alone.

#![allow(
    clippy::needless_update,
    reason = "messages get fields with new versions: a handler names those that it decides on"
)]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use millstream_kafka::header::{RequestHeader, ResponseHeader};
use millstream_kafka::wire::{Message, Reader, Writer};
use millstream_kafka::{ApiKey, Request, api};

use crate::connection::{ConnectionInfo, Disconnect, Reply, Response};
use crate::context::Context;
use crate::partitions::FileSlice;
use reserved::{Guard, Guarded};

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod admin;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod among;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leaders;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod pass_on;
pub mod produce;
pub mod reserved;
pub mod sync_group;
pub mod txn_offset_commit;
pub mod unregister_broker;
pub mod update_features;
pub mod write_txn_markers;

/// Lowest and highest version of every API that is offered.
///
/// Produce is advertised from 0 because old librdkafka looks for it, as Kafka does (KIP-896); 0 to 2 are refused.
pub fn offered() -> impl Iterator<Item = (ApiKey, i16, i16)> {
    OFFERED.iter().map(|key| {
        let versions = key.versions();
        let lowest = if *key == ApiKey::Produce {
            0
        } else {
            *versions.start()
        };
        (*key, lowest, *versions.end())
    })
}

macro_rules! route {
    ($context:ident, $info:ident, $header:ident, $body:ident, $key:ident; $( $api:ident => $module:ident :: $request:ident $($guarded:ident)? ),+ $(,)?) => {
        match $key {
            ApiKey::ApiVersions => {
                let request = decode::<api::api_versions::ApiVersionsRequest>(&$header, &mut $body)?;
                let answer = api_versions::handle($context, $info, $header.api_version, request);
                respond::<api::api_versions::ApiVersionsRequest>(&$header, &answer, Vec::new()).map(Reply::Now)
            }
            ApiKey::Produce => {
                let mut request = decode::<api::produce::ProduceRequest>(&$header, &mut $body)?;
                match request.guard() {
                    Guard::Refused(_) if request.acks == 0 => Err(reserved::unanswered()),
                    Guard::Refused(answer) => {
                        respond::<api::produce::ProduceRequest>(&$header, &answer, Vec::new()).map(Reply::Now)
                    }
                    _ => produce::handle($context, $info, $header, request).await,
                }
            }
            ApiKey::Fetch => {
                let request = decode::<api::fetch::FetchRequest>(&$header, &mut $body)?;
                let (answer, files) = fetch::handle($context, $info, $header.api_version, request).await;
                respond::<api::fetch::FetchRequest>(&$header, &answer, files).map(Reply::Now)
            }
            $( ApiKey::$api => {
                let request = decode::<api::$module::$request>(&$header, &mut $body)?;
                let answer = answer!($context, $info, $header, request, $module $($guarded)?);
                respond::<api::$module::$request>(&$header, &answer, Vec::new()).map(Reply::Now)
            } )+
            #[allow(unreachable_patterns, reason = "every key of the codec may be routed")]
            _ => Err(Disconnect::Unsupported { key: $header.api_key, version: $header.api_version }),
        }
    };
}

macro_rules! answer {
    ($context:ident, $info:ident, $header:ident, $request:ident, $module:ident) => {
        $module::handle($context, $info, $header.api_version, $request).await
    };
    ($context:ident, $info:ident, $header:ident, $request:ident, $module:ident guarded) => {{
        let mut request = $request;
        match request.guard() {
            Guard::Free => $module::handle($context, $info, $header.api_version, request).await,
            Guard::Refused(answer) => answer,
            Guard::Partly(add) => {
                let mut answer = $module::handle($context, $info, $header.api_version, request).await;
                add(&mut answer);
                answer
            }
        }
    }};
}

macro_rules! apis {
    ($( $api:ident => $module:ident :: $request:ident $($guarded:ident)? ),+ $(,)?) => {
        const OFFERED: &[ApiKey] = &[ApiKey::Produce, ApiKey::Fetch, ApiKey::ApiVersions, $( ApiKey::$api ),+];

        async fn route(
            context: &Arc<Context>,
            info: &ConnectionInfo,
            header: RequestHeader,
            key: ApiKey,
            mut body: Reader,
        ) -> Result<Reply, Disconnect> {
            route!(context, info, header, body, key; $( $api => $module::$request $($guarded)? ),+)
        }
    };
}

// What is guarded names groups or transactional ids, some of which are the brokers' own.
apis! {
    Metadata => metadata::MetadataRequest,
    ListOffsets => list_offsets::ListOffsetsRequest,
    OffsetForLeaderEpoch => offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    FindCoordinator => find_coordinator::FindCoordinatorRequest,
    InitProducerId => init_producer_id::InitProducerIdRequest guarded,
    JoinGroup => join_group::JoinGroupRequest guarded,
    SyncGroup => sync_group::SyncGroupRequest,
    Heartbeat => heartbeat::HeartbeatRequest,
    LeaveGroup => leave_group::LeaveGroupRequest,
    OffsetCommit => offset_commit::OffsetCommitRequest guarded,
    OffsetFetch => offset_fetch::OffsetFetchRequest,
    OffsetDelete => offset_delete::OffsetDeleteRequest guarded,
    DescribeGroups => describe_groups::DescribeGroupsRequest,
    ListGroups => list_groups::ListGroupsRequest,
    ConsumerGroupHeartbeat => consumer_group_heartbeat::ConsumerGroupHeartbeatRequest guarded,
    ConsumerGroupDescribe => consumer_group_describe::ConsumerGroupDescribeRequest,
    DeleteGroups => delete_groups::DeleteGroupsRequest guarded,
    CreateTopics => create_topics::CreateTopicsRequest,
    DeleteTopics => delete_topics::DeleteTopicsRequest,
    CreatePartitions => create_partitions::CreatePartitionsRequest,
    DeleteRecords => delete_records::DeleteRecordsRequest,
    DescribeConfigs => describe_configs::DescribeConfigsRequest,
    IncrementalAlterConfigs => incremental_alter_configs::IncrementalAlterConfigsRequest,
    AlterConfigs => alter_configs::AlterConfigsRequest,
    DescribeCluster => describe_cluster::DescribeClusterRequest,
    DescribeLogDirs => describe_log_dirs::DescribeLogDirsRequest,
    ListConfigResources => list_config_resources::ListConfigResourcesRequest,
    DescribeTopicPartitions => describe_topic_partitions::DescribeTopicPartitionsRequest,
    ElectLeaders => elect_leaders::ElectLeadersRequest,
    AlterPartitionReassignments => alter_partition_reassignments::AlterPartitionReassignmentsRequest,
    ListPartitionReassignments => list_partition_reassignments::ListPartitionReassignmentsRequest,
    DescribeProducers => describe_producers::DescribeProducersRequest,
    DescribeQuorum => describe_quorum::DescribeQuorumRequest,
    UpdateFeatures => update_features::UpdateFeaturesRequest,
    UnregisterBroker => unregister_broker::UnregisterBrokerRequest,
    AddPartitionsToTxn => add_partitions_to_txn::AddPartitionsToTxnRequest guarded,
    AddOffsetsToTxn => add_offsets_to_txn::AddOffsetsToTxnRequest guarded,
    EndTxn => end_txn::EndTxnRequest guarded,
    TxnOffsetCommit => txn_offset_commit::TxnOffsetCommitRequest guarded,
    WriteTxnMarkers => write_txn_markers::WriteTxnMarkersRequest,
    DescribeTransactions => describe_transactions::DescribeTransactionsRequest,
    ListTransactions => list_transactions::ListTransactionsRequest,
}

/// Begins one request.
///
/// # Errors
/// The connection has to be closed: the frame cannot be understood, or asks for what is not offered.
pub async fn dispatch(
    context: &Arc<Context>,
    info: &mut ConnectionInfo,
    frame: Bytes,
) -> Result<Reply, Disconnect> {
    let started = Instant::now();
    let mut body = Reader::new(frame);
    let header =
        RequestHeader::decode(&mut body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let unsupported = Disconnect::Unsupported {
        key: header.api_key,
        version: header.api_version,
    };
    let Some(key) = ApiKey::from_i16(header.api_key) else {
        return Err(unsupported);
    };
    if !key.versions().contains(&header.api_version) {
        if key == ApiKey::ApiVersions {
            return api_versions::unsupported(&header).map(Reply::Now);
        }
        return Err(unsupported);
    }
    info.client_id = header.client_id.clone().unwrap_or_default();
    let reply = route(context, info, header, key, body).await;
    if !matches!(reply, Ok(Reply::Later(_))) {
        context.metrics.request(key, started.elapsed());
    }
    reply
}

/// Reads a request. Bytes that follow it are left alone, as Kafka leaves them: librdkafka 2.16 sends three too many
/// when it asks for the metadata of all topics.
fn decode<R: Request>(header: &RequestHeader, body: &mut Reader) -> Result<R, Disconnect> {
    R::decode(body, header.api_version).map_err(|error| {
        Disconnect::Malformed(format!(
            "{} version {}: {error}",
            R::KEY.name(),
            header.api_version
        ))
    })
}

/// Encodes the answer to a request.
///
/// # Errors
/// The answer does not fit its version, which is a defect of ours; the connection is closed rather than misled.
pub fn respond<R: Request>(
    header: &RequestHeader,
    answer: &R::Response,
    files: Vec<FileSlice>,
) -> Result<Response, Disconnect> {
    encode(R::KEY, header.api_version, header.correlation_id, answer, files)
}

fn encode<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    answer: &M,
    files: Vec<FileSlice>,
) -> Result<Response, Disconnect> {
    let mut writer = Writer::frame();
    let encoded = ResponseHeader { correlation_id }
        .encode(&mut writer, key.response_header_version(version))
        .and_then(|()| answer.encode(&mut writer, version));
    match encoded {
        Ok(()) => Ok(Response {
            chunks: writer.finish(),
            files,
        }),
        Err(error) => {
            tracing::error!(api = key.name(), version, %error, "answer cannot be encoded");
            Err(Disconnect::Malformed(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests;
