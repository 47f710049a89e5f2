"""Groups of the new protocol (KIP-848): heartbeats, what is told of groups, and whose offsets are taken and told."""

import uuid

import pytest

from test_answers_members import coordinator, group_of_one

MEMBER = "ou7VkbvsSyWyq9MXkzCJsQ"


def heartbeat(group, member=MEMBER, epoch=0, owned=(), topics=None, timeout=60_000, version=1, **more):
    values = dict(group_id=group, member_id=member, member_epoch=epoch, rebalance_timeout_ms=timeout)
    values |= dict(instance_id=None, rack_id=None, server_assignor=None, subscribed_topic_names=topics, topic_partitions=owned)
    if version >= 1:
        values["subscribed_topic_regex"] = None
    return values | more


def ids(story, topic):
    """The topic's id, by broker."""
    asked = dict(topics=[dict(topic_id=uuid.UUID(int=0), name=topic)], allow_auto_topic_creation=False)
    found = story.ask("Metadata", 12, **asked, include_topic_authorized_operations=False)
    return [answer["topics"][0]["topic_id"] for answer in found]


@pytest.mark.parametrize("version", [0, 1])
def test_heartbeats_that_are_refused(story, version):
    story.ignored = INTERVAL
    group = f"new-refused-{version}"
    story.topic(group)
    coordinator(story, group)
    beat = lambda *args, **more: story.ask("ConsumerGroupHeartbeat", version, **heartbeat(*args, version=version, **more))  # noqa: E731
    good = dict(topics=[group])
    beat("", **good)
    beat(group, "", **({} if version else dict(epoch=1)))
    beat(group, timeout=-1, **good)
    beat(group, owned=None, **good)
    beat(group, owned=[dict(topic_id=uuid.uuid4(), partitions=[0])], **good)
    beat(group)
    beat(group, instance_id="", **good)
    beat(group, rack_id="", **good)
    beat(group, server_assignor="nobody", **good)
    beat(group, epoch=-3, **good)
    beat(group, epoch=-2, **good)
    for epoch in (1, -1):
        beat(group, epoch=epoch, **good)
    if version:
        beat(group, subscribed_topic_regex="(", **good)
    beat(group, topics=[])
    beat(group, **good)
    for epoch in (7, 1):
        beat(group, "somebody", epoch=epoch, **good)
    beat(group, epoch=99, owned=[])
    beat(group, epoch=-2, instance_id="x")
    beat(group, epoch=-1)
    beat(group, epoch=-1)


# While a group changes, ours tells its members to come more often than the setting says (docs/compatibility.md).
INTERVAL = {"heartbeat_interval_ms"}
# Kafka's groups begin with epoch 2, ours with 1. What counts is that they grow.
EPOCHS = {"member_epoch", "group_epoch", "assignment_epoch"} | INTERVAL


def test_a_member_joins_commits_and_leaves(story):
    story.ignored = EPOCHS
    group = "new-told"
    story.topic(group, 3)
    coordinator(story, group)
    beat = lambda each=None, **values: story.ask("ConsumerGroupHeartbeat", 1, each=each, **values)  # noqa: E731
    epochs = [answer["member_epoch"] for answer in beat(**heartbeat(group, topics=[group]))]
    later = heartbeat(group)
    del later["member_epoch"], later["topic_partitions"]
    has = [[dict(topic_id=topic, partitions=[0, 1, 2])] for topic in ids(story, group)]
    beat([dict(member_epoch=epoch, topic_partitions=owned) for epoch, owned in zip(epochs, has)], **later)
    nothing_new = later | dict(rebalance_timeout_ms=-1, topic_partitions=None)
    beat([dict(member_epoch=epoch) for epoch in epochs], **nothing_new)
    beat([dict(member_epoch=epoch + 1) for epoch in epochs], **nothing_new)
    describe = lambda *groups: story.ask("ConsumerGroupDescribe", 1, group_ids=list(groups), include_authorized_operations=False)  # noqa: E731
    describe(group, "nobody-is-here", "")
    for version in (5, 6):
        story.ask("DescribeGroups", version, groups=[group], include_authorized_operations=False)
    for types in ([], ["classic"], ["Consumer"]):
        story.ask("ListGroups", 5, states_filter=["stable"], types_filter=types)
    offsets_of_members(story, group, epochs)
    story.ask("DeleteGroups", 2, groups_names=[group])
    beat(**heartbeat(group, epoch=-1))
    describe(group)
    story.ask("DeleteGroups", 2, groups_names=[group])
    describe(group)


def offsets_of_members(story, group, epochs):
    """Members commit and fetch in their epoch, others and in other epochs do not."""
    own, next_one = epochs, [epoch + 1 for epoch in epochs]
    part = dict(partition_index=0, committed_offset=5, committed_leader_epoch=-1, committed_metadata="")
    topic_ids = ids(story, group)
    for version in (8, 9, 10):
        for who, at in ((MEMBER, own), (MEMBER, next_one), (MEMBER, [-1, -1]), ("ghost", own), ("", [-1, -1])):
            named = [dict(topic_id=topic) if version >= 10 else dict(name=group) for topic in topic_ids]
            topics = [[dict(partitions=[part], **name)] for name in named]
            each = [dict(generation_id_or_member_epoch=epoch, topics=its) for epoch, its in zip(at, topics)]
            story.ask("OffsetCommit", version, each=each, group_id=group, member_id=who, group_instance_id=None)
    for who, at in ((MEMBER, own), (MEMBER, next_one), ("ghost", own), (None, [-1, -1]), (None, own), ("", [-1, -1])):
        for topics in (None, [dict(name=group, partition_indexes=[0, 1])]):
            asked = [dict(groups=[dict(group_id=group, member_id=who, member_epoch=epoch, topics=topics)]) for epoch in at]
            but = "server errors" if who is None and at is own else None
            story.ask("OffsetFetch", 9, each=asked, but=but, require_stable=False)
            for its, topic in zip(asked, topic_ids):
                its["groups"][0]["topics"] = topics and [dict(topic_id=topic, partition_indexes=[0, 1])]
            story.ask("OffsetFetch", 10, each=asked, but=but, require_stable=False)


def test_groups_of_the_classic_protocol_are_no_consumer_groups(story):
    story.ignored = EPOCHS
    group = "new-classic"
    story.topic(group)
    each, _ = group_of_one(story, group)
    story.ask("ConsumerGroupDescribe", 1, group_ids=[group], include_authorized_operations=False)
    # Its member's subscription cannot be read, so it cannot be taken along.
    story.ask("ConsumerGroupHeartbeat", 1, **heartbeat(group, topics=[group]))
    story.ask("LeaveGroup", 2, each=each, group_id=group)
    story.ask("ConsumerGroupHeartbeat", 1, **heartbeat(group, topics=[group]))
    story.ask("ConsumerGroupDescribe", 1, group_ids=[group], include_authorized_operations=False)
