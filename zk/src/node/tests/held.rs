//! Does a client that takes its answers slowly, or never, get all of them, in order, at a bounded cost?

use super::world::*;
use crate::jute::{ErrorCode, EventType, Reader, Request, xid};
use crate::node::held::{AHEAD_BYTES_MAX, READ_BYTES_MIN, TURN_BYTES_MAX};
use proptest::prelude::*;
use std::time::Duration;
use zoolog_core::limits::OUT_BYTES_PAUSE;

const BIG: usize = 1_000_000;
/// Longest answer.
const ANSWER: usize = BIG + 200;
/// What the shell may come to keep: what it has before it says that this is much, and what a turn adds.
const KEPT_MAX: usize = OUT_BYTES_PAUSE + TURN_BYTES_MAX + AHEAD_BYTES_MAX + ANSWER;
/// The same when others make a node longer while reads of it are before a write in the log's hands: 32 at most.
const KEPT_IF_LENGTHENED_MAX: usize = KEPT_MAX + 32 * ANSWER;

/// Data that tell who made them: all bytes alike would hide a mix-up of two.
fn data(stamp: u8, len: usize) -> &'static [u8] {
    static ALL: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    &ALL.get_or_init(|| (0..=7).map(|b| vec![b; BIG]).collect())[usize::from(stamp % 8)][..len]
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Get(usize),
    Set(usize, u8, usize),
    Exists(usize),
    Children,
    Sync,
    Unknown,
    /// The node that another client writes, with a watch.
    Watch,
}

#[derive(Clone, Debug)]
enum Step {
    /// Pipelined as far as the connection is read.
    Ask(Ask),
    Ping,
    /// The other client writes what is watched: so many bytes.
    Other(u8, usize),
    Commit(usize),
    /// The client takes so many bytes.
    Take(usize),
    Wait(u64),
    Run,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(BIG), 1 => 200_000..BIG, 2 => 0..100usize]
}

fn step() -> impl Strategy<Value = Step> {
    let ask = prop_oneof![
        12 => (0usize..2).prop_map(Ask::Get),
        8 => (0usize..2, any::<u8>(), len()).prop_map(|(n, b, len)| Ask::Set(n, b, len)),
        1 => (0usize..2).prop_map(Ask::Exists),
        1 => Just(Ask::Children),
        1 => Just(Ask::Sync),
        1 => Just(Ask::Unknown),
        3 => Just(Ask::Watch),
    ];
    prop_oneof![
        20 => ask.prop_map(Step::Ask),
        1 => Just(Step::Ping),
        2 => (any::<u8>(), len()).prop_map(|(b, len)| Step::Other(b, len)),
        3 => (1usize..4).prop_map(Step::Commit),
        3 => (0..3 * BIG).prop_map(Step::Take),
        2 => (1u64..5).prop_map(Step::Wait),
        4 => Just(Step::Run),
    ]
}

fn name(n: usize) -> String {
    format!("/n{n}")
}

fn request(ask: Ask) -> Request<'static> {
    match ask {
        Ask::Get(n) => get(&name(n), false),
        Ask::Set(n, stamp, len) => set(&name(n), data(stamp, len)),
        Ask::Exists(n) => exists(&name(n), false),
        Ask::Children => children("/", false),
        Ask::Sync => sync(),
        Ask::Unknown => Request::Other(999),
        Ask::Watch => get("/w", true),
    }
}

/// What its one client expects of a sequential server: the record's buffer, where there is one.
enum Wanted {
    Data(&'static [u8]),
    Ok,
    Error(ErrorCode),
    Watched,
}

struct Slow {
    w: World,
    c: usize,
    other: usize,
    nodes: [&'static [u8]; 2],
    wanted: Vec<Wanted>,
    pings: usize,
    /// What could not be sent yet.
    unread: std::collections::VecDeque<Step>,
    /// Bytes that may be kept for the client.
    kept_max: usize,
}

impl Slow {
    fn new(window: usize) -> Self {
        let mut w = World::new(1);
        let node = w.start(window);
        let ((c, _), (other, _)) = (w.connect(node), w.connect(0));
        for path in ["/n0", "/n1", "/w"] {
            w.call(c, 1, &create(path, 0));
            w.call(c, 1, &set(path, data(0, 0)));
        }
        w.keep(c);
        w.hub.borrow_mut().hold = true;
        Self {
            w,
            c,
            other,
            nodes: [&[]; 2],
            wanted: Vec::new(),
            pings: 0,
            unread: Default::default(),
            kept_max: KEPT_MAX,
        }
    }

    /// As a client's socket: what is sent while the node doesn't read waits outside.
    fn send(&mut self) {
        while !self.w.is_paused(self.c) {
            match self.unread.pop_front() {
                Some(Step::Ask(ask)) => {
                    self.wanted.push(match ask {
                        Ask::Get(n) => Wanted::Data(self.nodes[n]),
                        Ask::Set(n, stamp, len) => {
                            self.nodes[n] = data(stamp, len);
                            Wanted::Ok
                        }
                        Ask::Exists(_) | Ask::Children | Ask::Sync => Wanted::Ok,
                        Ask::Unknown => Wanted::Error(ErrorCode::Unimplemented),
                        Ask::Watch => Wanted::Watched,
                    });
                    self.w.put_request(self.c, self.wanted.len() as i32, &request(ask));
                }
                Some(Step::Ping) => {
                    self.pings += 1;
                    self.w.put_request(self.c, xid::PING, &Request::Ping);
                }
                Some(other) => panic!("{other:?} is not sent"),
                None => return,
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Ask(_) | Step::Ping => self.unread.push_back(step.clone()),
            Step::Other(stamp, len) => {
                if *len > READ_BYTES_MIN {
                    self.kept_max = KEPT_IF_LENGTHENED_MAX;
                }
                self.w.send(self.other, 1, &set("/w", data(*stamp, *len)));
            }
            Step::Commit(n) => {
                self.w.run();
                self.w.hub.borrow_mut().commit(*n);
                self.w.run();
            }
            Step::Take(bytes) => self.w.take(self.c, *bytes),
            Step::Wait(ms) => self.w.advance(Duration::from_millis(*ms)),
            Step::Run => self.w.run(),
        }
        self.send();
        self.check();
    }

    fn check(&self) {
        assert!(!self.w.is_closed(self.c), "{:?}", self.w.notes(1));
        let (_, most) = self.w.kept(self.c);
        assert!(most <= self.kept_max, "{most} bytes are kept, more than {}", self.kept_max);
    }

    /// The client takes everything, and the log commits: every request is answered.
    fn end(mut self) {
        for _ in 0..100_000 {
            self.w.hub.borrow_mut().commit(usize::MAX);
            self.w.take(self.c, usize::MAX);
            self.w.advance(MS);
            self.send();
            self.check();
            if self.unread.is_empty() && self.w.node(1).status().outstanding == 0 {
                break;
            }
        }
        assert!(self.unread.is_empty(), "{} requests are never read", self.unread.len());
        // What was answered last is on its way.
        self.w.take(self.c, usize::MAX);
        self.w.advance(MS);
        let got = self.w.got(self.c);
        assert!(got.iter().map(Got::zxid).is_sorted(), "header zxids never decrease");
        let (mut next, mut pongs) = (0, 0);
        // Data seen with a watch that has not fired.
        let mut seen: Option<&[u8]> = None;
        for g in &got {
            if let Got::Event(..) = g {
                assert_eq!(g.event(), (EventType::NodeDataChanged, "/w"));
                assert!(seen.take().is_some(), "an event for a watch that the client doesn't know of");
                continue;
            }
            if g.reply().0 == xid::PING {
                pongs += 1;
                continue;
            }
            let wanted = &self.wanted[next];
            next += 1;
            assert_eq!(g.reply().0, next as i32, "answers come in the order of their requests");
            let buffer = || Reader::new(g.record()).buffer().unwrap().unwrap();
            match wanted {
                Wanted::Data(data) => assert!(buffer() == *data, "reply {next} has other data"),
                Wanted::Ok => assert_eq!(g.reply().1, 0),
                Wanted::Error(error) => assert_eq!(g.reply().1, error.code()),
                Wanted::Watched => {
                    let unchanged = seen.is_none_or(|before| before == buffer());
                    assert!(unchanged, "ZK-3: state is seen before the event that announces it");
                    seen = Some(buffer());
                }
            }
        }
        assert_eq!((next, pongs), (self.wanted.len(), self.pings));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// However it pipelines long reads and writes, however slowly it takes the answers: it gets all of them, in
    /// order and right, its connection lives, and what is kept for it is bounded.
    #[test]
    fn slow_takers_get_everything_at_a_bounded_cost(
        steps in prop::collection::vec(step(), 0..80), window in 1usize..5,
    ) {
        let mut slow = Slow::new(window);
        for s in &steps {
            slow.take(s);
        }
        slow.end();
    }
}

/// Reads before a write in the log's hands are answered whatever others have made of their node meanwhile.
#[test]
pub(super) fn reads_that_others_make_longer_are_answered_at_a_bounded_cost() {
    let mut slow = Slow::new(1);
    slow.take(&Step::Ask(Ask::Sync));
    slow.take(&Step::Other(0, BIG));
    for _ in 0..4 {
        slow.take(&Step::Ask(Ask::Watch));
    }
    slow.take(&Step::Ask(Ask::Set(0, 0, BIG)));
    slow.end();
}

#[test]
pub(super) fn alternating_long_reads_and_writes_are_all_answered() {
    let mut slow = Slow::new(100);
    slow.take(&Step::Ask(Ask::Set(0, 3, BIG)));
    for i in 0..100 {
        slow.take(&Step::Ask(Ask::Get(0)));
        slow.take(&Step::Ask(Ask::Set(1, i, 10)));
    }
    slow.end();
}

/// The write waits while the log has room, and goes when the read before it is answered and has left.
#[test]
pub(super) fn a_write_is_held_while_the_answers_before_it_are_long() {
    let mut slow = Slow::new(100);
    slow.take(&Step::Ask(Ask::Set(0, 3, BIG)));
    slow.take(&Step::Commit(1));
    slow.take(&Step::Ask(Ask::Set(0, 4, BIG)));
    slow.take(&Step::Ask(Ask::Get(0)));
    slow.take(&Step::Ask(Ask::Set(1, 1, 1)));
    slow.take(&Step::Run);
    assert_eq!(slow.w.back(1).own.len(), 1, "the write behind the read is held");
    slow.take(&Step::Commit(1));
    assert_eq!(slow.w.back(1).own.len(), 0, "this turn's answers are long");
    slow.take(&Step::Wait(1));
    assert_eq!(slow.w.back(1).own.len(), 1);
    slow.end();
}

/// What it reads may grow while its writes are in flight; but they have only so many reads among them.
#[test]
pub(super) fn short_reads_before_writes_are_many_but_counted() {
    let mut slow = Slow::new(100);
    for i in 0..100 {
        slow.take(&Step::Ask(Ask::Set(0, i, 10)));
        slow.take(&Step::Ask(Ask::Get(0)));
    }
    slow.take(&Step::Run);
    let sent = slow.w.back(1).own.len();
    let counted = AHEAD_BYTES_MAX / READ_BYTES_MIN;
    assert!((counted - 2..=counted + 1).contains(&sent), "{sent}");
    slow.end();
}

/// It keeps sending as long as it is read, and never takes an answer. Its session ends, at a bounded cost.
#[test]
pub(super) fn who_never_takes_an_answer_costs_little_and_is_closed() {
    let asks: [&dyn Fn(usize) -> Ask; 4] = [
        &|_| Ask::Get(0),
        &|i| if i % 2 == 0 { Ask::Get(0) } else { Ask::Set(1, 0, 10) },
        &|i| if i % 8 == 0 { Ask::Set(0, i as u8, BIG) } else { Ask::Get(0) },
        &|_| Ask::Exists(0),
    ];
    for (k, ask) in asks.iter().enumerate() {
        let mut slow = Slow::new(100);
        slow.take(&Step::Ask(Ask::Set(0, 3, BIG)));
        slow.w.hub.borrow_mut().hold = false;
        let start = slow.w.now;
        let mut sent = 0;
        while !slow.w.is_closed(slow.c) {
            while slow.unread.len() < 500 {
                slow.unread.push_back(Step::Ask(ask(sent)));
                sent += 1;
            }
            slow.send();
            slow.w.advance(5 * MS);
            let (kept, most) = slow.w.kept(slow.c);
            assert!(most <= KEPT_MAX, "kind {k}: {kept} bytes are kept");
            assert!(slow.w.now.since(start) < Duration::from_secs(60), "kind {k}: {kept} bytes are kept");
        }
        assert!(slow.w.kept(slow.c).1 > OUT_BYTES_PAUSE, "kind {k}: it was to be slow");
    }
}

/// While its answers wait it is not read, so its pings aren't either; its taking them shows that it lives.
#[test]
pub(super) fn a_session_lives_as_long_as_its_client_takes_answers() {
    let mut slow = Slow::new(100);
    slow.w.hub.borrow_mut().hold = false;
    slow.take(&Step::Ask(Ask::Set(0, 3, BIG)));
    slow.take(&Step::Run);
    for _ in 0..10 {
        for _ in 0..3 {
            slow.take(&Step::Ask(Ask::Get(0)));
        }
        slow.take(&Step::Wait(10));
        assert!(slow.w.is_paused(slow.c));
        slow.take(&Step::Wait(2000));
        slow.take(&Step::Take(2 * BIG));
        slow.take(&Step::Wait(10));
        slow.take(&Step::Take(2 * BIG));
        slow.take(&Step::Wait(10));
    }
    slow.end();
}

/// The same, for nodes of several executors.
pub(super) fn slow_takers_get_everything_at_a_bounded_cost_again() {
    slow_takers_get_everything_at_a_bounded_cost();
}
