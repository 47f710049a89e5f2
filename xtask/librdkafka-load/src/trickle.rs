//! A steady trickle of records, with default settings: how long a producer waits for partition 0 when its leader goes.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Message};

/// Sends to each of so many partitions. Prints, for each record of partition 0 that was acknowledged, microseconds since
/// 1970; to the end of the process.
///
/// # Errors
/// The producer cannot be made.
pub fn run(address: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let producer: BaseProducer<Tell> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .create_with_context(Tell)?;
    loop {
        // A full queue empties when acknowledgements come: polling below is what waits.
        for partition in 0..partitions {
            let record = BaseRecord::<(), str>::to(topic).partition(partition);
            let _ = producer.send(record.payload("a drop"));
        }
        producer.poll(PAUSE);
        std::thread::sleep(PAUSE);
    }
}

struct Tell;

impl ClientContext for Tell {}

impl ProducerContext for Tell {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.as_ref().is_ok_and(|message| message.partition() == 0) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let mut output = std::io::stdout().lock();
            let told = writeln!(output, "{}", now.map_or(0, |since| since.as_micros()))
                .and_then(|()| output.flush());
            if told.is_err() {
                // Whoever started this has gone.
                std::process::exit(0);
            }
        }
    }
}

const PAUSE: Duration = Duration::from_millis(2);
