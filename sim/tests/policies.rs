//! Would the simulator notice a node that doesn't keep what its policy promises? Worlds with nodes that do, and with some
//! that do something else than their clients were told.

mod common;

use common::{ends_well, run_for};
use std::time::Duration;
use zoolog_core::policy::{Acks, Fetch, Reads};
use zoolog_sim::cluster::{self, Birth, roles};
use zoolog_sim::node::Role;
use zoolog_sim::options::{Options, Policy};
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

const MS: Duration = Duration::from_millis(1);

/// Two ZooKeeper nodes, of which the second is lazy, its clients being told this of it; it does that.
fn world(seed: u64, told: Policy, does: Policy) -> World {
    let mut o = Options::calm(seed);
    (o.zk, o.zk_clients, o.writers, o.readers) = (2, 4, 0, 1);
    (o.fault_phase, o.session_timeout_ms) = (2_000 * MS, 1_200);
    (o.request_every, o.request_depth, o.policy) = (5 * MS, 4, told);
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Off);
    world.builder = Box::new(move |birth| {
        let o = Options { policy: does, ..birth.options.clone() };
        match birth.role {
            Role::Zk(_) => cluster::build(Birth { options: &o, ..birth }),
            _ => cluster::build(birth),
        }
    });
    world.start_all();
    world
}

fn lazy(acks: Acks, reads: Reads) -> Policy {
    Policy { fetch: Fetch::Lazy, acks, reads, ..Policy::USUAL }
}

#[test]
fn nodes_that_keep_their_promise_pass() {
    for (seed, reads) in (1..).zip(Reads::ALL) {
        let policy = lazy(Acks::Logged, *reads);
        let mut w = world(seed, policy, policy);
        run_for(&mut w, 2_000 * MS);
        ends_well(&mut w);
        let (writes, reads) = w.checks.registers.counts();
        assert!(writes > 40 && reads > 40, "{writes} writes, {reads} reads");
    }
}

#[test]
fn a_read_that_shows_less_than_it_promised_is_noticed() {
    let found = (1..=4).any(|seed| {
        let told = lazy(Acks::Applied, Reads::Linearizable);
        let mut w = world(seed, told, lazy(Acks::Applied, Reads::Session));
        w.run_until(w.now() + 2_000 * MS);
        w.violation.is_some_and(|v| v.promise == "ZK-2")
    });
    assert!(found, "reads of a lazy node were taken for linearizable");
}

#[test]
fn an_early_answer_that_was_not_announced_is_noticed() {
    let found = (1..=4).any(|seed| {
        let told = lazy(Acks::Applied, Reads::Session);
        let mut w = world(seed, told, lazy(Acks::Logged, Reads::Session));
        w.run_until(w.now() + 2_000 * MS);
        w.violation.is_some_and(|v| v.promise == "ZK-1")
    });
    assert!(found, "answers with a zxid that is not the write's were taken for what was applied");
}
