"""Batches that are wrong: each is refused with the error that clients know it by, and nothing of it is stored."""

import gzip
import struct
import time

import pytest
from batches import batch, compress, old_message, record
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from harness import wait_until
from talk import end, make_topic, produce
from wire import Connection

MESSAGE_TOO_LARGE, CORRUPT, INVALID_RECORD, BAD_CODEC = 10, 2, 87, 76
OUT_OF_ORDER, INVALID_TIMESTAMP = 45, 32
BOMB_BYTES = 600 << 20


@pytest.fixture
def topic(broker, name):
    make_topic(broker, name)
    return name


ONE = record(0, value=b"one")

BAD = {
    "crc": (batch(ONE, crc=1), CORRUPT),
    "magic 0": (old_message(0), INVALID_RECORD),
    "magic 1": (old_message(1), INVALID_RECORD),
    "magic 3": (batch(ONE, magic=3), CORRUPT),
    "magic -1": (batch(ONE, magic=-1), CORRUPT),
    "cut": (batch(ONE)[:-1], INVALID_RECORD),
    "cut header": (batch(ONE)[:40], INVALID_RECORD),
    "length too small": (batch(ONE, length=3), CORRUPT),
    "length negative": (batch(ONE, length=-1), CORRUPT),
    "count too large": (batch(ONE, count=2), INVALID_RECORD),
    "count huge": (batch(ONE, count=2**31 - 1, last_delta=2**31 - 2), INVALID_RECORD),
    "count too small": (batch(ONE, record(1), count=1, last_delta=0), INVALID_RECORD),
    "count 0": (batch(ONE, count=0), INVALID_RECORD),
    "count negative": (batch(ONE, count=-1), INVALID_RECORD),
    "last delta": (batch(ONE, last_delta=7), INVALID_RECORD),
    "deltas": (batch(record(0), record(5), last_delta=1), INVALID_RECORD),
    "codec 5": (batch(ONE, attributes=5), BAD_CODEC),
    "codec 7": (batch(ONE, attributes=7), BAD_CODEC),
    "control": (batch(ONE, attributes=0x20), INVALID_RECORD),
    "two batches": (batch(ONE) * 2, INVALID_RECORD),
    "record length": (batch(ONE, body=b"\x7f" + ONE[1:]), INVALID_RECORD),
    "endless varint": (batch(ONE, body=b"\xff" * 20), INVALID_RECORD),
    "no records": (batch(ONE, body=b""), INVALID_RECORD),
    **{f"damaged {codec}": (batch(ONE, attributes=codec, body=b"no such thing at all"), INVALID_RECORD) for codec in (1, 2, 3, 4)},
}

# Where Kafka fails with UNKNOWN_SERVER_ERROR, or takes what no client could read.
KAFKA_STUMBLES = {"codec 5", "codec 7", "damaged 1", "damaged 2", "damaged 3", "damaged 4", "endless varint", "deltas"}


@pytest.mark.parametrize("kind", BAD)
def test_wrong_batches(broker, topic, kind):
    records, code = BAD[kind]
    before = end(broker, topic)
    answer = produce(broker, topic, records)
    if broker.name == "kafka" and kind in KAFKA_STUMBLES:
        return
    assert (answer["error_code"], answer["base_offset"]) == (code, -1), answer
    if broker.name == "millstream":
        assert answer["error_message"], "a sentence for the client's log"
    assert end(broker, topic) == before
    assert produce(broker, topic, batch(ONE))["error_code"] == 0, "the next one is taken"


def test_no_records_at_all(broker, topic):
    assert produce(broker, topic, b"")["error_code"] == INVALID_RECORD
    if broker.name == "millstream":  # Kafka never answers that.
        assert produce(broker, topic, None)["error_code"] == INVALID_RECORD
    assert produce(broker, topic, batch(ONE))["error_code"] == 0


def bomb(codec):
    """A record of zeros, 600 MB of them, in a few hundred kilobytes at most."""
    size = BOMB_BYTES if codec != 2 else 20 << 20
    value = bytes(size)
    return batch(record(0, value=value), codec=codec)


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
def test_decompression_bombs(broker, name, codec):
    if broker.name == "kafka":
        pytest.skip("Kafka has no bound for what a batch decompresses to")
    make_topic(broker, name, max_message_bytes=16 << 20)
    before = peak_bytes(broker)
    records = bomb(codec)
    assert len(records) < 16 << 20
    answer = produce(broker, name, records)
    # Snappy yields no more than 22 times its input: it meets its bound only in batches that are large already.
    expected = 0 if codec == 2 else MESSAGE_TOO_LARGE
    assert answer["error_code"] == expected, answer
    if codec != 2:
        assert "decompress" in answer["error_message"]
    assert peak_bytes(broker) - before < 400 << 20
    assert produce(broker, name, batch(ONE))["error_code"] == 0


def test_snappy_that_promises_more_than_it_has(broker, topic):
    block = b"\xff\xff\xff\xff\x0f" + b"\x00" * 100
    body = b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, len(block)) + block
    answer = produce(broker, topic, batch(ONE, attributes=2, body=body))
    assert answer["error_code"] != 0
    assert produce(broker, topic, batch(ONE))["error_code"] == 0


def test_bombs_in_bombs(broker, topic):
    twice = gzip.compress(gzip.compress(bytes(50 << 20)))
    assert produce(broker, topic, batch(ONE, attributes=1, body=twice))["error_code"] != 0
    if broker.name == "kafka":
        return  # It looks for as many records as are counted and leaves alone what follows.
    many = compress(3, record(0, value=bytes(1 << 20))) * 200
    assert produce(broker, topic, batch(ONE, attributes=3, body=many))["error_code"] != 0
    assert produce(broker, topic, batch(ONE))["error_code"] == 0


def peak_bytes(broker):
    status = open(f"/proc/{broker.process.pid}/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_records_that_are_too_large(broker, name):
    make_topic(broker, name, max_message_bytes=10_000)
    assert produce(broker, name, batch(record(0, value=bytes(20_000))))["error_code"] == MESSAGE_TOO_LARGE
    assert produce(broker, name, batch(record(0, value=bytes(20_000)), codec=1))["error_code"] == 0
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    errors = []
    producer.produce(name, bytes(20_000), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors[0].name() == "MSG_SIZE_TOO_LARGE"


def test_timestamps_out_of_bounds(broker, name):
    make_topic(broker, name, message_timestamp_before_max_ms=3_600_000)
    old, now = int(time.time() * 1000) - 7_200_000, int(time.time() * 1000)
    assert produce(broker, name, batch(ONE, base_time=now, max_time=now))["error_code"] == 0
    assert produce(broker, name, batch(ONE, base_time=old, max_time=old))["error_code"] == INVALID_TIMESTAMP


def producer_id(broker):
    connection = Connection(broker.address)
    got = connection.call("InitProducerId", 2, transactional_id=None, transaction_timeout_ms=1000)
    connection.close()
    assert got["error_code"] == 0, got
    return got["producer_id"] + 1


def test_sequences_with_a_gap(broker, topic):
    got = wait_until(lambda: producer_id(broker))
    now = int(time.time() * 1000)
    by = dict(producer_id=got - 1, epoch=0, base_time=now, max_time=now)
    assert produce(broker, topic, batch(ONE, sequence=0, **by))["error_code"] == 0
    assert produce(broker, topic, batch(ONE, sequence=5, **by))["error_code"] == OUT_OF_ORDER
    again = produce(broker, topic, batch(ONE, sequence=0, **by))
    assert again["error_code"] == 0
    before = end(broker, topic)
    assert again["base_offset"] == before - 1, "the same batch again is where it was"
    assert produce(broker, topic, batch(ONE, sequence=-1, **by))["error_code"] == INVALID_RECORD


@pytest.mark.parametrize("config", ["retention.ms=soon", "no.such.config=1", "max.message.bytes=-1", "cleanup.policy=burn"])
def test_wrong_topic_configs(broker, name, config):
    key, value = config.split("=")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    with pytest.raises(KafkaException) as refused:
        admin.create_topics([NewTopic(name, 1, 1, config={key: value})])[name].result(20)
    error = refused.value.args[0]
    assert error.name() == "INVALID_CONFIG" and key in error.str(), error
