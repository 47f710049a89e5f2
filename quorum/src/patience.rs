//! When a voter stands for election, and when it refuses others its vote.
//!
//! openraft's own timer knows silence only, and whoever heard from a leader votes for nobody for as long as that timer
//! waits. A broker may know more than silence: that the process of the leader has ended, or that the leader is about to
//! go and wants to be replaced. So the timer is here, openraft's is off, and openraft's lease is short ([`crate::config`]).
//!
//! Whether an election is safe is openraft's affair; what is decided here is only when one takes place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use openraft::ServerState;
use rand::RngCore;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::runtime::ThreadRandom;
use crate::store::room::Room;
use crate::types::{Raft, Vote};

/// What a node knows of the leader's life.
#[derive(Debug)]
pub struct Patience {
    me: u64,
    /// How long a leader may be silent.
    election: Duration,
    /// How long a node holds openraft's lease against others after it heard from a leader.
    lease: Duration,
    room: Room,
    trust: Mutex<Trust>,
    changed: Notify,
}

#[derive(Debug)]
struct Trust {
    /// When a leader was heard, or a vote was given.
    heard: Instant,
    gone: Option<Gone>,
    /// Elections since then that this node stood for.
    stood: u32,
    /// Another one holds more of the log, and refused its vote: it is to win.
    is_behind: bool,
}

/// The leader is known to be gone, or about to go.
#[derive(Debug, Clone, Copy)]
struct Gone {
    vote: Vote,
    since: Instant,
    /// It said so itself: what it still sends is no sign that it stays.
    resigned: bool,
    /// This node is to be the next one.
    is_successor: bool,
}

impl Patience {
    pub fn new(me: u64, election_ms: u64, lease_ms: u64, room: Room) -> Self {
        Self {
            me,
            election: Duration::from_millis(election_ms),
            lease: Duration::from_millis(lease_ms),
            room,
            trust: Mutex::new(Trust {
                heard: Instant::now(),
                gone: None,
                stood: 0,
                is_behind: false,
            }),
            changed: Notify::new(),
        }
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader was heard that this node follows.
    pub fn heard(&self, vote: Vote) {
        let mut trust = self.trust();
        trust.heard = Instant::now();
        trust.stood = 0;
        trust.is_behind = false;
        if trust.gone.is_some_and(|gone| gone.vote != vote || !gone.resigned) {
            trust.gone = None;
        }
    }

    /// This node voted for another one, which is to have time to win.
    pub fn voted(&self) {
        self.trust().heard = Instant::now();
    }

    /// A node that holds more of the log refused its vote.
    pub fn is_behind(&self) {
        self.trust().is_behind = true;
    }

    /// Whether this node heard from a leader not long ago that it does not know to be gone: it gives nobody its vote.
    pub fn is_loyal(&self) -> bool {
        let trust = self.trust();
        trust.gone.is_none() && trust.heard.elapsed() < self.election
    }

    /// The leader that was elected with `vote` is gone, or resigns.
    pub fn lose(&self, vote: Vote, resigned: bool, is_successor: bool) {
        let mut trust = self.trust();
        if trust
            .gone
            .is_some_and(|gone| gone.vote == vote && (gone.resigned || !resigned))
        {
            return;
        }
        trust.gone = Some(Gone {
            vote,
            since: Instant::now(),
            resigned,
            is_successor,
        });
        drop(trust);
        self.changed.notify_one();
    }

    /// This node stands for election.
    fn stands(&self) {
        let mut trust = self.trust();
        trust.stood = trust.stood.saturating_add(1);
        trust.is_behind = false;
    }

    /// When this node stands next, if nothing happens, being the voter of this `place` among those that may be there.
    fn stands_at(&self, place: usize, last: Option<Instant>, jitter: f64) -> Instant {
        let trust = self.trust();
        let place = place.min(PLACES) as u32;
        // A candidate makes others refuse whoever stood before it, so no hurry lasts long.
        let is_fresh = |gone: &Gone| gone.since.elapsed() < self.election && !trust.is_behind;
        match trust.gone.filter(is_fresh) {
            // Whoever is first wins once the leases of the others have passed; whoever comes next waits for that.
            Some(gone) => {
                let turn = if gone.is_successor {
                    0
                } else {
                    place + u32::from(gone.resigned)
                };
                let first = gone.since + 2 * self.lease * turn;
                first.max(last.map_or(first, |last| last + self.lease / 3))
            }
            // One after the other: were they to stand at the same moment, nobody would win. If nobody does all the same,
            // they are ever less likely to meet again, and those who cannot win let the others have their turn.
            None => {
                let patience = self.election + self.election * place / 6;
                let spread = jitter * f64::from(trust.stood.min(SPREAD_MAX)).max(1.0 / 12.0);
                let lets_others = self.election * u32::from(trust.is_behind);
                let since = trust.heard.max(last.unwrap_or(trust.heard));
                since + patience + lets_others + self.election.mul_f64(spread)
            }
        }
    }

    /// Lets the node stand when it is time, as long as it runs.
    pub async fn run(self: Arc<Self>, raft: Weak<Raft>) {
        let mut last = None;
        let mut jitter = share();
        loop {
            let Some(place) = raft.upgrade().and_then(|raft| self.place(&raft)) else {
                return;
            };
            // A lone voter waits for nobody.
            let stands_at = match place {
                Place::Alone => Some(last.map_or_else(Instant::now, |last: Instant| last + self.election)),
                Place::Voter(place) => Some(self.stands_at(place, last, jitter)),
                Place::Leader | Place::Other | Place::OutOfRoom => None,
            };
            let look_again = Instant::now() + self.election / 4;
            tokio::select! {
                biased;
                () = sleep_until(stands_at.map_or(look_again, |at| at.min(look_again))) => {}
                () = self.changed.notified() => continue,
            }
            // Who had no room heard nobody, which says nothing of the others.
            if matches!(place, Place::Leader | Place::OutOfRoom) || self.room.is_awaited() {
                let mut trust = self.trust();
                trust.heard = Instant::now();
                (trust.gone, trust.stood, trust.is_behind) = (None, 0, false);
            }
            // It may have heard of a leader, or voted, meanwhile.
            let is_due = match place {
                Place::Alone => stands_at,
                Place::Voter(place) => Some(self.stands_at(place, last, jitter)),
                Place::Leader | Place::Other | Place::OutOfRoom => None,
            };
            if is_due.is_some_and(|at| at <= Instant::now()) {
                let Some(raft) = raft.upgrade() else { return };
                last = Some(Instant::now());
                self.stands();
                jitter = share();
                if raft.trigger().elect().await.is_err() {
                    return;
                }
            }
        }
    }

    /// What this node is; none when it has stopped.
    fn place(&self, raft: &Raft) -> Option<Place> {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        if metrics.running_state.is_err() || metrics.state == ServerState::Shutdown {
            return None;
        }
        let is_out_of_room = self.room.is_awaited();
        // A leader without room falls silent, so that another one is elected, and nothing heaps up.
        raft.runtime_config().tick(!is_out_of_room);
        if is_out_of_room {
            return Some(Place::OutOfRoom);
        }
        if metrics.state == ServerState::Leader {
            return Some(Place::Leader);
        }
        let voters: Vec<_> = metrics.membership_config.voter_ids().collect();
        let gone = self.trust().gone.and_then(|gone| gone.vote.leader_id.voted_for());
        let before = voters.iter().filter(|id| **id < self.me && Some(**id) != gone);
        Some(match voters.contains(&self.me) {
            false => Place::Other,
            true if voters.len() == 1 => Place::Alone,
            true => Place::Voter(before.count()),
        })
    }
}

/// A node's place in the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leader,
    /// The only voter.
    Alone,
    /// Voters with smaller ids that may stand before it.
    Voter(usize),
    /// It has no vote.
    Other,
    /// Its files wait for room on their disk.
    OutOfRoom,
}

/// A random number from 0 to 1.
fn share() -> f64 {
    f64::from(ThreadRandom.next_u32()) / f64::from(u32::MAX)
}

/// Voters that stand one after the other; with more, two may stand at the same moment.
const PLACES: usize = 6;
/// Most election timeouts by which voters that did not win are spread.
const SPREAD_MAX: u32 = 3;
