"""Requests for what is not there or cannot be: each is answered with the error that clients know it by."""

import uuid

import pytest
import talk
from batches import batch, record
from harness import wait_until
from talk import make_topic
from wire import Connection

OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC, INVALID_TOPIC, INVALID_ACKS = 1, 3, 17, 21
ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP, UNKNOWN_MEMBER, INVALID_SESSION = 22, 23, 24, 25, 26
TOPIC_EXISTS, INVALID_PARTITIONS, INVALID_REPLICAS, INVALID_CONFIG, POLICY_VIOLATION = 36, 37, 38, 40, 44
GROUP_NOT_FOUND, UNKNOWN_SESSION, UNKNOWN_TOPIC_ID, MEMBER_ID_REQUIRED = 69, 70, 100, 79
RECORDS = batch(record(0, value=b"one"))


@pytest.fixture
def connection(broker):
    connection = Connection(broker.address)
    yield connection
    assert connection.call("ApiVersions", 0)["error_code"] == 0, "the same connection goes on"
    connection.close()


@pytest.fixture
def coordinator(connection):
    """A coordinator that has been asked for and has loaded."""

    def ready():
        found = connection.call("FindCoordinator", 2, key="any", key_type=0)
        return found["error_code"] == 0 and join(connection, "any", "stranger")["error_code"] == UNKNOWN_MEMBER

    wait_until(ready)


@pytest.fixture
def topic(broker, name):
    make_topic(broker, name)
    return name


def produce(connection, topic, partition=0, acks=-1):
    return talk.produce(connection, topic, RECORDS, partition, acks)["error_code"]


def fetch(connection, topic=None, topic_id=None, partition=0, offset=0, session=(0, -1)):
    at = dict(partition=partition, fetch_offset=offset, partition_max_bytes=1000)
    named = dict(topic=topic) if topic_id is None else dict(topic_id=topic_id)
    values = dict(max_wait_ms=0, min_bytes=0, max_bytes=1000, isolation_level=0, rack_id="", forgotten_topics_data=[])
    answer = connection.call(
        "Fetch", 12 if topic_id is None else 13, replica_id=-1, session_id=session[0], session_epoch=session[1],
        topics=[dict(partitions=[at], **named)], **values,
    )  # fmt: skip
    return answer["error_code"] or answer["responses"][0]["partitions"][0]["error_code"]


def test_records_to_nowhere(connection, topic):
    assert produce(connection, "no-such-topic") == UNKNOWN_TOPIC
    assert produce(connection, "") == UNKNOWN_TOPIC
    assert produce(connection, "x" * 300) in (UNKNOWN_TOPIC, INVALID_TOPIC)
    for partition in (1, -1, 2**31 - 1, -(2**31)):
        assert produce(connection, topic, partition) == UNKNOWN_TOPIC
    assert produce(connection, topic, acks=7) == INVALID_ACKS
    assert produce(connection, topic) == 0


def test_records_from_nowhere(connection, topic):
    assert fetch(connection, "no-such-topic") == UNKNOWN_TOPIC
    assert fetch(connection, topic_id=uuid.uuid4()) == UNKNOWN_TOPIC_ID
    for partition in (1, -1, 2**31 - 1):
        assert fetch(connection, topic, partition=partition) == UNKNOWN_TOPIC
    for offset in (-1, 2, 2**63 - 1, -(2**63)):
        assert fetch(connection, topic, offset=offset) == OFFSET_OUT_OF_RANGE
    assert fetch(connection, topic, session=(12345, 1)) == UNKNOWN_SESSION
    assert fetch(connection, topic) == 0


def list_offset(connection, topic, partition):
    at = [dict(partition_index=partition, timestamp=-1, current_leader_epoch=-1)]
    answer = connection.call("ListOffsets", 5, replica_id=-1, isolation_level=0, topics=[dict(name=topic, partitions=at)])
    return answer["topics"][0]["partitions"][0]["error_code"]


def delete_records(connection, topic, partition, offset):
    at = [dict(partition_index=partition, offset=offset)]
    answer = connection.call("DeleteRecords", 2, topics=[dict(name=topic, partitions=at)], timeout_ms=5000)
    return answer["topics"][0]["partitions"][0]["error_code"]


def test_offsets_of_nothing(connection, topic):
    assert list_offset(connection, topic, 7) == UNKNOWN_TOPIC
    assert list_offset(connection, "no-such-topic", 0) == UNKNOWN_TOPIC
    assert delete_records(connection, "no-such-topic", 0, 0) == UNKNOWN_TOPIC
    assert delete_records(connection, topic, 0, 1_000_000) == OFFSET_OUT_OF_RANGE


def create(connection, name, partitions=1, replicas=1, **configs):
    configs = [dict(name=key.replace("_", "."), value=value) for key, value in configs.items()]
    topics = [dict(name=name, num_partitions=partitions, replication_factor=replicas, assignments=[], configs=configs)]
    answer = connection.call("CreateTopics", 7, topics=topics, timeout_ms=5000, validate_only=False)["topics"][0]
    return answer["error_code"]


def test_topics_that_cannot_be(connection, topic):
    assert create(connection, topic) == TOPIC_EXISTS
    for name in ("", ".", "..", "a b", "x" * 250, "schräg", "a/b", "a\x00"):
        assert create(connection, name) == INVALID_TOPIC, name
    assert create(connection, "some", partitions=0) == INVALID_PARTITIONS
    assert create(connection, "some", replicas=2) == INVALID_REPLICAS
    assert create(connection, "some", retention_ms="soon") == INVALID_CONFIG
    assert create(connection, "some", no_such_config="1") == INVALID_CONFIG
    more = dict(name=topic, count=1, assignments=None)
    answer = connection.call("CreatePartitions", 3, topics=[more], timeout_ms=5000, validate_only=False)
    assert answer["results"][0]["error_code"] == INVALID_PARTITIONS
    answer = connection.call("DeleteTopics", 5, topic_names=["no-such-topic"], timeout_ms=5000)
    assert answer["responses"][0]["error_code"] == UNKNOWN_TOPIC


def test_too_many_partitions_are_refused(connection, broker):
    if broker.name == "kafka":
        pytest.skip("about our bound")
    assert create(connection, "huge", partitions=2**31 - 1) == INVALID_PARTITIONS


def join(connection, group, member="", session=10_000, protocol="range", kind="consumer"):
    protocols = [dict(name=protocol, metadata=b"")] if protocol else []
    return connection.call(
        "JoinGroup", 5, group_id=group, session_timeout_ms=session, rebalance_timeout_ms=5000, member_id=member,
        group_instance_id=None, protocol_type=kind, protocols=protocols,
    )  # fmt: skip


def in_group(connection, group, generation, member):
    """What those are told who are no member, or of another generation."""
    asked = [
        connection.call("SyncGroup", 3, group_id=group, generation_id=generation, member_id=member, group_instance_id=None, assignments=[]),
        connection.call("Heartbeat", 3, group_id=group, generation_id=generation, member_id=member, group_instance_id=None),
    ]
    offset = dict(partition_index=0, committed_offset=0, committed_leader_epoch=-1, committed_metadata="")
    committed = connection.call(
        "OffsetCommit", 7, group_id=group, generation_id_or_member_epoch=generation, member_id=member, group_instance_id=None,
        topics=[dict(name=group, partitions=[offset])],
    )  # fmt: skip
    return [answer["error_code"] for answer in asked] + [committed["topics"][0]["partitions"][0]["error_code"]]


def test_members_and_generations_that_are_unknown(broker, connection, coordinator, topic):
    group = topic
    assert join(connection, group, "stranger")["error_code"] == UNKNOWN_MEMBER
    # Who commits for a group that is not there is of a generation that is not there, as Kafka has it.
    assert in_group(connection, group, 1, "stranger") == [UNKNOWN_MEMBER, UNKNOWN_MEMBER, ILLEGAL_GENERATION]
    first = join(connection, group)
    if first["error_code"] == MEMBER_ID_REQUIRED:
        first = join(connection, group, first["member_id"])
    assert first["error_code"] == 0, first
    member, generation = first["member_id"], first["generation_id"]
    assert in_group(connection, group, generation, "stranger") == [UNKNOWN_MEMBER] * 3
    assert in_group(connection, group, generation + 1, member) == [ILLEGAL_GENERATION] * 3
    assert in_group(connection, group, -5, member) == [ILLEGAL_GENERATION] * 3
    other = Connection(broker.address)
    answer = join(other, group, protocol="other", kind="connect")
    if answer["error_code"] == MEMBER_ID_REQUIRED:
        answer = join(other, group, answer["member_id"], protocol="other", kind="connect")
    assert answer["error_code"] == INCONSISTENT_PROTOCOL
    other.close()
    values = dict(group_id=group, generation_id=generation, member_id=member, group_instance_id=None)
    mine = connection.call("SyncGroup", 3, assignments=[dict(member_id=member, assignment=b"all")], **values)
    assert (mine["error_code"], mine["assignment"]) == (0, b"all")
    assert in_group(connection, group, generation, member)[1:] == [0, 0], "the one member is as it was"
    left = connection.call("LeaveGroup", 3, group_id=group, members=[dict(member_id="stranger", group_instance_id=None)])
    assert left["members"][0]["error_code"] == UNKNOWN_MEMBER


def test_groups_that_cannot_be(connection, coordinator, name):
    assert join(connection, "")["error_code"] == INVALID_GROUP
    assert join(connection, name, session=1)["error_code"] == INVALID_SESSION
    assert join(connection, name, session=2**31 - 1)["error_code"] == INVALID_SESSION
    assert join(connection, name, protocol=None)["error_code"] == INCONSISTENT_PROTOCOL
    answer = connection.call("DeleteGroups", 2, groups_names=[f"{name}-none"])
    assert answer["results"][0]["error_code"] == GROUP_NOT_FOUND


@pytest.fixture
def view(broker, connection, topic):
    if broker.name == "kafka":
        pytest.skip("Kafka has no views")
    configs = [dict(name="millstream.view.source", value=topic)]
    made = dict(name=f"{topic}.view", num_partitions=-1, replication_factor=-1, assignments=[], configs=configs)
    answer = connection.call("CreateTopics", 7, topics=[made], timeout_ms=5000, validate_only=False)
    assert answer["topics"][0]["error_code"] == 0
    return made["name"]


def test_views_are_read_only(connection, topic, view):
    assert produce(connection, view) == POLICY_VIOLATION
    assert fetch(connection, view) == 0
    assert delete_records(connection, view, 0, 1) != 0
    assert fetch(connection, topic) == 0, "the source has its records still"
    more = dict(name=view, count=3, assignments=None)
    answer = connection.call("CreatePartitions", 3, topics=[more], timeout_ms=5000, validate_only=False)
    assert answer["results"][0]["error_code"] == INVALID_PARTITIONS
    answer = connection.call("DeleteTopics", 5, topic_names=[topic], timeout_ms=5000)["responses"][0]
    assert answer["error_code"] == POLICY_VIOLATION and view in answer["error_message"]
    assert create(connection, "no-view", millstream_view_source="no-such-topic") != 0
