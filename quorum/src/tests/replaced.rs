//! Leaders that are known to be gone, and leaders that say so themselves.

use std::time::Duration;

use tokio::time::Instant;

use super::scene::Scene;

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_known_to_be_gone_is_replaced_at_once() {
    for seed in 50..60 {
        let scene = Scene::begin(seed, 3, 1000).await;
        let leader = scene.leader().await;
        let id = leader.metrics().id;
        let version = scene.submit(&leader, 5).await.version;
        tokio::time::sleep(Duration::from_millis(seed * 7)).await;
        scene.crash(id).await;
        let crashed = Instant::now();
        for other in (1..=3).filter(|other| *other != id) {
            scene.node(other).lost(id);
        }
        let next = scene.leader_other_than(Some(id)).await;
        // The lease that the leader's last heartbeat gave, an election, and until it is looked.
        assert!(
            crashed.elapsed() < Duration::from_millis(350),
            "{:?}",
            crashed.elapsed()
        );
        assert!(scene.submit(&next, 1).await.version > version);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_falls_silent_is_replaced_later() {
    let scene = Scene::begin(61, 3, 1000).await;
    let leader = scene.leader().await;
    let id = leader.metrics().id;
    scene.crash(id).await;
    let crashed = Instant::now();
    scene.leader_other_than(Some(id)).await;
    let pause = crashed.elapsed();
    assert!(
        pause > Duration::from_millis(300) && pause < Duration::from_millis(1200),
        "{pause:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_hands_over_before_it_ends() {
    for (seed, voters) in [(70, 3), (71, 3), (72, 5), (73, 2)] {
        let scene = Scene::begin(seed, voters, 1000).await;
        let leader = scene.leader().await;
        let id = leader.metrics().id;
        let before = scene.submit(&leader, 3).await;
        let began = Instant::now();
        assert!(leader.hand_over(Duration::from_secs(2)).await, "seed {seed}");
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
        let next = scene.leader_other_than(Some(id)).await;
        assert!(scene.submit(&next, 1).await.version > before.version);
        // It is an ordinary voter again, and does not take back what it gave.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(scene.leader().await.metrics().id, next.metrics().id);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_or_is_alone_hands_nothing_over() {
    let scene = Scene::begin(80, 3, 1000).await;
    let leader = scene.leader().await;
    let id = leader.metrics().id;
    assert!(scene.node(1 + id % 3).hand_over(Duration::from_secs(2)).await);
    assert_eq!(scene.leader().await.metrics().id, id);
    let lone = Scene::begin(81, 1, 1000).await;
    assert!(!lone.leader().await.hand_over(Duration::from_secs(2)).await);
    lone.submit(&lone.leader().await, 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_wrong_about_the_leader_does_not_stop_the_others() {
    let scene = Scene::begin(90, 3, 1000).await;
    let leader = scene.leader().await;
    let id = leader.metrics().id;
    scene.node(1 + id % 3).lost(id);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let leads = scene.leader().await;
    scene.submit(&leads, 3).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_most_of_the_log_wins_however_eager_the_others_are() {
    for seed in 100..110 {
        let mut scene = Scene::begin(seed, 3, 1000).await;
        let leader = scene.leader().await;
        let id = leader.metrics().id;
        let [behind, ahead] = [1 + id % 3, 1 + (id + 1) % 3];
        scene.cut_off(behind);
        let version = scene.submit(&leader, 5).await.version;
        scene.heal();
        // Both others are gone at once, and only one of them comes back.
        scene.crash(id).await;
        scene.crash(ahead).await;
        scene.node(behind).lost(id);
        tokio::time::sleep(Duration::from_secs(20)).await;
        scene.start(ahead).await;
        let began = Instant::now();
        let next = scene.leader_other_than(Some(id)).await;
        assert_eq!(next.metrics().id, ahead);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(scene.submit(&next, 1).await.version > version);
    }
}
