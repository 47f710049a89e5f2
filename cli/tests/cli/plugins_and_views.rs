//! A plugin from an empty folder into a view, and what is refused on the way.

use crate::guests;
use crate::support::Broker;
use serde_json::json;

#[test]
fn a_plugin_goes_from_a_template_into_a_view() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().join("texts");
    let component = directory.path().join("texts.wasm");
    let records = directory.path().join("records.txt");
    let (project, component, file) = (
        project.to_str().unwrap(),
        component.to_str().unwrap(),
        records.to_str().unwrap(),
    );
    std::fs::write(&records, "yes 1\nno\nyes 2\n").unwrap();
    broker.run(&[
        "plugin", "new", "texts", "--lang", "rust", "--world", "filter", "--dir", project,
    ]);
    broker.run(&["plugin", "build", project, "--out", component]);
    let tested = broker.json(&["plugin", "test", component, "--input", file, "--config", "yes"]);
    assert_eq!(
        (&tested["records_in"], &tested["records_out"], &tested["dropped"]),
        (&json!(3), &json!(2), &json!(1))
    );

    let pushed = broker.json(&["plugin", "push", component, "--name", "texts"]);
    assert_eq!(
        (&pushed["world"], &pushed["version"]),
        (&json!("filter"), &json!("0.1.0"))
    );
    assert_eq!(
        broker.json(&["plugin", "push", component])["version"],
        "0.1.0",
        "the same bytes are the same version"
    );
    assert_eq!(broker.json(&["plugin", "list"])[0]["name"], "texts");

    broker.run(&["topic", "create", "all"]);
    broker.run_with(&["produce", "all", file], "");
    broker.run(&[
        "view",
        "create",
        "some",
        "--source",
        "all",
        "--plugin",
        "texts@latest",
        "--config",
        "yes",
    ]);
    assert_eq!(
        broker.run(&["consume", "some", "--exit-at-end", "-f", "{offset} {value}"]),
        "0 yes 1\n2 yes 2\n"
    );
    let views = broker.json(&["view", "list"]);
    assert_eq!(
        (&views[0]["view"], &views[0]["source"]),
        (&json!("some"), &json!("all"))
    );
    assert_eq!(
        broker.json(&["plugin", "describe", "texts"])["versions"][0]["users"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let refused = broker.fail(&["plugin", "delete", "texts"]);
    assert!(refused.contains("some"), "{refused}");
    assert!(broker.fail(&["topic", "delete", "all"]).contains("some"));
    assert!(broker.fail(&["view", "delete", "all"]).contains("not a view"));
    broker.run(&["view", "delete", "some"]);
    broker.run(&["plugin", "delete", "texts@0.1.0"]);
    assert_eq!(broker.json(&["plugin", "list"]), json!([]));
}

#[test]
fn a_deployed_transform_is_tested_sink_by_sink() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (project, component, file, out) =
        (path("words"), path("words.wasm"), path("in.txt"), path("out.tsv"));
    std::fs::write(&file, "to be\nor not\n \n").unwrap();
    let refused = broker.fail(&["plugin", "new", "words", "--deployed", "--dir", &project]);
    assert!(refused.contains("--world transform"), "{refused}");
    broker.run(&[
        "plugin",
        "new",
        "words",
        "--world",
        "transform",
        "--deployed",
        "--dir",
        &project,
    ]);
    broker.run(&["plugin", "build", &project, "--out", &component]);

    let test = ["plugin", "test", &component, "--input", &file];
    let deployed = [&test[..], &["--sink", "words", "--sink", "rest", "--out", &out]].concat();
    let shown = broker.run(&deployed);
    assert!(shown.contains("by sink          words 4, rest 1"), "{shown}");
    assert_eq!(
        std::fs::read_to_string(&out).unwrap(),
        "words\tto\nwords\tbe\nwords\tor\nwords\tnot\nrest\t \n"
    );
    let report = broker.json(&deployed);
    assert_eq!(report["by_sink"], json!({"words": 4, "rest": 1}));
    assert_eq!(
        (&report["records_in"], &report["records_out"]),
        (&json!(3), &json!(5))
    );

    // A sink that it names and that is not there is an error of the record.
    let shown = broker.run(&[&test[..], &["--sink", "words"]].concat());
    assert!(
        shown.contains("record 3: there is no sink \"rest\", only \"words\""),
        "{shown}"
    );
    let refused = broker.fail(&[&test[..], &["--sink", "words", "--sink", "words"]].concat());
    assert!(refused.contains("given twice"), "{refused}");
}

#[test]
fn only_a_deployed_transform_makes_several_records_of_one() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("in.txt");
    std::fs::write(&file, "a\nb\n").unwrap();
    let body = guests::ANSWERS_ITS_FIRST_TWICE;
    let twice = guests::write(directory.path(), "twice", &guests::TRANSFORM, body);
    let (file, twice) = (file.to_str().unwrap(), twice.to_str().unwrap());
    let refused = broker.fail(&["plugin", "test", twice, "--input", file]);
    assert!(refused.contains("several records of record 1"), "{refused}");
    let shown = broker.run(&["plugin", "test", twice, "--input", file, "--sink", "all"]);
    assert!(shown.contains("by sink          all 2"), "{shown}");
    let filter = guests::write(directory.path(), "filter", &guests::FILTER, guests::TRAPS);
    let filter = filter.to_str().unwrap();
    let refused = broker.fail(&["plugin", "test", filter, "--input", file, "--sink", "all"]);
    assert!(refused.contains("a filter has no sinks"), "{refused}");
}

#[test]
fn what_is_no_plugin_is_refused() {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = write("text.wasm", b"hello");
    let module = write("module.wasm", b"\0asm\x01\0\0\0");
    let cut = write("cut.wasm", b"\0asm\x0d\0\x01\0\x07\x7f");
    let empty = write("empty.wasm", b"\0asm\x0d\0\x01\0");
    assert!(
        broker
            .fail(&["plugin", "push", &text])
            .contains("no WebAssembly component")
    );
    assert!(broker.fail(&["plugin", "push", &module]).contains("core module"));
    broker.fail(&["plugin", "push", &cut]);
    broker.fail(&["plugin", "push", &empty]);
    broker.run(&["topic", "create", "t"]);
    let unknown = broker.fail(&["view", "create", "v", "--source", "t", "--plugin", "nothing"]);
    assert!(unknown.contains("nothing"), "{unknown}");
    assert!(
        broker
            .fail(&["view", "create", "v", "--source", "nowhere"])
            .contains("nowhere")
    );
    assert_eq!(broker.json(&["topic", "list"]).as_array().unwrap().len(), 1);
}
