//! What does each session do next? The phases of a run: connect, make the nodes, load, drain, close; and
//! within each, the next job of a session that has room for one.

use super::storm::{Storm, Watch};
use crate::args::{ZkArgs, ZkOp};
use crate::keys::Keys;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zoolog_core::rng::Rng;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Make the nth of the nodes that others are put under.
    Parent(u32),
    /// Make a key's node.
    Fill(u32),
    /// Give a key's node, left by an earlier run, a value of this one.
    Refill(u32),
    /// See everything that was made, by whichever session.
    Sync,
    /// Make this session's node of that number.
    Create(u64),
    /// Set a key's data to this session's value of that number.
    Set {
        /// Which node.
        key: u32,
        /// Number of the value, from 1.
        counter: u64,
    },
    /// Read a key's data.
    Get(u32),
    /// Read a key's stat.
    Exists(u32),
    /// Delete this session's node of that number.
    Delete(u64),
    /// Read the first key's data and leave a watch.
    Arm,
    /// End the session, to open another.
    Leave,
    /// End the session.
    Close,
}

impl Job {
    /// Place of the kind in [`KINDS`] if it is measured.
    pub const fn kind(self) -> Option<usize> {
        match self {
            Self::Create(_) => Some(0),
            Self::Set { .. } => Some(1),
            Self::Get(_) => Some(2),
            Self::Exists(_) => Some(3),
            Self::Delete(_) => Some(4),
            Self::Arm => Some(5),
            Self::Leave => Some(6),
            Self::Parent(_) | Self::Fill(_) | Self::Refill(_) | Self::Sync | Self::Close => None,
        }
    }
}

/// The kinds that are measured: of jobs, then of what is more than one job.
pub const KINDS: [&str; 10] =
    ["create", "set", "get", "exists", "delete", "arm", "close", "open", "event", "last-event"];
/// From the dial to the session.
pub const OPEN: usize = 7;
/// From the set to the event.
pub const EVENT: usize = 8;
/// From the set to the last watcher's event.
pub const LAST_EVENT: usize = 9;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Sessions come up.
    Connect,
    /// The first session makes the nodes that others are put under.
    Parents,
    /// All sessions make the keys' nodes.
    Fill,
    /// Each session makes sure that it sees them.
    Sync,
    /// The load, warm-up included.
    Load,
    /// No more requests; what is in flight is waited for.
    Drain,
    /// Sessions are ended.
    Close,
}

/// Jobs in flight per session while the nodes are made.
const FILL_DEPTH: usize = 64;

/// What all threads of a run share.
#[derive(Debug)]
pub struct Common {
    /// Per session: values and nodes numbered so far.
    pub issued: Vec<AtomicU64>,
    /// The rounds of a watch storm.
    pub storm: Option<Storm>,
}

impl Common {
    /// For so many sessions, and watchers if there are any.
    pub fn new(sessions: u32, watchers: Option<u32>) -> Self {
        let issued = (0..sessions).map(|_| AtomicU64::new(0)).collect();
        Self { issued, storm: watchers.map(Storm::new) }
    }
}

/// One thread's part of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its sessions.
    pub sessions: Range<u32>,
    /// The keys whose nodes it makes.
    pub fill: Range<u32>,
    /// Whether it makes the nodes that others are put under.
    pub makes_parents: bool,
}

impl Share {
    /// Part number `index` of `threads`, of `sessions` sessions and `keys` keys.
    pub fn of(index: u32, threads: u32, sessions: u32, keys: u32) -> Self {
        let part = |n: u32| {
            let at = |i: u32| (u64::from(n) * u64::from(i) / u64::from(threads)) as u32;
            at(index)..at(index + 1)
        };
        Self { sessions: part(sessions), fill: part(keys), makes_parents: index == 0 }
    }
}

/// When operations are meant to start: the thread's rate, dealt out to its sessions in turn.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the first one is.
    pub first_ns: f64,
    /// Nanoseconds from each to the next.
    pub interval_ns: f64,
}

/// What is to be done and how far it is.
#[derive(Debug)]
pub struct Work {
    op: ZkOp,
    share: Share,
    common: Arc<Common>,
    depth: usize,
    keys: Option<Keys>,
    phase: Phase,
    /// Parents, or keys, that nobody is at; and how many are not yet done, in flight ones included.
    todo: VecDeque<Job>,
    next_fill: u32,
    left: u32,
    synced: Vec<bool>,
    closing: Vec<bool>,
    rngs: Vec<Rng>,
    watches: Vec<Watch>,
    /// Per session: operations begun so far in this load, the index into its schedule.
    begun: Vec<u64>,
    pace: Option<Pace>,
    /// First operation of the schedule whose session was not looked at since it is due.
    next_due: u64,
    start_ns: u64,
    end_ns: u64,
}

impl Work {
    /// A thread's part of the run that `args` asks for.
    pub fn new(args: &ZkArgs, share: Share, parents: u32, common: Arc<Common>) -> Self {
        let n = share.sessions.len();
        let parents = if share.makes_parents { parents } else { 0 };
        Self {
            op: args.op,
            depth: args.depth as usize,
            keys: args.op.uses_keys().then(|| Keys::new(args.keys, args.distribution)),
            phase: Phase::Connect,
            todo: (0..parents).map(Job::Parent).collect(),
            next_fill: share.fill.start,
            left: parents,
            synced: vec![false; n],
            closing: vec![false; n],
            rngs: share.sessions.clone().map(|i| Rng::new(args.run.seed, &format!("session {i}"))).collect(),
            watches: vec![Watch::default(); n],
            begun: vec![0; n],
            pace: None,
            next_due: 0,
            start_ns: u64::MAX,
            end_ns: u64::MAX,
            share,
            common,
        }
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The sessions of this thread.
    pub fn sessions(&self) -> Range<u32> {
        self.share.sessions.clone()
    }

    /// Values or nodes that session `writer`, of whichever thread, has numbered so far.
    pub fn issued(&self, writer: u32) -> Option<u64> {
        self.common.issued.get(writer as usize).map(|n| n.load(Ordering::SeqCst))
    }

    /// The watch storm, if it is one.
    pub fn storm(&self) -> Option<&Storm> {
        self.common.storm.as_ref()
    }

    /// Jobs of set-up that are not done yet.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Goes on to `phase`. Only from the drain can the load begin anew.
    pub fn enter(&mut self, phase: Phase) {
        let again = (self.phase, phase) == (Phase::Drain, Phase::Load);
        assert!(phase > self.phase || again, "from {:?} to {phase:?}", self.phase);
        self.phase = phase;
        match phase {
            Phase::Fill => self.left = self.share.fill.len() as u32,
            Phase::Sync => self.left = self.share.sessions.len() as u32,
            _ => {}
        }
    }

    /// Starts a load, which ends at `end_ns`.
    pub fn start_load(&mut self, start_ns: u64, end_ns: u64, pace: Option<Pace>) {
        self.enter(Phase::Load);
        (self.start_ns, self.end_ns, self.pace, self.next_due) = (start_ns, end_ns, pace, 0);
        self.begun.fill(0);
    }

    /// Jobs a session may have in flight.
    pub fn depth(&self) -> usize {
        if self.phase >= Phase::Load { self.depth } else { FILL_DEPTH }
    }

    /// Whether sessions are opened and closed as the load.
    pub fn is_session_storm(&self) -> bool {
        self.op == ZkOp::SessionStorm && self.phase == Phase::Load
    }

    fn index(&self, session: u32) -> usize {
        (session - self.share.sessions.start) as usize
    }

    /// The next job of a session that has room, and when it was meant to start.
    pub fn next(&mut self, session: u32, now_ns: u64) -> Option<(Job, u64)> {
        let s = self.index(session);
        let job = match self.phase {
            Phase::Parents if s == 0 => self.todo.pop_front()?,
            Phase::Fill => match self.todo.pop_front() {
                Some(job) => job,
                None if self.next_fill < self.share.fill.end => {
                    self.next_fill += 1;
                    Job::Fill(self.next_fill - 1)
                }
                None => return None,
            },
            Phase::Sync if !self.synced[s] => {
                self.synced[s] = true;
                Job::Sync
            }
            Phase::Load => return self.next_load(session, now_ns),
            Phase::Close if !self.closing[s] => {
                self.closing[s] = true;
                Job::Close
            }
            Phase::Connect | Phase::Parents | Phase::Sync | Phase::Drain | Phase::Close => return None,
        };
        Some((job, now_ns))
    }

    fn next_load(&mut self, session: u32, now_ns: u64) -> Option<(Job, u64)> {
        let s = self.index(session);
        let intended_ns = self.due_ns(s).unwrap_or(now_ns);
        if !(self.start_ns..self.end_ns).contains(&now_ns) || intended_ns > now_ns {
            return None;
        }
        let job = match self.op {
            ZkOp::WatchStorm => self.next_storm(session, now_ns)?,
            ZkOp::SessionStorm => Job::Leave,
            ZkOp::Mixed(percent) if self.rngs[s].chance(u64::from(percent)) => Job::Get(self.key(s)),
            ZkOp::Set | ZkOp::Mixed(_) => Job::Set { key: self.key(s), counter: self.number(session) },
            ZkOp::Get => Job::Get(self.key(s)),
            ZkOp::Exists => Job::Exists(self.key(s)),
            ZkOp::Create => Job::Create(self.number(session)),
            ZkOp::CreateDelete if self.begun[s].is_multiple_of(2) => Job::Create(self.number(session)),
            ZkOp::CreateDelete => Job::Delete(self.issued(session).unwrap_or(0)),
        };
        self.begun[s] += 1;
        Some((job, intended_ns))
    }

    fn key(&mut self, s: usize) -> u32 {
        self.keys.as_ref().map_or(0, |keys| keys.draw(&mut self.rngs[s]))
    }

    /// The number of the session's next value or node.
    fn number(&self, session: u32) -> u64 {
        self.common.issued[session as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    fn next_storm(&mut self, session: u32, now_ns: u64) -> Option<Job> {
        let s = self.index(session);
        let storm = self.common.storm.as_ref().expect("a watch storm has its rounds");
        let (round, watch) = (storm.round(), &mut self.watches[s]);
        if watch.asked >= round || (storm.is_setter(session) && !storm.is_ready()) {
            return None;
        }
        watch.asked = round;
        if !storm.is_setter(session) {
            return Some(Job::Arm);
        }
        storm.fire(now_ns);
        Some(Job::Set { key: 0, counter: self.number(session) })
    }

    /// The session's watch stands.
    pub fn armed(&mut self, session: u32) {
        let s = self.index(session);
        let watch = &mut self.watches[s];
        watch.stood = watch.asked;
        if let Some(storm) = &self.common.storm {
            storm.armed();
        }
    }

    /// The session's watch fired: when the node was set, and whether this was the last watcher to hear of it.
    /// `None` if no watch of this round stands.
    pub fn heard(&mut self, session: u32) -> Option<(u64, bool)> {
        let s = self.index(session);
        let storm = self.common.storm.as_ref()?;
        let (round, fired_ns, watch) = (storm.round(), storm.fired_ns(), &mut self.watches[s]);
        if watch.stood != round || watch.fired == round || fired_ns == 0 {
            return None;
        }
        watch.fired = round;
        Some((fired_ns, storm.heard()))
    }

    /// The session's connection is gone, and with it its watch: nobody waits for it.
    pub fn watch_lost(&mut self, session: u32) {
        let s = self.index(session);
        let Some(storm) = self.common.storm.as_ref().filter(|storm| !storm.is_setter(session)) else {
            return;
        };
        let (round, watch) = (storm.round(), &mut self.watches[s]);
        if watch.stood == round && watch.fired != round {
            if storm.fired_ns() != 0 {
                watch.fired = round;
                storm.heard();
            } else {
                (watch.asked, watch.stood) = (0, 0);
                storm.disarmed();
            }
        } else if watch.asked == round && watch.stood != round {
            watch.asked = 0;
        }
    }

    /// When the next operation of the session at `s` is meant to start, if there is a schedule.
    fn due_ns(&self, s: usize) -> Option<u64> {
        let nth = self.begun[s] * self.begun.len() as u64 + s as u64;
        self.pace.map(|pace| pace.nth_ns(nth))
    }

    /// When some session is next to be looked at for the schedule's sake.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.pace.filter(|_| self.phase == Phase::Load).map(|pace| pace.nth_ns(self.next_due))
    }

    /// The sessions, as places among this thread's, that have operations due that they were not looked at for.
    pub fn take_due(&mut self, now_ns: u64) -> impl Iterator<Item = usize> + use<> {
        let n = self.begun.len() as u64;
        let mut due = 0..0;
        if let Some(pace) = self.pace.filter(|_| self.phase == Phase::Load) {
            let until = pace.due_by(now_ns).max(self.next_due);
            // Each session once is enough: it begins all that it has due.
            due = self.next_due.max(until.saturating_sub(n))..until;
            self.next_due = until;
        }
        due.map(move |nth| (nth % n) as usize)
    }

    /// Operations that were scheduled before `until_ns`, and how many of them were never begun.
    pub fn scheduled(&self, until_ns: u64) -> (u64, u64) {
        let Some(pace) = self.pace else { return (0, 0) };
        let scheduled = pace.due_by(until_ns.saturating_sub(1));
        (scheduled, scheduled.saturating_sub(self.begun.iter().sum()))
    }

    /// A job of set-up is done. `exists`: the node was there already.
    pub fn done(&mut self, job: Job, exists: bool) {
        match job {
            Job::Fill(key) if exists => self.todo.push_back(Job::Refill(key)),
            Job::Parent(_) | Job::Fill(_) | Job::Refill(_) | Job::Sync => self.left -= 1,
            _ => {}
        }
    }

    /// A job went down with its connection. False if its outcome will never be known; jobs of set-up are
    /// done again.
    pub fn lost(&mut self, session: u32, job: Job) -> bool {
        match job {
            Job::Parent(_) | Job::Fill(_) | Job::Refill(_) => self.todo.push_back(job),
            Job::Sync => {
                let s = self.index(session);
                self.synced[s] = false;
            }
            Job::Close => {}
            _ => return false,
        }
        // Parents must be made before what lies under them.
        if self.phase == Phase::Parents {
            self.todo.make_contiguous().sort_by_key(|job| match job {
                Job::Parent(n) => *n,
                _ => u32::MAX,
            });
        }
        true
    }
}

impl Pace {
    /// Thread `index` of `threads` of a load of `rate` per second, of which it begins `share`, from `start_ns` on.
    pub fn new(rate: f64, share: f64, (index, threads): (u32, u32), start_ns: u64) -> Self {
        let interval_ns = 1e9 / (rate * share);
        // Threads begin one after the other within the first interval.
        let offset_ns = interval_ns * f64::from(index) / f64::from(threads);
        Self { first_ns: start_ns as f64 + offset_ns, interval_ns }
    }

    fn nth_ns(&self, nth: u64) -> u64 {
        (self.first_ns + nth as f64 * self.interval_ns) as u64
    }

    /// How many are due by `now_ns`, those due right then among them.
    fn due_by(&self, now_ns: u64) -> u64 {
        let mut n = ((now_ns as f64 - self.first_ns) / self.interval_ns).floor().max(-1.0) as i64 + 1;
        // The division may round either way; the schedule is what `nth_ns` says.
        while n > 0 && self.nth_ns(n as u64 - 1) > now_ns {
            n -= 1;
        }
        while self.nth_ns(n as u64) <= now_ns {
            n += 1;
        }
        n as u64
    }
}

/// The nodes' paths, built in place.
#[derive(Debug)]
pub struct Paths {
    root: String,
    parents: Vec<String>,
    buffer: String,
    created: String,
}

impl Paths {
    /// For the run `run`; nodes that are created lie under one node per session.
    pub fn new(prefix: &str, run: u32, op: ZkOp, sessions: u32) -> Self {
        let mut parents: Vec<String> =
            prefix.match_indices('/').skip(1).map(|(at, _)| prefix[..at].to_owned()).collect();
        parents.push(prefix.to_owned());
        let created = format!("{prefix}/create-{run:08x}");
        if matches!(op, ZkOp::Create | ZkOp::CreateDelete) {
            parents.push(created.clone());
            parents.extend((0..sessions).map(|s| format!("{created}/{s}")));
        }
        Self { root: prefix.to_owned(), parents, buffer: String::new(), created }
    }

    /// How many nodes others are put under.
    pub fn parents(&self) -> u32 {
        self.parents.len() as u32
    }

    /// The nth of them, each behind its own parent.
    pub fn parent(&self, n: u32) -> &str {
        &self.parents[n as usize]
    }

    /// The prefix.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// A key's node.
    pub fn key(&mut self, key: u32) -> &str {
        self.buffer.clear();
        let _ = write!(self.buffer, "{}/k{key:08}", self.root);
        &self.buffer
    }

    /// A session's created node of that number.
    pub fn created(&mut self, session: u32, counter: u64) -> &str {
        self.buffer.clear();
        let _ = write!(self.buffer, "{}/{session}/n{counter:010}", self.created);
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Target};
    use clap::Parser;

    fn args(more: &[&str]) -> ZkArgs {
        let all = ["loadgen", "zk", "--servers", "a:1"].iter().chain(more);
        match Cli::parse_from(all).target {
            Target::Zk(args) => *args,
            _ => unreachable!("asked for zk"),
        }
    }

    /// A run of one thread.
    fn work(more: &[&str], parents: u32) -> Work {
        let args = args(more);
        let sessions = args.sessions + u32::from(args.op == ZkOp::WatchStorm);
        let watchers = (args.op == ZkOp::WatchStorm).then_some(args.sessions);
        let common = Arc::new(Common::new(sessions, watchers));
        Work::new(&args, Share::of(0, 1, sessions, args.keys), parents, common)
    }

    #[test]
    fn shares_cover_everything_once() {
        for (threads, sessions, keys) in [(1, 5, 7), (3, 48, 1000), (4, 6, 2), (7, 7, 0)] {
            let all: Vec<_> = (0..threads).map(|i| Share::of(i, threads, sessions, keys)).collect();
            assert_eq!(
                all.iter().flat_map(|s| s.sessions.clone()).collect::<Vec<_>>(),
                (0..sessions).collect::<Vec<_>>()
            );
            assert_eq!(
                all.iter().flat_map(|s| s.fill.clone()).collect::<Vec<_>>(),
                (0..keys).collect::<Vec<_>>()
            );
            assert_eq!(all.iter().filter(|s| s.makes_parents).count(), 1);
            assert!(all.iter().all(|s| !s.sessions.is_empty()));
        }
    }

    #[test]
    fn parents_come_before_what_lies_under_them_even_after_a_loss() {
        let paths = Paths::new("/a/b", 1, ZkOp::Create, 2);
        assert_eq!(
            paths.parents,
            ["/a", "/a/b", "/a/b/create-00000001", "/a/b/create-00000001/0", "/a/b/create-00000001/1"]
        );
        let mut work = work(&["--op", "create"], paths.parents());
        work.enter(Phase::Parents);
        assert_eq!(work.next(1, 0), None, "only the first session makes them");
        let jobs: Vec<_> = std::iter::from_fn(|| work.next(0, 0)).map(|(job, _)| job).collect();
        work.done(jobs[0], false);
        for &job in jobs[1..].iter().rev() {
            assert!(work.lost(0, job));
        }
        let again: Vec<_> = std::iter::from_fn(|| work.next(0, 0)).map(|(job, _)| job).collect();
        assert_eq!(again, jobs[1..]);
    }

    #[test]
    fn every_key_is_filled_once_and_refilled_if_it_was_there() {
        let mut work = work(&["--keys", "5", "--sessions", "2"], 0);
        work.enter(Phase::Fill);
        let mut filled = [0; 5];
        let mut turn = 0;
        while work.left() > 0 {
            let (job, _) = work.next(turn % 2, 0).expect("something is left");
            turn += 1;
            match job {
                Job::Fill(key) if key == 3 && turn < 6 => assert!(work.lost(0, job)),
                Job::Fill(key) => {
                    filled[key as usize] += 1;
                    work.done(job, key == 1);
                }
                Job::Refill(1) => work.done(job, false),
                job => panic!("{job:?}"),
            }
        }
        assert_eq!(filled, [1; 5]);
    }

    #[test]
    fn a_schedule_deals_the_rate_out_evenly_and_knows_what_it_missed() {
        let mut work = work(&["--sessions", "4"], 0);
        work.start_load(1_000, 1_000 + 1_000_000_000, Some(Pace::new(1000.0, 1.0, (0, 1), 1_000)));
        let mut starts = Vec::new();
        for session in 0..4 {
            while let Some((_, intended)) = work.next(session, 500_001_000) {
                starts.push(intended);
            }
        }
        starts.sort_unstable();
        assert_eq!(starts.len(), 501, "those that were due by then, the one due right then among them");
        assert!(starts.windows(2).all(|w| w[1] - w[0] == 1_000_000), "one each millisecond");
        assert_eq!(work.scheduled(1_000 + 1_000_000_000), (1000, 499));
    }

    #[test]
    fn sessions_are_looked_at_when_something_is_due_and_once_however_late() {
        let mut work = work(&["--sessions", "4"], 0);
        work.start_load(0, 1 << 40, Some(Pace::new(1000.0, 1.0, (0, 1), 0)));
        assert_eq!(work.take_due(0).collect::<Vec<_>>(), [0]);
        assert_eq!(work.take_due(900_000).count(), 0);
        assert_eq!(work.next_due_ns(), Some(1_000_000));
        assert_eq!(work.take_due(2_500_000).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(work.take_due(100_000_000).collect::<Vec<_>>(), [1, 2, 3, 0]);
        assert_eq!(work.next_due_ns(), Some(101_000_000));
    }

    #[test]
    fn threads_together_keep_the_rate() {
        let threads = 3;
        let paces = (0..threads).map(|i| Pace::new(3000.0, 1.0 / 3.0, (i, threads), 0));
        let mut starts: Vec<u64> = paces.flat_map(|p| (0..100).map(move |n| p.nth_ns(n))).collect();
        starts.sort_unstable();
        assert!(starts.windows(2).all(|w| (333_332..=333_335).contains(&(w[1] - w[0]))), "{starts:?}");
    }

    #[test]
    fn a_closed_loop_always_has_work_until_the_end() {
        let mut work = work(&["--op", "mixed:50"], 0);
        work.start_load(0, 100, None);
        let jobs: Vec<_> = (0..100).filter_map(|now| work.next(0, now)).collect();
        assert_eq!(jobs.len(), 100);
        let gets = jobs.iter().filter(|(job, _)| matches!(job, Job::Get(_))).count();
        assert!((20..80).contains(&gets), "{gets} gets of 100");
        assert_eq!(work.next(0, 100), None);
        assert!(!work.lost(0, jobs[0].0), "the outcome of a lost request is unknown");
    }

    #[test]
    fn a_load_begins_anew_after_a_drain_and_numbers_go_on() {
        let mut work = work(&["--op", "create"], 0);
        work.start_load(0, 10, None);
        assert_eq!(work.next(0, 1), Some((Job::Create(1), 1)));
        work.enter(Phase::Drain);
        assert_eq!(work.next(0, 20), None);
        work.start_load(30, 40, None);
        assert_eq!(work.next(0, 29), None, "not before its start");
        assert_eq!(work.next(0, 31), Some((Job::Create(2), 31)));
    }

    #[test]
    fn nodes_are_deleted_right_after_they_were_made() {
        let mut work = work(&["--op", "create-delete"], 0);
        work.start_load(0, 10, None);
        let jobs: Vec<_> = (0..4).filter_map(|now| work.next(3, now)).map(|(job, _)| job).collect();
        assert_eq!(jobs, [Job::Create(1), Job::Delete(1), Job::Create(2), Job::Delete(2)]);
    }

    #[test]
    fn a_watch_storm_goes_in_rounds_and_no_lost_watch_holds_it_up() {
        let mut work = work(&["--op", "watch-storm", "--sessions", "2"], 0);
        work.start_load(0, 1000, None);
        assert_eq!(work.next(2, 0), None, "the setter waits for the watchers");
        for watcher in 0..2 {
            assert_eq!(work.next(watcher, 1), Some((Job::Arm, 1)));
            assert_eq!(work.next(watcher, 1), None, "one watch is enough");
            work.armed(watcher);
        }
        assert_eq!(work.heard(0), None, "nothing was set");
        assert_eq!(work.next(2, 5), Some((Job::Set { key: 0, counter: 1 }, 5)));
        assert_eq!(work.heard(0), Some((5, false)));
        assert_eq!(work.heard(0), None, "a watch fires once");
        work.watch_lost(1);
        assert_eq!(work.storm().unwrap().round(), 2, "the lost watch ends the round");
        assert_eq!(work.next(0, 6), Some((Job::Arm, 6)));
        work.armed(0);
        work.watch_lost(0);
        assert_eq!(work.next(0, 7), Some((Job::Arm, 7)), "armed again on the next connection");
    }
}
