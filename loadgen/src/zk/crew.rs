//! How are the threads steered? They go through the phases together; whoever stands still too long, or meets a
//! server that can't serve, ends the run for all, with what was measured so far.

use super::session::{Counts, World};
use super::trouble::Troubles;
use super::work::Phase;
use super::worker::{Desk, Ended, Loaded, Order, Said, Signals, Span, Worker};
use super::{driver::Driver, worlds};
use crate::args::ZkArgs;
use crate::checks::Checks;
use crate::clock::{Clock, nanos};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::stages::Anew;
use anyhow::{Context, anyhow, bail};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for progress while the nodes are made.
const SETUP_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for a thread behind the end of a load, or to end itself.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// How often this thread looks at signals and progress.
const LOOK: Duration = Duration::from_millis(20);
/// From the order to load until the load begins: all threads must have heard it.
const RUN_UP_NS: u64 = 30_000_000;

/// A load, all threads together.
#[derive(Debug)]
pub struct Load {
    /// Latencies and throughput.
    pub recorder: Recorder,
    /// What else happened.
    pub counts: Counts,
    /// Share of the time that each thread was on a processor.
    pub busy: Vec<f64>,
    /// Why it ended before its time, if the servers made it.
    pub trouble: Option<String>,
}

struct Mate {
    orders: Sender<Order>,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// All threads.
pub struct Crew<'a> {
    args: &'a ZkArgs,
    clock: Clock,
    interrupt: &'a Interrupt,
    progress: Progress,
    mates: Vec<Mate>,
    said: Receiver<(u32, Said)>,
    signals: Arc<Signals>,
    /// Of threads that ended early.
    ended: Vec<Ended>,
}

impl<'a> Crew<'a> {
    /// Starts the threads; they begin to connect.
    ///
    /// # Errors
    /// If the kernel gives no threads or no epoll.
    pub fn start(
        args: &'a ZkArgs,
        servers: &[SocketAddr],
        started_ms: u64,
        interrupt: &'a Interrupt,
    ) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let (sender, said) = mpsc::channel();
        let worlds: Vec<World> = worlds(args, started_ms);
        let (threads, sessions) = (worlds.len() as u32, super::sessions(args));
        let signals = Arc::new(Signals::default());
        let mut mates = Vec::new();
        for (index, world) in (0..).zip(worlds) {
            let (orders, orders_out) = mpsc::channel();
            let desk = Arc::new(Desk::default());
            let driver = Driver::new(servers.to_vec(), world.work.sessions(), args.depth, clock)
                .context("setting up epoll")?;
            let worker = Worker {
                place: (index, threads),
                sessions,
                driver,
                world,
                clock,
                orders: orders_out,
                said: sender.clone(),
                desk: desk.clone(),
                signals: signals.clone(),
                names: args.op.kinds(),
            };
            let name = format!("load-{index}");
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
            mates.push(Mate { orders, desk, thread: Some(thread) });
        }
        let progress = Progress::new();
        Ok(Self { args, clock, interrupt, progress, mates, said, signals, ended: Vec::new() })
    }

    /// Sessions up, nodes made.
    ///
    /// # Errors
    /// What is wrong with the servers, and what to do.
    pub fn set_up(&mut self) -> anyhow::Result<()> {
        self.progress.say("connecting");
        self.wait_ready(self.args.connect_timeout).map_err(|why| {
            anyhow!("can't open sessions, {why}{}", self.told("no server said why; is --servers right?"))
        })?;
        for (phase, what) in [
            (Phase::Parents, "making the nodes above"),
            (Phase::Fill, "making the nodes"),
            (Phase::Sync, "syncing"),
        ] {
            self.progress.say(what);
            self.tell(Order::SetUp(phase))?;
            self.wait_ready(SETUP_PATIENCE).map_err(|why| {
                anyhow!("{what} failed, {why}{}", self.told("the servers just don't answer"))
            })?;
        }
        Ok(())
    }

    fn tell(&self, order: Order) -> anyhow::Result<()> {
        for mate in &self.mates {
            mate.orders.send(order).map_err(|_| anyhow!("a thread of the generator is gone"))?;
        }
        Ok(())
    }

    fn troubles(&self) -> Troubles {
        let mut all = Troubles::new(self.args.servers.len());
        for mate in &self.mates {
            all.merge(&mate.desk.troubles.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// What is wrong with the servers, one line each.
    fn told(&self, otherwise: &str) -> String {
        let told = self.troubles().told(&self.args.servers);
        if told.is_empty() { format!(": {otherwise}") } else { format!(":{told}") }
    }

    /// Waits for all threads to be ready; fails when nothing got less for `patience`.
    fn wait_ready(&mut self, patience: Duration) -> Result<(), String> {
        let mut ready = 0;
        let mut least = u64::MAX;
        let began_ns = self.clock.now_ns();
        let mut give_up_ns = began_ns + nanos(patience);
        while ready < self.mates.len() {
            match self.hear()? {
                Some(Said::Ready) => ready += 1,
                Some(_) => return Err("a thread of the generator ended".to_owned()),
                None => {}
            }
            let left: u64 = self.mates.iter().map(|m| m.desk.left.load(Relaxed)).sum();
            let now_ns = self.clock.now_ns();
            if left < least {
                (least, give_up_ns) = (left, now_ns + nanos(patience));
            }
            let elapsed = (now_ns - began_ns) as f64 / 1e9;
            if self.interrupt.is_set() {
                return Err("interrupted".to_owned());
            }
            if ready < self.mates.len() && (now_ns > give_up_ns || self.troubles().is_final()) {
                return Err(format!("{left} left to do after {elapsed:.1} s"));
            }
        }
        Ok(())
    }

    /// What a thread says, if one does soon.
    fn hear(&mut self) -> Result<Option<Said>, String> {
        match self.said.recv_timeout(LOOK) {
            Ok((_, Said::Broken(e))) => Err(format!("the kernel refuses to go on: {e}")),
            Ok((_, said)) => Ok(Some(said)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("the generator's threads are gone".to_owned()),
        }
    }

    /// One load over all threads.
    ///
    /// # Errors
    /// When the generator itself fails; what servers do wrong is in the result.
    pub fn load(&mut self, warmup: Duration, duration: Duration, rate: Option<f64>) -> anyhow::Result<Load> {
        let start_ns = self.clock.now_ns() + RUN_UP_NS;
        let measure_ns = start_ns + nanos(warmup);
        let end_ns = measure_ns + nanos(duration).max(1);
        self.tell(Order::Load(Span { start_ns, measure_ns, end_ns, rate }))?;
        self.progress.start(end_ns - start_ns);
        let mut stages = Anew::of(&self.args.run);
        let (mut parts, mut trouble): (Vec<Loaded>, Option<String>) = (Vec::new(), None);
        while parts.len() < self.mates.len() {
            match self.hear().map_err(|e| anyhow!(e))? {
                Some(Said::Loaded(part)) => parts.push(*part),
                Some(_) => bail!("a thread of the generator ended"),
                None => {}
            }
            let now_ns = self.clock.now_ns();
            stages.tell(now_ns >= measure_ns)?;
            if trouble.is_none() && now_ns < end_ns {
                trouble = self.trouble(now_ns);
            }
            if trouble.is_some() {
                self.signals.hurry.store(true, Relaxed);
            }
            if trouble.is_some() || self.interrupt.is_set() {
                self.signals.cut.store(true, Relaxed);
            }
            let answered = self.mates.iter().map(|m| m.desk.answered.load(Relaxed)).sum();
            self.progress.at(now_ns.saturating_sub(start_ns), answered);
            if now_ns > end_ns + nanos(END_PATIENCE) {
                bail!("only {} of {} threads came to their end", parts.len(), self.mates.len());
            }
        }
        Ok(merged(parts, trouble))
    }

    /// Why the load must end now, if it must.
    fn trouble(&self, now_ns: u64) -> Option<String> {
        if self.troubles().is_final() {
            return Some(format!("the servers can't serve this load{}", self.told("")));
        }
        let alive_ns = self.mates.iter().map(|m| m.desk.alive_ns.load(Relaxed)).max().unwrap_or(0);
        let silent_ns = now_ns.saturating_sub(alive_ns);
        (silent_ns > nanos(self.args.outage)).then(|| {
            let told = self.told("they take requests, but don't answer them");
            format!("no server has answered for {:.1} s (--outage){told}", silent_ns as f64 / 1e9)
        })
    }

    /// Ends the sessions and the threads: what they found over the whole run.
    pub fn end(mut self) -> (Checks, BTreeMap<i32, u64>) {
        self.progress.say("closing sessions");
        let _ = self.tell(Order::End); // threads that are gone have said all they know
        let until_ns = self.clock.now_ns() + nanos(END_PATIENCE);
        while self.ended.len() < self.mates.len() && self.clock.now_ns() < until_ns {
            match self.said.recv_timeout(LOOK) {
                Ok((_, Said::Ended(ended))) => self.ended.push(*ended),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.progress.end();
        let (mut checks, mut errors) = (Checks::default(), BTreeMap::new());
        for ended in self.ended.drain(..) {
            checks.merge(ended.checks);
            ended.errors.into_iter().for_each(|(code, n)| *errors.entry(code).or_default() += n);
        }
        for thread in self.mates.iter_mut().filter_map(|m| m.thread.take()) {
            if thread.is_finished() {
                let _ = thread.join(); // one that panicked has said so on stderr
            }
        }
        (checks, errors)
    }

    /// Makes the threads give up what they wait for.
    pub fn hurry(&self) {
        self.signals.hurry.store(true, Relaxed);
    }
}

fn merged(parts: Vec<Loaded>, trouble: Option<String>) -> Load {
    let mut parts = parts.into_iter();
    let first = parts.next().expect("there is at least one thread");
    let Loaded { mut recorder, mut counts, busy } = first;
    let mut busy = vec![busy];
    for part in parts {
        recorder.merge(&part.recorder);
        counts.merge(&part.counts);
        busy.push(part.busy);
    }
    Load { recorder, counts, busy, trouble }
}
