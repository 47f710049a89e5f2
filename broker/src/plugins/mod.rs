//! Plugins at work: where their bytes are kept, compiled once, and run over batches on their way in and out.
//!
//! The crate `millstream-runtime` knows how to run a component and nothing of topics; here is what it is run for. Which
//! plugins there are and where they are attached, the cluster's image says. [`push`] changes that, [`ingest`] and
//! [`view`] run what is attached, [`chain`] is what both have in common.

mod cache;
mod chain;
pub(crate) mod dead_letter;
mod entrance;
pub mod ingest;
mod ledger;
mod push;
pub mod remote;
mod route;
mod seat;
pub mod share;
pub(crate) mod slice;
mod stages;
mod store;
#[cfg(test)]
pub(crate) mod tests;
pub mod view;
pub mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::available_parallelism;

use millstream_core::cluster::{Image, Plugin, World as CoreWorld};
use millstream_runtime::{Engine, EngineConfig, Level, LogSink, Pool, World};
use tokio::sync::Semaphore;

pub use ledger::{LogLine, Stats};
pub use push::PluginError;
pub use seat::CallFailure;
pub use seat::Slot;
pub use stages::{Stage, Stopwatch};

use crate::settings::Settings;
use crate::topics::Attached;
use cache::ViewCache;
use entrance::Entrances;
use ledger::Ledger;
use seat::{Pools, Running};
use store::Store;

/// All plugins of a broker.
#[derive(Debug)]
pub struct Plugins {
    engine: Engine,
    store: Arc<Store>,
    /// Where bytes come from that the store lacks.
    elsewhere: OnceLock<share::Elsewhere>,
    settings: Settings,
    compiled: Mutex<HashMap<String, Arc<Compiled>>>,
    pools: Arc<Pools>,
    ledger: Arc<Ledger>,
    cache: ViewCache,
    entrances: Entrances,
    /// Held while bytes are stored or removed, so that a push and a deletion of the same bytes do not cross.
    storing: tokio::sync::Mutex<()>,
    /// Batches that compute at a time.
    threads: Arc<Semaphore>,
}

/// A component, compiled by whoever comes first; the others wait for it.
type Compiled = Mutex<Option<millstream_runtime::Plugin>>;

impl Plugins {
    /// Opens the store of components in the data directory.
    ///
    /// # Errors
    /// The directory cannot be used, or the engine not be started.
    pub fn open(directory: &Path, settings: &Settings) -> Result<Self, PluginError> {
        let directory = directory.join(DIRECTORY);
        let store = Store::open(&directory)?;
        let config = EngineConfig {
            cache: Some(directory.join(COMPILED)),
            component_bytes_max: settings.plugin_max_bytes as u64,
            ..EngineConfig::default()
        };
        let engine = Engine::new(config).map_err(|error| PluginError::Storage(error.to_string()))?;
        let threads = available_parallelism().map_or(1, usize::from) * THREADS_PER_CPU;
        Ok(Self {
            engine,
            store: Arc::new(store),
            elsewhere: OnceLock::new(),
            compiled: Mutex::default(),
            pools: Arc::default(),
            ledger: Arc::default(),
            cache: ViewCache::new(usize::try_from(settings.view_cache_bytes).unwrap_or(0)),
            entrances: Entrances::default(),
            storing: tokio::sync::Mutex::default(),
            threads: Arc::new(Semaphore::new(threads)),
            settings: settings.clone(),
        })
    }

    /// Removes components that the image does not name: what is left of a push that came to no end.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn sweep(&self, image: &Image) -> Result<(), PluginError> {
        let wanted = |sha256: &str| image.plugins().any(|plugin| plugin.sha256 == sha256);
        Ok(self.store.sweep(wanted)?)
    }

    /// Sees to it that an attached plugin can run: its bytes are there and compile, and it accepts its configuration.
    /// Blocks, for seconds where the component is large and was not compiled before.
    ///
    /// # Errors
    /// Why not, in a sentence for whoever attaches it.
    pub fn check(&self, attached: &Attached) -> Result<(), String> {
        let refused = |reason| {
            format!(
                "topic '{}': plugin '{}': {reason}",
                attached.topic, attached.attachment.plugin
            )
        };
        self.run(attached).map(|_| ()).map_err(refused)
    }

    /// What every attached plugin has done since the broker started.
    pub fn stats(&self) -> Vec<Stats> {
        self.ledger.stats()
    }

    /// The last lines that a plugin logged, oldest first.
    pub fn log(&self, plugin: &str) -> Vec<LogLine> {
        self.ledger.log(plugin)
    }

    /// The world of a plugin as the runtime calls it.
    fn world(plugin: &Plugin) -> World {
        match plugin.world {
            CoreWorld::Filter => World::Filter,
            CoreWorld::Partitioner => World::Partitioner,
            CoreWorld::Transform => World::Transform,
        }
    }

    /// What runs each plugin of a chain; started off the async threads where it does not run yet.
    async fn running(self: &Arc<Self>, chain: &[Arc<Attached>]) -> Result<Vec<Arc<Running>>, String> {
        let at_work = chain.iter().map(|attached| attached.slot.0.get().cloned());
        if let Some(running) = at_work.collect::<Option<Vec<_>>>() {
            return Ok(running);
        }
        let (plugins, chain) = (self.clone(), chain.to_vec());
        let started = tokio::task::spawn_blocking(move || {
            let each = chain.iter().map(|attached| {
                plugins
                    .run(attached)
                    .map_err(|reason| format!("plugin '{}': {reason}", attached.attachment.plugin))
            });
            each.collect()
        });
        started.await.map_err(|error| error.to_string())?
    }

    fn run(&self, attached: &Attached) -> Result<Arc<Running>, String> {
        if let Some(running) = attached.slot.0.get() {
            return Ok(running.clone());
        }
        let compiled = self.compiled(&attached.plugin)?;
        if compiled.world() != Self::world(&attached.plugin) {
            return Err(format!(
                "the component is a {}, not a {}",
                compiled.world(),
                attached.plugin.world
            ));
        }
        let attachment = &attached.attachment;
        let limits = seat::limits(&self.settings, &attached.plugin.limits, &attachment.limits);
        let config = attachment.config.as_bytes().to_vec();
        let pool = self.pools.make(|| {
            let log = self.log_sink(&attached.plugin);
            Pool::new(compiled.clone(), config.clone(), limits.clone(), log)
        });
        let pool = pool.map_err(|error| error.to_string())?;
        let counters = self
            .ledger
            .counters(&attached.plugin.name, attached.plugin.version, &attached.topic);
        let running = Arc::new(Running::new(attached, pool, self.pools.clone(), counters));
        Ok(attached.slot.0.get_or_init(|| running).clone())
    }

    /// The compiled component of a plugin. Blocks.
    fn compiled(&self, plugin: &Plugin) -> Result<millstream_runtime::Plugin, String> {
        let place = self.place(&plugin.sha256);
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = &*place {
            return Ok(compiled.clone());
        }
        let bytes = self.bytes(&plugin.sha256)?;
        let compiled = self.engine.compile(&bytes).map_err(|error| error.to_string())?;
        *place = Some(compiled.clone());
        Ok(compiled)
    }

    fn place(&self, sha256: &str) -> Arc<Compiled> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.entry(sha256.to_owned()).or_default().clone()
    }

    fn log_sink(&self, plugin: &Plugin) -> LogSink {
        let (name, version, ledger) = (plugin.name.clone(), plugin.version, self.ledger.clone());
        Arc::new(move |level, message| {
            let word = match level {
                Level::Trace => "trace",
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            ledger.note(&name, word, message);
            // A plugin's idea of an error is none of the broker's.
            tracing::debug!(plugin = %name, %version, level = word, message, "a plugin says");
        })
    }

    /// Forgets what is gone from the image: counters, log lines, compiled components.
    fn forget(&self, image: &Image) {
        self.ledger.forget(
            |topic| image.topic(topic).is_some(),
            |name| image.plugins().any(|plugin| plugin.name == name),
        );
        let hashes: BTreeMap<&str, ()> = image
            .plugins()
            .map(|plugin| (plugin.sha256.as_str(), ()))
            .collect();
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.retain(|sha256, _| hashes.contains_key(sha256.as_str()));
    }
}

/// Where components are kept within the data directory, and their compiled forms within that.
const DIRECTORY: &str = "plugins";
const COMPILED: &str = "compiled";
/// Batches that compute at a time, for each CPU.
const THREADS_PER_CPU: usize = 2;
