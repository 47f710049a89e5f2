//! Copies of partitions: this broker follows the leaders of those that others lead, and serves the followers of those
//! that it leads.
//!
//! A follower opens one stream to each leader, for all partitions together ([`follower`], [`leader`], [`frame`]). What a
//! record's safety means is decided in `core::replica`, under the lock of its partition; here bytes are moved, and what
//! leaders propose is brought to the controller ([`in_sync`]). A lone broker has nobody to follow and nobody that
//! follows: nothing of this runs.

mod follower;
pub mod frame;
mod in_sync;
mod leader;
mod limits;
pub mod stream;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use millstream_core::cluster::Image;
use millstream_core::ids::{BrokerId, PartitionIndex, TopicId};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::context;
use crate::partitions::{Partition, Reports};
use crate::peer::Peers;
use crate::settings::Settings;
use crate::topics::Topics;
use follower::{Following, Key, Want};
pub use in_sync::{Cluster, NotAltered};
use leader::Feeding;
use limits::Limits;
use stream::{BoxFuture, Dial, Sink, Source};

/// Finds the partitions that this broker stores.
pub trait Partitions: Send + Sync {
    /// One of them.
    fn find(&self, topic: TopicId, partition: PartitionIndex) -> Option<Arc<Partition>>;

    /// All of them.
    fn all(&self) -> Vec<Arc<Partition>>;
}

/// What replication is made with.
pub struct Parts {
    /// This broker.
    pub me: BrokerId,
    /// What it stores.
    pub partitions: Arc<dyn Partitions>,
    /// The way to leaders; none for a lone broker.
    pub dial: Option<Arc<dyn Dial>>,
    /// What the partitions have to say.
    pub reports: Arc<Reports>,
    /// Time after which a follower that has not held what its leader has is no longer in sync, in milliseconds.
    pub lag_ms_max: i64,
}

/// Everything that this broker copies, and that is copied from it.
pub struct Replication {
    me: BrokerId,
    partitions: Arc<dyn Partitions>,
    dial: Option<Arc<dyn Dial>>,
    reports: Arc<Reports>,
    lag_ms_max: i64,
    limits: Limits,
    /// This broker's epoch, of its registration.
    broker_epoch: AtomicU64,
    image: ArcSwap<Image>,
    state: Mutex<State>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    /// The broker shuts down: nobody is followed any more.
    is_stopped: bool,
    leaders: BTreeMap<BrokerId, Leading>,
    /// The streams of followers; each is told when another one stands in its place.
    followers: BTreeMap<BrokerId, Arc<Notify>>,
    /// The lives of followers, as they said: what they acknowledge is of this one.
    epochs: BTreeMap<BrokerId, u64>,
    /// Partitions whose disk failed or was full, and when that was last said.
    failed: Vec<(Arc<Partition>, Instant)>,
}

/// A leader that is followed. Dropping it ends that.
struct Leading {
    following: Arc<Following>,
    _task: Abort<()>,
}

/// What was copied so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes that came from leaders.
    pub bytes_in: u64,
    /// Bytes that went to followers.
    pub bytes_out: u64,
    /// Leaders that are followed.
    pub leaders: usize,
    /// Followers that are served.
    pub followers: usize,
}

impl Replication {
    /// Nothing is copied yet. Within a runtime.
    pub fn new(
        settings: &Settings,
        topics: Arc<Topics>,
        peers: Option<Arc<Peers>>,
        reports: Arc<Reports>,
    ) -> Arc<Self> {
        Self::with(Parts {
            me: BrokerId(settings.node_id),
            partitions: topics,
            dial: peers.map(|peers| peers as Arc<dyn Dial>),
            reports,
            lag_ms_max: settings.replica_lag_time_max_ms,
        })
    }

    /// As [`Replication::new`], over other parts.
    pub fn with(parts: Parts) -> Arc<Self> {
        let Parts {
            me,
            partitions,
            dial,
            reports,
            lag_ms_max,
        } = parts;
        Arc::new(Self {
            me,
            partitions,
            dial,
            reports,
            lag_ms_max,
            limits: Limits::new(me),
            broker_epoch: AtomicU64::default(),
            image: ArcSwap::default(),
            state: Mutex::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            runtime: Handle::current(),
        })
    }

    /// Follows the leaders that the image names from now on. The partitions have their roles already.
    pub fn image_changed(self: &Arc<Self>, image: &Arc<Image>) {
        if self.dial.is_none() {
            return;
        }
        let epoch = image.brokers().get(&self.me).map_or(0, |me| me.epoch);
        let is_registered_anew = self.broker_epoch.swap(epoch, Ordering::AcqRel) != epoch;
        self.image.store(image.clone());
        self.limits.update(image);
        let mut wants = self.wants(image);
        let mut state = self.lock();
        if state.is_stopped {
            return;
        }
        for id in wants.keys() {
            state.leaders.entry(*id).or_insert_with(|| {
                let following = Following::new(self.clone(), *id);
                let task = Abort(self.runtime.spawn(following.clone().run()));
                Leading {
                    following,
                    _task: task,
                }
            });
        }
        state.leaders.retain(|id, leading| match wants.remove(id) {
            Some(wants) => {
                leading.following.want(wants, is_registered_anew);
                true
            }
            None => false,
        });
        let is_known = |id: &BrokerId| image.brokers().contains_key(id);
        state.epochs.retain(|id, _| is_known(id));
    }

    /// What is to be copied, by leader.
    fn wants(&self, image: &Image) -> BTreeMap<BrokerId, BTreeMap<Key, Want>> {
        let mut wants: BTreeMap<BrokerId, BTreeMap<Key, Want>> = BTreeMap::new();
        for topic in image.topics().filter(|topic| !topic.is_view()) {
            for (described, index) in topic.partitions.iter().zip(0..) {
                let Some(leader) = described.leader.filter(|leader| *leader != self.me) else {
                    continue;
                };
                let key = (topic.id, PartitionIndex(index));
                if described.replicas.contains(&self.me)
                    && let Some(partition) = self.partitions.find(key.0, key.1)
                {
                    let epoch = described.leader_epoch;
                    wants
                        .entry(leader)
                        .or_default()
                        .insert(key, Want { partition, epoch });
                }
            }
        }
        wants
    }

    /// Serves a follower's stream until it ends, or the follower opens another one.
    pub async fn serve(
        self: Arc<Self>,
        follower: BrokerId,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
    ) {
        self.serve_over(follower, Box::new(send), Box::new(recv)).await;
    }

    /// As [`Replication::serve`], over any stream.
    pub async fn serve_over(self: Arc<Self>, follower: BrokerId, sink: Box<dyn Sink>, source: Source) {
        let replaced = Arc::new(Notify::new());
        if let Some(before) = self.lock().followers.insert(follower, replaced.clone()) {
            before.notify_one();
        }
        tracing::debug!(%follower, "a follower's stream begins");
        let outcome = Feeding::new(self.clone(), follower)
            .run(sink, source, &replaced)
            .await;
        match outcome {
            Ok(()) => tracing::debug!(%follower, "a follower's stream ended"),
            Err(error) => tracing::debug!(%follower, %error, "a follower's stream broke"),
        }
        let mut state = self.lock();
        let is_last = state.followers.get(&follower);
        if is_last.is_some_and(|last| Arc::ptr_eq(last, &replaced)) {
            state.followers.remove(&follower);
        }
    }

    /// What was copied so far.
    pub fn stats(&self) -> Stats {
        let state = self.lock();
        Stats {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            leaders: state.leaders.len(),
            followers: state.followers.len(),
        }
    }

    /// Partitions that take no writes here: their disk failed, or was full not long ago.
    pub fn failed_partitions(&self) -> Vec<Arc<Partition>> {
        let mut state = self.lock();
        state
            .failed
            .retain(|(partition, said)| partition.has_failed() || said.elapsed() < FULL_DISK_COUNTS);
        state
            .failed
            .iter()
            .map(|(partition, _)| partition.clone())
            .collect()
    }

    /// Follows nobody any more.
    fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.leaders.clear();
    }

    fn dial(&self, leader: BrokerId) -> BoxFuture<'_, io::Result<(Box<dyn Sink>, Source)>> {
        match &self.dial {
            Some(dial) => dial.dial(leader),
            None => Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
        }
    }

    fn note_epoch(&self, follower: BrokerId, epoch: u64) {
        self.lock().epochs.insert(follower, epoch);
    }

    fn count_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the streams are held")
    }
}

impl Partitions for Topics {
    fn find(&self, topic: TopicId, partition: PartitionIndex) -> Option<Arc<Partition>> {
        if topic.0 == Uuid::nil() {
            return None;
        }
        let topic = Topics::find(self, "", topic.0).ok()?;
        topic.partition(partition.0).cloned()
    }

    fn all(&self) -> Vec<Arc<Partition>> {
        self.partitions()
    }
}

impl Dial for Peers {
    fn dial(&self, to: BrokerId) -> BoxFuture<'_, io::Result<(Box<dyn Sink>, Source)>> {
        Box::pin(async move {
            let (send, recv) = self.open_replication(to).await.map_err(io::Error::other)?;
            let (sink, source): (Box<dyn Sink>, Source) = (Box::new(send), Box::new(recv));
            Ok((sink, source))
        })
    }
}

/// Ends a task when it is dropped.
struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Milliseconds that go on evenly: a clock that is set makes no follower fall behind. They begin with the time of day.
fn now_ms() -> i64 {
    static START: OnceLock<(Instant, i64)> = OnceLock::new();
    let (start, start_ms) = START.get_or_init(|| (Instant::now(), context::now_ms()));
    start_ms.saturating_add(start.elapsed().as_millis() as i64)
}

/// A disk that was full counts as failed for so long.
const FULL_DISK_COUNTS: std::time::Duration = std::time::Duration::from_secs(30);
