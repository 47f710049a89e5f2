//! The plugin instance that the partitions of one worker share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::cluster::{Plugin, PluginLimits, PluginVersion};
use millstream_runtime::{CallError, Instance, InstantiateError, Pool, Transformed, Verdicts, World};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::seat::{self, CallFailure, Pools};
use super::{LogLine, Plugins};

/// One instance of a plugin with one configuration, and whose turn it is to use it.
#[derive(Debug)]
pub struct Worker {
    plugin: Plugin,
    world: World,
    pool: Arc<Pool>,
    pools: Arc<Pools>,
    turn: Arc<Semaphore>,
    /// When it was last called.
    called: Mutex<Instant>,
    cpu_nanoseconds: AtomicU64,
    /// After the last call.
    memory_bytes: AtomicU64,
}

/// What a worker has cost since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Processor time in the plugin, and in starting its instances.
    pub cpu: Duration,
    /// Linear memory of its instance now; 0 while there is none.
    pub memory_bytes: u64,
}

/// What a plugin made of records.
#[derive(Debug)]
pub enum Answer {
    /// Which of them stay.
    Verdicts(Verdicts),
    /// Others.
    Transformed(Transformed),
}

impl Plugins {
    /// Starts a worker. Blocks, for seconds where the component is large and was not compiled before.
    ///
    /// # Errors
    /// The component cannot run, is no transform or filter, or refuses its configuration; or there is no place for an
    /// instance now: why, for people.
    pub fn worker(
        &self,
        plugin: &Plugin,
        config: &str,
        limits: &PluginLimits,
        sinks: &Arc<[String]>,
    ) -> Result<Worker, CallFailure> {
        let compiled = self.compiled(plugin).map_err(CallFailure::Plugin)?;
        let world = compiled.world();
        if world == World::Partitioner {
            let reason = "the component is a partitioner, which makes no records";
            return Err(CallFailure::Plugin(reason.to_owned()));
        }
        let mut limits = seat::limits(&self.settings, &plugin.limits, limits);
        limits.instances = 1;
        let pool = self.pools.make(|| {
            let log = self.log_sink(plugin);
            let config = config.as_bytes().to_vec();
            Pool::with_sinks(compiled.clone(), config, limits.clone(), log, sinks.clone())
        });
        Ok(Worker {
            plugin: plugin.clone(),
            world,
            pool: pool.map_err(failure)?,
            pools: self.pools.clone(),
            turn: Arc::new(Semaphore::new(1)),
            called: Mutex::new(Instant::now()),
            cpu_nanoseconds: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
        })
    }
}

impl Worker {
    /// Waits until no other partition of the worker uses the instance.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        let turn = self.turn.clone().acquire_owned().await;
        turn.expect("the semaphore is never closed")
    }

    /// Name and version.
    pub fn plugin(&self) -> (&str, PluginVersion) {
        (&self.plugin.name, self.plugin.version)
    }

    /// Has the plugin see a slice of records, and tells how long that took. Blocks as long as it computes. Whoever calls has
    /// the [turn](Worker::turn).
    ///
    /// # Errors
    /// Why the call failed as a whole; the next one gets another instance.
    pub fn call(&self, rows: &[u8], data: &[u8]) -> (Result<Answer, CallFailure>, Duration) {
        let (begun, cpu) = (Instant::now(), thread_cpu());
        let answer = self.instance(|instance| match self.world {
            World::Filter => instance.filter(rows, data).map(Answer::Verdicts),
            _ => instance.transform(rows, data).map(Answer::Transformed),
        });
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let spent = thread_cpu().saturating_sub(cpu);
        self.cpu_nanoseconds
            .fetch_add(spent.as_nanos() as u64, Ordering::Relaxed);
        (answer, begun.elapsed())
    }

    /// What it has cost.
    pub fn cost(&self) -> Cost {
        let in_use = || self.memory_bytes.load(Ordering::Relaxed);
        Cost {
            cpu: Duration::from_nanos(self.cpu_nanoseconds.load(Ordering::Relaxed)),
            memory_bytes: self.pool.memory_bytes().unwrap_or_else(in_use),
        }
    }

    /// Gives back the memory of the instance until it is needed again, if no partition of the worker has needed it for a
    /// while: to start one costs more than most calls.
    pub fn rest(&self) {
        let called = *self.called.lock().unwrap_or_else(PoisonError::into_inner);
        if called.elapsed() >= REST_AFTER {
            self.pool.shrink();
        }
    }

    fn instance<T>(
        &self,
        work: impl FnOnce(&mut Instance) -> Result<T, CallError>,
    ) -> Result<T, CallFailure> {
        let taken = self.pools.with_room(|| self.pool.try_take());
        let mut instance = match taken {
            Ok(Some(instance)) => instance,
            Ok(None) => return Err(CallFailure::Busy("the worker's instance is in use".to_owned())),
            Err(error) => return Err(failure(error)),
        };
        let answer = work(&mut instance);
        self.memory_bytes
            .store(instance.usage().memory_bytes, Ordering::Relaxed);
        answer.map_err(|error| CallFailure::Plugin(error.to_string()))
    }
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What it means that an instance cannot be started.
fn failure(error: InstantiateError) -> CallFailure {
    match error {
        InstantiateError::Busy => CallFailure::Busy(error.to_string()),
        error => CallFailure::Plugin(error.to_string()),
    }
}

/// Log lines of all brokers in the order of time, the last ones only.
pub fn merge(mut lines: Vec<LogLine>) -> Vec<LogLine> {
    lines.sort_by_key(|line| line.time_ms);
    let first = lines.len().saturating_sub(LINES_SHOWN_MAX);
    lines.split_off(first)
}

/// How long an instance is kept that nobody needs.
const REST_AFTER: Duration = Duration::from_secs(5);
/// Log lines that one answer shows.
const LINES_SHOWN_MAX: usize = 1000;
