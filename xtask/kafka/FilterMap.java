import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.KStream;

/**
 * What xtask/filter-map does, for Kafka Streams: flights that are late stay, and get another value; exactly once. A document is
 * read once for both, token by token to its end, and nothing is made of what is not needed. Keys and values stay bytes.
 *
 * Arguments: bootstrap servers, application id, source, sink, directory of its state.
 */
public class FilterMap {
    private static final int LATE_MINUTES = 49;
    private static final JsonFactory JSON = new JsonFactory();

    public static void main(String[] args) {
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        // More at a time than by default, so that no buffer holds it up.
        config.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        config.put(StreamsConfig.consumerPrefix("max.poll.records"), 10_000);
        config.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 4 << 20);
        config.put(StreamsConfig.producerPrefix("batch.size"), 128 << 10);
        config.put(StreamsConfig.producerPrefix("buffer.memory"), 64 << 20);

        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> flights = builder.stream(args[2]);
        flights.mapValues(FilterMap::late).filter((key, flight) -> flight != null).to(args[3]);

        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setStateListener((now, before) -> System.out.println(now));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
    }

    /** The new value of a flight that is late; null of one that is not. */
    private static byte[] late(byte[] flight) {
        String carrier = null;
        String destination = null;
        int number = 0;
        int delay = 0;
        try (JsonParser parser = JSON.createParser(flight)) {
            parser.nextToken();
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                JsonToken value = parser.nextToken();
                switch (name) {
                    case "flight" -> number = parser.getIntValue();
                    case "carrier" -> carrier = parser.getText();
                    case "destination" -> destination = parser.getText();
                    case "delay" -> delay = parser.getIntValue();
                    default -> {
                        if (value.isStructStart()) {
                            parser.skipChildren();
                        }
                    }
                }
            }
            return delay > LATE_MINUTES ? rewritten(carrier, number, destination, delay) : null;
        } catch (IOException malformed) {
            throw new UncheckedIOException(malformed);
        }
    }

    private static byte[] rewritten(String carrier, int number, String destination, int delay) throws IOException {
        ByteArrayBuilder bytes = new ByteArrayBuilder(128);
        try (JsonGenerator to = JSON.createGenerator(bytes)) {
            to.writeStartObject();
            to.writeStringField("carrier", carrier);
            to.writeNumberField("flight", number);
            to.writeStringField("to", destination);
            to.writeNumberField("late", delay);
            to.writeEndObject();
        }
        return bytes.toByteArray();
    }
}
