//! Kafka's error codes.

use std::fmt;

macro_rules! error_codes {
    (@retriable retriable) => { true };
    (@retriable final) => { false };

    ($( $name:ident = $code:literal, $kind:tt, $message:literal; )*) => {
        /// An error code of the protocol, as in Kafka's class `Errors`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $( #[doc = concat!("Code ", $code, ": ", $message, ".")] $name = $code, )*
        }

        impl ErrorCode {
            /// All of them, by ascending code.
            pub const ALL: &[Self] = &[ $( Self::$name, )* ];

            /// The error with a code; one that is not known is [`ErrorCode::UnknownServerError`], as in Kafka.
            pub const fn from_i16(code: i16) -> Self {
                match code {
                    $( $code => Self::$name, )*
                    _ => Self::UnknownServerError,
                }
            }

            /// What happened, in a few words.
            pub const fn message(self) -> &'static str {
                match self {
                    $( Self::$name => $message, )*
                }
            }

            /// Whether the same request may succeed later, perhaps at another broker.
            pub const fn retriable(self) -> bool {
                match self {
                    $( Self::$name => error_codes!(@retriable $kind), )*
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, final, "the server met an error that it has no code for";
    None = 0, final, "no error";
    OffsetOutOfRange = 1, final, "the partition has no such offset";
    CorruptMessage = 2, retriable, "the records were damaged on their way, or may not be in this topic";
    UnknownTopicOrPartition = 3, retriable, "there is no such topic or partition here";
    InvalidFetchSize = 4, final, "a fetch asked for an impossible size";
    LeaderNotAvailable = 5, retriable, "the partition has no leader at the moment";
    NotLeaderOrFollower = 6, retriable, "this broker does not lead or replicate the partition";
    RequestTimedOut = 7, retriable, "the time for the request was over";
    BrokerNotAvailable = 8, final, "the broker is not available";
    ReplicaNotAvailable = 9, retriable, "the replica is not available";
    MessageTooLarge = 10, final, "the records are larger than the server accepts";
    StaleControllerEpoch = 11, final, "another controller has taken over";
    OffsetMetadataTooLarge = 12, final, "the metadata of a committed offset is too large";
    NetworkException = 13, retriable, "the connection ended before the response came";
    CoordinatorLoadInProgress = 14, retriable, "the coordinator is still loading its state";
    CoordinatorNotAvailable = 15, retriable, "there is no coordinator at the moment";
    NotCoordinator = 16, retriable, "this broker is not the coordinator";
    InvalidTopicException = 17, final, "the topic's name is not valid, or this may not be done to the topic";
    RecordListTooLarge = 18, final, "the batch is larger than a segment of the log may be";
    NotEnoughReplicas = 19, retriable, "too few replicas are in sync to accept records";
    NotEnoughReplicasAfterAppend = 20, retriable, "the records were written to fewer replicas than required";
    InvalidRequiredAcks = 21, final, "acks must be 0, 1 or -1";
    IllegalGeneration = 22, final, "the group is in another generation";
    InconsistentGroupProtocol = 23, final, "the member has no protocol that all members of the group have";
    InvalidGroupId = 24, final, "the group's id is not valid";
    UnknownMemberId = 25, final, "the group has no such member";
    InvalidSessionTimeout = 26, final, "the session timeout is outside the range that the broker allows";
    RebalanceInProgress = 27, final, "the group is rebalancing: join again";
    InvalidCommitOffsetSize = 28, final, "the commit of offsets is too large";
    TopicAuthorizationFailed = 29, final, "not authorised for the topic";
    GroupAuthorizationFailed = 30, final, "not authorised for the group";
    ClusterAuthorizationFailed = 31, final, "not authorised for the cluster";
    InvalidTimestamp = 32, final, "a record's timestamp is outside the range that the topic accepts";
    UnsupportedSaslMechanism = 33, final, "the broker does not offer this SASL mechanism";
    IllegalSaslState = 34, final, "the request does not fit the state of the SASL handshake";
    UnsupportedVersion = 35, final, "this version of the API is not supported";
    TopicAlreadyExists = 36, final, "the topic exists already";
    InvalidPartitions = 37, final, "the number of partitions is not valid";
    InvalidReplicationFactor = 38, final, "the replication factor is not positive or above the number of brokers";
    InvalidReplicaAssignment = 39, final, "the assignment of replicas is not valid";
    InvalidConfig = 40, final, "the configuration is not valid";
    NotController = 41, retriable, "this broker is not the controller";
    InvalidRequest = 42, final, "the request makes no sense";
    UnsupportedForMessageFormat = 43, final, "the format of the records does not allow this";
    PolicyViolation = 44, final, "a policy of the server forbids this";
    OutOfOrderSequenceNumber = 45, final, "a batch of the producer is missing before this one";
    DuplicateSequenceNumber = 46, final, "the batch was written before";
    InvalidProducerEpoch = 47, final, "the producer has an old epoch";
    InvalidTxnState = 48, final, "the transaction is in another state";
    InvalidProducerIdMapping = 49, final, "the producer id belongs to another transactional id";
    InvalidTransactionTimeout = 50, final, "the transaction timeout is larger than the broker allows";
    ConcurrentTransactions = 51, retriable, "the previous transaction is not over yet";
    TransactionCoordinatorFenced = 52, final, "another coordinator has taken over the transaction";
    TransactionalIdAuthorizationFailed = 53, final, "not authorised for the transactional id";
    SecurityDisabled = 54, final, "security is turned off";
    OperationNotAttempted = 55, final, "the operation was not tried";
    KafkaStorageError = 56, retriable, "the disk failed";
    LogDirNotFound = 57, final, "there is no such data folder";
    SaslAuthenticationFailed = 58, final, "authentication failed";
    UnknownProducerId = 59, final, "the broker does not know the producer, whose records may be gone";
    ReassignmentInProgress = 60, final, "the partition is being reassigned";
    DelegationTokenAuthDisabled = 61, final, "delegation tokens are turned off";
    DelegationTokenNotFound = 62, final, "there is no such delegation token";
    DelegationTokenOwnerMismatch = 63, final, "the delegation token belongs to someone else";
    DelegationTokenRequestNotAllowed = 64, final, "delegation tokens are not given out over this connection";
    DelegationTokenAuthorizationFailed = 65, final, "not authorised for the delegation token";
    DelegationTokenExpired = 66, final, "the delegation token has expired";
    InvalidPrincipalType = 67, final, "this type of principal is not supported";
    NonEmptyGroup = 68, final, "the group has members";
    GroupIdNotFound = 69, final, "there is no such group";
    FetchSessionIdNotFound = 70, retriable, "there is no such fetch session";
    InvalidFetchSessionEpoch = 71, retriable, "the fetch session is at another epoch";
    ListenerNotFound = 72, retriable, "the leader has no listener of this name";
    TopicDeletionDisabled = 73, final, "topics cannot be deleted here";
    FencedLeaderEpoch = 74, retriable, "the request's leader epoch is older than the partition's";
    UnknownLeaderEpoch = 75, retriable, "the request's leader epoch is newer than the partition's";
    UnsupportedCompressionType = 76, final, "this codec is not supported";
    StaleBrokerEpoch = 77, final, "the broker has a newer epoch";
    OffsetNotAvailable = 78, retriable, "a new leader does not know its high watermark yet";
    MemberIdRequired = 79, final, "join again with the member id that was given";
    PreferredLeaderNotAvailable = 80, retriable, "the preferred leader is not available";
    GroupMaxSizeReached = 81, final, "the group is full";
    FencedInstanceId = 82, final, "another member took over this group.instance.id";
    EligibleLeadersNotAvailable = 83, retriable, "no replica may become leader";
    ElectionNotNeeded = 84, retriable, "the partition needs no election";
    NoReassignmentInProgress = 85, final, "the partition is not being reassigned";
    GroupSubscribedToTopic = 86, final, "the group still subscribes to the topic";
    InvalidRecord = 87, final, "the broker refused a record";
    UnstableOffsetCommit = 88, retriable, "an open transaction may still change the offsets";
    ThrottlingQuotaExceeded = 89, retriable, "a quota is used up";
    ProducerFenced = 90, final, "a newer producer has the same transactional id";
    ResourceNotFound = 91, final, "there is no such resource";
    DuplicateResource = 92, final, "the request names a resource twice";
    UnacceptableCredential = 93, final, "the credential is not acceptable";
    InconsistentVoterSet = 94, final, "the voters of sender and receiver differ";
    InvalidUpdateVersion = 95, final, "the version of the update is not valid";
    FeatureUpdateFailed = 96, final, "the features could not be updated";
    PrincipalDeserializationFailure = 97, final, "the principal of a forwarded request cannot be read";
    SnapshotNotFound = 98, final, "there is no such snapshot";
    PositionOutOfRange = 99, final, "the snapshot has no such position";
    UnknownTopicId = 100, retriable, "there is no topic with this id here";
    DuplicateBrokerRegistration = 101, final, "another broker has this id";
    BrokerIdNotRegistered = 102, final, "no broker with this id is registered";
    InconsistentTopicId = 103, retriable, "the partition belongs to a topic with another id";
    InconsistentClusterId = 104, final, "this is another cluster";
    TransactionalIdNotFound = 105, final, "there is no such transactional id";
    FetchSessionTopicIdError = 106, retriable, "the fetch session mixes topic ids and names";
    IneligibleReplica = 107, final, "a replica may not be in sync";
    NewLeaderElected = 108, final, "another leader was elected meanwhile";
    OffsetMovedToTieredStorage = 109, final, "the offset is in tiered storage";
    FencedMemberEpoch = 110, final, "the member has an old epoch and must join again";
    UnreleasedInstanceId = 111, final, "another member still has the instance id";
    UnsupportedAssignor = 112, final, "the group does not support the assignor";
    StaleMemberEpoch = 113, final, "the member's epoch is not current";
    MismatchedEndpointType = 114, final, "the request went to the wrong type of endpoint";
    UnsupportedEndpointType = 115, final, "this type of endpoint is not supported";
    UnknownControllerId = 116, final, "there is no such controller";
    UnknownSubscriptionId = 117, final, "the telemetry subscription is outdated";
    TelemetryTooLarge = 118, final, "the telemetry is larger than the broker accepts";
    InvalidRegistration = 119, final, "the controller refused the registration";
    TransactionAbortable = 120, final, "the transaction has to be aborted";
    InvalidRecordState = 121, final, "the record is in another state";
    ShareSessionNotFound = 122, retriable, "there is no such share session";
    InvalidShareSessionEpoch = 123, retriable, "the share session is at another epoch";
    FencedStateEpoch = 124, final, "the state of the share group has another epoch";
    InvalidVoterKey = 125, final, "the voter's key belongs to another replica";
    DuplicateVoter = 126, final, "the voter is in the set already";
    VoterNotFound = 127, final, "the voter is not in the set";
    InvalidRegularExpression = 128, final, "the regular expression is not valid";
    RebootstrapRequired = 129, final, "the client's metadata is outdated: bootstrap again";
    StreamsInvalidTopology = 130, final, "the topology is not valid";
    StreamsInvalidTopologyEpoch = 131, final, "the epoch of the topology is not valid";
    StreamsTopologyFenced = 132, final, "the epoch of the topology is outdated";
    ShareSessionLimitReached = 133, retriable, "there are too many share sessions";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ErrorCode {}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> Self {
        error.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kafkas() {
        use kafka_protocol::error::ResponseError;
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_i16(error.code()), *error);
            match ResponseError::try_from_code(error.code()) {
                Some(theirs) => assert_eq!(format!("{theirs:?}"), format!("{error:?}")),
                None => assert_eq!(*error, ErrorCode::None),
            }
        }
        let beyond = ErrorCode::ALL.last().map_or(0, |last| last.code() + 1);
        assert_eq!(ErrorCode::from_i16(beyond), ErrorCode::UnknownServerError);
        assert!(matches!(
            ResponseError::try_from_code(beyond),
            Some(ResponseError::Unknown(_))
        ));
    }
}
