//! What guests log: made harmless, cut, and bounded in volume.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Finest.
    Trace,
    /// For the plugin's author.
    Debug,
    /// Worth a line.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

/// Takes the lines that a plugin logs. A line has no control characters and at most 4 KiB.
pub type LogSink = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// A sink behind a volume, shared by the instances of a pool.
#[derive(Clone)]
pub(crate) struct Gate {
    sink: LogSink,
    bytes_per_s: u64,
    volume: Arc<Mutex<Volume>>,
}

/// A bucket that holds a second's worth and fills steadily.
#[derive(Debug)]
struct Volume {
    bytes: f64,
    filled_at: Instant,
}

impl Gate {
    pub fn new(sink: LogSink, bytes_per_s: u64) -> Self {
        Self {
            sink,
            bytes_per_s,
            volume: Arc::new(Mutex::new(Volume {
                bytes: bytes_per_s as f64,
                filled_at: Instant::now(),
            })),
        }
    }

    /// Passes a line on; false if it was dropped.
    pub fn log(&self, level: Level, message: &str) -> bool {
        let end = message.floor_char_boundary(LINE_BYTES_MAX);
        let line = &message[..end];
        if !self.take(line.len() + LINE_OVERHEAD_BYTES) {
            return false;
        }
        if line.contains(char::is_control) {
            let clean: String = line
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            (self.sink)(level, clean.trim_end());
        } else {
            (self.sink)(level, line);
        }
        true
    }

    fn take(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut volume = self.volume.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(volume.filled_at).as_secs_f64();
        let most = self.bytes_per_s as f64;
        volume.bytes = (volume.bytes + since * most).min(most);
        volume.filled_at = now;
        let enough = volume.bytes >= bytes as f64;
        if enough {
            volume.bytes -= bytes as f64;
        }
        enough
    }
}

const LINE_BYTES_MAX: usize = 4096;
/// What an empty line counts, so that many of them are not free.
const LINE_OVERHEAD_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn collecting() -> (LogSink, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        (
            Arc::new(move |_, line: &str| sink.lock().unwrap().push(line.to_owned())),
            lines,
        )
    }

    #[test]
    fn a_line_stays_one_line_and_is_cut() {
        let (sink, lines) = collecting();
        let gate = Gate::new(sink, 1 << 20);
        assert!(gate.log(Level::Info, "a\nERROR forged\x1b[31m\r\n"));
        assert!(gate.log(Level::Info, &"é".repeat(3000)));
        let lines = lines.lock().unwrap();
        assert_eq!(lines[0], "a ERROR forged [31m");
        assert_eq!(lines[1].len(), 4096);
    }

    #[test]
    fn what_is_beyond_the_volume_is_dropped() {
        let (sink, lines) = collecting();
        let gate = Gate::new(sink, 1000);
        let passed = (0..1000).filter(|_| gate.log(Level::Info, "0123456789")).count();
        assert!((23..40).contains(&passed), "{passed}");
        assert_eq!(lines.lock().unwrap().len(), passed);
    }
}
