"""Producers that go on while their broker comes and goes, and what may be found of their records afterwards."""

import json
import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

PARTITIONS = 3
# Clients that look again soon after a broker was gone: most of the test would be their waiting otherwise.
RETRY = {"reconnect.backoff.max.ms": 200, "queue.buffering.max.messages": 20_000}


class Writer(threading.Thread):
    """An idempotent producer that sends numbers until it is told to end, and knows which were acknowledged."""

    def __init__(self, bootstrap, topic, number):
        super().__init__()
        self.topic, self.number = topic, number
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 120_000, **RETRY}
        )
        self.acknowledged, self.failed, self.done = {}, [], threading.Event()

    def run(self):
        count = 0
        while not self.done.is_set():
            value = json.dumps({"writer": self.number, "count": count, "keep": count % 7 != 0})
            try:
                self.producer.produce(self.topic, value, partition=count % PARTITIONS, on_delivery=self.report)
                count += 1
            except BufferError:
                self.producer.poll(0.05)
            self.producer.poll(0 if count % 50 else 0.005)
        assert self.producer.flush(120) == 0

    def report(self, error, message):
        if error:
            self.failed.append(error)
        else:
            self.acknowledged[message.value().decode()] = (message.partition(), message.offset())


def write_while(bootstrap, topic, happens, times):
    """Two writers write while something happens some times; gives what was acknowledged, with its place."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    writers = [Writer(bootstrap, topic, number) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(times):
            time.sleep(chance.uniform(0.1, 0.7))
            happens()
    finally:
        for writer in writers:
            writer.done.set()
        for writer in writers:
            writer.join()
    failures = [str(error) for writer in writers for error in writer.failed]
    assert not failures, f"{len(failures)} failed: {failures[:3]}"
    acknowledged = {key: place for writer in writers for key, place in writer.acknowledged.items()}
    assert len(acknowledged) > 1000
    return acknowledged


def check(bootstrap, topic, acknowledged, dropped=lambda record: False):
    """Everything that was acknowledged is there once, in order, unless it was to be dropped; gives the places."""
    stored = read_all(bootstrap, topic)
    values = [value for _, value in stored]
    assert len(values) == len(set(values)), "a record was stored twice"
    assert not any(dropped(json.loads(value)) for value in values)
    found = {value: place for place, value in stored}
    lost = [key for key in acknowledged if key not in found and not dropped(json.loads(key))]
    assert not lost, f"{len(lost)} acknowledged records are lost, such as {lost[:5]}"
    numbers = {}
    for (partition, _), value in stored:
        record = json.loads(value)
        # In order is what came in by the same partition and went to the same.
        way = (record["writer"], record["count"] % PARTITIONS, partition)
        numbers.setdefault(way, []).append(record["count"])
    for way, counts in numbers.items():
        assert counts == sorted(counts), f"{way} is out of order"
    return found


def read_all(bootstrap, topic):
    """Every record with its place, in the order of places."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    # Behind a filter there are holes, also at the end: the consumer tells when it is there.
    records, open_partitions, deadline = [], set(range(PARTITIONS)), time.monotonic() + 60
    while open_partitions:
        assert time.monotonic() < deadline, f"{open_partitions} come to no end"
        for message in consumer.consume(10_000, 0.2):
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
                continue
            assert message.error() is None, message.error()
            records.append(((message.partition(), message.offset()), message.value().decode()))
    consumer.close()
    return sorted(records)
