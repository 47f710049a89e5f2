use proptest::prelude::*;

use super::*;
use crate::ids::Offset;

const ME: BrokerId = BrokerId(1);
const B: BrokerId = BrokerId(2);
const C: BrokerId = BrokerId(3);
const LAG_MS_MAX: i64 = 1000;

#[test]
fn a_lone_broker_waits_for_its_disk_alone() {
    let mut leader = Leader::new(ME, term(0, &[1], &[1]), true, o(5), o(5), o(0), 0);
    assert!(leader.is_established() && leader.has_enough_in_sync());
    assert_eq!(leader.high_watermark(), o(5));
    assert!(!leader.appended(o(7)));
    assert!(leader.flushed(o(6)));
    assert_eq!(leader.high_watermark(), o(6));
    assert!(leader.wait_for_disk(false));
    assert_eq!(leader.high_watermark(), o(7));
    assert!(leader.appended(o(9)));
    assert_eq!(leader.tick(1_000_000, LAG_MS_MAX), nothing());
}

#[test]
fn a_record_is_safe_once_everybody_in_sync_has_it_on_disk() {
    let mut leader = three();
    leader.appended(o(10));
    assert!(!leader.flushed(o(10)));
    assert_eq!(leader.acknowledged(B, o(10), 1), nothing());
    assert_eq!(leader.acknowledged(C, o(4), 2), moved());
    assert_eq!(leader.high_watermark(), o(4));
    assert_eq!(leader.acknowledged(C, o(10), 3), moved());
    assert_eq!(leader.high_watermark(), o(10));
    assert_eq!(leader.acknowledged(C, o(2), 4), nothing(), "its disk was lost");
    assert_eq!(
        leader.high_watermark(),
        o(10),
        "what readers saw is not taken back"
    );
}

#[test]
fn a_new_leader_is_established_when_all_that_it_began_with_is_safe() {
    let mut leader = Leader::new(ME, term(3, &[1, 2], &[1, 2]), true, o(8), o(8), o(6), 0);
    assert_eq!((leader.high_watermark(), leader.is_established()), (o(6), false));
    assert_eq!(leader.acknowledged(B, o(7), 1), moved());
    assert!(!leader.is_established());
    assert_eq!(leader.acknowledged(B, o(8), 2), moved());
    assert!(leader.is_established());
}

#[test]
fn who_falls_behind_counts_until_the_image_says_that_he_does_not() {
    let mut leader = three();
    leader.appended(o(10));
    leader.flushed(o(10));
    let _ = leader.acknowledged(B, o(10), 500);
    assert_eq!(leader.tick(1000, LAG_MS_MAX), nothing());
    assert_eq!(leader.tick(1001, LAG_MS_MAX), proposal(&[1, 2], 7));
    assert_eq!(leader.tick(1500, LAG_MS_MAX), nothing(), "one proposal at a time");
    assert_eq!(leader.high_watermark(), o(0));
    assert_eq!(leader.changed(entry(8, &[1, 2])), moved());
    assert_eq!(leader.high_watermark(), o(10));
    assert_eq!(leader.isr(), [ME, B]);
}

#[test]
fn who_is_always_a_little_behind_stays_in_sync() {
    let mut leader = three();
    for step in 1..100 {
        leader.appended(o(step * 10));
        leader.flushed(o(step * 10));
        for follower in [B, C] {
            let _ = leader.acknowledged(follower, o(step * 10 - 10), step * 100);
        }
        assert_eq!(leader.tick(step * 100, LAG_MS_MAX).proposal, None);
    }
}

#[test]
fn an_idle_partition_loses_nobody() {
    let mut leader = three();
    for now_ms in (0..100_000).step_by(500) {
        assert_eq!(leader.tick(now_ms, LAG_MS_MAX), nothing());
    }
    leader.appended(o(1));
    assert_eq!(leader.tick(100_000, LAG_MS_MAX), nothing());
}

#[test]
fn who_catches_up_counts_from_the_moment_that_he_is_proposed() {
    let mut leader = two_of_three();
    leader.appended(o(10));
    leader.flushed(o(10));
    assert_eq!(leader.acknowledged(B, o(8), 1), moved());
    assert_eq!(leader.acknowledged(C, o(7), 2), nothing());
    assert_eq!(leader.acknowledged(C, o(8), 3), proposal(&[1, 2, 3], 7));
    assert_eq!(leader.acknowledged(B, o(10), 4), nothing(), "C counts");
    assert_eq!(leader.high_watermark(), o(8));
    assert_eq!(leader.changed(entry(8, &[1, 2, 3])), nothing());
    assert_eq!(leader.acknowledged(C, o(9), 5), moved());
    assert_eq!(leader.high_watermark(), o(9));
}

#[test]
fn nobody_is_proposed_who_lacks_what_an_earlier_leader_may_have_acknowledged() {
    let began = term(3, &[1, 2, 3], &[1, 2]);
    let mut leader = Leader::new(ME, began, true, o(8), o(8), o(2), 0);
    assert_eq!(leader.acknowledged(C, o(7), 1), nothing());
    assert_eq!(leader.acknowledged(C, o(8), 2), proposal(&[1, 2, 3], 7));
}

#[test]
fn two_who_catch_up_at_once_both_come_in() {
    let mut leader = Leader::new(ME, term(0, &[1, 2, 3], &[1]), true, o(0), o(0), o(0), 0);
    assert_eq!(leader.acknowledged(B, o(0), 1), proposal(&[1, 2], 7));
    assert_eq!(leader.acknowledged(C, o(0), 2), nothing());
    assert_eq!(leader.changed(entry(8, &[1, 2])), proposal(&[1, 2, 3], 8));
}

#[test]
fn who_was_refused_counts_no_more_and_is_tried_again() {
    let mut leader = two_of_three();
    leader.appended(o(10));
    leader.flushed(o(10));
    assert_eq!(leader.acknowledged(C, o(0), 1), proposal(&[1, 2, 3], 7));
    assert_eq!(leader.acknowledged(B, o(10), 2), nothing());
    assert!(!leader.proposal_refused(6), "an older one");
    assert!(leader.proposal_refused(7));
    assert_eq!(leader.high_watermark(), o(10));
    assert_eq!(leader.tick(3, LAG_MS_MAX), nothing(), "behind by now");
    assert_eq!(leader.acknowledged(C, o(10), 4), proposal(&[1, 2, 3], 7));
    leader.proposal_refused(7);
    leader.disconnected(C);
    assert_eq!(leader.tick(5, LAG_MS_MAX), nothing());
}

#[test]
fn who_may_have_been_accepted_counts_until_that_is_settled() {
    let mut leader = two_of_three();
    leader.appended(o(10));
    leader.flushed(o(10));
    assert_eq!(leader.acknowledged(C, o(0), 1), proposal(&[1, 2, 3], 7));
    leader.proposal_failed(7);
    assert_eq!(leader.acknowledged(B, o(10), 2), nothing(), "C counts still");
    leader.disconnected(C);
    assert_eq!(leader.tick(3, LAG_MS_MAX), proposal(&[1, 2], 7));
    assert_eq!(leader.changed(entry(8, &[1, 2])), moved());
    assert_eq!(leader.high_watermark(), o(10));
}

#[test]
fn nothing_becomes_safe_while_too_few_are_in_sync() {
    let mut leader = three();
    leader.appended(o(10));
    leader.flushed(o(10));
    let alone = Term {
        min_insync: 2,
        ..entry(8, &[1])
    };
    assert_eq!(leader.changed(alone), nothing());
    assert!(!leader.has_enough_in_sync());
    assert_eq!(leader.acknowledged(B, o(10), 1), proposal(&[1, 2], 8));
    let both = Term {
        min_insync: 2,
        ..entry(9, &[1, 2])
    };
    assert_eq!(leader.changed(both), moved());
    assert_eq!(leader.high_watermark(), o(10));
}

#[test]
fn an_older_entry_and_a_stranger_change_nothing() {
    let mut leader = three();
    assert_eq!(leader.changed(entry(6, &[1])), nothing());
    assert_eq!(leader.isr(), [ME, B, C]);
    assert_eq!(leader.acknowledged(BrokerId(9), o(5), 1), nothing());
    assert_eq!(leader.followers(1).count(), 2);
}

#[test]
fn followers_are_seen_as_they_are() {
    let mut leader = two_of_three();
    leader.appended(o(10));
    let _ = leader.acknowledged(B, o(10), 50);
    let _ = leader.acknowledged(C, o(4), 60);
    let view = |id, durable_end, in_sync, lag, lag_ms| FollowerView {
        id,
        durable_end: o(durable_end),
        in_sync,
        lag,
        lag_ms,
    };
    let seen: Vec<_> = leader.followers(70).collect();
    assert_eq!(seen, [view(B, 10, true, 0, 0), view(C, 4, false, 6, 70)]);
}

/// A log as its batches' epochs, one record each.
fn end_of(log: &[i32], epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
    let end = log.iter().take_while(|e| **e <= epoch.0).count();
    let floor = log[..end].last()?;
    Some((LeaderEpoch(*floor), o(end as i64)))
}

/// What is left of a follower's log, and how often it asked.
fn reconcile(leader: &[i32], follower: &[i32]) -> (Vec<i32>, usize) {
    let mut log = follower.to_vec();
    for asked in 1.. {
        let last = LeaderEpoch(log.last().copied().unwrap_or(-1));
        match leader_answer(last, o(log.len() as i64), |e| end_of(leader, e), o(0)) {
            Handshake::Continue => return (log, asked),
            Handshake::Truncate { to } => log.truncate(to.0 as usize),
            Handshake::StartOver { .. } => log.clear(),
        }
        assert!(asked <= follower.len() + 1, "it ends");
    }
    unreachable!("it ends")
}

#[test]
fn a_follower_keeps_what_both_have_and_nothing_else() {
    let check = |leader: &[i32], follower: &[i32], kept: &[i32], asked| {
        assert_eq!(reconcile(leader, follower), (kept.to_vec(), asked));
    };
    check(&[0, 0, 1], &[0, 0], &[0, 0], 1);
    check(&[0, 0], &[], &[], 1);
    // KIP-101: what only the old leader had goes, whatever the high watermark was.
    check(&[0, 0, 1], &[0, 0, 0, 0], &[0, 0], 2);
    // KIP-279: an epoch in between that the leader does not know.
    check(&[0, 0, 0, 2], &[0, 0, 1, 1], &[0, 0], 3);
    check(&[0, 0, 2], &[0, 0, 1, 1, 1], &[0, 0], 2);
}

#[test]
fn a_follower_that_is_too_far_behind_starts_over() {
    let answer = leader_answer(LeaderEpoch(3), o(9), |_| Some((LeaderEpoch(3), o(50))), o(10));
    assert_eq!(answer, Handshake::StartOver { at: o(10) });
    let answer = leader_answer(LeaderEpoch::UNKNOWN, o(10), |_| None, o(10));
    assert_eq!(answer, Handshake::Continue);
}

#[derive(Debug, Clone)]
enum Event {
    Append(i64),
    Flush(i64),
    Ack(BrokerId, i64),
    Tick(i64),
    Commit,
    Refuse,
    Forget,
    LateCommit,
    Fence(BrokerId),
    Leave(BrokerId),
}

fn event() -> impl Strategy<Value = Event> {
    let follower = prop_oneof![Just(B), Just(C)];
    prop_oneof![
        4 => (1..5i64).prop_map(Event::Append),
        4 => (1..9i64).prop_map(Event::Flush),
        8 => (follower.clone(), 0..9i64).prop_map(|(id, n)| Event::Ack(id, n)),
        3 => (1..900i64).prop_map(Event::Tick),
        3 => Just(Event::Commit),
        1 => Just(Event::Refuse),
        1 => Just(Event::Forget),
        1 => Just(Event::LateCommit),
        1 => follower.clone().prop_map(Event::Fence),
        1 => follower.prop_map(Event::Leave),
    ]
}

/// The image's entry and what is really on the disks.
struct World {
    leader: Leader,
    entry: Term,
    disks: std::collections::BTreeMap<BrokerId, i64>,
    log_end: i64,
    proposal: Option<Proposal>,
    forgotten: Vec<Proposal>,
    now_ms: i64,
}

impl World {
    fn new(min_insync: usize) -> Self {
        let entry = Term {
            min_insync,
            ..term(0, &[1, 2, 3], &[1, 2, 3])
        };
        Self {
            leader: Leader::new(ME, entry.clone(), true, o(0), o(0), o(0), 0),
            entry,
            disks: [(ME, 0), (B, 0), (C, 0)].into(),
            log_end: 0,
            proposal: None,
            forgotten: Vec::new(),
            now_ms: 0,
        }
    }

    fn step(&mut self, event: Event) {
        let before = self.leader.high_watermark();
        let effects = self.happens(event);
        if let Some(proposal) = effects.proposal {
            assert!(self.proposal.replace(proposal).is_none(), "one at a time");
        }
        let high = self.leader.high_watermark();
        assert!(high >= before, "the high watermark never goes back");
        let members = self.entry.isr.iter().chain(self.leader.isr());
        for id in members.copied().chain(self.leader.counted()) {
            assert!(
                high.0 <= self.disks[&id],
                "{id} is in sync and lacks what is safe"
            );
        }
        if high > before {
            assert!(self.leader.isr().len() >= self.entry.min_insync);
        }
    }

    fn happens(&mut self, event: Event) -> Effects {
        match event {
            Event::Append(n) => {
                self.log_end += n;
                self.leader.appended(o(self.log_end));
            }
            Event::Flush(n) => {
                self.hold(ME, n);
                self.leader.flushed(o(self.disks[&ME]));
            }
            Event::Ack(id, n) => {
                self.hold(id, n);
                return self.leader.acknowledged(id, o(self.disks[&id]), self.now_ms);
            }
            Event::Tick(ms) => {
                self.now_ms += ms;
                return self.leader.tick(self.now_ms, LAG_MS_MAX);
            }
            Event::Commit => {
                if let Some(proposal) = self.proposal.take() {
                    return self.commit(proposal);
                }
            }
            Event::Refuse => {
                if let Some(proposal) = self.proposal.take() {
                    self.leader.proposal_refused(proposal.partition_epoch);
                }
            }
            Event::Forget => {
                if let Some(proposal) = self.proposal.take() {
                    self.leader.proposal_failed(proposal.partition_epoch);
                    self.forgotten.push(proposal);
                }
            }
            Event::LateCommit => {
                if let Some(proposal) = self.forgotten.pop() {
                    return self.commit(proposal);
                }
            }
            Event::Fence(id) => {
                let isr = self.entry.isr.iter().copied().filter(|m| *m != id).collect();
                return self.enter(isr);
            }
            Event::Leave(id) => self.leader.disconnected(id),
        }
        Effects::default()
    }

    fn hold(&mut self, id: BrokerId, more: i64) {
        let end = self.log_end;
        self.disks
            .entry(id)
            .and_modify(|held| *held = end.min(*held + more));
    }

    fn commit(&mut self, proposal: Proposal) -> Effects {
        match proposal.partition_epoch == self.entry.partition_epoch {
            true => self.enter(proposal.isr),
            false => Effects::default(),
        }
    }

    fn enter(&mut self, isr: Vec<BrokerId>) -> Effects {
        self.entry.isr = isr;
        self.entry.partition_epoch += 1;
        self.proposal = None;
        self.leader.changed(self.entry.clone())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whoever_is_in_sync_holds_what_is_safe(
        min_insync in 1..3usize,
        events in proptest::collection::vec(event(), 1..200),
    ) {
        let mut world = World::new(min_insync);
        for event in events {
            world.step(event);
        }
    }

    #[test]
    fn logs_part_exactly_where_they_differ(
        common in proptest::collection::vec(0..3i32, 0..6),
        mine in proptest::collection::vec(3..9i32, 0..6),
        theirs in proptest::collection::vec(3..9i32, 0..6),
    ) {
        // Records of one epoch are one leader's: two logs that part have no epoch in common from there on, but one in
        // which one of them stopped earlier.
        let log = |tail: &[i32], parity: i32| {
            let mut log = common.clone();
            log.sort_unstable();
            let mut tail: Vec<_> = tail.iter().map(|epoch| epoch * 2 + parity).collect();
            tail.sort_unstable();
            log.extend(tail);
            log
        };
        let (leader, follower) = (log(&mine, 1), log(&theirs, 0));
        prop_assert_eq!(reconcile(&leader, &follower).0, follower[..common.len()].to_vec());
        let shorter = &leader[..common.len() + mine.len() / 2];
        prop_assert_eq!(reconcile(&leader, shorter).0, shorter.to_vec());
    }
}

fn o(offset: i64) -> Offset {
    Offset(offset)
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn term(epoch: i32, replicas: &[i32], isr: &[i32]) -> Term {
    Term {
        epoch: LeaderEpoch(epoch),
        partition_epoch: 7,
        replicas: ids(replicas),
        isr: ids(isr),
        min_insync: 1,
    }
}

fn entry(partition_epoch: i32, isr: &[i32]) -> Term {
    Term {
        partition_epoch,
        ..term(0, &[1, 2, 3], isr)
    }
}

fn three() -> Leader {
    Leader::new(ME, term(0, &[1, 2, 3], &[1, 2, 3]), true, o(0), o(0), o(0), 0)
}

fn two_of_three() -> Leader {
    Leader::new(ME, term(0, &[1, 2, 3], &[1, 2]), true, o(0), o(0), o(0), 0)
}

fn nothing() -> Effects {
    Effects::default()
}

fn moved() -> Effects {
    Effects {
        high_moved: true,
        proposal: None,
    }
}

fn proposal(isr: &[i32], partition_epoch: i32) -> Effects {
    let isr = ids(isr);
    Effects {
        high_moved: false,
        proposal: Some(Proposal { isr, partition_epoch }),
    }
}
