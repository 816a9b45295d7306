//! What is a node? A place with a name, an address and a disk, where a process lives, dies and lives again;
//! and the turns by which a living one is driven, as the real shell drives it.

use crate::disk::{Disk, Store};
use crate::network::LinkId;
use crate::process::Process;
use crate::schedule::Life;
use crate::snapshots::Snapshots;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use zoolog_core::wire::DiskRoom;
use zoolog_core::{ConnId, Input, Instant};

/// The port at which snapshots are given, of every host.
pub const GIVING_PORT: &str = ":2888";
/// Set in the numbers of connections that were accepted there.
pub const GIVING: u64 = 1 << 62;

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An orderer, from 1.
    Orderer(u64),
    /// A data server with one slot, from 1.
    Server(u32),
    /// A ZooKeeper node, from 1.
    Zk(u32),
    /// Appends numbered records.
    Writer(u32),
    /// Subscribes.
    Reader(u32),
    /// Speaks jute.
    ZkClient(u32),
    /// Speaks it, and would take a read-only session.
    ZkLooker(u32),
    /// Has a log of its own on its disk, from 1.
    Embedded(u32),
    /// Changes the orderers.
    Operator,
    /// Has the log go on in this cluster, from 1, where it ends in the one before.
    Switcher(u32),
}

/// Numbers of orderers and servers of one cluster; the next one's go on behind them.
pub const CLUSTER_STEP: u32 = 100;

impl Role {
    /// Whether it keeps a log on its disk.
    pub fn has_disk(self) -> bool {
        matches!(self, Role::Orderer(_) | Role::Server(_) | Role::Embedded(_))
    }

    /// Whether it is part of the service, rather than a user of it.
    pub fn is_service(self) -> bool {
        matches!(self, Role::Orderer(_) | Role::Server(_) | Role::Zk(_))
    }

    /// Which of the clusters that follow each other it is part of; 0 for whoever is of none.
    pub fn cluster(self) -> u32 {
        match self {
            Role::Orderer(n) => n as u32 / CLUSTER_STEP,
            Role::Server(n) => n / CLUSTER_STEP,
            _ => 0,
        }
    }

    /// Its node's name.
    pub fn name(self) -> String {
        match self {
            Role::Orderer(n) => format!("order-{n}"),
            Role::Server(n) => format!("shard-{n}"),
            Role::Zk(n) => format!("zk-{n}"),
            Role::Writer(n) => format!("writer-{n}"),
            Role::Reader(n) => format!("reader-{n}"),
            Role::ZkClient(n) => format!("client-{n}"),
            Role::ZkLooker(n) => format!("looker-{n}"),
            Role::Embedded(n) => format!("embedded-{n}"),
            Role::Operator => "operator".into(),
            Role::Switcher(n) => format!("switcher-{n}"),
        }
    }

    /// Where it gives others its snapshots, if it has any.
    pub fn giving_addr(self) -> String {
        let addr = self.addr();
        let (host, _) = addr.rsplit_once(':').expect("a host and a port");
        format!("{host}{GIVING_PORT}")
    }

    /// Its node's address.
    pub fn addr(self) -> String {
        match self {
            Role::Orderer(n) => format!("10.0.1.{n}:7000"),
            Role::Server(n) => format!("10.0.2.{n}:7000"),
            Role::Zk(n) => format!("10.0.3.{n}:2181"),
            Role::Writer(n) => format!("10.0.4.{n}:1"),
            Role::Reader(n) => format!("10.0.5.{n}:1"),
            Role::ZkClient(n) => format!("10.0.6.{n}:1"),
            Role::ZkLooker(n) => format!("10.0.9.{n}:1"),
            Role::Embedded(n) => format!("10.0.8.{n}:1"),
            Role::Operator => "10.0.7.1:1".into(),
            Role::Switcher(n) => format!("10.0.9.{n}:1"),
        }
    }
}

/// A node, whether it runs or not.
pub struct Node {
    /// What for.
    pub role: Role,
    /// For people.
    pub name: String,
    /// Survives crashes, as far as disks do.
    pub disk: Disk,
    /// Files of its state, if it keeps any.
    pub snapshots: Snapshots,
    /// Number of the current life, or of the last.
    pub life: Life,
    /// The current life.
    pub running: Option<Running>,
    /// The current life before its machine begins: the disk is read, its first block being written.
    pub starting: Option<Store>,
    /// How far its wall clock is off, in ms.
    pub skew_ms: i64,
    /// How much room it was last told that its disk has.
    pub room: DiskRoom,
    /// There was no room for a segment since it last looked.
    pub refused: bool,
    /// Its disk is this many times slower than usual.
    pub disk_factor: u32,
    /// Until when it does nothing.
    pub stalled_until: Instant,
    /// Not restarted by the weather (a scenario holds it down).
    pub held_down: bool,
    /// How often it was woken, over all lives.
    pub turns: u64,
}

impl Node {
    /// A node that never ran.
    pub fn new(role: Role, disk: Disk) -> Self {
        Self {
            role,
            name: role.name(),
            disk,
            snapshots: Snapshots::default(),
            life: 0,
            running: None,
            starting: None,
            skew_ms: 0,
            room: DiskRoom::Ample,
            refused: false,
            disk_factor: 1,
            stalled_until: Instant(0),
            held_down: false,
            turns: 0,
        }
    }

    /// Whether it lives, or is about to.
    pub fn is_up(&self) -> bool {
        self.running.is_some() || self.starting.is_some()
    }
}

/// A life of a node.
pub struct Running {
    /// Its machine.
    pub process: Box<dyn Process>,
    /// Its log, for those that have one.
    pub store: Option<Store>,
    /// What came since the last turn.
    pub inbox: VecDeque<Input<Infallible>>,
    /// Whether a turn is due.
    pub turn_due: bool,
    /// When the earliest timer event is due, if one is.
    pub timer_at: Option<Instant>,
    /// Its connections: link and which end.
    pub conns: BTreeMap<ConnId, (LinkId, usize)>,
    /// Number of the last accepted connection.
    pub accepted: u64,
    /// Timer turns in a row at one deadline that has passed.
    pub spinning: u32,
}

impl Running {
    /// A process that begins now.
    pub fn new(process: Box<dyn Process>, store: Option<Store>) -> Self {
        Self {
            process,
            store,
            inbox: VecDeque::new(),
            turn_due: false,
            timer_at: None,
            conns: BTreeMap::new(),
            accepted: 0,
            spinning: 0,
        }
    }
}
