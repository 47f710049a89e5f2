//! Offsets that are committed in transactions: who may, when they count, and what becomes of them when groups, offsets
//! and topics go. What counts is compared with what Kafka would make of the same log.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::group::consumer::{ConsumerHeartbeat, JOIN_EPOCH, TopicFacts, Topics};
use crate::ids::TopicId;

impl World {
    fn offset(&self, topic: &str) -> Option<i64> {
        self.groups.offset(GROUP, topic, 0).map(|value| value.offset)
    }

    /// The offset that a consumer starts from that wants it to be stable.
    fn stable_offset(&self, topic: &str) -> Result<Option<i64>, GroupError> {
        let found = self.groups.fetch_offset(GROUP, topic, 0, true)?;
        Ok(found.map(|value| value.offset))
    }

    fn expire(&mut self, at_ms: i64) {
        let step = self.groups.expire(at_ms);
        self.run(step);
    }
}

const UNSTABLE: Result<Option<i64>, GroupError> = Err(GroupError::UnstableOffsetCommit);
const WEEK_MS: i64 = 7 * 24 * 3_600_000;

#[test]
fn an_offset_of_a_transaction_counts_once_it_is_committed() {
    let mut world = World::new();
    world.commit(nobody(), "t", 5).unwrap();
    assert_eq!(world.txn_commit(7, nobody(), "t", 6), Ok(()));
    assert!(world.groups.has_pending());
    assert_eq!((world.offset("t"), world.stable_offset("t")), (Some(5), UNSTABLE));
    let restarted = world.restarted();
    assert_eq!(
        (restarted.offset("t"), restarted.stable_offset("t")),
        (Some(5), UNSTABLE)
    );
    world.end(7, true);
    assert_eq!(world.stable_offset("t"), Ok(Some(6)));
    let value = world.groups.offset(GROUP, "t", 0).unwrap();
    assert_eq!((value.leader_epoch, value.metadata.as_str()), (3, "note"));
    assert!(!world.groups.has_pending());
    assert_eq!(world.restarted().stable_offset("t"), Ok(Some(6)));
}

#[test]
fn an_offset_of_a_transaction_that_is_aborted_never_was() {
    let mut world = World::new();
    world.commit(nobody(), "t", 5).unwrap();
    world.txn_commit(7, nobody(), "t", 6).unwrap();
    world.txn_commit(7, nobody(), "u", 7).unwrap();
    world.end(8, true);
    assert_eq!(world.stable_offset("u"), UNSTABLE, "another producer's");
    world.end(7, false);
    assert_eq!(world.stable_offset("t"), Ok(Some(5)));
    assert_eq!(world.stable_offset("u"), Ok(None));
    world.end(7, true);
    assert_eq!(world.stable_offset("t"), Ok(Some(5)), "it is over");
}

#[test]
fn an_offset_that_is_confirmed_stays_what_it_is() {
    let mut world = World::new();
    for offset in [None, Some(5)] {
        if let Some(offset) = offset {
            world.commit(nobody(), "t", offset).unwrap();
        }
        let before = world.groups.live_records();
        let step = Step {
            records: vec![world.groups.confirmation(GROUP, "t", 0)],
            ..Step::default()
        };
        world.run(step);
        assert_eq!((world.offset("t"), world.groups.live_records()), (offset, before));
        assert_eq!(world.restarted().offset("t"), offset);
    }
}

#[test]
fn a_group_begins_with_its_first_offset_in_a_transaction_and_ends_with_its_abort() {
    let mut world = World::new();
    world.txn_commit(7, nobody(), "t", 6).unwrap();
    assert_eq!(world.state(), State::Empty);
    assert_eq!(world.restarted().state(), State::Empty);
    assert!(world.groups.live_records().is_empty());
    world.end(7, false);
    assert_eq!(world.state(), State::Dead);
    assert_eq!(world.restarted().state(), State::Dead);
}

#[test]
fn the_offset_that_is_later_in_the_log_counts() {
    let mut world = World::new();
    world.txn_commit(7, nobody(), "t", 6).unwrap();
    world.commit(nobody(), "t", 5).unwrap();
    assert_eq!(
        world.stable_offset("t"),
        UNSTABLE,
        "who waits does not know yet what comes"
    );
    world.end(7, true);
    assert_eq!(world.stable_offset("t"), Ok(Some(5)), "a plain one came after it");

    world.txn_commit(7, nobody(), "t", 10).unwrap();
    world.txn_commit(8, nobody(), "t", 11).unwrap();
    world.end(8, true);
    world.end(7, true);
    assert_eq!(
        world.stable_offset("t"),
        Ok(Some(11)),
        "that of another producer did"
    );

    world.txn_commit(7, nobody(), "t", 20).unwrap();
    world.txn_commit(8, nobody(), "t", 21).unwrap();
    world.txn_commit(7, nobody(), "t", 22).unwrap();
    world.end(8, true);
    assert_eq!(world.offset("t"), Some(21));
    world.end(7, true);
    assert_eq!(
        world.stable_offset("t"),
        Ok(Some(22)),
        "its last one in the transaction is meant"
    );
    assert_eq!(world.restarted().stable_offset("t"), Ok(Some(22)));
}

#[test]
fn members_of_the_generation_commit_and_so_do_those_that_do_not_say_who_they_are() {
    let mut world = World::new();
    let a = world.stable("a");
    assert_eq!(world.txn_commit(7, a.clone(), "t", 1), Ok(()));
    assert_eq!(world.txn_commit(7, nobody(), "t", 2), Ok(()), "before KIP-447");
    let with = |change: fn(&mut Identity)| {
        let mut who = a.clone();
        change(&mut who);
        who
    };
    for (who, error) in [
        (with(|who| who.generation = 7), GroupError::IllegalGeneration),
        (with(|who| who.generation = -1), GroupError::IllegalGeneration),
        (
            with(|who| who.member = "x".to_owned()),
            GroupError::UnknownMemberId,
        ),
        (with(|who| who.member.clear()), GroupError::UnknownMemberId),
        (
            with(|who| who.instance = Some("i".to_owned())),
            GroupError::UnknownMemberId,
        ),
    ] {
        assert_eq!(world.txn_commit(7, who.clone(), "t", 3), Err(error), "{who:?}");
    }
    let elsewhere = |generation| Identity {
        group: "other".to_owned(),
        generation,
        ..nobody()
    };
    assert_eq!(
        world.txn_commit(7, elsewhere(1), "t", 3),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(world.txn_commit(7, elsewhere(-1), "t", 3), Ok(()));
    let long = Identity {
        group: "g".repeat(40_000),
        ..nobody()
    };
    assert_eq!(world.txn_commit(7, long, "t", 3), Err(GroupError::InvalidGroupId));
    world.end(7, true);
    assert_eq!(world.offset("t"), Some(2));
}

#[test]
fn a_static_member_that_was_replaced_is_fenced() {
    let mut world = World::new();
    let request = JoinRequest {
        instance: Some("i".to_owned()),
        ..join("a")
    };
    let first = world.start_join(request.clone());
    world.pass(3000);
    let first = Identity {
        instance: Some("i".to_owned()),
        ..identity(&world.joined(first))
    };
    world.start_sync(first.clone(), &[(&first.member, "all")]);
    assert_eq!(world.txn_commit(7, first.clone(), "t", 1), Ok(()));
    let second = world.start_join(JoinRequest {
        unique: "2".to_owned(),
        ..request
    });
    let second = Identity {
        instance: Some("i".to_owned()),
        ..identity(&world.joined(second))
    };
    assert_eq!(
        world.txn_commit(7, first, "t", 2),
        Err(GroupError::FencedInstanceId)
    );
    assert_eq!(world.txn_commit(7, second, "t", 3), Ok(()));
}

#[test]
fn a_commit_is_allowed_while_the_leader_assigns_and_is_no_sign_of_life() {
    let mut world = World::new();
    let token = world.start_join(join("a"));
    world.pass(3000);
    let a = identity(&world.joined(token));
    assert_eq!(world.state(), State::CompletingRebalance);
    assert_eq!(
        world.commit(a.clone(), "t", 1),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(world.txn_commit(7, a.clone(), "t", 1), Ok(()));
    world.start_sync(a.clone(), &[(&a.member, "all")]);
    world.pass(9999);
    assert_eq!(world.txn_commit(7, a.clone(), "t", 2), Ok(()));
    world.pass(1);
    assert_eq!(world.txn_commit(7, a, "t", 3), Err(GroupError::UnknownMemberId));
}

#[test]
fn members_of_kip_848_commit_in_their_epoch() {
    let mut world = World::new();
    let facts = TopicFacts {
        id: TopicId(Uuid::from_u128(1)),
        partitions: 1,
    };
    let topics = Topics::new(1, [("t".into(), facts)]);
    world.groups.topics_changed(Arc::new(topics));
    world.txn_commit(7, nobody(), "t", 1).unwrap();
    let request = ConsumerHeartbeat {
        group: GROUP.to_owned(),
        member: "a".to_owned(),
        epoch: JOIN_EPOCH,
        rebalance_timeout_ms: 60_000,
        topics: Some(vec!["t".to_owned()]),
        owned: Some(Vec::new()),
        ..ConsumerHeartbeat::default()
    };
    let (answer, step) = world.groups.consumer_heartbeat(world.now_ms, &request);
    world.run(step);
    let epoch = answer.unwrap().epoch;
    assert_eq!(
        world.stable_offset("t"),
        UNSTABLE,
        "what is pending outlives the change of the protocol"
    );
    let member = |member: &str, generation| Identity {
        member: member.to_owned(),
        generation,
        ..nobody()
    };
    let mut commit = |who| world.txn_commit(7, who, "t", 2);
    assert_eq!(commit(member("a", epoch)), Ok(()));
    // There is no error for a stale epoch in TxnOffsetCommit.
    for stale in [epoch + 1, epoch - 1, -1] {
        assert_eq!(
            commit(member("a", stale)),
            Err(GroupError::IllegalGeneration),
            "{stale}"
        );
    }
    assert_eq!(commit(member("b", epoch)), Err(GroupError::UnknownMemberId));
    assert_eq!(commit(nobody()), Ok(()), "before KIP-447");
    world.end(7, true);
    assert_eq!(world.restarted().stable_offset("t"), Ok(Some(2)));
}

#[test]
fn long_metadata_is_refused_alone() {
    let mut world = World::with(GroupConfig {
        offset_metadata_bytes_max: 4,
        ..GroupConfig::default()
    });
    let mut long = offset_commit("u", 2);
    long.metadata = "notes".to_owned();
    let request = TxnCommitRequest {
        who: nobody(),
        producer: (7, 2),
        offsets: vec![offset_commit("t", 1), long],
    };
    let (answer, step) = world.groups.txn_commit(world.now_ms, &request);
    assert_eq!(answer, Ok(vec![Ok(()), Err(GroupError::OffsetMetadataTooLarge)]));
    assert_eq!((step.records.len(), step.producer), (1, Some((7, 2))));
}

#[test]
fn who_wants_all_offsets_hears_which_are_not_stable() {
    let mut world = World::new();
    world.commit(nobody(), "t", 5).unwrap();
    world.commit(nobody(), "u", 6).unwrap();
    world.txn_commit(7, nobody(), "u", 7).unwrap();
    world.txn_commit(7, nobody(), "v", 8).unwrap();
    let told = |require_stable| {
        let rows = world.groups.fetch_offsets(GROUP, require_stable).into_iter();
        rows.map(|row| (row.topic.to_string(), row.offset, row.metadata, row.error))
            .collect::<Vec<_>>()
    };
    let row = |topic: &str, offset, note: &str, error| (topic.to_owned(), offset, note.to_owned(), error);
    let t = row("t", 5, "note", None);
    assert_eq!(told(false), [t.clone(), row("u", 6, "note", None)]);
    let unstable = Some(GroupError::UnstableOffsetCommit);
    assert_eq!(told(true), [t, row("u", -1, "", unstable)]);
}

#[test]
fn nothing_expires_that_a_transaction_may_change() {
    let mut world = World::new();
    world.commit(nobody(), "t", 5).unwrap();
    world.commit(nobody(), "u", 6).unwrap();
    world.txn_commit(7, nobody(), "u", 7).unwrap();
    let later_ms = world.now_ms + 2 * WEEK_MS;
    world.expire(later_ms);
    assert_eq!((world.offset("t"), world.offset("u")), (None, Some(6)));
    world.end(7, false);
    world.expire(later_ms);
    assert_eq!(world.state(), State::Dead);

    // A group that has members' records, too, stays for what is pending alone.
    let a = world.stable("a");
    world.txn_commit(7, a.clone(), "t", 1).unwrap();
    world.leave(&a.member, None).unwrap();
    let later_ms = world.now_ms + 2 * WEEK_MS;
    world.expire(later_ms);
    assert_eq!(world.state(), State::Empty);
    world.end(7, true);
    assert_eq!(world.stable_offset("t"), Ok(Some(1)));
    world.expire(later_ms);
    assert_eq!(world.state(), State::Dead);
}

#[test]
fn what_is_deleted_takes_what_is_pending_with_it() {
    let mut world = World::new();
    let begin = |world: &mut World| {
        world.commit(nobody(), "t", 5).unwrap();
        world.txn_commit(7, nobody(), "t", 6).unwrap();
        world.txn_commit(8, nobody(), "t", 7).unwrap();
        world.txn_commit(7, nobody(), "u", 8).unwrap();
    };
    let end = |world: &mut World| {
        world.end(7, true);
        world.end(8, true);
        (world.offset("t"), world.offset("u"))
    };

    begin(&mut world);
    let which = ["t", "u", "v"].map(|topic| (topic.to_owned(), 0));
    let (answer, step) = world.groups.delete_offsets(GROUP, &which);
    assert_eq!(answer, Ok(vec![Ok(()); 3]));
    assert_eq!((step.records.len(), step.producer), (2, None));
    world.run(step);
    assert_eq!((world.state(), world.groups.has_pending()), (State::Dead, false));
    assert_eq!(end(&mut world), (None, None));

    begin(&mut world);
    let (answer, step) = world.groups.delete_group(GROUP);
    assert_eq!((answer, step.records.len()), (Ok(()), 3));
    world.run(step);
    assert_eq!((world.state(), world.groups.has_pending()), (State::Dead, false));
    world.txn_commit(7, nobody(), "t", 9).unwrap();
    assert_eq!(end(&mut world), (Some(9), None), "the transaction goes on");

    begin(&mut world);
    for topic in ["u", "v"] {
        let step = world.groups.forget_topic(topic);
        world.run(step);
    }
    assert_eq!(end(&mut world), (Some(7), None));
    assert_eq!(world.restarted().offset("t"), Some(7));
}

#[derive(Debug, Clone)]
enum Event {
    Commit(Place),
    TxnCommit(i64, Place),
    End(i64, bool),
    DeleteOffset(Place),
    DeleteGroup(usize),
    ForgetTopic(usize),
    Expire(i64),
    Pass(i64),
    Restart,
}

/// Numbers of a group and a topic.
type Place = (usize, usize);

const GROUPS: [&str; 2] = [GROUP, "other"];
const TOPICS: [&str; 2] = ["t", "u"];

fn any_event() -> impl Strategy<Value = Event> {
    let place = || (0..GROUPS.len(), 0..TOPICS.len());
    let producer = || 0..3_i64;
    prop_oneof![
        4 => place().prop_map(Event::Commit),
        8 => (producer(), place()).prop_map(|(id, place)| Event::TxnCommit(id, place)),
        6 => (producer(), any::<bool>()).prop_map(|(id, is_commit)| Event::End(id, is_commit)),
        1 => place().prop_map(Event::DeleteOffset),
        1 => (0..GROUPS.len()).prop_map(Event::DeleteGroup),
        1 => (0..TOPICS.len()).prop_map(Event::ForgetTopic),
        1 => (0..2 * WEEK_MS).prop_map(Event::Expire),
        1 => (0..WEEK_MS).prop_map(Event::Pass),
        1 => Just(Event::Restart),
    ]
}

fn happens(world: &mut World, event: &Event, n: i64) {
    let nobody_of = |group: usize| Identity {
        group: GROUPS[group].to_owned(),
        ..nobody()
    };
    match *event {
        Event::Commit((group, topic)) => {
            world.commit(nobody_of(group), TOPICS[topic], n).unwrap();
        }
        Event::TxnCommit(id, (group, topic)) => {
            let who = nobody_of(group);
            world.txn_commit(id, who, TOPICS[topic], n).unwrap();
        }
        Event::End(id, is_commit) => world.end(id, is_commit),
        Event::DeleteOffset((group, topic)) => {
            let which = [(TOPICS[topic].to_owned(), 0)];
            let (_, step) = world.groups.delete_offsets(GROUPS[group], &which);
            world.run(step);
        }
        Event::DeleteGroup(group) => {
            let (_, step) = world.groups.delete_group(GROUPS[group]);
            world.run(step);
        }
        Event::ForgetTopic(topic) => {
            let step = world.groups.forget_topic(TOPICS[topic]);
            world.run(step);
        }
        Event::Expire(after_ms) => world.expire(world.now_ms + after_ms),
        Event::Pass(ms) => world.now_ms += ms,
        Event::Restart => *world = world.restarted(),
    }
}

/// What Kafka makes of a log: it remembers where in the log each offset was written.
#[derive(Debug, Default, PartialEq, Eq)]
struct AsKafka {
    offsets: Offsets,
    pending: BTreeMap<i64, Offsets>,
}

/// Offsets by group and topic, each with its place in the log.
type Offsets = BTreeMap<(String, String), (usize, i64)>;

impl AsKafka {
    fn of(log: &[Entry]) -> Self {
        let mut kafka = Self::default();
        for (at, entry) in log.iter().enumerate() {
            match entry {
                Entry::Plain(record) => kafka.replay(at, None, record),
                Entry::Pending(producer_id, record) => kafka.replay(at, Some(*producer_id), record),
                Entry::Marker(producer_id, is_commit) => kafka.end(*producer_id, *is_commit),
            }
        }
        kafka
    }

    fn replay(&mut self, at: usize, producer_id: Option<i64>, record: &Record) {
        let Key::Offset { group, topic, .. } = &record.key else {
            return;
        };
        let key = (group.to_string(), topic.to_string());
        match (&record.value, producer_id) {
            (Some(Value::Offset(value)), None) => {
                self.offsets.insert(key, (at, value.offset));
            }
            (Some(Value::Offset(value)), Some(producer_id)) => {
                let pending = self.pending.entry(producer_id).or_default();
                pending.insert(key, (at, value.offset));
            }
            _ => {
                self.offsets.remove(&key);
                for pending in self.pending.values_mut() {
                    pending.remove(&key);
                }
                self.pending.retain(|_, pending| !pending.is_empty());
            }
        }
    }

    fn end(&mut self, producer_id: i64, is_commit: bool) {
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        for (key, (at, offset)) in pending.into_iter().filter(|_| is_commit) {
            if self.offsets.get(&key).is_none_or(|(before, _)| *before < at) {
                self.offsets.insert(key, (at, offset));
            }
        }
    }

    fn check(&self, groups: &Groups) {
        let is_pending =
            |key: &(String, String)| self.pending.values().any(|pending| pending.contains_key(key));
        for group in GROUPS {
            let mut knows = false;
            for topic in TOPICS {
                let key = (group.to_owned(), topic.to_owned());
                let offset = self.offsets.get(&key).map(|(_, offset)| *offset);
                let told = groups.offset(group, topic, 0).map(|value| value.offset);
                assert_eq!(told, offset, "{group} {topic}");
                let stable = groups.fetch_offset(group, topic, 0, true);
                let stable = stable.map(|value| value.map(|value| value.offset));
                let expected = if is_pending(&key) { UNSTABLE } else { Ok(offset) };
                assert_eq!(stable, expected, "{group} {topic}");
                knows |= is_pending(&key) || offset.is_some();
            }
            assert_eq!(groups.contains(group), knows, "{group}");
        }
        assert_eq!(groups.has_pending(), !self.pending.is_empty());
        assert_eq!(groups.live_record_count(), self.offsets.len());
        assert_eq!(groups.live_records().len(), self.offsets.len());
    }
}

/// All that is kept, the order of what is pending included.
fn kept(groups: &Groups) -> String {
    let all = groups.groups.values();
    let all: Vec<_> = all
        .map(|group| (&group.id, &group.offsets, &group.pending_offsets))
        .collect();
    format!("{all:?} {:?}", groups.transactions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_counts_is_what_kafka_makes_of_the_same_log(events in prop::collection::vec(any_event(), 0..60)) {
        let mut world = World::new();
        for (n, event) in (0..).zip(&events) {
            let before = AsKafka::of(&world.log);
            happens(&mut world, event, n);
            let kafka = AsKafka::of(&world.log);
            kafka.check(&world.groups);
            if matches!(event, Event::Expire(_)) {
                prop_assert_eq!(before.pending, kafka.pending, "nothing pending expires");
            }
            prop_assert_eq!(kept(&world.restarted().groups), kept(&world.groups));
        }
        // When all transactions have ended nothing of them is left.
        (0..3).for_each(|id| world.end(id, false));
        prop_assert!(!world.groups.has_pending());
        prop_assert!(world.groups.groups.values().all(|group| group.pending_offsets.is_empty()));
        // A log that is written anew says the same, and may go on with transactions.
        let mut anew = World::new();
        for record in world.groups.live_records() {
            anew.write(Entry::Plain(record));
        }
        prop_assert_eq!(kept(&anew.groups), kept(&world.groups));
    }
}
