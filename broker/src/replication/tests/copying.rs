//! Records get to followers, and logs that parted agree again.

use millstream_storage::EndMarker;

use super::*;
use crate::partitions::{Isolation, NotDurable};

#[tokio::test(flavor = "multi_thread")]
async fn records_are_safe_once_all_that_are_in_sync_hold_them_and_all_hold_the_same_bytes() {
    let world = World::of(3);
    for n in 0..200_u32 {
        let receipt = world.append(1, &n.to_be_bytes());
        assert!(receipt.durable.is_some(), "nobody else can have it yet");
    }
    world.produce(1, b"last").await;
    for id in [2, 3] {
        let safe = world.partition(id).with_log(|log| log.flushed_offset());
        assert_eq!(safe, end(201), "broker {id} has on its disk what is safe");
    }
    world.agree(&[1, 2, 3]).await;
    let stats = world.nodes[&BrokerId(1)].replication.stats();
    assert_eq!((stats.followers, stats.leaders), (2, 0));
    assert!(stats.bytes_out > 2 * 200 * 60);
    assert!(world.nodes[&BrokerId(2)].replication.stats().bytes_in > 200 * 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_wait_for_disks_waits_for_the_copies() {
    let world = World::with(3, false, 10_000);
    world.produce(1, b"a").await;
    for id in [2, 3] {
        assert_eq!(world.partition(id).watermarks().log_end, end(1));
    }
    world.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_larger_than_a_frame_and_many_small_ones_arrive() {
    let world = World::of(2);
    world.produce(1, &vec![1; 3 << 20]).await;
    let mut last = None;
    for n in 0..100_u8 {
        last = world.append(1, &vec![n; 40_000]).durable;
    }
    within(last.unwrap()).await.unwrap().unwrap();
    world.agree(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_leader_kept_for_itself_is_cut_off_and_what_was_safe_stays() {
    let world = World::of(3);
    world.produce(1, b"safe").await;
    world.cut(1).await;
    let waiting = world.append(1, b"never safe").durable.unwrap();
    world.append(1, b"nor this");
    world.fence(1);
    assert_eq!(within(waiting).await.unwrap(), Err(NotDurable::NotLeader));
    assert!(!world.partition(1).is_leader() && world.partition(2).is_leader());
    assert!(world.partition(1).append(&batch(b"x"), 0).is_err());
    world.produce(2, b"of the new leader").await;
    world.heal(1);
    world.agree(&[1, 2, 3]).await;
    assert_eq!(world.partition(1).watermarks().log_end, end(2));
    world.unfence(1);
    eventually(|| world.in_sync() == [1, 2, 3]).await;
    world.produce(2, b"to all").await;
    world.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_take_turns_leave_no_two_histories() {
    let world = World::of(3);
    for round in 0..6_u8 {
        let leader = world.described().leader.unwrap().0;
        world.produce(leader, &[round]).await;
        world.cut(leader).await;
        world.append(leader, b"lost");
        world.fence(leader);
        let next = world.described().leader.unwrap().0;
        assert_ne!(next, leader);
        world.append(next, &[round, 1]);
        world.produce(next, &[round, 2]).await;
        world.heal(leader);
        world.unfence(leader);
        eventually(|| world.in_sync() == [1, 2, 3]).await;
    }
    world.agree(&[1, 2, 3]).await;
    assert_eq!(world.partition(1).watermarks().log_end, end(18));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_begins_anew_where_its_leader_has_nothing_older() {
    let world = World::of(3);
    world.produce(1, b"0").await;
    world.agree(&[1, 2, 3]).await;
    world.cut(3).await;
    world.fence(3);
    world
        .partition(1)
        .append(&batch_of(&[b"1", b"2", b"3", b"4"]), 0)
        .unwrap();
    world.produce(1, b"5").await;
    // In the middle of a batch: the follower needs all of the batch.
    world.partition(1).delete_records_before(end(3)).unwrap();
    eventually(|| world.partition(2).watermarks().log_start == end(3)).await;
    world.heal(3);
    world.agree(&[1, 2, 3]).await;
    assert_eq!(world.partition(3).watermarks().log_start, end(3));
    world.produce(1, b"6").await;
    world.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_opened_again_and_nothing_is_missing() {
    let world = World::of(2);
    for n in 0..20_u8 {
        world.produce(1, &[n]).await;
        world.cut(2).await;
        world.append(1, &[n, 1]);
        world.heal(2);
    }
    world.produce(1, b"last").await;
    world.agree(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_tells_readers_what_is_decided_from_its_own_log() {
    let world = World::of(3);
    let mut batch = BatchBuilder::new().producer(7, 0, 0).transactional(true);
    batch.append(0, None, Some(b"v"), &[]).unwrap();
    world.partition(1).append(&batch.finish().unwrap(), 0).unwrap();
    world.produce(1, b"of no transaction").await;
    world.agree(&[1, 2, 3]).await;
    assert_eq!(world.partition(3).watermarks().last_stable, end(0));
    let marker = EndMarker {
        producer_id: 7,
        producer_epoch: 0,
        is_commit: false,
        coordinator_epoch: 0,
        bumps_epoch: false,
    };
    let receipt = world.partition(1).append_marker(marker, 0).unwrap();
    within(receipt.durable.unwrap()).await.unwrap().unwrap();
    world.agree(&[1, 2, 3]).await;
    let follower = world.partition(3);
    assert_eq!(follower.watermarks().last_stable, end(3));
    let read = follower.read_as(Isolation::Committed, end(0), 1 << 20, true);
    let aborted = follower.aborted_in(end(0), &read.unwrap().slice.unwrap());
    assert_eq!(aborted.unwrap().len(), 1);
}
