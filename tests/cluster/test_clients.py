"""Clients see one cluster, whichever broker they begin with: leaders, redirects, racks, plugins."""

import json

import harness
import pytest
from batches import batch
from brokers import wait_until
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from steps import heal, leads, make_topic, numbers, producer, read, write
from wire import Connection


def test_any_broker_is_enough_to_begin_with(three, name):
    make_topic(three, name, partitions=3)
    for number, node in three.nodes.items():
        for partition in range(3):
            write(node.bootstrap, name, numbers(10, 10 * number), partition)
        found = AdminClient({"bootstrap.servers": node.bootstrap}).list_topics(name, timeout=10)
        assert set(found.brokers) == {1, 2, 3}
        assert {partition.leader for partition in found.topics[name].partitions.values()} == {1, 2, 3}
    for node in three.nodes.values():
        assert len(read(node.bootstrap, name, 90, partitions=range(3))) == 90


def test_a_broker_that_does_not_lead_says_who_does(three, name):
    """KIP-951: the answer carries the leader and where it is."""
    make_topic(three, name)
    leader = three.leader(name)
    other = next(node for node in three.nodes.values() if node is not leader)
    connection = Connection(other.address)
    data = [dict(name=name, partition_data=[dict(index=0, records=batch(b"v"))])]
    answer = connection.call("Produce", 10, transactional_id=None, acks=-1, timeout_ms=5000, topic_data=data)
    partition = answer["responses"][0]["partition_responses"][0]
    assert partition["error_code"] == NOT_LEADER_OR_FOLLOWER
    assert partition["current_leader"]["leader_id"] == leader.number
    (endpoint,) = answer["node_endpoints"]
    assert (endpoint["node_id"], endpoint["port"]) == (leader.number, leader.address[1])


def test_epochs_of_leaders_are_checked(three, name):
    make_topic(three, name)
    first = three.leader(name)
    assert epoch_said(first, name, 0) == (0, 0)
    first.kill()
    wait_until(lambda: leads(three, name) not in (-1, first.number), 10, "another one leads")
    leader = three.leader(name)
    code, epoch = epoch_said(leader, name, -1)
    assert code == 0 and epoch > 0
    assert epoch_said(leader, name, 0)[0] == FENCED_LEADER_EPOCH
    assert epoch_said(leader, name, epoch + 1)[0] == UNKNOWN_LEADER_EPOCH


def epoch_said(node, topic, epoch):
    """The error, and the leader epoch of the end of the log."""
    partitions = [dict(partition_index=0, timestamp=-1, current_leader_epoch=epoch)]
    asked = dict(replica_id=-1, isolation_level=0, topics=[dict(name=topic, partitions=partitions)])
    connection = Connection(node.address)

    def answer():
        found = connection.call("ListOffsets", 5, **asked)["topics"][0]["partitions"][0]
        # A leader that begins does not know its high watermark yet.
        return found if found["error_code"] != OFFSET_NOT_AVAILABLE else None

    found = wait_until(answer, 10, "the leader has begun")
    connection.close()
    return found["error_code"], found["leader_epoch"]


def test_a_consumer_reads_from_its_own_rack(three, name):
    """KIP-392. Replicas are on racks a, b and c."""
    make_topic(three, name)
    write(three.bootstrap, name, numbers(100))
    leader = three.leader(name)
    near = next(node for node in three.nodes.values() if node is not leader)
    rack = "abc"[near.number - 1]
    # The consumer tells by its statistics from whom it fetches.
    heard = []
    consumer = Consumer(
        {
            "bootstrap.servers": three.bootstrap,
            "group.id": name,
            "client.rack": rack,
            "auto.offset.reset": "earliest",
            "statistics.interval.ms": 100,
            "stats_cb": lambda text: heard.append(json.loads(text)),
        }
    )
    consumer.assign([TopicPartition(name, 0, 0)])
    values = []

    def fetches_near():
        values.extend(message.value().decode() for message in consumer.consume(100, 0.1) if not message.error())
        sources = [story["topics"].get(name, {}).get("partitions", {}).get("0", {}).get("broker") for story in heard]
        return near.number in sources and len(values) >= 100

    wait_until(fetches_near, 30, f"the consumer fetches from broker {near.number} in rack {rack}")
    write(three.bootstrap, name, numbers(100, 100))
    wait_until(lambda: fetches_near() and len(values) >= 200, 30, "it reads on")
    assert values == numbers(200)
    near.kill()
    write(three.bootstrap, name, numbers(100, 200))
    wait_until(lambda: fetches_near() and len(values) >= 300, 60, "it goes back to the leader")
    assert values == numbers(300), "each record once, in order"
    consumer.close()


@pytest.fixture
def plugins(three):
    """Plugins, each pushed to another broker, and at once known to all."""
    for number, file in zip((1, 2, 3), ("by_field", "filter_json", "mask")):
        path = harness.TARGET / "plugins" / f"{file}.wasm"
        if not path.exists():
            pytest.skip("'cargo xtask plugins' builds plugins")
        pushed = three.nodes[number]
        three.admin("plugin", "push", str(path), node=pushed)
        for node in three.nodes.values():
            names = [each["name"] for each in three.admin("plugin", "list", node=node)]
            assert file.replace("_", "-") in names, f"pushed to {number}, not on {node.number}"
            assert any(node.data.glob("plugins/**/*.wasm")), f"{node.number} has no bytes"
    return three


def flights(count):
    lines = (harness.ROOT / "examples/flights/flights.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line][:count]


def test_a_partitioner_reaches_every_leader(plugins, name):
    """Whatever partition a record is sent to, it goes to the one of its carrier, whoever leads that."""
    by_carrier = {"millstream_partitioner": "by-field", "millstream_partitioner_config": '{"pointer":"/carrier"}'}
    make_topic(plugins, name, partitions=6, **by_carrier)
    sent = [json.dumps(flight) for flight in flights(300)]
    for number in (1, 2, 3):
        part = sent[(number - 1) * 100 : number * 100]
        write(plugins.nodes[number].bootstrap, name, part, partition=number)
    places = places_of(plugins, name, 300, 6)
    assert sorted(value for _, value in places) == sorted(sent), "each once"
    carriers = {}
    for partition, value in places:
        carriers.setdefault(json.loads(value)["carrier"], set()).add(partition)
    assert all(len(partitions) == 1 for partitions in carriers.values()), carriers
    leaders = {plugins.partitions(name)[partition].leader for partition, _ in places}
    assert len(leaders) > 1, "records went to other brokers too"


def test_a_partitioner_sends_once_when_the_leader_of_its_target_is_killed(plugins, name):
    by_count = {"millstream_partitioner": "by-field", "millstream_partitioner_config": '{"pointer":"/count"}'}
    make_topic(plugins, name, partitions=3, **by_count)
    failures, sent = [], [json.dumps({"count": number}) for number in range(2000)]
    writer = producer(plugins.bootstrap)
    victim = next(node for node in plugins.nodes.values() if node.number != leads(plugins, name, 0))
    for number, value in enumerate(sent):
        writer.produce(name, value, partition=0, on_delivery=lambda error, _: failures.append(error) if error else None)
        writer.poll(0.001 if number % 10 == 0 else 0)
        if number == 1000:
            victim.kill()
    assert writer.flush(60) == 0 and not failures, failures[:3]
    heal(plugins)
    assert sorted(value for _, value in places_of(plugins, name, 2000, 3)) == sorted(sent), "each once"


def places_of(cluster, topic, count, partitions):
    """Partition and value of each record."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic})
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, partition), 20)[1] for partition in range(partitions)]
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found = []

    def more():
        found.extend((message.partition(), message.value().decode()) for message in consumer.consume(1000, 0.2) if not message.error())
        return len(found) >= max(count, sum(ends))

    wait_until(more, 30, f"{count} records of {topic}")
    consumer.close()
    return found


def test_a_view_is_read_from_any_leader(plugins, name):
    make_topic(plugins, name, partitions=3)
    view = f"{name}.late"
    stages = json.dumps([{"plugin": "filter-json", "config": {"where": "/dep_delay > 30"}}])
    make_topic(plugins, view, partitions=-1, replicas=-1, millstream_view_source=name, millstream_view_plugins=stages)
    sent = flights(300)
    for partition in range(3):
        write(plugins.bootstrap, name, [json.dumps(flight) for flight in sent[partition::3]], partition)
    late = sorted(json.dumps(flight) for flight in sent if (flight["dep_delay"] or 0) > 30)
    for node in plugins.nodes.values():
        assert sorted(read(node.bootstrap, view, len(late), partitions=range(3))) == late
    killed = plugins.leader(name, 1)
    killed.kill()
    wait_until(lambda: leads(plugins, view, 1) not in (-1, killed.number), 10, "another one leads the view")
    assert sorted(read(plugins.bootstrap, view, len(late), partitions=range(3))) == late


NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, OFFSET_NOT_AVAILABLE = 6, 74, 75, 78
