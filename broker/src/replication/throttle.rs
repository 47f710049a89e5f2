//! A bound on bytes per second.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A bucket of bytes that fills at a rate. Whoever finds anything in it may take what it needs; what it owes then, the
/// next one waits for.
#[derive(Debug)]
pub(super) struct Throttle {
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

    /// Takes `bytes` from all of these, or from none of them and says how long to wait before asking again.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(throttles: &[&Self], bytes: usize, now: Instant) -> Result<(), Duration> {
        if let Some(longest) = throttles.iter().filter_map(|one| one.wait(now)).max() {
            return Err(longest);
        }
        throttles.iter().for_each(|one| one.owe(bytes));
        Ok(())
    }

    /// The time to wait until there is anything.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate()?;
        let mut bucket = self.bucket.lock().expect("no panic while the bucket is held");
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.bytes = (bucket.bytes + passed * rate).min(rate * BURST_S);
        bucket.at = bucket.at.max(now);
        if bucket.bytes >= 0.0 {
            return None;
        }
        let wait = Duration::try_from_secs_f64(-bucket.bytes / rate);
        Some(wait.unwrap_or(WAIT_MAX).clamp(WAIT_MIN, WAIT_MAX))
    }

    fn owe(&self, bytes: usize) {
        if self.rate().is_some() {
            let mut bucket = self.bucket.lock().expect("no panic while the bucket is held");
            bucket.bytes -= bytes as f64;
        }
    }

    fn rate(&self) -> Option<f64> {
        let rate = self.bytes_per_s.load(Ordering::Relaxed);
        (rate > 0).then_some(rate as f64)
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

    /// What goes through in ten seconds.
    fn sent(throttles: &[&Throttle]) -> usize {
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match Throttle::take(throttles, 100_000, now) {
                Ok(()) => sent += 100_000,
                Err(wait) => now += wait,
            }
        }
        sent
    }

    #[test]
    fn over_time_no_more_goes_than_the_lowest_rate_lets() {
        let (slow, slower, free) = (Throttle::default(), Throttle::default(), Throttle::default());
        let all = [&free, &slow, &slower];
        assert_eq!(
            Throttle::take(&all, 1 << 30, Instant::now()),
            Ok(()),
            "without a rate all goes"
        );
        slow.set(1_000_000);
        let bytes = sent(&all);
        assert!((9_500_000..=10_600_000).contains(&bytes), "{bytes}");
        slower.set(500_000);
        let bytes = sent(&[&free, &slower]);
        assert!((4_700_000..=5_400_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn who_waits_for_one_takes_nothing_from_another() {
        let (slow, fast) = (Throttle::default(), Throttle::default());
        slow.set(1_000);
        fast.set(1_000_000);
        let now = Instant::now();
        assert_eq!(Throttle::take(&[&slow, &fast], 100_000, now), Ok(()));
        for _ in 0..100 {
            assert!(Throttle::take(&[&slow, &fast], 100_000, now).is_err());
        }
        let later = now + Duration::from_millis(110);
        assert_eq!(Throttle::take(&[&fast], 1, later), Ok(()));
    }
}
