//! Subscriptions that make no sense, and more of them than anybody reads: what a slot holds for them is bounded, and others
//! are served.

use super::*;
use std::collections::BTreeMap;
use zoolog_core::limits::{FRAME_BYTES_MAX, OUT_BYTES_PAUSE};
use zoolog_core::machine::{ConnId, Input, Output};

#[test]
fn a_subscription_that_names_no_place_in_each_lane_is_refused() {
    let mut stage = Stage::new(&Bounds::default());
    let (one, all) = (ShardId(1), RefusedWhy::Invalid);
    for (shard, from, why) in [
        (one, vec![], all),
        (one, vec![0], all),
        (one, vec![0; 3], all),
        (one, vec![0; 100_000], all),
        (one, vec![1, 0], all), // within a batch
        (ShardId(3), vec![0, 0], RefusedWhy::NotReady),
        (ShardId(u32::MAX), vec![0, 0], RefusedWhy::NotReady),
    ] {
        let (world, from) = (&mut stage.world, from.into_iter().map(Lsn).collect());
        let c = world.client(0);
        world.send(c, encode(Subscribe { shard, from, credit: 1000 }));
        world.settle();
        assert_eq!((world.clients[c].refused(), world.clients[c].closed), (Some(why), true), "{shard}");
    }
    stage.unharmed();
}

/// Beyond the lanes' ends, with no credit, or credit for a lane that isn't there: nothing comes, and nothing breaks.
#[test]
fn a_subscription_beyond_the_tail_or_without_credit_is_pushed_nothing() {
    let mut stage = Stage::new(&Bounds::default());
    for (from, credit) in [(u64::MAX, u32::MAX), (1 << 63, u32::MAX), (1000, u32::MAX), (0, 0)] {
        let world = &mut stage.world;
        let c = world.client(0);
        let from = vec![Lsn(from), Lsn(from)];
        world.send(c, encode(Subscribe { shard: ShardId(1), from, credit }));
        for l in [lane(1, 9), lane(9, 0), LaneId(u64::MAX)] {
            world.send(c, encode(Credit { lane: l, bytes: u32::MAX }));
        }
        world.settle();
        stage.unharmed();
        let client = &stage.world.clients[c];
        assert_eq!((client.inbox.len(), client.closed), (0, false), "{credit}");
    }
}

/// Connections beside those of the world, whose owner takes nothing from them; as the shell does, it says when much waits.
#[derive(Default)]
struct Silent {
    waiting: BTreeMap<ConnId, usize>,
    refused: Vec<RefusedWhy>,
    closed: usize,
    paused: usize,
}

impl Silent {
    /// A turn of node 0 with these inputs and all that follows, and what the shell has to say in between.
    fn turn(&mut self, world: &mut World, mut inputs: Vec<Input<()>>) {
        loop {
            if !inputs.is_empty() {
                world.turn(0, std::mem::take(&mut inputs));
            } else if !world.step() {
                return;
            }
            for output in std::mem::take(&mut world.beside) {
                match output {
                    Output::Send { conn, bytes } => {
                        let first = bytes.slice(..frame_length(&bytes, FRAME_BYTES_MAX).unwrap().unwrap());
                        if let Message::Refused(m) = decode(first).unwrap().message {
                            self.refused.push(m.why);
                        }
                        let waiting = self.waiting.entry(conn).or_default();
                        let before = *waiting;
                        *waiting += bytes.len();
                        if before <= OUT_BYTES_PAUSE && *waiting > OUT_BYTES_PAUSE {
                            inputs.push(Input::Backlog { conn, high: true });
                        }
                    }
                    Output::Close { conn } => {
                        self.closed += 1;
                        self.waiting.remove(&conn);
                        inputs.push(Input::Closed { conn });
                    }
                    Output::Pause { .. } => self.paused += 1,
                    _ => {}
                }
            }
        }
    }

    fn most(&self) -> usize {
        self.waiting.values().copied().max().unwrap_or(0)
    }
}

/// A stage whose lane 1/0 holds some MiB, most of them on disk only.
fn heavy(bounds: &Bounds) -> Stage {
    let mut stage = Stage::new(bounds);
    let w = stage.world.client(0);
    for seq in 0..12 {
        stage.world.send(w, append(lane(1, 0), &batch(90, seq, 1, 500 << 10)));
        stage.world.settle();
    }
    assert_eq!(stage.world.clients[w].acks().len(), 12);
    stage.unharmed();
    stage
}

/// A frame of pushes, per lane, may be under way when the slot hears that much waits.
fn most_waiting(bounds: &Bounds) -> usize {
    OUT_BYTES_PAUSE + 3 * bounds.push_bytes.max(600 << 10)
}

#[test]
fn a_hundred_thousand_subscribers_that_never_read_are_bounded_and_others_are_served() {
    let bounds = Bounds { cache_bytes: 1 << 20, subscriptions: 40, connections: 300, ..Bounds::default() };
    let mut stage = heavy(&bounds);
    let mut silent = Silent::default();
    let from = vec![Lsn(0), Lsn(0)];
    let subscribe = encode(Subscribe { shard: ShardId(1), from, credit: u32::MAX });
    for round in 0..100_000 / 500 {
        let world = &mut stage.world;
        let inputs = (0..500).flat_map(|_| {
            let conn = world.nodes[0].accept();
            let say = |bytes: &bytes::Bytes| Input::Frame { conn, bytes: bytes.clone() };
            [Input::Accepted { conn, peer: "test".into() }, say(&hello(Role::Client, 0)), say(&subscribe)]
        });
        let inputs = inputs.collect();
        silent.turn(&mut stage.world, inputs);
        assert!(silent.waiting.len() <= bounds.subscriptions, "{} are pushed to", silent.waiting.len());
        assert!(silent.most() <= most_waiting(&bounds), "{} wait for one that reads nothing", silent.most());
        if round % 50 == 0 {
            stage.unharmed();
        }
    }
    assert_eq!(silent.waiting.len(), bounds.subscriptions, "as many as may");
    assert!(silent.refused.iter().all(|why| *why == RefusedWhy::NotReady) && silent.refused.len() > 100);
    assert_eq!(silent.closed, 100_000 - bounds.subscriptions, "and all others are told, or closed at once");
    stage.unharmed();
    // Places come back.
    let gone: Vec<_> = silent.waiting.keys().map(|&conn| Input::Closed { conn }).collect();
    silent.turn(&mut stage.world, gone);
    let world = &mut stage.world;
    let c = world.client(0);
    world.send(c, subscribe);
    world.settle();
    assert!(!world.clients[c].closed && !world.clients[c].inbox.is_empty());
    stage.unharmed();
}

#[test]
fn a_hundred_thousand_subscriptions_over_one_connection_that_never_reads_are_one() {
    let bounds = Bounds { cache_bytes: 1 << 20, ..Bounds::default() };
    let mut stage = heavy(&bounds);
    let (mut silent, conn) = (Silent::default(), stage.world.nodes[0].accept());
    let from = vec![Lsn(0), Lsn(0)];
    let subscribe = encode(Subscribe { shard: ShardId(1), from, credit: u32::MAX });
    let begin = vec![
        Input::Accepted { conn, peer: "test".into() },
        Input::Frame { conn, bytes: hello(Role::Client, 0) },
    ];
    silent.turn(&mut stage.world, begin);
    for _ in 0..100_000 / 500 {
        let frame = || Input::Frame { conn, bytes: subscribe.clone() };
        silent.turn(&mut stage.world, (0..500).map(|_| frame()).collect());
        assert!(silent.most() <= most_waiting(&bounds), "{} bytes wait", silent.most());
    }
    stage.unharmed();
    // It reads, and gets what it asked for last, from its beginning.
    *silent.waiting.get_mut(&conn).unwrap() = 0;
    silent.turn(&mut stage.world, vec![Input::Backlog { conn, high: false }]);
    assert!(silent.waiting[&conn] > OUT_BYTES_PAUSE && silent.most() <= most_waiting(&bounds));
    stage.unharmed();
}

#[test]
fn reads_whose_answers_are_never_taken_are_bounded_and_go_on_when_they_are() {
    let bounds = Bounds { cache_bytes: 1 << 20, reads: 4, ..Bounds::default() };
    let mut stage = heavy(&bounds);
    let (mut silent, conn) = (Silent::default(), stage.world.nodes[0].accept());
    let mut inputs = vec![
        Input::Accepted { conn, peer: "test".into() },
        Input::Frame { conn, bytes: hello(Role::Client, 0) },
    ];
    let (shard, from, to, max_bytes) = (ShardId(1), Gsn(0), stage.world.orderer.tail, u32::MAX);
    inputs.extend((0..200).map(|request| Input::Frame {
        conn,
        bytes: encode(Read { request, shard, from, to, max_bytes, begun_within: false }),
    }));
    silent.turn(&mut stage.world, inputs);
    let most = OUT_BYTES_PAUSE + (bounds.reads + 1) * (bounds.read_bytes + (4 << 10));
    assert!(silent.most() > OUT_BYTES_PAUSE && silent.most() <= most, "{} bytes wait", silent.most());
    assert_eq!(silent.paused, 1, "nothing more is read from it");
    let mut taken = 0;
    for _ in 0..200 {
        taken += std::mem::take(silent.waiting.get_mut(&conn).unwrap());
        silent.turn(&mut stage.world, vec![Input::Backlog { conn, high: false }]);
        assert!(silent.most() <= most, "{} bytes wait", silent.most());
    }
    assert!(taken > 200 * (500 << 10), "each was answered: {taken}");
    stage.unharmed();
    // One more than may wait.
    let frame = |request| Input::Frame {
        conn,
        bytes: encode(Read { request, shard, from, to, max_bytes, begun_within: false }),
    };
    silent.turn(&mut stage.world, (0..1000).map(frame).collect());
    assert_eq!((silent.closed, silent.refused.clone()), (1, vec![RefusedWhy::Invalid]));
    stage.unharmed();
}
