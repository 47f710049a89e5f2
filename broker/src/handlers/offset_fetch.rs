//! OffsetFetch: how far groups have read; several groups at a time from version 8 on (KIP-709). Who wants stable offsets
//! hears of none that a transaction may change (KIP-447).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::is_reserved;
use millstream_core::group::{CommittedOffset, GroupError, Groups, OffsetValue, Step};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers with what is on the disk; -1 where nothing was committed.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch_group(context, version, group, request.require_stable).await);
        }
        return OffsetFetchResponse {
            groups,
            ..Default::default()
        };
    }
    let topics = request.topics.map(|topics| {
        topics.into_iter().map(|topic| Asked {
            name: topic.name,
            id: Uuid::nil(),
            partitions: topic.partition_indexes,
        })
    });
    let all = topics.is_none();
    let asked: Vec<Asked> = topics.into_iter().flatten().collect();
    let wanted = (!all).then_some(&asked);
    let who = Who {
        group: &request.group_id,
        member: None,
        epoch: NO_EPOCH,
    };
    match fetch(context, who, wanted, request.require_stable).await {
        Ok(found) => OffsetFetchResponse {
            topics: found.into_iter().map(Found::into_topic).collect(),
            ..Default::default()
        },
        Err(error) => refuse_old(version, code(error), asked),
    }
}

/// Who asks. Members of groups of the new protocol say so from version 9 on.
struct Who<'a> {
    group: &'a str,
    member: Option<&'a str>,
    epoch: i32,
}

/// The epoch of who is no member.
const NO_EPOCH: i32 = -1;

/// A topic that is asked for.
struct Asked {
    name: Text,
    id: Uuid,
    partitions: Vec<i32>,
}

/// A topic with its answers.
struct Found {
    name: Text,
    id: Uuid,
    partitions: Vec<OffsetFetchResponsePartitions>,
}

async fn fetch_group(
    context: &Arc<Context>,
    version: i16,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    let asked = group.topics.map(|topics| {
        let mut asked = Vec::with_capacity(topics.len());
        for topic in topics {
            let partitions = topic.partition_indexes;
            if version < 10 {
                asked.push(Asked {
                    name: topic.name,
                    id: Uuid::nil(),
                    partitions,
                });
                continue;
            }
            match context.topics.find("", topic.topic_id) {
                Ok(found) => {
                    let name = Text::from(found.name.as_str());
                    asked.push(Asked {
                        name,
                        id: topic.topic_id,
                        partitions,
                    });
                }
                Err(_) => {
                    let partitions = partitions
                        .into_iter()
                        .map(|p| nothing(p, ErrorCode::UnknownTopicId))
                        .collect();
                    unknown.push(Found {
                        name: Text::default(),
                        id: topic.topic_id,
                        partitions,
                    });
                }
            }
        }
        asked
    });
    let answer = OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        ..Default::default()
    };
    let who = Who {
        group: &group.group_id,
        member: group.member_id.as_deref(),
        epoch: group.member_epoch,
    };
    match fetch(context, who, asked.as_ref(), require_stable).await {
        Ok(mut found) => {
            if version >= 10 && asked.is_none() {
                found.retain_mut(|topic| match context.topics.find(&topic.name, Uuid::nil()) {
                    Ok(known) => {
                        topic.id = known.id;
                        true
                    }
                    Err(_) => false,
                });
            }
            let topics = found.into_iter().chain(unknown).map(Found::into_topics).collect();
            OffsetFetchResponseGroup { topics, ..answer }
        }
        Err(error) => OffsetFetchResponseGroup {
            error_code: code(error).code(),
            ..answer
        },
    }
}

async fn fetch(
    context: &Context,
    who: Who<'_>,
    asked: Option<&Vec<Asked>>,
    require_stable: bool,
) -> Result<Vec<Found>, GroupError> {
    let group = who.group;
    let shard = context.groups.shard(group)?;
    let may = |groups: &Groups| groups.check_fetch(group, who.member, who.epoch);
    let Some(asked) = asked else {
        let look = |groups: &mut Groups, _| {
            let offsets = may(groups).map(|()| groups.fetch_offsets(group, require_stable));
            (offsets, Step::default())
        };
        return Ok(by_topic(shard.call(look).await??));
    };
    // Brokers that take over a transform go on from what they hear.
    let confirms = require_stable && is_reserved(group);
    let look = |groups: &mut Groups, _| {
        let mut step = Step::default();
        let mut answer = |topic: &Asked, partition| {
            let found = groups.fetch_offset(group, &topic.name, partition, require_stable);
            if confirms && found.is_ok() {
                let record = groups.confirmation(group, &topic.name, partition);
                step.records.push(record);
            }
            answer(partition, found)
        };
        let find = |topic: &Asked| Found {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.iter().map(|p| answer(topic, *p)).collect(),
        };
        let found = may(groups).map(|()| asked.iter().map(find).collect());
        (found, step)
    };
    shard.call(look).await?
}

fn answer(partition: i32, found: Result<Option<&OffsetValue>, GroupError>) -> OffsetFetchResponsePartitions {
    match found {
        Ok(Some(value)) => OffsetFetchResponsePartitions {
            partition_index: partition,
            committed_offset: value.offset,
            committed_leader_epoch: value.leader_epoch,
            metadata: Some(Text::from(value.metadata.as_str())),
            ..Default::default()
        },
        Ok(None) => nothing(partition, ErrorCode::None),
        Err(error) => nothing(partition, code(error)),
    }
}

fn by_topic(offsets: Vec<CommittedOffset>) -> Vec<Found> {
    let mut topics: BTreeMap<Arc<str>, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for offset in offsets {
        topics
            .entry(offset.topic)
            .or_default()
            .push(OffsetFetchResponsePartitions {
                partition_index: offset.partition,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch,
                metadata: Some(Text::from(offset.metadata)),
                error_code: offset.error.map_or(ErrorCode::None, code).code(),
                ..Default::default()
            });
    }
    topics
        .into_iter()
        .map(|(name, partitions)| Found {
            name: Text::from(&*name),
            id: Uuid::nil(),
            partitions,
        })
        .collect()
}

fn nothing(partition_index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Text::default()),
        error_code: code.code(),
        ..Default::default()
    }
}

/// Versions 0 and 1 have no place for the error of a group: it stands at every partition.
fn refuse_old(version: i16, code: ErrorCode, asked: Vec<Asked>) -> OffsetFetchResponse {
    if version >= 2 {
        return OffsetFetchResponse {
            error_code: code.code(),
            ..Default::default()
        };
    }
    let refuse = |topic: Asked| Found {
        partitions: topic.partitions.into_iter().map(|p| nothing(p, code)).collect(),
        name: topic.name,
        id: topic.id,
    };
    OffsetFetchResponse {
        topics: asked.into_iter().map(|t| refuse(t).into_topic()).collect(),
        ..Default::default()
    }
}

impl Found {
    fn into_topics(self) -> OffsetFetchResponseTopics {
        let Self { name, id, partitions } = self;
        OffsetFetchResponseTopics {
            name,
            topic_id: id,
            partitions,
            ..Default::default()
        }
    }

    fn into_topic(self) -> OffsetFetchResponseTopic {
        let partition = |p: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
            partition_index: p.partition_index,
            committed_offset: p.committed_offset,
            committed_leader_epoch: p.committed_leader_epoch,
            metadata: p.metadata,
            error_code: p.error_code,
            ..Default::default()
        };
        let partitions = self.partitions.into_iter().map(partition).collect();
        OffsetFetchResponseTopic {
            name: self.name,
            partitions,
            ..Default::default()
        }
    }
}
