//! Partitioners: choose the partition of a record.

use crate::errors::Errors;
use crate::record::Record;
use crate::rows::records;

/// Chooses partitions. Export it with [`#[partitioner]`](macro@crate::partitioner) before the `impl`.
pub trait Partitioner: Sized {
    /// Reads the configuration, once and before the first record; empty if none was given.
    ///
    /// # Errors
    /// The configuration is not good. The reason is shown to whoever attaches the plugin.
    fn configure(config: &[u8]) -> Result<Self, String>;

    /// The partition of a record, less than `partitions`, which is at least 1. The same record should always get the same
    /// partition as long as their number stays the same.
    ///
    /// # Errors
    /// The record has no partition; what happens then was chosen when the plugin was attached. A partition that is not
    /// less than `partitions` is such an error too.
    fn partition(&mut self, record: &Record<'_>, partitions: u32) -> Result<u32, String>;
}

/// Where a slice's records go.
#[derive(Debug, Default)]
pub struct Targets {
    targets: Vec<u8>,
    errors: Errors,
}

impl Targets {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Targets {
            targets: Vec::new(),
            errors: Errors::new(),
        }
    }

    /// Chooses the partitions of a slice's records; forgets the slice before.
    pub fn choose<P: Partitioner>(&mut self, partitioner: &mut P, rows: &[u8], data: &[u8], partitions: u32) {
        self.errors.clear();
        let records = records(rows, data);
        self.targets.clear();
        self.targets.resize(records.len() * TARGET_BYTES, 0);
        let (targets, _) = self.targets.as_chunks_mut::<TARGET_BYTES>();
        for (index, (record, target)) in records.zip(targets).enumerate() {
            let chosen = match partitioner.partition(&record, partitions) {
                Ok(partition) if partition < partitions => partition,
                Ok(partition) => {
                    self.errors.push(
                        index,
                        format!("there is no partition {partition} among {partitions}"),
                    );
                    ERROR
                }
                Err(reason) => {
                    self.errors.push(index, reason);
                    ERROR
                }
            };
            *target = chosen.to_le_bytes();
        }
    }

    /// 4 bytes for each record, little-endian: its partition, or 0xFFFFFFFF for an error.
    #[must_use]
    pub fn targets(&self) -> &[u8] {
        &self.targets
    }

    /// Reasons of the errors.
    #[must_use]
    pub fn errors(&self) -> &Errors {
        &self.errors
    }
}

/// Exports a type that implements [`Partitioner`] as the component's partitioner.
#[doc(hidden)]
#[macro_export]
macro_rules! __partitioner {
    ($plugin:ty) => {
        const _: fn(&[u8]) -> Result<$plugin, String> = <$plugin as $crate::Partitioner>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__guest!($plugin, $crate::Partitioner, $crate::batch::Targets);

            #[unsafe(export_name = "partition")]
            unsafe extern "C" fn partition(
                rows: *mut u8,
                rows_length: usize,
                data: *mut u8,
                data_length: usize,
                partitions: u32,
            ) -> *const usize {
                // SAFETY: the canonical ABI hands over lists that were allocated by `cabi_realloc`, and gives them up.
                let (rows, data) = unsafe {
                    (
                        $crate::abi::list(rows, rows_length),
                        $crate::abi::list(data, data_length),
                    )
                };
                GUEST.with_borrow_mut(|guest| guest.partition(&rows, &data, partitions))
            }
        };
    };
}

const TARGET_BYTES: usize = 4;
const ERROR: u32 = u32::MAX;
