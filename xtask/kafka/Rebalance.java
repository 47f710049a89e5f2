import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Members that join a group at the same moment, with the settings that Java's consumer has by default. Prints for each round the
 * milliseconds until each of them has its share of the partitions; a group is a new one in each round.
 *
 * Arguments: bootstrap servers, topic, its partitions, "consumer" (KIP-848) or "classic", members, rounds.
 */
public class Rebalance {
    private static final long PATIENCE_MS = 120_000;

    public static void main(String[] args) throws Exception {
        int partitions = Integer.parseInt(args[2]);
        int members = Integer.parseInt(args[4]);
        for (int round = 0; round < Integer.parseInt(args[5]); round++) {
            String group = args[1] + "-" + args[3] + "-" + round + "-" + System.nanoTime();
            System.out.println(join(args[0], args[1], args[3], group, members, partitions));
        }
    }

    private static double join(String bootstrap, String topic, String protocol, String group, int members, int partitions)
        throws Exception {
        AtomicIntegerArray owned = new AtomicIntegerArray(members);
        AtomicBoolean done = new AtomicBoolean();
        CountDownLatch ready = new CountDownLatch(members);
        CountDownLatch go = new CountDownLatch(1);
        ExecutorService threads = Executors.newFixedThreadPool(members);
        List<Future<Set<TopicPartition>>> futures = new ArrayList<>();
        for (int index = 0; index < members; index++) {
            int member = index;
            futures.add(threads.submit(() -> {
                try (KafkaConsumer<byte[], byte[]> consumer = consumer(bootstrap, protocol, group)) {
                    // It knows the brokers and the topic before it joins.
                    consumer.partitionsFor(topic);
                    ready.countDown();
                    go.await();
                    consumer.subscribe(List.of(topic));
                    while (!done.get()) {
                        consumer.poll(Duration.ofMillis(10));
                        owned.set(member, consumer.assignment().size());
                    }
                    return Set.copyOf(consumer.assignment());
                }
            }));
        }
        ready.await();
        long start = System.nanoTime();
        go.countDown();
        try {
            await(owned, partitions / members, start);
        } finally {
            done.set(true);
        }
        double took = (System.nanoTime() - start) / 1e6;
        Set<TopicPartition> all = new HashSet<>();
        for (Future<Set<TopicPartition>> future : futures) {
            all.addAll(future.get());
        }
        threads.shutdown();
        if (all.size() != partitions) {
            throw new IllegalStateException("of " + partitions + " partitions " + all.size() + " have a member");
        }
        return took;
    }

    /** Waits until every member has so many partitions. */
    private static void await(AtomicIntegerArray owned, int each, long start) throws InterruptedException {
        for (int complete = 0; complete < owned.length(); ) {
            complete = 0;
            for (int member = 0; member < owned.length(); member++) {
                complete += owned.get(member) == each ? 1 : 0;
            }
            if ((System.nanoTime() - start) / 1_000_000 > PATIENCE_MS) {
                throw new IllegalStateException("members have " + owned + " partitions after " + PATIENCE_MS + " ms");
            }
            Thread.sleep(1);
        }
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String protocol, String group) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", group);
        config.put("group.protocol", protocol);
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }
}
