//! How bad is the weather of this seed? Swarm options: each seed switches some kinds of faults off and draws
//! the rates of the others, so that seeds differ in kind and not only in order.

use crate::network::LinkId;
use crate::schedule::NodeId;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use zoolog_core::policy::{Acks, Fetch, Reads};
use zoolog_core::rng::Rng;

/// A change of the weather.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Some node crashes, and comes back.
    Crash,
    /// This one does, and stays down for that long.
    CrashOne(NodeId, Duration),
    /// Several crash at once: a power cut.
    PowerCut,
    /// Nodes are cut off from others for a while.
    Partition,
    /// A partition ends.
    Heal(u64),
    /// A connection breaks.
    Reset,
    /// A connection carries nothing for a while, and then all of it: late, and behind newer connections.
    Clog,
    /// A clogged connection goes on.
    Thaw(LinkId),
    /// A node stops working for a while and goes on as if nothing had been.
    Stall,
    /// A disk is slow for a while.
    SlowDisk,
    /// A wall clock jumps.
    ClockJump,
    /// A disk gets full: little more fits on it for a while.
    FillDisk,
    /// There is room again on that disk.
    RoomAgain(NodeId),
    /// Bytes on the disk of the server whose disk is bad change.
    Rot,
    /// All files of a ZooKeeper node are lost, unless it is the last that has what the log has no more.
    Wipe,
}

/// How ZooKeeper nodes get their records, and when they answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How records come.
    pub fetch: Fetch,
    /// When writes are answered.
    pub acks: Acks,
    /// What reads show.
    pub reads: Reads,
    /// Between two fetches.
    pub defer: Duration,
    /// Stretches of which is remembered where they are not.
    pub location_limit: usize,
}

impl Policy {
    /// The one that needs no saying.
    pub const USUAL: Self = Self {
        fetch: Fetch::Streamed,
        acks: Acks::Applied,
        reads: Reads::Session,
        defer: Duration::from_millis(20),
        location_limit: 200,
    };

    /// What a seed draws.
    fn draw(rng: &mut Rng) -> Self {
        fn one<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
            all[rng.below(all.len() as u64) as usize]
        }
        Self {
            fetch: one(rng, Fetch::ALL),
            acks: one(rng, Acks::ALL),
            reads: one(rng, Reads::ALL),
            defer: Duration::from_millis(one(rng, &[1, 5, 20, 100])),
            location_limit: one(rng, &[1, 3, 200]),
        }
    }
}

impl Policy {
    /// All combinations of what is promised, in an order in which those that stand half of all apart have nothing in common but
    /// what there are only two or three of.
    fn all() -> impl Iterator<Item = (Fetch, Acks, Reads)> {
        let of_reads = |reads: &'static Reads| {
            let of_acks = move |acks: &'static Acks| Fetch::ALL.iter().map(|fetch| (*fetch, *acks, *reads));
            Acks::ALL.iter().flat_map(of_acks)
        };
        Reads::ALL.iter().flat_map(of_reads)
    }

    /// The combination whose turn it is, and the rest as drawn.
    fn in_turn(turn: u64, rng: &mut Rng) -> Self {
        let count = Self::all().count() as u64;
        let (fetch, acks, reads) = Self::all().nth((turn % count) as usize).expect("one of all");
        Self { fetch, acks, reads, ..Self::draw(rng) }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.fetch, self.acks, self.reads)
    }
}

/// Everything a seed decides at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Orderers.
    pub orderers: u32,
    /// Orderers that may be added: they are up from the start and wait for it.
    pub joiners: u32,
    /// Mean time between changes of the orderers; `None`: never.
    pub change_every: Option<Duration>,
    /// Data servers, one slot each.
    pub servers: u32,
    /// Whether the log waits to be told where it begins.
    pub successor: bool,
    /// Clusters: the log goes on from each to the next, at some time during the storm.
    pub clusters: u32,
    /// Shards of the first view.
    pub shards: u32,
    /// Replicas of a shard.
    pub replicas: u32,
    /// How long a replica may fail its shard before that is finalized; zero: for ever.
    pub failure_timeout: Duration,
    /// How long a finalized shard stays in the view after all of it was trimmed.
    pub linger: Duration,
    /// How long a replica of a finalized shard may be gone before it is rebuilt.
    pub rebuild_after: Duration,
    /// How much of a copy may be made per second; 0: no bound.
    pub rebuild_bytes_per_s: u64,
    /// ZooKeeper nodes.
    pub zk: u32,
    /// Log writers.
    pub writers: u32,
    /// Whether writers have names, every two of them the same one.
    pub named_writers: bool,
    /// Whether writers append something now and then that is to count only if nobody else came first.
    pub conditional: bool,
    /// Log readers.
    pub readers: u32,
    /// ZooKeeper clients.
    pub zk_clients: u32,
    /// ZooKeeper clients that would take a read-only session.
    pub zk_lookers: u32,
    /// How long a ZooKeeper node hears nothing of the log before it gives read-only sessions, if it does.
    pub read_only: Option<Duration>,
    /// How long faults last.
    pub fault_phase: Duration,
    /// How long everything may take to be well again afterwards.
    pub heal_phase: Duration,
    /// Mean time between faults of each kind; `None`: never.
    pub crash_every: Option<Duration>,
    /// Mean time between power cuts.
    pub power_cut_every: Option<Duration>,
    /// Mean time between partitions.
    pub partition_every: Option<Duration>,
    /// Mean time between broken connections.
    pub reset_every: Option<Duration>,
    /// Mean time between clogged connections.
    pub clog_every: Option<Duration>,
    /// Mean time between stalls.
    pub stall_every: Option<Duration>,
    /// Mean time between slow disks.
    pub slow_disk_every: Option<Duration>,
    /// Mean time between jumps of a wall clock.
    pub clock_jump_every: Option<Duration>,
    /// Mean time between disks that get full.
    pub full_disk_every: Option<Duration>,
    /// Whether numbers of starts are as far from each other as in service; else each is the lowest that it may be, so that
    /// what is wrong shows.
    pub random_starts: bool,
    /// The server whose disk is bad, if one's is, and mean time between its changes.
    pub rot: Option<(u32, Duration)>,
    /// Mean time between losses of all files of a ZooKeeper node.
    pub wipe_every: Option<Duration>,
    /// Percent of pieces of snapshots given to others that are read otherwise than they were written.
    pub misread_percent: u64,
    /// Percent of dials refused.
    pub refuse_percent: u64,
    /// Mean one-way delay of the network.
    pub delay: Duration,
    /// Percent of links that are ten times slower than the others.
    pub slow_link_percent: u64,
    /// Percent of chunks that take up to fifty times longer.
    pub late_percent: u64,
    /// Mean time of a write and sync.
    pub sync: Duration,
    /// Bytes of a log segment: small, so that it rolls often.
    pub segment_bytes: u32,
    /// Whether slots keep almost nothing in memory, so that they read their logs back all the time.
    pub small_caches: bool,
    /// Whether the first reader is a consumer that releases what it has read, so that the log is trimmed.
    pub trims: bool,
    /// Whether the consumers are there that may not miss anything, so that the first reader may release what it has
    /// read: ZooKeeper nodes, in a log that is trimmed.
    pub registered: Arc<AtomicBool>,
    /// How long records are kept at least.
    pub retain_time: Option<Duration>,
    /// How many bytes of them.
    pub retain_bytes: Option<u64>,
    /// How long a consumer may be away before it is dropped.
    pub consumer_max_age: Option<Duration>,
    /// Whether writers trim the log by hand, too.
    pub trims_by_hand: bool,
    /// Bytes of a disk that are to stay free.
    pub disk_reserve_bytes: u64,
    /// What its name as a consumer begins with.
    pub consumer_prefix: String,
    /// Pause between a writer's turns of appending.
    pub write_every: Duration,
    /// Session timeout that ZooKeeper clients ask for.
    pub session_timeout_ms: u64,
    /// Mean pause between a ZooKeeper client's requests.
    pub request_every: Duration,
    /// Requests a ZooKeeper client has in flight at most.
    pub request_depth: usize,
    /// Whether ZooKeeper clients fall silent and change connections of their own accord.
    pub restless: bool,
    /// Records after which a ZooKeeper node takes its next snapshot; 0: never.
    pub snapshot_records: u64,
    /// Records, and the time, after which ZooKeeper nodes compare their states.
    pub mark_records: u64,
    /// The time.
    pub mark_interval: Duration,
    /// Time in which a ZooKeeper node looks once at all of its memory.
    pub check_pass: Duration,
    /// Executors of a ZooKeeper node for connections, beside the one that applies; 0: one executor does it all.
    pub zk_fronts: u16,
    /// Policy of all ZooKeeper nodes but the first, which ends the sessions that none of the others may end.
    pub policy: Policy,
    /// That of the third, if it has another one.
    pub third_policy: Option<Policy>,
}

impl Options {
    /// What `seed` draws.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "options");
        let mut sometimes = |percent: u64, low_ms: u64, high_ms: u64| {
            let every = Duration::from_millis(rng.between(low_ms, high_ms));
            rng.chance(percent).then_some(every)
        };
        let crash_every = sometimes(75, 400, 5_000);
        let power_cut_every = sometimes(30, 3_000, 10_000);
        let partition_every = sometimes(60, 1_000, 6_000);
        let reset_every = sometimes(60, 50, 2_000);
        let stall_every = sometimes(50, 200, 3_000);
        let slow_disk_every = sometimes(40, 500, 4_000);
        let clock_jump_every = sometimes(30, 500, 3_000);
        let clog_every = sometimes(50, 30, 1_000);
        let delay_us = [50, 200, 1_000, 5_000][rng.below(4) as usize];
        let sync_us = [100, 500, 2_000, 8_000][rng.below(4) as usize];
        // Drawn apart, so that other seeds stay what they were.
        let trims = Rng::new(seed, "trims").chance(35);
        let mut members = Rng::new(seed, "members");
        let change_every = Duration::from_millis(members.between(100, 1_500));
        let change_every = members.chance(35).then_some(change_every);
        let failures = Rng::new(seed, "failures").below(5);
        let mut keeps = Rng::new(seed, "retention");
        let with_zk = keeps.chance(50);
        let mut kept = |percent: u64, low: u64, high: u64| {
            let n = keeps.between(low, high);
            (trims && keeps.chance(percent)).then_some(n)
        };
        let retain_time = kept(30, 300, 3_000).map(Duration::from_millis);
        let retain_bytes = kept(30, 50_000, 400_000);
        // A state that nobody keeps a snapshot of must not go for good because all its nodes were away.
        let consumer_max_age = kept(40, 100, 700).map(Duration::from_millis).filter(|_| !with_zk);
        let trims_by_hand = kept(40, 1, 2).is_some();
        let mut rebuilds = Rng::new(seed, "rebuilds");
        let rebuild_after = Duration::from_millis(rebuilds.between(50, 1_500));
        let rebuild_after = if rebuilds.chance(60) { rebuild_after } else { Duration::from_secs(60) };
        let rebuild_bytes_per_s = [0, 20_000, 200_000, 32 << 20][rebuilds.below(4) as usize];
        let mut fills = Rng::new(seed, "full disks");
        let full_disk_every = Duration::from_millis(fills.between(500, 4_000));
        let full_disk_every = fills.chance(30).then_some(full_disk_every);
        let mut policies = Rng::new(seed, "policies");
        let mut marks = Rng::new(seed, "marks");
        let mut cut_off = Rng::new(seed, "cut off");
        let read_only = Duration::from_millis(cut_off.between(100, 800));
        let read_only = cut_off.chance(35).then_some(read_only);
        // One server's, always the same: what R replicas lose together is lost.
        let mut bad = Rng::new(seed, "rot");
        let rot =
            bad.chance(35).then(|| (1 + bad.below(3) as u32, Duration::from_millis(bad.between(200, 3_000))));
        let mut wipes = Rng::new(seed, "wipes");
        let wipe_every = Duration::from_millis(wipes.between(300, 4_000));
        let wipe_every = wipes.chance(if trims { 60 } else { 15 }).then_some(wipe_every);
        let misread_percent = [0, 1, 10][wipes.below(3) as usize];
        let mut this = Self {
            seed,
            wipe_every,
            misread_percent,
            named_writers: Rng::new(seed, "names").chance(30),
            conditional: Rng::new(seed, "positions").chance(25),
            linger: Duration::from_secs(5),
            rebuild_after,
            rebuild_bytes_per_s,
            failure_timeout: Duration::from_millis([0, 400, 600, 1_000, 1_000][failures as usize]),
            joiners: if change_every.is_some() { 4 } else { 0 },
            change_every,
            rot,
            random_starts: false,
            trims,
            registered: Arc::default(),
            retain_time,
            retain_bytes,
            consumer_max_age,
            trims_by_hand,
            full_disk_every,
            disk_reserve_bytes: 0,
            consumer_prefix: String::new(),
            orderers: 3,
            servers: 3,
            successor: false,
            clusters: 1,
            shards: 3,
            replicas: 2,
            zk: 2 + rng.below(2) as u32,
            writers: 1 + rng.below(4) as u32,
            readers: 1 + rng.below(3) as u32,
            zk_clients: 2 + rng.below(4) as u32,
            zk_lookers: if read_only.is_some() { 2 } else { 0 },
            read_only,
            fault_phase: Duration::from_millis(rng.between(4_000, 9_000)),
            heal_phase: Duration::from_secs(30),
            crash_every,
            power_cut_every,
            partition_every,
            reset_every,
            clog_every,
            stall_every,
            slow_disk_every,
            clock_jump_every,
            refuse_percent: [0, 0, 5, 20][rng.below(4) as usize],
            delay: Duration::from_micros(delay_us),
            slow_link_percent: [0, 0, 10][rng.below(3) as usize],
            late_percent: [0, 1, 5][rng.below(3) as usize],
            sync: Duration::from_micros(sync_us),
            segment_bytes: [64, 128, 256, 1024][rng.below(4) as usize] * 1024,
            small_caches: rng.chance(40),
            write_every: Duration::from_micros([2_000, 10_000, 40_000][rng.below(3) as usize]),
            // A node gives up a session that it could not touch for a third of this: several slow hops.
            session_timeout_ms: rng.between(400, 1_500) + delay_us / 4 + sync_us / 8,
            request_every: Duration::from_millis([3, 10, 40][rng.below(3) as usize]),
            request_depth: [1, 4, 16][rng.below(3) as usize],
            restless: true,
            snapshot_records: [0, 20, 60, 200, 1_000][rng.below(5) as usize],
            mark_records: marks.between(20, 400),
            mark_interval: Duration::from_millis(marks.between(100, 2_000)),
            check_pass: Duration::from_millis(marks.between(200, 4_000)),
            policy: if policies.chance(20) { Policy::draw(&mut policies) } else { Policy::USUAL },
            third_policy: None,
            zk_fronts: [0, 0, 1, 3][Rng::new(seed, "executors").below(4) as usize],
        };
        if trims && !with_zk {
            (this.zk, this.zk_clients, this.zk_lookers) = (0, 0, 0);
        }
        this.disk_reserve_bytes = 4 * u64::from(this.segment_bytes);
        this
    }

    /// What `seed` draws, but this policy where it says so.
    pub fn with_policy(seed: u64, fetch: Option<Fetch>, acks: Option<Acks>, reads: Option<Reads>) -> Self {
        let mut this = Self::draw(seed);
        if fetch.is_none() && acks.is_none() && reads.is_none() {
            return this;
        }
        let mut rng = Rng::new(seed, "wanted policy");
        let Policy { defer, location_limit, .. } = Policy::draw(&mut rng);
        this.policy = Policy {
            fetch: fetch.unwrap_or_default(),
            acks: acks.unwrap_or_default(),
            reads: reads.unwrap_or_default(),
            defer,
            location_limit,
        };
        // A world without ZooKeeper says nothing about it.
        if this.zk == 0 {
            (this.zk, this.zk_clients, this.consumer_max_age) = (2, 3, None);
        }
        this
    }

    /// What `seed` draws, but of three ZooKeeper nodes the second and the third each have a combination of policies whose turn
    /// it is: of 24 seeds in a row each combination has two nodes.
    pub fn with_each_policy(seed: u64) -> Self {
        let mut this = Self::draw(seed);
        let mut rng = Rng::new(seed, "each policy");
        this.policy = Policy::in_turn(seed, &mut rng);
        // Odd, so that it is another of everything there are two or four of.
        this.third_policy = Some(Policy::in_turn(seed + 13, &mut rng));
        if this.zk == 0 {
            (this.zk_clients, this.consumer_max_age) = (3, None);
        }
        this.zk = 3;
        this
    }

    /// The policy of ZooKeeper node `n`.
    pub fn policy_of(&self, n: u32) -> Policy {
        match n {
            1 => Policy::USUAL,
            3 => self.third_policy.unwrap_or(self.policy),
            _ => self.policy,
        }
    }

    /// Those of all ZooKeeper nodes.
    pub fn policies(&self) -> impl Iterator<Item = Policy> {
        (1..=self.zk).map(|n| self.policy_of(n))
    }

    /// Whether something may be trimmed that nobody has read.
    pub fn may_go_unread(&self) -> bool {
        let kept = self.retain_time.is_some() || self.retain_bytes.is_some();
        self.trims && (kept || self.consumer_max_age.is_some() || self.trims_by_hand)
    }

    /// Fine weather, for scenarios that bring their own faults.
    pub fn calm(seed: u64) -> Self {
        Self {
            crash_every: None,
            power_cut_every: None,
            partition_every: None,
            reset_every: None,
            clog_every: None,
            stall_every: None,
            slow_disk_every: None,
            clock_jump_every: None,
            wipe_every: None,
            misread_percent: 0,
            full_disk_every: None,
            retain_time: None,
            retain_bytes: None,
            consumer_max_age: None,
            trims_by_hand: false,
            disk_reserve_bytes: 1 << 20,
            refuse_percent: 0,
            slow_link_percent: 0,
            late_percent: 0,
            delay: Duration::from_micros(200),
            sync: Duration::from_micros(500),
            segment_bytes: 256 * 1024,
            write_every: Duration::from_millis(10),
            restless: false,
            trims: false,
            named_writers: false,
            conditional: false,
            joiners: 0,
            change_every: None,
            rot: None,
            random_starts: false,
            rebuild_after: Duration::from_secs(60),
            policy: Policy::USUAL,
            third_policy: None,
            zk_lookers: 0,
            read_only: None,
            ..Self::draw(seed)
        }
    }
}

/// A time around `mean`: exponential in shape, but bounded to eight times it.
pub fn around(rng: &mut Rng, mean: Duration) -> Duration {
    let mut nanos = rng.below(1 + mean.as_nanos() as u64);
    let mut spread = 1;
    while spread < 8 && rng.chance(40) {
        nanos += mean.as_nanos() as u64;
        spread += 1;
    }
    Duration::from_nanos(1 + nanos)
}
