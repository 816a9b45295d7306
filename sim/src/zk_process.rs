//! How is a ZooKeeper node driven, be it of one executor or of several? As any machine, but its accepted connections speak jute, and after each
//! turn it shows the hash of its state.

use crate::disk::CLUSTER;
use crate::observe::Observation;
use crate::options::{Options, Policy};
use crate::process::{Process, map_event, uncommanded};
use bytes::Bytes;
use std::convert::Infallible;
use std::time::Duration;
use zoolog_core::limits::FRAME_BYTES_MAX;
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output, wire};
use zoolog_zk::node::{Node, NodeCommand, NodeConfig, NodeEvent, Steps, Team, framing};
use zoolog_zk::snapshot::Restored;
use zoolog_zk::state::State;

/// Bytes of a client's frame at most.
const JUTE_BYTES_MAX: usize = 0xfffff;

struct ZkProcess<M> {
    node: M,
    state: fn(&M) -> &State,
    shown: Gsn,
}

/// The process of ZooKeeper node `n`.
pub fn build(
    n: u32,
    o: &Options,
    orderers: Vec<String>,
    restored: Restored,
    seed: u64,
    now: Instant,
) -> Box<dyn Process> {
    let mut cfg = NodeConfig {
        id: n,
        cluster: CLUSTER,
        secret: [7; 32],
        orderers,
        tick_ms: 200,
        max_session_timeout_ms: o.session_timeout_ms.max(400) as u32,
        max_connections_per_ip: 0,
        snapshot_records: o.snapshot_records,
        container_check_interval: Duration::from_millis(300),
        ..NodeConfig::default()
    };
    if seed.is_multiple_of(2) {
        // Then all that can be large is.
        cfg.steps = Steps { events: 1, watches: 1, names: 1 };
    }
    cfg.log.consumer = o.trims.then(|| format!("zk-{n}"));
    let Policy { fetch, acks, reads, defer, location_limit } = o.policy_of(n);
    (cfg.acks, cfg.reads) = (acks, reads);
    (cfg.log.fetch, cfg.log.defer, cfg.log.location_limit) = (fetch, defer, location_limit);
    let shown = Gsn(0);
    if o.zk_fronts > 0 {
        let node = Team::restore(cfg, o.zk_fronts, seed, now, restored);
        return Box::new(ZkProcess { node, state: Team::state, shown });
    }
    Box::new(ZkProcess { node: Node::restore(cfg, seed, now, restored), state: Node::state, shown })
}

impl<M: Machine<Command = NodeCommand, Event = NodeEvent>> Process for ZkProcess<M> {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.node.handle(now, uncommanded(input));
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        if let Some(output) = self.node.poll_output(now) {
            return Some(map_event(output, |event| match event {
                NodeEvent::Failed(why) => Observation::Failed(why),
                other => Observation::Note(format!("{other:?}")),
            }));
        }
        let applied = (self.state)(&self.node).applied();
        (applied > self.shown).then(|| {
            self.shown = applied;
            Output::Event(Observation::State { applied, hash: (self.state)(&self.node).hash() })
        })
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.node.next_deadline()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn frame_length(&self, conn: ConnId, first: bool, bytes: &[u8]) -> Result<Option<usize>, String> {
        if conn.is_dialled() {
            return wire::frame_length(bytes, FRAME_BYTES_MAX).map_err(|e| e.to_string());
        }
        framing(first, bytes, JUTE_BYTES_MAX).map_err(|e| format!("{e:?}"))
    }
}
