//! The examples' structures through random lives with crashes: every outcome that anybody was told is what an independent model
//! of the structure says, given the commands that are in the log; and what each of them is for holds.

use crate::bench::World;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_client::replicated::{Applied, ProposeError, ReplicatedEvent, StateMachine, check};
use zoolog_core::rng::Rng;

#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../examples/lock/state.rs"]
mod lock;
#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../examples/map/state.rs"]
mod map;
#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../examples/queue/state.rs"]
mod queue;

/// Lives of one structure. The log has one writer, so that what it holds is what was proposed, up to a crash that takes some of
/// what was not answered. Returns all commands in the log, and the outcomes that were told, by position.
fn lives<S>(
    seed: u64,
    mut draw: impl FnMut(&mut Rng, u64) -> S::Command,
) -> (Vec<S::Command>, BTreeMap<u64, S::Outcome>)
where
    S: StateMachine<Command: Clone, Outcome: PartialEq + std::fmt::Debug>,
{
    let mut rng = Rng::new(seed, "example");
    let mut w = World::<S>::new(rng.next_u64());
    let (mut all, mut known, mut now_ms) = (Vec::new(), BTreeMap::new(), 1_000);
    for _ in 0..500 {
        match rng.below(50) {
            0..=14 => {
                for _ in 0..rng.between(1, 4) {
                    now_ms += rng.below(30);
                    let command = draw(&mut rng, now_ms);
                    match w.bench.log.propose(&command) {
                        Ok(_) => all.push(command),
                        Err(e) => assert_eq!(e, ProposeError::Busy),
                    }
                }
                w.bench.turn(None);
            }
            15..=34 => drop(w.bench.sync()),
            35..=40 => while w.bench.load() {},
            41..=48 => drop(w.save()),
            _ => {
                w = w.crash(&mut rng);
                let durable = w.node().log().durable().0;
                assert!(
                    known.last_key_value().is_none_or(|(gsn, _)| *gsn < durable),
                    "what was told is there"
                );
                all.truncate(durable as usize);
            }
        }
        told(&mut w, &mut known);
    }
    w.settle();
    told(&mut w, &mut known);
    assert_eq!(w.node().applied().0, all.len() as u64);
    (all, known)
}

fn told<S: StateMachine>(w: &mut World<S>, known: &mut BTreeMap<u64, S::Outcome>) {
    for event in w.events() {
        match event {
            ReplicatedEvent::Outcome { result, .. } => {
                let Applied { gsn, outcome } = result.expect("nothing here fails");
                assert!(known.insert(gsn.0, outcome).is_none(), "an outcome comes once");
            }
            ReplicatedEvent::Failed { why, .. } | ReplicatedEvent::Note(why) => panic!("{why}"),
            _ => {}
        }
    }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

#[test]
fn the_map_does_what_a_map_does() {
    use map::{Command, Map};
    let mut outcomes = 0;
    for seed in 0..20 {
        let (all, known) = lives::<Map>(seed, |rng, now| {
            let key = pick(rng, &["a", "b", "c"]).to_string();
            match rng.below(4) {
                0 => Command::Delete { key },
                1 => Command::Swap { key, old: rng.below(3).to_string(), new: rng.below(3).to_string() },
                _ => Command::Put { key, value: if now % 2 == 0 { now } else { rng.below(3) }.to_string() },
            }
        });
        assert_eq!(check::<Map>(&all[..all.len().min(150)]), Ok(()));
        outcomes += known.len();
        // A list is a map as well.
        let mut model: Vec<(String, String)> = Vec::new();
        for (command, gsn) in all.into_iter().zip(0..) {
            let (Command::Put { key, .. } | Command::Delete { key } | Command::Swap { key, .. }) = &command;
            let at = model.iter().position(|(k, _)| k == key);
            let before = at.map(|at| model[at].1.clone());
            match (command, at) {
                (Command::Put { value, .. }, Some(at)) => model[at].1 = value,
                (Command::Put { key, value }, None) => model.push((key, value)),
                (Command::Delete { .. }, Some(at)) => drop(model.remove(at)),
                (Command::Swap { old, new, .. }, Some(at)) if model[at].1 == old => model[at].1 = new,
                _ => {}
            }
            assert!(known.get(&gsn).is_none_or(|told| *told == before), "seed {seed}, at {gsn}");
        }
    }
    assert!(outcomes > 1000, "{outcomes}");
}

/// Jobs go out in order, to one at a time, and are done once.
#[test]
fn the_queue_gives_each_job_to_one_at_a_time() {
    use queue::{Command, Queue, Told};
    let (mut again, mut late) = (0, 0);
    for seed in 0..20 {
        let (all, known) = lives::<Queue>(seed, |rng, now_ms| {
            let worker = pick(rng, &["anna", "bert", "carl"]).to_string();
            match rng.below(8) {
                0..=2 => Command::Add { work: now_ms.to_string() },
                // Some clocks are wrong.
                3..=5 => Command::Take { worker, now_ms: now_ms - rng.below(200), lease_ms: rng.below(400) },
                _ => Command::Done { worker, number: rng.below(250) },
            }
        });
        assert_eq!(check::<Queue>(&all[..all.len().min(150)]), Ok(()));
        // Every job: its work, who had it last and until when, whether it is done.
        type Taken = Option<(String, u64)>;
        let mut jobs: BTreeMap<u64, (String, Taken, bool)> = BTreeMap::new();
        let mut now = 0;
        for (command, gsn) in all.into_iter().zip(0..) {
            let expected = match command {
                Command::Add { work } => {
                    jobs.insert(gsn, (work, None, false));
                    Told::Added { number: gsn }
                }
                Command::Take { worker, now_ms, lease_ms } => {
                    now = now_ms.max(now);
                    let mut free = jobs.iter_mut().filter(|(_, (_, taken, done))| {
                        !done && taken.as_ref().is_none_or(|(_, until)| *until <= now)
                    });
                    Told::Taken(free.next().map(|(number, (work, taken, _))| {
                        again += u64::from(taken.is_some());
                        *taken = Some((worker, now + lease_ms));
                        (*number, work.clone())
                    }))
                }
                Command::Done { worker, number } => {
                    let job = jobs.get_mut(&number).filter(|(_, _, done)| !done);
                    let own = job.filter(|(_, taken, _)| taken.as_ref().is_some_and(|(w, _)| *w == worker));
                    let is_own = own.is_some();
                    late += u64::from(!is_own);
                    own.into_iter().for_each(|(_, _, done)| *done = true);
                    Told::Done(is_own)
                }
            };
            assert!(
                known.get(&gsn).is_none_or(|told| *told == expected),
                "seed {seed}, at {gsn}: {expected:?}"
            );
        }
    }
    assert!(again > 20 && late > 100, "{again} {late}");
}

/// No two have a lock at a time, tokens grow from holder to holder, and who had it earlier writes nothing after who had it later.
#[test]
fn the_locks_fence_off_who_had_them_before() {
    use lock::{Command, Locks, Told};
    let (mut granted, mut fenced) = (0, 0);
    for seed in 0..20 {
        let mut tokens = vec![0];
        let mut next = 0;
        let (all, known) = lives::<Locks>(seed, |rng, now_ms| {
            next += 1;
            let name = pick(rng, &["x", "y"]).to_string();
            let token = tokens[rng.below(tokens.len() as u64) as usize];
            match rng.below(6) {
                0..=2 => {
                    let owner = pick(rng, &["anna", "bert", "carl"]).to_string();
                    tokens.push(rng.below(next));
                    Command::Lock { name, owner, now_ms: now_ms - rng.below(100), lease_ms: rng.below(300) }
                }
                3 => Command::Unlock { name, token },
                _ => Command::Write { name, token, text: now_ms.to_string() },
            }
        });
        assert_eq!(check::<Locks>(&all[..all.len().min(150)]), Ok(()));
        let mut holders: BTreeMap<String, (String, u64, u64)> = BTreeMap::new();
        let mut written: BTreeMap<String, u64> = BTreeMap::new();
        let mut given: BTreeSet<(String, u64)> = BTreeSet::new();
        let mut now = 0;
        for (command, gsn) in all.into_iter().zip(0..) {
            let told = known.get(&gsn);
            match command {
                Command::Lock { name, owner, now_ms, lease_ms } => {
                    now = now_ms.max(now);
                    let held = holders.get(&name).filter(|(_, _, until)| *until > now).cloned();
                    match &held {
                        Some((holder, _, until)) if *holder != owner => {
                            let expected = Told::Held { owner: holder.clone(), for_ms: until - now };
                            assert!(told.is_none_or(|t| *t == expected), "seed {seed}: two have {name}");
                            continue;
                        }
                        _ => {}
                    }
                    let token = held.map_or(gsn, |h| h.1);
                    if given.insert((name.clone(), token)) {
                        let newest = given.iter().filter(|(n, _)| *n == name).map(|(_, t)| *t).max();
                        assert_eq!(newest, Some(token), "tokens grow");
                        granted += 1;
                    }
                    assert!(told.is_none_or(|t| *t == Told::Yours { token }), "seed {seed}, at {gsn}");
                    holders.insert(name, (owner, token, now + lease_ms));
                }
                Command::Unlock { name, token } => {
                    let own = holders.get(&name).is_some_and(|(_, t, _)| *t == token);
                    assert!(told.is_none_or(|t| *t == Told::Unlocked(own)), "seed {seed}, at {gsn}");
                    if own {
                        holders.remove(&name);
                    }
                }
                Command::Write { name, token, .. } => {
                    let newest = written.entry(name).or_default();
                    let is_current = token >= *newest;
                    *newest = (*newest).max(token);
                    fenced += u64::from(!is_current);
                    assert!(told.is_none_or(|t| *t == Told::Written(is_current)), "seed {seed}, at {gsn}");
                }
            }
        }
    }
    assert!(granted > 100 && fenced > 100, "{granted} {fenced}");
}
