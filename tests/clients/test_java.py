"""Kafka's own command line tools, from Maven."""

import json
import random
import re

import pytest

from harness import java, wait_until
from javatools import TOOLS, consume, create, fill, tool


def test_topics(broker, name):
    create(broker, name, 3)
    shown = tool(broker, "TopicCommand", "--describe", "--topic", name)
    assert "PartitionCount: 3" in shown and shown.count("Leader:") == 3
    tool(broker, "TopicCommand", "--alter", "--topic", name, "--partitions", "5")
    assert name in tool(broker, "TopicCommand", "--list").split()
    tool(broker, "TopicCommand", "--delete", "--topic", name)
    wait_until(lambda: name not in tool(broker, "TopicCommand", "--list").split())


def test_configs(broker, name):
    create(broker, name)
    config = ("--bootstrap-server", broker.bootstrap, "--entity-type", "topics", "--entity-name", name)
    java("kafka.admin.ConfigCommand", *config, "--alter", "--add-config", "retention.ms=7654321")
    assert "retention.ms=7654321" in java("kafka.admin.ConfigCommand", *config, "--describe")
    java("kafka.admin.ConfigCommand", *config, "--alter", "--delete-config", "retention.ms")
    shown = java("kafka.admin.ConfigCommand", *config, "--describe", "--all")
    assert "max.message.bytes=1048588" in shown and "7654321" not in shown
    with pytest.raises(AssertionError, match="Unknown topic config name|InvalidConfiguration"):
        java("kafka.admin.ConfigCommand", *config, "--alter", "--add-config", "retention.mss=1")


def test_the_broker_is_described(broker):
    config = ("--bootstrap-server", broker.bootstrap, "--entity-type", "brokers", "--entity-name", "1")
    shown = java("kafka.admin.ConfigCommand", *config, "--describe", "--all")
    assert "message.max.bytes=1048588" in shown and "num.partitions=1" in shown
    cluster = java(f"{TOOLS}.ClusterTool", "cluster-id", "--bootstrap-server", broker.bootstrap)
    assert re.fullmatch(r"Cluster ID: [A-Za-z0-9_-]{22}", cluster.strip())


def test_the_client_finds_what_a_new_broker_has(broker, name):
    create(broker, name)
    has = ("offsets-for-times", "cluster-id", "create-topics", "describe-configs", "idempotent-producer")
    args = [part for each in has for part in (f"--{each}-supported", "true")]
    args += ["--describe-acls-supported", "false" if broker.name == "millstream" else "true"]
    args += ["--expect-record-too-large-exception", "false", "--num-cluster-nodes", "1", "--topic", name]
    # Kafka's own test of what a client may expect: metadata, records, offsets for times, too large records.
    java(f"{TOOLS}.ClientCompatibilityTest", "--bootstrap-server", broker.bootstrap, *args)


def test_keys_headers_tombstones_and_codecs(broker, name):
    create(broker, name)
    reader = ("parse.key=true", "parse.headers=true", "key.separator=|", "headers.delimiter=|", "null.marker=NULL")
    reader = [part for each in reader for part in ("--reader-property", each)]
    fill(broker, name, ["h:1,h:2|k|v", "NULL|k|NULL"], *reader, "--compression-codec", "zstd")
    shown = [part for each in ("key", "headers", "partition", "offset") for part in ("--formatter-property", f"print.{each}=true")]
    lines = consume(broker, name, 2, *shown, "--isolation-level", "read_committed")
    assert lines == ["Partition:0\tOffset:0\th:1,h:2\tk\tv", "Partition:0\tOffset:1\tNO_HEADERS\tk\tnull"]


def test_reading_from_an_offset(broker, name):
    create(broker, name)
    fill(broker, name, range(10))
    at = ("--topic", name, "--partition", "0", "--offset", "7", "--max-messages", "3", "--timeout-ms", "20000")
    assert tool(broker, "consumer.ConsoleConsumer", *at).split() == ["7", "8", "9"]


def test_a_topic_is_created_by_its_first_record(broker, name):
    fill(broker, name, ["a"])
    assert consume(broker, name, 1) == ["a"]


def test_verifiable_producer_and_consumer(broker, name):
    create(broker, name, 2)
    out = tool(broker, "VerifiableProducer", "--topic", name, "--max-messages", "500")
    summary = json.loads(out.strip().splitlines()[-1])
    assert (summary["sent"], summary["acked"]) == (500, 500)
    group = ("--topic", name, "--group-id", name, "--max-messages", "500", "--reset-policy", "earliest")
    events = [json.loads(line) for line in tool(broker, "VerifiableConsumer", *group).splitlines() if line.startswith("{")]
    assert sum(e["count"] for e in events if e["name"] == "records_consumed") == 500
    assert all(e["success"] for e in events if e["name"] == "offsets_committed")


def test_perf_tools(broker, name):
    create(broker, name)
    load = ("--topic", name, "--num-records", "20000", "--record-size", "100", "--throughput", "-1")
    out = java(f"{TOOLS}.ProducerPerformance", *load, "--producer-props", f"bootstrap.servers={broker.bootstrap}")
    assert out.strip().splitlines()[-1].startswith("20000 records sent")
    out = tool(broker, "ConsumerPerformance", "--topic", name, "--messages", "20000", "--timeout", "20000")
    assert "20000" in out


def test_offsets_and_deleting_records(broker, name, tmp_path):
    create(broker, name)
    fill(broker, name, range(10))
    offsets = lambda time: tool(broker, "GetOffsetShell", "--topic-partitions", f"{name}:0-1", "--time", time).strip()  # noqa: E731
    assert offsets("latest") == f"{name}:0:10"
    # Lines of one run may have the same millisecond: the first of the latest is found.
    assert int(offsets("max-timestamp").rsplit(":", 1)[1]) in range(10)
    assert offsets("1700000000000") == f"{name}:0:0"
    request = tmp_path / "delete.json"
    request.write_text(json.dumps({"partitions": [{"topic": name, "partition": 0, "offset": 4}], "version": 1}))
    assert "low_watermark: 4" in tool(broker, "DeleteRecordsCommand", "--offset-json-file", str(request))
    assert offsets("earliest") == f"{name}:0:4"


def test_log_dirs(broker, name):
    create(broker, name)
    fill(broker, name, range(10))
    out = tool(broker, "LogDirsCommand", "--describe", "--topic-list", name)
    shown = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    (partition,) = shown["brokers"][0]["logDirs"][0]["partitions"]
    assert partition["partition"] == f"{name}-0" and partition["size"] > 0


def test_broker_api_versions(broker):
    out = tool(broker, "BrokerApiVersionsCommand")
    for api in ("Produce(0)", "Fetch(1)", "Metadata(3)", "JoinGroup(11)", "CreateTopics(19)", "InitProducerId(22)"):
        assert re.search(rf"{re.escape(api)}: \d+ to \d+ \[usable: \d+\]", out), f"{api} in\n{out}"


def test_dump_log_reads_segments_indexes_and_snapshots(own_broker, name):
    create(own_broker, name, segment_bytes=1 << 20)
    lines = [random.randbytes(20_000).hex() for _ in range(100)]
    fill(own_broker, name, lines, "--compression-codec", "lz4")
    assert consume(own_broker, name, 10, "--group", name) == lines[:10]
    # The indexes of an open segment are longer than what is in them, in Kafka too.
    own_broker.terminate()
    files = lambda topic, kind: sorted(f for f in own_broker.data.rglob(f"{topic}-*/*.{kind}") if f.stat().st_size)  # noqa: E731
    dump = lambda paths, *args: java(f"{TOOLS}.DumpLogSegments", "--files", ",".join(map(str, paths)), *args)  # noqa: E731
    assert len(files(name, "log")) > 3, "the log was rolled"
    out = dump(files(name, "log"), "--deep-iteration", "--print-data-log")
    assert out.count(" payload: ") == 100 and "isvalid: true" in out and "isvalid: false" not in out
    indexes = [*files(name, "index"), *files(name, "timeindex")]
    assert "passed sanity check" in dump(indexes, "--index-sanity-check")
    assert "Mismatches" not in dump(indexes, "--verify-index-only") and "Mismatches" not in dump(indexes)
    assert re.search(r"producerId: \d+ producerEpoch: 0 .*lastSequence: 99", dump(files(name, "snapshot")))
    offsets = dump(files("__consumer_offsets", "log"), "--offsets-decoder", "--print-data-log")
    assert f'"group":"{name}","topic":"{name}","partition":0' in offsets and '"offset":10' in offsets, offsets
