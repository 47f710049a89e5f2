//! A partition on a node: the real log, and the real decisions as leader; what the broker's `partitions` and
//! `replication` do around them is done here, synchronously.

mod following;
mod leading;
mod serving;

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_core::cluster::Partition;
use millstream_core::ids::{BrokerId, LeaderEpoch, Offset};
use millstream_core::replica::{Leader, Proposal, Term};
use millstream_storage::disk::{self, Disk, DiskFile};
use millstream_storage::{Log, LogConfig};

use crate::bus::{Bus, Event, Life};
use crate::client::{Answer, Asker, EPOCH_MS};
use crate::disk::LifeDisk;
use crate::judge::Judge;
use crate::message::{Frame, Message};
use crate::network::SessionId;

pub use serving::Position;

/// A partition on a node.
pub struct Replica {
    pub index: i32,
    pub log: Log<LifeDisk>,
    disk: LifeDisk,
    pub role: Role,
    /// The largest leader epoch that it heard of.
    pub epoch: LeaderEpoch,
    high: Offset,
    syncing: bool,
    waiting: Vec<Waiting>,
    /// To be proposed to the controller.
    pub proposal: Option<Proposal>,
}

/// What it is.
pub enum Role {
    Offline,
    Leader {
        leader: Box<Leader>,
        feeds: BTreeMap<u64, Feed>,
    },
    Follower {
        leader: u64,
        session: SessionId,
        accepted: bool,
        heard_ms: u64,
    },
}

/// A follower's stream.
pub struct Feed {
    session: SessionId,
    next: Offset,
    acked: Offset,
}

/// A producer that waits for its batch to be safe.
struct Waiting {
    asker: Asker,
    id: u64,
    base: i64,
    end: i64,
    values: Vec<String>,
}

/// The process cannot go on: its disk failed.
#[derive(Debug)]
pub struct Fatal(pub String);

/// Where it happens and who is told.
pub struct Scene<'a> {
    pub life: Life,
    pub now_ms: u64,
    /// The node's own clock.
    pub local_ms: i64,
    pub bus: &'a Bus,
    pub judge: &'a mut Judge,
    pub random: &'a mut millstream_storage::sim_disk::Random,
}

impl Replica {
    pub fn open(disk: &LifeDisk, index: i32, scene: &mut Scene<'_>) -> Result<Self, Fatal> {
        let path = scene.judge.layout.dir(index);
        let opened = Log::open(disk.clone(), &path, log_config(), scene.local_ms);
        let (log, _) = opened.map_err(|error| Fatal(error.to_string()))?;
        scene
            .judge
            .durable(scene.life.node, index, log.flushed_offset().0);
        Ok(Self {
            index,
            high: log.log_start_offset(),
            log,
            disk: disk.clone(),
            role: Role::Offline,
            epoch: LeaderEpoch::UNKNOWN,
            syncing: false,
            waiting: Vec::new(),
            proposal: None,
        })
    }

    /// The high watermark as this node knows it.
    pub fn high(&self) -> Offset {
        match &self.role {
            Role::Leader { leader, .. } => leader.high_watermark(),
            _ => self.high,
        }
    }

    /// All records below the high watermark.
    pub fn safe_bytes(&self) -> Result<Bytes, Fatal> {
        self.bytes(self.log.log_start_offset(), usize::MAX >> 1, self.high())
    }

    /// Takes the role that the image gives it.
    pub fn take_role(
        &mut self,
        entry: &Partition,
        min_insync: usize,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        if entry.leader_epoch < self.epoch {
            return Ok(());
        }
        let me = BrokerId(scene.life.node as i32);
        let term = Term {
            epoch: entry.leader_epoch,
            partition_epoch: entry.partition_epoch,
            replicas: entry.replicas.clone(),
            isr: entry.isr.clone(),
            min_insync,
        };
        match (entry.leader, &mut self.role) {
            (Some(id), Role::Leader { leader, .. }) if id == me && leader.epoch() == term.epoch => {
                let effects = leader.changed(term);
                self.carry_out(effects, scene)
            }
            (Some(id), _) if id == me => self.lead(term, scene),
            (Some(id), Role::Follower { leader, .. })
                if *leader == id.0 as u64 && self.epoch == term.epoch =>
            {
                Ok(())
            }
            (Some(id), _) => {
                self.end_role(scene);
                self.epoch = term.epoch;
                self.role = Role::Follower {
                    leader: id.0 as u64,
                    session: 0,
                    accepted: false,
                    heard_ms: 0,
                };
                self.follow(scene)
            }
            (None, _) => {
                self.end_role(scene);
                self.epoch = term.epoch;
                Ok(())
            }
        }
    }

    /// Ends whatever it was.
    pub fn end_role(&mut self, scene: &mut Scene<'_>) {
        self.high = self.high();
        self.proposal = None;
        for waiting in self.waiting.drain(..) {
            let answer = Answer::NotLeader(None);
            scene
                .bus
                .answer(scene.life.node, waiting.asker, waiting.id, answer);
        }
        if let Role::Leader { feeds, .. } = std::mem::replace(&mut self.role, Role::Offline) {
            for (follower, feed) in feeds {
                scene.bus.close(feed.session, [scene.life.node, follower]);
            }
        }
    }

    /// The process is gone: the other ends of its streams notice.
    pub fn end_streams(&mut self, scene: &mut Scene<'_>) {
        let node = scene.life.node;
        match &self.role {
            Role::Leader { feeds, .. } => {
                for (follower, feed) in feeds {
                    scene.bus.close(feed.session, [node, *follower]);
                }
            }
            Role::Follower { leader, session, .. } => scene.bus.close(*session, [node, *leader]),
            Role::Offline => {}
        }
    }

    /// A frame from the other end of a stream.
    pub fn frame(
        &mut self,
        from: u64,
        session: SessionId,
        frame: Frame,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        match frame {
            Frame::Follow {
                epoch,
                log_end,
                last_epoch,
                durable_end,
            } => {
                let position = (log_end, last_epoch, durable_end);
                self.admit(from, session, epoch, position, scene)
            }
            Frame::Ack { epoch, durable_end } => self.acknowledged(from, session, epoch, durable_end, scene),
            frame => self.told(from, session, frame, scene),
        }
    }

    /// A stream ended.
    pub fn closed(&mut self, ended: SessionId, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        match &mut self.role {
            Role::Follower { session, .. } if *session == ended => self.follow(scene),
            Role::Leader { leader, feeds } => {
                feeds.retain(|follower, feed| {
                    if feed.session == ended {
                        leader.disconnected(BrokerId(*follower as i32));
                    }
                    feed.session != ended
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Looks at the clock.
    pub fn tick(&mut self, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        match &mut self.role {
            Role::Leader { leader, .. } => {
                let effects = leader.tick(scene.local_ms, LAG_MS_MAX);
                self.carry_out(effects, scene)?;
                self.beat(scene);
            }
            Role::Follower { heard_ms, .. } if scene.now_ms >= *heard_ms + SILENCE_MS => {
                self.follow(scene)?
            }
            _ => {}
        }
        if self.log.flushed_offset() < self.log.log_end_offset() {
            self.request_sync(scene);
        }
        Ok(())
    }

    fn request_sync(&mut self, scene: &mut Scene<'_>) {
        if !self.syncing && self.log.flushed_offset() < self.log.log_end_offset() {
            self.syncing = true;
            let (life, partition) = (scene.life, self.index);
            let delay_ms = 1 + scene.random.below(15);
            scene.bus.after(delay_ms, Event::Sync { life, partition });
        }
    }

    /// The sync ends.
    pub fn sync(&mut self, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        self.syncing = false;
        let handle = self.log.sync_handle();
        self.disk
            .sync_many(&handle.files)
            .map_err(|error| Fatal(error.to_string()))?;
        self.log.synced(handle);
        let flushed = self.log.flushed_offset();
        scene.judge.durable(scene.life.node, self.index, flushed.0);
        if scene.random.below(10) == 0 {
            let written = self.log.write_checkpoint();
            if let Err(error) = written
                && !disk::is_full(&error)
            {
                return Err(Fatal(error.to_string()));
            }
        }
        match &mut self.role {
            Role::Leader { leader, .. } => {
                if leader.flushed(flushed) {
                    self.high_moved(scene)?;
                }
            }
            Role::Follower { .. } => self.acknowledge(scene),
            Role::Offline => {}
        }
        Ok(())
    }

    fn first_base(&self) -> Result<Offset, Fatal> {
        first_base(&self.log)
    }

    fn bytes(&self, from: Offset, bytes_max: usize, upper: Offset) -> Result<Bytes, Fatal> {
        let mut all = Vec::new();
        let mut next = from;
        while next < upper {
            let bytes = read(&self.log, next, bytes_max, upper)?;
            let Some(end) = end_of(&bytes) else {
                break;
            };
            next = end;
            all.extend_from_slice(&bytes);
            if all.len() >= bytes_max {
                break;
            }
        }
        Ok(all.into())
    }
}

/// The log may begin in the middle of a batch; who copies it needs all of it.
fn first_base(log: &Log<LifeDisk>) -> Result<Offset, Fatal> {
    let start = log.log_start_offset();
    let bytes = read(log, start, 1, log.log_end_offset())?;
    let first = millstream_kafka::records::batches(&bytes).next();
    Ok(first.map_or(start, |batch| {
        batch.map_or(start, |batch| Offset(batch.header().base_offset))
    }))
}

fn read(log: &Log<LifeDisk>, from: Offset, bytes_max: usize, upper: Offset) -> Result<Bytes, Fatal> {
    let slice = log.read(from, bytes_max, upper, true);
    let Some(slice) = slice.map_err(|error| Fatal(error.to_string()))? else {
        return Ok(Bytes::new());
    };
    let mut bytes = vec![0; slice.len];
    let read = slice.file.read_at(&mut bytes, slice.position);
    read.map_err(|error| Fatal(error.to_string()))?;
    Ok(bytes.into())
}

fn end_of(bytes: &Bytes) -> Option<Offset> {
    let last = millstream_kafka::records::batches(bytes).flatten().last()?;
    Some(Offset(last.header().next_offset()))
}

fn send(scene: &Scene<'_>, to: u64, session: SessionId, partition: i32, frame: Frame) {
    let message = Message::Stream {
        session,
        partition,
        frame,
    };
    scene.bus.send(scene.life.node, to, message);
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 4000,
        ..LogConfig::default()
    }
}

/// Milliseconds since 1970 on a clock that says so many since the beginning.
pub fn wall_ms(clock_ms: u64) -> i64 {
    EPOCH_MS + clock_ms as i64
}

const FETCH_BYTES: usize = 600;
const BATCHES_BYTES: usize = 500;
/// Offsets under way to a follower.
const UNDER_WAY_MAX: i64 = 40;
const LAG_MS_MAX: i64 = 1500;
/// A stream on which nothing is heard for so long is begun anew.
const SILENCE_MS: u64 = 1500;
