"""Groups of the new protocol (KIP-848): members of librdkafka and of Java, and groups that move between both protocols."""

import json
import re

import test_confluent_groups as confluent
from confluent_kafka import TopicPartition

from harness import java, wait_until
from javatools import TOOLS, create, groups, start_tool, tool

NEW = {"group.protocol": "consumer"}
PARTITIONS = confluent.PARTITIONS


def committed(broker, name):
    """How far the group is, over all partitions."""
    asked = [TopicPartition(name, partition) for partition in range(PARTITIONS)]
    return sum(max(at.offset, 0) for at in confluent.consumer_of(broker, name).committed(asked, 20))


def values_of(members):
    return {value for member in members for value in member.values}


def numbers(start, end):
    return [str(i).encode() for i in range(start, end)]


def test_members_share_and_take_over(broker, name):
    confluent.create(broker, name)
    confluent.produce(broker, name, numbers(0, 600))
    members = [confluent.Member(broker, name, **NEW) for _ in range(2)]
    wait_until(lambda: confluent.share(members, [3, 3]), 60, "each has three partitions")
    wait_until(lambda: values_of(members) == set(numbers(0, 600)), 30, "all was read")
    left = members.pop()
    left.end()
    wait_until(lambda: confluent.share(members, [PARTITIONS]), 60, "the other has all")
    confluent.produce(broker, name, numbers(600, 800))
    wait_until(lambda: values_of(members + [left]) == set(numbers(0, 800)), 30, "what came later was read")
    members[0].end()
    assert committed(broker, name) == 800
    # Nothing was read twice: who took over went on where the one before had stopped.
    assert sum(len(member.values) for member in members + [left]) == 800


def test_a_group_moves_to_the_new_protocol_and_back_with_its_offsets(broker, name):
    confluent.create(broker, name)
    confluent.produce(broker, name, numbers(0, 100))
    classic = confluent.Member(broker, name)
    wait_until(lambda: len(classic.values) == 100, 30, "the classic member reads")
    # With members of both protocols for a while.
    new = confluent.Member(broker, name, **NEW)
    wait_until(lambda: confluent.share([classic, new], [3, 3]), 60, "members of both protocols share")
    confluent.produce(broker, name, numbers(100, 200))
    wait_until(lambda: values_of([classic, new]) == set(numbers(0, 200)), 30, "both read")
    classic.end()
    wait_until(lambda: confluent.share([new], [PARTITIONS]), 60, "the new one has all")
    confluent.produce(broker, name, numbers(200, 300))
    wait_until(lambda: values_of([classic, new]) == set(numbers(0, 300)), 30, "the new one goes on")
    new.end()
    assert committed(broker, name) == 300
    # And back, without members.
    confluent.produce(broker, name, numbers(300, 400))
    again = confluent.Member(broker, name)
    wait_until(lambda: set(again.values) == set(numbers(300, 400)), 30, "a classic one begins where the new one ended")
    again.end()
    assert committed(broker, name) == 400


def test_members_survive_a_restart_of_the_broker(own_broker, name):
    confluent.create(own_broker, name)
    confluent.produce(own_broker, name, numbers(0, 100))
    members = [confluent.Member(own_broker, name, **NEW) for _ in range(2)]
    wait_until(lambda: confluent.share(members, [3, 3]), 60, "each has three partitions")
    wait_until(lambda: values_of(members) == set(numbers(0, 100)), 30, "all was read")
    before = [member.owns() for member in members]
    own_broker.kill()
    own_broker.start()
    confluent.produce(own_broker, name, numbers(100, 200))
    wait_until(lambda: values_of(members) == set(numbers(0, 200)), 60, "what came later was read")
    assert [member.owns() for member in members] == before
    for member in members:
        # Those of the connections that broke.
        member.errors.clear()
        member.end()
    assert committed(own_broker, name) == 200


def test_java_members_share_and_are_shown(broker, name, tmp_path):
    create(broker, name, 4)
    tool(broker, "VerifiableProducer", "--topic", name, "--max-messages", "400")
    members = []
    for index in range(2):
        out = open(tmp_path / f"member-{index}", "w")
        args = ("--topic", name, "--group-id", name, "--group-protocol", "consumer", "--reset-policy", "earliest")
        members.append((start_tool(broker, "VerifiableConsumer", *args, stdout=out), out))
    try:
        shown = lambda: groups(broker, "--describe", "--group", name, "--members")  # noqa: E731
        row = rf"{name} +\S+ +\S+ +\S+ +(\d)\b"
        wait_until(lambda: re.findall(row, shown()) == ["2", "2"], 90, "each has two partitions")
        state = groups(broker, "--describe", "--group", name, "--state")
        assert re.search(rf"{name} +\S+ +\(1\) +uniform +Stable +2", state), state
        lag = rf"{name} +{name} +\d +(\d+) +\d+ +0 "
        shares = lambda: re.findall(lag, groups(broker, "--describe", "--group", name))  # noqa: E731
        wait_until(lambda: sum(map(int, shares())) == 400, 60, "all is read and committed")
        assert re.search(rf"{name} +Consumer", groups(broker, "--list", "--type"))
        assert name not in groups(broker, "--list", "--type", "classic")
        listed = java(f"{TOOLS}.GroupsCommand", "--bootstrap-server", broker.bootstrap, "--list", "--consumer")
        assert re.search(rf"{name} +Consumer +consumer", listed), listed
    finally:
        for process, out in members:
            process.terminate()
            process.wait(20)
            out.close()
    consumed = 0
    for index in range(2):
        lines = (tmp_path / f"member-{index}").read_text().splitlines()
        events = [json.loads(line) for line in lines if line.endswith("}")]
        consumed += sum(event["count"] for event in events if event["name"] == "records_consumed")
    assert consumed == 400
    wait_until(lambda: re.search(rf"{name} +Empty", groups(broker, "--list", "--state")), 20, "both left")
