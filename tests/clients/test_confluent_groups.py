"""Groups and idempotent producers with confluent-kafka (librdkafka): rebalances, static members, restarts of the broker."""

import threading

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import wait_until

PARTITIONS = 6


def create(broker, name, partitions=PARTITIONS):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)


def produce(broker, topic, values, **config):
    failed = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, **config})
    for index, value in enumerate(values):
        producer.produce(topic, value, key=str(index), on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(30) == 0 and not failed, failed[:3]


def consumer_of(broker, group, **config):
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    return Consumer({**settings, **config})


class Member(threading.Thread):
    """A consumer with a thread of its own, that tells what it was given, what was taken from it and what it read."""

    def __init__(self, broker, group, **config):
        super().__init__(daemon=True)
        self.consumer = consumer_of(broker, group, **config)
        self.given, self.taken, self.values, self.errors, self.owned = [], [], [], [], []
        self.done = threading.Event()
        self.consumer.subscribe([group], on_assign=self.on_assign, on_revoke=self.on_revoke)
        self.start()

    def on_assign(self, consumer, partitions):
        self.given.append(sorted(p.partition for p in partitions))

    def on_revoke(self, consumer, partitions):
        self.taken.append(sorted(p.partition for p in partitions))

    def run(self):
        while not self.done.is_set():
            for message in self.consumer.consume(500, 0.05):
                (self.errors if message.error() else self.values).append(message.error() or message.value())
            # Asked here only: the client stands still when other threads ask it during a rebalance.
            self.owned = sorted(p.partition for p in self.consumer.assignment())
        self.consumer.close()

    def owns(self):
        return self.owned

    def end(self):
        self.done.set()
        self.join(20)
        assert not self.is_alive() and not self.errors, self.errors[:3]


def share(members, counts):
    """Whether the members have all partitions, each once, and as many as said."""
    owned = [member.owns() for member in members]
    return sorted(map(len, owned)) == sorted(counts) and sorted(sum(owned, [])) == list(range(PARTITIONS))


@pytest.mark.parametrize("assignor", ["range", "roundrobin", "cooperative-sticky"])
def test_members_that_join_at_once_share(broker, name, assignor):
    create(broker, name)
    values = [str(i).encode() for i in range(1000)]
    produce(broker, name, values)
    members = [Member(broker, name, **{"partition.assignment.strategy": assignor}) for _ in range(3)]
    wait_until(lambda: share(members, [2, 2, 2]), 40, "each has two partitions")
    # Who took over goes on where the one before committed: nothing is skipped, little is repeated.
    wait_until(lambda: {v for m in members for v in m.values} == set(values), 30, "all was read")
    members.pop().end()
    wait_until(lambda: share(members, [3, 3]), 40, "each has three partitions")
    more = [str(i).encode() for i in range(1000, 1200)]
    produce(broker, name, more)
    wait_until(lambda: set(more) <= {v for m in members for v in m.values}, 30, "what came later was read")
    for member in members:
        member.end()


def test_cooperative_members_keep_what_they_may(broker, name):
    create(broker, name)
    config = {"partition.assignment.strategy": "cooperative-sticky"}
    first = Member(broker, name, **config)
    wait_until(lambda: len(first.owns()) == PARTITIONS, 20, "the first has all")
    second = Member(broker, name, **config)
    wait_until(lambda: share([first, second], [3, 3]), 40, "each has three partitions")
    assert [len(taken) for taken in first.taken if taken] == [3], "only what moved was taken from the first"
    kept = first.owns()
    second.end()
    wait_until(lambda: len(first.owns()) == PARTITIONS, 40, "the first has all again")
    assert not set(kept) & set(sum(first.given[1:], [])), "what it kept was not given again"
    first.end()


def test_a_static_member_comes_back_to_the_same_partitions(broker, name):
    create(broker, name)
    members = [Member(broker, name, **{"group.instance.id": f"m{i}"}) for i in range(2)]
    wait_until(lambda: share(members, [3, 3]), 40, "each has three partitions")
    before, seen = members[1].owns(), (len(members[0].given), len(members[0].taken))
    members[1].end()
    members[1] = Member(broker, name, **{"group.instance.id": "m1"})
    wait_until(lambda: members[1].owns() == before, 20, "it has what it had")
    assert (len(members[0].given), len(members[0].taken)) == seen, "the other did not notice"
    # A second one of the same name replaces the first, which is told so.
    usurper = Member(broker, name, **{"group.instance.id": "m1"})
    wait_until(lambda: usurper.owns() == before, 20, "the newer one has the partitions")
    wait_until(lambda: any("fenced" in str(error).lower() for error in members[1].errors), 20, "the older one is fenced")
    members[1].errors.clear()
    members[1].done.set()
    usurper.end()
    members[0].end()


def test_what_is_committed_with_an_offset_comes_back(broker, name):
    create(broker, name, 1)
    produce(broker, name, [b"x"] * 5)
    consumer = consumer_of(broker, name)
    consumer.commit(offsets=[TopicPartition(name, 0, 3, metadata="until here; é")], asynchronous=False)
    (found,) = consumer_of(broker, name).committed([TopicPartition(name, 0)], 20)
    assert (found.offset, found.metadata) == (3, "until here; é")
    consumer.close()


def test_groups_go_on_when_the_broker_comes_back(own_broker, name):
    create(own_broker, name)
    members = [Member(own_broker, name) for _ in range(2)]
    wait_until(lambda: share(members, [3, 3]), 40, "each has three partitions")
    produce(own_broker, name, [b"before %d" % i for i in range(100)])
    wait_until(lambda: sum(len(m.values) for m in members) >= 100, 30, "all is read")
    own_broker.kill()
    own_broker.start()
    produce(own_broker, name, [b"after %d" % i for i in range(100)])
    read = lambda: {v for m in members for v in m.values}  # noqa: E731
    wait_until(lambda: len(read()) == 200, 60, "they go on")
    for member in members:
        # That the connection broke is told, and is no failure.
        member.errors.clear()
        member.end()


def test_an_idempotent_producer_goes_on_over_restarts(own_broker, name):
    create(own_broker, name, 1)
    failed = []
    producer = Producer({"bootstrap.servers": own_broker.bootstrap, "enable.idempotence": True, "linger.ms": 1})
    values = [str(i).encode() for i in range(6000)]
    for index, value in enumerate(values):
        producer.produce(name, value, on_delivery=lambda error, _: failed.append(error) if error else None)
        producer.poll(0.001 if index % 20 == 0 else 0)
        if index in (2000, 4000):
            (own_broker.kill if index == 2000 else own_broker.terminate)()
            own_broker.start()
    assert producer.flush(60) == 0 and not failed, failed[:3]
    consumer = consumer_of(own_broker, name)
    consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    found = []
    wait_until(lambda: found.extend(m.value() for m in consumer.consume(2000, 0.5)) or len(found) >= len(values), 30)
    assert found == values, "each once, in order"
    consumer.close()
