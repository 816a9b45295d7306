//! What no leader, no orderer and no slot says: forged messages and stale ones. Whoever says it loses the connection; what was
//! known stands, and it goes on with the next.

use super::*;
use crate::world::orderer::Out;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::{Cut, CutLane, ShardPart};

use zoolog_core::view::View;

impl Stage {
    /// The connection that the slot has to the leader.
    fn leader_of(&self, n: usize) -> usize {
        let is_it = |l: &Link| !l.dead && matches!(l.ends, [End::Node(m, _), End::Orderer] if m == n);
        self.world.links.iter().rposition(is_it).expect("it is connected")
    }

    /// The leader says that to the slot.
    fn leader_says(&mut self, n: usize, message: impl Into<Message>) -> usize {
        let l = self.leader_of(n);
        self.world.take_from_orderer(Out { frames: vec![(l, encode(message))], close: Vec::new() });
        self.world.settle();
        l
    }

    /// It is not believed: the slot hangs up, registers anew, and goes on from what it knew.
    fn is_not_believed(&mut self, message: impl Into<Message>) {
        let message = message.into();
        let registered = self.world.orderer.registrations;
        let l = self.leader_says(0, message.clone());
        assert!(self.world.links[l].dead, "still listened to after {message:?}");
        self.world.run(2000);
        assert_eq!(self.world.orderer.registrations, registered + 1, "{message:?}");
        self.unharmed();
    }

    /// The same, of a cut; the owner hears of it.
    fn contradicts(&mut self, cut: Cut) {
        let before = self.contradictions(0);
        self.is_not_believed(CutIs { cut });
        assert_eq!(self.contradictions(0), before + 1);
    }

    /// The next cut, as an honest leader would make it if lane 1/0 had grown by two.
    fn next(&self) -> Cut {
        let o = &self.world.orderer;
        let (l, number) = (lane(1, 0), CutNumber(o.cuts.len() as u64 + 1));
        let lanes = vec![CutLane { lane: l, from: o.len(l), to: o.len(l) + 2 }];
        Cut { number, base: o.tail, view: o.view.number, lanes }
    }

    fn parts(&self) -> PartsAre {
        let (o, shard) = (&self.world.orderer, ShardId(1));
        let lens = [0, 1].map(|i| o.len(lane(1, i))).to_vec();
        PartsAre { shard, parts: vec![], lens, number: CutNumber(o.cuts.len() as u64), tail: o.tail }
    }

    /// Slot 1 says that to slot 0, over the connection that slot 0 dialled or the one that it accepted; that ends, and all
    /// comes back.
    fn peer_says(&mut self, dialled: bool, message: impl Into<Message>, payload: &[u8]) {
        let is_it = |l: &Link| match l.ends {
            [End::Node(a, _), End::Node(b, _)] => !l.dead && (a, b) == if dialled { (0, 1) } else { (1, 0) },
            _ => false,
        };
        let l = self.world.links.iter().rposition(is_it).expect("they are connected");
        let message = message.into();
        self.world.links[l].queues[usize::from(!dialled)]
            .push_back(Item::Frame(encode_with(message.clone(), &[payload])));
        self.world.settle();
        assert!(self.world.links[l].dead, "still listened to after {message:?}");
        self.world.run(2000);
        self.unharmed();
    }
}

/// Everything that only a leader may say.
fn a_leaders(stage: &Stage) -> Vec<Message> {
    let view = View { number: ViewNumber(9), ..stage.world.orderer.view.clone() };
    vec![
        CutIs { cut: stage.next() }.into(),
        ViewIs { view }.into(),
        stage.parts().into(),
        PartsGone { shard: ShardId(1), known: CutNumber(1 << 40) }.into(),
        TrimIs { gsn: Gsn(u64::MAX) }.into(),
        OrderersAre { orderers: vec![OrdererAt { id: OrdererId(9), addr: "evil".into() }] }.into(),
        NotLeader { leader: Some("evil".into()) }.into(),
    ]
}

#[test]
fn a_cut_and_whatever_else_a_leader_says_is_refused_from_anybody_else() {
    let mut stage = Stage::new(&Bounds::default());
    for role in [Role::Client, Role::Orderer, Role::Slot] {
        for message in a_leaders(&stage) {
            let (world, name) = (&mut stage.world, message.name());
            let c = world.connect(0);
            world.send(c, hello(role, 2));
            world.send(c, encode(message));
            world.settle();
            let answer = (world.clients[c].refused(), world.clients[c].closed);
            assert_eq!(answer, (Some(RefusedWhy::Unexpected), true), "{name} of {role:?}");
        }
        stage.unharmed();
    }
    assert_eq!(stage.contradictions(0), 0);
}

/// An orderer that never took our registration is no leader of ours.
#[test]
fn a_cut_from_an_orderer_that_has_not_taken_our_registration_is_not_believed() {
    let mut stage = Stage::new(&Bounds::default());
    stage.world.orderer.mute = true;
    let l = stage.leader_of(0);
    stage.world.cut_link(l);
    stage.world.run(100);
    let l = stage.leader_says(0, CutIs { cut: stage.next() });
    assert!(stage.world.links[l].dead && stage.contradictions(0) == 1);
    stage.world.orderer.mute = false;
    stage.world.run(3000);
    stage.unharmed();
}

#[test]
fn a_report_of_a_stranger_is_refused() {
    let mut stage = Stage::new(&Bounds::default());
    let slot = slot_id(2);
    let report = Report { slot, incarnation: Incarnation(1), cuts: CutsWanted::All, shards: vec![] };
    for role in [Role::Client, Role::Orderer, Role::Slot] {
        let world = &mut stage.world;
        let c = world.connect(0);
        world.send(c, hello(role, 2));
        world.send(c, encode(report.clone()));
        world.settle();
        assert_eq!(
            (world.clients[c].refused(), world.clients[c].closed),
            (Some(RefusedWhy::Unexpected), true)
        );
    }
    stage.unharmed();
}

#[test]
fn a_regressing_cut_is_not_believed() {
    let mut stage = Stage::new(&Bounds::default());
    let (l, old) = (lane(1, 0), stage.world.orderer.cuts[0].clone());
    stage.contradicts(old);
    let again = stage.world.orderer.cuts.last().unwrap().clone();
    stage.contradicts(again);
    // A new number, but from where the lane was before, or to less than it has.
    for (from, to) in [(0, 2), (2, 0), (4, 4), (u64::MAX, 0)] {
        let next = stage.next();
        stage.contradicts(Cut { lanes: vec![CutLane { lane: l, from, to }], ..next });
    }
    // From where the order was before, or never was.
    for base in [0, 1, stage.world.orderer.tail.0 + 1, u64::MAX] {
        let next = stage.next();
        stage.contradicts(Cut { base: Gsn(base), ..next });
    }
}

#[test]
fn a_cut_behind_a_gap_or_beyond_all_numbers_is_not_believed() {
    let mut stage = Stage::new(&Bounds::default());
    for number in [stage.next().number.0 + 5, 1 << 56, u64::MAX] {
        let next = stage.next();
        stage.contradicts(Cut { number: CutNumber(number), ..next });
    }
    let next = stage.next();
    let CutLane { lane, from, .. } = next.lanes[0];
    stage.contradicts(Cut { lanes: vec![CutLane { lane, from, to: u64::MAX }], ..next });
}

#[test]
fn a_cut_with_a_wrong_vector_is_not_believed() {
    let mut stage = Stage::new(&Bounds::default());
    let of = |stage: &Stage, l: LaneId| {
        let from = stage.world.orderer.len(l);
        CutLane { lane: l, from, to: from + 1 }
    };
    for lanes in
        [vec![], vec![lane(1, 2)], vec![lane(1, 255)], vec![lane(1, 1), lane(1, 0)], vec![lane(1, 0); 2]]
    {
        let (next, lanes) = (stage.next(), lanes.iter().map(|&l| of(&stage, l)).collect());
        stage.contradicts(Cut { lanes, ..next });
    }
    // Parts whose lengths are of another number of lanes, or don't add up.
    let part =
        |lens: Vec<u64>, s: &Stage| ShardPart { number: s.next().number, base: s.world.orderer.tail, lens };
    for lens in [vec![], vec![1000], vec![1000, 0, 0], vec![0; 1000], vec![u64::MAX, u64::MAX], vec![0, 0]] {
        let m = stage.parts();
        let parts = vec![part(lens.clone(), &stage)];
        let (number, tail) = (m.number.next(), m.tail.plus(2));
        stage.is_not_believed(PartsAre { parts, number, tail, ..m });
        let m = stage.parts();
        stage.is_not_believed(PartsAre { lens, ..m });
    }
}

#[test]
fn a_cut_or_parts_of_an_unknown_shard_are_not_believed() {
    let mut stage = Stage::new(&Bounds::default());
    for l in [lane(0, 0), lane(99, 0), LaneId(u64::MAX)] {
        let next = stage.next();
        stage.contradicts(Cut { lanes: vec![CutLane { lane: l, from: 0, to: 3 }], ..next });
    }
    for shard in [3, 99, u32::MAX] {
        let m = stage.parts();
        stage.is_not_believed(PartsAre { shard: ShardId(shard), ..m });
    }
    // Nobody lacks anything of it here.
    stage.leader_says(0, PartsGone { shard: ShardId(99), known: CutNumber(7) });
    stage.unharmed();
}

#[test]
fn a_cut_of_a_future_view_is_not_believed() {
    let mut stage = Stage::new(&Bounds::default());
    for view in [stage.world.orderer.view.number.0 + 1, u64::MAX] {
        let next = stage.next();
        stage.contradicts(Cut { view: ViewNumber(view), ..next });
    }
}

#[test]
fn a_view_that_contradicts_the_one_before_is_not_believed_and_an_older_one_is_no_news() {
    let mut stage = Stage::new(&Bounds::default());
    let wrong: Vec<fn(&mut View)> = vec![
        |v| v.shards.reverse(),
        |v| v.shards[0].replicas.reverse(),
        |v| drop(v.shards[0].replicas.pop()),
        |v| {
            let more = v.shards[2].replicas[1].clone();
            v.shards[0].replicas.push(more);
        },
        |v| v.shards[0].replicas = vec![v.shards[0].replicas[0].clone(); 9],
        |v| v.shards[0].replicas[1] = v.shards[2].replicas[1].clone(),
    ];
    for change in wrong {
        let mut view = stage.world.orderer.view.clone();
        view.number = view.number.next();
        change(&mut view);
        stage.is_not_believed(ViewIs { view });
    }
    let l = stage.leader_says(0, ViewIs { view: View::default() });
    assert!(!stage.world.links[l].dead);
    stage.unharmed();
}

/// The leader's word counts when the cuts come that it rests on; what is not ordered yet isn't trimmed here.
#[test]
fn a_trim_point_ahead_of_the_tail_takes_nothing_that_is_not_ordered() {
    let mut stage = Stage::new(&Bounds::default());
    let tail = stage.world.orderer.tail;
    stage.leader_says(0, TrimIs { gsn: tail.plus(3) });
    let world = &mut stage.world;
    world.send(stage.writer, append(lane(1, 0), &batch(GOOD, stage.written, 2, 60)));
    world.settle();
    assert_eq!(world.clients[stage.writer].acks(), [(Seq(stage.written), tail)]);
    world.send(stage.writer, append(lane(1, 0), &batch(GOOD, stage.written + 1, 2, 60)));
    world.settle();
    assert_eq!(world.clients[stage.writer].acks(), [(Seq(stage.written + 1), tail.plus(2))]);
    for n in 0..2 {
        let (all, _, end) = stage.world.read(n, 1, tail.plus(3), tail.plus(4), 1 << 20);
        assert_eq!((all.len(), end), (1, ReadEnd::Complete), "node {n}");
    }
}

#[test]
fn a_stale_or_forged_stream_of_a_primary_is_refused() {
    let mut stage = Stage::new(&Bounds::default());
    let (l, inc) = (lane(1, 0), Incarnation);
    let mut placed = Vec::new();
    PlacedBatch::place(l, inc(1), Lsn(0), 0, batch(77, 0, 1, 5)).encode(&mut placed);
    use RefusedWhy::*;
    // Who says it, what, and how that ends. Node 1 backs up lane 1/0 of slot 1.
    let cases: Vec<(usize, Message, RefusedWhy)> = vec![
        (0, Sync { lane: l, incarnation: inc(0), stream: 9 }.into(), Stale),
        (0, Sync { lane: l, incarnation: inc(1), stream: 0 }.into(), Stale),
        (0, Replicate { lane: l, incarnation: inc(1), stream: 1 }.into(), Stale),
        (0, Replicate { lane: l, incarnation: inc(7), stream: 7 }.into(), Stale),
        (0, FetchLane { lane: l, incarnation: inc(0), stream: 1, from: Lsn(0) }.into(), Stale),
        (0, LaneBase { lane: l, incarnation: inc(0), stream: 1, from: Lsn(9), last: 0 }.into(), Stale),
        // Of slots that are not its primary, and of lanes that nobody has.
        (2, Sync { lane: l, incarnation: inc(9), stream: 9 }.into(), Invalid),
        (2, Replicate { lane: l, incarnation: inc(9), stream: 9 }.into(), Invalid),
        (7, Sync { lane: l, incarnation: inc(9), stream: 9 }.into(), Invalid),
        (0, Sync { lane: lane(1, 1), incarnation: inc(9), stream: 9 }.into(), Invalid),
        (0, Sync { lane: lane(1, 2), incarnation: inc(9), stream: 9 }.into(), Invalid),
        (0, Sync { lane: lane(99, 0), incarnation: inc(9), stream: 9 }.into(), NotReady),
        (0, Replicate { lane: LaneId(u64::MAX), incarnation: inc(9), stream: 9 }.into(), NotReady),
    ];
    for (node, message, why) in cases {
        let world = &mut stage.world;
        let c = world.connect(1);
        world.send(c, hello(Role::Slot, node));
        world.send(c, encode_with(message.clone(), &[&placed]));
        world.settle();
        assert_eq!((world.clients[c].refused(), world.clients[c].closed), (Some(why), true), "{message:?}");
        stage.unharmed();
    }
}

/// Answers that nobody asked for, of lanes that are not ours, or as if we had asked twice.
#[test]
fn a_forged_answer_of_a_backup_costs_its_connection() {
    let mut stage = Stage::new(&Bounds::default());
    let (i, stream, from) = (Incarnation(1), 1, Lsn(0));
    let lanes = [lane(1, 1), lane(3, 0), lane(99, 0), LaneId(u64::MAX)];
    for l in lanes {
        stage.peer_says(true, Synced { lane: l, incarnation: i, stream, len: 5, last: 0 }, &[]);
        stage.peer_says(true, Room { lane: l, room: DiskRoom::Full }, &[]);
    }
    stage.peer_says(true, LaneIs { lane: lane(99, 0), incarnation: i, stream, from }, &[]);
    for dialled in [true, false] {
        for message in a_leaders(&stage) {
            stage.peer_says(dialled, message, &[]);
        }
        stage.peer_says(
            dialled,
            Append { lane: lane(1, 0), start: Seq(0), prompt: true },
            batch(5, 0, 1, 1).bytes(),
        );
    }
}
