//! Nodes that elect, agree, die and come back.

use std::time::Duration;

use millstream_core::cluster::Command;
use millstream_storage::disk::RealDisk;
use rand::RngCore;
use tokio::time::{Instant, timeout};

use super::scene::{Scene, address_of, command, until};
use crate::{
    Leadership, Quorum, QuorumConfig, QuorumError, QuorumState, SubmitError, ThreadRandom, Transport,
    seed_thread,
};

#[tokio::test(start_paused = true)]
async fn three_nodes_elect_and_agree() {
    let scene = Scene::begin(1, 3, 1000).await;
    let leader = scene.leader().await;
    let applied = scene.submit(&leader, 5).await;
    assert_eq!(applied.version, leader.image().version());
    scene.expect_same_image(&[1, 2, 3], 5).await;
    leader.ensure_linearizable().await.unwrap();

    let status = leader.metrics();
    assert_eq!(status.state, QuorumState::Leader);
    assert_eq!(status.voters.len(), 3);
    until("the leader knows that all have all", || {
        leader.metrics().voters.iter().all(|voter| voter.lag == Some(0))
    })
    .await;
    let follower = scene.node(1 + status.id % 3);
    let (leader_id, address) = follower.leader().unwrap();
    let refused = follower.submit(command(1)).await.unwrap_err();
    assert_eq!(refused, SubmitError::NotLeader(Some((leader_id, address))));
    let watched = follower.watch_leadership().borrow().clone();
    let leader = Some((leader_id, address_of(leader_id)));
    assert_eq!(
        watched,
        Leadership {
            term: status.term,
            leader,
            is_me: false
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer() {
    let scene = Scene::begin(2, 3, 1000).await;
    let leader = scene.leader().await;
    let delete = |name: String| Command::DeletePlugin {
        name,
        version: "1.0.0".to_owned().try_into().unwrap(),
    };
    let applied = leader.submit(delete("nothing".to_owned())).await.unwrap();
    assert!(applied.outcome.is_err());
    assert_eq!(applied.version, 0);
    let large = delete("x".repeat(crate::COMMAND_BYTES_MAX));
    let error = leader.submit(large).await.unwrap_err();
    assert!(matches!(error, SubmitError::TooLarge { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_another_one_goes_on_from_what_was_agreed() {
    let mut scene = Scene::begin(3, 3, 1000).await;
    let first = scene.leader().await;
    let first_id = first.metrics().id;
    scene.submit(&first, 10).await;
    scene.crash(first_id).await;
    let died = Instant::now();
    let second = scene.leader_other_than(Some(first_id)).await;
    assert!(
        died.elapsed() < Duration::from_millis(1500),
        "took {:?}",
        died.elapsed()
    );
    assert!(second.metrics().term > 1);
    scene.submit(&second, 10).await;
    scene.start(first_id).await;
    scene.expect_same_image(&[1, 2, 3], 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_decides_nothing() {
    let scene = Scene::begin(4, 3, 1000).await;
    let first = scene.leader().await;
    let first_id = first.metrics().id;
    scene.submit(&first, 3).await;
    scene.cut_off(first_id);
    let alone = first.submit(command(1_000_000));
    let second = timeout(Duration::from_secs(5), alone).await;
    assert!(second.is_err(), "a command without a majority");
    assert!(first.metrics().since_quorum_ack_ms.unwrap() > 4000);
    first.ensure_linearizable().await.unwrap_err();
    let second = scene.leader_other_than(Some(first_id)).await;
    scene.submit(&second, 3).await;
    scene.heal();
    scene.expect_same_image(&[1, 2, 3], 6).await;
    until("the first one follows", || {
        first.metrics().state == QuorumState::Follower
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn all_nodes_come_back_from_their_disks_with_the_same_image() {
    let mut scene = Scene::begin(5, 3, 20).await;
    let leader = scene.leader().await;
    let version = scene.submit(&leader, 75).await.version;
    let before = scene.expect_same_image(&[1, 2, 3], version).await;
    for id in 1..=3 {
        scene.crash(id).await;
    }
    for id in 1..=3 {
        scene.start(id).await;
        assert!(scene.node(id).is_initialised());
    }
    let leader = scene.leader().await;
    assert_eq!(scene.expect_same_image(&[1, 2, 3], version).await, before);
    scene.submit(&leader, 1).await;
    // One that ends in order has its image at once when it starts, before any leader tells it.
    let held = scene.expect_same_image(&[1, 2, 3], version + 1).await;
    let id = 1 + leader.metrics().id % 3;
    scene.stop(id).await;
    scene.start(id).await;
    assert_eq!(scene.node(id).image().encode(), held);
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_disk_fails_stops_and_the_others_go_on() {
    let scene = Scene::begin(6, 3, 1000).await;
    let leader = scene.leader().await;
    let id = 1 + leader.metrics().id % 3;
    let follower = scene.node(id);
    scene.fail_next_sync(id);
    scene.submit(&leader, 5).await;
    until("it stops", || follower.metrics().state == QuorumState::Stopped).await;
    let error = follower.submit(command(1)).await.unwrap_err();
    assert!(matches!(error, SubmitError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("quorum.log"), "{error}");
    scene.submit(&leader, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_full_waits_for_room_and_then_goes_on() {
    // With snapshots, which want room too, and without.
    for (seed, snapshot_after) in [(61, 1000), (62, 5)] {
        let mut scene = Scene::begin(seed, 3, snapshot_after).await;
        let leader = scene.leader().await;
        let first = leader.metrics().id;
        let id = 1 + first % 3;
        let follower = scene.node(id);
        scene.leave_room(id, 20);
        scene.submit(&leader, 12).await;
        until("the follower is out of room", || follower.is_out_of_room()).await;
        assert!(matches!(follower.handle(b"").await, Err(QuorumError::DiskFull)));
        scene.leave_room(id, 1 << 20);
        let version = scene.submit(&leader, 1).await.version;
        scene.expect_same_image(&[1, 2, 3], version).await;
        assert!(!follower.is_out_of_room());

        // If it is the leader's, then another one leads meanwhile.
        scene.leave_room(first, 20);
        let stuck = tokio::spawn({
            let leader = leader.clone();
            async move { while leader.submit(command(1)).await.is_ok() {} }
        });
        until("the leader is out of room", || leader.is_out_of_room()).await;
        let others: Vec<_> = (1..=3)
            .filter(|id| *id != first)
            .map(|id| scene.node(id))
            .collect();
        until("another one leads", || others.iter().any(Quorum::is_leader)).await;
        let second = others.iter().find(|node| node.is_leader()).unwrap();
        scene.submit(second, 5).await;
        scene.leave_room(first, 1 << 20);
        stuck.await.unwrap();
        let second = scene.leader().await;
        let version = scene.submit(&second, 1).await.version;
        let held = scene.expect_same_image(&[1, 2, 3], version).await;

        // What was written by half is not in the way of a start, nor is a full disk in the way of an end.
        scene.leave_room(id, 20);
        scene.crash(id).await;
        scene.leave_room(id, 1 << 20);
        scene.start(id).await;
        assert_eq!(scene.expect_same_image(&[1, 2, 3], version).await, held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_is_full_can_be_ended() {
    let scene = Scene::begin(63, 3, 1000).await;
    let leader = scene.leader().await;
    let id = 1 + leader.metrics().id % 3;
    let follower = scene.node(id);
    scene.leave_room(id, 20);
    scene.submit(&leader, 1).await;
    until("the follower is out of room", || follower.is_out_of_room()).await;
    timeout(Duration::from_secs(5), scene.stop(id)).await.unwrap();
    scene.submit(&leader, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_out_of_room_for_long_comes_back_without_an_election() {
    let scene = Scene::begin(64, 3, 1000).await;
    let leader = scene.leader().await;
    let status = leader.metrics();
    let id = 1 + status.id % 3;
    let follower = scene.node(id);
    scene.leave_room(id, 20);
    scene.submit(&leader, 5).await;
    until("the follower is out of room", || follower.is_out_of_room()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(follower.leader().is_none() && follower.is_out_of_room());
    scene.leave_room(id, 1 << 20);
    let version = scene.submit(&leader, 1).await.version;
    scene.expect_same_image(&[1, 2, 3], version).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = scene.leader().await.metrics();
    assert_eq!((after.id, after.term), (status.id, status.term));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_no_room_for_a_snapshot_does_not_keep_others_from_leading() {
    let scene = Scene::begin(65, 3, 1000).await;
    let leader = scene.leader().await;
    let id = leader.metrics().id;
    let before = scene.submit(&leader, 5).await.version;
    // Its log wants nothing, so only the snapshot waits.
    scene.leave_room(id, 20);
    leader.snapshot().await.unwrap();
    until("the leader is out of room", || leader.is_out_of_room()).await;
    let began = Instant::now();
    let others: Vec<_> = (1..=3)
        .filter(|other| *other != id)
        .map(|other| scene.node(other))
        .collect();
    until("another one leads", || others.iter().any(Quorum::is_leader)).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Nothing that is asked of it heaps up, or makes the others trust it.
    assert!(!leader.is_leader() && leader.leader().is_none());
    let refused = leader.submit(command(1)).await.unwrap_err();
    assert_eq!(refused, SubmitError::DiskFull);
    assert_eq!(leader.ensure_linearizable().await, Err(SubmitError::DiskFull));
    let refused = leader.add_learner(4, address_of(4)).await.unwrap_err();
    assert_eq!(refused, SubmitError::DiskFull.into());
    assert!(!leader.hand_over(Duration::from_secs(5)).await);
    let second = others.iter().find(|node| node.is_leader()).unwrap();
    scene.submit(second, 5).await;
    scene.leave_room(id, 1 << 20);
    let second = scene.leader_other_than(Some(id)).await;
    let version = scene.submit(&second, 1).await.version;
    assert_eq!(version, before + 6);
    scene.expect_same_image(&[1, 2, 3], version).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_no_room_for_the_leaders_snapshot_can_be_ended_and_begun_again() {
    let mut scene = Scene::begin(66, 3, 10).await;
    let leader = scene.leader().await;
    let id = 1 + leader.metrics().id % 3;
    scene.cut_off(id);
    let version = scene.submit(&leader, 80).await.version;
    scene.leave_room(id, 20);
    scene.heal();
    let follower = scene.node(id);
    until("the follower is out of room", || follower.is_out_of_room()).await;
    timeout(Duration::from_secs(5), scene.stop(id)).await.unwrap();
    scene.leave_room(id, 1 << 20);
    scene.start(id).await;
    scene.expect_same_image(&[1, 2, 3], version).await;
}

/// Who was elected, when, and how all went on.
async fn trace(seed: u64) -> Vec<(u64, u64, Duration)> {
    let begin = Instant::now();
    let scene = Scene::begin(seed, 5, 10).await;
    let mut trace = Vec::new();
    let mut last = None;
    for _ in 0..3 {
        let leader = scene.leader_other_than(last).await;
        let status = leader.metrics();
        trace.push((status.id, status.term, begin.elapsed()));
        scene.submit(&leader, 15).await;
        scene.heal();
        scene.cut_off(status.id);
        last = Some(status.id);
    }
    for id in 1..=5 {
        scene.stop(id).await;
    }
    trace
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_elections() {
    let traces = [trace(7).await, trace(7).await];
    assert_eq!(traces[0], traces[1]);
    let mut others = Vec::new();
    for seed in 8..12 {
        others.push(trace(seed).await);
    }
    assert!(others.iter().any(|other| *other != traces[0]), "the seed matters");
}

#[test]
fn random_numbers_are_those_of_the_threads_seed() {
    let draw = || {
        seed_thread(Some(3));
        let mut bytes = [0; 11];
        ThreadRandom.fill_bytes(&mut bytes);
        (ThreadRandom.next_u64(), ThreadRandom.next_u32(), bytes)
    };
    assert_eq!(draw(), draw());
    seed_thread(None);
    assert_ne!(ThreadRandom.next_u64(), ThreadRandom.next_u64());
}

#[derive(Clone)]
struct Nobody;

impl Transport for Nobody {
    async fn call(&self, _: u64, _: &str, _: Vec<u8>) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotConnected.into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_one_runs_on_a_real_disk_and_its_threads() {
    let data = tempfile::tempdir().unwrap();
    let config = QuorumConfig {
        heartbeat_ms: 10,
        election_ms: 50,
        snapshot_after: 10,
        ..QuorumConfig::new(1, data.path().join("quorum"))
    };
    let open = || Quorum::open(config.clone(), RealDisk, Nobody, |_, _| {});
    let node = open().await.unwrap();
    let others = [(2, address_of(2))].into();
    let error = node.initialise(others).await.unwrap_err();
    assert!(
        matches!(error, QuorumError::NotAmongVoters { me: 1, .. }),
        "{error}"
    );
    node.initialise([(1, address_of(1))].into()).await.unwrap();
    let mut leadership = node.watch_leadership();
    leadership.wait_for(|leadership| leadership.is_me).await.unwrap();
    for _ in 0..35 {
        node.submit(command(5)).await.unwrap();
    }
    let held = node.image().encode();
    node.shutdown().await;
    let node = open().await.unwrap();
    assert_eq!(node.image().encode(), held);
    assert!(node.metrics().snapshot.is_some());
    node.shutdown().await;
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let config = QuorumConfig {
        heartbeat_ms: 1000,
        ..QuorumConfig::new(1, data.path().join("quorum"))
    };
    let opened = Quorum::open(config, RealDisk, Nobody, |_, _| {}).await;
    assert!(matches!(opened.err(), Some(QuorumError::Config(_))));
}
