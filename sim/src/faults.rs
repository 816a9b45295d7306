//! What goes wrong, and when? The weather of the fault phase, and the healing after it.

use crate::node::{Node, Role};
use crate::options::Fault;
use crate::schedule::{Event, NodeId};
use crate::world::World;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    /// Starts the weather: each kind of fault this seed has comes again and again.
    pub fn storm(&mut self) {
        self.stormy = true;
        let o = &self.options;
        let kinds = [
            (o.crash_every, Fault::Crash),
            (o.power_cut_every, Fault::PowerCut),
            (o.partition_every, Fault::Partition),
            (o.reset_every, Fault::Reset),
            (o.clog_every, Fault::Clog),
            (o.stall_every, Fault::Stall),
            (o.slow_disk_every, Fault::SlowDisk),
            (o.clock_jump_every, Fault::ClockJump),
            (o.full_disk_every, Fault::FillDisk),
            (o.rot.map(|r| r.1), Fault::Rot),
            (o.wipe_every, Fault::Wipe),
        ];
        for (every, fault) in kinds {
            self.again(every, fault);
        }
    }

    /// Ends the weather: partitions heal, disks and clocks behave, all nodes come back.
    pub fn heal(&mut self) {
        self.stormy = false;
        self.options.misread_percent = 0;
        self.network.calm();
        for partition in self.network.partitions() {
            self.network.heal(&mut self.schedule, partition);
        }
        for i in 0..self.nodes.len() {
            self.nodes[i].disk_factor = 1;
            self.nodes[i].disk.capacity = None;
            self.nodes[i].held_down = false;
            if !self.nodes[i].is_up() {
                self.schedule.after(Duration::from_millis(1), Event::Start(NodeId(i)));
            }
        }
        self.trace.line(self.schedule.now(), "weather", || "all is well from now on".into());
    }

    fn again(&mut self, every: Option<Duration>, fault: Fault) {
        if let Some(every) = every {
            let wait = self.pause(every);
            self.schedule.after(wait, Event::Fault(fault));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        match &fault {
            Fault::Heal(partition) => return self.network.heal(&mut self.schedule, *partition),
            Fault::Thaw(link) => return self.network.thaw(&mut self.schedule, *link),
            Fault::CrashOne(id, down) => return self.crash_for(*id, *down),
            Fault::RoomAgain(id) => {
                self.note(*id, || "disk has room again".into());
                self.nodes[id.0].disk.capacity = None;
                return;
            }
            _ => {}
        }
        if !self.stormy {
            return;
        }
        let o = &self.options;
        let every = match &fault {
            Fault::Crash => o.crash_every,
            Fault::PowerCut => o.power_cut_every,
            Fault::Partition => o.partition_every,
            Fault::Reset => o.reset_every,
            Fault::Clog => o.clog_every,
            Fault::Stall => o.stall_every,
            Fault::SlowDisk => o.slow_disk_every,
            Fault::ClockJump => o.clock_jump_every,
            Fault::FillDisk => o.full_disk_every,
            Fault::CrashOne(..) | Fault::Heal(_) | Fault::Thaw(_) | Fault::RoomAgain(_) => None,
            Fault::Rot => o.rot.map(|r| r.1),
            Fault::Wipe => o.wipe_every,
        };
        self.again(every, fault.clone());
        match fault {
            Fault::Crash => {
                let id = self.any_node(|_| true);
                let quick = self.weather.chance(40);
                let down = self.pause(Duration::from_millis(if quick { 4 } else { 400 }));
                self.crash_for(id, down);
            }
            Fault::PowerCut => self.power_cut(),
            Fault::Partition => self.partition(),
            Fault::Reset => {
                if let Some(link) = self.network.any_link() {
                    self.trace.line(self.schedule.now(), "weather", || format!("link {} breaks", link.0));
                    self.network.break_link(&mut self.schedule, link, Duration::from_millis(20));
                }
            }
            Fault::Clog => {
                if let Some(link) = self.network.any_link() {
                    let long = self.pause(Duration::from_millis(100));
                    self.trace.line(self.schedule.now(), "weather", || {
                        format!("link {} clogs for {long:?}", link.0)
                    });
                    self.network.freeze(link);
                    self.schedule.after(long, Event::Fault(Fault::Thaw(link)));
                }
            }
            Fault::Stall => {
                let id = self.any_node(|_| true);
                let long = self.pause(Duration::from_millis(120));
                self.note(id, || format!("stalls for {long:?}"));
                self.nodes[id.0].stalled_until = self.now() + long;
            }
            Fault::SlowDisk => {
                let id = self.any_node(|n| n.role.has_disk());
                let factor = 1 + self.weather.below(40) as u32;
                self.note(id, || format!("disk is {factor} times slower"));
                self.nodes[id.0].disk_factor = factor;
            }
            Fault::ClockJump => {
                let id = self.any_node(|_| true);
                let skew = self.weather.below(4_000) as i64 - 2_000;
                self.note(id, || format!("wall clock is off by {skew} ms"));
                self.nodes[id.0].skew_ms = skew;
            }
            Fault::FillDisk => {
                let id = self.any_node(|n| n.role.has_disk());
                let more = self.weather.below(8);
                let long = self.pause(Duration::from_millis(1_200));
                self.fill_disk(id, more);
                self.schedule.after(long, Event::Fault(Fault::RoomAgain(id)));
            }
            Fault::CrashOne(..) | Fault::Heal(_) | Fault::Thaw(_) | Fault::RoomAgain(_) => {}
            Fault::Wipe => {
                let is_zk = |n: &Node| matches!(n.role, Role::Zk(_));
                if self.nodes.iter().any(is_zk) {
                    let id = self.any_node(is_zk);
                    let down = self.pause(Duration::from_millis(300));
                    self.wipe(id, down);
                }
            }
            Fault::Rot => {
                let server = self.options.rot.expect("a bad disk").0;
                self.rot(server);
            }
        }
    }

    /// No more than so many further segments fit on that disk from now on.
    pub fn fill_disk(&mut self, id: NodeId, more: u64) {
        let disk = &mut self.nodes[id.0].disk;
        disk.capacity = Some(disk.used() + more * u64::from(self.options.segment_bytes));
        self.note(id, || format!("disk fills up: {more} segments more"));
    }

    fn any_node(&mut self, which: impl Fn(&Node) -> bool) -> NodeId {
        let ids: Vec<usize> = (0..self.nodes.len()).filter(|&i| which(&self.nodes[i])).collect();
        NodeId(ids[self.weather.below(ids.len() as u64) as usize])
    }

    fn power_cut(&mut self) {
        let everything = self.weather.chance(30);
        for i in 0..self.nodes.len() {
            if self.nodes[i].role.is_service() && (everything || self.weather.chance(50)) {
                let down = self.pause(Duration::from_millis(300));
                self.crash_for(NodeId(i), down);
            }
        }
    }

    /// Crashes a node that is up; it comes back after `down`.
    pub fn crash_for(&mut self, id: NodeId, down: Duration) {
        if self.nodes[id.0].is_up() {
            self.crash(id);
            self.schedule.after(down, Event::Start(id));
        }
    }

    fn partition(&mut self) {
        let n = self.nodes.len();
        let one_way = self.weather.chance(20);
        let alone = self.weather.chance(50);
        let first = self.weather.below(n as u64) as usize;
        let side: Vec<bool> =
            (0..n).map(|i| if alone { i == first } else { self.weather.chance(50) }).collect();
        let mut pairs = BTreeSet::new();
        for a in 0..n {
            for b in 0..n {
                if side[a] && !side[b] {
                    pairs.insert((NodeId(a), NodeId(b)));
                    if !one_way {
                        pairs.insert((NodeId(b), NodeId(a)));
                    }
                }
            }
        }
        let long = self.pause(Duration::from_millis(600));
        self.cut_off(pairs, long);
    }

    /// Blocks these ordered pairs for `long`. Some of the connections across break meanwhile, each end at
    /// its own time, as TCP's timeouts do it.
    pub fn cut_off(&mut self, pairs: BTreeSet<(NodeId, NodeId)>, long: Duration) {
        self.trace.line(self.schedule.now(), "weather", || format!("cut off for {long:?}: {pairs:?}"));
        for link in self.network.links_across(&pairs) {
            if self.weather.chance(40) {
                self.network.break_link(&mut self.schedule, link, long);
            }
        }
        let partition = self.network.block(pairs);
        self.schedule.after(long, Event::Fault(Fault::Heal(partition)));
    }

    /// The ordered pairs that cut `one` off from all others, in both directions.
    pub fn around_node(&self, one: NodeId) -> BTreeSet<(NodeId, NodeId)> {
        (0..self.nodes.len()).map(NodeId).filter(|&o| o != one).flat_map(|o| [(one, o), (o, one)]).collect()
    }

    /// The nodes of the service.
    pub fn service(&self) -> Vec<NodeId> {
        let ids = (0..self.nodes.len()).map(NodeId);
        ids.filter(|id| self.nodes[id.0].role.is_service()).collect()
    }

    /// Whether that role is up and its machine runs.
    pub fn runs(&self, role: Role) -> bool {
        self.nodes[self.node(role).0].running.is_some()
    }
}
