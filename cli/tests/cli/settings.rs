//! Settings of the broker: where they come from, which wins, and how a wrong one is told.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Broker, broker_command};

fn broker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("broker").args(arguments).stdin(Stdio::null());
    command
}

/// The value of a setting as `--show-settings` has it.
#[track_caller]
fn shown(command: &mut Command, name: &str) -> String {
    let output = command.arg("--show-settings").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("\"{name}\" = ")));
    let (_, value) = line.unwrap().split_once(" = ").unwrap();
    value.trim_matches('"').to_owned()
}

/// The one line of an error.
#[track_caller]
fn refused(output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(
        !stderr.contains('\x1b'),
        "no colours where no terminal is: {stderr}"
    );
    errors[0].to_owned()
}

fn refused_by(arguments: &[&str]) -> String {
    refused(broker(arguments).output().unwrap())
}

#[test]
fn the_later_of_file_environment_and_command_line_wins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broker.toml");
    std::fs::write(
        &file,
        "num.partitions = 2\n\"log.retention.hours\" = 2\n[log]\nsegment.bytes = 2097152\n[millstream]\nview.cache.bytes = 2\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let command = || {
        let mut command = broker(&["--config", file]);
        command.env("MILLSTREAM_LOG_RETENTION_HOURS", "3");
        command.env("MILLSTREAM_VIEW_CACHE_BYTES", "3");
        command.args(["--set", "millstream.view.cache.bytes=4"]);
        command
    };
    assert_eq!(shown(&mut command(), "message.max.bytes"), "1048588", "a default");
    assert_eq!(shown(&mut command(), "num.partitions"), "2", "from the file");
    assert_eq!(shown(&mut command(), "log.segment.bytes"), "2097152");
    assert_eq!(
        shown(&mut command(), "log.retention.hours"),
        "3",
        "from the environment"
    );
    assert_eq!(
        shown(&mut command(), "millstream.view.cache.bytes"),
        "4",
        "from the command line"
    );
    assert_eq!(
        shown(
            broker(&[]).env("MILLSTREAM_KAFKA_LISTEN", "127.0.0.1:7"),
            "millstream.kafka.listen"
        ),
        "127.0.0.1:7"
    );
    let by_variable = |name: &str, value: &str, setting: &str| {
        let mut command = broker(&[]);
        shown(command.env(name, value), setting)
    };
    assert_eq!(by_variable("MILLSTREAM_CONFIG", file, "num.partitions"), "2");
    assert_eq!(
        by_variable("MILLSTREAM_DATA_DIR", "/data", "millstream.data.dir"),
        "/data"
    );
    let mut flag = broker(&["--data-dir", "/flag"]);
    flag.env("MILLSTREAM_DATA_DIR", "/data");
    assert_eq!(shown(&mut flag, "millstream.data.dir"), "/flag");
    let mut last = broker(&["--set", "num.partitions=5", "--set", "num.partitions=6"]);
    assert_eq!(shown(&mut last, "num.partitions"), "6", "the last of the same");
}

#[test]
fn every_flag_has_a_variable() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = broker(&["--show-settings"]);
    command
        .env("MILLSTREAM_DATA_DIR", directory.path())
        .env("MILLSTREAM_KAFKA", "127.0.0.1:1")
        .env("MILLSTREAM_HTTP", "127.0.0.1:2")
        .env("MILLSTREAM_ADVERTISED", "broker.example:3");
    let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
    for value in ["127.0.0.1:1", "127.0.0.1:2", "broker.example:3"] {
        assert!(shown.contains(&format!("= \"{value}\"")), "{value} in {shown}");
    }
}

#[test]
fn a_setting_that_is_unknown_or_wrong_is_named() {
    for (setting, told) in [
        ("num.partition=3", "did you mean 'num.partitions'?"),
        (
            "log.segment.size.bytes=1",
            "unknown setting 'log.segment.size.bytes'",
        ),
        ("num.partitions=many", "'num.partitions': 'many' is not a number"),
        ("num.partitions=0", "'num.partitions': '0' is not within 1 and"),
        ("num.partitions=99999999999", "'num.partitions'"),
        (
            "log.segment.bytes=5",
            "'log.segment.bytes': '5' is not within 1048576",
        ),
        (
            "auto.create.topics.enable=yes",
            "'auto.create.topics.enable': 'yes' is neither true nor false",
        ),
        ("compression.type=rar", "rar"),
        ("log.message.timestamp.type=Never", "Never"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = broker_command(directory.path());
        let said = refused(command.args(["--set", setting]).output().unwrap());
        assert!(said.contains(told), "{setting}: {said}");
    }
    let mut command = broker(&[]);
    command.env("MILLSTREAM_NUM_PARTITIONS", "none");
    let said = refused(command.output().unwrap());
    assert!(said.contains("'num.partitions': 'none'"), "{said}");
}

#[test]
fn a_configuration_file_that_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let path = directory.path().join("broker.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let said = refused_by(&["--config", "/no/such/file.toml"]);
    assert!(said.contains("/no/such/file.toml"), "{said}");
    let said = refused_by(&["--config", &write("num.partitions: 3")]);
    assert!(said.contains("broker.toml"), "{said}");
    let said = refused_by(&["--config", &write("[log]\nsegment.byte = 3")]);
    assert!(said.contains("did you mean 'log.segment.bytes'?"), "{said}");
    let said = refused_by(&["--config", &write("num.partitions = [1, 2]")]);
    assert!(said.contains("num.partitions"), "{said}");
}

#[test]
fn addresses_in_use_and_wrong_ones_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    for flag in ["--kafka", "--http"] {
        let mut command = broker_command(directory.path());
        // Of the same flag twice clap takes none: the setting stands for it.
        let setting = flag.trim_start_matches('-');
        let said = refused(
            command
                .args(["--set", &format!("millstream.{setting}.listen={taken}")])
                .output()
                .unwrap(),
        );
        assert!(said.contains(&taken) && said.contains("in use"), "{flag}: {said}");
    }
    for (setting, value) in [
        ("millstream.kafka.listen", "nonsense"),
        ("millstream.http.listen", "127.0.0.1:99999"),
        ("millstream.advertised", "no-port"),
    ] {
        let mut command = broker_command(directory.path());
        let said = refused(
            command
                .args(["--set", &format!("{setting}={value}")])
                .output()
                .unwrap(),
        );
        assert!(said.contains(value), "{setting}: {said}");
    }
    // Nothing of that has spoilt the directory.
    Broker::start_in(directory);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let start = |path: &Path| {
        refused(
            broker(&[
                "--kafka",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--data-dir",
                path.to_str().unwrap(),
            ])
            .output()
            .unwrap(),
        )
    };
    let said = start(&file);
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    // Nobody may write there, not even root.
    let said = start(Path::new("/proc/millstream"));
    assert!(said.contains("/proc/millstream"), "{said}");
    let closed = directory.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    // Root writes everywhere.
    if std::fs::write(closed.join("x"), "x").is_err() {
        let said = start(&closed.join("data"));
        assert!(said.contains("closed"), "{said}");
    }
}

#[test]
fn a_directory_in_use_is_named() {
    let first = Broker::start();
    let path = first.directory.path().join("data");
    let said = refused(broker_command(first.directory.path()).output().unwrap());
    assert!(
        said.contains("in use by another broker") && said.contains(path.to_str().unwrap()),
        "{said}"
    );
    assert_eq!(first.http("GET", "/readyz", "localhost").0, 200);
}
