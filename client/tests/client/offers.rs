//! Is what the owner offers told to every leader, and is who asks answered by the leader of now?

use crate::bench::*;
use zoolog_client::{LogEvent, SharedLog};
use zoolog_core::wire::*;
use zoolog_core::*;

/// What it offers: address and position, in order.
fn offered(packets: &[Packet]) -> Vec<(String, u64)> {
    let offer = |p: &Packet| match &p.message {
        Message::Offer(m) => Some((m.addr.clone(), m.gsn.0)),
        _ => None,
    };
    packets.iter().filter_map(offer).collect()
}

fn asked(packets: &[Packet]) -> Vec<u64> {
    let ask = |p: &Packet| match &p.message {
        Message::FindOffers(m) => Some(m.request),
        _ => None,
    };
    packets.iter().filter_map(ask).collect()
}

fn told(b: &mut Bench) -> Vec<(u64, Gsn, usize)> {
    let events = b.events().into_iter().filter_map(|e| match e {
        LogEvent::Offers { request, trim, offers } => Some((request.0, trim, offers.len())),
        _ => None,
    });
    events.collect()
}

#[test]
fn what_is_offered_is_told_to_each_leader_and_when_it_changes() {
    let (mut b, orderer, _, _) = placed(config(), 16);
    b.client.offer("a:1", Gsn(5));
    b.drain();
    assert_eq!(offered(&b.sent(orderer)), [("a:1".to_string(), 5)]);
    b.ms(500);
    assert_eq!(offered(&b.sent(orderer)), [], "once");
    b.client.offer("a:1", Gsn(9));
    b.drain();
    assert_eq!(offered(&b.sent(orderer)), [("a:1".to_string(), 9)]);
    b.close(orderer);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    assert_eq!(offered(&b.sent(orderer)), [("a:1".to_string(), 9)], "to the next");
}

#[test]
fn who_asks_is_answered_once_whoever_leads() {
    let (mut b, orderer, _, _) = placed(config(), 16);
    let first = b.client.find_offers().expect("this log knows");
    b.drain();
    let silent = asked(&b.sent(orderer));
    assert_eq!(silent.len(), 1);
    b.ms(1_100);
    let again = asked(&b.sent(orderer));
    assert!(again.len() == 1 && again != silent, "asked again");
    let offers = vec![OfferAt { name: "zk-1".into(), addr: "a:1".into(), gsn: Gsn(9) }];
    b.say(orderer, OffersAre { request: silent[0], trim: Gsn(3), offers: offers.clone() });
    assert_eq!(told(&mut b), [], "that was given up");
    b.close(orderer);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let next = asked(&b.sent(orderer));
    b.say(orderer, OffersAre { request: next[0], trim: Gsn(4), offers: offers.clone() });
    assert_eq!(told(&mut b), [(first.0, Gsn(4), 1)]);
    b.say(orderer, OffersAre { request: next[0], trim: Gsn(4), offers });
    b.ms(3_000);
    assert_eq!((told(&mut b), asked(&b.sent(orderer))), (vec![], vec![]));
}
