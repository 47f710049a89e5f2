//! What becomes of records that the ingest plugins of a sink refuse.

use super::*;

/// The plugin leaves values as they are; the one of sink `a` keeps what begins with `k` and refuses what begins with `e`.
async fn guarded() -> World {
    let world = world().await;
    world.push("plain", guests::transform()).await.unwrap();
    world.push("guard", guests::filter()).await.unwrap();
    world
        .configure("a", &[("millstream.ingest", r#"["guard"]"#)])
        .await
        .unwrap();
    world
}

fn with(on_error: OnError) -> TransformSpec {
    TransformSpec {
        on_error,
        ..spec("split")
    }
}

async fn failure(world: &World) -> String {
    until("the partition has failed", async || {
        look(world, "split").await[0].state == State::Failed
    })
    .await;
    look(world, "split").await.remove(0).reason.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_sink_refuses_are_skipped_alone() {
    let world = guarded().await;
    deploy(&world, with(OnError::Skip), "plain").await.unwrap();
    let values: Vec<String> = (0..60)
        .map(|n| format!("{}{n}", if [0, 17, 18, 59].contains(&n) { 'e' } else { 'k' }))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    world.produce("in", 0, &batch(&values)).await.unwrap();
    until_done(&world, "split").await;
    let kept: Vec<&&str> = values.iter().filter(|value| value.starts_with('k')).collect();
    comes_out(&world, "a", 0, &kept).await;
    let report = look(&world, "split").await.remove(0);
    assert_eq!(
        (report.errors, report.records_in, report.records_out),
        (4, 60, 56)
    );
    let reason = report.last_error.unwrap().reason;
    assert!(
        reason.contains("a-0") && reason.contains("guard@0.1.0"),
        "{reason}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_sink_refuses_goes_to_the_dead_letters() {
    let world = guarded().await;
    deploy(&world, with(OnError::DeadLetter(topic("letters"))), "plain")
        .await
        .unwrap();
    world
        .produce("in", 0, &batch(&["k1", "e bad", "k2"]))
        .await
        .unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["k1", "k2"]).await;
    comes_out(&world, "letters", 0, &["e bad"]).await;
    let report = look(&world, "split").await.remove(0);
    assert_eq!((report.errors, report.dead_lettered), (1, 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_sink_refuses_stops_its_partition_and_both_are_named() {
    let world = guarded().await;
    deploy(&world, with(OnError::Fail), "plain").await.unwrap();
    world
        .produce("in", 0, &batch(&["k1", "e bad", "k2"]))
        .await
        .unwrap();
    let reason = failure(&world).await;
    assert!(
        reason.contains("record at offset 1") && reason.contains("a-0") && reason.contains("guard@0.1.0"),
        "{reason}"
    );
    assert_eq!(look(&world, "split").await[0].committed, 1);
    comes_out(&world, "a", 0, &["k1"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_refused_too_stops_its_partition() {
    let world = guarded().await;
    world
        .configure("letters", &[("millstream.ingest", r#"["guard"]"#)])
        .await
        .unwrap();
    deploy(&world, with(OnError::DeadLetter(topic("letters"))), "plain")
        .await
        .unwrap();
    world.produce("in", 0, &batch(&["k1", "e bad"])).await.unwrap();
    let reason = failure(&world).await;
    assert!(
        reason.contains("record at offset 1") && reason.contains("no dead letter"),
        "{reason}"
    );
    comes_out(&world, "a", 0, &["k1"]).await;
    world.end().await;
}
