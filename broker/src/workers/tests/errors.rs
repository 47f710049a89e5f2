//! What becomes of records that a plugin fails on, in each policy, and of answers that cannot be taken.

use super::*;

async fn failed(world: &World, name: &str) -> PartitionReport {
    until("a partition has failed", async || {
        look(world, name).await.iter().any(|r| r.state == State::Failed)
    })
    .await;
    let mut reports = look(world, name).await.into_iter();
    reports.find(|report| report.state == State::Failed).unwrap()
}

fn with(on_error: OnError) -> TransformSpec {
    TransformSpec {
        on_error,
        ..spec("split")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fails_stops_its_partition_and_no_other() {
    let world = world().await;
    deploy(&world, with(OnError::Fail), "router").await.unwrap();
    world
        .produce("in", 0, &batch(&["0 a", "0 b", "e", "0 c"]))
        .await
        .unwrap();
    let report = failed(&world, "split").await;
    assert_eq!((report.partition, report.committed, report.records_in), (0, 2, 2));
    let reason = report.reason.unwrap();
    assert!(reason.contains("record at offset 2"), "{reason}");
    assert_eq!(report.last_error.unwrap().offset, 2);
    comes_out(&world, "a", 0, &["0 a", "0 b"]).await;
    world.produce("in", 1, &batch(&["0 other"])).await.unwrap();
    until("the other partition goes on", async || {
        committed(&world, "a", 1).await == ["0 other"]
    })
    .await;
    // As long as nothing is mended, it fails at the same record again.
    change(&world, "split", TransformChange::Resume).await.unwrap();
    let report = failed(&world, "split").await;
    assert_eq!(report.committed, 2);
    world.push("router", guests::transform()).await.unwrap();
    let upgrade = TransformChange::Upgrade {
        plugin: PluginRef::parse("router").unwrap(),
        config: None,
        trial: None,
    };
    change(&world, "split", upgrade).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b", "e", "0 c"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_fail_are_skipped_alone_also_where_the_plugin_traps() {
    let world = world().await;
    deploy(&world, with(OnError::Skip), "router").await.unwrap();
    let values = ["0 a", "t", "0 b", "e", "0 c", "t", "t", "0 d"];
    world.produce("in", 0, &batch(&values)).await.unwrap();
    until_done(&world, "split").await;
    let report = look(&world, "split").await.remove(0);
    comes_out(&world, "a", 0, &["0 a", "0 b", "0 c", "0 d"]).await;
    assert_eq!((report.errors, report.records_in, report.records_out), (4, 8, 4));
    assert_eq!(report.last_error.unwrap().offset, 6);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_tell_where_they_are_from() {
    let world = world().await;
    deploy(&world, with(OnError::DeadLetter(topic("letters"))), "router")
        .await
        .unwrap();
    world
        .produce("in", 0, &batch(&["0 a", "e bad", "0 b"]))
        .await
        .unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b"]).await;
    comes_out(&world, "letters", 0, &["e bad"]).await;
    let headers = headers(&world, "letters");
    let find = |name: &str| {
        headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(find("millstream.plugin"), Some("router"));
    assert_eq!(find("millstream.topic"), Some("in"));
    assert_eq!(find("millstream.partition"), Some("0"));
    assert_eq!(find("millstream.offset"), Some("1"));
    assert_eq!(find("millstream.reason"), Some("the plugin gave no reason"));
    let report = look(&world, "split").await.remove(0);
    assert_eq!((report.dead_lettered, report.errors), (1, 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_not_declared_is_the_error_of_the_record() {
    let world = world().await;
    deploy(&world, with(OnError::Skip), "router").await.unwrap();
    world
        .produce("in", 0, &batch(&["0 a", "7 nowhere", "1 b"]))
        .await
        .unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a"]).await;
    comes_out(&world, "b", 0, &["1 b"]).await;
    let error = look(&world, "split").await.remove(0).last_error.unwrap();
    assert_eq!(error.offset, 1);
    assert!(error.reason.contains("sink"), "{}", error.reason);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_its_sink_would_not_take_is_an_error_of_the_record() {
    let world = world().await;
    world
        .configure("a", &[("max.message.bytes", "300")])
        .await
        .unwrap();
    deploy(&world, with(OnError::Skip), "router").await.unwrap();
    let large = format!("0 {}", "x".repeat(500));
    world
        .produce("in", 0, &batch(&["0 a", &large, "0 b"]))
        .await
        .unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["0 a", "0 b"]).await;
    let error = look(&world, "split").await.remove(0).last_error.unwrap();
    assert!(error.reason.contains("max.message.bytes"), "{}", error.reason);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_be_is_refused_when_it_is_checked() {
    let world = world().await;
    world.push("filter", guests::filter()).await.unwrap();
    let check = |config: &'static str| {
        let plugin = PluginRef::parse("filter").unwrap();
        let context = world.context().clone();
        async move { crate::workers::check(&context, &spec("split"), &plugin, config).await }
    };
    assert_eq!(check("").await, Ok(()));
    let refused = check("bad").await.unwrap_err();
    assert!(refused.contains("no such thing"), "{refused}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_stops_the_partition_in_front_of_its_record() {
    let world = world().await;
    world
        .configure("letters", &[("max.message.bytes", "500")])
        .await
        .unwrap();
    deploy(&world, with(OnError::DeadLetter(topic("letters"))), "router")
        .await
        .unwrap();
    let large = format!("e {}", "x".repeat(300));
    world
        .produce("in", 0, &batch(&["0 a", &large, "0 b"]))
        .await
        .unwrap();
    let report = failed(&world, "split").await;
    let reason = report.reason.unwrap();
    assert!(
        reason.contains("record at offset 1") && reason.contains("no dead letter"),
        "{reason}"
    );
    assert_eq!(report.committed, 1);
    comes_out(&world, "a", 0, &["0 a"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sinks_take_is_known_also_when_it_changes() {
    let world = world().await;
    deploy(&world, with(OnError::Skip), "router").await.unwrap();
    world.produce("in", 0, &batch(&["0 a"])).await.unwrap();
    until_done(&world, "split").await;
    world
        .configure("a", &[("max.message.bytes", "300")])
        .await
        .unwrap();
    world
        .configure("b", &[("cleanup.policy", "compact")])
        .await
        .unwrap();
    let large = format!("0 {}", "x".repeat(500));
    world
        .produce("in", 0, &batch(&[&large, "1 without a key", "0 b"]))
        .await
        .unwrap();
    comes_out(&world, "a", 0, &["0 a", "0 b"]).await;
    until_done(&world, "split").await;
    let report = look(&world, "split").await.remove(0);
    assert_eq!((report.errors, report.records_out), (2, 1));
    let reason = report.last_error.unwrap().reason;
    assert!(reason.contains("no key for 'b'"), "{reason}");
    world.end().await;
}
