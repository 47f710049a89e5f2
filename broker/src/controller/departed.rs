//! Brokers that went out of service not long ago. Clients are told where they are reached for some time yet.
//!
//! A client that is told of a broker no more closes what it has for that broker, and librdkafka loses a second over a
//! partition that leaves such a broker for its new leader at the same moment. A Kafka cluster finds out later that a
//! broker is gone, so its clients are used to hear of brokers that do not answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::cluster::Image;
use millstream_core::ids::BrokerId;

/// When brokers went out of service, as this one saw it.
#[derive(Debug, Default)]
pub struct Departed(Mutex<BTreeMap<BrokerId, Instant>>);

impl Departed {
    /// One image follows another.
    pub fn see(&self, before: &Image, after: &Image, now: Instant) {
        let serves = |image: &Image, id| image.brokers().get(&id).is_some_and(|broker| !broker.fenced);
        let mut departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        departed.retain(|id, at| {
            let is_out = after.brokers().get(id).is_some_and(|broker| broker.fenced);
            is_out && now.saturating_duration_since(*at) < TOLD
        });
        let gone = after
            .brokers()
            .keys()
            .filter(|id| serves(before, **id) && !serves(after, **id));
        departed.extend(gone.map(|id| (*id, now)));
    }

    /// Whether clients are told of this broker although it is out of service.
    pub fn is_told(&self, id: BrokerId, now: Instant) -> bool {
        let departed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        departed
            .get(&id)
            .is_some_and(|at| now.saturating_duration_since(*at) < TOLD)
    }
}

/// How long clients are told of a broker that went: about what Kafka needs to find out that it did.
const TOLD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use millstream_core::cluster::{Broker, Command, FEATURE_LEVELS, apply};

    use super::*;

    #[test]
    fn clients_are_told_of_a_broker_for_a_while_after_it_went() {
        let one = BrokerId(1);
        let mut image = Image::default();
        let broker = Broker {
            id: one,
            peer: Some("127.0.0.1:1".to_owned()),
            features: FEATURE_LEVELS,
            ..Broker::default()
        };
        apply(&mut image, &Command::RegisterBroker { broker }).unwrap();
        let fenced = image.clone();
        let epoch = image.brokers()[&one].epoch;
        apply(&mut image, &Command::UnfenceBroker { id: one, epoch }).unwrap();
        let departed = Departed::default();
        let start = Instant::now();
        departed.see(&fenced, &image, start);
        assert!(!departed.is_told(one, start), "it serves, and is told anyway");
        departed.see(&image, &fenced, start);
        assert!(departed.is_told(one, start + TOLD / 2) && !departed.is_told(one, start + TOLD));
        departed.see(&fenced, &fenced, start + TOLD / 2);
        assert!(departed.is_told(one, start + TOLD / 2));
        departed.see(&fenced, &Image::default(), start + TOLD / 2);
        assert!(!departed.is_told(one, start + TOLD / 2), "it was removed");
    }
}
