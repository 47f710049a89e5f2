//! What keeps a coordinator from writing.

use crate::partitions::AppendError;

/// Why records of a coordinator are not in its log.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct WriteError {
    pub reason: String,
    /// Whether some of the records are in the log.
    pub is_partial: bool,
    /// Whether the term is over.
    pub is_led_elsewhere: bool,
}

impl WriteError {
    pub fn new(error: impl ToString) -> Self {
        Self {
            reason: error.to_string(),
            is_partial: false,
            is_led_elsewhere: false,
        }
    }

    pub fn of_append(error: AppendError) -> Self {
        match error {
            AppendError::NotLeader => Self::led_elsewhere(),
            error => Self::new(error),
        }
    }

    pub fn tell(&self, what: &str, partition: i32) {
        match self.is_led_elsewhere {
            true => tracing::debug!(partition, error = %self, "{what} move"),
            false => tracing::error!(partition, error = %self, "{what} cannot be written"),
        }
    }

    pub fn led_elsewhere() -> Self {
        Self {
            is_led_elsewhere: true,
            ..Self::new("another broker leads, or this one in another term")
        }
    }
}
