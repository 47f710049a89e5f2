//! Transactions from the command line: what a producer leaves open is seen, and what nobody else ends is ended.

use bytes::Bytes;
use millstream_client::{ClientConfig, Connection};
use millstream_kafka::api::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use millstream_kafka::api::find_coordinator::FindCoordinatorRequest;
use millstream_kafka::api::init_producer_id::InitProducerIdRequest;
use millstream_kafka::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_kafka::records::BatchBuilder;
use millstream_kafka::wire::Text;
use serde_json::{Value, json};

use crate::support::Broker;

/// A producer begins a transaction in the first partition of a topic and goes away. Gives its producer id.
fn leave_open(broker: &Broker, id: &str, topic: &str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = ClientConfig::new(&broker.kafka);
        let connection = Connection::open(&broker.kafka, &config).await.unwrap();
        let limit = config.request_timeout;
        let init = InitProducerIdRequest {
            transactional_id: Some(Text::from(id)),
            transaction_timeout_ms: 600_000,
            ..Default::default()
        };
        // Who looks for a coordinator has it made; it reads its log first.
        let find = FindCoordinatorRequest {
            key_type: 1,
            coordinator_keys: vec![Text::from(id)],
            ..Default::default()
        };
        let given = loop {
            connection.call_at(4, &find, limit).await.unwrap();
            let given = connection.call_at(4, &init, limit).await.unwrap();
            match given.error_code {
                0 => break given,
                14..=16 => tokio::task::yield_now().await,
                code => panic!("error {code}"),
            }
        };
        let add = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Text::from(id),
            v3_and_below_producer_id: given.producer_id,
            v3_and_below_producer_epoch: given.producer_epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: Text::from(topic),
                partitions: vec![0],
            }],
            ..Default::default()
        };
        let added = connection.call_at(3, &add, limit).await.unwrap();
        assert_eq!(
            added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code,
            0
        );
        let batch = batch(given.producer_id, given.producer_epoch);
        let produce = ProduceRequest {
            transactional_id: Some(Text::from(id)),
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: Text::from(topic),
                partition_data: vec![PartitionProduceData {
                    records: Some(batch.into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
        };
        let stored = connection.call_at(11, &produce, limit).await.unwrap();
        assert_eq!(stored.responses[0].partition_responses[0].error_code, 0);
        given.producer_id
    })
}

fn batch(producer_id: i64, epoch: i16) -> Bytes {
    let mut batch = BatchBuilder::new()
        .producer(producer_id, epoch, 0)
        .transactional(true);
    batch.append(1000, None, Some(b"open"), &[]).unwrap();
    batch.finish().unwrap()
}

#[test]
fn a_transaction_that_is_open_is_seen_and_does_not_hang() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t", "--partitions", "2"]);
    assert_eq!(broker.json(&["transaction", "list"]), json!([]));
    let producer = leave_open(&broker, "orders-1", "t");

    let listed = broker.json(&["transaction", "list"]);
    let expected = json!([{"transactional_id": "orders-1", "coordinator": 1, "producer_id": producer, "state": "Ongoing"}]);
    assert_eq!(listed, expected);
    let of = |arguments: &[&str]| broker.json(&[&["transaction", "list"], arguments].concat());
    assert_eq!(of(&["--state", "Ongoing"]), expected);
    assert_eq!(of(&["--state", "CompleteCommit"]), json!([]));
    assert_eq!(of(&["--producer-id", &producer.to_string()]), expected);
    assert_eq!(of(&["--producer-id", "999999"]), json!([]));

    let described = broker.json(&["transaction", "describe", "orders-1"]);
    for (name, value) in [
        ("coordinator", json!(1)),
        ("state", json!("Ongoing")),
        ("producer_id", json!(producer)),
        ("timeout_ms", json!(600_000)),
        ("partitions", json!(["t-0"])),
    ] {
        assert_eq!(described[name], value, "{described}");
    }
    assert!(described["age_ms"].as_i64().unwrap() >= 0, "{described}");
    let shown = broker.run(&["transaction", "describe", "orders-1"]);
    assert!(shown.contains("10 m 0 s") && shown.contains("t-0"), "{shown}");

    assert_eq!(
        broker.json(&["transaction", "find-hanging", "--min-age", "0s"]),
        json!([])
    );
}

#[test]
fn a_transaction_that_its_coordinator_has_forgotten_is_found_and_ended() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    broker.run(&["topic", "create", "source"]);
    broker.run(&["view", "create", "v", "--source", "source"]);
    let producer = leave_open(&broker, "orders-1", "t");
    broker.run_with(&["produce", "t"], "behind it\n");
    let (directory, status) = broker.stop();
    assert!(status.success());
    for entry in std::fs::read_dir(directory.path().join("data")).unwrap() {
        let entry = entry.unwrap();
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("__transaction_state-")
        {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let broker = Broker::start_in(directory);
    assert_eq!(
        broker.json(&["transaction", "find-hanging"]),
        json!([]),
        "it is young"
    );
    let hanging = broker.json(&["transaction", "find-hanging", "--min-age", "0s"]);
    assert_eq!(hanging.as_array().map(Vec::len), Some(1), "{hanging}");
    for (name, value) in [
        ("topic", json!("t")),
        ("partition", json!(0)),
        ("producer_id", json!(producer)),
        ("start_offset", json!(0)),
        ("transactional_id", Value::Null),
        ("reason", json!("no coordinator knows its producer")),
    ] {
        assert_eq!(hanging[0][name], value, "{hanging}");
    }
    let at = ["transaction", "abort", "--topic", "t", "--partition", "0"];
    let abort = |more: &[&'static str]| [&at, more].concat();
    let said = broker.fail(&abort(&["--start-offset", "0"]));
    assert!(said.contains("nothing was done; --yes"), "{said}");
    let aborted = broker.json(&abort(&["--start-offset", "0", "--yes"]));
    assert_eq!(
        (&aborted["producer_id"], &aborted["aborted"]),
        (&json!(producer), &json!(true))
    );
    assert_eq!(
        broker.json(&["transaction", "find-hanging", "--min-age", "0s"]),
        json!([])
    );
    let said = broker.fail(&abort(&["--producer-id", "987654", "--yes"]));
    assert!(
        said.contains("no transaction is open of producer 987654"),
        "{said}"
    );
}

#[test]
fn what_there_is_not_is_named() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    let said = broker.fail(&["transaction", "describe", "nobody"]);
    assert!(
        said.contains("'nobody' does not exist") && said.contains("transaction list"),
        "{said}"
    );
    let said = broker.fail(&["transaction", "list", "--state", "Busy"]);
    assert!(said.contains("'Busy' is no state"), "{said}");
    let said = broker.fail(&["transaction", "find-hanging", "--topic", "nowhere"]);
    assert!(said.contains("'nowhere' does not exist"), "{said}");
    let said = broker.fail(&["transaction", "find-hanging", "--topic", "t", "--partition", "7"]);
    assert!(said.contains("no partition 7"), "{said}");
    let said = broker.fail(&[
        "transaction",
        "abort",
        "--topic",
        "t",
        "--partition",
        "0",
        "--start-offset",
        "5",
    ]);
    assert!(
        said.contains("no transaction is open that begins at offset 5"),
        "{said}"
    );
}
