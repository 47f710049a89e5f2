//! The partitions that this broker stores: their directories, their opening and closing, their group commit, and what
//! each of them is here: leader, follower, or neither.
//!
//! Every partition has a directory `TOPIC-INDEX` under the data directory, with the topic's id beside the log (KIP-516),
//! as Kafka has it. What lies there under another id, or belongs to no topic, is set aside under another name and
//! never deleted: a person may want it.

mod feeds;
mod flusher;
mod following;
mod leading;
mod partition;
mod readers;
mod reports;
mod role;
mod slice;
mod transactions;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use millstream_core::cluster::Image;
use millstream_core::ids::{BrokerId, PartitionIndex, TopicId, TopicName};
use millstream_storage::disk::{Disk, RealDisk};
use millstream_storage::{
    DELETED_SUFFIX, Log, LogConfig, OpenError, read_partition_metadata, write_partition_metadata,
};
use uuid::Uuid;

use crate::context::now_ms;
use crate::metrics::Metrics;

pub use feeds::{ReadyQueue, Slot};
pub use flusher::Flusher;
pub use following::{LeaderOffsets, NotCopied};
pub use leading::{Line, NotServed, Position, Shipment};
use partition::Office;
pub use partition::{AppendError, NotDurable, Partition, ReadOutcome, Receipt, Watermarks};
pub use reports::{Notes, Reports};
pub use slice::FileSlice;
pub use transactions::{Guard, Isolation, Part};

/// The directory of partitions, and the thread that makes them durable.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    disk: RealDisk,
    office: Office,
}

/// A partition as it is to be opened, or made.
#[derive(Debug, Clone)]
pub struct Description {
    /// Topic, by name.
    pub topic: TopicName,
    /// Topic, by id.
    pub topic_id: TopicId,
    /// Which of the topic's partitions.
    pub index: PartitionIndex,
    /// How its log is kept.
    pub log: LogConfig,
    /// Whether readers see only what is on the disk.
    pub waits_for_disk: bool,
}

impl Store {
    /// Starts group commit for the partitions in `directory`, which the broker `me` holds.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn open(directory: &Path, me: BrokerId, metrics: Arc<Metrics>) -> io::Result<Self> {
        let flusher = Flusher::start(RealDisk, metrics.clone())?;
        let reports = Arc::default();
        Ok(Self {
            directory: directory.to_owned(),
            disk: RealDisk,
            office: Office {
                me,
                flusher,
                reports,
                metrics,
            },
        })
    }

    /// What the partitions have to tell the cluster.
    pub fn reports(&self) -> &Arc<Reports> {
        &self.office.reports
    }

    /// Removes what was being deleted and partitions that others hold by now, and sets aside those that the image does not
    /// know.
    ///
    /// # Errors
    /// The disk failed.
    pub fn tidy(&self, image: &Image) -> io::Result<()> {
        for name in self.disk.list(&self.directory)? {
            let path = self.directory.join(&name);
            if name.ends_with(DELETED_SUFFIX) {
                self.disk.remove_dir(&path)?;
                continue;
            }
            let Some(index) = index_in_name(&name) else {
                continue;
            };
            let id = match read_partition_metadata(&self.disk, &path) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                // Opening it fails as well, and others lead it then: what else there is can be served.
                Err(error) => {
                    tracing::warn!(directory = %path.display(), %error, "a partition cannot be looked at, and is left as it is");
                    continue;
                }
            };
            let id = TopicId(Uuid::from_bytes(id));
            match image.stored_partition(id, PartitionIndex(index)) {
                Ok((_, partition)) if partition.replicas.contains(&self.office.me) => {}
                Ok((_, partition)) if !partition.isr.is_empty() => {
                    tracing::info!(directory = %path.display(), holders = ?partition.replicas, "a partition is removed that was moved to other brokers");
                    // What is removed by half must not be taken for a log.
                    let removed = self
                        .directory
                        .join(format!("{name}.{}{DELETED_SUFFIX}", id.0.simple()));
                    self.disk.rename(&path, &removed)?;
                    self.disk.sync_dir(&self.directory)?;
                    self.disk.remove_dir(&removed)?;
                }
                _ => self.set_aside(&path, id)?,
            }
        }
        Ok(())
    }

    /// Opens partitions, many at a time, making those that are not there. The answers are in the order of the
    /// descriptions.
    pub fn open_all(&self, descriptions: &[Description]) -> Vec<Result<Arc<Partition>, OpenError>> {
        let outcomes = in_parallel(descriptions, |description| self.open_one(description));
        outcomes.into_iter().collect()
    }

    fn open_one(&self, description: &Description) -> Result<Arc<Partition>, OpenError> {
        let Description {
            topic,
            topic_id,
            index,
            log,
            waits_for_disk,
        } = description.clone();
        let dir = self.directory.join(format!("{topic}-{index}"));
        self.claim(&dir, topic_id).map_err(|error| OpenError::Io {
            path: dir.clone(),
            error,
        })?;
        let (log, recovery) = Log::open(self.disk, &dir, log, now_ms())?;
        if recovery.scanned_bytes > 0 || recovery.truncated_bytes > 0 || recovery.rebuilt_indexes > 0 {
            tracing::info!(
                %topic,
                partition = index.0,
                scanned_bytes = recovery.scanned_bytes,
                truncated_bytes = recovery.truncated_bytes,
                rebuilt_indexes = recovery.rebuilt_indexes,
                "log recovered"
            );
        }
        Ok(Partition::new(
            (topic, topic_id, index),
            log,
            waits_for_disk,
            self.office.clone(),
        ))
    }

    /// Sees to it that a directory is there and belongs to the topic.
    fn claim(&self, dir: &Path, topic_id: TopicId) -> io::Result<()> {
        match read_partition_metadata(&self.disk, dir)? {
            Some(id) if id == *topic_id.0.as_bytes() => return Ok(()),
            Some(other) => self.set_aside(dir, TopicId(Uuid::from_bytes(other)))?,
            None => {}
        }
        if self.disk.create_dir(dir)? {
            self.disk.sync_dir(&self.directory)?;
        }
        write_partition_metadata(&self.disk, dir, *topic_id.0.as_bytes())
    }

    fn set_aside(&self, dir: &Path, id: TopicId) -> io::Result<()> {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}{STRAY_SUFFIX}", id.0.simple()));
        let aside = dir.with_file_name(name);
        tracing::warn!(directory = %dir.display(), aside = %aside.display(), "a partition of no topic is set aside");
        self.disk.rename(dir, &aside)?;
        self.disk.sync_dir(&self.directory)
    }

    /// Ends partitions whose topic was deleted, and removes their files. What cannot be removed now is at the next
    /// start.
    pub fn delete_all(&self, partitions: &[Arc<Partition>]) {
        if partitions.is_empty() {
            return;
        }
        let failed = |partition: &Partition, error: io::Error| {
            tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "files of a deleted partition stay");
        };
        let retired = in_parallel(partitions, |partition| {
            partition.retire().map_err(|error| failed(partition, error))
        });
        if let Err(error) = self.disk.sync_dir(&self.directory) {
            tracing::error!(%error, "files of deleted partitions stay");
            return;
        }
        let directories: Vec<PathBuf> = retired.into_iter().flatten().collect();
        in_parallel(&directories, |directory| {
            if let Err(error) = self.disk.remove_dir(directory) {
                tracing::error!(directory = %directory.display(), %error, "files of a deleted partition stay");
            }
        });
    }

    /// Ends group commit and closes the partitions: what was appended is durable, and the next start finds it fast.
    pub fn close(&self, partitions: &[Arc<Partition>]) {
        self.office.flusher.stop();
        flusher::sync(&self.disk, partitions);
        in_parallel(partitions, |partition| {
            if let Err(error) = partition.close() {
                tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "partition not closed in good order");
            }
        });
    }
}

/// Does the work for every item on a few threads: what takes time is the disk, which serves many at a time.
fn in_parallel<T: Sync, R: Send + Sync>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let results: Vec<OnceLock<R>> = items.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work_through = || {
        while let Some(item) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).map(|item| (at, item))
        } {
            let (at, item) = item;
            let _ = results[at].set(work(item));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(THREADS_MAX) {
            // Where the system has no more threads, there are fewer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work_through);
        }
        work_through();
    });
    results
        .into_iter()
        .map(|result| result.into_inner().expect("every item was worked on"))
        .collect()
}

/// The index of a partition directory's name, `TOPIC-INDEX`.
fn index_in_name(name: &str) -> Option<i32> {
    let (topic, index) = name.rsplit_once('-')?;
    TopicName::new(topic).ok()?;
    if !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    index.parse().ok()
}

/// Threads that open or close partitions at a time.
const THREADS_MAX: usize = 16;
/// Ends the name of a directory that was set aside, as Kafka's does.
const STRAY_SUFFIX: &str = "-stray";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_core::cluster::{Command, apply};
    use millstream_core::ids::{LeaderEpoch, Offset};
    use millstream_core::replica::Term;
    use millstream_kafka::records::BatchBuilder;
    use millstream_storage::disk::RealDisk;

    use super::*;

    fn description(topic: &str, id: u128, index: i32) -> Description {
        Description {
            topic: TopicName::new(topic).unwrap(),
            topic_id: TopicId(Uuid::from_u128(id)),
            index: PartitionIndex(index),
            log: LogConfig::default(),
            waits_for_disk: true,
        }
    }

    fn alone() -> Term {
        Term {
            epoch: LeaderEpoch(0),
            partition_epoch: 0,
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
            min_insync: 1,
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names = RealDisk.list(dir).unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_directory_of_another_topic_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap();
        let opened = store.open_all(&[description("a", 1, 0), description("a", 1, 1)]);
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!(names(dir.path()), ["a-0", "a-1"]);
        let again = store.open_all(&[description("a", 2, 0)]);
        assert!(again[0].is_ok());
        assert_eq!(
            names(dir.path()),
            ["a-0", "a-0.00000000000000000000000000000001-stray", "a-1"]
        );
    }

    #[test]
    fn what_belongs_to_no_topic_is_kept_under_another_name_and_the_rest_of_a_deletion_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap();
        store.open_all(&[
            description("a", 1, 0),
            description("a", 1, 1),
            description("b", 2, 0),
        ]);
        std::fs::create_dir(dir.path().join("c-0-delete")).unwrap();
        std::fs::create_dir(dir.path().join("mine-7")).unwrap();
        store.tidy(&image(&[1])).unwrap();
        assert_eq!(
            names(dir.path()),
            [
                "a-0",
                "a-1.00000000000000000000000000000001-stray",
                "b-0.00000000000000000000000000000002-stray",
                "mine-7"
            ]
        );
    }

    /// Topic `a`, id 1, each of whose partitions is on one of these brokers.
    fn image(holders: &[i32]) -> Image {
        let mut image = Image::default();
        let create = Command::CreateTopic {
            name: TopicName::new("a").unwrap(),
            id: TopicId(Uuid::from_u128(1)),
            partitions: holders.iter().map(|id| vec![BrokerId(*id)]).collect(),
            configs: BTreeMap::new(),
        };
        apply(&mut image, &create).unwrap();
        image
    }

    #[test]
    fn a_partition_that_moved_away_while_the_broker_was_down_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap();
        store.open_all(&[0, 1, 2].map(|index| description("a", 1, index)));
        store.tidy(&image(&[2, 1])).unwrap();
        assert_eq!(
            names(dir.path()),
            ["a-1", "a-2.00000000000000000000000000000001-stray"]
        );
    }

    #[test]
    fn what_cannot_be_looked_at_is_left_as_it_is_and_the_rest_is_tidied() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap();
        store.open_all(&[description("b", 2, 0)]);
        std::fs::write(dir.path().join("a-0"), "not a directory").unwrap();
        store.tidy(&image(&[1])).unwrap();
        assert_eq!(
            names(dir.path()),
            ["a-0", "b-0.00000000000000000000000000000002-stray"]
        );
        assert!(store.open_all(&[description("a", 1, 0)])[0].is_err());
    }

    #[tokio::test]
    async fn what_was_appended_while_nobody_waited_for_the_disk_is_seen_again_when_somebody_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap();
        let relaxed = Description {
            waits_for_disk: false,
            ..description("a", 1, 0)
        };
        let partition = store.open_all(&[relaxed]).pop().unwrap().unwrap();
        partition.become_leader(alone(), 0);
        let mut batch = BatchBuilder::new();
        batch.append(0, None, Some(b"v"), &[]).unwrap();
        let batch = batch.finish().unwrap();
        let receipt = partition.append(&batch, 0).unwrap();
        assert!(receipt.durable.is_none());
        assert_eq!(partition.watermarks().high, Offset(1));
        partition.configure(LogConfig::default(), true);
        let more = Arc::new(tokio::sync::Notify::new());
        partition.notify_when_readable(&more);
        if partition.watermarks().high == Offset(0) {
            let wait = std::time::Duration::from_secs(10);
            tokio::time::timeout(wait, more.notified()).await.unwrap();
        }
        assert_eq!(partition.watermarks().high, Offset(1));
        assert!(partition.when_durable().is_none());
        partition.append(&batch, 0).unwrap();
        if let Some(durable) = partition.when_durable() {
            durable.await.unwrap().unwrap();
        }
        assert_eq!(partition.watermarks().high, Offset(2));
        partition.poison();
        assert!(partition.when_durable().is_none(), "all of it is durable");
    }
}
