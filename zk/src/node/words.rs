//! What do the four-letter words say? Text for people and monitoring tools, in the shapes their parsers insist
//! on.

use super::Back;
use super::status::NodeStatus;
use crate::state::State;
use std::fmt::Write;
use zoolog_client::SharedLog;
use zoolog_core::Instant;

/// The version that tools see: the ZooKeeper whose behaviour is followed, then ours.
pub const VERSION: &str = concat!("3.9.3-zoolog-", env!("CARGO_PKG_VERSION"));

/// Part of the version line that tools parse; ours are reproducible and have no other date.
const BUILT_ON: &str = "01/01/2026 00:00 GMT";

/// Every node takes reads and writes alike; a tool that asks is told that there are others.
const MODE: &str = "follower";

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// Whether the answer tells what fronts have counted.
pub(super) fn counts(word: &[u8]) -> bool {
    matches!(word, b"srvr" | b"stat" | b"cons" | b"mntr" | b"wchs" | b"stgs" | b"stgr")
}

/// The answer to a four-letter word; empty for one that is not known.
pub(super) fn answer<L: SharedLog>(node: &Back<L>, now: Instant, state: &State, word: &[u8]) -> String {
    let status = node.status(state);
    match word {
        b"ruok" => "imok".into(),
        b"isro" => if status.serving { "rw" } else { "null" }.into(),
        b"envi" => environment(),
        b"srvr" | b"stat" | b"mntr" | b"conf" | b"cons" | b"wchs" | b"dirs" if !status.serving => {
            NOT_SERVING.into()
        }
        b"srvr" => server(&status, String::new()),
        b"stat" => server(&status, clients(node)),
        b"cons" => connections(node, now),
        b"mntr" => monitor(state, &status),
        b"conf" => config(node),
        b"wchs" => format!(
            "{} connections watching {} paths\nTotal watches:{}\n\n",
            node.watches.watchers() + node.counted.watchers,
            node.watches.paths() + node.counted.paths,
            status.watches
        ),
        // `stgr` also counts anew from here on: see where words are taken.
        b"stgs" | b"stgr" => {
            let mut stages = node.stats.stages.clone();
            stages.add(&node.counted.stats.stages);
            stages.json()
        }
        b"dirs" => "datadir_size: 0\nlogdir_size: 0\n".into(),
        _ => String::new(),
    }
}

fn environment() -> String {
    format!(
        "Environment:\nzookeeper.version={VERSION}, built on {BUILT_ON}\nos.name={}\nos.arch={}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

fn server(s: &NodeStatus, clients: String) -> String {
    let (min, avg, max) = s.latency_ms;
    format!(
        "Zookeeper version: {VERSION}, built on {BUILT_ON}\n{clients}Latency min/avg/max: {min}/{avg:.4}/{max}\n\
         Received: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {MODE}\nNode count: {}\n",
        s.received, s.sent, s.connections, s.outstanding, s.applied.0, s.znodes
    )
}

fn clients<L: SharedLog>(node: &Back<L>) -> String {
    let mut text = String::from("Clients:\n");
    for (_, c) in node.conns.iter() {
        let interest = u8::from(!c.paused);
        let _ = writeln!(
            text,
            " /{}[{interest}](queued={},recved={},sent={})",
            c.peer,
            c.queue.len(),
            c.received,
            c.sent
        );
    }
    text.push('\n');
    text
}

fn connections<L: SharedLog>(node: &Back<L>, now: Instant) -> String {
    let mut text = String::new();
    for (_, c) in node.conns.iter() {
        let interest = u8::from(!c.paused);
        let _ = write!(
            text,
            " /{}[{interest}](queued={},recved={},sent={}",
            c.peer,
            c.queue.len(),
            c.received,
            c.sent
        );
        if let Some(open) = c.open() {
            let silent_ms = now.since(c.heard_at).as_millis();
            let _ = write!(text, ",sid=0x{:x},to={},silent={silent_ms}", open.session, open.timeout_ms);
        }
        text.push_str(")\n");
    }
    text.push('\n');
    text
}

fn monitor(state: &State, s: &NodeStatus) -> String {
    let (min, avg, max) = s.latency_ms;
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "zk_{key}\t{value}");
    };
    line("version", &format_args!("{VERSION}, built on {BUILT_ON}"));
    line("server_state", &MODE);
    line("avg_latency", &format_args!("{avg:.4}"));
    line("max_latency", &max);
    line("min_latency", &min);
    line("packets_received", &s.received);
    line("packets_sent", &s.sent);
    line("num_alive_connections", &s.connections);
    line("outstanding_requests", &s.outstanding);
    line("uptime", &s.uptime.as_millis());
    line("znode_count", &s.znodes);
    line("watch_count", &s.watches);
    line("ephemerals_count", &s.ephemerals);
    line("approximate_data_size", &s.data_bytes);
    line("global_sessions", &s.sessions);
    line("local_sessions", &0);
    line("applied_gsn", &s.applied);
    line("order_tail", &s.order_tail);
    line("log_room", &s.log_room.name());
    line("state_hash", &format_args!("{:016x}", s.hash));
    line("snapshot_gsn", &s.snapshot.map_or(0, |gsn| gsn.0));
    line("snapshot_aside_bytes", &state.image_bytes());
    line("apply_version", &state.apply_version());
    line("records_in_flight", &s.in_flight);
    text
}

fn config<L: SharedLog>(node: &Back<L>) -> String {
    let c = &node.cfg;
    format!(
        "tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nserverId={}\n",
        c.tick_ms,
        c.max_connections_per_ip,
        c.min_timeout_ms(),
        c.max_timeout_ms(),
        c.id
    )
}
