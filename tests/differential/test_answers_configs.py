"""Configurations: described, changed one by one, replaced."""

import pytest

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
KEYS = ["retention.ms", "max.message.bytes", "cleanup.policy", "segment.bytes", "compression.type", "message.timestamp.type", "no.such"]
SET, DELETE, APPEND, SUBTRACT = range(4)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_describe_configs(story, version):
    topic = f"configs-{version}"
    story.topic(topic, retention_ms="1000", cleanup_policy="delete")
    more = {"include_documentation": False} if version >= 3 else {}
    describe = lambda kind, name, keys, synonyms=False, **values: story.ask(  # noqa: E731
        "DescribeConfigs", version, resources=[dict(resource_type=kind, resource_name=name, configuration_keys=keys)],
        include_synonyms=synonyms, **more, **values,
    )  # fmt: skip
    for keys in (KEYS, KEYS[:1], ["no.such"], []):
        for name in (topic, "nobody-made-this", "a b", ""):
            describe(TOPIC, name, keys)
    describe(TOPIC, topic, ["cleanup.policy", "retention.bytes", "compression.type", "segment.bytes"], synonyms=True)
    describe(TOPIC, topic, ["retention.ms"], synonyms=True, but="hours")
    for kind in (0, 1, 3, 77):
        describe(kind, "x", [])
    describe(BROKER, "1", ["no.such"])
    describe(BROKER, "77", [])
    describe(BROKER, "x", [])
    describe(BROKER, "", [])
    twice = [dict(resource_type=TOPIC, resource_name=topic, configuration_keys=[key]) for key in ("retention.ms", "cleanup.policy")]
    story.ask("DescribeConfigs", version, resources=twice, include_synonyms=False, **more)


# Kafka's topic configurations that ours does not have: an attempt to set one is an error that says so.
NOT_HERE = {
    "compression.gzip.level", "compression.lz4.level", "compression.zstd.level", "local.retention.bytes", "local.retention.ms",
    "remote.log.copy.disable", "remote.log.delete.on.disable",
}  # fmt: skip


def test_which_configs_there_are(story):
    story.topic("all-configs")
    resource = dict(resource_type=TOPIC, resource_name="all-configs", configuration_keys=None)
    found = []
    for connection in story.connections:
        answer = connection.call("DescribeConfigs", 4, resources=[resource], include_synonyms=False, include_documentation=False)
        found.append({config["name"] for config in answer["results"][0]["configs"]})
    kafka, ours = found
    if story.brokers[1].name == "kafka":
        return
    assert {name for name in ours if not name.startswith("millstream.")} <= kafka
    assert kafka - ours == NOT_HERE


THROTTLED = ["0:1", "0:1,1:2", "*", "", "0:1,", "0", "0:1:2", "-1:1", "a:b", "*,0:1", "none"]


@pytest.mark.parametrize("version", [1])
def test_incremental_alter_configs(story, version):
    name = f"altered-{version}"
    story.topic(name, retention_ms="1000")

    def alter(topic, *changes, only=False, kind=TOPIC, but=None):
        if any(operation not in range(4) for _, operation, _ in changes):
            but = "server errors"
        configs = [dict(name=key, config_operation=operation, value=value) for key, operation, value in changes]
        resource = dict(resource_type=kind, resource_name=topic, configs=configs)
        story.ask("IncrementalAlterConfigs", version, resources=[resource], validate_only=only, but=but)

    changes = [
        ("retention.ms", SET, "5000"), ("retention.ms", SET, "soon"), ("retention.ms", SET, ""), ("no.such", SET, "1"),
        ("retention.ms", DELETE, None), ("retention.ms", DELETE, "x"), ("no.such", DELETE, None), ("cleanup.policy", APPEND, "delete"),
        ("cleanup.policy", SUBTRACT, "compact"), ("retention.ms", APPEND, "1"), ("retention.ms", SUBTRACT, "1"),
        ("max.message.bytes", SET, "-1"), ("retention.ms", SET, None), ("cleanup.policy", APPEND, None),
        ("cleanup.policy", SUBTRACT, None), ("cleanup.policy", SET, "nonsense"), ("compression.type", SET, "lzw"),
        ("message.timestamp.type", SET, "Now"), ("retention.ms", 4, "1"), ("retention.ms", -1, "1"), ("", SET, "1"),
        ("compression.type", SET, "gzip"), ("min.insync.replicas", SET, "0"), ("segment.bytes", SET, "1"),
        ("retention.ms", SET, " 77 "), ("no.such", APPEND, "1"), ("no.such", SUBTRACT, "1"), ("follower.replication.throttled.replicas", APPEND, "0:1"),
        *((f"{side}.replication.throttled.replicas", SET, value) for side in ("leader", "follower") for value in THROTTLED),
    ]  # fmt: skip
    for change in changes:
        for topic in (name, "nobody-made-this", "a b"):
            alter(topic, change)
    alter(name, ("retention.ms", SET, "1"), ("retention.ms", SET, "2"))
    alter(name, ("retention.ms", SET, "1"), ("retention.ms", DELETE, None))
    alter(name, ("retention.ms", SET, "1"), ("no.such", SET, "2"))
    alter(name, ("retention.ms", SET, "9"), only=True)
    alter(name, ("retention.ms", SET, "never"), only=True)
    alter(name)
    alter("")
    alter("", ("retention.ms", SET, "1"))
    for kind in (0, 1, 3, 77):
        alter("x", ("a", SET, "1"), kind=kind)
        alter("x", kind=kind)
    alter("x", ("log.retention.ms", SET, "1"), kind=BROKER)
    alter("77", ("log.retention.ms", SET, "1"), kind=BROKER)
    alter("1", ("no.such", SET, "1"), kind=BROKER, but="broker settings")
    first = dict(resource_type=TOPIC, resource_name=name, configs=[dict(name="retention.ms", config_operation=SET, value="3")])
    second = first | dict(configs=[dict(name="retention.bytes", config_operation=SET, value="3")])
    story.ask("IncrementalAlterConfigs", version, resources=[first, second], validate_only=False)
    other = first | dict(resource_name="nobody-made-this")
    story.ask("IncrementalAlterConfigs", version, resources=[other, first], validate_only=False)
    story.ask("IncrementalAlterConfigs", version, resources=[], validate_only=False)
    keys = ["retention.ms", "retention.bytes", "cleanup.policy", "compression.type", "max.message.bytes"]
    set_now = [dict(resource_type=TOPIC, resource_name=name, configuration_keys=keys)]
    story.ask("DescribeConfigs", 4, resources=set_now, include_synonyms=False, include_documentation=False)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_alter_configs(story, version):
    name = f"replaced-{version}"
    story.topic(name, retention_ms="1000", retention_bytes="77")

    def alter(topic, *configs, only=False, kind=TOPIC, but=None):
        configs = [dict(name=key, value=value) for key, value in configs]
        resource = dict(resource_type=kind, resource_name=topic, configs=configs)
        story.ask("AlterConfigs", version, resources=[resource], validate_only=only, but=but)

    told = dict(resource_type=TOPIC, resource_name=name, configuration_keys=["retention.ms", "retention.bytes"])
    for configs in (
        [("retention.ms", "2000")], [("retention.ms", "soon")], [("no.such", "1")], [("retention.ms", None)],
        [("retention.ms", "1"), ("retention.ms", "2")], [("retention.bytes", "5"), ("no.such", "1")], [],
    ):  # fmt: skip
        for topic in (name, "nobody-made-this", "a b", ""):
            alter(topic, *configs)
            alter(topic, *configs, only=True)
        story.ask("DescribeConfigs", 4, resources=[told], include_synonyms=False, include_documentation=False)
    for kind in (0, 3, 77):
        alter("x", ("a", "1"), kind=kind)
    alter("x", ("log.retention.ms", "1"), kind=BROKER)


SESSION, HEARTBEAT, ASSIGNMENT = (f"consumer.{what}.ms" for what in ("session.timeout", "heartbeat.interval", "assignment.interval"))


def test_configs_of_groups(story):
    """Groups need not be there to be configured."""

    def alter(group, *changes, but=None, only=False):
        if any(operation not in range(4) for _, operation, _ in changes):
            but = "server errors"
        configs = [dict(name=key, config_operation=operation, value=value) for key, operation, value in changes]
        resource = dict(resource_type=GROUP, resource_name=group, configs=configs)
        story.ask("IncrementalAlterConfigs", 1, resources=[resource], validate_only=only, but=but)

    def describe(group, synonyms=True):
        resource = dict(resource_type=GROUP, resource_name=group, configuration_keys=[SESSION, HEARTBEAT])
        story.ask("DescribeConfigs", 4, resources=[resource], include_synonyms=synonyms, include_documentation=False)

    def replace(group, **configs):
        configs = [dict(name=f"consumer.{key.replace('_', '.')}.ms", value=value) for key, value in configs.items()]
        story.ask("AlterConfigs", 2, resources=[dict(resource_type=GROUP, resource_name=group, configs=configs)], validate_only=False)

    changes = [
        *((SESSION, SET, value) for value in ("45000", "60000", "44999", "60001", "1", "-1", "soon", "", None, "50000")),
        *((HEARTBEAT, SET, value) for value in ("4999", "5000", "15000", "15001", "x", "7000")),
        *((ASSIGNMENT, SET, value) for value in ("-1", "0", "15000", "15001", "2000")),
        ("no.such", SET, "1"), ("", SET, "1"), ("no.such", DELETE, None), (SESSION, APPEND, "1"), (SESSION, SUBTRACT, "1"), (SESSION, 7, "1"),
        ("group.consumer.session.timeout.ms", SET, "50000"), (HEARTBEAT, DELETE, None),
    ]  # fmt: skip
    for change in changes:
        alter("configured", change)
        describe("configured")
        alter("", change)
    alter("configured", (SESSION, SET, "46000"), (SESSION, SET, "47000"))
    alter("configured", (SESSION, SET, "46000"), (HEARTBEAT, SET, "1"))
    alter("configured", (SESSION, SET, "48000"), only=True)
    alter("configured", (SESSION, SET, "46000"), (HEARTBEAT, SET, "6000"))
    for group in ("configured", "nobody-made-this", ""):
        describe(group)
        describe(group, synonyms=False)
    replace("configured", session_timeout="52000")
    describe("configured")
    replace("configured", session_timeout="1")
    replace("configured", no_such="1")
    for types in ([GROUP], [METRICS], [BROKER, GROUP], [1], [99], [GROUP, 1], [0]):
        story.ask("ListConfigResources", 1, resource_types=types)
    story.ask("ListConfigResources", 0)
    replace("configured")
    describe("configured")
    story.ask("ListConfigResources", 1, resource_types=[GROUP])
