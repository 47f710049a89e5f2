//! Members of both protocols in one group, which changes its protocol as they come and go: the same rules hold.

use proptest::prelude::*;

use super::migration::{assignment, decode, subscription};
use super::*;
use crate::group::JoinedMember;

/// A consumer of the classic protocol. It does one thing at a time, and gives all back before it joins.
#[derive(Debug, Default)]
struct Classic {
    name: String,
    instance: Option<String>,
    who: Identity,
    waits: Option<(u64, bool)>,
    owned: BTreeSet<i32>,
    has_joined: bool,
}

impl Classic {
    fn step(&mut self, world: &mut World) {
        if let Some((token, joins)) = self.waits {
            let Some(answer) = world.answers.remove(&token) else {
                return;
            };
            self.waits = None;
            match answer {
                Response::Join(answer) if joins => self.joined(answer, world),
                Response::Sync(answer) if !joins => match answer.error {
                    None => {
                        self.owned = decode(&answer.assignment)
                            .into_iter()
                            .flat_map(|(_, p)| p)
                            .collect()
                    }
                    Some(error) => self.fails(error),
                },
                other => panic!("{other:?} answers the wrong request"),
            }
        } else if !self.has_joined {
            self.join(world);
        } else if let Err(error) = world.groups.heartbeat(world.now_ms, &self.who) {
            self.fails(error);
        }
    }

    fn join(&mut self, world: &mut World) {
        self.owned.clear();
        world.tokens += 1;
        let request = JoinRequest {
            group: GROUP.to_owned(),
            member: self.who.member.clone(),
            instance: self.instance.clone(),
            client_id: self.name.clone(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription())],
            unique: world.tokens.to_string(),
            ..JoinRequest::default()
        };
        self.waits = Some((world.tokens, true));
        let step = world.groups.join(world.now_ms, request, Token(world.tokens));
        world.run(step);
    }

    fn joined(&mut self, answer: JoinResponse, world: &mut World) {
        self.who.member.clone_from(&answer.member_id);
        self.who.generation = answer.generation;
        if let Some(error) = answer.error {
            return self.fails(error);
        }
        self.has_joined = true;
        let leads = answer.leader == answer.member_id;
        let assignments = if leads {
            share(&answer.members)
        } else {
            BTreeMap::new()
        };
        let who = self.who.clone();
        let request = SyncRequest {
            who,
            assignments,
            ..SyncRequest::default()
        };
        world.tokens += 1;
        self.waits = Some((world.tokens, false));
        let step = world.groups.sync(world.now_ms, &request, Token(world.tokens));
        world.run(step);
    }

    fn fails(&mut self, error: GroupError) {
        self.has_joined = false;
        self.owned.clear();
        if !matches!(
            error,
            GroupError::RebalanceInProgress | GroupError::MemberIdRequired
        ) {
            self.who.member.clear();
        }
    }

    fn restart(&mut self) {
        self.fails(GroupError::UnknownMemberId);
        self.waits = None;
    }
}

/// What the leader of a classic group gives to whom.
fn share(members: &[JoinedMember]) -> BTreeMap<String, Arc<[u8]>> {
    let members = members.iter().enumerate();
    members
        .map(|(n, member)| {
            let count = PARTITIONS as usize;
            let mine: Vec<i32> = (0..PARTITIONS)
                .filter(|p| *p as usize * 31 % count % 3 == n % 3 || n > 2)
                .collect();
            (member.member_id.clone(), mine)
        })
        .scan(BTreeSet::new(), |taken, (id, mine)| {
            let mine: Vec<i32> = mine.into_iter().filter(|p| taken.insert(*p)).collect();
            Some((id, assignment(&mine)))
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Event {
    Beat { who: usize, is_written: bool },
    Classic { who: usize },
    Leave { who: usize },
    ClassicLeaves { who: usize },
    RestartClassic { who: usize },
    Pass { ms: i64 },
    CoordinatorRestarts,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..2_usize, prop::bool::weighted(0.9)).prop_map(|(who, is_written)| Event::Beat { who, is_written }),
        16 => (0..3_usize).prop_map(|who| Event::Classic { who }),
        1 => (0..2_usize).prop_map(|who| Event::Leave { who }),
        1 => (0..3_usize).prop_map(|who| Event::ClassicLeaves { who }),
        1 => (0..3_usize).prop_map(|who| Event::RestartClassic { who }),
        3 => (0..15_000_i64).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::CoordinatorRestarts),
    ]
}

struct Run {
    world: World,
    new: Vec<Client>,
    classic: Vec<Classic>,
}

impl Run {
    fn new() -> Self {
        let classic = |n: usize| Classic {
            name: format!("c{n}"),
            instance: (n == 0).then(|| "fixed".to_owned()),
            who: Identity {
                group: GROUP.to_owned(),
                ..Identity::default()
            },
            ..Classic::default()
        };
        Self {
            world: World::new(&[("t", PARTITIONS)]),
            new: vec![Client::new("n0", &["t"]), Client::matching("n1", "t")],
            classic: (0..3).map(classic).collect(),
        }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Beat {
                who,
                is_written: true,
            } => {
                let _ = self.new[who].beat(&mut self.world);
            }
            Event::Beat {
                who,
                is_written: false,
            } => {
                let request = self.new[who].request();
                let (answer, step) = self.world.groups.consumer_heartbeat(self.world.now_ms, &request);
                if step.records.is_empty() {
                    self.new[who].hear(&answer);
                } else {
                    self.new[who].said = None;
                }
            }
            Event::Classic { who } => self.classic[who].step(&mut self.world),
            Event::Leave { who } => {
                let _ = self.new[who].leave(&mut self.world, LEAVE_EPOCH);
            }
            Event::ClassicLeaves { who } => {
                let leaving = LeaveMember {
                    member: self.classic[who].who.member.clone(),
                    instance: None,
                };
                let (_, step) = self.world.groups.leave(self.world.now_ms, GROUP, &[leaving]);
                self.world.run(step);
                self.classic[who].restart();
            }
            Event::RestartClassic { who } => self.classic[who].restart(),
            Event::Pass { ms } => self.world.pass(ms),
            Event::CoordinatorRestarts => {
                self.world = self.world.restarted();
                for client in self.classic.iter_mut().filter(|client| client.waits.is_some()) {
                    client.waits = None;
                    client.has_joined = false;
                }
            }
        }
    }

    fn members(&self) -> BTreeSet<String> {
        let groups = &self.world.groups;
        let classic = groups
            .describe(GROUP)
            .into_iter()
            .flat_map(|g| g.members)
            .map(|m| m.member_id);
        let new = groups
            .describe_consumer(GROUP)
            .into_iter()
            .flat_map(|g| g.members);
        classic.chain(new.map(|m| m.member.to_string())).collect()
    }

    fn check(&self) {
        let members = self.members();
        let mut owners = BTreeSet::new();
        for client in self
            .new
            .iter()
            .filter(|client| client.epoch > 0 && members.contains(&client.id))
        {
            for partition in client.owned.values().flatten() {
                assert!(owners.insert(partition.0), "{} has {partition}, too", client.id);
            }
        }
        for client in self
            .classic
            .iter()
            .filter(|client| members.contains(&client.who.member))
        {
            for partition in &client.owned {
                assert!(owners.insert(*partition), "{} has {partition}, too", client.name);
            }
        }
        let live = self.world.groups.live_records();
        assert_eq!(live.len(), self.world.groups.live_record_count());
        assert_eq!(
            self.world.restarted().groups.live_records(),
            live,
            "the log says what is"
        );
    }

    /// Everybody goes on until each partition has been with its owner for a while.
    fn calm_down(&mut self) {
        let mut whole = 0;
        for _ in 0..300 {
            for client in &mut self.new {
                let _ = client.beat(&mut self.world);
            }
            for client in &mut self.classic {
                client.step(&mut self.world);
            }
            self.check();
            self.world.pass(1000);
            let new = self.new.iter().map(Client::count).sum::<usize>();
            let classic = self
                .classic
                .iter()
                .map(|client| client.owned.len())
                .sum::<usize>();
            whole = if new + classic == PARTITIONS as usize {
                whole + 1
            } else {
                0
            };
            if whole == 100 {
                assert_eq!(self.world.state(), "Stable");
                return;
            }
        }
        panic!("the group never settles");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn groups_of_both_protocols_keep_the_rules(events in prop::collection::vec(any_event(), 0..100)) {
        let mut run = Run::new();
        for event in &events {
            run.happens(event);
            run.check();
        }
        run.calm_down();
        for client in &mut run.new {
            client.leave(&mut run.world, LEAVE_EPOCH).unwrap();
        }
        run.check();
        run.new.clear();
        run.calm_down();
        prop_assert!(run.world.groups.describe(GROUP).is_some(), "it is a classic group again");
    }
}

/// Of the one topic.
const PARTITIONS: i32 = 7;
