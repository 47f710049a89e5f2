//! What happened, told.

use std::hash::{DefaultHasher, Hasher};

/// What happened. All of it is kept as a number that two equal stories have in common; lines only if asked for.
pub struct Trace {
    hash: DefaultHasher,
    shows: bool,
    lines: u64,
    /// Faults, in order.
    pub faults: Vec<String>,
}

impl Trace {
    /// `shows`: prints every line.
    pub fn new(shows: bool) -> Self {
        Self {
            hash: DefaultHasher::new(),
            shows,
            lines: 0,
            faults: Vec::new(),
        }
    }

    /// Something happened.
    pub fn line(&mut self, now_ms: u64, text: impl FnOnce() -> String) {
        let line = format!("{now_ms:>6} {}", text());
        self.hash.write(line.as_bytes());
        self.lines += 1;
        if self.shows {
            println!("{line}");
        }
    }

    /// Something went wrong.
    pub fn fault(&mut self, now_ms: u64, text: impl FnOnce() -> String) {
        let line = format!("{now_ms:>6} {}", text());
        if self.shows {
            println!("{line}");
        }
        self.hash.write(line.as_bytes());
        self.faults.push(line);
    }

    /// What two equal stories have in common: how many lines, and a number made of all of them.
    pub fn fingerprint(&self) -> (u64, u64) {
        (self.lines, self.hash.finish())
    }
}
