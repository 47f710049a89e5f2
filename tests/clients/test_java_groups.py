"""Kafka's own tool for consumer groups, and consumers of Java in groups."""

import json
import re

import pytest

from harness import java, wait_until
from javatools import TOOLS, consume, create, fill, groups, start_tool, tool, tool_of_any_exit


def test_a_group_is_shown_reset_and_deleted(broker, name):
    create(broker, name)
    fill(broker, name, range(20))
    assert consume(broker, name, 20, "--group", name) == [str(i) for i in range(20)]
    wait_until(lambda: re.search(rf"{name} +{name} +0 +20 +20 +0 ", groups(broker, "--describe", "--group", name)), 30)
    assert name in groups(broker, "--list").split()
    reset = ("--reset-offsets", "--group", name, "--topic", name, "--execute")
    assert re.search(r" 0 +5\s*$", groups(broker, *reset, "--to-offset", "5"), re.M)
    assert re.search(r" 0 +0\s*$", groups(broker, *reset, "--to-earliest"), re.M)
    assert re.search(r" 0 +3\s*$", groups(broker, *reset, "--shift-by", "3"), re.M)
    assert consume(broker, name, 1, "--group", name) == ["3"]
    groups(broker, "--delete", "--group", name)
    assert name not in groups(broker, "--list").split()


def test_offsets_are_planned_exported_and_deleted(broker, name, tmp_path):
    create(broker, name, 2)
    fill(broker, name, ["a:1", "b:2", "c:3", "d:4"], "--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    reset = ("--reset-offsets", "--group", name, "--all-topics")
    # A group that is not there yet gets its first offsets.
    groups(broker, "--reset-offsets", "--group", name, "--topic", name, "--to-latest", "--execute")
    ends = dict(re.findall(rf"{name} +{name} +(\d) +(\d+) ", groups(broker, "--describe", "--group", name)))
    assert sum(map(int, ends.values())) == 4 and set(ends) == {"0", "1"}
    planned = groups(broker, *reset, "--to-datetime", "2020-01-01T00:00:00.000", "--export", "--dry-run")
    assert sorted(line for line in planned.splitlines() if name in line) == [f'"{name}",0,0', f'"{name}",1,0']
    file = tmp_path / "offsets.csv"
    file.write_text(f"{name},0,0\n")
    assert re.search(rf"{name} +{name} +0 +0 *$", groups(broker, *reset[:3], "--from-file", str(file), "--execute"), re.M)
    after = dict(re.findall(rf"{name} +{name} +(\d) +(\d+) ", groups(broker, "--describe", "--group", name)))
    assert after == {"0": "0", "1": ends["1"]}
    deleted = groups(broker, "--delete-offsets", "--group", name, "--topic", f"{name}:1")
    assert re.search(rf"{name} +1 +Successful", deleted)
    assert re.findall(rf"{name} +{name} +(\d) +\d+ ", groups(broker, "--describe", "--group", name)) == ["0"]


@pytest.mark.parametrize("assignor", ["RangeAssignor", "CooperativeStickyAssignor"])
def test_java_members_join_at_once_and_share(broker, name, assignor, tmp_path):
    create(broker, name, 4)
    load = ("--topic", name, "--max-messages", "400")
    tool(broker, "VerifiableProducer", *load)
    members = []
    for index in range(2):
        out = open(tmp_path / f"member-{index}", "w")
        args = ("--topic", name, "--group-id", name, "--group-instance-id", f"m{index}", "--reset-policy", "earliest")
        strategy = ("--assignment-strategy", f"org.apache.kafka.clients.consumer.{assignor}")
        members.append((start_tool(broker, "VerifiableConsumer", *args, *strategy, stdout=out), out))
    try:
        events = lambda at: [  # noqa: E731
            json.loads(line) for line in (tmp_path / f"member-{at}").read_text().splitlines() if line.endswith("}")
        ]
        consumed = lambda: sum(e["count"] for at in (0, 1) for e in events(at) if e["name"] == "records_consumed")  # noqa: E731
        shown = lambda: groups(broker, "--describe", "--group", name, "--members", "--verbose")  # noqa: E731
        row = rf"{name} +\S+ +(m\d) +\S+ +\S+ +(\d) "
        wait_until(lambda: sorted(re.findall(row, shown())) == [("m0", "2"), ("m1", "2")], 40, "each has two partitions")
        wait_until(lambda: consumed() >= 400, 20, "all records are read")
        state = groups(broker, "--describe", "--group", name, "--state")
        assert re.search(rf"{name} +\S+ +\(1\) +\S+ +Stable +2", state), state
        reset = ("--reset-offsets", "--group", name, "--topic", name, "--to-earliest", "--execute")
        refused = tool_of_any_exit(broker, "consumer.group.ConsumerGroupCommand", *reset)
        assert f"Assignments can only be reset if the group '{name}' is inactive" in refused
    finally:
        for process, out in members:
            process.terminate()
            process.wait(20)
            out.close()
    # Rebalances may read a record twice, never lose one.
    assert consumed() >= 400
    # Static members do not leave when they end.
    assert re.search(rf"{name} +\S+ +\(1\) +\S+ +Stable +2", groups(broker, "--describe", "--group", name, "--state"))


def test_groups_are_listed_by_state_and_kind(broker, name):
    create(broker, name)
    groups(broker, "--reset-offsets", "--group", name, "--topic", name, "--to-earliest", "--execute")
    assert re.search(rf"{name} +Empty", groups(broker, "--list", "--state"))
    assert name not in groups(broker, "--list", "--state", "stable")
    shown = java(f"{TOOLS}.GroupsCommand", "--bootstrap-server", broker.bootstrap, "--list")
    assert re.search(rf"{name} +\S+", shown)
