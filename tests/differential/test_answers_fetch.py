"""Fetches, with and without sessions; offsets by time and by epoch; records deleted."""

import uuid

import pytest

from batches import TIME, batch, record
from story import fetch_values

VALUES = [b"v-%d" % n for n in range(5)]
NIL = uuid.UUID(int=0)


def filled(story, name, partitions=1, batches=4, **config):
    """A topic with batches of five records, a second between records."""
    ids = story.topic(name, partitions, **config)
    for index in range(partitions):
        for number in range(batches):
            start = TIME + number * 5000
            records = [record(n, value=b"v-%d-%d" % (number, n), time_delta=n * 1000) for n in range(5)]
            story.produce(name, batch(*records, base_time=start, max_time=start + 4000), partition=index)
    return ids


def part(partition=0, offset=0, size=1 << 20, epoch=-1, last=-1):
    return dict(partition=partition, fetch_offset=offset, partition_max_bytes=size, current_leader_epoch=epoch, last_fetched_epoch=last)


@pytest.mark.parametrize("version", [4, 7, 9, 11, 12])
def test_fetch(story, version):
    name = f"fetch-{version}"
    filled(story, name, 2)
    ask = lambda topics, **changed: story.ask("Fetch", version, topics=topics, **fetch_values(version, **changed))  # noqa: E731

    def one(*parts, topic=name, **changed):
        parts = [{k: v for k, v in p.items() if (k != "current_leader_epoch" or version >= 9) and (k != "last_fetched_epoch" or version >= 12)} for p in parts]
        ask([dict(topic=topic, partitions=parts)], **changed)

    for offset in (0, 3, 5, 12, 19, 20, 21, -1, -2, 1 << 60):
        one(part(offset=offset))
    one(part(4))
    one(part(-1))
    one(part(), topic="nobody-made-this")
    one(part(), topic="a b")
    one(part(), topic="")
    one(part(), part(1, 5), part(7), part(0, 20), part(1, 99))
    one(part(), part())
    for size in (0, 1, 61, 100, 150, 300):
        one(part(size=size))
        one(part(size=size), part(1))
        one(part(), part(1), max_bytes=max(size, 0))
        one(part(0, 20), part(1, size=size), max_bytes=150)
    one(part(), isolation_level=1)
    one(part(offset=20), isolation_level=1)
    one(part(offset=20), max_wait_ms=30, min_bytes=1)
    one(part(offset=20), part(9), max_wait_ms=300, min_bytes=1)
    if version >= 9:
        for epoch in (0, 1, 7, -2):
            one(part(epoch=epoch))
            one(part(4, epoch=epoch))
    if version >= 12:
        for last in (0, 1, 5):
            for offset in (0, 20, 30):
                one(part(offset=offset, last=last, epoch=0))
    ask([])
    ask([dict(topic=name, partitions=[])])


@pytest.mark.parametrize("version", [13, 15, 16, 17, 18])
def test_fetch_by_id(story, version):
    ids = filled(story, f"fetch-id-{version}", 2)
    strange = uuid.uuid4()
    values = fetch_values(version)
    topic = lambda id, *parts: dict(topic_id=id, partitions=list(parts))  # noqa: E731
    for parts in ([part()], [part(7)], [part(offset=99)], [part(), part(1, 5)], [part(epoch=0)], [part(epoch=5)]):
        story.ask("Fetch", version, each=[dict(topics=[topic(id, *parts)]) for id in ids], **values)
    story.ask("Fetch", version, topics=[topic(strange, part())], **values)
    story.ask("Fetch", version, topics=[topic(NIL, part())], **values)
    story.ask("Fetch", version, each=[dict(topics=[topic(strange, part()), topic(id, part())]) for id in ids], **values)


class Reader:
    """A client with a session at each broker."""

    def __init__(self, story, version):
        self.story, self.version = story, version
        self.sessions = [0, 0]

    def ask(self, epoch, topics=(), forgotten=(), sessions=None, each=None, but=None, **changed):
        values = fetch_values(self.version, **changed)
        del values["session_id"], values["session_epoch"], values["forgotten_topics_data"]
        more = each or [dict(topics=list(topics), forgotten_topics_data=list(forgotten))] * 2
        more = [item | dict(session_id=session) for item, session in zip(more, sessions or self.sessions)]
        answers = self.story.ask("Fetch", self.version, each=more, session_epoch=epoch, but=but, **values)
        return [answer["session_id"] for answer in answers]

    def begin(self, topics=(), **more):
        self.sessions = self.ask(0, topics, sessions=[0, 0], **more)


@pytest.mark.parametrize("version", [7, 11, 12])
def test_sessions(story, version):
    name = f"session-{version}"
    filled(story, name, 3)
    filled(story, f"{name}-more", 1)
    want = lambda *parts, topic=name: dict(topic=topic, partitions=[{k: p[k] for k in ("partition", "fetch_offset", "partition_max_bytes")} for p in parts])  # noqa: E731
    gone = lambda *parts, topic=name: dict(topic=topic, partitions=list(parts))  # noqa: E731
    reader = Reader(story, version)
    reader.begin([want(part(), part(1, 20), part(2, 99), part(9))])
    reader.ask(1)
    reader.ask(2, [want(part(0, 20))])
    reader.ask(3)
    story.produce(name, batch(*VALUES), partition=1)
    reader.ask(4)
    reader.ask(5, [want(part(1, 25))])
    reader.ask(5, [want(part(1, 25))])
    reader.ask(9)
    reader.ask(6, [want(part(), topic=f"{name}-more")])
    reader.ask(7, [want(part(0, 20), topic=f"{name}-more")], [gone(2, 9)])
    reader.ask(8, [want(part(2, 5))], [gone(0)])
    reader.ask(9, [want(part(2, 20))], [gone(77), gone(0, topic="nobody-made-this")])
    reader.ask(10, [want(part(0, 3)), want(part(0, 7), topic=f"{name}-more")])
    reader.ask(11, [want(part(0, 20)), want(part(0, 20), topic=f"{name}-more"), want(part(), topic="nobody-made-this")])
    reader.ask(12)
    reader.ask(13, [], [gone(0, 1, 2), gone(0, topic=f"{name}-more"), gone(0, topic="nobody-made-this")])
    reader.ask(14)
    reader.ask(-1)
    reader.ask(15)
    for sessions, epoch in (([77, 77], 1), ([0, 0], 3), ([77, 77], -1), ([77, 77], 0), ([0, 0], -2), ([-5, -5], 1)):
        reader.ask(epoch, [want(part(0, 20))], sessions=sessions)
    reader.begin([])
    reader.ask(1)
    reader.begin([want(part(2, 20))])
    reader.ask(0, [want(part(1, 25))])
    reader.ask(1)
    reader.begin([want(part(2, 20), part(1), part(0))])
    reader.ask(1, max_bytes=200)
    reader.ask(2, max_bytes=200)
    reader.ask(3, [want(part(1, 5))], max_bytes=200)
    reader.ask(4, max_bytes=200)


def test_sessions_by_id(story):
    ids = filled(story, "session-by-id", 2)
    others = filled(story, "session-other", 1)
    strange = uuid.uuid4()
    reader = Reader(story, 15)
    want = lambda id, *parts: dict(topic_id=id, partitions=list(parts))  # noqa: E731
    gone = lambda id, *parts: dict(topic_id=id, partitions=list(parts))  # noqa: E731
    each = lambda make: [dict(topics=[], forgotten_topics_data=[]) | make(id, other) for id, other in zip(ids, others)]  # noqa: E731
    reader.sessions = reader.ask(0, sessions=[0, 0], each=each(lambda id, _: dict(topics=[want(id, part(), part(1, 20)), want(strange, part())])))
    reader.ask(1)
    reader.ask(2, each=each(lambda id, other: dict(topics=[want(other, part(0, 20))], forgotten_topics_data=[gone(strange, 0), gone(id, 1)])))
    reader.ask(3)
    reader.ask(4, each=each(lambda id, _: dict(topics=[want(id, part(0, 20))])))
    story.ask("DeleteTopics", 6, each=[dict(topics=[dict(name=None, topic_id=id)]) for id in ids], timeout_ms=9000)
    gone_now = lambda answer: answer["topics"][0]["error_code"] != 0  # noqa: E731
    story.settle("Metadata", 8, gone_now, topics=[{"name": "session-by-id"}], allow_auto_topic_creation=False)
    reader.ask(5, but="deleted topic")
    reader.ask(6, but="deleted topic")
    values = fetch_values(12)
    del values["session_id"], values["session_epoch"]
    each = [dict(session_id=session) for session in reader.sessions]
    story.ask("Fetch", 12, each=each, session_epoch=7, topics=[], **values)


@pytest.mark.parametrize("version", [1, 2, 4, 5, 7, 8, 9, 10, 11])
def test_list_offsets(story, version):
    name = f"offsets-{version}"
    filled(story, name)
    story.topic(f"{name}-empty")
    more = {"isolation_level": 0} if version >= 2 else {}
    if version >= 10:
        more["timeout_ms"] = 5000
    ask = lambda *topics, **changed: story.ask("ListOffsets", version, topics=list(topics), **(dict(replica_id=-1) | more | changed))  # noqa: E731

    def at(timestamp, partition=0, epoch=None, topic=name):
        asked = {"partition_index": partition, "timestamp": timestamp}
        if epoch is not None:
            asked["current_leader_epoch"] = epoch
        return {"name": topic, "partitions": [asked]}

    for timestamp in (-1, -2, -3, -4, -5, -6, -7, 0, 1, TIME, TIME + 1, TIME + 4000, TIME + 4001, TIME + 19_000, TIME + 19_001, 1 << 60):
        ask(at(timestamp))
        ask(at(timestamp, topic=f"{name}-empty"))
        ask(at(timestamp, 5))
        ask(at(timestamp, topic="nobody-made-this"))
    ask(at(-1, topic="a b"), at(-1))
    ask(at(-1), at(-2))
    ask({"name": name, "partitions": [{"partition_index": 0, "timestamp": t} for t in (-1, -2)]})
    ask({"name": name, "partitions": []})
    ask()
    if version >= 2:
        ask(at(-1), isolation_level=1)
        ask(at(TIME + 7000), isolation_level=1)
    if version >= 4:
        for epoch in (0, 1, 9, -2):
            ask(at(-1, epoch=epoch))
            ask(at(TIME, epoch=epoch))


@pytest.mark.parametrize("codec", range(5))
def test_offsets_by_time(story, codec):
    """Times within batches, also where they do not rise."""
    name = f"by-time-{codec}"
    story.topic(name)
    times = [[0, 50, 20], [10, 90, 30], [200, 100, 300], [5, 5, 5]]
    for number, deltas in enumerate(times):
        records = [record(n, value=b"x", time_delta=delta) for n, delta in enumerate(deltas)]
        story.produce(name, batch(*records, codec=codec, max_time=TIME + max(deltas)))
    for moved in (-1, 0, 1, 5, 10, 20, 30, 50, 51, 90, 91, 100, 150, 200, 201, 300, 301):
        at = [dict(name=name, partitions=[dict(partition_index=0, timestamp=TIME + moved)])]
        story.ask("ListOffsets", 7, replica_id=-1, isolation_level=0, topics=at)
    latest = [dict(name=name, partitions=[dict(partition_index=0, timestamp=-3)])]
    story.ask("ListOffsets", 7, replica_id=-1, isolation_level=0, topics=latest)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_offset_for_leader_epoch(story, version):
    filled(story, f"epochs-{version}")
    story.topic(f"epochs-{version}-empty")
    more = {"replica_id": -1} if version >= 3 else {}
    for topic, partition in ((f"epochs-{version}", 0), (f"epochs-{version}-empty", 0), (f"epochs-{version}", 3), ("nobody-made-this", 0), ("a b", 0)):
        for current, asked in ((-1, 0), (-1, 5), (0, 0), (7, 0), (-1, -1), (0, -5), (0, 1), (-2, 0)):
            at = {"partition": partition, "current_leader_epoch": current, "leader_epoch": asked}
            story.ask("OffsetForLeaderEpoch", version, topics=[{"topic": topic, "partitions": [at]}], **more)
    known = [{"partition": 0, "current_leader_epoch": -1, "leader_epoch": 0}]
    both = [{"topic": topic, "partitions": known} for topic in ("nobody-made-this", f"epochs-{version}")]
    story.ask("OffsetForLeaderEpoch", version, topics=both, **more)
    story.ask("OffsetForLeaderEpoch", version, topics=[], **more)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_delete_records(story, version):
    name = f"deleted-{version}"
    filled(story, name, 2)

    def delete(*asked):
        topics = [dict(name=topic, partitions=[dict(partition_index=p, offset=o)]) for topic, p, o in asked]
        story.ask("DeleteRecords", version, topics=topics, timeout_ms=5000)

    for topic, partition, offset in ((name, 0, 0), (name, 0, -2), (name, 0, 21), (name, 7, 0), ("nobody-made-this", 0, 0), ("a b", 0, 0), ("", 0, 0)):
        delete((topic, partition, offset))
    delete((name, 0, 7), ("nobody-made-this", 0, 1), (name, 1, 3))
    delete(("nobody-made-this", 0, 1), (name, 0, 8))
    two = [dict(name=name, partitions=[dict(partition_index=p, offset=o) for p, o in ((1, 4), (9, 1), (0, 9))])]
    story.ask("DeleteRecords", version, topics=two, timeout_ms=5000)
    delete((name, 0, 3))
    for offset in (0, 6, 8, 9, 10):
        story.fetch(name, offset)
    at = lambda time: [dict(name=name, partitions=[dict(partition_index=0, timestamp=time)])]  # noqa: E731
    for time in (-2, -1, -3, TIME, TIME + 9000):
        story.ask("ListOffsets", 7, replica_id=-1, isolation_level=0, topics=at(time))
    delete((name, 0, -1))
    story.fetch(name, 20)
    story.ask("ListOffsets", 7, replica_id=-1, isolation_level=0, topics=at(-2))
    story.produce(name, batch(*VALUES))
    story.fetch(name, 20)
