//! What does one thread of the generator do? What the steering thread tells it: connect, set up, load, drain,
//! end; in between it keeps its sessions alive.

use super::driver::Driver;
use super::session::{Counts, State, World};
use super::trouble::Troubles;
use super::work::{Pace, Phase};
use crate::checks::Checks;
use crate::clock::{Clock, nanos, thread_cpu_ns};
use crate::recorder::Recorder;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for answers after a load.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for sessions to end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for either when the servers are in trouble.
const SHORT_PATIENCE: Duration = Duration::from_millis(300);
/// How often a thread looks at what it is told.
const LOOK_NS: u64 = 10_000_000;
/// How often it does so in a watch storm, whose rounds other threads begin and end.
const STORM_LOOK_NS: u64 = 1_000_000;

/// When to load, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The load begins.
    pub start_ns: u64,
    /// Measuring begins.
    pub measure_ns: u64,
    /// Both end.
    pub end_ns: u64,
    /// Operations per second of the whole run, if fixed.
    pub rate: Option<f64>,
}

/// What the steering thread tells a worker to do.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// A phase of the set-up.
    SetUp(Phase),
    /// A load.
    Load(Span),
    /// End the sessions, and itself.
    End,
}

/// What a worker answers.
#[derive(Debug)]
pub enum Said {
    /// Sessions are up, or the phase of the set-up is done.
    Ready,
    /// A load is over.
    Loaded(Box<Loaded>),
    /// It is at its end.
    Ended(Box<Ended>),
    /// The kernel refuses to go on.
    Broken(io::Error),
}

/// One thread's part of a load.
#[derive(Debug)]
pub struct Loaded {
    /// Latencies and throughput.
    pub recorder: Recorder,
    /// What else happened.
    pub counts: Counts,
    /// Share of the time that the thread was on a processor.
    pub busy: f64,
}

/// What a thread found out over the whole run.
#[derive(Debug)]
pub struct Ended {
    /// What was checked.
    pub checks: Checks,
    /// Errors by code.
    pub errors: BTreeMap<i32, u64>,
}

/// What a worker shows to the steering thread while it works.
#[derive(Debug, Default)]
pub struct Desk {
    /// What is left to do of the phase at hand.
    pub left: AtomicU64,
    /// Answers so far.
    pub answered: AtomicU64,
    /// When it last heard from a server, or had nothing to wait for.
    pub alive_ns: AtomicU64,
    /// What is wrong with servers.
    pub troubles: Mutex<Troubles>,
}

/// What the steering thread tells all workers at once.
#[derive(Debug, Default)]
pub struct Signals {
    /// The load is to end now.
    pub cut: AtomicBool,
    /// Nothing is to be waited for any more.
    pub hurry: AtomicBool,
}

/// One thread.
pub struct Worker {
    /// Its number, and how many there are.
    pub place: (u32, u32),
    /// Sessions of the whole run.
    pub sessions: u32,
    /// Its sessions' connections.
    pub driver: Driver,
    /// Its sessions' world.
    pub world: World,
    /// The run's clock.
    pub clock: Clock,
    /// What it is told.
    pub orders: Receiver<Order>,
    /// What it answers.
    pub said: Sender<(u32, Said)>,
    /// What it shows.
    pub desk: Arc<Desk>,
    /// What it watches.
    pub signals: Arc<Signals>,
    /// Names of what is measured.
    pub names: &'static [&'static str],
}

impl Worker {
    /// Works until it is told to end, or the steering thread is gone.
    pub fn run(mut self) {
        let ended = self.work();
        let said = match ended {
            Ok(()) => {
                let errors = self.world.verify.errors().clone();
                Said::Ended(Box::new(Ended { checks: self.world.verify.finish(), errors }))
            }
            Err(e) => Said::Broken(e),
        };
        let _ = self.said.send((self.place.0, said)); // nobody listens any more after a failure
    }

    fn work(&mut self) -> io::Result<()> {
        let down = |w: &Self| w.driver.sessions().iter().filter(|s| s.state() != State::Up).count() as u64;
        self.wait_until_none(down)?;
        self.say(Said::Ready);
        loop {
            match self.orders.try_recv() {
                Ok(Order::SetUp(phase)) => {
                    self.world.work.enter(phase);
                    self.driver.serve_all(&mut self.world);
                    self.wait_until_none(|w| u64::from(w.world.work.left()))?;
                    self.say(Said::Ready);
                }
                Ok(Order::Load(span)) => {
                    let loaded = self.load(span)?;
                    self.say(Said::Loaded(Box::new(loaded)));
                }
                Ok(Order::End) => return self.close(),
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => self.turn(u64::MAX)?,
            }
        }
    }

    fn say(&self, said: Said) {
        let _ = self.said.send((self.place.0, said)); // nobody listens any more after a failure
    }

    /// One turn, at most until `until_ns`, and a look at what is to be shown.
    fn turn(&mut self, until_ns: u64) -> io::Result<()> {
        let storm = self.world.work.storm().map(|storm| storm.stirred());
        let look_ns = if storm.is_some() { STORM_LOOK_NS } else { LOOK_NS };
        self.driver.turn(until_ns.min(self.clock.now_ns() + look_ns), &mut self.world)?;
        if self.world.work.storm().map(|storm| storm.stirred()) != storm {
            self.driver.serve_all(&mut self.world);
        }
        self.desk.answered.store(self.world.recorder.answered_ever(), Relaxed);
        if let Some(news) = self.world.troubles.news() {
            *self.desk.troubles.lock().unwrap_or_else(PoisonError::into_inner) = news.clone();
        }
        Ok(())
    }

    /// Turns until nothing is left of what `left` counts, or there is no more time.
    fn wait_until_none(&mut self, left: fn(&Self) -> u64) -> io::Result<()> {
        loop {
            let n = left(self);
            self.desk.left.store(n, Relaxed);
            if n == 0 || self.signals.hurry.load(Relaxed) {
                return Ok(());
            }
            self.turn(u64::MAX)?;
            self.driver.serve_all(&mut self.world);
        }
    }

    fn load(&mut self, span: Span) -> io::Result<Loaded> {
        self.begin(span);
        let (mut cpu_ns, mut stirred) = (None, 0);
        let end_ns = loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= span.end_ns {
                break span.end_ns;
            }
            if self.signals.cut.load(Relaxed) {
                self.world.recorder.cut(now_ns);
                break now_ns;
            }
            if now_ns < span.start_ns {
                self.turn(span.start_ns)?;
                continue;
            }
            if cpu_ns.is_none() {
                cpu_ns = Some((thread_cpu_ns(), now_ns));
                self.driver.serve_all(&mut self.world);
            }
            self.turn(span.end_ns)?;
            let storm = self.world.work.storm().map_or(0, |storm| storm.stirred());
            if storm != stirred {
                stirred = storm;
                self.driver.serve_all(&mut self.world);
            }
            self.look_alive(now_ns);
        };
        let busy = cpu_ns.map_or(0.0, |(cpu_ns, since_ns)| {
            let wall_ns = self.clock.now_ns().saturating_sub(since_ns).max(1);
            (thread_cpu_ns().saturating_sub(cpu_ns)) as f64 / wall_ns as f64
        });
        (self.world.counts.scheduled, self.world.counts.never_begun) = self.world.work.scheduled(end_ns);
        self.drain()?;
        let fresh = Recorder::new(self.names, span.rate.is_some());
        let recorder = std::mem::replace(&mut self.world.recorder, fresh);
        Ok(Loaded { recorder, counts: std::mem::take(&mut self.world.counts), busy })
    }

    fn begin(&mut self, span: Span) {
        let world = &mut self.world;
        world.recorder = Recorder::new(self.names, span.rate.is_some());
        world.recorder.open(span.measure_ns, span.end_ns);
        world.counts = Counts::default();
        let share = f64::from(world.work.sessions().len() as u32) / f64::from(self.sessions);
        let pace = span.rate.map(|rate| Pace::new(rate, share, self.place, span.start_ns));
        world.work.start_load(span.start_ns, span.end_ns, pace);
        self.desk.alive_ns.store(span.start_ns.max(self.clock.now_ns()), Relaxed);
    }

    /// Shows when a server was last heard of; with nothing to wait for that is now.
    fn look_alive(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.world.heard_ns) < LOOK_NS {
            self.desk.alive_ns.store(self.world.heard_ns, Relaxed);
        } else if self.driver.sessions().iter().all(super::session::Session::is_idle) {
            self.desk.alive_ns.store(now_ns, Relaxed);
        } else {
            self.desk.alive_ns.fetch_max(self.world.heard_ns, Relaxed);
        }
    }

    fn patience(&self, usual: Duration) -> u64 {
        let hurry = self.signals.hurry.load(Relaxed);
        self.clock.now_ns() + nanos(if hurry { SHORT_PATIENCE } else { usual })
    }

    /// Waits for what is in flight. What does not come in time is unknown.
    fn drain(&mut self) -> io::Result<()> {
        self.world.work.enter(Phase::Drain);
        let until_ns = self.patience(DRAIN_PATIENCE);
        let waiting = |d: &Driver| d.sessions().iter().map(|s| s.measured_in_flight()).sum::<u64>();
        while waiting(&self.driver) > 0 && self.clock.now_ns() < until_ns {
            if self.signals.hurry.load(Relaxed) && self.clock.now_ns() > self.patience(DRAIN_PATIENCE) {
                break;
            }
            self.turn(until_ns)?;
        }
        self.world.counts.unknown += waiting(&self.driver);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.world.work.enter(Phase::Close);
        let until_ns = self.patience(CLOSE_PATIENCE);
        let open = |s: &super::session::Session| !matches!(s.state(), State::Closed | State::Down { .. });
        while self.driver.sessions().iter().any(open) && self.clock.now_ns() < until_ns {
            self.driver.serve_all(&mut self.world);
            self.turn(until_ns)?;
        }
        Ok(())
    }
}
