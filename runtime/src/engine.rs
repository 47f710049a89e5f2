//! The engine that all plugins of a process share.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::error::{CompileError, EngineError, HOST, MESSAGE_BYTES_MAX, shorten};
use crate::limits::MEMORY_BYTES_MAX;
use crate::plugin::Plugin;
use crate::state::{self, CORE_INSTANCES_MAX, MEMORIES_MAX, State, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// What an engine is made with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Folder for compiled plugins, made if it is missing; without one, each start compiles anew. See the module `cache` for why
    /// nobody can feed it.
    pub cache: Option<PathBuf>,
    /// Largest component.
    pub component_bytes_max: u64,
    /// Instances of all plugins that can be alive at a time. Each takes 4 GiB of addresses, but no memory until it is used.
    pub instances_max: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cache: None,
            component_bytes_max: 64 << 20,
            instances_max: 1000,
        }
    }
}

/// Compiles plugins and runs them. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    engine: wasmtime::Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    component_bytes_max: u64,
}

impl Engine {
    /// Starts an engine.
    ///
    /// # Errors
    /// There are too few addresses, or the cache's folder cannot be used.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError::Engine(format!("{error:#}"));
        let engine = wasmtime::Engine::new(&settings(config.instances_max)).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        state::link(&mut linker).map_err(failed)?;
        let cache = match config.cache {
            None => None,
            Some(path) => match Cache::open(&path, compatibility(&engine)) {
                Ok(cache) => Some(cache),
                Err(source) => return Err(EngineError::Cache { path, source }),
            },
        };
        Ok(Self {
            shared: Arc::new(Shared {
                engine,
                linker,
                cache,
                component_bytes_max: config.component_bytes_max,
            }),
        })
    }

    /// Makes a plugin of a component, or takes what was compiled earlier from the cache. This **blocks** for milliseconds (Rust, C)
    /// to many seconds (Python): call it on a thread for blocking work.
    ///
    /// # Errors
    /// The bytes are too many, no component or malformed, import anything but the host, or export none of the worlds.
    pub fn compile(&self, component: &[u8]) -> Result<Plugin, CompileError> {
        let shared = &self.shared;
        if component.len() as u64 > shared.component_bytes_max {
            return Err(CompileError::TooLarge {
                bytes: component.len() as u64,
                bytes_max: shared.component_bytes_max,
            });
        }
        check_kind(component)?;
        check_imports(component)?;
        let sha256: [u8; 32] = Sha256::digest(component).into();
        let cached = shared
            .cache
            .as_ref()
            .and_then(|cache| cache.load(&shared.engine, &sha256));
        if let Some(compiled) = cached {
            return Plugin::new(self, compiled, sha256);
        }
        let compiled = self.compile_anew(component)?;
        check_needs(&compiled)?;
        // Kept only if it is a plugin, so that what is refused takes no room.
        let plugin = Plugin::new(self, compiled.clone(), sha256)?;
        if let Some(cache) = &shared.cache {
            cache.store(&compiled, &sha256);
        }
        Ok(plugin)
    }

    /// The compiler is large and gets whatever was pushed; should it panic, the thread is not lost.
    fn compile_anew(&self, component: &[u8]) -> Result<Component, CompileError> {
        let malformed = |text: String| CompileError::Malformed(shorten(text, MESSAGE_BYTES_MAX));
        let compile = || Component::from_binary(&self.shared.engine, component);
        match catch_unwind(AssertUnwindSafe(compile)) {
            Ok(compiled) => compiled.map_err(|error| malformed(format!("{error:#}"))),
            Err(_) => Err(malformed("the compiler gave up".to_owned())),
        }
    }

    pub(crate) fn raw(&self) -> &wasmtime::Engine {
        &self.shared.engine
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.shared.linker
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("component_bytes_max", &self.shared.component_bytes_max)
            .finish_non_exhaustive()
    }
}

/// The engine's settings. Those that decide what a guest computes are the same on every machine, so that the same slice gives the
/// same answer, and is cut off at the same place, on all brokers.
fn settings(instances_max: u32) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .operator_cost(operator_cost())
        .wasm_component_model(true)
        // Measured: with it on, a call costs five times as much.
        .concurrency_support(false)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(STACK_BYTES_MAX)
        .memory_init_cow(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(instances_max)));
    config
}

/// What a machine does for an instruction is about one unit of fuel, but for those that go to the host or to the kernel.
fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.MemoryGrow = u8::MAX;
    cost.TableGrow = u8::MAX;
    cost.variable.memory_grow_per_page = u8::MAX;
    cost
}

fn pooling(instances_max: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(4))
        .total_memories(instances_max)
        .total_tables(instances_max.saturating_mul(2))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_BYTES_MAX as usize)
        .max_unused_warm_slots(UNUSED_WARM_SLOTS_MAX);
    pool
}

/// Tells engines apart whose compiled code is not interchangeable: by version, machine and settings.
fn compatibility(engine: &wasmtime::Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn check_kind(bytes: &[u8]) -> Result<(), CompileError> {
    let what = match bytes {
        _ if wasmparser::Parser::is_component(bytes) => return Ok(()),
        _ if wasmparser::Parser::is_core_wasm(bytes) => {
            "this is a core module, not a component; 'millstream plugin build' or 'wasm-tools component new' makes one of it"
        }
        _ => "this is not WebAssembly",
    };
    Err(CompileError::NotComponent(what))
}

/// Looks through the outermost imports before anything is compiled, so that the reason is told in a moment.
fn check_imports(component: &[u8]) -> Result<(), CompileError> {
    use wasmparser::{ComponentTypeRef, Parser, Payload};

    let malformed = |error: wasmparser::BinaryReaderError| {
        CompileError::Malformed(shorten(error.to_string(), MESSAGE_BYTES_MAX))
    };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    let name = import.name.name;
                    // A name for a type gives no power.
                    let harmless = matches!(import.ty, ComponentTypeRef::Type(_));
                    if name != HOST && !harmless {
                        return Err(CompileError::Import {
                            name: shorten(name.to_owned(), MESSAGE_BYTES_MAX),
                        });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses at once what could never get an instance.
fn check_needs(component: &Component) -> Result<(), CompileError> {
    let Some(needs) = component.resources_required() else {
        return Err(CompileError::TooMuch(
            "its instances cannot be counted".to_owned(),
        ));
    };
    let needed = [
        ("memories", needs.num_memories, MEMORIES_MAX),
        ("tables", needs.num_tables, TABLES_MAX),
    ];
    for (what, count, most) in needed {
        if count > most {
            return Err(CompileError::TooMuch(format!(
                "{count} {what}; {most} are allowed"
            )));
        }
    }
    Ok(())
}

/// Stack of a guest. It lies on the stack of the thread that calls, which has 2 MiB or more.
const STACK_BYTES_MAX: usize = 512 << 10;
/// Slots that stay ready with a plugin's image after its instance went.
const UNUSED_WARM_SLOTS_MAX: u32 = 32;
