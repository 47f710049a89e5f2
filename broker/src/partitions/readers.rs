//! Fetches that wait until a partition has more for them.

use std::sync::{Arc, Weak};

use millstream_core::ids::Offset;
use tokio::sync::Notify;

/// Those of one partition. Each is woken once, and comes again if that was not enough.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<Reader>);

#[derive(Debug)]
struct Reader {
    notify: Weak<Notify>,
    /// The last stable offset that it has seen, if it waits for another one; else it waits for whatever is safe.
    stable: Option<Offset>,
}

impl Readers {
    /// Adds one that waits for the high watermark to move, or for the last stable offset to become another than `stable`.
    pub fn add(&mut self, reader: &Arc<Notify>, stable: Option<Offset>) {
        if self.0.len() >= READERS_PRUNED_AFTER {
            self.0.retain(|reader| reader.notify.strong_count() > 0);
        }
        self.0.push(Reader {
            notify: Arc::downgrade(reader),
            stable,
        });
    }

    /// The high watermark has moved, and the last stable offset is `last_stable` now.
    pub fn wake_where_more_is(&mut self, last_stable: Offset) {
        let has_more = |reader: &mut Reader| reader.stable != Some(last_stable);
        self.0.extract_if(.., has_more).for_each(Reader::wake);
    }

    /// Wakes all: the partition is not what it was.
    pub fn wake_all(&mut self) {
        self.0.drain(..).for_each(Reader::wake);
    }
}

impl Reader {
    fn wake(self) {
        if let Some(notify) = self.notify.upgrade() {
            notify.notify_one();
        }
    }
}

/// Number of waiting readers from which on those that have gone are looked for.
const READERS_PRUNED_AFTER: usize = 64;
