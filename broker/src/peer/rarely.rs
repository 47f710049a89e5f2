//! Lines of the log that others cause, as often as they like: each reason is told once in a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a line through once in a while, for each reason, and counts those that it leaves out.
#[derive(Debug)]
pub struct Rarely {
    told: Mutex<BTreeMap<String, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl Rarely {
    /// Nothing was told yet.
    pub const fn new() -> Self {
        Self {
            told: Mutex::new(BTreeMap::new()),
        }
    }

    /// Whether a line for this reason is to be told now: then how many were left out since the last one.
    pub fn tells(&self, reason: &str, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Others choose what reasons hold: where there are too many, all further ones count as one.
        if told.len() >= REASONS_MAX && !told.contains_key(reason) {
            told.retain(|_, told| now.saturating_duration_since(told.at) < INTERVAL);
        }
        let reason = match told.len() >= REASONS_MAX && !told.contains_key(reason) {
            true => "",
            false => reason,
        };
        let Some(before) = told.get_mut(reason) else {
            told.insert(reason.to_owned(), Told { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(before.at) < INTERVAL {
            before.left_out += 1;
            return None;
        }
        before.at = now;
        Some(std::mem::take(&mut before.left_out))
    }
}

/// Time between two lines for the same reason.
const INTERVAL: Duration = Duration::from_secs(5);
/// Reasons that are told apart.
const REASONS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_in_a_while_with_the_number_of_those_left_out() {
        let (rarely, now) = (Rarely::new(), Instant::now());
        assert_eq!(rarely.tells("a", now), Some(0));
        assert_eq!(rarely.tells("b", now), Some(0));
        let soon = now + Duration::from_millis(10);
        assert_eq!([rarely.tells("a", soon), rarely.tells("a", soon)], [None, None]);
        assert_eq!(rarely.tells("a", now + INTERVAL), Some(2));
        assert_eq!(rarely.tells("a", now + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn reasons_without_end_are_told_as_one() {
        let (rarely, now) = (Rarely::new(), Instant::now());
        let told = (0..1000).filter(|n| rarely.tells(&n.to_string(), now).is_some());
        assert_eq!(told.count(), REASONS_MAX + 1);
        let later = now + INTERVAL;
        assert_eq!(rarely.tells("new", later), Some(0), "those are over");
        assert!(rarely.told.lock().unwrap().len() <= REASONS_MAX + 1);
    }
}
