//! The program as a process: what it makes of its arguments, how it ends when it is told to, and its exit
//! codes. Needs no cluster: the API server it is given does not exist.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use baton::testing::folder::Folder;

/// Longest wait for anything here.
const DEADLINE: Duration = Duration::from_secs(30);
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {}}]}"#;

/// A running operator; killed when dropped.
struct Operator {
    child: Child,
    log: BufReader<ChildStderr>,
    health: String,
    _folder: Folder,
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Operator {
    /// Starts it with probes on a loopback address of its own (`number` tells those of one process apart).
    fn start(number: u8, format: &str) -> Self {
        let folder = Folder::new().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, KUBECONFIG).unwrap();
        let pid = std::process::id();
        let health = format!("127.{}.{}.{number}:8080", 1 + (pid >> 8) % 250, pid % 256);
        let mut child = Command::new(env!("CARGO_BIN_EXE_baton"))
            .args(["operator", "--health-address", &health, "--metrics-address", &health, "--log-format", format])
            .env("KUBECONFIG", kubeconfig)
            .env("BATON_ADMIN_ADDRESS", health.replace(":8080", ":8082"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut operator = Self { child, log, health, _folder: folder };
        let started = Instant::now();
        while operator.connect().is_none() {
            assert!(started.elapsed() < DEADLINE, "listens on {}: {:?}", operator.health, operator.child.try_wait());
            sleep(Duration::from_millis(20));
        }
        operator
    }

    fn connect(&self) -> Option<TcpStream> {
        TcpStream::connect(&self.health).ok()
    }

    /// A request from begin to end.
    fn ask(&self) {
        let mut stream = self.connect().unwrap();
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
    }

    fn terminate(&self) {
        baton::testing::process::run("kill", &["-TERM", &self.child.id().to_string()]).unwrap();
    }

    /// The next line of the log with `text`.
    fn line(&mut self, text: &str) -> String {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            if line.contains(text) {
                return line;
            }
            line.clear();
        }
        panic!("the log ended without {text:?}");
    }

    fn end(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "it ends");
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn one_signal_ends_it_in_order() {
    let mut operator = Operator::start(1, "json");
    operator.terminate();
    let line = operator.line("stopping");
    assert!(line.starts_with('{'), "{line}");
    assert_eq!(operator.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut operator = Operator::start(2, "text");
    // An orderly end waits some seconds for a request that has begun.
    let mut begun = operator.connect().unwrap();
    begun.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    // Later requests are answered, so this one was read.
    (0..5).for_each(|_| operator.ask());
    operator.terminate();
    let line = operator.line("stopping");
    assert!(!line.starts_with('{'), "{line}");
    operator.terminate();
    assert_eq!(operator.end().code(), Some(143));
}

#[test]
fn wrong_settings_are_refused_with_the_right_ones() {
    for (option, value, hint) in [
        ("--log-format", "loud", "auto, json, text"),
        ("--lease-tier", "slow", "Fast, Standard, Relaxed"),
        ("--log-level", "loud=very=much", "is not a log level"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_baton")).args(["operator", option, value]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(hint), "{option} {value}: {said}");
    }
}
