//! Who is in sync, and who gives up.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_falls_behind_is_waited_for_no_longer_and_comes_back() {
    let world = World::with(3, true, 300);
    world.produce(1, b"a").await;
    world.cut(3).await;
    let waiting = world.append(1, b"b").durable.unwrap();
    eventually(|| world.in_sync() == [1, 2]).await;
    within(waiting).await.unwrap().unwrap();
    assert_eq!(world.partition(3).watermarks().log_end, end(1));
    let lag = world.partition(1).followers(crate::replication::now_ms());
    assert!(
        lag.iter()
            .any(|view| view.id == BrokerId(3) && view.lag == 1 && !view.in_sync)
    );
    world.heal(3);
    eventually(|| world.in_sync() == [1, 2, 3]).await;
    world.produce(1, b"c").await;
    assert_eq!(world.partition(3).watermarks().log_end, end(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_follower_stays_in_sync() {
    let world = World::with(2, true, 100);
    world.produce(1, b"a").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.in_sync(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_controller_is_mute_nothing_becomes_safe_without_those_who_may_be_in_sync() {
    let world = World::with(2, true, 100);
    world.produce(1, b"a").await;
    *world.shared.is_mute.lock().unwrap() = true;
    world.cut(2).await;
    let waiting = world.append(1, b"b").durable.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.partition(1).watermarks().high, end(1));
    *world.shared.is_mute.lock().unwrap() = false;
    within(waiting).await.unwrap().unwrap();
    assert_eq!(world.in_sync(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_in_counts_also_where_the_answer_was_lost_and_the_next_one_says_that_it_is_too_late() {
    let world = World::with(3, true, 300);
    world.produce(1, b"a").await;
    world.cut(3).await;
    world.produce(1, b"b").await;
    assert_eq!(world.in_sync(), [1, 2]);
    *world.shared.loses_answers.lock().unwrap() = true;
    world.heal(3);
    eventually(|| world.in_sync() == [1, 2, 3]).await;
    world.cut(3).await;
    let waiting = world.append(1, b"c").durable.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.partition(1).watermarks().high, end(2));
    *world.shared.loses_answers.lock().unwrap() = false;
    world.shared.publish();
    within(waiting).await.unwrap().unwrap();
    assert_eq!(world.in_sync(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_fails_has_others_take_over() {
    let world = World::of(2);
    world.produce(1, b"a").await;
    world.agree(&[1, 2]).await;
    world.partition(1).poison();
    eventually(|| world.partition(2).is_leader()).await;
    assert_eq!(world.in_sync(), [2]);
    assert_eq!(world.nodes[&BrokerId(1)].replication.failed_partitions().len(), 1);
    world.produce(2, b"b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_in_sync_does_not_give_up() {
    let world = World::of(2);
    world.produce(1, b"a").await;
    world.cut(2).await;
    world.fence(2);
    world.partition(1).poison();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        world.described().leader,
        Some(BrokerId(1)),
        "it can still be read"
    );
}
