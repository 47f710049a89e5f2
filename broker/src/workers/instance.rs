//! The plugin instance that the partitions of a worker share.

use std::sync::Arc;

use millstream_core::cluster::{Plugin, PluginLimits};

use crate::context::Context;
use crate::plugins::CallFailure;
use crate::plugins::worker::{Cost, Worker};

/// The plugin instance of a worker, started by whichever partition comes first.
#[derive(Debug)]
pub struct Instance {
    plugin: Arc<Plugin>,
    config: String,
    limits: PluginLimits,
    sinks: Arc<[String]>,
    started: tokio::sync::OnceCell<Arc<Worker>>,
}

impl Instance {
    /// None yet.
    pub fn new(plugin: Arc<Plugin>, config: String, limits: PluginLimits, sinks: Arc<[String]>) -> Self {
        Self {
            plugin,
            config,
            limits,
            sinks,
            started: tokio::sync::OnceCell::new(),
        }
    }

    /// Name and version of the plugin.
    pub fn plugin(&self) -> String {
        format!("{}@{}", self.plugin.name, self.plugin.version)
    }

    /// What it has cost; none before it is started.
    pub fn cost(&self) -> Option<Cost> {
        self.started.get().map(|worker| worker.cost())
    }

    /// The instance.
    ///
    /// # Errors
    /// It cannot be started, or not now: why, for people.
    pub async fn get(&self, context: &Arc<Context>) -> Result<Arc<Worker>, CallFailure> {
        let start = || async {
            let (plugins, plugin) = (context.plugins.clone(), self.plugin.clone());
            let (config, limits, sinks) = (self.config.clone(), self.limits.clone(), self.sinks.clone());
            let work = move || plugins.worker(&plugin, &config, &limits, &sinks);
            let started = tokio::task::spawn_blocking(work).await;
            let started = started.map_err(|error| CallFailure::Plugin(error.to_string()))?;
            started.map(Arc::new)
        };
        self.started.get_or_try_init(start).await.cloned()
    }
}
