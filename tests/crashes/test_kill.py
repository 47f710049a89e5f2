"""The process dies at any moment, or is asked to end under load: what was acknowledged is there, once."""

import json
import random
import subprocess
import threading
import time

import harness
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from wire import Connection
from writers import PARTITIONS, check, write_while

KILLS = 12


def make_topic(broker, name, **config):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config)])[name].result(20)


def kill_and_start(broker):
    def happens():
        broker.kill()
        broker.start()

    return happens


def test_killed_brokers_lose_and_repeat_nothing(own_broker, name):
    make_topic(own_broker, name)
    acknowledged = write_while(own_broker.bootstrap, name, kill_and_start(own_broker), KILLS)
    found = check(own_broker.bootstrap, name, acknowledged)
    # A retry that turned out to be a duplicate is acknowledged without its offset.
    moved = [key for key, place in acknowledged.items() if place[1] >= 0 and found[key] != place]
    assert not moved, f"{len(moved)} records are not where they were said to be, such as {moved[:5]}"


@pytest.fixture
def plugins(own_broker):
    """The shipped plugins, pushed."""
    if own_broker.name == "kafka":
        pytest.skip("Kafka has no plugins")
    for name in ("by-field", "filter-json"):
        file = harness.TARGET / "plugins" / f"{name.replace('-', '_')}.wasm"
        assert file.exists(), "'cargo xtask plugins' builds them"
        push = [harness.BINARY, "plugin", "push", str(file), "--admin", f"http://{own_broker.http}"]
        subprocess.run(push, check=True, timeout=120, capture_output=True)


INGEST = json.dumps([{"plugin": "filter-json", "config": {"where": "/keep == true"}}])
BY_COUNT = {"millstream_partitioner": "by-field", "millstream_partitioner_config": json.dumps({"pointer": "/count"})}


@pytest.mark.parametrize("config", [{}, BY_COUNT], ids=["filter", "filter-and-partitioner"])
def test_killed_brokers_lose_and_repeat_nothing_behind_plugins(own_broker, plugins, name, config):
    make_topic(own_broker, name, millstream_ingest=INGEST, **config)
    acknowledged = write_while(own_broker.bootstrap, name, kill_and_start(own_broker), KILLS)
    check(own_broker.bootstrap, name, acknowledged, dropped=lambda record: not record["keep"])


def test_brokers_that_are_asked_to_end_under_load_do_so_soon(own_broker, name):
    make_topic(own_broker, name)
    ends, starts = [], []

    def happens():
        begun = time.monotonic()
        code = own_broker.terminate()
        assert code == (143 if own_broker.name == "kafka" else 0)
        ended = time.monotonic()
        own_broker.start()
        ends.append(ended - begun)
        starts.append(time.monotonic() - ended)

    acknowledged = write_while(own_broker.bootstrap, name, happens, 5)
    check(own_broker.bootstrap, name, acknowledged)
    print("took to end", ends, "and to start", starts)
    if own_broker.name == "millstream":
        assert max(ends) < 5 and max(starts) < 3, "it does not wait for clients, and checks nothing when it starts"
        assert "log recovered" not in own_broker.log.read_text()


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


def test_topics_that_were_made_survive(own_broker, name):
    """Topics are made and deleted as fast as it goes while the broker is killed."""
    made, deleted, unsure, number = set(), set(), set(), 0
    for _ in range(8):
        killer = threading.Timer(random.uniform(0.02, 0.3), own_broker.kill)
        killer.start()
        connection = Connection(own_broker.address)
        while own_broker.process.poll() is None:
            number += 1
            topic = f"{name}-{number}"
            unsure.add(topic)
            asked = dict(name=topic, num_partitions=2, replication_factor=1, assignments=[], configs=[])
            try:
                answer = connection.call("CreateTopics", 5, topics=[asked], timeout_ms=5000, validate_only=False)
                assert answer["topics"][0]["error_code"] == 0
                if number % 3 == 0:
                    answer = connection.call("DeleteTopics", 5, topic_names=[topic], timeout_ms=5000)
                    assert answer["responses"][0]["error_code"] == 0
            except OSError:
                break
            (deleted if number % 3 == 0 else made).add(topic)
            unsure.discard(topic)
        killer.join()
        own_broker.start()
    there = set(AdminClient({"bootstrap.servers": own_broker.bootstrap}).list_topics(timeout=20).topics)
    assert len(made) > 20
    assert made <= there and not deleted & there
    assert there <= made | unsure
