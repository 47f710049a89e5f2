"""Three brokers under faults: what was acknowledged is kept, once, in order, and everything goes on afterwards.

`CHAOS_MINUTES` and `CHAOS_SEED` say how long and which faults; the seed of a run is printed.
"""

import os
import random
import subprocess
import sys
import time
import traceback
from collections import Counter

import pytest
from brokers import Cluster, mount_small
from confluent_kafka.admin import AdminClient, NewTopic
from deployed import PLUGIN, SINK_PARTITIONS, SINKS, Deployed, sink_of
from harness import wait_until
from judge import judge, judge_effects
from judge_transactions import judge_transactions
from nemesis import Nemesis
from transactional import Transactor, read_to_the_end
from workload import PARTITIONS, Committer, Mover, Reader, Sender, read_all, read_committed

MINUTES = float(os.environ.get("CHAOS_MINUTES", "3"))
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(1 << 32))
TOPIC, MOVED, LEDGER = "chaos", "moved", "ledger"
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
    make_topic(cluster, TOPIC)
    make_topic(cluster, MOVED)
    make_topic(cluster, LEDGER)
    transform = deploy(cluster, chance)
    senders = [Sender(cluster.bootstrap, TOPIC, PARTITIONS, number) for number in range(2)]
    reader = Reader(cluster.bootstrap, TOPIC, PARTITIONS, chance.random())
    committer = Committer(cluster.bootstrap, TOPIC, PARTITIONS)
    mover = Mover(cluster.bootstrap, TOPIC, MOVED, PARTITIONS, chance.random())
    transactors = [Transactor(cluster.bootstrap, LEDGER, number, chance.random()) for number in range(3)]
    clients = [*senders, reader, committer, mover, *transactors]
    for client in clients:
        client.start()
    nemesis = Nemesis(cluster, chance, TOPIC, transform)
    until = time.monotonic() + MINUTES * 60
    try:
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.5, 3))
            nemesis.once()
    finally:
        nemesis.heal()
    writes_go_on(senders)
    for client in clients:
        # The last one moves what the others have written.
        client.done.set()
        client.join(180)
        assert not client.is_alive(), f"{client.name} does not come to an end: {where(client)}"
    final = read_all(cluster.bootstrap, TOPIC, PARTITIONS)
    tell(senders, final, nemesis)
    verdict = judge(senders, reader.passes, final, committer.events)
    assert not verdict, f"seed {SEED}: {verdict}"
    moved = moved_once(cluster, mover, final)
    transactions_are_whole(cluster, transactors)
    transformed_once(transform, senders, {TOPIC: in_order(final), MOVED: moved})
    assert sum(len(sender.acknowledged) for sender in senders) > 1000
    cluster.check_logs()


def deploy(cluster, chance):
    """A transform that reads what senders write and what the mover does, aborted transactions among it."""
    assert PLUGIN.exists(), f"{PLUGIN} is missing: `cargo xtask plugins` builds it"
    for sink in SINKS:
        make_topic(cluster, sink, SINK_PARTITIONS)
    return Deployed(cluster, [TOPIC, MOVED], chance)


def make_topic(cluster, topic, partitions=PARTITIONS):
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def made():
        # On a busy machine a broker may be taken for dead for a moment, and three replicas need three.
        admin.create_topics([NewTopic(topic, partitions, 3, config={"min.insync.replicas": "2"})])[topic].result(30)
        return True

    wait_until(made, 30, "the topic is made")
    cluster.wait_in_sync(topic)


def where(thread):
    """What a thread is about just now."""
    frame = sys._current_frames().get(thread.ident)
    return "".join(traceback.format_stack(frame)[-3:]) if frame else "it is at its end"


def writes_go_on(senders):
    """Once faults have stopped, every sender has new acknowledgements within half a minute."""
    before = [len(sender.acknowledged) for sender in senders]
    deadline = time.monotonic() + 30
    while any(len(sender.acknowledged) <= count for sender, count in zip(senders, before)):
        assert time.monotonic() < deadline, "writes do not go on although everything is well again"
        time.sleep(0.1)


def moved_once(cluster, mover, final):
    """Every record of the source is in the sink, once and in its order. Gives the sink."""
    source = in_order(final)
    sink = read_committed(cluster.bootstrap, MOVED, {partition: len(values) for partition, values in source.items()})
    print(f"{mover.committed} transactions by {mover.incarnations} producers; {len(mover.errors)} errors: {sorted(set(mover.errors))}")
    for partition, values in source.items():
        found = sink[partition]
        at = next((at for at, pair in enumerate(zip(values, found)) if pair[0] != pair[1]), min(len(values), len(found)))
        assert found == values, f"partition {partition}: {len(values)} records, {len(found)} moved; from {at} on {values[at : at + 3]}, not {found[at : at + 3]}"
    assert mover.committed > 10
    return sink


def transactions_are_whole(cluster, transactors):
    """Of every transaction all is read or nothing, by those who read meanwhile and in the end, and nothing too early."""
    final = read_to_the_end(cluster.bootstrap, LEDGER)
    transactions = [made for transactor in transactors for made in transactor.transactions]
    ends = Counter(made.outcome for made in transactions)
    errors = Counter(name for transactor in transactors for name in transactor.errors)
    read = sum(len(made.read) for made in transactions)
    print(f"{len(transactions)} transactions over several partitions: {dict(ends)}; {read} records read; errors: {dict(errors)}", flush=True)
    verdict = judge_transactions(transactions, [seen for one in transactors for seen in one.passes], final)
    assert not verdict, f"seed {SEED}: {verdict}"
    assert ends["committed"] > 50 and ends["aborted"] > 5 and read > 100


def transformed_once(transform, senders, topics):
    """A minute after nothing comes any more, at the latest, the transform runs everywhere and has nothing left to do; and whatever
    is in its sources has had its effect, once and in order."""
    began = time.monotonic()
    rows = transform.wait_done(60)
    effects = transform.effects()
    print(f"{len(effects)} effects on {len(rows)} partitions; all were done after {time.monotonic() - began:.1f} s", flush=True)
    sources = {(topic, partition): values for topic, partitions in topics.items() for partition, values in partitions.items()}
    sent = {value for sender in senders for value in sender.sent}
    verdict = judge_effects(sources, sent, effects, sink_of)
    assert not verdict, f"seed {SEED}: {verdict}"
    transform.check_logs()


def in_order(final):
    """The values of each partition."""
    values = {partition: [] for partition in range(PARTITIONS)}
    for partition, _, value in sorted(final):
        values[partition].append(value)
    return values


def tell(senders, final, nemesis):
    for sender in senders:
        print(
            f"{sender.name}: {len(sender.sent)} sent, {len(sender.acknowledged)} acknowledged, {len(sender.refused)} refused,"
            f" {len(sender.unknown)} unknown, longest pause {sender.longest_pause:.2f} s"
        )
    print(f"{len(final)} records stored; {len(nemesis.told)} faults")
