//! What transforms cannot be, and what is said then.

use super::scene::ids;
use super::transforms::*;
use super::*;

/// A deployment from `in` to `out` with this changed.
fn with(change: impl FnOnce(&mut TransformSpec)) -> Command {
    let mut command = deploy("t", 1, &["in"], &["out"]);
    if let Command::DeployTransform { spec, .. } = &mut command {
        change(spec);
    }
    command
}

fn sink(sink: &str, topic: &str) -> TransformSink {
    TransformSink {
        name: sink.to_owned(),
        topic: name(topic),
    }
}

fn view(view: &str, n: u128, source: &str) -> Command {
    create(view, n, 0, &[("millstream.view.source", source)])
}

/// As [`ready`], with the topics `a` to `d`, the offsets' topic, and a view `v` of `in`.
fn crowded() -> Image {
    let mut image = ready();
    for (topic, n) in [("a", 11), ("b", 12), ("c", 13), ("d", 14), (CONSUMER_OFFSETS, 15)] {
        let mut command = create(topic, n, 0, &[]);
        if let Command::CreateTopic { partitions, .. } = &mut command {
            *partitions = vec![ids(&[1])];
        }
        applied(&mut image, &command);
    }
    applied(&mut image, &view("v", 16, "in"));
    image
}

#[track_caller]
fn each_refused(cases: Vec<(Command, &str)>) {
    let mut image = crowded();
    for (command, expected) in cases {
        refused(&mut image, &command, expected);
    }
}

#[test]
fn of_names() {
    let mut image = ready();
    let allowed = "is not 1 to 100 of a-z, A-Z, 0-9, '.', '_', '-', with no '.' first: choose another one";
    for wrong in ["", "a b", ".a", &"x".repeat(101)] {
        let shown: String = wrong.chars().take(100).collect();
        let expected = format!("transform name '{shown}' {allowed}");
        refused(&mut image, &with(|spec| spec.name = wrong.to_owned()), &expected);
    }
    applied(&mut image, &deploy("t", 1, &["in"], &["out"]));
    refused(
        &mut image,
        &deploy("t", 2, &["in"], &["out"]),
        "transform 't' exists already: upgrade it, or choose another name",
    );
    refused(
        &mut image,
        &deploy("u", 1, &["in"], &["out"]),
        "the id of transform 'u' is in use already: deploy it with another one",
    );
    let unknown = "there is no transform 'u': deploy it first";
    refused(&mut image, &delete("u"), unknown);
    refused(&mut image, &change("u", TransformChange::Pause), unknown);
}

#[test]
fn of_one_too_many() {
    let mut image = ready();
    for n in 0..1000 {
        applied(&mut image, &deploy(&format!("t{n}"), n, &["in"], &["out"]));
    }
    refused(
        &mut image,
        &deploy("t", 1000, &["in"], &["out"]),
        "there are 1000 transforms already: delete one of them first",
    );
}

#[test]
fn of_sources() {
    each_refused(vec![
        (
            with(|spec| spec.sources.clear()),
            "transform 't' has no source: name at least one topic that it reads",
        ),
        (
            with(|spec| spec.sources = vec![name("in"); 65]),
            "65 sources are too many: name at most 64",
        ),
        (
            with(|spec| spec.sources.push(name("none"))),
            "there is no topic or view 'none' to read: create it first",
        ),
        (
            with(|spec| spec.sources.push(name(CONSUMER_OFFSETS))),
            "topic '__consumer_offsets' is the brokers' own and cannot be a source: name another one",
        ),
        (
            with(|spec| spec.sources.push(name("in"))),
            "source 'in' is named twice: name it once",
        ),
    ]);
}

#[test]
fn of_sinks() {
    each_refused(vec![
        (
            with(|spec| spec.sinks.clear()),
            "transform 't' has no sink: name at least one topic that it writes",
        ),
        (
            with(|spec| spec.sinks = vec![sink("out", "out"); 65]),
            "65 sinks are too many: name at most 64",
        ),
        (
            with(|spec| spec.sinks.push(sink("x", "none"))),
            "there is no topic 'none' to write to: create it first",
        ),
        (
            with(|spec| spec.sinks.push(sink("x", CONSUMER_OFFSETS))),
            "topic '__consumer_offsets' is the brokers' own and cannot be a sink: name another one",
        ),
        (
            with(|spec| spec.sinks.push(sink("x", "v"))),
            "sink 'v' is a view: name a topic to write to",
        ),
        (
            with(|spec| spec.sinks.push(sink("x", "out"))),
            "sink 'out' is named twice: name it once",
        ),
        (
            with(|spec| spec.sinks.push(sink("out", "a"))),
            "two sinks are called 'out': give each its own name",
        ),
        (
            with(|spec| spec.sinks.push(sink("a b", "a"))),
            "a sink cannot be called 'a b': choose a name as topics have them",
        ),
        (
            with(|spec| spec.sinks.push(sink("x", "in"))),
            "topic 'in' is source and sink: write to another topic",
        ),
    ]);
}

#[test]
fn of_dead_letters() {
    let to = |topic: &str| with(|spec| spec.on_error = OnError::DeadLetter(name(topic)));
    each_refused(vec![
        (
            to("none"),
            "there is no dead-letter topic 'none': create it first",
        ),
        (
            to(CONSUMER_OFFSETS),
            "topic '__consumer_offsets' is the brokers' own and cannot take dead letters: name another one",
        ),
        (
            to("v"),
            "dead-letter topic 'v' is a view: name a topic to write to",
        ),
        (
            to("in"),
            "dead-letter topic 'in' is a source, so that dead letters would come back: name another topic",
        ),
    ]);
    applied(&mut crowded(), &to("a"));
}

#[test]
fn of_numbers() {
    for workers in [0, 1025] {
        let expected = format!("{workers} workers cannot be: choose 1 to 1024");
        each_refused(vec![(with(|spec| spec.workers = workers), &expected)]);
    }
    for ms in [0, 60_001] {
        let expected = format!("a commit every {ms} ms cannot be: choose 1 to 60000 ms");
        each_refused(vec![(with(|spec| spec.commit_interval_ms = ms), &expected)]);
    }
    for bytes in [1023, (64 << 20) + 1] {
        let expected = format!("a commit every {bytes} bytes cannot be: choose 1024 to 67108864 bytes");
        each_refused(vec![(with(|spec| spec.commit_bytes = bytes), &expected)]);
    }
    let mut long = deploy("t", 1, &["in"], &["out"]);
    if let Command::DeployTransform { config, .. } = &mut long {
        *config = "x".repeat((64 << 10) + 1);
    }
    let expected = "a configuration of 65537 bytes is too long: keep it to 65536 bytes";
    each_refused(vec![(long, expected)]);
    let mut image = ready();
    applied(
        &mut image,
        &with(|spec| (spec.workers, spec.commit_interval_ms, spec.commit_bytes) = (1024, 60_000, 64 << 20)),
    );
    refused(
        &mut image,
        &change("t", TransformChange::Scale { workers: 0 }),
        "0 workers cannot be: choose 1 to 1024",
    );
}

#[test]
fn of_plugins() {
    let mut image = ready();
    let mut command = deploy("t", 1, &["in"], &["out"]);
    let runs = |command: &mut Command, reference: &str| {
        if let Command::DeployTransform { plugin, .. } = command {
            *plugin = PluginRef::parse(reference).unwrap();
        }
    };
    runs(&mut command, "q");
    refused(&mut image, &command, "there is no plugin 'q@latest'");
    applied(&mut image, &push("q", "cc", World::Partitioner));
    let expected = "plugin 'q@0.1.0' is a partitioner: deploy one that is a filter or a transform";
    refused(&mut image, &command, expected);
    applied(&mut image, &push("keep", "dd", World::Filter));
    runs(&mut command, "keep");
    applied(&mut image, &command);
    refused(&mut image, &change("t", upgrade("q", None, None)), expected);
    refused(
        &mut image,
        &change("t", upgrade("p@9.0.0", None, None)),
        "there is no plugin 'p@9.0.0'",
    );
}

#[test]
fn of_trials() {
    let mut image = crowded();
    applied(&mut image, &deploy("t", 1, &["in"], &["out"]));
    for percent in [0, 100] {
        let expected = format!(
            "a canary cannot run on {percent} percent of the partitions: choose 1 to 99, or upgrade without one"
        );
        refused(
            &mut image,
            &change("t", upgrade("p@0.1.0", None, Some(percent))),
            &expected,
        );
    }
    let mut many_errors = upgrade("p@0.1.0", None, Some(5));
    if let TransformChange::Upgrade {
        trial: Some(trial), ..
    } = &mut many_errors
    {
        trial.errors_permille_max = 1001;
    }
    let expected = "1001 errors among 1000 records cannot be: choose 0 to 1000";
    refused(&mut image, &change("t", many_errors), expected);
    refused(
        &mut image,
        &change("t", roll_back(None)),
        "transform 't' has nothing to roll back to: upgrade it instead",
    );
    applied(&mut image, &change("t", upgrade("p@0.1.0", None, Some(5))));
    for again in [upgrade("p", Some("[]"), None), upgrade("p@0.2.0", None, None)] {
        refused(
            &mut image,
            &change("t", again),
            "canary p@0.1.0 of transform 't' is under way: promote it or roll it back first",
        );
    }
    applied(&mut image, &deploy("one", 2, &["a"], &["b"]));
    refused(
        &mut image,
        &change("one", upgrade("p@0.1.0", None, Some(50))),
        "transform 'one' reads one partition, so that a canary would leave nothing to what runs now: upgrade without one",
    );
    applied(&mut image, &change("one", upgrade("p@0.1.0", None, None)));
    applied(&mut image, &change("one", roll_back(None)));
    refused(
        &mut image,
        &change("one", roll_back(None)),
        "transform 'one' has nothing to roll back to: upgrade it instead",
    );
}

fn goes_round(path: &str) -> String {
    format!("records would go round without end: {path}; write to another topic")
}

#[test]
fn of_cycles_through_transforms() {
    let mut image = crowded();
    applied(&mut image, &deploy("t1", 1, &["a"], &["b"]));
    refused(
        &mut image,
        &deploy("t2", 2, &["b"], &["a"]),
        &goes_round("a -> t1 -> b -> t2 -> a"),
    );
    applied(&mut image, &deploy("t2", 2, &["b"], &["c"]));
    refused(
        &mut image,
        &deploy("t3", 3, &["d", "c"], &["out", "a"]),
        &goes_round("a -> t1 -> b -> t2 -> c -> t3 -> a"),
    );
    applied(&mut image, &deploy("t3", 3, &["c", "a"], &["d", "out"]));
    let mut dead = deploy("t4", 4, &["d"], &["out"]);
    if let Command::DeployTransform { spec, .. } = &mut dead {
        spec.on_error = OnError::DeadLetter(name("c"));
    }
    refused(&mut image, &dead, &goes_round("c -> t3 -> d -> t4 -> c"));
}

#[test]
fn of_cycles_through_dead_letters_of_ingest_plugins() {
    let mut image = crowded();
    applied(&mut image, &push("f", "ff", World::Filter));
    let letters = |to: &str| format!(r#"[{{"plugin":"f","on-error":"dead-letter:{to}"}}]"#);
    let attach = |topic: &str, to: &str| set(topic, &[("millstream.ingest", letters(to).as_str())]);
    applied(&mut image, &attach("b", "a"));
    refused(
        &mut image,
        &deploy("t", 1, &["a"], &["b"]),
        &goes_round("b -> f -> a -> t -> b"),
    );
    // The plugins of `c` do not see the dead letters of `b`, so those end there.
    applied(&mut image, &attach("b", "c"));
    applied(&mut image, &attach("c", "a"));
    applied(&mut image, &deploy("t", 1, &["a"], &["b"]));
    refused(
        &mut image,
        &attach("b", "a"),
        &goes_round("a -> t -> b -> f -> a"),
    );
    applied(&mut image, &attach("b", "d"));
    refused(
        &mut image,
        &deploy("u", 2, &["d"], &["c"]),
        &goes_round("c -> f -> a -> t -> b -> f -> d -> u -> c"),
    );
}

#[test]
fn of_cycles_through_views() {
    let mut image = crowded();
    applied(&mut image, &view("w", 17, "v"));
    refused(
        &mut image,
        &deploy("t", 1, &["w"], &["in"]),
        &goes_round("in -> v -> w -> t -> in"),
    );
    applied(&mut image, &view("x", 18, "a"));
    applied(&mut image, &deploy("t1", 1, &["x"], &["b"]));
    applied(&mut image, &deploy("t2", 2, &["b"], &["c"]));
    refused(
        &mut image,
        &set("x", &[("millstream.view.source", "c")]),
        &goes_round("x -> t1 -> b -> t2 -> c -> x"),
    );
    applied(&mut image, &set("x", &[("millstream.view.source", "d")]));
}
