"""The disk of a broker that runs a part of a transform is full: others run that part, and nothing is lost or comes twice."""

import itertools
import threading
import time

import pytest
from brokers import wait_until
from harness import TARGET
from steps import broker, is_whole, make_topic, producer
from test_room import IN_SERVICE_S, OUT_OF_SERVICE_S, SMALL, cluster, fill, is_unready, seen  # noqa: F401 - a fixture
from test_transforms import PARTITIONS, check, deploy, has_no_lag, partitions, record, runs_everywhere


def test_a_full_disk_costs_a_transform_nothing(cluster, name):  # noqa: F811
    path = TARGET / "plugins" / "route.wasm"
    if not path.exists():
        pytest.skip("'cargo xtask plugins' builds plugins")
    cluster.admin("plugin", "push", str(path))
    make_topic(cluster, f"{name}-in", partitions=PARTITIONS)
    deploy(cluster, name)
    small, others = cluster.nodes[SMALL], [node for node in cluster.nodes.values() if node.number != SMALL]
    stop, sent, failures = threading.Event(), [], []

    def go():
        writer = producer(cluster.bootstrap)
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
            told = lambda error, _: error and failures.append(error)  # noqa: E731
            writer.produce(f"{name}-in", record(number), partition=number // 2 % PARTITIONS, on_delivery=told)
            sent.append(number)
            writer.poll(0)
            time.sleep(0.002)
        assert writer.flush(60) == 0

    feeding = threading.Thread(target=go)
    feeding.start()
    try:
        wait_until(lambda: {each["broker"] for each in partitions(cluster, name) if each["records-in"]} == {1, 2, SMALL}, 30, "every broker is at work")
        ballast = fill(small)
        wait_until(lambda: broker(others[0], SMALL)["fenced"], OUT_OF_SERVICE_S, "it is fenced")
        wait_until(lambda: runs_everywhere(cluster, name, SMALL, node=others[0]), OUT_OF_SERVICE_S, "others run what it ran")
        before = sum(each["committed"] for each in partitions(cluster, name, node=others[0]))
        going_on = lambda: sum(each["committed"] for each in partitions(cluster, name, node=others[0])) > before + 300  # noqa: E731
        wait_until(going_on, 20, "all goes on meanwhile")
        ballast.unlink()
        wait_until(lambda: all(is_whole(one) for one in seen(others)) and not is_unready(small), IN_SERVICE_S, "it is in service")
    finally:
        stop.set()
        feeding.join()
    assert not failures, failures[:3]
    wait_until(lambda: has_no_lag(cluster, name), 60, "everything is done")
    check(cluster, name, len(sent))
