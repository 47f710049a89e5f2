"""kafka-python, as it comes."""

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from harness import wait_until


@pytest.fixture
def admin(broker):
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    yield client
    client.close()


def create(admin, name, partitions=1):
    admin.create_topics([NewTopic(name, partitions, 1)], wait_for_metadata=True)
    wait_until(lambda: name in admin.list_topics(), what="the topic is listed")


def read(consumer, count):
    records = []

    def more():
        for batch in consumer.poll(500).values():
            records.extend(batch)
        return len(records) >= count

    wait_until(more, 30, f"{count} records")
    return records


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_come_back_as_they_were_sent(broker, admin, name, codec):
    create(admin, name, 3)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, compression_type=codec, linger_ms=10)
    values = [b"value %d" % i * (i % 20 + 1) for i in range(1000)]
    sent = [producer.send(name, value, key=b"k%d" % (i % 5), headers=[("h", b"1")]) for i, value in enumerate(values)]
    places = {(f.get(20).partition, f.get(20).offset) for f in sent}
    producer.close()
    assert len(places) == len(values)
    consumer = KafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=name, auto_offset_reset="earliest")
    records = read(consumer, len(values))
    assert sorted(r.value for r in records) == sorted(values)
    assert {(r.partition, r.offset) for r in records} == places
    consumer.close()


@pytest.mark.parametrize("acks", [0, 1])
def test_fewer_acknowledgements(broker, admin, name, acks):
    create(admin, name)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks=acks, enable_idempotence=False)
    for _ in range(50):
        producer.send(name, b"x")
    producer.flush()
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    wait_until(lambda: consumer.end_offsets([TopicPartition(name, 0)])[TopicPartition(name, 0)] == 50)
    consumer.close()


def test_committed_offsets_seek_and_times(broker, admin, name):
    create(admin, name)
    at = TopicPartition(name, 0)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for i in range(10):
        producer.send(name, b"%d" % i, timestamp_ms=1_700_000_000_000 + i * 1000)
    producer.close()
    first = KafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=name, auto_offset_reset="earliest", enable_auto_commit=False)
    read(first, 10)
    first.commit({at: OffsetAndMetadata(4, "here", -1)})
    first.close()
    second = KafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=name)
    assert [r.offset for r in read(second, 6)] == [4, 5, 6, 7, 8, 9]
    assert second.committed(at) == 4
    second.seek(at, 8)
    assert read(second, 1)[0].offset == 8
    assert second.offsets_for_times({at: 1_700_000_002_500})[at].offset == 3
    assert second.offsets_for_times({at: 1_900_000_000_000})[at] is None
    assert (second.beginning_offsets([at])[at], second.end_offsets([at])[at]) == (0, 10)
    second.close()


def test_two_members_share_and_take_over(broker, admin, name):
    create(admin, name, 4)
    make = lambda: KafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=name)  # noqa: E731
    first, second = make(), make()

    def sizes():
        first.poll(50), second.poll(50)
        return len(first.assignment()), len(second.assignment())

    wait_until(lambda: sizes() == (2, 2), 40, "each has two")
    second.close()
    wait_until(lambda: first.poll(50) is not None and len(first.assignment()) == 4, 40, "one has all")
    first.close()


def test_administration(broker, admin, name):
    create(admin, name, 2)
    with pytest.raises(Exception, match="(?i)exists"):
        admin.create_topics([NewTopic(name, 1, 1)])
    admin.create_partitions({name: 4})
    wait_until(lambda: len(admin.describe_topics([name])[0]["partitions"]) == 4)
    resource = ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "1234567"})
    admin.alter_configs([resource])
    shown = lambda: str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all"))  # noqa: E731
    wait_until(lambda: "1234567" in shown())
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for _ in range(10):
        producer.send(name, b"x", partition=1)
    producer.close()
    assert admin.delete_records({TopicPartition(name, 1): 5})
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    assert consumer.beginning_offsets([TopicPartition(name, 1)]) == {TopicPartition(name, 1): 5}
    consumer.close()
    admin.delete_topics([name])
    wait_until(lambda: name not in admin.list_topics())


def test_groups_are_listed_described_and_deleted(broker, admin, name):
    create(admin, name)
    consumer = KafkaConsumer(name, bootstrap_servers=broker.bootstrap, group_id=name)
    # With shorter polls this client may join before it has looked the topic up, and assigns itself nothing.
    wait_until(lambda: consumer.poll(1000) is not None and consumer.assignment(), 30)
    consumer.commit({TopicPartition(name, 0): OffsetAndMetadata(0, "", -1)})
    assert "Stable" in str(admin.describe_groups([name]))
    assert name in str(admin.list_groups())
    consumer.close()
    wait_until(lambda: "Empty" in str(admin.describe_groups([name])))
    admin.delete_groups([name])
    assert name not in str(admin.list_groups())
