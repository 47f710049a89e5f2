//! An instance of a plugin: a guest with its memory, its limits, and the calls that can be made of it.

use std::fmt;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use crate::answers::{Targets, Transformed, Verdicts};
use crate::bindings::{filter::Filter, partitioner::Partitioner, transform::Transform};
use crate::error::{CallError, InstantiateError, MESSAGE_BYTES_MAX, shorten};
use crate::limits::Limits;
use crate::plugin::{Entry, World};
use crate::rows::{ROW_BYTES, ROWS_MAX};
use crate::state::State;

/// A configured instance. After a call that failed as a whole it is of no use: all further calls fail, too.
pub struct Instance {
    store: Store<State>,
    exports: Exports,
    fuel_limit: u64,
    memory_limit: u64,
    output_limit: u64,
    fuel_used: u64,
    calls: u64,
    poisoned: bool,
}

/// What an instance has used since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls, without `configure`.
    pub calls: u64,
    /// Fuel of all these calls.
    pub fuel: u64,
    /// Its memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory that it had, in bytes.
    pub memory_bytes_peak: u64,
    /// Lines that it logged beyond the volume.
    pub log_lines_dropped: u64,
}

enum Exports {
    Filter(Filter),
    Partitioner(Partitioner),
    Transform(Transform),
}

impl Instance {
    pub(crate) fn start(
        mut store: Store<State>,
        entry: &Entry,
        config: &[u8],
        limits: &Limits,
    ) -> Result<Self, InstantiateError> {
        // What a guest passes to the host is copied there; this bounds it before that happens.
        store.set_hostcall_fuel(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX));
        let failed = |store: &Store<State>, error: wasmtime::Error| {
            if error.is::<PoolConcurrencyLimitError>() {
                return InstantiateError::Busy;
            }
            InstantiateError::Call(classify(
                store,
                limits.fuel,
                limits.memory_bytes,
                limits.output_bytes,
                &error,
            ))
        };
        store
            .set_fuel(limits.fuel)
            .map_err(|error| failed(&store, error))?;
        let (exports, configured) = match entry {
            Entry::Filter(pre) => {
                let exports = pre
                    .instantiate(&mut store)
                    .map_err(|error| failed(&store, error))?;
                let configured = exports.call_configure(&mut store, config);
                (Exports::Filter(exports), configured)
            }
            Entry::Partitioner(pre) => {
                let exports = pre
                    .instantiate(&mut store)
                    .map_err(|error| failed(&store, error))?;
                let configured = exports.call_configure(&mut store, config);
                (Exports::Partitioner(exports), configured)
            }
            Entry::Transform(pre) => {
                let exports = pre
                    .instantiate(&mut store)
                    .map_err(|error| failed(&store, error))?;
                let configured = exports.call_configure(&mut store, config);
                (Exports::Transform(exports), configured)
            }
        };
        configured
            .map_err(|error| failed(&store, error))?
            .map_err(|reason| InstantiateError::Refused(shorten(reason, REFUSAL_BYTES_MAX)))?;
        Ok(Self {
            store,
            exports,
            fuel_limit: limits.fuel,
            memory_limit: limits.memory_bytes,
            output_limit: limits.output_bytes,
            fuel_used: 0,
            calls: 0,
            poisoned: false,
        })
    }

    /// Has a filter judge records. `rows` are those of a [`crate::RowsBuilder`], and tell where the records lie in `data`.
    ///
    /// # Errors
    /// The call failed as a whole; the instance is of no use any more.
    pub fn filter(&mut self, rows: &[u8], data: &[u8]) -> Result<Verdicts, CallError> {
        let count = count(rows);
        if count == 0 {
            return Ok(Verdicts::default());
        }
        let result = self.call(|exports, store| match exports {
            Exports::Filter(exports) => exports.call_filter(store, rows, data).map_err(Failure::Call),
            other => Err(Failure::World(other.world())),
        });
        let answer = result?;
        self.checked(Verdicts::check(answer, count))
    }

    /// Has a partitioner choose the partitions of records, from 0 to `partitions` - 1.
    ///
    /// # Errors
    /// The call failed as a whole; the instance is of no use any more.
    pub fn partition(&mut self, rows: &[u8], data: &[u8], partitions: u32) -> Result<Targets, CallError> {
        assert!(partitions > 0, "a topic has a partition");
        let count = count(rows);
        if count == 0 {
            return Ok(Targets::default());
        }
        let result = self.call(|exports, store| match exports {
            Exports::Partitioner(exports) => exports
                .call_partition(store, rows, data, partitions)
                .map_err(Failure::Call),
            other => Err(Failure::World(other.world())),
        });
        let answer = result?;
        self.checked(Targets::check(answer, count, partitions))
    }

    /// Has a transform make new records: any number of each, for sinks whose places are less than their number. Where at most
    /// one is wanted of each, the caller looks to that.
    ///
    /// # Errors
    /// The call failed as a whole; the instance is of no use any more.
    pub fn transform(&mut self, rows: &[u8], data: &[u8]) -> Result<Transformed, CallError> {
        let count = count(rows);
        if count == 0 {
            return Ok(Transformed::default());
        }
        let result = self.call(|exports, store| match exports {
            Exports::Transform(exports) => exports.call_transform(store, rows, data).map_err(Failure::Call),
            other => Err(Failure::World(other.world())),
        });
        let answer = result?;
        let sinks = self.store.data().sinks();
        self.checked(Transformed::check(answer, rows, sinks, self.output_limit))
    }

    /// What it has used.
    pub fn usage(&self) -> Usage {
        let state = self.store.data();
        Usage {
            calls: self.calls,
            fuel: self.fuel_used,
            memory_bytes: state.memory_bytes,
            memory_bytes_peak: state.memory_bytes_peak,
            log_lines_dropped: state.log_lines_dropped,
        }
    }

    /// Whether a call failed as a whole, so that no further one can be made.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    fn call<T>(
        &mut self,
        call: impl FnOnce(&Exports, &mut Store<State>) -> Result<T, Failure>,
    ) -> Result<T, CallError> {
        if self.poisoned {
            return Err(CallError::Poisoned);
        }
        self.store.data_mut().memory_refused = false;
        let fueled = self.store.set_fuel(self.fuel_limit).map_err(Failure::Call);
        // Set first, so that an unwinding host function leaves no half-run guest behind.
        self.poisoned = true;
        let result = fueled.and_then(|()| call(&self.exports, &mut self.store));
        self.calls += 1;
        self.fuel_used += self.fuel_limit - self.store.get_fuel().unwrap_or(0);
        match result {
            Ok(answer) => {
                self.poisoned = false;
                Ok(answer)
            }
            Err(Failure::World(world)) => {
                self.poisoned = false;
                Err(CallError::World(world.name()))
            }
            Err(Failure::Call(error)) => Err(classify(
                &self.store,
                self.fuel_limit,
                self.memory_limit,
                self.output_limit,
                &error,
            )),
        }
    }

    /// A guest that answers nonsense once is not asked again.
    fn checked<T>(&mut self, answer: Result<T, CallError>) -> Result<T, CallError> {
        self.poisoned |= answer.is_err();
        answer
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("world", &self.exports.world())
            .field("usage", &self.usage())
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

impl Exports {
    fn world(&self) -> World {
        match self {
            Self::Filter(_) => World::Filter,
            Self::Partitioner(_) => World::Partitioner,
            Self::Transform(_) => World::Transform,
        }
    }
}

/// Why a call did not give an answer.
enum Failure {
    Call(wasmtime::Error),
    World(World),
}

fn count(rows: &[u8]) -> usize {
    assert!(rows.len().is_multiple_of(ROW_BYTES), "rows come from a builder");
    let count = rows.len() / ROW_BYTES;
    assert!(count <= ROWS_MAX, "a slice has at most {ROWS_MAX} rows");
    count
}

fn classify(store: &Store<State>, fuel: u64, memory: u64, output: u64, error: &wasmtime::Error) -> CallError {
    if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) {
        return CallError::Fuel { limit: fuel };
    }
    if store.data().memory_refused {
        return CallError::Memory { limit: memory };
    }
    let cause = error.root_cause().to_string();
    // The engine has a type for it, but keeps it to itself.
    if cause.contains(HOSTCALL_FUEL_TEXT) {
        return CallError::Output { limit: output };
    }
    let mut text = cause;
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
        let names: Vec<&str> = names.take(FRAMES_SHOWN_MAX).collect();
        if !names.is_empty() {
            text = format!("{text} (in {})", names.join(", called by "));
        }
    }
    CallError::Trap(shorten(text, MESSAGE_BYTES_MAX))
}

const HOSTCALL_FUEL_TEXT: &str = "hostcalls has been exhausted";
/// Functions that are named when a guest traps.
const FRAMES_SHOWN_MAX: usize = 3;
/// Longest reason for refusing a configuration.
const REFUSAL_BYTES_MAX: usize = 4096;
