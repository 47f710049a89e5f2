"""What the tests say to a broker, request by request."""

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from wire import Connection


def make_topic(broker, name, partitions=1, **config):
    """A topic whose partitions are led already."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    config = {key.replace("_", "."): str(value) for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(20)
    if "millstream.view.source" not in config:
        fill(broker, name, 1, 1)


def fill(broker, name, count, size):
    """Adds records of `size` zeros."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "queue.buffering.max.kbytes": 1 << 20})
    for _ in range(count):
        producer.produce(name, bytes(size))
    assert producer.flush(60) == 0


def produce(broker, topic, records, partition=0, acks=-1):
    """The answer for the one partition."""
    connection = broker if isinstance(broker, Connection) else Connection(broker.address)
    data = [dict(name=topic, partition_data=[dict(index=partition, records=records)])]
    answer = connection.call("Produce", 9, transactional_id=None, acks=acks, timeout_ms=10_000, topic_data=data)
    if connection is not broker:
        connection.close()
    return answer["responses"][0]["partition_responses"][0]


def end(broker, topic):
    """The offset of the next record."""
    connection = Connection(broker.address)
    at = [dict(partition_index=0, timestamp=-1, current_leader_epoch=-1)]
    answer = connection.call("ListOffsets", 5, replica_id=-1, isolation_level=0, topics=[dict(name=topic, partitions=at)])
    connection.close()
    return answer["topics"][0]["partitions"][0]["offset"]
