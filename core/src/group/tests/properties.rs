//! Whatever clients do, the rules hold.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Join {
        who: usize,
        is_static: bool,
        required: bool,
        assignor: bool,
    },
    Sync {
        who: usize,
    },
    Heartbeat {
        who: usize,
    },
    Leave {
        who: usize,
    },
    Commit {
        who: usize,
        topic: u8,
    },
    TxnCommit {
        who: usize,
        producer_id: i64,
        topic: u8,
    },
    End {
        producer_id: i64,
        is_commit: bool,
    },
    Pass {
        ms: i64,
    },
    Expire,
    DeleteGroup,
    Restart,
}

fn any_event() -> impl Strategy<Value = Event> {
    let who = 0..5_usize;
    prop_oneof![
        6 => (who.clone(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(who, is_static, required, assignor)| Event::Join { who, is_static, required, assignor }),
        6 => who.clone().prop_map(|who| Event::Sync { who }),
        4 => who.clone().prop_map(|who| Event::Heartbeat { who }),
        1 => who.clone().prop_map(|who| Event::Leave { who }),
        2 => (who.clone(), 0..3_u8).prop_map(|(who, topic)| Event::Commit { who, topic }),
        2 => (who, 0..2_i64, 0..3_u8)
            .prop_map(|(who, producer_id, topic)| Event::TxnCommit { who, producer_id, topic }),
        2 => (0..2_i64, any::<bool>())
            .prop_map(|(producer_id, is_commit)| Event::End { producer_id, is_commit }),
        5 => (0..20_000_i64).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::Expire),
        1 => Just(Event::DeleteGroup),
        1 => Just(Event::Restart),
    ]
}

/// What a client knows of itself.
#[derive(Debug, Clone, Default)]
struct Client {
    who: Identity,
    leads: bool,
    waiting: Option<u64>,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    generation: i32,
    asked: u64,
}

impl Run {
    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Join {
                who,
                is_static,
                required,
                assignor,
            } => {
                let instance = (is_static && who < 2).then(|| format!("instance{who}"));
                let knows = if assignor {
                    vec!["sticky", "range"]
                } else {
                    vec!["range"]
                };
                let request = JoinRequest {
                    member: self.clients[who].who.member.clone(),
                    instance: instance.clone(),
                    knows_required_ids: required,
                    unique: format!("{}", self.world.tokens),
                    protocols: knows
                        .into_iter()
                        .map(|p| (p.to_owned(), subscription()))
                        .collect(),
                    ..join(&format!("c{who}"))
                };
                self.clients[who].who.instance = instance;
                self.clients[who].waiting = Some(self.world.start_join(request));
            }
            Event::Sync { who } => {
                let Client { who, leads, .. } = self.clients[who].clone();
                let all: Vec<(String, String)> = self
                    .world
                    .groups
                    .describe(GROUP)
                    .map(|g| {
                        g.members
                            .into_iter()
                            .map(|m| (m.member_id.clone(), m.member_id))
                            .collect()
                    })
                    .unwrap_or_default();
                let all: Vec<(&str, &str)> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
                self.world.start_sync(who, if leads { &all } else { &[] });
            }
            Event::Heartbeat { who } => {
                let _ = self.world.heartbeat(&self.clients[who].who.clone());
            }
            Event::Leave { who } => {
                let Identity { member, instance, .. } = self.clients[who].who.clone();
                let _ = self.world.leave(&member, instance.as_deref());
            }
            Event::Commit { who, topic } => {
                let _ = self.world.commit(
                    self.clients[who].who.clone(),
                    &format!("t{topic}"),
                    i64::from(topic),
                );
            }
            Event::TxnCommit {
                who,
                producer_id,
                topic,
            } => {
                let who = self.clients[who].who.clone();
                let _ = self.world.txn_commit(producer_id, who, &format!("t{topic}"), 9);
            }
            Event::End {
                producer_id,
                is_commit,
            } => self.world.end(producer_id, is_commit),
            Event::Pass { ms } => self.world.pass(ms),
            Event::Expire => {
                let step = self.world.groups.expire(self.world.now_ms + 7 * 24 * 3_600_000);
                self.world.run(step);
            }
            Event::DeleteGroup => {
                let (_, step) = self.world.groups.delete_group(GROUP);
                self.world.run(step);
            }
            Event::Restart => {
                let step = self.world.groups.close(GroupError::NotCoordinator);
                self.world.run(step);
                self.hear();
                self.world = self.world.restarted();
                self.generation = 0;
            }
        }
        self.hear();
    }

    /// Clients read their answers.
    fn hear(&mut self) {
        for client in &mut self.clients {
            let Some(Response::Join(answer)) =
                client.waiting.and_then(|token| self.world.answers.remove(&token))
            else {
                continue;
            };
            client.waiting = None;
            match answer.error {
                None | Some(GroupError::MemberIdRequired) => {
                    client.who.member = answer.member_id.clone();
                    client.who.generation = answer.generation;
                    client.leads = answer.error.is_none() && answer.leader == answer.member_id;
                }
                Some(GroupError::RebalanceInProgress) => {}
                Some(_) => client.who.member.clear(),
            }
        }
        self.asked += self.world.answers.len() as u64;
        self.world.answers.clear();
    }

    fn check(&mut self) {
        let Some(group) = self.world.groups.groups.get(GROUP) else {
            self.generation = 0;
            assert_eq!(
                self.world.groups.next_deadline(),
                None,
                "a group that is gone has no timers"
            );
            return;
        };
        assert!(group.generation >= self.generation, "generations only grow");
        self.generation = group.generation;
        if matches!(group.state, State::Stable | State::CompletingRebalance) {
            let leader = group.leader.as_ref().expect("a generation has a leader");
            assert!(group.members.contains_key(leader), "the leader is a member");
        }
        match group.state {
            State::Empty => assert!(group.members.is_empty()),
            State::Stable | State::CompletingRebalance => assert!(!group.members.is_empty()),
            State::PreparingRebalance | State::Dead => {}
        }
        for (instance, member) in &group.instances {
            assert_eq!(group.members[member].instance.as_ref(), Some(instance));
        }
        for (id, member) in &group.members {
            let watched = self.world.groups.timers.has_session(GROUP, id);
            assert!(
                watched || member.joining.is_some() || member.syncing.is_some(),
                "{id} would stay for ever"
            );
            assert!(member.syncing.is_none() || group.state == State::CompletingRebalance);
            assert!(member.joining.is_none() || group.state == State::PreparingRebalance);
        }
        let restarted = self.world.restarted();
        assert_eq!(
            restarted.groups.live_records(),
            self.world.groups.live_records(),
            "the log says what is"
        );
        let pending = self.world.groups.has_pending();
        assert_eq!(restarted.groups.has_pending(), pending);
        if group.state == State::Stable {
            let (was, is) = (
                self.world.groups.describe(GROUP).unwrap(),
                restarted.groups.describe(GROUP).unwrap(),
            );
            assert_eq!((was.protocol, was.members), (is.protocol, is.members));
        }
        let mut compacted = Groups::new(GroupConfig::default());
        self.world
            .groups
            .live_records()
            .iter()
            .for_each(|record| compacted.replay(record));
        assert_eq!(
            compacted.live_records(),
            self.world.groups.live_records(),
            "so does a compacted log"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_rules_of_groups_hold_and_the_log_tells_everything(events in prop::collection::vec(any_event(), 0..80)) {
        let clients = vec![Client { who: Identity { group: GROUP.to_owned(), generation: -1, ..Identity::default() }, ..Client::default() }; 5];
        let mut run = Run { world: World::new(), clients, generation: 0, asked: 0 };
        for event in &events {
            run.happens(event);
            run.check();
        }
        // Once all clients are silent, every request is answered and every member is out within bounded time.
        run.world.pass(30 * 60 * 1000);
        run.hear();
        run.check();
        prop_assert!(run.clients.iter().all(|client| client.waiting.is_none()), "nobody waits for ever");
        prop_assert!(matches!(run.world.state(), State::Empty | State::Dead), "no member survives without heartbeat");
        prop_assert_eq!(run.world.groups.next_deadline(), None);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Record::decode(&key, Some(&value));
        for version in 0..5_u8 {
            let mut value = value.clone();
            value.splice(0..0, [0, version]);
            let _ = Record::decode(&[0, 2, 0, 1, b'g'], Some(&value));
            let _ = Record::decode(&[0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2], Some(&value));
        }
    }
}
