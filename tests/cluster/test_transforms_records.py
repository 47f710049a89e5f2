"""Records that clients may write and plugins may not expect: each comes out of a transform as it went in, or is told of."""

import json
import time

import pytest
from brokers import wait_until
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from harness import TARGET
from steps import PATIENCE, heal, make_topic
from test_transforms import ROUTES, has_no_lag, partitions, record, route  # noqa: F401 - a fixture

MIB = 1 << 20
DAY_MS = 86_400_000
ROOM = {"message.max.bytes": 8 * MIB}


@pytest.fixture
def transform(route, name):  # noqa: F811
    """Deploys one that is gone after the story."""
    deployed = []

    def deploy(*more):
        sinks = f"odd={name}-odd,even={name}-even"
        words = ("--plugin", "route", "--config", ROUTES, "--from", f"{name}-in", "--to", sinks, "--commit-interval", "50ms")
        route.admin("transform", "deploy", name, *words, *more)
        deployed.append(name)

    yield deploy
    heal(route)
    for one in deployed:
        route.admin("transform", "delete", one, "--yes")


def send(cluster, topic, *records):
    """Writes records with all their parts; the broker gives no time to one that has its own."""
    failures = []
    writer = Producer({"bootstrap.servers": cluster.bootstrap, **ROOM, **PATIENCE})
    for parts in records:
        writer.produce(topic, partition=0, on_delivery=lambda error, _: error and failures.append(error), **parts)
    assert writer.flush(30) == 0 and not failures, failures[:3]


def whole(cluster, topic, count):
    """Records that were committed, with all their parts."""
    config = {"bootstrap.servers": cluster.bootstrap, "group.id": "reader", "isolation.level": "read_committed", **PATIENCE}
    consumer = Consumer({**config, "enable.auto.commit": False, "fetch.message.max.bytes": 16 * MIB})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = []

    def more():
        found.extend(message for message in consumer.consume(100, 0.2) if message.error() is None)
        return len(found) >= count

    wait_until(more, 30, f"{count} records of {topic}")
    consumer.close()
    return found


def test_keys_headers_and_times_come_out_as_they_went_in(route, transform, name):  # noqa: F811
    for topic in ("in", "odd", "even"):
        make_topic(route, f"{name}-{topic}", max_message_bytes=8 * MIB)
    transform()
    now = int(time.time() * 1000)
    sent = [
        {"key": None, "headers": None, "timestamp": now},
        {"key": b"", "headers": [("", b"")], "timestamp": now + 60_000},
        {"key": b"k", "headers": [("a", None), ("a", b"\xff"), ("b", b"")], "timestamp": now - 30 * DAY_MS},
        {"key": b"\x00\xff" * (MIB // 2), "headers": None, "timestamp": 1},
        {"key": b"k", "headers": [("long", b"h" * MIB)], "timestamp": now},
    ]
    send(route, f"{name}-in", *({**parts, "value": record(number * 2)} for number, parts in enumerate(sent)))
    found = whole(route, f"{name}-even", len(sent))
    for number, (message, parts) in enumerate(zip(found, sent)):
        assert message.value().decode() == record(number * 2), "in their order"
        assert (message.key(), message.headers(), message.timestamp()[1]) == (parts["key"], parts["headers"], parts["timestamp"]), number


def test_a_record_without_a_value_stays_one(route, transform, name):  # noqa: F811
    for topic in ("in", "odd", "even"):
        make_topic(route, f"{name}-{topic}", cleanup_policy="compact")
    transform()
    send(route, f"{name}-in", {"key": b"k", "value": record(1)}, {"key": b"k", "value": None}, {"key": b"", "value": None})
    found = whole(route, f"{name}-even", 2)
    assert [(message.key(), message.value()) for message in found] == [(b"k", None), (b"", None)], "it goes where all else does"


def test_records_that_are_no_values_for_it_are_left_out_alone_where_that_is_asked_for(route, transform, name):  # noqa: F811
    for topic in ("in", "odd", "even"):
        make_topic(route, f"{name}-{topic}")
    transform("--on-error", "skip")
    bad = [b"", b" ", b"\xff\xfe", b"{", b'{"odd":', b"[" * 5000]
    for number, value in enumerate(bad):
        send(route, f"{name}-in", {"value": value, "key": b"bad"}, {"value": record(2 * number), "key": b"good"})
    wait_until(lambda: partitions(route, name)[0]["committed"] == 2 * len(bad) and has_no_lag(route, name), 30, "everything is done")
    assert [message.value().decode() for message in whole(route, f"{name}-even", len(bad))] == [record(2 * n) for n in range(len(bad))]
    (one,) = partitions(route, name)
    assert (one["records-in"], one["records-out"], one["errors"]) == (2 * len(bad), len(bad), len(bad))


def test_what_its_sink_does_not_take_goes_to_the_dead_letters_with_the_reason(route, transform, name):  # noqa: F811
    make_topic(route, f"{name}-in", max_message_bytes=8 * MIB)
    make_topic(route, f"{name}-letters", max_message_bytes=8 * MIB)
    make_topic(route, f"{name}-odd", cleanup_policy="compact")
    make_topic(route, f"{name}-even", message_timestamp_after_max_ms=60_000)
    transform("--on-error", f"dead-letter:{name}-letters")
    now = int(time.time() * 1000)
    send(
        route,
        f"{name}-in",
        {"key": b"k", "value": record(1), "timestamp": now},
        {"key": None, "value": record(3), "timestamp": now},
        {"key": b"k" * MIB, "value": record(5), "timestamp": now},
        {"key": None, "value": record(2), "timestamp": now},
        {"key": None, "value": record(4), "timestamp": now + 3_000_000},
        {"key": b"k", "value": record(7), "timestamp": now},
    )
    letters = whole(route, f"{name}-letters", 3)
    told = {json.loads(message.value())["number"]: dict(message.headers())["millstream.reason"].decode() for message in letters}
    assert set(told) == {3, 5, 4}
    assert "no key" in told[3] and f"{name}-odd" in told[3], told[3]
    assert "max.message.bytes" in told[5], told[5]
    assert "timestamp" in told[4] and f"{name}-even" in told[4], told[4]
    assert [message.value().decode() for message in whole(route, f"{name}-odd", 2)] == [record(1), record(7)]
    assert [message.value().decode() for message in whole(route, f"{name}-even", 1)] == [record(2)]


def test_a_plugin_that_a_sink_has_may_leave_records_out_of_a_transaction(route, transform, name):  # noqa: F811
    path = TARGET / "plugins" / "filter_json.wasm"
    if not path.exists():
        pytest.skip("'cargo xtask plugins' builds plugins")
    route.admin("plugin", "push", str(path))
    only = {"plugin": "filter-json", "config": {"where": "/number >= 10"}}
    make_topic(route, f"{name}-in")
    make_topic(route, f"{name}-even", millstream_ingest=json.dumps([only]))
    make_topic(route, f"{name}-odd")
    transform()
    send(route, f"{name}-in", *({"value": record(n)} for n in range(20)))
    wait_until(lambda: partitions(route, name)[0]["committed"] == 20 and has_no_lag(route, name), 30, "everything is done")
    assert [message.value().decode() for message in whole(route, f"{name}-even", 5)] == [record(n) for n in range(10, 20, 2)]
    assert len(whole(route, f"{name}-odd", 10)) == 10
