//! Transform: hides values in JSON records (redacted, hashed, or all but the last characters) and leaves every other byte alone.
//! A record that is not JSON is an error: nothing passes unmasked.

mod masking;

pub use masking::Masking;
