//! One partition of `__consumer_offsets` and the groups that it keeps.
//!
//! Every request takes the lock, lets the state machine decide, appends the records, replays them and leaves; nothing
//! is awaited meanwhile. Answers then leave in order, each when all records before it are on the disk. The log is
//! compacted by load: when it holds many times what the groups need, the live records are written again at its end
//! and what was before them is deleted.
//!
//! A shard lives for one term of its partition's leader: it reads when the high watermark has reached what the log held
//! as the term began, since before that it would not see all that was acknowledged, and ends with the term.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millstream_core::group::{
    GroupConfig, GroupError, Groups, JoinRequest, Record, Response, Step, SyncRequest, Token,
};
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::BatchBuilder;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::replay;
use crate::context::now_ms;
use crate::partitions::{AppendError, NotDurable, Partition, Receipt};

/// Owner of the groups of one partition.
pub struct Shard {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    clock: Clock,
    state: Mutex<State>,
    wake: Notify,
    /// Bounded by the connections, each of which has one request at a time here.
    releases: mpsc::UnboundedSender<Release>,
    unsettled: Arc<AtomicUsize>,
}

struct State {
    groups: Groups,
    status: Status,
    waiting: HashMap<Token, oneshot::Sender<Response>>,
    tokens: u64,
    /// When the timer task wakes up by itself.
    armed_ms: i64,
    /// Records in the log, live and dead.
    records_in_log: usize,
    releases: Option<mpsc::UnboundedReceiver<Release>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Loading,
    Ready,
    Failed,
    /// The partition is led by another broker, or by this one in another term.
    Stopped,
}

/// Resolves when what was appended is as safe as the topic asks.
type Durable = oneshot::Receiver<Result<(), NotDurable>>;

/// Answers that wait for the disk.
struct Release {
    durable: Option<Durable>,
    answers: Vec<(oneshot::Sender<Response>, Response)>,
    done: Option<oneshot::Sender<()>>,
}

impl Shard {
    /// An owner that reads its partition as soon as it runs and may. It serves while this broker leads in `epoch`.
    pub(super) fn new(partition: Arc<Partition>, epoch: LeaderEpoch, config: GroupConfig) -> Arc<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = State {
            groups: Groups::new(config),
            status: Status::Loading,
            waiting: HashMap::new(),
            tokens: 0,
            armed_ms: i64::MAX,
            records_in_log: 0,
            releases: Some(receiver),
        };
        Arc::new(Self {
            partition,
            epoch,
            clock: Clock::start(),
            state: Mutex::new(state),
            wake: Notify::new(),
            releases: sender,
            unsettled: Arc::default(),
        })
    }

    /// Whether it owns the groups of this partition in this term.
    pub(super) fn is_of(&self, partition: &Arc<Partition>, epoch: LeaderEpoch) -> bool {
        self.epoch == epoch && Arc::ptr_eq(&self.partition, partition)
    }

    /// Ends with the term: whoever waits for an answer hears to look for the coordinator again.
    pub(super) fn stop(&self) {
        let answers: Vec<_> = {
            let mut state = self.lock();
            let step = match std::mem::replace(&mut state.status, Status::Stopped) {
                Status::Ready => state.groups.close(GroupError::NotCoordinator),
                _ => Step::default(),
            };
            let mut waiting = std::mem::take(&mut state.waiting);
            let responses = step.responses.into_iter();
            responses
                .filter_map(|(token, response)| waiting.remove(&token).map(|sender| (sender, response)))
                .collect()
        };
        for (sender, response) in answers {
            // Whoever asked may have gone.
            let _ = sender.send(response);
        }
        self.wake.notify_one();
    }

    /// JoinGroup; the answer comes when the rebalance is done.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub async fn join(&self, request: JoinRequest) -> Result<Response, GroupError> {
        self.wait_for(|groups, now_ms, token| groups.join(now_ms, request, token))
            .await
    }

    /// SyncGroup; the answer comes when the leader has assigned.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub async fn sync(&self, request: &SyncRequest) -> Result<Response, GroupError> {
        self.wait_for(|groups, now_ms, token| groups.sync(now_ms, request, token))
            .await
    }

    /// A request that is answered at once: as soon as what it wrote and what it may have read is on the disk.
    ///
    /// # Errors
    /// The coordinator cannot serve now; nothing was written, or it is not known whether it was.
    pub async fn call<T>(&self, work: impl FnOnce(&mut Groups, i64) -> (T, Step)) -> Result<T, GroupError> {
        let (sender, receiver) = oneshot::channel();
        let answer = {
            let mut state = self.ready()?;
            let (answer, step) = work(&mut state.groups, self.clock.now_ms());
            self.take(&mut state, step, Some(sender))?;
            answer
        };
        match tokio::time::timeout(WRITE_WAIT_MAX, receiver).await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(GroupError::CoordinatorNotAvailable),
        }
    }

    /// Looks at the groups as they are, written or not.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub fn look<T>(&self, look: impl FnOnce(&Groups) -> T) -> Result<T, GroupError> {
        Ok(look(&self.ready()?.groups))
    }

    async fn wait_for(
        &self,
        work: impl FnOnce(&mut Groups, i64, Token) -> Step,
    ) -> Result<Response, GroupError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.ready()?;
            state.tokens += 1;
            let token = Token(state.tokens);
            state.waiting.insert(token, sender);
            let step = work(&mut state.groups, self.clock.now_ms(), token);
            self.take(&mut state, step, None)?;
        }
        receiver.await.map_err(|_| self.gone())
    }

    /// Why an answer does not come any more.
    fn gone(&self) -> GroupError {
        match self.lock().status {
            Status::Stopped => GroupError::NotCoordinator,
            _ => GroupError::CoordinatorNotAvailable,
        }
    }

    /// Writes and replays a step's records, and queues its answers behind them.
    fn take(
        &self,
        state: &mut State,
        step: Step,
        done: Option<oneshot::Sender<()>>,
    ) -> Result<(), GroupError> {
        let written = self.write(state, &step.records);
        if matches!(&written, Err(error) if error.is_partial) {
            // Only reading the log again tells what is so.
            state.status = Status::Failed;
        }
        let failed = written.is_err();
        let (durable, step, done) = match written {
            Ok(durable) => {
                step.records.iter().for_each(|record| state.groups.replay(record));
                (durable, step, done)
            }
            Err(error) => {
                match error.is_led_elsewhere {
                    true => tracing::debug!(partition = self.partition.index.0, %error, "groups move"),
                    false => {
                        tracing::error!(partition = self.partition.index.0, %error, "groups cannot be written");
                    }
                }
                (None, step.failed(GroupError::CoordinatorNotAvailable), None)
            }
        };
        let responses = step.responses.into_iter();
        let answers: Vec<_> = responses
            .filter_map(|(token, r)| state.waiting.remove(&token).map(|s| (s, r)))
            .collect();
        if state
            .groups
            .next_deadline()
            .is_some_and(|next_ms| next_ms < state.armed_ms)
        {
            self.wake.notify_one();
        }
        let release = Release {
            durable,
            answers,
            done,
        };
        if release.durable.is_none() && self.unsettled.load(Ordering::Acquire) == 0 {
            release.send();
        } else {
            self.unsettled.fetch_add(1, Ordering::AcqRel);
            // The receiver lives as long as the broker; when it is gone nobody waits for answers.
            let _ = self.releases.send(release);
        }
        if failed {
            Err(GroupError::CoordinatorNotAvailable)
        } else {
            Ok(())
        }
    }

    /// Appends records. What is returned resolves when they are durable.
    fn write(&self, state: &mut State, records: &[Record]) -> Result<Option<Durable>, WriteError> {
        let mut durable = None;
        for (n, chunk) in records.chunks(BATCH_RECORDS_MAX).enumerate() {
            match self.append(chunk) {
                Ok(receipt) => durable = receipt.durable,
                Err(error) => {
                    return Err(WriteError {
                        is_partial: n > 0,
                        ..error
                    });
                }
            }
            state.records_in_log += chunk.len();
        }
        Ok(durable)
    }

    fn append(&self, records: &[Record]) -> Result<Receipt, WriteError> {
        let now_ms = now_ms();
        let mut batch = BatchBuilder::new();
        for record in records {
            let (key, value) = record.encode();
            let appended = batch.append(now_ms, Some(&key), value.as_deref(), &[]);
            appended.map_err(WriteError::new)?;
        }
        let batch = batch.finish().map_err(WriteError::new)?;
        // What is kept here is of this term: another one knows more.
        if self.partition.leader_epoch() != self.epoch || !self.partition.is_leader() {
            return Err(WriteError::led_elsewhere());
        }
        self.partition
            .append(&batch, now_ms)
            .map_err(|error| match error {
                AppendError::NotLeader => WriteError::led_elsewhere(),
                error => WriteError::new(error),
            })
    }

    /// Reads the log, then does what is due until the term ends or the broker shuts down.
    pub(super) async fn run(self: Arc<Self>, expiry_interval_ms: i64, mut shutdown: watch::Receiver<bool>) {
        self.wait_until_established(&shutdown).await;
        self.load().await;
        let releases = self.lock().releases.take().expect("a shard runs once");
        tokio::spawn(release_in_order(releases, self.unsettled.clone()));
        let mut next_expiry_ms = self.clock.now_ms().saturating_add(expiry_interval_ms);
        while !*shutdown.borrow() {
            let wake_ms = {
                let mut state = self.lock();
                if matches!(state.status, Status::Failed | Status::Stopped) {
                    // Nothing can be written, so nothing can be decided.
                    return;
                }
                state.armed_ms = state
                    .groups
                    .next_deadline()
                    .unwrap_or(i64::MAX)
                    .min(next_expiry_ms);
                state.armed_ms
            };
            let wait = Duration::from_millis((wake_ms - self.clock.now_ms()).max(0) as u64);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => continue,
                _ = shutdown.changed() => break,
            }
            let now_ms = self.clock.now_ms();
            self.act(|groups| groups.tick(now_ms));
            if now_ms >= next_expiry_ms {
                next_expiry_ms = now_ms.saturating_add(expiry_interval_ms);
                self.act(|groups| groups.expire(now_ms));
            }
            self.compact_if_worth_it().await;
        }
        self.act(|groups| groups.close(GroupError::NotCoordinator));
    }

    fn act(&self, work: impl FnOnce(&mut Groups) -> Step) {
        if let Ok(mut state) = self.ready() {
            let step = work(&mut state.groups);
            // An answer that cannot be written is logged where that is found out.
            let _ = self.take(&mut state, step, None);
        }
    }

    /// Waits until all that was acknowledged in terms before is below the high watermark, if it is not.
    async fn wait_until_established(&self, shutdown: &watch::Receiver<bool>) {
        let more = Arc::new(Notify::new());
        while !self.partition.is_established() && !*shutdown.borrow() {
            if self.lock().status == Status::Stopped {
                return;
            }
            self.partition.notify_when_readable(&more);
            // It may have become so meanwhile, or the term be over.
            let _ = tokio::time::timeout(ESTABLISHED_LOOK, more.notified()).await;
        }
    }

    async fn load(self: &Arc<Self>) {
        let started = Instant::now();
        let partition = self.partition.clone();
        let config = self.lock().groups.config().clone();
        let read = tokio::task::spawn_blocking(move || replay::read(&partition, config)).await;
        let mut state = self.lock();
        if state.status == Status::Stopped {
            return;
        }
        match read {
            Ok(Ok((groups, records))) => {
                state.groups = groups;
                state.records_in_log = records;
                state.status = Status::Ready;
                let step = state.groups.loaded(self.clock.now_ms());
                let _ = self.take(&mut state, step, None);
                let groups = state.groups.list().count();
                if records > 0 {
                    let took_ms = started.elapsed().as_millis() as u64;
                    tracing::info!(
                        partition = self.partition.index.0,
                        groups,
                        records,
                        took_ms,
                        "groups loaded"
                    );
                }
            }
            Ok(Err(error)) => {
                state.status = Status::Failed;
                tracing::error!(partition = self.partition.index.0, %error, "groups cannot be loaded");
            }
            Err(error) => {
                state.status = Status::Failed;
                tracing::error!(partition = self.partition.index.0, %error, "groups cannot be loaded");
            }
        }
    }

    /// Writes the live records again and deletes what is before them, when the log is mostly dead.
    async fn compact_if_worth_it(self: &Arc<Self>) {
        let (first, durable) = {
            let Ok(mut state) = self.ready() else { return };
            let live = state.groups.live_record_count();
            if state.records_in_log < COMPACT_AFTER_RECORDS || state.records_in_log / COMPACT_AT_RATIO < live
            {
                return;
            }
            let first = self.partition.watermarks().log_end;
            let records = state.groups.live_records();
            let durable = match self.write(&mut state, &records) {
                Ok(durable) => durable,
                // A part of them in the log does no harm: it says what is so already.
                Err(error) => {
                    tracing::warn!(partition = self.partition.index.0, %error, "groups cannot be compacted");
                    return;
                }
            };
            state.records_in_log = records.len();
            (first, durable)
        };
        if let Some(durable) = durable
            && !matches!(durable.await, Ok(Ok(())))
        {
            return;
        }
        let partition = self.partition.clone();
        let deleted = tokio::task::spawn_blocking(move || delete_before(&partition, first)).await;
        if let Ok(Err(error)) = deleted {
            tracing::warn!(partition = self.partition.index.0, %error, "dead records of groups stay");
        }
    }

    fn ready(&self) -> Result<MutexGuard<'_, State>, GroupError> {
        let state = self.lock();
        match state.status {
            Status::Ready => Ok(state),
            Status::Loading => Err(GroupError::CoordinatorLoadInProgress),
            Status::Failed => Err(GroupError::CoordinatorNotAvailable),
            Status::Stopped => Err(GroupError::NotCoordinator),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the groups are held")
    }
}

impl Release {
    fn send(self) {
        for (sender, response) in self.answers {
            // Whoever asked may have gone.
            let _ = sender.send(response);
        }
        if let Some(done) = self.done {
            let _ = done.send(());
        }
    }
}

/// Lets answers go when what they depend on is on the disk. After a failure none goes: the log takes no more, and
/// those who wait hear that the coordinator is not available.
async fn release_in_order(mut releases: mpsc::UnboundedReceiver<Release>, unsettled: Arc<AtomicUsize>) {
    let mut failed = false;
    while let Some(mut release) = releases.recv().await {
        if let Some(durable) = release.durable.take() {
            failed |= !matches!(durable.await, Ok(Ok(())));
        }
        if !failed {
            release.send();
            unsettled.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn delete_before(partition: &Arc<Partition>, first: Offset) -> Result<(), WriteError> {
    partition
        .delete_records_before(first)
        .map(|_| ())
        .map_err(WriteError::new)
}

/// Time that goes on evenly: a clock that is set does not end sessions.
struct Clock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            started_ms: now_ms(),
        }
    }

    fn now_ms(&self) -> i64 {
        self.started_ms
            .saturating_add(self.started.elapsed().as_millis() as i64)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
struct WriteError {
    reason: String,
    /// Whether some of the records are in the log.
    is_partial: bool,
    /// Whether the term is over.
    is_led_elsewhere: bool,
}

impl WriteError {
    fn new(error: impl ToString) -> Self {
        Self {
            reason: error.to_string(),
            is_partial: false,
            is_led_elsewhere: false,
        }
    }

    fn led_elsewhere() -> Self {
        Self {
            is_led_elsewhere: true,
            ..Self::new("another broker leads, or this one in another term")
        }
    }
}

/// Longest time that a request waits until what it wrote is safe: Kafka's `offsets.commit.timeout.ms`.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest time between looks whether the high watermark is where the term began.
const ESTABLISHED_LOOK: Duration = Duration::from_millis(50);
/// Most records of one batch.
const BATCH_RECORDS_MAX: usize = 1000;
/// A log of fewer records is never compacted.
const COMPACT_AFTER_RECORDS: usize = 20_000;
/// A log is compacted when it holds so many times the records that are needed.
const COMPACT_AT_RATIO: usize = 4;
