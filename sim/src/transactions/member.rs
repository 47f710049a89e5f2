//! Members of groups of consumers, and who was given what. Those of KIP-848 are here, those of the classic protocol in
//! [`super::classic`].

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::group::consumer::{
    ConsumerAnswer, ConsumerHeartbeat, JOIN_EPOCH, LEAVE_EPOCH, Partitions,
};
use millstream_core::group::{CommitRequest, GroupError, Identity, OffsetCommit};
use millstream_core::ids::{PartitionIndex, TopicId};
use millstream_storage::sim_disk::Random;

use super::PartRequest;
use super::classic::{Classic, ClassicMember, Heard};
use crate::client::{Answer, CLIENT_WAIT_MS};
use crate::layout::{INPUT, Layout, OUTPUT, Population};

/// A client that is a member, or wants to be.
pub struct Member {
    id: u64,
    lives: u64,
    pub group: &'static str,
    voice: Voice,
    /// What it consumes.
    pub owned: Partitions,
    /// What it has tried to keep since its client began.
    commits: Vec<CommitRequest>,
    asked: Asked,
    next_ms: u64,
}

/// What is asked at the moment, where it is not a heartbeat or a step on the way into the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// A commit of long ago comes to its end.
    LateCommit,
    /// It is to leave. `is_said`: it has said so.
    Leave {
        is_said: bool,
        moves: bool,
    },
}

/// The protocol that it speaks.
enum Voice {
    /// KIP-848.
    Consumer {
        epoch: i32,
    },
    Classic(ClassicMember),
}

impl Member {
    /// One that speaks the classic protocol, or KIP-848.
    pub fn new(id: u64, group: &'static str, is_classic: bool) -> Self {
        let mut new = Self {
            id,
            lives: 0,
            group,
            voice: Voice::Consumer { epoch: JOIN_EPOCH },
            owned: Partitions::new(),
            commits: Vec::new(),
            asked: Asked::Nothing,
            next_ms: 0,
        };
        if is_classic {
            new.voice = Voice::Classic(ClassicMember::new(group, new.client_name()));
        }
        new
    }

    fn client_name(&self) -> String {
        format!("member-{}.{}", self.id, self.lives)
    }

    /// The member's id in this life of the client. Coordinators give ids to those of the classic protocol.
    pub fn name(&self) -> String {
        match &self.voice {
            Voice::Classic(classic) if !classic.id().is_empty() => classic.id().to_owned(),
            _ => self.client_name(),
        }
    }

    /// Its process is another one from now on, that knows nothing. `moves`: it speaks the other protocol, if its group may.
    pub fn begin_anew(&mut self, moves: bool) {
        self.lives += 1;
        self.asked = Asked::Nothing;
        self.owned.clear();
        let was_classic = matches!(self.voice, Voice::Classic(_));
        let moves = moves && self.group == MOVERS;
        self.voice = match was_classic != moves {
            true => Voice::Classic(ClassicMember::new(self.group, self.client_name())),
            false => Voice::Consumer { epoch: JOIN_EPOCH },
        };
    }

    /// How long it waits for an answer, in milliseconds.
    pub fn wait_ms(&self) -> u64 {
        match &self.voice {
            Voice::Classic(classic) => classic.wait_ms(),
            Voice::Consumer { .. } => CLIENT_WAIT_MS,
        }
    }

    /// It gives up everything and says that it goes; then it begins anew.
    pub fn leave(&mut self, moves: bool) {
        let is_said = false;
        self.asked = Asked::Leave { is_said, moves };
        self.owned.clear();
        self.next_ms = 0;
    }

    /// Nothing is said until then.
    pub fn is_silent_until(&mut self, until_ms: u64) {
        self.next_ms = until_ms;
    }

    /// What it says now, if it is time.
    pub fn next_request(&mut self, now_ms: u64, random: &mut Random) -> Option<PartRequest> {
        if now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + 200 + random.below(200);
        match self.asked {
            Asked::Leave { is_said: true, moves } => self.begin_anew(moves),
            Asked::Leave {
                is_said: false,
                moves,
            } => {
                let is_said = true;
                self.asked = Asked::Leave { is_said, moves };
                return Some(self.farewell());
            }
            Asked::LateCommit | Asked::Nothing => self.asked = Asked::Nothing,
        }
        if let Some(commit) = self.commit(now_ms, random) {
            return Some(PartRequest::Classic(Box::new(Classic::Commit(commit))));
        }
        match &mut self.voice {
            Voice::Consumer { epoch } => {
                let epoch = *epoch;
                Some(self.heartbeat(epoch))
            }
            Voice::Classic(classic) => Some(PartRequest::Classic(Box::new(classic.next_request()))),
        }
    }

    /// A commit, now and then: of how far it is, or an old one that was under way for long.
    fn commit(&mut self, now_ms: u64, random: &mut Random) -> Option<CommitRequest> {
        let who = self.who()?;
        match random.below(6) {
            0 => {
                let (topic, partitions) = self.owned.first_key_value()?;
                let topic = Population::Transactions.layout().topic_of(*topic)?;
                let offset = OffsetCommit {
                    topic: topic.to_owned(),
                    partition: partitions.first()?.0,
                    offset: now_ms as i64,
                    leader_epoch: -1,
                    metadata: String::new(),
                };
                let offsets = vec![offset];
                let request = CommitRequest { who, offsets };
                if self.commits.last().is_none_or(|last| last.who != request.who) {
                    self.commits.push(request.clone());
                }
                Some(request)
            }
            1 if !self.commits.is_empty() => {
                let at = random.below(self.commits.len() as u64) as usize;
                self.asked = Asked::LateCommit;
                Some(self.commits[at].clone())
            }
            _ => None,
        }
    }

    /// Who it is, once it is in.
    fn who(&self) -> Option<Identity> {
        match &self.voice {
            Voice::Classic(classic) => classic.who(),
            Voice::Consumer { epoch } => (*epoch > 0).then(|| Identity {
                group: self.group.to_owned(),
                member: self.name(),
                generation: *epoch,
                ..Identity::default()
            }),
        }
    }

    fn farewell(&self) -> PartRequest {
        match &self.voice {
            Voice::Consumer { .. } => self.heartbeat(LEAVE_EPOCH),
            Voice::Classic(_) => PartRequest::Classic(Box::new(Classic::Leave(Identity {
                group: self.group.to_owned(),
                member: self.name(),
                ..Identity::default()
            }))),
        }
    }

    fn heartbeat(&self, epoch: i32) -> PartRequest {
        let owned = self.owned.iter();
        let owned = owned.map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
        PartRequest::Heartbeat(Box::new(ConsumerHeartbeat {
            group: self.group.to_owned(),
            member: self.name(),
            epoch,
            rebalance_timeout_ms: REBALANCE_MS_MAX,
            topics: Some(vec![INPUT.to_owned(), OUTPUT.to_owned()]),
            owned: Some(owned.collect()),
            ..ConsumerHeartbeat::default()
        }))
    }

    /// The coordinator answers. False if it cannot now.
    pub fn hears(&mut self, answer: Answer, layout: &Layout) -> bool {
        if self.asked != Asked::Nothing {
            return true;
        }
        match (&mut self.voice, answer) {
            (Voice::Classic(classic), answer) => {
                let heard = classic.hears(answer, &mut self.owned, layout);
                if heard == Heard::AtOnce {
                    self.next_ms = self.next_ms.min(1);
                }
                heard != Heard::NotNow
            }
            (Voice::Consumer { epoch }, Answer::Member(answer)) => {
                let (is_heard, at_once) = hears(epoch, &mut self.owned, answer);
                if *epoch == JOIN_EPOCH {
                    // Where a group without members changes its protocol, epochs begin anew, as they do in Kafka.
                    self.commits.clear();
                }
                if at_once {
                    self.next_ms = 0;
                }
                is_heard
            }
            // Its next heartbeat tells it where it is.
            (Voice::Consumer { .. }, Answer::Stays(_)) => true,
            _ => false,
        }
    }
}

/// A coordinator answers a heartbeat of KIP-848. Gives whether it could, and whether the next one is to follow at once:
/// others wait for what was given back.
fn hears(
    epoch: &mut i32,
    owned: &mut Partitions,
    answer: Result<ConsumerAnswer, GroupError>,
) -> (bool, bool) {
    match answer {
        Ok(answer) => {
            *epoch = answer.epoch;
            let changes = answer.assignment.is_some_and(|assignment| {
                let changes = assignment != *owned;
                *owned = assignment;
                changes
            });
            (true, changes)
        }
        Err(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId | GroupError::GroupIdNotFound) => {
            *epoch = JOIN_EPOCH;
            owned.clear();
            (true, false)
        }
        Err(_) => (false, false),
    }
}

/// A sign of life that a coordinator has taken.
#[derive(Debug, Clone)]
pub struct Beat {
    pub group: &'static str,
    pub member: String,
    /// What it may have from now on, where it is told.
    pub assignment: Option<Partitions>,
    pub heard_ms: u64,
    /// The generation that it is told what it has in, if it speaks the classic protocol.
    pub generation: Option<i32>,
}

/// An offset that a coordinator has kept for a member.
#[derive(Debug, Clone)]
pub struct Kept {
    pub group: &'static str,
    pub member: String,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
    /// Its generation, or epoch.
    pub generation: i32,
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

/// Who was given what.
#[derive(Default)]
pub struct Grants {
    members: BTreeMap<String, Grant>,
    /// The newest generation that members were given something in.
    generation: i32,
    /// There may be members of KIP-848: then members of one group are not in one generation.
    pub is_mixed: bool,
    /// Those that have given everything up, and take nothing more.
    gone: BTreeSet<String>,
}

#[derive(Default)]
struct Grant {
    owned: Partitions,
    assignment: Partitions,
    heard_ms: u64,
    generation: i32,
}

impl Grants {
    /// What a member has since it heard an answer.
    pub fn has(&mut self, member: String, owned: &Partitions) {
        self.members.entry(member).or_default().owned.clone_from(owned);
    }

    /// A member gives up all that it has, and is to say so. That the coordinator knows it may show before it can be told: its
    /// answer gets lost where another one takes over.
    pub fn leaves(&mut self, member: String) {
        self.members.remove(&member);
        self.gone.insert(member);
    }

    /// The coordinator answers a heartbeat. A partition that it gives must not be somebody else's who may live.
    pub fn beats(&mut self, beat: Beat) -> Result<(), String> {
        if self.gone.contains(&beat.member) {
            return Ok(());
        }
        let grant = self.members.entry(beat.member.clone()).or_default();
        grant.heard_ms = grant.heard_ms.max(beat.heard_ms);
        if let Some(generation) = beat.generation {
            grant.generation = grant.generation.max(generation);
            self.generation = self.generation.max(generation);
        }
        let Some(assignment) = beat.assignment else {
            return Ok(());
        };
        grant.assignment.clone_from(&assignment);
        for (topic, partitions) in &assignment {
            for partition in partitions {
                self.is_free(&beat.member, (*topic, *partition), beat.heard_ms)
                    .map_err(|held| {
                        format!(
                            "partition {partition} of {} is given to {}, and {held}",
                            topic.0, beat.member
                        )
                    })?;
            }
        }
        Ok(())
    }

    /// The coordinator keeps an offset: of a partition that is nobody else's who may live, and for a member of the classic
    /// protocol in the generation that is now. Those of KIP-848 may be late with what they still have (KIP-1251).
    pub fn keeps(&self, kept: &Kept, now_ms: u64) -> Result<(), String> {
        let Kept {
            member, generation, ..
        } = kept;
        let own = self.members.get(member).map_or(0, |grant| grant.generation);
        let known = if self.is_mixed { own } else { self.generation };
        if kept.is_classic && *generation < known {
            return Err(format!(
                "an offset is kept for {member} in generation {generation}, which is over: {known} has begun"
            ));
        }
        self.is_free(member, (kept.topic, kept.partition), now_ms)
            .map_err(|held| {
                let (topic, partition) = (kept.topic.0, kept.partition.0);
                format!("an offset of partition {partition} of {topic} is kept for {member}, and {held}")
            })
    }

    /// Whether nobody else has a partition who may still live then. Otherwise it is said who.
    fn is_free(
        &self,
        member: &str,
        (topic, partition): (TopicId, PartitionIndex),
        at_ms: u64,
    ) -> Result<(), String> {
        let has = |held: &Partitions| held.get(&topic).is_some_and(|held| held.contains(&partition));
        let mut others = self.members.iter().filter(|(other, _)| *other != member);
        let holder = others.find(|(_, grant)| {
            at_ms < grant.heard_ms + SURELY_LIVES_MS && (has(&grant.owned) || has(&grant.assignment))
        });
        match holder {
            None => Ok(()),
            Some((other, grant)) => Err(format!(
                "it is {other}'s, who was heard {} ms ago",
                at_ms.saturating_sub(grant.heard_ms)
            )),
        }
    }
}

/// The group of that name.
pub fn group_of(name: &str) -> &'static str {
    let mut groups = [READERS, MOVERS].into_iter();
    groups.find(|group| *group == name).expect("there are no others")
}

/// The group whose members speak KIP-848.
pub const READERS: &str = "readers";
/// The group of the classic protocol, whose members may move to KIP-848 and back.
pub const MOVERS: &str = "movers";
/// Without a sign of life for so long, a member is out.
pub const SESSION_MS: i32 = 2500;
/// Within this time a member cannot be out, however fast a coordinator's clock is.
const SURELY_LIVES_MS: u64 = 2200;
/// How long a member may take to give partitions back: it goes by its session.
pub const REBALANCE_MS_MAX: i32 = 60_000;
