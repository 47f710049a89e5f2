//! A member whose disk is full: others serve in its place until there is room.
//!
//! What runs out of room first are the partitions. The quorum's files may still find some at the end of a block, and a
//! broker that is heard would be put back into service, lead again, and fail again.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_core::cluster::Broker;
use millstream_storage::disk;

use super::cluster::{HAND_OVER_WAIT, Member};
use super::messages::{Answer, Node, Request};

impl Member {
    /// Looks whether there is room on the disk, until the broker ends.
    pub async fn watch_room(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut handed_over: Option<Instant> = None;
        loop {
            self.look_for_room().await;
            let is_due = handed_over.is_none_or(|at| at.elapsed() >= HAND_OVER_AGAIN);
            if self.is_full.load(Ordering::Relaxed) && self.is_leader() && is_due {
                handed_over = Some(Instant::now());
                self.quorum.hand_over(HAND_OVER_WAIT).await;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Looks whether there is room, if something found that there was none.
    pub(super) async fn look_for_room(&self) {
        let was_full = self.is_full.load(Ordering::Relaxed);
        if !was_full && !self.quorum.is_out_of_room() && !self.in_force.has_full_partitions() {
            return;
        }
        let directory = self.directory.clone();
        let found = tokio::task::spawn_blocking(move || is_full(&directory)).await;
        let is_full = found.unwrap_or(was_full);
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            self.beat.notify_one();
        }
    }

    /// Who leads the quorum, as other voters say: this broker's part in it stands still, and clients come here all the
    /// same.
    pub(super) async fn leader_by_others(&self) -> Option<Node> {
        let me = self.me.0 as u64;
        for (id, address) in self.voters().into_iter().filter(|(id, _)| *id != me) {
            match self.ask(id, &address, &Request::Quorum).await {
                Answer::Quorum(_) => return Some((id, address)),
                Answer::NotLeader(Some(leader)) if leader.0 != me => return Some(leader),
                _ => {}
            }
        }
        None
    }

    /// Whether the disk is full.
    pub fn is_out_of_room(&self) -> bool {
        self.quorum.is_out_of_room() || self.is_full.load(Ordering::Relaxed)
    }

    /// Whether the disk is full, and others are in service. The last one stays, so that what it holds can be read.
    pub(super) fn leaves_for_want_of_room(&self) -> bool {
        let serves = |broker: &Broker| broker.id != self.me && !broker.fenced;
        self.is_full.load(Ordering::Relaxed) && self.decided().brokers().values().any(serves)
    }
}

/// Whether there is no room for a batch of records. Blocks.
fn is_full(directory: &Path) -> bool {
    let probe = directory.join(PROBE);
    let written = std::fs::File::create(&probe).and_then(|mut file| file.write_all(&[0; PROBE_BYTES]));
    let _ = std::fs::remove_file(&probe);
    written.is_err_and(|error| disk::is_full(&error))
}

/// A file that shows whether there is room.
const PROBE: &str = "room.tmp";
/// Room that there is to be: for the largest batch that is allowed by default.
const PROBE_BYTES: usize = 1 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Where all disks are full, the voters do not pass the lead around all the time.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(10);
