//! ZooKeeper nodes as processes of their own, and clients that write on whatever happens below.

use crate::common;
use crate::zk::{Client, create};
use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use zoolog_zk::jute::Request;

/// A running node, killed at the end.
pub struct Zk {
    pub child: Child,
    pub addr: String,
}

impl Zk {
    pub fn start(args: &[&str]) -> Self {
        let port = common::free_port();
        let mut child = common::zoolog(&["zk", "--port", &port.to_string()])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready: zk-"), "{line}");
        Self { child, addr: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Zk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn set(path: &str, version: i32) -> Request<'_> {
    Request::SetData { path: path.into(), data: None, version }
}

/// Writes on, each write only if all before it counted, and each once; until told to stop. Returns how often, and the session.
pub fn write_on(addr: &str, path: String, sets: &Arc<AtomicI32>, stop: &Arc<AtomicBool>) -> Client {
    let mut client = Client::open(addr, None);
    client.call(&create(&path, 0));
    while !stop.load(Ordering::SeqCst) {
        client.call(&set(&path, sets.load(Ordering::SeqCst)));
        sets.fetch_add(1, Ordering::SeqCst);
    }
    client
}
