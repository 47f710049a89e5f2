//! How a release on trial does: on all partitions that run it together.
//!
//! Each of these partitions looks, when some of its own records failed and when the trial's time is over; what one sees
//! depends on all. Both wishes that come of it name the release that they mean, so that it does no harm if several have one.

use std::sync::Arc;

use millstream_core::cluster::{TransformChange, Trial};

use super::report::{PartitionReport, reports};
use super::tally::State;
use super::task::Task;
use crate::context::Context;

/// What is known of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    errors: u64,
    records: u64,
    /// Partitions on which records failed.
    failed_on: Vec<String>,
    /// Whether all partitions that run the release say how they are.
    is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    TakenBack,
    Promoted,
}

/// Asks all brokers how the release does that `task` runs on trial; what is to become of it, if that can be said.
pub async fn judge(
    context: &Arc<Context>,
    task: &Task,
    trial: Trial,
    is_over: bool,
) -> Option<TransformChange> {
    let image = context.controller.image();
    let transform = image.transform(&task.name)?;
    let canary = transform.canary.as_ref()?;
    if canary.release.generation != task.generation {
        return None;
    }
    let seen = Seen::of(&reports(context, transform).await);
    let change = match seen.verdict(&trial, is_over)? {
        Verdict::TakenBack => TransformChange::Rollback {
            generation: Some(task.generation),
            reason: Some(seen.reason()),
        },
        Verdict::Promoted => TransformChange::Promote {
            generation: task.generation,
        },
    };
    Some(change)
}

impl Seen {
    fn of(reports: &[PartitionReport]) -> Self {
        let tried = || reports.iter().filter(|report| report.canary);
        let failed = tried().filter(|report| report.errors > 0);
        Self {
            errors: tried().map(|report| report.errors).sum(),
            records: tried().map(|report| report.records_in).sum(),
            failed_on: failed
                .map(|report| format!("{}-{}", report.topic, report.partition))
                .collect(),
            is_whole: tried().all(|report| report.state == State::Running),
        }
    }

    fn verdict(&self, trial: &Trial, is_over: bool) -> Option<Verdict> {
        let is_known = is_over || self.records >= JUDGED_RECORDS_MIN;
        let is_bad = self.errors * 1000 > u64::from(trial.errors_permille_max) * self.records;
        match is_known && is_bad {
            true => Some(Verdict::TakenBack),
            false => (is_over && self.is_whole).then_some(Verdict::Promoted),
        }
    }

    fn reason(&self) -> String {
        let Self { errors, records, .. } = self;
        let named = self.failed_on.len().min(NAMED_MAX);
        let (named, others) = self.failed_on.split_at(named);
        let others = match others.len() {
            0 => String::new(),
            others => format!(" and {others} more partitions"),
        };
        format!(
            "{errors} of {records} records failed on {}{others}",
            named.join(", ")
        )
    }
}

/// Records that a release on trial must have seen before its errors count while its time is not over.
const JUDGED_RECORDS_MIN: u64 = 100;
/// Partitions that a reason names.
const NAMED_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const TRIAL: Trial = Trial {
        percent: 10,
        errors_permille_max: 10,
        promote_after_ms: 1000,
    };

    fn seen(errors: u64, records: u64) -> Seen {
        Seen {
            errors,
            records,
            failed_on: Vec::new(),
            is_whole: true,
        }
    }

    #[test]
    fn the_bound_is_that_of_all_records_together() {
        for (errors, records, is_over, expected) in [
            (1, 99, false, None),
            (1, 100, false, None),
            (2, 100, false, Some(Verdict::TakenBack)),
            (0, 0, true, Some(Verdict::Promoted)),
            (1, 3, true, Some(Verdict::TakenBack)),
            (1, 100, true, Some(Verdict::Promoted)),
        ] {
            let verdict = seen(errors, records).verdict(&TRIAL, is_over);
            assert_eq!(verdict, expected, "{errors} of {records}");
        }
    }

    #[test]
    fn nothing_is_promoted_before_all_of_it_is_seen() {
        let partly = Seen {
            is_whole: false,
            ..seen(0, 1000)
        };
        assert_eq!(partly.verdict(&TRIAL, true), None);
        let bad = Seen {
            errors: 100,
            ..partly
        };
        assert_eq!(bad.verdict(&TRIAL, false), Some(Verdict::TakenBack));
    }
}
