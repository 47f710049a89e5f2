"""Members of groups: how they join, sync, live and leave."""

import threading

import pytest

from story import normal
from wire import Connection

UNKNOWN_MEMBER_ID = 25


def coordinator(story, group):
    found = lambda answer: answer["error_code"] == 0  # noqa: E731
    story.settle("FindCoordinator", 3, found, key=group, key_type=0)
    # While a coordinator loads its groups, Kafka answers heartbeats with no error.
    asked = lambda answer: answer["error_code"] == UNKNOWN_MEMBER_ID  # noqa: E731
    story.settle("Heartbeat", 4, asked, group_id=group, generation_id=1, member_id="x", group_instance_id=None)


def settled(story):
    """Nothing is left waiting: a request on the same connections is answered."""
    story.ask("DescribeCluster", 0, include_cluster_authorized_operations=False)


def join(group, member="", session=10_000, protocols=(("range", b"\x00"),), instance=None, kind="consumer", version=4):
    protocols = [dict(name=name, metadata=metadata) for name, metadata in protocols]
    values = dict(group_id=group, member_id=member, protocol_type=kind, protocols=protocols, session_timeout_ms=session)
    if version >= 1:
        values["rebalance_timeout_ms"] = 10_000
    if version >= 5:
        values["group_instance_id"] = instance
    return values


def group_of_one(story, group, protocols=(("range", b"\x00"),), kind="consumer"):
    """A member joins and is synced; gives its ids and generations."""
    coordinator(story, group)
    asked = join(group, protocols=protocols, kind=kind)
    each = [dict(member_id=answer["member_id"]) for answer in story.ask("JoinGroup", 4, **asked)]
    del asked["member_id"]
    joined = story.ask("JoinGroup", 4, each=each, **asked)
    generation = joined[0]["generation_id"]
    assign = [dict(assignments=[dict(member_id=who["member_id"], assignment=b"a")], **who) for who in each]
    story.ask("SyncGroup", 2, each=assign, group_id=group, generation_id=generation)
    return each, generation


@pytest.mark.parametrize("version", [0, 1, 4, 5, 7, 9])
def test_joins_that_are_refused(story, version):
    group = f"refused-{version}"
    coordinator(story, group)
    ask = lambda *args, **more: story.ask("JoinGroup", version, **join(*args, version=version, **more))  # noqa: E731
    ask("")
    for session in (1, 5999, 1 << 30, 0, -1):
        ask(group, session=session)
    ask(group, protocols=())
    ask(group, kind="")
    ask(group, "ghost")
    if version >= 5:
        ask(group, "ghost", instance="i")
    settled(story)


@pytest.mark.parametrize("version", [0, 2, 5, 6, 9])
def test_the_life_of_a_group(story, version):
    group = f"a-life-{version}"
    coordinator(story, group)
    ask = lambda *args, each=None, **more: story.ask("JoinGroup", version, each=each, **join(*args, version=version, **more))  # noqa: E731
    members = [dict(member_id=answer["member_id"]) for answer in ask(group)]
    if version >= 4:
        again = join(group, version=version)
        del again["member_id"]
        story.ask("JoinGroup", version, each=members, **again)
    sync_version = min(version, 5)
    sync = dict(group_id=group) | (dict(group_instance_id=None) if sync_version >= 3 else {})
    names = lambda kind, name: dict(protocol_type=kind, protocol_name=name) if sync_version >= 5 else {}  # noqa: E731
    empty = [dict(assignments=[], **who) for who in members]
    story.ask("SyncGroup", sync_version, each=[dict(assignments=[dict(member_id=who["member_id"], assignment=b"a")], **who) for who in members], generation_id=7, **sync, **names("consumer", "range"))
    story.ask("SyncGroup", sync_version, generation_id=1, member_id="ghost", assignments=[], **sync, **names("consumer", "range"))
    if sync_version >= 5:
        story.ask("SyncGroup", 5, each=empty, generation_id=1, **sync, **names("connect", "range"))
        story.ask("SyncGroup", 5, each=empty, generation_id=1, **sync, **names("consumer", "other"))
        story.ask("SyncGroup", 5, each=empty, generation_id=1, **sync, **names(None, None))
    else:
        story.ask("SyncGroup", sync_version, each=[dict(assignments=[dict(member_id=who["member_id"], assignment=b"a")], **who) for who in members], generation_id=1, **sync)
    beat_version = min(version, 4)
    more = dict(group_instance_id=None) if beat_version >= 3 else {}
    for generation in (-1, 0, 1, 2):
        story.ask("Heartbeat", beat_version, each=members, group_id=group, generation_id=generation, **more)
    story.ask("Heartbeat", beat_version, group_id=group, generation_id=1, member_id="ghost", **more)
    story.ask("Heartbeat", beat_version, group_id="", generation_id=1, member_id="ghost", **more)
    story.ask("Heartbeat", beat_version, group_id=group, generation_id=1, member_id="", **more)
    ask(group, kind="connect")
    ask(group, protocols=(("other", b""),))
    story.ask("SyncGroup", sync_version, each=empty, generation_id=1, **sync, **names("consumer", "range"))
    describe = lambda: story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)  # noqa: E731
    describe()
    story.ask("DeleteGroups", 2, groups_names=[group])
    leave_version = min(version, 5)
    if leave_version >= 3:
        leave = lambda *who: [dict(member_id=w["member_id"], group_instance_id=None) for w in who]  # noqa: E731
        ghost = dict(member_id="ghost")
        story.ask("LeaveGroup", leave_version, each=[dict(members=leave(ghost, who, who)) for who in members], group_id=group)
        story.ask("LeaveGroup", leave_version, members=[], group_id=group)
        story.ask("LeaveGroup", leave_version, members=leave(ghost), group_id="")
        story.ask("LeaveGroup", leave_version, members=leave(ghost), group_id="absent")
        story.ask("LeaveGroup", leave_version, members=[dict(member_id="", group_instance_id="nobody")], group_id=group)
    else:
        story.ask("LeaveGroup", leave_version, member_id="ghost", group_id=group)
        story.ask("LeaveGroup", leave_version, each=members, group_id=group)
        story.ask("LeaveGroup", leave_version, each=members, group_id=group)
        story.ask("LeaveGroup", leave_version, each=members, group_id="")
        story.ask("LeaveGroup", leave_version, each=members, group_id="absent")
    describe()
    story.ask("DeleteGroups", 2, groups_names=[group])
    describe()


@pytest.mark.parametrize("group", ["no-such-group", ""])
def test_members_of_nothing(story, group):
    coordinator(story, "no-such-group")
    for generation in (-1, 0, 1):
        for member in ("", "x"):
            who = dict(group_id=group, generation_id=generation, member_id=member)
            story.ask("Heartbeat", 4, group_instance_id=None, **who)
            story.ask("Heartbeat", 4, group_instance_id="i", **who)
            sync = dict(protocol_type="consumer", protocol_name="range", assignments=[])
            story.ask("SyncGroup", 5, group_instance_id=None, **sync, **who)
            story.ask("SyncGroup", 5, group_instance_id="i", **sync, **who)
    story.ask("LeaveGroup", 4, group_id=group, members=[dict(member_id="x", group_instance_id=None)])
    story.ask("LeaveGroup", 5, group_id=group, members=[dict(member_id="", group_instance_id="i", reason="why")])


def test_static_members(story):
    group = "static"
    coordinator(story, group)
    ask = lambda *args, each=None, **more: story.ask("JoinGroup", 5, each=each, **join(*args, version=5, **more))  # noqa: E731
    first = [dict(member_id=answer["member_id"]) for answer in ask(group, instance="one")]
    sync = dict(group_id=group, generation_id=1)
    assign = [dict(assignments=[dict(member_id=who["member_id"], assignment=b"a")], **who) for who in first]
    story.ask("SyncGroup", 3, each=assign, group_instance_id="one", **sync)
    beat = lambda each, instance, generation=1: story.ask(  # noqa: E731
        "Heartbeat", 4, each=each, group_id=group, generation_id=generation, group_instance_id=instance
    )
    beat(first, "one")
    beat(first, None)
    beat(first, "two")
    beat([dict(member_id="ghost")] * 2, "one")
    beat([dict(member_id="ghost")] * 2, "two")
    beat([dict(member_id="")] * 2, "one")
    second = [dict(member_id=answer["member_id"]) for answer in ask(group, instance="one")]
    beat(first, "one")
    beat(second, "one")
    beat(second, "one", 2)
    empty = [dict(assignments=[], **who) for who in first]
    story.ask("SyncGroup", 3, each=empty, group_instance_id="one", **sync)
    story.ask("SyncGroup", 3, each=[dict(assignments=[], **who) for who in second], group_instance_id="one", **sync)
    again = join(group, instance="one", version=5)
    del again["member_id"]
    story.ask("JoinGroup", 5, each=first, **again)
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)
    part = dict(partition_index=0, committed_offset=5, committed_leader_epoch=-1, committed_metadata="")
    topics = [dict(name="static-topic", partitions=[part])]
    story.topic("static-topic")
    for who in (first, second, [dict(member_id="ghost")] * 2):
        for instance in ("one", "two", None):
            story.ask("OffsetCommit", 8, each=who, group_id=group, generation_id_or_member_epoch=1, group_instance_id=instance, topics=topics)
    leave = lambda who, instance: [dict(members=[dict(member_id=w["member_id"], group_instance_id=instance)]) for w in who]  # noqa: E731
    story.ask("LeaveGroup", 4, each=leave(first, "one"), group_id=group)
    story.ask("LeaveGroup", 4, each=leave(second, "two"), group_id=group)
    story.ask("LeaveGroup", 4, members=[dict(member_id="", group_instance_id="two")], group_id=group)
    story.ask("LeaveGroup", 4, members=[dict(member_id="", group_instance_id="one")], group_id=group)
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)


class Waiting:
    """A request to both that is answered later, on connections of its own."""

    def __init__(self, story, api, version, each, **values):
        self.story, self.answers, self.threads = story, [None, None], []
        for index, broker in enumerate(story.brokers):
            self.threads.append(threading.Thread(target=self.ask, args=(index, broker, api, version, values | each[index])))
            self.threads[-1].start()

    def ask(self, index, broker, api, version, values):
        connection = Connection(broker.address)
        self.answers[index] = connection.call(api, version, **values)
        connection.close()

    def end(self):
        for thread in self.threads:
            thread.join(20)
        assert all(self.answers)
        return self.answers


def test_two_members(story):
    """The second joins while the first is there: a rebalance, with a choice of protocols."""
    group = "two-members"
    protocols = (("sticky", b"s1"), ("range", b"r1"))
    each, generation = group_of_one(story, group, protocols)
    newcomer = join(group, protocols=(("range", b"r2"), ("other", b"o2"), ("sticky", b"s2")))
    second = [dict(member_id=answer["member_id"]) for answer in story.ask("JoinGroup", 4, **newcomer)]
    del newcomer["member_id"]
    waits = Waiting(story, "JoinGroup", 4, second, **newcomer)
    rebalancing = lambda answer: answer["error_code"] == 27  # noqa: E731
    story.settle("Heartbeat", 3, rebalancing, each=each, group_id=group, generation_id=generation, group_instance_id=None)
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)
    again = join(group, protocols=protocols)
    del again["member_id"]
    joined = story.ask("JoinGroup", 4, each=each, **again)
    kafka, ours = (normal(answer, "JoinGroup") for answer in waits.end())
    assert kafka == ours
    assert joined[0]["generation_id"] == generation + 1
    sync = dict(group_id=group, generation_id=generation + 1)
    story.ask("OffsetCommit", 2, each=each, group_id=group, generation_id_or_member_epoch=generation + 1, retention_time_ms=-1, topics=[])
    waits = Waiting(story, "SyncGroup", 2, [dict(assignments=[], **who) for who in second], **sync)
    assign = [
        dict(assignments=[dict(member_id=a["member_id"], assignment=b"1"), dict(member_id=b["member_id"], assignment=b"2")], **a)
        for a, b in zip(each, second)
    ]
    story.ask("SyncGroup", 2, each=assign, **sync)
    kafka, ours = (normal(answer, "SyncGroup") for answer in waits.end())
    assert kafka == ours
    story.ask("Heartbeat", 3, each=second, group_id=group, generation_id=generation + 1, group_instance_id=None)
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)
    story.ask("LeaveGroup", 2, each=each, group_id=group)
    story.ask("Heartbeat", 3, each=second, group_id=group, generation_id=generation + 1, group_instance_id=None)
    story.ask("SyncGroup", 2, each=[dict(assignments=[], **who) for who in second], **sync)
    story.ask("LeaveGroup", 2, each=second, group_id=group)
