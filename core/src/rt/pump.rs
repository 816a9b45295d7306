//! How is a machine run for real? Turn by turn: take what has arrived, let the machine handle it, carry out what
//! it wants, send once, begin one write. The same for every kind of node.

use super::clock;
use super::conn::Framing;
use super::disk::{Disk, RunningDisk, loaded, segment_read};
use super::net::Net;
use super::ring::{Done, Op, Ring};
use super::snapshots::{Given, SnapshotReader, SnapshotStore, SnapshotWriter};
use super::wake::{Elsewhere, Finished, Stop};
use crate::machine::{Input, Machine, Output};
use crate::time::Instant;
use std::time::Duration;

/// Inputs handled in one turn at most. Enough that a turn's fixed cost disappears, few enough that a turn stays
/// below a millisecond.
const INPUTS_PER_TURN: usize = 512;
/// How long a machine that was asked to end may take to bring things in order first.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is asked meanwhile whether it has.
const FAREWELL_ASK: Duration = Duration::from_millis(5);
/// How often a machine is told the wall time.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// What a node needs besides its machine.
pub struct NodeSpec {
    /// For logs, such as `shard-0`.
    pub name: String,
    /// Where peers and clients connect.
    pub listener: Option<std::net::TcpListener>,
    /// How accepted connections are cut into frames.
    pub framing: Framing,
    /// Bytes of one accepted frame at most.
    pub frame_limit: usize,
    /// Its log, if it has one, already recovered.
    pub disk: Option<Disk>,
    /// Where it saves snapshots, if it takes any.
    pub snapshots: Option<SnapshotStore>,
    /// From where it gives snapshots to others, if it does.
    pub gives: Option<SnapshotStore>,
    /// Asks it to end.
    pub stop: Stop,
}

impl std::fmt::Debug for NodeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A node on its thread, whatever its machine.
pub(super) trait Node {
    /// One turn.
    ///
    /// # Errors
    /// Text for a person; the node must not go on.
    fn turn(&mut self, ring: &mut Ring) -> Result<(), String>;
    /// A request of it came back, just now.
    fn done(&mut self, ring: &mut Ring, done: Done, now: Instant);
    /// Blocking work of it is done.
    fn finished(&mut self, ring: &mut Ring, finished: Finished);
    /// Whether a turn has something to do whatever the time.
    fn has_work(&self) -> bool;
    /// When a turn has something to do at the latest.
    fn next_deadline(&self) -> Instant;
    /// Whether it was asked to end, and has nothing to bring in order first: no more turns.
    fn is_stopped(&mut self) -> bool;
    /// Whether what was handed to its log is durable, or has failed. To be asked again until so.
    fn has_ended(&mut self, ring: &mut Ring) -> bool;
}

/// A machine with network and disk around it.
pub(super) struct Pump<M: Machine, F> {
    machine: M,
    on_event: F,
    net: Net<M::Command>,
    disk: Option<RunningDisk>,
    snapshots: Option<SnapshotWriter>,
    gives: Option<SnapshotReader>,
    stop: Stop,
    /// Since when it takes leave, and when to ask again whether it has.
    leaving: Option<(Instant, Instant)>,
    /// It was asked just now: what it wants is to be carried out.
    asked: bool,
    now: Instant,
    wall_at: Instant,
}

impl<M, F> Pump<M, F>
where
    M: Machine,
    F: FnMut(M::Event) -> Result<(), String>,
{
    /// `on_event` hears of the machine's events, and ends the node with an error.
    pub fn new(
        machine: M,
        spec: NodeSpec,
        on_event: F,
        elsewhere: Elsewhere,
        ring: &mut Ring,
    ) -> Result<Self, String> {
        let disk = spec.disk.map(|disk| disk.start(elsewhere.clone())).transpose()?;
        let snapshots = match spec.snapshots {
            Some(store) => {
                let node = elsewhere.clone();
                let tell = move |gsn, last, result| node.tell(Finished::Snapshot { gsn, last, result });
                Some(SnapshotWriter::start(store, Box::new(tell))?)
            }
            None => None,
        };
        let gives = match spec.gives {
            Some(store) => {
                let node = elsewhere.clone();
                let tell = move |given| {
                    node.tell(match given {
                        Given::Found(found) => Finished::Found { found },
                        Given::Piece(token, result) => Finished::Piece { token, result },
                    });
                };
                Some(SnapshotReader::start(store, Box::new(tell))?)
            }
            None => None,
        };
        if let Some(listener) = &spec.listener {
            listener.set_nonblocking(false).map_err(|e| e.to_string())?; // the ring waits, not we
        }
        let net = Net::new(spec.name, spec.listener, spec.framing, spec.frame_limit, elsewhere, ring);
        let (stop, now) = (spec.stop, clock::now());
        let (leaving, asked, wall_at) = (None, false, Instant(0));
        Ok(Self { machine, on_event, net, disk, snapshots, gives, stop, leaving, asked, now, wall_at })
    }

    fn carry_out(&mut self, ring: &mut Ring, output: Output<M::Event>) -> Result<(), String> {
        let disk = self.disk.as_mut().ok_or("a node without a log wanted to persist");
        match output {
            Output::Dial { conn, addr } => self.net.dial(ring, conn, addr),
            Output::Send { conn, bytes } => self.net.send(conn, bytes),
            Output::Close { conn } => self.net.close(conn, self.now),
            Output::Pause { conn } => self.net.pause(ring, conn, true),
            Output::Resume { conn } => self.net.pause(ring, conn, false),
            Output::Persist { token, records } => disk?.persist(token, records),
            Output::Load { token, pos } => disk?.load(ring, token, pos, &mut self.net.inbox),
            Output::ReadSegment { token, segment, offset, bytes } => {
                disk?.read_segment(ring, token, (segment, offset, bytes), &mut self.net.inbox);
            }
            Output::Release { segment } => disk?.release(segment),
            Output::SaveSnapshot { gsn, bytes, last } => {
                let writer = self.snapshots.as_ref().ok_or("a node without snapshots wanted to save one")?;
                writer.save(gsn, bytes, last)?;
            }
            Output::SavePart { of, from, bytes, last } => {
                let writer = self.snapshots.as_ref().ok_or("a node without snapshots wanted to save one")?;
                writer.save_part(of, from, bytes, last)?;
            }
            Output::DropSnapshots { finished } => {
                let writer = self.snapshots.as_ref().ok_or("a node without snapshots wanted to drop some")?;
                writer.drop_files(finished)?;
            }
            Output::FindSnapshot { like } => {
                let reader = self.gives.as_ref().ok_or("a node that gives no snapshots looked for one")?;
                reader.find(like)?;
            }
            Output::ReadSnapshot { token, of, from, bytes } => {
                let reader =
                    self.gives.as_ref().ok_or("a node that gives no snapshots wanted to read one")?;
                reader.read(token, of, from, bytes)?;
            }
            Output::ReadClock => self.now = clock::now(),
            Output::Event(event) => (self.on_event)(event)?,
        }
        Ok(())
    }
}

impl<M, F> Node for Pump<M, F>
where
    M: Machine,
    F: FnMut(M::Event) -> Result<(), String>,
{
    fn turn(&mut self, ring: &mut Ring) -> Result<(), String> {
        self.now = clock::now();
        self.asked = false;
        self.net.turn();
        if self.now >= self.wall_at {
            self.wall_at = self.now + WALL_CLOCK_EVERY;
            self.machine.handle(self.now, Input::WallClock(clock::wall()));
            if let Some((room, free_bytes)) = self.disk.as_mut().and_then(RunningDisk::look) {
                self.machine.handle(self.now, Input::DiskSpace { room, free_bytes });
            }
        }
        for _ in 0..INPUTS_PER_TURN {
            let Some(input) = self.net.inbox.pop_front() else { break };
            self.machine.handle(self.now, input);
        }
        if self.machine.next_deadline().is_some_and(|(at, _)| at <= self.now) {
            self.machine.handle(self.now, Input::Timer);
        }
        while let Some(output) = self.machine.poll_output(self.now) {
            self.carry_out(ring, output)?;
        }
        // Others' work first: what is sent begins a longer way than our own write.
        if self.net.flush(ring) {
            self.machine.sent(clock::now());
        }
        self.net.tick(ring, self.now);
        if let Some(disk) = &mut self.disk {
            if self.machine.may_checkpoint() {
                disk.roll_if_due(|| self.machine.checkpoint());
            }
            disk.kick(ring, self.now);
            if let Some(why) = disk.failure() {
                return Err(why.to_string());
            }
        }
        Ok(())
    }

    fn done(&mut self, ring: &mut Ring, done: Done, now: Instant) {
        let result = done.outcome();
        match done.op {
            Op::Accept { listener } => self.net.accepted(ring, listener, result, now),
            Op::Connect { conn, socket, .. } => self.net.connected(ring, conn, socket, result),
            Op::Recv { conn, buf, .. } => self.net.received(ring, conn, buf, result, now),
            Op::Writable { conn, .. } => self.net.writable(conn),
            Op::WriteGroup { buf, plan, .. } => {
                let disk = self.disk.as_mut().expect("it wrote");
                disk.written(buf, *plan, result, now, &mut self.net.inbox);
            }
            Op::Load { buf, token, pos, .. } => {
                self.net.inbox.push_back(Input::Loaded { token, result: loaded(buf, pos, result) });
            }
            Op::ReadSegment { buf, token, size, .. } => {
                let result = segment_read(buf, size, result);
                self.net.inbox.push_back(Input::SegmentRead { token, result });
            }
            Op::Wake { .. } => unreachable!("the thread's, not a node's"),
        }
    }

    fn finished(&mut self, ring: &mut Ring, finished: Finished) {
        match finished {
            Finished::Segment { number, bytes, result } => {
                let disk = self.disk.as_mut().expect("it asked");
                disk.segment_made(number, bytes, result, clock::now());
                // A fast log fills much of a disk between two looks by the clock.
                if let Some((room, free_bytes)) = disk.look() {
                    self.net.inbox.push_back(Input::DiskSpace { room, free_bytes });
                }
            }
            Finished::Snapshot { gsn, last, result } => {
                self.net.inbox.push_back(Input::SnapshotSaved { gsn, last, result });
            }
            Finished::Found { found } => self.net.inbox.push_back(Input::SnapshotFound { found }),
            Finished::Piece { token, result } => {
                self.net.inbox.push_back(Input::SnapshotRead { token, result });
            }
            Finished::Resolved { conn, result } => self.net.resolved(ring, conn, result),
        }
    }

    fn has_work(&self) -> bool {
        // A log that failed, or got its segment, is looked at in a turn.
        self.asked
            || self.net.has_work()
            || self.disk.as_ref().is_some_and(|d| d.failure().is_some() || d.may_go_on())
    }

    fn next_deadline(&self) -> Instant {
        let machine = self.machine.next_deadline().map(|(at, _)| at);
        let disk = self.disk.as_ref().and_then(RunningDisk::next_deadline);
        let leaving = self.leaving.map(|(_, ask)| ask);
        [machine, disk, self.net.next_deadline(), leaving]
            .into_iter()
            .flatten()
            .fold(self.wall_at, Instant::min)
    }

    fn is_stopped(&mut self) -> bool {
        if !self.stop.is_stopped() {
            return false;
        }
        let now = clock::now();
        let (since, ask) = *self.leaving.get_or_insert((now, now));
        if now < ask {
            return false;
        }
        if now.since(since) >= FAREWELL || (!self.machine.farewell(now) && !self.net.is_late()) {
            return true;
        }
        self.leaving = Some((since, now + FAREWELL_ASK));
        self.asked = true;
        false
    }

    fn has_ended(&mut self, ring: &mut Ring) -> bool {
        let now = clock::now();
        self.disk.as_mut().is_none_or(|disk| {
            disk.kick(ring, now);
            !disk.is_busy()
        })
    }
}
