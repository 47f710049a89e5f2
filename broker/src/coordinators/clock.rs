//! The clock of coordinators.

use std::time::Instant;

use crate::context::now_ms;

/// Time that goes on evenly: a clock that is set does not end sessions.
pub(super) struct Clock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            started_ms: now_ms(),
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.started_ms
            .saturating_add(self.started.elapsed().as_millis() as i64)
    }
}
