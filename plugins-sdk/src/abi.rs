//! What crosses the boundary of the component, by the canonical ABI of the component model: lists are an address and a
//! length, and what a call returns lies in memory at the address that it gives. All of this is for the macros.
//!
//! What a call returns stays the guest's: it lies in buffers that the next call uses again, so that a call costs
//! no allocation but those of the lists that the host hands over, and no `post-return` function is needed.

use crate::errors::Errors;
use crate::filter::{Filter, Verdicts};
use crate::log::{Level, log};
use crate::partitioner::{Partitioner, Targets};
use crate::transform::{Rewritten, Transform};

/// A plugin and its last answer.
#[derive(Debug)]
pub struct Guest<P, A> {
    plugin: Option<P>,
    answer: A,
    /// The reason for which the configuration was refused.
    refusal: String,
    /// Errors as the ABI has them: row, address and length of the reason.
    errors: Vec<[usize; 3]>,
    /// What the last call returned.
    returned: [usize; 4],
}

impl<P, A> Guest<P, A> {
    /// A plugin that is not configured yet.
    #[must_use]
    pub const fn new(answer: A) -> Self {
        Guest {
            plugin: None,
            answer,
            refusal: String::new(),
            errors: Vec::new(),
            returned: [0; 4],
        }
    }

    /// Makes the plugin, and gives the address of a `result<_, string>`.
    pub fn configure(&mut self, read: fn(&[u8]) -> Result<P, String>, config: &[u8]) -> *const usize {
        // Where panics abort, as they do on wasm32, this is all that tells of one.
        std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
        self.returned = [0; 4];
        match read(config) {
            Ok(plugin) => self.plugin = Some(plugin),
            Err(reason) => {
                self.refusal = reason;
                self.returned = [1, address(self.refusal.as_bytes()), self.refusal.len(), 0];
            }
        }
        self.returned.as_ptr()
    }

    /// Sets what is returned to a list of bytes and a list of errors.
    fn answer(plugin_errors: &Errors, bytes: &[u8], errors: &mut Vec<[usize; 3]>) -> [usize; 4] {
        errors.clear();
        errors.extend(
            plugin_errors
                .listed()
                .iter()
                .map(|(row, reason)| [*row as usize, address(reason.as_bytes()), reason.len()]),
        );
        [address(bytes), bytes.len(), address(errors), errors.len()]
    }
}

impl<F: Filter> Guest<F, Verdicts> {
    /// Judges a slice, and gives the address of a `filtered`.
    pub fn filter(&mut self, rows: &[u8], data: &[u8]) -> *const usize {
        let filter = self.plugin.as_mut().expect(CONFIGURED);
        self.answer.judge(filter, rows, data);
        self.returned = Self::answer(self.answer.errors(), self.answer.verdicts(), &mut self.errors);
        self.returned.as_ptr()
    }
}

impl<P: Partitioner> Guest<P, Targets> {
    /// Chooses the partitions of a slice, and gives the address of a `partitioned`.
    pub fn partition(&mut self, rows: &[u8], data: &[u8], partitions: u32) -> *const usize {
        let partitioner = self.plugin.as_mut().expect(CONFIGURED);
        self.answer.choose(partitioner, rows, data, partitions);
        self.returned = Self::answer(self.answer.errors(), self.answer.targets(), &mut self.errors);
        self.returned.as_ptr()
    }
}

impl<T: Transform> Guest<T, Rewritten> {
    /// Transforms a slice, and gives the address of a `transformed`.
    pub fn transform(&mut self, rows: &[u8], data: &[u8]) -> *const usize {
        let transform = self.plugin.as_mut().expect(CONFIGURED);
        self.answer.rewrite(transform, rows, data);
        let (rows, data) = (self.answer.output().packed_rows(), self.answer.output().data());
        self.returned = [address(rows), rows.len(), address(data), data.len()];
        self.returned.as_ptr()
    }
}

fn address<T>(list: &[T]) -> usize {
    list.as_ptr().expose_provenance()
}

/// Takes over a list of bytes that the host handed over.
///
/// # Safety
/// The list was allocated by [`realloc`] with this length and an alignment of 1, and nobody else uses it.
#[allow(unsafe_code)]
#[must_use]
pub unsafe fn list(address: *mut u8, length: usize) -> Vec<u8> {
    // SAFETY: the caller promises it; `realloc` allocates as `Vec` does, and gives an aligned address for no bytes.
    unsafe { Vec::from_raw_parts(address, length, length) }
}

/// Allocates or grows memory for the host, as `cabi_realloc` of the canonical ABI. It panics where there is no memory.
///
/// # Safety
/// `old` was allocated by this function with `old_length` and `align`, unless `old_length` is 0; `align` is a power of two,
/// and `length` is at least `old_length`.
#[allow(unsafe_code)]
#[must_use]
pub unsafe fn realloc(old: *mut u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    use std::alloc::{Layout, alloc, handle_alloc_error, realloc};

    if length == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    let layout = Layout::from_size_align(length, align).expect("the host asks for what fits into memory");
    let new = if old_length == 0 {
        // SAFETY: the length is not 0.
        unsafe { alloc(layout) }
    } else {
        // SAFETY: the caller promises that the old memory has this layout, which was a valid one, and the length is not 0.
        unsafe { realloc(old, Layout::from_size_align_unchecked(old_length, align), length) }
    };
    if new.is_null() {
        handle_alloc_error(layout);
    }
    new
}

/// The parts of a component that all worlds have: the plugin, its configuration, and memory for the host.
#[doc(hidden)]
#[macro_export]
macro_rules! __guest {
    ($plugin:ty, $role:path, $answer:ty) => {
        ::std::thread_local! {
            static GUEST: ::std::cell::RefCell<$crate::abi::Guest<$plugin, $answer>> =
                const { ::std::cell::RefCell::new($crate::abi::Guest::new(<$answer>::new())) };
        }

        #[unsafe(export_name = "configure")]
        unsafe extern "C" fn configure(config: *mut u8, config_length: usize) -> *const usize {
            // SAFETY: the canonical ABI hands over a list that was allocated by `cabi_realloc`, and gives it up.
            let config = unsafe { $crate::abi::list(config, config_length) };
            GUEST.with_borrow_mut(|guest| guest.configure(<$plugin as $role>::configure, &config))
        }

        #[unsafe(export_name = "cabi_realloc")]
        unsafe extern "C" fn cabi_realloc(
            old: *mut u8,
            old_length: usize,
            align: usize,
            length: usize,
        ) -> *mut u8 {
            // SAFETY: the canonical ABI asks for what this function asks for.
            unsafe { $crate::abi::realloc(old, old_length, align, length) }
        }
    };
}

const CONFIGURED: &str = "the host configures a plugin before it hands over records";
