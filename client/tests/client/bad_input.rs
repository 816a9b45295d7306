//! What does bad input come to at a client? The list of docs/BAD_INPUT.md, each entry a test that names it. What its owner asks
//! gets a typed answer; what peers say that can't be costs them the connection, and what is delivered stays dense. Invariants
//! SYS-1, LOG-1, LOG-4.

use crate::bench::*;
use zoolog_client::{AppendError, LogEvent, ReadEnd, SharedLog, TrimError};
use zoolog_core::batch::PlacedBatch;
use zoolog_core::cut::CutLane;
use zoolog_core::limits::RECORD_BYTES_MAX;
use zoolog_core::view::{Final, ShardState, View};
use zoolog_core::wire::*;
use zoolog_core::*;

const MAX: u64 = u64::MAX;
const LANE: LaneId = LaneId::new(ShardId(1), 0);

/// A client that follows two shards, of which lane 1/0 grows.
struct Stage {
    b: Bench,
    orderer: ConnId,
    /// Who pushes it shard 1, and up to where it has.
    pushing: ConnId,
    pushed: usize,
    all: Vec<PlacedBatch>,
    tail: u64,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let (b, orderer, [pushing, _]) = subscribed(config(), seed);
        let all = batches(LANE, 1, &[1; 200]);
        let mut stage = Self { b, orderer, pushing, pushed: 0, all, tail: 0 };
        (0..3).for_each(|_| stage.unharmed());
        stage
    }

    /// The next record comes, and is delivered.
    fn unharmed(&mut self) {
        self.tail += 1;
        let new = &self.all[self.pushed..self.tail as usize];
        self.b.say_with(self.pushing, Push { lane: LANE }, new);
        self.pushed = self.tail as usize;
        let next = cut(self.tail, self.tail - 1, 1, &[(LANE, self.tail - 1, self.tail)]);
        self.b.say(self.orderer, CutIs { cut: next });
        let came: Vec<u64> = self.b.committed().iter().map(|c| c.from().0).collect();
        assert_eq!(came, [self.tail - 1], "each position once");
        assert_eq!(self.b.client.known_tail(), Some(Gsn(self.tail)));
    }

    /// The orderer says that: it is hung up on, and the order goes on with the next.
    fn orderer_is_not_believed(&mut self, message: impl Into<Message>) {
        let message = message.into();
        self.b.say(self.orderer, message.clone());
        assert!(self.b.closing.contains(&self.orderer), "still listened to after {message:?}");
        assert_eq!(self.b.client.known_tail(), Some(Gsn(self.tail)), "{message:?}");
        assert_eq!(self.b.committed(), [], "{message:?}");
        self.b.close(self.orderer);
        self.b.ms(1000);
        let tail = self.tail;
        self.orderer = self.b.follow(&|r| order_is(r, tail, tail, view(1, 2), &[(LANE, tail)]));
        self.unharmed();
    }

    /// The replica that pushes says that: it is hung up on, and the other one is asked.
    fn replica_is_not_believed(&mut self, message: impl Into<Message>) {
        let (message, left) = (message.into(), self.pushing);
        self.b.say(left, message.clone());
        assert!(self.b.closing.contains(&left), "still listened to after {message:?}");
        self.b.close(left);
        self.another_pushes(&format!("{message:?}"));
        assert_ne!(self.pushing, left);
    }

    /// What it pushes is damaged: it is asked for again, of the other one if that is there.
    fn push_is_not_believed(&mut self, payload: &[u8], what: &str) {
        let (conn, damaged) = (self.pushing, self.b.client.metrics().damaged);
        self.b.input(Input::Frame { conn, bytes: encode_with(Push { lane: LANE }, &[payload]) });
        assert_eq!(self.b.client.metrics().damaged, damaged + 1, "{what}");
        self.another_pushes(what);
    }

    /// Another stream is asked for.
    fn another_pushes(&mut self, what: &str) {
        assert_eq!(self.b.committed(), [], "{what}");
        for _ in 0..200 {
            connect_all(&mut self.b);
            let asked = sent_to(&mut self.b, |m| match m {
                Message::Subscribe(m) if m.shard == ShardId(1) => Some(m.from[0].0),
                _ => None,
            });
            if let Some(&(conn, from)) = asked.last() {
                (self.pushing, self.pushed) = (conn, from as usize);
                return self.unharmed();
            }
            self.b.ms(20);
        }
        panic!("nobody is asked for what is pushed, after {what}");
    }

    /// What a read comes to, without a word to anybody.
    fn reads(&mut self, from: u64, to: u64, max_bytes: usize, covers: u64, end: ReadEnd) {
        let request = self.b.client.read(Gsn(from), Gsn(to), max_bytes);
        self.b.drain();
        let done = LogEvent::ReadDone { request, batches: vec![], covers: Gsn(covers), end };
        assert!(self.b.events().contains(&done), "{from}..{to}: {end:?} up to {covers}");
        assert_eq!(reads(&mut self.b), [], "{from}..{to}");
    }
}

#[test]
fn a_reversed_range_is_invalid() {
    let mut s = Stage::new(51);
    for (from, to) in [(2, 1), (MAX, 0), (MAX, MAX - 1), (1 << 63, 3), (s.tail + 1, s.tail)] {
        s.reads(from, to, 100, from, ReadEnd::Invalid);
    }
    s.unharmed();
}

#[test]
fn an_empty_range_is_complete_with_nothing_in_it() {
    let mut s = Stage::new(52);
    for at in [0, 1, s.tail, s.tail + 7, MAX] {
        s.reads(at, at, 100, at, ReadEnd::Complete);
    }
    s.unharmed();
}

#[test]
fn a_limit_of_zero_bytes_is_invalid() {
    let mut s = Stage::new(53);
    for (from, to) in [(0, 2), (0, 0), (MAX, MAX), (5, 1)] {
        s.reads(from, to, 0, from, ReadEnd::Invalid);
    }
    s.unharmed();
}

#[test]
fn a_range_beyond_the_tail_or_with_negative_looking_numbers_is_not_yet() {
    let mut s = Stage::new(54);
    for from in [s.tail, s.tail + 1, 1 << 62, 1 << 63, MAX - 1] {
        s.reads(from, MAX, usize::MAX, from, ReadEnd::NotYet);
    }
    s.unharmed();
}

#[test]
fn a_trimmed_range_is_called_so_and_a_subscription_to_it_ends_with_a_gap() {
    let mut s = Stage::new(55);
    let request = s.b.client.read(Gsn(0), Gsn(2), 100);
    s.b.drain();
    let answer = |s: &mut Stage| {
        connect_all(&mut s.b);
        for (conn, m) in reads(&mut s.b) {
            let (request, shard, from) = (m.request, m.shard, m.from);
            let (covers, end, gsns) = (Gsn(2), ReadEnd::Trimmed, vec![]);
            s.b.say(conn, ReadIs { request, shard, from, covers, end, gsns });
        }
    };
    answer(&mut s);
    let (batches, end) = (vec![], ReadEnd::Trimmed);
    assert!(s.b.events().contains(&LogEvent::ReadDone { request, batches, covers: Gsn(2), end }));
    s.unharmed();
    s.b.client.subscribe(Gsn(1));
    s.b.drain();
    answer(&mut s);
    assert!(s.b.events().contains(&LogEvent::Gap { from: Gsn(1), until: Gsn(2) }));
}

/// Nothing lies there, and nothing breaks when it comes nearer.
#[test]
fn a_subscription_beyond_the_tail_delivers_nothing_before_it_is_reached() {
    for from in [10, 1 << 62, 1 << 63, MAX] {
        let mut s = Stage::new(56);
        s.b.client.subscribe(Gsn(from));
        s.b.drain();
        for _ in 0..4 {
            s.tail += 1;
            let next = cut(s.tail, s.tail - 1, 1, &[(LANE, s.tail - 1, s.tail)]);
            s.b.say(s.orderer, CutIs { cut: next });
        }
        assert_eq!((s.b.committed(), s.b.client.known_tail()), (vec![], Some(Gsn(s.tail))), "{from}");
        assert!(!s.b.closing.contains(&s.orderer));
    }
}

#[test]
fn a_hundred_thousand_subscriptions_are_one() {
    let mut s = Stage::new(57);
    let questions = |s: &mut Stage| {
        s.b.drain();
        connect_all(&mut s.b);
        sent_to(&mut s.b, |m| matches!(m, Message::Subscribe(_) | Message::Read(_)).then_some(())).len()
    };
    let mut asked = 0;
    for i in 0..100_000u64 {
        s.b.client.subscribe(Gsn(i % 7));
        if i % 1000 == 0 {
            asked += questions(&mut s);
        }
    }
    asked += questions(&mut s);
    assert!(asked <= 100 * 8, "{asked} questions for a hundred turns");
    assert_eq!(s.b.client.buffered_bytes(), 0);
}

#[test]
fn a_trim_ahead_of_the_tail_is_answered_with_the_tail() {
    let mut s = Stage::new(58);
    let ours = s.b.client.trim(Gsn(MAX));
    s.b.drain();
    let asked = sent_to(&mut s.b, |m| if let Message::Trim(m) = m { Some(m.request) } else { None });
    let [(conn, request)] = asked[..] else { panic!("{asked:?}") };
    let (end, before, trim) = (TrimEnd::BeyondTail(Gsn(s.tail)), Gsn(0), Gsn(0));
    s.b.say(conn, TrimAnswer { request, end, before, trim });
    let result = Err(TrimError::BeyondTail { tail: Gsn(s.tail) });
    assert!(s.b.events().contains(&LogEvent::TrimDone { request: ours, result }));
    s.unharmed();
}

#[test]
fn a_record_above_the_limit_or_a_condition_on_the_future_is_refused() {
    let mut s = Stage::new(59);
    let long = vec![0; RECORD_BYTES_MAX + 1];
    let refused = AppendError::TooLong { bytes: long.len(), limit: RECORD_BYTES_MAX };
    assert_eq!(s.b.client.append(&long), Err(refused));
    assert_eq!(s.b.client.append_vital(&long), Err(refused));
    assert_eq!(s.b.client.append_if(Gsn(s.tail), &[b"x", &long]), Err(refused));
    assert!(matches!(s.b.client.append_if(Gsn(s.tail), &[]), Err(AppendError::NoBatch { .. })));
    for beyond in [s.tail + 1, 1 << 63, MAX] {
        assert_eq!(s.b.client.append_if(Gsn(beyond), &[b"x"]), Err(AppendError::Unsettled));
    }
    assert_eq!(s.b.client.pending_batches(), 0);
    s.unharmed();
}

#[test]
fn a_cut_and_whatever_else_only_a_leader_says_costs_a_replica_its_connection() {
    let mut s = Stage::new(60);
    let l = (LANE, s.tail, s.tail + 1);
    let all: Vec<Message> = vec![
        CutIs { cut: cut(s.tail + 1, s.tail, 1, &[l]) }.into(),
        ViewIs { view: view(9, 1) }.into(),
        order_is(1, 9, 9, view(1, 2), &[(LANE, 9)]).into(),
        TailIs { request: 1, gsn: Gsn(9) }.into(),
        NotLeader { leader: Some("evil:1".into()) }.into(),
        OrderersAre { orderers: vec![] }.into(),
    ];
    for message in all {
        s.replica_is_not_believed(message);
    }
}

#[test]
fn what_only_a_replica_says_costs_an_orderer_its_connection() {
    let mut s = Stage::new(61);
    let (writer, request, shard, from) = (s.b.client.writer(), 1, ShardId(1), Gsn(0));
    s.orderer_is_not_believed(Push { lane: LANE });
    s.orderer_is_not_believed(Appended { writer, acks: vec![(Seq(0), Gsn(0))] });
    let (covers, end, gsns) = (Gsn(9), ReadEnd::Complete, vec![]);
    s.orderer_is_not_believed(ReadIs { request, shard, from, covers, end, gsns });
    s.orderer_is_not_believed(Room { lane: LANE, room: DiskRoom::Full });
}

#[test]
fn a_regressing_cut_is_no_news_or_not_believed() {
    let mut s = Stage::new(62);
    // With a number that was: passed over.
    for number in [0, 1, s.tail] {
        s.b.say(s.orderer, CutIs { cut: cut(number, 0, 1, &[(LANE, 0, 50)]) });
        assert!(!s.b.closing.contains(&s.orderer));
        s.unharmed();
    }
    // With the next number, from where the order or the lane was before.
    for (base, from, to) in
        [(0, 3, 4), (MAX, 3, 4), (3, 0, 4), (3, 3, 3), (3, 4, 3), (3, MAX, 0), (3, 3, MAX)]
    {
        let at = |n: u64| {
            if n == 3 {
                s.tail
            } else if n == 4 {
                s.tail + 1
            } else {
                n
            }
        };
        let next = cut(s.tail + 1, at(base), 1, &[(LANE, at(from), at(to))]);
        s.orderer_is_not_believed(CutIs { cut: next });
    }
    let next = cut(s.tail + 2, s.tail, 1, &[(LANE, s.tail, s.tail + 1)]);
    s.orderer_is_not_believed(CutIs { cut: next });
}

#[test]
fn a_cut_with_a_wrong_vector_is_not_believed() {
    let mut s = Stage::new(63);
    let all: [fn(u64) -> Vec<CutLane>; 5] = [
        |_| vec![],
        |_| vec![CutLane { lane: lane(1, 2), from: 0, to: 1 }],
        |_| vec![CutLane { lane: lane(1, 255), from: 0, to: 1 }],
        |t| vec![CutLane { lane: LANE, from: t, to: t + 1 }; 2],
        |t| vec![CutLane { lane: lane(1, 1), from: 0, to: 1 }, CutLane { lane: LANE, from: t, to: t + 1 }],
    ];
    for lanes in all {
        let mut next = cut(s.tail + 1, s.tail, 1, &[]);
        next.lanes = lanes(s.tail);
        s.orderer_is_not_believed(CutIs { cut: next });
    }
}

#[test]
fn a_cut_of_an_unknown_shard_or_a_future_view_is_not_believed() {
    let mut s = Stage::new(64);
    for l in [lane(0, 0), lane(3, 0), LaneId(MAX)] {
        s.orderer_is_not_believed(CutIs { cut: cut(s.tail + 1, s.tail, 1, &[(l, 0, 1)]) });
    }
    for number in [2, MAX] {
        let next = cut(s.tail + 1, s.tail, number, &[(LANE, s.tail, s.tail + 1)]);
        s.orderer_is_not_believed(CutIs { cut: next });
    }
}

#[test]
fn a_malformed_view_is_not_believed_and_an_older_one_is_no_news() {
    let mut s = Stage::new(65);
    let wrong: [fn(&mut View); 6] = [
        |v| v.shards.reverse(),
        |v| v.shards[1].id = v.shards[0].id,
        |v| v.shards[0].replicas.clear(),
        |v| v.shards[0].replicas = vec![v.shards[0].replicas[0].clone(); 9],
        |v| v.shards[0].replicas[0].addr = "x".repeat(10_000),
        |v| v.shards[0].state = ShardState::Finalized(Final { lens: vec![1], first: Gsn(0), end: Gsn(1) }),
    ];
    for change in wrong {
        let mut view = view(2, 2);
        change(&mut view);
        s.orderer_is_not_believed(ViewIs { view });
    }
    s.b.say(s.orderer, ViewIs { view: view(0, 0) });
    assert!(!s.b.closing.contains(&s.orderer));
    s.unharmed();
}

/// Answers to nothing that was asked.
#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut s = Stage::new(66);
    let (request, gsn) = (77, Gsn(MAX));
    s.b.say(s.orderer, TailIs { request, gsn });
    let (end, before, trim) = (TrimEnd::Done, Gsn(0), Gsn(MAX));
    s.b.say(s.orderer, TrimAnswer { request, end, before, trim });
    s.b.say(s.orderer, ConsumerIs { request, upto: None, trim: Gsn(MAX) });
    let writer = s.b.client.writer();
    let refused = WriterRefused::Fenced;
    s.b.say(s.orderer, WriterIs { request, refused, writer, epoch: Epoch(9), lane: None, tail: gsn });
    let (shard, from, covers, end) = (ShardId(1), Gsn(0), Gsn(MAX), ReadEnd::Complete);
    s.b.say(s.pushing, ReadIs { request, shard, from, covers, end, gsns: vec![] });
    let (end, acks) = (ResolveEnd::Forgotten, vec![]);
    s.b.say(s.pushing, Resolved { request, lane: LANE, writer, end, acks, tail: None, newest: None });
    let told = s.b.events();
    assert!(told.iter().all(|e| matches!(e, LogEvent::Progress { .. })), "{told:?}");
    assert!(!s.b.closing.contains(&s.orderer) && !s.b.closing.contains(&s.pushing));
    s.unharmed();
}

/// LOG-4: damaged in any part, or cut off.
#[test]
fn a_pushed_batch_with_a_wrong_length_count_checksum_or_place_is_not_delivered() {
    let mut s = Stage::new(67);
    // Of the placement: lane, incarnation, LSN, chain, checksum. Of the batch: magic, version, kind, number, count, length,
    // checksum, length of a record, bytes.
    for at in [0, 8, 16, 24, 28, 32, 36, 37, 56, 68, 72, 76, 80, 90] {
        let mut payload = encoded(&s.all[s.pushed..=s.pushed]).to_vec();
        payload[at] ^= 1;
        s.push_is_not_believed(&payload, &format!("byte {at}"));
    }
    for len in [1, 31, 32, 50, 80] {
        let payload = encoded(&s.all[s.pushed..=s.pushed]);
        s.push_is_not_believed(&payload[..len], &format!("{len} bytes of it"));
    }
}

/// LOG-1: sound batches that belong elsewhere are not taken for those that belong here, which are read instead.
#[test]
fn a_pushed_batch_of_another_lane_or_behind_a_gap_is_not_delivered() {
    let mut s = Stage::new(68);
    for gap in [false, true] {
        let payload = if gap { vec![s.all[s.pushed + 1].clone()] } else { batches(lane(1, 1), 1, &[1]) };
        let before = s.b.client.metrics();
        s.b.say_with(s.pushing, Push { lane: LANE }, &payload);
        let after = s.b.client.metrics();
        assert_eq!(after.damaged + after.strays, before.damaged + before.strays + 1, "{payload:?}");
        assert_eq!(s.b.committed(), []);
        if after.damaged > before.damaged {
            s.another_pushes("a batch of another lane");
        } else {
            s.unharmed();
        }
    }
}
