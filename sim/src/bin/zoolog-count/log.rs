//! What does an append cost, station by station? Slots, orderers and clients of the log at work together.

use crate::cluster::{Cluster, DEFAULT, PAIR, RawWriter, Shape, hello};
use crate::net::{About, Net, NodeId, Pick, about};
use crate::{ROUNDS, Scenario};
use bytes::Bytes;
use std::time::Duration;
use zoolog_client::LogCommand;
use zoolog_core::wire::{self, Role, Subscribe};
use zoolog_core::{Input, Lsn};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "shard/append-1",
        what: "primary: a batch of one record of 128 bytes in, to Persist and Replicate",
        run: || slots(1, 0, "Append"),
    },
    Scenario { name: "shard/append-64", what: "the same with 64 records", run: || slots(64, 0, "Append") },
    Scenario {
        name: "shard/backup-1",
        what: "backup: one record in, to Persist",
        run: || slots(1, 0, "Replicate"),
    },
    Scenario { name: "shard/backup-64", what: "the same with 64 records", run: || slots(64, 0, "Replicate") },
    Scenario {
        name: "shard/report",
        what: "primary: a batch is durable, to Report",
        run: || slots(1, 0, ""),
    },
    Scenario {
        name: "shard/push",
        what: "the same with a subscriber: to Report and Push",
        run: || slots(1, 1, ""),
    },
    Scenario { name: "shard/push-3", what: "the same with 3 subscribers", run: || slots(1, 3, "") },
    Scenario { name: "shard/ack", what: "primary: a cut in, to Appended", run: || slots(1, 0, "CutIs") },
    Scenario {
        name: "order/cut-2",
        what: "leader: reports of 2 slots in, to a cut of one lane sent to both",
        run: || cuts(PAIR, 1),
    },
    Scenario {
        name: "order/cut-6",
        what: "leader: reports of 3 slots in, to a cut of 6 lanes sent to all",
        run: || cuts(DEFAULT, 6),
    },
    Scenario {
        name: "client/append",
        what: "a record of 128 bytes appended, to Append sent",
        run: || client(About::Command),
    },
    Scenario {
        name: "client/ack",
        what: "Appended in, to the owner told",
        run: || client(about("Appended")),
    },
    Scenario {
        name: "client/merge",
        what: "subscription: a round of 6 batches of 64 records from 3 shards, to all delivered in order",
        run: merge,
    },
    Scenario {
        name: "path/append-1",
        what: "one record of 128 bytes, R = 2: all turns of all nodes, and their logs",
        run: || path(1),
    },
    Scenario { name: "path/append-64", what: "the same with 64 records in one batch", run: || path(64) },
];

/// Between operations: long enough for the next cut to be proposed at once.
pub const PAUSE: Duration = Duration::from_millis(2);

/// Does `round` [`ROUNDS`] times until it is warm, and as often counted.
pub fn repeat(cluster: &mut Cluster, picks: Vec<Pick>, round: impl FnMut(&mut Net)) -> usize {
    repeat_times(ROUNDS, cluster, picks, round)
}

/// The same, with as many rounds as `rounds` says.
pub fn repeat_times(
    rounds: usize,
    cluster: &mut Cluster,
    picks: Vec<Pick>,
    mut round: impl FnMut(&mut Net),
) -> usize {
    cluster.net.picks = picks;
    for i in 0..2 * rounds {
        cluster.net.counting = i >= rounds;
        round(&mut cluster.net);
        cluster.net.run();
        cluster.net.advance(PAUSE);
    }
    cluster.net.counting = false;
    rounds
}

fn pick(node: NodeId, about: About) -> Pick {
    Pick { node: Some(node), about: Some(about) }
}

/// One lane of one shard; the turns about `message`, or about what became durable.
fn slots(records: usize, subscribers: usize, message: &str) -> usize {
    let mut cluster = Cluster::start(PAIR);
    let lane = cluster.lanes()[0];
    let holders = cluster.holders(lane);
    for _ in 0..subscribers {
        let user = cluster.net.connect(holders[0]);
        let subscribe = Subscribe { shard: lane.shard(), from: vec![Lsn(0); 2], credit: u32::MAX };
        cluster.net.send(user, vec![hello(Role::Client, 0), wire::encode(subscribe)]);
    }
    let mut writer = RawWriter::new(&mut cluster, lane, records);
    let picked = match message {
        "" => pick(holders[0], About::Persisted),
        "Replicate" => pick(holders[1], about(message)),
        _ => pick(holders[0], about(message)),
    };
    let done = repeat(&mut cluster, vec![picked], |net| writer.append(net));
    assert_eq!(writer.acknowledged(&mut cluster.net), 2 * ROUNDS, "every batch is acknowledged");
    done
}

/// Everything that the leader does so that the first `lanes` lanes grow by a batch.
fn cuts(shape: Shape, lanes: usize) -> usize {
    let mut cluster = Cluster::start(shape);
    let mut writers: Vec<RawWriter> = Vec::new();
    for lane in cluster.lanes().into_iter().take(lanes) {
        writers.push(RawWriter::new(&mut cluster, lane, 64));
    }
    let leader = cluster.leader();
    let picked = Pick { node: Some(leader), about: None };
    let done = repeat(&mut cluster, vec![picked], |net| writers.iter_mut().for_each(|w| w.append(net)));
    for writer in &writers {
        assert_eq!(writer.acknowledged(&mut cluster.net), 2 * ROUNDS, "every batch is acknowledged");
    }
    done
}

fn append(records: usize) -> Input<LogCommand> {
    let records = (0..records).map(|i| Bytes::from(vec![i as u8; 128])).collect();
    Input::Command(LogCommand::Append { records })
}

fn client(what: About) -> usize {
    let mut cluster = Cluster::start(PAIR);
    let node = cluster.add_client(1);
    let done = repeat(&mut cluster, vec![pick(node, what)], |net| net.input(node, append(1)));
    assert_eq!(cluster.net.appended(node), 2 * ROUNDS as u64, "every record is in the log");
    done
}

fn merge() -> usize {
    let mut cluster = Cluster::start(DEFAULT);
    let node = cluster.add_client(1);
    let mut writers: Vec<RawWriter> = Vec::new();
    for lane in cluster.lanes() {
        writers.push(RawWriter::new(&mut cluster, lane, 64));
    }
    cluster.net.input(node, Input::Command(LogCommand::Subscribe { from: zoolog_core::Gsn(0) }));
    cluster.net.run();
    let picked = Pick { node: Some(node), about: None };
    let done = repeat(&mut cluster, vec![picked], |net| writers.iter_mut().for_each(|w| w.append(net)));
    assert_eq!(cluster.net.delivered(node), (2 * ROUNDS * 6 * 64) as u64, "every record is delivered");
    done
}

/// What every node does for an operation, and every log.
pub fn everything() -> Vec<Pick> {
    vec![Pick { node: None, about: None }, Pick { node: None, about: Some(About::Wal) }]
}

fn path(records: usize) -> usize {
    let mut cluster = Cluster::start(DEFAULT);
    let node = cluster.add_client(1);
    let done = repeat(&mut cluster, everything(), |net| net.input(node, append(records)));
    assert_eq!(cluster.net.appended(node), (2 * ROUNDS * records) as u64, "every record is in the log");
    done
}
