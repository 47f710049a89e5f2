//! Upgrades, trials, and ways back.

use super::*;

/// As the router, but everything goes to sink `a` unchanged.
const PLAIN: &str = "plain";

async fn upgraded_world() -> World {
    let world = world().await;
    world.push(PLAIN, guests::transform()).await.unwrap();
    deploy(&world, spec("split"), "router").await.unwrap();
    world.produce("in", 0, &batch(&["1 a"])).await.unwrap();
    world.produce("in", 1, &batch(&["1 a"])).await.unwrap();
    until_done(&world, "split").await;
    world
}

fn upgrade(trial: Option<Trial>) -> TransformChange {
    TransformChange::Upgrade {
        plugin: PluginRef::parse(PLAIN).unwrap(),
        config: None,
        trial,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_goes_on_where_the_release_before_ended_and_can_be_taken_back() {
    let world = upgraded_world().await;
    change(&world, "split", upgrade(None)).await.unwrap();
    world.produce("in", 0, &batch(&["1 b"])).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["1 b"]).await;
    assert!(
        look(&world, "split")
            .await
            .iter()
            .all(|r| r.plugin == "plain@0.1.0")
    );
    let back = TransformChange::Rollback {
        generation: None,
        reason: None,
    };
    change(&world, "split", back).await.unwrap();
    world.produce("in", 0, &batch(&["1 c"])).await.unwrap();
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["1 b"]).await;
    comes_out(&world, "b", 0, &["1 a", "1 a", "1 c"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_to_the_upgrade_point_is_where_the_release_began() {
    use crate::workers::reset::{ResetTo, reset};
    let world = upgraded_world().await;
    change(&world, "split", upgrade(None)).await.unwrap();
    world.produce("in", 0, &batch(&["1 b", "1 c"])).await.unwrap();
    until_done(&world, "split").await;
    change(&world, "split", TransformChange::Pause).await.unwrap();
    let transform = world
        .context()
        .controller
        .image()
        .transform("split")
        .unwrap()
        .clone();
    let set = reset(world.context(), &transform, ResetTo::UpgradePoint, false)
        .await
        .unwrap();
    assert_eq!(
        set,
        [("in".to_owned(), 0, 1)],
        "nothing was committed on the other one"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_does_well_runs_everywhere_in_the_end() {
    let world = upgraded_world().await;
    let trial = Trial {
        percent: 50,
        errors_permille_max: 10,
        promote_after_ms: 300,
    };
    change(&world, "split", upgrade(Some(trial))).await.unwrap();
    let plugins: Vec<String> = look(&world, "split")
        .await
        .into_iter()
        .map(|r| r.plugin)
        .collect();
    assert_eq!(plugins, ["plain@0.1.0", "router@0.1.0"]);
    until("it runs everywhere", async || {
        let reports = look(&world, "split").await;
        reports.iter().all(|r| r.plugin == "plain@0.1.0" && !r.canary)
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_fails_is_taken_back() {
    let world = upgraded_world().await;
    world.push(PLAIN, guests::router()).await.unwrap();
    let trial = Trial {
        percent: 50,
        errors_permille_max: 10,
        promote_after_ms: 3_600_000,
    };
    world.push("other", guests::transform()).await.unwrap();
    change(&world, "split", upgrade(Some(trial))).await.unwrap();
    world
        .produce("in", 0, &batch(&["1 b", "e", "1 c"]))
        .await
        .unwrap();
    until("it is taken back", async || {
        let image = world.context().controller.image();
        image.transform("split").unwrap().canary.is_none()
    })
    .await;
    let image = world.context().controller.image();
    let transform = image.transform("split").unwrap();
    let reason = transform.rolled_back.clone().unwrap();
    assert!(reason.contains("in-0") && reason.contains("offset 2"), "{reason}");
    comes_out(&world, "b", 0, &["1 a", "1 a", "1 b"]).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_saw_few_records_is_not_promoted_if_they_failed() {
    let world = world().await;
    let spec = TransformSpec {
        on_error: OnError::Skip,
        ..spec("split")
    };
    world.push(PLAIN, guests::router()).await.unwrap();
    world.push("before", guests::transform()).await.unwrap();
    deploy(&world, spec, "before").await.unwrap();
    let trial = Trial {
        percent: 50,
        errors_permille_max: 10,
        promote_after_ms: 1000,
    };
    change(&world, "split", upgrade(Some(trial))).await.unwrap();
    world
        .produce("in", 0, &batch(&["1 a", "e", "1 b"]))
        .await
        .unwrap();
    until("the trial has ended", async || {
        let image = world.context().controller.image();
        image.transform("split").unwrap().canary.is_none()
    })
    .await;
    let image = world.context().controller.image();
    let reason = image.transform("split").unwrap().rolled_back.clone();
    assert_eq!(reason.as_deref(), Some("1 of 3 records failed on in-0"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_judged_by_all_its_partitions_together() {
    let world = world().await;
    world.create("wide", 4, &[]).await.unwrap();
    world.push(PLAIN, guests::router()).await.unwrap();
    world.push("before", guests::transform()).await.unwrap();
    let spec = TransformSpec {
        sources: vec![topic("wide")],
        on_error: OnError::Skip,
        ..spec("split")
    };
    deploy(&world, spec, "before").await.unwrap();
    let trial = Trial {
        percent: 75,
        errors_permille_max: 50,
        promote_after_ms: 1500,
    };
    change(&world, "split", upgrade(Some(trial))).await.unwrap();
    // All of the records of one partition fail, but few of all.
    world.produce("wide", 0, &batch(&["e"])).await.unwrap();
    for partition in [1, 2] {
        world
            .produce("wide", partition, &batch(&["1 a"; 20]))
            .await
            .unwrap();
    }
    until("the trial has ended", async || {
        let image = world.context().controller.image();
        image.transform("split").unwrap().canary.is_none()
    })
    .await;
    let image = world.context().controller.image();
    let transform = image.transform("split").unwrap();
    assert_eq!(
        (
            transform.rolled_back.as_deref(),
            transform.current.plugin.as_str()
        ),
        (None, PLAIN)
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_taken_back_to_where_it_began_and_only_where_it_ran() {
    use crate::workers::reset::{ResetTo, reset};
    let world = upgraded_world().await;
    let trial = Trial {
        percent: 50,
        errors_permille_max: 10,
        promote_after_ms: 3_600_000,
    };
    change(&world, "split", upgrade(Some(trial))).await.unwrap();
    world.produce("in", 0, &batch(&["1 b"])).await.unwrap();
    world.produce("in", 1, &batch(&["1 b"])).await.unwrap();
    until_done(&world, "split").await;
    let image = world.context().controller.image();
    let transform = image.transform("split").unwrap();
    let planned = reset(world.context(), transform, ResetTo::UpgradePoint, true).await;
    assert_eq!(planned.unwrap(), [("in".to_owned(), 0, 1)]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_means_another_release_moves_nothing() {
    use crate::http::transforms::place;
    let world = upgraded_world().await;
    let image = world.context().controller.image();
    let before = image.transform("split").unwrap().current.generation;
    change(&world, "split", upgrade(None)).await.unwrap();
    world.produce("in", 0, &batch(&["1 b"])).await.unwrap();
    until_done(&world, "split").await;
    let body = format!("{{\"generation\": {before}, \"to-upgrade-point\": true}}");
    let context = axum::extract::State(world.context().clone());
    let answer = place::rollback(context, axum::extract::Path("split".to_owned()), Ok(body.into())).await;
    let answer = answer.unwrap_or_else(|_| panic!("it is refused"));
    assert!(!answer.changed && answer.moved.is_empty());
    until_done(&world, "split").await;
    comes_out(&world, "a", 0, &["1 b"]).await;
    world.end().await;
}
