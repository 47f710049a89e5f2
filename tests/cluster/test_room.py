"""A broker's disk is full: the others go on without it, and it is one of them again once there is room."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from brokers import mount_small, wait_until
from confluent_kafka import Consumer, TopicPartition
from steps import broker, is_whole, make_topic, numbers, read, same_everywhere, write
from wire import Connection
from writers import PARTITIONS, Writer, check

SMALL = 3
UNASKED = {"include_cluster_authorized_operations": False, "include_topic_authorized_operations": False}
DISK_MIB = 128
# From a full disk until all goes on, and from room until all is well.
OUT_OF_SERVICE_S = 10
IN_SERVICE_S = 15


@pytest.fixture
def cluster(own):
    """Three brokers, one of them on a small file system."""
    cluster = own(settings=["min.insync.replicas=2"])
    place = cluster.place / "small"
    place.mkdir()
    if not mount_small(place, DISK_MIB):
        pytest.skip("a small file system cannot be mounted here")
    cluster.nodes[SMALL].data = place / "data"
    try:
        yield cluster.start()
    finally:
        cluster.stop()
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("leads", [False, True], ids=["follows the quorum", "leads the quorum"])
def test_the_others_go_on_until_there_is_room(cluster, leads):
    make_topic(cluster, "orders", PARTITIONS)
    have_quorum_led(cluster, leads)
    small, others = cluster.nodes[SMALL], [node for node in cluster.nodes.values() if node.number != SMALL]
    writers = [Writer(cluster.bootstrap, "orders", number) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: all(len(writer.acknowledged) > 500 for writer in writers), 20, "writes are acknowledged")
        can_lead(cluster)
        ballast = fill(small)
        wait_until(lambda: broker(others[0], SMALL)["fenced"], OUT_OF_SERVICE_S, "it is fenced")
        told = wait_until(lambda: is_unready(small), 5, "it is not ready")
        assert told["error"] == "disk_full" and "disk is full" in told["message"], told
        goes_on(cluster, others, writers)
        # Long enough for whatever heaps up, or runs into a timeout.
        time.sleep(5)
        assert is_unready(small) and small.is_up() and broker(others[0], SMALL)["fenced"]
        ballast.unlink()
        wait_until(lambda: all(is_whole(one) for one in seen(others)) and not is_unready(small), IN_SERVICE_S, "it is in service")
        cluster.wait_in_sync("orders", seconds=IN_SERVICE_S)
        # Which one is the quorum's own tests' to say: on a busy machine there are elections without any reason.
        wait_until(lambda: quorum_leader(others[0]), 5, "a leader is named")
    finally:
        for writer in writers:
            writer.done.set()
        for writer in writers:
            writer.join()
    assert not any(writer.failed for writer in writers)
    assert small.log.read_text().count("the disk is full: the broker is out of service") == 1
    can_lead(cluster)
    check(cluster.bootstrap, "orders", {key: place for writer in writers for key, place in writer.acknowledged.items()})
    same_everywhere(cluster, "orders", PARTITIONS)


def fill(node):
    """Takes all the room there is on a broker's disk; gives the file that holds it."""
    ballast = node.data.parent / "ballast"
    done = subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64K"], capture_output=True, text=True)
    assert "No space left" in done.stderr
    return ballast


def goes_on(cluster, others, writers):
    """The others decide, and take and give records of every partition."""
    at = ",".join(node.bootstrap for node in others)
    made = f"made-{time.monotonic_ns()}"

    def led_by_others():
        return all(partition.leader not in (-1, SMALL) for partition in cluster.partitions("orders").values())

    wait_until(led_by_others, OUT_OF_SERVICE_S, "others lead")
    wait_until(lambda: quorum_leader(others[0]) not in (None, SMALL), OUT_OF_SERVICE_S, "another one leads the quorum")
    before = [len(writer.acknowledged) for writer in writers]
    wait_until(lambda: all(len(w.acknowledged) > count + 500 for w, count in zip(writers, before)), OUT_OF_SERVICE_S, "writes go on")
    asks_another_one(cluster.nodes[SMALL])
    cluster.admin("topic", "create", made, "--replication", "2", node=others[0])
    assert write(at, made, numbers(10)) and read(at, made, 10) == numbers(10)
    for partition in range(PARTITIONS):
        assert len(read(at, "orders", 100, partitions=[partition])) >= 100


def asks_another_one(full):
    """A new producer that comes to the full broker first, which clients still know, gets its id and is sent away."""
    connection = Connection(full.address)
    begun = time.monotonic()
    answer = connection.call(
        "InitProducerId", 4, transactional_id=None, transaction_timeout_ms=60000, producer_id=-1, producer_epoch=-1
    )
    told = connection.call("Metadata", 9, topics=[], allow_auto_topic_creation=False, **UNASKED)
    connection.close()
    assert answer["producer_id"] >= 0, answer
    assert time.monotonic() - begun < 5
    assert sorted(one["node_id"] for one in told["brokers"]) == [1, 2], "what the full one knows may be old, so it is not to be asked"


def have_quorum_led(cluster, by_small):
    """Lets the small broker lead the quorum, or another one."""

    def leader():
        return quorum_leader(cluster.any_up())

    leads = wait_until(leader, 10, "the quorum has a leader")
    if (leads == SMALL) != by_small:
        # It hands over, and to the small one if no other has a vote.
        voteless = [str(number) for number in cluster.nodes if by_small and number not in (leads, SMALL)]
        for number in voteless:
            cluster.admin("cluster", "quorum", "remove", number)
        assert cluster.nodes[leads].terminate() == 0
        cluster.nodes[leads].start()
        wait_until(lambda: leader() not in (None, leads), 10, "another one leads the quorum")
        for number in voteless:
            cluster.admin("cluster", "quorum", "add", number)
        cluster.wait_in_sync("orders")
    assert (leader() == SMALL) == by_small


def can_lead(cluster):
    """The small one leads what it prefers to."""
    cluster.admin("cluster", "elect-leaders", "--topic", "orders")
    mine = [index for index, partition in cluster.partitions("orders").items() if partition.replicas[0] == SMALL]
    assert mine
    for partition in mine:
        wait_until(lambda: cluster.partitions("orders")[partition].leader == SMALL, 10, "it leads again")
        wait_until(lambda: high(cluster.nodes[SMALL], partition) > 0, 10, "it is asked for what it leads")


def high(node, partition):
    """The high watermark, as one broker says."""
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": "reader"})
    try:
        return consumer.get_watermark_offsets(TopicPartition("orders", partition), 10)[1]
    finally:
        consumer.close()


def seen(nodes):
    """Every broker as each of these sees it."""
    return [broker(node, number) for node in nodes for number in (1, 2, SMALL)]


def quorum_leader(node):
    return node.cluster.admin("cluster", "quorum", node=node)["leader"]


def is_unready(node):
    """Why a broker says that it does not serve; none if it does."""
    try:
        urllib.request.urlopen(f"http://{node.http}/readyz", timeout=5).close()
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return json.load(error)
    return None
