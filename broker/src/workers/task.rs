//! One partition of a source, from the time that it is this broker's until it is not.
//!
//! A life begins by taking over: whoever had the partition's transactional id can write no more, and what it had begun is
//! aborted. Then it goes on from the committed offset: read what is committed, compute, and, by time and size, write what
//! came out together with the offset behind it. While one transaction is being written, the next one is computed; what is
//! read and not written yet is bounded. When anything goes wrong that is not the plugin's fault, the life ends and
//! another begins: nothing of it was visible.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::cluster::{Canary, Command, Guarantee, Start, TransformChange};
use millstream_core::transaction::Producer;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bundle::{Bundle, Committed, Sequences, write};
use super::compute::{self, Halt, Input, Output, Room, Shape};
use super::instance::Instance;
use super::platform::{Place, Trouble, Who, prepare};
use super::tally::{Board, State, Tally};
use crate::context::{Context, now_ms};
use crate::plugins::CallFailure;
use crate::plugins::worker::Worker;

/// A partition of a transform, and how it is to be run.
#[derive(Debug, Clone)]
pub struct Task {
    /// The transform's name.
    pub name: String,
    /// Which partition, by its group and transactional id.
    pub who: Who,
    /// Where it reads and writes.
    pub shape: Arc<Shape>,
    /// What is promised.
    pub guarantee: Guarantee,
    /// Where it begins if nothing was committed.
    pub start: Start,
    /// Longest time between two commits.
    pub interval: Duration,
    /// Bytes read after which there is a commit.
    pub bytes: usize,
    /// Which release it runs.
    pub generation: u64,
    /// Set if that is on trial.
    pub canary: Option<Canary>,
    /// The instance that it shares with other partitions.
    pub instance: Arc<Instance>,
    /// Batches that compute at a time on this broker.
    pub threads: Arc<Semaphore>,
    /// What all partitions on this broker have in memory.
    pub room: Room,
    /// Where it shows how it is.
    pub board: Arc<Board>,
}

/// What stands beside a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The release that committed it.
    pub generation: u64,
    /// The offset at which that release began on this partition.
    pub from: i64,
}

impl Beside {
    /// Reads what was kept.
    pub fn of(place: &Place) -> Option<Self> {
        serde_json::from_str(&place.metadata).ok()
    }

    fn text(self) -> String {
        serde_json::to_string(&self).expect("two numbers")
    }
}

/// How a life ended.
enum End {
    /// It is somebody else's partition now, or nobody's.
    Stopped,
    /// It met what it must not pass.
    Failed(String),
    /// Another life may do better.
    Again(String),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(reason) => Self::Failed(reason),
            Trouble::Passing(reason) | Trouble::Over(reason) => Self::Again(reason),
        }
    }
}

impl Task {
    /// Runs until `stop` says so. Waits for `before`, which had the partition on this broker, to be done with it.
    pub async fn run(
        self,
        context: Arc<Context>,
        mut stop: watch::Receiver<bool>,
        before: Option<JoinHandle<()>>,
    ) {
        if let Some(before) = before {
            // One that hangs is fenced like any other.
            let _ = tokio::time::timeout(BEFORE_WAIT, before).await;
        }
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            let mut life = Life::new(&self, context.clone());
            match life.live(&mut stop).await {
                End::Stopped => return,
                End::Failed(reason) => return self.failed(&context, &mut stop, reason).await,
                End::Again(reason) => {
                    let (transform, topic, partition) = (&self.name, &self.who.topic, self.who.partition);
                    tracing::debug!(transform, %topic, partition, reason, "a partition of a transform begins anew");
                    self.show(State::Starting, Some(reason));
                }
            }
            if begun.elapsed() > PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn failed(&self, context: &Arc<Context>, stop: &mut watch::Receiver<bool>, reason: String) {
        let (transform, topic, partition) = (&self.name, &self.who.topic, self.who.partition);
        tracing::warn!(transform, %topic, partition, reason, "a partition of a transform stops");
        self.show(State::Failed, Some(reason.clone()));
        if self.canary.is_some() {
            let reason = format!("{topic}-{partition} failed: {reason}");
            self.change(
                context,
                TransformChange::Rollback {
                    generation: Some(self.generation),
                    reason: Some(reason),
                },
            );
        }
        // It stays, so that whoever asks sees why.
        stopped(stop).await;
    }

    fn show(&self, state: State, reason: Option<String>) {
        self.board.write(|face| {
            face.state = state;
            face.reason = reason;
        });
    }

    /// Asks for a change of the transform, and goes on.
    fn change(&self, context: &Arc<Context>, change: TransformChange) {
        let (context, name) = (context.clone(), self.name.clone());
        tokio::spawn(async move {
            // The change says which release it is about, so that it may come late, or twice.
            for _ in 0..CHANGES_MAX {
                let command = Command::ChangeTransform {
                    name: name.clone(),
                    change: change.clone(),
                    at_ms: now_ms(),
                };
                let Err(refused) = context.controller.apply(command).await else {
                    return;
                };
                tracing::warn!(transform = name, reason = refused.message, "a trial is not ended");
                if refused.refusal.is_some() || *context.shutdown.borrow() {
                    return;
                }
                tokio::time::sleep(PAUSE_MAX).await;
            }
        });
    }
}

/// Resolves when the partition is to be given up.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone: so is the broker.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// From taking over to the first trouble.
struct Life<'a> {
    task: &'a Task,
    context: Arc<Context>,
    begun: Instant,
    beside: Beside,
    /// The offset behind what is in `output`.
    next: i64,
    output: Output,
    /// When the oldest of what is in `output` was read.
    open: Option<Instant>,
    /// What was read and is not computed yet.
    held: Option<Input>,
    /// Who writes next; none while a commit is under way.
    producer: Option<(Producer, Sequences)>,
    commit: Option<JoinHandle<Result<Committed, Trouble>>>,
    /// What this life has done.
    tally: Tally,
    is_judged: bool,
}

impl<'a> Life<'a> {
    fn new(task: &'a Task, context: Arc<Context>) -> Self {
        Self {
            task,
            context,
            begun: Instant::now(),
            beside: Beside {
                generation: task.generation,
                from: 0,
            },
            next: 0,
            output: Output::of(&task.room),
            open: None,
            held: None,
            producer: None,
            commit: None,
            tally: Tally::default(),
            is_judged: false,
        }
    }

    async fn live(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let begun = tokio::select! {
            () = stopped(stop) => return End::Stopped,
            begun = self.take_over() => begun,
        };
        let worker = match begun {
            Ok(worker) => worker,
            Err(end) => return end,
        };
        self.task.show(State::Running, None);
        let end = loop {
            if *stop.borrow() {
                break End::Stopped;
            }
            if let Err(end) = self.step(&worker, stop).await {
                break end;
            }
        };
        if let Some(mut commit) = self.commit.take() {
            // What is under way is let finish, so that nothing of it is done again; but it does not outlive this.
            let is_done =
                matches!(end, End::Stopped) && tokio::time::timeout(COMMIT_WAIT, &mut commit).await.is_ok();
            if !is_done {
                commit.abort();
            }
        }
        end
    }

    async fn take_over(&mut self) -> Result<Arc<Worker>, End> {
        let (task, context) = (self.task, self.context.clone());
        while !context.lease.is_valid() {
            // Somebody else may have the partition by now. Taking it from there would help nobody.
            task.show(
                State::Starting,
                Some("this broker has lost touch with its cluster".to_owned()),
            );
            tokio::time::sleep(PAUSE_MIN).await;
        }
        let worker = task.instance.get(&context).await;
        let worker = worker.map_err(|failure| match failure {
            CallFailure::Plugin(reason) => End::Failed(reason),
            CallFailure::Busy(reason) => End::Again(reason),
        })?;
        prepare(&context, task.guarantee).await?;
        let producer = task.who.init(&context).await?;
        let known = task.who.committed(&context).await?;
        self.next = match &known {
            Some(place) => place.offset,
            None => {
                let of = match task.start {
                    Start::Earliest => EARLIEST,
                    Start::Latest => LATEST,
                };
                task.who.offset_of(&context, of).await?
            }
        };
        self.beside = known
            .as_ref()
            .and_then(Beside::of)
            .filter(|beside| beside.generation == task.generation)
            .unwrap_or(Beside {
                generation: task.generation,
                from: self.next,
            });
        self.producer = Some((producer, Sequences::new()));
        let next = self.next;
        self.task.board.write(|face| {
            face.committed = known.as_ref().map(|place| place.offset);
            face.from = Some(next);
        });
        if known.is_none() && task.start == Start::Latest {
            // Or what comes until the first commit would be skipped by whoever begins after this one.
            self.begin_commit();
        }
        Ok(worker)
    }

    /// Does one thing: begins a commit that is due, computes what was read, or reads more.
    async fn step(&mut self, worker: &Arc<Worker>, stop: &mut watch::Receiver<bool>) -> Result<(), End> {
        self.judge();
        if self.is_due() {
            self.commit_finished(stop).await?;
            self.begin_commit();
            return Ok(());
        }
        if let Some(input) = self.held.take() {
            return self.compute(worker, input, stop).await;
        }
        let wait = match self.open {
            Some(_) => self.time_left(),
            None => self.idle_wait(),
        };
        let (task, context) = (self.task, self.context.clone());
        let (next, bytes) = (self.next, task.bytes.clamp(READ_BYTES_MIN, READ_BYTES_MAX) as i32);
        let read = tokio::select! {
            () = stopped(stop) => return Err(End::Stopped),
            finished = finished(&mut self.commit) => return self.note(finished),
            read = task.who.read(&context, next, bytes, wait) => read,
        };
        let data = match read {
            Ok(data) => data,
            Err(Trouble::Refused(_)) => return Err(self.out_of_range().await),
            Err(trouble) => {
                task.show(State::Running, Some(trouble.reason()));
                tokio::time::sleep(PAUSE_MIN).await;
                return Ok(());
            }
        };
        task.board.write(|face| {
            face.end = Some(data.last_stable_offset);
            face.reason = None;
        });
        let batches = data.records.and_then(|records| records.bytes().cloned());
        let Some(batches) = batches.filter(|batches| !batches.is_empty()) else {
            if self.open.is_none() && self.commit.is_none() {
                worker.rest();
            }
            return Ok(());
        };
        self.open.get_or_insert_with(Instant::now);
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted
            .into_iter()
            .map(|aborted| (aborted.producer_id, aborted.first_offset));
        self.held = Some(Input {
            batches,
            aborted: aborted.collect(),
        });
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.open.is_some_and(|at| {
            at.elapsed() >= self.task.interval
                || self.output.bytes_read >= self.task.bytes
                || self.output.bytes >= OUTPUT_BYTES
                || self.output.is_full()
        })
    }

    /// How long it is until a commit is due.
    fn time_left(&self) -> Duration {
        let passed = self.open.map_or(Duration::ZERO, |at| at.elapsed());
        self.task.interval.saturating_sub(passed)
    }

    /// How long there is nothing to do but read.
    fn idle_wait(&self) -> Duration {
        let trial = self.task.canary.as_ref().filter(|_| !self.is_judged);
        let left = trial.map(|canary| {
            Duration::from_millis(canary.trial.promote_after_ms).saturating_sub(self.begun.elapsed())
        });
        left.map_or(IDLE_WAIT, |left| left.clamp(PAUSE_MIN, IDLE_WAIT))
    }

    async fn compute(
        &mut self,
        worker: &Arc<Worker>,
        input: Input,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), End> {
        let room = async {
            (
                worker.turn().await,
                self.task.threads.clone().acquire_owned().await,
            )
        };
        let (turn, thread) = tokio::select! {
            () = stopped(stop) => return Err(End::Stopped),
            room = room => room,
        };
        let thread = thread.expect("the semaphore is never closed");
        let (worker, shape, from) = (worker.clone(), self.task.shape.clone(), self.next);
        let mut output = std::mem::take(&mut self.output);
        let (until, stopping) = (
            Instant::now() + COMPUTE_TIME_MAX.min(self.time_left()),
            stop.clone(),
        );
        let computing = tokio::task::spawn_blocking(move || {
            let is_over = || Instant::now() >= until || *stopping.borrow();
            let (next, halt) = compute::run(&worker, &shape, &input, from, &mut output, &is_over);
            drop((turn, thread));
            (next, halt, output, input)
        });
        let computed = computing.await.map_err(|error| End::Again(error.to_string()));
        let (next, halt, output, input) = computed?;
        (self.next, self.output) = (next, output);
        match halt {
            None => Ok(()),
            Some(Halt::Over) => {
                self.held = Some(input);
                Ok(())
            }
            Some(Halt::Full) => {
                self.held = Some(input);
                self.commit_finished(stop).await?;
                self.begin_commit();
                Ok(())
            }
            Some(Halt::Busy(reason)) => {
                self.task.show(State::Running, Some(reason));
                self.held = Some(input);
                tokio::time::sleep(PAUSE_MIN).await;
                Ok(())
            }
            Some(Halt::Record { offset, reason }) => {
                self.commit_finished(stop).await?;
                self.begin_commit();
                self.commit_finished(stop).await?;
                Err(End::Failed(format!("record at offset {offset}: {reason}")))
            }
            Some(Halt::Corrupt(reason)) => Err(End::Failed(format!(
                "the source is damaged behind offset {}: {reason}",
                self.next
            ))),
        }
    }

    /// Why nothing can be read at the next offset.
    async fn out_of_range(&self) -> End {
        let (task, next) = (self.task, self.next);
        let first = task.who.offset_of(&self.context, EARLIEST).await;
        match first {
            Ok(first) if first > next => End::Failed(format!(
                "records {next} to {} were deleted before they were read; 'reset' to go on behind them",
                first - 1
            )),
            Ok(_) => End::Failed(format!(
                "offset {next} lies behind the end of the source; 'reset' to go on where records are"
            )),
            Err(trouble) => trouble.into(),
        }
    }

    /// Has what came out written while more is computed. No other commit is under way.
    fn begin_commit(&mut self) {
        let Some((producer, sequences)) = self.producer.take() else {
            return;
        };
        self.open = None;
        let bundle = Bundle {
            producer,
            sequences,
            output: std::mem::replace(&mut self.output, Output::of(&self.task.room)),
            place: Place {
                offset: self.next,
                metadata: self.beside.text(),
            },
        };
        let (context, task) = (self.context.clone(), self.task.clone());
        self.commit = Some(tokio::spawn(async move { write(&context, &task, bundle).await }));
        // What is held was read in time for the next one.
        if self.held.is_some() {
            self.open = Some(Instant::now());
        }
    }

    /// Waits for the commit that is under way.
    async fn commit_finished(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), End> {
        if self.commit.is_none() {
            return Ok(());
        }
        tokio::select! {
            () = stopped(stop) => Err(End::Stopped),
            finished = finished(&mut self.commit) => self.note(finished),
        }
    }

    fn note(&mut self, finished: Result<Committed, Trouble>) -> Result<(), End> {
        let committed = finished?;
        self.producer = Some((committed.producer, committed.sequences));
        self.tally.add(committed.tally.clone());
        self.task.board.write(|face| {
            face.tally.add(committed.tally);
            face.committed = Some(committed.offset);
        });
        Ok(())
    }

    /// Whether the trial of a release has come to an end.
    fn judge(&mut self) {
        let Some(canary) = self.task.canary.as_ref().filter(|_| !self.is_judged) else {
            return;
        };
        let trial = canary.trial;
        let (errors, records) = (self.tally.errors, self.tally.records_in);
        let is_over = self.begun.elapsed() >= Duration::from_millis(trial.promote_after_ms);
        let is_known = is_over || records >= JUDGED_RECORDS_MIN;
        let is_bad = is_known && errors * 1000 > u64::from(trial.errors_permille_max) * records;
        let change = if is_bad {
            let reason = format!(
                "{errors} of {records} records failed on {}-{}",
                self.task.who.topic, self.task.who.partition
            );
            TransformChange::Rollback {
                generation: Some(self.task.generation),
                reason: Some(reason),
            }
        } else if is_over {
            TransformChange::Promote {
                generation: self.task.generation,
            }
        } else {
            return;
        };
        self.is_judged = true;
        self.task.change(&self.context, change);
    }
}

/// The commit that is under way, when it is done. Never, if there is none.
async fn finished(commit: &mut Option<JoinHandle<Result<Committed, Trouble>>>) -> Result<Committed, Trouble> {
    let Some(running) = commit else {
        return std::future::pending().await;
    };
    let finished = running.await;
    *commit = None;
    finished.unwrap_or_else(|error| Err(Trouble::Passing(error.to_string())))
}

/// Kafka's times for the first offset of a log, and for the one behind the last.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Longest wait for records when nothing is to be done meanwhile.
const IDLE_WAIT: Duration = Duration::from_secs(10);
/// How long a commit that is under way may take when the partition is given up.
const COMMIT_WAIT: Duration = Duration::from_secs(3);
/// How long whoever had the partition before may take to be done with it.
const BEFORE_WAIT: Duration = Duration::from_secs(5);
/// How long a partition computes before others have their turn, but for the call that is under way.
const COMPUTE_TIME_MAX: Duration = Duration::from_millis(200);
/// How often a change is asked for that nobody can decide.
const CHANGES_MAX: usize = 60;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Bytes of one read.
const READ_BYTES_MIN: usize = 64 << 10;
const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes of output from which on a commit is due.
const OUTPUT_BYTES: usize = 4 << 20;
/// Records that a release on trial must have seen before its errors count while its time is not over.
const JUDGED_RECORDS_MIN: u64 = 100;
