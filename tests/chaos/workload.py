"""Clients that go on whatever happens, and keep a record of what they sent, had acknowledged and read."""

import json
import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from harness import wait_until

# Clients that look again soon after a broker was gone: else most of a run is their waiting.
PATIENCE = {"reconnect.backoff.max.ms": 250, "topic.metadata.refresh.interval.ms": 5000, "socket.timeout.ms": 5000}


def record(value):
    """The record of a value: a key that no other has, and JSON, so that transforms have something to choose by."""
    return {"key": value, "value": json.dumps({"is": value, "odd": is_odd(value)})}


def is_odd(value):
    """Of each sender and partition every other value is."""
    _, partition, count = map(int, value.split("-"))
    return (count - partition) // PARTITIONS % 2 == 1


def said(message):
    """The value of a record."""
    value = json.loads(message.value())["is"]
    assert message.key().decode() == value, f"the key of {value} is {message.key()}"
    return value


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
                producer.produce(self.topic, **record(value), partition=partition, on_delivery=self.report)
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
        value = message.key().decode()
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
                        seen.append((message.partition(), message.offset(), said(message)))
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


class Mover(threading.Thread):
    """Moves every record of a topic to another one, in transactions that hold the records and how far it has read. Now and
    then it is replaced in the middle of a transaction."""

    def __init__(self, bootstrap, source, sink, partitions, seed):
        super().__init__(name="mover", daemon=True)
        self.bootstrap, self.source, self.sink = bootstrap, source, sink
        self.places = [(source, partition) for partition in range(partitions)]
        self.chance = random.Random(seed)
        self.committed = self.incarnations = 0
        self.errors = []
        # Nothing more is written to the source.
        self.done = threading.Event()

    def run(self):
        finished = False
        while not finished:
            self.incarnations += 1
            try:
                finished = self.move()
            except KafkaException as error:
                self.errors.append(error.args[0].name())
                time.sleep(0.2)

    def move(self):
        """One incarnation. True when everything is moved."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "transactional.id": f"{self.sink}-mover",
                "transaction.timeout.ms": 10_000,
                "linger.ms": 2,
                **PATIENCE,
            }
        )
        producer.init_transactions(20)
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.sink}-mover",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                **PATIENCE,
            }
        )
        try:
            # Offsets of a transaction that is not over are not told: that of the incarnation before is by now.
            begun = consumer.committed([TopicPartition(*place) for place in self.places], 20)
            if any(place.error for place in begun):
                raise KafkaException(next(place.error for place in begun if place.error))
            consumer.assign([TopicPartition(b.topic, b.partition, b.offset if b.offset >= 0 else OFFSET_BEGINNING) for b in begun])
            replaced = time.monotonic() + self.chance.uniform(5, 20)
            while True:
                messages = [message for message in consumer.consume(500, 0.2) if not message.error()]
                if not messages:
                    if self.done.is_set() and self.is_at_the_end(consumer):
                        return True
                    continue
                producer.begin_transaction()
                for message in messages:
                    producer.produce(self.sink, message.value(), message.key(), partition=message.partition(), headers={"by": self.name})
                if time.monotonic() > replaced and not self.done.is_set():
                    producer.flush(5)
                    return False
                at = consumer.position([TopicPartition(*place) for place in self.places])
                producer.send_offsets_to_transaction([p for p in at if p.offset >= 0], consumer.consumer_group_metadata(), 20)
                producer.commit_transaction(20)
                self.committed += 1
        finally:
            consumer.close()

    def is_at_the_end(self, consumer):
        ends = [consumer.get_watermark_offsets(TopicPartition(*place), timeout=10)[1] for place in self.places]
        committed = consumer.committed([TopicPartition(*place) for place in self.places], 20)
        return all(place.offset == end for place, end in zip(committed, ends))


def read_committed(bootstrap, topic, counts):
    """The values of so many committed records of each partition, in order; fewer where there are not as many."""
    config = {"bootstrap.servers": bootstrap, "group.id": "final", "enable.auto.commit": False}
    consumer = Consumer({**config, "isolation.level": "read_committed", **PATIENCE})
    found = {}
    for partition, count in counts.items():
        values = found[partition] = []
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        heard = time.monotonic()
        # Whoever has all waits a little for one more, which there should not be.
        while time.monotonic() - heard < (1 if len(values) >= count else 15):
            for message in consumer.consume(1000, 0.2):
                assert message.error() is None, message.error()
                values.append(said(message))
                heard = time.monotonic()
    consumer.close()
    return found


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
                found.append((message.partition(), message.offset(), said(message)))
    consumer.close()
    return found


# Of every topic that the clients write.
PARTITIONS = 6
# After these a record is known not to be stored; after any other error it may be.
DEFINITE = {"MSG_SIZE_TOO_LARGE", "_QUEUE_FULL", "TOPIC_AUTHORIZATION_FAILED", "INVALID_RECORD"}
