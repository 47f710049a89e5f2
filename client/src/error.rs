//! What can go wrong between a client and its brokers, worded for the person who reads it.

use millstream_kafka::ErrorCode;

/// Result of a call to a broker.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call to the cluster that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection can be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the operating system or the resolver said.
        reason: String,
    },
    /// The connection ended while an answer was due.
    #[error("connection to {address} ended: {reason}")]
    Disconnected {
        /// Host and port.
        address: String,
        /// Why it ended.
        reason: String,
    },
    /// No answer came in time.
    #[error("{what} took longer than {limit_ms} ms")]
    TimedOut {
        /// The call and to whom.
        what: String,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// Client and broker share no version of an API.
    #[error("{api} is not offered by {address} in a version that this client knows")]
    Unsupported {
        /// Kafka's name of the API.
        api: &'static str,
        /// Host and port.
        address: String,
    },
    /// The broker sent something that is not Kafka's protocol.
    #[error("{address} answered {api} with something unreadable: {reason}")]
    Malformed {
        /// Kafka's name of the API.
        api: &'static str,
        /// Host and port.
        address: String,
        /// What is wrong with the bytes.
        reason: String,
    },
    /// A request that cannot be expressed in the version that was negotiated.
    #[error("{api} cannot be sent: {reason}")]
    Encode {
        /// Kafka's name of the API.
        api: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The broker answered with an error code.
    #[error("{what}: {}", message.as_deref().unwrap_or_else(|| code.message()))]
    Broker {
        /// What was asked for.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// Stored records that cannot be read.
    #[error("damaged records in {topic} partition {partition} at offset {offset}: {reason}")]
    DamagedRecords {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset at which reading was.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// A record larger than the producer may send.
    #[error("a record of {bytes} bytes is larger than the limit of {bytes_max}")]
    RecordTooLarge {
        /// Size of the record.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The producer, consumer or connection was closed.
    #[error("{0} is closed")]
    Closed(&'static str),
}

impl Error {
    /// The error for a code, unless the code says that all is well.
    pub(crate) fn check(code: i16, message: Option<&str>, what: impl FnOnce() -> String) -> Result<()> {
        match ErrorCode::from_i16(code) {
            ErrorCode::None => Ok(()),
            code => Err(Self::Broker {
                what: what(),
                code,
                message: message.filter(|m| !m.is_empty()).map(str::to_owned),
            }),
        }
    }

    /// Kafka's code, where a broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, perhaps with another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } | Self::TimedOut { .. } => true,
            Self::Broker { code, .. } => code.retriable(),
            _ => false,
        }
    }

    /// Whether a group has moved on without this member: the next poll joins it again.
    pub fn is_lost_membership(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId)
        )
    }
}
