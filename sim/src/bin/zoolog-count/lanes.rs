//! What does a cut cost with many lanes? Three orderers, and slots of a thousand shards played from outside.

use crate::Scenario;
use crate::cluster::{Cluster, Shape, hello, slot_addr};
use crate::host::frames;
use crate::log::repeat_times;
use crate::net::{Net, Pick, UserId};
use std::collections::BTreeSet;
use zoolog_core::view::View;
use zoolog_core::wire::{self, Message, Register, Report, Role, ShardReport};
use zoolog_core::{CutNumber, Incarnation, ServerId, ShardId, SlotId};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "lanes/20-of-20",
        what: "leader: 20 of 20 lanes grow, reports in to cut out; per lane that grew",
        run: || lanes(10, 10),
    },
    Scenario {
        name: "lanes/20-of-2000",
        what: "the same with 20 of 2,000 lanes: what stands still must not cost",
        run: || lanes(1000, 10),
    },
    Scenario {
        name: "lanes/2000-of-2000",
        what: "the same with 2,000 of 2,000 lanes",
        run: || lanes(1000, 1000),
    },
];

/// Rounds of each half: a cut of 2,000 lanes is long.
const ROUNDS: usize = 16;
/// Data servers, and connections.
const SERVERS: u32 = 8;

/// Servers of one slot each, that say what they are told to.
struct Slots {
    users: Vec<UserId>,
    view: View,
    /// Length of every lane that grows.
    len: u64,
    /// The last cut.
    cut: CutNumber,
}

fn slot(i: usize) -> SlotId {
    SlotId { server: ServerId(i as u32 + 1), index: 0 }
}

impl Slots {
    fn register(cluster: &mut Cluster) -> Self {
        let leader = cluster.leader();
        let users: Vec<UserId> = (0..SERVERS as usize).map(|_| cluster.net.connect(leader)).collect();
        for (i, &user) in users.iter().enumerate() {
            let register = Register {
                slot: slot(i),
                incarnation: Incarnation(1),
                addr: slot_addr(i as u32 + 1),
                domain: format!("host-{i}"),
                stamp: 0,
                parts: Vec::new(),
            };
            cluster.net.send(user, vec![hello(Role::Slot, i as u64 + 1), wire::encode(register)]);
        }
        cluster.net.run();
        cluster.net.wait_ms(100);
        Self { users, view: cluster.view(), len: 0, cut: CutNumber(0) }
    }

    /// Each slot reports the shards of `which` that it has, in one frame.
    fn report(&self, net: &mut Net, which: &BTreeSet<ShardId>) {
        for (i, &user) in self.users.iter().enumerate() {
            let has =
                |s: &&zoolog_core::view::ShardView| which.contains(&s.id) && s.replica_in(slot(i)).is_some();
            let lens = vec![self.len; 2];
            let shards = self.view.shards.iter().filter(has).map(|s| ShardReport {
                shard: s.id,
                accepted: lens.clone(),
                durable: lens.clone(),
                part: self.cut,
                serving: true,
            });
            let shards: Vec<_> = shards.collect();
            if !shards.is_empty() {
                let report = Report {
                    slot: slot(i),
                    incarnation: Incarnation(1),
                    cuts: wire::CutsWanted::Own,
                    shards,
                };
                net.send(user, vec![wire::encode(report)]);
            }
        }
    }

    /// Looks what came, on all connections.
    fn receive(&mut self, net: &mut Net) {
        for &user in &self.users {
            for frame in net.receive(user).into_iter().flat_map(frames) {
                if let Message::CutIs(m) = wire::decode(frame).expect("our own frame").message {
                    self.cut = self.cut.max(m.cut.number);
                }
            }
        }
    }
}

/// In each round, both lanes of the first `growing` shards grow by one record.
fn lanes(shards: u32, growing: usize) -> usize {
    let mut cluster = Cluster::orderers(Shape { shards, replicas: 2, servers: SERVERS });
    let mut slots = Slots::register(&mut cluster);
    assert_eq!(slots.view.shards.len(), shards as usize, "the view that was wanted");
    let all: BTreeSet<ShardId> = slots.view.shards.iter().map(|s| s.id).collect();
    slots.report(&mut cluster.net, &all);
    cluster.net.run();
    let which: BTreeSet<ShardId> = all.into_iter().take(growing).collect();
    let leader = cluster.leader();
    let picked = Pick { node: Some(leader), about: None };
    let rounds = repeat_times(ROUNDS, &mut cluster, vec![picked], |net| {
        slots.receive(net);
        slots.len += 1;
        slots.report(net, &which);
    });
    slots.receive(&mut cluster.net);
    assert!(slots.cut.0 >= 2 * rounds as u64, "{} cuts in {} rounds", slots.cut, 2 * rounds);
    rounds * growing * 2
}
