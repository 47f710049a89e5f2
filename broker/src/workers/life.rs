//! One life of a partition of a source: from taking over to the first trouble.
//!
//! It begins by taking over: whoever had the partition's transactional id can write no more, and what it had begun is
//! aborted. Then it goes on from the committed offset: read what is committed, compute, and, by time and size, write what
//! came out together with the offset behind it. While one transaction is being written, the next one is computed; what is
//! read and not written yet is bounded. When anything goes wrong that is not the plugin's fault, the life ends and
//! another begins: nothing of it was visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_core::cluster::Start;
use millstream_core::transaction::Producer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bundle::{Bundle, Committed, Sequences, write};
use super::compute::{self, Halt, Input, Output};
use super::doubt::{Doubt, Origin};
use super::events::Failure;
use super::platform::{Place, Trouble, prepare};
use super::tally::{State, Tally};
use super::task::{Beside, End, PAUSE_MIN, Task, stopped};
use super::trial;
use crate::context::Context;
use crate::plugins::CallFailure;
use crate::plugins::worker::Worker;

/// From taking over to the first trouble.
pub struct Life<'a> {
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
    /// What the bundle came of that is being written.
    writing: Origin,
    /// What sinks have refused.
    pub doubt: Doubt,
    /// What this life has done.
    tally: Tally,
    /// Looks how a release on trial does.
    judging: Option<JoinHandle<()>>,
    judged_at: Option<Instant>,
    /// Whether its end was asked for.
    is_judged: Arc<AtomicBool>,
}

impl<'a> Life<'a> {
    /// Nothing is read yet; `doubt` is what lives before it found out.
    pub fn new(task: &'a Task, context: Arc<Context>, doubt: Doubt) -> Self {
        Self {
            task,
            context,
            begun: Instant::now(),
            beside: Beside {
                generation: task.generation,
                from: 0,
            },
            next: 0,
            output: Output::of(&task.room).doubting(&doubt),
            open: None,
            held: None,
            producer: None,
            commit: None,
            writing: Origin::default(),
            doubt,
            tally: Tally::default(),
            judging: None,
            judged_at: None,
            is_judged: Arc::default(),
        }
    }

    /// Takes over and works, until `stop` says so or something is wrong.
    pub async fn live(&mut self, stop: &mut watch::Receiver<bool>) -> End {
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
            CallFailure::Plugin(reason) => End::Failed(Failure::Plugin, reason),
            CallFailure::Busy(reason) => End::Again(Failure::Cluster, reason),
        })?;
        prepare(&context, task.guarantee).await?;
        let producer = task.who.init(&context).await?;
        context.metrics.workers.took_over();
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
        self.task.who.board.write(|face| {
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
        task.who.board.write(|face| {
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
        let trial = self.task.canary.as_ref();
        let trial = trial.filter(|_| !self.is_judged.load(Ordering::Relaxed));
        let left = trial.map(|canary| {
            let to_the_end =
                Duration::from_millis(canary.trial.promote_after_ms).saturating_sub(self.begun.elapsed());
            let to_a_look = self.judged_at.map(|at| JUDGE_PAUSE.saturating_sub(at.elapsed()));
            to_the_end.max(to_a_look.unwrap_or_default())
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
        let computed = computing
            .await
            .map_err(|error| End::Again(Failure::Cluster, error.to_string()));
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
                let reason = format!("record at offset {offset}: {reason}");
                Err(End::Failed(Failure::Record, reason))
            }
            Some(Halt::Corrupt(reason)) => {
                let reason = format!("the source is damaged behind offset {}: {reason}", self.next);
                Err(End::Failed(Failure::Source, reason))
            }
        }
    }

    /// Why nothing can be read at the next offset.
    async fn out_of_range(&self) -> End {
        let (task, next) = (self.task, self.next);
        let first = task.who.offset_of(&self.context, EARLIEST).await;
        let reason = match first {
            Ok(first) if first > next => {
                let last = first - 1;
                format!(
                    "records {next} to {last} were deleted before they were read; 'reset' to go on behind them"
                )
            }
            Ok(_) => {
                format!("offset {next} lies behind the end of the source; 'reset' to go on where records are")
            }
            Err(trouble) => return trouble.into(),
        };
        End::Failed(Failure::Source, reason)
    }

    /// Has what came out written while more is computed. No other commit is under way.
    fn begin_commit(&mut self) {
        let Some((producer, sequences)) = self.producer.take() else {
            return;
        };
        let read_at = self.open.take();
        self.writing = self.output.origin;
        let next = Output::of(&self.task.room).doubting(&self.doubt);
        let bundle = Bundle {
            producer,
            sequences,
            output: std::mem::replace(&mut self.output, next),
            read_at,
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
        let committed = finished.map_err(|trouble| match trouble {
            Trouble::Unwanted(reason) => End::Unwanted(self.writing, reason),
            trouble => trouble.into(),
        })?;
        self.doubt.committed(committed.offset);
        if let Some(took) = committed.took {
            self.context.metrics.workers.committed(&self.task.name, took);
        }
        self.producer = Some((committed.producer, committed.sequences));
        self.tally.add(committed.tally.clone());
        self.task.who.board.write(|face| {
            face.tally.add(committed.tally);
            face.committed = Some(committed.offset);
        });
        Ok(())
    }

    /// Has a look at how a release on trial does, if that is due.
    fn judge(&mut self) {
        let Some(canary) = &self.task.canary else {
            return;
        };
        if self.is_judged.load(Ordering::Relaxed) {
            return;
        }
        let is_looking = self
            .judging
            .as_ref()
            .is_some_and(|judging| !judging.is_finished());
        if is_looking || self.judged_at.is_some_and(|at| at.elapsed() < JUDGE_PAUSE) {
            return;
        }
        let is_over = self.begun.elapsed() >= Duration::from_millis(canary.trial.promote_after_ms);
        if !is_over && self.tally.errors == 0 {
            return;
        }
        self.judged_at = Some(Instant::now());
        let (context, task, trial) = (self.context.clone(), self.task.clone(), canary.trial);
        let is_judged = self.is_judged.clone();
        self.judging = Some(tokio::spawn(async move {
            if let Some(change) = trial::judge(&context, &task, trial, is_over).await {
                is_judged.store(true, Ordering::Relaxed);
                task.change(&context, change);
            }
        }));
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
/// How long a partition computes before others have their turn, but for the call that is under way.
const COMPUTE_TIME_MAX: Duration = Duration::from_millis(200);
/// Bytes of one read.
const READ_BYTES_MIN: usize = 64 << 10;
const READ_BYTES_MAX: usize = 1 << 20;
/// Bytes of output from which on a commit is due.
const OUTPUT_BYTES: usize = 4 << 20;
/// Pause between two looks at how a release on trial does.
const JUDGE_PAUSE: Duration = Duration::from_secs(1);
