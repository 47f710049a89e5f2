mod validation;
pub use validation::{Expected, Invalid, Validation};
