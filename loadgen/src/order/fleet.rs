//! How do emulated slots become part of a cluster, and report? One connection per slot; a slot holds its share
//! of all replicas and reports for all of them in one frame.

use super::lanes::Lanes;
use super::link::{self, Link};
use crate::clock::{self, Clock};
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;
use zoolog_core::view::View;
use zoolog_core::wire::{
    self, CutsWanted, Hello, Message, OrderIs, Register, Report, Role, ShardReport, WatchCuts,
};
use zoolog_core::{ClusterId, CutNumber, Incarnation, ServerId, ShardId, SlotId};

/// How long the cluster may take to elect a leader, and then to form its shards.
const PATIENCE_NS: u64 = 20_000_000_000;
/// How long one orderer may take to answer.
const ANSWER_NS: u64 = 1_000_000_000;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// What the leader said of the order.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub leader: SocketAddr,
    /// The order so far.
    pub order: OrderIs,
}

/// Asks one orderer after the other until the leader answers.
///
/// # Errors
/// When none does in time; what each said last.
pub fn find_leader(
    orderers: &[String],
    clock: Clock,
    mut check: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Found> {
    let mut last = Vec::new();
    let give_up_ns = clock.now_ns() + PATIENCE_NS;
    while clock.now_ns() < give_up_ns {
        check()?;
        last.clear();
        for text in orderers {
            let asked = ask(text, clock);
            match asked {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => last.push(format!("{text}: does not lead")),
                Err(e) => last.push(format!("{text}: {e:#}")),
            }
        }
        wait(Duration::from_millis(50));
    }
    bail!("no orderer leads: start a majority of them, or correct --orderers\n  {}", last.join("\n  "))
}

#[allow(
    clippy::disallowed_methods,
    reason = "nothing else runs on this thread; there is only this to wait for"
)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

fn ask(text: &str, clock: Clock) -> anyhow::Result<Option<Found>> {
    let leader = text.to_socket_addrs()?.next().context("it has no address")?;
    let mut link = Link::connect(leader)?;
    let hello =
        Hello { role: Role::Client, cluster: ClusterId(0), node: 0, slot: 0, incarnation: Incarnation(0) };
    link.send(&wire::encode(hello));
    link.send(&wire::encode(WatchCuts { request: 1 }));
    link.flush()?;
    let (mut scratch, until_ns) = (vec![0; READ_BYTES], clock.now_ns() + ANSWER_NS);
    while clock.now_ns() < until_ns {
        link.receive(&mut scratch)?;
        while let Some(frame) = link.frame()? {
            match link::message(frame)? {
                Message::OrderIs(order) => return Ok(Some(Found { leader, order })),
                Message::NotLeader(_) => return Ok(None),
                _ => {}
            }
        }
        wait(Duration::from_millis(2));
    }
    bail!("no answer within {} s", ANSWER_NS / 1_000_000_000)
}

/// One emulated slot.
#[derive(Debug)]
struct Slot {
    link: Link,
    /// Its report, as it is sent; with shards in it only while it is being written.
    report: Message,
    /// Its replicas, (place of the shard, what it says of it).
    held: Vec<(usize, ShardReport)>,
    /// Index into `held` by place of the shard.
    at: Vec<Option<u32>>,
    /// Of the round at hand.
    changed: Vec<u32>,
}

/// What has come on the first connection.
#[derive(Debug)]
pub enum Came {
    /// A cut, and the bytes of its frame.
    Cut(zoolog_core::cut::Cut, u64),
    /// The shards.
    View(View),
}

/// All slots.
pub struct Fleet {
    poll: Poll,
    events: Events,
    slots: Vec<Slot>,
    scratch: Vec<u8>,
    /// Bytes of reports sent.
    pub sent_bytes: u64,
}

impl Fleet {
    /// Connects and registers `n` slots. `timer` wakes turns, too.
    ///
    /// # Errors
    /// When a connection is not to be had.
    pub fn register(found: &Found, n: u32, timer: i32) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&timer), Token(usize::MAX), Interest::READABLE)?;
        // Newer than whatever registered before.
        let incarnation = Incarnation(clock::wall_ms());
        let OrderIs { cluster, generation, number, view, .. } = &found.order;
        let mut slots = Vec::new();
        for server in 0..n {
            let mut link = Link::connect(found.leader)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut link.stream, Token(server as usize), interest)?;
            let slot = SlotId { server: ServerId(server), index: 0 };
            link.send(&wire::encode(Hello {
                role: Role::Slot,
                cluster: cluster.at(*generation),
                node: u64::from(server),
                slot: 0,
                incarnation,
            }));
            let mine = view.shards.iter().filter(|s| s.replica_in(slot).is_some());
            link.send(&wire::encode(Register {
                slot,
                incarnation,
                addr: format!("127.0.0.1:{}", server + 1), // nobody dials it: there are no writers
                domain: String::new(),
                stamp: 0,
                parts: mine.map(|s| (s.id, *number)).collect(),
            }));
            link.flush()?;
            // The first one hears every cut, for measuring; the others as slots with writers do.
            let cuts = if server == 0 { CutsWanted::All } else { CutsWanted::Own };
            let report = Message::Report(Report { slot, incarnation, cuts, shards: Vec::new() });
            slots.push(Slot { link, report, held: Vec::new(), at: Vec::new(), changed: Vec::new() });
        }
        let (events, scratch) = (Events::with_capacity(64), vec![0; READ_BYTES]);
        Ok(Self { poll, events, slots, scratch, sent_bytes: 0 })
    }

    /// Waits until there are `shards` shards.
    ///
    /// # Errors
    /// When they don't come, or others do.
    pub fn await_view(&mut self, shards: usize, known: View, clock: Clock) -> anyhow::Result<View> {
        let mut view = known;
        let give_up_ns = clock.now_ns() + PATIENCE_NS;
        while view.shards.is_empty() {
            if clock.now_ns() > give_up_ns {
                bail!(
                    "the cluster forms no shards: does its cluster file have `servers` = {}, as many as \
                     --connections?",
                    self.slots.len()
                );
            }
            self.turn(20_000_000, |came| {
                if let Came::View(newer) = came {
                    view = newer;
                }
            })?;
        }
        if view.shards.len() != shards {
            bail!(
                "the cluster has {} shards, --lanes by --replicas makes {shards}: use a cluster made for that, \
                 or --spawn",
                view.shards.len()
            );
        }
        Ok(view)
    }

    /// Gives each slot its replicas.
    ///
    /// # Errors
    /// When the view has shards of other slots than these, or of another number of replicas.
    pub fn take_places(&mut self, view: &View, replicas: usize) -> anyhow::Result<()> {
        for (place, shard) in view.shards.iter().enumerate() {
            if shard.replicas.len() != replicas {
                bail!("shard {} has {} replicas, not {replicas}", shard.id, shard.replicas.len());
            }
            for replica in &shard.replicas {
                let server = replica.slot.server.0 as usize;
                let slot =
                    self.slots.get_mut(server).filter(|_| replica.slot.index == 0).ok_or_else(|| {
                        anyhow!("shard {} is on slot {}, which is not emulated here", shard.id, replica.slot)
                    })?;
                let zero = vec![0; replicas];
                slot.at.resize(slot.at.len().max(place + 1), None);
                slot.at[place] = Some(slot.held.len() as u32);
                let part = CutNumber(0);
                slot.held.push((
                    place,
                    ShardReport {
                        shard: shard.id,
                        accepted: zero.clone(),
                        durable: zero,
                        part,
                        serving: true,
                    },
                ));
            }
        }
        Ok(())
    }

    /// Reports the shards at `places`.
    ///
    /// # Errors
    /// When a connection is gone.
    pub fn report(&mut self, lanes: &Lanes, places: &[usize]) -> anyhow::Result<()> {
        for slot in &mut self.slots {
            let Slot { link, report, held, at, changed } = slot;
            changed.clear();
            changed.extend(places.iter().filter_map(|place| at.get(*place).copied().flatten()));
            if changed.is_empty() {
                continue;
            }
            let Message::Report(inner) = report else { unreachable!("made as a report") };
            // Moved into the message and back: nothing is allocated per round.
            for &i in changed.iter() {
                let (place, shard) = &mut held[i as usize];
                lanes.fill(*place, shard);
                inner.shards.push(std::mem::replace(shard, nothing(shard.shard)));
            }
            let frame = wire::encode_ref(report, &[]);
            self.sent_bytes += frame.len() as u64;
            link.send(&frame);
            let Message::Report(inner) = report else { unreachable!("made as a report") };
            for (&i, shard) in changed.iter().zip(inner.shards.drain(..)) {
                held[i as usize].1 = shard;
            }
            link.flush()?;
        }
        Ok(())
    }

    /// Whether some orderer's connection is still full of earlier reports.
    pub fn is_behind(&self) -> bool {
        self.slots.iter().any(|s| s.link.is_behind())
    }

    /// Waits for something to happen, for so long at most, and deals with it.
    ///
    /// # Errors
    /// When a connection is gone, or the orderer refuses to go on.
    pub fn turn(&mut self, wait_ns: u64, mut came: impl FnMut(Came)) -> anyhow::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(wait_ns))) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e.into()),
            _ => {}
        }
        for event in &self.events {
            let Some(slot) = self.slots.get_mut(event.token().0) else { continue };
            if event.is_writable() {
                slot.link.flush()?;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let received = slot.link.receive(&mut self.scratch);
                while let Some(frame) = slot.link.frame()? {
                    heard(event.token().0 == 0, frame, &mut came)?;
                }
                received?;
            }
        }
        Ok(())
    }
}

/// A place in a report that is filled again before anybody looks.
fn nothing(shard: ShardId) -> ShardReport {
    ShardReport { shard, accepted: Vec::new(), durable: Vec::new(), part: CutNumber(0), serving: true }
}

/// One frame from the leader. Only the first connection's cuts and views are looked into: all get the same.
fn heard(is_first: bool, frame: Bytes, came: &mut impl FnMut(Came)) -> anyhow::Result<()> {
    let name = wire::TABLE.iter().find(|(kind, _)| *kind == link::kind(&frame)).map_or("", |(_, name)| name);
    let bytes = frame.len() as u64;
    match name {
        "CutIs" | "ViewIs" if !is_first => {}
        "CutIs" | "ViewIs" | "Refused" | "NotLeader" => match link::message(frame)? {
            Message::CutIs(is) => came(Came::Cut(is.cut, bytes)),
            Message::ViewIs(is) => came(Came::View(is.view)),
            Message::NotLeader(_) => bail!("the leader leads no more"),
            other => bail!("a {} where none is due", other.name()),
        },
        _ => {} // parts, trim points: of no use to who keeps nothing
    }
    Ok(())
}
