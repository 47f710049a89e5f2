//! A broker's lease: as long as the quorum's leader has answered it not long ago, the cluster counts on it.
//!
//! What is acknowledged with `acks=all` does not depend on it: that waits for the in-sync replicas, who follow the leader
//! that the quorum names. The lease keeps a broker that is cut off from letting its clients wait for what cannot come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long this broker may act as a member of the cluster.
#[derive(Debug)]
pub struct Lease {
    started: Instant,
    /// Until nobody else is made leader in its place, in milliseconds since `started`.
    until_ms: AtomicU64,
}

impl Lease {
    /// The lease of a lone broker, which has no end.
    pub fn without_end() -> Self {
        Self {
            started: Instant::now(),
            until_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// The lease of a broker that nobody has heard of yet.
    pub fn ended() -> Self {
        Self {
            started: Instant::now(),
            until_ms: AtomicU64::new(0),
        }
    }

    /// Whether this broker may act as a member of the cluster now. While the quorum elects a leader, nobody can be heard
    /// and nobody is fenced: that is no reason for the whole cluster to stop, so it may do so a little longer than it
    /// can be sure.
    pub fn is_valid(&self) -> bool {
        self.lasts(ELECTION_WAIT)
    }

    /// Whether the cluster has not given up on this broker, as far as its clock can tell: nobody leads in its place.
    pub fn is_certain(&self) -> bool {
        self.lasts(Duration::ZERO)
    }

    fn lasts(&self, beyond: Duration) -> bool {
        match self.until_ms.load(Ordering::Relaxed) {
            0 => false,
            u64::MAX => true,
            until_ms => self.since_start(Instant::now()) < until_ms + beyond.as_millis() as u64,
        }
    }

    /// A heartbeat that was sent at `sent` was answered.
    pub(crate) fn renew(&self, sent: Instant, length: Duration) {
        let until_ms = self.since_start(sent) + length.as_millis() as u64;
        self.until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// The cluster does not count on this broker any more.
    pub(crate) fn end(&self) {
        self.until_ms.store(0, Ordering::Relaxed);
    }

    fn since_start(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }
}

/// Time in which the quorum has a leader again, usually.
const ELECTION_WAIT: Duration = Duration::from_millis(1000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_from_the_moment_that_its_heartbeat_was_sent() {
        let lease = Lease::ended();
        assert!(!lease.is_valid());
        lease.renew(Instant::now(), Duration::from_secs(60));
        assert!(lease.is_valid());
        lease.end();
        assert!(!lease.is_valid());
        lease.renew(lease.started, Duration::ZERO);
        assert!(!lease.is_valid());
        assert!(Lease::without_end().is_certain());
    }

    #[test]
    fn a_broker_acts_on_during_an_election_and_is_not_certain_meanwhile() {
        let lease = Lease::ended();
        lease.renew(Instant::now(), Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(5));
        assert!(lease.is_valid() && !lease.is_certain());
    }
}
