//! Writes to the broker's log. Lines beyond the plugin's `log-bytes-per-s` are dropped; in a native test, all go to
//! standard error.

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For who follows every record.
    Trace,
    /// For who looks for a mistake.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

/// Writes a line.
pub fn log(level: Level, line: &str) {
    write(level, line);
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
fn write(level: Level, line: &str) {
    #[link(wasm_import_module = "millstream:plugin/host@0.1.0")]
    unsafe extern "C" {
        #[link_name = "log"]
        fn host_log(level: u32, line: *const u8, length: usize);
    }
    // SAFETY: the host reads the text while the call lasts, and nothing else.
    unsafe { host_log(level as u32, line.as_ptr(), line.len()) }
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, line: &str) {
    eprintln!("{level:?}: {line}");
}
