//! Stories of partitions that move.

use super::scene::*;
use super::*;

fn to(replicas: Option<&[i32]>) -> Command {
    Command::Reassign {
        changes: vec![Reassignment {
            topic: id(1),
            partition: PartitionIndex(0),
            replicas: replicas.map(ids),
        }],
    }
}

fn five() -> Image {
    let mut image = cluster(&[(1, None), (2, None), (3, None), (4, None), (5, None)]);
    applied(&mut image, &on(&[&[1, 2, 3]], &[]));
    image
}

#[test]
fn a_partition_moves_when_everyone_new_is_in_sync() {
    let mut image = five();
    assert_eq!(answer(&mut image, &to(Some(&[4, 3, 5]))), Ok(()));
    let moving = t(&image);
    assert_eq!(moving.replicas, ids(&[1, 2, 3, 4, 5]));
    assert_eq!((&moving.adding, &moving.removing), (&ids(&[4, 5]), &ids(&[1, 2])));
    assert!(moving.is_moving() && !moving.is_under_replicated());
    expect(&image, Some(1), 0, &[1, 2, 3], &[]);
    answer_to(&mut image, |image| in_sync(image, &[1, 2, 3, 4])).unwrap();
    assert!(t(&image).is_moving());
    answer_to(&mut image, |image| in_sync(image, &[1, 2, 3, 4, 5])).unwrap();
    let moved = t(&image);
    assert_eq!(moved.replicas, ids(&[4, 3, 5]));
    assert!(!moved.is_moving() && moved.adding.is_empty() && moved.removing.is_empty());
    expect(&image, Some(4), 1, &[3, 4, 5], &[]);
}

#[test]
fn a_move_is_taken_back_to_the_old_order() {
    let mut image = five();
    assert_eq!(
        answer(&mut image, &to(None)),
        Err("the partition is not being reassigned".to_owned())
    );
    answer(&mut image, &to(Some(&[4, 5]))).unwrap();
    answer_to(&mut image, |image| in_sync(image, &[1, 4])).unwrap();
    // The move changes its mind: 5 is not needed any more.
    answer(&mut image, &to(Some(&[4]))).unwrap();
    assert_eq!(t(&image).replicas, ids(&[4]), "4 is in sync: it is done");

    let mut image = five();
    answer(&mut image, &to(Some(&[4, 5]))).unwrap();
    answer_to(&mut image, |image| in_sync(image, &[1, 4])).unwrap();
    answer(&mut image, &to(None)).unwrap();
    assert_eq!(t(&image).replicas, ids(&[1, 2, 3]));
    assert!(!t(&image).is_moving());
    expect(&image, Some(1), 1, &[1], &[]);
}

#[test]
fn a_move_is_not_taken_back_while_only_the_new_are_in_sync() {
    let mut image = five();
    answer(&mut image, &to(Some(&[4, 5]))).unwrap();
    answer_to(&mut image, |image| in_sync(image, &[1, 4])).unwrap();
    step(&mut image, |image| fence(image, 1));
    expect(&image, Some(4), 1, &[4], &[]);
    assert_eq!(
        answer(&mut image, &to(None)),
        Err(
            "none of the replicas [1, 2, 3] that would stay is in sync: wait until one of them is".to_owned()
        )
    );
}

#[test]
fn a_new_order_is_no_move() {
    let mut image = five();
    answer(&mut image, &to(Some(&[3, 2, 1]))).unwrap();
    assert_eq!(t(&image).replicas, ids(&[3, 2, 1]));
    expect(&image, Some(1), 0, &[1, 2, 3], &[]);
    // Fewer replicas need no copying either, but a new term: one of them goes.
    answer(&mut image, &to(Some(&[2, 1]))).unwrap();
    assert_eq!(t(&image).replicas, ids(&[2, 1]));
    expect(&image, Some(1), 1, &[1, 2], &[]);
}

#[test]
fn partitions_move_to_brokers_that_can_take_them() {
    let mut image = five();
    let drain = Command::DrainBroker {
        id: BrokerId(5),
        draining: true,
    };
    applied(&mut image, &drain);
    step(&mut image, |image| fence(image, 4));
    let before = image.encode();
    for (replicas, expected) in [
        (&[][..], "replicas [] are empty or name a broker twice"),
        (&[1, 1], "replicas [1, 1] are empty or name a broker twice"),
        (
            &[1, 9],
            "there is no broker 9 in the cluster; 'millstream cluster brokers' lists them",
        ),
        (&[1, 4], "broker 4 is fenced: start it, or choose another one"),
        (
            &[1, 5],
            "broker 5 is draining: choose another one, or end the draining with 'millstream cluster drain 5 --cancel'",
        ),
    ] {
        assert_eq!(answer(&mut image, &to(Some(replicas))), Err(expected.to_owned()));
    }
    assert_eq!(image.encode(), before);
    applied(&mut image, &create("v", 2, 0, &[("millstream.view.source", "t")]));
    let mut view = to(Some(&[1]));
    if let Command::Reassign { changes } = &mut view {
        changes[0].topic = id(2);
    }
    assert_eq!(
        answer(&mut image, &view),
        Err("topic 'v' is a view: its partitions are those of topic 't'".to_owned())
    );
}

#[test]
fn a_partition_does_not_move_to_where_nobody_lives() {
    let mut image = five();
    step(&mut image, |image| fence(image, 2));
    step(&mut image, |image| fence(image, 3));
    let before = image.encode();
    assert_eq!(
        answer(&mut image, &to(Some(&[3, 2]))),
        Err("all of the brokers [3, 2] are fenced: start one of them, or name another one too".to_owned())
    );
    assert_eq!(image.encode(), before);
    assert_eq!(answer(&mut image, &to(Some(&[2, 4]))), Ok(()), "4 lives");
}
