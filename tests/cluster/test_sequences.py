"""A client that hears of a gap in its sequence numbers takes a new epoch, and sends again what is stored already. So it must
not hear of a gap where the batch before is only to be sent again."""

import time

from batches import batch, record
from brokers import wait_until
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from steps import leads, make_topic, read
from talk import produce
from wire import Connection

OUT_OF_ORDER, NOT_ENOUGH_REPLICAS = 45, 19


def test_a_gap_that_a_refusal_left_is_to_be_filled(three, name):
    make_topic(three, name, replicas=2, min_insync_replicas=1)
    send = idempotent(three, name)
    assert send(0) == 0
    partition = three.partitions(name)[0]
    (follower,) = set(partition.replicas) - {partition.leader}
    three.nodes[follower].kill()
    wait_until(lambda: three.partitions(name)[0].isrs == [partition.leader], 10, "one replica is in sync")
    wait_until(lambda: send(2) == OUT_OF_ORDER, 20, "nothing can be under way any more from before it led")
    keep(three, name, 2)
    assert send(1) == NOT_ENOUGH_REPLICAS
    keep(three, name, 1)
    assert send(2) == NOT_ENOUGH_REPLICAS, "1 has to come first"
    assert [send(1), send(2), send(3)] == [0, 0, 0]
    assert read(three.bootstrap, name, 4) == list("0123")


def test_a_new_leader_waits_for_what_was_under_way_to_the_old_one(three, name):
    make_topic(three, name)
    send = idempotent(three, name)
    assert send(0) == 0
    killed = three.leader(name)
    killed.kill()
    wait_until(lambda: leads(three, name) not in (-1, killed.number), 10, "another one leads")
    assert send(2) == NOT_ENOUGH_REPLICAS, "1 has to come first"
    assert [send(1), send(2)] == [0, 0]
    assert read(three.bootstrap, name, 3) == list("012")


def idempotent(cluster, topic):
    """Sends one record with a sequence number to whoever leads, and gives the code of the answer."""
    connection = Connection(cluster.leader(topic).address)
    given = connection.call("InitProducerId", 2, transactional_id=None, transaction_timeout_ms=1000)
    connection.close()
    assert given["error_code"] == 0, given
    now = int(time.time() * 1000)

    def send(sequence):
        one = record(0, value=str(sequence).encode())
        by = dict(producer_id=given["producer_id"], epoch=0, sequence=sequence)
        return produce(cluster.leader(topic), topic, batch(one, base_time=now, max_time=now, **by))["error_code"]

    return send


def keep(cluster, topic, copies):
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    change = ConfigEntry("min.insync.replicas", str(copies), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([resource])[resource].result(20)
