"""Offsets of groups by the ids of topics, where versions before had names (KIP-848)."""

import uuid

from test_answers_groups import coordinator

NONE = uuid.UUID(int=0)


def at(partition, offset=3, metadata="m"):
    return dict(partition_index=partition, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=metadata)


def test_offsets_are_committed_and_fetched_by_topic_id(story):
    group = "by-id"
    coordinator(story, group)
    first, second = story.topic("by-id-first", 3), story.topic("by-id-second")
    unknown = [uuid.uuid4()] * 2

    def commit(*topics, group=group, generation=-1, member=""):
        each = [dict(topics=[dict(topic_id=ids[n], partitions=list(parts)) for ids, *parts in topics]) for n in range(2)]
        who = dict(group_id=group, generation_id_or_member_epoch=generation, member_id=member, group_instance_id=None)
        story.ask("OffsetCommit", 10, each=each, **who)

    def fetch(*topics, group=group, everything=False):
        asked = [[dict(topic_id=ids[n], partition_indexes=list(parts)) for ids, *parts in topics] for n in range(2)]
        each = [dict(groups=[dict(group_id=group, member_id=None, member_epoch=-1, topics=None if everything else its)]) for its in asked]
        for stable in (False, True):
            story.ask("OffsetFetch", 10, each=each, require_stable=stable)

    commit((first, at(0)), generation=5, member="nobody")
    commit((first, at(0), at(1, 5, None), at(9)), (unknown, at(0), at(1)))
    commit((unknown, at(0)))
    commit(([NONE] * 2, at(0)))
    commit((first, at(9), at(2)), (second, at(0, 7)))
    commit((unknown, at(0)), (first, at(-1), at(2, 8)), (second, at(0, 9, "x" * 4097)))
    commit((second, at(0, 1)), (first, at(0, 2)), (second, at(0, 3)))
    commit((first,))
    commit()
    commit((first, at(0)), group="")
    for name in (group, "by-id-nothing", ""):
        fetch((first, 0, 2, 1, 9), group=name)
        fetch((unknown, 0, 1), (first, 1), group=name)
        fetch((first, 1), (unknown, 0), (second, 0), group=name)
        fetch(([NONE] * 2, 0), group=name)
        fetch((first,), group=name)
        fetch(group=name)
        fetch(group=name, everything=True)
    story.ask("DeleteTopics", 5, topic_names=["by-id-second"], timeout_ms=5000)
    gone = lambda answer: answer["topics"][0]["error_code"] == 3  # noqa: E731
    story.settle("Metadata", 8, gone, topics=[dict(name="by-id-second")], allow_auto_topic_creation=False)
    commit((second, at(0)), (first, at(1, 6)))
    fetch((second, 0), (first, 0, 1))
    fetch(everything=True)
