//! Whatever clients of one id do, and however often the coordinator moves, the rules hold.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    /// A client begins, or goes on if it may.
    Init {
        who: usize,
        goes_on: bool,
        heard: bool,
    },
    Add {
        who: usize,
        partition: i32,
    },
    End {
        who: usize,
        outcome: Outcome,
        heard: bool,
    },
    /// A client comes again with a producer that it had before, or with none that anybody had.
    Late {
        who: usize,
        epochs: i16,
        outcome: Outcome,
    },
    /// All markers are written.
    Finish,
    Pass {
        ms: i64,
    },
    /// Another coordinator reads the log.
    Restart,
    /// The log is written anew with what is needed.
    Compact,
    /// A week goes by without anybody.
    Expire,
}

fn any_event() -> impl Strategy<Value = Event> {
    let who = 0..CLIENTS;
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    let heard = prop::bool::weighted(0.7);
    prop_oneof![
        4 => (who.clone(), any::<bool>(), heard)
            .prop_map(|(who, goes_on, heard)| Event::Init { who, goes_on, heard }),
        6 => (who.clone(), 0..3).prop_map(|(who, partition)| Event::Add { who, partition }),
        6 => (who.clone(), outcome.clone(), heard)
            .prop_map(|(who, outcome, heard)| Event::End { who, outcome, heard }),
        2 => (who, -3..3_i16, outcome).prop_map(|(who, epochs, outcome)| Event::Late { who, epochs, outcome }),
        5 => Just(Event::Finish),
        2 => (0..40_000_i64).prop_map(|ms| Event::Pass { ms }),
        2 => Just(Event::Restart),
        1 => Just(Event::Compact),
        1 => Just(Event::Expire),
    ]
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(any_event(), 0..60)
}

/// Epochs of the first producer: at the beginning, and shortly before there is none left.
fn any_first() -> impl Strategy<Value = ProducerEpoch> {
    prop_oneof![Just(0), ProducerEpoch::MAX - 6..ProducerEpoch::MAX]
}

/// What a client knows. It is a process: another one that takes over is another client.
#[derive(Debug, Clone, Copy)]
struct Client {
    version: Version,
    producer: Option<Producer>,
    /// The transaction that it has added to, and of whose end it has not heard.
    open: Option<usize>,
}

/// How a transaction went.
#[derive(Debug, Clone, Copy)]
struct Ledger {
    producer: Producer,
    outcome: Option<Outcome>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    /// Who was given each producer.
    owners: BTreeMap<Producer, usize>,
    /// Those after which somebody else has come for the id.
    fenced: BTreeSet<Producer>,
    ledger: Vec<Ledger>,
    /// How much of the log the rules have seen.
    seen: usize,
    before: Option<TransactionValue>,
    /// Highest epoch in the log, and in markers, by producer id.
    epochs: BTreeMap<i64, ProducerEpoch>,
    markers: BTreeMap<i64, ProducerEpoch>,
    /// A commit that a client asks for at this moment.
    commits: Option<Producer>,
}

impl Run {
    fn new(first: ProducerEpoch, versions: &[Version]) -> Self {
        let (world, _) = World::with_epoch(first);
        let client = |version: &Version| Client {
            version: *version,
            producer: None,
            open: None,
        };
        let mut run = Self {
            world,
            clients: versions.iter().map(client).collect(),
            owners: BTreeMap::new(),
            fenced: BTreeSet::new(),
            ledger: Vec::new(),
            seen: 0,
            before: None,
            epochs: BTreeMap::new(),
            markers: BTreeMap::new(),
            commits: None,
        };
        run.audit();
        run
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Init { who, goes_on, heard } => {
                let expected = self.clients[who].producer.filter(|_| goes_on);
                self.init(who, expected, heard);
            }
            Event::Add { who, partition } => self.add(who, partition),
            Event::End { who, outcome, heard } => self.end(who, outcome, heard),
            Event::Late { who, epochs, outcome } => self.late(who, epochs, outcome),
            Event::Finish => self.world.finish(),
            Event::Pass { ms } => self.world.pass(ms),
            Event::Restart => self.world.transactions = self.world.restarted(),
            Event::Compact => {
                let live = self.world.transactions.live_records();
                assert_eq!(live.len(), self.world.transactions.live_record_count());
                self.world.transactions = replayed(&live);
                self.world.log = live;
                self.seen = self.world.log.len();
            }
            Event::Expire => {
                let later = self.world.now_ms + self.world.transactions.config().expiration_ms;
                let step = self.world.transactions.expire(later);
                self.world.run(step);
            }
        }
        self.audit();
    }

    fn init(&mut self, who: usize, expected: Option<Producer>, heard: bool) {
        let records = self.world.log.len();
        let answer = self.world.init(expected);
        if expected.is_none() && self.world.log.len() > records {
            self.fenced.extend(self.owners.keys());
        }
        let Ok(producer) = answer else { return };
        let owner = *self.owners.entry(producer).or_insert(who);
        assert_eq!(owner, who, "{producer:?} was given to two clients");
        if heard {
            self.clients[who].producer = Some(producer);
            self.clients[who].open = None;
        }
    }

    fn add(&mut self, who: usize, partition: i32) {
        let Client {
            version, producer, ..
        } = self.clients[who];
        let Some(producer) = producer else { return };
        if self.world.add(producer, partition, version).is_ok() {
            assert_eq!(self.world.get().seen_by_client(), producer);
            assert_eq!(self.world.verify(producer, partition), Ok(()));
            self.audit();
            self.clients[who].open = Some(self.ledger.len() - 1);
        }
    }

    fn end(&mut self, who: usize, outcome: Outcome, heard: bool) {
        let Client {
            version,
            producer,
            open,
        } = self.clients[who];
        let Some(producer) = producer else { return };
        self.commits = (outcome == Outcome::Commit).then_some(producer);
        let answer = self.world.end(producer, outcome, version);
        self.audit();
        self.commits = None;
        let Ok(after) = answer else { return };
        let owner = *self.owners.entry(after).or_insert(who);
        assert_eq!(owner, who, "{after:?} was given to two clients");
        if let Some(open) = open {
            assert_eq!(
                self.ledger[open].outcome,
                Some(outcome),
                "what it hears is what is so"
            );
        }
        if heard {
            self.clients[who].producer = Some(after);
            self.clients[who].open = None;
        }
    }

    /// Somebody with another epoch is either its client's of now, or changes nothing.
    fn late(&mut self, who: usize, epochs: i16, outcome: Outcome) {
        let Some(mut producer) = self.clients[who].producer else {
            return;
        };
        producer.epoch = producer.epoch.saturating_add(epochs);
        if self.owners.get(&producer).is_some_and(|owner| *owner == who)
            || self
                .world
                .transactions
                .get(ID)
                .is_some_and(|t| t.seen_by_client() == producer)
        {
            return;
        }
        let records = self.world.log.len();
        assert!(self.world.add(producer, 0, Version::V2).is_err());
        let version = self.clients[who].version;
        let answer = self.world.end(producer, outcome, version);
        if let Ok(after) = answer {
            // It guessed what another client had, and asks for that.
            let owner = self.owners.get(&producer).expect("somebody had it");
            assert_eq!(self.owners.get(&after).unwrap_or(owner), owner);
        }
        assert_eq!(self.world.log.len(), records);
    }

    /// Whether the rules hold.
    fn audit(&mut self) {
        for n in self.seen..self.world.log.len() {
            let value = self.world.log[n].value.clone();
            self.follows(value.as_ref());
            self.before = value;
        }
        self.seen = self.world.log.len();
        let transactions = &self.world.transactions;
        assert_eq!(everything(&self.world.restarted()), everything(transactions));
        assert_eq!(
            everything(&replayed(&transactions.live_records())),
            everything(transactions)
        );
        let next = self.world.transactions.next_deadline();
        let Some(known) = self.world.transactions.get(ID) else {
            assert_eq!(next, None);
            return;
        };
        match known.state {
            TransactionState::Ongoing => assert_eq!(next, Some(known.started_ms + i64::from(TIMEOUT_MS))),
            _ => assert_eq!(next, None),
        }
        let may = self
            .owners
            .iter()
            .filter(|(producer, who)| self.may_write(**producer, **who));
        assert!(may.count() <= 1, "two may write");
    }

    /// Whether a producer may add or commit, which no answer says that is another's.
    fn may_write(&self, producer: Producer, who: usize) -> bool {
        let (mut world, records) = (self.world.clone(), self.world.log.len());
        let mut asked = vec![world.init(Some(producer))];
        for (outcome, version) in [
            (Outcome::Commit, Version::V1),
            (Outcome::Commit, Version::V2),
            (Outcome::Abort, Version::V1),
            (Outcome::Abort, Version::V2),
        ] {
            let mut world = self.world.clone();
            asked.push(world.end(producer, outcome, version));
        }
        let is_written = world.log.len() > records;
        let added = self.world.clone().add(producer, 9, Version::V2).is_ok();
        if self.fenced.contains(&producer) {
            assert!(!added && !is_written, "{producer:?} is fenced");
            assert!(asked.iter().all(Result::is_err), "{producer:?} is fenced");
        }
        for after in asked.into_iter().flatten() {
            let owner = self.owners.get(&after).unwrap_or(&who);
            assert_eq!(*owner, who, "{producer:?} hears of {after:?}");
        }
        let committed = self.world.clone().end(producer, Outcome::Commit, Version::V1);
        added || committed.is_ok()
    }

    /// Whether a record may follow the one before.
    fn follows(&mut self, next: Option<&TransactionValue>) {
        let state = |value: &TransactionValue| TransactionState::ALL[value.status as usize];
        let Some(next) = next else {
            let before = self.before.as_ref().expect("it was known");
            assert!(state(before).is_over(), "what is under way is not forgotten");
            return;
        };
        let producer = Producer {
            id: next.producer_id,
            epoch: next.producer_epoch,
        };
        self.epoch_goes_on(producer);
        let before = self.before.clone().map(|before| (state(&before), before));
        let of_before = before.as_ref().map(|(_, before)| Producer {
            id: before.producer_id,
            epoch: before.producer_epoch,
        });
        match (before, state(next)) {
            (None, next) => assert_eq!(next, TransactionState::Empty),
            (Some((was, _)), TransactionState::Empty) => assert!(was.is_over()),
            (Some((TransactionState::Ongoing, before)), TransactionState::Ongoing) => {
                assert_eq!((Some(producer), next.start_ms), (of_before, before.start_ms));
                for (topic, partitions) in &before.partitions {
                    assert!(partitions.iter().all(|p| next.partitions[topic].contains(p)));
                }
            }
            (Some((was, _)), TransactionState::Ongoing) => {
                assert!(was.is_over(), "nothing begins before the one before is told");
                assert_eq!(Some(producer), of_before);
                self.ledger.push(Ledger {
                    producer,
                    outcome: None,
                });
            }
            (
                Some((was, before)),
                now @ (TransactionState::PrepareCommit | TransactionState::PrepareAbort),
            ) => {
                self.is_decided(was, now);
                assert_eq!(next.partitions, before.partitions, "all of them are told");
                let marked = self.markers.entry(producer.id).or_insert(-1);
                assert!(producer.epoch >= *marked, "a marker goes back");
                *marked = producer.epoch;
            }
            (Some((was, before)), now) => {
                let expected = match was {
                    TransactionState::PrepareCommit => TransactionState::CompleteCommit,
                    TransactionState::PrepareAbort => TransactionState::CompleteAbort,
                    was => panic!("{was:?} is not decided"),
                };
                assert_eq!(now, expected, "the outcome is reversed");
                match before.next_producer_id {
                    -1 => assert_eq!(Some(producer), of_before),
                    id => assert_eq!(producer, Producer { id, epoch: 0 }),
                }
            }
        }
    }

    fn epoch_goes_on(&mut self, producer: Producer) {
        let newest = self.epochs.last_key_value().map(|(id, _)| *id);
        match self.epochs.insert(producer.id, producer.epoch) {
            Some(epoch) => {
                assert!(producer.epoch >= epoch, "an epoch goes back");
                assert_eq!(newest, Some(producer.id), "an id comes back");
            }
            None => assert!(self.seen == 0 || producer.epoch == 0),
        }
    }

    fn is_decided(&mut self, was: TransactionState, now: TransactionState) {
        let outcome = now.outcome().expect("it is prepared");
        if was != TransactionState::Ongoing {
            assert!(
                was.is_over() && outcome == Outcome::Abort,
                "{was:?} becomes {now:?}"
            );
            return;
        }
        let last = self.ledger.last_mut().expect("it was begun");
        assert!(last.outcome.replace(outcome).is_none(), "it is decided twice");
        if outcome == Outcome::Commit {
            assert_eq!(self.commits, Some(last.producer), "nobody else commits");
        }
    }

    /// A client that nobody disturbs gets the id and commits.
    fn ends_well(&mut self, who: usize) {
        self.world.finish();
        self.begins(who);
        self.add(who, 0);
        assert!(self.clients[who].open.is_some());
        let records = self.world.log.len();
        self.end(who, Outcome::Commit, false);
        assert!(self.world.log.len() > records);
        self.world.finish();
        self.world.transactions = self.world.restarted();
        self.end(who, Outcome::Commit, true);
        assert_eq!(
            self.clients[who].open, None,
            "the answer was lost, and comes again"
        );
        self.add(who, 0);
        assert!(self.clients[who].open.is_some());
        self.audit();
    }

    /// A client takes the id, whatever was before.
    fn begins(&mut self, who: usize) -> Producer {
        self.clients[who].producer = None;
        for _ in 0..3 {
            self.happens(&Event::Init {
                who,
                goes_on: false,
                heard: true,
            });
            self.happens(&Event::Finish);
        }
        self.clients[who].producer.expect("it is free")
    }
}

fn any_versions() -> impl Strategy<Value = Vec<Version>> {
    prop::collection::vec(prop_oneof![Just(Version::V1), Just(Version::V2)], CLIENTS)
}

proptest! {
    #[test]
    fn rules_hold_and_whoever_comes_then_can_work(
        first in any_first(),
        versions in any_versions(),
        events in any_events(),
        who in 0..CLIENTS,
    ) {
        let mut run = Run::new(first, &versions);
        events.iter().for_each(|event| run.happens(event));
        run.ends_well(who);
    }

    #[test]
    fn every_transaction_ends_when_its_time_is_over(
        first in any_first(),
        versions in any_versions(),
        events in any_events(),
    ) {
        let mut run = Run::new(first, &versions);
        events.iter().for_each(|event| run.happens(event));
        run.happens(&Event::Pass { ms: i64::from(TIMEOUT_MS) });
        prop_assert!(run.ledger.iter().all(|transaction| transaction.outcome.is_some()));
        run.happens(&Event::Finish);
        prop_assert_eq!(run.world.transactions.prepared().count(), 0);
    }

    #[test]
    fn whoever_goes_on_gets_the_same_answer_again(
        first in any_first(),
        versions in any_versions(),
        events in any_events(),
        who in 0..CLIENTS,
        aborts in any::<bool>(),
    ) {
        let mut run = Run::new(first, &versions);
        events.iter().for_each(|event| run.happens(event));
        run.world.finish();
        let producer = run.begins(who);
        run.add(who, 0);
        if aborts {
            run.end(who, Outcome::Abort, false);
        }
        let after = run.world.init_until_done(Some(producer));
        prop_assert!(after.is_ok());
        run.world.transactions = run.world.restarted();
        prop_assert_eq!(run.world.init(Some(producer)), after);
        prop_assert_ne!(after, Ok(producer));
        run.audit();
    }
}

const CLIENTS: usize = 3;
