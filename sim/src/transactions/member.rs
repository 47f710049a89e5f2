//! Members of groups of consumers, and who was given what. Those of KIP-848 are here, those of the classic protocol in
//! [`super::classic`].

use std::collections::BTreeMap;

use millstream_core::group::GroupError;
use millstream_core::group::consumer::{ConsumerAnswer, ConsumerHeartbeat, JOIN_EPOCH, Partitions};
use millstream_storage::sim_disk::Random;

use super::PartRequest;
use super::classic::{ClassicMember, Heard};
use crate::client::{Answer, CLIENT_WAIT_MS};
use crate::layout::{INPUT, Layout, OUTPUT};

/// A client that is a member, or wants to be.
pub struct Member {
    id: u64,
    lives: u64,
    pub group: &'static str,
    voice: Voice,
    /// What it consumes.
    pub owned: Partitions,
    next_ms: u64,
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
        let epoch = match &mut self.voice {
            Voice::Consumer { epoch } => *epoch,
            Voice::Classic(classic) => {
                let request = classic.next_request(&self.owned, now_ms, random);
                return Some(PartRequest::Classic(Box::new(request)));
            }
        };
        let owned = self.owned.iter();
        let owned = owned.map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
        Some(PartRequest::Heartbeat(Box::new(ConsumerHeartbeat {
            group: self.group.to_owned(),
            member: self.name(),
            epoch,
            rebalance_timeout_ms: REBALANCE_MS_MAX,
            topics: Some(vec![INPUT.to_owned(), OUTPUT.to_owned()]),
            owned: Some(owned.collect()),
            ..ConsumerHeartbeat::default()
        })))
    }

    /// The coordinator answers. False if it cannot now.
    pub fn hears(&mut self, answer: Answer, layout: &Layout) -> bool {
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
                if at_once {
                    self.next_ms = 0;
                }
                is_heard
            }
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
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
    /// The generation that it is told what it has in, if it speaks that.
    pub generation: Option<i32>,
}

/// An offset that a coordinator has kept for a member of the classic protocol.
#[derive(Debug, Clone)]
pub struct Kept {
    pub group: &'static str,
    pub member: String,
    pub generation: i32,
}

/// Who was given what.
#[derive(Default)]
pub struct Grants {
    members: BTreeMap<String, Grant>,
    /// The newest generation that members were given something in.
    generation: i32,
    /// There were members of KIP-848: then members of one group are not in one generation.
    is_mixed: bool,
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

    /// The coordinator answers a heartbeat. A partition that it gives must not be somebody else's who may live.
    pub fn beats(&mut self, beat: Beat) -> Result<(), String> {
        let grant = self.members.entry(beat.member.clone()).or_default();
        grant.heard_ms = grant.heard_ms.max(beat.heard_ms);
        self.is_mixed |= !beat.is_classic;
        if let Some(generation) = beat.generation {
            grant.generation = grant.generation.max(generation);
            self.generation = self.generation.max(generation);
        }
        let Some(assignment) = beat.assignment else {
            return Ok(());
        };
        grant.assignment.clone_from(&assignment);
        let others = self.members.iter().filter(|(member, _)| **member != beat.member);
        let living = others.filter(|(_, grant)| beat.heard_ms < grant.heard_ms + SURELY_LIVES_MS);
        for (member, grant) in living {
            for held in [&grant.owned, &grant.assignment] {
                let shared = assignment.iter().find_map(|(topic, partitions)| {
                    let held = held.get(topic)?;
                    Some((topic, *partitions.intersection(held).next()?))
                });
                if let Some((topic, partition)) = shared {
                    return Err(format!(
                        "partition {partition} of {} is given to {}, and is {member}'s, who was heard {} ms ago",
                        topic.0,
                        beat.member,
                        beat.heard_ms.saturating_sub(grant.heard_ms)
                    ));
                }
            }
        }
        Ok(())
    }

    /// The coordinator keeps an offset: only for who is in the generation that is now.
    pub fn keeps(&self, kept: &Kept) -> Result<(), String> {
        let own = self.members.get(&kept.member).map_or(0, |grant| grant.generation);
        let known = if self.is_mixed { own } else { self.generation };
        match kept.generation >= known {
            true => Ok(()),
            false => Err(format!(
                "an offset is kept for {} in generation {}, which is over: {known} has begun",
                kept.member, kept.generation
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
