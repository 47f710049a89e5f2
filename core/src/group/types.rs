//! What goes in and comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumer::{ConsumerConfig, ConsumerState};
use super::record::Record;
use super::state::State;

/// Bounds of groups, with Kafka's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Shortest session timeout that a member may ask for, in milliseconds.
    pub session_timeout_ms_min: i32,
    /// Longest session timeout that a member may ask for, in milliseconds.
    pub session_timeout_ms_max: i32,
    /// How long the first rebalance of an empty group waits for more members, in milliseconds.
    pub initial_delay_ms: i32,
    /// Most members of a group.
    pub members_max: usize,
    /// How long offsets of an empty group are kept, in milliseconds.
    pub offsets_retention_ms: i64,
    /// Longest metadata beside an offset, in bytes.
    pub offset_metadata_bytes_max: usize,
    /// Bounds of groups that follow KIP-848.
    pub consumer: ConsumerConfig,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6000,
            session_timeout_ms_max: 1_800_000,
            initial_delay_ms: 3000,
            members_max: i32::MAX as usize,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offset_metadata_bytes_max: 4096,
            consumer: ConsumerConfig::default(),
        }
    }
}

/// Names a request that is answered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What the driver has to do: append the records and replay them, then, when they are durable, answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "answers and records are lost with it"]
pub struct Step {
    /// To be written in this order; all or nothing.
    pub records: Vec<Record>,
    /// The producer, as id and epoch, in whose transaction they are written: one batch, and [`super::Groups::replay_pending`]
    /// takes them over. None for records that count as soon as they are written.
    pub producer: Option<(i64, i16)>,
    /// Answers to requests, each exactly once.
    pub responses: Vec<(Token, Response)>,
    /// What happened, for whoever counts it.
    pub events: Vec<Event>,
}

/// Something that happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A group of the classic protocol began its next generation.
    ClassicRebalance,
    /// It was decided anew who shall have what in a group of KIP-848.
    ConsumerRebalance,
    /// A client became a member.
    Joined,
    /// A member left, or was taken out by an administrator.
    Left,
    /// A member was silent for too long, or did not come to a rebalance.
    Expired,
    /// A member lost its place: another one came with its instance id, or it did not give back in time what it had to.
    Fenced,
}

/// The answer to a request that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To JoinGroup.
    Join(JoinResponse),
    /// To SyncGroup.
    Sync(SyncResponse),
}

impl Response {
    /// The answer in its place where the records of its step could not be written.
    pub fn failed(self, error: GroupError) -> Self {
        match self {
            Self::Join(join) => Self::Join(JoinResponse {
                error: Some(error),
                ..JoinResponse::to(join.member_id)
            }),
            Self::Sync(_) => Self::Sync(SyncResponse {
                error: Some(error),
                ..SyncResponse::default()
            }),
        }
    }
}

/// Why a request was refused; Kafka's error codes have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// An empty group id where a group is needed.
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// The session timeout lies outside the bounds.
    #[error(
        "the session timeout is not within group.min.session.timeout.ms and group.max.session.timeout.ms"
    )]
    InvalidSessionTimeout,
    /// The member has to come again with the id in the answer (KIP-394).
    #[error("the member has to join with the member id that it was given")]
    MemberIdRequired,
    /// The coordinator does not know the member.
    #[error("the coordinator does not know this member")]
    UnknownMemberId,
    /// The generation is not the group's.
    #[error("the generation is not the current one")]
    IllegalGeneration,
    /// Members of groups that follow KIP-848 have to ask in a later version.
    #[error("a member of a group of the new protocol has to use a later version of the request")]
    UnsupportedVersion,
    /// The member has to join again.
    #[error("the group is rebalancing, so a rejoin is needed")]
    RebalanceInProgress,
    /// Another process has the instance id now (KIP-345).
    #[error("another member has the group instance id")]
    FencedInstanceId,
    /// Members have no protocol in common.
    #[error("the member's protocols do not fit those of the group")]
    InconsistentGroupProtocol,
    /// The group is full.
    #[error("the group has its largest size already")]
    GroupMaxSizeReached,
    /// The coordinator cannot serve now.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// The coordinator is still reading its log.
    #[error("the coordinator is loading")]
    CoordinatorLoadInProgress,
    /// Another broker coordinates the group.
    #[error("this is not the group's coordinator")]
    NotCoordinator,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The group has members.
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// Members consume the topic.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The text beside an offset is too long.
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// The request makes no sense.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// The member has to give all up and join again (KIP-848).
    #[error(
        "the member epoch is not the current one; the member has to give up its partitions and join again"
    )]
    FencedMemberEpoch,
    /// A static member of KIP-848 has not left yet.
    #[error("another member still has the group instance id")]
    UnreleasedInstanceId,
    /// There is no such assignor of KIP-848.
    #[error("the assignor is not supported; supported are uniform and range")]
    UnsupportedAssignor,
    /// The member commits or fetches in an epoch that is not its own.
    #[error("the member epoch is not the current one")]
    StaleMemberEpoch,
    /// A transaction that has not ended may change the offset (KIP-447).
    #[error("a transaction that has not ended may change the offset")]
    UnstableOffsetCommit,
    /// The pattern of a subscription cannot be used.
    #[error("the regular expression is not valid or too large")]
    InvalidRegularExpression,
}

/// Says who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Group.
    pub group: String,
    /// Member id; empty for one that has none yet or is no member.
    pub member: String,
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Generation that the member knows; negative for who is no member.
    pub generation: i32,
}

/// JoinGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Group.
    pub group: String,
    /// Member id; empty for a new member.
    pub member: String,
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Client id, for people.
    pub client_id: String,
    /// Address, for people.
    pub client_host: String,
    /// Without a sign of life for so long, the member is out. Milliseconds.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member. Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Kind of the group: `consumer`, `connect`.
    pub protocol_type: String,
    /// Assignors that the member knows with its subscription for each, the preferred one first.
    pub protocols: Vec<(String, Arc<[u8]>)>,
    /// Whether the client knows member ids that are given before joining (version 4 and later).
    pub knows_required_ids: bool,
    /// Whether the client can be told to keep the assignment (version 9 and later).
    pub can_skip_assignment: bool,
    /// Random text that makes the member's id unique.
    pub unique: String,
}

/// Answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinResponse {
    /// Why the member is not in, where it is not.
    pub error: Option<GroupError>,
    /// The group's generation; -1 with an error.
    pub generation: i32,
    /// Kind of the group.
    pub protocol_type: Option<String>,
    /// The assignor that was chosen.
    pub protocol: Option<String>,
    /// Member that assigns.
    pub leader: String,
    /// Whether the leader shall not assign, because nothing changed (KIP-814).
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinResponse {
    /// An answer to a member that is not in.
    pub(super) fn to(member_id: impl Into<String>) -> Self {
        Self {
            error: None,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// A member as its group's leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its instance id.
    pub instance: Option<String>,
    /// Its subscription.
    pub metadata: Arc<[u8]>,
}

/// SyncGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// Who asks.
    pub who: Identity,
    /// Kind of the group that the member expects.
    pub protocol_type: Option<String>,
    /// Assignor that the member expects.
    pub protocol: Option<String>,
    /// What every member gets, from the leader only.
    pub assignments: BTreeMap<String, Arc<[u8]>>,
}

/// Answer to SyncGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncResponse {
    /// Why there is no assignment.
    pub error: Option<GroupError>,
    /// Kind of the group.
    pub protocol_type: Option<String>,
    /// The assignor.
    pub protocol: Option<String>,
    /// What the member consumes.
    pub assignment: Arc<[u8]>,
}

/// One member that shall leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveMember {
    /// Its id; empty where the instance id says enough.
    pub member: String,
    /// Its instance id.
    pub instance: Option<String>,
}

/// OffsetCommit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// Who asks.
    pub who: Identity,
    /// What to keep.
    pub offsets: Vec<OffsetCommit>,
}

/// TxnOffsetCommit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnCommitRequest {
    /// Who asks. Old clients say only the group, and are let in.
    pub who: Identity,
    /// Id and epoch of the producer in whose transaction the offsets are.
    pub producer: (i64, i16),
    /// What to keep once the transaction is committed.
    pub offsets: Vec<OffsetCommit>,
}

/// One offset to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// Text of the client's.
    pub metadata: String,
}

/// One offset that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The next record to read; -1 if none is kept.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// Text of the client's.
    pub metadata: String,
    /// Why none is told although one is kept.
    pub error: Option<GroupError>,
}

/// A group as DescribeGroups tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: State,
    /// Its kind; empty for one that only keeps offsets.
    pub protocol_type: String,
    /// The assignor, while the group is stable.
    pub protocol: String,
    /// Its members, by id.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its instance id.
    pub instance: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Address.
    pub client_host: String,
    /// Its subscription, while the group is stable.
    pub metadata: Arc<[u8]>,
    /// What it consumes, while the group is stable.
    pub assignment: Arc<[u8]>,
}

/// A group as ListGroups tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: Arc<str>,
    /// Its kind; empty for one that only keeps offsets.
    pub protocol_type: String,
    /// Its state.
    pub state: AnyState,
}

/// What a group is doing, and by which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyState {
    /// The classic protocol.
    Classic(State),
    /// KIP-848.
    Consumer(ConsumerState),
}

impl AnyState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic(state) => state.name(),
            Self::Consumer(state) => state.name(),
        }
    }

    /// Kafka's name of the type of group (KIP-848).
    pub fn group_type(self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }
}
