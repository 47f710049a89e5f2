//! DescribeGroups and ListGroups.

use std::sync::Arc;

use super::offsets::CONSUMER;
use super::state::{Group, State};
use super::types::{AnyState, GroupDescription, GroupListing, MemberDescription};
use super::{Groups, Member};

impl Groups {
    /// What a group is doing; none if there is no such group, or it follows KIP-848.
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        self.groups
            .get(group)
            .filter(|group| !group.is_forgotten() && group.consumer.is_none())
            .map(Group::describe)
    }

    /// Whether there is a group, of either protocol.
    pub fn contains(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| !group.is_forgotten())
    }

    /// All groups, in the order of their ids.
    pub fn list(&self) -> impl Iterator<Item = GroupListing> {
        self.groups
            .values()
            .filter(|group| !group.is_forgotten())
            .map(|group| GroupListing {
                group: group.id.clone(),
                protocol_type: match group.consumer {
                    Some(_) => CONSUMER.to_owned(),
                    None => group.protocol_type.clone().unwrap_or_default(),
                },
                state: match &group.consumer {
                    Some(consumer) => AnyState::Consumer(consumer.state()),
                    None => AnyState::Classic(group.state),
                },
            })
    }
}

impl Group {
    fn describe(&self) -> GroupDescription {
        let stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let member = |(id, member): (&Arc<str>, &Member)| MemberDescription {
            member_id: id.to_string(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(&protocol)
            } else {
                Arc::default()
            },
            assignment: member.assignment.clone(),
        };
        GroupDescription {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.iter().map(member).collect(),
            protocol,
        }
    }
}
