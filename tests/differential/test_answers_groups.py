"""Groups: their coordinator, members that come and go, offsets, and what is told of them."""

import uuid

import pytest

from test_answers_members import coordinator, group_of_one, join, settled

ABSENT = "no-such-group"


@pytest.mark.parametrize("version", [0, 2, 3, 4, 5, 6])
def test_find_coordinator(story, version):
    coordinator(story, "found")
    groups = lambda *keys: dict(coordinator_keys=list(keys)) if version >= 4 else dict(key=keys[0])  # noqa: E731
    more = dict(key_type=0) if version >= 1 else {}
    story.ask("FindCoordinator", version, **groups("found"), **more)
    story.ask("FindCoordinator", version, **groups(""), **more)
    if version >= 4:
        story.ask("FindCoordinator", version, **groups("found", "other", "found", ""), **more)
        story.ask("FindCoordinator", version, coordinator_keys=[], **more)
    if version >= 1:
        for kind in (3, -1, 99):
            story.ask("FindCoordinator", version, key_type=kind, **groups("found"))
    if version >= 6:
        for key in ("found", "", f"g:{uuid.uuid4()}:x", "g:x:0"):
            story.ask("FindCoordinator", version, key_type=2, coordinator_keys=[key])


@pytest.mark.parametrize("version", [2, 5, 7, 8, 9])
def test_commit_and_fetch_offsets(story, version):
    topic = f"committed-{version}"
    story.topic(topic, 3)
    group = f"commits-{version}"
    coordinator(story, group)
    at = lambda partition, offset=3, metadata="m", epoch=-1: dict(  # noqa: E731
        partition_index=partition, committed_offset=offset, committed_metadata=metadata, **({"committed_leader_epoch": epoch} if version >= 6 else {})
    )

    def commit(group, *topics, generation=-1, member="", instance=None):
        more = {"group_instance_id": instance} if version >= 7 else {}
        topics = [dict(name=name, partitions=list(parts)) for name, *parts in topics]
        who = dict(group_id=group, generation_id_or_member_epoch=generation, member_id=member)
        story.ask("OffsetCommit", version, topics=topics, **who, **more)

    for generation, member in ((1, "x"), (-1, "x"), (1, ""), (0, ""), (-2, "")):
        commit(group, (topic, at(0)), generation=generation, member=member)
    commit(group, (topic, at(0), at(1, 5, None, 7), at(9)), ("nobody-made-this", at(0)))
    commit(group, (topic, at(9), at(2, 1, "x", 0), at(-1)))
    commit(group, ("a b", at(0)), (topic, at(2, 2)))
    commit(group, (topic, at(2, -1), at(1, -5), at(0, 1 << 60)))
    commit(group, (topic, at(0, 4, "x" * 4096), at(1, 4, "x" * 4097)))
    commit(group, (topic, at(0, 1), at(0, 2)))
    commit(group, (topic, at(0, 7)), (topic, at(1, 8)))
    commit(group, ("nobody-made-this", at(0)))
    commit(group)
    commit(group, (topic,))
    commit("", (topic, at(0)))
    if version >= 7:
        commit(group, (topic, at(0)), instance="i")
        commit(group, (topic, at(0)), instance="i", member="x", generation=1)
    for asked in version_fetches(topic):
        for name in (group, "nothing", ""):
            for fetch_version in (1, 2, 5, 7):
                if asked is None and fetch_version < 2:
                    continue
                more = dict(require_stable=False) if fetch_version >= 7 else {}
                story.ask("OffsetFetch", fetch_version, group_id=name, topics=asked, **more)
            for fetch_version in (8, 9):
                groups = [dict(group_id=name, topics=asked)]
                story.ask("OffsetFetch", fetch_version, groups=groups, require_stable=True)
    many = [dict(group_id=name, topics=version_fetches(topic)[0]) for name in ("nothing", group, "", group)]
    story.ask("OffsetFetch", 8, groups=many, require_stable=False)
    story.ask("OffsetFetch", 9, groups=[dict(group_id=group, topics=None, member_id="x", member_epoch=3)], require_stable=False)
    story.ask("OffsetFetch", 8, groups=[], require_stable=False)


def version_fetches(topic):
    return [
        [dict(name=topic, partition_indexes=[0, 2, 1, 9])],
        [dict(name="nobody-made-this", partition_indexes=[0]), dict(name=topic, partition_indexes=[1])],
        [dict(name=topic, partition_indexes=[])],
        [],
        None,
    ]


def test_delete_offsets(story):
    group, topic = "forgets", "forgotten"
    story.topic(topic, 2)
    coordinator(story, group)
    delete = lambda group, *topics: story.ask(  # noqa: E731
        "OffsetDelete", 0, group_id=group, topics=[dict(name=name, partitions=[dict(partition_index=p) for p in parts]) for name, *parts in topics]
    )
    for name in (ABSENT, ""):
        delete(name, (topic, 0))
        delete(name, ("nobody-made-this", 0))
        delete(name)
    parts = [dict(partition_index=p, committed_offset=5, committed_metadata="") for p in (0, 1)]
    story.ask("OffsetCommit", 7, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[dict(name=topic, partitions=parts)])
    delete(group, (topic, 9, 0), ("nobody-made-this", 0))
    delete(group, ("nobody-made-this", 3), (topic, 0))
    delete(group)
    story.ask("OffsetFetch", 7, group_id=group, topics=None, require_stable=False)
    subscribed = b"\0\0\0\0\0\1" + len(topic).to_bytes(2, "big") + topic.encode() + b"\xff\xff\xff\xff"
    each, _ = group_of_one(story, group, protocols=(("range", subscribed),))
    story.topic("forgotten-other")
    delete(group, (topic, 0, 1, 9), ("forgotten-other", 0))
    story.ask("LeaveGroup", 2, each=each, group_id=group)
    delete(group, (topic, 1))
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)
    story.ask("DeleteGroups", 2, groups_names=[group])


@pytest.mark.parametrize("version", [0, 1, 3, 4, 5, 6])
def test_describe_list_and_delete_groups(story, version):
    prefix = f"told-{version}"
    story.topic(prefix)
    coordinator(story, prefix)
    each, _ = group_of_one(story, f"{prefix}-stable", kind="connect" if version == 4 else "consumer")
    first = story.ask("JoinGroup", 4, **join(f"{prefix}-waits")) if version else None
    part = dict(partition_index=0, committed_offset=5, committed_metadata="")
    offsets = dict(generation_id_or_member_epoch=-1, member_id="", topics=[dict(name=prefix, partitions=[part])])
    story.ask("OffsetCommit", 6, group_id=f"{prefix}-offsets", **offsets)
    names = [f"{prefix}-{what}" for what in ("stable", "waits", "offsets", "absent")]
    more = dict(include_authorized_operations=False) if version >= 3 else {}
    describe = lambda *groups: story.ask("DescribeGroups", version, groups=list(groups), **more)  # noqa: E731
    describe(*names)
    describe("", *names[::-1])
    describe(names[0], names[0])
    describe()
    if version <= 5:
        filters = [dict()]
        if version >= 4:
            filters = [dict(states_filter=states) for states in ([], ["Stable"], ["stable"], ["Empty", "Dead"], ["Nonsense"], [""])]
        if version >= 5:
            filters = [f | dict(types_filter=types) for f in filters for types in ([], ["classic"], ["Classic"], ["consumer"], ["nonsense"])]
        for values in filters:
            story.ask("ListGroups", version, **values)
    delete = lambda *groups: story.ask("DeleteGroups", min(version, 2), groups_names=list(groups))  # noqa: E731
    delete(*names)
    delete(names[0])
    delete("")
    delete("", names[1], names[1])
    delete()
    story.ask("LeaveGroup", 2, each=each, group_id=names[0])
    describe(names[0])
    delete(names[3], names[0])
    if first:
        story.ask("LeaveGroup", 2, each=[dict(member_id=answer["member_id"]) for answer in first], group_id=names[1])
        describe(names[1])
        delete(names[1])
    settled(story)
