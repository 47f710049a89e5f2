//! Records of `__consumer_offsets` in Kafka's binary formats.
//!
//! Keys: `OffsetCommitKey` (versions 0 and 1) and `GroupMetadataKey` (2). Values: `OffsetCommitValue` (read 0 to 4,
//! written 3) and `GroupMetadataValue` (read 0 to 4, written 3). Each begins with its version. Those of groups that
//! follow KIP-848 are in `consumer/record.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumer::record::{ConsumerKey, ConsumerValue};
pub use crate::record_bytes::RecordError;
pub(super) use crate::record_bytes::TEXT_BYTES_MAX;
use crate::record_bytes::{Input, Output};

/// One record: a value, or none where what the key names is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// What is so now.
    pub value: Option<Value>,
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The offset of a group in a partition.
    Offset {
        /// Group.
        group: Arc<str>,
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
    },
    /// A group itself.
    Group {
        /// Group.
        group: Arc<str>,
    },
    /// A part of a group that follows KIP-848.
    Consumer(ConsumerKey),
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An offset.
    Offset(OffsetValue),
    /// A generation of a group.
    Group(GroupValue),
    /// A part of a group that follows KIP-848.
    Consumer(ConsumerValue),
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// Text of the client's.
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970.
    pub commit_ms: i64,
    /// When it expires, where an old client said so; -1 otherwise.
    pub expire_ms: i64,
}

/// A generation of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupValue {
    /// Kind of the group.
    pub protocol_type: String,
    /// Generation.
    pub generation: i32,
    /// Assignor; none for an empty group.
    pub protocol: Option<String>,
    /// Member that assigns; none for an empty group.
    pub leader: Option<Arc<str>>,
    /// Since when the group is so, in milliseconds since 1970.
    pub state_since_ms: Option<i64>,
    /// Members, by id.
    pub members: BTreeMap<Arc<str>, MemberValue>,
}

/// A member of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// Instance id.
    pub instance: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Address.
    pub client_host: String,
    /// In milliseconds.
    pub rebalance_timeout_ms: i32,
    /// In milliseconds.
    pub session_timeout_ms: i32,
    /// Subscription for the chosen assignor.
    pub subscription: Arc<[u8]>,
    /// What it consumes.
    pub assignment: Arc<[u8]>,
}

impl Record {
    /// Key and value as bytes.
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        (self.key.encode(), self.value.as_ref().map(Value::encode))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Damaged bytes, or a version that is not known.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut input = Input::new(key);
        let key = match input.i16()? {
            0 | 1 => Key::Offset {
                group: input.text()?.into(),
                topic: input.text()?.into(),
                partition: input.i32()?,
            },
            2 => Key::Group {
                group: input.text()?.into(),
            },
            kind => Key::Consumer(ConsumerKey::decode(kind, &mut input)?),
        };
        let value = match (value, &key) {
            (None, _) => None,
            (Some(bytes), Key::Offset { .. }) => Some(Value::Offset(OffsetValue::decode(bytes)?)),
            (Some(bytes), Key::Group { .. }) => Some(Value::Group(GroupValue::decode(bytes)?)),
            (Some(bytes), Key::Consumer(key)) => Some(Value::Consumer(key.decode_value(bytes)?)),
        };
        Ok(Self { key, value })
    }
}

impl Key {
    fn encode(&self) -> Vec<u8> {
        let mut output = Output::default();
        match self {
            Self::Offset {
                group,
                topic,
                partition,
            } => {
                output.i16(1);
                output.text(group);
                output.text(topic);
                output.i32(*partition);
            }
            Self::Group { group } => {
                output.i16(2);
                output.text(group);
            }
            Self::Consumer(key) => key.encode(&mut output),
        }
        output.bytes
    }
}

impl Value {
    fn encode(&self) -> Vec<u8> {
        let mut output = Output::default();
        match self {
            Self::Offset(value) => value.encode(&mut output),
            Self::Group(value) => value.encode(&mut output),
            Self::Consumer(value) => return value.encode(),
        }
        output.bytes
    }
}

impl OffsetValue {
    fn encode(&self, output: &mut Output) {
        output.i16(3);
        output.i64(self.offset);
        output.i32(self.leader_epoch);
        output.text(&self.metadata);
        output.i64(self.commit_ms);
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Input::new(bytes);
        let version = input.version(0..=4, 4)?;
        Ok(Self {
            offset: input.i64()?,
            leader_epoch: if version >= 3 { input.i32()? } else { -1 },
            metadata: input.text()?,
            commit_ms: input.i64()?,
            expire_ms: if version == 1 { input.i64()? } else { -1 },
        })
    }
}

impl GroupValue {
    fn encode(&self, output: &mut Output) {
        output.i16(3);
        output.text(&self.protocol_type);
        output.i32(self.generation);
        output.optional(self.protocol.as_deref());
        output.optional(self.leader.as_deref());
        output.i64(self.state_since_ms.unwrap_or(-1));
        output.count(Some(self.members.len()));
        for (id, member) in &self.members {
            output.text(id);
            output.optional(member.instance.as_deref());
            output.text(&member.client_id);
            output.text(&member.client_host);
            output.i32(member.rebalance_timeout_ms);
            output.i32(member.session_timeout_ms);
            output.data(&member.subscription);
            output.data(&member.assignment);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Input::new(bytes);
        let version = input.version(0..=4, 4)?;
        let mut value = Self {
            protocol_type: input.text()?,
            generation: input.i32()?,
            protocol: input.optional()?,
            leader: input.optional()?.map(Arc::from),
            state_since_ms: if version >= 2 {
                Some(input.i64()?).filter(|at| *at >= 0)
            } else {
                None
            },
            members: BTreeMap::new(),
        };
        for _ in 0..input.count()? {
            let id = input.text()?;
            let instance = if version >= 3 { input.optional()? } else { None };
            let (client_id, client_host) = (input.text()?, input.text()?);
            let rebalance_timeout_ms = if version >= 1 { Some(input.i32()?) } else { None };
            let session_timeout_ms = input.i32()?;
            let member = MemberValue {
                instance,
                client_id,
                client_host,
                rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
                session_timeout_ms,
                subscription: input.data()?.into(),
                assignment: input.data()?.into(),
            };
            input.tags()?;
            value.members.insert(id.into(), member);
        }
        Ok(value)
    }
}

/// Topics of a consumer's subscription (`ConsumerProtocolSubscription`); none if it is something else.
pub(super) fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut input = Input::new(subscription);
    input.i16().ok().filter(|version| *version >= 0)?;
    let count = input.count().ok()?;
    (0..count).map(|_| input.text().ok()).collect()
}
