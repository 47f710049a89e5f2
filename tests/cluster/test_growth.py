"""Clusters that grow and shrink: a lone broker becomes three, a fourth comes and goes, partitions move."""

import shutil

import pytest
from brokers import wait_until
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from harness import Millstream
from steps import broker, brokers, make_topic, move, numbers, read, refused, same_everywhere, write
from wire import Connection
from writers import PARTITIONS, check, write_while


def test_a_lone_broker_grows_into_a_cluster(own, tmp_path):
    cluster = own(brokers=1)
    first = cluster.nodes[1]
    lone = Millstream(first.data).start()
    admin = AdminClient({"bootstrap.servers": lone.bootstrap})
    admin.create_topics([NewTopic("orders", 2, 1, config={"retention.ms": "86400000"})])["orders"].result(20)
    for partition in range(2):
        write(lone.bootstrap, "orders", numbers(300), partition)
    commit(lone, "billing", 17)
    assert lone.terminate() == 0
    first.start()
    for partition in range(2):
        assert read(first.bootstrap, "orders", 300, partitions=[partition]) == numbers(300)
    for number in (2, 3):
        cluster.add(number)
        cluster.admin("cluster", "quorum", "add", str(number))
    move(cluster, "orders", [1, 2, 3], range(2))
    cluster.wait_in_sync("orders")
    same_everywhere(cluster, "orders", 2)
    # Groups' offsets have one copy, since there was one broker: a plan gives them the others.
    planned = cluster.admin("cluster", "rebalance", "--dry-run")
    offsets = [step for step in planned if step["topic"] == "__consumer_offsets"]
    assert len(offsets) == 4 and all(len(step["to"]) == 3 for step in offsets), planned
    cluster.admin("cluster", "rebalance")
    cluster.wait_in_sync("__consumer_offsets")
    assert not cluster.admin("cluster", "rebalance", "--dry-run")
    first.kill()
    wait_until(lambda: all(p.leader in (2, 3) for p in cluster.partitions("orders").values()), 15, "others lead")
    for partition in range(2):
        write(cluster.bootstrap, "orders", numbers(10, 300), partition)
        assert read(cluster.bootstrap, "orders", 310, partitions=[partition]) == numbers(310)
    wait_until(lambda: committed(cluster, "billing") == 17, 20, "the group's offset is there")
    first.start()
    cluster.wait_in_sync("orders")


def commit(broker, group, offset):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition("orders", 0, offset)], asynchronous=False)
    consumer.close()


def committed(cluster, group):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": group})
    try:
        return consumer.committed([TopicPartition("orders", 0)], 5)[0].offset
    finally:
        consumer.close()


def test_a_fourth_broker_comes_and_goes_under_load(own):
    cluster = own().start()
    make_topic(cluster, "orders", partitions=PARTITIONS)
    steps = iter([lambda: fourth_comes(cluster), lambda: fourth_goes(cluster)])
    acknowledged = write_while(cluster.bootstrap, "orders", lambda: next(steps)(), 2)
    check(cluster.bootstrap, "orders", acknowledged)
    same_everywhere(cluster, "orders", PARTITIONS, [cluster.nodes[number] for number in (1, 2, 3)])
    assert {broker["id"] for broker in brokers(cluster.nodes[1])} == {1, 2, 3}
    assert not list(cluster.nodes[4].data.glob("orders-*")), "what it held is not on its disk any more"
    del cluster.nodes[4]


def fourth_comes(cluster):
    cluster.add(4)
    # It is in the rack of broker 1, and takes over what it can without two copies in one rack.
    wait_until(lambda: cluster.admin("cluster", "rebalance", "--dry-run"), 10, "there is something to move")
    assert held_by(cluster, 4) == 0, "a plan moves nothing"
    cluster.admin("cluster", "rebalance")
    wait_until(lambda: held_by(cluster, 4) >= 1, 30, "the new broker holds its share")
    words = refused(cluster, "cluster", "remove", "4")
    assert "holds" in words and "cluster drain 4" in words, words
    cluster.wait_in_sync("orders")


def fourth_goes(cluster):
    cluster.admin("cluster", "drain", "4")
    words = refused(cluster, "topic", "reassign", "orders", "--replicas", to_broker_four(cluster))
    assert "draining" in words, words
    fourth = cluster.nodes[4]
    cluster.admin("cluster", "rebalance")
    wait_until(lambda: held_by(cluster, 4) == 0, 30, "it is empty")
    wait_until(lambda: not list(fourth.data.glob("orders-*")), 15, "it has deleted what it held")
    assert fourth.terminate() == 0
    wait_until(lambda: broker(cluster.nodes[1], 4)["fenced"], 15, "it is out of service")
    cluster.admin("cluster", "remove", "4")


def to_broker_four(cluster):
    """A move to broker 4 of a partition that it does not hold."""
    partitions = cluster.partitions("orders")
    index = next(index for index, partition in partitions.items() if 4 not in partition.replicas)
    return f"{index}:{','.join(map(str, [4, *partitions[index].replicas[1:]]))}"


def held_by(cluster, number):
    return broker(cluster.nodes[1], number)["replicas"]


def test_a_broker_that_holds_replicas_is_not_removed(own):
    cluster = own(brokers=1).start()
    second = cluster.add(2)
    make_topic(cluster, "orders", replicas=2)
    words = refused(cluster, "cluster", "remove", "2", node=cluster.nodes[1])
    assert "holds 1 replicas" in words and "cluster drain 2" in words, words
    second.kill()
    first = cluster.nodes[1]
    wait_until(lambda: broker(first, 2)["fenced"], 15, "it is out of service")
    words = refused(cluster, "cluster", "remove", "2", node=first)
    assert "holds 1 replicas" in words and "cluster drain 2" in words, words


def test_a_broker_that_was_removed_ends_if_it_comes_back_with_what_it_had(own):
    cluster = own(brokers=1).start()
    second = cluster.add(2)
    first = cluster.nodes[1]
    second.kill()
    wait_until(lambda: broker(first, 2)["fenced"], 15, "it is out of service")
    cluster.admin("cluster", "remove", "2", node=first)
    second.launch()
    assert second.process.wait(15) != 0
    words = second.log.read_text()
    assert "broker 2 was removed from cluster 'test'" in words and "--join" in words, words[-2000:]
    assert broker(first, 2) is None, "nor is it registered again"
    shutil.rmtree(second.data)
    second.start()
    wait_until(lambda: not broker(first, 2)["fenced"], 15, "it is a new one")


def test_more_copies_than_brokers_are_refused(three, name):
    words = refused(three, "topic", "create", name, "--replication", "4")
    assert "replication factor 4" in words and "3" in words
    admin = AdminClient({"bootstrap.servers": three.bootstrap})
    with pytest.raises(KafkaException) as refusal:
        admin.create_topics([NewTopic(name, 1, 4)])[name].result(20)
    assert refusal.value.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR
    assert name not in admin.list_topics(timeout=10).topics


def test_partitions_do_not_move_to_where_they_cannot(three, name):
    make_topic(three, name)
    assert "no broker 9" in refused(three, "topic", "reassign", name, "--replicas", "0:1,2,9")
    assert "twice" in refused(three, "topic", "reassign", name, "--replicas", "0:1,1,2")
    assert "99" in refused(three, "topic", "reassign", name, "--replicas", "99:1,2")
    connection = Connection(three.any_up().address)
    empty = [dict(name=name, partitions=[dict(partition_index=0, replicas=[])])]
    answer = connection.call("AlterPartitionReassignments", 0, timeout_ms=5000, topics=empty)
    assert answer["responses"][0]["partitions"][0]["error_code"] == INVALID_REPLICA_ASSIGNMENT
    assert sorted(three.partitions(name)[0].replicas) == [1, 2, 3]


def test_partitions_move_while_they_are_written_to(three, name):
    make_topic(three, name, PARTITIONS, replicas=2)
    turns = iter([[1, 2], [2, 3], [3, 1], [1, 2, 3]])

    def happens():
        wanted = next(turns)
        move(three, name, wanted, range(PARTITIONS))
        wait_until(lambda: all(p.replicas == wanted for p in three.partitions(name).values()), 30, f"moved to {wanted}")

    acknowledged = write_while(three.bootstrap, name, happens, 4)
    check(three.bootstrap, name, acknowledged)
    three.wait_in_sync(name)
    same_everywhere(three, name, PARTITIONS)


INVALID_REPLICA_ASSIGNMENT = 39
