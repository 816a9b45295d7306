//! What does a ZooKeeper client ask for? The requests of its workload, and how their answers are read.

use super::jute::{Frame, Reader, op};
use super::zk_client::{Asked, REGISTERS, What, ZkClient};
use crate::observe::{Observation, ZkCall, ZkReply};
use zoolog_core::Instant;
use zoolog_core::policy::Reads;

impl ZkClient {
    fn ask(&mut self, now: Instant, mut call: ZkCall, watch: bool) {
        if self.policy.reads != Reads::Session
            && let ZkCall::Get { synced, .. } | ZkCall::Children { synced, .. } = &mut call
        {
            // It promises as much without a sync.
            synced.get_or_insert(now);
        }
        self.xid += 1;
        let xid = self.xid;
        let frame = match &call {
            ZkCall::Set { path, value, version } => {
                Frame::request(xid, op::SET).bytes(path.as_bytes()).bytes(value).int(*version)
            }
            ZkCall::Get { path, .. } => Frame::request(xid, op::GET).bytes(path.as_bytes()).bool(watch),
            ZkCall::Create { path, value, ephemeral, sequential } => {
                let flags = i32::from(*ephemeral) | i32::from(*sequential) << 1;
                let frame = Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(value);
                frame.open_acl().int(flags)
            }
            ZkCall::Delete { path } => Frame::request(xid, op::DELETE).bytes(path.as_bytes()).int(-1),
            ZkCall::Children { path, .. } => {
                Frame::request(xid, op::CHILDREN).bytes(path.as_bytes()).bool(false)
            }
            ZkCall::CloseSession => Frame::request(xid, op::CLOSE),
            ZkCall::Connect { .. } => return,
        };
        self.in_flight.push_back(Asked { xid, at: now, what: What::Call { call, watch } });
        if let Some(conn) = self.conn() {
            self.send(now, conn, frame.done());
        }
    }

    fn sync(&mut self, now: Instant) {
        self.xid += 1;
        self.in_flight.push_back(Asked { xid: self.xid, at: now, what: What::Sync });
        if let Some(conn) = self.conn() {
            self.send(now, conn, Frame::request(self.xid, op::SYNC).bytes(b"/").done());
        }
    }

    pub(super) fn value(&mut self) -> Vec<u8> {
        self.counter += 1;
        let mut value = format!("{}.{}.{}", self.cfg.client, self.cfg.life, self.counter).into_bytes();
        let padding = self.rng.below(60) as usize;
        value.resize(value.len() + padding, b'.');
        value
    }

    fn create(&mut self, now: Instant, path: String, ephemeral: bool, sequential: bool) {
        let value = if ephemeral || sequential { self.value() } else { Vec::new() };
        if sequential {
            self.observe(Observation::ZkEnqueue);
        }
        self.ask(now, ZkCall::Create { path, value, ephemeral, sequential }, false);
    }

    /// Makes the nodes that all clients work on, if nobody has yet.
    pub(super) fn prepare(&mut self, now: Instant) {
        self.prepared = true;
        let registers = (0..REGISTERS).map(|r| format!("/r{r}"));
        let paths: Vec<String> = registers.chain(["/q".into(), "/e".into()]).collect();
        for path in paths {
            self.create(now, path, false, false);
        }
        self.prepare_more(now);
    }

    pub(super) fn request(&mut self, now: Instant) {
        if self.rng.chance(25) {
            return self.request_more(now);
        }
        let register = format!("/r{}", self.rng.below(REGISTERS));
        match self.rng.below(100) {
            0..35 => {
                let value = self.value();
                self.ask(now, ZkCall::Set { path: register, value, version: -1 }, false);
            }
            35..40 => {
                let (value, version) = (self.value(), self.rng.below(20) as i32);
                self.ask(now, ZkCall::Set { path: register, value, version }, false);
            }
            40..65 => {
                let watch = self.rng.chance(30);
                self.ask(now, ZkCall::Get { path: register, synced: None }, watch);
            }
            65..72 => {
                self.sync(now);
                self.ask(now, ZkCall::Get { path: register, synced: Some(now) }, false);
            }
            72..80 => self.create(now, "/q/n-".into(), false, true),
            80..88 => {
                self.counter += 1;
                let path = format!("/e/{}.{}.{}", self.cfg.client, self.cfg.life, self.counter);
                self.create(now, path, true, false);
            }
            88..91 => {
                if let Some(path) = self.ephemerals.pop_first() {
                    self.ask(now, ZkCall::Delete { path }, false);
                }
            }
            91..94 => self.ask(now, ZkCall::Children { path: "/e".into(), synced: None }, false),
            94..97 => {
                self.sync(now);
                self.ask(now, ZkCall::Children { path: "/e".into(), synced: Some(now) }, false);
            }
            97 => self.ask(now, ZkCall::CloseSession, false),
            98.. if !self.cfg.restless => {}
            98 => {
                let factor = self.rng.below(3) as u32;
                self.silent_until = now + self.timeout * factor;
            }
            _ => {
                // Comes back on another connection while the old one may still be up.
                self.leave(now);
            }
        }
    }

    pub(super) fn finish(&mut self, now: Instant) {
        let before = self.in_flight.len();
        for register in 0..REGISTERS {
            let value = self.value();
            self.ask(now, ZkCall::Set { path: format!("/r{register}"), value, version: -1 }, false);
            self.sync(now);
            self.ask(now, ZkCall::Get { path: format!("/r{register}"), synced: Some(now) }, false);
        }
        self.sync(now);
        self.ask(now, ZkCall::Children { path: "/e".into(), synced: Some(now) }, false);
        self.ask(now, ZkCall::Children { path: "/q".into(), synced: Some(now) }, false);
        self.read_pair(now);
        self.look_for_kept(now);
        self.last_round = Some(self.in_flight.len());
        assert!(self.in_flight.len() > before, "the last round asks something");
    }
}

/// Reads the answer to `call`; `None` where it is malformed.
pub(super) fn parse(call: &ZkCall, zxid: i64, r: &mut Reader<'_>) -> Option<ZkReply> {
    let (mut stat, mut data, mut path, mut names) = (None, None, None, Vec::new());
    match call {
        ZkCall::Set { .. } => stat = Some(r.stat()?),
        ZkCall::Get { .. } => {
            data = Some(r.bytes()?);
            stat = Some(r.stat()?);
        }
        ZkCall::Create { .. } => path = Some(r.string()?),
        ZkCall::Children { .. } => names = r.strings()?,
        ZkCall::Delete { .. } | ZkCall::CloseSession | ZkCall::Connect { .. } => {}
    }
    Some(ZkReply::Ok { zxid, stat, data, path, names })
}
