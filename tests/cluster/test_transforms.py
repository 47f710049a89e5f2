"""Deployed transforms on three brokers: every record's effect once, and in order, whatever happens to brokers."""

import json
import threading
import time

import pytest
from brokers import wait_until
from harness import TARGET
from steps import heal, leads, make_topic, producer, read, refused, write

PARTITIONS = 6
ROUTES = json.dumps({"routes": [{"to": "odd", "where": "/odd == true"}], "otherwise": "even"})


@pytest.fixture
def route(three):
    """The shipped plugin that sends records to sinks by what is in them."""
    path = TARGET / "plugins" / "route.wasm"
    if not path.exists():
        pytest.skip("'cargo xtask plugins' builds plugins")
    three.admin("plugin", "push", str(path))
    return three


@pytest.fixture
def deployed(route, name):
    """A transform with a worker for each partition; gone after the story."""
    make_topic(route, f"{name}-in", partitions=PARTITIONS)
    deploy(route, name)
    yield route
    heal(route)
    route.admin("transform", "delete", name, "--yes")


def deploy(cluster, name, *more):
    sinks = f"odd={name}-odd,even={name}-even"
    words = ("--plugin", "route", "--config", ROUTES, "--from", f"{name}-in", "--to", sinks, "--create-sinks")
    cluster.admin("transform", "deploy", name, *words, "--workers", str(PARTITIONS), "--commit-interval", "50ms", *more)


def describe(cluster, name, node=None):
    described = cluster.admin("transform", "describe", name, node=node)
    return described[0] if isinstance(described, list) else described


def partitions(cluster, name, node=None):
    return describe(cluster, name, node)["partitions"]


def record(number):
    return json.dumps({"number": number, "odd": number % 2 == 1})


def outcome(cluster, name, count):
    """What a reader of committed records sees of both sinks once it has so many."""
    odd = read(cluster.bootstrap, f"{name}-odd", count // 2, range(PARTITIONS), isolation_level="read_committed")
    even = read(cluster.bootstrap, f"{name}-even", count - count // 2, range(PARTITIONS), isolation_level="read_committed")
    return odd, even


def feed(cluster, name, first, count):
    for number in range(PARTITIONS):
        values = [record(n) for n in range(first, first + count) if n // 2 % PARTITIONS == number]
        write(cluster.bootstrap, f"{name}-in", values, number)


def check(cluster, name, count):
    """Every record has had its effect once, in order: sinks keep the partitions of records without keys."""
    odd, even = outcome(cluster, name, count)
    assert sorted(odd) == sorted(record(n) for n in range(count) if n % 2)
    assert sorted(even) == sorted(record(n) for n in range(count) if not n % 2)
    for sink in ("odd", "even"):
        for partition in range(PARTITIONS):
            values = read(cluster.bootstrap, f"{name}-{sink}", 1, [partition], isolation_level="read_committed")
            found = [json.loads(value)["number"] for value in values]
            assert found == sorted(found), f"{sink}-{partition} is out of order"


def runs_everywhere(cluster, name, without=None, node=None):
    found = partitions(cluster, name, node)
    return len(found) == PARTITIONS and all(each["state"] == "running" and each["broker"] != without for each in found)


def has_no_lag(cluster, name):
    found = partitions(cluster, name)
    return all(each["state"] == "running" and each["lag"] == 0 for each in found)


def test_records_are_split_once_and_in_order(deployed, name):
    feed(deployed, name, 0, 600)
    wait_until(lambda: has_no_lag(deployed, name), 30, "everything is done")
    check(deployed, name, 600)
    found = partitions(deployed, name)
    assert {each["broker"] for each in found} == {1, 2, 3}, "each broker runs a part"
    for each in found:
        assert each["broker"] == leads(deployed, f"{name}-in", each["partition"]), "where it is led"
    assert sum(each["records-in"] for each in found) == 600
    for node in deployed.nodes.values():
        assert [each["broker"] for each in partitions(deployed, name, node=node)] == [each["broker"] for each in found]


def test_a_killed_broker_costs_nothing_and_no_second(deployed, name):
    feed(deployed, name, 0, 300)
    wait_until(lambda: has_no_lag(deployed, name), 30, "everything is done")
    victim = next(iter(deployed.nodes.values()))
    other = next(node for node in deployed.nodes.values() if node is not victim)
    victim.kill()
    wait_until(lambda: runs_everywhere(deployed, name, victim.number, node=other), 10, "others run what it ran")
    feed(deployed, name, 300, 300)
    victim.start()
    heal(deployed)
    wait_until(lambda: has_no_lag(deployed, name), 30, "everything is done")
    check(deployed, name, 600)


def test_brokers_that_are_killed_one_after_the_other_while_records_come(deployed, name):
    total = 3000
    stop = threading.Event()
    failures = []

    def go():
        writer = producer(deployed.bootstrap)
        for number in range(total):
            writer.produce(
                f"{name}-in", record(number), partition=number // 2 % PARTITIONS, on_delivery=lambda error, _: error and failures.append(error)
            )
            writer.poll(0)
            time.sleep(0.004)
        assert writer.flush(60) == 0
        stop.set()

    feeding = threading.Thread(target=go)
    feeding.start()
    while not stop.is_set():
        for node in deployed.nodes.values():
            if stop.wait(0.5):
                break
            node.kill()
            time.sleep(0.7)
            node.start()
            heal(deployed)
    feeding.join()
    assert not failures, failures[:3]
    heal(deployed)
    wait_until(lambda: has_no_lag(deployed, name), 60, "everything is done")
    check(deployed, name, total)


def test_an_upgrade_and_a_pause_in_the_middle_lose_and_repeat_nothing(deployed, name):
    plugin = TARGET / "plugins" / "route.wasm"
    deployed.admin("plugin", "push", str(plugin), "--version", "7.0.0")
    feed(deployed, name, 0, 300)
    deployed.admin("transform", "upgrade", name, "--plugin", "route@7.0.0")
    feed(deployed, name, 300, 300)
    deployed.admin("transform", "pause", name)
    feed(deployed, name, 600, 300)
    time.sleep(0.5)
    assert {each["state"] for each in partitions(deployed, name)} == {"paused"}
    deployed.admin("transform", "resume", name)
    wait_until(lambda: has_no_lag(deployed, name), 30, "everything is done")
    assert {each["plugin"] for each in partitions(deployed, name)} == {"route@7.0.0"}
    check(deployed, name, 900)
    deployed.admin("transform", "rollback", name)
    feed(deployed, name, 900, 60)
    wait_until(lambda: has_no_lag(deployed, name), 30, "everything is done")
    assert {each["plugin"] for each in partitions(deployed, name)} != {"route@7.0.0"}
    check(deployed, name, 960)


def test_a_record_that_fails_stops_its_partition_says_why_and_a_resume_goes_on(route, name):
    make_topic(route, f"{name}-in", partitions=PARTITIONS)
    deploy(route, name)
    write(route.bootstrap, f"{name}-in", [record(0), "no JSON", record(2)], 1)
    write(route.bootstrap, f"{name}-in", [record(4)], 2)
    wait_until(lambda: partitions(route, name)[1]["state"] == "failed", 20, "the partition stops")
    failed = partitions(route, name)[1]
    assert "offset 1" in failed["reason"] and failed["committed"] == 1
    wait_until(lambda: partitions(route, name)[2]["committed"] == 1, 20, "others go on")
    route.admin("transform", "pause", name)
    route.admin("transform", "reset", name, "--to", "latest", "--yes")
    route.admin("transform", "resume", name)
    write(route.bootstrap, f"{name}-in", [record(6)], 1)
    values = read(route.bootstrap, f"{name}-even", 3, range(PARTITIONS), isolation_level="read_committed")
    assert sorted(values) == sorted([record(0), record(4), record(6)])
    route.admin("transform", "delete", name, "--yes")


def test_what_cannot_be_is_refused_with_what_to_do(route, name):
    source, sink = f"{name}-in", f"{name}-out"
    for topic in (source, sink):
        make_topic(route, topic)

    def refusal(*words, plugin="route", config=ROUTES, of=name):
        return refused(route, "transform", "deploy", of, "--plugin", plugin, "--config", config, *words)

    to = ("--to", f"odd={sink},even={sink}-2", "--create-sinks")
    assert f"no topic or view '{source}-none'" in refusal("--from", f"{source}-none", *to)
    assert f"no topic '{sink}-none'" in refusal("--from", source, "--to", f"{sink}-none")
    assert source in refusal("--from", source, "--to", f"odd={source},even={sink}")
    assert "routes" in refusal("--from", source, *to, config="{}")
    assert "no plugin 'nobody" in refusal("--from", source, *to, plugin="nobody")
    assert "no transform" in refused(route, "transform", "describe", name)
    deploy(route, name)
    back = refusal("--from", f"{name}-odd", "--to", f"odd={source},even={sink}", of=f"{name}-back")
    assert all(word in back for word in (source, name, f"{name}-odd", f"{name}-back")), back
    assert name in refused(route, "topic", "delete", source)
    route.admin("transform", "delete", name, "--yes")
