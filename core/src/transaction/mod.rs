//! Transactions: what their coordinator decides and remembers.

mod record;

pub use record::{Record, RecordError, TransactionValue};
