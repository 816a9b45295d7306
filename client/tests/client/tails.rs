//! Are questions for the tail answered by what is committed when they are asked?

use crate::bench::*;
use zoolog_client::{LogEvent, SharedLog};
use zoolog_core::wire::*;
use zoolog_core::*;

#[test]
fn a_tail_round_answers_only_those_who_called_before_it_began() {
    let (mut b, orderer, _, _) = placed(config(), 16);
    let (r1, r2) = (b.client.tail(), b.client.tail());
    b.drain();
    let r3 = b.client.tail();
    b.drain();
    let asked = b.sent(orderer);
    let [Packet { message: Message::Tail(first), .. }] = &asked[..] else { panic!("{asked:?}") };
    b.say(orderer, TailIs { request: first.request, gsn: Gsn(4) });
    let told = |b: &mut Bench| {
        let all = b.events().into_iter();
        all.filter_map(|e| if let LogEvent::Tail { request, gsn } = e { Some((request, gsn)) } else { None })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&mut b), [(r1, Gsn(4)), (r2, Gsn(4))]);
    let asked = b.sent(orderer);
    let [Packet { message: Message::Tail(second), .. }] = &asked[..] else { panic!("{asked:?}") };
    // Its leader is lost: it is asked again of the next.
    assert_ne!(second.request, first.request);
    b.close(orderer);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let asked = b.sent(orderer);
    let [Packet { message: Message::Tail(third), .. }] = &asked[..] else { panic!("{asked:?}") };
    b.say(orderer, TailIs { request: second.request, gsn: Gsn(5) });
    assert_eq!(told(&mut b), [], "an answer to an older question");
    b.say(orderer, TailIs { request: third.request, gsn: Gsn(6) });
    assert_eq!(told(&mut b), [(r3, Gsn(6))]);
}
