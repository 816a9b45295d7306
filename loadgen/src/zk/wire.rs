//! How is a job said in jute? Each request goes straight into the connection's output, without a detour
//! over the heap.

use super::work::{Job, Paths};
use crate::args::Auth;
use crate::payload::{Origin, Payload};
use zoolog_zk::jute::codes::{ANY_VERSION, perms};
use zoolog_zk::jute::{ConnectRequest, OpCode, Writer, xid};
use zoolog_zk::txn::{Acl, AuthId};

/// Writes requests; holds what they have in common.
#[derive(Debug)]
pub struct Encoder {
    acl: Vec<Acl>,
}

impl Encoder {
    /// Nodes are open to everybody.
    pub fn new() -> Self {
        let id = AuthId { scheme: "world".to_owned(), id: "anyone".to_owned() };
        Self { acl: vec![Acl { perms: perms::ALL, id }] }
    }

    /// The request for `job` of the session `writer`.
    pub fn job(
        &self,
        job: Job,
        writer: u32,
        xid: i32,
        paths: &mut Paths,
        payload: &mut Payload,
        out: &mut Vec<u8>,
    ) {
        let mut w = Writer::frame(out);
        w.int(xid).int(opcode(job).code());
        let value = |key, counter| Origin { key, writer, counter };
        match job {
            Job::Parent(n) => self.create(&mut w, paths.parent(n), &[]),
            Job::Fill(key) => self.create(&mut w, paths.key(key), payload.make(value(key, 0))),
            Job::Create(counter) => {
                self.create(&mut w, paths.created(writer, counter), payload.make(value(0, counter)));
            }
            Job::Refill(key) => set(&mut w, paths.key(key), payload.make(value(key, 0))),
            Job::Set { key, counter } => set(&mut w, paths.key(key), payload.make(value(key, counter))),
            Job::Get(key) | Job::Exists(key) => {
                w.string(paths.key(key)).boolean(false);
            }
            Job::Sync => {
                w.string(paths.root());
            }
            Job::Arm => {
                w.string(paths.key(0)).boolean(true);
            }
            Job::Delete(counter) => {
                w.string(paths.created(writer, counter)).int(ANY_VERSION);
            }
            Job::Leave | Job::Close => {}
        }
        w.finish();
    }

    fn create(&self, w: &mut Writer<'_>, path: &str, data: &[u8]) {
        w.string(path).buffer(Some(data)).acls(&self.acl).int(0);
    }
}

fn set(w: &mut Writer<'_>, path: &str, data: &[u8]) {
    w.string(path).buffer(Some(data)).int(ANY_VERSION);
}

const fn opcode(job: Job) -> OpCode {
    match job {
        Job::Parent(_) | Job::Fill(_) | Job::Create(_) => OpCode::Create,
        Job::Refill(_) | Job::Set { .. } => OpCode::SetData,
        Job::Get(_) | Job::Arm => OpCode::GetData,
        Job::Delete(_) => OpCode::Delete,
        Job::Exists(_) => OpCode::Exists,
        Job::Sync => OpCode::Sync,
        Job::Leave | Job::Close => OpCode::CloseSession,
    }
}

/// A sign of life.
pub fn ping(out: &mut Vec<u8>) {
    let mut w = Writer::frame(out);
    w.int(xid::PING).int(OpCode::Ping.code());
    w.finish();
}

/// Shows credentials.
pub fn auth(auth: &Auth, out: &mut Vec<u8>) {
    let mut w = Writer::frame(out);
    w.int(xid::AUTH).int(OpCode::Auth.code());
    w.int(0).string(&auth.scheme).buffer(Some(auth.credentials.as_bytes()));
    w.finish();
}

/// The first frame of a connection: a new session if `session` is 0.
pub fn connect(session: i64, password: &[u8; 16], timeout_ms: u32, last_zxid_seen: i64, out: &mut Vec<u8>) {
    let timeout_ms = i32::try_from(timeout_ms).expect("bounded by the command line");
    let read_only = Some(false);
    ConnectRequest { protocol_version: 0, last_zxid_seen, timeout_ms, session, password, read_only }
        .encode(out);
}
