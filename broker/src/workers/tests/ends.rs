//! Who may still write: what is paused, deleted, or cut off leaves nothing behind that commits later.

use axum::extract::{Path, Query, State as Extracted};
use millstream_core::ids::PartitionIndex;

use super::*;
use crate::http::transforms::{self, body::Keeping};
use crate::workers::platform::{self, Trouble, Who};
use crate::workers::reset::{ResetTo, reset};
use crate::workers::writing::Part;

fn who(world: &World, name: &str) -> Who {
    let image = world.context().controller.image();
    crate::workers::who(image.transform(name).unwrap(), &topic("in"), PartitionIndex(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_without_a_transaction_ends_before_offsets_are_set_anew() {
    let world = world().await;
    let relaxed = TransformSpec {
        guarantee: Guarantee::AtLeastOnce,
        ..spec("split")
    };
    deploy(&world, relaxed, "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a", "0 b"])).await.unwrap();
    until_done(&world, "split").await;
    // Sinks take nothing for a while.
    let lease = &world.context().lease;
    lease.end();
    world.produce("in", 0, &batch(&["0 c"])).await.unwrap();
    until("it has read the record", async || {
        look(&world, "split").await[0].lag == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    let (context, image) = (world.context().clone(), world.context().controller.image());
    let transform = image.transform("split").unwrap().clone();
    let asked = tokio::spawn(async move { reset(&context, &transform, ResetTo::Offset(1), false).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    lease.renew(std::time::Instant::now(), Duration::from_secs(60));
    assert!(asked.await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let known = who(&world, "split").committed(world.context()).await.unwrap();
    assert_eq!(known.map(|place| place.offset), Some(1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ran_a_transform_that_is_deleted_is_fenced_also_where_its_offsets_are_kept() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a"])).await.unwrap();
    until_done(&world, "split").await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    // A broker that has not heard of the pause, nor of what follows.
    let (context, late) = (world.context().clone(), who(&world, "split"));
    let producer = late.init(&context).await.unwrap();
    let keeping = Query(Keeping { keep_offsets: true });
    let deleted = transforms::delete(Extracted(context.clone()), Path("split".to_owned()), Ok(keeping));
    assert!(deleted.await.is_ok());
    let begun = late.begin(&context, producer, &[]).await;
    assert!(matches!(begun, Err(Trouble::Over(_))), "{begun:?}");
    let known = late.committed(&context).await.unwrap();
    assert_eq!(known.map(|place| place.offset), Some(1), "its offsets are kept");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_takes_nothing_over() {
    let world = world().await;
    world.context().lease.end();
    deploy(&world, spec("split"), "router").await.unwrap();
    until("it says why", async || {
        let reports = look(&world, "split").await;
        let says = |r: &PartitionReport| r.reason.as_ref().is_some_and(|r| r.contains("lost touch"));
        reports.iter().all(|r| r.state == State::Starting && says(r))
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_a_coordinator_has_not_heard_of_yet_is_waited_for() {
    let world = world().await;
    let context = world.context().clone();
    platform::prepare(&context, Guarantee::ExactlyOnce).await.unwrap();
    let who = Who {
        topic: Text::from("in"),
        partition: 0,
        group: Text::from("__transform.late"),
        transactional_id: Some(Text::from("__transform.late")),
        board: Default::default(),
    };
    let producer = who.init(&context).await.unwrap();
    let begun = tokio::spawn(async move {
        let part = Part {
            topic: Text::from("later"),
            partition: 0,
            batches: Default::default(),
        };
        who.begin(&context, producer, &[part]).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.create("later", 1, &[]).await.unwrap();
    assert_eq!(begun.await.unwrap(), Ok(()));
    world.end().await;
}

#[tokio::test]
async fn what_does_not_pass_yet_is_told_until_it_has() {
    let who = Who {
        topic: Text::from("in"),
        partition: 0,
        group: Text::from("__transform.waiting"),
        transactional_id: None,
        board: Default::default(),
    };
    let mut told = Vec::new();
    let attempt = || {
        told.push(who.board.look().waiting);
        let attempts = told.len();
        async move {
            match attempts {
                3 => Ok(attempts),
                _ => Err(Trouble::Passing(format!("no leader {attempts}"))),
            }
        }
    };
    assert_eq!(who.patiently(attempt).await, Ok(3));
    let waiting = |n: u32| Some(format!("no leader {n}"));
    assert_eq!(told, [None, waiting(1), waiting(2)]);
    assert_eq!(who.board.look().waiting, None);
}
