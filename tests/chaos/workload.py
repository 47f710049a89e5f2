"""Clients that go on whatever happens, and keep a record of what they sent, had acknowledged and read."""

import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from harness import wait_until

# Clients that look again soon after a broker was gone: else most of a run is their waiting.
PATIENCE = {"reconnect.backoff.max.ms": 250, "topic.metadata.refresh.interval.ms": 5000, "socket.timeout.ms": 5000}


class Sender(threading.Thread):
    """An idempotent producer with all acknowledgements. Every value is sent once and names its place in the sequence."""

    def __init__(self, bootstrap, topic, partitions, number, per_second=400):
        super().__init__(name=f"sender-{number}", daemon=True)
        self.topic, self.partitions, self.number, self.pause = topic, partitions, number, 1 / per_second
        self.config = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 2,
            "message.timeout.ms": 300_000,
            "queue.buffering.max.messages": 5_000,
            **PATIENCE,
        }
        # What was sent, by value; what was acknowledged, with its place and when; what is known not to be stored; what
        # nobody knows of.
        self.sent, self.acknowledged, self.refused, self.unknown = {}, {}, {}, {}
        self.acknowledged_at = []
        self.longest_pause = 0.0
        self.done = threading.Event()

    def run(self):
        producer = Producer(self.config)
        count = 0
        while not self.done.is_set():
            partition = count % self.partitions
            value = f"{self.number}-{partition}-{count}"
            try:
                producer.produce(self.topic, value, partition=partition, on_delivery=self.report)
                self.sent[value] = partition
                count += 1
            except BufferError:
                producer.poll(0.05)
            except KafkaException as error:
                # A producer that cannot go on says so for good; a new one takes its place.
                if error.args[0].fatal():
                    producer.flush(10)
                    producer = Producer(self.config)
                else:
                    raise
            producer.poll(self.pause)
        left = producer.flush(120)
        assert left == 0, f"{left} records were neither acknowledged nor refused within two minutes of quiet"

    def report(self, error, message):
        value = message.value().decode()
        if error is None:
            now = time.monotonic()
            if self.acknowledged_at:
                self.longest_pause = max(self.longest_pause, now - self.acknowledged_at[-1])
            self.acknowledged_at.append(now)
            self.acknowledged[value] = (message.partition(), message.offset())
        elif error.name() in DEFINITE:
            self.refused[value] = error.name()
        else:
            self.unknown[value] = error.name()


class Reader(threading.Thread):
    """Reads every partition over and over from where it is, and now and then from the beginning."""

    def __init__(self, bootstrap, topic, partitions, seed):
        super().__init__(name="reader", daemon=True)
        self.topic, self.partitions = topic, partitions
        self.chance = random.Random(seed)
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{topic}-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                **PATIENCE,
            }
        )
        # Each pass: what came, in the order in which it came.
        self.passes = []
        self.errors = []
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            seen = []
            self.passes.append(seen)
            self.consumer.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p in range(self.partitions)])
            until = time.monotonic() + self.chance.uniform(5, 15)
            while time.monotonic() < until and not self.done.is_set():
                for message in self.consumer.consume(500, 0.2):
                    if message.error():
                        self.errors.append(message.error().name())
                    else:
                        seen.append((message.partition(), message.offset(), message.value().decode()))
        self.consumer.close()


class Committer(threading.Thread):
    """A group of one that commits how far it read, and asks now and then what is committed."""

    def __init__(self, bootstrap, topic, partitions):
        super().__init__(name="committer", daemon=True)
        self.topic, self.partitions = topic, partitions
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{topic}-committer",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": 10_000,
                **PATIENCE,
            }
        )
        # (kind, partition, offset): what was acknowledged as committed, and what was found committed, in order.
        self.events = []
        self.done = threading.Event()

    def run(self):
        self.consumer.subscribe([self.topic])
        while not self.done.is_set():
            messages = [m for m in self.consumer.consume(200, 0.2) if not m.error()]
            ends = {}
            for message in messages:
                ends[message.partition()] = message.offset() + 1
            if not ends:
                continue
            places = [TopicPartition(self.topic, partition, offset) for partition, offset in ends.items()]
            try:
                self.consumer.commit(offsets=places, asynchronous=False)
                self.events += [("committed", place.partition, place.offset) for place in places]
                found = self.consumer.committed(places, timeout=5)
                self.events += [("found", place.partition, place.offset) for place in found if place.error is None]
            except KafkaException:
                # Nobody knows whether it is committed; the next one says more.
                continue
        self.consumer.close()


def read_all(bootstrap, topic, partitions):
    """Every record there is: (partition, offset, value)."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "final", "enable.auto.commit": False, **PATIENCE})
    found = []
    for partition in range(partitions):
        place = TopicPartition(topic, partition, OFFSET_BEGINNING)
        # The partition may go back to its preferred leader just now: this call does not try again by itself.
        _, end = wait_until(lambda: consumer.get_watermark_offsets(place, timeout=30), 30, "the end of the log is told")
        consumer.assign([place])
        deadline = time.monotonic() + 60
        while consumer.position([place])[0].offset < end:
            assert time.monotonic() < deadline, f"{topic}-{partition} cannot be read to its end {end}"
            for message in consumer.consume(1000, 0.5):
                assert message.error() is None, message.error()
                found.append((message.partition(), message.offset(), message.value().decode()))
    consumer.close()
    return found


# After these a record is known not to be stored; after any other error it may be.
DEFINITE = {"MSG_SIZE_TOO_LARGE", "_QUEUE_FULL", "TOPIC_AUTHORIZATION_FAILED", "INVALID_RECORD"}
