//! How is a ZooKeeper node driven, be it of one executor or of several? As any machine, but its accepted connections speak jute, and after each
//! turn it shows the hash of its state.

use crate::disk::CLUSTER;
use crate::node::{GIVING, Role};
use crate::observe::Observation;
use crate::options::{Options, Policy};
use crate::process::{Process, map_event, uncommanded};
use bytes::Bytes;
use std::convert::Infallible;
use std::time::Duration;
use zoolog_core::limits::FRAME_BYTES_MAX;
use zoolog_core::policy::Fetch;
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output, wire};
use zoolog_zk::bootstrap::{FetchConfig, Serve, ServeConfig};
use zoolog_zk::node::{Node, NodeCommand, NodeConfig, NodeEvent, Steps, Team, framing};
use zoolog_zk::snapshot::Restored;
use zoolog_zk::state::State;

/// Bytes of a client's frame at most.
const JUTE_BYTES_MAX: usize = 0xfffff;

/// Whether somebody wants snapshots over it.
const fn is_giving(conn: ConnId) -> bool {
    !conn.is_dialled() && conn.0 & GIVING != 0
}

struct ZkProcess<M> {
    node: M,
    /// The one that gives its snapshots to others: for real it is on another thread.
    serve: Serve,
    state: fn(&M) -> &State,
    serves: fn(&M) -> bool,
    flip: fn(&mut M, u64) -> String,
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
        mark_records: o.mark_records,
        // A node that fetches seldom comes to the tail only where the log is still for a while.
        mark_interval: o.mark_interval
            * if o.policies().all(|p| p.fetch == Fetch::Streamed) { 1 } else { 10 },
        check_pass: o.check_pass,
        ..NodeConfig::default()
    };
    if seed.is_multiple_of(2) {
        // Then all that can be large is.
        cfg.steps = Steps { events: 1, watches: 1, names: 1, set_again: 1, connections: 1, record_bytes: 1 };
    }
    cfg.log.consumer = o.trims.then(|| format!("zk-{n}"));
    let Policy { fetch, acks, reads, defer, location_limit } = o.policy_of(n);
    (cfg.acks, cfg.reads) = (acks, reads);
    (cfg.log.fetch, cfg.log.defer, cfg.log.location_limit) = (fetch, defer, location_limit);
    if let Some(patience) = o.read_only {
        (cfg.read_only, cfg.read_only_patience) = (true, patience);
    }
    let shown = Gsn(0);
    if o.trims {
        cfg.gives_at = Some(Role::Zk(n).giving_addr());
    }
    // Small pieces, so that there are some.
    let bytes_per_s = [0, 20_000, 200_000][(seed % 3) as usize];
    // Some take another's snapshot rather than play a short log.
    let log_bytes = [0, 64 << 20, 256 * 20, 256 * 200][(seed / 3 % 4) as usize];
    cfg.bootstrap = FetchConfig { bytes_per_s, piece_bytes: 600, window: 3, log_bytes };
    let serve = Serve::new(ServeConfig { cluster: CLUSTER, bytes_per_s: 0, fetchers_max: 1 });
    if o.zk_fronts > 0 {
        let node = Team::restore(cfg, o.zk_fronts, seed, now, restored);
        let (state, serves, flip) = (Team::state, Team::is_serving, Team::flip_a_bit);
        return Box::new(ZkProcess { node, serve, state, serves, flip, shown });
    }
    let node = Node::restore(cfg, seed, now, restored);
    let (state, serves, flip) = (Node::state, Node::is_serving, Node::flip_a_bit);
    Box::new(ZkProcess { node, serve, state, serves, flip, shown })
}

impl<M: Machine<Command = NodeCommand, Event = NodeEvent>> Process for ZkProcess<M> {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match &input {
            Input::Accepted { conn, .. }
            | Input::Frame { conn, .. }
            | Input::Closed { conn }
            | Input::Backlog { conn, .. }
                if is_giving(*conn) =>
            {
                return self.serve.handle(now, input);
            }
            Input::SnapshotFound { .. } | Input::SnapshotRead { .. } => return self.serve.handle(now, input),
            Input::Timer => self.serve.handle(now, Input::Timer),
            _ => {}
        }
        self.node.handle(now, uncommanded(input));
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        if let Some(output) = self.node.poll_output(now) {
            return Some(map_event(output, |event| match event {
                NodeEvent::Beware(beware) => Observation::Beware(beware),
                NodeEvent::Failed(why) => Observation::Failed(why),
                other => Observation::Note(format!("{other:?}")),
            }));
        }
        if let Some(output) = self.serve.poll_output(now) {
            return Some(map_event(output, Observation::Note));
        }
        let applied = (self.state)(&self.node).applied();
        (applied > self.shown).then(|| {
            self.shown = applied;
            Output::Event(Observation::State { applied, hash: (self.state)(&self.node).hash() })
        })
    }

    fn corrupt(&mut self, choice: u64) -> String {
        (self.flip)(&mut self.node, choice)
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        [self.node.next_deadline(), self.serve.next_deadline()].into_iter().flatten().min_by_key(|d| d.0)
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn is_serving(&self) -> bool {
        (self.serves)(&self.node)
    }

    fn frame_length(&self, conn: ConnId, first: bool, bytes: &[u8]) -> Result<Option<usize>, String> {
        if conn.is_dialled() || is_giving(conn) {
            return wire::frame_length(bytes, FRAME_BYTES_MAX).map_err(|e| e.to_string());
        }
        framing(first, bytes, JUTE_BYTES_MAX).map_err(|e| format!("{e:?}"))
    }
}
