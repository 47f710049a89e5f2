mod lexer;
mod parser;
mod predicate;
pub use parser::{LENGTH_MAX, NESTING_MAX, ParseError};
pub use predicate::Predicate;
