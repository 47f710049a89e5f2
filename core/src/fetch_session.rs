//! Incremental fetch sessions (KIP-227): what a client fetches is remembered, so that it says only what changed and
//! hears only what changed.
//!
//! The cache is bounded, by the number of sessions and by that of all their partitions; a client without a session is
//! served nevertheless. A new session takes the place of one that was not used for two minutes, or, for a
//! privileged client (a follower) or a larger session, of one that is smaller and older than that, as Kafka does it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Names a partition in a session: by id from Fetch version 13 on, by name before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Topic id; nil where the client uses names.
    pub topic_id: Uuid,
    /// Topic name; empty where the client uses ids.
    pub topic: String,
    /// Partition.
    pub partition: i32,
}

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// First offset to read.
    pub fetch_offset: i64,
    /// Most bytes to answer with.
    pub max_bytes: i32,
    /// Leader epoch that the client knows; -1 if none.
    pub current_leader_epoch: i32,
    /// Leader epoch of the last record that the client has; -1 if none.
    pub last_fetched_epoch: i32,
    /// Where a follower's log starts; -1 for a consumer.
    pub log_start_offset: i64,
}

/// What is told of a partition besides records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Consumers see what lies before it.
    pub high_watermark: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
    /// Whether there was an error.
    pub failed: bool,
    /// Whether there are records, or something else that has to be told now.
    pub must_tell: bool,
}

/// What a request asks of its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Session of the request; 0 for none.
    pub session_id: i32,
    /// Its epoch: -1 to end the session and fetch without one, 0 to begin one, else the next of the session.
    pub epoch: i32,
    /// Whether the client is a follower.
    pub privileged: bool,
    /// Whether the client names topics by id.
    pub by_id: bool,
    /// Partitions that are new or changed.
    pub changed: Vec<(Key, Wanted)>,
    /// Partitions that are not wanted any more.
    pub forgotten: Vec<Key>,
}

/// How a fetch goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    kind: Kind,
    /// What to fetch, in this order.
    pub wanted: Vec<(Key, Wanted)>,
}

impl Round {
    /// The session of the answer; 0 for none.
    pub fn session_id(&self) -> i32 {
        match self.kind {
            Kind::Full { session_id } | Kind::Incremental { session_id } => session_id,
            Kind::Sessionless => 0,
        }
    }

    /// Whether the answer leaves out what did not change.
    pub fn is_incremental(&self) -> bool {
        matches!(self.kind, Kind::Incremental { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sessionless,
    Full { session_id: i32 },
    Incremental { session_id: i32 },
}

/// Why a request with a session is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// There is no such session: it was evicted, or belongs to an earlier broker process.
    #[error("the fetch session was not found")]
    NotFound,
    /// The epoch is not the next one: a request was lost or repeated.
    #[error("the fetch session epoch is invalid")]
    InvalidEpoch,
    /// The session names topics by id and the request by name, or the other way.
    #[error("the fetch session names topics by id and the request by name, or the other way")]
    TopicIds,
}

/// The sessions.
#[derive(Debug, Clone, Default)]
pub struct FetchSessions {
    slots: usize,
    partitions_max: usize,
    sessions: BTreeMap<i32, Session>,
    /// Sessions by last use.
    by_use: BTreeSet<(i64, i32)>,
    /// Sessions that may be evicted although they are in use, the worst first.
    by_worth: BTreeSet<(bool, usize, i32)>,
    partitions: usize,
    evictions: u64,
}

#[derive(Debug, Clone)]
struct Session {
    epoch: i32,
    privileged: bool,
    by_id: bool,
    made_ms: i64,
    used_ms: i64,
    size: usize,
    partitions: BTreeMap<Key, Remembered>,
    /// Which partition is when: those that gave records move to the end, so that none starves.
    order: BTreeMap<u64, Key>,
    next_place: u64,
}

#[derive(Debug, Clone)]
struct Remembered {
    wanted: Wanted,
    place: u64,
    high_watermark: i64,
    log_start_offset: i64,
    failed: bool,
}

impl FetchSessions {
    /// A cache for so many sessions; 0 turns sessions off.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            partitions_max: PARTITIONS_MAX,
            ..Self::default()
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many partitions all sessions have.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// How many sessions had to make room for others.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Begins a fetch. `new_id` is a random number above 0 for a new session; a taken one is counted up.
    ///
    /// # Errors
    /// The session is not there, or the request does not follow the one before it.
    pub fn begin(&mut self, now_ms: i64, new_id: i32, request: Request) -> Result<Round, SessionError> {
        match (request.session_id, request.epoch) {
            (session_id, INITIAL_EPOCH | FINAL_EPOCH) => {
                if session_id != 0 {
                    self.remove(session_id);
                }
                Ok(self.begin_full(now_ms, new_id, request))
            }
            (session_id, _) => self.begin_incremental(now_ms, session_id, request),
        }
    }

    fn begin_full(&mut self, now_ms: i64, new_id: i32, request: Request) -> Round {
        let wanted = request.changed;
        let wants_session = request.epoch == INITIAL_EPOCH;
        if !wants_session || !self.make_room(now_ms, request.privileged, wanted.len()) {
            return Round {
                kind: Kind::Sessionless,
                wanted,
            };
        }
        let mut session_id = new_id.max(1);
        while self.sessions.contains_key(&session_id) {
            session_id = session_id.checked_add(1).unwrap_or(1);
        }
        let mut session = Session {
            epoch: 1,
            privileged: request.privileged,
            by_id: request.by_id,
            made_ms: now_ms,
            used_ms: now_ms,
            size: 0,
            partitions: BTreeMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
        };
        for (key, wanted) in &wanted {
            session.want(key, *wanted);
        }
        session.size = session.partitions.len();
        let wanted = session.wanted();
        self.index(session_id, &session);
        self.sessions.insert(session_id, session);
        Round {
            kind: Kind::Full { session_id },
            wanted,
        }
    }

    fn begin_incremental(
        &mut self,
        now_ms: i64,
        session_id: i32,
        request: Request,
    ) -> Result<Round, SessionError> {
        let session = self.sessions.get(&session_id).ok_or(SessionError::NotFound)?;
        if session.by_id != request.by_id {
            return Err(SessionError::TopicIds);
        }
        if session.epoch != request.epoch {
            return Err(SessionError::InvalidEpoch);
        }
        let mut session = self.take(session_id).ok_or(SessionError::NotFound)?;
        for (key, wanted) in &request.changed {
            session.want(key, *wanted);
        }
        for key in &request.forgotten {
            session.forget(key);
        }
        if session.partitions.is_empty() {
            // Nothing is left to fetch: the session ends with an answer that has no session.
            return Ok(Round {
                kind: Kind::Sessionless,
                wanted: Vec::new(),
            });
        }
        if self.partitions + session.partitions.len() > self.partitions_max {
            // The client goes on without it.
            return Err(SessionError::NotFound);
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.used_ms = now_ms;
        session.size = session.partitions.len();
        let wanted = session.wanted();
        self.index(session_id, &session);
        self.sessions.insert(session_id, session);
        Ok(Round {
            kind: Kind::Incremental { session_id },
            wanted,
        })
    }

    /// Ends a fetch: says for each partition of the answer, in the order given, whether it is told.
    pub fn finish(&mut self, round: &Round, answers: &[(Key, Told)]) -> Vec<bool> {
        let session_id = round.session_id();
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return vec![true; answers.len()];
        };
        let full = !round.is_incremental();
        answers
            .iter()
            .map(|(key, told)| session.tell(key, *told, !full) || full)
            .collect()
    }

    /// Ends a session.
    pub fn remove(&mut self, session_id: i32) {
        self.take(session_id);
    }

    fn take(&mut self, session_id: i32) -> Option<Session> {
        let session = self.sessions.remove(&session_id)?;
        self.by_use.remove(&(session.used_ms, session_id));
        self.by_worth
            .remove(&(session.privileged, session.size, session_id));
        self.partitions -= session.size;
        Some(session)
    }

    fn index(&mut self, session_id: i32, session: &Session) {
        self.by_use.insert((session.used_ms, session_id));
        self.by_worth
            .insert((session.privileged, session.size, session_id));
        self.partitions += session.size;
    }

    /// Makes room for a session, if it is worth more than another.
    fn make_room(&mut self, now_ms: i64, privileged: bool, size: usize) -> bool {
        if self.slots == 0 || self.partitions + size > self.partitions_max {
            return false;
        }
        if self.sessions.len() < self.slots {
            return true;
        }
        let idle = self
            .by_use
            .first()
            .filter(|(used_ms, _)| now_ms - used_ms > MIN_EVICTION_MS)
            .map(|(_, id)| *id);
        let worse = || {
            let (_, _, id) = *self.by_worth.first()?;
            let session = &self.sessions[&id];
            let settled = now_ms - session.made_ms > MIN_EVICTION_MS;
            let outranked = privileged && !session.privileged;
            let outsized = privileged == session.privileged && size > session.size && settled;
            (outranked || outsized).then_some(id)
        };
        let Some(victim) = idle.or_else(worse) else {
            return false;
        };
        self.remove(victim);
        self.evictions += 1;
        true
    }
}

impl Session {
    /// Every partition, in order.
    fn wanted(&self) -> Vec<(Key, Wanted)> {
        let of = |key: &Key| (key.clone(), self.partitions[key].wanted);
        self.order.values().map(of).collect()
    }

    fn want(&mut self, key: &Key, wanted: Wanted) {
        if let Some(remembered) = self.partitions.get_mut(key) {
            remembered.wanted = wanted;
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, key.clone());
        let remembered = Remembered {
            wanted,
            place,
            high_watermark: -1,
            log_start_offset: -1,
            failed: false,
        };
        self.partitions.insert(key.clone(), remembered);
    }

    fn forget(&mut self, key: &Key) {
        if let Some(remembered) = self.partitions.remove(key) {
            self.order.remove(&remembered.place);
        }
    }

    /// Notes what the answer says; false if that is nothing new.
    fn tell(&mut self, key: &Key, told: Told, may_move: bool) -> bool {
        let Some(remembered) = self.partitions.get_mut(key) else {
            return true;
        };
        // Kafka sends errors again and again, and what follows an error as well, so that no client misses the end.
        let is_new = told.must_tell
            || told.failed
            || remembered.failed
            || remembered.high_watermark != told.high_watermark
            || remembered.log_start_offset != told.log_start_offset;
        remembered.high_watermark = told.high_watermark;
        remembered.log_start_offset = told.log_start_offset;
        remembered.failed = told.failed;
        if may_move && told.must_tell && !told.failed {
            self.order.remove(&remembered.place);
            remembered.place = self.next_place;
            self.order.insert(self.next_place, key.clone());
            self.next_place += 1;
        }
        is_new
    }
}

/// A session that was used within this time is evicted only for a better one, in milliseconds.
const MIN_EVICTION_MS: i64 = 120_000;
/// Partitions of all sessions together: what they take in memory is up to about 150 MB then.
const PARTITIONS_MAX: usize = 500_000;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> Key {
        Key {
            topic_id: Uuid::from_u128(7),
            topic: String::new(),
            partition,
        }
    }

    fn from(fetch_offset: i64) -> Wanted {
        Wanted {
            fetch_offset,
            max_bytes: 1000,
            current_leader_epoch: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
        }
    }

    fn ask(session_id: i32, epoch: i32, partitions: &[(i32, i64)]) -> Request {
        let changed = partitions
            .iter()
            .map(|(p, offset)| (key(*p), from(*offset)))
            .collect();
        Request {
            session_id,
            epoch,
            by_id: true,
            changed,
            ..Request::default()
        }
    }

    fn quiet(high_watermark: i64) -> Told {
        Told {
            high_watermark,
            log_start_offset: 0,
            failed: false,
            must_tell: false,
        }
    }

    fn partitions(round: &Round) -> Vec<(i32, i64)> {
        round
            .wanted
            .iter()
            .map(|(key, wanted)| (key.partition, wanted.fetch_offset))
            .collect()
    }

    #[test]
    fn partitions_beyond_the_bound_are_served_without_a_session() {
        let mut sessions = FetchSessions {
            partitions_max: 3,
            ..FetchSessions::new(10)
        };
        let first = sessions.begin(0, 42, ask(0, 0, &[(0, 5), (1, 6)])).unwrap();
        assert_eq!(first.session_id(), 42);
        let other = sessions.begin(0, 43, ask(0, 0, &[(2, 0), (3, 0)])).unwrap();
        assert_eq!(
            (other.session_id(), partitions(&other)),
            (0, vec![(2, 0), (3, 0)])
        );
        let more = sessions.begin(0, 44, ask(42, 1, &[(2, 0), (3, 0)]));
        assert_eq!(more, Err(SessionError::NotFound));
        assert_eq!((sessions.len(), sessions.partitions()), (0, 0));
        let again = sessions.begin(0, 45, ask(0, 0, &[(2, 0), (3, 0)])).unwrap();
        assert_eq!(again.session_id(), 45);
    }

    #[test]
    fn a_session_tells_only_what_changed() {
        let mut sessions = FetchSessions::new(10);
        let first = sessions.begin(0, 42, ask(0, 0, &[(0, 5), (1, 6)])).unwrap();
        assert_eq!((first.session_id(), first.is_incremental()), (42, false));
        assert_eq!(
            sessions.finish(&first, &[(key(0), quiet(5)), (key(1), quiet(6))]),
            [true, true]
        );

        let second = sessions.begin(1, 1, ask(42, 1, &[])).unwrap();
        assert_eq!(partitions(&second), [(0, 5), (1, 6)]);
        let records = Told {
            must_tell: true,
            ..quiet(9)
        };
        assert_eq!(
            sessions.finish(&second, &[(key(0), records), (key(1), quiet(6))]),
            [true, false]
        );

        // The client moves on in partition 0, which comes last now, and drops nothing.
        let third = sessions.begin(2, 1, ask(42, 2, &[(0, 9)])).unwrap();
        assert_eq!(partitions(&third), [(1, 6), (0, 9)]);
        assert_eq!(
            sessions.finish(&third, &[(key(1), quiet(7)), (key(0), quiet(9))]),
            [true, false]
        );

        let mut forget = ask(42, 3, &[(2, 0)]);
        forget.forgotten = vec![key(0)];
        assert_eq!(
            partitions(&sessions.begin(3, 1, forget).unwrap()),
            [(1, 6), (2, 0)]
        );
        assert_eq!((sessions.len(), sessions.partitions()), (1, 2));
    }

    #[test]
    fn errors_are_told_again_and_their_end_too() {
        let mut sessions = FetchSessions::new(10);
        let round = sessions.begin(0, 1, ask(0, 0, &[(0, 5)])).unwrap();
        let failed = Told {
            failed: true,
            ..quiet(-1)
        };
        sessions.finish(&round, &[(key(0), failed)]);
        for (epoch, told, expected) in [
            (1, failed, true),
            (2, quiet(-1), true),
            (
                3,
                Told {
                    log_start_offset: 0,
                    ..quiet(-1)
                },
                false,
            ),
        ] {
            let round = sessions.begin(0, 1, ask(1, epoch, &[])).unwrap();
            assert_eq!(sessions.finish(&round, &[(key(0), told)]), [expected]);
        }
    }

    #[test]
    fn lost_and_foreign_requests_are_refused() {
        let mut sessions = FetchSessions::new(10);
        sessions.begin(0, 1, ask(0, 0, &[(0, 5)])).unwrap();
        assert_eq!(sessions.begin(0, 1, ask(2, 1, &[])), Err(SessionError::NotFound));
        assert_eq!(
            sessions.begin(0, 1, ask(1, 2, &[])),
            Err(SessionError::InvalidEpoch)
        );
        assert_eq!(sessions.begin(0, 1, ask(0, 2, &[])), Err(SessionError::NotFound));
        assert_eq!(
            sessions.begin(
                0,
                1,
                Request {
                    by_id: false,
                    ..ask(1, 1, &[])
                }
            ),
            Err(SessionError::TopicIds)
        );
        sessions.begin(0, 1, ask(1, 1, &[])).unwrap();
        // Begun anew under another id; the old one is gone.
        let again = sessions.begin(0, 1, ask(1, 0, &[(0, 5)])).unwrap();
        assert_eq!((again.session_id(), sessions.len()), (1, 1));
        let end = sessions.begin(0, 1, ask(1, -1, &[(0, 5)])).unwrap();
        assert_eq!(
            (end.session_id(), sessions.len(), sessions.partitions()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let mut sessions = FetchSessions::new(10);
        sessions.begin(0, 1, ask(0, 0, &[(0, 5)])).unwrap();
        let mut forget = ask(1, 1, &[]);
        forget.forgotten = vec![key(0)];
        assert_eq!(sessions.begin(0, 1, forget).unwrap().session_id(), 0);
        assert!(sessions.is_empty());
    }

    #[test]
    fn the_cache_is_bounded_and_evicts_the_idle_and_the_small() {
        let mut sessions = FetchSessions::new(2);
        let begin = |sessions: &mut FetchSessions, now_ms, id, size: i32, privileged| {
            let partitions: Vec<_> = (0..size).map(|p| (p, 0)).collect();
            sessions
                .begin(
                    now_ms,
                    id,
                    Request {
                        privileged,
                        ..ask(0, 0, &partitions)
                    },
                )
                .unwrap()
                .session_id()
        };
        assert_eq!(begin(&mut sessions, 0, 1, 5, false), 1);
        assert_eq!(begin(&mut sessions, 0, 2, 3, false), 2);
        assert_eq!(
            begin(&mut sessions, 10, 3, 4, false),
            0,
            "nobody is idle, nobody has been there for long"
        );
        assert_eq!(
            begin(&mut sessions, 10, 4, 1, true),
            4,
            "a follower takes a consumer's place"
        );
        assert_eq!(sessions.begin(10, 9, ask(2, 1, &[])), Err(SessionError::NotFound));
        assert_eq!(begin(&mut sessions, 120_001, 5, 1, false), 5, "session 1 is idle");
        assert_eq!(
            (sessions.len(), sessions.partitions(), sessions.evictions()),
            (2, 2, 2)
        );
        assert_eq!(begin(&mut FetchSessions::new(0), 0, 1, 1, false), 0);
    }
}
