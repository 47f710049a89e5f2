//! The network: delays, reorders, duplicates, drops, and lets nothing pass from some to others.

use std::collections::{BTreeMap, BTreeSet};

use millstream_storage::sim_disk::Random;

/// A stream between two brokers, of one partition. QUIC keeps it in order, or ends it.
pub type SessionId = u64;

/// How messages travel.
pub struct Network {
    random: Random,
    /// From whom to whom nothing passes.
    blocked: BTreeSet<(u64, u64)>,
    usual: Quality,
    now: Quality,
    ended: BTreeSet<SessionId>,
    /// When the last message of a session arrives at a node.
    last_ms: BTreeMap<(SessionId, u64), u64>,
}

/// How good it is.
#[derive(Debug, Clone, Copy)]
pub struct Quality {
    /// Longest usual delay.
    pub delay_ms_max: u64,
    /// Of a thousand messages, so many take ten times as long.
    pub late_per_1000: u64,
    /// Of a thousand messages, so many are lost.
    pub lost_per_1000: u64,
    /// Of a thousand messages, so many arrive twice.
    pub twice_per_1000: u64,
}

impl Quality {
    /// Nothing goes wrong.
    pub const GOOD: Self = Self {
        delay_ms_max: 3,
        late_per_1000: 0,
        lost_per_1000: 0,
        twice_per_1000: 0,
    };
}

impl Network {
    pub fn new(seed: u64, usual: Quality) -> Self {
        Self {
            random: Random(seed),
            blocked: BTreeSet::new(),
            usual,
            now: usual,
            ended: BTreeSet::new(),
            last_ms: BTreeMap::new(),
        }
    }

    /// After how many milliseconds a message arrives; none if it is lost.
    pub fn delay(&mut self, from: u64, to: u64) -> Option<u64> {
        if from == to {
            return Some(0);
        }
        let lost = self.random.below(1000) < self.now.lost_per_1000;
        let late = self.random.below(1000) < self.now.late_per_1000;
        let delay_ms = 1 + self.random.below(self.now.delay_ms_max);
        let arrives = !lost && !self.blocked.contains(&(from, to));
        arrives.then_some(if late { delay_ms * 10 } else { delay_ms })
    }

    /// After how many milliseconds a copy of a message arrives, if there is one.
    pub fn duplicate(&mut self, from: u64, to: u64) -> Option<u64> {
        if from == to {
            return None;
        }
        let twice = self.random.below(1000) < self.now.twice_per_1000;
        match twice {
            true => self
                .delay(from, to)
                .map(|delay_ms| delay_ms + self.random.below(TWICE_WITHIN_MS)),
            false => None,
        }
    }

    /// After how many milliseconds a message of a session arrives: none before the one sent before it. `Err` if the
    /// session is over: true if it ended now.
    pub fn in_order(&mut self, session: SessionId, from: u64, to: u64, now_ms: u64) -> Result<u64, bool> {
        if self.ended.contains(&session) {
            return Err(false);
        }
        let Some(delay_ms) = self.delay(from, to) else {
            return Err(true);
        };
        let last_ms = self.last_ms.entry((session, to)).or_default();
        *last_ms = (*last_ms).max(now_ms + delay_ms);
        Ok(*last_ms - now_ms)
    }

    /// Ends a session. Tells after how many milliseconds one of its ends notices.
    pub fn end(&mut self, session: SessionId) -> u64 {
        self.ended.insert(session);
        50 + self.random.below(600)
    }

    /// Lets nothing pass in one direction.
    pub fn block(&mut self, from: u64, to: u64) {
        self.blocked.insert((from, to));
    }

    /// Lets messages pass again.
    pub fn pass(&mut self, from: u64, to: u64) {
        self.blocked.remove(&(from, to));
    }

    /// Is worse than usual.
    pub fn suffer(&mut self, quality: Quality) {
        self.now = quality;
    }

    /// Is as usual.
    pub fn recover(&mut self) {
        self.now = self.usual;
    }

    /// Is good from now on.
    pub fn heal(&mut self) {
        self.blocked.clear();
        (self.usual, self.now) = (Quality::GOOD, Quality::GOOD);
    }
}

/// Within this time a message arrives again, as if it had been sent again.
const TWICE_WITHIN_MS: u64 = 2500;
