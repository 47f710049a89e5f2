//! Stories of elections that somebody asks for.

use super::scene::*;
use super::*;

fn elect(kind: Election, partition: Option<i32>) -> Command {
    let partitions = partition.map(|n| vec![(id(1), PartitionIndex(n))]);
    Command::ElectLeaders { kind, partitions }
}

#[test]
fn preferred_leaders_are_restored_once_they_are_in_sync() {
    let mut image = three("1");
    let preferred = elect(Election::Preferred, Some(0));
    assert_eq!(
        answer(&mut image, &preferred),
        Err("broker 1 leads the partition already".to_owned())
    );
    step(&mut image, |image| fence(image, 1));
    step(&mut image, |image| unfence(image, 1));
    assert_eq!(
        answer(&mut image, &preferred),
        Err("the preferred leader, broker 1, is not in sync, or is fenced or draining".to_owned())
    );
    assert_eq!(image.not_led_by_preferred().count(), 0);
    answer_to(&mut image, |image| in_sync(image, &[1, 2, 3])).unwrap();
    assert_eq!(
        image.not_led_by_preferred().collect::<Vec<_>>(),
        [(id(1), PartitionIndex(0))]
    );
    let all = elect(Election::Preferred, None);
    let elected = Elected {
        topic: id(1),
        partition: PartitionIndex(0),
        result: Ok(BrokerId(1)),
    };
    assert_eq!(applied(&mut image, &all), Outcome::Elections(vec![elected]));
    expect(&image, Some(1), 2, &[1, 2, 3], &[]);
    assert_eq!(apply(&mut image, &all), Ok(Outcome::Elections(Vec::new())));
}

#[test]
fn an_unclean_election_is_for_partitions_without_a_leader() {
    let mut image = three("1");
    let unclean = elect(Election::Unclean, Some(0));
    assert_eq!(
        answer(&mut image, &unclean),
        Err("broker 1 leads the partition already".to_owned())
    );
    for id in [2, 3, 1] {
        step(&mut image, |image| fence(image, id));
    }
    assert_eq!(
        answer(&mut image, &unclean),
        Err("none of the replicas [1, 2, 3] is running: start one of them".to_owned())
    );
    step(&mut image, |image| unfence(image, 3));
    assert_eq!(t(&image).unclean, None);
    assert_eq!(answer(&mut image, &unclean), Ok(()));
    expect(&image, Some(3), 2, &[3], &[]);
    assert_eq!(t(&image).unclean, Some(t(&image).leader_epoch));
    // The old leader comes back with more: it is not in sync any more, and has to give that up.
    step(&mut image, |image| unfence(image, 1));
    expect(&image, Some(3), 2, &[3], &[]);
    assert_eq!(
        answer(&mut image, &elect(Election::Unclean, Some(4))),
        Err("topic 't' has no partition 4".to_owned())
    );
}
