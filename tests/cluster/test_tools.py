"""Kafka's own command line tools against the cluster. Each call starts a Java machine, some seconds."""

import json
import re

from brokers import wait_until
from harness import java
from javatools import tool
from steps import leads, make_topic, move, numbers, read, same_everywhere, write


class Addresses:
    """What the tools take for a broker."""

    def __init__(self, cluster):
        self.bootstrap = cluster.bootstrap


def test_topics_are_described(three, name):
    tool(Addresses(three), "TopicCommand", "--create", "--topic", name, "--partitions", "3", "--replication-factor", "3")
    three.wait_in_sync(name)
    lines = tool(Addresses(three), "TopicCommand", "--describe", "--topic", name).splitlines()
    assert "ReplicationFactor: 3" in lines[0]
    seen = three.partitions(name)
    for index, line in enumerate(lines[1:]):
        assert re.search(rf"Leader: {seen[index].leader}\s", line), line
        assert re.search(rf"Replicas: {','.join(map(str, seen[index].replicas))}\s", line), line
        assert sorted(re.search(r"Isr: ([\d,]+)", line)[1].split(",")) == ["1", "2", "3"], line
    killed = three.nodes[3]
    killed.kill()
    wait_until(lambda: all(3 not in p.isrs for p in three.partitions(name).values()), 10, "it is out of sync")
    lines = tool(Addresses(three), "TopicCommand", "--describe", "--under-replicated-partitions").splitlines()
    assert len([line for line in lines if f"Topic: {name}\t" in line]) == 3, lines


def test_partitions_are_reassigned(three, name, tmp_path):
    make_topic(three, name, partitions=2, replicas=2)
    for partition in range(2):
        write(three.bootstrap, name, numbers(100), partition)
    plan = {"version": 1, "partitions": [dict(topic=name, partition=index, replicas=[3, 1, 2]) for index in range(2)]}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    asked = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(file))
    out = tool(Addresses(three), *asked, "--execute")
    assert "Successfully started partition reassignments" in out, out
    wait_until(lambda: all(p.replicas == [3, 1, 2] and len(p.isrs) == 3 for p in three.partitions(name).values()), 20, "moved")
    out = tool(Addresses(three), *asked, "--verify")
    assert out.count("is completed") == 2, out
    out = tool(Addresses(three), "reassign.ReassignPartitionsCommand", "--list")
    assert "No partition reassignments found" in out, out
    same_everywhere(three, name, 2)
    for partition in range(2):
        assert read(three.bootstrap, name, 100, partitions=[partition]) == numbers(100)


RATES = {f"{side}.replication.throttled.rate" for side in ("leader", "follower")}


def test_partitions_are_reassigned_with_a_throttle(three, name, tmp_path):
    make_topic(three, name, partitions=2, replicas=2)
    move(three, name, [1, 2], partitions=range(2))
    wait_until(lambda: all(p.replicas == [1, 2] for p in three.partitions(name).values()), 20, "on 1 and 2")
    values = [f"{number} {'x' * 1000}" for number in range(4000)]
    for partition in range(2):
        write(three.bootstrap, name, values, partition)
    plan = {"version": 1, "partitions": [dict(topic=name, partition=index, replicas=[1, 3]) for index in range(2)]}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    asked = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(file))
    out = tool(Addresses(three), *asked, "--execute", "--throttle", "10000")
    assert "The inter-broker throttle limit was set to 10000 B/s" in out, out
    for broker in (1, 2, 3):
        told = config(three, "--describe", "--entity-type", "brokers", "--entity-name", str(broker))
        assert all(f"{rate}=10000 " in told for rate in RATES), told
    told = config(three, "--describe", "--entity-type", "topics", "--entity-name", name)
    for side, replicas in (("leader", {"0:1", "0:2", "1:1", "1:2"}), ("follower", {"0:3", "1:3"})):
        listed = re.search(rf"{side}\.replication\.throttled\.replicas=(\S+) ", told)
        assert listed and set(listed[1].split(",")) == replicas, told
    assert any(2 in p.replicas for p in three.partitions(name).values()), "eight million bytes take longer than that"
    out = tool(Addresses(three), *asked, "--execute", "--additional", "--throttle", "100000000")
    wait_until(lambda: all(p.replicas == [1, 3] and len(p.isrs) == 2 for p in three.partitions(name).values()), 20, "moved")
    out = tool(Addresses(three), *asked, "--verify")
    assert out.count("is completed") == 2, out
    assert "Clearing broker-level throttles on brokers 1,2,3" in out, out
    assert f"Clearing topic-level throttles on topic {name}" in out, out
    for kind, names in (("brokers", "123"), ("topics", [name])):
        for one in names:
            told = config(three, "--describe", "--entity-type", kind, "--entity-name", one)
            assert "throttled" not in told, told
    same_everywhere(three, name, 2, holders=[three.nodes[1], three.nodes[3]])
    for partition in range(2):
        assert read(three.bootstrap, name, 4000, partitions=[partition]) == values


def test_preferred_leaders_are_elected(three, name):
    make_topic(three, name)
    first, second, third = three.partitions(name)[0].replicas
    move(three, name, [second, first, third])
    wait_until(lambda: three.partitions(name)[0].replicas == [second, first, third], 10, "in another order")
    out = tool(Addresses(three), "LeaderElectionCommand", "--election-type", "preferred", "--topic", name, "--partition", "0")
    assert "Successfully completed" in out or "Valid replica already elected" in out, out
    wait_until(lambda: leads(three, name) == second, 10, "the preferred one leads")


def test_the_quorum_is_described(three):
    out = tool(Addresses(three), "MetadataQuorumCommand", "describe", "--status")
    told = dict(re.findall(r"^(\w+):\s+(.*)$", out, re.M))
    quorum = three.admin("cluster", "quorum")
    assert int(told["LeaderId"]) == quorum["leader"]
    assert int(told["LeaderEpoch"]) == quorum["epoch"]
    assert sorted(map(int, re.findall(r'"id": (\d+)', told["CurrentVoters"])) or re.findall(r"\d+", told["CurrentVoters"])) == [1, 2, 3], out

    def ends():
        out = tool(Addresses(three), "MetadataQuorumCommand", "describe", "--replication")
        rows = re.findall(r"^(\d+)\s+\S+\s+(-?\d+)\s+.*\b(?:Leader|Follower)\b", out, re.M)
        assert len(rows) == 3, out
        return all(int(end) > 0 for _, end in rows)

    # A new leader has to hear from a voter first.
    wait_until(ends, 20, "the end of every voter's log is told")


def test_configs_of_a_broker_are_changed_while_it_runs(three):
    broker = ("--entity-type", "brokers", "--entity-name", "2")
    out = config(three, "--alter", "--add-config", "message.max.bytes=2000000", *broker)
    assert "Completed updating config for broker 2" in out, out
    told = config(three, "--describe", *broker)
    assert "message.max.bytes=2000000" in told, told
    three.nodes[2].kill()
    three.nodes[2].start()
    assert "message.max.bytes=2000000" in config(three, "--describe", *broker), "it is kept"
    config(three, "--alter", "--delete-config", "message.max.bytes", *broker)
    assert "message.max.bytes=2000000" not in config(three, "--describe", *broker)


def config(cluster, *args):
    return java("kafka.admin.ConfigCommand", "--bootstrap-server", cluster.bootstrap, *args)
