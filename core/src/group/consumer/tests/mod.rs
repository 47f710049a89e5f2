//! Stories of groups of KIP-848. A small driver writes and replays records at once, and clients do what Kafka's do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::group::{
    CommitRequest, Event, GroupConfig, GroupError, Groups, Identity, JoinRequest, JoinResponse, LeaveMember,
    OffsetCommit, Response, Step, SyncRequest, Token,
};
use crate::ids::{PartitionIndex, TopicId};

mod events;
mod membership;
mod migration;
mod mixed;
mod own_configs;
mod properties;
mod record_formats;
mod subscriptions;

/// A coordinator with a log.
struct World {
    groups: Groups,
    log: Vec<Record>,
    answers: BTreeMap<u64, Response>,
    events: Vec<Event>,
    now_ms: i64,
    topics: Arc<Topics>,
    tokens: u64,
}

impl World {
    /// With topics of so many partitions.
    fn new(topics: &[(&str, i32)]) -> Self {
        Self::with(GroupConfig::default(), topics)
    }

    fn with(config: GroupConfig, names: &[(&str, i32)]) -> Self {
        let mut world = Self {
            groups: Groups::new(config),
            log: Vec::new(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            now_ms: 1000,
            topics: Arc::new(topics(1, names)),
            tokens: 0,
        };
        world.groups.topics_changed(world.topics.clone());
        world
    }

    /// The cluster has these topics now.
    fn change_topics(&mut self, names: &[(&str, i32)]) {
        let changed = topics(self.topics.version() + 1, names);
        self.topics = Arc::new(changed);
        self.groups.topics_changed(self.topics.clone());
    }

    fn run(&mut self, step: Step) {
        self.events.extend(&step.events);
        for record in &step.records {
            let (key, value) = record.encode();
            let read = Record::decode(&key, value.as_deref()).unwrap();
            assert_eq!(read, *record, "records survive the log");
            self.groups.replay(&read);
            self.log.push(read);
        }
        for (token, response) in step.responses {
            assert!(self.answers.insert(token.0, response).is_none(), "answered twice");
        }
    }

    fn beat(&mut self, request: &ConsumerHeartbeat) -> Result<ConsumerAnswer, GroupError> {
        let (answer, step) = self.groups.consumer_heartbeat(self.now_ms, request);
        self.run(step);
        answer
    }

    /// Time passes, deadline by deadline.
    fn pass(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while let Some(next_ms) = self.groups.next_deadline().filter(|next_ms| *next_ms <= until_ms) {
            self.now_ms = self.now_ms.max(next_ms);
            let step = self.groups.tick(self.now_ms);
            self.run(step);
        }
        self.now_ms = until_ms;
    }

    /// The same log, read by a coordinator that starts.
    fn restarted(&self) -> Self {
        let mut world = Self::with(self.groups.config().clone(), &[]);
        (world.now_ms, world.tokens) = (self.now_ms, self.tokens);
        world.log = self.log.clone();
        self.log.iter().for_each(|record| world.groups.replay(record));
        world.topics = self.topics.clone();
        world.groups.topics_changed(world.topics.clone());
        let step = world.groups.loaded(world.now_ms);
        world.run(step);
        world
    }

    fn group(&self) -> ConsumerDescription {
        self.groups
            .describe_consumer(GROUP)
            .expect("there is a group of KIP-848")
    }

    fn state(&self) -> &'static str {
        let mut all = self.groups.list();
        all.find(|group| &*group.group == GROUP)
            .map_or("Dead", |group| group.state.name())
    }

    fn member(&self, client: &Client) -> ConsumerMemberDescription {
        let found = self
            .group()
            .members
            .into_iter()
            .find(|member| *member.member == *client.id);
        found.expect("the client is a member")
    }

    fn commit(&mut self, who: Identity, topic: &str, partition: i32) -> Result<(), GroupError> {
        let offsets = vec![OffsetCommit {
            topic: topic.to_owned(),
            partition,
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
        }];
        let (answer, step) = self.groups.commit(self.now_ms, &CommitRequest { who, offsets });
        self.run(step);
        answer.and_then(|answers| answers[0])
    }
}

/// A consumer.
#[derive(Debug, Clone, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    topics: Vec<String>,
    pattern: Option<String>,
    assignor: Option<String>,
    /// What it consumes.
    owned: Partitions,
    /// What it was told to have.
    assigned: Partitions,
    /// What it said that it wants: it says so again if that changed, and if it is not sure that it was heard.
    said: Option<(Vec<String>, Option<String>)>,
}

impl Client {
    fn new(id: &str, topics: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            topics: topics.iter().map(|t| (*t).to_owned()).collect(),
            ..Self::default()
        }
    }

    fn matching(id: &str, pattern: &str) -> Self {
        Self {
            pattern: Some(pattern.to_owned()),
            ..Self::new(id, &[])
        }
    }

    /// Its next heartbeat. One that joins says everything.
    fn request(&self) -> ConsumerHeartbeat {
        let wants = (self.topics.clone(), self.pattern.clone());
        let (topics, pattern) = match &self.said {
            Some(said) if self.epoch > 0 && *said == wants => (None, None),
            _ => (Some(wants.0), Some(wants.1.unwrap_or_default())),
        };
        ConsumerHeartbeat {
            group: GROUP.to_owned(),
            member: self.id.clone(),
            epoch: self.epoch,
            instance: self.instance.clone(),
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: if self.said.is_none() { 60_000 } else { -1 },
            topics,
            pattern,
            assignor: self.assignor.clone(),
            owned: Some(self.owned()),
            ..ConsumerHeartbeat::default()
        }
    }

    fn owned(&self) -> Vec<(TopicId, Vec<PartitionIndex>)> {
        let owned = self.owned.iter();
        owned
            .map(|(topic, p)| (*topic, p.iter().copied().collect()))
            .collect()
    }

    /// Reads an answer: gives up what it has lost, and begins to consume what it got.
    fn hear(&mut self, answer: &Result<ConsumerAnswer, GroupError>) {
        match answer {
            Ok(answer) => {
                self.epoch = answer.epoch;
                self.said = Some((self.topics.clone(), self.pattern.clone()));
                if let Some(assigned) = &answer.assignment {
                    self.assigned.clone_from(assigned);
                }
                self.owned.clone_from(&self.assigned);
            }
            Err(_) => self.forget(),
        }
    }

    /// It has to join again.
    fn forget(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.assigned.clear();
        self.said = None;
    }

    fn beat(&mut self, world: &mut World) -> Result<ConsumerAnswer, GroupError> {
        let answer = world.beat(&self.request());
        self.hear(&answer);
        answer
    }

    /// Leaves: for good with [`LEAVE_EPOCH`], to come back with [`PAUSE_EPOCH`].
    fn leave(&mut self, world: &mut World, epoch: i32) -> Result<ConsumerAnswer, GroupError> {
        let request = ConsumerHeartbeat {
            epoch,
            ..self.request()
        };
        let answer = world.beat(&request);
        self.forget();
        answer
    }

    /// How many partitions it consumes.
    fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }

    fn identity(&self) -> Identity {
        Identity {
            group: GROUP.to_owned(),
            member: self.id.clone(),
            instance: None,
            generation: self.epoch,
        }
    }
}

/// All send heartbeats until nothing changes any more.
fn settle(world: &mut World, clients: &mut [Client]) {
    for _ in 0..20 {
        let before = world.log.len();
        for client in clients.iter_mut() {
            client.beat(world).unwrap();
        }
        if world.log.len() == before {
            assert_eq!(world.state(), "Stable");
            return;
        }
    }
    panic!("the group never settles");
}

fn topics(version: u64, topics: &[(&str, i32)]) -> Topics {
    let facts = topics.iter().map(|(name, partitions)| {
        let facts = TopicFacts {
            id: topic(name),
            partitions: *partitions,
        };
        (Arc::from(*name), facts)
    });
    Topics::new(version, facts)
}

/// A topic's id: its name, as far as it fits. What stands after `+` makes it another topic of the same name.
fn topic(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    let length = name.len().min(16);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    TopicId(Uuid::from_bytes(bytes))
}

fn partitions(topics: &[(&str, &[i32])]) -> Partitions {
    let topics = topics.iter();
    topics
        .map(|(name, partitions)| {
            (
                topic(name),
                partitions.iter().copied().map(PartitionIndex).collect(),
            )
        })
        .collect()
}

const GROUP: &str = "g";
