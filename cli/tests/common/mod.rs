//! A topology of real processes, for tests of the binary.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
        let (port, admin) = (free_port().to_string(), free_port().to_string());
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
