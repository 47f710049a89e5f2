//! Records that a plugin spreads over partitions.

use super::*;

async fn with_partitioner(configs: &[(&str, &str)]) -> World {
    let world = World::start().await;
    world.push("p", guests::partitioner()).await.unwrap();
    world.push("f", guests::filter()).await.unwrap();
    let configs: Vec<_> = [("millstream.partitioner", "p")]
        .iter()
        .chain(configs)
        .copied()
        .collect();
    world.create("t", 3, &configs).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_where_the_plugin_says_in_their_order() {
    let world = with_partitioner(&[]).await;
    let stored = world
        .produce("t", 2, &batch(&["0a", "1b", "0c", "1d", "1e"]))
        .await
        .unwrap();
    assert_eq!(stored.base_offset, None);
    assert_eq!(world.values("t", 0), texts(&[(0, "0a"), (1, "0c")]));
    assert_eq!(world.values("t", 1), texts(&[(0, "1b"), (1, "1d"), (2, "1e")]));
    assert_eq!(world.values("t", 2), []);
    world.produce("t", 0, &batch(&["2f"])).await.unwrap();
    assert_eq!(world.values("t", 2), texts(&[(0, "2f")]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_producers_stay_so() {
    let mut world = with_partitioner(&[]).await;
    let batches = [
        batch_of(7, 0, &["0a", "1b", "0c"]),
        batch_of(7, 3, &["1d"]),
        batch_of(7, 4, &["0e", "1f"]),
    ];
    for batch in &batches {
        world.produce("t", 2, batch).await.unwrap();
        world.produce("t", 2, batch).await.unwrap();
    }
    world.produce("t", 2, &batches[0]).await.unwrap();
    let expected = (
        texts(&[(0, "0a"), (1, "0c"), (2, "0e")]),
        texts(&[(0, "1b"), (1, "1d"), (2, "1f")]),
    );
    assert_eq!((world.values("t", 0), world.values("t", 1)), expected);
    let early = world.produce("t", 2, &batch_of(7, 9, &["0z"])).await.unwrap_err();
    assert_eq!(
        early.code,
        ErrorCode::OutOfOrderSequenceNumber,
        "what is between could still come, and would be lost"
    );
    // Another entrance is another sequence.
    world.produce("t", 1, &batch_of(7, 0, &["2g"])).await.unwrap();
    world.restart().await;
    world.produce("t", 2, &batches[2]).await.unwrap();
    assert_eq!(
        (world.values("t", 0), world.values("t", 1)),
        expected,
        "also after a restart"
    );
    world.produce("t", 2, &batch_of(7, 6, &["0h"])).await.unwrap();
    assert_eq!(world.values("t", 0)[3..], texts(&[(3, "0h")]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioner_that_changes_between_a_batch_and_its_repetition_loses_nothing() {
    let mut world = with_partitioner(&[]).await;
    world.push("all", guests::gathering_partitioner()).await.unwrap();
    let gather = [("millstream.partitioner", "all")];
    let batch = batch_of(7, 0, &["0a", "1b"]);
    world.produce("t", 2, &batch).await.unwrap();
    world.configure("t", &gather).await.unwrap();
    world.produce("t", 2, &batch).await.unwrap();
    assert_eq!(world.values("t", 0), texts(&[(0, "0a")]), "it is known as it was");
    assert_eq!(world.values("t", 1), texts(&[(0, "1b")]));
    // A part of the batch as it is where another partition's disk failed, or the power.
    let part = world.stored("t", 0);
    world
        .create("u", 3, &[("millstream.partitioner", "p")])
        .await
        .unwrap();
    let topic = world.context().topics.find("u", Uuid::nil()).unwrap();
    let first = topic.partition(0).unwrap().clone();
    first.append(&part, now_ms()).unwrap();
    world.configure("u", &gather).await.unwrap();
    for _ in 0..2 {
        let refused = world.produce("u", 2, &batch).await.unwrap_err();
        assert_eq!(
            refused.code,
            ErrorCode::OutOfOrderSequenceNumber,
            "1b is nowhere, so the batch is not stored"
        );
        let next = world.produce("u", 2, &batch_of(7, 2, &["0c"])).await.unwrap_err();
        assert_eq!(next.code, ErrorCode::OutOfOrderSequenceNumber);
        world.restart().await;
    }
    world
        .configure("u", &[("millstream.partitioner", "p")])
        .await
        .unwrap();
    world.produce("u", 2, &batch).await.unwrap();
    world.produce("u", 2, &batch_of(7, 2, &["0c"])).await.unwrap();
    assert_eq!(world.values("u", 0), texts(&[(0, "0a"), (1, "0c")]));
    assert_eq!(world.values("u", 1), texts(&[(0, "1b")]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_records_stay_at_the_entrance_if_the_policy_says_so() {
    let world = with_partitioner(&[("millstream.partitioner.on-error", "skip")]).await;
    world.produce("t", 2, &batch(&["0a", "e", "1b"])).await.unwrap();
    world.produce("t", 2, &batch(&["0c", "t"])).await.unwrap();
    assert_eq!(world.values("t", 0), texts(&[(0, "0a")]));
    assert_eq!(world.values("t", 1), texts(&[(0, "1b")]));
    assert_eq!(world.values("t", 2), texts(&[(0, "e"), (1, "0c"), (2, "t")]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_records_and_partitions_that_are_not_there_fail_the_batch() {
    let world = with_partitioner(&[]).await;
    let refused = world.produce("t", 0, &batch(&["0a", "e"])).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.records[0].0),
        (ErrorCode::InvalidRecord, 1)
    );
    let refused = world.produce("t", 0, &batch(&["0a", "5b"])).await.unwrap_err();
    assert!(refused.message.contains("nonsense"), "{}", refused.message);
    let foreign = batch_of(1 << 41, 0, &["0a"]);
    assert_eq!(
        world.produce("t", 0, &foreign).await.unwrap_err().code,
        ErrorCode::InvalidProducerIdMapping
    );
    assert_eq!(world.values("t", 0), []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_come_before_the_partitioner() {
    let world = World::start().await;
    world.push("p", guests::partitioner()).await.unwrap();
    world.push("m", guests::transform()).await.unwrap();
    world
        .create(
            "t",
            2,
            &[("millstream.partitioner", "p"), ("millstream.ingest", r#"["m"]"#)],
        )
        .await
        .unwrap();
    let refused = world.produce("t", 0, &batch(&["0a", "m"])).await.unwrap_err();
    assert!(
        refused.message.contains("nonsense"),
        "'a' is no digit: {}",
        refused.message
    );
    world.produce("t", 0, &batch(&["0a", "1b"])).await.unwrap();
    assert_eq!(world.values("t", 1), texts(&[(0, "1b")]));
    world.end().await;
}
