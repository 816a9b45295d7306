//! A topology of real processes, for tests of the binary.

#![allow(dead_code, reason = "each test file uses its part of it")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use zoolog_core::wire::{self, Consumer, Hello, Role};
use zoolog_core::{ClusterId, Gsn, Incarnation};

/// The binary, with these arguments.
pub fn zoolog(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zoolog"));
    command.args(args).env("RUST_LOG", "warn").stdin(Stdio::null());
    command
}

/// Ports of this machine that nobody has, below the ephemeral range.
pub fn free_port() -> u16 {
    let start = 10_000 + (std::process::id() % 100) as u16 * 90;
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    loop {
        let port = start + NEXT.fetch_add(4, std::sync::atomic::Ordering::SeqCst);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running `dev`, ended with the test.
pub struct Dev {
    pub child: Child,
    pub zk: Vec<String>,
    pub orderers: Vec<String>,
    pub admin: String,
}

impl Dev {
    pub fn start(dir: &Path, more: &[&str]) -> Dev {
        Self::start_at(free_port(), dir, more)
    }

    /// The same, with the first ZooKeeper node at that port.
    pub fn start_at(port: u16, dir: &Path, more: &[&str]) -> Dev {
        let (port, admin) = (port.to_string(), free_port().to_string());
        let mut args =
            vec!["dev", "--data-dir", dir.to_str().unwrap(), "--port", &port, "--admin-port", &admin];
        args.extend(more);
        let mut child = zoolog(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let fields: Vec<(&str, &str)> = line
            .strip_prefix("ready: ")
            .expect(&line)
            .split_whitespace()
            .filter_map(|f| f.split_once('='))
            .collect();
        let value = |key| fields.iter().find(|f| f.0 == key).expect(&line).1;
        assert_eq!(value("orderers").split(',').count(), 3, "{line}");
        Dev {
            orderers: value("orderers").split(',').map(String::from).collect(),
            zk: value("zk").split(',').map(String::from).collect(),
            admin: value("admin").to_string(),
            child,
        }
    }

    /// What a command with `--json` says of it.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = zoolog(args).args(["--json", "--orderers", &self.orderers.join(",")]).output().unwrap();
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Without a ZooKeeper node, which waits for them, it is ready before its shards are formed.
    pub fn wait_for_shards(&self) {
        let formed = || !self.json(&["log", "view"])["shards"].as_array().unwrap().is_empty();
        assert!((0..1000).any(|_| formed()), "shards are formed");
    }

    /// Says as a consumer that nothing before `upto` is needed; returns when it is decided and every slot knows.
    pub fn release(&self, upto: u64) {
        for addr in &self.orderers {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (cluster, incarnation) = (ClusterId(0), Incarnation(0));
            let hello = Hello { role: Role::Client, cluster, node: 0, slot: 0, incarnation };
            stream.write_all(&wire::encode(hello)).unwrap();
            let consumer = Consumer { request: 1, name: "test".into(), upto: Gsn(upto) };
            stream.write_all(&wire::encode(consumer)).unwrap();
            // Who doesn't lead says so.
            stream.read_exact(&mut [0; 24]).unwrap();
        }
        let knows = |slot: &Value| slot["trim"].as_u64() == Some(upto);
        let all_know = || self.json(&["admin", "servers"])["slots"].as_array().unwrap().iter().all(knows);
        assert!((0..500).any(|_| all_know()), "the slots hear of it");
    }

    pub fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a clean end, not {status}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
