"""Batches as clients send them, and as none would; what is stored is read back and compared byte by byte."""

import uuid

import pytest

from batches import TIME, batch, old_message, record

VALUES = [b"v-%d" % n for n in range(5)]


def ask(story, version, data, acks=-1, transaction=None, **more):
    return story.ask("Produce", version, transactional_id=transaction, acks=acks, timeout_ms=5000, topic_data=data, **more)


def one(topic, records, partition=0):
    return [dict(name=topic, partition_data=[dict(index=partition, records=records)])]


@pytest.mark.parametrize("version", [3, 7, 8, 9, 12])
def test_good_and_unknown(story, version):
    name = f"produce-{version}"
    story.topic(name, 2)
    good = batch(*VALUES)
    for acks in (-1, 1):
        ask(story, version, one(name, good), acks)
        ask(story, version, one(name, good, 5), acks)
        ask(story, version, one(name, good, -1), acks)
        ask(story, version, one("nobody-made-this-either", good), acks)
        ask(story, version, one("a b", good), acks)
        ask(story, version, [*one(name, good), *one("nobody-made-this-either", good, 3), *one(name, good, 1)], acks)
        ask(story, version, [dict(name=name, partition_data=[dict(index=n, records=good) for n in (1, 9, 0)])], acks)
    ask(story, version, [])
    ask(story, version, [dict(name=name, partition_data=[])])
    for acks in (2, 7, -2):
        ask(story, version, one(name, good), acks)
        ask(story, version, [*one(name, good), *one("nobody-made-this-either", good, 3)], acks)
        ask(story, version, one(name, b""), acks)
    # Ours lets readers see what is on the disk: what is acknowledged by all is.
    for partition in (0, 1):
        story.produce(name, good, partition=partition)
        story.fetch(name, partition=partition)


def test_by_topic_id(story):
    ids = story.topic("produce-by-id")
    by = lambda id, partition=0: [dict(topic_id=id, partition_data=[dict(index=partition, records=batch(*VALUES))])]  # noqa: E731
    values = dict(transactional_id=None, acks=-1, timeout_ms=5000)
    strange = uuid.uuid4()
    for partition in (0, 4):
        story.ask("Produce", 13, each=[dict(topic_data=by(id, partition)) for id in ids], **values)
        story.ask("Produce", 13, topic_data=by(strange, partition), **values)
        story.ask("Produce", 13, topic_data=by(uuid.UUID(int=0), partition), **values)
    story.ask("Produce", 13, each=[dict(topic_data=[*by(strange), *by(id)]) for id in ids], **values)


def test_no_answer(story):
    """With no acknowledgement a good request gets no answer, and a bad one a closed connection."""
    story.topic("produce-silent")
    for connection in story.connections:
        connection.send("Produce", 9, transactional_id=None, acks=0, timeout_ms=5000, topic_data=one("produce-silent", batch(*VALUES)))
    story.ask("Metadata", 8, topics=[{"name": "produce-silent"}], allow_auto_topic_creation=False)
    story.fetch("produce-silent")
    ask(story, 9, one("nobody-made-this-either", batch(*VALUES)), acks=0)
    ask(story, 9, one("produce-silent", batch(*VALUES, crc=7)), acks=0)


BROKEN = {
    "nothing": b"",
    "one byte": b"\0",
    "half a header": batch(*VALUES)[:30],
    "cut": batch(*VALUES)[:-3],
    "with more behind it": batch(*VALUES) + b"\0\0\0",
    "two": batch(*VALUES) * 2,
    "a good one and half": batch(*VALUES) + batch(*VALUES)[:40],
    "wrong crc": batch(*VALUES, crc=1),
    "length too small": batch(*VALUES, length=20),
    "length zero": batch(*VALUES, length=0),
    "length negative": batch(*VALUES, length=-1),
    "length too large": batch(*VALUES, length=1000),
    "length huge": batch(*VALUES, length=0x7FFFFFFF),
    "magic 0": old_message(0),
    "magic 1": old_message(1),
    "magic 3": batch(*VALUES, magic=3),
    "magic -1": batch(*VALUES, magic=-1),
    "codec 5": batch(*VALUES, attributes=5),
    "codec 6": batch(*VALUES, attributes=6),
    "codec 7": batch(*VALUES, attributes=7),
    "codec that is not": batch(*VALUES, attributes=1),
    "snappy that is not": batch(*VALUES, attributes=2),
    "lz4 that is not": batch(*VALUES, attributes=3),
    "zstd that is not": batch(*VALUES, attributes=4),
    "unused attributes": batch(*VALUES, attributes=0x80),
    "control": batch(*VALUES, attributes=0x20),
    "control of a producer": batch(*VALUES, attributes=0x20, producer_id=1 << 33, epoch=0, sequence=0),
    "transactional": batch(*VALUES, attributes=0x10),
    "log append time": batch(*VALUES, attributes=8),
    "delete horizon": batch(*VALUES, attributes=0x40),
    "base offset": batch(*VALUES, base_offset=77),
    "base offset negative": batch(*VALUES, base_offset=-5),
    "leader epoch": batch(*VALUES, leader_epoch=99),
    "count too small": batch(*VALUES, count=3),
    "count too large": batch(*VALUES, count=7),
    "count zero": batch(*VALUES, count=0),
    "count negative": batch(*VALUES, count=-1),
    "count huge": batch(*VALUES, count=0x7FFFFFFF),
    "empty": batch(),
    "empty, nothing counted": batch(last_delta=0),
    "last delta too small": batch(*VALUES, last_delta=2),
    "last delta too large": batch(*VALUES, last_delta=9),
    "last delta negative": batch(*VALUES, last_delta=-1),
    "delta not from 0": batch(record(1), record(2)),
    "delta with a gap": batch(record(0), record(2), last_delta=2),
    "deltas backwards": batch(record(1), record(0)),
    "deltas the same": batch(record(0), record(0)),
    "delta negative": batch(record(-1), record(0)),
    "max time is less": batch(*VALUES, max_time=TIME - 5),
    "max time is more": batch(*VALUES, max_time=TIME + 5),
    "base time of none": batch(*VALUES, base_time=-1, max_time=-1),
    "base time negative": batch(*VALUES, base_time=-99, max_time=-99),
    "time of another century": batch(*VALUES, base_time=TIME * 10, max_time=TIME * 10),
    "record's time negative": batch(record(0, time_delta=-TIME - 7)),
    "times out of order": batch(record(0, time_delta=5), record(1, time_delta=-5), max_time=TIME + 5),
    "record's attributes": batch(record(0, attributes=7)),
    "key and headers": batch(record(0, b"k", b"v", [(b"h", b"1"), (b"h", None), (b"", b"")])),
    "header without a name": batch(record(0, b"k", b"v", [(None, b"1")])),
    "no value": batch(record(0, None, None)),
    "bytes behind the records": batch(body=record(0) + b"\0\0", count=1, last_delta=0),
    "record longer than it is": batch(body=b"\x7e" + record(0)[1:], count=1, last_delta=0),
    "record shorter than it is": batch(body=b"\x02" + record(0)[1:], count=1, last_delta=0),
    "record of length zero": batch(body=b"\0", count=1, last_delta=0),
    "record of negative length": batch(body=b"\x01", count=1, last_delta=0),
    "nonsense": batch(body=b"\xff" * 40, count=1, last_delta=0),
    "sequence without producer": batch(*VALUES, sequence=4),
    "epoch without producer": batch(*VALUES, epoch=4),
    "producer without sequence": batch(*VALUES, producer_id=1 << 33, epoch=0),
    "producer without epoch": batch(*VALUES, producer_id=1 << 34, sequence=0),
    "producer negative": batch(*VALUES, producer_id=-2, epoch=0, sequence=0),
    "sequence negative": batch(*VALUES, producer_id=1 << 35, epoch=0, sequence=-2),
}


DIFFERS = {
    "with more behind it": "behind the batch",
    "delta not from 0": "numbering",
    "length huge": "server errors",
    "codec 5": "server errors",
    "codec 6": "server errors",
    "codec 7": "server errors",
    "codec that is not": "server errors",
    "snappy that is not": "server errors",
    "a good one and half": "behind the batch",
    "lz4 that is not": "server errors",
    "deltas backwards": "numbering",
    "deltas the same": "numbering",
    "delta negative": "numbering",
    "nonsense": "server errors",
    "producer without epoch": "no epoch",
    "log append time": "the broker's time",
}


@pytest.mark.parametrize("version", [3, 9])
def test_broken_batches(story, version):
    """Each to a partition of its own, a good one behind it."""
    name = f"broken-{version}"
    story.topic(name, len(BROKEN))
    for partition, (what, records) in enumerate(BROKEN.items()):
        story.note = what
        but = DIFFERS.get(what)
        if what == "zstd that is not" and version >= 7:
            but = "server errors"
        ask(story, version, one(name, records, partition), but=but)
        if but in (None, "server errors"):
            story.produce(name, batch(*VALUES), partition=partition)
            story.fetch(name, partition=partition)


@pytest.mark.parametrize("wanted", ["producer", "uncompressed", "gzip", "lz4", "zstd", "snappy"])
def test_codecs(story, wanted):
    """What is stored under another codec is compared by its offsets: encoders differ."""
    name = f"codec-{wanted}"
    names = ["uncompressed", "gzip", "snappy", "lz4", "zstd"]
    story.topic(name, len(names), compression_type=wanted)
    for partition, codec in enumerate(names):
        story.produce(name, batch(*VALUES, codec=partition), batch(*VALUES, codec=partition, count=4), partition=partition)
        if wanted in ("producer", "uncompressed", codec):
            story.fetch(name, partition=partition)
        at = [dict(partition_index=partition, timestamp=time) for time in (-1,)]
        story.ask("ListOffsets", 5, replica_id=-1, isolation_level=0, topics=[dict(name=name, partitions=at)])


def test_too_large(story):
    story.topic("small", max_message_bytes="200")
    for size in (50, 100, 127, 128, 129, 130, 131, 132, 200, 1000):
        story.produce("small", batch(record(0, value=b"x" * size)))
    story.produce("small", batch(record(0, value=b"x" * 1000), codec=1))
    story.topic("segment", segment_bytes=str(1 << 20), max_message_bytes=str(4 << 20))
    story.produce("segment", batch(record(0, value=b"x" * (2 << 20))))
    story.topic("usual")
    story.produce("usual", batch(record(0, value=b"x" * (2 << 20))))


def test_times(story):
    import time

    now = int(time.time() * 1000)
    at = lambda ms: batch(*VALUES, base_time=ms, max_time=ms)  # noqa: E731
    story.topic("append-time", message_timestamp_type="LogAppendTime")
    story.produce("append-time", at(now), at(TIME * 10), at(-1))
    story.topic("near", message_timestamp_after_max_ms="60000", message_timestamp_before_max_ms="60000")
    for moved in (0, -30_000, 30_000, -90_000, 90_000):
        story.produce("near", at(now + moved))
    mixed = batch(record(0), record(1, time_delta=90_000), record(2, time_delta=-90_000), base_time=now, max_time=now + 90_000)
    story.produce("near", mixed, at(-1))
    story.topic("append-near", message_timestamp_type="LogAppendTime", message_timestamp_before_max_ms="60000")
    story.produce("append-near", at(TIME))


def test_sequences(story):
    """An idempotent producer that repeats itself, forgets, and comes back."""
    name = "sequences"
    # For a repeated batch Kafka tells its time also where it is not the broker's.
    story.ignored = {"log_append_time_ms"}
    story.topic(name)
    make = lambda sequence, epoch=0, producer=1 << 31, values=VALUES: batch(  # noqa: E731
        *values, producer_id=producer, epoch=epoch, sequence=sequence
    )
    story.produce(name, make(0), make(5), make(10))
    story.produce(name, make(10), make(5), make(0))
    story.produce(name, make(20), make(16), make(14), make(3), make(12))
    story.produce(name, make(15, values=VALUES[:2]), make(15), make(17))
    for sequence in range(22, 60, 5):
        story.produce(name, make(sequence))
    story.produce(name, make(0), make(5), make(22), make(27), make(37), make(42), make(57))
    story.produce(name, make(5, epoch=1), make(0, epoch=2), make(5, epoch=1), make(0, epoch=0), make(5, epoch=2), make(0, epoch=2))
    story.produce(name, make(7, producer=(1 << 31) + 1), make(12, producer=(1 << 31) + 1), make(0, producer=(1 << 31) + 2))
    story.produce(name, make(0x7FFFFFFF - 2, producer=(1 << 31) + 3), make(2, producer=(1 << 31) + 3), make(3, producer=(1 << 31) + 3))
    story.fetch(name)
    ask(story, 9, one(name, make(20, epoch=2) + make(25, epoch=2)))
    both = [dict(name=name, partition_data=[dict(index=0, records=make(10, epoch=2)), dict(index=0, records=make(15, epoch=2))])]
    ask(story, 9, both, but="repeated batch")


def test_producer_ids(story):
    given = lambda answer: answer["error_code"] == 0  # noqa: E731
    story.settle("InitProducerId", 2, given, transactional_id=None, transaction_timeout_ms=1000)
    for version in range(6):
        more = dict(producer_id=-1, producer_epoch=-1) if version >= 3 else {}
        init = lambda id, timeout=1000, but=None, **more: story.ask(  # noqa: E731
            "InitProducerId", version, transactional_id=id, transaction_timeout_ms=timeout, but=but, **more
        )
        first = init(None, **more)
        init(None, -1, **more)
        init(None, 1 << 30, **more)
        init("", **more)
        if version >= 3:
            ids = [dict(producer_id=answer["producer_id"], producer_epoch=answer["producer_epoch"]) for answer in first]
            story.ask("InitProducerId", version, each=ids, transactional_id=None, transaction_timeout_ms=1000)
            init(None, producer_id=5, producer_epoch=-1)
            init(None, producer_id=-1, producer_epoch=5)
            init(None, producer_id=1 << 50, producer_epoch=3)


def test_transactions(story):
    story.topic("transactions")
    coordinated = lambda answer: answer["error_code"] in (0, 53)  # noqa: E731
    story.settle("FindCoordinator", 3, coordinated, key="t", key_type=1)
    inited = lambda answer: answer["error_code"] in (0, 53)  # noqa: E731
    story.settle("InitProducerId", 4, inited, transactional_id="t", transaction_timeout_ms=9000, producer_id=-1, producer_epoch=-1)
    story.ask("FindCoordinator", 3, key="t", key_type=1)
    again = dict(transaction_timeout_ms=9000, producer_id=-1, producer_epoch=-1)
    story.ask("InitProducerId", 4, transactional_id="t", **again)
    ask(story, 9, one("transactions", batch(*VALUES)), transaction="t")
