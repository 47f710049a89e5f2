//! Frames that went between real clients and Apache Kafka: we read them, and write them again byte for byte.

#![allow(
    clippy::unwrap_used,
    clippy::extra_unused_type_parameters,
    reason = "a failed unwrap fails the test; one table names the types of both codecs"
)]

use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use millstream_kafka::header::{RequestHeader, ResponseHeader};
use millstream_kafka::wire::{Chunk, Message, Reader, Writer};
use millstream_kafka::{ApiKey, Request, api};

/// One line of `frames.txt`.
struct Frame {
    sender: &'static str,
    is_request: bool,
    api: &'static str,
    version: i16,
    bytes: Bytes,
}

impl Frame {
    fn parse(line: &'static str) -> Self {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap();
        Self {
            sender: word(),
            is_request: word() == "request",
            api: word(),
            version: word().parse().unwrap(),
            bytes: from_hex(word()),
        }
    }

    fn title(&self) -> String {
        let kind = if self.is_request { "request" } else { "response" };
        format!("{} {kind} version {} of {}", self.api, self.version, self.sender)
    }
}

fn frames() -> impl Iterator<Item = Frame> {
    let lines = include_str!("frames.txt").lines();
    lines.filter(|line| !line.starts_with('#')).map(Frame::parse)
}

/// Calls a function for the API of a frame.
macro_rules! for_api {
    ($frame:expr, $function:ident, $( $api:ident => $module:ident :: $request:ident ),+ $(,)?) => {
        match $frame.api {
            $( stringify!($api) => $function::<api::$module::$request, kafka_protocol::messages::$request>(
                ApiKey::$api,
                $frame,
            ), )+
            other => panic!("no such API: {other}"),
        }
    };
}

macro_rules! for_all {
    ($frame:expr, $function:ident) => {
        for_api!(
            $frame,
            $function,
            Produce => produce::ProduceRequest,
            Fetch => fetch::FetchRequest,
            ListOffsets => list_offsets::ListOffsetsRequest,
            Metadata => metadata::MetadataRequest,
            OffsetCommit => offset_commit::OffsetCommitRequest,
            OffsetFetch => offset_fetch::OffsetFetchRequest,
            FindCoordinator => find_coordinator::FindCoordinatorRequest,
            JoinGroup => join_group::JoinGroupRequest,
            Heartbeat => heartbeat::HeartbeatRequest,
            LeaveGroup => leave_group::LeaveGroupRequest,
            SyncGroup => sync_group::SyncGroupRequest,
            DescribeGroups => describe_groups::DescribeGroupsRequest,
            ListGroups => list_groups::ListGroupsRequest,
            ApiVersions => api_versions::ApiVersionsRequest,
            CreateTopics => create_topics::CreateTopicsRequest,
            DeleteTopics => delete_topics::DeleteTopicsRequest,
            DeleteRecords => delete_records::DeleteRecordsRequest,
            InitProducerId => init_producer_id::InitProducerIdRequest,
            OffsetForLeaderEpoch => offset_for_leader_epoch::OffsetForLeaderEpochRequest,
            DescribeConfigs => describe_configs::DescribeConfigsRequest,
            AlterConfigs => alter_configs::AlterConfigsRequest,
            DescribeLogDirs => describe_log_dirs::DescribeLogDirsRequest,
            CreatePartitions => create_partitions::CreatePartitionsRequest,
            DeleteGroups => delete_groups::DeleteGroupsRequest,
            IncrementalAlterConfigs => incremental_alter_configs::IncrementalAlterConfigsRequest,
            OffsetDelete => offset_delete::OffsetDeleteRequest,
            DescribeCluster => describe_cluster::DescribeClusterRequest,
            ListConfigResources => list_config_resources::ListConfigResourcesRequest,
            DescribeTopicPartitions => describe_topic_partitions::DescribeTopicPartitionsRequest,
            ElectLeaders => elect_leaders::ElectLeadersRequest,
            AlterPartitionReassignments => alter_partition_reassignments::AlterPartitionReassignmentsRequest,
            ListPartitionReassignments => list_partition_reassignments::ListPartitionReassignmentsRequest,
            DescribeQuorum => describe_quorum::DescribeQuorumRequest,
            UpdateFeatures => update_features::UpdateFeaturesRequest,
            UnregisterBroker => unregister_broker::UnregisterBrokerRequest,
            AddPartitionsToTxn => add_partitions_to_txn::AddPartitionsToTxnRequest,
            AddOffsetsToTxn => add_offsets_to_txn::AddOffsetsToTxnRequest,
            EndTxn => end_txn::EndTxnRequest,
            TxnOffsetCommit => txn_offset_commit::TxnOffsetCommitRequest,
            WriteTxnMarkers => write_txn_markers::WriteTxnMarkersRequest,
            DescribeProducers => describe_producers::DescribeProducersRequest,
            DescribeTransactions => describe_transactions::DescribeTransactionsRequest,
            ListTransactions => list_transactions::ListTransactionsRequest,
            ConsumerGroupHeartbeat => consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
            ConsumerGroupDescribe => consumer_group_describe::ConsumerGroupDescribeRequest,
        )
    };
}

#[test]
fn what_others_wrote_is_read_and_written_again_byte_for_byte() {
    for frame in frames() {
        for_all!(&frame, check_round_trip);
    }
}

fn check_round_trip<R: Request, Other>(key: ApiKey, frame: &Frame) {
    let title = frame.title();
    assert_eq!(R::KEY, key, "{title}");
    assert!(R::VERSIONS.contains(&frame.version), "{title}: not offered");
    let mut writer = Writer::new();
    if frame.is_request {
        let (header, body) =
            read_request::<R>(frame, frame.bytes.clone()).unwrap_or_else(|e| panic!("{title}: {e}"));
        assert_eq!(
            (header.api_key, header.api_version),
            (key as i16, frame.version),
            "{title}"
        );
        header.encode(&mut writer).unwrap();
        body.encode(&mut writer, frame.version).unwrap();
    } else {
        let (header, body) =
            read_response::<R>(frame, frame.bytes.clone()).unwrap_or_else(|e| panic!("{title}: {e}"));
        header
            .encode(&mut writer, key.response_header_version(frame.version))
            .unwrap();
        body.encode(&mut writer, frame.version).unwrap();
    }
    assert_eq!(hex(&written(writer)), hex(&frame.bytes), "{title}");
}

/// Two numbers that change places are written as they were read: what is read is also held to the names that another
/// codec gives it.
#[test]
fn what_is_read_is_named_as_another_codec_names_it() {
    for frame in frames() {
        for_all!(&frame, check_names);
    }
}

fn check_names<R, Other>(_: ApiKey, frame: &Frame)
where
    R: Request<Response: Debug> + Debug,
    Other: kafka_protocol::protocol::Request<Response: Debug> + Debug,
{
    if frame.version > Other::VERSIONS.max {
        // A version that the other codec does not have yet.
        assert!(NEWER.contains(&(frame.api, frame.version)), "{}", frame.title());
        return;
    }
    let title = frame.title();
    let mut bytes = frame.bytes.clone();
    let (ours, theirs) = if frame.is_request {
        let header_version = Other::header_version(frame.version);
        kafka_protocol::messages::RequestHeader::decode(&mut bytes, header_version).unwrap();
        let theirs = Other::decode(&mut bytes, frame.version).unwrap_or_else(|e| panic!("{title}: {e}"));
        let (_, ours) = read_request::<R>(frame, frame.bytes.clone()).unwrap();
        (shown(&ours), shown(&theirs))
    } else {
        let header_version = Other::Response::header_version(frame.version);
        kafka_protocol::messages::ResponseHeader::decode(&mut bytes, header_version).unwrap();
        let theirs =
            Other::Response::decode(&mut bytes, frame.version).unwrap_or_else(|e| panic!("{title}: {e}"));
        let (_, ours) = read_response::<R>(frame, frame.bytes.clone()).unwrap();
        (shown(&ours), shown(&theirs))
    };
    assert_eq!(ours, theirs, "{title}");
}

/// A message as text, without what must differ: what only one of the two declares, how records are wrapped, and
/// whether a field that the version does not have is empty or null.
fn shown(message: &impl Debug) -> String {
    let mut text = format!("{message:?}");
    for (differs, same) in DIFFERENCES {
        text = text.replace(differs, same);
    }
    text
}

/// Versions that the other codec does not have yet.
const NEWER: &[(&str, i16)] = &[
    ("DescribeLogDirs", 5),
    ("ListOffsets", 11),
    ("OffsetCommit", 10),
    ("OffsetFetch", 10),
    ("WriteTxnMarkers", 2),
];

const DIFFERENCES: &[(&str, &str)] = &[
    (", unknown_tagged_fields: {}", ""),
    // DescribeLogDirs' version 5 (KIP-1066).
    (", is_cordoned: false", ""),
    // InitProducerId's version 6 (KIP-939).
    (", enable_2_pc: false, keep_prepared_txn: false", ""),
    (
        ", ongoing_txn_producer_id: -1, ongoing_txn_producer_epoch: -1",
        "",
    ),
    ("Bytes(b\"", "b\""),
    ("\"))", "\")"),
    ("Some(\"\")", "None"),
    ("Some([])", "None"),
    // Kafka calls what is asked for and what is answered by the same name; here both are in one file.
    ("[TopicRequest {", "[TopicData {"),
    ("[PartitionRequest {", "[PartitionData {"),
];

#[test]
fn a_frame_that_ends_early_is_an_error_wherever_it_ends() {
    for frame in frames() {
        for_all!(&frame, check_prefixes);
    }
}

fn check_prefixes<R: Request, Other>(_: ApiKey, frame: &Frame) {
    for end in 0..frame.bytes.len() {
        let part = frame.bytes.slice(..end);
        let read = match frame.is_request {
            true => read_request::<R>(frame, part).map(drop),
            false => read_response::<R>(frame, part).map(drop),
        };
        assert!(read.is_err(), "{}: {end} bytes are enough", frame.title());
    }
}

#[test]
fn a_frame_with_a_wrong_byte_is_read_or_refused() {
    for frame in frames() {
        for_all!(&frame, check_wrong_bytes);
    }
}

/// Lengths and counts become negative, huge or off by one; nothing may panic, and what is read can be written.
fn check_wrong_bytes<R: Request, Other>(_: ApiKey, frame: &Frame) {
    for at in 0..frame.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = frame.bytes.to_vec();
            bytes[at] ^= flip;
            let bytes = Bytes::from(bytes);
            let mut writer = Writer::new();
            if frame.is_request {
                if let Ok((_, body)) = read_request::<R>(frame, bytes) {
                    body.encode(&mut writer, frame.version).unwrap();
                }
            } else if let Ok((_, body)) = read_response::<R>(frame, bytes) {
                body.encode(&mut writer, frame.version).unwrap();
            }
        }
    }
}

#[test]
fn every_api_has_frames() {
    let missing: Vec<_> = ApiKey::iter()
        .filter(|key| !frames().any(|frame| frame.api == key.name()))
        .collect();
    assert_eq!(missing, []);
}

fn read_request<R: Request>(frame: &Frame, bytes: Bytes) -> Result<(RequestHeader, R), String> {
    let mut reader = Reader::new(bytes);
    let header = RequestHeader::decode(&mut reader).map_err(|error| error.to_string())?;
    let body = read::<R>(frame, reader)?;
    Ok((header, body))
}

fn read_response<R: Request>(frame: &Frame, bytes: Bytes) -> Result<(ResponseHeader, R::Response), String> {
    let mut reader = Reader::new(bytes);
    let version = R::KEY.response_header_version(frame.version);
    let header = ResponseHeader::decode(&mut reader, version).map_err(|error| error.to_string())?;
    let body = read::<R::Response>(frame, reader)?;
    Ok((header, body))
}

fn read<M: Message>(frame: &Frame, mut reader: Reader) -> Result<M, String> {
    let body = M::decode(&mut reader, frame.version).map_err(|error| error.to_string())?;
    match reader.remaining() {
        0 => Ok(body),
        more => Err(format!("{more} bytes too many")),
    }
}

fn written(writer: Writer) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in writer.finish() {
        match chunk {
            Chunk::Bytes(chunk) => bytes.extend_from_slice(&chunk),
            Chunk::External { .. } => panic!("nothing that was read lies in a file"),
        }
    }
    bytes
}

fn from_hex(text: &str) -> Bytes {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
