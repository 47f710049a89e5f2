use millstream_core::cluster::Command;

use super::*;

struct Running {
    dir: tempfile::TempDir,
    topics: Topics,
    image: Image,
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap());
        let topics = Topics::new(&Settings::default(), store, Metrics::new());
        Self {
            dir,
            topics,
            image: Image::default(),
        }
    }

    fn apply(&mut self, command: &Command) {
        cluster::apply(&mut self.image, command).unwrap();
        let plan = self.topics.plan(Arc::new(self.image.clone()));
        assert_eq!(self.topics.carry_out(&plan), Vec::<String>::new());
        self.topics.step_down(plan.image());
    }

    fn create(&mut self, name: &str, partitions: usize, configs: &[(&str, &str)]) {
        self.apply(&Command::CreateTopic {
            name: TopicName::new(name).unwrap(),
            id: TopicId(Uuid::new_v4()),
            partitions: vec![vec![BrokerId(1)]; partitions],
            configs: configs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        });
    }

    fn topic(&self, name: &str) -> Arc<Topic> {
        self.topics.find(name, Uuid::nil()).unwrap()
    }

    fn has(&self, directory: &str) -> bool {
        self.dir.path().join(directory).exists()
    }
}

#[test]
fn topics_are_found_by_name_and_id_until_they_are_deleted() {
    let mut running = Running::start();
    running.create("a", 2, &[]);
    let topic = running.topic("a");
    assert_eq!((topic.partition_count(), running.has("a-1")), (2, true));
    assert!(Arc::ptr_eq(&running.topics.find("", topic.id).unwrap(), &topic));
    running.apply(&Command::DeleteTopic {
        id: TopicId(topic.id),
    });
    assert_eq!(
        running.topics.find("a", Uuid::nil()).unwrap_err(),
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        running.topics.find("", topic.id).unwrap_err(),
        ErrorCode::UnknownTopicId
    );
    assert!(!running.has("a-0") && !running.has("a-1"));
}

#[test]
fn what_does_not_change_stays_the_same_object() {
    let mut running = Running::start();
    running.create("a", 1, &[]);
    let before = running.topic("a");
    running.create("b", 1, &[]);
    assert!(Arc::ptr_eq(&before, &running.topic("a")));
    running.apply(&Command::CreatePartitions {
        topic: before.name.clone(),
        added: vec![vec![BrokerId(1)]],
    });
    let after = running.topic("a");
    assert_eq!((before.partition_count(), after.partition_count()), (1, 2));
    assert!(Arc::ptr_eq(
        before.partition(0).unwrap(),
        after.partition(0).unwrap()
    ));
}

#[test]
fn a_view_has_the_partitions_of_the_topic_below_and_grows_with_it() {
    let mut running = Running::start();
    running.create("a", 1, &[]);
    running.create("v", 0, &[("millstream.view.source", "a")]);
    running.create("w", 0, &[("millstream.view.source", "v")]);
    let (stored, view) = (running.topic("a"), running.topic("w"));
    assert!(stored.view().is_none() && view.view().is_some());
    assert!(Arc::ptr_eq(
        stored.partition(0).unwrap(),
        view.partition(0).unwrap()
    ));
    assert_eq!(running.topics.partitions().len(), 1);
    running.apply(&Command::CreatePartitions {
        topic: stored.name.clone(),
        added: vec![vec![BrokerId(1)]],
    });
    assert_eq!(running.topic("w").partition_count(), 2);
    assert!(!running.has("v-0") && !running.has("w-0"));
}

#[test]
fn a_changed_configuration_reaches_the_logs() {
    let mut running = Running::start();
    running.create("a", 1, &[("retention.bytes", "5")]);
    let retained = |running: &Running| {
        running
            .topic("a")
            .partition(0)
            .unwrap()
            .with_log(|log| log.config().retention_bytes)
    };
    assert_eq!(retained(&running), 5);
    running.apply(&Command::AlterConfigs {
        topic: TopicName::new("a").unwrap(),
        update: cluster::ConfigUpdate::Replace(BTreeMap::from([(
            "retention.bytes".to_owned(),
            "7".to_owned(),
        )])),
    });
    assert_eq!(retained(&running), 7);
}

#[test]
fn a_plugin_that_is_attached_twice_has_two_places() {
    let mut running = Running::start();
    running.apply(&Command::RegisterPlugin {
        name: "f".to_owned(),
        version: None,
        sha256: "0".repeat(64),
        world: cluster::World::Filter,
        size: 1,
        limits: Default::default(),
        pushed_at_ms: 0,
    });
    running.create("a", 1, &[("millstream.ingest", r#"["f", "f"]"#)]);
    let before = running.topic("a");
    running.create("b", 1, &[]);
    let after = running.topic("a");
    let (first, second) = (&after.attached[0], &after.attached[1]);
    assert!(!Arc::ptr_eq(first, second), "or a batch would wait for itself");
    assert!(Arc::ptr_eq(&before, &after));
}
