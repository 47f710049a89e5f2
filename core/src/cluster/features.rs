//! Feature levels: what all brokers of a cluster must be able to do before any of them does it.

/// The lowest and highest feature level that this binary can run.
pub const FEATURE_LEVELS: (u16, u16) = (1, 1);
