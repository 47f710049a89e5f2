"""Brokers die and come back, one at a time: clients go on, nothing is lost, and replicas are the same."""

import shutil
import threading
import time
import urllib.request

import pytest

from batches import batch, record
from brokers import wait_until
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from steps import PATIENCE, broker, heal, leads, make_topic, move, numbers, producer, read, same_everywhere, write
from talk import produce
from wire import Connection
from writers import PARTITIONS, check, write_while


def test_a_leader_is_killed(three, name):
    make_topic(three, name)
    write(three.bootstrap, name, numbers(500))
    killed = three.leader(name)
    killed.kill()
    wait_until(lambda: leads(three, name) not in (-1, killed.number), 10, "another one leads")
    assert killed.number not in three.partitions(name)[0].isrs
    write(three.bootstrap, name, numbers(500, 500))
    killed.start()
    three.wait_in_sync(name)
    write(three.bootstrap, name, numbers(500, 1000))
    assert read(three.bootstrap, name, 1500) == numbers(1500)
    same_everywhere(three, name)


def test_every_broker_is_killed_in_turn_under_load(three, name):
    """The leader's log may be longer than what was acknowledged: what is cut off must be the same everywhere."""
    make_topic(three, name, PARTITIONS)
    nodes = iter(list(three.nodes.values()) * 2)

    def happens():
        node = next(nodes)
        node.kill()
        node.start()
        three.wait_in_sync(name)

    acknowledged = write_while(three.bootstrap, name, happens, 6)
    found = check(three.bootstrap, name, acknowledged)
    moved = [key for key, place in acknowledged.items() if place[1] >= 0 and found[key] != place]
    assert not moved, f"{len(moved)} records are not where they were said to be, such as {moved[:3]}"
    same_everywhere(three, name, PARTITIONS)


def test_an_idempotent_producer_goes_on_through_a_rolling_restart(three, name):
    make_topic(three, name, PARTITIONS)
    nodes = iter(three.nodes.values())

    def happens():
        node = next(nodes)
        assert node.terminate() == 0
        node.start()
        three.wait_in_sync(name)

    acknowledged = write_while(three.bootstrap, name, happens, 3)
    check(three.bootstrap, name, acknowledged)
    same_everywhere(three, name, PARTITIONS)


def test_a_broker_that_ends_in_good_order_hands_over_first(three, name):
    make_topic(three, name)
    acknowledged, failures = [], []

    def report(error, _):
        failures.append(error) if error else acknowledged.append(time.monotonic())

    writer = producer(three.bootstrap)
    leader = three.leader(name)
    until = None
    while until is None or time.monotonic() < until:
        if until is None and len(acknowledged) > 100:
            leader.process.terminate()
            until = time.monotonic() + 2
        writer.produce(name, b"x", on_delivery=report)
        writer.poll(0.002)
    assert writer.flush(20) == 0 and not failures
    assert leader.process.wait(20) == 0
    assert leads(three, name) not in (-1, leader.number)
    pause = max(later - sooner for sooner, later in zip(acknowledged, acknowledged[1:]))
    print(f"longest pause {pause:.3f} s")
    # What a client waits between two attempts is in it: a tenth of a second.
    assert pause < 1, "nobody waits for long"


def test_a_partition_that_cannot_be_opened_is_led_and_kept_by_others(three, name):
    """Where its directory should be, there is something else: nobody waits for that broker, which starts all the same."""
    files = {node.number: node.data / f"{name}-{node.number - 1}" for node in list(three.nodes.values())[:2]}
    for file in files.values():
        file.write_text("not a directory")
    admin = AdminClient({"bootstrap.servers": three.bootstrap})
    admin.create_topics([NewTopic(name, 3, 3)])[name].result(30)
    broken = {0: 1, 1: 2}

    def others_go_on():
        partitions = three.partitions(name)
        return all(partitions[index].leader not in (-1, number) and number not in partitions[index].isrs for index, number in broken.items())

    wait_until(others_go_on, 15, "others lead and are in sync")
    for partition in range(3):
        write(three.bootstrap, name, numbers(20), partition)
        assert read(three.bootstrap, name, 20, partitions=[partition]) == numbers(20)
    restarted = three.nodes[1]
    restarted.kill()
    restarted.start()
    wait_until(lambda: is_ready(restarted), 20, "it serves what it can open")
    assert files[1].is_file() and "cannot be looked at" in restarted.log.read_text()
    wait_until(lambda: 1 in three.partitions(name)[1].isrs or 1 in three.partitions(name)[2].isrs, 20, "it is in sync elsewhere")
    wait_until(others_go_on, 15, "others lead and are in sync")
    admin.delete_topics([name])[name].result(30)
    for file in files.values():
        file.unlink(missing_ok=True)


def is_ready(node):
    try:
        with urllib.request.urlopen(f"http://{node.http}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_a_group_goes_on_when_its_coordinator_is_killed(three, name):
    make_topic(three, name)
    write(three.bootstrap, name, numbers(200))
    config = {"bootstrap.servers": three.bootstrap, "group.id": name, "auto.offset.reset": "earliest", **PATIENCE}
    member = Consumer({**config, "enable.auto.commit": False, "session.timeout.ms": 20_000})
    member.subscribe([name])
    values = []

    def reads(count):
        wait_until(lambda: values.extend(m.value() for m in member.consume(50, 0.1) if not m.error()) or len(values) >= count, 30, f"{count} records")

    reads(100)
    member.commit(asynchronous=False)
    stands = member.committed([TopicPartition(name, 0)], 10)[0].offset
    assert stands >= 100
    coordinator_of(three, name).kill()
    write(three.bootstrap, name, numbers(100, 200))
    reads(300)
    wait_until(lambda: member.committed([TopicPartition(name, 0)], 10)[0].offset == stands, 20, "offsets survive")
    wait_until(lambda: member.commit(asynchronous=False), 20, "the group commits again")
    assert member.committed([TopicPartition(name, 0)], 10)[0].offset == 300
    assert [value.decode() for value in values] == numbers(300), "each record once, in order"
    heal(three)
    coordinator_of(three, name)
    assert member.committed([TopicPartition(name, 0)], 10)[0].offset == 300
    member.close()


def coordinator_of(cluster, group):
    """The broker that coordinates the group."""
    def find():
        connection = Connection(cluster.any_up().address)
        answer = connection.call("FindCoordinator", 4, key_type=0, coordinator_keys=[group])
        connection.close()
        return cluster.nodes.get(answer["coordinators"][0]["node_id"])

    return wait_until(find, 20, "the group has a coordinator")


@pytest.fixture
def joined(own):
    """A voter and two brokers that joined: those may come back without what they had."""
    cluster = own(brokers=1).start()
    cluster.add(2)
    cluster.add(3)
    return cluster


def test_a_broker_that_lost_its_disk_catches_up(joined, name):
    three = joined
    make_topic(three, name, min_insync_replicas=1)
    write(three.bootstrap, name, numbers(1000))
    lost = three.nodes[2]
    lost.kill()
    wait_until(lambda: broker(three.nodes[1], 2)["fenced"], 20, "it is taken for gone")
    shutil.rmtree(lost.data)
    lost.start()
    heal(three)
    three.wait_in_sync(name)
    assert read(three.bootstrap, name, 1000) == numbers(1000)
    same_everywhere(three, name)


def test_an_empty_disk_is_never_in_sync(joined, name):
    """Its broker was the last in sync: nobody leads until a person decides, and nobody is told that all was well."""
    three = joined
    make_topic(three, name, min_insync_replicas=1)
    nodes = list(three.nodes.values())
    last = three.nodes[2]
    others = [node for node in nodes if node is not last]
    write(three.bootstrap, name, numbers(10))
    # With the others down there is no quorum that could shrink the set, so it is moved to one broker.
    three.admin("topic", "reassign", name, "--replicas", f"0:{last.number}")
    wait_until(lambda: three.partitions(name)[0].replicas == [last.number], 20, "one replica is left")
    last.kill()
    wait_until(lambda: broker(three.nodes[1], 2)["fenced"], 20, "it is taken for gone")
    shutil.rmtree(last.data)
    last.start()
    wait_until(lambda: not broker(last, last.number)["fenced"], 20, "it serves")
    assert leads(three, name) == -1
    assert others[0].is_up()
    three.admin("cluster", "elect-leaders", "--topic", name, "--partition", "0", "--unclean", "--yes")
    wait_until(lambda: leads(three, name) == last.number, 10, "it leads, as was wanted")
    write(three.bootstrap, name, ["after"])
    three.admin("topic", "delete", name)


def test_a_broker_that_ends_passes_on_what_still_comes(three, name):
    """A client that is told to look for another leader waits before it does: it is not told so while somebody else can answer."""
    make_topic(three, name)
    leader = three.leader(name)
    connection, codes = Connection(leader.address), []
    ending = threading.Thread(target=leader.terminate)
    now = int(time.time() * 1000)
    try:
        for count in range(100_000):
            if count == 50:
                ending.start()
            one = batch(record(0, value=str(count).encode()), base_time=now, max_time=now)
            codes.append(produce(connection, name, one)["error_code"])
    except OSError:
        pass
    ending.join()
    assert len(codes) > 100 and set(codes) == {0}, f"{len(codes)} answers: {set(codes)}"
    assert three.leader(name) is not leader
    leader.start()
    three.wait_in_sync(name)
    values = read(three.bootstrap, name, len(codes))
    # The last one may have been stored without an answer.
    assert values[: len(codes)] == [str(count) for count in range(len(codes))]
    same_everywhere(three, name)
