//! Do the promises hold when everything goes wrong at once? Random clients on three nodes that are cut off,
//! killed and started, on a log that dawdles; some of them take read-only sessions where there are no others.

use super::world::*;
use crate::jute::{ConnectResponse, ErrorCode, Request, xid};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use zoolog_core::Instant;

#[derive(Clone, Debug)]
enum Step {
    /// Where, and whether a read-only session would be taken.
    Connect(usize, bool),
    Resume(usize, usize, bool),
    Write(usize, u8),
    Read(usize, u8),
    HangUp(usize),
    /// Milliseconds, with everyone who is in the mask pinging.
    Wait(u64, u8),
    Cut(usize, bool),
    Hold(bool),
    Commit(usize),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0usize..3;
    let client = 0usize..5;
    prop_oneof![
        3 => (node.clone(), any::<bool>()).prop_map(|(n, r)| Step::Connect(n, r)),
        4 => (client.clone(), node.clone(), any::<bool>()).prop_map(|(c, n, r)| Step::Resume(c, n, r)),
        8 => (client.clone(), any::<u8>()).prop_map(|(c, k)| Step::Write(c, k)),
        5 => (client.clone(), any::<u8>()).prop_map(|(c, k)| Step::Read(c, k)),
        1 => client.prop_map(Step::HangUp),
        12 => (50u64..3000, any::<u8>()).prop_map(|(ms, mask)| Step::Wait(ms, mask)),
        2 => (node.clone(), any::<bool>()).prop_map(|(n, off)| Step::Cut(n, off)),
        1 => any::<bool>().prop_map(Step::Hold),
        2 => (1usize..4).prop_map(Step::Commit),
        1 => node.prop_map(Step::Restart),
    ]
}

/// A client as its user sees it: one session, moved from connection to connection.
struct User {
    conn: usize,
    session: Option<ConnectResponse>,
    /// Its connection is not answered yet.
    waits: bool,
    /// Its session only reads: at that zxid, once it has read.
    reads_at: Option<Option<i64>>,
    last_zxid: i64,
    xid: i32,
}

struct Chaos {
    w: World,
    /// The node at each of three places now.
    places: [usize; 3],
    users: Vec<User>,
    hashes: BTreeMap<u64, u64>,
    /// When a session was first seen to be gone somewhere.
    gone: BTreeMap<i64, Instant>,
}

impl Chaos {
    fn new() -> Self {
        let mut w = World::new(0);
        w.cfg.read_only = true;
        (0..3).for_each(|_| {
            w.start(1000);
        });
        Self { w, places: [0, 1, 2], users: Vec::new(), hashes: BTreeMap::new(), gone: BTreeMap::new() }
    }

    fn node(&self, place: usize) -> usize {
        self.places[place]
    }

    /// What everybody got, and whether it may be so.
    fn check(&mut self) {
        for &n in &self.places {
            let (applied, hash) = self.w.hash(n);
            assert_eq!(*self.hashes.entry(applied).or_insert(hash), hash, "ZK-5 at {applied}");
        }
        for user in &mut self.users {
            let mut got = Vec::new();
            if user.waits
                && let Some(answer) = self.w.answer(user.conn)
            {
                user.waits = false;
                user.reads_at = (answer.read_only == Some(true)).then_some(None);
                user.session = Some(answer).filter(|a| !a.is_refusal());
            }
            if user.session.is_some() && !user.waits {
                got = self.w.got(user.conn);
            }
            if let Some(reads_at) = &mut user.reads_at {
                for g in &got {
                    let Got::Reply(_, zxid, err, _) = g else { panic!("nothing changes under it: {g:?}") };
                    assert_eq!(*reads_at.get_or_insert(*zxid), *zxid, "what is read stays as it is");
                    assert!(*zxid >= user.last_zxid, "zxids go on over connections and nodes: {g:?}");
                    let may = [0, ErrorCode::NoNode.code(), ErrorCode::NotReadOnly.code()].contains(err);
                    assert!(may, "{g:?}");
                    user.last_zxid = *zxid;
                }
                continue;
            }
            let session = user.session.map_or(0, |s| s.session);
            let seen_gone = self.gone.get(&session);
            for g in &got {
                assert!(g.zxid() >= user.last_zxid, "zxids go on over connections and nodes: {g:?}");
                user.last_zxid = g.zxid();
                assert!(seen_gone.is_none_or(|at| *at >= self.w.now), "ZK-4: {g:?} for an expired session");
            }
            let knows = |n: &usize| {
                let state = self.w.node(*n).state();
                // A session's id tells the position that made it.
                state.applied().0 > (session & 0xff_ffff_ffff_ffff) as u64
            };
            let lost =
                |n: &usize| session != 0 && knows(n) && self.w.node(*n).state().session(session).is_none();
            if self.places.iter().any(lost) {
                self.gone.entry(session).or_insert(self.w.now);
            }
        }
    }

    fn ask(
        &mut self,
        place: usize,
        last_zxid: i64,
        resume: Option<&ConnectResponse>,
        read_only: bool,
    ) -> usize {
        let node = self.node(place);
        match read_only {
            true => self.w.ask_read_only(node, last_zxid, resume),
            false => self.w.ask(node, last_zxid, 2000, resume),
        }
    }

    fn wait(&mut self, ms: u64, mask: u8) {
        let end = self.w.now + Duration::from_millis(ms);
        while self.w.now < end {
            for (i, user) in self.users.iter().enumerate() {
                if mask >> (i % 8) & 1 == 1
                    && !user.waits
                    && user.session.is_some()
                    && !self.w.is_closed(user.conn)
                {
                    self.w.put_request(user.conn, xid::PING, &Request::Ping);
                }
            }
            self.w.run();
            self.w.advance(Duration::from_millis(50).min(end.since(self.w.now)));
            self.check();
        }
    }

    fn request(&mut self, user: usize, request: &Request<'_>) {
        let Some(user) = self.users.get_mut(user) else { return };
        if user.session.is_some() && !user.waits && !self.w.is_closed(user.conn) {
            user.xid += 1;
            self.w.put_request(user.conn, user.xid, request);
            self.w.run();
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Connect(place, read_only) if self.users.len() < 5 => {
                let conn = self.ask(place, 0, None, read_only);
                let (session, waits, reads_at) = (None, true, None);
                self.users.push(User { conn, session, waits, reads_at, last_zxid: 0, xid: 0 });
            }
            Step::Connect(..) => {}
            Step::Resume(u, place, true) => {
                if let Some(user) = self.users.get(u) {
                    let (old, zxid, session) = (user.conn, user.last_zxid, user.session);
                    let conn = self.ask(place, zxid, session.as_ref(), true);
                    self.w.hang_up(old);
                    self.w.run();
                    let user = &mut self.users[u];
                    (user.conn, user.waits, user.reads_at) = (conn, true, None);
                }
            }
            Step::Resume(u, place, false) => {
                let node = self.node(place);
                if let Some(user) = self.users.get_mut(u) {
                    // Whoever changes connections listens to the new one only.
                    let old = user.conn;
                    user.conn = self.w.ask(node, user.last_zxid, 2000, user.session.as_ref());
                    (user.waits, user.reads_at) = (false, None);
                    self.w.hang_up(old);
                    self.w.run();
                    match self.w.answer(user.conn) {
                        Some(a) => user.session = Some(a).filter(|a| !a.is_refusal()),
                        // No answer yet: ask for a new session another time.
                        None => self.w.hang_up(user.conn),
                    }
                    if self.w.is_closed(user.conn) {
                        self.users.remove(u);
                    }
                }
            }
            Step::Write(u, k) => {
                let path = format!("/n{}", k % 7);
                let request = match k % 5 {
                    0 => create(&path, 0),
                    1 | 2 => create(&path, 1),
                    3 => delete(&path),
                    _ => set(&path, b"chaos"),
                };
                self.request(u, &request);
            }
            Step::Read(u, k) => {
                let path = format!("/n{}", k % 7);
                let request = match k % 4 {
                    0 => get(&path, true),
                    1 => exists(&path, true),
                    2 => children("/", true),
                    _ => sync(),
                };
                self.request(u, &request);
            }
            Step::HangUp(u) if u < self.users.len() => self.w.hang_up(self.users[u].conn),
            Step::HangUp(_) => {}
            Step::Wait(ms, mask) => self.wait(ms, mask),
            Step::Cut(place, off) => {
                self.w.cut(self.node(place), off);
                self.w.run();
            }
            Step::Hold(hold) => self.w.hub.borrow_mut().hold = hold,
            Step::Commit(n) => {
                self.w.hub.borrow_mut().commit(n);
                self.w.run();
            }
            Step::Restart(place) => {
                self.w.kill(self.node(place));
                self.places[place] = self.w.start(4);
            }
        }
        self.check();
    }

    /// Everything is well again: all catch up, and with nobody left all sessions and their nodes go.
    fn end(mut self) {
        for place in 0..3 {
            self.w.cut(self.node(place), false);
        }
        self.w.hub.borrow_mut().hold = false;
        self.w.hub.borrow_mut().commit(usize::MAX);
        self.w.run();
        self.wait(10_000, 0);
        let hashes: Vec<_> = self.places.iter().map(|n| self.w.hash(*n)).collect();
        assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
        for &n in &self.places {
            let state = self.w.node(n).state();
            assert_eq!((state.sessions().len(), state.ephemeral_count()), (0, 0));
            assert_eq!(state.hash(), state.hash_from_scratch());
            assert!(self.w.is_ready(n));
        }
        let (c, _) = self.w.connect(self.node(0));
        assert_eq!(self.w.call(c, 1, &create("/end", 0)).reply(), (1, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_happens(steps in prop::collection::vec(step(), 0..60)) {
        let mut chaos = Chaos::new();
        for s in &steps {
            chaos.take(s);
        }
        chaos.end();
    }
}

/// The same, for nodes of several executors.
pub(super) fn promises_hold_whatever_happens_again() {
    promises_hold_whatever_happens();
}
