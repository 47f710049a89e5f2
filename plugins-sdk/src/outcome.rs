//! What functions that are plugins may return.

use std::fmt::Display;

/// What a function with one of the attributes may return: the thing itself, `()` of a transform, `bool` of a filter, `u32` of a
/// partitioner; or a `Result` of it, with any error that can be shown. Anything else does not compile:
///
/// ```compile_fail
/// use millstream_plugin::{Record, filter};
///
/// #[filter]
/// fn keep(record: &Record) -> Option<usize> {
///     record.value().map(<[u8]>::len)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "this plugin's function has to return `{T}` or `Result<{T}, E>`, not `{Self}`",
    label = "returns `{Self}`",
    note = "`E` is any error that can be shown, such as `String`"
)]
pub trait Outcome<T> {
    /// As the traits have it.
    ///
    /// # Errors
    /// It is one.
    fn into_result(self) -> Result<T, String>;
}

impl Outcome<()> for () {
    #[inline]
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl Outcome<bool> for bool {
    #[inline]
    fn into_result(self) -> Result<bool, String> {
        Ok(self)
    }
}

impl Outcome<u32> for u32 {
    #[inline]
    fn into_result(self) -> Result<u32, String> {
        Ok(self)
    }
}

impl<T, E: Display> Outcome<T> for Result<T, E> {
    #[inline]
    fn into_result(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// A function has no place to keep a configuration: one that is given is a mistake of whoever gives it.
///
/// # Errors
/// It is not empty.
pub fn no_configuration(config: &[u8]) -> Result<(), String> {
    match config {
        [] => Ok(()),
        _ => Err("this plugin takes no configuration".to_owned()),
    }
}
