//! How is a node? Asked over its own port, with a deadline.

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use zoolog_core::wire::{self, Hello, Message, Role, Status};
use zoolog_core::{ClusterId, Incarnation};

const TIMEOUT: Duration = Duration::from_millis(1000);

/// Asks the orderer or slot at `addr`.
///
/// # Errors
/// With the address in the text.
pub fn ask(addr: &str) -> Result<Value, String> {
    let wrong = |what: String| format!("{addr}: {what}");
    let at = addr.to_socket_addrs().map_err(|e| wrong(e.to_string()))?.next();
    let at = at.ok_or_else(|| wrong("no address".into()))?;
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT).map_err(|e| wrong(e.to_string()))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|e| wrong(e.to_string()))?;
    let hello =
        Hello { role: Role::Client, cluster: ClusterId(0), node: 0, slot: 0, incarnation: Incarnation(0) };
    let mut question = wire::encode(hello).to_vec();
    question.extend_from_slice(&wire::encode(Status { request: 1 }));
    stream.write_all(&question).map_err(|e| wrong(e.to_string()))?;
    let mut got = BytesMut::new();
    loop {
        while let Some(len) = wire::frame_length(&got, 1 << 20).map_err(|e| wrong(e.to_string()))? {
            if got.len() < len {
                break;
            }
            let frame: Bytes = got.split_to(len).freeze();
            if let Message::StatusIs(is) = wire::decode(frame).map_err(|e| wrong(e.to_string()))?.message {
                return serde_json::from_str(&is.json).map_err(|e| wrong(e.to_string()));
            }
        }
        let mut chunk = [0u8; 4096];
        match stream.read(&mut chunk).map_err(|e| wrong(e.to_string()))? {
            0 => return Err(wrong("it closed the connection".into())),
            n => got.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Asks a ZooKeeper node a four-letter word.
///
/// # Errors
/// With the address in the text.
pub fn four_letters(addr: &str, word: &str) -> Result<String, String> {
    let wrong = |e: std::io::Error| format!("{addr}: {e}");
    let at = addr.to_socket_addrs().map_err(wrong)?.next().ok_or_else(|| format!("{addr}: no address"))?;
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT).map_err(wrong)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(wrong)?;
    stream.write_all(word.as_bytes()).map_err(wrong)?;
    let mut text = String::new();
    stream.take(1 << 20).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}
