"""Clients whose transactions write to several partitions and read in between, and who say how each of them ended."""

import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from workload import PARTITIONS, PATIENCE, record, said


class Transaction:
    """What one transaction wrote and read, and how it ended: committed, aborted, or unknown."""

    def __init__(self, process):
        self.process = process
        self.wrote = []
        # (partition, offset, value), in the order in which they came.
        self.read = []
        # By value: where it was stored, as the broker said.
        self.acknowledged = {}
        self.outcome = "unknown"


class Transactor(threading.Thread):
    """One transaction after the other, of one to six steps: a record to some partition, or what is committed elsewhere. One in
    eight it aborts, one in thirty it leaves open, and another producer with its transactional id takes over."""

    def __init__(self, bootstrap, topic, number, seed):
        super().__init__(name=f"transactor-{number}", daemon=True)
        self.bootstrap, self.topic, self.number = bootstrap, topic, number
        self.chance = random.Random(seed)
        self.count = 0
        self.transactions, self.errors = [], []
        # Each reading from the beginning: what came.
        self.passes = []
        self.done = threading.Event()

    def run(self):
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.topic}-{self.number}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                **PATIENCE,
            }
        )
        while not self.done.is_set():
            try:
                self.incarnation(consumer)
            except KafkaException as error:
                self.errors.append(error.args[0].name())
                time.sleep(0.2)
        self.finish()
        consumer.close()

    def finish(self):
        """Whoever takes the transactional id over ends what was left open."""
        until = time.monotonic() + 60
        while True:
            try:
                return self.producer()
            except KafkaException:
                if time.monotonic() > until:
                    raise

    def producer(self):
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "transactional.id": f"{self.topic}-{self.number}",
                "transaction.timeout.ms": 10_000,
                "linger.ms": 2,
                **PATIENCE,
            }
        )
        producer.init_transactions(20)
        return producer

    def incarnation(self, consumer):
        """Goes on until the producer can do no more, or is left for another one."""
        producer = self.producer()
        self.begin_reading(consumer)
        while not self.done.is_set():
            if self.chance.random() < 0.02:
                self.begin_reading(consumer)
            if not self.transaction(producer, consumer):
                return
            time.sleep(self.chance.uniform(0, 0.15))

    def begin_reading(self, consumer):
        self.passes.append([])
        consumer.assign([TopicPartition(self.topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])

    def transaction(self, producer, consumer):
        """One of them. False if it is left open."""
        made = Transaction(self.number)
        self.transactions.append(made)
        commits = False
        try:
            producer.begin_transaction()
            for _ in range(self.chance.randint(1, 6)):
                if self.chance.random() < 0.6:
                    self.write(producer, made)
                else:
                    self.read(consumer, made)
            ends = self.chance.random()
            if ends < 1 / 30:
                # Nobody commits it: it was aborted once another producer has taken over, which this thread waits for.
                producer.flush(2)
                made.outcome = "aborted"
                return False
            if ends < 1 / 8:
                producer.abort_transaction(20)
                made.outcome = "aborted"
                return True
            commits = True
            self.commit(producer, made)
        except KafkaException as error:
            # Before a commit was asked for, there is one end only, whoever brings it about.
            if not commits:
                made.outcome = "aborted"
            if not error.args[0].txn_requires_abort():
                raise
            self.errors.append(error.args[0].name())
            producer.abort_transaction(20)
            made.outcome = "aborted"
        return True

    def commit(self, producer, made):
        while True:
            try:
                producer.commit_transaction(20)
                made.outcome = "committed"
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self.errors.append(error.args[0].name())

    def write(self, producer, made):
        partition = self.chance.randrange(PARTITIONS)
        value = f"{self.number}-{partition}-{self.count}"
        self.count += 1

        def report(error, message):
            if error is None:
                made.acknowledged[value] = (message.partition(), message.offset())

        producer.produce(self.topic, **record(value), partition=partition, on_delivery=report)
        made.wrote.append(value)

    def read(self, consumer, made):
        for message in consumer.consume(500, 0.05):
            if message.error():
                self.errors.append(message.error().name())
                continue
            seen = (message.partition(), message.offset(), said(message))
            made.read.append(seen)
            self.passes[-1].append(seen)


def read_to_the_end(bootstrap, topic):
    """Every committed record once nothing is open any more: (partition, offset, value)."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "final",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            **PATIENCE,
        }
    )
    found = []
    left = set(range(PARTITIONS))
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in left])
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"partitions {sorted(left)} of {topic} cannot be read to their ends"
        for message in consumer.consume(1000, 0.5):
            if message.error() is None:
                found.append((message.partition(), message.offset(), said(message)))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                assert message.error().retriable(), message.error()
    consumer.close()
    return found
