//! Records of `__consumer_offsets` in Kafka's binary formats.
//!
//! Keys: `OffsetCommitKey` (versions 0 and 1) and `GroupMetadataKey` (2). Values: `OffsetCommitValue` (read 0 to 4,
//! written 3) and `GroupMetadataValue` (read 0 to 4, written 3). Each begins with its version.

use std::collections::BTreeMap;
use std::sync::Arc;

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
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An offset.
    Offset(OffsetValue),
    /// A generation of a group.
    Group(GroupValue),
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

/// Bytes that are no record of a group coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends too early.
    #[error("record ends too early")]
    Truncated,
    /// A length or count is negative or too large.
    #[error("record has an impossible length")]
    Length,
    /// A text is not UTF-8.
    #[error("record has a text that is not UTF-8")]
    Text,
    /// A version that is not known. Logs of newer brokers have keys that older ones skip.
    #[error("record has unknown version {0}")]
    Version(i16),
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
        let mut input = Input {
            rest: key,
            flexible: false,
        };
        let key = match input.i16()? {
            0 | 1 => Key::Offset {
                group: input.text()?.into(),
                topic: input.text()?.into(),
                partition: input.i32()?,
            },
            2 => Key::Group {
                group: input.text()?.into(),
            },
            version => return Err(RecordError::Version(version)),
        };
        let value = match (value, &key) {
            (None, _) => None,
            (Some(bytes), Key::Offset { .. }) => Some(Value::Offset(OffsetValue::decode(bytes)?)),
            (Some(bytes), Key::Group { .. }) => Some(Value::Group(GroupValue::decode(bytes)?)),
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
        let mut input = Input {
            rest: bytes,
            flexible: false,
        };
        let version = input.version(4)?;
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
        output.i32(self.members.len() as i32);
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
        let mut input = Input {
            rest: bytes,
            flexible: false,
        };
        let version = input.version(4)?;
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

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
}

impl Output {
    fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Texts come from requests, where their lengths had the same two bytes or were bounded as those are.
    fn text(&mut self, text: &str) {
        let length =
            i16::try_from(text.len()).expect("texts of groups are checked to be shorter than 32 KiB");
        self.i16(length);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.i16(-1),
        }
    }

    fn data(&mut self, data: &[u8]) {
        self.i32(data.len() as i32);
        self.bytes.extend_from_slice(data);
    }
}

struct Input<'a> {
    rest: &'a [u8],
    /// Whether lengths are varints and structures end in tagged fields (KIP-482).
    flexible: bool,
}

impl<'a> Input<'a> {
    fn version(&mut self, flexible_from: i16) -> Result<i16, RecordError> {
        let version = self.i16()?;
        self.flexible = version >= flexible_from;
        if (0..=4).contains(&version) {
            Ok(version)
        } else {
            Err(RecordError::Version(version))
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        Ok(self
            .take(N)?
            .try_into()
            .expect("take gives as many bytes as it is asked for"))
    }

    fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Length)
    }

    /// A length of `plain` bytes in the old encoding; none for null.
    fn length(&mut self, plain: usize) -> Result<Option<usize>, RecordError> {
        let length = match (self.flexible, plain) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, 2) => i64::from(self.i16()?),
            (false, _) => i64::from(self.i32()?),
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(Some(length)),
            Ok(_) => Err(RecordError::Length),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(RecordError::Length),
        }
    }

    fn optional(&mut self) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(2)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| RecordError::Text)?;
        Ok(Some(text.to_owned()))
    }

    fn text(&mut self) -> Result<String, RecordError> {
        self.optional()?.ok_or(RecordError::Length)
    }

    fn data(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.length(4)?.ok_or(RecordError::Length)?;
        self.take(length)
    }

    fn count(&mut self) -> Result<usize, RecordError> {
        Ok(self.length(4)?.unwrap_or(0))
    }

    fn tags(&mut self) -> Result<(), RecordError> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()? as usize;
                self.take(size)?;
            }
        }
        Ok(())
    }
}

/// Topics of a consumer's subscription (`ConsumerProtocolSubscription`); none if it is something else.
pub(super) fn subscribed_topics(subscription: &[u8]) -> Option<Vec<String>> {
    let mut input = Input {
        rest: subscription,
        flexible: false,
    };
    input.i16().ok().filter(|version| *version >= 0)?;
    let count = input.count().ok()?;
    (0..count).map(|_| input.text().ok()).collect()
}

/// Longest text that a record can hold, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = i16::MAX as usize;
