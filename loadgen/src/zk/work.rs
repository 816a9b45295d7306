//! What does each session do next? The phases of a run: connect, make the nodes, load, drain, close; and
//! within each, the next job of a session that has room for one.

use crate::args::{ZkArgs, ZkOp};
use std::collections::VecDeque;
use std::fmt::Write as _;
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
            Self::Parent(_) | Self::Fill(_) | Self::Refill(_) | Self::Sync | Self::Close => None,
        }
    }
}

/// The kinds of jobs that are measured.
pub const KINDS: [&str; 4] = ["create", "set", "get", "exists"];

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

/// What is to be done and how far it is.
#[derive(Debug)]
pub struct Work {
    op: ZkOp,
    sessions: u32,
    depth: usize,
    keys: u32,
    phase: Phase,
    /// Parents, or keys, that nobody is at; and how many are not yet done, in flight ones included.
    todo: VecDeque<Job>,
    next_fill: u32,
    left: u32,
    synced: Vec<bool>,
    closing: Vec<bool>,
    rngs: Vec<Rng>,
    /// Per session: values and nodes numbered so far.
    issued: Vec<u64>,
    /// Per session: operations begun so far, the index into its schedule.
    begun: Vec<u64>,
    interval_ns: Option<f64>,
    start_ns: u64,
    end_ns: u64,
}

impl Work {
    /// The run that `args` asks for.
    pub fn new(args: &ZkArgs, parents: u32) -> Self {
        let n = args.sessions as usize;
        Self {
            op: args.op,
            sessions: args.sessions,
            depth: args.depth as usize,
            keys: if args.op == ZkOp::Create { 0 } else { args.keys },
            phase: Phase::Connect,
            todo: (0..parents).map(Job::Parent).collect(),
            next_fill: 0,
            left: parents,
            synced: vec![false; n],
            closing: vec![false; n],
            rngs: (0..n).map(|i| Rng::new(args.run.seed, &format!("session {i}"))).collect(),
            issued: vec![0; n],
            begun: vec![0; n],
            interval_ns: args.run.rate.map(|rate| 1e9 / rate),
            start_ns: u64::MAX,
            end_ns: u64::MAX,
        }
    }

    /// Where the run stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Values or nodes that session `writer` has numbered so far.
    pub fn issued(&self, writer: u32) -> Option<u64> {
        self.issued.get(writer as usize).copied()
    }

    /// Jobs of set-up that are not done yet.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Goes on to `phase`.
    pub fn enter(&mut self, phase: Phase) {
        assert!(phase > self.phase, "from {:?} to {phase:?}", self.phase);
        self.phase = phase;
        match phase {
            Phase::Fill => self.left = self.keys,
            Phase::Sync => self.left = self.sessions,
            _ => {}
        }
    }

    /// Starts the load, which ends at `end_ns`.
    pub fn start_load(&mut self, start_ns: u64, end_ns: u64) {
        self.enter(Phase::Load);
        (self.start_ns, self.end_ns) = (start_ns, end_ns);
    }

    /// Jobs a session may have in flight.
    pub fn depth(&self) -> usize {
        if self.phase >= Phase::Load { self.depth } else { FILL_DEPTH }
    }

    /// The next job of a session that has room, and when it was meant to start.
    pub fn next(&mut self, session: u32, now_ns: u64) -> Option<(Job, u64)> {
        let s = session as usize;
        let job = match self.phase {
            Phase::Parents if session == 0 => self.todo.pop_front()?,
            Phase::Fill => match self.todo.pop_front() {
                Some(job) => job,
                None if self.next_fill < self.keys => {
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
        let s = session as usize;
        let intended_ns = self.due_ns(session).unwrap_or(now_ns);
        if now_ns >= self.end_ns || intended_ns > now_ns {
            return None;
        }
        self.begun[s] += 1;
        let rng = &mut self.rngs[s];
        let op = match self.op {
            ZkOp::Mixed(percent) if rng.chance(u64::from(percent)) => ZkOp::Get,
            ZkOp::Mixed(_) => ZkOp::Set,
            op => op,
        };
        let mut key = || rng.below(u64::from(self.keys)) as u32;
        let job = match op {
            ZkOp::Get => Job::Get(key()),
            ZkOp::Exists => Job::Exists(key()),
            ZkOp::Create => {
                self.issued[s] += 1;
                Job::Create(self.issued[s])
            }
            ZkOp::Set | ZkOp::Mixed(_) => {
                self.issued[s] += 1;
                Job::Set { key: key(), counter: self.issued[s] }
            }
        };
        Some((job, intended_ns))
    }

    /// When the session's next operation is meant to start, if there is a schedule: the total rate, dealt
    /// out to the sessions in turn.
    pub fn due_ns(&self, session: u32) -> Option<u64> {
        let nth = self.begun[session as usize] as f64 * f64::from(self.sessions) + f64::from(session);
        self.interval_ns.map(|interval| self.start_ns.saturating_add((nth * interval) as u64))
    }

    /// Operations that were scheduled before `until_ns` but never begun.
    pub fn never_begun(&self, until_ns: u64) -> u64 {
        let Some(interval) = self.interval_ns else { return 0 };
        let per_session = interval * f64::from(self.sessions);
        let late = |s| until_ns.saturating_sub(self.due_ns(s).unwrap_or(until_ns)) as f64;
        (0..self.sessions).map(|s| (late(s) / per_session).ceil() as u64).sum()
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
            Job::Sync => self.synced[session as usize] = false,
            Job::Close => {}
            Job::Create(_) | Job::Set { .. } | Job::Get(_) | Job::Exists(_) => return false,
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
        if op == ZkOp::Create {
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
            Target::Zk(args) => args,
            Target::Log(_) => unreachable!("asked for zk"),
        }
    }

    #[test]
    fn parents_come_before_what_lies_under_them_even_after_a_loss() {
        let paths = Paths::new("/a/b", 1, ZkOp::Create, 2);
        assert_eq!(
            paths.parents,
            ["/a", "/a/b", "/a/b/create-00000001", "/a/b/create-00000001/0", "/a/b/create-00000001/1"]
        );
        let mut work = Work::new(&args(&["--op", "create"]), paths.parents());
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
        let mut work = Work::new(&args(&["--keys", "5", "--sessions", "2"]), 0);
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
        let mut work = Work::new(&args(&["--rate", "1000", "--sessions", "4"]), 0);
        work.start_load(1_000, 1_000 + 1_000_000_000);
        let mut starts = Vec::new();
        for session in 0..4 {
            while let Some((_, intended)) = work.next(session, 500_001_000) {
                starts.push(intended);
            }
        }
        starts.sort_unstable();
        assert_eq!(starts.len(), 501, "those that were due by then, the one due right then among them");
        assert!(starts.windows(2).all(|w| w[1] - w[0] == 1_000_000), "one each millisecond");
        assert_eq!(work.never_begun(1_000 + 1_000_000_000), 499);
    }

    #[test]
    fn a_closed_loop_always_has_work_until_the_end() {
        let mut work = Work::new(&args(&["--op", "mixed:50"]), 0);
        work.start_load(0, 100);
        let jobs: Vec<_> = (0..100).filter_map(|now| work.next(0, now)).collect();
        assert_eq!(jobs.len(), 100);
        let gets = jobs.iter().filter(|(job, _)| matches!(job, Job::Get(_))).count();
        assert!((20..80).contains(&gets), "{gets} gets of 100");
        assert_eq!(work.next(0, 100), None);
        assert!(!work.lost(0, jobs[0].0), "the outcome of a lost request is unknown");
    }
}
