"""Three brokers under faults: what was acknowledged is kept, once, in order, and everything goes on afterwards.

`CHAOS_MINUTES` and `CHAOS_SEED` say how long and which faults; the seed of a run is printed.
"""

import os
import random
import subprocess
import time

import pytest
from brokers import Cluster, mount_small
from confluent_kafka.admin import AdminClient, NewTopic
from harness import wait_until
from judge import judge
from nemesis import Nemesis
from workload import Committer, Reader, Sender, read_all

MINUTES = float(os.environ.get("CHAOS_MINUTES", "3"))
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
TOPIC, PARTITIONS = "chaos", 6
SMALL_DISK_MIB = 512


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path, brokers=3)
    clock = shim(tmp_path)
    for node in cluster.nodes.values():
        if clock:
            node.environment = {"LD_PRELOAD": str(clock), "CLOCK_JUMP_FILE": str(tmp_path / f"clock-{node.number}")}
    cluster.small = small_disk(cluster, 3)
    cluster.start()
    yield cluster
    cluster.stop()


def shim(place):
    """What lets clocks jump, where there is a compiler."""
    library = place / "clock.so"
    source = os.path.join(os.path.dirname(__file__), "clock.c")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def small_disk(cluster, number):
    """Puts one broker on a small file system, where that is allowed; it goes with this process's mounts."""
    place = cluster.place / f"disk-{number}"
    place.mkdir()
    if not mount_small(place, SMALL_DISK_MIB):
        return {}
    cluster.nodes[number].data = place / "data"
    return {number: place}


@pytest.mark.timeout(MINUTES * 60 + 600)
def test_what_was_acknowledged_outlives_whatever_happens(cluster):
    print(f"seed {SEED}, {MINUTES} minutes", flush=True)
    chance = random.Random(SEED)
    make_topic(cluster)
    senders = [Sender(cluster.bootstrap, TOPIC, PARTITIONS, number) for number in range(2)]
    reader = Reader(cluster.bootstrap, TOPIC, PARTITIONS, chance.random())
    committer = Committer(cluster.bootstrap, TOPIC, PARTITIONS)
    clients = [*senders, reader, committer]
    for client in clients:
        client.start()
    nemesis = Nemesis(cluster, chance, TOPIC)
    until = time.monotonic() + MINUTES * 60
    try:
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.5, 3))
            nemesis.once()
    finally:
        nemesis.heal()
    writes_go_on(senders)
    for client in clients:
        client.done.set()
    for client in clients:
        client.join(180)
        assert not client.is_alive(), f"{client.name} does not come to an end"
    final = read_all(cluster.bootstrap, TOPIC, PARTITIONS)
    tell(senders, final, nemesis)
    verdict = judge(senders, reader.passes, final, committer.events)
    assert not verdict, f"seed {SEED}: {verdict}"
    assert sum(len(sender.acknowledged) for sender in senders) > 1000
    cluster.check_logs()


def make_topic(cluster):
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def made():
        # On a busy machine a broker may be taken for dead for a moment, and three replicas need three.
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 3, config={"min.insync.replicas": "2"})])[TOPIC].result(30)
        return True

    wait_until(made, 30, "the topic is made")
    cluster.wait_in_sync(TOPIC)


def writes_go_on(senders):
    """Once faults have stopped, every sender has new acknowledgements within half a minute."""
    before = [len(sender.acknowledged) for sender in senders]
    deadline = time.monotonic() + 30
    while any(len(sender.acknowledged) <= count for sender, count in zip(senders, before)):
        assert time.monotonic() < deadline, "writes do not go on although everything is well again"
        time.sleep(0.1)


def tell(senders, final, nemesis):
    for sender in senders:
        print(
            f"{sender.name}: {len(sender.sent)} sent, {len(sender.acknowledged)} acknowledged, {len(sender.refused)} refused,"
            f" {len(sender.unknown)} unknown, longest pause {sender.longest_pause:.2f} s"
        )
    print(f"{len(final)} records stored; {len(nemesis.told)} faults")
