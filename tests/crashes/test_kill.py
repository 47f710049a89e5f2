"""The process dies at any moment: what was acknowledged is there, once."""

import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

KILLS = 12
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
            value = f"{self.number}-{count}"
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


def test_killed_brokers_lose_and_repeat_nothing(own_broker, name):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    admin = AdminClient({"bootstrap.servers": own_broker.bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(20)
    writers = [Writer(own_broker.bootstrap, name, number) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 0.7))
            own_broker.kill()
            own_broker.start()
    finally:
        for writer in writers:
            writer.done.set()
        for writer in writers:
            writer.join()
    failures = [str(error) for writer in writers for error in writer.failed]
    assert not failures, f"{len(failures)} failed: {failures[:3]}"
    acknowledged = {key: place for writer in writers for key, place in writer.acknowledged.items()}
    assert len(acknowledged) > 1000
    stored = read_all(own_broker.bootstrap, name)
    values = [value for _, value in stored]
    assert len(values) == len(set(values)), "a record was stored twice"
    found = {value: place for place, value in stored}
    lost = [key for key in acknowledged if key not in found]
    assert not lost, f"{len(lost)} acknowledged records are lost, such as {lost[:5]}"
    # A retry that turned out to be a duplicate is acknowledged without its offset.
    moved = [key for key, place in acknowledged.items() if place[1] >= 0 and found[key] != place]
    assert not moved, f"{len(moved)} records are not where they were said to be, such as {moved[:5]}"
    in_order(stored)


def in_order(stored):
    for partition in range(PARTITIONS):
        for writer in "01":
            numbers = [int(v.split("-")[1]) for (p, _), v in stored if p == partition and v.startswith(f"{writer}-")]
            assert numbers == sorted(numbers), f"partition {partition}, writer {writer} is out of order"


def read_all(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader"})
    partitions = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)]
    ends = {p.partition: consumer.get_watermark_offsets(p, 20)[1] for p in partitions}
    consumer.assign(partitions)
    records, deadline = [], time.monotonic() + 60
    while len(records) < sum(ends.values()):
        assert time.monotonic() < deadline, f"{len(records)} of {sum(ends.values())} records could be read"
        for message in consumer.consume(10_000, 0.5):
            assert message.error() is None, message.error()
            records.append(((message.partition(), message.offset()), message.value().decode()))
    consumer.close()
    return sorted(records)


def test_committed_offsets_survive(own_broker, name):
    producer = Producer({"bootstrap.servers": own_broker.bootstrap})
    producer.produce(name, b"x")
    assert producer.flush(20) == 0
    consumer = Consumer({"bootstrap.servers": own_broker.bootstrap, "group.id": name})
    for offset in range(1, 6):
        consumer.commit(offsets=[TopicPartition(name, 0, offset)], asynchronous=False)
        own_broker.kill()
        own_broker.start()
        assert consumer.committed([TopicPartition(name, 0)], 30)[0].offset == offset
    consumer.close()
