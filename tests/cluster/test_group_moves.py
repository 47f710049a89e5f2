"""Groups whose coordinator ends, without a word and in order, while members read and commit: the group moves to another
broker with its members and offsets."""

import itertools
import re
import threading
import time

import pytest

from brokers import wait_until
from confluent_kafka import Consumer, KafkaException
from javatools import groups
from steps import PATIENCE, heal, make_topic
from test_failover import coordinator_of
from wire import Connection
from writers import PARTITIONS, write_while

KILLED, ENDED = "killed", "ended in order"


class Reader(threading.Thread):
    """A member that reads and commits, and tells what it was given, what was taken from it, and what it read.

    Each commit waits for the one before: those that librdkafka makes by itself are sent again after newer ones when their
    coordinator ends.
    """

    def __init__(self, bootstrap, topic, protocol):
        super().__init__(daemon=True)
        config = {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest", "group.protocol": protocol}
        self.consumer = Consumer({**config, "enable.auto.commit": False, **PATIENCE})
        self.given, self.taken, self.lost, self.records, self.owned, self.refusals = [], [], [], [], [], []
        self.done = threading.Event()
        noted = lambda where: lambda _, partitions: partitions and where.append(sorted(p.partition for p in partitions))  # noqa: E731
        self.consumer.subscribe([topic], on_assign=noted(self.given), on_revoke=noted(self.taken), on_lost=noted(self.lost))
        self.start()

    def run(self):
        while not self.done.is_set():
            for message in self.consumer.consume(500, 0.05):
                if message.error() is None:
                    self.records.append((message.partition(), message.offset(), message.value().decode()))
            try:
                self.consumer.commit(asynchronous=False)
            except KafkaException as error:
                # There was nothing to commit, or it is done with what is read next.
                self.refusals.append(error)
            self.owned = sorted(p.partition for p in self.consumer.assignment())
        self.consumer.close()


class Offsets(threading.Thread):
    """Asks again and again how far the group has come, whoever coordinates it: no offset may go back."""

    def __init__(self, cluster, group):
        super().__init__(daemon=True)
        self.cluster, self.group = cluster, group
        self.stand, self.back, self.seen = {}, [], 0
        self.done = threading.Event()
        self.start()

    def run(self):
        while not self.done.is_set():
            for node in self.cluster.nodes.values():
                try:
                    connection = Connection(node.address)
                    asked = [dict(group_id=self.group, topics=None)]
                    (found,) = connection.call("OffsetFetch", 8, groups=asked, require_stable=False)["groups"]
                    connection.close()
                except OSError:
                    continue
                # Others than the coordinator say so.
                if found["error_code"] == 0:
                    self.note(found["topics"])
            time.sleep(0.05)

    def note(self, topics):
        self.seen += 1
        at = {p["partition_index"]: p["committed_offset"] for topic in topics for p in topic["partitions"]}
        self.back += [(p, stood, at.get(p)) for p, stood in self.stand.items() if at.get(p, -1) < stood]
        self.stand = at


def described(cluster, group):
    """What our tool says: the group's state, its members, and who has which partition."""
    told = cluster.admin("group", "describe", group)
    return told["state"].lower(), {m["member"] for m in told["members"]}, {p["partition"]: p["member"] for p in told["partitions"]}


def shown_by_kafkas_tool(cluster, group):
    rows = re.findall(rf"^{group} +{group} +(\d+) +(?:\d+|-) +\d+ +(?:\d+|-) +(\S+)", groups(cluster, "--describe", "--group", group), re.M)
    return {int(partition): member for partition, member in rows}


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_group_moves_with_its_members_and_offsets(three, name, protocol):
    make_topic(three, name, PARTITIONS)
    members = [Reader(three.bootstrap, name, protocol) for _ in range(PARTITIONS)]
    wait_until(lambda: sorted(m.owned for m in members) == [[p] for p in range(PARTITIONS)], 60, "each has a partition")
    wait_until(lambda: described(three, name)[0] == "stable", 20, "the group is stable")
    before, owned, given = described(three, name), [m.owned for m in members], [len(m.given) for m in members]
    taken = [len(m.taken) for m in members]
    assert len(before[1]) == PARTITIONS and sorted(before[2]) == list(range(PARTITIONS))
    offsets = Offsets(three, name)
    ways = itertools.cycle([KILLED, ENDED])

    def happens():
        ends, way = coordinator_of(three, name), next(ways)
        begun = time.monotonic()
        if way == KILLED:
            ends.kill()
        else:
            assert ends.terminate() == 0
        wait_until(lambda: coordinator_of(three, name) is not ends, 20, "another one coordinates")
        wait_until(lambda: soon_described(three, name) == before, 20, f"the group is as it was, its coordinator {way}")
        print(f"{protocol}: the coordinator was {way}; the group is the same after {time.monotonic() - begun:.2f} s")
        read = sum(len(m.records) for m in members)
        wait_until(lambda: sum(len(m.records) for m in members) > read, 20, "members go on")
        if way == ENDED:
            assert shown_by_kafkas_tool(three, name) == before[2]
        heal(three)

    acknowledged = write_while(three.bootstrap, name, happens, 4)
    wait_until(lambda: sum(len(m.records) for m in members) >= len(acknowledged), 30, "all was read")
    ends = {partition: 1 + max(at for p, at in acknowledged.values() if p == partition) for partition in range(PARTITIONS)}
    wait_until(lambda: offsets.stand == ends, 20, "all is committed")
    offsets.done.set()
    offsets.join()
    assert not offsets.back, f"offsets went back: {offsets.back[:5]}"
    assert offsets.seen > 20
    records = [record for member in members for record in member.records]
    assert len(records) == len(set(records)), "nobody has read a record again"
    assert {value: (partition, at) for partition, at, value in records} == acknowledged
    for member, had, told, gone in zip(members, owned, given, taken):
        assert (member.owned, len(member.given), len(member.taken)) == (had, told, gone) and not member.lost, "it stayed a member"
        assert [record[1] for record in member.records] == list(range(len(member.records))), "in order"
        member.done.set()
    for member in members:
        member.join(20)


def soon_described(cluster, group):
    """As `described`; none while the new coordinator loads."""
    done = cluster.admin("group", "describe", group, check=False)
    return described(cluster, group) if done.returncode == 0 else None
