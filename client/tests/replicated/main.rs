//! Replicated structures over an embedded log: held against a model through random lives with crashes; rejections, panics,
//! skips, bad snapshots and bounds one by one.

mod bench;
#[path = "../local/bench.rs"]
mod disk;
mod examples;
mod late;

use bench::{NAME, World, restore};
use disk::CLUSTER;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_client::replicated::rkyv::{self, Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{
    Applied, Consistency, Image, Loader, ProposeError, QueryError, ReplicatedConfig, ReplicatedEvent,
    Restored, StateMachine, Writing, check, unarchive,
};
use zoolog_core::rng::Rng;
use zoolog_core::{Gsn, Instant};

/// Which commands were applied where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Ledger {
    /// Position of each number.
    at: BTreeMap<u64, u64>,
    /// Depends on the order of all.
    sum: u64,
}

#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
enum Entry {
    Enter { number: u64, filling: Vec<u8> },
    Panic,
}

impl StateMachine for Ledger {
    type Command = Entry;
    /// How many there were before, and the sum.
    type Outcome = (usize, u64);

    fn apply(&mut self, gsn: Gsn, command: &Archived<Entry>) -> (usize, u64) {
        match command {
            rkyv::Archived::<Entry>::Enter { number, .. } => {
                let before = self.at.len();
                let again = self.at.insert(number.to_native(), gsn.0);
                assert_eq!(again, None, "a command is applied once");
                self.sum = self.sum.wrapping_mul(31).wrapping_add(number.to_native());
                (before, self.sum)
            }
            rkyv::Archived::<Entry>::Panic => {
                self.sum = 0;
                panic!("told to")
            }
        }
    }

    fn snapshot(&self) -> Image {
        let all = Image::archive(self).flatten().collect::<Vec<u8>>();
        // In pieces, an empty one among them.
        Image::pieces([all[..all.len() / 2].to_vec(), vec![], all[all.len() / 2..].to_vec()].into_iter())
    }

    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}

fn enter(number: u64) -> Entry {
    Entry::Enter { number, filling: vec![number as u8; (number % 90) as usize] }
}

type Ended = BTreeMap<u64, (u64, (usize, u64))>;

/// ZK-1, LOG-2, LOG-3 one storey higher: through crashes at any time every command is applied once, in the order of
/// proposing; whoever was told an outcome finds it so for ever; reads show what they ask for; the log is let go only before
/// the second newest snapshot, and what was let go is never missed.
#[test]
fn random_lives_keep_every_outcome() {
    let (mut crashes, mut outcomes, mut lost, mut snapshots, mut trimmed) = (0, 0, 0, 0, 0);
    for seed in 0..60 {
        let mut rng = Rng::new(seed, "replicated");
        let mut w = World::<Ledger>::new(rng.next_u64());
        let mut next = 0u64;
        let mut known = Ended::new();
        // Proposals of this life by id, and reads with what they must show.
        let (mut pending, mut reads) = (BTreeMap::new(), BTreeMap::new());
        let mut ready = false;
        for _ in 0..600 {
            match rng.below(60) {
                0..=14 => {
                    for _ in 0..rng.between(1, 5) {
                        match w.bench.log.propose(&enter(next)) {
                            Ok(id) => drop(pending.insert(id, next)),
                            Err(e) => assert_eq!(e, ProposeError::Busy),
                        }
                        next += 1;
                    }
                    w.bench.turn(None);
                }
                15..=34 => drop(w.bench.sync()),
                35..=39 => while rng.chance(95) && w.bench.load() {},
                40..=49 => drop(w.save()),
                50..=55 => {
                    let (consistency, needs) = match rng.below(3) {
                        0 => (Consistency::Session, None),
                        1 => (Consistency::Since(Gsn(rng.below(next + 1))), None),
                        _ => (Consistency::Linearizable, Some(known.len())),
                    };
                    let id = w.bench.log.query(consistency).expect("few");
                    reads.insert(id, (consistency, needs));
                    w.bench.turn(None);
                }
                56..=57 => w.bench.log.snapshot(),
                58 => w.broken = rng.chance(20),
                _ => {
                    crashes += 1;
                    trimmed += u64::from(w.node().log().trimmed() > Gsn(0));
                    lost += pending.len();
                    w = w.crash(&mut rng);
                    (pending, reads, ready) = (BTreeMap::new(), BTreeMap::new(), false);
                }
            }
            for event in w.events() {
                match event {
                    ReplicatedEvent::Ready => assert!(!std::mem::replace(&mut ready, true)),
                    ReplicatedEvent::Outcome { proposal, result } => {
                        let first = pending.pop_first().expect("proposed");
                        assert_eq!(first.0, proposal, "each once, in order");
                        let Applied { gsn, outcome } = result.expect("nothing here fails");
                        known.insert(first.1, (gsn.0, outcome));
                        outcomes += 1;
                    }
                    ReplicatedEvent::Readable { query } => match reads.remove(&query).expect("asked once") {
                        (Consistency::Session, _) => assert!(ready),
                        (Consistency::Since(gsn), _) => assert!(w.node().applied() > gsn),
                        (Consistency::Linearizable, n) => {
                            let n = n.expect("of this kind");
                            assert!(w.node().state().at.len() >= n, "all that anybody was told");
                        }
                    },
                    ReplicatedEvent::Snapshot { .. } => snapshots += 1,
                    ReplicatedEvent::Cluster { id } => assert_eq!(id, CLUSTER),
                    ReplicatedEvent::Note(text) => assert!(text.contains("no room"), "{text}"),
                    other => panic!("{other:?} is not called for"),
                }
            }
            let node = w.node();
            assert!(node.applied() <= node.log().durable());
            let second = w.files.iter().rev().filter(|f| f.1.1).nth(1).map_or(Gsn(0), |f| *f.0);
            assert!(node.log().trimmed() <= second, "held back by the second newest");
        }
        w.broken = false;
        w.settle();
        let state = w.node().state();
        for (number, (gsn, _)) in &known {
            assert_eq!(state.at.get(number), Some(gsn), "seed {seed}: what was told is so");
        }
        // The model: every number applied, in the order of its position.
        let order: BTreeMap<u64, u64> = state.at.iter().map(|(n, gsn)| (*gsn, *n)).collect();
        assert!(order.values().is_sorted(), "in the order of proposing");
        let (mut model, mut told) = (Ledger::default(), 0);
        for (gsn, number) in &order {
            let before = model.at.len();
            model.at.insert(*number, *gsn);
            model.sum = model.sum.wrapping_mul(31).wrapping_add(*number);
            if let Some((_, outcome)) = known.get(number) {
                assert_eq!(*outcome, (before, model.sum));
                told += 1;
            }
        }
        assert_eq!((state, told), (&model, known.len()), "seed {seed}");
    }
    assert!(
        crashes > 500 && outcomes > 5000 && lost > 200 && snapshots > 200 && trimmed > 100,
        "{crashes} {outcomes} {lost} {snapshots} {trimmed}"
    );
}

#[test]
fn what_can_not_be_decoded_is_rejected_named_and_passed_over() {
    let mut w = World::<Ledger>::new(1);
    w.call(&enter(1)).expect("applied");
    let good = w.node().writing().command(&enter(2)).expect("short");
    let mut bad = good.clone();
    bad.truncate(good.len() - 3);
    w.append_raw(&bad);
    w.append_raw(b"of somebody else");
    w.append_raw(&Writing::new("other", 1).command(&enter(3)).expect("short"));
    w.settle();
    let events = w.events();
    let rejected: Vec<&ProposeError> = events
        .iter()
        .filter_map(|e| if let ReplicatedEvent::Outcome { result: Err(e), .. } = e { Some(e) } else { None })
        .collect();
    assert!(matches!(rejected[0], ProposeError::Rejected { gsn: Gsn(1), .. }), "{rejected:?}");
    assert_eq!(rejected.len(), 3);
    let notes: Vec<String> = events
        .iter()
        .filter_map(|e| if let ReplicatedEvent::Note(n) = e { Some(n.clone()) } else { None })
        .collect();
    assert!(notes.len() == 1 && notes[0].contains("the command at 1 is rejected"), "{notes:?}");
    let figures = w.node().figures();
    assert_eq!((figures.applied, figures.rejected, figures.foreign), (1, 1, 2));
    assert_eq!(w.call(&enter(4)).expect("applied").gsn, Gsn(4));
    // Alike after a replay.
    let hash = w.node().state_hash();
    let mut w = w.crash(&mut Rng::new(1, "crash"));
    w.settle();
    assert_eq!((w.node().state_hash(), w.node().figures().rejected), (hash, 1));
}

fn quietly<R>(f: impl FnOnce() -> R) -> R {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = f();
    std::panic::set_hook(hook);
    result
}

fn failure<S: StateMachine>(w: &mut World<S>) -> String {
    let failed = |e| if let ReplicatedEvent::Failed { why, .. } = e { Some(why) } else { None };
    let why: Vec<String> = w.events().into_iter().filter_map(failed).collect();
    assert_eq!(why.len(), 1, "it fails once: {why:?}");
    why[0].clone()
}

/// A panic ends the node, at each start, until the command is skipped; who starts from before it knows that.
#[test]
fn a_panic_names_its_position_and_a_skip_leads_round_it() {
    let mut w = World::<Ledger>::new(1);
    w.call(&enter(1)).expect("applied");
    let before = w.node().state().clone();
    w.bench.log.propose(&Entry::Panic).expect("room");
    w.bench.log.propose(&enter(2)).expect("room");
    quietly(|| w.settle());
    let events = w.events();
    let unknown = |e: &&_| matches!(e, ReplicatedEvent::Outcome { result: Err(e), .. } if e.is_unknown());
    assert_eq!(events.iter().filter(unknown).count(), 2, "neither has an outcome");
    let why = w.node().failure().expect("it has ended").to_string();
    assert!(why.contains("panicked on the command at 1: told to"), "{why}");
    assert!(matches!(w.bench.log.propose(&enter(3)), Err(ProposeError::Closed(_))));
    assert!(matches!(w.bench.log.query(Consistency::Session), Err(QueryError::Closed(_))));

    let (disk, files, now) = w.cut_power(&mut Rng::new(1, "crash"));
    let mut w = World::<Ledger>::start(disk, files, 2, now);
    quietly(|| w.settle());
    assert!(failure(&mut w).contains("at 1"), "again");

    // Who looks ahead, and finds nothing, ends as before.
    let (disk, files, now) = w.cut_power(&mut Rng::new(2, "crash"));
    let looks = || Restored::<Ledger> { beware: true, ..Restored::default() };
    let mut w = World::start_from(looks(), disk, files, 3, now);
    quietly(|| w.settle());
    let events = w.events();
    let beware = |e: &_| if let ReplicatedEvent::Failed { beware, .. } = e { *beware } else { None };
    assert_eq!(events.iter().find_map(beware), Some(Gsn(1)));

    // An operator has it skipped; the power goes while that is written, and then it doesn't.
    let skipping = || ReplicatedConfig { skip: BTreeSet::from([Gsn(1)]), ..bench::config() };
    for life in 0..3 {
        let (disk, files, now) = w.cut_power(&mut Rng::new(3 + life, "crash"));
        w = World::start_with(skipping(), Restored::default(), disk, files, 4 + life, now);
        assert_eq!(w.node().applied(), Gsn(0), "nothing is applied before the skip is durable");
        w.bench.turn(None);
    }
    w.settle();
    assert_eq!(w.node().failure(), None);
    assert_eq!((w.node().figures().skipped, w.node().state().at.len()), (1, before.at.len() + 1));
    assert_eq!(w.call(&enter(9)).expect("applied").outcome.0, 2);
    let hash = w.node().state_hash();
    w.bench.log.snapshot();
    w.settle();

    // Whose snapshot lies behind the skipped command remembers that it was, though the skip comes once more.
    let mut w = w.crash(&mut Rng::new(8, "crash"));
    let skip = w.node().writing().skip(Gsn(1));
    w.append_raw(&skip);
    w.settle();
    assert_eq!((w.node().failure(), w.node().state_hash()), (None, hash));

    // Another node, that starts from nothing, meets the command, and finds the skip the second time.
    let (disk, _, now) = w.cut_power(&mut Rng::new(9, "crash"));
    let mut other = World::<Ledger>::start(disk, BTreeMap::new(), 9, now);
    quietly(|| other.settle());
    assert!(failure(&mut other).contains("panicked on the command at 1"));
    let (disk, files, now) = other.cut_power(&mut Rng::new(10, "crash"));
    let mut other = World::start_from(looks(), disk, files, 10, now);
    other.settle();
    assert_eq!((other.node().failure(), other.node().state_hash()), (None, hash));
}

/// Who has applied a command that is to be skipped stops, and comes to the same state as the others from before it.
#[test]
fn who_has_applied_what_is_skipped_begins_again() {
    let mut w = World::<Ledger>::new(1);
    for n in 0..4 {
        w.call(&enter(n)).expect("applied");
    }
    let skip = w.node().writing().skip(Gsn(2));
    w.append_raw(&skip);
    w.settle();
    let events = w.events();
    let beware = |e: &_| {
        if let ReplicatedEvent::Failed { beware, why, .. } = e { Some((*beware, why.clone())) } else { None }
    };
    let (beware, why) = events.iter().find_map(beware).expect("it ends");
    assert!(
        beware == Some(Gsn(2)) && why.contains("the command at 2 was to be skipped, as the entry at 4"),
        "{why}"
    );
    let (disk, files, now) = w.cut_power(&mut Rng::new(1, "crash"));
    let looks = Restored::<Ledger> { beware: true, ..Restored::default() };
    let mut w = World::start_from(looks, disk, files, 3, now);
    w.settle();
    assert_eq!(w.node().failure(), None);
    assert_eq!(w.node().state().at.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
    // A skip of what lies behind it is nobody's.
    let skip = w.node().writing().skip(Gsn(1_000));
    w.append_raw(&skip);
    w.settle();
    assert_eq!((w.node().failure(), w.node().figures().rejected), (None, 1));
}

/// A build that knows fewer commands.
#[derive(Debug, Default)]
struct Newer;

impl StateMachine for Newer {
    type Command = Entry;
    type Outcome = ();
    const VERSION: u16 = 2;
    fn apply(&mut self, _: Gsn, _: &Archived<Entry>) {}
    fn snapshot(&self) -> Image {
        Image::whole(Vec::new())
    }
    fn restore(_: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }
}

#[test]
fn an_older_build_stops_at_what_a_newer_one_wrote() {
    let mut w = World::<Newer>::new(1);
    w.call(&enter(1)).expect("applied");
    w.bench.log.snapshot();
    w.settle();
    let (disk, files, now) = w.cut_power(&mut Rng::new(1, "crash"));
    let refused = restore::<Ledger>(&files).expect_err("of a newer build");
    assert!(refused.contains("a build of version 2 wrote it, this one is 1"), "{refused}");
    let mut w = World::<Ledger>::start(disk, BTreeMap::new(), 2, now);
    w.settle();
    assert!(failure(&mut w).contains("the command at 0 is of format 1, version 2"));
}

/// Every flipped bit and every early end of a file is found; so is a state that is not what it was made from.
#[test]
fn a_bad_snapshot_is_never_loaded() {
    let mut w = World::<Ledger>::new(1);
    for n in 0..5 {
        w.call(&enter(n)).expect("applied");
    }
    w.bench.log.snapshot();
    w.settle();
    let good = w.files.values().next().expect("one").0.clone();
    let load = |bytes: &[u8], name: &str| {
        let mut loader = Loader::new::<Ledger>(CLUSTER, name);
        loader.push(bytes).and_then(|()| loader.finish::<Ledger>()).map_err(|e| e.to_string())
    };
    assert_eq!(load(&good, NAME).expect("it is good").state, *w.node().state());
    assert!(load(&good, "other").expect_err("another's").contains("another name"));
    assert!(load(&[], NAME).is_err());
    let mut rng = Rng::new(1, "flips");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << rng.below(8);
        assert!(load(&bad, NAME).is_err(), "a bit at {at}");
        assert!(load(&good[..at], NAME).is_err(), "{at} bytes");
    }
}

/// Forgets a part of itself.
#[derive(Debug, Default)]
struct Forgetful(Ledger);

impl StateMachine for Forgetful {
    type Command = Entry;
    type Outcome = (usize, u64);
    fn apply(&mut self, gsn: Gsn, command: &Archived<Entry>) -> (usize, u64) {
        self.0.apply(gsn, command)
    }
    fn snapshot(&self) -> Image {
        Image::archive(&self.0.at)
    }
    fn restore(image: &[u8]) -> Result<Self, String> {
        Ok(Self(Ledger { at: unarchive(image)?, sum: 0 }))
    }
    fn state_hash(&self) -> u64 {
        self.0.state_hash()
    }
}

#[test]
fn a_state_machine_that_forgets_is_found_out() {
    let commands: Vec<Entry> = (0..9).map(enter).collect();
    assert_eq!(check::<Ledger>(&commands), Ok(()));
    let why = check::<Forgetful>(&commands).expect_err("it forgets");
    assert!(why.contains("has the hash"), "{why}");
}

#[test]
fn bounds_refuse_and_then_take_again() {
    let mut w = World::<Ledger>::new(1);
    let mut taken = 0;
    let refused = loop {
        match w.bench.log.propose(&enter(taken)) {
            Ok(_) => taken += 1,
            Err(e) => break e,
        }
        w.bench.turn(None);
        assert!(taken < 100_000);
    };
    assert!(refused.is_retryable() && !refused.is_unknown(), "{refused}");
    w.settle();
    assert_eq!(w.call(&enter(taken)).expect("applied").outcome.0 as u64, taken);
    let long = Entry::Enter { number: 0, filling: vec![0; 2 << 20] };
    assert!(matches!(w.bench.log.propose(&long), Err(ProposeError::TooLong { .. })));
}

/// A node whose log was trimmed says what to do.
#[test]
fn a_gap_ends_the_node() {
    let mut w = World::<Ledger>::new(1);
    for n in 0..200 {
        w.call(&enter(n)).expect("applied");
    }
    assert!(w.node().log().trimmed() > Gsn(0));
    let (disk, _, now) = w.cut_power(&mut Rng::new(1, "crash"));
    let mut w = World::<Ledger>::start(disk, BTreeMap::new(), 2, now);
    w.settle();
    assert!(failure(&mut w).contains("copy the newest snapshot of another node"));
    assert_ne!(w.bench.now, Instant(0));
}
