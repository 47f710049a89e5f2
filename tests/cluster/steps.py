"""What the stories have in common: topics, records written and read, logs compared, refusals."""

import json
import struct
import urllib.request

from brokers import wait_until
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

# Clients that look again soon: else most of a story is their waiting.
PATIENCE = {"reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 5000}


def heal(cluster):
    """Every broker is up, serves, and is in sync wherever it holds something."""
    for node in cluster.nodes.values():
        if node.is_up():
            node.go_on()
        else:
            node.start()
    nodes = cluster.nodes.values()
    wait_until(lambda: all(is_whole(broker) for node in nodes for broker in brokers(node)), 30, "every broker serves and is in sync")


def is_whole(broker):
    return not broker["fenced"] and not broker["lagging"]


def brokers(node):
    """The cluster's brokers as one of them sees them."""
    with urllib.request.urlopen(f"http://{node.http}/v1/cluster", timeout=5) as answer:
        return json.load(answer)["brokers"]


def broker(node, number):
    """One of them; none where there is no such broker."""
    return next((broker for broker in brokers(node) if broker["id"] == number), None)


def make_topic(cluster, name, partitions=1, replicas=3, **config):
    """A topic all of whose replicas are in sync."""
    config = {key.replace("__", "-").replace("_", "."): str(value) for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result(30)
    if "millstream.view.source" not in config:
        cluster.wait_in_sync(name, members=replicas)


def producer(bootstrap, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    return Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2, **PATIENCE, **config})


def write(bootstrap, topic, values, partition=0, seconds=30):
    """Writes records; gives where each of them is."""
    places, failures = {}, []

    def report(error, message):
        if error:
            failures.append(error)
        else:
            places[message.value().decode()] = message.offset()

    writer = producer(bootstrap)
    for value in values:
        writer.produce(topic, value, partition=partition, on_delivery=report)
    assert writer.flush(seconds) == 0, "not everything was acknowledged in time"
    assert not failures, failures[:3]
    return places


def read(bootstrap, topic, count, partitions=(0,), seconds=30, **config):
    """The values of so many records, by partition and offset."""
    config = {key.replace("_", "."): value for key, value in config.items()}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False, **PATIENCE, **config})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    records = []

    def more():
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                records.append(((message.partition(), message.offset()), message.value().decode()))
        return len(records) >= count

    wait_until(more, seconds, f"{count} records of {topic}")
    consumer.close()
    return [value for _, value in sorted(records)]


def high_watermark(bootstrap, topic, partition=0):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
    finally:
        consumer.close()


def numbers(count, first=0):
    return [f"record {number}" for number in range(first, first + count)]


def bytes_below(node, topic, partition, high):
    """A replica's batches as they are on its disk, up to the high watermark."""
    data = b"".join(path.read_bytes() for path in sorted((node.data / f"{topic}-{partition}").glob("*.log")))
    at = 0
    while at + BATCH_HEADER_BYTES <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        (last_delta,) = struct.unpack_from(">i", data, at + LAST_DELTA_AT)
        if base >= high:
            break
        assert base + last_delta < high, "the high watermark is between batches"
        at += OVERHEAD_BYTES + length
    return data[:at]


def same_everywhere(cluster, topic, partitions=1, holders=None):
    """Replicas are the same below the high watermark, byte for byte."""
    for partition in range(partitions):
        high = high_watermark(cluster.bootstrap, topic, partition)

        def same():
            nodes = holders or cluster.nodes.values()
            found = {bytes_below(node, topic, partition, high) for node in nodes}
            return len(found) == 1 and (high == 0 or found != {b""})

        wait_until(same, 10, f"replicas of {topic}-{partition} are the same below {high}")


def move(cluster, topic, replicas, partitions=(0,)):
    """Gives partitions other replicas, the preferred leader first."""
    wanted = [word for partition in partitions for word in ("--replicas", f"{partition}:{','.join(map(str, replicas))}")]
    cluster.admin("topic", "reassign", topic, *wanted)


def refused(cluster, *args, node=None):
    """What is said to a command that must not be carried out."""
    done = cluster.admin(*args, check=False, node=node)
    assert done.returncode != 0, f"{args} was carried out: {done.stdout}"
    assert "panicked" not in done.stderr
    return done.stderr


def leads(cluster, topic, partition=0):
    """The number of the broker that leads, or -1."""
    return cluster.partitions(topic)[partition].leader


LAST_DELTA_AT = 23
BATCH_HEADER_BYTES = 61
OVERHEAD_BYTES = 12
