"""Both brokers, told the same requests; their answers compared field by field."""

import time
import zlib

from wire import Connection

IGNORED = {
    "throttle_time_ms": "quotas are not ours",
    "error_message": "our words are our own; that there is an error is compared by its code",
    "batch_index_error_message": "our words are our own",
    "topic_id": "random",
    "cluster_id": "random",
    "host": "addresses",
    "port": "addresses",
    "node_id": "any number",
    "broker_id": "any number",
    "leader_id": "any number, one broker",
    "controller_id": "any number, one broker",
    "replica_nodes": "any number, one broker",
    "isr_nodes": "any number, one broker",
    "log_dir": "paths",
    "total_bytes": "disks",
    "usable_bytes": "disks",
    "member_id": "random",
    "leader": "random, a member's id",
    "client_host": "addresses",
    "producer_id": "blocks of any beginning",
    "topic_authorized_operations": "no authorisation",
    "cluster_authorized_operations": "no authorisation",
    "log_append_time_ms": "clocks, where it is a time: story.py compares whether it is",
    "last_timestamp": "ours is when the broker heard of a producer, Kafka's what its records say",
    "session_id": "random; story.py compares whether there is one",
    "documentation": "our words are our own",
}

DELIBERATE = {
    "transactions": "they are not built: a client is told at once and for good, by the error of an id that it may not use",
    "broker settings": "a broker reads its settings when it starts; none can be changed meanwhile",
    "server errors": "Kafka fails with UNKNOWN_SERVER_ERROR, ours says what is wrong or does it",
    "behind the batch": "ours refuses what lies behind a batch, Kafka leaves it away",
    "numbering": "ours refuses a batch whose records do not count from 0, Kafka takes some of them as they are",
    "deleted topic": "of a topic that was deleted during a fetch session ours says that the id is unknown",
    "repeated batch": "two batches for one partition in one request: ours takes both in their order, Kafka the last",
    "no epoch": "ours refuses a batch that has a producer and no epoch, Kafka takes it",
    "the broker's time": "ours refuses a client's batch that says its times are the broker's, Kafka makes them the client's",
    "hours": "where a default comes from log.retention.hours, ours says so",
}

# Lists whose order in Kafka is that of a hash table, or shuffled, and what to put them in order by.
UNORDERED = {
    "CreateTopics": {"topics": ("name",)},
    "DeleteTopics": {"responses": ("name", "error_code")},
    "DeleteRecords": {"topics": ("name",), "partitions": ("partition_index",)},
    "DescribeConfigs": {"configs": ("name",)},
    "DescribeLogDirs": {"topics": ("name",), "partitions": ("partition_index",)},
    "ListOffsets": {"topics": ("name",), "partitions": ("partition_index",)},
    "Metadata": {"topics": ("name", "error_code")},
    "CreatePartitions": {"results": ("name",)},
    "Produce": {"responses": ("name", "partition_responses"), "partition_responses": ("index",)},
    "OffsetDelete": {"topics": ("name",), "partitions": ("partition_index",)},
    "JoinGroup": {"members": ("metadata",)},
    "OffsetFetch": {"groups": ("group_id",), "topics": ("name", "partitions"), "partitions": ("partition_index",)},
    "DescribeGroups": {"groups": ("group_id",), "members": ("member_metadata", "member_assignment")},
    "DeleteGroups": {"results": ("group_id", "error_code")},
    "ListGroups": {"groups": ("group_id",)},
    "DescribeProducers": {"active_producers": ("current_txn_start_offset", "last_sequence", "coordinator_epoch")},
    "WriteTxnMarkers": {"partitions": ("partition_index",)},
    "IncrementalAlterConfigs": {"responses": ("resource_name", "error_code")},
    "AlterConfigs": {"responses": ("resource_name", "error_code")},
    "ListConfigResources": {"config_resources": ("resource_type", "resource_name")},
}


def normal(value, api, name=None):
    """The answer without what may differ. Lists keep their order unless Kafka's have none."""
    if isinstance(value, dict):
        return {key: told(api, key, item) for key, item in value.items() if told(api, key, item) is not None}
    if isinstance(value, (list, tuple)):
        value = merged(value, api, name)
        order = UNORDERED.get(api, {}).get(name)
        value = [normal(item, api) for item in value]
        return sorted(value, key=lambda item: [str(item.get(key)) for key in order]) if order else value
    return value


# Lists of topics whose answers Kafka puts together again: one named twice is in them once, one with no partitions never.
# Ours answers as it is asked. Clients see no difference.
PUT_TOGETHER = {
    "Produce": ("responses", "name", "partition_responses"),
    "ListOffsets": ("topics", "name", "partitions"),
    "DeleteRecords": ("topics", "name", "partitions"),
    "OffsetCommit": ("topics", "name", "partitions"),
}


def merged(topics, api, name):
    of, key, inner = PUT_TOGETHER.get(api, (None, None, None))
    if name != of:
        return topics
    # Newer versions have ids in the place of names.
    called = [topic.get(key) or topic.get("topic_id") for topic in topics]
    names = list(dict.fromkeys(called))
    if len(names) == len(topics):
        return [topic for topic in topics if topic[inner]]
    parts = {name: [part for topic, its in zip(topics, called) if its == name for part in topic[inner]] for name in names}
    return [{**topics[called.index(name)], inner: parts[name]} for name in names if parts[name]]


def told(api, key, item):
    if key in ("log_append_time_ms", "session_id"):
        return "one" if item > 0 else item
    if key == "config_source":
        # Which of the defaults it is differs; whether the topic or the group sets it is compared.
        return item if item in (1, 8) else "default"
    if key in IGNORED:
        return None
    if key == "records" and item:
        # Kafka cuts off what is over the limit, be it in a batch; ours ends with a whole one.
        whole = whole_batches(bytes(item))
        return f"{len(whole)} bytes, {zlib.crc32(whole):08x}"
    return "null" if item is None else normal(item, api, key)


def whole_batches(data):
    at = 0
    while at + 12 <= len(data) and at + 12 + int.from_bytes(data[at + 8 : at + 12], "big") <= len(data):
        at += 12 + int.from_bytes(data[at + 8 : at + 12], "big")
    return data[:at] or data


def differences(kafka, ours, path=""):
    """Where two answers differ, as lines."""
    if isinstance(kafka, dict) and isinstance(ours, dict):
        keys = list(dict.fromkeys([*kafka, *ours]))
        lines = [differences(kafka.get(key, "absent"), ours.get(key, "absent"), f"{path}.{key}") for key in keys]
        return [line for part in lines for line in part]
    if path.endswith(".configs") and isinstance(kafka, list) and isinstance(ours, list):
        # Those that both have: test_answers_configs.py holds which those are.
        common = {item["name"] for item in kafka} & {item["name"] for item in ours}
        kafka, ours = ([item for item in items if item["name"] in common] for items in (kafka, ours))
    if isinstance(kafka, list) and isinstance(ours, list) and len(kafka) == len(ours):
        lines = [differences(a, b, f"{path}[{n}]") for n, (a, b) in enumerate(zip(kafka, ours))]
        return [line for part in lines for line in part]
    return [] if kafka == ours else [f"{path}: kafka {kafka!r}, ours {ours!r}"]


class Story:
    """Both brokers, told the same."""

    def __init__(self, brokers):
        self.brokers = brokers
        self.connections = [Connection(broker.address) for broker in brokers]
        self.differences = []
        self.note = ""
        self.ignored = set()

    def close(self):
        for connection in self.connections:
            connection.close()

    def reconnect(self):
        """As from another process."""
        self.close()
        self.connections = [Connection(broker.address) for broker in self.brokers]

    def ask(self, api, version, each=None, but=None, **values):
        """Asks both; notes how the answers differ; gives both answers.

        `each` adds fields that differ by broker. `but` is the reason in `DELIBERATE` why the answers have to differ.
        """
        answers = []
        for index, connection in enumerate(self.connections):
            more = each[index] if each else {}
            try:
                answers.append(connection.call(api, version, **values, **more))
            except ConnectionError:
                answers.append({"connection": "closed"})
                self.connections[index] = Connection(self.brokers[index].address)
        found = differences(*(normal(answer, api) for answer in answers))
        found = [line for line in found if line.split(":")[0].rsplit(".")[-1] not in self.ignored]
        if but:
            assert but in DELIBERATE
            found = [] if found or self.brokers[0].name == self.brokers[1].name else [f"no longer differs: {but}"]
        if found:
            told = f"{api} v{version} {self.note} {values}"
            lines = "\n    ".join(found)
            self.differences.append(f"{told[:300]}\n    {lines}")
        return answers

    def settle(self, api, version, done, each=None, **values):
        """Asks until both are `done`: what Kafka does in the background takes a while."""
        deadline = time.monotonic() + 20
        for index, connection in enumerate(self.connections):
            more = each[index] if each else {}
            while not done(connection.call(api, version, **values, **more)):
                assert time.monotonic() < deadline, f"{api} {values}"
                time.sleep(0.02)

    def topic(self, name, partitions=1, **config):
        """Makes a topic, and waits until it has its leaders; gives its ids."""
        configs = [{"name": key.replace("_", "."), "value": value} for key, value in config.items()]
        topic = {"name": name, "num_partitions": partitions, "replication_factor": 1, "assignments": [], "configs": configs}
        made = self.ask("CreateTopics", 7, topics=[topic], timeout_ms=10_000, validate_only=False)
        ready = lambda answer: all(  # noqa: E731
            t["error_code"] == 0 and t["partitions"] and all(p["error_code"] == 0 for p in t["partitions"]) for t in answer["topics"]
        )
        self.settle("Metadata", 8, ready, topics=[{"name": name}], allow_auto_topic_creation=False)
        # Kafka tells of a topic before its partitions are led: an end that is known says that they are.
        at = [{"partition_index": index, "timestamp": -1, "current_leader_epoch": 0} for index in range(partitions)]
        led = lambda answer: all(p["error_code"] == 0 for p in answer["topics"][0]["partitions"])  # noqa: E731
        self.settle("ListOffsets", 5, led, replica_id=-1, isolation_level=0, topics=[{"name": name, "partitions": at}])
        return [answer["topics"][0]["topic_id"] for answer in made]

    def produce(self, topic, *batches, partition=0, acks=-1, version=9, **more):
        """One produce request per batch."""
        for records in batches:
            data = [dict(name=topic, partition_data=[dict(index=partition, records=records)])]
            answers = self.ask("Produce", version, transactional_id=None, acks=acks, timeout_ms=5000, topic_data=data, **more)
        return answers

    def fetch(self, topic, offset=0, partition=0, version=12, max_bytes=1 << 20):
        at = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": max_bytes}
        return self.ask("Fetch", version, topics=[{"topic": topic, "partitions": [at]}], **fetch_values(version))


def fetch_values(version, **changed):
    """The fields of a fetch request beside its topics."""
    values = dict(max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, isolation_level=0)
    if version < 15:
        values["replica_id"] = -1
    if version >= 7:
        values |= dict(session_id=0, session_epoch=-1, forgotten_topics_data=[])
    if version >= 11:
        values["rack_id"] = ""
    return values | changed
