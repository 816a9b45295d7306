//! Does the client survive whatever bytes and messages come?

use crate::bench::*;
use bytes::Bytes;
use proptest::prelude::*;
use zoolog_client::{ReadEnd, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_core::wire::*;
use zoolog_core::*;

fn any_message(r: &mut Rng) -> (Message, Bytes) {
    let small = |r: &mut Rng| if r.chance(5) { u64::MAX - r.below(3) } else { r.below(6) };
    let l = |r: &mut Rng| LaneId::new(ShardId(r.below(4) as u32), r.below(3) as u8);
    let writer = WriterId(u128::from(r.below(3)));
    let mut payload = Bytes::new();
    let message = match r.below(10) {
        0 => {
            let lanes: Vec<_> = (0..r.below(3)).map(|_| (l(r), small(r))).collect();
            order_is(small(r), small(r), small(r), view(r.below(4), r.below(4) as u32), &lanes).into()
        }
        1 => {
            let lanes: Vec<_> = (0..r.below(3)).map(|_| (l(r), small(r), small(r))).collect();
            let cut = cut(small(r), small(r), r.below(4), &lanes);
            match Grown::of(&cut).filter(|_| r.chance(50)) {
                Some(grown) => grown.into(),
                None => CutIs { cut }.into(),
            }
        }
        2 => ViewIs { view: view(small(r), r.below(4) as u32) }.into(),
        3 => TailIs { request: small(r), gsn: Gsn(small(r)) }.into(),
        4 => NotLeader { leader: r.chance(50).then(|| "o1:1".into()) }.into(),
        5 => Appended { writer, acks: vec![(Seq(small(r)), Gsn(small(r)))] }.into(),
        9 => {
            use ResolveEnd::*;
            let end = [Final, Open, NotReady, Forgotten][r.below(4) as usize];
            let acks = (0..r.below(3)).map(|_| (Seq(small(r)), Gsn(small(r)))).collect();
            Resolved { request: r.below(20), lane: l(r), writer, end, acks, tail: None, newest: None }.into()
        }
        6 => {
            use AppendRefusedWhy::*;
            let why = [Malformed, Gap, NotPrimary, Recovering, Window, Closed][r.below(6) as usize];
            AppendRefused { lane: lane(1, 0), writer, seq: Seq(small(r)), why, expected: Seq(small(r)) }
                .into()
        }
        7 => {
            use ReadEnd::*;
            let end = [Complete, More, NotYet, Trimmed, Unavailable][r.below(5) as usize];
            let all = batches(l(r), 1, &[1, 2, 1]);
            let some: Vec<_> = all.into_iter().filter(|_| r.chance(60)).collect();
            payload = encoded(&some);
            let gsns = some.iter().map(|_| Gsn(small(r))).collect();
            let (request, shard) = (small(r), ShardId(r.below(3) as u32));
            ReadIs { request, shard, from: Gsn(small(r)), covers: Gsn(small(r)), end, gsns }.into()
        }
        _ => {
            let lane = l(r);
            let all = batches(if r.chance(90) { lane } else { l(r) }, 1, &[1, 2, 1, 3]);
            payload = encoded(&all.into_iter().filter(|_| r.chance(80)).collect::<Vec<_>>());
            Push { lane }.into()
        }
    };
    (message, payload)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// SYS-1: whatever peers say, in whatever order, nothing panics, and what is delivered is still dense.
    #[test]
    fn no_message_panics(seed in any::<u64>()) {
        let mut r = Rng::new(seed, "garbage");
        let mut b = Bench::new(config(), seed);
        b.client.subscribe(Gsn(0));
        b.client.read(Gsn(0), Gsn(r.below(5)), 100);
        b.drain();
        let mut next = 0;
        for _ in 0..150 {
            if r.chance(10) {
                let _ = b.client.append(b"x");
                b.client.tail();
                b.drain();
            }
            connect_all(&mut b);
            if r.chance(30) {
                let conns: Vec<_> = b.up.keys().copied().collect();
                for conn in conns {
                    for p in b.sent(conn) {
                        if let Message::WatchGrowth(m) = p.message {
                            b.say(conn, order_is(m.request, 1, 2, view(1, 2), &[(lane(1, 0), 2)]));
                        }
                    }
                }
            }
            for conn in b.closing.clone() {
                b.close(conn);
            }
            let conns: Vec<_> = b.up.keys().copied().collect();
            if conns.is_empty() {
                b.ms(20);
                continue;
            }
            let conn = conns[r.below(conns.len() as u64) as usize];
            if r.chance(5) {
                let bytes = (0..r.below(80)).map(|_| r.below(256) as u8).collect::<Vec<_>>();
                b.input(Input::Frame { conn, bytes: bytes.into() });
            } else {
                let (message, payload) = any_message(&mut r);
                let parts: &[&[u8]] = if payload.is_empty() { &[] } else { &[&payload] };
                b.input(Input::Frame { conn, bytes: encode_with(message, parts) });
            }
            b.pass(std::time::Duration::from_micros(r.below(3000)));
            for c in b.committed() {
                prop_assert_eq!(c.from(), Gsn(next));
                next = c.end().0;
            }
        }
    }
}
