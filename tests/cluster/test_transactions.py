"""Transactions (KIP-98, KIP-890): what is committed is seen once, what is aborted never, whatever happens to brokers."""

import json
import time

import pytest
from brokers import wait_until
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource
from harness import TARGET, java
from steps import PATIENCE, heal, high_watermark, make_topic, numbers, read, write

PARTITIONS = 3


def test_what_is_committed_is_read_and_what_is_aborted_is_not(three, name):
    make_topic(three, name, PARTITIONS)
    producer = transactional(three, name)
    for count in range(20):
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce(name, f"{count}", partition=partition)
        assert producer.flush(20) == 0
        if count % 4 == 3:
            producer.abort_transaction(20)
        else:
            producer.commit_transaction(20)
    kept = [str(count) for count in range(20) if count % 4 != 3]
    for partition in range(PARTITIONS):
        values = read(three.bootstrap, name, len(kept), [partition], isolation_level="read_committed")
        assert values == kept
        everything = read(three.bootstrap, name, 20, [partition], isolation_level="read_uncommitted")
        assert everything == [str(count) for count in range(20)]


def test_nothing_is_read_of_a_transaction_that_is_open(three, name):
    make_topic(three, name)
    producer = transactional(three, name)
    producer.begin_transaction()
    producer.produce(name, "open", partition=0)
    assert producer.flush(20) == 0
    write(three.bootstrap, name, ["behind it"])
    assert stable_end(three, name) == 0
    assert read(three.bootstrap, name, 2, isolation_level="read_uncommitted") == ["open", "behind it"]
    producer.commit_transaction(20)
    wait_until(lambda: stable_end(three, name) == 3, 10, "the marker is written")
    assert read(three.bootstrap, name, 2, isolation_level="read_committed") == ["open", "behind it"]


def test_a_new_producer_fences_the_one_before(three, name):
    make_topic(three, name)
    first = transactional(three, name)
    first.begin_transaction()
    first.produce(name, "of the first", partition=0)
    assert first.flush(20) == 0
    second = transactional(three, name)
    second.begin_transaction()
    second.produce(name, "of the second", partition=0)
    second.commit_transaction(20)
    with pytest.raises(KafkaException) as fenced:
        first.commit_transaction(20)
    assert fenced.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    assert read(three.bootstrap, name, 1, isolation_level="read_committed") == ["of the second"]


def test_a_transaction_that_takes_too_long_is_aborted(three, name):
    make_topic(three, name)
    producer = transactional(three, name, transaction_timeout_ms=1000)
    producer.begin_transaction()
    producer.produce(name, "late", partition=0)
    assert producer.flush(20) == 0
    assert stable_end(three, name) == 0
    wait_until(lambda: stable_end(three, name) == 2, 10, "the coordinator aborts it")
    with pytest.raises(KafkaException):
        producer.commit_transaction(20)
    write(three.bootstrap, name, ["after it"])
    assert read(three.bootstrap, name, 1, isolation_level="read_committed") == ["after it"]


def test_offsets_and_records_are_committed_together_through_kills(three, name):
    """A program that reads, works and writes has every record of its source in its sink once, in order."""
    source, sink = f"{name}-in", f"{name}-out"
    for topic in (source, sink):
        make_topic(three, topic)
    write(three.bootstrap, source, numbers(600))
    victims = iter(three.nodes.values())
    done = 0
    while done < 600:
        done = work(three, name, source, sink, 200)
        victim = next(victims, None)
        if victim:
            victim.kill()
            victim.start()
    heal(three)
    three.wait_in_sync(sink)
    values = read(three.bootstrap, sink, 600, isolation_level="read_committed")
    assert values == numbers(600)


def work(cluster, name, source, sink, count):
    """Moves some records as a new incarnation of the program, which ends in the middle of a transaction. Gives how far it is."""
    producer = transactional(cluster, name)
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": name,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            **PATIENCE,
        }
    )
    at = TopicPartition(source, 0)

    def start():
        (committed,) = consumer.committed([at], 5)
        return TopicPartition(source, 0, max(committed.offset, 0))

    begin = wait_until(lambda: (start(),), 30, "the offset is stable")[0]
    consumer.assign([begin])
    moved = 0
    while moved < count:
        records = consumer.consume(50, 5)
        if not records:
            break
        producer.begin_transaction()
        for record in records:
            assert record.error() is None, record.error()
            producer.produce(sink, record.value(), partition=0)
        if moved + len(records) >= count and begin.offset + moved + len(records) < 600:
            assert producer.flush(30) == 0
            return begin.offset + moved
        producer.send_offsets_to_transaction(consumer.position([at]), consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        moved += len(records)
    consumer.close()
    return begin.offset + moved


def test_what_a_partitioner_spreads_is_committed_as_a_whole_through_kills(three, name):
    """Records go to whichever partition their key has; each of these learns how the transaction ended."""
    make_partitioned(three, name)
    producer = transactional(three, name)
    victims = list(three.nodes.values())
    kept = []
    for count in range(24):
        producer.begin_transaction()
        values = [json.dumps({"key": key, "count": count}) for key in range(2 * PARTITIONS)]
        for at, value in enumerate(values):
            producer.produce(name, value, partition=at % PARTITIONS)
        if count % 8 == 4:
            assert producer.flush(30) == 0
            victim = victims[count // 8]
            assert victim.number in {partition.leader for partition in three.partitions(name).values()}
            victim.kill()
        if end(producer, is_commit=count % 3 != 2):
            kept += values
        if count % 8 == 6:
            heal(three)
    assert len(kept) >= 10 * len(values), "most of what was to be committed was"
    heal(three)
    three.wait_in_sync(name)
    places = {}
    for partition in range(PARTITIONS):
        wait_until(lambda: stable_end(three, name, partition) == high_watermark(three.bootstrap, name, partition), 20, "nothing is open")
        for value in read_all(three, name, partition):
            places.setdefault(json.loads(value)["key"], []).append((partition, value))
    assert sorted(value for of_key in places.values() for _, value in of_key) == sorted(kept), "each once, and nothing else"
    assert all(len({partition for partition, _ in of_key}) == 1 for of_key in places.values()), "a key has one partition"
    assert len({partition for of_key in places.values() for partition, _ in of_key}) > 1


def test_a_partitioner_that_comes_or_goes_leaves_no_transaction_open(three, name):
    """A producer that is in the middle of a transaction may have to begin anew; what it has written then never was."""
    make_partitioned(three, name)
    admin = AdminClient({"bootstrap.servers": three.bootstrap})
    kept = []
    for count, configs in enumerate(({}, BY_KEY)):
        producer = transactional(three, name)
        for middle in (False, True):
            producer.begin_transaction()
            values = [json.dumps({"key": key, "count": count, "middle": middle}) for key in range(PARTITIONS)]
            try:
                producer.produce(name, values[0], partition=0)
                assert producer.flush(30) == 0
                if middle:
                    configure(admin, name, configs)
                for value in values[1:]:
                    producer.produce(name, value, partition=0)
                committed = end(producer, is_commit=True)
            except KafkaException as error:
                assert middle and error.args[0].fatal(), error
                committed = False
            if committed:
                kept += values
    transactional(three, name)
    wait_until(
        lambda: all(stable_end(three, name, at) == high_watermark(three.bootstrap, name, at) for at in range(PARTITIONS)),
        20,
        "nothing is open",
    )
    found = [value for partition in range(PARTITIONS) for value in read_all(three, name, partition)]
    assert sorted(found) == sorted(kept)
    assert len(kept) >= 2 * PARTITIONS


def test_javas_producer_commits_through_a_partitioner(three, name, tmp_path):
    """It leaves it to leaders to add partitions, and has an epoch for each of many short transactions."""
    make_partitioned(three, name)
    lines = [json.dumps({"key": key, "of": "a line"}) for key in range(50)]
    file = tmp_path / "lines"
    file.write_text("\n".join(lines))
    load = ("--topic", name, "--num-records", "2000", "--payload-file", str(file), "--throughput", "-1", "--transaction-duration-ms", "20")
    done = java("org.apache.kafka.tools.ProducerPerformance", *load, "--transactional-id", name, "--command-property", f"bootstrap.servers={three.bootstrap}")
    assert "2000 records sent" in done, done
    found = {}
    for partition in range(PARTITIONS):
        wait_until(lambda: stable_end(three, name, partition) == high_watermark(three.bootstrap, name, partition), 20, "nothing is open")
        for value in read_all(three, name, partition):
            found.setdefault(value, []).append(partition)
    assert sum(map(len, found.values())) == 2000 and set(found) <= set(lines)
    assert all(len(set(partitions)) == 1 for partitions in found.values())


BY_KEY = {"millstream.partitioner": "by-field", "millstream.partitioner.config": '{"pointer":"/key"}'}


def make_partitioned(cluster, name):
    """A topic whose records go where their keys say."""
    path = TARGET / "plugins" / "by_field.wasm"
    if not path.exists():
        pytest.skip("'cargo xtask plugins' builds plugins")
    cluster.admin("plugin", "push", str(path))
    make_topic(cluster, name, PARTITIONS, **{key.replace(".", "_"): value for key, value in BY_KEY.items()})


def configure(admin, topic, configs):
    """Gives a topic these configurations, and no others."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config=configs)
    for done in admin.alter_configs([resource]).values():
        done.result(20)


def end(producer, is_commit):
    """Ends a transaction, which is aborted where it cannot be committed any more. Says whether it was committed."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if is_commit:
                producer.commit_transaction(20)
            else:
                producer.abort_transaction(20)
            return is_commit
        except KafkaException as error:
            told = error.args[0]
            if not told.txn_requires_abort() and not (told.retriable() and time.monotonic() < deadline):
                raise
            is_commit = is_commit and not told.txn_requires_abort()


def read_all(cluster, topic, partition):
    """All values of a partition that were committed."""
    config = {"bootstrap.servers": cluster.bootstrap, "group.id": "reader", "isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = Consumer({**config, "enable.auto.commit": False, **PATIENCE})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    values, deadline = [], time.monotonic() + 30
    while True:
        message = consumer.poll(1)
        assert time.monotonic() < deadline, "the end of the partition"
        if message is None:
            continue
        if message.error() is None:
            values.append(message.value().decode())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            consumer.close()
            return values


def test_javas_producer_and_kafkas_tool_work_unchanged(three, name):
    """Since 4.0 the producer leaves it to leaders to add partitions, and takes a new epoch for every transaction."""
    make_topic(three, name, PARTITIONS)
    at = ("--bootstrap-server", three.bootstrap)
    load = ("--topic", name, "--num-records", "2000", "--record-size", "100", "--throughput", "-1", "--transaction-duration-ms", "50")
    done = java("org.apache.kafka.tools.ProducerPerformance", *load, "--transactional-id", name, "--command-property", f"bootstrap.servers={three.bootstrap}")
    assert "2000 records sent" in done, done
    listed = java("org.apache.kafka.tools.TransactionsCommand", *at, "list")
    assert any(line.split()[0] == name and line.split()[-1] == "CompleteCommit" for line in listed.splitlines() if line.strip()), listed
    described = java("org.apache.kafka.tools.TransactionsCommand", *at, "describe", "--transactional-id", name)
    assert "CompleteCommit" in described, described
    (epoch,) = [int(line.split()[3]) for line in described.splitlines() if name in line]
    assert epoch > 0, "every transaction has an epoch of its own"
    producers = java("org.apache.kafka.tools.TransactionsCommand", *at, "describe-producers", "--topic", name, "--partition", "0")
    assert "None" in producers, f"no transaction is open: {producers}"


def transactional(cluster, name, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": name, "linger.ms": 2, **PATIENCE, **config})
    deadline = time.monotonic() + 30
    while True:
        try:
            producer.init_transactions(10)
            return producer
        except KafkaException as error:
            assert error.args[0].retriable() and time.monotonic() < deadline, error


def stable_end(cluster, topic, partition=0):
    """Where readers of committed records have to wait."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader", "isolation.level": "read_committed"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
    finally:
        consumer.close()
