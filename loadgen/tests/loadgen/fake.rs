//! A ZooKeeper of a hundred lines, in a thread: one tree of nodes with data and watches, and ways to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use zoolog_zk::jute::{
    ConnectRequest, ConnectResponse, ErrorCode, EventType, Reader, Request, RequestHeader, frame_length,
    responses, xid,
};
use zoolog_zk::txn::Stat;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing.
    Right,
    /// Speaks HTTP.
    Http,
    /// Takes connections, and says nothing.
    Silent,
    /// Gives no sessions.
    Refuses,
    /// Answers everything but the handshake with this error.
    Denies(ErrorCode),
    /// Closes everything and stops listening after so many answers.
    DiesAfter(u64),
    /// Says nothing any more after so many answers.
    FreezesAfter(u64),
    /// Says that each node has the version 7, whatever happens.
    Forgets,
}

#[derive(Default)]
struct Tree {
    zxid: i64,
    nodes: BTreeMap<String, (Vec<u8>, Stat)>,
    watches: BTreeMap<String, BTreeSet<u64>>,
    conns: BTreeMap<u64, TcpStream>,
}

/// The server.
pub struct Fake {
    /// `ip:port`.
    pub at: String,
    /// Sessions that were given.
    pub sessions: Arc<AtomicU64>,
    /// Requests by their numbers.
    pub requests: Arc<Mutex<BTreeMap<i32, u64>>>,
}

#[derive(Clone)]
struct Shared {
    manner: Manner,
    tree: Arc<Mutex<Tree>>,
    answers: Arc<AtomicU64>,
    dead: Arc<AtomicBool>,
    sessions: Arc<AtomicU64>,
    requests: Arc<Mutex<BTreeMap<i32, u64>>>,
}

impl Fake {
    /// Starts it.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("it is bound").to_string();
        let shared = Shared {
            manner,
            tree: Arc::default(),
            answers: Arc::default(),
            dead: Arc::default(),
            sessions: Arc::default(),
            requests: Arc::default(),
        };
        let fake = Self { at, sessions: shared.sessions.clone(), requests: shared.requests.clone() };
        std::thread::spawn(move || {
            for (id, stream) in (1..).zip(listener.incoming()) {
                if shared.dead.load(SeqCst) {
                    return; // and with the listener the port is gone
                }
                let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
                std::thread::spawn(move || shared.serve(id, stream));
            }
        });
        fake
    }

    /// How many requests of this number came.
    pub fn count(&self, op: i32) -> u64 {
        self.requests.lock().unwrap().get(&op).copied().unwrap_or(0)
    }
}

impl Shared {
    fn serve(&self, id: u64, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        self.tree.lock().unwrap().conns.insert(id, stream.try_clone().unwrap());
        let (mut input, mut chunk, mut greeted) = (Vec::new(), [0; 65536], false);
        while let Ok(n @ 1..) = stream.read(&mut chunk) {
            input.extend_from_slice(&chunk[..n]);
            if self.manner == Manner::Http {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
                break;
            }
            while let Ok(Some(length)) = frame_length(&input, 1 << 20) {
                if input.len() < length {
                    break;
                }
                let frame: Vec<u8> = input.drain(..length).collect();
                let mut out = Vec::new();
                let mut tree = self.tree.lock().unwrap();
                let close = if greeted {
                    self.answer(&mut tree, id, &frame[4..], &mut out)
                } else {
                    greeted = true;
                    self.greet(&frame[4..], &mut out)
                };
                let n = self.answers.fetch_add(1, SeqCst) + 1;
                match self.manner {
                    Manner::Silent => continue,
                    Manner::FreezesAfter(most) if n > most => continue,
                    Manner::DiesAfter(most) if n > most => {
                        self.die(&tree);
                        return;
                    }
                    _ => {}
                }
                let _ = stream.write_all(&out);
                if close {
                    drop(tree);
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn die(&self, tree: &Tree) {
        self.dead.store(true, SeqCst);
        let at = tree.conns.values().find_map(|c| c.local_addr().ok());
        tree.conns.values().for_each(|c| drop(c.shutdown(Shutdown::Both)));
        drop(at.map(TcpStream::connect)); // wakes the listener, which ends
    }

    fn greet(&self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let asked = ConnectRequest::decode(payload).expect("a connect request");
        if self.manner == Manner::Refuses {
            ConnectResponse::refusal(Some(false)).encode(out);
            return true;
        }
        let new = 100 + self.sessions.fetch_add(1, SeqCst) as i64;
        let session = if asked.session == 0 { new } else { asked.session };
        ConnectResponse { timeout_ms: asked.timeout_ms, session, password: [7; 16], read_only: Some(false) }
            .encode(out);
        false
    }

    /// True if the connection is to be closed.
    fn answer(&self, tree: &mut Tree, id: u64, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let mut r = Reader::new(payload);
        let header = RequestHeader::decode(&mut r).expect("a header");
        *self.requests.lock().unwrap().entry(header.op).or_default() += 1;
        if header.xid == xid::AUTH {
            responses::empty(out, xid::AUTH, 0);
            return false;
        }
        if let Manner::Denies(error) = self.manner {
            responses::error(out, header.xid, tree.zxid, error);
            return true;
        }
        let request = Request::decode(header.op, r.rest()).expect("a request");
        let writes =
            matches!(request, Request::Create { .. } | Request::SetData { .. } | Request::Delete { .. });
        tree.zxid += i64::from(writes);
        let zxid = tree.zxid;
        let error = |out: &mut Vec<u8>, e| responses::error(out, header.xid, zxid, e);
        match request {
            Request::Create { path, data, .. } => {
                if tree.nodes.contains_key(&*path) {
                    error(out, ErrorCode::NodeExists);
                    return false;
                }
                let data = data.unwrap_or_default().to_vec();
                let stat = Stat { mzxid: zxid, data_length: data.len() as i32, ..Stat::default() };
                tree.nodes.insert(path.to_string(), (data, stat));
                responses::path(out, header.xid, zxid, &path);
            }
            Request::SetData { path, data, .. } => {
                for watcher in tree.watches.remove(&*path).unwrap_or_default() {
                    let mut event = Vec::new();
                    responses::event(&mut event, zxid, EventType::NodeDataChanged, &path);
                    let _ = tree.conns.get_mut(&watcher).map(|c| c.write_all(&event));
                }
                let Some((held, stat)) = tree.nodes.get_mut(&*path) else {
                    error(out, ErrorCode::NoNode);
                    return false;
                };
                *held = data.unwrap_or_default().to_vec();
                stat.version = if self.manner == Manner::Forgets { 7 } else { stat.version + 1 };
                (stat.mzxid, stat.data_length) = (zxid, held.len() as i32);
                responses::stat(out, header.xid, zxid, stat);
            }
            Request::GetData { path, watch } => {
                if watch {
                    tree.watches.entry(path.to_string()).or_default().insert(id);
                }
                match tree.nodes.get(&*path) {
                    Some((data, stat)) => responses::data(out, header.xid, zxid, Some(data), stat),
                    None => error(out, ErrorCode::NoNode),
                }
            }
            Request::Exists { path, .. } => match tree.nodes.get(&*path) {
                Some((_, stat)) => responses::stat(out, header.xid, zxid, stat),
                None => error(out, ErrorCode::NoNode),
            },
            Request::Delete { path, .. } => match tree.nodes.remove(&*path) {
                Some(_) => responses::empty(out, header.xid, zxid),
                None => error(out, ErrorCode::NoNode),
            },
            Request::Sync { path } => responses::path(out, header.xid, zxid, &path),
            Request::CloseSession => {
                responses::empty(out, header.xid, zxid);
                return true;
            }
            _ => responses::empty(out, header.xid, zxid),
        }
        false
    }
}
