//! What one turn of computing may take, in memory and in time.

use std::sync::Arc;

use super::*;
use crate::plugins::worker::Worker;
use crate::workers::compute::{Halt, Output, Shape, Sink, run};

fn worker(world: &World, plugin: &str) -> Worker {
    let image = world.context().controller.image();
    let plugin = image.plugin(&PluginRef::parse(plugin).unwrap()).unwrap();
    let (limits, sinks) = (Default::default(), Arc::from(["a".to_owned()]));
    let plugins = &world.context().plugins;
    plugins.worker(plugin, "", &limits, &sinks).unwrap()
}

fn shape() -> Shape {
    let sink = Sink {
        topic: topic("a"),
        partitions: 1,
        batch_bytes_max: 1 << 20,
        is_compacted: false,
        timestamps_ms_max: None,
    };
    Shape {
        topic: topic("in"),
        partition: 0,
        sinks: Arc::from([sink]),
        declared: Arc::from(["a".to_owned()]),
        on_error: OnError::Skip,
        decompressed_max: 1 << 24,
    }
}

/// So many records of a hundred bytes.
fn input(records: usize, first: &str) -> Input {
    let value = format!("{first} {}", "x".repeat(98));
    let values = vec![value.as_str(); records];
    Input {
        batches: batch(&values),
        aborted: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_halved_because_too_much_comes_of_it_is_not_kept_whole_in_memory() {
    let world = world().await;
    world.push("amplifier", guests::amplifier()).await.unwrap();
    let (worker, shape, input) = (worker(&world, "amplifier"), shape(), input(900, "0"));
    let mut written = 0;
    let mut next = 0;
    loop {
        let mut output = Output::default();
        let (reached, halt) = run(&worker, &shape, &input, next, &mut output, &|| false);
        assert!(output.bytes < (8 + 16) << 20, "{} bytes", output.bytes);
        assert_eq!(output.tally.records_in, (reached - next) as u64);
        written += output.tally.records_out;
        next = reached;
        match halt {
            Some(Halt::Full) => {}
            halt => break assert_eq!(halt, None),
        }
    }
    assert_eq!((next, written), (900, 900));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn computing_is_interrupted_when_its_time_is_over_and_goes_on_where_it_was() {
    let world = world().await;
    for (first, expected) in [("0", 3000), ("t", 0)] {
        let (worker, shape) = (worker(&world, "router"), shape());
        let input = input(if first == "t" { 8 } else { 3000 }, first);
        let mut output = Output::default();
        let (mut next, mut turns) = (0, 0);
        loop {
            let (reached, halt) = run(&worker, &shape, &input, next, &mut output, &|| true);
            assert!(reached > next, "a turn gets something done");
            (next, turns) = (reached, turns + 1);
            match halt {
                Some(Halt::Over) => {}
                halt => break assert_eq!(halt, None),
            }
        }
        assert!(turns > 2, "{turns}");
        assert_eq!(output.tally.records_out, expected);
        assert_eq!(output.tally.records_in, next as u64);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_wait_together_have_less_in_memory_each() {
    use crate::workers::compute::Room;
    let world = world().await;
    world.push("amplifier", guests::amplifier()).await.unwrap();
    let (worker, shape, input) = (worker(&world, "amplifier"), shape(), input(30, "0"));
    let room = Room::with(300 << 20);
    // Others have so much that nobody may have more than its share.
    let mut late = Output::of(&room);
    let first = run(&worker, &shape, &input, 0, &mut late, &|| false);
    assert_eq!(first, (30, None), "everybody gets something done");
    let second = run(&worker, &shape, &input, 0, &mut late, &|| false);
    assert_eq!(second, (0, Some(Halt::Full)));
    drop(late);
    assert_eq!(room.taken(), 300 << 20, "it is given back");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_stays_while_one_of_its_partitions_needs_it() {
    let world = world().await;
    let (worker, shape, input) = (worker(&world, "router"), shape(), input(1, "0"));
    // Each start logs a line.
    let starts = || world.context().plugins.log("router").len();
    let before = starts();
    assert!(before > 0);
    for _ in 0..3 {
        let mut output = Output::default();
        assert_eq!(run(&worker, &shape, &input, 0, &mut output, &|| false), (1, None));
        // Another partition has nothing to do.
        worker.rest();
    }
    assert_eq!(starts(), before);
    world.end().await;
}
