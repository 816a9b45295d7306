//! A client of ZooKeeper's protocol over a real socket, for tests of the binary.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use zoolog_zk::jute::{
    ConnectRequest, ConnectResponse, EventType, Reader, ReplyHeader, Request, WatcherEvent, xid,
};
use zoolog_zk::txn::{Acl, AuthId};

pub fn dial(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What comes over a connection that has its session.
#[derive(Debug, PartialEq)]
pub enum Got {
    Reply(i32, i32, Vec<u8>),
    Event(EventType, String),
}

pub struct Client {
    pub stream: TcpStream,
    pub session: ConnectResponse,
    xid: i32,
    pub newest_zxid: i64,
}

impl Client {
    pub fn open(addr: &str, resume: Option<&ConnectResponse>) -> Self {
        Self::over(dial(addr), resume)
    }

    /// The same over a socket that is connected.
    pub fn over(mut stream: TcpStream, resume: Option<&ConnectResponse>) -> Self {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 30_000,
            session: resume.map_or(0, |r| r.session),
            password: resume.map_or(&[0; 16], |r| &r.password),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
        let session = ConnectResponse::decode(&frame(&mut stream)).unwrap();
        assert!(!session.is_refusal());
        Self { stream, session, xid: 0, newest_zxid: 0 }
    }

    pub fn send(&mut self, request: &Request<'_>) -> i32 {
        self.xid += 1;
        let mut bytes = Vec::new();
        request.encode(self.xid, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
        self.xid
    }

    pub fn next(&mut self) -> Got {
        let frame = frame(&mut self.stream);
        let (header, mut r) = ReplyHeader::decode(&frame).unwrap();
        assert!(header.zxid >= self.newest_zxid, "header zxids never decrease");
        self.newest_zxid = header.zxid;
        if header.xid == xid::EVENT {
            let event = WatcherEvent::decode(&mut r).unwrap();
            return Got::Event(event.kind, event.path.into_owned());
        }
        Got::Reply(header.xid, header.err, r.rest().to_vec())
    }

    /// The record of the next reply, which must be this one's and no error.
    pub fn reply(&mut self, to: i32) -> Vec<u8> {
        match self.next() {
            Got::Reply(xid, 0, record) if xid == to => record,
            other => panic!("{other:?} instead of the reply to {to}"),
        }
    }

    pub fn call(&mut self, request: &Request<'_>) -> Vec<u8> {
        let xid = self.send(request);
        self.reply(xid)
    }
}

pub fn frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame
}

pub fn data(record: &[u8]) -> Vec<u8> {
    Reader::new(record).buffer().unwrap().unwrap().to_vec()
}

pub fn create(path: &str, flags: i32) -> Request<'_> {
    let acl = vec![Acl { perms: 31, id: AuthId { scheme: "world".into(), id: "anyone".into() } }];
    Request::Create { path: path.into(), data: Some(b"old"), acl, flags, with_stat: false }
}

pub fn get(path: &str, watch: bool) -> Request<'_> {
    Request::GetData { path: path.into(), watch }
}

/// What a four-letter word says.
pub fn word(addr: &str, word: &str) -> String {
    let mut stream = dial(addr);
    stream.write_all(word.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
