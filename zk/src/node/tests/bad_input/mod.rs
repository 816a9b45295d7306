//! What does bad input come to? Fifty-six kinds of it that have hurt servers like this one, each a test that has its
//! number: no panic, no unbounded memory, the stated error or a clean close, and nobody else is disturbed.
//!
//! `frames`: 1 to 12; `fields`: 13 to 19; `paths`: 20 to 24; `sessions`: 25 to 38; `secrets`: 39 to 49; `floods`: 50
//! to 55; `acls`: 56. All of them also with several executors (`several.rs`). What only sockets show (1 to 12, 46, 47, 49,
//! 53 to 55) is tested in `cli/tests/bad_input.rs`; the memory of decoders (13, 15 to 18) in `zk/tests/decode_memory.rs`,
//! of watches (51) in `zk/tests/watch_memory.rs`. Not here:
//!
//! | point | where |
//! |---|---|
//! | 10 | `cli/tests/bad_input.rs`: no port speaks TLS, and what is configured for it stays closed |
//! | 23 | the counter is set in `tree/tests.rs`: `sequence_numbers_go_on_past_an_int_and_end_with_their_digits` |
//! | 41, 42 | nothing proves `x509` or `sasl`: what is tested is that nothing is open to them |
//! | 43 | of orderers, slots and who gives snapshots: who names another cluster is refused. Who knows the cluster's id is believed; see docs/OPERATING.md |
//! | 46, 47 | `cli/tests/bad_input.rs`: the admin port neither trusts addresses nor takes or gives snapshots |

mod acls;
mod fields;
mod floods;
mod frames;
mod paths;
mod secrets;
mod sessions;

pub(super) use {acls::*, fields::*, floods::*, frames::*, paths::*, secrets::*, sessions::*};

use super::world::*;
use crate::jute::{ErrorCode, EventType, Request, Writer};
use crate::node::framing;

pub const BAD_ARGUMENTS: i32 = ErrorCode::BadArguments as i32;
pub const MARSHALLING: i32 = ErrorCode::MarshallingError as i32;

/// A node with a client whom nothing that others do may disturb.
pub struct Stage {
    pub w: World,
    good: usize,
}

/// A whole frame around what `write` writes.
pub fn framed(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = Writer::frame(&mut out);
    write(&mut w);
    w.finish();
    out
}

/// A request's frame, with whatever record.
pub fn request(xid: i32, op: i32, record: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    framed(|w| {
        w.int(xid).int(op);
        record(w);
    })
}

impl Stage {
    pub fn new() -> Self {
        Self::on(World::new(1))
    }

    /// In a world that has a node.
    pub fn on(mut w: World) -> Self {
        let (good, _) = w.connect(0);
        assert_eq!(w.call(good, 1, &create("/good", 1)).reply(), (1, 0));
        assert_eq!(w.call(good, 2, &get("/good", true)).reply(), (2, 0));
        Self { w, good }
    }

    /// Another client, with a session of its own.
    pub fn client(&mut self) -> usize {
        self.w.connect(0).0
    }

    /// Gives bytes to the node as the shell does, which closes a connection whose bytes are no frames.
    pub fn wire(&mut self, client: usize, bytes: &[u8], first: bool) {
        self.w.put(client, bytes, first);
        self.w.run();
        let (mut rest, mut first) = (bytes, first);
        loop {
            match framing(first, rest, self.w.cfg.max_frame_bytes) {
                Ok(Some(len)) if len <= rest.len() => (rest, first) = (&rest[len..], false),
                Ok(_) => return,
                Err(_) => return self.w.hang_up(client),
            }
        }
    }

    /// The error that a request with this record comes to, which must be answered and leave the connection open.
    pub fn refused(&mut self, client: usize, op: i32, record: impl FnOnce(&mut Writer<'_>)) -> i32 {
        self.wire(client, &request(77, op, record), false);
        let got = self.w.got(client);
        assert_eq!(got.len(), 1, "operation {op}: {got:?}");
        assert_eq!(got[0].reply().0, 77);
        assert!(!self.w.is_closed(client), "operation {op} ended the connection: {:?}", self.w.notes(0));
        got[0].reply().1
    }

    /// Whether the client's connection is served as ever.
    pub fn is_served(&mut self, client: usize) -> bool {
        !self.w.is_closed(client) && self.w.call(client, 9, &exists("/good", false)).reply() == (9, 0)
    }

    /// Lets much time pass in which the good client stays.
    pub fn wait(&mut self, seconds: u64) {
        let good = self.good;
        self.w.advance_pinging(std::time::Duration::from_secs(seconds), &[good]);
    }

    /// The good client has seen nothing of it all: its session, its ephemeral and its watch are there.
    pub fn end(mut self) {
        let (w, good) = (&mut self.w, self.good);
        let pongs = |g: &Got| matches!(g, Got::Reply(-2, _, 0, _));
        assert!(w.got(good).iter().all(pongs), "a good client is told of nothing");
        assert!(!w.is_closed(good));
        w.send(good, 3, &set("/good", b"still mine"));
        let got = w.got(good);
        assert_eq!(got[0].event(), (EventType::NodeDataChanged, "/good"), "{got:?}");
        assert_eq!(got[1].reply(), (3, 0));
        assert_eq!(w.call(good, 4, &Request::GetEphemerals { prefix: "/".into() }).reply(), (4, 0));
        let (again, _) = w.connect(0);
        assert_eq!(w.call(again, 1, &get("/good", false)).data(), b"still mine");
        assert_eq!(w.node(0).state().hash(), w.node(0).state().hash_from_scratch());
        assert_eq!(w.node(0).status().outstanding, 0);
    }
}
