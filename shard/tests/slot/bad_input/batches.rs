//! Batches that are none, and batches that have no place in the lane they are sent to.

use super::*;
use bytes::Bytes;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, PlacedBatch, WRITER_BYTES};
use zoolog_core::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_BYTES_MAX};

/// Makes the checksum right again, so that nothing but the change is wrong.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..44]), &bytes[WRITER_BYTES..]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    bytes.into()
}

/// A batch of two records, changed, its checksum right.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch(77, 0, 2, 20).bytes().to_vec();
    change(&mut bytes);
    sealed(bytes)
}

fn set(bytes: &mut [u8], at: usize, to: u32) {
    bytes[at..at + 4].copy_from_slice(&to.to_le_bytes());
}

/// A header that says so, with that payload.
fn made(count: u32, payload: &[u8]) -> Bytes {
    let mut bytes = batch(77, 0, 1, 0).bytes()[..WRITER_BYTES].to_vec();
    set(&mut bytes, 36, count);
    set(&mut bytes, 40, payload.len() as u32);
    bytes.extend_from_slice(payload);
    sealed(bytes)
}

/// Each of them is refused as malformed to an appender, who goes on over the same connection; as a fence, and from a
/// primary, it costs the connection. Nothing of it is in the lane.
fn is_malformed(all: &[Bytes]) {
    let mut stage = Stage::new(&Bounds::default());
    let tail = stage.world.orderer.tail;
    for (bytes, seq) in all.iter().zip(0..) {
        assert!(Batch::check(bytes.clone()).is_err());
        let world = &mut stage.world;
        let w = world.client(0);
        let as_append = Append { lane: lane(1, 0), start: Seq(0), prompt: true };
        world.send(w, encode_with(as_append, &[bytes]));
        world.settle();
        let told = world.clients[w].append_refusals();
        assert_eq!(told, [(Seq(0), AppendRefusedWhy::Malformed, Seq(0))]);
        world.send(w, append(lane(1, 0), &batch(40, seq, 1, 60)));
        world.settle();
        assert_eq!(
            world.clients[w].acks(),
            [(Seq(seq), tail.plus(seq))],
            "the connection is as good as before"
        );
        for n in 0..2 {
            let f = world.client(n);
            world.send(f, encode_with(Fence { lane: lane(1, 0) }, &[bytes]));
            world.settle();
            assert_eq!(
                (world.clients[f].refused(), world.clients[f].closed),
                (Some(RefusedWhy::Invalid), true)
            );
        }
        assert_eq!(world.orderer.tail, tail.plus(seq + 1), "nothing of it is in");
    }
    stage.unharmed();
}

#[test]
fn a_batch_with_a_wrong_count_is_malformed() {
    let counts = [1, 3, BATCH_RECORDS_MAX, BATCH_RECORDS_MAX + 1, u32::MAX];
    is_malformed(&counts.map(|n| forged(|b| set(b, 36, n))));
}

#[test]
fn a_batch_of_zero_records_is_malformed() {
    is_malformed(&[made(0, &[]), made(1, &[]), forged(|b| set(b, 36, 0))]);
}

#[test]
fn a_batch_with_a_wrong_length_is_malformed() {
    let payload = (batch(77, 0, 2, 20).bytes().len() - WRITER_BYTES) as u32;
    let stated =
        [0, 8, payload - 8, payload + 8, payload + 3, u32::MAX, u32::MAX - 7, BATCH_BYTES_MAX as u32];
    let mut all: Vec<Bytes> = stated.iter().map(|&n| forged(|b| set(b, 40, n))).collect();
    // Shorter or longer than it says.
    let whole = batch(77, 0, 2, 20).bytes().clone();
    all.extend([0, 1, WRITER_BYTES - 1, WRITER_BYTES, whole.len() - 1].map(|n| whole.slice(..n)));
    all.push([&whole[..], &[0; 8]].concat().into());
    // A record that goes beyond the batch, or ends before it.
    all.extend([29, 1 << 20, u32::MAX].map(|n| forged(|b| set(b, WRITER_BYTES, n))));
    is_malformed(&all);
}

#[test]
fn a_batch_with_a_wrong_checksum_is_malformed() {
    let whole = batch(77, 0, 2, 20).bytes().to_vec();
    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        Bytes::from(bytes)
    };
    is_malformed(&[8, 26, 33, 44, 47, WRITER_BYTES + 9, whole.len() - 1].map(flip));
}

#[test]
fn a_record_above_the_limit_is_malformed() {
    let mut payload = vec![0; 8 + (RECORD_BYTES_MAX + 8)];
    set(&mut payload, 0, RECORD_BYTES_MAX as u32 + 1);
    is_malformed(&[made(1, &payload)]);
}

#[test]
fn a_batch_above_the_limit_is_malformed() {
    let mut payload = vec![0; BATCH_BYTES_MAX];
    set(&mut payload, 0, RECORD_BYTES_MAX as u32 - 8);
    set(&mut payload, RECORD_BYTES_MAX, RECORD_BYTES_MAX as u32 - 8);
    is_malformed(&[
        made(2, &payload),
        made(BATCH_RECORDS_MAX + 1, &vec![0; 8 * (BATCH_RECORDS_MAX as usize + 1)]),
    ]);
}

#[test]
fn a_batch_of_another_kind_version_or_of_a_fences_number_is_malformed() {
    let number = |n: u64| forged(|b| b[24..32].copy_from_slice(&n.to_le_bytes()));
    is_malformed(&[
        forged(|b| b[0] ^= 1),
        forged(|b| b[4] = 2),
        forged(|b| b[5] = 3),
        forged(|b| b[5] = 1),
        number(u64::MAX),
        number(u64::MAX - 1),
    ]);
}

/// On its way to the backup a batch is damaged. The stream begins anew behind what is held there.
#[test]
fn a_replicated_batch_that_is_damaged_is_refused_and_comes_again() {
    let mut stage = Stage::new(&Bounds::default());
    let world = &mut stage.world;
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(40, 0, 2, 50)));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 1);
    world.send(w, append(lane(1, 0), &batch(40, 1, 2, 50)));
    let l = world.clients[w].link;
    world.act(Action::Deliver(l, 1));
    let mut damaged = 0;
    for queue in world.links.iter_mut().flat_map(|l| &mut l.queues) {
        for item in queue.iter_mut() {
            let Item::Frame(bytes) = item else { continue };
            if matches!(decode(bytes.clone()).unwrap().message, Message::Replicate(_)) {
                let mut changed = bytes.to_vec();
                let at = changed.len() - 20;
                changed[at] ^= 1;
                (*bytes, damaged) = (changed.into(), damaged + 1);
            }
        }
    }
    assert_eq!(damaged, 1);
    world.run(1500);
    assert_eq!(world.clients[w].acks().iter().map(|a| a.0.0).collect::<Vec<_>>(), [1], "it came again");
    assert_eq!(world.read(1, 1, Gsn(0), world.orderer.tail, 1 << 20).0, {
        let tail = world.orderer.tail;
        world.read(0, 1, Gsn(0), tail, 1 << 20).0
    });
    stage.unharmed();
}

fn of_opening(epoch: u32, seq: u64) -> Batch {
    let mut b = BatchBuilder::new();
    b.push(b"named");
    b.finish(BatchKind::Data, WriterId(60), Epoch(epoch), Seq(seq))
}

#[test]
fn a_batch_of_an_old_epoch_is_refused_as_closed() {
    let mut stage = Stage::new(&Bounds::default());
    let world = &mut stage.world;
    let first = |epoch| zoolog_core::batch::first_seq(Epoch(epoch)).0;
    let w = world.client(0);
    for (epoch, seq) in [(1, first(1)), (3, first(3))] {
        world.send(w, append_from(lane(1, 0), seq, &of_opening(epoch, seq)));
        world.settle();
        assert_eq!(world.clients[w].acks().len(), 1);
    }
    let tail = world.orderer.tail;
    for (epoch, seq) in [(1, first(1) + 1), (1, first(1)), (2, first(2)), (0, 0), (2, first(3) + 1)] {
        let late = world.client(0);
        world.send(late, append_from(lane(1, 0), seq, &of_opening(epoch, seq)));
        world.settle();
        let told = world.clients[late].append_refusals();
        assert_eq!(told, [(Seq(seq), AppendRefusedWhy::Closed, Seq(first(3) + 1))], "epoch {epoch}, {seq}");
    }
    assert_eq!(world.orderer.tail, tail);
    world.send(w, append_from(lane(1, 0), first(3), &of_opening(3, first(3) + 1)));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 1, "the newest goes on");
    stage.unharmed();
}

#[test]
fn a_gap_in_the_numbers_is_refused_with_the_number_expected() {
    let mut stage = Stage::new(&Bounds::default());
    let next = Seq(stage.written);
    for seq in [next.0 + 1, next.0 + 1000, 1 << 62, u64::MAX - 2] {
        let world = &mut stage.world;
        let w = world.client(0);
        world.send(w, append(lane(1, 0), &batch(GOOD, seq, 1, 5)));
        world.settle();
        assert_eq!(world.clients[w].append_refusals(), [(Seq(seq), AppendRefusedWhy::Gap, next)]);
        world.hang_up(w);
        world.settle();
    }
    // Who begins says with which number; one above it has a gap before it, one below it can't be.
    for (start, seq, why) in [(4, 6, AppendRefusedWhy::Gap), (6, 4, AppendRefusedWhy::Malformed)] {
        let world = &mut stage.world;
        let w = world.client(0);
        world.send(w, append_from(lane(1, 0), start, &batch(71, seq, 1, 5)));
        world.settle();
        assert_eq!(world.clients[w].append_refusals(), [(Seq(seq), why, Seq(start))]);
    }
    stage.unharmed();
}

/// Of another primary, of a shard that is elsewhere, of one that there is none of.
#[test]
fn a_batch_for_a_wrong_shard_or_lane_is_refused_as_not_primary() {
    let mut stage = Stage::new(&Bounds::default());
    let tail = stage.world.orderer.tail;
    for l in [lane(1, 1), lane(3, 0), lane(99, 0), lane(1, 2), lane(1, 255), LaneId(0), LaneId(u64::MAX)] {
        let world = &mut stage.world;
        let w = world.client(0);
        world.send(w, append(l, &batch(78, 0, 1, 5)));
        world.settle();
        let told = world.clients[w].append_refusals();
        assert_eq!(told, [(Seq(0), AppendRefusedWhy::NotPrimary, Seq(0))], "{l:?}");
        // A fence has no answer; it is in no lane either.
        world.send(w, fence(l, 78));
        world.settle();
    }
    assert!(stage.world.orderer.tail <= tail.plus(1), "a fence goes to the primary of lane 1/1");
    stage.unharmed();
}

#[test]
fn a_batch_for_a_finalized_shard_is_refused_as_closed() {
    let mut stage = Stage::new(&Bounds::default());
    let world = &mut stage.world;
    let w = world.client(1);
    world.send(w, append(lane(2, 0), &batch(79, 0, 1, 5)));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 1);
    stage.finalize(2);
    let world = &mut stage.world;
    let tail = world.orderer.tail;
    for (id, seq) in [(79, 1), (80, 0)] {
        let w = world.client(1);
        world.send(w, append(lane(2, 0), &batch(id, seq, 1, 5)));
        world.send(w, fence(lane(2, 0), id));
        world.settle();
        assert_eq!(world.clients[w].append_refusals(), [(Seq(seq), AppendRefusedWhy::Closed, Seq(seq))]);
    }
    assert_eq!(world.orderer.tail, tail);
    stage.unharmed();
}

/// A batch as its primary placed it is none to append, and the other way round.
#[test]
fn a_placed_batch_is_none_to_append() {
    let placed = PlacedBatch::place(lane(1, 0), Incarnation(1), Lsn(0), 0, batch(77, 0, 1, 20));
    let mut bytes = Vec::new();
    placed.encode(&mut bytes);
    is_malformed(&[bytes.into(), [&batch(77, 0, 1, 8).bytes()[..]; 2].concat().into()]);
}
