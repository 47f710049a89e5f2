//! Records of a group that follows KIP-848, in the formats of Kafka 4.3.
//!
//! Key numbers: `ConsumerGroupMetadata` 3, `ConsumerGroupMemberMetadata` 5, `ConsumerGroupTargetAssignmentMetadata` 6,
//! `ConsumerGroupTargetAssignmentMember` 7, `ConsumerGroupCurrentMemberAssignment` 8, `ConsumerGroupRegularExpression`
//! 16. Kafka wrote `ConsumerGroupPartitionMetadata` (4) before it had a hash in its place; it is skipped. All values
//! have version 0, which is flexible (KIP-482); keys are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::ids::{PartitionIndex, TopicId};
use crate::record_bytes::{Input, Output, RecordError};

/// Which part of which group a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerKey {
    /// Group.
    pub group: Arc<str>,
    /// The part.
    pub part: Part,
}

/// A part of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The group itself.
    Group,
    /// What a member wants.
    Member(Arc<str>),
    /// How new the target assignment is.
    Target,
    /// What a member shall have.
    TargetOf(Arc<str>),
    /// What a member has.
    Current(Arc<str>),
    /// The topics that a regular expression means.
    Pattern(Arc<str>),
}

/// What is so now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerValue {
    /// The group itself.
    Group(EpochValue),
    /// What a member wants.
    Member(MemberValue),
    /// How new the target assignment is.
    Target(TargetValue),
    /// What a member shall have.
    TargetOf(Partitions),
    /// What a member has.
    Current(CurrentValue),
    /// The topics that a regular expression means.
    Pattern(PatternValue),
}

/// Partitions, by topic. No topic is there without any.
pub type Partitions = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;
/// Partitions, each with the member epoch in which it was given (KIP-1251). No topic is there without any.
pub type Held = BTreeMap<TopicId, BTreeMap<PartitionIndex, i32>>;

/// A group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EpochValue {
    /// Counts the changes of members, their subscriptions and the topics that these mean.
    pub epoch: i32,
    /// Says whether the topics that members subscribe to are still those of this epoch.
    pub metadata_hash: i64,
}

/// What a member wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberValue {
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Where it runs.
    pub rack: Option<String>,
    /// Client id, for people.
    pub client_id: String,
    /// Address, for people.
    pub client_host: String,
    /// Names of topics that it wants.
    pub topics: BTreeSet<Arc<str>>,
    /// Regular expression for the names of topics that it wants, too.
    pub pattern: Option<Arc<str>>,
    /// How long it may take to give partitions back, in milliseconds; -1 if unknown.
    pub rebalance_timeout_ms: i32,
    /// Assignor that it prefers.
    pub assignor: Option<String>,
    /// What it joined with, if it speaks the classic protocol.
    pub classic: Option<ClassicValue>,
}

/// A member of the classic protocol in a group that follows KIP-848.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicValue {
    /// Without a sign of life for so long, the member is out. Milliseconds.
    pub session_timeout_ms: i32,
    /// Assignors that it knows with its subscription for each, the preferred one first.
    pub protocols: Vec<(String, Arc<[u8]>)>,
}

/// How new the target assignment is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetValue {
    /// The group epoch that it was made for.
    pub epoch: i32,
    /// When it was made, in milliseconds since 1970; 0 if unknown.
    pub made_ms: i64,
}

/// What a member has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentValue {
    /// The epoch that the member is to bring.
    pub epoch: i32,
    /// The epoch that it brings if it never heard of the last one.
    pub previous_epoch: i32,
    /// How far it is on the way to the target.
    pub state: MemberState,
    /// Partitions that it may consume.
    pub assigned: Held,
    /// Partitions that it has to give back first.
    pub revoking: Held,
}

/// How far a member is on the way to its target assignment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It has what it shall have in its epoch.
    #[default]
    Stable,
    /// It has to give partitions back.
    UnrevokedPartitions,
    /// Others have to give partitions back that are for it.
    UnreleasedPartitions,
    /// A newer broker wrote it.
    Unknown(i8),
}

/// The topics that a regular expression means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatternValue {
    /// Their names.
    pub topics: BTreeSet<Arc<str>>,
    /// Version of the cluster's topics when it was resolved.
    pub version: i64,
    /// When it was resolved, in milliseconds since 1970.
    pub resolved_ms: i64,
}

impl ConsumerKey {
    pub(in crate::group) fn encode(&self, output: &mut Output) {
        let (kind, second) = match &self.part {
            Part::Group => (3, None),
            Part::Member(member) => (5, Some(member)),
            Part::Target => (6, None),
            Part::TargetOf(member) => (7, Some(member)),
            Part::Current(member) => (8, Some(member)),
            Part::Pattern(pattern) => (16, Some(pattern)),
        };
        output.i16(kind);
        output.text(&self.group);
        if let Some(second) = second {
            output.text(second);
        }
    }

    pub(in crate::group) fn decode(kind: i16, input: &mut Input<'_>) -> Result<Self, RecordError> {
        if !matches!(kind, 3 | 5..=8 | 16) {
            return Err(RecordError::Version(kind));
        }
        let group = input.text()?.into();
        let part = match kind {
            3 => Part::Group,
            5 => Part::Member(input.text()?.into()),
            6 => Part::Target,
            7 => Part::TargetOf(input.text()?.into()),
            8 => Part::Current(input.text()?.into()),
            _ => Part::Pattern(input.text()?.into()),
        };
        Ok(Self { group, part })
    }

    pub(in crate::group) fn decode_value(&self, bytes: &[u8]) -> Result<ConsumerValue, RecordError> {
        let mut input = Input::new(bytes);
        input.version(0..=0, 0)?;
        Ok(match self.part {
            Part::Group => ConsumerValue::Group(EpochValue::decode(&mut input)?),
            Part::Member(_) => ConsumerValue::Member(MemberValue::decode(&mut input)?),
            Part::Target => ConsumerValue::Target(TargetValue::decode(&mut input)?),
            Part::TargetOf(_) => ConsumerValue::TargetOf(decode_partitions(&mut input)?),
            Part::Current(_) => ConsumerValue::Current(CurrentValue::decode(&mut input)?),
            Part::Pattern(_) => ConsumerValue::Pattern(PatternValue::decode(&mut input)?),
        })
    }
}

impl ConsumerValue {
    pub(in crate::group) fn encode(&self) -> Vec<u8> {
        let mut output = Output::flexible();
        output.i16(0);
        match self {
            Self::Group(value) => value.encode(&mut output),
            Self::Member(value) => value.encode(&mut output),
            Self::Target(value) => value.encode(&mut output),
            Self::TargetOf(partitions) => encode_partitions(partitions, &mut output),
            Self::Current(value) => value.encode(&mut output),
            Self::Pattern(value) => value.encode(&mut output),
        }
        output.bytes
    }
}

impl EpochValue {
    fn encode(&self, output: &mut Output) {
        output.i32(self.epoch);
        output.tags(&i64_unless_zero(self.metadata_hash));
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let epoch = input.i32()?;
        let metadata_hash = tagged_i64(input)?;
        Ok(Self { epoch, metadata_hash })
    }
}

impl TargetValue {
    fn encode(&self, output: &mut Output) {
        output.i32(self.epoch);
        output.tags(&i64_unless_zero(self.made_ms));
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let epoch = input.i32()?;
        let made_ms = tagged_i64(input)?;
        Ok(Self { epoch, made_ms })
    }
}

impl MemberValue {
    fn encode(&self, output: &mut Output) {
        output.optional(self.instance.as_deref());
        output.optional(self.rack.as_deref());
        output.text(&self.client_id);
        output.text(&self.client_host);
        encode_texts(&self.topics, output);
        output.optional(self.pattern.as_deref());
        output.i32(self.rebalance_timeout_ms);
        output.optional(self.assignor.as_deref());
        // Kafka takes it for an empty one, not for none, if it is left out.
        let classic = self.classic.as_ref();
        output.tags(&[(0, classic.map_or(vec![0], ClassicValue::encode))]);
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let mut value = Self {
            instance: input.optional()?,
            rack: input.optional()?,
            client_id: input.text()?,
            client_host: input.text()?,
            topics: decode_texts(input)?,
            pattern: input.optional()?.filter(|p| !p.is_empty()).map(Arc::from),
            rebalance_timeout_ms: input.i32()?,
            assignor: input.optional()?,
            classic: None,
        };
        input.tagged(|tag, mut field| {
            // A structure that may be null: 1 says that it is there, 0 that it is not.
            if tag == 0 && field.varint()? == 1 {
                value.classic = Some(ClassicValue::decode(&mut field)?);
            }
            Ok(())
        })?;
        Ok(value)
    }
}

impl ClassicValue {
    fn encode(&self) -> Vec<u8> {
        let mut output = Output::flexible();
        output.varint(1);
        output.i32(self.session_timeout_ms);
        output.count(Some(self.protocols.len()));
        for (name, metadata) in &self.protocols {
            output.text(name);
            output.data(metadata);
            output.tags(&[]);
        }
        output.tags(&[]);
        output.bytes
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let session_timeout_ms = input.i32()?;
        let mut protocols = Vec::new();
        for _ in 0..input.count()? {
            protocols.push((input.text()?, input.data()?.into()));
            input.tags()?;
        }
        input.tags()?;
        Ok(Self {
            session_timeout_ms,
            protocols,
        })
    }
}

impl CurrentValue {
    fn encode(&self, output: &mut Output) {
        output.i32(self.epoch);
        output.i32(self.previous_epoch);
        output.i8(self.state.number());
        encode_held(&self.assigned, output);
        encode_held(&self.revoking, output);
        output.tags(&[]);
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let epoch = input.i32()?;
        let value = Self {
            epoch,
            previous_epoch: input.i32()?,
            state: MemberState::from_number(input.i8()?),
            assigned: decode_held(input, epoch)?,
            revoking: decode_held(input, epoch)?,
        };
        input.tags()?;
        Ok(value)
    }
}

impl MemberState {
    fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown(number) => number,
        }
    }

    fn from_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            number => Self::Unknown(number),
        }
    }
}

impl PatternValue {
    fn encode(&self, output: &mut Output) {
        encode_texts(&self.topics, output);
        output.i64(self.version);
        output.i64(self.resolved_ms);
        output.tags(&[]);
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        let value = Self {
            topics: decode_texts(input)?,
            version: input.i64()?,
            resolved_ms: input.i64()?,
        };
        input.tags()?;
        Ok(value)
    }
}

fn i64_unless_zero(value: i64) -> Vec<(u32, Vec<u8>)> {
    match value {
        0 => Vec::new(),
        value => vec![(0, value.to_be_bytes().to_vec())],
    }
}

fn tagged_i64(input: &mut Input<'_>) -> Result<i64, RecordError> {
    let mut value = 0;
    input.tagged(|tag, mut field| {
        if tag == 0 {
            value = field.i64()?;
        }
        Ok(())
    })?;
    Ok(value)
}

fn encode_texts(texts: &BTreeSet<Arc<str>>, output: &mut Output) {
    output.count(Some(texts.len()));
    for text in texts {
        output.text(text);
    }
}

fn decode_texts(input: &mut Input<'_>) -> Result<BTreeSet<Arc<str>>, RecordError> {
    (0..input.count()?).map(|_| input.text().map(Arc::from)).collect()
}

fn encode_partitions(partitions: &Partitions, output: &mut Output) {
    output.count(Some(partitions.len()));
    for (topic, partitions) in partitions {
        encode_topic(*topic, output);
        output.count(Some(partitions.len()));
        for partition in partitions {
            output.i32(partition.0);
        }
        output.tags(&[]);
    }
    output.tags(&[]);
}

fn decode_partitions(input: &mut Input<'_>) -> Result<Partitions, RecordError> {
    let mut decoded = Partitions::new();
    for _ in 0..input.count()? {
        let topic = decode_topic(input)?;
        let partitions = decode_numbers(input)?;
        input.tags()?;
        if !partitions.is_empty() {
            let partitions = partitions.into_iter().map(PartitionIndex);
            decoded.entry(topic).or_default().extend(partitions);
        }
    }
    input.tags()?;
    Ok(decoded)
}

fn encode_held(held: &Held, output: &mut Output) {
    output.count(Some(held.len()));
    for (topic, partitions) in held {
        encode_topic(*topic, output);
        output.count(Some(partitions.len()));
        let mut epochs = Output::flexible();
        epochs.count(Some(partitions.len()));
        for (partition, epoch) in partitions {
            output.i32(partition.0);
            epochs.i32(*epoch);
        }
        output.tags(&[(0, epochs.bytes)]);
    }
}

/// Kafka before 4.3 wrote no epochs: the member's own stands for them.
fn decode_held(input: &mut Input<'_>, member_epoch: i32) -> Result<Held, RecordError> {
    let mut decoded = Held::new();
    for _ in 0..input.count()? {
        let topic = decode_topic(input)?;
        let partitions = decode_numbers(input)?;
        let mut epochs = Vec::new();
        input.tagged(|tag, mut field| {
            if tag == 0 {
                epochs = decode_numbers(&mut field)?;
            }
            Ok(())
        })?;
        if epochs.is_empty() {
            epochs = vec![member_epoch; partitions.len()];
        }
        if epochs.len() != partitions.len() {
            return Err(RecordError::Length);
        }
        if !partitions.is_empty() {
            let pairs = partitions.into_iter().map(PartitionIndex).zip(epochs);
            decoded.entry(topic).or_default().extend(pairs);
        }
    }
    Ok(decoded)
}

fn encode_topic(topic: TopicId, output: &mut Output) {
    let (high, low) = topic.0.as_u64_pair();
    output.i64(high as i64);
    output.i64(low as i64);
}

fn decode_topic(input: &mut Input<'_>) -> Result<TopicId, RecordError> {
    let (high, low) = (input.i64()?, input.i64()?);
    Ok(TopicId(Uuid::from_u64_pair(high as u64, low as u64)))
}

fn decode_numbers(input: &mut Input<'_>) -> Result<Vec<i32>, RecordError> {
    (0..input.count()?).map(|_| input.i32()).collect()
}
