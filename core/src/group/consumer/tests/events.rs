//! What happens to a group is told once, for whoever counts it.

use super::*;

#[test]
fn members_that_come_and_go_and_what_is_given_out_anew_are_told() {
    let mut world = World::new(&[("t", 4)]);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat(&mut world).unwrap();
    assert_eq!(world.events, [Event::Joined, Event::ConsumerRebalance]);
    world.events.clear();
    b.beat(&mut world).unwrap();
    assert_eq!(world.events, [Event::Joined, Event::ConsumerRebalance]);
    for _ in 0..3 {
        a.beat(&mut world).unwrap();
        b.beat(&mut world).unwrap();
    }
    world.events.clear();
    let leave = ConsumerHeartbeat {
        epoch: LEAVE_EPOCH,
        ..b.request()
    };
    world.beat(&leave).unwrap();
    assert_eq!(world.events, [Event::Left]);
    a.beat(&mut world).unwrap();
    assert_eq!(world.events, [Event::Left, Event::ConsumerRebalance]);
    world.events.clear();
    world.pass(60_000);
    assert_eq!(world.events, [Event::Expired]);
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_fenced() {
    let mut world = World::new(&[("t", 4)]);
    let (mut a, mut b) = (Client::new("a", &["t"]), Client::new("b", &["t"]));
    a.beat(&mut world).unwrap();
    b.beat(&mut world).unwrap();
    let slow = ConsumerHeartbeat {
        owned: Some(a.owned()),
        ..a.request()
    };
    world.events.clear();
    for _ in 0..7 {
        // It lives, and keeps what it has.
        let _ = world.beat(&slow);
        let _ = b.beat(&mut world);
        world.pass(10_000);
    }
    assert_eq!(world.events, [Event::Fenced, Event::ConsumerRebalance]);
}
