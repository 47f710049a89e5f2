//! Every message in every version: against Kafka's own definitions, through the crate `kafka-protocol`, and against
//! bytes that are no messages.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::wire::generate::{Generate, Source};
use crate::wire::{Chunk, DecodeError, Field, Layout, Message, Reader, Writer};
use crate::{ApiKey, Request};

mod headers;

/// Types of messages, ours, that tests can make.
trait Testable: Message + Field + Generate + Clone + PartialEq + Debug {}

impl<M: Message + Field + Generate + Clone + PartialEq + Debug> Testable for M {}

macro_rules! every_message {
    ($( $module:ident: $request:ident, $response:ident $(, newest $newest:literal)?; )*) => { $(
        mod $module {
            use super::*;
            use crate::api::$module::{$request, $response};

            #[test]
            fn versions_are_kafkas() {
                let theirs = <oracle::$request as kafka_protocol::protocol::Message>::VERSIONS;
                let newest = theirs.max;
                $( let newest = newest.max($newest); )?
                assert_eq!($request::VERSIONS, theirs.min..=newest);
            }

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(64))]

                #[test]
                fn request_is_kafkas(bytes in vec(any::<u8>(), 0..600)) {
                    is_kafkas::<$request, $request, oracle::$request>(&bytes);
                }

                #[test]
                fn response_is_kafkas(bytes in vec(any::<u8>(), 0..600)) {
                    is_kafkas::<$request, $response, oracle::$response>(&bytes);
                }

                #[test]
                fn faults_are_errors(bytes in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
                    damage::<$request, $request>(&bytes, at);
                    damage::<$request, $response>(&bytes, at);
                }

                #[test]
                fn any_bytes_are_safe(bytes in vec(prop_oneof![any::<u8>(), 0..4u8], 0..200)) {
                    for version in $request::VERSIONS {
                        is_safe::<$request>(bytes.clone().into(), version);
                        is_safe::<$response>(bytes.clone().into(), version);
                    }
                }
            }
        }
    )* };
}

every_message! {
    add_offsets_to_txn: AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
    add_partitions_to_txn: AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
    alter_configs: AlterConfigsRequest, AlterConfigsResponse;
    alter_partition_reassignments: AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    api_versions: ApiVersionsRequest, ApiVersionsResponse;
    consumer_group_describe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    consumer_group_heartbeat: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    create_partitions: CreatePartitionsRequest, CreatePartitionsResponse;
    create_topics: CreateTopicsRequest, CreateTopicsResponse;
    delete_groups: DeleteGroupsRequest, DeleteGroupsResponse;
    delete_records: DeleteRecordsRequest, DeleteRecordsResponse;
    delete_topics: DeleteTopicsRequest, DeleteTopicsResponse;
    describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    describe_groups: DescribeGroupsRequest, DescribeGroupsResponse;
    describe_log_dirs: DescribeLogDirsRequest, DescribeLogDirsResponse, newest 5;
    describe_producers: DescribeProducersRequest, DescribeProducersResponse;
    describe_quorum: DescribeQuorumRequest, DescribeQuorumResponse;
    describe_topic_partitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    describe_transactions: DescribeTransactionsRequest, DescribeTransactionsResponse;
    elect_leaders: ElectLeadersRequest, ElectLeadersResponse;
    end_txn: EndTxnRequest, EndTxnResponse;
    fetch: FetchRequest, FetchResponse;
    find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    heartbeat: HeartbeatRequest, HeartbeatResponse;
    incremental_alter_configs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    join_group: JoinGroupRequest, JoinGroupResponse;
    leave_group: LeaveGroupRequest, LeaveGroupResponse;
    list_config_resources: ListConfigResourcesRequest, ListConfigResourcesResponse;
    list_groups: ListGroupsRequest, ListGroupsResponse;
    list_offsets: ListOffsetsRequest, ListOffsetsResponse, newest 11;
    list_partition_reassignments: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    list_transactions: ListTransactionsRequest, ListTransactionsResponse;
    metadata: MetadataRequest, MetadataResponse;
    offset_commit: OffsetCommitRequest, OffsetCommitResponse, newest 10;
    offset_delete: OffsetDeleteRequest, OffsetDeleteResponse;
    offset_fetch: OffsetFetchRequest, OffsetFetchResponse, newest 10;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    produce: ProduceRequest, ProduceResponse;
    sync_group: SyncGroupRequest, SyncGroupResponse;
    txn_offset_commit: TxnOffsetCommitRequest, TxnOffsetCommitResponse;
    unregister_broker: UnregisterBrokerRequest, UnregisterBrokerResponse;
    update_features: UpdateFeaturesRequest, UpdateFeaturesResponse;
    write_txn_markers: WriteTxnMarkersRequest, WriteTxnMarkersResponse, newest 2;
}

/// A message is written as Kafka's definitions say, and what they write is read: in all versions of `R`. Of a version
/// that is newer than the other crate, only that it is read as it was written.
fn is_kafkas<R, M, Oracle>(source: &[u8])
where
    R: Request,
    M: Testable,
    Oracle: Decodable + Encodable + kafka_protocol::protocol::Message,
{
    for version in R::VERSIONS {
        let message = make::<R, M>(source, version);
        let bytes = encoded(&message, version);
        if version > Oracle::VERSIONS.max {
            assert_eq!(
                decoded::<M>(bytes, version),
                Ok((message, 0)),
                "version {version}"
            );
            continue;
        }
        let mut theirs = bytes.clone();
        let oracle = Oracle::decode(&mut theirs, version).unwrap();
        assert!(
            theirs.is_empty(),
            "version {version}: {} bytes were not expected",
            theirs.len()
        );
        let mut again = BytesMut::new();
        oracle.encode(&mut again, version).unwrap();
        assert_eq!(again, bytes, "version {version}");
        assert_eq!(
            decoded::<M>(again.freeze(), version),
            Ok((message, 0)),
            "version {version}"
        );
    }
}

fn damage<R: Request, M: Testable>(source: &[u8], at: prop::sample::Index) {
    for version in R::VERSIONS {
        let bytes = encoded(&make::<R, M>(source, version), version);
        for length in 0..bytes.len() {
            let cut = decoded::<M>(bytes.slice(..length), version);
            assert!(
                cut.is_err(),
                "version {version}: {length} of {} bytes give {cut:?}",
                bytes.len()
            );
        }
        if bytes.is_empty() {
            continue;
        }
        // Somewhere in the message, the largest length there is.
        let at = at.index(bytes.len());
        for length in [
            &i32::MAX.to_be_bytes()[..],
            &i16::MAX.to_be_bytes(),
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x80],
        ] {
            let mut damaged = bytes.to_vec();
            let end = bytes.len().min(at + length.len());
            damaged[at..end].copy_from_slice(&length[..end - at]);
            is_safe::<M>(damaged.into(), version);
        }
    }
}

/// Bytes are refused, or read as a message that is written and read again as it is.
fn is_safe<M: Testable>(bytes: Bytes, version: i16) {
    if let Ok((message, _)) = decoded::<M>(bytes, version) {
        let again = encoded(&message, version);
        assert_eq!(
            decoded::<M>(again, version),
            Ok((message, 0)),
            "version {version}"
        );
    }
}

fn make<R: Request, M: Testable>(source: &[u8], version: i16) -> M {
    M::generate(&mut Source(source), Layout::of::<R>(version).unwrap(), true)
}

fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).unwrap();
    joined(writer)
}

fn joined(writer: Writer) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in writer.finish() {
        match chunk {
            Chunk::Bytes(chunk) => bytes.extend_from_slice(&chunk),
            Chunk::External { .. } => unreachable!("no such payloads are made"),
        }
    }
    bytes.freeze()
}

/// The message and how many bytes follow it.
fn decoded<M: Message>(bytes: Bytes, version: i16) -> Result<(M, usize), DecodeError> {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    Ok((message, reader.remaining()))
}
