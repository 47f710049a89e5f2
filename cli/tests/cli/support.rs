//! A broker in a process of its own, on free ports and an empty directory, and the command line to talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A running broker. It is killed when it goes out of scope.
pub struct Broker {
    process: Child,
    pub directory: TempDir,
    pub kafka: String,
    pub http: String,
}

impl Broker {
    /// Starts one and waits until it is ready.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// Starts one on what an earlier one has left.
    pub fn start_in(directory: TempDir) -> Self {
        let mut process = broker_command(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the broker said: {line:?}"));
        let address = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            process,
            directory,
            kafka: address("kafka"),
            http: address("http"),
        }
    }

    /// Asks the broker to end, and waits for it.
    pub fn stop(mut self) -> (TempDir, ExitStatus) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the broker does not end");
            std::thread::yield_now();
        };
        (
            std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap()),
            status,
        )
    }

    /// Runs a command that must succeed; gives its output.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// Runs a command on some input.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} failed: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command and reads its output as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Runs a command that must fail; gives its one line.
    #[track_caller]
    pub fn fail(&self, arguments: &[&str]) -> String {
        self.fail_with(arguments, "")
    }

    /// Runs a command on some input, which must fail; gives its one line.
    #[track_caller]
    pub fn fail_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} said: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "more than a line: {stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        stderr.trim_end().to_owned()
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(arguments)
            .env("MILLSTREAM_BOOTSTRAP", &self.kafka)
            .env("MILLSTREAM_ADMIN", format!("http://{}", self.http))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing closes its end, which is no failure.
        let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
        process.wait_with_output().unwrap()
    }

    /// One HTTP request with a Host header of one's choice; gives status and body.
    pub fn http(&self, method: &str, path: &str, host: &str) -> (u16, String) {
        self.http_raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
    }

    /// One HTTP request, as it goes over the wire; gives status and body.
    pub fn http_raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        // The broker may answer and close before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let status = answer
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A broker on free ports, not started yet.
pub fn broker_command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args([
        "broker",
        "--kafka",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--ready-json",
        "--data-dir",
    ]);
    command.arg(directory.join("data"));
    command
        .args(["--set", "group.initial.rebalance.delay.ms=0"])
        .stdin(Stdio::null());
    command
}
