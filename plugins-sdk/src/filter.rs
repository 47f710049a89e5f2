//! Filters: keep records or drop them.

use crate::errors::Errors;
use crate::record::Record;
use crate::rows::records;

/// Keeps records or drops them. Export it with [`#[filter]`](macro@crate::filter) before the `impl`.
pub trait Filter: Sized {
    /// Reads the configuration, once and before the first record; empty if none was given.
    ///
    /// # Errors
    /// The configuration is not good. The reason is shown to whoever attaches the plugin.
    fn configure(config: &[u8]) -> Result<Self, String>;

    /// Whether to keep a record.
    ///
    /// # Errors
    /// The record cannot be judged; what happens then was chosen when the plugin was attached.
    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String>;
}

/// What became of a slice's records.
#[derive(Debug, Default)]
pub struct Verdicts {
    verdicts: Vec<u8>,
    errors: Errors,
}

impl Verdicts {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Verdicts {
            verdicts: Vec::new(),
            errors: Errors::new(),
        }
    }

    /// Judges the records of a slice; forgets the slice before.
    pub fn judge<F: Filter>(&mut self, filter: &mut F, rows: &[u8], data: &[u8]) {
        self.verdicts.clear();
        self.errors.clear();
        let records = records(rows, data);
        self.verdicts.resize(records.len(), DROP);
        for (index, (record, verdict)) in records.zip(&mut self.verdicts).enumerate() {
            *verdict = match filter.keep(&record) {
                Ok(keep) => u8::from(keep),
                Err(reason) => {
                    self.errors.push(index, reason);
                    ERROR
                }
            };
        }
    }

    /// A byte for each record: 0 drops it, 1 keeps it, 2 is an error.
    #[must_use]
    pub fn verdicts(&self) -> &[u8] {
        &self.verdicts
    }

    /// Reasons of the errors.
    #[must_use]
    pub fn errors(&self) -> &Errors {
        &self.errors
    }
}

/// Exports a type that implements [`Filter`] as the component's filter.
#[doc(hidden)]
#[macro_export]
macro_rules! __filter {
    ($plugin:ty) => {
        const _: fn(&[u8]) -> Result<$plugin, String> = <$plugin as $crate::Filter>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__guest!($plugin, $crate::Filter, $crate::batch::Verdicts);

            #[unsafe(export_name = "filter")]
            unsafe extern "C" fn filter(
                rows: *mut u8,
                rows_length: usize,
                data: *mut u8,
                data_length: usize,
            ) -> *const usize {
                // SAFETY: the canonical ABI hands over lists that were allocated by `cabi_realloc`, and gives them up.
                let (rows, data) = unsafe {
                    (
                        $crate::abi::list(rows, rows_length),
                        $crate::abi::list(data, data_length),
                    )
                };
                GUEST.with_borrow_mut(|guest| guest.filter(&rows, &data))
            }
        };
    };
}

const DROP: u8 = 0;
const ERROR: u8 = 2;
