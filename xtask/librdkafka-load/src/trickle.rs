//! A steady trickle of records to partition 0, with default settings: how long a producer waits when a leader goes.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};

/// Prints, for each record that was acknowledged, microseconds since 1970; to the end of the process.
///
/// # Errors
/// The producer cannot be made.
pub fn run(address: &str, topic: &str) -> anyhow::Result<()> {
    let producer: BaseProducer<Tell> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .create_with_context(Tell)?;
    loop {
        // A full queue empties when acknowledgements come: polling below is what waits.
        let _ = producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload("a drop"));
        producer.poll(PAUSE);
        std::thread::sleep(PAUSE);
    }
}

struct Tell;

impl ClientContext for Tell {}

impl ProducerContext for Tell {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
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
