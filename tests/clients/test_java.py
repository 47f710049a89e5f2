"""Kafka's own command line tools, from Maven."""

import json
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
    assert "7654321" not in java("kafka.admin.ConfigCommand", *config, "--describe")
    assert "max.message.bytes=1048588" in java("kafka.admin.ConfigCommand", *config, "--describe", "--all")


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
    offsets = lambda time: tool(broker, "GetOffsetShell", "--topic", name, "--time", time).strip()  # noqa: E731
    assert offsets("latest") == f"{name}:0:10"
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


def test_dump_log_reads_segments_and_indexes(own_broker, name):
    create(own_broker, name)
    fill(own_broker, name, range(100))
    # The indexes of an open segment are longer than what is in them, in Kafka too.
    own_broker.terminate()
    files = [f for f in own_broker.data.rglob("*.log") if name in str(f) and f.stat().st_size]
    assert files, "no segment in a folder with the topic's name"
    indexes = [i for f in files for i in (f.with_suffix(".index"), f.with_suffix(".timeindex")) if i.exists()]
    listed = lambda paths: ("--files", ",".join(map(str, paths)))  # noqa: E731
    out = java(f"{TOOLS}.DumpLogSegments", *listed(files), "--deep-iteration", "--print-data-log")
    assert out.count(" payload: ") == 100 and "isvalid: true" in out and "isvalid: false" not in out
    java(f"{TOOLS}.DumpLogSegments", *listed(indexes), "--index-sanity-check")
