//! What happens to a group is told once, for whoever counts it.

use super::*;

#[test]
fn members_that_come_and_go_and_the_generations_between_are_told() {
    let mut world = World::new();
    let a = world.stable("a");
    assert_eq!(world.events, [Event::Joined, Event::ClassicRebalance]);
    world.events.clear();
    let b = world.start_join(join("b"));
    world.start_join(again(&a));
    let b = identity(&world.joined(b));
    assert_eq!(world.events, [Event::Joined, Event::ClassicRebalance]);
    world.events.clear();
    world.leave(&b.member, None).unwrap();
    assert_eq!(world.events, [Event::Left]);
    world.events.clear();
    world.pass(60_000);
    assert_eq!(
        world.events,
        [Event::Expired],
        "nobody is left, so nothing is given out"
    );
}

#[test]
fn a_static_member_that_comes_again_fences_its_former_self() {
    let mut world = World::new();
    let with_instance = |unique: &str| JoinRequest {
        instance: Some("i".to_owned()),
        unique: unique.to_owned(),
        ..join("a")
    };
    let first = world.start_join(with_instance("1"));
    world.pass(3000);
    let first = identity(&world.joined(first));
    world.start_sync(first.clone(), &[(&first.member, "all")]);
    world.events.clear();
    world.start_join(with_instance("2"));
    assert_eq!(world.events, [Event::Fenced]);
}
