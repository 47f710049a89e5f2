//! What happens at the coordinators of a whole broker is counted.

use millstream_core::group::{CommitRequest, Response};
use millstream_core::group::{Identity, JoinRequest, LeaveMember, OffsetCommit};
use millstream_core::transaction::{EndRequest, Producer, Version};
use millstream_kafka::ErrorCode;

use super::transaction::Touched;
use crate::plugins::tests::World;

impl World {
    fn count(&self, sample: &str) -> f64 {
        self.context().metrics.sample(sample)
    }

    /// A producer with a transaction that has touched something.
    async fn begun(&self, id: &str, timeout_ms: i32) -> Producer {
        let (context, touched) = (self.context(), Touched::from([("t".into(), vec![0])]));
        let transactions = &context.transactions;
        loop {
            match transactions.init(context, id, timeout_ms, None).await {
                Ok(producer) => {
                    let added = transactions
                        .add(context, id, producer, &touched, Version::V2)
                        .await;
                    added.unwrap();
                    return producer;
                }
                Err(code) if code.retriable() => tokio::task::yield_now().await,
                Err(code) => panic!("{code}"),
            }
        }
    }

    async fn end_transaction(
        &self,
        id: &str,
        producer: Producer,
        is_commit: bool,
    ) -> Result<Producer, ErrorCode> {
        let request = EndRequest {
            producer,
            is_commit,
            version: Version::V2,
            fresh: None,
        };
        self.context().transactions.end(self.context(), id, request).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_counted_by_how_they_end() {
    let world = World::start().await;
    world.create("t", 1, &[]).await.unwrap();
    let context = world.context();
    context.transactions.ensure_started(context).await.unwrap();
    let count =
        |outcome: &str| world.count(&format!("millstream_transactions_total{{outcome=\"{outcome}\"}}"));
    let producer = world.begun("a", 60_000).await;
    world.end_transaction("a", producer, true).await.unwrap();
    assert_eq!((count("committed"), count("aborted")), (1.0, 0.0));
    let producer = world.begun("b", 60_000).await;
    world.end_transaction("b", producer, false).await.unwrap();
    assert_eq!((count("committed"), count("aborted")), (1.0, 1.0));
    let producer = world.begun("c", 60_000).await;
    world.begun("c", 60_000).await;
    assert_eq!(count("aborted"), 2.0, "whoever takes the id ends what was begun");
    assert_eq!(world.count("millstream_fenced_producers_total"), 0.0);
    let refused = world.end_transaction("c", producer, true).await;
    assert_eq!(refused, Err(ErrorCode::ProducerFenced));
    assert_eq!(world.count("millstream_fenced_producers_total"), 1.0);
    world.begun("d", 1).await;
    while count("timed-out") == 0.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((count("committed"), count("aborted")), (1.0, 2.0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_counted_as_they_change_and_as_they_are_loaded() {
    let mut world = World::start().await;
    let context = world.context();
    context.groups.ensure_started(context).await.unwrap();
    let shard = context.groups.shard("g").unwrap();
    let request = || JoinRequest {
        group: "g".to_owned(),
        client_id: "c".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), [0_u8; 4][..].into())],
        unique: "1".to_owned(),
        ..JoinRequest::default()
    };
    while shard.look(|_| ()).is_err() {
        tokio::task::yield_now().await;
    }
    let Ok(Response::Join(joined)) = shard.join(request()).await else {
        panic!("it joins")
    };
    let members = |event: &str| {
        world.count(&format!(
            "millstream_group_member_events_total{{event=\"{event}\"}}"
        ))
    };
    assert_eq!((members("joined"), members("left")), (1.0, 0.0));
    assert_eq!(
        world.count(r#"millstream_group_rebalances_total{protocol="classic"}"#),
        1.0
    );
    let leaving = LeaveMember {
        member: joined.member_id,
        instance: None,
    };
    let left = shard
        .call(|groups, now_ms| groups.leave(now_ms, "g", &[leaving]))
        .await;
    assert_eq!(left.unwrap(), [Ok(())]);
    assert_eq!((members("joined"), members("left")), (1.0, 1.0));
    let commit = CommitRequest {
        who: Identity {
            group: "g".to_owned(),
            generation: -1,
            ..Identity::default()
        },
        offsets: vec![OffsetCommit {
            topic: "t".to_owned(),
            partition: 0,
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    };
    shard
        .call(|groups, now_ms| groups.commit(now_ms, &commit))
        .await
        .unwrap()
        .unwrap();
    let loaded = r#"millstream_coordinator_loaded_total{kind="groups"}"#;
    assert_eq!(world.count(loaded), 0.0);
    world.restart().await;
    while world.count(loaded) == 0.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.count(loaded), 1.0);
    world.end().await;
}
