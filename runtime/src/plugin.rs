//! A compiled plugin.

use std::fmt;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::bindings::{filter::FilterPre, partitioner::PartitionerPre, transform::TransformPre};
use crate::engine::Engine;
use crate::error::{CONFIG_BYTES_MAX, CompileError, InstantiateError, MESSAGE_BYTES_MAX, shorten};
use crate::instance::Instance;
use crate::limits::Limits;
use crate::log::{Gate, LogSink};
use crate::state::State;

/// What a plugin exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum World {
    /// Keeps or drops records.
    Filter,
    /// Chooses the partition of records.
    Partitioner,
    /// Changes records.
    Transform,
}

impl World {
    /// The name in `wit/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Partitioner => "partitioner",
            Self::Transform => "transform",
        }
    }

    /// The function that only this world exports.
    pub(crate) fn export(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Partitioner => "partition",
            Self::Transform => "transform",
        }
    }

    pub(crate) const ALL: [Self; 3] = [Self::Filter, Self::Partitioner, Self::Transform];
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A compiled plugin, from which instances are made in some ten microseconds. Clones are the same plugin.
#[derive(Clone)]
pub struct Plugin {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    sha256: [u8; 32],
    entry: Entry,
}

/// A component whose imports are linked and whose exports have the types of its world.
pub(crate) enum Entry {
    Filter(FilterPre<State>),
    Partitioner(PartitionerPre<State>),
    Transform(TransformPre<State>),
}

impl Plugin {
    pub(crate) fn new(engine: &Engine, component: Component, sha256: [u8; 32]) -> Result<Self, CompileError> {
        let world = world_of(engine, &component)?;
        let wrong = |error: wasmtime::Error| {
            let text = format!("the component does not fit the world {world}: {error:#}");
            CompileError::World(shorten(text, MESSAGE_BYTES_MAX))
        };
        let linked = engine.linker().instantiate_pre(&component).map_err(wrong)?;
        let entry = match world {
            World::Filter => FilterPre::new(linked).map(Entry::Filter),
            World::Partitioner => PartitionerPre::new(linked).map(Entry::Partitioner),
            World::Transform => TransformPre::new(linked).map(Entry::Transform),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                engine: engine.clone(),
                sha256,
                entry: entry.map_err(wrong)?,
            }),
        })
    }

    /// What it is.
    pub fn world(&self) -> World {
        match self.shared.entry {
            Entry::Filter(_) => World::Filter,
            Entry::Partitioner(_) => World::Partitioner,
            Entry::Transform(_) => World::Transform,
        }
    }

    /// SHA-256 of the component.
    pub fn sha256(&self) -> [u8; 32] {
        self.shared.sha256
    }

    /// Starts an instance and has it read its configuration.
    ///
    /// # Errors
    /// The plugin refuses the configuration ([`InstantiateError::Refused`] is for whoever wrote it), or cannot be started.
    pub fn instantiate(
        &self,
        config: &[u8],
        limits: &Limits,
        log: LogSink,
    ) -> Result<Instance, InstantiateError> {
        self.instantiate_with_sinks(config, limits, log, Arc::default())
    }

    /// The same for a deployed transform, which writes to sinks with these names, in the order of their places.
    ///
    /// # Errors
    /// The plugin refuses the configuration, or cannot be started.
    pub fn instantiate_with_sinks(
        &self,
        config: &[u8],
        limits: &Limits,
        log: LogSink,
        sinks: Arc<[String]>,
    ) -> Result<Instance, InstantiateError> {
        self.instantiate_behind(config, limits, Gate::new(log, limits.log_bytes_per_s), sinks)
    }

    /// The same with a volume of log that several instances share.
    pub(crate) fn instantiate_behind(
        &self,
        config: &[u8],
        limits: &Limits,
        gate: Gate,
        sinks: Arc<[String]>,
    ) -> Result<Instance, InstantiateError> {
        limits.check()?;
        if config.len() > CONFIG_BYTES_MAX {
            return Err(InstantiateError::ConfigTooLarge { bytes: config.len() });
        }
        let mut store = Store::new(
            self.shared.engine.raw(),
            State::new(gate, sinks, limits.memory_bytes),
        );
        store.limiter(|state| state);
        Instance::start(store, &self.shared.entry, config, limits)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("world", &self.world())
            .finish_non_exhaustive()
    }
}

/// The one world whose function a component exports.
fn world_of(engine: &Engine, component: &Component) -> Result<World, CompileError> {
    let exports = component.component_type();
    let exported = |world: &World| {
        exports
            .get_export(engine.raw(), world.export())
            .is_some_and(|export| matches!(export.ty, ComponentItem::ComponentFunc(_)))
    };
    let found: Vec<World> = World::ALL.into_iter().filter(exported).collect();
    match found[..] {
        [world] => Ok(world),
        [] => Err(CompileError::World(
            "the component exports none of the worlds filter, partitioner and transform".to_owned(),
        )),
        _ => Err(CompileError::World(
            "the component exports several of the worlds filter, partitioner and transform".to_owned(),
        )),
    }
}
