//! What is one seed? A storm, then healing, then the question whether all is well again.

use crate::cluster;
use crate::node::Role;
use crate::options::{Options, Policy};
use crate::schedule::{Event, NodeId};
use crate::trace::TraceMode;
use crate::world::World;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;
use zoolog_core::Gsn;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Nothing, or what went wrong.
    pub failure: Option<String>,
    /// What happened, in figures.
    pub summary: String,
    /// All lines, if they were collected.
    pub trace: String,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics of simulated machines known to [`run`] instead of printing them. Call once per process.
pub fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        PANIC.with(|p| *p.borrow_mut() = Some(text));
    }));
}

/// Runs one seed as drawn.
pub fn run(seed: u64, trace: TraceMode) -> Outcome {
    run_with(Options::draw(seed), trace)
}

/// Runs a world of these options.
pub fn run_with(options: Options, trace: TraceMode) -> Outcome {
    let roles = cluster::roles(&options);
    let mut world = World::new(options, &roles, trace);
    let result = panic::catch_unwind(AssertUnwindSafe(|| phases(&mut world)));
    let at = format!("at {:.6} s", world.now().0 as f64 / 1e9);
    let failure = match result {
        Ok(()) => world.violation.as_ref().map(|v| format!("{at}: {v}")),
        Err(_) => {
            let text = PANIC.with(|p| p.borrow_mut().take()).unwrap_or_else(|| "a panic".into());
            Some(format!("{at}: {text}"))
        }
    };
    Outcome { failure, summary: summary(&world), trace: world.trace.text().to_string() }
}

fn phases(world: &mut World) {
    world.start_all();
    world.storm();
    let storm = world.options.fault_phase;
    world.run_until(zoolog_core::Instant(0) + storm);
    if world.violation.is_some() {
        return;
    }
    settle(world);
}

/// Heals the world, waits until all is well, and asks the final questions.
pub fn settle(world: &mut World) {
    world.heal();
    let limit = world.options.heal_phase;
    let mut well = world.run_while(limit, is_well);
    // Who reads all of a long log again, over slow links and in small pieces, may need longer, if it gets on: by a quarter of
    // the log each time, so that this ends.
    let mut before = readers(world);
    while !well && world.violation.is_none() && only_readers_lack(world) {
        well = world.run_while(limit, is_well);
        let (now, step) = (readers(world), world.tail().0 / 4);
        if now.iter().zip(&before).any(|((behind, at), (_, was))| *behind && at.0 < was.0 + step) {
            break;
        }
        before = now;
    }
    if world.violation.is_some() {
        return;
    }
    if !well {
        let text = format!("not well {limit:?} after the storm: {}", complaints(world).join("; "));
        world.judge(Err(crate::check::Violation::new("LIVE", text)));
        return;
    }
    let tail = world.tail();
    // Of several clusters each checker of the log saw a part, and nobody who reads all of it.
    let verdict = match world.later.is_empty() {
        true => world.checks.finally(tail),
        false => world.checks.registers.finally(),
    };
    world.judge(verdict);
}

/// Each reader: whether it is not at the tail, and where it is.
fn readers(world: &World) -> Vec<(bool, Gsn)> {
    let tail = world.tail();
    let at = |i| world.checks.order.position(NodeId(i)).unwrap_or_default();
    let all = world.nodes.iter().enumerate().filter(|(_, n)| matches!(n.role, Role::Reader(_)));
    all.map(|(i, _)| (at(i) < tail, at(i))).collect()
}

/// Whether nothing is missing but that readers are at the tail; and ZooKeeper nodes that fetch now and then, which may be behind at
/// any one moment.
fn only_readers_lack(world: &World) -> bool {
    let behind = readers(world).iter().filter(|(behind, _)| *behind).count();
    let fetches = |role| matches!(role, Role::Zk(n) if world.options.policy_of(n).fetch.is_pulled());
    let late = |i: &usize| {
        let node = &world.nodes[*i];
        let serves = node.running.as_ref().is_some_and(|r| r.process.is_serving());
        serves
            && fetches(node.role)
            && world.checks.convergence.applied(NodeId(*i)) != world.checks.cuts.end()
    };
    let late = (0..world.nodes.len()).filter(late).count();
    behind > 0 && complaints(world).len() == behind + late
}

/// Whether everything has happened that must happen when nothing is in the way.
fn is_well(world: &World) -> bool {
    complaints(world).is_empty()
}

/// What is still missing.
fn complaints(world: &World) -> Vec<String> {
    let mut missing = Vec::new();
    let tail = world.tail();
    for (i, node) in world.nodes.iter().enumerate() {
        let id = NodeId(i);
        match node.role {
            _ if node.running.is_none() => missing.push(format!("{} is down", node.name)),
            Role::Writer(_) | Role::ZkClient(_) | Role::ZkLooker(_) | Role::Reader(_) | Role::Switcher(_)
                if !world.checks.done.contains(&id) =>
            {
                missing.push(format!("{} is not done", node.name));
            }
            Role::Reader(_) if world.checks.order.position(id) != Some(tail) => {
                let at = world.checks.order.position(id);
                missing.push(format!("{} is at {at:?}, the tail is {tail}", node.name));
            }
            Role::Zk(_) if !node.running.as_ref().is_some_and(|r| r.process.is_serving()) => {
                missing.push(format!("{} doesn't serve", node.name));
            }
            Role::Zk(_) if world.checks.convergence.applied(id) != tail => {
                let at = world.checks.convergence.applied(id);
                missing.push(format!("{} has applied {at}, the tail is {tail}", node.name));
            }
            _ => {}
        }
    }
    // Asked last: it reads a whole disk.
    if missing.is_empty() {
        missing.extend(world.unmended());
    }
    missing
}

fn summary(world: &World) -> String {
    let c = &world.checks;
    let (writes, reads) = c.registers.counts();
    let o = &world.options;
    let policy = match o.third_policy {
        Some(third) => format!("{} {third}: ", o.policy),
        None if o.policy == Policy::USUAL => String::new(),
        None => format!("{}: ", o.policy),
    };
    let lives: u64 = world.nodes.iter().map(|n| n.life).sum();
    format!(
        "{}{:.1} s, {} events, {lives} lives; log: {} records, {} cuts, {} acks, trimmed to {}, {} gaps, {} trims by hand, {} consumers dropped, {} refused for want of room; zk: {writes} writes, {reads} reads, {} shown while cut off, \
         {} expired, {} states compared, {} starts from snapshots, {} files lost, {} got from others; {} changes of orderers; {} places rotted; {} copies begun, {} in place of lost ones; {} of {} conditional batches count",
        policy,
        world.now().0 as f64 / 1e9,
        world.schedule.events(),
        c.order.end(),
        c.cuts.count(),
        c.durability.count(),
        c.trim.point(),
        c.trim.gaps(),
        c.trim.counts().1,
        c.trim.counts().0,
        c.refused,
        c.registers.shown(),
        c.expiry.expired(),
        c.convergence.compared(),
        world.restored,
        world.wiped,
        world.fetched,
        c.decided,
        world.rotted,
        c.copies.counts().0,
        c.copies.counts().1,
        c.conditions.counts().0,
        c.conditions.counts().0 + c.conditions.counts().1,
    )
}

impl World {
    /// Starts all nodes, in any order within a few milliseconds.
    pub fn start_all(&mut self) {
        for i in 0..self.nodes.len() {
            let wait = self.pause(Duration::from_millis(20));
            self.schedule.after(wait, Event::Start(NodeId(i)));
        }
    }

    /// The tail as far as any cut was announced, in whichever cluster.
    pub fn tail(&self) -> Gsn {
        let ends = self.later.iter().chain([&self.checks]).map(|checks| checks.cuts.end());
        ends.max().expect("there is one cluster at least")
    }
}
