//! The guard: decides, on the quorum's leader, which brokers are out of service. It hears their heartbeats and gives
//! commands; what these do to partitions is the image's affair.
//!
//! Three clocks must agree that a broker is gone: the leader's own (it has led for a lease, or the broker led before it
//! and fell silent long enough for an election), the broker's (no heartbeat for a lease), and that the leader itself did
//! not stand still meanwhile, for then the silence was its own. Where a process is known to have ended, nothing is waited
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millstream_core::cluster::{Broker, Command, Image};
use millstream_core::ids::BrokerId;

use super::messages::{Heartbeat, Pulse};

/// What the quorum's leader knows of the brokers' lives.
#[derive(Debug)]
pub struct Guard {
    lease: Duration,
    term: Option<Term>,
}

/// What it knows since it leads.
#[derive(Debug)]
struct Term {
    since: Instant,
    looked: Instant,
    brokers: BTreeMap<BrokerId, Seen>,
    /// Whoever led before, if it is another one.
    former: Option<BrokerId>,
    /// Those whose process is known to have ended, until they are heard again.
    gone: BTreeSet<BrokerId>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    heartbeat: Heartbeat,
    /// Version of the image that must be in force there before it serves again.
    behind: u64,
}

impl Guard {
    /// Knows nobody; a broker may be silent for `lease`.
    pub fn new(lease: Duration) -> Self {
        Self { lease, term: None }
    }

    /// This broker leads the quorum from now on, after `former`. Everybody has a lease to be heard.
    pub fn begin(&mut self, former: Option<BrokerId>, now: Instant) {
        self.term = Some(Term {
            since: now,
            looked: now,
            brokers: BTreeMap::new(),
            former,
            gone: BTreeSet::new(),
        });
    }

    /// This broker leads no more.
    pub fn end(&mut self) {
        self.term = None;
    }

    /// Whether it leads.
    pub fn is_on_duty(&self) -> bool {
        self.term.is_some()
    }

    /// A broker gave a sign of life.
    pub fn hear(&mut self, id: BrokerId, heartbeat: Heartbeat, image: &Image, now: Instant) -> Pulse {
        let Some(term) = &mut self.term else {
            return Pulse::NotLeader(None);
        };
        let known = image
            .brokers()
            .get(&id)
            .filter(|known| is_life(known, &heartbeat));
        let Some(known) = known else {
            return Pulse::Unknown;
        };
        let behind = match term.brokers.get(&id) {
            Some(seen) if seen.heartbeat.epoch == heartbeat.epoch => seen.behind,
            // It was fenced before this term, if it is: at this version or an earlier one.
            _ => image.version(),
        };
        let seen = Seen {
            at: now,
            heartbeat,
            behind,
        };
        term.brokers.insert(id, seen);
        term.gone.remove(&id);
        Pulse::Heard { fenced: known.fenced }
    }

    /// A broker's process has ended: it is not waited for. True if that is news.
    pub fn lose(&mut self, id: BrokerId) -> bool {
        self.term.as_mut().is_some_and(|term| term.gone.insert(id))
    }

    /// What is to be done about the brokers of the image now.
    pub fn decide(&mut self, image: &Image, now: Instant) -> Vec<Command> {
        let Some(term) = &mut self.term else {
            return Vec::new();
        };
        let stood_still = now.saturating_duration_since(term.looked);
        term.looked = now;
        if stood_still > STANDSTILL {
            term.since += stood_still;
            term.brokers.values_mut().for_each(|seen| seen.at += stood_still);
        }
        let decide = |broker: &Broker| decide_on(term, broker, self.lease, now);
        image.brokers().values().filter_map(decide).collect()
    }

    /// A broker was fenced, by the command that led to this version: it is to know that before it serves again.
    pub fn fenced(&mut self, id: BrokerId, version: u64) {
        if let Some(seen) = self.term.as_mut().and_then(|term| term.brokers.get_mut(&id)) {
            seen.behind = version;
        }
    }
}

fn decide_on(term: &Term, broker: &Broker, lease: Duration, now: Instant) -> Option<Command> {
    let (id, epoch) = (broker.id, broker.epoch);
    // A broker that was alone before this is of a cluster is fenced, and has no other life.
    let seen = term
        .brokers
        .get(&id)
        .filter(|seen| is_life(broker, &seen.heartbeat));
    let silent = match seen {
        Some(seen) => now.saturating_duration_since(seen.at),
        None => now.saturating_duration_since(term.since),
    };
    // Whoever led before was silent for an election already.
    let was_deposed = seen.is_none() && term.former == Some(id);
    let patience = if was_deposed { lease.min(DEPOSED) } else { lease };
    let is_gone = silent > patience || term.gone.contains(&id);
    let wants_to_stop = seen.is_some_and(|seen| seen.heartbeat.wants_to_stop);
    if !broker.fenced {
        return (is_gone || wants_to_stop).then_some(Command::FenceBroker { id, epoch });
    }
    let has_caught_up = seen.is_some_and(|seen| seen.heartbeat.version >= seen.behind.max(epoch));
    (has_caught_up && !is_gone && !wants_to_stop).then_some(Command::UnfenceBroker { id, epoch })
}

fn is_life(broker: &Broker, heartbeat: &Heartbeat) -> bool {
    (broker.epoch, broker.incarnation) == (heartbeat.epoch, heartbeat.incarnation)
}

/// How long whoever led the quorum before may stay silent under the next leader: its heartbeats come every tenth of a
/// second, and it hears of the election at once.
const DEPOSED: Duration = Duration::from_millis(150);
/// A guard that does not look around for so long stood still itself.
const STANDSTILL: Duration = Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use millstream_core::cluster;

    use super::*;

    struct Scene {
        image: Image,
        guard: Guard,
        start: Instant,
        now: Instant,
    }

    impl Scene {
        fn new(brokers: i32, former: Option<i32>) -> Self {
            let start = Instant::now();
            let mut scene = Self {
                image: Image::default(),
                guard: Guard::new(Duration::from_millis(600)),
                start,
                now: start,
            };
            scene.apply(&Command::Bootstrap {
                cluster_id: "orders".to_owned(),
                image: None,
            });
            for id in (1..=brokers).map(BrokerId) {
                scene.apply(&Command::RegisterBroker {
                    broker: Broker {
                        id,
                        peer: Some("127.0.0.1:1".to_owned()),
                        incarnation: 7,
                        features: cluster::FEATURE_LEVELS,
                        ..Broker::default()
                    },
                });
            }
            scene.guard.begin(former.map(BrokerId), start);
            scene
        }

        fn apply(&mut self, command: &Command) {
            cluster::apply(&mut self.image, command).unwrap();
            if let Command::FenceBroker { id, .. } = command {
                self.guard.fenced(*id, self.image.version());
            }
        }

        fn life(&self, id: i32) -> Heartbeat {
            Heartbeat {
                incarnation: 7,
                epoch: self.image.brokers()[&BrokerId(id)].epoch,
                version: self.image.version(),
                wants_to_stop: false,
            }
        }

        fn fenced_at(&mut self, id: i32) -> bool {
            let commands = self.guard.decide(&self.image, self.now);
            let fences = |command: &Command| matches!(command, Command::FenceBroker { id: other, .. } if other.0 == id);
            commands.iter().any(fences)
        }

        fn hear(&mut self, id: i32) {
            let heartbeat = self.life(id);
            let pulse = self.guard.hear(BrokerId(id), heartbeat, &self.image, self.now);
            assert!(matches!(pulse, Pulse::Heard { .. }));
        }

        /// Time passes until `ms` after the start; those who `live` are heard meanwhile. What was done is told.
        fn until(&mut self, ms: u64, live: &[i32]) -> Vec<String> {
            let mut done = Vec::new();
            while self.now < self.start + Duration::from_millis(ms) {
                self.now += Duration::from_millis(50);
                live.iter().for_each(|id| self.hear(*id));
                for command in self.guard.decide(&self.image, self.now) {
                    let at = (self.now - self.start).as_millis();
                    match &command {
                        Command::FenceBroker { id, .. } => done.push(format!("{at}: fence {id}")),
                        Command::UnfenceBroker { id, .. } => done.push(format!("{at}: unfence {id}")),
                        other => panic!("{other:?}"),
                    }
                    self.apply(&command);
                }
            }
            done
        }
    }

    #[test]
    fn brokers_serve_once_they_know_the_image_and_until_they_are_silent_for_a_lease() {
        let mut scene = Scene::new(3, None);
        assert_eq!(
            scene.until(1000, &[1, 2, 3]),
            ["50: unfence 1", "50: unfence 2", "50: unfence 3"]
        );
        assert_eq!(scene.until(3000, &[1, 3]), ["1650: fence 2"]);
        assert_eq!(scene.until(4000, &[1, 2, 3]), ["3050: unfence 2"]);
    }

    #[test]
    fn a_broker_that_was_fenced_must_know_it_before_it_serves_again() {
        let mut scene = Scene::new(2, None);
        scene.until(100, &[1, 2]);
        let before = scene.life(2);
        assert_eq!(scene.until(1000, &[1]), ["750: fence 2"]);
        scene.guard.hear(BrokerId(2), before, &scene.image, scene.now);
        assert_eq!(scene.until(1100, &[1]), Vec::<String>::new());
        assert_eq!(scene.until(1200, &[1, 2]), ["1150: unfence 2"]);
    }

    #[test]
    fn whoever_led_before_is_fenced_soon_and_the_others_have_a_lease_to_be_heard() {
        let mut scene = Scene::new(3, None);
        scene.until(100, &[1, 2, 3]);
        scene.guard.begin(Some(BrokerId(1)), scene.now);
        assert_eq!(scene.until(2000, &[2]), ["300: fence 1", "750: fence 3"]);
    }

    #[test]
    fn whoever_wants_to_stop_is_fenced_and_stays_so() {
        let mut scene = Scene::new(2, None);
        scene.until(100, &[1, 2]);
        let leaving = Heartbeat {
            wants_to_stop: true,
            ..scene.life(2)
        };
        scene.guard.hear(BrokerId(2), leaving, &scene.image, scene.now);
        assert_eq!(scene.until(150, &[1]), ["150: fence 2"]);
        let leaving = Heartbeat {
            version: scene.image.version(),
            ..leaving
        };
        scene.guard.hear(BrokerId(2), leaving, &scene.image, scene.now);
        assert_eq!(scene.until(600, &[1]), Vec::<String>::new());
    }

    #[test]
    fn a_guard_that_stood_still_blames_nobody_else_and_another_life_is_unknown() {
        let mut scene = Scene::new(2, None);
        scene.until(100, &[1, 2]);
        scene.now += Duration::from_secs(5);
        assert_eq!(scene.guard.decide(&scene.image, scene.now), []);
        let other = Heartbeat {
            incarnation: 8,
            ..scene.life(1)
        };
        let pulse = scene.guard.hear(BrokerId(1), other, &scene.image, scene.now);
        assert_eq!(pulse, Pulse::Unknown);
    }

    #[test]
    fn a_broker_whose_process_ended_is_fenced_at_once_unless_it_is_heard_again() {
        let mut scene = Scene::new(2, None);
        scene.until(300, &[1, 2]);
        assert!(!scene.fenced_at(2));
        assert!(scene.guard.lose(BrokerId(2)) && !scene.guard.lose(BrokerId(2)));
        assert!(scene.fenced_at(2) && !scene.fenced_at(1));
        scene.hear(2);
        assert!(!scene.fenced_at(2));
    }
}
