//! What comes out, and that it does once.

use millstream_core::ids::Offset;

use super::*;
use crate::workers::reset::{ResetError, ResetTo, delete_offsets, reset};

#[tokio::test(flavor = "multi_thread")]
async fn records_come_out_where_the_plugin_sends_them_in_the_order_of_their_partition() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    for n in 0..20 {
        let values = [format!("0 {n}"), format!("1 {n}")];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        world.produce("in", n % 2, &batch(&values)).await.unwrap();
    }
    until_done(&world, "split").await;
    let expected =
        |sink: i32, of: &[i32]| -> Vec<String> { of.iter().map(|n| format!("{sink} {n}")).collect() };
    let even: Vec<i32> = (0..20).step_by(2).collect();
    let odd: Vec<i32> = (1..20).step_by(2).collect();
    comes_out(&world, "a", 0, &expected(0, &even)).await;
    comes_out(&world, "a", 1, &expected(0, &odd)).await;
    let mut both = committed(&world, "b", 0).await;
    both.sort_by_key(|value| value[2..].parse::<i32>().unwrap());
    assert_eq!(both, expected(1, &(0..20).collect::<Vec<_>>()));
    let reports = look(&world, "split").await;
    assert_eq!(reports.len(), 2);
    assert_eq!(reports.iter().map(|r| r.records_in).sum::<u64>(), 40);
    assert_eq!(reports.iter().map(|r| r.records_out).sum::<u64>(), 40);
    assert!(
        reports
            .iter()
            .all(|r| r.commits > 0 && r.committed == 20 && r.errors == 0)
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_starts_again_goes_on_where_it_was() {
    let mut world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a", "0 b"])).await.unwrap();
    until_done(&world, "split").await;
    world.restart().await;
    world.produce("in", 0, &batch(&["0 c"])).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b", "0 c"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_transform_does_nothing_and_goes_on_behind_what_it_did() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a"])).await.unwrap();
    until_done(&world, "split").await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    world.produce("in", 0, &batch(&["0 b"])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    comes_out(&world, "a", 0, &["0 a"]).await;
    assert!(
        look(&world, "split")
            .await
            .iter()
            .all(|r| r.state == State::Paused)
    );
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_set_anew_only_while_nothing_runs() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a", "0 b"])).await.unwrap();
    until_done(&world, "split").await;
    let transform = || {
        world
            .context()
            .controller
            .image()
            .transform("split")
            .unwrap()
            .clone()
    };
    let refused = reset(world.context(), &transform(), ResetTo::Earliest, false).await;
    assert_eq!(refused, Err(ResetError::NotPaused("split".to_owned())));
    change(&world, "split", TransformChange::Pause).await.unwrap();
    let planned = reset(world.context(), &transform(), ResetTo::Offset(1), true)
        .await
        .unwrap();
    assert_eq!(planned, [("in".to_owned(), 0, 1), ("in".to_owned(), 1, 0)]);
    reset(world.context(), &transform(), ResetTo::Offset(1), false)
        .await
        .unwrap();
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b", "0 b"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_at_the_end_skips_nothing_that_comes_later() {
    let mut world = world().await;
    world.produce("in", 0, &batch(&["0 old"])).await.unwrap();
    let latest = TransformSpec {
        start: Start::Latest,
        ..spec("split")
    };
    deploy(&world, latest, "router").await.unwrap();
    until("the end is kept", async || {
        look(&world, "split").await.iter().all(|r| r.committed >= 0)
    })
    .await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    world.produce("in", 0, &batch(&["0 new"])).await.unwrap();
    world.restart().await;
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 new"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_everything_comes_out_at_least_once() {
    let world = world().await;
    let relaxed = TransformSpec {
        guarantee: Guarantee::AtLeastOnce,
        ..spec("split")
    };
    deploy(&world, relaxed, "router").await.unwrap();
    for n in 0..50 {
        world
            .produce("in", 0, &batch(&[&format!("0 {n}")]))
            .await
            .unwrap();
    }
    until_done(&world, "split").await;
    let expected: Vec<String> = (0..50).map(|n| format!("0 {n}")).collect();
    comes_out(&world, "a", 0, &expected).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_took_stop_the_partition_and_a_reset_goes_on() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a"])).await.unwrap();
    until_done(&world, "split").await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    for value in ["0 b", "0 c", "0 d"] {
        world.produce("in", 0, &batch(&[value])).await.unwrap();
    }
    let source = world.context().topics.find("in", Uuid::nil()).unwrap();
    source
        .partition(0)
        .unwrap()
        .delete_records_before(Offset(3))
        .unwrap();
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until("the partition stops", async || {
        look(&world, "split").await[0].state == State::Failed
    })
    .await;
    let reason = look(&world, "split").await[0].reason.clone().unwrap();
    assert!(reason.contains("records 1 to 2 were deleted"), "{reason}");
    change(&world, "split", TransformChange::Pause).await.unwrap();
    let transform = world
        .context()
        .controller
        .image()
        .transform("split")
        .unwrap()
        .clone();
    reset(world.context(), &transform, ResetTo::Earliest, false)
        .await
        .unwrap();
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 d"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_is_deployed_again_goes_on_if_its_offsets_were_kept() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a"])).await.unwrap();
    until_done(&world, "split").await;
    let delete = || Command::DeleteTransform {
        name: "split".to_owned(),
    };
    world.context().controller.apply(delete()).await.unwrap();
    world.produce("in", 0, &batch(&["0 b"])).await.unwrap();
    deploy(&world, spec("split"), "router").await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b"]).await;
    world.context().controller.apply(delete()).await.unwrap();
    delete_offsets(world.context(), "split").await.unwrap();
    deploy(&world, spec("split"), "router").await.unwrap();
    until("all of it came out again", async || {
        committed(&world, "a", 0).await == ["0 a", "0 b", "0 a", "0 b"]
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_later_is_read_from_its_first_record_also_by_one_that_began_at_the_latest()
{
    let world = world().await;
    let latest = TransformSpec {
        start: Start::Latest,
        ..spec("split")
    };
    world.produce("in", 0, &batch(&["0 before"])).await.unwrap();
    deploy(&world, latest, "router").await.unwrap();
    until_done(&world, "split").await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    let add = Command::CreatePartitions {
        topic: topic("in"),
        added: vec![vec![millstream_core::ids::BrokerId(1)]],
    };
    world.context().controller.apply(add).await.unwrap();
    world
        .produce("in", 2, &batch(&["0 early", "0 late"]))
        .await
        .unwrap();
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 early", "0 late"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_of_the_source_have_no_effect() {
    use millstream_core::transaction::{EndRequest, Version};
    let world = world().await;
    let context = world.context();
    context.transactions.ensure_started(context).await.unwrap();
    deploy(&world, spec("split"), "router").await.unwrap();
    let mut producer = None;
    for (value, is_commit) in [("0 yes", true), ("0 no", false), ("0 again", true)] {
        let init = || context.transactions.init(context, "client", 60_000, None);
        until("the coordinator is there", async || match init().await {
            Ok(_) => true,
            Err(code) => {
                assert!(code.retriable(), "{code}");
                false
            }
        })
        .await;
        let known = init().await.unwrap();
        let mut builder = BatchBuilder::new()
            .producer(known.id, known.epoch, 0)
            .transactional(true);
        builder
            .append(now_ms(), None, Some(value.as_bytes()), &[])
            .unwrap();
        let request = millstream_kafka::api::produce::ProduceRequest {
            transactional_id: Some(Text::from("client")),
            acks: -1,
            timeout_ms: 5000,
            topic_data: vec![millstream_kafka::api::produce::TopicProduceData {
                name: Text::from("in"),
                partition_data: vec![millstream_kafka::api::produce::PartitionProduceData {
                    index: 0,
                    records: Some(millstream_kafka::wire::Payload::Bytes(builder.finish().unwrap())),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = crate::handlers::produce::store_all(context, 12, request).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        let end = EndRequest {
            producer: known,
            is_commit,
            version: Version::V2,
            fresh: None,
        };
        producer = Some(context.transactions.end(context, "client", end).await.unwrap());
    }
    assert!(producer.is_some());
    until("both came out", async || {
        committed(&world, "a", 0).await.len() >= 2
    })
    .await;
    comes_out(&world, "a", 0, &["0 yes", "0 again"]).await;
    until_done(&world, "split").await;
    world.end().await;
}
