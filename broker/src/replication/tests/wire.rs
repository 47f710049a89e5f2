//! What a leader does for whoever speaks the protocol, well or badly.

use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};

use super::*;
use crate::partitions::{Position, Slot};
use crate::replication::frame::{ANSWER_BYTES_MAX, Answer, Reason, Request, VERSION, read_frame};
use millstream_core::ids::LeaderEpoch;

/// A follower that is played by the test.
struct Played {
    source: ReadHalf<DuplexStream>,
    sink: WriteHalf<DuplexStream>,
}

impl Played {
    fn of(world: &World, id: i32) -> Self {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let leader = world.nodes[&BrokerId(1)].replication.clone();
        tokio::spawn(serve(leader, BrokerId(id), theirs));
        let (source, sink) = tokio::io::split(ours);
        Self { source, sink }
    }

    async fn say(&mut self, request: Request) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        self.sink.write_all(&bytes).await.unwrap();
    }

    async fn hear(&mut self) -> Answer {
        let frame = within(read_frame(&mut self.source, ANSWER_BYTES_MAX)).await;
        Answer::decode(&frame.unwrap().unwrap()).unwrap()
    }

    async fn follow(&mut self, slot: u32, epoch: i32, position: (i32, i64)) -> Answer {
        let (last_epoch, log_end) = (LeaderEpoch(position.0), Offset(position.1));
        self.say(Request::Follow {
            slot: Slot(slot),
            topic: TOPIC_ID,
            partition: PartitionIndex(0),
            epoch: LeaderEpoch(epoch),
            position: Position {
                last_epoch,
                log_end,
                durable_end: log_end,
            },
        })
        .await;
        self.hear().await
    }

    async fn is_hung_up_on(&mut self) {
        let mut rest = Vec::new();
        let _ = within(self.source.read_to_end(&mut rest)).await;
    }
}

/// A world whose broker 2 is played by the test.
async fn world() -> World {
    let world = World::of(2);
    world.cut(2).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_under_way_than_the_bound() {
    let world = world().await;
    for _ in 0..48 {
        world.append(1, &vec![1; 1 << 20]);
    }
    let mut follower = Played::of(&world, 2);
    let slot = Slot(1);
    assert_eq!(follower.follow(1, 0, (-1, 0)).await, Answer::Accept { slot });
    let mut came = 0;
    loop {
        let frame = read_frame(&mut follower.source, ANSWER_BYTES_MAX);
        match tokio::time::timeout(Duration::from_millis(300), frame).await {
            Ok(frame) => match Answer::decode(&frame.unwrap().unwrap()).unwrap() {
                Answer::Batches { bytes, .. } => came += bytes.len(),
                other => panic!("{other:?}"),
            },
            Err(_) => break,
        }
    }
    assert!((14 << 20..=18 << 20).contains(&came), "{came}");
    let batches = came as i64 / (1 << 20);
    follower
        .say(Request::Ack {
            slot,
            durable_end: Offset(batches),
        })
        .await;
    assert!(matches!(follower.hear().await, Answer::Batches { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_in_another_epoch_or_is_no_replica_is_refused() {
    let world = world().await;
    world.append(1, b"a");
    let slot = Slot(1);
    let refused = |reason| Answer::Refuse { slot, reason };
    let mut follower = Played::of(&world, 2);
    assert_eq!(follower.follow(1, 1, (-1, 0)).await, refused(Reason::NotLeader));
    assert_eq!(follower.follow(1, 0, (0, 1)).await, Answer::Accept { slot });
    let mut stranger = Played::of(&world, 9);
    assert_eq!(stranger.follow(1, 0, (-1, 0)).await, refused(Reason::NotReplica));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_too_far_is_cut() {
    let world = world().await;
    world.append(1, b"a");
    let mut follower = Played::of(&world, 2);
    let (slot, to) = (Slot(1), Offset(1));
    assert_eq!(follower.follow(1, 0, (0, 5)).await, Answer::Truncate { slot, to });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_and_who_speaks_nonsense_are_hung_up_on_and_count_for_nothing() {
    let world = world().await;
    world.append(1, b"a");
    let mut liar = Played::of(&world, 2);
    let slot = Slot(1);
    assert_eq!(liar.follow(1, 0, (-1, 0)).await, Answer::Accept { slot });
    let durable_end = Offset(1000);
    liar.say(Request::Ack { slot, durable_end }).await;
    liar.is_hung_up_on().await;
    assert_eq!(world.partition(1).watermarks().high, Offset(0));
    let (version, broker_epoch) = (VERSION + 1, 0);
    let mut newcomer = Played::of(&world, 2);
    newcomer
        .say(Request::Hello {
            version,
            broker_epoch,
        })
        .await;
    newcomer.is_hung_up_on().await;
    for noise in [
        &[0, 0, 0, 2, 99, 1][..],
        &[255; 64],
        &[0, 0, 0, 0],
        &[0, 0, 0, 5, 2, 0, 0, 0, 1],
    ] {
        let mut noisy = Played::of(&world, 2);
        noisy.sink.write_all(noise).await.unwrap();
        noisy.is_hung_up_on().await;
    }
    let mut honest = Played::of(&world, 2);
    assert_eq!(honest.follow(1, 0, (-1, 0)).await, Answer::Accept { slot });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_stream_of_the_same_follower_stands_in_the_place_of_the_first() {
    let world = world().await;
    let mut first = Played::of(&world, 2);
    let slot = Slot(1);
    assert_eq!(first.follow(1, 0, (-1, 0)).await, Answer::Accept { slot });
    let mut second = Played::of(&world, 2);
    assert_eq!(second.follow(1, 0, (-1, 0)).await, Answer::Accept { slot });
    first.is_hung_up_on().await;
    world.append(1, b"a");
    assert!(matches!(
        second.hear().await,
        Answer::Batches { .. } | Answer::Offsets { .. }
    ));
}
