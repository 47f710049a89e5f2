//! Deployed transforms: plugins that run from topics to topics.
//!
//! What they are and how they are deployed and changed is here; which broker runs which partition is worked out by
//! [`crate::transform::assign_by_cost`], in the same command that changes what it depends on.

mod change;
mod cycles;
mod deploy;
mod refusal;
mod settle;
mod types;
mod weigh;

pub(super) use change::change;
pub(super) use cycles::{check_dead_letters_of, check_view_source};
pub(super) use deploy::{delete, deploy};
pub use refusal::TransformRefusal;
pub(super) use settle::Watch;
pub use types::{
    Assigned, Canary, Guarantee, Release, Start, Transform, TransformChange, TransformSink, TransformSpec,
    Trial, is_reserved, transform_group,
};
