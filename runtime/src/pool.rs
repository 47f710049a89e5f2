//! The instances of one place that a plugin is attached to.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::InstantiateError;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::log::{Gate, LogSink};
use crate::plugin::Plugin;

/// Instances of a plugin with one configuration: made when needed, at most [`Limits::instances`] at a time, used again, and
/// dropped after a call that failed as a whole. They share one volume of log.
pub struct Pool {
    plugin: Plugin,
    config: Vec<u8>,
    limits: Limits,
    gate: Gate,
    sinks: Arc<[String]>,
    places: Mutex<Places>,
    returned: Condvar,
}

#[derive(Default)]
struct Places {
    idle: Vec<Instance>,
    in_use: u32,
}

impl Pool {
    /// Makes a pool, and a first instance so that a wrong configuration is found at once.
    ///
    /// # Errors
    /// The plugin refuses the configuration, or cannot be started.
    pub fn new(
        plugin: Plugin,
        config: Vec<u8>,
        limits: Limits,
        log: LogSink,
    ) -> Result<Arc<Self>, InstantiateError> {
        Self::with_sinks(plugin, config, limits, log, Arc::default())
    }

    /// The same for a deployed transform, which writes to sinks with these names, in the order of their places.
    ///
    /// # Errors
    /// The plugin refuses the configuration, or cannot be started.
    pub fn with_sinks(
        plugin: Plugin,
        config: Vec<u8>,
        limits: Limits,
        log: LogSink,
        sinks: Arc<[String]>,
    ) -> Result<Arc<Self>, InstantiateError> {
        let gate = Gate::new(log, limits.log_bytes_per_s);
        let first = plugin.instantiate_behind(&config, &limits, gate.clone(), sinks.clone())?;
        Ok(Arc::new(Self {
            plugin,
            config,
            limits,
            gate,
            sinks,
            places: Mutex::new(Places {
                idle: vec![first],
                in_use: 0,
            }),
            returned: Condvar::new(),
        }))
    }

    /// Takes an instance, or makes one; none if all are in use. It comes back when what was taken is dropped. This never waits: an async
    /// caller holds a permit of a semaphore with [`Limits::instances`] permits, and then there always is one.
    ///
    /// # Errors
    /// A new instance cannot be started.
    pub fn try_take(self: &Arc<Self>) -> Result<Option<Pooled>, InstantiateError> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.in_use >= self.limits.instances {
            return Ok(None);
        }
        places.in_use += 1;
        let idle = places.idle.pop();
        drop(places);
        self.fill(idle).map(Some)
    }

    /// Takes an instance, or makes one, and **blocks** while all are in use: for threads that may.
    ///
    /// # Errors
    /// A new instance cannot be started.
    pub fn take(self: &Arc<Self>) -> Result<Pooled, InstantiateError> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |places: &mut Places| places.in_use >= self.limits.instances;
        let mut places = self
            .returned
            .wait_while(places, full)
            .unwrap_or_else(PoisonError::into_inner);
        places.in_use += 1;
        let idle = places.idle.pop();
        drop(places);
        self.fill(idle)
    }

    /// Drops the instances that nobody uses, and so gives back their memory.
    pub fn shrink(&self) {
        let idle = std::mem::take(&mut self.places.lock().unwrap_or_else(PoisonError::into_inner).idle);
        drop(idle);
    }

    /// Memory of its instances, in bytes; none while some are in use, whose memory may grow.
    pub fn memory_bytes(&self) -> Option<u64> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = places.idle.iter().map(|instance| instance.usage().memory_bytes);
        (places.in_use == 0).then(|| idle.sum())
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The limits of its instances.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts an instance in a place that was counted. The place is given back also if there is no instance, even by a panic.
    fn fill(self: &Arc<Self>, idle: Option<Instance>) -> Result<Pooled, InstantiateError> {
        let mut pooled = Pooled {
            pool: self.clone(),
            instance: None,
        };
        pooled.instance = Some(match idle {
            Some(instance) => instance,
            None => {
                let (gate, sinks) = (self.gate.clone(), self.sinks.clone());
                self.plugin
                    .instantiate_behind(&self.config, &self.limits, gate, sinks)?
            }
        });
        Ok(pooled)
    }

    fn give_back(&self, instance: Option<Instance>) {
        let usable = instance.filter(|instance| !instance.is_poisoned());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.in_use -= 1;
        places.idle.extend(usable);
        drop(places);
        self.returned.notify_one();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Pool")
            .field("plugin", &self.plugin)
            .field("idle", &places.idle.len())
            .field("in_use", &places.in_use)
            .finish_non_exhaustive()
    }
}

/// An instance that goes back to its pool when this is dropped.
#[derive(Debug)]
pub struct Pooled {
    pool: Arc<Pool>,
    instance: Option<Instance>,
}

impl Deref for Pooled {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        self.instance.as_ref().expect("filled until dropped")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("filled until dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let instance = self.instance.take();
        self.pool.give_back(instance);
    }
}
