//! Transforms: rewrite records, drop them, or make several of one.

use crate::output::Output;
use crate::record::Record;
use crate::rows::records;

/// Rewrites records, drops them, or makes several of one. Export it with [`#[transform]`](macro@crate::transform) before the `impl`.
pub trait Transform: Sized {
    /// Reads the configuration, once and before the first record; empty if none was given.
    ///
    /// # Errors
    /// The configuration is not good. The reason is shown to whoever attaches the plugin.
    fn configure(config: &[u8]) -> Result<Self, String>;

    /// Tells `output` what becomes of a record; nothing drops it.
    ///
    /// # Errors
    /// The record cannot be transformed; what `output` was told of it is forgotten, and what happens then was chosen when the
    /// plugin was attached.
    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String>;
}

/// What became of a slice's records.
#[derive(Debug, Default)]
pub struct Rewritten {
    output: Output,
}

impl Rewritten {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Rewritten {
            output: Output::new(),
        }
    }

    /// Transforms the records of a slice; forgets the slice before.
    pub fn rewrite<T: Transform>(&mut self, transform: &mut T, rows: &[u8], data: &[u8]) {
        let records = records(rows, data);
        self.output.clear(records.len(), data.len());
        for (index, record) in records.enumerate() {
            self.output.begin(index);
            let result = transform.transform(&record, &mut self.output);
            self.output.end(result);
        }
    }

    /// What was made.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }
}

/// Exports a type that implements [`Transform`] as the component's transform.
#[doc(hidden)]
#[macro_export]
macro_rules! __transform {
    ($plugin:ty) => {
        const _: fn(&[u8]) -> Result<$plugin, String> = <$plugin as $crate::Transform>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__guest!($plugin, $crate::Transform, $crate::batch::Rewritten);

            #[unsafe(export_name = "transform")]
            unsafe extern "C" fn transform(
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
                GUEST.with_borrow_mut(|guest| guest.transform(&rows, &data))
            }
        };
    };
}
