//! SYS-1, of what clients send: no bytes make a decoder panic, or hold more than a small multiple of their own length,
//! whatever counts and lengths they claim.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use zoolog_core::rng::Rng;
use zoolog_zk::jute::requests::READ_PARTS_MAX;
use zoolog_zk::jute::{ConnectRequest, OpCode, Reader, Request, RequestHeader, SetWatches, Writer};
use zoolog_zk::txn::{Acl, AuthId};

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: all is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A frame may have so many bytes.
const FRAME_BYTES_MAX: usize = 0xf_ffff;

/// A small multiple of the input's length, and some for what has none.
const fn bound(input: usize) -> usize {
    (16 << 10) + 24 * input
}

/// Decodes a payload as whatever it may be, within the bound. Whether it was a request that is known.
fn decodes(payload: &[u8]) -> bool {
    HELD.set(0);
    MOST.set(0);
    let is_one = {
        let mut r = Reader::new(payload);
        let header = RequestHeader::decode(&mut r);
        let request = header.map(|header| Request::decode(header.op, r.rest()));
        matches!(request, Ok(Ok(ref known)) if !matches!(known, Request::Other(_)))
    };
    drop(ConnectRequest::decode(payload));
    let held = MOST.get().max(0) as usize;
    assert!(held <= bound(payload.len()), "{held} bytes held for {} of {:?}", payload.len(), &payload[..8]);
    is_one
}

fn payload(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(1, &mut out);
    out.split_off(4)
}

fn acl(entries: usize) -> Vec<Acl> {
    vec![Acl { perms: 31, id: AuthId { scheme: "digest".into(), id: "me:x".into() } }; entries]
}

/// Good ones, of all that have lists, strings or buffers.
fn samples() -> Vec<Vec<u8>> {
    let path = || "/some/where".into();
    let create =
        || Request::Create { path: path(), data: Some(b"data"), acl: acl(3), flags: 0, with_stat: true };
    let exist = (0..5).map(|n| format!("/n{n}").into()).collect();
    let set = SetWatches { relative_zxid: 7, data: vec![path()], exist, child: vec![] };
    let delete = Request::Delete { path: path(), version: 1 };
    let read = || Request::GetData { path: path(), watch: true };
    [
        create(),
        Request::SetAcl { path: path(), acl: acl(4), version: 0 },
        Request::SetWatches(set),
        Request::Multi(vec![create(), delete, Request::Check { path: path(), version: 2 }]),
        Request::MultiRead(vec![read(), read()]),
        Request::Auth { scheme: "digest".into(), auth: b"me:secret" },
        Request::GetEphemerals { prefix: path() },
        Request::AddWatch { path: path(), mode: 1 },
    ]
    .iter()
    .map(payload)
    .collect()
}

/// Changes some of it: bits, whole numbers, its length.
fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.between(1, 3) {
        let len = bytes.len();
        let at = rng.below(len.max(1) as u64) as usize;
        match rng.below(4) {
            0 if len > 0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.truncate(at),
            2 => (0..rng.below(40)).for_each(|_| bytes.push(rng.next_u64() as u8)),
            _ if len >= 12 => {
                let numbers = [-1, -2, i32::MIN, i32::MAX, 1 << 24, 1024, 0, 3];
                let number: i32 = numbers[rng.below(numbers.len() as u64) as usize];
                // Behind the header.
                let at = 8 + at.saturating_sub(8).min(len - 12);
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            _ => {}
        }
    }
}

#[test]
fn no_request_makes_its_decoder_panic_or_take_more_than_its_share() {
    let mut rng = Rng::new(1, "requests");
    let (mut sound, mut all) = (0, 0);
    for good in samples() {
        assert!(decodes(&good));
        for _ in 0..3000 {
            let mut bytes = good.clone();
            change(&mut rng, &mut bytes);
            (all, sound) = (all + 1, sound + usize::from(decodes(&bytes)));
        }
    }
    assert!(sound > all / 20 && sound < all, "{sound} of {all}: changes are too large, or too small");
    for op in (-20..=120).chain([i32::MIN, i32::MAX]) {
        for _ in 0..50 {
            let mut bytes = [1i32.to_be_bytes(), op.to_be_bytes()].concat();
            bytes.extend((0..rng.below(200)).map(|_| rng.next_u64() as u8));
            decodes(&bytes);
        }
    }
}

/// A frame that is full of the smallest elements there are, each of which takes the most beside what it is; of reads as many
/// as there may be in one.
#[test]
fn a_frame_full_of_nothing_takes_no_more_than_its_share() {
    let full =
        |op: OpCode, head: &dyn Fn(&mut Writer<'_>), element: &dyn Fn(&mut Writer<'_>), each: usize| {
            let mut out = Vec::new();
            let mut w = Writer::bare(&mut out);
            w.int(1).int(op.code());
            head(&mut w);
            let mut elements = (FRAME_BYTES_MAX - w.bytes() - 64) / each;
            if op == OpCode::MultiRead {
                elements = elements.min(READ_PARTS_MAX);
            }
            if op != OpCode::Multi && op != OpCode::MultiRead {
                w.int(elements as i32);
            }
            (0..elements).for_each(|_| element(&mut w));
            if op == OpCode::SetWatches {
                w.int(0).int(0);
            } else {
                w.multi_header(-1, true, -1);
            }
            out
        };
    let (delete, read) = (OpCode::Delete.code(), OpCode::GetData.code());
    let empty = |w: &mut Writer<'_>, op| {
        w.multi_header(op, false, -1).int(0);
    };
    let element = |w: &mut Writer<'_>, ints: usize| (0..ints).for_each(|_| _ = w.int(0));
    let frames = [
        full(OpCode::SetWatches, &|w| _ = w.long(0), &|w| element(w, 1), 4),
        full(OpCode::SetAcl, &|w| _ = w.string("/"), &|w| element(w, 3), 12),
        full(
            OpCode::Multi,
            &|_| (),
            &|w| {
                empty(w, delete);
                w.int(0);
            },
            17,
        ),
        full(
            OpCode::MultiRead,
            &|_| (),
            &|w| {
                empty(w, read);
                w.boolean(false);
            },
            14,
        ),
    ];
    for frame in frames {
        let wanted = if frame[4..8] == OpCode::MultiRead.code().to_be_bytes() {
            14 * READ_PARTS_MAX
        } else {
            FRAME_BYTES_MAX - 200
        };
        assert!(frame.len() > wanted && frame.len() <= FRAME_BYTES_MAX);
        assert!(decodes(&frame), "operation {:?} is one", &frame[4..8]);
    }
}
