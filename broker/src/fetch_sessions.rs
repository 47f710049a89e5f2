//! Fetch sessions (KIP-227) between the wire and the state machine in `millstream_core::fetch_session`.
//!
//! The cache lies behind one lock that is held for the length of a look; what is fetched is worked on without it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use millstream_core::fetch_session::{self as core, Key, Request, Round, SessionError, Told};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::fetch::{FetchRequest, PartitionData};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::{Context, now_ms};

/// The sessions of all clients.
#[derive(Debug)]
pub struct FetchSessions {
    sessions: Mutex<core::FetchSessions>,
}

/// A fetch that is under way.
#[derive(Debug)]
pub struct Session {
    round: Option<Round>,
    wanted: Vec<Wanted>,
}

/// What is wanted of a partition.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Topic, by name; empty where the client names topics by id.
    pub topic: Text,
    /// Topic, by id; nil where the client names topics by name.
    pub topic_id: Uuid,
    /// Partition.
    pub partition: i32,
    /// First offset to read.
    pub offset: i64,
    /// Most bytes to answer with.
    pub bytes_max: i32,
    /// Leader epoch that the client knows; -1 if none.
    pub current_leader_epoch: i32,
    /// Leader epoch of the last record that the client has; -1 if none.
    pub last_fetched_epoch: i32,
}

/// What was fetched of a partition.
#[derive(Debug)]
pub struct Fetched {
    /// Topic, as the client named it.
    pub topic: Text,
    /// Topic, as the client named it.
    pub topic_id: Uuid,
    /// Records, offsets, errors.
    pub data: PartitionData,
}

impl Session {
    /// What to fetch, in this order.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }
}

impl FetchSessions {
    /// A cache for so many sessions; 0 turns sessions off.
    pub fn new(slots: usize) -> Self {
        Self {
            sessions: Mutex::new(core::FetchSessions::new(slots)),
        }
    }

    /// Begins a fetch: finds out what is wanted, from the request and what is remembered.
    ///
    /// # Errors
    /// The session is not there, or the request does not follow the one before it.
    pub fn begin(
        &self,
        _context: &Context,
        _info: &ConnectionInfo,
        version: i16,
        request: FetchRequest,
    ) -> Result<Session, ErrorCode> {
        let has_session =
            version >= SESSIONS_FROM_VERSION && !(request.session_id == 0 && request.session_epoch == -1);
        if !has_session {
            let mut wanted = wanted(request);
            let mut places = HashMap::new();
            for (place, want) in wanted.iter().enumerate() {
                places.insert((want.topic.clone(), want.topic_id, want.partition), place);
            }
            if places.len() < wanted.len() {
                // What is asked for twice is answered once, as the last says.
                wanted = last_of_each(wanted, &places);
            }
            return Ok(Session { round: None, wanted });
        }
        let request = session_request(version, request);
        let new_id = (Uuid::new_v4().as_u128() as u32 >> 1) as i32;
        let begun = self.lock().begin(now_ms(), new_id, request);
        let round = begun.map_err(|error| match error {
            SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
            SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
            SessionError::TopicIds => ErrorCode::FetchSessionTopicIdError,
        })?;
        let wanted = round.wanted.iter().map(|(key, wanted)| Wanted {
            topic: Text::from(key.topic.as_str()),
            topic_id: key.topic_id,
            partition: key.partition,
            offset: wanted.fetch_offset,
            bytes_max: wanted.max_bytes,
            current_leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
        });
        Ok(Session {
            wanted: wanted.collect(),
            round: Some(round),
        })
    }

    /// Ends a fetch: the session's id, and what of the answers has to be told.
    pub fn finish(&self, session: Session, mut answers: Vec<Fetched>) -> (i32, Vec<Fetched>) {
        let Some(round) = session.round else {
            return (0, answers);
        };
        let told: Vec<(Key, Told)> = answers.iter().map(told).collect();
        let mut is_told = self.lock().finish(&round, &told).into_iter();
        answers.retain(|_| is_told.next().unwrap_or(true));
        (round.session_id(), answers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, core::FetchSessions> {
        self.sessions.lock().expect("no panic while sessions are held")
    }
}

/// What is wanted, each partition where it is named first and as it is named last.
fn last_of_each(wanted: Vec<Wanted>, places: &HashMap<(Text, Uuid, i32), usize>) -> Vec<Wanted> {
    let mut seen = HashSet::new();
    let key = |want: &Wanted| (want.topic.clone(), want.topic_id, want.partition);
    let order: Vec<usize> = wanted
        .iter()
        .filter(|want| seen.insert(key(want)))
        .map(|want| places[&key(want)])
        .collect();
    order.into_iter().map(|place| wanted[place].clone()).collect()
}

fn wanted(request: FetchRequest) -> Vec<Wanted> {
    let topics = request.topics.into_iter();
    let of_topic = topics.flat_map(|topic| {
        let (name, topic_id) = (topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |partition| Wanted {
            topic: name.clone(),
            topic_id,
            partition: partition.partition,
            offset: partition.fetch_offset,
            bytes_max: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch.max(-1),
            last_fetched_epoch: partition.last_fetched_epoch.max(-1),
        })
    });
    of_topic.collect()
}

fn session_request(version: i16, request: FetchRequest) -> Request {
    let key = |topic: &Text, topic_id: Uuid, partition: i32| Key {
        topic_id,
        topic: topic.to_string(),
        partition,
    };
    let mut changed = Vec::new();
    for topic in &request.topics {
        changed.extend(topic.partitions.iter().map(|partition| {
            let wanted = core::Wanted {
                fetch_offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch.max(-1),
                last_fetched_epoch: partition.last_fetched_epoch.max(-1),
                log_start_offset: partition.log_start_offset,
            };
            (key(&topic.topic, topic.topic_id, partition.partition), wanted)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        forgotten.extend(
            topic
                .partitions
                .iter()
                .map(|partition| key(&topic.topic, topic.topic_id, *partition)),
        );
    }
    Request {
        session_id: request.session_id,
        epoch: request.session_epoch,
        privileged: false,
        by_id: version >= TOPIC_IDS_FROM_VERSION,
        changed,
        forgotten,
    }
}

fn told(fetched: &Fetched) -> (Key, Told) {
    let Fetched {
        topic,
        topic_id,
        data,
    } = fetched;
    let key = Key {
        topic_id: *topic_id,
        topic: topic.to_string(),
        partition: data.partition_index,
    };
    let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
    let told = Told {
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
        failed: data.error_code != 0,
        must_tell: has_records || data.diverging_epoch.epoch >= 0 || data.preferred_read_replica >= 0,
    };
    (key, told)
}

/// Version of Fetch that brought sessions.
const SESSIONS_FROM_VERSION: i16 = 7;
/// Version of Fetch from which on topics are named by id (KIP-516).
pub const TOPIC_IDS_FROM_VERSION: i16 = 13;
