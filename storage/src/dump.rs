//! Describes segment files.
