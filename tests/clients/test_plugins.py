"""Plugins at work between real clients: what is written through a partitioner and an ingest filter, and read through a view.

Apache Kafka has nothing to compare with; with `--target kafka` these tests are skipped.
"""

import asyncio
import json
import os
import re
import subprocess

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import UnknownError
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import InvalidRecordError

from harness import BINARY, ROOT, TARGET, wait_until
from javatools import consume, fill, groups, tool_of_any_exit

FLIGHTS = [line for line in (ROOT / "examples/flights/flights.jsonl").read_text().splitlines() if line][:600]
MALFORMED = ["{", '{"carrier": 7}', "no JSON at all"]
PARTITIONS = 4
VALID = json.dumps([{"plugin": "validate-json", "config": {"required": {"/carrier": "string"}}}])
VIEW = json.dumps(
    [
        {"plugin": "filter-json", "config": {"where": "/dep_delay > 30"}},
        {"plugin": "mask@latest", "config": {"pointers": ["/tailnum"]}},
    ]
)


def delayed(lines):
    """What the view makes of them, done by hand."""
    shown = []
    for line in lines:
        flight = json.loads(line)
        if (flight["dep_delay"] or 0) > 30:
            if flight.get("tailnum") is not None:
                flight["tailnum"] = "***"
            shown.append(json.dumps(flight, sort_keys=True))
    return sorted(shown)


def same_form(values):
    return sorted(json.dumps(json.loads(value), sort_keys=True) for value in values)


@pytest.fixture(scope="module")
def plugins(broker):
    """The shipped plugins, pushed with the command line."""
    if broker.name != "millstream":
        pytest.skip("only Millstream has plugins")
    for file in ("by_field", "filter_json", "mask", "validate_json"):
        path = TARGET / "plugins" / f"{file}.wasm"
        assert path.exists(), f"{path} is missing: `cargo xtask plugins` builds it"
        millstream(broker, "plugin", "push", str(path))
    return broker


def millstream(broker, *args):
    environment = {**os.environ, "MILLSTREAM_BOOTSTRAP": broker.bootstrap, "MILLSTREAM_ADMIN": f"http://{broker.http}"}
    done = subprocess.run([BINARY, *args, "--output", "json"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(broker, name, partitions=PARTITIONS, **config):
    """Any client can attach plugins: they are in the topic's configs."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    config = {key.replace("__", "-").replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(60)


def create_flights(broker, name, **config):
    partitioner = {"millstream_partitioner": "by-field", "millstream_partitioner_config": '{"pointer":"/carrier"}'}
    create(broker, name, **partitioner, millstream_ingest=VALID, **config)


def write_with_kcat(broker, name, lines):
    command = ["kcat", "-b", broker.bootstrap, "-P", "-t", name]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def write_with_confluent(broker, name, lines):
    failed = []
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for line in lines:
        producer.produce(name, line, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(30) == 0 and not failed, failed[:3]


def write_with_kafka_python(broker, name, lines):
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    sent = [producer.send(name, line.encode()) for line in lines]
    for each in sent:
        each.get(30)
    producer.close()


def write_with_aiokafka(broker, name, lines):
    async def story():
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            sent = [await producer.send(name, line.encode()) for line in lines]
            await asyncio.wait_for(asyncio.gather(*sent), 30)

    asyncio.run(story())


def read_with_kcat(broker, name, group, count):
    command = ["kcat", "-b", broker.bootstrap, "-G", group, "-c", str(count), "-q"]
    command += ["-X", "auto.offset.reset=earliest", "-X", "isolation.level=read_committed", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def read_with_confluent(broker, name, group, count):
    # Reads what is committed unless told otherwise, as all that comes of librdkafka.
    config = {"group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, **config})
    consumer.subscribe([name])
    values = []

    def more():
        for message in consumer.consume(count - len(values), 0.5):
            assert message.error() is None, message.error()
            values.append(message.value())
        return len(values) >= count

    wait_until(more, 40, f"{count} records")
    consumer.close()
    return values


def read_with_kafka_python(broker, name, group, count):
    config = {"group_id": group, "auto_offset_reset": "earliest", "isolation_level": "read_committed"}
    consumer = KafkaConsumer(name, bootstrap_servers=broker.bootstrap, **config)
    values = []

    def more():
        values.extend(record.value for batch in consumer.poll(500).values() for record in batch)
        return len(values) >= count

    wait_until(more, 40, f"{count} records")
    consumer.close()
    return values


def read_with_aiokafka(broker, name, group, count):
    async def story():
        config = {"group_id": group, "auto_offset_reset": "earliest", "isolation_level": "read_committed"}
        async with AIOKafkaConsumer(name, bootstrap_servers=broker.bootstrap, **config) as consumer:
            return [(await asyncio.wait_for(consumer.getone(), 40)).value for _ in range(count)]

    return asyncio.run(story())


def read_with_java(broker, name, group, count):
    return consume(broker, name, count, "--group", group, "--isolation-level", "read_committed")


CLIENTS = {
    "kcat": (write_with_kcat, read_with_kcat),
    "confluent": (write_with_confluent, read_with_confluent),
    "kafka-python": (write_with_kafka_python, read_with_kafka_python),
    "aiokafka": (write_with_aiokafka, read_with_aiokafka),
    "java": (fill, read_with_java),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_record_goes_all_the_way(plugins, name, client):
    broker, (write, read) = plugins, CLIENTS[client]
    bad, view = f"{name}.bad", f"{name}.delayed"
    create(broker, bad)
    create_flights(broker, name, millstream_ingest_on__error=f"dead-letter:{bad}")
    create(broker, view, -1, millstream_view_source=name, millstream_view_plugins=VIEW)
    write(broker, name, FLIGHTS + MALFORMED)
    expected = delayed(FLIGHTS)
    assert same_form(read(broker, view, f"{name}-g", len(expected))) == expected
    everything = read(broker, name, f"{name}-all", len(FLIGHTS))
    assert same_form(everything) == same_form(FLIGHTS)
    assert sorted(text(v) for v in read(broker, bad, f"{name}-bad", len(MALFORMED))) == sorted(MALFORMED)
    caught_up(broker, view, f"{name}-g")


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def caught_up(broker, view, group):
    """The group's offsets are those of the view's source, and behind them there is nothing more to read."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    partitions = [TopicPartition(view, p) for p in range(PARTITIONS)]
    assert sum(consumer.get_watermark_offsets(p, 20)[1] for p in partitions) == len(FLIGHTS)
    committed = consumer.committed(partitions, 20)
    assert any(p.offset > 0 for p in committed)
    consumer.assign([TopicPartition(view, p.partition, max(p.offset, 0)) for p in committed])
    assert consumer.consume(1, 0.5) == []
    consumer.close()


def test_a_partitioner_puts_records_of_all_clients_together(plugins, name):
    broker = plugins
    create_flights(broker, name)
    for write, _ in CLIENTS.values():
        write(broker, name, FLIGHTS[:200])
    places = {}
    for message in all_messages(broker, name, 200 * len(CLIENTS)):
        places.setdefault(json.loads(message.value())["carrier"], set()).add(message.partition())
    assert len(places) > 4 and all(len(partitions) == 1 for partitions in places.values()), places
    # As Java's default partitioner would have done with the carrier as the key.
    create(broker, f"{name}-keys")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for carrier in places:
        producer.produce(f"{name}-keys", b"", key=carrier)
    assert producer.flush(20) == 0
    keyed = {message.key().decode(): {message.partition()} for message in all_messages(broker, f"{name}-keys", len(places))}
    assert keyed == places


def all_messages(broker, name, count):
    config = {"group.id": f"{name}-reader", "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, **config})
    consumer.subscribe([name])
    messages = []
    wait_until(lambda: messages.extend(consumer.consume(1000, 0.3)) or len(messages) >= count, 40, f"{count} records")
    consumer.close()
    assert len(messages) == count and not any(message.error() for message in messages)
    return messages


def test_what_ingest_refuses_is_told_to_each_client(plugins, name):
    broker = plugins
    create(broker, name, 1, millstream_ingest=VALID)
    failures = []
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, b"{", on_delivery=lambda error, _: failures.append(error))
    producer.flush(20)
    assert failures[0].code() == KafkaError.INVALID_RECORD
    other = KafkaProducer(bootstrap_servers=broker.bootstrap)
    with pytest.raises(InvalidRecordError, match="not JSON"):
        other.send(name, b"{").get(20)
    other.close()

    async def story():
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            # It has no name for the error, and does not try again.
            with pytest.raises(UnknownError):
                await asyncio.wait_for(producer.send_and_wait(name, b"{"), 20)

    asyncio.run(story())
    # Its records are numbers, and no objects with a carrier.
    out = tool_of_any_exit(broker, "VerifiableProducer", "--topic", name, "--max-messages", "1")
    assert "InvalidRecordException" in out and "carrier" in out, out
    write_with_confluent(broker, name, FLIGHTS[:1])
    assert [message.offset() for message in all_messages(broker, name, 1)] == [0]


def test_a_view_is_for_reading(plugins, name):
    broker, view = plugins, f"{name}.view"
    create(broker, name, 1)
    create(broker, view, -1, millstream_view_source=name, millstream_view_plugins=VIEW)
    failures = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 10_000})
    producer.produce(view, b"{}", on_delivery=lambda error, _: failures.append(error))
    producer.flush(20)
    assert failures and failures[0] is not None and not failures[0].retriable()


def test_members_of_a_group_share_a_view(plugins, name):
    broker, view = plugins, f"{name}.view"
    create_flights(broker, name)
    create(broker, view, -1, millstream_view_source=name, millstream_view_plugins=VIEW)
    config = {"bootstrap.servers": broker.bootstrap, "group.id": name, "auto.offset.reset": "earliest"}
    members = [Consumer({**config, "enable.auto.commit": False}) for _ in range(2)]
    for member in members:
        member.subscribe([view])
    values = []

    def shared():
        for member in members:
            values.extend(message.value() for message in member.consume(100, 0.05))
        return [len(member.assignment()) for member in members] == [2, 2]

    wait_until(shared, 40, "each has two partitions of the view")
    write_with_confluent(broker, name, FLIGHTS)
    expected = delayed(FLIGHTS)
    wait_until(lambda: shared() and len(values) >= len(expected), 40, "all of the view is read")
    assert same_form(values) == expected
    for member in members:
        member.commit(asynchronous=False)
        member.close()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(20)
    assert {p.topic for p in found.topic_partitions} == {view}
    lags = re.findall(rf"{name} +{re.escape(view)} +\d+ +\d+ +\d+ +(\d+) ", groups(broker, "--describe", "--group", name))
    assert lags, "Kafka's tool shows how far the group is"
