//! Can orderers come, go and hand over while the order goes on? One change at a time, by learners and joint sets, and
//! nobody who lost his directory, or was removed, is ever heard again.

use crate::driver::{Sim, addr};
use crate::model::World;
use zoolog_core::rng::Rng;
use zoolog_core::wal::Recovered;
use zoolog_core::wire::*;
use zoolog_core::{Gsn, Machine, OrdererId};
use zoolog_order::{OrderError, OrderEvent, Orderer, Standing};

fn id(node: usize) -> OrdererId {
    OrdererId(node as u64 + 1)
}

fn add(node: usize, replaces: Option<usize>) -> OrdererChange {
    OrdererChange::Add(NewOrderer { id: id(node), addr: addr(node), replaces: replaces.map(id) })
}

/// Asks the leader once.
fn ask(w: &mut World, change: OrdererChange) -> Option<ChangeOutcome> {
    let leader = w.sim.leader()?;
    let g = w.sim.client(leader);
    w.sim.send(g, ChangeOrderers { request: 1, change });
    for _ in 0..2_000 {
        w.run_ms(1);
        match w.sim.take(g).pop() {
            Some(Message::OrderersChanged(m)) => {
                w.sim.hang_up(g);
                return Some(m.outcome);
            }
            Some(Message::NotLeader(_)) => return None,
            Some(other) => panic!("an answer {other:?}"),
            None => {}
        }
        if !w.sim.guests[g].open {
            return None;
        }
    }
    None
}

/// Asks until it is decided.
fn decide(w: &mut World, change: OrdererChange) -> Result<(), String> {
    for _ in 0..200 {
        match ask(w, change.clone()) {
            Some(ChangeOutcome::Done) => return Ok(()),
            Some(ChangeOutcome::Refused(text)) => return Err(text),
            Some(ChangeOutcome::Later(_)) | None => w.run_ms(20),
        }
    }
    Err("never decided".into())
}

fn voters(w: &World, node: usize) -> Vec<u64> {
    w.sim.machine(node).state().members().voters().map(|v| v.0).collect()
}

/// Goes on until the leader counts these voters, and nothing is under way.
fn until_voters(w: &mut World, ids: &[u64]) {
    w.until("these vote", |w| {
        w.sim.leader().is_some_and(|l| {
            let members = w.sim.machine(l).state().members();
            voters(w, l) == ids && !members.is_joint() && members.learner().is_none()
        })
    });
}

/// Appends go on: one is committed.
fn goes_on(w: &mut World) {
    let before = w.truth.tail;
    w.append(1, 0, 1);
    w.until("appends go on", |w| w.truth.tail > before);
    w.check_order();
}

#[test]
fn a_new_one_learns_votes_and_can_lead() {
    let mut w = World::ready(1);
    for _ in 0..20 {
        w.append(1, 0, 1);
        w.run_ms(5);
    }
    let new = w.sim.joiner();
    w.run_ms(500);
    assert_eq!(w.sim.machine(new).applied(), 0, "nobody asked for it yet");
    decide(&mut w, add(new, None)).unwrap();
    until_voters(&mut w, &[1, 2, 3, 4]);
    w.until("it has it all", |w| w.sim.machine(new).state().tail() == w.truth.tail);
    assert!(
        w.sim.nodes[new].events.iter().any(|e| matches!(e, OrderEvent::CaughtUp { .. })),
        "by a snapshot"
    );
    decide(&mut w, OrdererChange::Transfer(id(new))).unwrap();
    w.until("it leads", |w| w.sim.leader() == Some(new));
    goes_on(&mut w);
    // Asked again, what is so already is done.
    decide(&mut w, add(new, None)).unwrap();
}

#[test]
fn all_three_are_replaced_under_load_and_everybody_follows() {
    let mut w = World::ready(2);
    for old in 0..3 {
        let new = w.sim.joiner();
        decide(&mut w, add(new, Some(old))).unwrap();
        for _ in 0..100 {
            w.append(1, 0, 1);
            w.run_ms(2);
        }
        w.until("the old one is told", |w| w.sim.nodes[old].dismissed().is_some());
        w.sim.crash(old);
        goes_on(&mut w);
    }
    until_voters(&mut w, &[4, 5, 6]);
    // Slots and watchers were started with addresses of which none is left.
    let leader = w.sim.leader().unwrap();
    w.sim.crash(leader);
    goes_on(&mut w);
    assert_eq!(w.sim.nodes.iter().filter(|n| n.machine.is_some()).count(), 2);
}

#[test]
fn a_replacement_of_the_leader_hands_over_first() {
    let mut w = World::ready(3);
    let old = w.sim.leader().unwrap();
    let new = w.sim.joiner();
    decide(&mut w, add(new, Some(old))).unwrap();
    w.until("it is replaced", |w| w.sim.nodes[old].dismissed().is_some());
    goes_on(&mut w);
    let term_of = |e: &OrderEvent| matches!(e, OrderEvent::SteppedDown { .. });
    assert!(w.sim.nodes[old].events.iter().any(term_of), "it went as a follower");
}

/// Who goes may be elected while the set is joint. It ends that, and then raft knows no copy of its own, though its disk may
/// lag behind and cuts may have been proposed meanwhile. (The simulator's seed 4787 has just the timing at which it panicked.)
#[test]
fn one_that_is_elected_while_it_goes_hands_over() {
    let mut led = 0;
    for seed in 1..=16 {
        let mut w = World::ready(seed);
        let leader = w.sim.leader().unwrap();
        let (old, new) = ((leader + 1) % 3, w.sim.joiner());
        let g = w.sim.client(leader);
        w.sim.send(g, ChangeOrderers { request: 1, change: add(new, Some(old)) });
        w.until("the set is joint", |w| w.sim.machine(leader).state().members().is_joint());
        w.sim.crash(leader);
        w.until("another one leads", |w| w.sim.leader().is_some_and(|l| l != leader));
        if w.sim.leader() == Some(old) {
            led += 1;
            w.sim.hold(old, true);
            w.sim.start(leader);
            let g = w.sim.client(old);
            w.sim.send(g, OpenWriter { request: 1, name: "writer".into() });
            w.until("it knows that it is gone", |w| {
                let members = w.sim.machine(old).state().members();
                members.get(id(old)).is_none() || w.sim.leader() != Some(old)
            });
            w.sim.hold(old, false);
        } else {
            w.sim.start(leader);
        }
        let mut stay: Vec<u64> = [0, 1, 2, new].iter().filter(|n| **n != old).map(|n| id(*n).0).collect();
        stay.sort_unstable();
        until_voters(&mut w, &stay);
        goes_on(&mut w);
    }
    assert!(led > 0, "the one that goes was never elected");
}

#[test]
fn a_leader_that_is_asked_to_end_hands_over_and_says_so() {
    let mut w = World::ready(4);
    let old = w.sim.leader().unwrap();
    let follower = (old + 1) % 3;
    let now = w.sim.now;
    assert!(!w.sim.nodes[follower].machine.as_mut().unwrap().farewell(now), "a follower just ends");
    let g = w.sim.client(old);
    w.sim.send(g, WatchCuts { request: 1 });
    w.run_ms(5);
    let mut asked = 0;
    while w.sim.farewell(old) {
        asked += 1;
        w.run_ms(1);
        assert!(asked < 500, "it must not hold its end up for ever");
    }
    assert!(asked > 1 && asked < 150, "{asked} ms: less than an election");
    let heirs = w.sim.take(g).into_iter().filter_map(|m| match m {
        Message::NotLeader(n) => n.leader,
        _ => None,
    });
    let heirs: Vec<String> = heirs.collect();
    assert_eq!(heirs.len(), 1, "guests are told whom to ask");
    w.sim.crash(old);
    w.until("another one leads", |w| w.sim.leader().is_some());
    assert_eq!(heirs, [addr(w.sim.leader().unwrap())]);
    goes_on(&mut w);
}

#[test]
fn alone_there_is_nobody_to_hand_over_to() {
    let mut sim = Sim::new(1, 1);
    sim.elect();
    assert!(!sim.farewell(0));
}

#[test]
fn what_would_lose_the_quorum_is_refused_and_says_who_is_missing() {
    let mut w = World::ready(5);
    let leader = w.sim.leader().unwrap();
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    w.sim.crash(dead);
    w.run_ms(1500);
    let text = decide(&mut w, OrdererChange::Remove(id(alive))).unwrap_err();
    assert!(text.contains(&format!("bring back {}", id(dead))), "{text}");
    let text = decide(&mut w, OrdererChange::Remove(id(leader))).unwrap_err();
    assert!(text.contains("transfer"), "{text}");
    let text = decide(&mut w, OrdererChange::Transfer(id(dead))).unwrap_err();
    assert!(text.contains("does not answer"), "{text}");
    // The dead one itself may go, or be replaced.
    decide(&mut w, OrdererChange::Remove(id(dead))).unwrap();
    goes_on(&mut w);
}

#[test]
fn impossible_changes_are_refused_by_name() {
    let mut w = World::ready(6);
    let leader = w.sim.leader().unwrap();
    let add_as = |n: u64, addr: &str, replaces: Option<u64>| {
        let replaces = replaces.map(OrdererId);
        OrdererChange::Add(NewOrderer { id: OrdererId(n), addr: addr.into(), replaces })
    };
    for (change, about) in [
        (add_as(2, "x:1", None), "above 3, such as 4"),
        (add_as(4, "nowhere", None), "address"),
        (add_as(4, &addr(leader), None), "address"),
        (add_as(4, "x:1", Some(9)), "does not vote"),
        (OrdererChange::Remove(OrdererId(9)), "no member"),
        (OrdererChange::Transfer(OrdererId(9)), "no vote"),
    ] {
        let text = decide(&mut w, change.clone()).unwrap_err();
        assert!(text.contains(about), "{change:?}: {text}");
    }
    assert_eq!(w.sim.machine(leader).state().members().newest(), OrdererId(3), "nothing has changed");
}

#[test]
fn one_that_never_comes_can_be_taken_back_and_its_id_is_spent() {
    let mut w = World::ready(7);
    decide(&mut w, OrdererChange::Add(NewOrderer { id: OrdererId(4), addr: "o9:1".into(), replaces: None }))
        .unwrap();
    w.run_ms(300);
    let later = ask(&mut w, add(4, None));
    assert!(matches!(&later, Some(ChangeOutcome::Later(text)) if text.contains("orderer 4 is being added")));
    decide(&mut w, OrdererChange::Remove(OrdererId(4))).unwrap();
    let spent = OrdererChange::Add(NewOrderer { id: OrdererId(4), addr: "o4:1".into(), replaces: None });
    assert!(decide(&mut w, spent).unwrap_err().contains("never used twice"));
    goes_on(&mut w);
}

#[test]
fn one_that_lost_its_directory_is_dismissed_learner_or_voter() {
    for promoted in [false, true] {
        let mut w = World::ready(8);
        let new = w.sim.joiner();
        decide(&mut w, add(new, None)).unwrap();
        if promoted {
            until_voters(&mut w, &[1, 2, 3, 4]);
        } else {
            w.until("it is welcome", |w| {
                let leader = w.sim.leader().unwrap();
                w.sim.machine(leader).state().members().get(id(new)).is_some_and(|m| m.birth != 0)
            });
        }
        w.sim.crash(new);
        w.sim.wipe(new);
        w.sim.start(new);
        w.until("it is told", |w| w.sim.nodes[new].dismissed().is_some());
        assert_eq!(w.sim.machine(new).applied(), 0, "and not fed");
        goes_on(&mut w);
    }
}

#[test]
fn a_removed_directory_is_refused_at_start_and_one_that_missed_it_is_told() {
    for away in [false, true] {
        let mut w = World::ready(9);
        let gone = (w.sim.leader().unwrap() + 1) % 3;
        if away {
            w.sim.crash(gone);
            w.run_ms(1200);
        }
        decide(&mut w, OrdererChange::Remove(id(gone))).unwrap();
        w.run_ms(200);
        if away {
            w.sim.start(gone);
        }
        w.until("it is told", |w| w.sim.nodes[gone].dismissed().is_some());
        assert!(w.sim.nodes[gone].dismissed().is_some_and(|why| why.contains("was removed")));
        for roll in [false, true] {
            if roll {
                w.sim.roll(gone);
            }
            let disk = &w.sim.nodes[gone].disk;
            let (checkpoint, tail) = (disk.checkpoint.clone(), disk.tail.clone());
            let recovered = Recovered { checkpoint, tail, ..Recovered::empty(9) };
            let refused = Orderer::new(w.sim.config_of(gone), &recovered, 1, w.sim.now).map(|_| ());
            assert!(matches!(refused, Err(OrderError::Dismissed(text)) if text.contains("was removed")));
        }
        goes_on(&mut w);
    }
}

#[test]
fn the_members_survive_restarts_from_records_and_from_checkpoints() {
    for roll in [false, true] {
        let mut w = World::ready(10);
        let new = w.sim.joiner();
        decide(&mut w, add(new, Some(0))).unwrap();
        until_voters(&mut w, &[2, 3, 4]);
        w.run_ms(100);
        for i in 1..4 {
            if roll {
                w.sim.roll(i);
            }
            w.sim.crash(i);
        }
        w.run_ms(20);
        (1..4).for_each(|i| w.sim.start(i));
        w.until("a leader", |w| w.sim.leader().is_some());
        goes_on(&mut w);
        assert!((1..4).all(|i| voters(&w, i) == [2, 3, 4]));
    }
}

#[test]
fn without_a_majority_nothing_is_ordered_and_nothing_is_lost() {
    let mut w = World::ready(11);
    w.append(1, 0, 3);
    w.until("committed", |w| w.truth.tail == Gsn(3));
    let leader = w.sim.leader().unwrap();
    for i in (0..3).filter(|i| *i != leader) {
        w.sim.crash(i);
    }
    w.append(1, 0, 4);
    w.run_ms(2000);
    assert_eq!(w.truth.tail, Gsn(3), "a cut without a quorum");
    for i in (0..3).filter(|i| *i != leader) {
        w.sim.start(i);
    }
    w.until("the rest is ordered", |w| w.truth.tail == Gsn(7));
    w.check_order();
}

/// Moved machines: the settings say where all are now, and the state follows.
#[test]
fn orderers_that_were_moved_find_each_other_and_remember() {
    let mut w = World::ready(12);
    (0..3).for_each(|i| w.sim.crash(i));
    // Another text, the same place.
    w.sim.cfg.moved = (0..3).map(|i| (id(i), format!("o0{}:1", i + 1))).collect();
    (0..3).for_each(|i| w.sim.start(i));
    w.until("a leader", |w| w.sim.leader().is_some());
    w.until("it is decided", |w| {
        (0..3).all(|i| w.sim.machine(i).state().members().iter().all(|(_, m)| m.addr.starts_with("o0")))
    });
    goes_on(&mut w);
}

/// Of two the one that goes had said the other's removal is committed, and the other had not written that down: it asks
/// for a vote that it doesn't need, from one that is not there any more.
#[test]
fn the_last_one_knows_that_it_is_alone_before_the_other_may_go() {
    for seed in 1..30 {
        let mut w = World::ready(seed);
        let leader = w.sim.leader().unwrap();
        for gone in (0..3).filter(|i| *i != leader) {
            decide(&mut w, OrdererChange::Remove(id(gone))).unwrap();
        }
        // Within a few milliseconds after the answer, at any moment.
        w.sim.run(std::time::Duration::from_micros(seed * 97));
        w.sim.crash(leader);
        w.run_ms(50);
        w.sim.start(leader);
        goes_on(&mut w);
    }
}

/// Members change at random while orderers crash, lose each other, and come back; whatever is decided, the order stays
/// dense, and once all is well it goes on.
fn play(seed: u64) -> (usize, usize) {
    let mut w = World::ready(seed);
    let mut rng = Rng::new(seed, "members");
    let mut decided = 0;
    for _ in 0..60 {
        let all = w.sim.nodes.len();
        let node = rng.below(all as u64) as usize;
        match rng.below(12) {
            0 | 1 if w.sim.nodes[node].machine.is_some() => w.sim.crash(node),
            2..=4 => restart_all(&mut w),
            5 => w.sim.isolate(node),
            6 | 7 => w.sim.heal(),
            8 if w.sim.nodes[node].machine.is_some() => w.sim.roll(node),
            9 if all < 8 => {
                let new = w.sim.joiner();
                let old = rng.chance(50).then_some(node).filter(|n| *n != new);
                decided += usize::from(ask(&mut w, add(new, old)) == Some(ChangeOutcome::Done));
            }
            10 => {
                let change = OrdererChange::Remove(id(node));
                decided += usize::from(ask(&mut w, change) == Some(ChangeOutcome::Done));
            }
            11 => {
                ask(&mut w, OrdererChange::Transfer(id(node)));
            }
            _ => w.append(rng.below(3) as u32 + 1, rng.below(2) as usize, 1),
        }
        let ms = rng.below(80);
        w.run_ms(ms);
    }
    w.sim.heal();
    restart_all(&mut w);
    w.run_ms(4000);
    if w.sim.leader().is_none() {
        for (i, n) in w.sim.nodes.iter().enumerate() {
            eprintln!("{i} {:?}", n.events.iter().rev().take(4).collect::<Vec<_>>());
            if let Some(m) = &n.machine {
                eprintln!("   {:?} applied {}", m.state().members(), m.applied());
            }
        }
    }
    w.report_all();
    let durable = w.durable();
    w.until("everything durable is committed", |w| w.truth.tail.0 == durable);
    w.check_order();
    w.run_ms(500);
    let leader = w.sim.leader().expect("all is well");
    let state = w.sim.machine(leader).state().clone();
    for (member, _) in state.members().iter().filter(|(_, m)| m.standing == Standing::Voter) {
        let node = member.0 as usize - 1;
        assert_eq!(w.sim.nodes[node].dismissed(), None, "orderer {member} votes and is dismissed");
        assert_eq!(*w.sim.machine(node).state(), state, "orderer {member} agrees");
    }
    (decided, state.members().newest().0 as usize)
}

fn restart_all(w: &mut World) {
    for i in 0..w.sim.nodes.len() {
        let dismissed = w.sim.nodes[i].dismissed().is_some();
        if w.sim.nodes[i].machine.is_none() && !dismissed {
            w.sim.start(i);
        }
    }
}

#[test]
fn any_schedule_of_changes_keeps_the_order_and_ends_with_progress() {
    let (mut decided, mut came) = (0, 0);
    for seed in 200..230u64 {
        eprintln!("seed {seed}");
        let (d, newest) = play(seed);
        decided += d;
        came += newest - 3;
    }
    assert!(decided > 40 && came > 20, "{decided} decided, {came} came: the schedules do too little");
}
