//! The plugin instance that the partitions of one worker share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::cluster::{Plugin, PluginLimits, PluginVersion};
use millstream_runtime::{CallError, Instance, InstantiateError, Pool, Transformed, Verdicts, World};
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
        let begun = Instant::now();
        let answer = self.instance(|instance| match self.world {
            World::Filter => instance.filter(rows, data).map(Answer::Verdicts),
            _ => instance.transform(rows, data).map(Answer::Transformed),
        });
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        (answer, begun.elapsed())
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
        work(&mut instance).map_err(|error| CallFailure::Plugin(error.to_string()))
    }
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
