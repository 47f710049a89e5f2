"""Groups and transactional ids that begin with `__transform.` are the brokers' own: clients may look at them only."""

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import wait_until

THEIRS = "__transform.enrich"

pytestmark = pytest.mark.usefixtures("only_ours")


@pytest.fixture
def only_ours(request):
    if request.config.getoption("--target") != "millstream":
        pytest.skip("Kafka has no transforms")


@pytest.fixture
def topic(broker, name):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
    return name


def refused(call, code):
    with pytest.raises(KafkaException) as caught:
        call()
    assert caught.value.args[0].code() == code, caught.value


def test_a_producer_does_not_take_their_transactional_id(broker):
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": THEIRS})
    refused(lambda: producer.init_transactions(20), KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_consumer_does_not_join_their_group(broker, topic, protocol):
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": THEIRS, "group.protocol": protocol})
    consumer.subscribe([topic])
    records = wait_until(lambda: consumer.consume(1, 1), what="the consumer hears of it")
    consumer.close()
    # A consumer of the new protocol gives up.
    expected = {"classic": KafkaError.GROUP_AUTHORIZATION_FAILED, "consumer": KafkaError._FATAL}[protocol]
    error = records[0].error()
    assert error.code() == expected and "authorization" in error.str(), error


def test_a_consumer_reads_their_offsets_and_does_not_move_them(broker, topic):
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": THEIRS, "enable.auto.commit": False})
    (found,) = consumer.committed([TopicPartition(topic, 0)], 20)
    assert found.error is None and found.offset < 0
    commit = lambda: consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)  # noqa: E731
    refused(commit, KafkaError.GROUP_AUTHORIZATION_FAILED)
    consumer.close()


def test_their_offsets_are_committed_in_no_transaction_of_clients(broker, topic, name):
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": name})
    theirs = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": THEIRS})
    producer.init_transactions(20)
    producer.begin_transaction()
    send = lambda: producer.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], theirs.consumer_group_metadata(), 20)  # noqa: E731
    refused(send, KafkaError.GROUP_AUTHORIZATION_FAILED)
    producer.abort_transaction(20)


def test_their_group_is_deleted_by_nobody(broker):
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    deleted = admin.delete_consumer_groups([THEIRS])
    refused(lambda: deleted[THEIRS].result(20), KafkaError.GROUP_AUTHORIZATION_FAILED)
