//! Where does the work run? Threads, each with one ring and some nodes that share it: turn for turn, then one
//! syscall that hands in what they want and waits for what comes.

use super::clock;
use super::pump::{Node, NodeSpec, Pump};
use super::ring::{Done, Op, Ring};
use super::wake::{Elsewhere, Finished, Waker};
use crate::machine::Machine;
use std::sync::mpsc;
use std::time::Duration;

/// Puts nodes on a thread: called on it, since a machine need not be `Send`.
pub type Job = Box<dyn FnOnce(&mut Host<'_>) -> Result<(), String> + Send>;

/// How often at most the kernel is asked for more before what has come is looked at, and how much is enough. It works
/// through what has arrived in steps of twenty or forty (since Linux 6.14): whoever asks for little would else wait, step
/// for step, behind a thousand who ask for much, unseen by those who could let him pass.
const GATHERS: usize = 32;
const GATHERED: usize = 512;

/// Longest sleep without looking.
const IDLE: Duration = Duration::from_secs(3600);

/// A running thread.
#[derive(Debug)]
pub struct Executor {
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Executor {
    /// Starts a thread that runs the nodes of `jobs` side by side until all have ended or one fails. It polls
    /// for `spin` before it sleeps.
    ///
    /// # Errors
    /// If the thread can't be made.
    pub fn start(name: &str, spin: Duration, jobs: Vec<Job>) -> Result<Self, String> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(spin, jobs));
        Ok(Self { thread: thread.map_err(|e| format!("can't start a thread: {e}"))? })
    }

    /// Whether it has come to its end, whatever that was.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Of the first job or node that failed.
    ///
    /// # Panics
    /// When it panicked.
    pub fn join(self) -> Result<(), String> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A thread that takes nodes.
pub struct Host<'a> {
    ring: &'a mut Ring,
    nodes: &'a mut Vec<Box<dyn Node>>,
    results: &'a mpsc::Sender<(usize, Finished)>,
    waker: &'a Waker,
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl Host<'_> {
    /// Who makes the thread look at its nodes' deadlines again: for machines that are told things by other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs `machine` from now on, until it is asked to stop or its disk fails. `on_event` hears of the
    /// machine's events, and ends the thread with an error.
    ///
    /// # Errors
    /// Text for a person.
    pub fn run<M: Machine + 'static>(
        &mut self,
        machine: M,
        spec: NodeSpec,
        on_event: impl FnMut(M::Event) -> Result<(), String> + 'static,
    ) -> Result<(), String> {
        let (node, results, waker) = (self.nodes.len(), self.results.clone(), self.waker.clone());
        spec.stop.tell(waker.clone());
        let elsewhere = Elsewhere { node, results, waker };
        self.nodes.push(Box::new(Pump::new(machine, spec, on_event, elsewhere, self.ring)?));
        Ok(())
    }
}

fn run(spin: Duration, jobs: Vec<Job>) -> Result<(), String> {
    let ring = &mut Ring::new()?;
    let waker = Waker::new()?;
    waker.listen(ring);
    let (results, finished) = mpsc::channel();
    let mut nodes: Vec<Box<dyn Node>> = Vec::new();
    for job in jobs {
        job(&mut Host { ring, nodes: &mut nodes, results: &results, waker: &waker })?;
    }
    let mut ended = vec![false; nodes.len()];
    let mut done = Vec::new();
    loop {
        let now = clock::now();
        let mut sleep = IDLE;
        for (node, ended) in nodes.iter_mut().zip(&mut ended).filter(|(_, ended)| !**ended) {
            if node.is_stopped() {
                *ended = node.has_ended(ring);
                continue;
            }
            if node.has_work() || node.next_deadline() <= now {
                node.turn(ring)?;
            }
            sleep = if node.has_work() { Duration::ZERO } else { sleep.min(node.next_deadline().since(now)) };
        }
        if ended.iter().all(|ended| *ended) {
            return Ok(());
        }
        wait(ring, sleep, spin, &mut done)?;
        let now = clock::now();
        for d in done.drain(..) {
            match d.op {
                Op::Wake { .. } => waker.listen(ring),
                _ if ended[d.node] => {}
                _ => nodes[d.node].done(ring, d, now),
            }
        }
        while let Ok((node, what)) = finished.try_recv() {
            if !ended[node] {
                nodes[node].finished(ring, what);
            }
        }
    }
}

/// Hands in what was asked for, and waits until something is done, at most for `sleep`.
fn wait(ring: &mut Ring, sleep: Duration, spin: Duration, done: &mut Vec<Done>) -> Result<(), String> {
    let spin = spin.min(sleep);
    if !spin.is_zero() {
        let since = clock::now();
        loop {
            ring.enter(Duration::ZERO)?;
            ring.reap(done);
            if !done.is_empty() {
                return gather(ring, done);
            }
            if clock::now().since(since) >= spin {
                break;
            }
            std::hint::spin_loop();
        }
    }
    ring.enter(sleep)?;
    ring.reap(done);
    gather(ring, done)
}

/// Takes what else has come by now.
fn gather(ring: &mut Ring, done: &mut Vec<Done>) -> Result<(), String> {
    for _ in 0..GATHERS {
        if done.len() >= GATHERED || !ring.has_more() {
            break;
        }
        ring.enter(Duration::ZERO)?;
        ring.reap(done);
    }
    Ok(())
}
