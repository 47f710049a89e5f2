//! The follower's end of a stream: everything that this broker copies from one leader.
//!
//! It dials, says which partitions it wants and how far its logs go, and appends what comes. When the disk has it, it
//! says so: a round of the flusher puts all partitions that it synced into a queue, and one chunk of bytes carries their
//! acknowledgements. A stream that breaks is dialled again.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use tokio::io::BufReader;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame::{ANSWER_BYTES_MAX, Answer, Reason, Request, VERSION, read_frame};
use super::stream::{Sink, Source};
use super::{Abort, Replication, now_ms};
use crate::partitions::{Line, NotCopied, Partition, ReadyQueue, Slot};

/// Names a partition of the cluster.
pub(super) type Key = (TopicId, PartitionIndex);

/// A partition that is to be copied.
#[derive(Clone)]
pub(super) struct Want {
    pub partition: Arc<Partition>,
    pub epoch: LeaderEpoch,
}

impl PartialEq for Want {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && Arc::ptr_eq(&self.partition, &other.partition)
    }
}

/// Copies from one leader.
pub(super) struct Following {
    replication: Arc<Replication>,
    leader: BrokerId,
    wants: Mutex<BTreeMap<Key, Want>>,
    changed: Notify,
}

/// One stream.
struct Session {
    following: Arc<Following>,
    acks: Arc<ReadyQueue>,
    state: Mutex<State>,
    /// Partitions are to be followed that were not.
    stirred: Notify,
}

#[derive(Default)]
struct State {
    slots: HashMap<Slot, Copied>,
    by_key: BTreeMap<Key, Slot>,
    last_slot: u32,
    /// To follow now.
    due: Vec<Key>,
    /// To follow later: the leader did not want it yet, or the disk did not take it.
    refused: Vec<(Instant, Key)>,
    /// Slots to tell the leader that they are over.
    given_up: Vec<Slot>,
}

#[derive(Clone)]
struct Copied {
    key: Key,
    want: Want,
}

impl Following {
    pub fn new(replication: Arc<Replication>, leader: BrokerId) -> Arc<Self> {
        Arc::new(Self {
            replication,
            leader,
            wants: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Says what is to be copied from now on, and whether the leader is to hear who this broker is now.
    pub fn want(&self, wants: BTreeMap<Key, Want>, is_registered_anew: bool) {
        let mut now = self.wants();
        let is_other = *now != wants;
        *now = wants;
        drop(now);
        if is_other || is_registered_anew {
            self.changed.notify_one();
        }
    }

    /// Copies for ever. Whoever does not want it any more drops the future.
    pub async fn run(self: Arc<Self>) {
        let (mut wait, leader) = (DIAL_WAIT_MIN, self.leader);
        loop {
            let started = Instant::now();
            let outcome = match self.replication.dial(leader).await {
                Ok((sink, source)) => Session::new(&self).run(sink, source).await,
                Err(error) => Err(error),
            };
            if started.elapsed() > STREAM_IS_GOOD {
                wait = DIAL_WAIT_MIN;
            }
            match outcome {
                Ok(()) => tracing::debug!(%leader, "stream of a leader ended"),
                Err(error) => tracing::debug!(%leader, %error, "stream of a leader broke"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(DIAL_WAIT_MAX);
        }
    }

    fn wants(&self) -> MutexGuard<'_, BTreeMap<Key, Want>> {
        self.wants.lock().expect("no panic while the wants are held")
    }
}

impl Session {
    fn new(following: &Arc<Following>) -> Arc<Self> {
        Arc::new(Self {
            following: following.clone(),
            acks: Arc::default(),
            state: Mutex::default(),
            stirred: Notify::new(),
        })
    }

    async fn run(self: Arc<Self>, sink: Box<dyn Sink>, source: Source) -> io::Result<()> {
        let mut speaker = Abort(tokio::spawn(self.clone().speak(sink)));
        let _tidy = Tidy(self.clone());
        tokio::select! {
            outcome = self.listen(source) => outcome,
            ended = &mut speaker.0 => ended.unwrap_or_else(|error| Err(io::Error::other(error))),
        }
    }

    /// Says what there is to say, for ever.
    async fn speak(self: Arc<Self>, mut sink: Box<dyn Sink>) -> io::Result<()> {
        let mut broker_epoch = None;
        self.compare_wants();
        loop {
            let mut out = Vec::new();
            let epoch_now = self.following.replication.broker_epoch.load(Ordering::Acquire);
            if broker_epoch.replace(epoch_now) != Some(epoch_now) {
                let (version, broker_epoch) = (VERSION, epoch_now);
                Request::Hello {
                    version,
                    broker_epoch,
                }
                .encode(&mut out);
            }
            self.follow_due(&mut out);
            self.acknowledge(&mut out);
            if !out.is_empty() {
                sink.send(Bytes::from(out)).await?;
                continue;
            }
            let retry_at = self.lock().refused.iter().map(|(at, _)| *at).min();
            let retry = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.acks.filled() => {}
                () = self.stirred.notified() => {}
                () = self.following.changed.notified() => self.compare_wants(),
                () = retry => self.lock().retry(Instant::now()),
            }
        }
    }

    /// Gives up what is not wanted any more, and notes what is to be followed.
    fn compare_wants(&self) {
        let wants = self.following.wants().clone();
        let mut guard = self.lock();
        let state = &mut *guard;
        let slots = &state.slots;
        let over: Vec<Slot> = slots
            .iter()
            .filter(|(_, copied)| wants.get(&copied.key) != Some(&copied.want))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in over {
            state.give_up(slot, &self.acks);
        }
        let by_key = &state.by_key;
        state.due = wants
            .keys()
            .filter(|key| !by_key.contains_key(*key))
            .copied()
            .collect();
        state.refused.clear();
    }

    fn follow_due(&self, out: &mut Vec<u8>) {
        let (due, given_up) = {
            let mut state = self.lock();
            (
                std::mem::take(&mut state.due),
                std::mem::take(&mut state.given_up),
            )
        };
        for slot in given_up {
            Request::Unfollow { slot }.encode(out);
        }
        for key in due {
            let Some(want) = self.following.wants().get(&key).cloned() else {
                continue;
            };
            let slot = {
                let mut state = self.lock();
                if state.by_key.contains_key(&key) {
                    continue;
                }
                state.last_slot = state.last_slot.wrapping_add(1);
                let slot = Slot(state.last_slot);
                let want = want.clone();
                state.slots.insert(slot, Copied { key, want });
                state.by_key.insert(key, slot);
                slot
            };
            let line = Line {
                slot,
                queue: &self.acks,
                epoch: want.epoch,
            };
            match want.partition.begin_to_follow(self.following.leader, line) {
                Some(position) => Request::Follow {
                    slot,
                    topic: key.0,
                    partition: key.1,
                    epoch: want.epoch,
                    position,
                }
                .encode(out),
                // The image has moved on, and what is wanted will; or its disk has failed.
                None => {
                    let mut state = self.lock();
                    state.give_up(slot, &self.acks);
                    state.given_up.pop();
                    state.refuse(key, REFUSED_WAIT);
                }
            }
        }
    }

    fn acknowledge(&self, out: &mut Vec<u8>) {
        while out.len() < ACKS_BYTES
            && let Some(slot) = self.acks.pop()
        {
            let Some(Copied { want, .. }) = self.copied(slot) else {
                continue;
            };
            if let Some(durable_end) = want.partition.safe_end(slot, &self.acks, want.epoch) {
                Request::Ack { slot, durable_end }.encode(out);
            }
        }
    }

    async fn listen(&self, source: Source) -> io::Result<()> {
        let mut source = BufReader::with_capacity(READ_BYTES, source);
        while let Some(frame) = read_frame(&mut source, ANSWER_BYTES_MAX).await? {
            self.following.replication.count_in(frame.len());
            self.take(Answer::decode(&frame)?).await;
        }
        Ok(())
    }

    async fn take(&self, answer: Answer) {
        match answer {
            Answer::Accept { .. } => {}
            Answer::Truncate { slot, to } => {
                let cut = move |want: &Want| want.partition.truncate(want.epoch, to, now_ms());
                self.cut(slot, cut).await;
            }
            Answer::StartOver { slot, at } => {
                let cut = move |want: &Want| want.partition.start_over(want.epoch, at, now_ms());
                self.cut(slot, cut).await;
            }
            Answer::Refuse { slot, reason } => {
                if let Some(copied) = self.end(slot) {
                    let (topic, partition, leader) = (
                        &copied.want.partition.topic,
                        copied.key.1.0,
                        self.following.leader,
                    );
                    match reason {
                        Reason::NotLeader | Reason::NotReplica => {
                            tracing::debug!(%topic, partition, %leader, ?reason, "the leader does not serve a partition");
                        }
                        Reason::Impossible | Reason::Storage => {
                            tracing::warn!(%topic, partition, %leader, ?reason, "the leader does not serve a partition");
                        }
                    }
                    self.lock().refuse(copied.key, REFUSED_WAIT);
                    self.stirred.notify_one();
                }
            }
            Answer::Batches { slot, offsets, bytes } => {
                if let Some(Copied { want, .. }) = self.copied(slot)
                    && let Err(error) = want.partition.copy(want.epoch, &bytes, offsets, now_ms())
                {
                    self.fail(slot, &error);
                }
            }
            Answer::Offsets { slot, offsets } => {
                if let Some(Copied { want, .. }) = self.copied(slot)
                    && let Err(error) = want.partition.note_offsets(want.epoch, offsets)
                {
                    self.fail(slot, &error);
                }
            }
        }
    }

    /// Cuts a log, and asks the leader again.
    async fn cut(&self, slot: Slot, cut: impl FnOnce(&Want) -> Result<(), NotCopied> + Send + 'static) {
        let Some(Copied { key, want }) = self.end(slot) else {
            return;
        };
        let partition = want.partition.clone();
        let outcome = tokio::task::spawn_blocking(move || cut(&want)).await;
        let mut state = self.lock();
        match outcome {
            Ok(Ok(())) => state.due.push(key),
            Ok(Err(NotCopied::NotFollower)) => {}
            failed => {
                let (topic, index) = (&partition.topic, partition.index.0);
                tracing::error!(%topic, partition = index, ?failed, "a log cannot be made to agree with its leader's");
                state.refuse(key, FAILED_WAIT);
            }
        }
        drop(state);
        self.stirred.notify_one();
    }

    /// What came could not be taken: the leader is asked again after a while, with what is there then.
    fn fail(&self, slot: Slot, error: &NotCopied) {
        let mut state = self.lock();
        let Some(copied) = state.give_up(slot, &self.acks) else {
            return;
        };
        if !matches!(error, NotCopied::NotFollower) {
            let (topic, partition, leader) = (
                &copied.want.partition.topic,
                copied.key.1.0,
                self.following.leader,
            );
            tracing::error!(%topic, partition, %leader, %error, "records cannot be copied");
            state.refuse(copied.key, FAILED_WAIT);
        }
        drop(state);
        self.stirred.notify_one();
    }

    /// The leader has ended a slot.
    fn end(&self, slot: Slot) -> Option<Copied> {
        let mut state = self.lock();
        let copied = state.remove(slot);
        drop(state);
        if let Some(copied) = &copied {
            copied.want.partition.forget_line(slot, &self.acks);
        }
        copied
    }

    fn copied(&self, slot: Slot) -> Option<Copied> {
        self.lock().slots.get(&slot).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the slots are held")
    }
}

impl State {
    fn remove(&mut self, slot: Slot) -> Option<Copied> {
        let copied = self.slots.remove(&slot)?;
        self.by_key.remove(&copied.key);
        Some(copied)
    }

    fn refuse(&mut self, key: Key, wait: Duration) {
        self.refused.push((Instant::now() + wait, key));
    }

    /// What has waited long enough is to be followed.
    fn retry(&mut self, now: Instant) {
        let is_due = |(at, _): &mut (Instant, Key)| *at <= now;
        let due = self.refused.extract_if(.., is_due).map(|(_, key)| key);
        self.due.extend(due);
    }

    /// Ends a slot; the leader is to be told.
    fn give_up(&mut self, slot: Slot, acks: &Arc<ReadyQueue>) -> Option<Copied> {
        let copied = self.remove(slot)?;
        copied.want.partition.forget_line(slot, acks);
        self.given_up.push(slot);
        Some(copied)
    }
}

/// Takes a stream's lines off its partitions when it is over.
struct Tidy(Arc<Session>);

impl Drop for Tidy {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut self.0.lock().slots);
        for (slot, copied) in slots {
            copied.want.partition.forget_line(slot, &self.0.acks);
        }
    }
}

/// Bytes of acknowledgements that are sent at once.
const ACKS_BYTES: usize = 64 << 10;
/// Bytes that are read from a stream at once, unless a frame needs more.
const READ_BYTES: usize = 64 << 10;
/// Time after which a leader is asked again that did not serve a partition: it may not have heard of its role.
const REFUSED_WAIT: Duration = Duration::from_millis(50);
/// Time after which a partition is followed again whose log did not take what came.
const FAILED_WAIT: Duration = Duration::from_secs(1);
/// Time between two attempts to reach a leader, at first and at most.
const DIAL_WAIT_MIN: Duration = Duration::from_millis(10);
const DIAL_WAIT_MAX: Duration = Duration::from_millis(250);
/// A stream that held so long was a good one: the next attempt comes soon.
const STREAM_IS_GOOD: Duration = Duration::from_secs(1);
