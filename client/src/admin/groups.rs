//! Consumer groups: list, describe, delete, their committed offsets.

use std::collections::BTreeMap;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::consumer_group_describe::{ConsumerGroupDescribeRequest, Member};
use millstream_kafka::api::delete_groups::DeleteGroupsRequest;
use millstream_kafka::api::describe_groups::DescribeGroupsRequest;
use millstream_kafka::api::list_groups::ListGroupsRequest;
use millstream_kafka::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_kafka::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millstream_kafka::wire::Text;

use super::Admin;
use super::topics::said_nothing;
use crate::cluster::{Client, Purpose};
use crate::consumer::protocol;
use crate::error::{Error, Result};
use crate::metadata::{Broker, TopicPartition};

/// A group, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Id.
    pub group: String,
    /// What its members are: `consumer` for consumers, nothing for a group that only commits.
    pub protocol_type: String,
    /// Kafka's name of its state, where the broker tells.
    pub state: String,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Id.
    pub group: String,
    /// Kafka's name of its state: `Empty`, `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Dead`; of a group of the
    /// new protocol (KIP-848) also `Assigning`, `Reconciling`.
    pub state: String,
    /// How partitions are dealt out.
    pub protocol: String,
    /// The members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Id that the coordinator gave.
    pub member: String,
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Name that the client gave itself.
    pub client: String,
    /// Where it connects from.
    pub host: String,
    /// Partitions it reads.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// The groups of every broker, by id.
    ///
    /// # Errors
    /// A broker cannot be reached.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        self.client.retry(|| self.try_list_groups()).await
    }

    async fn try_list_groups(&self) -> Result<Vec<GroupListing>> {
        let mut groups = Vec::new();
        for broker in self.client.metadata().brokers.values().map(Broker::address) {
            let connection = self.client.connection(&broker, Purpose::Requests).await?;
            let answer = connection.call(&ListGroupsRequest::default()).await?;
            Error::check(answer.error_code, None, || format!("listing groups of {broker}"))?;
            groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                group: group.group_id.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
            }));
        }
        groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        groups.dedup_by(|a, b| a.group == b.group);
        Ok(groups)
    }

    /// A group and its members; `None` if there is no such group.
    ///
    /// # Errors
    /// The coordinator refuses or cannot be reached.
    pub async fn describe_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        self.client.retry(|| self.try_describe_group(group)).await
    }

    async fn try_describe_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        let request = DescribeGroupsRequest {
            groups: vec![Text::from(group)],
            ..Default::default()
        };
        let answer = self.ask_coordinator(group, &request).await?;
        let what = || format!("group '{group}'");
        let Some(found) = answer.groups.into_iter().next() else {
            return Err(said_nothing(what()));
        };
        if found.error_code == ErrorCode::GroupIdNotFound.code() || &*found.group_state == "Dead" {
            return self.try_describe_consumer_group(group).await;
        }
        Error::check(found.error_code, None, what)?;
        let members = found.members.into_iter().map(|member| GroupMember {
            member: member.member_id.to_string(),
            instance: member.group_instance_id.as_deref().map(str::to_owned),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: protocol::read_assignment(&member.member_assignment).unwrap_or_default(),
        });
        Ok(Some(GroupDescription {
            group: group.to_owned(),
            state: found.group_state.to_string(),
            protocol: found.protocol_data.to_string(),
            members: members.collect(),
        }))
    }

    /// A group of the new protocol (KIP-848), if the broker knows of such groups.
    async fn try_describe_consumer_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![Text::from(group)],
            ..Default::default()
        };
        let answer = match self.ask_coordinator(group, &request).await {
            Err(Error::Unsupported { .. }) => return Ok(None),
            answer => answer?,
        };
        let what = || format!("group '{group}'");
        let Some(found) = answer.groups.into_iter().next() else {
            return Err(said_nothing(what()));
        };
        match ErrorCode::from_i16(found.error_code) {
            // Kafka refuses so where it has the new protocol turned off.
            ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion => return Ok(None),
            _ => Error::check(found.error_code, None, what)?,
        }
        Ok(Some(GroupDescription {
            group: group.to_owned(),
            state: found.group_state.to_string(),
            protocol: found.assignor_name.to_string(),
            members: found.members.into_iter().map(GroupMember::of).collect(),
        }))
    }

    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Errors
    /// The group does not exist or has members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        self.client.retry(|| self.try_delete_group(group)).await
    }

    async fn try_delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest {
            groups_names: vec![Text::from(group)],
            ..Default::default()
        };
        let answer = self.ask_coordinator(group, &request).await?;
        let what = || format!("deleting group '{group}'");
        let Some(result) = answer.results.first() else {
            return Err(said_nothing(what()));
        };
        Error::check(result.error_code, None, what)
    }

    /// The offsets that a group has committed.
    ///
    /// # Errors
    /// The coordinator refuses or cannot be reached.
    pub async fn committed_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>> {
        committed_offsets(&self.client, group, None).await
    }

    /// Commits offsets for a group that has no members: what resetting a group is.
    ///
    /// # Errors
    /// The group has members, or a partition does not exist.
    pub async fn commit_offsets(&self, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<()> {
        commit_offsets(&self.client, group, None, offsets).await
    }

    async fn ask_coordinator<R: millstream_kafka::Request>(
        &self,
        group: &str,
        request: &R,
    ) -> Result<R::Response> {
        let client = &self.client;
        client
            .retry(|| async {
                client
                    .coordinator(group, Purpose::Requests)
                    .await?
                    .call(request)
                    .await
            })
            .await
    }
}

impl GroupMember {
    fn of(member: Member) -> Self {
        let topics = member.assignment.topic_partitions.into_iter();
        let partitions = topics.flat_map(|topic| {
            let at = move |partition| TopicPartition::new(&*topic.topic_name, partition);
            topic.partitions.into_iter().map(at)
        });
        Self {
            member: member.member_id.to_string(),
            instance: member.instance_id.as_deref().map(str::to_owned),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: partitions.collect(),
        }
    }
}

/// Offsets that a group has committed: of these partitions, or of all it has any for. Those without are left out.
pub(crate) async fn committed_offsets(
    client: &Client,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, i64>> {
    client.retry(|| fetch_offsets(client, group, partitions)).await
}

async fn fetch_offsets(
    client: &Client,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let connection = client.coordinator(group, Purpose::Requests).await?;
    let version = connection.version::<OffsetFetchRequest>(OFFSETS_BY_NAME_VERSION_MAX)?;
    let by_topic = partitions.map(indexes_by_topic);
    let group_id = Text::from(group);
    let request = if version >= BATCHED_OFFSET_FETCH_VERSION {
        let topics = by_topic.map(|topics| {
            let asked = topics
                .into_iter()
                .map(|(name, partition_indexes)| OffsetFetchRequestTopics {
                    name: Text::from(name),
                    partition_indexes,
                    ..Default::default()
                });
            asked.collect()
        });
        let asked = OffsetFetchRequestGroup {
            group_id,
            topics,
            ..Default::default()
        };
        OffsetFetchRequest {
            groups: vec![asked],
            ..Default::default()
        }
    } else {
        let topics = by_topic.map(|topics| {
            let asked = topics
                .into_iter()
                .map(|(name, partition_indexes)| OffsetFetchRequestTopic {
                    name: Text::from(name),
                    partition_indexes,
                    ..Default::default()
                });
            asked.collect()
        });
        OffsetFetchRequest {
            group_id,
            topics,
            ..Default::default()
        }
    };
    let answer = connection
        .call_at(version, &request, client.config().request_timeout)
        .await?;
    let what = || format!("committed offsets of group '{group}'");
    let mut found = BTreeMap::new();
    let mut take = |topic: &str, partition: i32, offset: i64, code: i16| {
        if offset >= 0 {
            found.insert(TopicPartition::new(topic, partition), offset);
        }
        Error::check(code, None, what)
    };
    Error::check(answer.error_code, None, what)?;
    for topic in &answer.topics {
        for p in &topic.partitions {
            take(&topic.name, p.partition_index, p.committed_offset, p.error_code)?;
        }
    }
    for group in &answer.groups {
        Error::check(group.error_code, None, what)?;
        for topic in &group.topics {
            for p in &topic.partitions {
                take(&topic.name, p.partition_index, p.committed_offset, p.error_code)?;
            }
        }
    }
    Ok(found)
}

/// Commits offsets as a member (its id and generation), or as nobody for a group without members.
pub(crate) async fn commit_offsets(
    client: &Client,
    group: &str,
    member: Option<(&str, i32)>,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<()> {
    let (member_id, generation) = member.unwrap_or(("", -1));
    let mut topics: BTreeMap<&str, OffsetCommitRequestTopic> = BTreeMap::new();
    for (at, offset) in offsets {
        let name = at.topic.as_str();
        let topic = topics.entry(name).or_insert_with(|| OffsetCommitRequestTopic {
            name: Text::from(name),
            ..Default::default()
        });
        topic.partitions.push(OffsetCommitRequestPartition {
            partition_index: at.partition,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(Text::default()),
            ..Default::default()
        });
    }
    let request = OffsetCommitRequest {
        group_id: Text::from(group),
        generation_id_or_member_epoch: generation,
        member_id: Text::from(member_id),
        topics: topics.into_values().collect(),
        ..Default::default()
    };
    client
        .retry(|| async {
            let connection = client.coordinator(group, Purpose::Requests).await?;
            let version = connection.version::<OffsetCommitRequest>(OFFSETS_BY_NAME_VERSION_MAX)?;
            let answer = connection
                .call_at(version, &request, client.config().request_timeout)
                .await?;
            for topic in &answer.topics {
                for p in &topic.partitions {
                    Error::check(p.error_code, None, || {
                        format!(
                            "committing {}-{} for group '{group}'",
                            &*topic.name, p.partition_index
                        )
                    })?;
                }
            }
            Ok(())
        })
        .await
}

fn indexes_by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        by_topic.entry(&at.topic).or_default().push(at.partition);
    }
    by_topic
}

/// The newest version of OffsetCommit and OffsetFetch that names topics; later ones use their ids.
const OFFSETS_BY_NAME_VERSION_MAX: i16 = 9;
/// OffsetFetch asks for several groups from this version on (KIP-709).
const BATCHED_OFFSET_FETCH_VERSION: i16 = 8;
