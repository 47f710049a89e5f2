//! Pushing, attaching, deleting.

use millstream_core::cluster::PluginVersion;

use super::*;

fn components(world: &World) -> usize {
    let entries = std::fs::read_dir(world.directory.path().join("plugins")).unwrap();
    entries
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "wasm")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_stored_once_and_goes_when_nobody_uses_it() {
    let mut world = World::start().await;
    let (first, created) = world.push("f", guests::filter()).await.unwrap();
    assert_eq!((first.version, created), (PluginVersion::FIRST, true));
    assert!(!world.push("f", guests::filter()).await.unwrap().1);
    assert!(world.push("g", guests::filter()).await.unwrap().1);
    assert_eq!(components(&world), 1, "the same bytes are stored once");
    world
        .create("t", 1, &[("millstream.ingest", r#"["f"]"#)])
        .await
        .unwrap();
    world.restart().await;
    world.produce("t", 0, &batch(&["k", "d"])).await.unwrap();
    assert_eq!(world.values("t", 0), texts(&[(0, "k")]));
    let context = world.context();
    let delete = |name: &str| {
        context
            .plugins
            .delete(context, name.to_owned(), PluginVersion::FIRST)
    };
    let Err(PluginError::InUse { users, message }) = delete("f").await else {
        panic!("it is in use")
    };
    assert!(
        users[0].starts_with("t (ingest") && message.contains('t'),
        "{message}"
    );
    delete("g").await.unwrap();
    assert_eq!(components(&world), 1, "f has the bytes still");
    assert!(matches!(delete("g").await, Err(PluginError::Unknown(_))));
    world.configure("t", &[]).await.unwrap();
    delete("f").await.unwrap();
    assert_eq!(components(&world), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    assert!(matches!(
        world.push("f", b"hello".to_vec()).await,
        Err(PluginError::Invalid(_))
    ));
    assert!(matches!(
        world.push("f@1.0.0", guests::filter()).await,
        Err(PluginError::Invalid(_))
    ));
    assert!(matches!(
        world.push("", guests::filter()).await,
        Err(PluginError::Invalid(_))
    ));
    let context = world.context();
    let limits = PluginLimits {
        memory_bytes: Some(1),
        ..PluginLimits::default()
    };
    let pushed = context
        .plugins
        .push(context, "f".to_owned(), None, limits, guests::filter().into())
        .await;
    assert!(matches!(pushed, Err(PluginError::Invalid(message)) if message.contains("memory-bytes")));
    assert_eq!(components(&world), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_tried_before_it_is_attached() {
    let world = World::start().await;
    world.push("f", guests::filter()).await.unwrap();
    world.push("p", guests::partitioner()).await.unwrap();
    let refused = world
        .create(
            "t",
            1,
            &[("millstream.ingest", r#"[{"plugin":"f","config":"bad"}]"#)],
        )
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidConfig);
    assert!(
        refused.message.contains("no such thing") && refused.message.contains("'f@"),
        "{}",
        refused.message
    );
    assert!(world.context().topics.find("t", Uuid::nil()).is_err());
    world
        .create(
            "t",
            1,
            &[("millstream.ingest", r#"[{"plugin":"f","config":"good"}]"#)],
        )
        .await
        .unwrap();
    let limits = r#"[{"plugin":"f","limits":{"memory-bytes":65536}}]"#;
    let refused = world
        .configure("t", &[("millstream.ingest", limits)])
        .await
        .unwrap_err();
    assert_eq!(
        refused.code,
        ErrorCode::InvalidConfig,
        "it needs more memory to start"
    );
    let refused = world
        .configure("t", &[("millstream.ingest", r#"["p"]"#)])
        .await
        .unwrap_err();
    assert_eq!(
        refused.code,
        ErrorCode::InvalidConfig,
        "a partitioner is no filter"
    );
    assert_eq!(world.context().plugins.log("f")[0].message, "abcdefgh");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_component_is_told() {
    let mut world = World::start().await;
    let (plugin, _) = world.push("f", guests::filter()).await.unwrap();
    world
        .create("t", 1, &[("millstream.ingest", r#"["f"]"#)])
        .await
        .unwrap();
    let path = world
        .directory
        .path()
        .join("plugins")
        .join(format!("{}.wasm", plugin.sha256));
    std::fs::write(&path, b"something else").unwrap();
    world.restart().await;
    let refused = world.produce("t", 0, &batch(&["k"])).await.unwrap_err();
    assert!(refused.message.contains("damaged"), "{}", refused.message);
    std::fs::remove_file(&path).unwrap();
    let refused = world.produce("t", 0, &batch(&["k"])).await.unwrap_err();
    assert!(
        refused.message.contains("push the plugin again"),
        "{}",
        refused.message
    );
    world.push("f", guests::filter()).await.unwrap();
    world.produce("t", 0, &batch(&["k"])).await.unwrap();
    world.end().await;
}
