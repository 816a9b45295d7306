//! Nodes, clients and time, driven as the shell would, but by hand.

use super::member::Member;
use super::memlog::{Hub, MemLog};
use crate::bootstrap::{Serve, ServeConfig};
use crate::jute::{
    ConnectRequest, ConnectResponse, EventType, Reader, ReplyHeader, Request, WatcherEvent, xid,
};
use crate::node::{Back, NodeCommand, NodeConfig, NodeEvent, framing};
use crate::snapshot::{Beware, Restored};
use crate::state::Outline;
use crate::txn::{Acl, AuthId};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::limits::OUT_BYTES_PAUSE;
use zoolog_core::wire::{OfferAt, SnapshotAt};
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output, WallMs, WriterId};

/// What a client got after its handshake.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    /// xid, zxid, err, record.
    Reply(i32, i64, i32, Vec<u8>),
    /// zxid, what, where.
    Event(i64, EventType, String),
}

impl Got {
    /// xid and error of a reply.
    pub fn reply(&self) -> (i32, i32) {
        match self {
            Got::Reply(xid, _, err, _) => (*xid, *err),
            other => panic!("{other:?} is no reply"),
        }
    }
    pub fn zxid(&self) -> i64 {
        match self {
            Got::Reply(_, zxid, ..) | Got::Event(zxid, ..) => *zxid,
        }
    }
    pub fn record(&self) -> &[u8] {
        match self {
            Got::Reply(_, _, 0, record) => record,
            other => panic!("{other:?} has no record"),
        }
    }
    /// The path in the record of a create.
    pub fn path(&self) -> String {
        Reader::new(self.record()).string().unwrap().into_owned()
    }
    /// The data in the record of a getData.
    pub fn data(&self) -> Vec<u8> {
        Reader::new(self.record()).buffer().unwrap().unwrap().to_vec()
    }
    pub fn event(&self) -> (EventType, &str) {
        match self {
            Got::Event(_, kind, path) => (*kind, path),
            other => panic!("{other:?} is no event"),
        }
    }
}

#[derive(Debug)]
struct Client {
    node: usize,
    conn: ConnId,
    raw: Vec<u8>,
    closed: bool,
    paused: bool,
    ended_at: Option<Instant>,
    wire: Option<Wire>,
}

/// What the shell keeps for a client that takes its answers when it likes.
#[derive(Debug, Default)]
struct Wire {
    kept: usize,
    kept_max: usize,
    told_high: bool,
}

#[derive(Debug)]
struct Host {
    /// `None` once killed.
    node: Option<Member>,
    ready: bool,
    notes: Vec<String>,
    failed: Option<String>,
    beware: Beware,
    outline: Option<Outline>,
    /// Pieces of snapshots that are not answered.
    saves: VecDeque<(Gsn, Bytes, bool)>,
    /// Whether it had its finished snapshots dropped.
    dropped: bool,
}

/// Who gives all others a snapshot, and how many bytes of it.
struct Giver {
    serve: Serve,
    at: SnapshotAt,
    file: Vec<u8>,
    given: u64,
}

/// Everything. Clients and nodes are named by number.
pub struct World {
    pub now: Instant,
    pub hub: Rc<RefCell<Hub>>,
    pub cfg: NodeConfig,
    /// What the clock says more each time a node has it read, and when what it sent is offered to the sockets.
    pub stage_takes: Duration,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    giver: Option<Giver>,
}

pub const MS: Duration = Duration::from_millis(1);

/// In the numbers of connections that nodes have dialled.
const DIALLED: u64 = 3 << 62;

pub fn open_acl() -> Vec<Acl> {
    vec![Acl { perms: 31, id: AuthId { scheme: "world".into(), id: "anyone".into() } }]
}

pub fn create(path: &str, flags: i32) -> Request<'static> {
    Request::Create {
        path: path.to_string().into(),
        data: Some(b"new"),
        acl: open_acl(),
        flags,
        with_stat: false,
    }
}
pub fn set(path: &str, data: &'static [u8]) -> Request<'static> {
    Request::SetData { path: path.to_string().into(), data: Some(data), version: -1 }
}
pub fn get(path: &str, watch: bool) -> Request<'static> {
    Request::GetData { path: path.to_string().into(), watch }
}
pub fn exists(path: &str, watch: bool) -> Request<'static> {
    Request::Exists { path: path.to_string().into(), watch }
}
pub fn children(path: &str, watch: bool) -> Request<'static> {
    Request::GetChildren { path: path.to_string().into(), watch, with_stat: false }
}
pub fn delete(path: &str) -> Request<'static> {
    Request::Delete { path: path.to_string().into(), version: -1 }
}
pub fn sync() -> Request<'static> {
    Request::Sync { path: "/".into() }
}

impl World {
    /// `nodes` nodes that serve.
    pub fn new(nodes: usize) -> Self {
        let cfg = NodeConfig { secret: [9; 32], tick_ms: 1000, ..NodeConfig::default() };
        let mut world = Self {
            now: Instant(1_000_000_000),
            hub: Rc::default(),
            cfg,
            stage_takes: Duration::ZERO,
            hosts: Vec::new(),
            clients: Vec::new(),
            giver: None,
        };
        for _ in 0..nodes {
            world.start(1000);
        }
        world
    }

    /// Starts another node, with a log window of so many batches.
    pub fn start(&mut self, window: usize) -> usize {
        self.start_from(window, Restored::default())
    }

    /// Starts another node from a snapshot.
    pub fn start_from(&mut self, window: usize, restored: Restored) -> usize {
        let mut log = MemLog::new(self.hub.clone(), self.hosts.len() as u128 + 1);
        log.window = window;
        let mut node = Member::restore(self.cfg.clone(), log, self.now, restored);
        node.handle(self.now, Input::WallClock(WallMs(1_700_000_000_000)));
        let (notes, saves) = (Vec::new(), VecDeque::new());
        self.hosts.push(Host {
            node: Some(node),
            ready: false,
            notes,
            failed: None,
            beware: Beware::default(),
            outline: None,
            saves,
            dropped: false,
        });
        self.run();
        self.hosts.len() - 1
    }

    pub fn node(&self, node: usize) -> &Member {
        self.hosts[node].node.as_ref().expect("the node lives")
    }
    pub fn back(&self, node: usize) -> &Back<MemLog> {
        self.node(node).back()
    }
    pub fn is_ready(&self, node: usize) -> bool {
        self.hosts[node].ready
    }
    /// The node's next timer.
    pub fn next_deadline(&self, node: usize) -> Option<(Instant, &'static str)> {
        self.node(node).next_deadline()
    }
    pub fn notes(&self, node: usize) -> &[String] {
        &self.hosts[node].notes
    }

    /// Why a node can't go on.
    pub fn failed(&self, node: usize) -> Option<&str> {
        self.hosts[node].failed.as_deref()
    }

    /// Somebody else, who is no node, appends a record.
    pub fn append(&mut self, record: &[u8]) -> Gsn {
        let gsn = self.hub.borrow().tail();
        let strangers = WriterId(1 << 64 | u128::from(gsn.0));
        let mut log = MemLog::new(self.hub.clone(), strangers.0);
        log.append(record).expect("there is room");
        while log.poll_output(self.now).is_some() {}
        self.run();
        gsn
    }

    /// With what its next life is to begin.
    pub fn beware(&self, node: usize) -> Beware {
        self.hosts[node].beware
    }

    /// Of the state with which it ended.
    pub fn outline(&self, node: usize) -> Option<Outline> {
        self.hosts[node].outline.clone()
    }

    /// Changes a bit of a node's memory.
    pub fn flip_a_bit(&mut self, node: usize, choice: u64) -> String {
        self.hosts[node].node.as_mut().expect("the node lives").flip_a_bit(choice)
    }

    /// The piece of a snapshot that a node wants saved, if it wants any.
    pub fn piece(&self, node: usize) -> Option<&(Gsn, Bytes, bool)> {
        assert!(self.hosts[node].saves.len() < 2, "one piece at a time");
        self.hosts[node].saves.front()
    }

    /// Answers that piece, and returns it.
    pub fn answer_piece(&mut self, node: usize, result: Result<(), String>) -> (Gsn, Bytes, bool) {
        let (gsn, bytes, last) = self.hosts[node].saves.pop_front().expect("a piece");
        let host = self.hosts[node].node.as_mut().expect("the node lives");
        host.handle(self.now, Input::SnapshotSaved { gsn, last, result });
        self.run();
        (gsn, bytes, last)
    }

    /// From now on somebody gives this snapshot to whoever asks the log for one.
    pub fn give(&mut self, gsn: Gsn, file: &[u8]) {
        let cluster = zoolog_core::ClusterId(0);
        let serve = Serve::new(ServeConfig { cluster, bytes_per_s: 0, fetchers_max: 2 });
        let at = SnapshotAt { gsn, bytes: file.len() as u64, crc: crc32c::crc32c(file) };
        self.giver = Some(Giver { serve, at, file: file.to_vec(), given: 0 });
        let offer = OfferAt { name: "giver".into(), addr: "giver:1".into(), gsn };
        self.hub.borrow_mut().offers = Some((gsn, vec![offer]));
    }

    /// Bytes that it gave.
    pub fn given(&self) -> u64 {
        self.giver.as_ref().map_or(0, |g| g.given)
    }

    /// Whether the node had its own snapshots dropped.
    pub fn has_dropped(&self, node: usize) -> bool {
        self.hosts[node].dropped
    }

    /// Its owner wants a node to begin anew.
    pub fn rebuild(&mut self, node: usize) {
        let why = "a test wants it";
        let host = self.hosts[node].node.as_mut().expect("the node lives");
        host.handle(self.now, Input::Command(NodeCommand::Rebuild { why }));
        self.run();
    }

    /// Saves whatever the node gives, with success. The file that came to its end last.
    pub fn save_all(&mut self, node: usize) -> Option<(Gsn, Vec<u8>)> {
        let (mut file, mut whole) = (Vec::new(), None);
        while self.piece(node).is_some() {
            let (gsn, bytes, last) = self.answer_piece(node, Ok(()));
            file.extend_from_slice(&bytes);
            if last {
                whole = Some((gsn, std::mem::take(&mut file)));
            }
        }
        whole
    }

    /// What the giver says goes to the node.
    fn let_give(&mut self, n: usize) {
        let now = self.now;
        let (Some(giver), Some(node)) = (&mut self.giver, &mut self.hosts[n].node) else { return };
        while let Some(output) = giver.serve.poll_output(now) {
            match output {
                Output::FindSnapshot { .. } => {
                    giver.serve.handle(now, Input::SnapshotFound { found: Some(giver.at) });
                }
                Output::ReadSnapshot { token, from, bytes, .. } => {
                    let piece = Bytes::copy_from_slice(&giver.file[from as usize..][..bytes as usize]);
                    giver.given += u64::from(bytes);
                    giver.serve.handle(now, Input::SnapshotRead { token, result: Ok(piece) });
                }
                Output::Send { conn, bytes } => {
                    node.handle(now, Input::Frame { conn: ConnId(conn.0 | DIALLED), bytes });
                }
                other => panic!("{other:?} of who gives"),
            }
        }
    }

    /// Stops a node without a word; its clients' connections end.
    pub fn kill(&mut self, node: usize) {
        self.hosts[node].node = None;
        self.clients.iter_mut().filter(|c| c.node == node).for_each(|c| c.closed = true);
    }

    /// Cuts a node off from the log, or lets it back.
    pub fn cut(&mut self, node: usize, off: bool) {
        let writer = WriterId(node as u128 + 1);
        let mut hub = self.hub.borrow_mut();
        hub.cut.retain(|w| *w != writer);
        if off {
            hub.cut.push(writer);
        }
    }

    /// Lets time pass, with every timer at its time.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        loop {
            let next = |h: &Host| h.node.as_ref().and_then(Machine::next_deadline).map(|d| d.0);
            let next = self.hosts.iter().filter_map(next).min().unwrap_or(end);
            self.now = next.clamp(self.now, end);
            for host in &mut self.hosts {
                if let Some(node) = &mut host.node {
                    node.handle(self.now, Input::Timer);
                    let due = node.next_deadline().filter(|d| d.0 <= self.now);
                    assert_eq!(due, None, "a timer must not be due right after it was handled");
                }
            }
            self.run();
            if self.now >= end {
                return;
            }
        }
    }

    /// Lets time pass while these clients ping often.
    pub fn advance_pinging(&mut self, time: Duration, clients: &[usize]) {
        let end = self.now + time;
        while self.now < end {
            for &c in clients.iter().filter(|c| !self.clients[**c].closed).collect::<Vec<_>>() {
                self.send(c, xid::PING, &Request::Ping);
            }
            self.advance((100 * MS).min(end.since(self.now)));
        }
    }

    /// Turns of all nodes until nothing happens any more.
    pub fn run(&mut self) {
        loop {
            let mut any = false;
            let tail = self.hub.borrow().tail();
            for n in 0..self.hosts.len() {
                let mut sends = false;
                while let Some(output) = self.hosts[n].node.as_mut().and_then(|x| x.poll_output(self.now)) {
                    any = true;
                    sends |= matches!(output, Output::Send { .. });
                    self.carry_out(n, output);
                }
                if let Some(node) = self.hosts[n].node.as_mut().filter(|_| sends) {
                    self.now = self.now + self.stage_takes;
                    node.sent(self.now);
                }
            }
            any |= self.tell_backlogs();
            // A node may say nothing and yet have had something committed for others.
            if !any && self.hub.borrow().tail() == tail {
                return;
            }
        }
    }

    fn carry_out(&mut self, n: usize, output: Output<NodeEvent>) {
        let now = self.now;
        let find = |clients: &mut Vec<Client>, conn: ConnId| {
            clients.iter().position(|c| c.conn == conn && c.node == n).expect("a client's connection")
        };
        match output {
            Output::Dial { conn, .. } => {
                let node = self.hosts[n].node.as_mut().expect("it has just spoken");
                match &mut self.giver {
                    Some(giver) => {
                        let (conn_there, peer) = (ConnId(conn.0 & !DIALLED), "a node".to_string());
                        giver.serve.handle(now, Input::Accepted { conn: conn_there, peer });
                        node.handle(now, Input::Connected { conn });
                    }
                    None => node.handle(now, Input::Closed { conn }),
                }
            }
            Output::Send { conn, bytes } if conn.is_dialled() => {
                let giver = self.giver.as_mut().expect("it was dialled");
                giver.serve.handle(now, Input::Frame { conn: ConnId(conn.0 & !DIALLED), bytes });
                self.let_give(n);
            }
            Output::Close { conn } if conn.is_dialled() => {
                let giver = self.giver.as_mut().expect("it was dialled");
                giver.serve.handle(now, Input::Closed { conn: ConnId(conn.0 & !DIALLED) });
                let node = self.hosts[n].node.as_mut().expect("it has just spoken");
                node.handle(now, Input::Closed { conn });
            }
            Output::DropSnapshots { finished } => self.hosts[n].dropped |= finished,
            Output::Send { conn, bytes } => {
                let c = find(&mut self.clients, conn);
                assert!(self.clients[c].ended_at.is_none(), "nothing is sent after the end");
                self.clients[c].raw.extend_from_slice(&bytes);
                if let Some(wire) = &mut self.clients[c].wire {
                    wire.kept += bytes.len();
                    wire.kept_max = wire.kept_max.max(wire.kept);
                }
            }
            Output::Close { conn } => {
                let c = find(&mut self.clients, conn);
                self.clients[c].closed = true;
                self.clients[c].ended_at.get_or_insert(now);
                let node = self.hosts[n].node.as_mut().expect("it has just spoken");
                node.handle(now, Input::Closed { conn });
            }
            Output::Pause { conn } => {
                let c = find(&mut self.clients, conn);
                assert!(!std::mem::replace(&mut self.clients[c].paused, true), "paused twice");
            }
            Output::Resume { conn } => {
                let c = find(&mut self.clients, conn);
                assert!(std::mem::replace(&mut self.clients[c].paused, false), "resumed twice");
            }
            Output::ReadClock => self.now = self.now + self.stage_takes,
            Output::Event(NodeEvent::Ready) => self.hosts[n].ready = true,
            Output::SaveSnapshot { gsn, bytes, last } => self.hosts[n].saves.push_back((gsn, bytes, last)),
            Output::SavePart { of, bytes, last, .. } => self.hosts[n].saves.push_back((of.gsn, bytes, last)),
            Output::Event(NodeEvent::Beware(beware)) => self.hosts[n].beware = beware,
            Output::Event(NodeEvent::Outline(outline)) => self.hosts[n].outline = Some(*outline),
            Output::Event(NodeEvent::Heals | NodeEvent::Plays { .. }) => {}
            Output::Event(NodeEvent::Failed(why)) => self.hosts[n].failed = Some(why),
            Output::Event(NodeEvent::Note(note)) => self.hosts[n].notes.push(note),
            other => panic!("{other:?} from a node on a log in memory"),
        }
    }

    /// A bare connection.
    pub fn dial(&mut self, node: usize) -> usize {
        self.dial_from("10.0.0.1", node)
    }

    fn dial_from(&mut self, address: &str, node: usize) -> usize {
        let conn = ConnId(self.clients.len() as u64 + 1);
        let (closed, paused, ended_at) = (false, false, None);
        self.clients.push(Client { node, conn, raw: Vec::new(), closed, paused, ended_at, wire: None });
        let peer = format!("{address}:{}", 1000 + conn.0);
        let host = self.hosts[node].node.as_mut().expect("the node lives");
        host.handle(self.now, Input::Accepted { conn, peer });
        self.run();
        self.clients.len() - 1
    }

    /// Sends bytes as the shell would cut them; the node takes no turn yet. Returns whether it took them all.
    pub fn put(&mut self, client: usize, bytes: &[u8], first: bool) -> bool {
        let (node, conn) = (self.clients[client].node, self.clients[client].conn);
        let Some(node) = self.hosts[node].node.as_mut() else { return false };
        let (mut rest, mut first) = (bytes, first);
        while let Ok(Some(len)) = framing(first, rest, self.cfg.max_frame_bytes) {
            if len > rest.len() {
                return false;
            }
            node.handle(self.now, Input::Frame { conn, bytes: Bytes::copy_from_slice(&rest[..len]) });
            rest = &rest[len..];
            first = false;
        }
        rest.is_empty()
    }

    /// Sends a request; the node takes no turn yet.
    pub fn put_request(&mut self, client: usize, xid: i32, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.encode(xid, &mut bytes);
        assert!(self.put(client, &bytes, false));
    }

    /// Sends a request, and lets everything happen.
    pub fn send(&mut self, client: usize, xid: i32, request: &Request<'_>) {
        self.put_request(client, xid, request);
        self.run();
    }

    /// The shell says whether much waits to leave to the client.
    pub fn backlog(&mut self, client: usize, high: bool) {
        let (node, conn) = (self.clients[client].node, self.clients[client].conn);
        let host = self.hosts[node].node.as_mut().expect("the node lives");
        host.handle(self.now, Input::Backlog { conn, high });
        self.run();
    }

    /// From now on the client takes its answers only by [`World::take`].
    pub fn keep(&mut self, client: usize) {
        self.clients[client].wire = Some(Wire::default());
    }

    /// The client takes so many bytes of its answers from the shell, and lets everything happen.
    pub fn take(&mut self, client: usize, bytes: usize) {
        let wire = self.clients[client].wire.as_mut().expect("its answers are kept");
        wire.kept -= bytes.min(wire.kept);
        self.run();
    }

    /// Bytes that the shell keeps for the client, and the most that it ever did.
    pub fn kept(&self, client: usize) -> (usize, usize) {
        let wire = self.clients[client].wire.as_ref().expect("its answers are kept");
        (wire.kept, wire.kept_max)
    }

    /// As the shell, after each turn. Returns whether it told anybody.
    fn tell_backlogs(&mut self) -> bool {
        let mut any = false;
        for client in self.clients.iter_mut().filter(|c| !c.closed) {
            let Some(wire) = &mut client.wire else { continue };
            let high = wire.kept > OUT_BYTES_PAUSE;
            if std::mem::replace(&mut wire.told_high, high) != high {
                let node = self.hosts[client.node].node.as_mut().expect("its client is not closed");
                node.handle(self.now, Input::Backlog { conn: client.conn, high });
                any = true;
            }
        }
        any
    }

    /// The client's side of the connection breaks.
    pub fn hang_up(&mut self, client: usize) {
        let (node, conn) = (self.clients[client].node, self.clients[client].conn);
        if !std::mem::replace(&mut self.clients[client].closed, true) {
            let node = self.hosts[node].node.as_mut().expect("the node lives");
            node.handle(self.now, Input::Closed { conn });
            self.run();
        }
    }

    /// Sends a connect request.
    pub fn ask(
        &mut self,
        node: usize,
        last_zxid_seen: i64,
        timeout_ms: i32,
        resume: Option<&ConnectResponse>,
    ) -> usize {
        let client = self.dial(node);
        self.ask_on(client, last_zxid_seen, timeout_ms, resume, false);
        client
    }

    /// Sends a connect request of a client that takes a read-only session, too.
    pub fn ask_read_only(
        &mut self,
        node: usize,
        last_zxid_seen: i64,
        resume: Option<&ConnectResponse>,
    ) -> usize {
        let client = self.dial(node);
        self.ask_on(client, last_zxid_seen, 4000, resume, true);
        client
    }

    /// Sends a connect request from another address.
    pub fn ask_from(&mut self, address: &str, node: usize, resume: Option<&ConnectResponse>) -> usize {
        let client = self.dial_from(address, node);
        self.ask_on(client, 0, 4000, resume, false);
        client
    }

    fn ask_on(
        &mut self,
        client: usize,
        last_zxid_seen: i64,
        timeout_ms: i32,
        resume: Option<&ConnectResponse>,
        read_only: bool,
    ) {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms,
            session: resume.map_or(0, |r| r.session),
            password: resume.as_ref().map_or(&[0; 16], |r| &r.password),
            read_only: Some(read_only),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        assert!(self.put(client, &bytes, true));
        self.run();
    }

    /// A client with a session of 4 seconds.
    pub fn connect(&mut self, node: usize) -> (usize, ConnectResponse) {
        let client = self.ask(node, 0, 4000, None);
        let answer = self.answer(client).expect("an answer");
        assert!(!answer.is_refusal());
        (client, answer)
    }

    /// The client's connect answer, taken out.
    pub fn answer(&mut self, client: usize) -> Option<ConnectResponse> {
        let frame = self.frame(client)?;
        Some(ConnectResponse::decode(&frame).expect("a connect answer"))
    }

    /// The next frame that the client got, without its length.
    pub fn raw_frame(&mut self, client: usize) -> Option<Vec<u8>> {
        self.frame(client)
    }

    fn frame(&mut self, client: usize) -> Option<Vec<u8>> {
        let raw = &mut self.clients[client].raw;
        let len = crate::jute::frame_length(raw, usize::MAX).expect("a frame")?;
        let frame: Vec<u8> = raw.drain(..len).skip(4).collect();
        assert_eq!(frame.len() + 4, len, "nodes send whole frames");
        Some(frame)
    }

    /// Everything the client got since it was last asked.
    pub fn got(&mut self, client: usize) -> Vec<Got> {
        let mut all = Vec::new();
        while let Some(frame) = self.frame(client) {
            let (header, mut r) = ReplyHeader::decode(&frame).expect("a header");
            all.push(if header.xid == xid::EVENT {
                let event = WatcherEvent::decode(&mut r).expect("an event");
                Got::Event(header.zxid, event.kind, event.path.into_owned())
            } else {
                Got::Reply(header.xid, header.zxid, header.err, r.rest().to_vec())
            });
        }
        all
    }

    /// Sends a request and returns the one thing that comes back.
    pub fn call(&mut self, client: usize, xid: i32, request: &Request<'_>) -> Got {
        self.send(client, xid, request);
        let mut got = self.got(client);
        assert_eq!(got.len(), 1, "{got:?}");
        got.remove(0)
    }

    /// The error of a request among whose replies pongs may come.
    pub fn call_through_pongs(&mut self, client: usize, request: &Request<'_>) -> i32 {
        self.send(client, 77, request);
        let got = self.got(client);
        got.iter().find(|g| g.reply().0 == 77).expect("a reply").reply().1
    }

    /// The text a four-letter word gets.
    pub fn word(&mut self, node: usize, word: &str) -> String {
        let client = self.dial(node);
        self.put(client, word.as_bytes(), true);
        self.run();
        assert!(self.is_closed(client));
        String::from_utf8(std::mem::take(&mut self.clients[client].raw)).expect("text")
    }

    pub fn is_closed(&self, client: usize) -> bool {
        self.clients[client].closed
    }
    pub fn is_paused(&self, client: usize) -> bool {
        self.clients[client].paused
    }
    /// When the node closed the connection.
    pub fn ended_at(&self, client: usize) -> Option<Instant> {
        self.clients[client].ended_at
    }

    /// Hash and position of a node.
    pub fn hash(&self, node: usize) -> (u64, u64) {
        let status = self.node(node).status();
        (status.applied.0, status.hash)
    }

    /// Asks a node for its status as its owner would.
    pub fn command_status(&mut self, n: usize) -> String {
        let node = self.hosts[n].node.as_mut().expect("the node lives");
        node.handle(self.now, Input::Command(NodeCommand::Status));
        match node.poll_output(self.now) {
            Some(Output::Event(NodeEvent::Status(status))) => status.to_string(),
            other => panic!("{other:?} instead of a status"),
        }
    }
}
