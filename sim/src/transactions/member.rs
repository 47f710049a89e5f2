//! Members of a group of consumers (KIP-848), and who was given what.

use std::collections::BTreeMap;

use millstream_core::group::GroupError;
use millstream_core::group::consumer::{ConsumerAnswer, ConsumerHeartbeat, JOIN_EPOCH, Partitions};
use millstream_storage::sim_disk::Random;

use crate::layout::{INPUT, OUTPUT};

/// A client that is a member, or wants to be.
pub struct Member {
    id: u64,
    lives: u64,
    epoch: i32,
    /// What it consumes.
    pub owned: Partitions,
    next_ms: u64,
}

impl Member {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            lives: 0,
            epoch: JOIN_EPOCH,
            owned: Partitions::new(),
            next_ms: 0,
        }
    }

    /// The member's id in this life of the client.
    pub fn name(&self) -> String {
        format!("member-{}.{}", self.id, self.lives)
    }

    /// Its process is another one from now on, that knows nothing.
    pub fn begin_anew(&mut self) {
        self.lives += 1;
        self.epoch = JOIN_EPOCH;
        self.owned.clear();
    }

    /// Nothing is said until then.
    pub fn is_silent_until(&mut self, until_ms: u64) {
        self.next_ms = until_ms;
    }

    /// What it says now, if it is time.
    pub fn beat(&mut self, now_ms: u64, random: &mut Random) -> Option<ConsumerHeartbeat> {
        if now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + 200 + random.below(200);
        let owned = self.owned.iter();
        let owned = owned.map(|(topic, partitions)| (*topic, partitions.iter().copied().collect()));
        Some(ConsumerHeartbeat {
            group: GROUP.to_owned(),
            member: self.name(),
            epoch: self.epoch,
            rebalance_timeout_ms: REBALANCE_MS_MAX,
            topics: Some(vec![INPUT.to_owned(), OUTPUT.to_owned()]),
            owned: Some(owned.collect()),
            ..ConsumerHeartbeat::default()
        })
    }

    /// The coordinator answers. False if it cannot now.
    pub fn hears(&mut self, answer: Result<ConsumerAnswer, GroupError>) -> bool {
        match answer {
            Ok(answer) => {
                self.epoch = answer.epoch;
                if let Some(assignment) = answer.assignment {
                    if assignment != self.owned {
                        // What it gave back others wait for.
                        self.next_ms = 0;
                    }
                    self.owned = assignment;
                }
                true
            }
            Err(
                GroupError::FencedMemberEpoch | GroupError::UnknownMemberId | GroupError::GroupIdNotFound,
            ) => {
                self.epoch = JOIN_EPOCH;
                self.owned.clear();
                true
            }
            Err(_) => false,
        }
    }
}

/// A heartbeat that a coordinator has taken.
#[derive(Debug, Clone)]
pub struct Beat {
    pub member: String,
    /// What it may have from now on, where it is told.
    pub assignment: Option<Partitions>,
    pub heard_ms: u64,
}

/// Who was given what.
#[derive(Default)]
pub struct Grants(BTreeMap<String, Grant>);

#[derive(Default)]
struct Grant {
    owned: Partitions,
    assignment: Partitions,
    heard_ms: u64,
}

impl Grants {
    /// What a member has since it heard an answer.
    pub fn has(&mut self, member: String, owned: &Partitions) {
        self.0.entry(member).or_default().owned.clone_from(owned);
    }

    /// The coordinator answers a heartbeat. A partition that it gives must not be somebody else's who may live.
    pub fn beats(&mut self, beat: Beat) -> Result<(), String> {
        let grant = self.0.entry(beat.member.clone()).or_default();
        grant.heard_ms = grant.heard_ms.max(beat.heard_ms);
        let Some(assignment) = beat.assignment else {
            return Ok(());
        };
        grant.assignment.clone_from(&assignment);
        let others = self.0.iter().filter(|(member, _)| **member != beat.member);
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
}

/// The group that members are of.
pub const GROUP: &str = "readers";
/// Without a sign of life for so long, a member is out.
pub const SESSION_MS: i32 = 2500;
/// Within this time a member cannot be out, however fast a coordinator's clock is.
const SURELY_LIVES_MS: u64 = 2200;
/// How long a member may take to give partitions back: it goes by its session.
const REBALANCE_MS_MAX: i32 = 60_000;
