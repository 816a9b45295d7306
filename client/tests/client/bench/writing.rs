//! What is said between a writer and its primary.

use crate::bench::*;
use bytes::Bytes;
use zoolog_client::{ClientConfig, SharedLog};
use zoolog_core::batch::Batch;
use zoolog_core::wire::*;
use zoolog_core::*;

/// A bench that follows an empty order of two shards; its writer is connected. The bench, the orderer's
/// connection, the primary's, and the lane.
pub fn placed(cfg: ClientConfig, seed: u64) -> (Bench, ConnId, ConnId, LaneId) {
    let mut b = Bench::new(cfg, seed);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let (conn, addr) = b.dials.iter().next().map(|(c, a)| (*c, a.clone())).expect("the primary is dialled");
    b.connected(conn);
    b.sent(conn);
    (b, orderer, conn, lane_at(&addr))
}

/// The lane whose primary is there.
pub fn lane_at(addr: &str) -> LaneId {
    let digits: Vec<u32> = addr.chars().filter_map(|c| c.to_digit(10)).collect();
    lane(digits[0], digits[1] as u8)
}

pub fn appends(packets: &[Packet]) -> Vec<(Seq, Bytes)> {
    let batches = packets.iter().filter(|p| matches!(p.message, Message::Append(_)));
    batches.map(|p| (Batch::check(p.payload.clone()).unwrap().seq(), p.payload.clone())).collect()
}

pub fn seqs(packets: &[Packet]) -> Vec<u64> {
    appends(packets).iter().map(|a| a.0.0).collect()
}

pub fn refuse(b: &mut Bench, conn: ConnId, seq: u64, why: AppendRefusedWhy, expected: u64) {
    let writer = b.client.writer();
    let lane = lane_at(&b.up[&conn]);
    b.say(conn, AppendRefused { lane, writer, seq: Seq(seq), why, expected: Seq(expected) });
}

pub fn ack(b: &mut Bench, conn: ConnId, acks: &[(u64, u64)]) {
    let writer = b.client.writer();
    b.say(conn, Appended { writer, acks: acks.iter().map(|&(s, g)| (Seq(s), Gsn(g))).collect() });
}

/// Appends one batch per record.
pub fn append_each(b: &mut Bench, n: u64) {
    for i in 0..n {
        b.client.append(format!("record {i}").as_bytes()).unwrap();
        b.drain();
    }
}
