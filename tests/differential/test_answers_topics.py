"""Topics come, grow, are told about and go; the cluster and its disks."""

import uuid

import harness
import pytest

NIL = uuid.UUID(int=0)
WRONG_NAMES = ("", ".", "..", "a b", "a/b", "ä", "x" * 250)


def new_topic(name, partitions=1, replication=1, configs=(), assignments=()):
    configs = [{"name": key, "value": value} for key, value in configs]
    assignments = [dict(partition_index=index, broker_ids=brokers) for index, brokers in assignments]
    return dict(name=name, num_partitions=partitions, replication_factor=replication, configs=configs, assignments=assignments)


@pytest.mark.parametrize("version", [2, 4, 5, 7])
def test_create_topics(story, version):
    create = lambda *topics, only=False: story.ask("CreateTopics", version, topics=list(topics), timeout_ms=9000, validate_only=only)  # noqa: E731
    create(new_topic(f"made-{version}", 2))
    create(new_topic(f"made-{version}", 2))
    create(new_topic(f"made.{version}", 2))
    create(new_topic(f"made_{version}", 2))
    create(new_topic(f"dry-{version}"), only=True)
    create(new_topic(f"made-{version}"), only=True)
    for wrong in WRONG_NAMES:
        create(new_topic(wrong))
    create(new_topic(f"zero-{version}", 0))
    create(new_topic(f"minus-{version}", -2))
    create(new_topic(f"copies-{version}", 1, 3))
    create(new_topic(f"no-copies-{version}", 1, 0))
    create(new_topic(f"less-copies-{version}", 1, -2))
    create(new_topic(f"both-{version}", 0, 0))
    create(new_topic(f"unknown-{version}", configs=[("no.such.config", "1")]))
    create(new_topic(f"value-{version}", configs=[("retention.ms", "soon")]))
    create(new_topic(f"range-{version}", configs=[("max.message.bytes", "-1")]))
    create(new_topic(f"null-{version}", configs=[("retention.ms", None)]))
    create(new_topic(f"twice-{version}", configs=[("retention.ms", "1"), ("retention.ms", "2")]))
    create(new_topic(f"same-{version}"), new_topic(f"same-{version}"))
    create(new_topic(f"x-{version}"), new_topic(f"same-{version}"), new_topic(f"y-{version}"), new_topic(f"same-{version}"))
    create(new_topic(f"b-{version}"), new_topic(f"a b-{version}"), new_topic(f"c-{version}"))
    create(new_topic(f"set-{version}", configs=[("retention.ms", "77"), ("cleanup.policy", "delete"), ("compression.type", "lz4")]))
    create()
    if version >= 4:
        create(new_topic(f"default-{version}", -1, -1))


def test_create_topics_with_assignments(story):
    create = lambda topic: story.ask("CreateTopics", 7, topics=[topic], timeout_ms=9000, validate_only=False)  # noqa: E731
    create(new_topic("assigned", -1, -1, assignments=[(0, [1]), (1, [1])]))
    create(new_topic("assigned-backwards", -1, -1, assignments=[(1, [1]), (0, [1])]))
    create(new_topic("assigned-and-counted", 2, -1, assignments=[(0, [1]), (1, [1])]))
    create(new_topic("assigned-and-copied", -1, 1, assignments=[(0, [1])]))
    create(new_topic("assigned-gap", -1, -1, assignments=[(0, [1]), (2, [1])]))
    create(new_topic("assigned-from-one", -1, -1, assignments=[(1, [1])]))
    create(new_topic("assigned-twice", -1, -1, assignments=[(0, [1, 1])]))
    create(new_topic("assigned-nowhere", -1, -1, assignments=[(0, [])]))
    create(new_topic("assigned-elsewhere", -1, -1, assignments=[(0, [77])]))
    create(new_topic("assigned-same", -1, -1, assignments=[(0, [1]), (0, [1])]))


@pytest.mark.parametrize("version", [0, 1, 4, 8, 9, 11, 12, 13])
def test_metadata_of_unknown_and_wrong_topics(story, version):
    name = f"metadata-{version}"
    ids = story.topic(name, 2)
    more = {"allow_auto_topic_creation": False} if version >= 4 else {}
    asked = [["nobody-made-this"], [name], [name, "nobody-made-this"], [name, name], ["z", "a b", name, "a"], [""], []]
    for topics in asked if version >= 4 else asked[1:2]:
        story.ask("Metadata", version, topics=[{"name": topic} for topic in topics], **more)
    if version >= 12:
        by_id = lambda *ids: {"topics": [{"name": None, "topic_id": id} for id in ids]}  # noqa: E731
        story.ask("Metadata", version, each=[by_id(id) for id in ids], **more)
        story.ask("Metadata", version, each=[by_id(uuid.uuid4(), id) for id in ids], **more)
        story.ask("Metadata", version, topics=[{"name": None, "topic_id": NIL}], but="server errors", **more)
        story.ask("Metadata", version, each=[{"topics": [{"name": "other", "topic_id": id}]} for id in ids], **more)


def test_metadata_makes_topics(story):
    story.ask("Metadata", 3, topics=[{"name": "wrong name"}])
    story.ask("Metadata", 8, topics=[{"name": "wrong name"}], allow_auto_topic_creation=True)
    there = lambda answer: answer["topics"][0]["error_code"] == 0  # noqa: E731
    story.settle("Metadata", 8, there, topics=[{"name": "made-by-asking"}], allow_auto_topic_creation=True)
    story.ask("Metadata", 12, topics=[{"name": "made-by-asking"}], allow_auto_topic_creation=True)


def test_create_partitions(story):
    story.topic("grow", 2)

    def grow(*topics, only=False, version=3):
        topics = [dict(name=name, count=count, assignments=assigned) for name, count, assigned in topics]
        story.ask("CreatePartitions", version, topics=topics, timeout_ms=9000, validate_only=only)

    for count in (1, 2, 0, -1, 4):
        grow(("grow", count, None))
    grow(("grow", 6, None), only=True)
    grow(("nobody-made-this", 3, None), ("grow", 3, None))
    grow(("grow", 5, None), ("grow", 6, None))
    grow(("", 3, None))
    grow(("a b", 3, None))
    brokers = lambda *ids: dict(broker_ids=list(ids))  # noqa: E731
    for assigned in ([brokers(1), brokers(1)], [brokers()], [brokers(77)], [brokers(1, 1)], [brokers(1)]):
        grow(("grow", 5, assigned))
    for version in (0, 1, 2):
        grow(("grow", 6 + version, None), version=version)
    there = lambda answer: len(answer["topics"][0]["partitions"]) == 8  # noqa: E731
    story.settle("Metadata", 8, there, topics=[{"name": "grow"}])
    story.ask("Metadata", 8, topics=[{"name": "grow"}], allow_auto_topic_creation=False)


@pytest.mark.parametrize("version", [1, 4, 5])
def test_delete_topics_by_name(story, version):
    story.topic("gone", 2)
    delete = lambda *names: story.ask("DeleteTopics", version, topic_names=list(names), timeout_ms=9000)  # noqa: E731
    delete("gone", "nobody-made-this", "a b", "")
    delete("nobody-made-this", "gone")
    delete("nobody-made-this", "nobody-made-this")
    delete()


def test_delete_topics_by_id(story):
    delete = lambda *topics: dict(topics=list(topics))  # noqa: E731
    for first in range(2):
        ids = story.topic("gone-by-id", 2)
        strange = uuid.uuid4()
        ask = lambda each: story.ask("DeleteTopics", 6, each=each, timeout_ms=9000)  # noqa: E731
        ask([delete(dict(name="gone-by-id", topic_id=id)) for id in ids])
        ask([delete(dict(name=None, topic_id=strange)) for _ in ids])
        ask([delete(dict(name=None, topic_id=NIL)) for _ in ids])
        ask([delete(dict(name="gone-by-id", topic_id=NIL), dict(name=None, topic_id=id)) for id in ids])
        ask([delete(dict(name=None, topic_id=id), dict(name=None, topic_id=id)) for id in ids])
        if first == 0:
            ask([delete(dict(name=None, topic_id=id)) for id in ids])
        else:
            ask([delete(dict(name="gone-by-id", topic_id=NIL)) for _ in ids])


def test_describe_topic_partitions(story):
    names = [f"pages-{letter}" for letter in "cab"]
    for name in names:
        story.topic(name, 3)

    def page(topics, limit=2000, cursor=None):
        if cursor:
            cursor = dict(topic_name=cursor[0], partition_index=cursor[1])
        topics = [dict(name=name) for name in topics]
        story.ask("DescribeTopicPartitions", 0, topics=topics, response_partition_limit=limit, cursor=cursor)

    page(names)
    for limit in (1, 2, 3, 4, 6, 8, 9, 10, 0, -1):
        page(names, limit)
    for cursor in (("pages-b", 0), ("pages-b", 1), ("pages-b", 2), ("pages-b", 3), ("pages-b", 9), ("pages-bb", 1), ("pages-z", 0)):
        page(names, cursor=cursor)
        page(names, 2, cursor=cursor)
    page(names, cursor=("pages-b", -1))
    page(["nobody-made-this", *names, "a b"])
    page(["nobody-made-this", *names, "pages-bb"], 4)
    page([*names, *names], 4)
    story.ask("DescribeTopicPartitions", 0, topics=[dict(name="")], response_partition_limit=9, cursor=None, but="server errors")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_describe_cluster(story, version):
    more = [{"endpoint_type": kind} for kind in (1, 2, 3)] if version >= 1 else [{}]
    for values in more:
        story.ask("DescribeCluster", version, include_cluster_authorized_operations=False, **values)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_describe_log_dirs(story, version):
    story.topic(f"dirs-{version}", 3)
    ask = lambda *topics: story.ask("DescribeLogDirs", version, topics=[dict(topic=t, partitions=p) for t, p in topics])  # noqa: E731
    ask((f"dirs-{version}", [0]))
    ask((f"dirs-{version}", [7]))
    ask(("nobody-made-this", [0]))
    ask((f"dirs-{version}", []))
    ask()


@pytest.mark.parametrize("version", [3, 4])
def test_api_versions(story, version):
    """Who asks must say who it is in words that can be told on. Answers are compared as they are: to an error kafka-python
    expects version 0."""
    for name, number in (("", "1"), ("a b", "1"), ("a", ""), ("-a", "1"), ("a", "1 2"), ("a-", "1"), ("a.b", "1-2")):
        frames = []
        for connection in story.connections:
            connection.send("ApiVersions", version, client_software_name=name, client_software_version=number)
            frames.append(connection.frame())
        (kafka, ours) = (frame[4:6] for frame in frames)
        assert kafka == ours, (name, number)
        if kafka != b"\0\0":
            assert frames[0][4:] == frames[1][4:]


def test_offered_versions(story):
    """Every API of ours is one of Kafka's, in versions that Kafka has."""
    kafka, ours = (
        {api["api_key"]: (api["min_version"], api["max_version"]) for api in connection.call("ApiVersions", 2)["api_keys"]}
        for connection in story.connections
    )
    assert ours.keys() <= kafka.keys()
    for key, (lowest, highest) in ours.items():
        assert kafka[key][0] == lowest, key
        assert kafka[key][1] >= highest, key


def test_the_documentation_tells_the_versions(story):
    page = (harness.ROOT / "docs" / "compatibility.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in page.splitlines() if line.startswith("|")]
    told = {int(key): (ours, kafka) for key, ours, kafka in rows if key.isdigit()}
    kafka, ours = (
        {api["api_key"]: f"{api['min_version']}-{api['max_version']}" for api in connection.call("ApiVersions", 2)["api_keys"]}
        for connection in story.connections
    )
    if story.brokers[1].name == "millstream":
        assert told == {key: (versions, kafka[key]) for key, versions in ours.items()}
