"""Who decides on metadata: what goes on without a quorum, and which changes of it are refused."""

import json
import time
import urllib.error
import urllib.request

import pytest

from brokers import wait_until
from confluent_kafka import KafkaError
from steps import brokers, heal, leads, make_topic, move, numbers, producer, read, refused, same_everywhere, write
from wire import Connection


def test_without_a_quorum_reads_go_on_and_writes_wait(own):
    """Two of three are killed: the one that is left knows that it cannot know whether another one leads by now."""
    cluster = own(settings=["min.insync.replicas=1"]).start()
    make_topic(cluster, "orders", partitions=3)
    for partition in range(3):
        write(cluster.bootstrap, "orders", numbers(50), partition)
    left = cluster.nodes[1]
    led = next(index for index, partition in cluster.partitions("orders").items() if partition.leader == left.number)
    for node in list(cluster.nodes.values())[1:]:
        node.kill()
    # A lease, and some for its renewal.
    time.sleep(1.5)
    values = read(left.bootstrap, "orders", 50, partitions=[led], seconds=10)
    assert values == numbers(50), "what was committed can be read, also by members of groups that nobody keeps now"
    failures, acknowledged = [], []

    def report(error, message):
        failures.append(error) if error else acknowledged.append(message)

    writer = producer(left.bootstrap, message_timeout_ms=4000)
    writer.produce("orders", b"lost", partition=led, on_delivery=report)
    assert writer.flush(20) == 0
    assert not acknowledged and failures[0].code() == KafkaError._MSG_TIMED_OUT, "it tried again until its time was over"
    words = refused(cluster, "topic", "create", "more", "--replication", "1", node=left)
    assert words.startswith("error:"), words
    with pytest.raises(urllib.error.HTTPError) as unready:
        urllib.request.urlopen(f"http://{left.http}/readyz", timeout=5)
    assert unready.value.code == 503 and json.load(unready.value)["error"] == "no_lease"
    tells_of_the_loss(cluster, left, led)
    heal(cluster)
    cluster.wait_in_sync("orders")
    for partition in range(3):
        write(cluster.bootstrap, "orders", numbers(50, 50), partition)
        values = read(cluster.bootstrap, "orders", 100, partitions=[partition])
        assert [value for value in values if value != "lost"] == numbers(100)
    same_everywhere(cluster, "orders", 3)


def tells_of_the_loss(cluster, left, led):
    """Whoever looks at what is left is told, before long, that it is not how things are."""
    at = ("--bootstrap", left.bootstrap, "--admin", f"http://{left.http}")
    assert left.log.read_text().count("the quorum is not heard") == 1
    begun = time.monotonic()
    assert cluster.cli("cluster", "describe", *at).startswith("the quorum has no leader, as far as broker 1 knows")
    assert cluster.admin("cluster", "quorum", node=left)["leader"] is None
    described = cluster.admin("cluster", "describe", node=left)
    assert not described["in_touch"] and described["quorum"]["leader"] is None
    assert "the quorum has no leader" in cluster.cli("cluster", "brokers", *at, check=False).stderr
    partitions = cluster.admin("topic", "describe", "orders", node=left)["partitions"]
    assert partitions[led]["start_offset"] == 0 and partitions[led]["end_offset"] is None, "its end is not known for sure"
    assert time.monotonic() - begun < 25, "five commands, each of which waits a few seconds at most"


def test_every_broker_tells_how_far_the_quorum_is(three):
    """Only its leader knows, and is asked by the others."""
    leader = quorum(three)["leader"]
    for node in three.nodes.values():
        connection = Connection(node.address)
        topic = {"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}
        told = connection.call("DescribeQuorum", 2, topics=[topic])["topics"][0]["partitions"][0]
        connection.close()
        assert told["leader_id"] == leader
        ends = {voter["replica_id"]: voter["log_end_offset"] for voter in told["current_voters"]}
        assert sorted(ends) == [1, 2, 3] and min(ends.values()) > 0, (node.number, ends)


def test_what_brokers_start_with_decides_how_many_copies_are_needed(own):
    """No topic sets `min.insync.replicas`: as with Kafka, that of the broker that leads counts."""
    cluster = own(brokers=1, settings=["min.insync.replicas=2"]).start()
    for number in (2, 3):
        cluster.add(number)
    make_topic(cluster, "orders")
    write(cluster.bootstrap, "orders", numbers(10))
    first, *others = cluster.nodes.values()
    for node in others:
        node.kill()
    alone = lambda: cluster.partitions("orders")[0].isrs == [1] and cluster.partitions("orders")[0].leader == 1  # noqa: E731
    wait_until(alone, 15, "only broker 1 is in sync")
    assert refusal(first.bootstrap, "orders") == KafkaError.NOT_ENOUGH_REPLICAS
    others[0].start()
    cluster.wait_in_sync("orders", members=2)
    write(cluster.bootstrap, "orders", numbers(10, 10))
    assert read(cluster.bootstrap, "orders", 20) == numbers(20)
    # It starts with another value: that of its new life counts.
    first.settings = [*cluster.settings, "min.insync.replicas=1"]
    others[0].kill()
    first.terminate()
    first.start()
    wait_until(alone, 15, "only broker 1 is in sync")
    write(first.bootstrap, "orders", numbers(10, 20))
    heal(cluster)
    cluster.wait_in_sync("orders")
    assert read(cluster.bootstrap, "orders", 30) == numbers(30)
    same_everywhere(cluster, "orders")


def refusal(bootstrap, topic):
    """What a record is refused with that is sent once."""
    codes = []
    writer = producer(bootstrap, enable_idempotence=False, acks="all", retries=0)
    writer.produce(topic, b"one", partition=0, on_delivery=lambda error, _: codes.append(error and error.code()))
    assert writer.flush(20) == 0
    return codes[0]


def test_everything_is_killed_at_once_and_comes_back(own):
    cluster = own().start()
    make_topic(cluster, "orders", partitions=3)
    for partition in range(3):
        write(cluster.bootstrap, "orders", numbers(200), partition)
    for node in cluster.nodes.values():
        node.process.kill()
    for node in cluster.nodes.values():
        node.process.wait()
    cluster.start()
    heal(cluster)
    cluster.wait_in_sync("orders")
    for partition in range(3):
        assert read(cluster.bootstrap, "orders", 200, partitions=[partition]) == numbers(200)
        write(cluster.bootstrap, "orders", numbers(10, 200), partition)
    same_everywhere(cluster, "orders", 3)


def test_votes_that_cannot_be_taken(own):
    """The quorum's leader and its last member keep their votes; each refusal says what to do."""
    cluster = own().start()
    leader = quorum(cluster)["leader"]
    others = [number for number in cluster.nodes if number != leader]
    assert "leads the quorum" in refused(cluster, "cluster", "quorum", "remove", str(leader))
    assert "does not vote" in refused(cluster, "cluster", "quorum", "remove", "9")
    assert "has to join" in refused(cluster, "cluster", "quorum", "add", "9")
    for number in others:
        cluster.admin("cluster", "quorum", "remove", str(number))
    assert roles(cluster) == {leader: "leader", **{number: "observer" for number in others}}
    words = refused(cluster, "cluster", "quorum", "remove", str(leader))
    assert "give another one a vote first" in words or "leads the quorum" in words
    for number in others:
        cluster.admin("cluster", "quorum", "add", str(number))
    assert roles(cluster) == {leader: "leader", **{number: "voter" for number in others}}
    cluster.nodes[leader].kill()
    wait_until(lambda: cluster.admin("topic", "create", "more", "--if-not-exists"), 15, "votes that were given back count")


def test_brokers_that_cannot_be_removed(three, name):
    make_topic(three, name)
    assert "no broker 9" in refused(three, "cluster", "remove", "9")
    words = refused(three, "cluster", "remove", "2")
    assert "votes in the quorum" in words and "cluster quorum remove 2" in words
    assert "no broker 9" in refused(three, "cluster", "drain", "9")
    assert len(brokers(three.nodes[1])) == 3


def test_what_an_unclean_election_cost_is_told(own):
    cluster = own(brokers=1).start()
    for number in (2, 3):
        cluster.add(number)
    make_topic(cluster, "orders", replicas=2, min_insync_replicas=1)
    move(cluster, "orders", [2, 3])
    wait_until(lambda: cluster.partitions("orders")[0].replicas == [2, 3], 20, "it is where it is wanted")
    first, second, third = cluster.nodes.values()
    write(cluster.bootstrap, "orders", numbers(10))
    third.kill()
    wait_until(lambda: cluster.partitions("orders")[0].isrs == [2], 15, "only broker 2 is in sync")
    write(cluster.bootstrap, "orders", numbers(7, 10))
    second.kill()
    wait_until(lambda: leads(cluster, "orders") == -1, 15, "nobody leads")
    third.start()
    (elected,) = cluster.admin("cluster", "elect-leaders", "--topic", "orders", "--unclean", "--yes", node=first)
    assert elected["elected"] and elected["kept_up_to"] == 10, elected
    assert lost(third) == 0
    write(cluster.bootstrap, "orders", ["after"])
    second.start()
    cluster.wait_in_sync("orders", members=2)
    assert read(cluster.bootstrap, "orders", 11) == [*numbers(10), "after"]
    assert lost(second) == 7
    assert "went on without these records" in second.log.read_text()


def lost(node):
    """How many records a broker had that an unclean election went on without."""
    with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("millstream_records_lost_total"))


def quorum(cluster):
    return cluster.admin("cluster", "quorum")


def roles(cluster):
    return {member["broker"]: member["role"] for member in quorum(cluster)["members"]}


def test_a_topic_is_described_with_racks_and_lags(own):
    """Leaders know how far followers are, and any broker asks them; one that hangs or is gone holds nothing up."""
    cluster = own(settings=["min.insync.replicas=1"]).start()
    make_topic(cluster, "orders", partitions=3)
    for partition in range(3):
        write(cluster.bootstrap, "orders", numbers(30), partition)
    for partition in describe(cluster, "orders"):
        racks = {1: "a", 2: "b", 3: "c"}
        assert partition["racks"] == [racks[id] for id in partition["replicas"]]
        followers = sorted(id for id in partition["replicas"] if id != partition["leader"])
        assert [lag["broker"] for lag in partition["lag"]] == followers
        assert partition["end_offset"] == 30
    caught_up = lambda: all(lag["lag_records"] == 0 for p in describe(cluster, "orders") for lag in p["lag"])  # noqa: E731
    wait_until(caught_up, 10, "followers have everything")
    gone = cluster.nodes[3]
    gone.kill()
    alone = lambda: all(p["leader"] in (1, 2) and 3 not in p["in_sync"] for p in describe(cluster, "orders"))  # noqa: E731
    wait_until(alone, 15, "the others go on")
    for partition in range(3):
        write(cluster.bootstrap, "orders", numbers(10, 30), partition)
    time.sleep(1)
    for partition in describe(cluster, "orders"):
        lag = next(lag for lag in partition["lag"] if lag["broker"] == 3)
        assert lag["lag_records"] >= 10 and lag["lag_ms"] >= 1000, partition
    with urllib.request.urlopen(f"http://{cluster.nodes[1].http}/v1/topics/orders/followers", timeout=5) as answer:
        assert json.load(answer)["racks"] == {"1": "a", "2": "b", "3": "c"}, "also of the one that is gone"
    begun = time.monotonic()
    cluster.nodes[2].kill()
    for partition in describe(cluster, "orders"):
        assert partition["leader"] == 1 or (partition["lag"] is None and partition["end_offset"] is None), partition
    assert time.monotonic() - begun < 15


def describe(cluster, topic):
    return cluster.admin("topic", "describe", topic)["partitions"]
