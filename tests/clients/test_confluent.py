"""confluent-kafka (librdkafka), as it comes."""

import time
import uuid

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from harness import wait_until


@pytest.fixture
def admin(broker):
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def all_of(futures):
    return {key: future.result(20) for key, future in futures.items()}


def create(admin, name, partitions=1, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    all_of(admin.create_topics([NewTopic(name, partitions, 1, config=config)]))
    wait_until(lambda: name in admin.list_topics(timeout=5).topics, what="the topic is in the metadata")


def produce(broker, topic, values, **config):
    delivered, failed = [], []

    def report(error, message):
        (failed if error else delivered).append(error or message)

    producer = Producer({"bootstrap.servers": broker.bootstrap, **config})
    for index, value in enumerate(values):
        producer.produce(topic, value, key=str(index % 7), headers=[("h", b"1"), ("h", b"2")], on_delivery=report)
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed, failed[:3]
    return delivered


def consumer_of(broker, group, **config):
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    return Consumer({**settings, **config})


def read(consumer, count, seconds=30):
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} records"
        for message in consumer.consume(count - len(messages), 0.5):
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_come_back_as_they_were_sent(broker, admin, name, codec):
    create(admin, name, partitions=3)
    values = [f"value {i}".encode() * (i % 30 + 1) for i in range(2000)]
    delivered = produce(broker, name, values, **{"compression.type": codec, "linger.ms": 20})
    assert len({(m.partition(), m.offset()) for m in delivered}) == len(values)
    consumer = consumer_of(broker, name)
    consumer.subscribe([name])
    messages = read(consumer, len(values))
    assert sorted(m.value() for m in messages) == sorted(values)
    assert {str(m.headers()) for m in messages} == {str([("h", b"1"), ("h", b"2")])}
    places = [(m.partition(), m.offset()) for m in messages]
    assert len(set(places)) == len(places)
    consumer.close()


def test_an_idempotent_producer_writes_in_order(broker, admin, name):
    create(admin, name)
    values = [str(i).encode() for i in range(5000)]
    produce(broker, name, values, **{"enable.idempotence": True, "linger.ms": 1})
    consumer = consumer_of(broker, name)
    consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    assert [m.value() for m in read(consumer, len(values))] == values
    consumer.close()


def test_reading_begins_in_the_middle_of_a_batch(broker, admin, name):
    create(admin, name)
    values = [str(i).encode() for i in range(100)]
    produce(broker, name, values, **{"linger.ms": 200, "compression.type": "zstd"})
    consumer = consumer_of(broker, name)
    consumer.assign([TopicPartition(name, 0, 37)])
    messages = read(consumer, 63)
    assert [m.offset() for m in messages] == list(range(37, 100)) and [m.value() for m in messages] == values[37:]
    consumer.close()


def test_a_record_larger_than_a_fetch_is_read(broker, admin, name):
    create(admin, name)
    produce(broker, name, [b"x" * 900_000, b"y"])
    small = {"fetch.message.max.bytes": 10_000, "fetch.max.bytes": 1_000_000, "message.max.bytes": 1_000_000}
    consumer = consumer_of(broker, name, **small)
    consumer.subscribe([name])
    assert [len(m.value()) for m in read(consumer, 2)] == [900_000, 1]
    consumer.close()


def test_absent_and_empty_are_not_the_same(broker, admin, name):
    create(admin, name)
    sent = [(None, b"v", None), (b"", b"", None), (b"k", None, [("h", None), ("h", b""), ("h", b"1"), ("h", b"1")])]
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for key, value, headers in sent:
        producer.produce(name, value, key=key, headers=headers)
    assert producer.flush(20) == 0
    consumer = consumer_of(broker, name)
    consumer.subscribe([name])
    assert [(m.key(), m.value(), m.headers()) for m in read(consumer, 3)] == sent
    consumer.close()


@pytest.mark.parametrize("acks", ["0", "1"])
def test_fewer_acknowledgements(broker, admin, name, acks):
    create(admin, name)
    produce(broker, name, [b"x"] * 100, acks=acks)
    consumer = consumer_of(broker, name)
    consumer.subscribe([name])
    assert len(read(consumer, 100)) == 100
    consumer.close()


def test_a_topic_is_created_by_its_first_record(broker, name):
    assert len(produce(broker, name, [b"x"])) == 1


def test_two_members_share_and_take_over(broker, admin, name):
    create(admin, name, partitions=4)
    first, second = consumer_of(broker, name), consumer_of(broker, name)
    first.subscribe([name])
    wait_until(lambda: first.poll(0.1) or len(first.assignment()) == 4, what="the first has all")
    second.subscribe([name])

    def shared():
        first.poll(0.1), second.poll(0.1)
        return len(first.assignment()) == 2 and len(second.assignment()) == 2

    wait_until(shared, what="each has two partitions")
    second.close()
    wait_until(lambda: first.poll(0.1) or len(first.assignment()) == 4, what="the first has all again")
    first.close()


def test_committed_offsets_are_where_the_next_member_begins(broker, admin, name):
    create(admin, name)
    produce(broker, name, [str(i).encode() for i in range(20)])
    first = consumer_of(broker, name, **{"enable.auto.commit": False})
    first.subscribe([name])
    assert [m.offset() for m in read(first, 10)] == list(range(10))
    first.commit(offsets=[TopicPartition(name, 0, 7)], asynchronous=False)
    first.close()
    second = consumer_of(broker, name)
    second.subscribe([name])
    assert read(second, 1)[0].offset() == 7
    assert second.committed([TopicPartition(name, 0)], 10)[0].offset == 7
    second.seek(TopicPartition(name, 0, 3))
    assert read(second, 1)[0].offset() == 3
    second.close()


def test_a_static_member_comes_back_without_rebalance(broker, admin, name):
    create(admin, name, partitions=2)
    config = {"group.instance.id": "one"}
    first = consumer_of(broker, name, **config)
    first.subscribe([name])
    wait_until(lambda: first.poll(0.1) or len(first.assignment()) == 2)
    first.close()
    second = consumer_of(broker, name, **config)
    second.subscribe([name])
    wait_until(lambda: second.poll(0.1) or len(second.assignment()) == 2)
    second.close()


def test_offsets_for_times_and_watermarks(broker, admin, name):
    create(admin, name)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for i in range(10):
        producer.produce(name, b"x", timestamp=1_700_000_000_000 + i * 1000)
    producer.flush(20)
    consumer = consumer_of(broker, name)
    ask = lambda at: consumer.offsets_for_times([TopicPartition(name, 0, at)], 10)[0].offset  # noqa: E731
    assert ask(1_700_000_000_000) == 0
    assert ask(1_700_000_003_500) == 4
    assert ask(1_800_000_000_000) == -1
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), 10) == (0, 10)
    consumer.close()


def test_too_large_a_record_is_refused(broker, admin, name):
    create(admin, name, max_message_bytes="10000")
    failures = []
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, b"x" * 20_000, on_delivery=lambda error, _: failures.append(error))
    producer.flush(20)
    assert failures[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert len(produce(broker, name, [b"x"])) == 1


def test_topics_are_created_grown_and_deleted(broker, admin, name):
    create(admin, name, 2)
    with pytest.raises(KafkaException) as refused:
        all_of(admin.create_topics([NewTopic(name, 1, 1)]))
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    all_of(admin.create_partitions([NewPartitions(name, 5)]))
    wait_until(lambda: len(admin.list_topics(name, 5).topics[name].partitions) == 5)
    with pytest.raises(KafkaException) as refused:
        all_of(admin.create_partitions([NewPartitions(name, 3)]))
    assert refused.value.args[0].code() == KafkaError.INVALID_PARTITIONS
    all_of(admin.delete_topics([name]))
    wait_until(lambda: name not in admin.list_topics(timeout=5).topics)


def test_configs_are_described_and_altered(broker, admin, name):
    create(admin, name, retention_ms="3600000")
    resource = ConfigResource(ResourceType.TOPIC, name)
    configs = all_of(admin.describe_configs([resource]))[resource]
    assert configs["retention.ms"].value == "3600000" and not configs["retention.ms"].is_default
    assert configs["max.message.bytes"].value == "1048588" and configs["max.message.bytes"].is_default
    change = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    all_of(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change])]))
    read = lambda: all_of(admin.describe_configs([resource]))[resource]["retention.ms"].value  # noqa: E731
    wait_until(lambda: read() == "7200000")
    wrong = ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)
    with pytest.raises(KafkaException) as refused:
        all_of(admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, name, incremental_configs=[wrong])]))
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG


def test_groups_are_listed_described_reset_and_deleted(broker, admin, name):
    create(admin, name)
    produce(broker, name, [b"x"] * 10)
    consumer = consumer_of(broker, name)
    consumer.subscribe([name])
    read(consumer, 10)
    consumer.commit(asynchronous=False)
    described = admin.describe_consumer_groups([name])[name].result(20)
    assert described.state.name == "STABLE" and len(described.members) == 1
    assert described.members[0].assignment.topic_partitions == [TopicPartition(name, 0)]
    assert name in [group.group_id for group in admin.list_consumer_groups().result(20).valid]
    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups([name])[name].result(20)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    consumer.close()
    wait_until(lambda: admin.describe_consumer_groups([name])[name].result(20).state.name == "EMPTY")
    offsets = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 4)])
    admin.alter_consumer_group_offsets([offsets])[name].result(20)
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(20)
    assert [p.offset for p in found.topic_partitions] == [4]
    admin.delete_consumer_groups([name])[name].result(20)


def test_records_are_deleted_up_to_an_offset(broker, admin, name):
    create(admin, name)
    produce(broker, name, [str(i).encode() for i in range(10)])
    done = all_of(admin.delete_records([TopicPartition(name, 0, 6)]))
    assert [result.low_watermark for result in done.values()] == [6]
    found = all_of(admin.list_offsets({TopicPartition(name, 0): OffsetSpec.earliest()}))
    assert [result.offset for result in found.values()] == [6]
    consumer = consumer_of(broker, name)
    consumer.subscribe([name])
    assert [m.offset() for m in read(consumer, 4)] == [6, 7, 8, 9]
    consumer.close()


def test_the_cluster_is_described(broker, admin):
    cluster = admin.describe_cluster().result(20)
    assert [f"{node.host}:{node.port}" for node in cluster.nodes] == [broker.bootstrap]
    assert cluster.cluster_id and cluster.controller.id == cluster.nodes[0].id


def test_an_unknown_topic_is_told(broker):
    consumer = consumer_of(broker, str(uuid.uuid4()))
    consumer.subscribe(["nobody-made-this"])
    message = wait_until(lambda: consumer.poll(0.5))
    assert message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    consumer.close()


def test_a_compacted_topic_keeps_what_was_last_and_takes_no_record_without_a_key(broker, admin, name):
    create(admin, name, cleanup_policy="compact", retention_ms="1", retention_bytes="1")
    produce(broker, name, [f"v{number}" for number in range(21)])
    refused = []
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, "without a key", on_delivery=lambda error, _: refused.append(error))
    assert producer.flush(30) == 0
    assert refused[0].code() == KafkaError.INVALID_RECORD
    consumer = consumer_of(broker, name)
    consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    last = {}

    def has_all():
        for message in consumer.consume(100, 0.2):
            last[message.key()] = message.value()
        return last.get(b"6") == b"v20"

    wait_until(has_all, what="the last value of every key")
    assert last == {str(number % 7).encode(): f"v{number}".encode() for number in range(14, 21)}
    consumer.close()
