//! What the assignors promise.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

fn problem(topics: &[i32], members: &[&[usize]]) -> Problem {
    let topics: BTreeMap<_, _> = (0..).map(topic).zip(topics.iter().copied()).collect();
    let member = |(n, wanted): (usize, &&[usize])| {
        let subscriber = Subscriber {
            topics: wanted.iter().map(|t| topic(*t as u128)).collect(),
            ..Subscriber::default()
        };
        (Arc::from(format!("m{n:04}")), subscriber)
    };
    let members = members.iter().enumerate().map(member).collect();
    Problem { members, topics }
}

fn loads(assigned: &BTreeMap<Arc<str>, Partitions>) -> Vec<usize> {
    let load = |held: &Partitions| held.values().map(BTreeSet::len).sum();
    assigned.values().map(load).collect()
}

fn pairs(held: &Partitions) -> BTreeSet<(TopicId, PartitionIndex)> {
    held.iter()
        .flat_map(|(topic, p)| p.iter().map(|p| (*topic, *p)))
        .collect()
}

/// Every partition that somebody wants has exactly one owner, who wants it.
fn check_whole(problem: &Problem, assigned: &BTreeMap<Arc<str>, Partitions>) {
    let mut seen = BTreeSet::new();
    assert!(assigned.keys().eq(problem.members.keys()));
    for (id, held) in assigned {
        for (topic, partition) in pairs(held) {
            assert!(
                problem.members[id].topics.contains(&topic),
                "{id} does not want {topic}"
            );
            assert!((0..problem.topics[&topic]).contains(&partition.0));
            assert!(
                seen.insert((topic, partition)),
                "{topic} {partition} has two owners"
            );
        }
        assert!(held.values().all(|p| !p.is_empty()));
    }
    let wanted: BTreeSet<_> = problem.members.values().flat_map(|m| &m.topics).collect();
    let all: i32 = wanted.iter().filter_map(|topic| problem.topics.get(topic)).sum();
    assert_eq!(seen.len(), all as usize, "some partitions have no owner");
}

fn keep(problem: &mut Problem, assigned: BTreeMap<Arc<str>, Partitions>) {
    for (id, before) in assigned {
        if let Some(member) = problem.members.get_mut(&id) {
            member.before = before;
        }
    }
}

fn moved(problem: &Problem, assigned: &BTreeMap<Arc<str>, Partitions>) -> usize {
    let members = problem.members.iter();
    members
        .map(|(id, member)| pairs(&member.before).difference(&pairs(&assigned[id])).count())
        .sum()
}

#[test]
fn uniform_gives_a_newcomer_its_share_and_moves_nothing_else() {
    let mut two = problem(&[6], &[&[0], &[0]]);
    let first = Assignor::Uniform.assign(&two);
    assert_eq!(loads(&first), [3, 3]);
    keep(&mut two, first);
    let third = problem(&[6], &[&[0], &[0], &[0]]);
    let mut three = two.clone();
    three
        .members
        .insert("m0002".into(), third.members["m0002"].clone());
    let assigned = Assignor::Uniform.assign(&three);
    assert_eq!(loads(&assigned), [2, 2, 2]);
    assert_eq!(moved(&three, &assigned), 2);
}

#[test]
fn uniform_makes_up_for_members_that_can_have_less() {
    let assigned = Assignor::Uniform.assign(&problem(&[4, 4], &[&[0], &[0, 1], &[1]]));
    let mut shares = loads(&assigned);
    shares.sort_unstable();
    assert_eq!(shares, [2, 3, 3]);
    let lopsided = problem(&[2, 8], &[&[0, 1], &[0]]);
    assert_eq!(loads(&Assignor::Uniform.assign(&lopsided)), [8, 2]);
}

#[test]
fn range_cuts_topics_that_are_alike_in_the_same_way() {
    let mut problem = problem(&[5, 5], &[&[0, 1], &[0, 1]]);
    let assigned = Assignor::Range.assign(&problem);
    let ranges = |id: &str, t| assigned[id][&topic(t)].iter().map(|p| p.0).collect::<Vec<_>>();
    assert_eq!(
        (ranges("m0000", 0), ranges("m0001", 0)),
        (vec![0, 1, 2], vec![3, 4])
    );
    assert_eq!(
        (ranges("m0000", 1), ranges("m0001", 1)),
        (vec![0, 1, 2], vec![3, 4])
    );
    // A static member keeps its range whatever its id.
    problem.members.get_mut("m0001").unwrap().instance = Some("i".to_owned());
    let assigned = Assignor::Range.assign(&problem);
    assert_eq!(assigned["m0001"][&topic(0)].len(), 3);
}

#[test]
fn without_members_or_topics_there_is_nothing_to_do() {
    for assignor in Assignor::ALL {
        assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
        assert!(assignor.assign(&problem(&[3], &[])).is_empty());
        assert_eq!(loads(&assignor.assign(&problem(&[], &[&[], &[]]))), [0, 0]);
        assert_eq!(loads(&assignor.assign(&problem(&[0, 1], &[&[0]]))), [0]);
    }
}

#[test]
fn large_groups_take_milliseconds() {
    let everything: Vec<usize> = (0..9).collect();
    let members = vec![everything.as_slice(); 10];
    let mut mixed = members.clone();
    mixed[3] = &everything[..5];
    let topics = [100; 9];
    for members in [members, mixed] {
        for assignor in Assignor::ALL {
            let problem = problem(&topics, &members);
            let started = std::time::Instant::now();
            let assigned = assignor.assign(&problem);
            let took = started.elapsed();
            check_whole(&problem, &assigned);
            // A hundred times what it takes without optimisation on a busy machine would still be seen.
            assert!(took.as_millis() < 500, "{} took {took:?}", assignor.name());
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Join(usize, Vec<usize>),
    Leave(usize),
    Resize(usize, i32),
}

fn any_change(homogeneous: bool) -> impl Strategy<Value = Change> {
    let wanted = match homogeneous {
        true => Just(vec![0, 1, 2, 3]).boxed(),
        false => prop::collection::vec(0..4_usize, 0..4).boxed(),
    };
    prop_oneof![
        3 => (0..8_usize, wanted).prop_map(|(n, wanted)| Change::Join(n, wanted)),
        2 => (0..8_usize).prop_map(Change::Leave),
        1 => (0..4_usize, 0..12_i32).prop_map(|(t, count)| Change::Resize(t, count)),
    ]
}

fn change(problem: &mut Problem, change: &Change) {
    match change {
        Change::Join(n, wanted) => {
            let topics = wanted.iter().map(|t| topic(*t as u128)).collect();
            let member = problem.members.entry(format!("m{n:04}").into()).or_default();
            member.topics = topics;
        }
        Change::Leave(n) => {
            problem.members.remove(format!("m{n:04}").as_str());
        }
        Change::Resize(t, count) => {
            problem.topics.insert(topic(*t as u128), *count);
        }
    }
}

/// What somebody had and may keep.
fn still_there(problem: &Problem) -> BTreeMap<Arc<str>, BTreeSet<(TopicId, PartitionIndex)>> {
    let mut seen = BTreeSet::new();
    let members = problem.members.iter();
    members
        .map(|(id, member)| {
            let kept = pairs(&member.before).into_iter().filter(|(topic, partition)| {
                member.topics.contains(topic)
                    && (0..problem.topics[topic]).contains(&partition.0)
                    && seen.insert((*topic, *partition))
            });
            (id.clone(), kept.collect())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn uniform_is_even_and_moves_no_more_than_it_has_to(changes in prop::collection::vec(any_change(true), 1..30)) {
        let mut problem = problem(&[3, 7, 1, 0], &[]);
        for next in &changes {
            change(&mut problem, next);
            let assigned = Assignor::Uniform.assign(&problem);
            check_whole(&problem, &assigned);
            let loads = loads(&assigned);
            let (least, most) = (loads.iter().min().copied().unwrap_or(0), loads.iter().max().copied().unwrap_or(0));
            prop_assert!(most - least <= 1, "{loads:?}");
            // Who had too much gives the surplus away, and nothing else moves.
            let kept = still_there(&problem);
            let total: usize = loads.iter().sum();
            let (each, more) = (total / loads.len().max(1), total % loads.len().max(1));
            let richer = kept.values().filter(|kept| kept.len() > each).count();
            let surplus: usize = kept.values().map(|kept| kept.len().saturating_sub(each)).sum();
            let lost: usize = kept.iter().map(|(id, kept)| kept.difference(&pairs(&assigned[id])).count()).sum();
            prop_assert_eq!(lost, surplus - richer.min(more));
            keep(&mut problem, assigned);
        }
    }

    #[test]
    fn uniform_is_as_even_as_subscriptions_let_it(changes in prop::collection::vec(any_change(false), 1..30)) {
        let mut problem = problem(&[3, 7, 1, 9], &[]);
        for next in &changes {
            change(&mut problem, next);
            let assigned = Assignor::Uniform.assign(&problem);
            check_whole(&problem, &assigned);
            let load = |id: &Arc<str>| pairs(&assigned[id]).len();
            for (giver, held) in &assigned {
                for (taker, member) in &problem.members {
                    let could_move = held.keys().any(|topic| member.topics.contains(topic));
                    prop_assert!(!could_move || load(giver) <= load(taker) + 1, "{giver} could give to {taker}");
                }
            }
            keep(&mut problem, assigned.clone());
            prop_assert_eq!(Assignor::Uniform.assign(&problem), assigned, "what is even stays as it is");
        }
    }

    #[test]
    fn range_gives_consecutive_partitions(changes in prop::collection::vec(any_change(false), 1..30)) {
        let mut problem = problem(&[3, 7, 1, 9], &[]);
        for next in &changes {
            change(&mut problem, next);
            let assigned = Assignor::Range.assign(&problem);
            check_whole(&problem, &assigned);
            for partitions in assigned.values().flat_map(Partitions::values) {
                let (first, last) = (partitions.first().unwrap().0, partitions.last().unwrap().0);
                prop_assert_eq!((last - first + 1) as usize, partitions.len());
            }
            for topic in problem.topics.keys() {
                let takers = problem.members.iter().filter(|(_, member)| member.topics.contains(topic));
                let sizes: Vec<usize> = takers.map(|(id, _)| assigned[id].get(topic).map_or(0, BTreeSet::len)).collect();
                let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
                prop_assert!(most - least <= 1);
            }
        }
    }
}
