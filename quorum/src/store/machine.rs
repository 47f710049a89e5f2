//! openraft's state machine: the image of the cluster.
//!
//! It is in memory; a start takes it from the snapshot and the committed entries after it. What it has applied and who
//! the members are is kept with it in every snapshot.

use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use millstream_core::cluster::{self, Image, Outcome};
use millstream_storage::disk::Disk;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use tokio::sync::watch;

use super::OnImage;
use super::room::Room;
use super::snapshots::{Latest, Snapshots};
use super::worker::Worker;
use crate::error::StoreError;
use crate::types::{Applied, Entry, LogId, Membership, SnapshotMeta, StorageError, Types};

/// The image, and what it grows from.
pub struct StateMachine<D: Disk> {
    me: u64,
    state: Shared,
    snapshots: Worker<Snapshots<D>>,
    room: Room,
    durable: watch::Sender<Option<LogId>>,
    on_image: OnImage,
}

/// The image as others see it.
#[derive(Debug, Clone)]
pub struct ImageView(Shared);

/// Takes one snapshot.
pub struct Builder<D: Disk> {
    me: u64,
    state: State,
    snapshots: Worker<Snapshots<D>>,
    room: Room,
    durable: watch::Sender<Option<LogId>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    applied: Option<LogId>,
    membership: Membership,
    image: Arc<Image>,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }
}

impl ImageView {
    /// The image now.
    pub fn image(&self) -> Arc<Image> {
        self.0.lock().image.clone()
    }
}

impl<D: Disk> StateMachine<D> {
    pub(crate) fn new(
        me: u64,
        snapshots: Worker<Snapshots<D>>,
        room: Room,
        latest: Option<Latest>,
        on_image: OnImage,
    ) -> Self {
        let state = latest.map(|Latest { meta, image }| State {
            applied: meta.last_log_id,
            membership: meta.last_membership,
            image: Arc::new(image),
        });
        let state = state.unwrap_or_default();
        if let Some(applied) = state.applied {
            on_image(state.image.clone(), applied.index);
        }
        Self {
            me,
            snapshots,
            room,
            durable: watch::Sender::new(state.applied),
            state: Shared(Arc::new(Mutex::new(state))),
            on_image,
        }
    }

    /// The image, for others.
    pub fn view(&self) -> ImageView {
        ImageView(self.state.clone())
    }

    /// Who writes the file.
    pub fn worker(&self) -> Worker<Snapshots<D>> {
        self.snapshots.clone()
    }

    /// The last entry in the snapshot that is on the disk.
    pub fn watch_durable(&self) -> watch::Receiver<Option<LogId>> {
        self.durable.subscribe()
    }

    fn publish(&self, state: State) {
        let index = state.applied.map_or(0, |applied| applied.index);
        let image = state.image.clone();
        *self.state.lock() = state;
        (self.on_image)(image, index);
    }
}

impl State {
    fn apply(&mut self, entry: Entry) -> Applied {
        self.applied = Some(entry.log_id);
        let outcome = match entry.payload {
            EntryPayload::Blank => Ok(Outcome::Unchanged),
            // A refused command leaves the image as it was, and is an answer like any other.
            EntryPayload::Normal(command) => cluster::apply(Arc::make_mut(&mut self.image), &command),
            EntryPayload::Membership(members) => {
                self.membership = Membership::new(Some(entry.log_id), members);
                Ok(Outcome::Unchanged)
            }
        };
        Applied {
            version: self.image.version(),
            outcome,
        }
    }
}

/// Writes a snapshot and tells the log what it holds.
async fn write<D: Disk>(
    room: &Room,
    snapshots: &Worker<Snapshots<D>>,
    durable: &watch::Sender<Option<LogId>>,
    meta: &SnapshotMeta,
    image: impl Fn() -> Arc<Vec<u8>> + Clone + Send + 'static,
) -> Result<(), StorageError> {
    let written = meta.clone();
    let done = room
        .write(snapshots, move |snapshots| snapshots.write(&written, &image()))
        .await;
    done.map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error)))?;
    // The one that is there holds at least as much.
    durable.send_if_modified(|last| {
        let is_more = *last < meta.last_log_id;
        *last = (*last).max(meta.last_log_id);
        is_more
    });
    Ok(())
}

impl<D: Disk> RaftSnapshotBuilder<Types> for Builder<D> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        // The id names the bytes while they travel: equal logs give equal images, but only from one version of us.
        let id = match self.state.applied {
            Some(last) => format!(
                "{}-{}-{}-{}",
                last.leader_id.term, last.leader_id.node_id, last.index, self.me
            ),
            None => format!("empty-{}", self.me),
        };
        let meta = SnapshotMeta {
            last_log_id: self.state.applied,
            last_membership: self.state.membership.clone(),
            snapshot_id: id,
        };
        let image = self.state.image.clone();
        let encoded = Arc::new(OnceLock::new());
        let bytes = encoded.clone();
        let encode = move || encoded.get_or_init(|| Arc::new(image.encode())).clone();
        write(&self.room, &self.snapshots, &self.durable, &meta, encode).await?;
        let bytes = bytes.get().map(|bytes| bytes.to_vec()).unwrap_or_default();
        Ok(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(bytes)),
        })
    }
}

impl<D: Disk> RaftStateMachine<Types> for StateMachine<D> {
    type SnapshotBuilder = Builder<D>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let state = self.state.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state.lock().clone();
        let before = state.image.version();
        let results = entries.into_iter().map(|entry| state.apply(entry)).collect();
        if state.image.version() == before {
            *self.state.lock() = state;
        } else {
            self.publish(state);
        }
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Builder<D> {
        Builder {
            me: self.me,
            state: self.state.lock().clone(),
            snapshots: self.snapshots.clone(),
            room: self.room.clone(),
            durable: self.durable.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let bytes = snapshot.into_inner();
        let image = Image::decode(&bytes)
            .map_err(|error| StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(&error)))?;
        let bytes = Arc::new(bytes);
        write(&self.room, &self.snapshots, &self.durable, meta, move || {
            bytes.clone()
        })
        .await?;
        self.publish(State {
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            image: Arc::new(image),
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let read = self.snapshots.run(|snapshots| snapshots.read()).await;
        let read = read
            .unwrap_or(Err(StoreError::Closed))
            .map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)))?;
        Ok(read.map(|(meta, bytes)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(bytes)),
        }))
    }
}
