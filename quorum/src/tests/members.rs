//! Nodes that join, get a vote, lose it and are forgotten.

use super::scene::{Scene, address_of, until};
use crate::{MemberError, Quorum};

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_far_behind_gets_a_snapshot() {
    let mut scene = Scene::begin(21, 3, 10).await;
    let leader = scene.leader().await;
    let version = scene.submit(&leader, 100).await.version;
    scene.start(4).await;
    assert!(!scene.node(4).is_initialised());
    leader.add_learner(4, address_of(4)).await.unwrap();
    scene.expect_same_image(&[1, 2, 3, 4], version).await;
    let status = scene.node(4).metrics();
    assert!(status.snapshot.is_some(), "{status:?}");
    assert_eq!(status.learners.len(), 1);
    // It is no other after a crash.
    scene.crash(4).await;
    scene.start(4).await;
    let version = scene.submit(&leader, 3).await.version;
    scene.expect_same_image(&[1, 2, 3, 4], version).await;
}

#[tokio::test(start_paused = true)]
async fn voters_come_and_go() {
    let mut scene = Scene::begin(22, 3, 1000).await;
    let leader = scene.leader().await;
    scene.submit(&leader, 5).await;
    scene.start(4).await;
    assert_eq!(leader.add_voter(4).await, Err(MemberError::Unknown(4)));
    leader.add_learner(4, address_of(4)).await.unwrap();
    leader.add_learner(4, address_of(4)).await.unwrap();
    scene.expect_same_image(&[4], 5).await;
    learners_have_all(&leader).await;
    leader.add_voter(4).await.unwrap();
    let voters = |status: crate::QuorumStatus| status.voters.iter().map(|v| v.id).collect::<Vec<_>>();
    assert_eq!(voters(leader.metrics()), [1, 2, 3, 4]);

    let other = 1 + leader.metrics().id % 3;
    assert_eq!(leader.remove_node(other).await, Err(MemberError::IsVoter(other)));
    leader.remove_voter(other).await.unwrap();
    assert_eq!(leader.metrics().learners[0].id, other);
    let version = scene.submit(&leader, 1).await.version;
    scene.expect_same_image(&[1, 2, 3, 4], version).await;
    leader.remove_node(other).await.unwrap();
    assert!(leader.metrics().learners.is_empty());
    scene.stop(other).await;

    // The leader gives up its own vote: it leads until it stops, and no longer counts for a majority.
    let id = leader.metrics().id;
    leader.remove_voter(id).await.unwrap();
    let version = scene.submit(&leader, 1).await.version;
    scene.stop(id).await;
    let next = scene.leader_other_than(Some(id)).await;
    assert_eq!(next.image().version(), version);
    scene.submit(&next, 1).await;
    assert_eq!(voters(next.metrics()).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_voter_stays() {
    let scene = Scene::begin(23, 1, 1000).await;
    let leader = scene.leader().await;
    assert_eq!(leader.remove_voter(1).await, Err(MemberError::LastVoter(1)));
    scene.submit(&leader, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moves_is_found_again() {
    let mut scene = Scene::begin(24, 3, 1000).await;
    let leader = scene.leader().await;
    scene.start(4).await;
    leader.add_learner(4, "elsewhere:1".to_owned()).await.unwrap();
    let version = scene.submit(&leader, 1).await.version;
    leader.add_learner(4, address_of(4)).await.unwrap();
    scene.expect_same_image(&[1, 2, 3, 4], version).await;
    // It does not answer at all, so it cannot vote.
    scene.stop(4).await;
    scene.start(5).await;
    scene.cut_off(5);
    leader.add_learner(5, address_of(5)).await.unwrap();
    let refused = leader.add_voter(5).await.unwrap_err();
    assert!(matches!(refused, MemberError::Lagging { id: 5, .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_lost_its_disk_is_forgotten_and_joins_again() {
    let mut scene = Scene::begin(25, 3, 1000).await;
    let leader = scene.leader().await;
    scene.submit(&leader, 5).await;
    let id = 1 + leader.metrics().id % 3;
    scene.lose_disk(id).await;
    leader.remove_voter(id).await.unwrap();
    leader.remove_node(id).await.unwrap();
    scene.start(id).await;
    leader.add_learner(id, address_of(id)).await.unwrap();
    let version = scene.submit(&leader, 1).await.version;
    scene.expect_same_image(&[1, 2, 3], version).await;
    learners_have_all(&leader).await;
    leader.add_voter(id).await.unwrap();
    assert_eq!(leader.metrics().voters.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_comes_back_without_its_disk_does_not_take_the_leader_down() {
    let mut scene = Scene::begin(26, 3, 1000).await;
    let leader = scene.leader().await;
    scene.submit(&leader, 5).await;
    let id = 1 + leader.metrics().id % 3;
    scene.lose_disk(id).await;
    scene.start(id).await;
    let voters = (1..=3).map(|id| (id, address_of(id))).collect();
    scene.node(id).initialise(voters).await.unwrap();
    let leader = scene.leader().await;
    let version = scene.submit(&leader, 5).await.version;
    scene.expect_same_image(&[1, 2, 3], version).await;
}

/// Waits until the leader knows that its learners have all that it has.
async fn learners_have_all(leader: &Quorum) {
    until("the leader knows that its learners have all", || {
        let learners = leader.metrics().learners;
        learners.iter().all(|learner| learner.lag == Some(0))
    })
    .await;
}
