//! One partition of an internal topic and what its coordinator keeps there: groups, or transactions.
//!
//! Every request takes the lock, lets the state machine decide, appends the records, replays them and leaves; nothing
//! is awaited meanwhile. Answers then leave in order, each when all records before it are on the disk. The log is
//! compacted by load: when it holds many times what is needed, the live records are written again at its end
//! and what was before them is deleted.
//!
//! A shard lives for one term of its partition's leader: it reads when the high watermark has reached what the log held
//! as the term began, since before that it would not see all that was acknowledged, and ends with the term.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millstream_core::group::Token;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::BatchBuilder;
use millstream_storage::EndMarker;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::clock::Clock;
use super::machine::{Follow, Machine, Step, Unserved};
use super::replay;
use super::write_error::WriteError;
use crate::context::now_ms;
use crate::metrics::Metrics;
use crate::partitions::{AppendError, Guard, NotDurable, Partition, Receipt};

/// Owner of what one partition keeps.
pub struct Shard<M: Machine> {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    config: M::Config,
    clock: Clock,
    state: Mutex<State<M>>,
    wake: Notify,
    /// Bounded by the connections, each of which has one request at a time here.
    releases: mpsc::UnboundedSender<Release<M>>,
    unsettled: Arc<AtomicUsize>,
    /// Where it goes that is to be done elsewhere.
    follow_ups: mpsc::UnboundedSender<Follow<M::FollowUp>>,
    metrics: Arc<Metrics>,
}

struct State<M: Machine> {
    machine: M,
    status: Status,
    waiting: HashMap<Token, oneshot::Sender<M::Response>>,
    tokens: u64,
    /// When the timer task wakes up by itself.
    armed_ms: i64,
    /// Records in the log, live and dead.
    records_in_log: usize,
    releases: Option<mpsc::UnboundedReceiver<Release<M>>>,
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
struct Release<M: Machine> {
    durable: Option<Durable>,
    answers: Vec<(oneshot::Sender<M::Response>, M::Response)>,
    done: Option<oneshot::Sender<()>>,
    follow_ups: Vec<Follow<M::FollowUp>>,
}

impl<M: Machine> Shard<M> {
    /// An owner that reads its partition as soon as it runs and may. It serves while this broker leads in `epoch`.
    /// `follow_ups` hears what is to be done elsewhere.
    pub(super) fn new(
        partition: Arc<Partition>,
        epoch: LeaderEpoch,
        config: M::Config,
        follow_ups: mpsc::UnboundedSender<Follow<M::FollowUp>>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = State {
            machine: M::empty(config.clone()),
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
            config,
            clock: Clock::start(),
            state: Mutex::new(state),
            wake: Notify::new(),
            releases: sender,
            unsettled: Arc::default(),
            follow_ups,
            metrics,
        })
    }

    /// The term that it serves in.
    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    fn follow(&self, what: M::FollowUp) -> Follow<M::FollowUp> {
        Follow {
            partition: self.partition.index.0,
            epoch: self.epoch,
            what,
        }
    }

    /// Begins to ask whether a producer's transaction may touch this partition; as [`Partition::begin_verification`].
    pub fn begin_verification(&self, producer: (i64, i16), bumps_epochs: bool) -> Option<Guard> {
        self.partition
            .begin_verification_of(producer, NO_SEQUENCE, bumps_epochs)
    }

    /// Whether it is the owner of this partition in this term.
    pub(super) fn is_of(&self, partition: &Arc<Partition>, epoch: LeaderEpoch) -> bool {
        self.epoch == epoch && Arc::ptr_eq(&self.partition, partition)
    }

    /// Ends with the term: whoever waits for an answer hears to look for the coordinator again.
    pub(super) fn stop(&self) {
        let answers: Vec<_> = {
            let mut state = self.lock();
            let step = match std::mem::replace(&mut state.status, Status::Stopped) {
                Status::Ready => {
                    let count = state.machine.len();
                    self.metrics.coordinators.given_up(M::WHAT, count);
                    state.machine.close()
                }
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

    /// A request that is answered at once: as soon as what it wrote and what it may have read is on the disk.
    ///
    /// # Errors
    /// The coordinator cannot serve now; nothing was written, or it is not known whether it was.
    pub async fn call<T, S: Into<Step<M>>>(
        &self,
        work: impl FnOnce(&mut M, i64) -> (T, S),
    ) -> Result<T, M::Error> {
        let (sender, receiver) = oneshot::channel();
        let answer = {
            let mut state = self.ready()?;
            let (answer, step) = work(&mut state.machine, self.clock.now_ms());
            self.take(&mut state, step.into(), Some(sender))?;
            answer
        };
        self.until_safe(receiver).await?;
        Ok(answer)
    }

    async fn until_safe(&self, done: oneshot::Receiver<()>) -> Result<(), Unserved> {
        match tokio::time::timeout(WRITE_WAIT_MAX, done).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(Unserved::NotAvailable),
        }
    }

    /// Looks at what there is, written or not.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub fn look<T>(&self, look: impl FnOnce(&M) -> T) -> Result<T, M::Error> {
        Ok(look(&self.ready()?.machine))
    }

    /// A request whose answer comes when others have come, too.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub(super) async fn wait_for<S: Into<Step<M>>>(
        &self,
        work: impl FnOnce(&mut M, i64, Token) -> S,
    ) -> Result<M::Response, M::Error> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.ready()?;
            state.tokens += 1;
            let token = Token(state.tokens);
            state.waiting.insert(token, sender);
            let step = work(&mut state.machine, self.clock.now_ms(), token);
            self.take(&mut state, step.into(), None)?;
        }
        receiver.await.map_err(|_| self.gone().into())
    }

    /// Why an answer does not come any more.
    fn gone(&self) -> Unserved {
        match self.lock().status {
            Status::Stopped => Unserved::Elsewhere,
            _ => Unserved::NotAvailable,
        }
    }

    /// Writes and replays a step's records, and queues its answers behind them.
    fn take(
        &self,
        state: &mut State<M>,
        step: Step<M>,
        done: Option<oneshot::Sender<()>>,
    ) -> Result<(), Unserved> {
        let Step {
            records,
            producer,
            guard,
            responses,
            events,
        } = step;
        let written = self.write(state, &records, producer, guard);
        if matches!(&written, Err(error) if error.is_partial) {
            // Only reading the log again tells what is so.
            state.status = Status::Failed;
        }
        let failed = written.is_err();
        let answers = responses.into_iter().filter_map(|(token, response)| {
            let response = if failed { M::failed(response) } else { response };
            state.waiting.remove(&token).map(|sender| (sender, response))
        });
        let mut release = Release {
            durable: None,
            answers: answers.collect(),
            done: None,
            follow_ups: Vec::new(),
        };
        match written {
            Ok(durable) => {
                for record in &records {
                    state.machine.replay(record, producer);
                    let follow_up = state.machine.follow_up(record);
                    release.follow_ups.extend(follow_up.map(|what| self.follow(what)));
                }
                self.metrics.coordinators.count(&events);
                (release.durable, release.done) = (durable, done);
            }
            Err(error) => error.tell(M::WHAT, self.partition.index.0),
        }
        self.release(state, release);
        match failed {
            true => Err(Unserved::NotAvailable),
            false => Ok(()),
        }
    }

    /// Lets answers go, behind those that wait for the disk.
    fn release(&self, state: &State<M>, release: Release<M>) {
        if state
            .machine
            .next_deadline()
            .is_some_and(|next_ms| next_ms < state.armed_ms)
        {
            self.wake.notify_one();
        }
        if release.durable.is_none() && self.unsettled.load(Ordering::Acquire) == 0 {
            release.send(&self.follow_ups);
        } else {
            self.unsettled.fetch_add(1, Ordering::AcqRel);
            // The receiver lives as long as the broker; when it is gone nobody waits for answers.
            let _ = self.releases.send(release);
        }
    }

    /// Appends records. What is returned resolves when they are durable.
    fn write(
        &self,
        state: &mut State<M>,
        records: &[M::Record],
        producer: Option<(i64, i16)>,
        mut guard: Option<Guard>,
    ) -> Result<Option<Durable>, WriteError> {
        let mut durable = None;
        for (n, chunk) in records.chunks(BATCH_RECORDS_MAX).enumerate() {
            match self.append(chunk, producer, guard.take()) {
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

    fn append(
        &self,
        records: &[M::Record],
        producer: Option<(i64, i16)>,
        guard: Option<Guard>,
    ) -> Result<Receipt, WriteError> {
        let now_ms = now_ms();
        let mut batch = BatchBuilder::new();
        if let Some((id, epoch)) = producer {
            // They are many small batches of one transaction, and none is ever sent again: they have no numbers.
            batch = batch.producer(id, epoch, NO_SEQUENCE).transactional(true);
        }
        for record in records {
            let (key, value) = M::encode(record);
            let appended = batch.append(now_ms, Some(&key), value.as_deref(), &[]);
            appended.map_err(WriteError::new)?;
        }
        let batch = batch.finish().map_err(WriteError::new)?;
        self.is_of_this_term()?;
        let appended = match producer {
            None => self.partition.append(&batch, now_ms),
            Some(_) => self.partition.append_verified(&batch, now_ms, guard),
        };
        appended.map_err(WriteError::of_append)
    }

    /// What is kept here is of this term: another one knows more.
    fn is_of_this_term(&self) -> Result<(), WriteError> {
        match self.partition.leader_epoch() == self.epoch && self.partition.is_leader() {
            true => Ok(()),
            false => Err(WriteError::led_elsewhere()),
        }
    }

    /// Ends a producer's transaction in this partition. `replay` takes it over; returns when it is safe.
    ///
    /// # Errors
    /// The coordinator cannot serve now, or the marker is refused; nothing was written, or it is not known whether it was.
    pub(super) async fn mark(
        &self,
        marker: EndMarker,
        replay: impl FnOnce(&mut M),
    ) -> Result<Result<(), AppendError>, M::Error> {
        let (sender, receiver) = oneshot::channel();
        {
            let state = &mut *self.ready()?;
            if self.is_of_this_term().is_err() {
                return Err(Unserved::Elsewhere.into());
            }
            let receipt = match self.partition.append_marker(marker, now_ms()) {
                Ok(receipt) => receipt,
                Err(error) => return Ok(Err(error)),
            };
            replay(&mut state.machine);
            let release = Release {
                durable: receipt.durable,
                answers: Vec::new(),
                done: Some(sender),
                follow_ups: Vec::new(),
            };
            self.release(state, release);
        }
        self.until_safe(receiver).await?;
        Ok(Ok(()))
    }

    /// Reads the log, then does what is due until the term ends or the broker shuts down.
    pub(super) async fn run(self: Arc<Self>, expiry_interval_ms: i64, mut shutdown: watch::Receiver<bool>) {
        self.wait_until_established(&shutdown).await;
        self.load().await;
        let releases = self.lock().releases.take().expect("a shard runs once");
        tokio::spawn(release_in_order(
            releases,
            self.unsettled.clone(),
            self.follow_ups.clone(),
        ));
        let mut next_expiry_ms = self.clock.now_ms().saturating_add(expiry_interval_ms);
        while !*shutdown.borrow() {
            let wake_ms = {
                let mut state = self.lock();
                if matches!(state.status, Status::Failed | Status::Stopped) {
                    // Nothing can be written, so nothing can be decided.
                    return;
                }
                state.armed_ms = state
                    .machine
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
            if !self.act(|machine| machine.tick(now_ms)) {
                // What is due stays due.
                tokio::time::sleep(FAILED_PAUSE).await;
            }
            if now_ms >= next_expiry_ms {
                next_expiry_ms = now_ms.saturating_add(expiry_interval_ms);
                self.act(|machine| machine.expire(now_ms));
            }
            self.compact_if_worth_it().await;
        }
        self.act(Machine::close);
    }

    /// Has something done that nobody waits for. False if it could not be written, which is logged where it is found out.
    pub(super) fn act<S: Into<Step<M>>>(&self, work: impl FnOnce(&mut M) -> S) -> bool {
        let Ok(mut state) = self.ready() else {
            return false;
        };
        let step = work(&mut state.machine);
        self.take(&mut state, step.into(), None).is_ok()
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
        let empty = M::empty(self.config.clone());
        let read = tokio::task::spawn_blocking(move || replay::read(&partition, empty)).await;
        let read = read
            .map_err(|error| error.to_string())
            .and_then(|read| read.map_err(|error| error.to_string()));
        let mut state = self.lock();
        if state.status == Status::Stopped {
            return;
        }
        let (partition, what) = (self.partition.index.0, M::WHAT);
        match read {
            Ok((machine, records)) => {
                state.machine = machine;
                state.records_in_log = records;
                state.status = Status::Ready;
                let count = state.machine.len();
                self.metrics.coordinators.loaded(M::WHAT, count);
                let step = state.machine.loaded(&self.config, self.clock.now_ms());
                let _ = self.take(&mut state, step, None);
                for follow_up in state.machine.follow_ups() {
                    let _ = self.follow_ups.send(self.follow(follow_up));
                }
                if records > 0 {
                    let (kept, took_ms) = (state.machine.len(), started.elapsed().as_millis() as u64);
                    tracing::info!(partition, kept, records, took_ms, "{what} loaded");
                }
            }
            Err(error) => {
                state.status = Status::Failed;
                tracing::error!(partition, %error, "{what} cannot be loaded");
            }
        }
    }

    /// Writes the live records again and deletes what is before them, when the log is mostly dead.
    async fn compact_if_worth_it(self: &Arc<Self>) {
        let (first, durable) = {
            let Ok(mut state) = self.ready() else { return };
            let Some(live) = state.machine.live_record_count() else {
                return;
            };
            if state.records_in_log < COMPACT_AFTER_RECORDS || state.records_in_log / COMPACT_AT_RATIO < live
            {
                return;
            }
            let first = self.partition.watermarks().log_end;
            let records = state.machine.live_records();
            let durable = match self.write(&mut state, &records, None, None) {
                Ok(durable) => durable,
                // A part of them in the log does no harm: it says what is so already.
                Err(error) => {
                    let what = M::WHAT;
                    tracing::warn!(partition = self.partition.index.0, %error, "{what} cannot be compacted");
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
            let what = M::WHAT;
            tracing::warn!(partition = self.partition.index.0, %error, "dead records of {what} stay");
        }
    }

    fn ready(&self) -> Result<MutexGuard<'_, State<M>>, Unserved> {
        let state = self.lock();
        match state.status {
            Status::Ready => Ok(state),
            Status::Loading => Err(Unserved::Loading),
            Status::Failed => Err(Unserved::NotAvailable),
            Status::Stopped => Err(Unserved::Elsewhere),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().expect("no panic while the state is held")
    }
}

impl<M: Machine> Release<M> {
    fn send(self, follow_ups: &mpsc::UnboundedSender<Follow<M::FollowUp>>) {
        for follow_up in self.follow_ups {
            // Nobody does them once the broker ends; whoever leads next does.
            let _ = follow_ups.send(follow_up);
        }
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
async fn release_in_order<M: Machine>(
    mut releases: mpsc::UnboundedReceiver<Release<M>>,
    unsettled: Arc<AtomicUsize>,
    follow_ups: mpsc::UnboundedSender<Follow<M::FollowUp>>,
) {
    let mut failed = false;
    while let Some(mut release) = releases.recv().await {
        if let Some(durable) = release.durable.take() {
            failed |= !matches!(durable.await, Ok(Ok(())));
        }
        if !failed {
            release.send(&follow_ups);
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

/// Longest time that a request waits until what it wrote is safe: Kafka's `offsets.commit.timeout.ms`.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest time between looks whether the high watermark is where the term began.
const ESTABLISHED_LOOK: Duration = Duration::from_millis(50);
/// Sequence number of a batch that is never sent again.
const NO_SEQUENCE: i32 = -1;
/// Pause after what is due could not be written.
const FAILED_PAUSE: Duration = Duration::from_millis(100);
/// Most records of one batch.
const BATCH_RECORDS_MAX: usize = 1000;
/// A log of fewer records is never compacted.
const COMPACT_AFTER_RECORDS: usize = 20_000;
/// A log is compacted when it holds so many times the records that are needed.
const COMPACT_AT_RATIO: usize = 4;
