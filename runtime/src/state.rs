//! What the host keeps beside an instance: its limits, its log, and the only function that it may call.

use wasmtime::component::Linker;
use wasmtime::{ResourceLimiter, StoreContextMut};

use crate::bindings::host;
use crate::error::HOST;
use crate::log::{Gate, Level};

/// The data of a store.
pub(crate) struct State {
    gate: Gate,
    memory_bytes_max: u64,
    /// Of all memories, now.
    memory_bytes: u64,
    /// The most so far. Memories never shrink.
    pub memory_bytes_peak: u64,
    /// Whether memory was refused since this was last reset.
    pub memory_refused: bool,
    /// Lines that were beyond the volume.
    pub log_lines_dropped: u64,
}

impl State {
    pub fn new(gate: Gate, memory_bytes_max: u64) -> Self {
        Self {
            gate,
            memory_bytes_max,
            memory_bytes: 0,
            memory_bytes_peak: 0,
            memory_refused: false,
            log_lines_dropped: 0,
        }
    }
}

/// Offers the interface `host`.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance(HOST)?.func_wrap("log", log)
}

/// A line costs fuel by its length, because the host works for it: a guest could otherwise have the host copy its memory
/// again and again for next to nothing.
fn log(
    mut store: StoreContextMut<'_, State>,
    (level, message): (host::Level, String),
) -> wasmtime::Result<()> {
    let cost = LOG_LINE_FUEL + message.len() as u64;
    let left = store.get_fuel()?;
    store.set_fuel(left.saturating_sub(cost))?;
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

/// What a line costs beside its bytes: about what the host needs for it, counted in the guest's instructions.
const LOG_LINE_FUEL: u64 = 1000;

/// Core instances of one component. Those of Python have about twenty.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;
/// Memories of one component.
pub(crate) const MEMORIES_MAX: u32 = 4;
/// Tables of one component.
pub(crate) const TABLES_MAX: u32 = 16;
/// Elements of one table. Those of Go and Python have tens of thousands.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;
