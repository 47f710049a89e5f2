//! How fast a leader lets followers catch up that are not in sync (KIP-73), so that a move of partitions leaves
//! bandwidth to those that are, and to clients.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A bucket of bytes that fills at a rate. Whoever finds anything in it may take what it needs; what it owes then, the
/// next one waits for.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_s: AtomicU64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    bytes: f64,
    at: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        let (bytes, at) = (0.0, Instant::now());
        Self {
            bytes_per_s: AtomicU64::new(0),
            bucket: Mutex::new(Bucket { bytes, at }),
        }
    }
}

impl Throttle {
    /// Sets the rate; 0 for none.
    pub fn set(&self, bytes_per_s: u64) {
        self.bytes_per_s.store(bytes_per_s, Ordering::Relaxed);
    }

    /// The rate; 0 for none.
    pub fn rate(&self) -> u64 {
        self.bytes_per_s.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, or says how long to wait before asking again.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&self, bytes: usize, now: Instant) -> Result<(), Duration> {
        let rate = self.rate() as f64;
        if rate == 0.0 {
            return Ok(());
        }
        let mut bucket = self.bucket.lock().expect("no panic while the bucket is held");
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.bytes = (bucket.bytes + passed * rate).min(rate * BURST_S);
        bucket.at = bucket.at.max(now);
        if bucket.bytes < 0.0 {
            let wait = Duration::try_from_secs_f64(-bucket.bytes / rate);
            return Err(wait.unwrap_or(WAIT_MAX).clamp(WAIT_MIN, WAIT_MAX));
        }
        bucket.bytes -= bytes as f64;
        Ok(())
    }
}

/// Seconds of the rate that the bucket holds.
const BURST_S: f64 = 0.25;
/// Longest time before asking again: the rate may be raised meanwhile.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// Shortest time before asking again.
const WAIT_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_no_more_goes_than_the_rate_lets() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.take(1 << 30, start), Ok(()), "without a rate all goes");
        throttle.set(1_000_000);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match throttle.take(100_000, now) {
                Ok(()) => sent += 100_000,
                Err(wait) => now += wait,
            }
        }
        assert!((9_500_000..=10_600_000).contains(&sent), "{sent}");
    }
}
