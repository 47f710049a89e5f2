//! What plugins cost and what they said: counters by plugin, version and topic, and the last log lines by plugin.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::cluster::PluginVersion;
use millstream_core::ids::TopicName;
use serde::{Deserialize, Serialize};

use crate::context::now_ms;

/// What an attached plugin has done since the broker started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The plugin, by name.
    pub plugin: String,
    /// Its version.
    pub version: PluginVersion,
    /// The topic or view that it is attached to.
    pub topic: String,
    /// Calls.
    pub calls: u64,
    /// Records that it was given.
    pub records: u64,
    /// Records and calls that it failed on.
    pub errors: u64,
    /// Time spent in it.
    pub nanoseconds: u64,
    /// Why it failed the last time, if it did.
    pub last_error: Option<String>,
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: Cow<'static, str>,
    /// What.
    pub message: String,
}

/// The counters of one attached plugin.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    records: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    complained_ms: AtomicI64,
    last_error: Mutex<Option<String>>,
}

impl Counters {
    /// Counts a call.
    pub fn call(&self, records: usize, took: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Counts records, or a call, that failed, and keeps the reason: who reads a view is told none by Kafka's protocol.
    pub fn errors(&self, count: usize, reason: &str) {
        self.errors.fetch_add(count as u64, Ordering::Relaxed);
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(cut(reason, LINE_BYTES_MAX).to_owned());
    }

    /// Whether it is time again to write into the broker's log that the plugin fails.
    pub fn may_complain(&self) -> bool {
        let now = now_ms();
        let last = self.complained_ms.load(Ordering::Relaxed);
        now.saturating_sub(last) >= COMPLAINT_INTERVAL_MS
            && self
                .complained_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// All counters and log lines.
#[derive(Debug, Default)]
pub struct Ledger {
    counters: Mutex<BTreeMap<(String, PluginVersion, TopicName), Arc<Counters>>>,
    logs: Mutex<HashMap<String, VecDeque<LogLine>>>,
}

impl Ledger {
    /// The counters of a plugin on a topic, the same ones whenever it is attached again.
    pub fn counters(&self, plugin: &str, version: PluginVersion, topic: &TopicName) -> Arc<Counters> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= COUNTERS_KEPT_MAX {
            // Those that nothing counts with any more are of topics that are gone, as a rule.
            counters.retain(|_, counters| Arc::strong_count(counters) > 1);
        }
        counters
            .entry((plugin.to_owned(), version, topic.clone()))
            .or_default()
            .clone()
    }

    /// Forgets topics and plugins that are gone.
    pub fn forget(&self, is_topic: impl Fn(&TopicName) -> bool, is_plugin: impl Fn(&str) -> bool) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.retain(|(plugin, _, topic), _| is_topic(topic) && is_plugin(plugin));
        drop(counters);
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|plugin, _| is_plugin(plugin));
    }

    /// What every attached plugin has done.
    pub fn stats(&self) -> Vec<Stats> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = counters.iter().map(|((plugin, version, topic), counters)| Stats {
            plugin: plugin.clone(),
            version: *version,
            topic: topic.as_str().to_owned(),
            calls: counters.calls.load(Ordering::Relaxed),
            records: counters.records.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed),
            nanoseconds: counters.nanoseconds.load(Ordering::Relaxed),
            last_error: counters
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        });
        stats.collect()
    }

    /// Keeps a line that a plugin logged. Volume is bounded before it comes here: the runtime drops what is too much.
    pub fn note(&self, plugin: &str, level: &'static str, message: &str) {
        let line = LogLine {
            time_ms: now_ms(),
            level: level.into(),
            message: cut(message, LINE_BYTES_MAX).to_owned(),
        };
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = logs.entry(plugin.to_owned()).or_default();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The last lines of a plugin, oldest first.
    pub fn log(&self, plugin: &str) -> Vec<LogLine> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(plugin).into_iter().flatten().cloned().collect()
    }
}

/// The front of `text`, at most `bytes` of it, up to the end of a character.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Counters from which on those go that are not in use.
const COUNTERS_KEPT_MAX: usize = 10_000;
/// Log lines of one plugin that are kept, and the longest part of a line.
const LINES_MAX: usize = 200;
const LINE_BYTES_MAX: usize = 1024;
/// Pause between two complaints of the broker's log about the same plugin on the same topic.
const COMPLAINT_INTERVAL_MS: i64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let ledger = Ledger::default();
        for n in 0..LINES_MAX + 5 {
            ledger.note("p", "info", &format!("line {n} {}", "ü".repeat(2000)));
        }
        let lines = ledger.log("p");
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines[0].message.starts_with("line 5 ü"));
        assert!(lines.iter().all(|line| line.message.len() <= LINE_BYTES_MAX));
        assert_eq!(ledger.log("q"), []);
    }

    #[test]
    fn counters_that_nothing_counts_with_do_not_pile_up() {
        let ledger = Ledger::default();
        let topic = |n: usize| TopicName::new(&format!("t{n}")).unwrap();
        let kept = ledger.counters("p", PluginVersion::FIRST, &topic(0));
        kept.errors(3, "no");
        for n in 1..3 * COUNTERS_KEPT_MAX {
            ledger.counters("p", PluginVersion::FIRST, &topic(n));
        }
        let stats = ledger.stats();
        assert!(stats.len() <= COUNTERS_KEPT_MAX);
        assert_eq!((stats[0].topic.as_str(), stats[0].errors), ("t0", 3));
    }

    #[test]
    fn counters_of_deleted_topics_go() {
        let ledger = Ledger::default();
        let topic = TopicName::new("t").unwrap();
        let counters = ledger.counters("p", PluginVersion::FIRST, &topic);
        counters.call(10, Duration::from_nanos(50));
        counters.errors(2, "no");
        assert!(counters.may_complain());
        assert!(!counters.may_complain());
        let stats = ledger.stats();
        assert_eq!(
            (
                stats[0].calls,
                stats[0].records,
                stats[0].errors,
                stats[0].nanoseconds
            ),
            (1, 10, 2, 50)
        );
        ledger.forget(|_| true, |_| true);
        assert_eq!(ledger.stats().len(), 1);
        ledger.forget(|_| false, |_| true);
        assert_eq!(ledger.stats(), []);
    }
}
