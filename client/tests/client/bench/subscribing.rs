//! A client that subscribes, and who serves it.

use crate::bench::*;
use zoolog_client::{ClientConfig, SharedLog};
use zoolog_core::wire::*;
use zoolog_core::*;

/// Subscribed from 0 to the two shards, everything connected. The connection that serves each shard.
pub fn subscribed(cfg: ClientConfig, seed: u64) -> (Bench, ConnId, [ConnId; 2]) {
    let (mut b, orderer, _, _) = placed(cfg, seed);
    b.client.subscribe(Gsn(0));
    b.drain();
    let mut serving = [None; 2];
    while serving.contains(&None) {
        connect_all(&mut b);
        for conn in b.up.keys().copied().collect::<Vec<_>>() {
            for packet in b.sent(conn) {
                if let Message::Subscribe(m) = packet.message {
                    assert_eq!(m.from, [Lsn(0), Lsn(0)]);
                    serving[m.shard.0 as usize - 1] = Some(conn);
                }
            }
        }
    }
    b.events();
    (b, orderer, serving.map(Option::unwrap))
}
