"""A data directory that Apache Kafka wrote, as `millstream log dump` reads it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness  # noqa: E402

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
RECORDS = 300


@pytest.fixture
def kafka(tmp_path):
    broker = harness.Kafka(tmp_path / "data").start()
    yield broker
    broker.stop()


def dump(*paths):
    """Every line of the dump, by file."""
    command = [harness.BINARY, "log", "dump", "--records", "--output", "json", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def write(kafka, topic):
    """Records in every codec, in several segments; gives key, value and headers of each, in order of offset."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    config = {"segment.bytes": str(1 << 20), "index.interval.bytes": "1024"}
    for future in admin.create_topics([NewTopic(topic, 1, 1, config=config)]).values():
        future.result(20)
    written = []
    for codec in CODECS:
        settings = {"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True, "linger.ms": 2}
        producer = Producer(settings | ({"compression.type": codec} if codec else {}))
        for number in range(RECORDS):
            key = f"key-{number}" if number % 3 else None
            value = f"{codec} {number} " + "".join(chr(97 + (number * 7 + at * at) % 26) for at in range(4000))
            headers = [("codec", str(codec)), ("codec", "twice")]
            producer.produce(topic, value, key, partition=0, headers=headers)
            written.append((key, value, [list(header) for header in headers]))
        assert producer.flush(30) == 0
    return written


def test_log_dump_reads_what_kafka_wrote(kafka):
    written = write(kafka, "flights")
    partition = kafka.data / "data" / "flights-0"

    def check(lines):
        batches = [line for line in lines if line["kind"] == "batch"]
        records = [line for line in lines if line["kind"] == "record"]
        entries = [line for line in lines if line["kind"] == "entry"]
        assert [record["offset"] for record in records] == list(range(len(written)))
        assert [(r["key"], r["value"], r["headers"]) for r in records] == written
        assert {batch["compression"] for batch in batches} == {codec or "none" for codec in CODECS}
        assert all(batch["crc_valid"] for batch in batches)
        assert len({batch["producer_id"] for batch in batches}) == len(CODECS)
        places = {(batch["file"][:-4], batch["last_offset"], batch["position"]) for batch in batches}
        positions = [e for e in entries if e["file"].endswith(".index") and e["offset"] > 0]
        assert positions, "the index has entries"
        assert all((e["file"][:-6], e["offset"], e["position"]) in places for e in positions)

    # While it runs its indexes are longer than what is in them; when it has ended they are cut.
    check(dump(partition))
    assert len(list(partition.glob("*.log"))) > 1
    kafka.terminate()
    check(dump(partition))


def test_log_dump_tells_damage(kafka):
    write(kafka, "flights")
    kafka.terminate()
    segment = min((kafka.data / "data" / "flights-0").glob("*.log"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    command = [harness.BINARY, "log", "dump", str(segment)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "damaged" in done.stderr and segment.name in done.stderr


def test_log_dump_shows_how_transactions_ended(kafka):
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([NewTopic("orders", 1, 1)]).values():
        future.result(20)
    producers = []
    for name in ("a", "b"):
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
        producer.init_transactions(20)
        producers.append(producer)
    for round in range(6):
        for producer in producers:
            producer.begin_transaction()
            producer.produce("orders", f"{round}", partition=0)
            producer.flush(20)
        for number, producer in enumerate(producers):
            if (round + number) % 3:
                producer.commit_transaction(20)
            else:
                producer.abort_transaction(20)
    kafka.terminate()
    lines = dump(kafka.data / "data" / "orders-0")
    first, aborted = {}, []
    for batch in (line for line in lines if line["kind"] == "batch"):
        producer = batch["producer_id"]
        assert batch["transactional"] and batch["control"] == ("marker" in batch)
        if not batch["control"]:
            first.setdefault(producer, batch["base_offset"])
            continue
        begun = first.pop(producer)
        if batch["marker"] == "abort":
            stable = min([*first.values(), batch["base_offset"] + 1])
            aborted.append((producer, begun, batch["base_offset"], stable))
    told = [line for line in lines if line["kind"] == "aborted"]
    fields = ("producer_id", "first_offset", "last_offset", "last_stable_offset")
    assert len(aborted) == 4
    assert [tuple(line[field] for field in fields) for line in told] == aborted
