//! Stories of brokers that form a cluster, in one process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::cluster::{Command, Image, Outcome, placement};
use millstream_core::ids::{BrokerId, TopicId, TopicName};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use uuid::Uuid;

use super::{Broker, StartError};
use crate::controller::entry::EntryError;
use crate::settings::Settings;

/// Brokers of one cluster, and the directories that outlive them.
struct Cluster {
    dir: tempfile::TempDir,
    name: &'static str,
    authority: CertifiedIssuer<'static, KeyPair>,
    voters: BTreeMap<i32, String>,
    running: BTreeMap<i32, Broker>,
}

impl Cluster {
    /// Nobody runs yet.
    fn new(voters: &[i32]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let voters = voters.iter().map(|id| (*id, free_address())).collect();
        Self {
            dir: tempfile::tempdir().unwrap(),
            name: "orders",
            authority,
            voters,
            running: BTreeMap::new(),
        }
    }

    fn certs(&self, id: i32) -> PathBuf {
        let certs = self.dir.path().join(format!("certs-{id}"));
        if certs.exists() {
            return certs;
        }
        std::fs::create_dir(&certs).unwrap();
        let key = KeyPair::generate().unwrap();
        let name = format!("node-{id}.{}.millstream.internal", self.name);
        let params = CertificateParams::new(vec![name]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(certs.join("ca.pem"), self.authority.pem()).unwrap();
        std::fs::write(certs.join("node.pem"), certificate.pem()).unwrap();
        let file = certs.join("node.key");
        std::fs::write(&file, key.serialize_pem()).unwrap();
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, only_ours).unwrap();
        certs
    }

    fn settings(&self, id: i32, changes: &[(&str, &str)]) -> Settings {
        let mut settings = Settings {
            node_id: id,
            cluster_listen: Some("127.0.0.1:0".to_owned()),
            certs: Some(text(&self.certs(id))),
            num_network_threads: 1,
            ..Settings::of_test(&self.dir.path().join(format!("data-{id}")))
        };
        if let Some(address) = self.voters.get(&id) {
            let voters = self.voters.iter().map(|(id, address)| format!("{id}@{address}"));
            settings.cluster_voters = Some(voters.collect::<Vec<_>>().join(","));
            settings.cluster_listen = Some(address.clone());
        }
        for (name, value) in changes {
            settings.set(name, value).unwrap();
        }
        settings
    }

    /// Starts brokers, all at the same time.
    async fn start(&mut self, ids: &[i32]) {
        let starting: Vec<_> = ids
            .iter()
            .map(|id| (*id, tokio::spawn(Broker::start(self.settings(*id, &[])))))
            .collect();
        for (id, starting) in starting {
            let started = tokio::time::timeout(WAIT, starting).await;
            let broker = started.expect("a broker starts in time").unwrap();
            self.running
                .insert(id, broker.unwrap_or_else(|error| panic!("broker {id}: {error}")));
        }
    }

    async fn stop(&mut self, id: i32) {
        let broker = self.running.remove(&id).unwrap();
        tokio::time::timeout(WAIT, broker.shutdown()).await.unwrap();
    }

    async fn apply(&self, at: i32, command: Command) -> Outcome {
        let controller = &self.running[&at].context().controller;
        controller.apply(command).await.unwrap()
    }

    /// Gives a broker a vote, or takes it, as broker `at` is asked to.
    async fn voter(&self, at: i32, id: i32, votes: bool) {
        let controller = &self.running[&at].context().controller;
        let changed = match votes {
            true => controller.add_voter(BrokerId(id)).await,
            false => controller.remove_voter(BrokerId(id)).await,
        };
        changed.unwrap();
    }

    async fn create(&self, at: i32, name: &str, partitions: usize, factor: usize) -> TopicId {
        let id = TopicId(Uuid::new_v4());
        let image = self.image(at);
        let command = Command::CreateTopic {
            name: TopicName::new(name).unwrap(),
            id,
            partitions: placement::place(&image, partitions, factor, 7).unwrap(),
            configs: BTreeMap::new(),
        };
        self.apply(at, command).await;
        id
    }

    fn image(&self, at: i32) -> Arc<Image> {
        self.running[&at].context().controller.image()
    }

    /// Three voters that serve.
    async fn of_three() -> Self {
        let mut cluster = Self::new(&[1, 2, 3]);
        cluster.start(&[1, 2, 3]).await;
        cluster.until_serving(&[1, 2, 3]).await;
        cluster
    }

    /// Waits until all that run know that exactly these serve.
    async fn until_serving(&self, ids: &[i32]) {
        self.until("serving", |image| serving(image) == ids).await;
    }

    /// Waits until all that run know a topic.
    async fn until_known(&self, topic: TopicId) {
        self.until("known", |image| image.topic_by_id(topic).is_some())
            .await;
    }

    /// Waits until the image is so on all brokers that run.
    async fn until(&self, what: &str, holds: impl Fn(&Image) -> bool) {
        let deadline = Instant::now() + WAIT;
        for id in self.running.keys() {
            while !holds(&self.image(*id)) {
                let image = || self.image(*id);
                assert!(
                    Instant::now() < deadline,
                    "broker {id}: not {what}: {:?}",
                    image()
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn free_address() -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn serving(image: &Image) -> Vec<i32> {
    let brokers = image.brokers().values();
    brokers.filter(|b| !b.fenced).map(|b| b.id.0).collect()
}

fn leaders(image: &Image, topic: TopicId) -> Vec<Option<i32>> {
    let topic = image.topic_by_id(topic).unwrap();
    let leaders = topic.partitions.iter().map(|partition| partition.leader);
    leaders.map(|leader| leader.map(|id| id.0)).collect()
}

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_brokers_form_a_cluster_lose_one_and_gain_a_fourth() {
    let mut cluster = Cluster::of_three().await;
    assert_eq!(cluster.image(1).cluster_id(), Some("orders"));

    let topic = cluster.create(2, "a", 6, 3).await;
    let counted = |image: &Image| {
        let led = leaders(image, topic);
        [1, 2, 3].map(|id| led.iter().filter(|leader| **leader == Some(id)).count())
    };
    assert_eq!(
        counted(&cluster.image(2)),
        [2, 2, 2],
        "in force where it was asked for"
    );
    cluster.until_known(topic).await;
    for broker in cluster.running.values() {
        assert_eq!(broker.context().topics.partitions().len(), 6);
    }

    cluster.stop(2).await;
    cluster
        .until("others lead", |image| {
            serving(image) == [1, 3] && !leaders(image, topic).contains(&Some(2))
        })
        .await;
    assert!(leaders(&cluster.image(1), topic).iter().all(Option::is_some));

    cluster.start(&[2]).await;
    cluster.until_serving(&[1, 2, 3]).await;

    let whom = cluster.running[&3].cluster_addr().unwrap().to_owned();
    let joins = cluster.settings(4, &[("millstream.cluster.join", &whom)]);
    let fourth = tokio::time::timeout(WAIT, Broker::start(joins))
        .await
        .unwrap()
        .unwrap();
    cluster.running.insert(4, fourth);
    cluster.until_serving(&[1, 2, 3, 4]).await;
    cluster.create(4, "b", 1, 4).await;
    let status = cluster.running[&4].context().controller.quorum_status().unwrap();
    assert_eq!((status.voters.len(), status.learners.len()), (3, 1));
    for id in [1, 2, 3, 4] {
        cluster.stop(id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_was_alone_grows_into_a_cluster_with_its_topics() {
    let mut cluster = Cluster::new(&[1, 2]);
    let alone = Settings {
        cluster_listen: None,
        cluster_voters: None,
        certs: None,
        ..cluster.settings(1, &[])
    };
    cluster.running.insert(1, Broker::start(alone).await.unwrap());
    let topic = cluster.create(1, "a", 2, 1).await;
    cluster.stop(1).await;
    cluster.start(&[1, 2]).await;
    let is_kept = |image: &Image| leaders(image, topic) == [Some(1), Some(1)];
    cluster.until("the topic is kept", is_kept).await;
    // It is a member from now on, also where nobody says so.
    cluster.stop(2).await;
    cluster.stop(1).await;
    let voters = std::mem::take(&mut cluster.voters);
    let again = [1, 2].map(|id| cluster.settings(id, &[("millstream.cluster.listen", &voters[&id])]));
    let [first, second] = again.map(|settings| tokio::spawn(Broker::start(settings)));
    cluster.running.insert(1, first.await.unwrap().unwrap());
    cluster.running.insert(2, second.await.unwrap().unwrap());
    cluster.until("the topic is kept", is_kept).await;
    cluster.stop(2).await;
    cluster.stop(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_the_cluster_does_not_take_is_told_why() {
    let mut cluster = Cluster::new(&[1]);
    cluster.start(&[1]).await;
    let whom = cluster.running[&1].cluster_addr().unwrap().to_owned();
    // Another one with the same id, and another disk.
    let twin = Settings {
        cluster_voters: None,
        cluster_listen: Some("127.0.0.1:0".to_owned()),
        ..cluster.settings(1, &[("millstream.cluster.join", &whom)])
    };
    let twin = Settings {
        data_dir: text(&cluster.dir.path().join("twin")),
        ..twin
    };
    let error = refused(twin).await;
    assert!(error.contains("broker id 1 is in use"), "{error}");
    // One with topics of its own.
    let alone = Settings {
        cluster_listen: None,
        certs: None,
        ..cluster.settings(2, &[])
    };
    cluster.running.insert(2, Broker::start(alone).await.unwrap());
    cluster.create(2, "mine", 1, 1).await;
    cluster.stop(2).await;
    let error = refused(cluster.settings(2, &[("millstream.cluster.join", &whom)])).await;
    assert!(
        error.contains("which would be lost in cluster 'orders'"),
        "{error}"
    );
    // One with another's certificate.
    let certs = text(&cluster.certs(4));
    let error = refused(cluster.settings(
        3,
        &[("millstream.cluster.join", &whom), ("millstream.certs", &certs)],
    ))
    .await;
    assert!(error.contains('4'), "{error}");
    // One without certificates.
    let nowhere = text(&cluster.dir.path().join("nowhere"));
    let error = refused(cluster.settings(
        3,
        &[("millstream.cluster.join", &whom), ("millstream.certs", &nowhere)],
    ))
    .await;
    assert!(error.contains("nowhere"), "{error}");
    cluster.stop(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_voter_that_lost_its_disk_votes_again_only_after_its_vote_was_taken() {
    let mut cluster = Cluster::of_three().await;
    let topic = cluster.create(1, "a", 1, 3).await;
    let leader = cluster.running[&1].context().controller.leader().unwrap().0;
    let lost = [1, 2, 3].into_iter().find(|id| *id != leader).unwrap();
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.dir.path().join(format!("data-{lost}"))).unwrap();

    let voter = cluster.settings(lost, &[]);
    let error = refused(voter.clone()).await;
    let told = format!("broker {lost} has lost its disk");
    let remedy = format!("'millstream cluster quorum remove {lost}'");
    assert!(error.contains(&told) && error.contains(&remedy), "{error}");
    // Nor does it get its vote back where it joins.
    let joins = Settings {
        cluster_voters: None,
        cluster_join: Some(cluster.voters[&leader].clone()),
        ..voter.clone()
    };
    let error = refused(joins.clone()).await;
    assert!(error.contains(&told), "{error}");

    let mut ids = [1, 2, 3].into_iter();
    let remains = ids.find(|id| ![leader, lost].contains(id)).unwrap();
    cluster.voter(remains, lost, false).await;
    let error = refused(voter).await;
    assert!(error.contains(&told), "{error}");
    let started = tokio::time::timeout(WAIT, Broker::start(joins)).await.unwrap();
    cluster.running.insert(lost, started.unwrap());
    cluster.voter(remains, lost, true).await;
    let status = cluster.running[&remains]
        .context()
        .controller
        .quorum_status()
        .unwrap();
    assert_eq!((status.voters.len(), status.learners.len()), (3, 0));
    cluster
        .until("all are in sync", |image| {
            serving(image) == [1, 2, 3] && image.topic_by_id(topic).unwrap().partitions[0].isr.len() == 3
        })
        .await;
    // Its vote counts: it and another one decide.
    cluster.stop(leader).await;
    cluster.create(lost, "b", 1, 2).await;
    for id in [lost, remains] {
        cluster.stop(id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_begins_with_all_voters_and_not_anew_with_those_that_lost_their_disks() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    let two = [1, 3].map(|id| (id, tokio::spawn(Broker::start(cluster.settings(id, &[])))));
    tokio::time::sleep(LONG_ENOUGH).await;
    assert!(
        two.iter().all(|(_, starting)| !starting.is_finished()),
        "2 is not there"
    );
    cluster.start(&[2]).await;
    for (id, starting) in two {
        let broker = tokio::time::timeout(WAIT, starting).await.unwrap().unwrap();
        cluster.running.insert(id, broker.unwrap());
    }
    cluster.until_serving(&[1, 2, 3]).await;
    for id in [1, 2, 3] {
        cluster.stop(id).await;
    }

    let lost = [1, 2].map(|id| {
        std::fs::remove_dir_all(cluster.dir.path().join(format!("data-{id}"))).unwrap();
        tokio::spawn(Broker::start(cluster.settings(id, &[])))
    });
    tokio::time::sleep(LONG_ENOUGH).await;
    assert!(
        lost.iter().all(|starting| !starting.is_finished()),
        "they are two of three"
    );
    let third = tokio::spawn(Broker::start(cluster.settings(3, &[])));
    for (starting, id) in lost.into_iter().zip([1, 2]) {
        let started = tokio::time::timeout(WAIT, starting).await.unwrap().unwrap();
        let told = started.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains(&format!("broker {id} has lost its disk")), "{told}");
    }
    third.abort();
}

/// Longer than brokers that are there take to agree.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

async fn refused(settings: Settings) -> String {
    let started = tokio::time::timeout(WAIT, Broker::start(settings)).await.unwrap();
    match started {
        Ok(_) => panic!("it is taken"),
        Err(error @ StartError::Entry(EntryError::Both)) => panic!("{error}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_falls_silent_is_fenced_within_a_second() {
    let mut cluster = Cluster::of_three().await;
    let topic = cluster.create(1, "a", 3, 3).await;
    cluster.until_known(topic).await;
    let leader = cluster.running[&1].context().controller.leader().unwrap();
    // First a broker that does not lead the quorum, then the one that does.
    let other = [1, 2, 3].into_iter().find(|id| *id != leader.0).unwrap();
    let silent = cluster.running.remove(&other).unwrap();
    let took = silence(&silent, &cluster, topic, other).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    silent.shutdown().await;
    cluster.start(&[other]).await;
    cluster.until_serving(&[1, 2, 3]).await;
    let leader = cluster.running[&1].context().controller.leader().unwrap();
    let silent = cluster.running.remove(&leader.0).unwrap();
    let took = silence(&silent, &cluster, topic, leader.0).await;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    silent.shutdown().await;
}

/// Cuts a broker off, as if its process were gone, and says after how long others lead in its place.
async fn silence(silent: &Broker, cluster: &Cluster, topic: TopicId, id: i32) -> Duration {
    silent.context().peers.as_ref().unwrap().close();
    let since = Instant::now();
    cluster
        .until("fenced", |image| {
            image.brokers()[&BrokerId(id)].fenced && !leaders(image, topic).contains(&Some(id))
        })
        .await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_outlives_its_leader_and_the_old_leader_agrees_again() {
    let mut cluster = Cluster::of_three().await;
    let topic = cluster.create(1, "a", 1, 3).await;
    cluster.until_known(topic).await;
    let leader = leaders(&cluster.image(1), topic)[0].unwrap();
    for n in 0..100 {
        produce(&cluster, leader, n).await;
    }
    let silent = cluster.running.remove(&leader).unwrap();
    silence(&silent, &cluster, topic, leader).await;
    let witness = *cluster.running.keys().next().unwrap();
    let next = leaders(&cluster.image(witness), topic)[0].unwrap();
    assert!(partition(&cluster, next).watermarks().log_end.0 >= 100);
    for n in 100..200 {
        produce(&cluster, next, n).await;
    }
    silent.shutdown().await;
    cluster.start(&[leader]).await;
    cluster
        .until("all are in sync", |image| {
            image.topic_by_id(topic).unwrap().partitions[0].isr.len() == 3
        })
        .await;
    produce(&cluster, next, 200).await;
    for id in [1, 2, 3] {
        assert_eq!(partition(&cluster, id).watermarks().log_end.0, 201, "broker {id}");
    }
    for id in [1, 2, 3] {
        cluster.stop(id).await;
    }
}

fn partition(cluster: &Cluster, at: i32) -> Arc<crate::partitions::Partition> {
    let topic = cluster.running[&at]
        .context()
        .topics
        .find("a", Uuid::nil())
        .unwrap();
    topic.partition(0).unwrap().clone()
}

/// Appends a record and waits until it is safe.
async fn produce(cluster: &Cluster, at: i32, n: u32) {
    let mut batch = millstream_kafka::records::BatchBuilder::new();
    batch.append(0, None, Some(&n.to_be_bytes()), &[]).unwrap();
    let receipt = partition(cluster, at)
        .append(&batch.finish().unwrap(), 0)
        .unwrap();
    if let Some(durable) = receipt.durable {
        tokio::time::timeout(WAIT, durable)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
