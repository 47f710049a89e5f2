"""kcat, as Debian ships it."""

import json
import subprocess

import pytest


def kcat(broker, *args, stdin=None):
    done = subprocess.run(["kcat", "-b", broker.bootstrap, *args], input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_lines_go_in_and_come_out(broker, name, codec):
    lines = [f"line {i} {'x' * (i % 50)}" for i in range(1000)]
    kcat(broker, "-P", "-t", name, "-z", codec, stdin="\n".join(lines))
    assert sorted(kcat(broker, "-C", "-t", name, "-e", "-q").splitlines()) == sorted(lines)


def test_reading_begins_where_asked(broker, name):
    kcat(broker, "-P", "-t", name, "-p", "0", stdin="a\nb\nc\nd")
    assert kcat(broker, "-C", "-t", name, "-p", "0", "-o", "2", "-e", "-q") == "c\nd\n"
    assert kcat(broker, "-C", "-t", name, "-p", "0", "-o", "-1", "-e", "-q") == "d\n"
    assert kcat(broker, "-C", "-t", name, "-p", "0", "-o", "beginning", "-c", "1", "-q") == "a\n"


def test_keys_headers_and_metadata(broker, name):
    kcat(broker, "-P", "-t", name, "-K", ":", "-H", "h=1", stdin="k:v")
    record = json.loads(kcat(broker, "-C", "-t", name, "-e", "-q", "-J"))
    assert (record["key"], record["payload"], record["headers"]) == ("k", "v", ["h", "1"])
    metadata = json.loads(kcat(broker, "-L", "-J"))
    assert [b["name"] for b in metadata["brokers"]] == [broker.bootstrap]
    assert name in [t["topic"] for t in metadata["topics"]]
    assert kcat(broker, "-Q", "-t", f"{name}:0:-1").strip().endswith("1")


def test_a_balanced_consumer_reads_with_a_group(broker, name):
    kcat(broker, "-P", "-t", name, stdin="a\nb")
    out = kcat(broker, "-G", name, "-X", "auto.offset.reset=earliest", "-c", "2", "-q", name)
    assert sorted(out.split()) == ["a", "b"]
