//! Whatever clients do, whatever is lost: no partition has two owners, and in the end each has one.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    /// A heartbeat; its answer may be lost, and its records may fail to be written.
    Beat {
        who: usize,
        fate: Fate,
    },
    Wants {
        who: usize,
        what: usize,
    },
    Leave {
        who: usize,
        pauses: bool,
    },
    /// The client starts anew under another id.
    Restart {
        who: usize,
    },
    Topics {
        sizes: [i32; 3],
    },
    Pass {
        ms: i64,
    },
    CoordinatorRestarts,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Heard,
    Lost,
    NotWritten,
}

fn any_event() -> impl Strategy<Value = Event> {
    let who = 0..4_usize;
    let fate = prop_oneof![6 => Just(Fate::Heard), 1 => Just(Fate::Lost), 1 => Just(Fate::NotWritten)];
    prop_oneof![
        12 => (who.clone(), fate).prop_map(|(who, fate)| Event::Beat { who, fate }),
        2 => (who.clone(), 0..WANTS.len()).prop_map(|(who, what)| Event::Wants { who, what }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, pauses)| Event::Leave { who, pauses }),
        1 => who.prop_map(|who| Event::Restart { who }),
        1 => (0..3_i32, 0..5_i32, 0..2_i32).prop_map(|(a, b, c)| Event::Topics { sizes: [a, b, c] }),
        2 => (0..30_000_i64).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::CoordinatorRestarts),
    ]
}

struct Run {
    world: World,
    clients: Vec<Client>,
    incarnations: usize,
    names: Vec<(&'static str, i32)>,
}

impl Run {
    fn new() -> Self {
        let names = vec![("ta", 2), ("tb", 4), ("c", 1)];
        let client = |n: usize| Client {
            instance: (n == 0).then(|| "fixed".to_owned()),
            ..Client::new(&format!("m{n}"), &["ta", "tb"])
        };
        Self {
            world: World::new(&names),
            clients: (0..4).map(client).collect(),
            incarnations: 0,
            names,
        }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Beat { who, fate } => self.beat(who, fate),
            Event::Wants { who, what } => {
                let (topics, pattern, assignor) = WANTS[what];
                let client = &mut self.clients[who];
                client.topics = topics.iter().map(|t| (*t).to_owned()).collect();
                client.pattern = pattern.map(str::to_owned);
                client.assignor = assignor.map(str::to_owned);
            }
            Event::Leave { who, pauses } => {
                let pauses = pauses && self.clients[who].instance.is_some();
                let epoch = if pauses { PAUSE_EPOCH } else { LEAVE_EPOCH };
                let _ = self.clients[who].leave(&mut self.world, epoch);
            }
            Event::Restart { who } => {
                self.incarnations += 1;
                let client = &mut self.clients[who];
                client.forget();
                client.id = format!("m{who}-{}", self.incarnations);
            }
            Event::Topics { sizes } => {
                for (name, size) in self.names.iter_mut().zip(sizes) {
                    name.1 = size;
                }
                let there: Vec<_> = self.names.iter().copied().filter(|(_, size)| *size > 0).collect();
                self.world.change_topics(&there);
            }
            Event::Pass { ms } => self.world.pass(ms),
            Event::CoordinatorRestarts => self.world = self.world.restarted(),
        }
    }

    fn beat(&mut self, who: usize, fate: Fate) {
        let request = self.clients[who].request();
        match fate {
            Fate::Heard => {
                let answer = self.world.beat(&request);
                self.clients[who].hear(&answer);
            }
            Fate::Lost => {
                let _ = self.world.beat(&request);
                // It says everything again.
                self.clients[who].said = None;
            }
            Fate::NotWritten => {
                let (answer, step) = self.world.groups.consumer_heartbeat(self.world.now_ms, &request);
                if step.records.is_empty() {
                    self.clients[who].hear(&answer);
                } else {
                    self.clients[who].said = None;
                }
            }
        }
    }

    fn check(&self) {
        let Some(group) = self.world.groups.describe_consumer(GROUP) else {
            return;
        };
        let is_member =
            |client: &&Client| group.members.iter().any(|m| *m.member == *client.id) && client.epoch > 0;
        let mut owners = BTreeSet::new();
        for client in self.clients.iter().filter(is_member) {
            for pair in client.owned.iter().flat_map(|(t, p)| p.iter().map(|p| (*t, *p))) {
                assert!(owners.insert(pair), "{pair:?} has two owners");
            }
        }
        let mut assigned = BTreeSet::new();
        for member in &self.world.groups.groups[GROUP].consumer.as_ref().unwrap().members {
            for pair in member.1.held() {
                assert!(assigned.insert(pair), "{pair:?} was given twice");
            }
        }
        for member in &group.members {
            assert!(member.epoch <= group.target_epoch && group.target_epoch <= group.epoch);
        }
        let live = self.world.groups.live_records();
        assert_eq!(live.len(), self.world.groups.live_record_count());
        assert_eq!(
            self.world.restarted().groups.live_records(),
            live,
            "the log says what is"
        );
        let mut compacted = Groups::new(GroupConfig::default());
        live.iter().for_each(|record| compacted.replay(record));
        assert_eq!(compacted.live_records(), live, "so does a compacted log");
    }

    /// Everybody sends heartbeats and hears the answers.
    fn calm_down(&mut self) {
        let mut quiet = 0;
        for _ in 0..200 {
            let before = self.world.log.len();
            for who in 0..self.clients.len() {
                self.beat(who, Fate::Heard);
                self.check();
            }
            self.world.pass(5000);
            quiet = if self.world.log.len() == before {
                quiet + 1
            } else {
                0
            };
            // Longer than sessions and the time to give partitions back.
            if quiet == 14 {
                return;
            }
        }
        panic!("the group never settles");
    }

    fn check_end(&self) {
        let topics = &self.world.topics;
        assert_eq!(self.world.state(), "Stable");
        let mut owned = BTreeSet::new();
        for client in &self.clients {
            owned.extend(client.owned.iter().flat_map(|(t, p)| p.iter().map(|p| (*t, *p))));
        }
        for (name, size) in &self.names {
            let wants = |client: &Client| {
                let pattern = client.pattern.as_ref().map(|p| pattern::Pattern::new(p).unwrap());
                client.topics.iter().any(|t| t == name) || pattern.is_some_and(|p| p.means(name))
            };
            let count = owned.iter().filter(|(t, _)| *t == topic(name)).count();
            let wanted = topics.find(name).is_some() && self.clients.iter().any(wants);
            assert_eq!(count, if wanted { *size as usize } else { 0 }, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_partition_has_two_owners_and_in_the_end_each_has_one(events in prop::collection::vec(any_event(), 0..80)) {
        let mut run = Run::new();
        for event in &events {
            run.happens(event);
            run.check();
        }
        run.calm_down();
        run.check_end();
        run.world.pass(10 * 60 * 1000);
        prop_assert_eq!(run.world.state(), "Empty", "no member survives without heartbeats");
        prop_assert_eq!(run.world.groups.next_deadline(), None);
    }

    #[test]
    fn no_records_make_the_coordinator_panic(records in prop::collection::vec((0..7_usize, prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..20)) {
        let mut groups = Groups::new(GroupConfig::default());
        for (kind, bytes, is_tombstone) in records {
            let kind = [2, 3, 5, 6, 7, 8, 16][kind];
            let key = [&[0, kind, 0, 1, b'g', 0, 1, b'm'][..]].concat();
            let value = [&[0, 0][..], &bytes].concat();
            if let Ok(record) = Record::decode(&key, (!is_tombstone).then_some(&value)) {
                let (key, value) = record.encode();
                prop_assert_eq!(Record::decode(&key, value.as_deref()), Ok(record.clone()));
                groups.replay(&record);
            }
        }
        groups.topics_changed(Arc::new(topics(1, &[("t", 2)])));
        let _ = groups.loaded(0);
        let (answer, _) = groups.consumer_heartbeat(0, &Client::matching("m", ".*").request());
        let _ = answer;
        let _ = groups.tick(i64::MAX / 2);
    }
}

/// What a client may want: names, a pattern, an assignor.
const WANTS: [(&[&str], Option<&str>, Option<&str>); 6] = [
    (&["ta", "tb"], None, None),
    (&["tb"], None, Some("range")),
    (&[], Some("t."), None),
    (&["c"], Some("tb|c"), Some("uniform")),
    (&[], None, None),
    (&["ta", "missing"], None, Some("range")),
];
