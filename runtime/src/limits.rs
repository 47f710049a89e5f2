//! What an instance may use.

/// Limits of the instances of a plugin. Each is checked by [`Limits::check`] against the most that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one instance, in bytes; all its memories together.
    pub memory_bytes: u64,
    /// Fuel of one call, which is about one unit for each instruction and each byte that a bulk instruction copies. Starting an instance
    /// and its `configure` share the fuel of one call.
    pub fuel: u64,
    /// What one call may return, in bytes.
    pub output_bytes: u64,
    /// Instances at a time, of a [`crate::Pool`].
    pub instances: u32,
    /// Bytes of log lines in a second; those beyond are counted and dropped.
    pub log_bytes_per_s: u64,
}

/// Why limits cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {min} to {max}, but is {value}")]
pub struct LimitsError {
    /// Name of the limit, as users write it.
    pub name: &'static str,
    /// What was asked for.
    pub value: u64,
    /// The least that can be had.
    pub min: u64,
    /// The most that can be had.
    pub max: u64,
}

impl Limits {
    /// Checks that the limits can be had.
    ///
    /// # Errors
    /// One of them is too small or too large.
    pub fn check(&self) -> Result<(), LimitsError> {
        let limits = [
            ("memory-bytes", self.memory_bytes, 1 << 16, MEMORY_BYTES_MAX),
            ("fuel", self.fuel, 1, FUEL_MAX),
            ("output-bytes", self.output_bytes, 1, OUTPUT_BYTES_MAX),
            ("instances", u64::from(self.instances), 1, INSTANCES_MAX),
            ("log-bytes-per-s", self.log_bytes_per_s, 0, LOG_BYTES_PER_S_MAX),
        ];
        for (name, value, min, max) in limits {
            if value < min || value > max {
                return Err(LimitsError {
                    name,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

impl Default for Limits {
    /// 64 MiB of memory, about half a second of CPU, 16 MiB of output, 4 instances, 64 KiB of log in a second.
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            fuel: 1_000_000_000,
            output_bytes: 16 << 20,
            instances: 4,
            log_bytes_per_s: 64 << 10,
        }
    }
}

/// Most memory of an instance; the engine reserves addresses for this much.
pub(crate) const MEMORY_BYTES_MAX: u64 = 1 << 30;
const FUEL_MAX: u64 = 1_000_000_000_000;
const OUTPUT_BYTES_MAX: u64 = 256 << 20;
const INSTANCES_MAX: u64 = 256;
const LOG_BYTES_PER_S_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_be_had_and_others_are_refused_by_name() {
        assert_eq!(Limits::default().check(), Ok(()));
        let limits = Limits {
            memory_bytes: 1 << 40,
            ..Limits::default()
        };
        assert_eq!(
            limits.check().unwrap_err().to_string(),
            "memory-bytes must be 65536 to 1073741824, but is 1099511627776"
        );
        let limits = Limits {
            instances: 0,
            ..Limits::default()
        };
        assert_eq!(limits.check().unwrap_err().name, "instances");
    }
}
