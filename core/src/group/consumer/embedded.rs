//! What consumers of the classic protocol put into JoinGroup and get from SyncGroup: Kafka's messages
//! `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`. Newer versions only add fields at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Topics;
use super::record::{Held, Partitions};
use crate::ids::{PartitionIndex, TopicId};
use crate::record_bytes::{Input, Output, RecordError};

/// What a consumer wants and has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: BTreeSet<Arc<str>>,
    /// What it has; nothing if it gives everything back before it joins.
    pub(super) owned: Vec<(String, Vec<PartitionIndex>)>,
    pub(super) rack: Option<String>,
}

impl Subscription {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut input = Input::new(bytes);
        let version = version(&mut input)?;
        let mut subscription = Self::default();
        for _ in 0..input.count()? {
            subscription.topics.insert(input.text()?.into());
        }
        skip_data(&mut input)?;
        if version >= 1 {
            subscription.owned = decode_topics(&mut input)?;
        }
        if version >= 2 {
            input.i32()?;
        }
        if version >= 3 {
            subscription.rack = input.optional()?;
        }
        Ok(subscription)
    }

    /// What it has of topics that exist.
    pub(super) fn owned(&self, topics: &Topics) -> Vec<(TopicId, Vec<PartitionIndex>)> {
        let owned = self.owned.iter();
        owned
            .filter_map(|(name, partitions)| Some((topics.find(name)?.id, partitions.clone())))
            .collect()
    }
}

/// The partitions that a consumer was given; those of topics that do not exist are left out. Nothing was given where
/// there are no bytes.
pub(super) fn decode_assignment(bytes: &[u8], topics: &Topics) -> Result<Partitions, RecordError> {
    let mut assigned = Partitions::new();
    if bytes.is_empty() {
        return Ok(assigned);
    }
    let mut input = Input::new(bytes);
    version(&mut input)?;
    for (name, partitions) in decode_topics(&mut input)? {
        let Some(facts) = topics.find(&name) else {
            continue;
        };
        if !partitions.is_empty() {
            assigned.entry(facts.id).or_default().extend(partitions);
        }
    }
    Ok(assigned)
}

/// What a consumer gets, in the version in which it said what it wants.
pub(super) fn encode_assignment(assigned: &Held, topics: &Topics, subscription: &[u8]) -> Arc<[u8]> {
    let version = version(&mut Input::new(subscription)).unwrap_or(0);
    let named: Vec<_> = assigned
        .iter()
        .filter_map(|(id, partitions)| Some((topics.name(*id)?, partitions)))
        .collect();
    let mut output = Output::default();
    output.i16(version.min(VERSION_MAX));
    output.count(Some(named.len()));
    for (name, partitions) in named {
        output.text(name);
        output.count(Some(partitions.len()));
        for partition in partitions.keys() {
            output.i32(partition.0);
        }
    }
    output.count(None);
    output.bytes.into()
}

fn version(input: &mut Input<'_>) -> Result<i16, RecordError> {
    match input.i16()? {
        version if version < 0 => Err(RecordError::Version(version)),
        version => Ok(version),
    }
}

fn decode_topics(input: &mut Input<'_>) -> Result<Vec<(String, Vec<PartitionIndex>)>, RecordError> {
    let topic = |input: &mut Input<'_>| {
        let name = input.text()?;
        let partitions = (0..input.count()?).map(|_| input.i32().map(PartitionIndex));
        Ok((name, partitions.collect::<Result<_, RecordError>>()?))
    };
    (0..input.count()?).map(|_| topic(input)).collect()
}

/// Bytes that may be null and that only the client's assignor understands.
fn skip_data(input: &mut Input<'_>) -> Result<(), RecordError> {
    for _ in 0..input.count()? {
        input.i8()?;
    }
    Ok(())
}

/// The newest version that is known.
const VERSION_MAX: i16 = 3;
