//! Groups change their protocol.

use super::*;
use crate::group::State;

/// A consumer of the classic protocol, which gives all back before it joins.
#[derive(Debug, Clone)]
struct Classic {
    name: String,
    who: Identity,
    assigned: Vec<(String, Vec<i32>)>,
}

impl Classic {
    fn new(name: &str) -> Self {
        let who = Identity {
            group: GROUP.to_owned(),
            ..Identity::default()
        };
        Self {
            name: name.to_owned(),
            who,
            assigned: Vec::new(),
        }
    }

    fn request(&self, tokens: u64) -> JoinRequest {
        JoinRequest {
            group: GROUP.to_owned(),
            member: self.who.member.clone(),
            client_id: self.name.clone(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription())],
            unique: tokens.to_string(),
            ..JoinRequest::default()
        }
    }

    /// Sends JoinGroup; the answer may come later.
    fn start_join(&self, world: &mut World) -> u64 {
        world.tokens += 1;
        let step = world
            .groups
            .join(world.now_ms, self.request(world.tokens), Token(world.tokens));
        world.run(step);
        world.tokens
    }

    fn joined(&mut self, world: &mut World, token: u64) -> Result<JoinResponse, GroupError> {
        let Some(Response::Join(answer)) = world.answers.remove(&token) else {
            panic!("no answer to a join")
        };
        self.who.member.clone_from(&answer.member_id);
        match answer.error {
            Some(error) => Err(error),
            None => {
                self.who.generation = answer.generation;
                Ok(answer)
            }
        }
    }

    fn sync(
        &mut self,
        world: &mut World,
        assignments: BTreeMap<String, Arc<[u8]>>,
    ) -> Result<(), GroupError> {
        world.tokens += 1;
        let request = SyncRequest {
            who: self.who.clone(),
            assignments,
            ..SyncRequest::default()
        };
        let step = world.groups.sync(world.now_ms, &request, Token(world.tokens));
        world.run(step);
        let Some(Response::Sync(answer)) = world.answers.remove(&world.tokens) else {
            panic!("no answer to a sync")
        };
        match answer.error {
            Some(error) => Err(error),
            None => {
                self.assigned = decode(&answer.assignment);
                Ok(())
            }
        }
    }

    fn join_and_sync(&mut self, world: &mut World) -> Result<(), GroupError> {
        self.assigned.clear();
        let token = self.start_join(world);
        self.joined(world, token)?;
        self.sync(world, BTreeMap::new())
    }

    /// A heartbeat, and what it asks for.
    fn beat(&mut self, world: &mut World) {
        match world.groups.heartbeat(world.now_ms, &self.who) {
            Ok(()) => {}
            Err(GroupError::RebalanceInProgress) => self.join_and_sync(world).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }

    fn partitions(&self) -> Vec<i32> {
        self.assigned
            .iter()
            .flat_map(|(_, partitions)| partitions.clone())
            .collect()
    }
}

/// A subscription to topic `t`, version 1.
pub(super) fn subscription() -> Arc<[u8]> {
    [&[0, 1, 0, 0, 0, 1, 0, 1][..], b"t", &[0xff; 4], &[0; 4]]
        .concat()
        .into()
}

pub(super) fn assignment(partitions: &[i32]) -> Arc<[u8]> {
    let mut bytes = [&[0, 1, 0, 0, 0, 1, 0, 1][..], b"t"].concat();
    bytes.extend((partitions.len() as i32).to_be_bytes());
    partitions.iter().for_each(|p| bytes.extend(p.to_be_bytes()));
    bytes.extend([0xff; 4]);
    bytes.into()
}

pub(super) fn decode(assignment: &[u8]) -> Vec<(String, Vec<i32>)> {
    let topics = topics(1, &[("t", 100)]);
    let decoded = embedded::decode_assignment(assignment, &topics).unwrap();
    let named = decoded.into_iter();
    named
        .map(|(id, partitions)| {
            (
                topics.name(id).unwrap().to_string(),
                partitions.into_iter().map(|p| p.0).collect(),
            )
        })
        .collect()
}

/// A classic group of two stable members, `t` of four partitions shared between them.
fn classic_pair(world: &mut World) -> [Classic; 2] {
    let mut pair = [Classic::new("c1"), Classic::new("c2")];
    let tokens = pair.each_ref().map(|member| member.start_join(world));
    world.pass(6000);
    for (member, token) in pair.iter_mut().zip(tokens) {
        member.joined(world, token).unwrap();
    }
    let assignments = BTreeMap::from([
        (pair[0].who.member.clone(), assignment(&[0, 1])),
        (pair[1].who.member.clone(), assignment(&[2, 3])),
    ]);
    pair[0].sync(world, assignments).unwrap();
    pair[1].sync(world, BTreeMap::new()).unwrap();
    pair
}

fn config(migration: Migration) -> GroupConfig {
    let consumer = ConsumerConfig {
        migration,
        ..ConsumerConfig::default()
    };
    GroupConfig {
        consumer,
        ..GroupConfig::default()
    }
}

#[test]
fn an_empty_classic_group_becomes_one_of_kip_848_and_keeps_its_offsets() {
    for with_members_before in [false, true] {
        let mut world = World::with(config(Migration::Disabled), &[("t", 4)]);
        if with_members_before {
            let [one, two] = classic_pair(&mut world);
            for member in [one, two] {
                let leaving = LeaveMember {
                    member: member.who.member,
                    instance: None,
                };
                let (_, step) = world.groups.leave(world.now_ms, GROUP, &[leaving]);
                world.run(step);
            }
        }
        let nobody = Identity {
            group: GROUP.to_owned(),
            generation: -1,
            ..Identity::default()
        };
        world.commit(nobody, "t", 2).unwrap();
        let mut a = Client::new("a", &["t"]);
        a.beat(&mut world).unwrap();
        assert_eq!((a.count(), world.state()), (4, "Stable"));
        assert_eq!(world.groups.offset(GROUP, "t", 2).unwrap().offset, 5);
        let mut world = world.restarted();
        assert_eq!(world.groups.offset(GROUP, "t", 2).unwrap().offset, 5);
        assert_eq!(world.groups.describe(GROUP), None);
        world.pass(45_000);
        assert_eq!(world.state(), "Empty", "its session was watched");
    }
}

#[test]
fn sessions_are_watched_after_a_group_changed_its_protocol() {
    let mut world = World::new(&[("t", 4)]);
    classic_pair(&mut world);
    world.pass(20_000);
    assert_eq!(
        world.groups.describe(GROUP).map(|group| group.state),
        Some(State::Empty)
    );
    Client::new("a", &["t"]).beat(&mut world).unwrap();
    world.pass(45_001);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn an_empty_group_of_kip_848_becomes_a_classic_one_and_keeps_its_offsets() {
    let mut world = World::with(config(Migration::Disabled), &[("t", 4)]);
    let mut a = Client::new("a", &["t"]);
    a.beat(&mut world).unwrap();
    world.commit(a.identity(), "t", 1).unwrap();
    let refused = Classic::new("c").start_join(&mut world);
    assert_eq!(
        Classic::new("c").joined(&mut world, refused).map(|_| ()),
        Ok(()),
        "members of both may meet"
    );
    world.pass(60_000);
    assert_eq!(world.state(), "Empty");
    let mut classic = Classic::new("c");
    let token = classic.start_join(&mut world);
    world.pass(3000);
    classic.joined(&mut world, token).unwrap();
    let assignments = BTreeMap::from([(classic.who.member.clone(), assignment(&[0]))]);
    classic.sync(&mut world, assignments).unwrap();
    assert_eq!(
        world.groups.describe(GROUP).map(|group| group.state),
        Some(State::Stable)
    );
    assert_eq!(world.groups.describe_consumer(GROUP), None);
    let world = world.restarted();
    assert_eq!(
        world.groups.describe(GROUP).map(|group| group.state),
        Some(State::Stable)
    );
    assert_eq!(world.groups.offset(GROUP, "t", 1).unwrap().offset, 5);
    assert_eq!(a.epoch, 1);
}

#[test]
fn a_classic_group_is_upgraded_member_by_member_without_a_partition_twice() {
    let mut world = World::new(&[("t", 4)]);
    let [mut one, mut two] = classic_pair(&mut world);
    let mut new = Client::new("n", &["t"]);
    new.beat(&mut world).unwrap();
    assert_eq!((new.count(), world.state()), (0, "Reconciling"));
    let group = world.group();
    assert_eq!(
        (
            group.members.len(),
            group.members.iter().filter(|m| m.is_classic).count()
        ),
        (3, 2)
    );
    for _ in 0..4 {
        one.beat(&mut world);
        two.beat(&mut world);
        new.beat(&mut world).unwrap();
        let mut all: Vec<i32> = [one.partitions(), two.partitions()].concat();
        all.extend(new.owned.values().flatten().map(|p| p.0));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a partition has two owners");
    }
    assert_eq!(world.state(), "Stable");
    assert_eq!(one.partitions().len() + two.partitions().len() + new.count(), 4);
    assert_eq!(new.count(), 1);
    // A restart knows them all, and watches the sessions of both kinds.
    let mut world = world.restarted();
    one.beat(&mut world);
    world.pass(10_000);
    assert_eq!(
        world.group().members.len(),
        1,
        "classic members have their own, shorter timeout"
    );
    new.beat(&mut world).unwrap();
    assert_eq!((new.count(), world.state()), (4, "Stable"));
}

#[test]
fn members_that_wait_in_a_rebalance_are_told_to_come_again() {
    let mut world = World::new(&[("t", 4)]);
    let mut one = Classic::new("c1");
    let token = one.start_join(&mut world);
    let mut new = Client::new("n", &["t"]);
    new.beat(&mut world).unwrap();
    assert_eq!(
        one.joined(&mut world, token).map(|_| ()),
        Err(GroupError::RebalanceInProgress)
    );
    one.join_and_sync(&mut world).unwrap();
    for _ in 0..3 {
        one.beat(&mut world);
        new.beat(&mut world).unwrap();
    }
    assert_eq!((one.partitions().len(), new.count()), (2, 2));
}

#[test]
fn a_group_becomes_classic_again_when_its_last_new_member_goes() {
    for silently in [false, true] {
        let mut world = World::new(&[("t", 4)]);
        let [mut one, mut two] = classic_pair(&mut world);
        let mut new = Client::new("n", &["t"]);
        for _ in 0..4 {
            new.beat(&mut world).unwrap();
            one.beat(&mut world);
            two.beat(&mut world);
        }
        let generation = one.who.generation;
        if silently {
            for _ in 0..9 {
                world.pass(5000);
                if world.groups.describe(GROUP).is_none() {
                    one.beat(&mut world);
                    two.beat(&mut world);
                }
            }
        } else {
            new.leave(&mut world, LEAVE_EPOCH).unwrap();
        }
        let restarted = world.restarted();
        let group = restarted.groups.describe(GROUP).unwrap();
        assert_eq!(
            (group.state, group.members.len()),
            (State::PreparingRebalance, 2),
            "who comes after a restart finds what the last one left"
        );
        world.pass(0);
        let group = world.groups.describe(GROUP).unwrap();
        assert_eq!((group.state, group.members.len()), (State::PreparingRebalance, 2));
        assert_eq!(
            world.groups.heartbeat(world.now_ms, &one.who),
            Err(GroupError::RebalanceInProgress)
        );
        let tokens = [one.start_join(&mut world), two.start_join(&mut world)];
        one.joined(&mut world, tokens[0]).unwrap();
        two.joined(&mut world, tokens[1]).unwrap();
        assert!(one.who.generation > generation);
        world.pass(10_000);
        assert_eq!(world.state(), "Empty", "their sessions are watched");
    }
}

#[test]
fn policies_that_forbid_it_keep_groups_as_they_are() {
    let mut world = World::with(config(Migration::Downgrade), &[("t", 4)]);
    let [one, _] = classic_pair(&mut world);
    assert_eq!(
        Client::new("n", &["t"]).beat(&mut world),
        Err(GroupError::GroupIdNotFound)
    );
    assert_eq!(world.groups.heartbeat(world.now_ms, &one.who), Ok(()));

    let mut world = World::with(config(Migration::Upgrade), &[("t", 4)]);
    classic_pair(&mut world);
    let mut new = Client::new("n", &["t"]);
    new.beat(&mut world).unwrap();
    new.leave(&mut world, LEAVE_EPOCH).unwrap();
    assert_eq!(
        (world.groups.describe(GROUP), world.group().members.len()),
        (None, 2)
    );
    assert_eq!(
        Migration::from_name("BIDIRECTIONAL"),
        Some(Migration::Bidirectional)
    );
    assert_eq!(Migration::from_name("x"), None);
}

#[test]
fn groups_that_are_no_consumers_or_share_partitions_are_not_upgraded() {
    let mut world = World::new(&[("t", 4)]);
    let mut connect = Classic::new("c");
    world.tokens += 1;
    let request = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..connect.request(1)
    };
    let step = world.groups.join(world.now_ms, request, Token(world.tokens));
    world.run(step);
    world.pass(3000);
    let token = world.tokens;
    connect.joined(&mut world, token).unwrap();
    assert_eq!(
        Client::new("n", &["t"]).beat(&mut world),
        Err(GroupError::GroupIdNotFound)
    );

    let mut world = World::new(&[("t", 4)]);
    let mut pair = [Classic::new("c1"), Classic::new("c2")];
    let tokens = pair.each_ref().map(|member| member.start_join(&mut world));
    world.pass(6000);
    for (member, token) in pair.iter_mut().zip(tokens) {
        member.joined(&mut world, token).unwrap();
    }
    let all = pair
        .each_ref()
        .map(|member| (member.who.member.clone(), assignment(&[0, 1, 2, 3])));
    pair[0].sync(&mut world, all.into()).unwrap();
    assert_eq!(
        Client::new("n", &["t"]).beat(&mut world),
        Err(GroupError::GroupIdNotFound)
    );
    assert_eq!(world.groups.heartbeat(world.now_ms, &pair[0].who), Ok(()));
}

#[test]
fn classic_requests_to_a_group_of_kip_848_are_checked() {
    let mut world = World::new(&[("t", 4)]);
    let mut new = Client::new("n", &["t"]);
    new.beat(&mut world).unwrap();
    let mut one = Classic::new("c1");
    world.tokens += 1;
    let request = JoinRequest {
        knows_required_ids: true,
        ..one.request(7)
    };
    let step = world.groups.join(world.now_ms, request, Token(world.tokens));
    world.run(step);
    let token = world.tokens;
    assert_eq!(
        one.joined(&mut world, token).map(|_| ()),
        Err(GroupError::MemberIdRequired)
    );
    assert_eq!(one.who.member, "c1-7");
    one.join_and_sync(&mut world).unwrap();
    let beat = |world: &mut World, who: &Identity| world.groups.heartbeat(world.now_ms, who);
    assert_eq!(
        beat(&mut world, &new.identity()),
        Err(GroupError::UnknownMemberId),
        "it speaks the other protocol"
    );
    let late = Identity {
        generation: one.who.generation + 1,
        ..one.who.clone()
    };
    assert_eq!(beat(&mut world, &late), Err(GroupError::IllegalGeneration));
    assert_eq!(world.commit(late, "t", 0), Err(GroupError::IllegalGeneration));
    let other = JoinRequest {
        protocols: vec![("sticky".to_owned(), subscription())],
        ..Classic::new("c2").request(8)
    };
    world.tokens += 1;
    let step = world.groups.join(world.now_ms, other, Token(world.tokens));
    world.run(step);
    let token = world.tokens;
    assert_eq!(
        Classic::new("c2").joined(&mut world, token).map(|_| ()),
        Err(GroupError::InconsistentGroupProtocol)
    );
    let leaving = [
        LeaveMember {
            member: "stranger".to_owned(),
            instance: None,
        },
        LeaveMember {
            member: "n".to_owned(),
            instance: None,
        },
        LeaveMember {
            member: one.who.member.clone(),
            instance: None,
        },
    ];
    let (answers, step) = world.groups.leave(world.now_ms, GROUP, &leaving);
    world.run(step);
    assert_eq!(answers, [Err(GroupError::UnknownMemberId), Ok(()), Ok(())]);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn a_classic_member_that_does_not_come_again_is_out() {
    let mut world = World::new(&[("t", 4)]);
    let [mut one, two] = classic_pair(&mut world);
    let mut new = Client::new("n", &["t"]);
    new.beat(&mut world).unwrap();
    one.beat(&mut world);
    for _ in 0..12 {
        let asked = world.groups.heartbeat(world.now_ms, &two.who);
        assert_eq!(asked, Err(GroupError::RebalanceInProgress));
        one.beat(&mut world);
        new.beat(&mut world).unwrap();
        world.pass(5000);
    }
    assert_eq!(
        world.groups.heartbeat(world.now_ms, &two.who),
        Err(GroupError::UnknownMemberId)
    );
    for _ in 0..3 {
        one.beat(&mut world);
        new.beat(&mut world).unwrap();
    }
    assert_eq!((one.partitions().len(), new.count()), (2, 2));
}
