//! Members of a group of the classic protocol: they join, one of them assigns, they sync, and then they live and keep
//! offsets. Whoever is to join again gives up everything first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::group::consumer::Partitions;
use millstream_core::group::{
    CommitRequest, GroupError, Identity, JoinRequest, JoinResponse, Response, SyncRequest,
};
use millstream_core::ids::PartitionIndex;

use super::Ask;
use super::member::{REBALANCE_MS_MAX, SESSION_MS};
use crate::client::{Answer, CLIENT_WAIT_MS};
use crate::layout::{INPUT, LANES, Layout, OUTPUT};

/// What a member asks.
#[derive(Debug, Clone)]
pub enum Classic {
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat(Identity),
    /// OffsetCommit; members of KIP-848 ask it, too.
    Commit(CommitRequest),
    Leave(Identity),
}

/// Who waits for the answer to a JoinGroup or SyncGroup.
#[derive(Debug)]
pub struct Waiting {
    pub ask: Ask,
    pub group: &'static str,
    /// Empty for one that has no id yet.
    pub member: String,
    pub generation: i32,
}

/// What an answer means to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Good,
    /// What follows does not wait for the next heartbeat.
    AtOnce,
    /// Whoever was asked cannot answer now.
    NotNow,
}

/// A client that is a member, or wants to be.
pub struct ClassicMember {
    who: Identity,
    client: String,
    step: Step,
    /// As its group's leader: what everybody gets.
    assignments: BTreeMap<String, Arc<[u8]>>,
    joins: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Join,
    Sync,
    Stay,
}

impl ClassicMember {
    pub fn new(group: &str, client: String) -> Self {
        Self {
            who: Identity {
                group: group.to_owned(),
                generation: -1,
                ..Identity::default()
            },
            client,
            step: Step::Join,
            assignments: BTreeMap::new(),
            joins: 0,
        }
    }

    /// Its id; empty until a coordinator has given it one.
    pub fn id(&self) -> &str {
        &self.who.member
    }

    /// Who it is, once it is in.
    pub fn who(&self) -> Option<Identity> {
        (self.step == Step::Stay).then(|| self.who.clone())
    }

    /// How long it waits for an answer, in milliseconds.
    pub fn wait_ms(&self) -> u64 {
        match self.step {
            Step::Join | Step::Sync => REBALANCE_WAIT_MS,
            Step::Stay => CLIENT_WAIT_MS,
        }
    }

    /// What it says now.
    pub fn next_request(&mut self) -> Classic {
        match self.step {
            Step::Join => {
                self.joins += 1;
                Classic::Join(JoinRequest {
                    group: self.who.group.clone(),
                    member: self.who.member.clone(),
                    client_id: self.client.clone(),
                    session_timeout_ms: SESSION_MS,
                    rebalance_timeout_ms: REBALANCE_MS_MAX,
                    protocol_type: "consumer".to_owned(),
                    protocols: vec![("range".to_owned(), subscription())],
                    knows_required_ids: true,
                    unique: self.joins.to_string(),
                    ..JoinRequest::default()
                })
            }
            Step::Sync => Classic::Sync(SyncRequest {
                who: self.who.clone(),
                assignments: self.assignments.clone(),
                ..SyncRequest::default()
            }),
            Step::Stay => Classic::Heartbeat(self.who.clone()),
        }
    }

    /// The coordinator answers.
    pub fn hears(&mut self, answer: Answer, owned: &mut Partitions, layout: &Layout) -> Heard {
        let error = match (self.step, answer) {
            (Step::Join, Answer::Waited(response)) => match &*response {
                Response::Join(join) => match join.error {
                    None => return self.joined(join),
                    Some(GroupError::MemberIdRequired) => {
                        self.who.member.clone_from(&join.member_id);
                        return Heard::AtOnce;
                    }
                    Some(error) => error,
                },
                Response::Sync(_) => return Heard::Good,
            },
            (Step::Sync, Answer::Waited(response)) => match &*response {
                Response::Sync(sync) => match sync.error {
                    None => {
                        self.step = Step::Stay;
                        *owned = partitions_of(&sync.assignment, layout);
                        return Heard::Good;
                    }
                    Some(error) => error,
                },
                Response::Join(_) => return Heard::Good,
            },
            (Step::Stay, Answer::Stays(Err(error))) => error,
            _ => return Heard::Good,
        };
        match error {
            GroupError::UnknownMemberId | GroupError::FencedInstanceId => self.who.member.clear(),
            GroupError::RebalanceInProgress
            | GroupError::IllegalGeneration
            | GroupError::StaleMemberEpoch
            | GroupError::FencedMemberEpoch => {}
            _ => return Heard::NotNow,
        }
        self.step = Step::Join;
        owned.clear();
        Heard::AtOnce
    }

    fn joined(&mut self, join: &JoinResponse) -> Heard {
        self.who.member.clone_from(&join.member_id);
        self.who.generation = join.generation;
        self.step = Step::Sync;
        self.assignments.clear();
        if join.leader == join.member_id {
            let members: Vec<_> = join.members.iter().map(|member| &member.member_id).collect();
            self.assignments = assign(&members);
        }
        Heard::AtOnce
    }
}

/// Gives every partition to one of the members, in turn.
fn assign(members: &[&String]) -> BTreeMap<String, Arc<[u8]>> {
    let mut shares = vec![BTreeMap::<&str, Vec<i32>>::new(); members.len()];
    for (n, (topic, partition)) in all_partitions().enumerate() {
        if let Some(share) = shares.get_mut(n % members.len().max(1)) {
            share.entry(topic).or_default().push(partition);
        }
    }
    let members = members.iter().map(|member| (*member).clone());
    members.zip(shares.iter().map(encoded)).collect()
}

fn all_partitions() -> impl Iterator<Item = (&'static str, i32)> {
    let topics = [INPUT, OUTPUT].into_iter();
    topics.flat_map(|topic| (0..LANES as i32).map(move |partition| (topic, partition)))
}

/// `ConsumerProtocolSubscription`, version 0.
fn subscription() -> Arc<[u8]> {
    let mut bytes = vec![0, 0];
    bytes.extend(2_i32.to_be_bytes());
    for topic in [INPUT, OUTPUT] {
        put_text(&mut bytes, topic);
    }
    bytes.extend(NO_DATA);
    bytes.into()
}

/// `ConsumerProtocolAssignment`, version 0.
fn encoded(share: &BTreeMap<&str, Vec<i32>>) -> Arc<[u8]> {
    let mut bytes = vec![0, 0];
    bytes.extend((share.len() as i32).to_be_bytes());
    for (topic, partitions) in share {
        put_text(&mut bytes, topic);
        bytes.extend((partitions.len() as i32).to_be_bytes());
        bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
    }
    bytes.extend(NO_DATA);
    bytes.into()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// What an assignment of any version gives; nothing if there are no bytes.
pub fn partitions_of(assignment: &[u8], layout: &Layout) -> Partitions {
    read(assignment, layout).unwrap_or_default()
}

fn read(bytes: &[u8], layout: &Layout) -> Option<Partitions> {
    let (_, mut rest) = bytes.split_first_chunk::<2>()?;
    let mut found = Partitions::new();
    for _ in 0..number(&mut rest)? {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (topic, after) = after.split_at_checked(i16::from_be_bytes(*length) as usize)?;
        rest = after;
        let topic = layout.topic_id(std::str::from_utf8(topic).ok()?)?;
        let mut partitions = BTreeSet::new();
        for _ in 0..number(&mut rest)? {
            partitions.insert(PartitionIndex(number(&mut rest)?));
        }
        found.insert(topic, partitions);
    }
    Some(found)
}

fn number(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(i32::from_be_bytes(*bytes))
}

/// How long a member waits until it joins or syncs again, in milliseconds.
const REBALANCE_WAIT_MS: u64 = 4000;
/// No bytes of the assignor's own.
const NO_DATA: [u8; 4] = (-1_i32).to_be_bytes();
