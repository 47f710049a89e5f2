//! Stories of brokers that copy from each other, in one process, over pipes.

mod copying;
mod limits;
mod membership;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::cluster::{self, Broker, Command, Image, Outcome, PartitionChange, PartitionRefusal};
use millstream_core::ids::{BrokerId, Offset, PartitionIndex, TopicId, TopicName};
use millstream_kafka::records::BatchBuilder;
use millstream_storage::LogConfig;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use uuid::Uuid;

use super::stream::{BoxFuture, Dial, Sink, Source};
use super::{Cluster, NotAltered, Partitions, Parts, Replication};
use crate::metrics::Metrics;
use crate::partitions::{Description, Partition, Receipt, Store};

/// A topic of one partition on brokers that all hold it.
struct World {
    nodes: BTreeMap<BrokerId, Node>,
    shared: Arc<Shared>,
    _down: watch::Sender<bool>,
}

struct Node {
    partition: Arc<Partition>,
    replication: Arc<Replication>,
    _store: Store,
    _dir: tempfile::TempDir,
}

/// What stands for the controller and the network.
#[derive(Default)]
struct Shared {
    image: Mutex<Image>,
    nodes: Mutex<BTreeMap<BrokerId, Running>>,
    /// Brokers that nobody reaches and that reach nobody; their pipes are broken by ending the tasks at both ends.
    cut: Mutex<BTreeSet<BrokerId>>,
    pipes: Mutex<Vec<(BrokerId, BrokerId, tokio::task::AbortHandle)>>,
    /// Whether the controller answers.
    is_mute: Mutex<bool>,
    /// Whether first answers get lost, so that commands come twice, and brokers hear of nothing meanwhile.
    loses_answers: Mutex<bool>,
}

/// A broker's partition and its replication.
type Running = (Arc<Partition>, Arc<Replication>);

struct Held(Arc<Partition>);

impl Partitions for Held {
    fn find(&self, topic: TopicId, partition: PartitionIndex) -> Option<Arc<Partition>> {
        let is_it = (topic, partition) == (self.0.topic_id, self.0.index);
        is_it.then(|| self.0.clone())
    }

    fn all(&self) -> Vec<Arc<Partition>> {
        vec![self.0.clone()]
    }
}

struct Pipe<W>(W);

impl<W: tokio::io::AsyncWrite + Unpin + Send> Sink for Pipe<W> {
    fn send(&mut self, frames: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { self.0.write_all(&frames).await })
    }
}

struct Wire {
    me: BrokerId,
    shared: Arc<Shared>,
}

impl Dial for Wire {
    fn dial(&self, to: BrokerId) -> BoxFuture<'_, io::Result<(Box<dyn Sink>, Source)>> {
        Box::pin(async move {
            let cut = self.shared.cut.lock().unwrap();
            if cut.contains(&self.me) || cut.contains(&to) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (_, leader) = self.shared.nodes.lock().unwrap()[&to].clone();
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let serving = tokio::spawn(serve(leader, self.me, theirs));
            let pipe = (self.me, to, serving.abort_handle());
            self.shared.pipes.lock().unwrap().push(pipe);
            let (source, sink) = tokio::io::split(ours);
            let (sink, source): (Box<dyn Sink>, Source) = (Box::new(Pipe(sink)), Box::new(source));
            Ok((sink, source))
        })
    }
}

async fn serve(leader: Arc<Replication>, follower: BrokerId, stream: DuplexStream) {
    let (source, sink) = tokio::io::split(stream);
    leader
        .serve_over(follower, Box::new(Pipe(sink)), Box::new(source))
        .await;
}

impl Shared {
    fn apply(&self, command: &Command) -> Outcome {
        let outcome = cluster::apply(&mut self.image.lock().unwrap(), command).unwrap();
        self.publish();
        outcome
    }

    /// Lets every broker know the image as it is.
    fn publish(&self) {
        let image = Arc::new(self.image.lock().unwrap().clone());
        let Some(topic) = image.topic(TOPIC) else { return };
        let described = &topic.partitions[0];
        for (partition, replication) in self.nodes.lock().unwrap().values() {
            partition.take_role(described, image.min_insync(topic, described), super::now_ms());
            replication.image_changed(&image);
        }
    }
}

struct Controls(BrokerId, Arc<Shared>);

impl Cluster for Controls {
    fn alter(
        &self,
        changes: Vec<PartitionChange>,
    ) -> BoxFuture<'_, Result<Vec<Result<(), PartitionRefusal>>, NotAltered>> {
        Box::pin(async move {
            if *self.1.is_mute.lock().unwrap() {
                return Err(NotAltered::Unknown("nobody answers".to_owned()));
            }
            let broker_epoch = self.1.image.lock().unwrap().brokers()[&self.0].epoch;
            let command = Command::AlterPartition {
                broker: self.0,
                broker_epoch,
                changes,
            };
            let outcome = match *self.1.loses_answers.lock().unwrap() {
                false => None,
                true => {
                    let mut image = self.1.image.lock().unwrap();
                    cluster::apply(&mut image, &command).unwrap();
                    Some(cluster::apply(&mut image, &command).unwrap())
                }
            };
            match outcome.unwrap_or_else(|| self.1.apply(&command)) {
                Outcome::Partitions(results) => Ok(results),
                other => Err(NotAltered::Unknown(format!("{other:?}"))),
            }
        })
    }

    fn give_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let epoch = self.1.image.lock().unwrap().brokers()[&self.0].epoch;
            self.1.apply(&Command::FenceBroker { id: self.0, epoch });
        })
    }
}

impl World {
    /// Brokers 1 to `count`, of which 1 leads.
    fn of(count: i32) -> Self {
        Self::with(count, true, 10_000)
    }

    fn with(count: i32, waits_for_disk: bool, lag_ms_max: i64) -> Self {
        let ids: Vec<BrokerId> = (1..=count).map(BrokerId).collect();
        let shared = Arc::new(Shared::default());
        *shared.image.lock().unwrap() = image_of(&ids);
        let (down, shutdown) = watch::channel(false);
        let mut nodes = BTreeMap::new();
        for id in ids {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), id, Metrics::new()).unwrap();
            let description = Description {
                topic: TopicName::new(TOPIC).unwrap(),
                topic_id: TOPIC_ID,
                index: PartitionIndex(0),
                log: LogConfig::default(),
                waits_for_disk,
            };
            let partition = store.open_all(&[description]).pop().unwrap().unwrap();
            let me = id;
            let replication = Replication::with(Parts {
                me,
                partitions: Arc::new(Held(partition.clone())),
                dial: Some(Arc::new(Wire {
                    me,
                    shared: shared.clone(),
                })),
                reports: store.reports().clone(),
                lag_ms_max,
            });
            let controls = Arc::new(Controls(id, shared.clone()));
            tokio::spawn(replication.clone().run(controls, shutdown.clone()));
            let handles = (partition.clone(), replication.clone());
            shared.nodes.lock().unwrap().insert(id, handles);
            let node = Node {
                partition,
                replication,
                _store: store,
                _dir: dir,
            };
            nodes.insert(id, node);
        }
        shared.publish();
        Self {
            nodes,
            shared,
            _down: down,
        }
    }

    fn partition(&self, id: i32) -> &Arc<Partition> {
        &self.nodes[&BrokerId(id)].partition
    }

    /// Appends a batch of one record at a broker.
    fn append(&self, at: i32, value: &[u8]) -> Receipt {
        self.partition(at).append(&batch(value), 0).unwrap()
    }

    /// Appends a batch and waits until it is safe.
    async fn produce(&self, at: i32, value: &[u8]) {
        if let Some(durable) = self.append(at, value).durable {
            within(durable).await.unwrap().unwrap();
        }
    }

    /// Takes a broker off the network.
    async fn cut(&self, id: i32) {
        let id = BrokerId(id);
        self.shared.cut.lock().unwrap().insert(id);
        let pipes = self.shared.pipes.lock().unwrap().clone();
        let broken = pipes.iter().filter(|(from, to, _)| *from == id || *to == id);
        for (_, _, pipe) in broken.clone() {
            pipe.abort();
        }
        eventually(|| broken.clone().all(|(_, _, pipe)| pipe.is_finished())).await;
    }

    fn heal(&self, id: i32) {
        self.shared.cut.lock().unwrap().remove(&BrokerId(id));
    }

    /// Takes a broker out of service: others lead what it led.
    fn fence(&self, id: i32) {
        let id = BrokerId(id);
        let epoch = self.shared.image.lock().unwrap().brokers()[&id].epoch;
        self.shared.apply(&Command::FenceBroker { id, epoch });
    }

    fn unfence(&self, id: i32) {
        let id = BrokerId(id);
        let epoch = self.shared.image.lock().unwrap().brokers()[&id].epoch;
        self.shared.apply(&Command::UnfenceBroker { id, epoch });
    }

    /// The image's entry of the partition.
    fn described(&self) -> cluster::Partition {
        self.shared.image.lock().unwrap().topic(TOPIC).unwrap().partitions[0].clone()
    }

    fn in_sync(&self) -> Vec<i32> {
        let mut ids: Vec<i32> = self.described().isr.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    /// The whole log of a broker.
    fn log(&self, id: i32) -> Vec<u8> {
        self.partition(id).with_log(|log| {
            let (mut at, end) = (log.log_start_offset(), log.log_end_offset());
            let mut bytes = Vec::new();
            while at < end {
                let slice = log.read(at, usize::MAX >> 1, end, true).unwrap().unwrap();
                let slice = crate::partitions::FileSlice::from(slice).read_blocking().unwrap();
                at = super::leader::end_of(&slice).unwrap();
                bytes.extend(slice);
            }
            bytes
        })
    }

    /// Waits until brokers hold the same bytes and know the same high watermark, which is the end.
    async fn agree(&self, ids: &[i32]) {
        eventually(|| {
            let first = self.partition(ids[0]).watermarks();
            let same = ids.iter().all(|id| self.partition(*id).watermarks() == first);
            same && first.high == first.log_end
        })
        .await;
        let first = self.log(ids[0]);
        for id in ids {
            assert!(self.log(*id) == first, "broker {id} holds other bytes");
        }
    }
}

/// Brokers that serve, and the topic, which all of them hold.
fn image_of(ids: &[BrokerId]) -> Image {
    let mut image = Image::default();
    let mut apply = |command| {
        cluster::apply(&mut image, &command).unwrap();
        image.clone()
    };
    let level = apply(Command::Bootstrap {
        cluster_id: "c".to_owned(),
        image: None,
    })
    .feature_level();
    for id in ids {
        let broker = Broker {
            id: *id,
            host: format!("host{id}"),
            port: 9092,
            peer: Some(format!("host{id}:9190")),
            incarnation: id.0 as u64,
            storage: Uuid::from_u128(id.0 as u128),
            features: (level, level),
            ..Broker::default()
        };
        let epoch = apply(Command::RegisterBroker { broker }).brokers()[id].epoch;
        apply(Command::UnfenceBroker { id: *id, epoch });
    }
    apply(Command::CreateTopic {
        name: TopicName::new(TOPIC).unwrap(),
        id: TOPIC_ID,
        partitions: vec![ids.to_vec()],
        configs: BTreeMap::new(),
    })
}

fn batch(value: &[u8]) -> Bytes {
    batch_of(&[value])
}

fn batch_of(values: &[&[u8]]) -> Bytes {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.append(0, None, Some(value), &[]).unwrap();
    }
    batch.finish().unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, work)
        .await
        .expect("it happens in time")
}

async fn eventually(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

fn end(offset: i64) -> Offset {
    Offset(offset)
}

const TOPIC: &str = "t";
const TOPIC_ID: TopicId = TopicId(Uuid::from_u128(7));
const WAIT_MAX: Duration = Duration::from_secs(20);
const PIPE_BYTES: usize = 256 << 10;
