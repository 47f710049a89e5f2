//! A plugin that runs where it is attached: its pool of instances, and the place in it that a batch takes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;

use millstream_core::cluster::{PluginLimits, PluginVersion};
use millstream_runtime::{CallError, Instance, InstantiateError, Limits, Pool, Pooled};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ledger::Counters;
use crate::settings::Settings;
use crate::topics::Attached;

/// Where an attached plugin keeps what runs it; empty until the plugin is first needed.
#[derive(Debug, Default)]
pub struct Slot(pub(super) OnceLock<Arc<Running>>);

/// What runs an attached plugin.
#[derive(Debug)]
pub struct Running {
    /// Name and version.
    pub plugin: (String, PluginVersion),
    /// Tells apart whatever changes the plugin's answers.
    pub fingerprint: [u8; 32],
    /// What it costs.
    pub counters: Arc<Counters>,
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    pools: Arc<Pools>,
}

/// The pools of all attached plugins. They share the engine's places for instances.
#[derive(Debug, Default)]
pub struct Pools(Mutex<Vec<Weak<Pool>>>);

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// The plugin failed, and the policy for that holds.
    Plugin(String),
    /// The broker has no place for an instance now. The plugin has not seen the records, so no policy holds.
    Busy(String),
}

impl Pools {
    /// Makes a pool.
    ///
    /// # Errors
    /// The plugin refuses its configuration, or cannot be started.
    pub fn make(
        &self,
        make: impl Fn() -> Result<Arc<Pool>, InstantiateError>,
    ) -> Result<Arc<Pool>, InstantiateError> {
        let pool = self.with_room(make)?;
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        Ok(pool)
    }

    /// Does something that needs a place for an instance; once more without the idle instances of all pools if there
    /// is none.
    ///
    /// # Errors
    /// As `work`.
    pub fn with_room<T>(
        &self,
        work: impl Fn() -> Result<T, InstantiateError>,
    ) -> Result<T, InstantiateError> {
        match work() {
            Err(InstantiateError::Busy) => {
                let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                pools
                    .iter()
                    .filter_map(Weak::upgrade)
                    .for_each(|pool| pool.shrink());
                drop(pools);
                work()
            }
            other => other,
        }
    }
}

/// A batch's place at an attached plugin. At most as many are taken at a time as the plugin may have instances.
#[derive(Debug)]
pub struct Seat {
    /// The plugin and how it is attached.
    pub attached: Arc<Attached>,
    running: Arc<Running>,
    // The instance goes back before the permit does.
    instance: Option<Pooled>,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    /// Around a pool whose instances have accepted the configuration.
    pub fn new(attached: &Attached, pool: Arc<Pool>, pools: Arc<Pools>, counters: Arc<Counters>) -> Self {
        let instances = pool.limits().instances as usize;
        Self {
            plugin: (attached.plugin.name.clone(), attached.plugin.version),
            fingerprint: fingerprint(attached, pool.limits()),
            counters,
            pool,
            permits: Arc::new(Semaphore::new(instances)),
            pools,
        }
    }
}

impl Seat {
    /// Waits for a place.
    pub async fn take(attached: &Arc<Attached>, running: Arc<Running>) -> Self {
        let permit = running.permits.clone().acquire_owned().await;
        Self {
            attached: attached.clone(),
            running,
            instance: None,
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// What runs the plugin.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Name and version, for people.
    pub fn name(&self) -> String {
        let (name, version) = &self.running.plugin;
        format!("{name}@{version}")
    }

    /// Calls the plugin with `records` records. Blocks as long as the plugin computes.
    ///
    /// # Errors
    /// Why the call failed as a whole; the next one gets another instance.
    pub fn call<T>(
        &mut self,
        records: usize,
        work: impl FnOnce(&mut Instance) -> Result<T, CallError>,
    ) -> Result<T, CallFailure> {
        let begun = Instant::now();
        let answer = match self.instance() {
            Ok(instance) => {
                let answer = work(instance).map_err(|error| CallFailure::Plugin(error.to_string()));
                if instance.is_poisoned() {
                    self.instance = None;
                }
                answer
            }
            Err(failure) => Err(failure),
        };
        self.running.counters.call(records, begun.elapsed());
        answer
    }

    /// Throws the instance away: its answer cannot be used.
    pub fn renounce(&mut self) {
        // Those in the pool have answered as they should, or they would not be there.
        self.instance = None;
    }

    fn instance(&mut self) -> Result<&mut Instance, CallFailure> {
        if self.instance.is_none() {
            let taken = self.running.pools.with_room(|| self.running.pool.try_take());
            self.instance = taken.map_err(|error| match error {
                InstantiateError::Busy => CallFailure::Busy(error.to_string()),
                _ => CallFailure::Plugin(error.to_string()),
            })?;
        }
        match &mut self.instance {
            Some(instance) => Ok(instance),
            None => Err(CallFailure::Busy(
                "all instances of the plugin are in use".to_owned(),
            )),
        }
    }
}

/// The limits of an attached plugin: those of the attachment, then those it was pushed with, then the broker's.
pub fn limits(settings: &Settings, pushed: &PluginLimits, attached: &PluginLimits) -> Limits {
    let defaults = Limits::default();
    let first =
        |attached: Option<u64>, pushed: Option<u64>, default: u64| attached.or(pushed).unwrap_or(default);
    Limits {
        memory_bytes: first(
            attached.memory_bytes,
            pushed.memory_bytes,
            settings.plugin_memory_max_bytes as u64,
        ),
        fuel: first(attached.fuel, pushed.fuel, defaults.fuel),
        output_bytes: first(attached.output_bytes, pushed.output_bytes, defaults.output_bytes),
        instances: attached
            .instances
            .or(pushed.instances)
            .unwrap_or(settings.plugin_instances_max as u32),
        log_bytes_per_s: first(
            attached.log_bytes_per_s,
            pushed.log_bytes_per_s,
            defaults.log_bytes_per_s,
        ),
    }
}

fn fingerprint(attached: &Attached, limits: &Limits) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(attached.plugin.sha256.as_bytes());
    add(attached.attachment.config.as_bytes());
    add(format!("{:?}", attached.attachment.on_error).as_bytes());
    for limit in [limits.memory_bytes, limits.fuel, limits.output_bytes] {
        add(&limit.to_le_bytes());
    }
    hash.finalize().into()
}
