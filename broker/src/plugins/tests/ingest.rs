//! Records on their way in.

use super::*;

async fn with_filter(on_error: &str) -> World {
    let world = World::start().await;
    world.push("f", guests::filter()).await.unwrap();
    world.create("bad", 1, &[]).await.unwrap();
    let configs = [
        ("millstream.ingest", r#"["f"]"#),
        ("millstream.ingest.on-error", on_error),
    ];
    world.create("t", 2, &configs).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_leaves_a_hole_and_sequences_stay_whole() {
    let world = with_filter("fail").await;
    let first = batch_of(7, 0, &["k0", "d1", "k2", "d3"]);
    assert_eq!(
        world.produce("t", 0, &first).await.unwrap().base_offset,
        Some(Offset(0))
    );
    assert_eq!(
        world.produce("t", 0, &first).await.unwrap().base_offset,
        Some(Offset(0)),
        "sent again"
    );
    let none_left = batch_of(7, 4, &["d4", "d5"]);
    assert_eq!(
        world.produce("t", 0, &none_left).await.unwrap().base_offset,
        Some(Offset(4))
    );
    assert_eq!(
        world.produce("t", 0, &none_left).await.unwrap().base_offset,
        Some(Offset(4))
    );
    let early = world.produce("t", 0, &batch_of(7, 9, &["k9"])).await.unwrap_err();
    assert_eq!(early.code, ErrorCode::OutOfOrderSequenceNumber);
    let all_left = batch_of(7, 6, &["k6"]);
    assert_eq!(
        world.produce("t", 0, &all_left).await.unwrap().base_offset,
        Some(Offset(6))
    );
    assert_eq!(world.values("t", 0), texts(&[(0, "k0"), (2, "k2"), (6, "k6")]));
    let stats = &world.context().plugins.stats()[0];
    assert_eq!(
        (stats.plugin.as_str(), stats.topic.as_str(), stats.errors),
        ("f", "t", 0)
    );
    assert!(stats.calls == 6 && stats.nanoseconds > 0, "{stats:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_outlive_a_restart() {
    let mut world = with_filter("fail").await;
    world
        .configure(
            "t",
            &[("millstream.ingest", r#"["f"]"#), ("compression.type", "zstd")],
        )
        .await
        .unwrap();
    world
        .produce("t", 0, &batch_of(7, 0, &["d0", "d1"]))
        .await
        .unwrap();
    world
        .produce("t", 0, &batch_of(7, 2, &["d2", "k3"]))
        .await
        .unwrap();
    world.restart().await;
    assert_eq!(
        world
            .produce("t", 0, &batch_of(7, 0, &["d0", "d1"]))
            .await
            .unwrap()
            .base_offset,
        Some(Offset(0))
    );
    assert_eq!(
        world
            .produce("t", 0, &batch_of(7, 4, &["k4"]))
            .await
            .unwrap()
            .base_offset,
        Some(Offset(4))
    );
    assert_eq!(world.values("t", 0), texts(&[(3, "k3"), (4, "k4")]));
    let stored = world.stored("t", 0);
    let codecs: Vec<_> = records::batches(&stored)
        .map(|batch| batch.unwrap().header().compression())
        .collect();
    assert_eq!(codecs, [Compression::None, Compression::Zstd, Compression::Zstd]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_bad_record_is_refused_by_its_records() {
    let world = with_filter("fail").await;
    let refused = world
        .produce("t", 0, &batch(&["k", "e", "d", "e"]))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRecord);
    assert_eq!(
        refused
            .records
            .iter()
            .map(|(place, _)| *place)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert!(
        refused.message.contains("f@0.1.0 failed on 2 records"),
        "{}",
        refused.message
    );
    let refused = world.produce("t", 0, &batch(&["k", "t"])).await.unwrap_err();
    assert!(
        refused.records.is_empty() && refused.message.contains("trapped"),
        "{}",
        refused.message
    );
    assert_eq!(world.values("t", 0), []);
    world.produce("t", 0, &batch(&["k"])).await.unwrap();
    assert_eq!(
        world.values("t", 0),
        texts(&[(0, "k")]),
        "the next batch gets a fresh instance"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_records_are_left_out_if_the_policy_says_so() {
    let world = with_filter("skip").await;
    world.produce("t", 0, &batch(&["k", "e", "k"])).await.unwrap();
    world.produce("t", 0, &batch(&["k", "t"])).await.unwrap();
    world.produce("t", 0, &batch(&["k"])).await.unwrap();
    assert_eq!(world.values("t", 0), texts(&[(0, "k"), (2, "k"), (5, "k")]));
    assert_eq!(world.context().plugins.stats()[0].errors, 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_tell_where_they_come_from() {
    let world = with_filter("dead-letter:bad").await;
    world.produce("t", 1, &batch(&["k"])).await.unwrap();
    let stored = world.produce("t", 1, &batch(&["k", "e!", "k"])).await.unwrap();
    assert_eq!(stored.base_offset, Some(Offset(1)));
    assert_eq!(world.values("t", 1), texts(&[(0, "k"), (1, "k"), (3, "k")]));
    let letters = seen(&world.stored("bad", 0));
    let [(0, value, headers)] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(value, "e!");
    let header = |name: &str| headers[&format!("millstream.{name}")].as_str();
    let told = ["plugin", "version", "topic", "partition", "offset"].map(header);
    assert_eq!(told, ["f", "0.1.0", "t", "1", "2"]);
    assert!(headers.contains_key("millstream.reason"));
    world.produce("t", 0, &batch(&["t", "k"])).await.unwrap();
    let letters = seen(&world.stored("bad", 0));
    assert_eq!(letters.len(), 3, "of a call that failed, all records go");
    assert!(letters[2].2["millstream.reason"].contains("trapped"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_hands_on_what_it_has_made() {
    let world = World::start().await;
    world.push("f", guests::filter()).await.unwrap();
    world.push("m", guests::transform()).await.unwrap();
    world
        .create(
            "t",
            1,
            &[(
                "millstream.ingest",
                r#"["m", "m", {"plugin":"f","on-error":"skip"}]"#,
            )],
        )
        .await
        .unwrap();
    // The second one gets `abcdefgh` for the first record and leaves it; the filter knows no `a`.
    world
        .produce("t", 0, &batch(&["m0", "k1", "d2", "m3", "e4"]))
        .await
        .unwrap();
    assert_eq!(world.values("t", 0), texts(&[(1, "k1")]));
    world
        .configure("t", &[("millstream.ingest", r#"["m"]"#)])
        .await
        .unwrap();
    world.produce("t", 0, &batch(&["m0", "k1"])).await.unwrap();
    assert_eq!(world.values("t", 0)[1..], texts(&[(5, "abcdefgh"), (6, "k1")]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_cut_into_slices_and_small_ones_run_side_by_side() {
    let world = Arc::new(with_filter("fail").await);
    let long = "x".repeat(3000);
    let values: Vec<String> = (0..300)
        .map(|n| format!("{}{n}{long}", if n % 3 == 0 { 'k' } else { 'd' }))
        .collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    world.produce("t", 0, &batch(&values)).await.unwrap();
    let kept = world.values("t", 0);
    assert_eq!(kept.len(), 100);
    assert!(
        kept.iter()
            .all(|(offset, value)| value.starts_with(&format!("k{offset}x")))
    );
    let calls = world.context().plugins.stats()[0].calls;
    assert!(
        (7..=12).contains(&calls),
        "900 KB in slices of about 96 KiB, not {calls}"
    );
    let many = (0..64).map(|_| {
        let world = world.clone();
        tokio::spawn(async move { world.produce("t", 1, &batch(&["k", "d"])).await.map(|_| ()) })
    });
    for done in many.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    assert_eq!(world.values("t", 1).len(), 64);
    Arc::into_inner(world).unwrap().end().await;
}
