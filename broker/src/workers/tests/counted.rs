//! What `/metrics` tells of transforms.

use super::*;

/// The text of `/metrics`.
async fn metrics(world: &World) -> String {
    let context = axum::extract::State(world.context().clone());
    let answer = crate::http::metrics::metrics(context).await;
    let answer = answer.unwrap_or_else(|_| panic!("there are metrics"));
    let body = axum::response::IntoResponse::into_response(answer).into_body();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The sum of all samples that begin so; none if there are none.
fn sum(text: &str, sample: &str) -> Option<f64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(sample));
    let values: Vec<f64> = lines
        .map(|rest| rest.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_costs_and_how_long_records_take_is_told() {
    let world = world().await;
    deploy(&world, spec("split"), "router").await.unwrap();
    let values: Vec<String> = (0..2000).map(|n| format!("0 {n} {}", "x".repeat(100))).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    world.produce("in", 0, &batch(&values)).await.unwrap();
    until_done(&world, "split").await;
    let text = metrics(&world).await;
    let of_worker = |family: &str| {
        let labels = r#"{transform="split",worker="0",plugin="router@0.1.0"}"#;
        sum(&text, &format!("millstream_transform_worker_{family}{labels}")).unwrap()
    };
    assert!(of_worker("cpu_seconds_total") > 0.0, "{text}");
    // The guest has two pages from the beginning.
    assert!(of_worker("memory_bytes") >= 131_072.0, "{text}");
    let latency = |family: &str| sum(&text, &format!("millstream_transform_latency_seconds_{family}"));
    let commits = latency("count{transform=\"split\"}").unwrap();
    assert!(commits >= 1.0 && latency("sum{transform=\"split\"}").unwrap() > 0.0);
    world
        .context()
        .controller
        .apply(Command::DeleteTransform {
            name: "split".to_owned(),
        })
        .await
        .unwrap();
    until("it is forgotten", async || {
        !metrics(&world).await.contains("transform=\"split\"")
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_goes_and_fails_is_counted() {
    let world = world().await;
    let count = async |sample: &str| sum(&metrics(&world).await, sample).unwrap();
    let assigned = async |event: &str| {
        count(&format!(
            "millstream_transform_assignments_total{{event=\"{event}\"}}"
        ))
        .await
    };
    assert_eq!(assigned("given").await, 0.0);
    deploy(&world, spec("split"), "router").await.unwrap();
    until_done(&world, "split").await;
    assert_eq!((assigned("given").await, assigned("taken").await), (2.0, 0.0));
    assert_eq!(count("millstream_transform_take_overs_total").await, 2.0);
    world.produce("in", 0, &batch(&["e"])).await.unwrap();
    let failed = r#"millstream_transform_failures_total{kind="record"}"#;
    until("it has failed", async || count(failed).await == 1.0).await;
    change(&world, "split", TransformChange::Resume).await.unwrap();
    until("it has failed again", async || count(failed).await == 2.0).await;
    assert_eq!(assigned("renewed").await, 2.0);
    change(&world, "split", TransformChange::Pause).await.unwrap();
    until("both are taken away", async || assigned("taken").await == 2.0).await;
    world.end().await;
}
