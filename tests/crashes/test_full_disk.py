"""The disk is full: produce is told so, readers notice nothing, and writing goes on as soon as there is space."""

import os
import subprocess

import pytest
from batches import batch, record
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from harness import wait_until
from talk import end, make_topic, produce
from wire import Connection

STORAGE_ERROR = 56
RECORD_BYTES = 500_000


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    """A file system of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(place)]
    else:
        image = tmp_path / "image"
        with open(image, "wb") as file:
            file.truncate(48 << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, check=False)
        if made.returncode != 0:
            pytest.skip("no ext4 here")
        mount = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{request.param} cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)


@pytest.fixture
def small(target, disk, tmp_path):
    """A broker on that disk, beside a file that can make space."""
    if target.name == "kafka":
        pytest.skip("Kafka halts when its disk is full")
    ballast = disk / "ballast"
    ballast.write_bytes(os.urandom(12 << 20))
    broker = target(disk / "data", settings=["log.segment.bytes=4194304"])
    broker.log = tmp_path / "broker.log"
    broker.start()
    yield broker
    if broker.process.poll() is None:
        broker.kill()


def one():
    return batch(record(0, value=os.urandom(RECORD_BYTES)))


def fill_up(broker, topic):
    """Produces until the disk is full; gives the refusal."""
    for _ in range(200):
        answer = produce(broker, topic, one())
        if answer["error_code"] != 0:
            return answer
    raise AssertionError("100 MB did not fill a disk of 48")


def read_all(broker, topic):
    """Reads from every offset; gives how many there are."""
    connection, last = Connection(broker.address), end(broker, topic)
    for offset in range(last):
        at = dict(partition=0, fetch_offset=offset, partition_max_bytes=1)
        answer = connection.call(
            "Fetch", 12, replica_id=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, isolation_level=0, session_id=0,
            session_epoch=-1, forgotten_topics_data=[], rack_id="", topics=[dict(topic=topic, partitions=[at])],
        )  # fmt: skip
        part = answer["responses"][0]["partitions"][0]
        assert part["error_code"] == 0 and (offset == 0 or len(part["records"]) > RECORD_BYTES), part["error_code"]
    connection.close()
    return last


def test_a_full_disk_stops_writers_only_and_only_for_a_while(small, disk):
    make_topic(small, "full")
    make_topic(small, "other")
    refused = fill_up(small, "full")
    assert refused["error_code"] == STORAGE_ERROR and "disk is full" in refused["error_message"], refused
    stored = end(small, "full")
    assert small.process.poll() is None
    assert read_all(small, "full") == stored, "readers notice nothing"
    admin = AdminClient({"bootstrap.servers": small.bootstrap})
    assert admin.list_topics(timeout=10).topics.keys() >= {"full", "other"}
    told_by_clients(small)

    # Room for a while: all goes on, without a restart.
    (disk / "ballast").unlink()
    wait_until(lambda: produce(small, "full", one())["error_code"] == 0, what="writing goes on once there is space")
    assert produce(small, "other", one())["error_code"] == 0
    more = end(small, "full")
    assert more == stored + 1
    fill_up(small, "full")
    more = end(small, "full")

    # Nothing acknowledged is lost when it dies on a full disk, and it starts on one.
    small.kill()
    small.start()
    assert read_all(small, "full") >= more
    admin.delete_topics(["full"])["full"].result(20)
    wait_until(lambda: produce(small, "other", one())["error_code"] == 0, what="deleting makes space")


def told_by_clients(broker):
    """What a client of librdkafka and an administrator get to see."""
    failures = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 3000})
    for _ in range(3):
        producer.produce("other", os.urandom(RECORD_BYTES), on_delivery=lambda error, _: failures.append(error))
    producer.flush(20)
    assert {error and error.code() for error in failures} <= {KafkaError.KAFKA_STORAGE_ERROR, KafkaError._MSG_TIMED_OUT}, failures
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    with pytest.raises(KafkaException) as refused:
        for number in range(2000):
            admin.create_topics([NewTopic(f"more-{number}", 1, 1)])[f"more-{number}"].result(20)
    error = refused.value.args[0]
    assert error.code() == KafkaError.KAFKA_STORAGE_ERROR and "space" in error.str(), error
    assert broker.process.poll() is None
