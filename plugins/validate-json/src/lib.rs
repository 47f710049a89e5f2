//! Filter for a topic's ingest: refuses records that are not JSON, lack a required field, or have a field of the wrong type.

mod validation;

pub use validation::{Expected, Invalid, Validation};
