"""The same requests to Apache Kafka and to our broker; the answers are compared field by field.

A story is a list of requests, errors included that no client would ask for. It is told to both brokers, on topics and
groups that only it uses. What may differ is in `IGNORED`, with the reason.
"""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness  # noqa: E402
from wire import Connection  # noqa: E402

IGNORED = {
    "throttle_time_ms": "quotas are not ours",
    "error_message": "our words are our own; that there is an error is compared by its code",
    "topic_id": "random",
    "cluster_id": "random",
    "host": "addresses",
    "port": "addresses",
    "node_id": "any number",
    "broker_id": "any number",
    "leader_id": "any number, one broker",
    "controller_id": "any number, one broker",
    "coordinators_node": "any number",
    "replica_nodes": "any number, one broker",
    "isr_nodes": "any number, one broker",
    "log_dir": "paths",
    "total_bytes": "disks",
    "usable_bytes": "disks",
    "size": "segments are filled alike, but their metadata is not",
    "member_id": "random",
    "client_host": "addresses",
    "leader": "random, or any number",
    "producer_id": "blocks of any beginning",
    "topic_authorized_operations": "no authorisation",
    "cluster_authorized_operations": "no authorisation",
    "log_append_time_ms": "clocks",
    "session_id": "random",
    "rack": "settings",
    "records": "compared where the story reads them",
    "config_source": "which of the defaults it is differs; that it is one is compared",
    "documentation": "our words are our own",
    "synonyms": "static defaults have other names here",
}


UNKNOWN_MEMBER_ID = 25


@pytest.fixture(scope="module")
def pair(request, tmp_path_factory):
    if request.config.getoption("--target") == "kafka":
        kinds = [harness.Kafka, harness.Kafka]
    else:
        kinds = [harness.Kafka, harness.Millstream]
    brokers = [kind(tmp_path_factory.mktemp("pair") / "data").start() for kind in kinds]
    yield brokers
    for broker in brokers:
        broker.stop()


def normal(value, name=None):
    """The answer without what may differ. Lists keep their order."""
    if isinstance(value, dict):
        return {key: normal(item, key) for key, item in value.items() if key not in IGNORED}
    if isinstance(value, (list, tuple)):
        return [normal(item) for item in value]
    return value


class Story:
    """Both brokers, told the same."""

    def __init__(self, brokers):
        self.connections = [Connection(broker.address) for broker in brokers]
        self.differences = []

    def ask(self, api, version, each=None, **values):
        """Asks both; notes how the answers differ; gives both answers. `each` adds fields that differ by broker."""
        answers = []
        for index, connection in enumerate(self.connections):
            more = each[index] if each else {}
            try:
                answers.append(connection.call(api, version, **values, **more))
            except ConnectionError:
                answers.append({"connection": "closed"})
        kafka, ours = map(normal, answers)
        if kafka != ours:
            self.differences.append(f"{api} v{version} {values}\n  kafka: {kafka}\n  ours:  {ours}")
        return answers

    def settle(self, api, version, done, **values):
        """Asks until both are `done`: what Kafka does in the background takes a while."""
        deadline = time.monotonic() + 20
        while not all(done(connection.call(api, version, **values)) for connection in self.connections):
            assert time.monotonic() < deadline, f"{api} {values}"
            time.sleep(0.02)

    def topic(self, name, partitions=1, **config):
        configs = [{"name": key.replace("_", "."), "value": value} for key, value in config.items()]
        topic = {"name": name, "num_partitions": partitions, "replication_factor": 1, "assignments": [], "configs": configs}
        self.ask("CreateTopics", 7, topics=[topic], timeout_ms=10_000, validate_only=False)
        ready = lambda answer: all(  # noqa: E731
            t["error_code"] == 0 and t["partitions"] and all(p["error_code"] == 0 for p in t["partitions"]) for t in answer["topics"]
        )
        self.settle("Metadata", 8, ready, topics=[{"name": name}], allow_auto_topic_creation=False)


@pytest.fixture
def story(pair):
    story = Story(pair)
    yield story
    for connection in story.connections:
        connection.close()
    assert not story.differences, f"{len(story.differences)} differences\n" + "\n".join(story.differences)


def new_topic(name, partitions=1, replication=1, configs=(), assignments=()):
    configs = [{"name": key, "value": value} for key, value in configs]
    return dict(name=name, num_partitions=partitions, replication_factor=replication, configs=configs, assignments=list(assignments))


@pytest.mark.parametrize("version", [2, 4, 5, 7])
def test_create_topics(story, version):
    create = lambda *topics, only=False: story.ask("CreateTopics", version, topics=list(topics), timeout_ms=9000, validate_only=only)  # noqa: E731
    create(new_topic(f"made-{version}", 2))
    create(new_topic(f"made-{version}", 2))
    create(new_topic(f"dry-{version}"), only=True)
    for wrong in ("", ".", "..", "a b", "a/b", "ä", "x" * 250):
        create(new_topic(wrong))
    create(new_topic(f"zero-{version}", 0))
    create(new_topic(f"minus-{version}", -2))
    create(new_topic(f"copies-{version}", 1, 3))
    create(new_topic(f"unknown-{version}", configs=[("no.such.config", "1")]))
    create(new_topic(f"value-{version}", configs=[("retention.ms", "soon")]))
    create(new_topic(f"same-{version}"), new_topic(f"same-{version}"))
    create(new_topic(f"b-{version}"), new_topic(f"a b-{version}"), new_topic(f"c-{version}"))
    if version >= 4:
        create(new_topic(f"default-{version}", -1, -1))


@pytest.mark.parametrize("version", [1, 4, 8, 9, 12])
def test_metadata_of_unknown_and_wrong_topics(story, version):
    name = f"metadata-{version}"
    story.topic(name, 2)
    more = {"allow_auto_topic_creation": False} if version >= 4 else {}
    for topics in (["nobody-made-this"], [name], [name, "nobody-made-this"], ["a b"] if version >= 4 else [name], []):
        story.ask("Metadata", version, topics=[{"name": topic} for topic in topics], **more)


def test_delete_topics_and_partitions(story):
    story.topic("grow", 2)
    for count in (1, 2, 0, -1, 4):
        story.ask("CreatePartitions", 3, topics=[dict(name="grow", count=count, assignments=None)], timeout_ms=9000, validate_only=False)
    missing = [dict(name="nobody-made-this", count=3, assignments=None)]
    story.ask("CreatePartitions", 3, topics=missing, timeout_ms=9000, validate_only=False)
    story.ask("DeleteTopics", 5, topic_names=["grow", "nobody-made-this"], timeout_ms=9000)
    story.ask("DeleteTopics", 5, topic_names=["nobody-made-this", "grow"], timeout_ms=9000)


@pytest.mark.parametrize("version", [1, 4, 5, 7])
def test_list_offsets(story, version):
    name = f"offsets-{version}"
    story.topic(name)
    more = {"isolation_level": 0} if version >= 2 else {}
    for timestamp in (-1, -2, -3, -7, 0, 1 << 60):
        for topic, partition in ((name, 0), (name, 5), ("nobody-made-this", 0)):
            at = {"partition_index": partition, "timestamp": timestamp}
            if version >= 4:
                at["current_leader_epoch"] = -1
            story.ask("ListOffsets", version, replica_id=-1, topics=[{"name": topic, "partitions": [at]}], **more)
    if version >= 4:
        for epoch in (0, 1, 9):
            at = {"partition_index": 0, "timestamp": -1, "current_leader_epoch": epoch}
            story.ask("ListOffsets", version, replica_id=-1, topics=[{"name": name, "partitions": [at]}], **more)


def test_offset_for_leader_epoch(story):
    story.topic("epochs")
    for topic, partition in (("epochs", 0), ("epochs", 3), ("nobody-made-this", 0)):
        for current, asked in ((-1, 0), (-1, 5), (0, 0), (7, 0)):
            at = {"partition": partition, "current_leader_epoch": current, "leader_epoch": asked}
            story.ask("OffsetForLeaderEpoch", 4, replica_id=-1, topics=[{"topic": topic, "partitions": [at]}])


@pytest.mark.parametrize("version", [4, 7, 11, 12])
def test_fetch_errors(story, version):
    name = f"fetch-{version}"
    story.topic(name)
    for topic, partition, offset in ((name, 0, 0), (name, 0, 5), (name, 0, -1), (name, 4, 0), ("nobody-made-this", 0, 0)):
        at = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
        values = dict(replica_id=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, isolation_level=0)
        if version >= 5:
            at["log_start_offset"] = -1
        if version >= 7:
            values |= dict(session_id=0, session_epoch=-1, forgotten_topics_data=[])
        if version >= 9:
            at["current_leader_epoch"] = -1
        if version >= 11:
            values["rack_id"] = ""
        story.ask("Fetch", version, topics=[{"topic": topic, "partitions": [at]}], **values)


def test_unknown_fetch_sessions(story):
    story.topic("sessions")
    for session, epoch in ((77, 1), (0, 3), (77, -1)):
        values = dict(replica_id=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, isolation_level=0, topics=[])
        story.ask("Fetch", 11, session_id=session, session_epoch=epoch, forgotten_topics_data=[], rack_id="", **values)


def test_describe_and_alter_configs(story):
    story.topic("configs", retention_ms="1000", cleanup_policy="delete")
    keys = ["retention.ms", "max.message.bytes", "cleanup.policy", "segment.bytes", "compression.type", "message.timestamp.type", "no.such"]
    for asked in (keys, keys[:1], []):
        for name in ("configs", "nobody-made-this", "a b"):
            resource = dict(resource_type=2, resource_name=name, configuration_keys=asked)
            story.ask("DescribeConfigs", 4, resources=[resource], include_synonyms=False, include_documentation=False)
    changes = [
        ("retention.ms", 0, "5000"), ("retention.ms", 0, "soon"), ("no.such", 0, "1"), ("retention.ms", 1, None),
        ("cleanup.policy", 2, "delete"), ("retention.ms", 2, "1"), ("max.message.bytes", 0, "-1"),
    ]  # fmt: skip
    for name, operation, value in changes:
        for topic in ("configs", "nobody-made-this"):
            config = dict(name=name, config_operation=operation, value=value)
            resource = dict(resource_type=2, resource_name=topic, configs=[config])
            story.ask("IncrementalAlterConfigs", 1, resources=[resource], validate_only=False)
    resource = dict(resource_type=2, resource_name="configs", configs=[dict(name="retention.ms", value="2000")])
    story.ask("AlterConfigs", 2, resources=[resource], validate_only=False)


def test_delete_records(story):
    story.topic("deleted")
    for topic, partition, offset in (("deleted", 0, 0), ("deleted", 0, -1), ("deleted", 0, 9), ("deleted", 7, 0), ("nobody-made-this", 0, 0)):
        at = {"partition_index": partition, "offset": offset}
        story.ask("DeleteRecords", 2, topics=[{"name": topic, "partitions": [at]}], timeout_ms=2000)


def coordinator(story, group):
    found = lambda answer: answer["error_code"] == 0  # noqa: E731
    story.settle("FindCoordinator", 3, found, key=group, key_type=0)
    # While a coordinator loads its groups, Kafka answers heartbeats with no error.
    asked = lambda answer: answer["error_code"] == UNKNOWN_MEMBER_ID  # noqa: E731
    story.settle("Heartbeat", 4, asked, group_id=group, generation_id=1, member_id="x", group_instance_id=None)


def test_groups_and_members_that_are_not_there(story):
    group = "no-such-group"
    story.topic("group-topic")
    coordinator(story, group)
    story.ask("Heartbeat", 4, group_id=group, generation_id=1, member_id="x", group_instance_id=None)
    story.ask("Heartbeat", 4, group_id="", generation_id=1, member_id="x", group_instance_id=None)
    story.ask("DescribeGroups", 5, groups=[group, ""], include_authorized_operations=False)
    story.ask("DeleteGroups", 2, groups_names=[group])
    story.ask("LeaveGroup", 4, group_id=group, members=[dict(member_id="x", group_instance_id=None)])
    sync = dict(protocol_type="consumer", protocol_name="range", assignments=[], group_instance_id=None)
    story.ask("SyncGroup", 5, group_id=group, generation_id=1, member_id="x", **sync)
    at = dict(partition_index=0, committed_offset=3, committed_leader_epoch=-1, committed_metadata="m")
    topics = [dict(name="group-topic", partitions=[at, {**at, "partition_index": 9}]), dict(name="nobody-made-this", partitions=[at])]
    for generation, member in ((-1, ""), (1, "x"), (-1, "x"), (1, "")):
        commit = dict(generation_id_or_member_epoch=generation, member_id=member, group_instance_id=None, topics=topics)
        story.ask("OffsetCommit", 8, group_id=f"{group}-{generation}-{member}", **commit)
    story.ask("OffsetFetch", 7, group_id="nothing", topics=None, require_stable=False)
    partitions = [dict(name="group-topic", partition_indexes=[0, 1]), dict(name="nobody-made-this", partition_indexes=[0])]
    story.ask("OffsetFetch", 7, group_id="nothing", topics=partitions, require_stable=False)
    story.ask("OffsetFetch", 7, group_id=f"{group}--1-", topics=partitions, require_stable=False)


def join(group, member="", session=10_000, protocols=(("range", b"\x00"),), instance=None, kind="consumer"):
    protocols = [dict(name=name, metadata=metadata) for name, metadata in protocols]
    times = dict(session_timeout_ms=session, rebalance_timeout_ms=10_000)
    return dict(group_id=group, member_id=member, group_instance_id=instance, protocol_type=kind, protocols=protocols, **times)


def test_the_life_of_a_group(story):
    group = "a-life"
    coordinator(story, group)
    for wrong in (join(""), join(group, session=1), join(group, session=1 << 30), join(group, protocols=()), join(group, "ghost")):
        story.ask("JoinGroup", 5, **wrong)
    told = story.ask("JoinGroup", 5, **join(group))
    members = [answer["member_id"] for answer in told]
    each = [{"member_id": member} for member in members]
    again = join(group)
    del again["member_id"]
    joined = story.ask("JoinGroup", 5, each=each, **again)
    assert [answer["generation_id"] for answer in joined] == [1, 1]
    assignment = lambda member: {"member_id": member, "assignments": [dict(member_id=member, assignment=b"a")]}  # noqa: E731
    sync = dict(group_id=group, group_instance_id=None)
    story.ask("SyncGroup", 3, each=[assignment(member) for member in members], generation_id=7, **sync)
    story.ask("SyncGroup", 3, each=[assignment(member) for member in members], generation_id=1, **sync)
    for generation in (0, 1, 2):
        story.ask("Heartbeat", 4, each=each, group_id=group, generation_id=generation, group_instance_id=None)
    story.ask("JoinGroup", 5, **join(group, kind="connect"))
    story.ask("JoinGroup", 5, **join(group, protocols=(("other", b""),)))
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)
    story.ask("DeleteGroups", 2, groups_names=[group])
    story.ask("LeaveGroup", 4, each=[{"members": [dict(member_id=m, group_instance_id=None)]} for m in members], group_id=group)
    story.ask("DescribeGroups", 5, groups=[group], include_authorized_operations=False)
    story.ask("DeleteGroups", 2, groups_names=[group])


def test_producer_ids(story):
    for version in (0, 2, 4):
        more = dict(producer_id=-1, producer_epoch=-1) if version >= 3 else {}
        story.ask("InitProducerId", version, transactional_id=None, transaction_timeout_ms=1000, **more)


@pytest.mark.parametrize("version", [3, 7, 9])
@pytest.mark.parametrize("acks", [-1, 1, 7])
def test_produce_errors(story, version, acks):
    name = f"produce-{version}-{acks}"
    story.topic(name)
    batch = bytes.fromhex("0000000000000000000000310000000002") + b"\x00" * 44
    for topic, partition, records in ((name, 0, batch), (name, 5, batch), ("nobody-made-this-either", 3, batch), (name, 0, b"")):
        data = [dict(name=topic, partition_data=[dict(index=partition, records=records)])]
        story.ask("Produce", version, transactional_id=None, acks=acks, timeout_ms=2000, topic_data=data)
