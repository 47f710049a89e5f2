"""Kafka Streams with exactly_once_v2: every word is counted once, whatever happens to brokers and to the program."""

import pathlib
import random
import subprocess
from collections import Counter

import pytest
from brokers import wait_until
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from harness import JARS, JAVA
from steps import PATIENCE, heal, make_topic, write

PROGRAM = pathlib.Path(__file__).parent / "streams" / "WordCount.java"
PARTITIONS = 3
WORDS = ("wing", "gate", "fog", "delay", "runway", "tower", "crew")


@pytest.fixture(scope="session")
def classes(tmp_path_factory):
    """The program, compiled."""
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-cp", f"{JARS}/*", "-d", str(folder), str(PROGRAM)], check=True, timeout=120)
    return folder


class Program:
    """One that runs, with a state that stays when it is killed."""

    def __init__(self, cluster, classes, place, name, source, sink):
        *java, _ = JAVA
        self.command = [*java, f"{JARS}/*:{classes}", "WordCount", cluster.bootstrap, name, source, sink, str(place / "state")]
        self.log = place / f"{name}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.terminate()
        assert self.process.wait(60) in (0, 143), self.log.read_text()[-3000:]


def test_words_are_counted_exactly_through_kills(three, classes, tmp_path, name):
    source, sink = f"{name}-lines", f"{name}-counts"
    for topic in (source, sink):
        make_topic(three, topic, PARTITIONS)
    program = Program(three, classes, tmp_path, name, source, sink)
    program.start()
    counted, words = Counting(three, sink), Counter()
    try:
        words += feed(three, source, 1)
        counted.up_to(words, 120, program)
        victim = three.leader(sink, 1)
        words += feed(three, source, 2)
        victim.kill()
        words += feed(three, source, 3)
        counted.up_to(words, 120, program)
        heal(three)
        words += feed(three, source, 4)
        program.kill()
        words += feed(three, source, 5)
        program.start()
        counted.up_to(words, 120, program)
        program.close()
    finally:
        program.process.kill()
    # With each word its count grew by one: nothing was counted twice, and nothing that was not committed was seen.
    assert counted.steps == {word: list(range(1, count + 1)) for word, count in words.items()}


def feed(cluster, topic, seed):
    """Writes lines of words; gives how often each of them is there."""
    chosen, words = random.Random(seed), Counter()
    for partition in range(PARTITIONS):
        lines = [f"{seed}/{partition}/{number} " + " ".join(chosen.choices(WORDS, k=4)) for number in range(40)]
        write(cluster.bootstrap, topic, lines, partition)
        words.update(word for line in lines for word in line.split())
    return words


class Counting:
    """Reads what was committed of the counts."""

    def __init__(self, cluster, topic):
        config = {"bootstrap.servers": cluster.bootstrap, "group.id": "reader", "isolation.level": "read_committed"}
        self.consumer = Consumer({**config, "enable.auto.commit": False, **PATIENCE})
        self.consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
        self.steps = {}

    def up_to(self, words, seconds, program):
        """Reads until every word is there so often."""

        def has_all():
            for message in self.consumer.consume(1000, 0.5):
                if message.error() is None:
                    self.steps.setdefault(message.key().decode(), []).append(int(message.value()))
            assert program.process.poll() is None, "the program ended"
            return all(self.steps.get(word, [0])[-1] >= count for word, count in words.items())

        try:
            wait_until(has_all, seconds, f"{sum(words.values())} words are counted")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{program.log.read_text()[-3000:]}") from None
