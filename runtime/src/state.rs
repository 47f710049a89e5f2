//! What the host keeps beside an instance: its limits, its log, its sinks, and the only functions that it may call.

use std::sync::Arc;

use wasmtime::component::Linker;
use wasmtime::{ResourceLimiter, StoreContextMut};

use crate::bindings::host;
use crate::error::HOST;
use crate::log::{Gate, Level};

/// The data of a store.
pub(crate) struct State {
    gate: Gate,
    /// Names of the sinks, in the order of their places.
    sinks: Arc<[String]>,
    memory_bytes_max: u64,
    /// Of all memories, now.
    pub memory_bytes: u64,
    /// The most so far. Memories never shrink.
    pub memory_bytes_peak: u64,
    /// Whether memory was refused since this was last reset.
    pub memory_refused: bool,
    /// Lines that were beyond the volume.
    pub log_lines_dropped: u64,
}

impl State {
    pub fn new(gate: Gate, sinks: Arc<[String]>, memory_bytes_max: u64) -> Self {
        Self {
            gate,
            sinks,
            memory_bytes_max,
            memory_bytes: 0,
            memory_bytes_peak: 0,
            memory_refused: false,
            log_lines_dropped: 0,
        }
    }

    /// How many sinks there are to choose from; at least one, though it may have no name.
    pub fn sinks(&self) -> usize {
        self.sinks.len().max(1)
    }
}

/// Offers the interface `host`.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut host = linker.instance(HOST)?;
    host.func_wrap("log", log)?;
    host.func_wrap("sinks", sinks)
}

/// What the host does for a guest costs fuel by the bytes that it copies: a guest could otherwise have it copy again and again
/// for next to nothing.
fn charge(store: &mut StoreContextMut<'_, State>, bytes: usize) -> wasmtime::Result<()> {
    let left = store.get_fuel()?;
    store.set_fuel(left.saturating_sub(HOST_CALL_FUEL + bytes as u64))
}

fn sinks(mut store: StoreContextMut<'_, State>, (): ()) -> wasmtime::Result<(Arc<[String]>,)> {
    let sinks = store.data().sinks.clone();
    charge(&mut store, sinks.iter().map(String::len).sum())?;
    Ok((sinks,))
}

fn log(
    mut store: StoreContextMut<'_, State>,
    (level, message): (host::Level, String),
) -> wasmtime::Result<()> {
    charge(&mut store, message.len())?;
    let level = match level {
        host::Level::Trace => Level::Trace,
        host::Level::Debug => Level::Debug,
        host::Level::Info => Level::Info,
        host::Level::Warn => Level::Warn,
        host::Level::Error => Level::Error,
    };
    let state = store.data_mut();
    if !state.gate.log(level, &message) {
        state.log_lines_dropped += 1;
    }
    Ok(())
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let bytes = self.memory_bytes.saturating_add(more);
        if bytes > self.memory_bytes_max {
            self.memory_refused = true;
            return Ok(false);
        }
        self.memory_bytes = bytes;
        self.memory_bytes_peak = self.memory_bytes_peak.max(bytes);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

/// What a call of the host costs beside its bytes: about what the host needs for it, counted in the guest's instructions.
const HOST_CALL_FUEL: u64 = 1000;

/// Core instances of one component. Those of Python have about twenty.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
/// Memories of one component.
pub(crate) const MEMORIES_MAX: u32 = 4;
/// Tables of one component.
pub(crate) const TABLES_MAX: u32 = 16;
/// Elements of one table. Those of Go and Python have tens of thousands.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
