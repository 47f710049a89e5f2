"""aiokafka, as it comes."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_come_back_as_they_were_sent(broker, name, codec, idempotent):
    async def story():
        config = {"bootstrap_servers": broker.bootstrap}
        admin = AIOKafkaAdminClient(**config)
        await admin.start()
        await admin.create_topics([NewTopic(name, 3, 1)])
        values = [b"value %d" % i * (i % 20 + 1) for i in range(500)]
        async with AIOKafkaProducer(**config, compression_type=codec, enable_idempotence=idempotent) as producer:
            sent = [await producer.send(name, value, key=b"%d" % (i % 5)) for i, value in enumerate(values)]
            await asyncio.gather(*sent)
        consumer = AIOKafkaConsumer(name, **config, group_id=name, auto_offset_reset="earliest")
        async with consumer:
            records = [await asyncio.wait_for(consumer.getone(), 20) for _ in values]
            await consumer.commit()
            assert sorted(r.value for r in records) == sorted(values)
            committed = [await consumer.committed(TopicPartition(name, p)) or 0 for p in range(3)]
            assert sum(committed) == len(values)
        await admin.delete_topics([name])
        await admin.close()

    asyncio.run(story())


def test_two_members_share(broker, name):
    async def story():
        config = {"bootstrap_servers": broker.bootstrap}
        async with AIOKafkaProducer(**config) as producer:
            await producer.send_and_wait(name, b"x")
        admin = AIOKafkaAdminClient(**config)
        await admin.start()
        await admin.create_topics([NewTopic(name + "-4", 4, 1)])
        first = AIOKafkaConsumer(name + "-4", **config, group_id=name)
        second = AIOKafkaConsumer(name + "-4", **config, group_id=name)
        await first.start()
        await second.start()
        for _ in range(300):
            if len(first.assignment()) == len(second.assignment()) == 2:
                break
            await asyncio.sleep(0.1)
        assert (len(first.assignment()), len(second.assignment())) == (2, 2)
        await second.stop()
        for _ in range(300):
            if len(first.assignment()) == 4:
                break
            await asyncio.sleep(0.1)
        assert len(first.assignment()) == 4
        await first.stop()
        await admin.close()

    asyncio.run(story())
