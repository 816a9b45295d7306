//! What is the world? Nodes, network, disks and time, and the loop that takes one event after the other.
//! Everything in it follows from the seed.

use crate::check::{Checks, Violation};
use crate::cluster;
use crate::network::{LinkId, Network};
use crate::node::{GIVING, GIVING_PORT, Node, Role, Running};
use crate::observe::Observation;
use crate::options::{Fault, Options, around};
use crate::schedule::{Carried, Event, Life, NodeId, Schedule};
use crate::trace::{Trace, TraceMode, short};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::{ConnId, Input, Instant, Output, WallMs, wire};

/// A timer whose deadline has passed is handled this often in a row before it counts as a hang.
const SPIN_MAX: u32 = 10_000;

/// The world of one seed.
pub struct World {
    /// What the seed decided.
    pub options: Options,
    /// Time and what is due.
    pub schedule: Schedule,
    /// Links between nodes.
    pub network: Network,
    /// The nodes, service first.
    pub nodes: Vec<Node>,
    /// Who hears what.
    pub checks: Checks,
    /// What the nodes of each later cluster say to whomever.
    pub later: Vec<Checks>,
    /// What happened.
    pub trace: Trace,
    /// The first broken promise, if any: the world stops there.
    pub violation: Option<Violation>,
    /// For the weather.
    pub weather: Rng,
    /// Whether faults still come.
    pub stormy: bool,
    /// Makes the processes; scenarios put their own in place of some.
    pub builder: cluster::Builder,
    pub(crate) disk_rng: Rng,
    pub(crate) snapshot_rng: Rng,
    /// How often a ZooKeeper node began with a snapshot.
    pub restored: u64,
    /// How often one has got another's, having none that reached the log.
    pub fetched: u64,
    /// How often a node began with a part of another's.
    pub gone_on: u64,
    /// How often a node's snapshots were all lost.
    pub wiped: u64,
    /// Pieces of snapshots that were read otherwise than they were written.
    pub misread: u64,
    /// How often there was no room for a segment.
    pub refused_segments: u64,
    /// How often bytes of a disk changed.
    pub rotted: u64,
    turn_rng: Rng,
    addrs: BTreeMap<String, NodeId>,
}

impl World {
    /// A world of these nodes, all down.
    pub fn new(options: Options, roles: &[Role], trace: TraceMode) -> Self {
        let nodes: Vec<Node> = roles.iter().map(|&r| cluster::place(r, &options)).collect();
        let both = |(i, r): (usize, &Role)| [(r.addr(), NodeId(i)), (r.giving_addr(), NodeId(i))];
        let addrs = roles.iter().enumerate().flat_map(both).collect();
        let seed = options.seed;
        Self {
            schedule: Schedule::new(seed),
            network: Network::new(&options),
            nodes,
            later: (1..options.clusters).map(|_| Checks::of_later(&options)).collect(),
            checks: Checks::new(&options),
            trace: Trace::new(trace),
            violation: None,
            weather: Rng::new(seed, "weather"),
            stormy: false,
            builder: Box::new(cluster::build),
            disk_rng: Rng::new(seed, "disk"),
            snapshot_rng: Rng::new(seed, "snapshots"),
            restored: 0,
            fetched: 0,
            gone_on: 0,
            wiped: 0,
            misread: 0,
            refused_segments: 0,
            rotted: 0,
            turn_rng: Rng::new(seed, "turns"),
            addrs,
            options,
        }
    }

    /// Simulated time.
    pub fn now(&self) -> Instant {
        self.schedule.now()
    }

    /// The node of that role.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&self, role: Role) -> NodeId {
        NodeId(self.nodes.iter().position(|n| n.role == role).expect("a node of that role"))
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, id: NodeId, what: impl FnOnce() -> String) {
        self.trace.line(self.schedule.now(), &self.nodes[id.0].name, what);
    }

    /// Takes events until `until`, or until a promise is broken.
    pub fn run_until(&mut self, until: Instant) {
        while self.violation.is_none() {
            let Some(event) = self.schedule.next(until) else { break };
            self.take(event);
        }
    }

    /// Takes events until `done` says so (asked every 10 simulated ms), for `limit` at most. Whether it did.
    pub fn run_while(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now() + limit;
        while self.violation.is_none() && self.now() < end {
            if done(self) {
                return true;
            }
            let next = (self.now() + Duration::from_millis(10)).min(end);
            self.run_until(next);
        }
        self.violation.is_none() && done(self)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Turn(id, life) if self.alive(id, life) => self.turn(id),
            Event::Timer(id, life) if self.alive(id, life) => self.timer(id),
            Event::Wall(id, life) if self.alive(id, life) => {
                self.give(id, Input::WallClock(self.wall(id)));
                self.look_at_disk(id);
                self.schedule.after(Duration::from_secs(1), Event::Wall(id, life));
            }
            Event::Turn(..) | Event::Timer(..) | Event::Wall(..) => {}
            Event::Start(id) => self.start(id),
            Event::Serve(id, life) => self.serve(id, life),
            Event::Synced(id, life) => self.synced(id, life),
            Event::SegmentReady(id, life, segment) => self.segment_ready(id, life, segment),
            Event::DiskIdle(id, life) => self.disk_idle(id, life),
            Event::Loaded(id, life, token, result) => {
                if self.alive(id, life) {
                    self.give(id, Input::Loaded { token, result });
                }
            }
            Event::SegmentRead(id, life, token, result) => {
                if self.alive(id, life) {
                    self.give(id, Input::SegmentRead { token, result });
                }
            }
            Event::SnapshotSaved(id, life, gsn, last, result) => {
                if self.alive(id, life) {
                    let snapshots = &mut self.nodes[id.0].snapshots;
                    match snapshots.is_part() {
                        true => snapshots.part_answered(result.is_ok()),
                        false => snapshots.answered(result.is_ok()),
                    }
                    self.give(id, Input::SnapshotSaved { gsn, last, result });
                }
            }
            Event::SnapshotFound(id, life, found) => {
                if self.alive(id, life) {
                    self.give(id, Input::SnapshotFound { found });
                }
            }
            Event::SnapshotRead(id, life, token, result) => {
                if self.alive(id, life) {
                    self.give(id, Input::SnapshotRead { token, result });
                }
            }
            Event::DialArrives(link) => self.dial_arrives(link),
            Event::Arrives(link, end, what) => self.arrives(link, end, what),
            Event::Fault(fault) => self.fault(fault),
        }
    }

    /// Whether that life of a node goes on and its machine runs.
    pub(crate) fn alive(&self, id: NodeId, life: Life) -> bool {
        let node = &self.nodes[id.0];
        node.life == life && node.running.is_some()
    }

    /// What the node's wall clock says.
    pub(crate) fn wall(&self, id: NodeId) -> WallMs {
        let true_ms = 1_700_000_000_000 + (self.now().0 / 1_000_000) as i64;
        WallMs((true_ms + self.nodes[id.0].skew_ms) as u64)
    }

    /// Puts an input into a running node's inbox; its turn follows soon.
    pub(crate) fn give(&mut self, id: NodeId, input: Input<std::convert::Infallible>) {
        let stalled = self.nodes[id.0].stalled_until;
        let life = self.nodes[id.0].life;
        let Some(run) = self.nodes[id.0].running.as_mut() else { return };
        run.inbox.push_back(input);
        if !run.turn_due {
            run.turn_due = true;
            let wake = self.schedule.now() + Duration::from_nanos(2_000 + self.turn_rng.below(40_000));
            self.schedule.at(wake.max(stalled), Event::Turn(id, life));
        }
    }

    fn timer(&mut self, id: NodeId) {
        let now = self.now();
        let run = self.nodes[id.0].running.as_mut().expect("alive");
        if run.timer_at.is_some_and(|at| at <= now) {
            run.timer_at = None;
            self.give(id, Input::Timer);
        }
    }

    /// One turn: all inputs, then all outputs, then the disk.
    fn turn(&mut self, id: NodeId) {
        let now = self.now();
        if now < self.nodes[id.0].stalled_until {
            let (life, at) = (self.nodes[id.0].life, self.nodes[id.0].stalled_until);
            self.schedule.at(at, Event::Turn(id, life));
            return;
        }
        let mut run = self.nodes[id.0].running.take().expect("alive");
        run.turn_due = false;
        self.nodes[id.0].turns += 1;
        let (mut timers, inputs) = (0, run.inbox.len());
        while let Some(input) = run.inbox.pop_front() {
            timers += usize::from(matches!(input, Input::Timer));
            if !matches!(input, Input::Frame { .. } | Input::Timer) {
                self.note(id, || format!("<- {}", short(&format!("{input:?}"), 200)));
            }
            run.process.handle(now, input);
        }
        while let Some(output) = run.process.poll_output(now) {
            self.carry_out(id, &mut run, output);
        }
        self.pump_disk(id, &mut run);
        self.set_timer(id, &mut run, timers == inputs);
        self.nodes[id.0].running = Some(run);
    }

    fn set_timer(&mut self, id: NodeId, run: &mut Running, only_timers: bool) {
        let now = self.now();
        let Some((at, why)) = run.process.next_deadline() else { return };
        run.spinning = if at <= now && only_timers { run.spinning + 1 } else { 0 };
        if run.spinning > SPIN_MAX {
            self.fail(Violation::new(
                "SYS-1",
                format!("{} spins on its timer `{why}`", self.nodes[id.0].name),
            ));
        }
        if run.timer_at.is_none_or(|set| set > at.max(now)) {
            let at = at.max(now);
            run.timer_at = Some(at);
            self.schedule.at(at, Event::Timer(id, self.nodes[id.0].life));
        }
    }

    fn carry_out(&mut self, id: NodeId, run: &mut Running, output: Output<Observation>) {
        let life = self.nodes[id.0].life;
        match output {
            Output::Dial { conn, addr } => {
                self.note(id, || format!("-> Dial {} as {:x}", addr, conn.0));
                assert!(conn.is_dialled() && !run.conns.contains_key(&conn), "{conn:?} is dialled twice");
                let to = self.addrs.get(&addr).copied();
                let link = self.network.dial(&mut self.schedule, (id, life, conn), to);
                if addr.ends_with(GIVING_PORT) {
                    self.network.links.get_mut(&link).expect("just dialled").port = GIVING;
                }
                run.conns.insert(conn, (link, 0));
            }
            Output::Send { conn, bytes } => self.send(id, run, conn, bytes),
            Output::Close { conn } => self.close(id, run, conn),
            Output::Pause { conn } => self.set_paused(run, conn, true),
            Output::Resume { conn } => {
                self.set_paused(run, conn, false);
                if let Some(&(link, end)) = run.conns.get(&conn) {
                    let again = Carried::Bytes(Bytes::new());
                    self.network.carry(&mut self.schedule, link, end, again);
                }
            }
            Output::Persist { token, records } => {
                self.note(id, || format!("-> Persist {} ({} records)", token.0, records.len()));
                run.store.as_mut().expect("a machine with a log").append(token, records);
            }
            Output::Load { token, pos } => self.load(id, run, token, pos),
            Output::ReadSegment { token, segment, offset, bytes } => {
                self.read_segment(id, token, (segment, offset, bytes));
            }
            Output::Release { segment } => {
                self.note(id, || format!("-> Release below {segment}"));
                let store = run.store.as_mut().expect("a machine with a log");
                store.release(&mut self.nodes[id.0].disk, segment);
            }
            Output::SaveSnapshot { gsn, bytes, last } => self.save_snapshot(id, gsn, &bytes, last),
            Output::SavePart { of, from, bytes, last } => self.save_part(id, of, from, (&bytes, last)),
            Output::DropSnapshots { finished } => {
                self.note(id, || format!("-> DropSnapshots, finished ones too: {finished}"));
                self.nodes[id.0].snapshots.drop_files(finished);
            }
            Output::FindSnapshot { like } => self.find_snapshot(id, like),
            Output::ReadSnapshot { token, of, from, bytes } => {
                self.read_snapshot(id, token, of, (from, bytes));
            }
            // A turn takes no time here.
            Output::ReadClock => {}
            Output::Event(seen) => self.observe(id, seen),
        }
    }

    fn send(&mut self, id: NodeId, run: &mut Running, conn: ConnId, bytes: Bytes) {
        let Some(&(link, end)) = run.conns.get(&conn) else { return };
        let now = self.schedule.now();
        if !matches!(self.nodes[id.0].role, Role::ZkClient(_) | Role::ZkLooker(_)) {
            let to = self.network.links.get(&link).map_or(id, |l| l.ends[1 - end].node);
            let cluster = self.nodes[id.0].role.cluster().max(self.nodes[to.0].role.cluster());
            let checks = match cluster.checked_sub(1) {
                None => &mut self.checks,
                Some(i) => &mut self.later[i as usize],
            };
            let verdict = checks.sent(now, id, to, &bytes);
            self.judge(verdict);
        }
        let (Some(l), name) = (self.network.links.get(&link), &self.nodes[id.0].name) else { return };
        if l.ends[end].closing {
            return;
        }
        let peer = &self.nodes[l.ends[1 - end].node.0].name;
        self.trace.line(now, name, || format!("-> {peer} {}", describe(&bytes)));
        self.network.send(&mut self.schedule, link, 1 - end, bytes);
    }

    fn close(&mut self, id: NodeId, run: &mut Running, conn: ConnId) {
        self.note(id, || format!("-> Close {:x}", conn.0));
        let Some(&(link, end)) = run.conns.get(&conn) else { return };
        let Some(l) = self.network.links.get_mut(&link) else { return };
        if std::mem::replace(&mut l.ends[end].closing, true) {
            return;
        }
        self.network.carry(&mut self.schedule, link, 1 - end, Carried::Fin);
        let wait = Duration::from_nanos(1_000 + self.turn_rng.below(200_000));
        self.schedule.after(wait, Event::Arrives(link, end, Carried::Reset));
    }

    fn set_paused(&mut self, run: &Running, conn: ConnId, paused: bool) {
        if let Some(&(link, end)) = run.conns.get(&conn)
            && let Some(l) = self.network.links.get_mut(&link)
        {
            l.ends[end].paused = paused;
        }
    }

    fn dial_arrives(&mut self, id: LinkId) {
        let Some(link) = self.network.links.get(&id) else { return };
        let (from, to) = (link.ends[0].node, link.ends[1].node);
        if self.network.blocked(from, to) || self.nodes[to.0].running.is_none() {
            self.network.carry(&mut self.schedule, id, 0, Carried::Reset);
            return;
        }
        let (life, peer) = (self.nodes[to.0].life, self.nodes[from.0].role.addr());
        let run = self.nodes[to.0].running.as_mut().expect("checked");
        run.accepted += 1;
        let conn = ConnId(run.accepted | self.network.links[&id].port);
        run.conns.insert(conn, (id, 1));
        let end = &mut self.network.links.get_mut(&id).expect("checked").ends[1];
        (end.life, end.conn, end.open) = (life, conn, true);
        self.give(to, Input::Accepted { conn, peer });
        self.network.carry(&mut self.schedule, id, 0, Carried::Answer);
    }

    fn arrives(&mut self, id: LinkId, end: usize, what: Carried) {
        if self.network.hold(id, end, &what) {
            return;
        }
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let here = &mut link.ends[end];
        let (node, life, conn, open) = (here.node, here.life, here.conn, here.open);
        let heard = link.ends[1 - end].open;
        if !open || !self.alive(node, life) {
            // Nobody there any more: who still sends learns it.
            if matches!(what, Carried::Bytes(_)) && heard {
                self.network.carry(&mut self.schedule, id, 1 - end, Carried::Reset);
            }
            return;
        }
        match what {
            Carried::Answer => self.give(node, Input::Connected { conn }),
            Carried::Bytes(bytes) => self.unpack(id, end, &bytes),
            Carried::Release => {
                for held in self.network.released(id, end) {
                    self.arrives(id, end, held);
                }
            }
            Carried::Fin | Carried::Reset => {
                self.network.end_gone(id, end);
                let run = self.nodes[node.0].running.as_mut().expect("alive");
                run.conns.remove(&conn);
                self.give(node, Input::Closed { conn });
            }
        }
    }

    /// Cuts frames off what has arrived and hands them over.
    fn unpack(&mut self, id: LinkId, end: usize, bytes: &[u8]) {
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let here = &mut link.ends[end];
        let node = here.node;
        here.unread.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut broken = None;
        let process = &self.nodes[node.0].running.as_ref().expect("alive").process;
        while !here.paused && !here.closing && !here.unread.is_empty() {
            match process.frame_length(here.conn, here.first, &here.unread) {
                Ok(Some(len)) if len <= here.unread.len() => {
                    here.first = false;
                    frames.push(here.unread.split_to(len).freeze());
                }
                Ok(_) => break,
                Err(why) => {
                    broken = Some(why);
                    break;
                }
            }
        }
        let (conn, peer) = (here.conn, link.ends[1 - end].node);
        for bytes in frames {
            let (names, now) = ((&self.nodes[node.0].name, &self.nodes[peer.0].name), self.schedule.now());
            self.trace.line(now, names.0, || format!("<- {} {}", names.1, describe(&bytes)));
            self.give(node, Input::Frame { conn, bytes });
        }
        if let Some(why) = broken {
            self.note(node, || format!("no frame: {why}"));
            self.network.break_link(&mut self.schedule, id, Duration::from_millis(1));
        }
    }

    fn observe(&mut self, id: NodeId, seen: Observation) {
        self.note(id, || format!("** {}", short(&format!("{seen:?}"), 300)));
        if matches!(&seen, Observation::Note(text) if text.contains("it goes on at")) {
            self.fetched += 1;
        }
        let verdict = self.checks.seen(self.now(), id, &self.nodes[id.0].name, &seen);
        self.judge(verdict);
        if let Observation::Beware(beware) = seen {
            self.nodes[id.0].snapshots.beware(beware);
        } else if let Observation::Failed(why) = seen {
            // Its owner starts it anew.
            self.note(id, || format!("is started anew: {why}"));
            self.schedule.after(Duration::ZERO, Event::Fault(Fault::CrashOne(id, Duration::from_millis(20))));
        }
    }

    /// A bit of a ZooKeeper node's memory changes by itself. Whether the node runs.
    pub fn corrupt(&mut self, id: NodeId, choice: u64) -> bool {
        let Some(run) = self.nodes[id.0].running.as_mut() else { return false };
        let what = run.process.corrupt(choice);
        self.checks.convergence.corrupted(id);
        self.note(id, || format!("a bit changes: {what}"));
        true
    }

    /// Stops the world if a checker found something.
    pub fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.fail(violation);
        }
    }

    fn fail(&mut self, violation: Violation) {
        self.trace.line(self.schedule.now(), "checker", || violation.to_string());
        self.violation.get_or_insert(violation);
    }

    /// A random pause around `mean`, from the weather's stream.
    pub(crate) fn pause(&mut self, mean: Duration) -> Duration {
        around(&mut self.weather, mean)
    }
}

/// What is in these bytes, for the trace.
fn describe(bytes: &Bytes) -> String {
    let mut rest = bytes.clone();
    let mut out = String::new();
    while !rest.is_empty() {
        if !out.is_empty() {
            out.push_str(" + ");
        }
        match wire::frame_length(&rest, usize::MAX) {
            Ok(Some(len)) if len <= rest.len() => match wire::decode(rest.split_to(len)) {
                Ok(p) if p.payload.is_empty() => out.push_str(short(&format!("{:?}", p.message), 240)),
                Ok(p) => {
                    out.push_str(short(&format!("{:?}", p.message), 240));
                    out.push_str(&format!(" +{} bytes", p.payload.len()));
                }
                Err(e) => out.push_str(&e.to_string()),
            },
            _ => {
                let hex: String = rest.iter().take(48).map(|b| format!("{b:02x}")).collect();
                out.push_str(&format!("jute {} bytes {hex}", rest.len()));
                break;
            }
        }
    }
    out
}
