//! Records on their way out.

use millstream_storage::EndMarker;

use super::*;

async fn with_view(plugins: &str) -> World {
    let world = World::start().await;
    world.push("f", guests::filter()).await.unwrap();
    world.push("m", guests::transform()).await.unwrap();
    world.create("t", 1, &[]).await.unwrap();
    let configs = [
        ("millstream.view.source", "t"),
        ("millstream.view.plugins", plugins),
    ];
    world.create("v", 0, &configs).await.unwrap();
    world
}

fn calls(world: &World) -> u64 {
    world
        .context()
        .plugins
        .stats()
        .iter()
        .map(|stats| stats.calls)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_has_the_offsets_of_its_source_and_covers_them_all() {
    let world = with_view(r#"["f"]"#).await;
    world
        .produce("t", 0, &batch_of(7, 0, &["k0", "d1", "k2", "d3"]))
        .await
        .unwrap();
    world.produce("t", 0, &batch(&["d4", "d5"])).await.unwrap();
    world.produce("t", 0, &batch(&["k6"])).await.unwrap();
    let seen = world.view("v", 0).await.unwrap();
    assert_eq!(values(&seen), texts(&[(0, "k0"), (2, "k2"), (6, "k6")]));
    let (stored, computed) = (world.stored("t", 0), seen);
    let shape = |bytes: &[u8]| -> Vec<_> {
        let headers = records::batches(bytes).map(|batch| *batch.unwrap().header());
        headers
            .map(|h| {
                (
                    h.base_offset,
                    h.last_offset(),
                    h.producer_id,
                    h.base_sequence,
                    h.max_timestamp,
                )
            })
            .collect()
    };
    assert_eq!(shape(&computed), shape(&stored));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_is_kept_until_something_changes() {
    let world = with_view(r#"["f@latest"]"#).await;
    world.produce("t", 0, &batch(&["k0", "d1"])).await.unwrap();
    let first = world.view("v", 0).await.unwrap();
    let after = calls(&world);
    assert_eq!(world.view("v", 0).await.unwrap(), first);
    assert_eq!(calls(&world), after, "from the cache");
    assert!(world.context().metrics.view_cache_bytes.get() > 0);
    // An image that has changed elsewhere changes nothing here.
    world.create("other", 1, &[]).await.unwrap();
    world.view("v", 0).await.unwrap();
    assert_eq!(calls(&world), after);
    world.push("f", guests::contrary_filter()).await.unwrap();
    assert_eq!(
        values(&world.view("v", 0).await.unwrap()),
        texts(&[(1, "d1")]),
        "the newest version"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_a_view_runs_both_and_a_plain_one_shows_everything() {
    let world = with_view(r#"["m"]"#).await;
    let of_view = [
        ("millstream.view.source", "v"),
        ("millstream.view.plugins", r#"[{"plugin":"f","on-error":"skip"}]"#),
    ];
    world.create("w", 0, &of_view).await.unwrap();
    world
        .create("plain", 0, &[("millstream.view.source", "t")])
        .await
        .unwrap();
    world
        .produce("t", 0, &batch(&["m0", "k1", "d2", "e3"]))
        .await
        .unwrap();
    assert_eq!(
        values(&world.view("v", 0).await.unwrap()),
        texts(&[(0, "abcdefgh"), (1, "k1"), (2, "d2"), (3, "e3")])
    );
    assert_eq!(values(&world.view("w", 0).await.unwrap()), texts(&[(1, "k1")]));
    assert_eq!(world.view("plain", 0).await.unwrap(), world.stored("t", 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_fails_where_its_plugin_does_and_not_before() {
    let world = with_view(r#"["f"]"#).await;
    world.produce("t", 0, &batch(&["k0"])).await.unwrap();
    world.produce("t", 0, &batch(&["t1"])).await.unwrap();
    assert_eq!(values(&world.view("v", 0).await.unwrap()), texts(&[(0, "k0")]));
    let context = world.context();
    let topic = context.topics.find("v", Uuid::nil()).unwrap();
    let partition = topic.partition(0).unwrap();
    let slice = partition.read(Offset(1), 1 << 20, true).unwrap().slice.unwrap();
    let failed = plugins::view::compute(context, topic.view().unwrap(), partition, slice).await;
    assert_eq!(failed.unwrap_err(), ErrorCode::UnknownServerError);
    let skipping = [
        ("millstream.view.source", "t"),
        ("millstream.view.plugins", r#"["f"]"#),
        ("millstream.view.on-error", "skip"),
    ];
    world.configure("v", &skipping).await.unwrap();
    let seen = world.view("v", 0).await.unwrap();
    assert_eq!(values(&seen), texts(&[(0, "k0")]));
    assert_eq!(
        records::batches(&seen)
            .last()
            .unwrap()
            .unwrap()
            .header()
            .last_offset(),
        1
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_pass_through_a_view_and_no_plugin_sees_a_marker() {
    let world = with_view(r#"["f"]"#).await;
    let source = world.context().topics.find("t", Uuid::nil()).unwrap();
    let source = source.partition(0).unwrap();
    let of = |values: &[&str]| filled(BatchBuilder::new().producer(7, 3, 0).transactional(true), values);
    source.append(&of(&["k0", "d1"]), 0).unwrap();
    let marker = EndMarker {
        producer_id: 7,
        producer_epoch: 3,
        is_commit: false,
        coordinator_epoch: 0,
        bumps_epoch: false,
    };
    let receipt = source.append_marker(marker, 0).unwrap();
    if let Some(durable) = receipt.durable {
        durable.await.unwrap().unwrap();
    }
    let (stored, computed) = (world.stored("t", 0), world.view("v", 0).await.unwrap());
    assert_eq!(calls(&world), 1, "it was asked about the records alone");
    let shape = |bytes: &[u8]| -> Vec<_> {
        let headers = records::batches(bytes).map(|batch| *batch.unwrap().header());
        headers
            .map(|h| {
                (
                    h.attributes.is_transactional(),
                    h.attributes.is_control(),
                    h.producer_id,
                    h.producer_epoch,
                    h.base_sequence,
                    h.last_offset(),
                )
            })
            .collect()
    };
    assert_eq!(
        shape(&computed),
        [(true, false, 7, 3, 0, 1), (true, true, 7, 3, -1, 2)]
    );
    assert_eq!(shape(&computed), shape(&stored));
    let all = |bytes: &Bytes| -> Vec<Bytes> {
        let batches = records::batches(bytes);
        batches
            .map(|batch| bytes.slice_ref(batch.unwrap().bytes()))
            .collect()
    };
    let (stored, computed) = (all(&stored), all(&computed));
    assert_eq!(computed[1], stored[1], "a marker stays as it is");
    assert_eq!(values(&computed[0]), texts(&[(0, "k0")]));
    world.end().await;
}
