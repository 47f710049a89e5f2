"""Topics that change, stop or are strange under a deployed transform: nothing is lost, nothing comes twice, and who asks is told."""

import itertools
import json
import threading
import time

import pytest
from brokers import wait_until
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from harness import TARGET
from steps import heal, high_watermark, leads, make_topic, move, producer, read, refused, write
from test_transforms import ROUTES, has_no_lag, partitions, record, route  # noqa: F401 - a fixture

MANY = 1000
LONGEST_TOPIC, LONGEST_TRANSFORM = 249, 100


@pytest.fixture
def transforms(route):  # noqa: F811
    """Deploys transforms that are gone after the story, whatever becomes of it."""
    made = set()

    def deploy(name, source, odd, even, *more):
        words = ("--plugin", "route", "--config", ROUTES, "--from", source, "--to", f"odd={odd},even={even}", "--commit-interval", "50ms")
        route.admin("transform", "deploy", name, *words, *more)
        made.add(name)

    yield deploy
    heal(route)
    for name in made:
        route.admin("transform", "delete", name, "--yes")


def done(cluster, name, seconds=60):
    wait_until(lambda: partitions(cluster, name) and has_no_lag(cluster, name), seconds, f"{name} has done everything")


def committed(cluster, topic, count, of):
    """The numbers of a sink's records, by partition."""
    found = {}
    for partition in range(of):
        high = high_watermark(cluster.bootstrap, topic, partition)
        values = read(cluster.bootstrap, topic, 1, [partition], isolation_level="read_committed") if high else []
        found[partition] = [json.loads(value)["number"] for value in values]
    assert sum(map(len, found.values())) == count, found
    return found


def test_partitions_that_are_added_to_source_and_sinks_are_used_at_once(route, transforms, name):  # noqa: F811
    for topic in ("in", "odd", "even"):
        make_topic(route, f"{name}-{topic}", 2)
    transforms(name, f"{name}-in", f"{name}-odd", f"{name}-even")
    for partition in range(2):
        write(route.bootstrap, f"{name}-in", [record(n) for n in range(partition * 50, partition * 50 + 50)], partition)
    admin = AdminClient({"bootstrap.servers": route.bootstrap})
    for topic, count in ((f"{name}-in", 4), (f"{name}-odd", 5)):
        admin.create_partitions([NewPartitions(topic, count)])[topic].result(30)
        route.wait_in_sync(topic)
    for partition in range(2, 4):
        write(route.bootstrap, f"{name}-in", [record(n) for n in range(partition * 50, partition * 50 + 50)], partition)
    wait_until(lambda: len(partitions(route, name)) == 4, 20, "what was added is assigned")
    done(route, name)
    odd, even = committed(route, f"{name}-odd", 100, 5), committed(route, f"{name}-even", 100, 2)
    for partition in range(4):
        numbers = range(partition * 50, partition * 50 + 50)
        assert odd[partition] == [n for n in numbers if n % 2], "the sink's partition has the number of the source's, also where both are new"
    assert sorted(itertools.chain(*even.values())) == list(range(0, 200, 2)), "where the sink has fewer, nothing is lost"


def test_what_a_transform_uses_is_not_deleted_and_kept_offsets_end_with_their_topic(route, transforms, name):  # noqa: F811
    source, sinks = f"{name}-in", (f"{name}-odd", f"{name}-even")
    for topic in (source, *sinks):
        make_topic(route, topic)
    transforms(name, source, *sinks)
    write(route.bootstrap, source, [record(n) for n in range(40)])
    done(route, name)
    admin = AdminClient({"bootstrap.servers": route.bootstrap})
    for topic in (source, *sinks):
        with pytest.raises(KafkaException) as caught:
            admin.delete_topics([topic])[topic].result(20)
        assert caught.value.args[0].code() == KafkaError.POLICY_VIOLATION, topic
    (plugin,) = {each["plugin"] for each in partitions(route, name)}
    said = refused(route, "plugin", "delete", plugin)
    assert name in said and plugin in said, said
    route.admin("transform", "delete", name, "--keep-offsets", "--yes")
    for topic in (source, *sinks):
        admin.delete_topics([topic])[topic].result(20)
    for topic in (source, *sinks):
        make_topic(route, topic)
    write(route.bootstrap, source, [record(n) for n in range(100, 110)])
    transforms(name, source, *sinks)
    done(route, name)
    # The offset of the topic that is gone would lie behind the end of the new one.
    assert partitions(route, name)[0]["committed"] == 10
    assert committed(route, sinks[1], 5, 1) == {0: list(range(100, 110, 2))}


def test_from_a_view_to_a_topic_behind_a_partitioner(route, transforms, name):  # noqa: F811
    for plugin in ("filter_json", "by_field"):
        path = TARGET / "plugins" / f"{plugin}.wasm"
        if not path.exists():
            pytest.skip("'cargo xtask plugins' builds plugins")
        route.admin("plugin", "push", str(path))
    make_topic(route, f"{name}-in", 2)
    make_topic(route, f"{name}-even", 3)
    make_topic(route, f"{name}-odd", 3, millstream_partitioner="by-field", millstream_partitioner_config='{"pointer":"/number"}')
    view = f"{name}-view"
    route.admin("view", "create", view, "--source", f"{name}-in", "--plugin", "filter-json", "--config", '{"where":"/number >= 20"}')
    transforms(name, view, f"{name}-odd", f"{name}-even")
    for partition in range(2):
        write(route.bootstrap, f"{name}-in", [record(n) for n in range(100)], partition)
    done(route, name)
    odd = committed(route, f"{name}-odd", 80, 3)
    assert sorted(itertools.chain(*odd.values())) == sorted(2 * list(range(21, 100, 2)))
    assert len([numbers for numbers in odd.values() if numbers]) > 1
    assert all(numbers.count(n) == 2 for numbers in odd.values() for n in numbers), "a number has one partition"
    assert sorted(itertools.chain(*committed(route, f"{name}-even", 80, 3).values())) == sorted(2 * list(range(20, 100, 2)))
    assert name in refused(route, "topic", "delete", view)


def test_a_sink_that_has_too_few_replicas_is_waited_for(route, transforms, name):  # noqa: F811
    make_topic(route, f"{name}-in")
    make_topic(route, f"{name}-odd", min_insync_replicas=3)
    make_topic(route, f"{name}-even")
    transforms(name, f"{name}-in", f"{name}-odd", f"{name}-even")
    write(route.bootstrap, f"{name}-in", [record(n) for n in range(20)])
    done(route, name)
    missing = next(node for node in route.nodes.values() if node.number != leads(route, f"{name}-in"))
    missing.kill()
    wait_until(lambda: len(route.partitions(f"{name}-odd")[0].isrs) < 3, 20, "a replica is missed")
    write(route.bootstrap, f"{name}-in", [record(n) for n in range(20, 40)])
    wait_until(lambda: partitions(route, name)[0]["lag"] == 20, 20, "what came is seen")
    wait_until(lambda: "too few replicas" in (partitions(route, name)[0]["reason"] or ""), 10, "what it waits for is told")
    time.sleep(1)
    assert partitions(route, name)[0]["state"] == "running" and partitions(route, name)[0]["committed"] == 20
    even = read(route.bootstrap, f"{name}-even", 10, isolation_level="read_committed")
    assert len(even) == 10, "nothing of a transaction is seen before all of it"
    missing.start()
    heal(route)
    done(route, name)
    assert partitions(route, name)[0]["reason"] is None
    assert committed(route, f"{name}-odd", 20, 1) == {0: list(range(1, 40, 2))}
    assert committed(route, f"{name}-even", 20, 1) == {0: list(range(0, 40, 2))}


def test_records_that_are_deleted_in_front_of_it_are_told_and_passed_over_on_request(route, transforms, name):  # noqa: F811
    for topic in ("in", "odd", "even"):
        make_topic(route, f"{name}-{topic}")
    transforms(name, f"{name}-in", f"{name}-odd", f"{name}-even")
    write(route.bootstrap, f"{name}-in", [record(n) for n in range(10)])
    done(route, name)
    route.admin("transform", "pause", name)
    write(route.bootstrap, f"{name}-in", [record(n) for n in range(10, 30)])
    up_to = TopicPartition(f"{name}-in", 0, 24)
    admin = AdminClient({"bootstrap.servers": route.bootstrap})
    admin.delete_records([up_to])[up_to].result(20)
    route.admin("transform", "resume", name)
    wait_until(lambda: partitions(route, name)[0]["state"] == "failed", 20, "the partition stops")
    reason = partitions(route, name)[0]["reason"]
    assert "records 10 to 23 were deleted" in reason and "reset" in reason, reason
    route.admin("transform", "pause", name)
    route.admin("transform", "reset", name, "--to", "earliest", "--yes")
    route.admin("transform", "resume", name)
    done(route, name)
    assert committed(route, f"{name}-even", 8, 1) == {0: [0, 2, 4, 6, 8, 24, 26, 28]}


def test_coordinators_that_move_while_it_runs_lose_and_repeat_nothing(route, transforms, name):  # noqa: F811
    for topic in ("in", "odd", "even"):
        make_topic(route, f"{name}-{topic}", 2)
    transforms(name, f"{name}-in", f"{name}-odd", f"{name}-even")
    stop, sent, failures = threading.Event(), [], []

    def go():
        writer = producer(route.bootstrap)
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            writer.produce(f"{name}-in", record(number), partition=number // 2 % 2, on_delivery=lambda error, _: error and failures.append(error))
            sent.append(number)
            writer.poll(0)
            time.sleep(0.002)
        assert writer.flush(60) == 0

    feeding = threading.Thread(target=go)
    feeding.start()
    wait_until(lambda: sum(each["records-in"] for each in partitions(route, name)) > 0, 20, "it is at work")
    for first in (2, 3, 1):
        replicas = [(first + after - 1) % 3 + 1 for after in range(3)]
        for keeper in ("__transaction_state", "__consumer_offsets"):
            move(route, keeper, replicas, range(4))
            route.admin("cluster", "elect-leaders", "--topic", keeper)
            wait_until(lambda keeper=keeper: {leads(route, keeper, at) for at in range(4)} == {first}, 20, f"{first} leads all of {keeper}")
    stop.set()
    feeding.join()
    assert not failures, failures[:3]
    done(route, name)
    odd, even = committed(route, f"{name}-odd", len(sent) // 2, 2), committed(route, f"{name}-even", len(sent) - len(sent) // 2, 2)
    for found in (*odd.values(), *even.values()):
        assert found == sorted(found)
    assert sorted(itertools.chain(*odd.values(), *even.values())) == sent


def test_names_may_be_as_long_as_topics_allow(route, transforms, name):  # noqa: F811
    long = {topic: f"{name}-{topic}-".ljust(LONGEST_TOPIC, "x") for topic in ("in", "odd", "even")}
    for topic in long.values():
        make_topic(route, topic)
    called = f"{name}-".ljust(LONGEST_TRANSFORM, "y")
    transforms(called, long["in"], long["odd"], long["even"])
    write(route.bootstrap, long["in"], [record(n) for n in range(10)])
    done(route, called)
    assert committed(route, long["odd"], 5, 1) == {0: [1, 3, 5, 7, 9]}
    words = ("--plugin", "route", "--config", ROUTES, "--from", long["in"], "--to", f"odd={long['odd']},even={long['even']}")
    for bad in (f"{called}y", "", "..", "a/b", "a b", "ä"):
        assert f"1 to {LONGEST_TRANSFORM} of" in refused(route, "transform", "deploy", bad, *words), bad


def test_a_thousand_partitions_are_run(route, transforms, name):  # noqa: F811
    # Three replicas of each would be a test of thousands of logs.
    make_topic(route, f"{name}-in", MANY, replicas=1, min_insync_replicas=1)
    for topic in ("odd", "even"):
        make_topic(route, f"{name}-{topic}", 12)
    transforms(name, f"{name}-in", f"{name}-odd", f"{name}-even", "--workers", "12")
    writer = producer(route.bootstrap)
    for number in range(2 * MANY):
        writer.produce(f"{name}-in", record(number), partition=number // 2)
    assert writer.flush(60) == 0
    wait_until(lambda: len(partitions(route, name)) == MANY and has_no_lag(route, name), 90, "everything is done")
    runs = [each["broker"] for each in partitions(route, name)]
    assert min(runs.count(number) for number in route.nodes) > MANY // 5, "every broker runs a share"
    for sink, remainder in (("odd", 1), ("even", 0)):
        values = read(route.bootstrap, f"{name}-{sink}", MANY, range(12), seconds=60, isolation_level="read_committed")
        assert sorted(json.loads(value)["number"] for value in values) == list(range(remainder, 2 * MANY, 2))
