//! Transactions in a simulated cluster: coordinators of transactions and of groups over the replicated logs, leaders that
//! verify, and the workers of two transforms.
//!
//! Real are `core::transaction`, `core::group` and the log's part in it: markers, the last stable offset, the index of
//! aborted transactions. What the broker does around them is done here again, synchronously: `shard` and `coordinator` are
//! its `coordinators`, `markers` tells partitions what became of transactions, `verify` is how leaders ask coordinators,
//! `worker` is the loop of a deployed transform. `ledger` remembers what must hold.
//!
//! Two transforms follow each other. The first one reads numbers, which are always there, and writes them to the topic
//! `in`; the second one reads `in` and writes `out`. Each partition of a source is a [`Job`] with a transactional id of its
//! own. Both transforms are deployed by a command, and a broker runs what its own copy of the image gives to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::cluster::Image;
use millstream_core::group::Groups;
use millstream_core::group::consumer::ConsumerHeartbeat;
use millstream_core::transaction::{Producer, Transactions};
use millstream_storage::EndMarker;

use crate::bus::Life;
use crate::client::{Answer, Asker, Request};
use crate::layout::Layout;
use crate::message::Message;
use crate::node::Process;
use crate::replica::{Fatal, Replica, Role, Scene};

mod classic;
mod coordinator;
mod deployed;
mod groups;
mod job;
mod ledger;
mod markers;
mod member;
mod reading;
mod shard;
mod verify;
mod watch;
mod worker;

pub use classic::Classic;
pub use deployed::{check_assignment, to_deploy};
pub use job::{Job, Stage};
pub use ledger::Ledger;
pub use member::{MOVERS, Member, READERS};
pub use reading::committed_records;
pub use watch::Quiet;

use classic::partitions_of;
use markers::{Marked, Telling};
use shard::Shard;
use verify::{Asked, Verifications};
use worker::Worker;

/// What is asked of coordinators, and of leaders for their sake.
#[derive(Debug, Clone)]
pub enum PartRequest {
    /// Of the coordinator: give me the transactional id.
    Init { job: Job },
    /// Of the coordinator: this place belongs to the transaction from now on (KIP-890).
    TakePart {
        id: Arc<str>,
        producer: Producer,
        place: i32,
    },
    /// Of the leader of a group: keep the offset once the transaction is committed.
    Commit {
        job: Job,
        producer: Producer,
        offset: i64,
    },
    /// Of the leader of a group: how far has it come?
    Offset { job: Job },
    /// Of the coordinator: this transaction is over.
    End {
        job: Job,
        producer: Producer,
        is_commit: bool,
    },
    /// Of the leader of a group: a member lives.
    Heartbeat(Box<ConsumerHeartbeat>),
    /// Of the leader of a group: what a member of the classic protocol wants.
    Classic(Box<Classic>),
    /// Of a leader: the transaction has ended.
    Mark { place: i32, marker: EndMarker },
}

/// What a process does for transactions.
#[derive(Default)]
pub struct Parts {
    /// Coordinators of transactions, by the place that they keep them in.
    states: BTreeMap<i32, Shard<Transactions>>,
    /// Coordinators of groups.
    offsets: BTreeMap<i32, Shard<Groups>>,
    verifications: BTreeMap<i32, Verifications>,
    /// What other brokers were asked, and what for.
    asked: BTreeMap<u64, Asked>,
    tellings: Vec<Telling>,
    /// Markers that are not safe yet.
    marked: Vec<Marked>,
    pub workers: BTreeMap<Job, Worker>,
    next_token: u64,
}

impl Parts {
    /// What a coordinator of groups that is led here knows of a job's offset.
    pub fn committed(&self, job: Job) -> Option<i64> {
        let groups = self.offsets.values().find_map(Shard::machine)?;
        let (topic, partition) = job.source();
        let value = groups.offset(&job.group(), topic, partition);
        Some(value.map_or(0, |value| value.offset))
    }

    /// What a coordinator of groups that is led here knows of a group: how many partitions each member has.
    pub fn members(&self, group: &str, layout: &Layout) -> Option<BTreeMap<String, usize>> {
        let groups = self.offsets.values().find_map(Shard::machine)?;
        if let Some(known) = groups.describe_consumer(group) {
            let members = known.members.iter().map(|member| {
                let assigned = member.assigned.iter();
                let count = assigned.map(|topic| topic.partitions.len()).sum();
                (member.member.to_string(), count)
            });
            return Some(members.collect());
        }
        let known = groups.describe(group)?;
        let members = known.members.iter().map(|member| {
            let assigned = partitions_of(&member.assignment, layout);
            (
                member.member_id.clone(),
                assigned.values().map(BTreeSet::len).sum(),
            )
        });
        Some(members.collect())
    }
}

/// A process that is to do something for transactions, with all that it may touch.
pub struct Here<'a, 'b> {
    parts: &'a mut Parts,
    replicas: &'a mut BTreeMap<i32, Replica>,
    image: &'a Arc<Image>,
    life: Life,
    scene: &'a mut Scene<'b>,
}

impl Process {
    pub fn here<'a, 'b>(&'a mut self, scene: &'a mut Scene<'b>) -> Here<'a, 'b> {
        Here {
            parts: &mut self.parts,
            replicas: &mut self.replicas,
            image: &self.image,
            life: self.life,
            scene,
        }
    }
}

impl Here<'_, '_> {
    /// Answers, or asks others first.
    pub fn request(&mut self, asker: Asker, id: u64, request: PartRequest) -> Result<(), Fatal> {
        match request {
            PartRequest::Init { job } => self.init((asker, id), job),
            PartRequest::TakePart {
                id: transactional_id,
                producer,
                place,
            } => self.take_part((asker, id), &transactional_id, producer, place),
            PartRequest::End {
                job,
                producer,
                is_commit,
            } => self.end((asker, id), job, producer, is_commit),
            PartRequest::Offset { job } => self.offset((asker, id), job),
            PartRequest::Commit {
                job,
                producer,
                offset,
            } => {
                self.ask_to_commit((asker, id), job, producer, offset);
                Ok(())
            }
            PartRequest::Heartbeat(request) => self.heartbeat((asker, id), &request),
            PartRequest::Classic(request) => self.classic((asker, id), *request),
            PartRequest::Mark { place, marker } => self.mark((asker, id), place, marker),
        }
    }

    /// Another broker answers.
    pub fn answered(&mut self, token: u64, answer: Answer) -> Result<(), Fatal> {
        match self.parts.asked.remove(&token) {
            Some(Asked::Produce(waiting)) => self.produce_if(waiting, answer),
            Some(Asked::Commit(waiting)) => self.commit_if(waiting, answer),
            Some(Asked::Mark {
                id, producer, place, ..
            }) => self.told(&id, producer, place, &answer),
            Some(Asked::Worker { job, .. }) => {
                self.worker_hears(job, token, answer);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Looks at the clock.
    pub fn tick(&mut self) -> Result<(), Fatal> {
        let now_ms = self.scene.now_ms;
        self.parts.asked.retain(|_, asked| asked.until_ms() > now_ms);
        self.time_passes()?;
        self.tell_again()?;
        self.work();
        Ok(())
    }

    /// After everything that happened: coordinators begin and end with the terms of their leaders, and what waited for
    /// records to be safe goes on.
    pub fn settle(&mut self) -> Result<(), Fatal> {
        if self.parts.next_token == 0 && self.image.topic(crate::layout::INPUT).is_none() {
            return Ok(());
        }
        self.begin_and_end_shards()?;
        self.release()
    }

    /// Asks whoever leads a place. What is expected is noted under the token.
    fn ask(&mut self, place: i32, request: Request, asked: impl FnOnce(u64) -> Asked) -> Option<u64> {
        let leader = self.scene.judge.layout.entry(self.image, place)?.leader?;
        self.parts.next_token += 1;
        let id = self.life.number << 32 | self.parts.next_token;
        self.parts
            .asked
            .insert(id, asked(self.scene.now_ms + ANSWER_MS_MAX));
        let message = Message::Request { id, request };
        self.scene.bus.send(self.life.node, leader.0 as u64, message);
        Some(id)
    }

    fn answer(&self, (asker, id): Ask, answer: Answer) {
        self.scene.bus.answer(self.life.node, asker, id, answer);
    }

    /// The replica of a place, if it leads.
    fn led(&mut self, place: i32) -> Option<&mut Replica> {
        let replica = self.replicas.get_mut(&place)?;
        matches!(replica.role, Role::Leader { .. }).then_some(replica)
    }

    /// Says who leads a place, as far as it is known here.
    fn not_leader(&self, ask: Ask, place: i32) {
        let entry = self.scene.judge.layout.entry(self.image, place);
        let leader = entry.and_then(|entry| entry.leader).map(|id| id.0 as u64);
        let other = leader.filter(|leader| *leader != self.life.node);
        self.answer(ask, Answer::NotLeader(other));
    }
}

/// Who asks, and the number of the question.
type Ask = (Asker, u64);

/// Who asked another broker gives up after this time.
const ANSWER_MS_MAX: u64 = 1200;
