//! Stories of groups. A small driver writes and replays records at once, as a broker with a fast disk does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

mod events;
mod membership;
mod offset_stories;
mod properties;
mod record_formats;
mod transactional;

/// What stands in the log.
#[derive(Debug, Clone)]
enum Entry {
    Plain(Record),
    /// Written in the transaction of a producer.
    Pending(i64, Record),
    /// A producer's transaction has ended; it is committed or not.
    Marker(i64, bool),
}

impl Entry {
    fn replay(&self, groups: &mut Groups) {
        match self {
            Self::Plain(record) => groups.replay(record),
            Self::Pending(producer_id, record) => groups.replay_pending(*producer_id, record),
            Self::Marker(producer_id, is_commit) => groups.replay_marker(*producer_id, *is_commit),
        }
    }
}

/// A group coordinator with a log, and the answers that came out of it.
struct World {
    groups: Groups,
    log: Vec<Entry>,
    answers: BTreeMap<u64, Response>,
    events: Vec<Event>,
    now_ms: i64,
    tokens: u64,
}

impl World {
    fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    fn with(config: GroupConfig) -> Self {
        Self {
            groups: Groups::new(config),
            log: Vec::new(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            now_ms: 1000,
            tokens: 0,
        }
    }

    fn run(&mut self, step: Step) {
        self.events.extend(&step.events);
        for record in &step.records {
            let (key, value) = record.encode();
            let read = Record::decode(&key, value.as_deref()).unwrap();
            assert_eq!(read, *record, "records survive the log");
            self.write(match step.producer {
                Some((producer_id, _)) => Entry::Pending(producer_id, read),
                None => Entry::Plain(read),
            });
        }
        for (token, response) in step.responses {
            assert!(
                self.answers.insert(token.0, response).is_none(),
                "request {} is answered twice",
                token.0
            );
        }
    }

    fn write(&mut self, entry: Entry) {
        entry.replay(&mut self.groups);
        self.log.push(entry);
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn start_join(&mut self, request: JoinRequest) -> u64 {
        let token = self.token();
        let step = self.groups.join(self.now_ms, request, token);
        self.run(step);
        token.0
    }

    fn start_sync(&mut self, who: Identity, assignments: &[(&str, &str)]) -> u64 {
        let token = self.token();
        let assignments = assignments
            .iter()
            .map(|(m, a)| ((*m).to_owned(), bytes(a)))
            .collect();
        let request = SyncRequest {
            who,
            protocol: Some("range".to_owned()),
            assignments,
            ..SyncRequest::default()
        };
        let step = self.groups.sync(self.now_ms, &request, token);
        self.run(step);
        token.0
    }

    fn joined(&mut self, token: u64) -> JoinResponse {
        match self.answers.remove(&token) {
            Some(Response::Join(response)) => response,
            other => panic!("JoinGroup {token} has {other:?}"),
        }
    }

    fn synced(&mut self, token: u64) -> Result<String, GroupError> {
        match self.answers.remove(&token) {
            Some(Response::Sync(SyncResponse {
                error: Some(error), ..
            })) => Err(error),
            Some(Response::Sync(response)) => Ok(String::from_utf8(response.assignment.to_vec()).unwrap()),
            other => panic!("SyncGroup {token} has {other:?}"),
        }
    }

    fn waits(&self, token: u64) -> bool {
        !self.answers.contains_key(&token)
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

    fn heartbeat(&mut self, who: &Identity) -> Result<(), GroupError> {
        self.groups.heartbeat(self.now_ms, who)
    }

    fn commit(&mut self, who: Identity, topic: &str, offset: i64) -> Result<(), GroupError> {
        let offsets = vec![offset_commit(topic, offset)];
        let (answer, step) = self.groups.commit(self.now_ms, &CommitRequest { who, offsets });
        self.run(step);
        answer.and_then(|answers| answers[0])
    }

    /// A producer commits for the group in its transaction.
    fn txn_commit(
        &mut self,
        producer_id: i64,
        who: Identity,
        topic: &str,
        offset: i64,
    ) -> Result<(), GroupError> {
        let request = TxnCommitRequest {
            who,
            producer: (producer_id, 0),
            offsets: vec![offset_commit(topic, offset)],
        };
        let (answer, step) = self.groups.txn_commit(self.now_ms, &request);
        self.run(step);
        answer.and_then(|answers| answers[0])
    }

    /// The transaction of a producer ends.
    fn end(&mut self, producer_id: i64, is_commit: bool) {
        self.write(Entry::Marker(producer_id, is_commit));
    }

    fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let leaving = LeaveMember {
            member: member.to_owned(),
            instance: instance.map(str::to_owned),
        };
        let (answers, step) = self.groups.leave(self.now_ms, GROUP, &[leaving]);
        self.run(step);
        answers[0]
    }

    fn state(&self) -> State {
        self.groups
            .describe(GROUP)
            .map_or(State::Dead, |group| group.state)
    }

    /// The same log, read by a coordinator that starts.
    fn restarted(&self) -> Self {
        let mut world = Self::with(self.groups.config.clone());
        world.now_ms = self.now_ms;
        world.tokens = self.tokens;
        world.log = self.log.clone();
        for entry in &self.log {
            entry.replay(&mut world.groups);
        }
        let step = world.groups.loaded(world.now_ms);
        world.run(step);
        world
    }

    /// A group of one stable member.
    fn stable(&mut self, name: &str) -> Identity {
        let token = self.start_join(join(name));
        self.pass(3000);
        let joined = self.joined(token);
        let who = identity(&joined);
        let token = self.start_sync(who.clone(), &[(&who.member, "all")]);
        assert_eq!(self.synced(token), Ok("all".to_owned()));
        who
    }
}

fn offset_commit(topic: &str, offset: i64) -> OffsetCommit {
    OffsetCommit {
        topic: topic.to_owned(),
        partition: 0,
        offset,
        leader_epoch: 3,
        metadata: "note".to_owned(),
    }
}

/// Who commits without being a member.
fn nobody() -> Identity {
    Identity {
        group: GROUP.to_owned(),
        generation: -1,
        ..Identity::default()
    }
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

/// A subscription of a consumer to topic `t`.
fn subscription() -> Arc<[u8]> {
    [&[0, 0, 0, 0, 0, 1, 0, 1][..], b"t", &[0xff, 0xff, 0xff, 0xff]]
        .concat()
        .into()
}

fn join(name: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.to_owned(),
        client_id: name.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription())],
        unique: "1".to_owned(),
        ..JoinRequest::default()
    }
}

fn again(who: &Identity) -> JoinRequest {
    JoinRequest {
        member: who.member.clone(),
        instance: who.instance.clone(),
        ..join("again")
    }
}

fn identity(joined: &JoinResponse) -> Identity {
    assert_eq!(joined.error, None);
    Identity {
        group: GROUP.to_owned(),
        member: joined.member_id.clone(),
        instance: None,
        generation: joined.generation,
    }
}

const GROUP: &str = "g";
