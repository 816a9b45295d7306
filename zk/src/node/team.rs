//! How do several executors make one node? This is the deterministic one: a back, its fronts and the queues between
//! them on one thread, which take turns in an order that a seed decides. The simulator and the tests run it; for real,
//! the same parts run on a thread each, with a lock on the state.

use super::{Back, Front, NodeCommand, NodeConfig, NodeEvent, NodeStatus, Published, Replacement, Step};
use crate::snapshot::Restored;
use crate::state::State;
use std::collections::VecDeque;
use std::rc::Rc;
use zoolog_client::{ClusterLog, Committed, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_core::{Input, Instant, Machine, Output};

/// Published values that may wait for a front, as the seed says: few, so that the back often has to wait; or many, so that
/// a front that has nothing to do with them is far behind.
const QUEUE_LENS: [usize; 2] = [3, 64];

/// What changes the state.
#[derive(Debug)]
enum Held {
    Batch(Committed),
    Replacement(Replacement),
}

#[derive(Debug)]
struct Lane {
    front: Front,
    queue: VecDeque<Rc<Published>>,
}

/// A ZooKeeper node of several executors.
#[derive(Debug)]
pub struct Team<L = ClusterLog> {
    back: Back<L>,
    state: State,
    lanes: Vec<Lane>,
    queue_len: usize,
    /// A batch that was delivered and waits until every queue has room.
    held: Option<Held>,
    back_is_due: bool,
    rng: Rng,
    outbox: VecDeque<Output<NodeEvent>>,
}

impl Team<ClusterLog> {
    /// A node on the sharded log, with `fronts` executors for connections. It begins with what was restored. Never use
    /// a seed twice in a cluster's life.
    pub fn restore(cfg: NodeConfig, fronts: u16, seed: u64, now: Instant, restored: Restored) -> Self {
        let log = cfg.log_client(seed, now);
        Self::restore_with_log(cfg, log, fronts, seed, now, restored)
    }
}

impl<L: SharedLog> Team<L> {
    /// The same on a given log, which has neither a subscription nor pending appends.
    pub fn restore_with_log(
        cfg: NodeConfig,
        log: L,
        fronts: u16,
        seed: u64,
        now: Instant,
        mut restored: Restored,
    ) -> Self {
        let lanes = (0..fronts).map(|i| Front::new(&cfg, i, now));
        let lanes = lanes.map(|front| Lane { front, queue: VecDeque::new() }).collect();
        let mut back = Back::new(cfg, log, now, &mut restored);
        back.set_fronts(fronts, &restored.state);
        let (mut rng, outbox) = (Rng::new(seed, "turns of executors"), VecDeque::new());
        let queue_len = QUEUE_LENS[rng.below(2) as usize];
        Self { back, state: restored.state, lanes, queue_len, held: None, back_is_due: true, rng, outbox }
    }

    /// The replicated state, as far as it is applied here.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The log below.
    pub fn log(&self) -> &L {
        self.back.log()
    }

    /// Whether it has caught up and serves clients.
    pub fn is_serving(&self) -> bool {
        self.back.is_serving()
    }

    /// As [`State::flip_a_bit`].
    #[doc(hidden)]
    pub fn flip_a_bit(&mut self, choice: u64) -> String {
        self.state.flip_a_bit(choice)
    }

    /// How it is; of what fronts count, as far as it was asked for.
    pub fn status(&self) -> NodeStatus {
        let (status, fronts) = (self.back.status(&self.state), || self.lanes.iter().map(|l| &l.front));
        let outstanding = status.outstanding + fronts().map(Front::waiting_count).sum::<usize>();
        NodeStatus { outstanding, watches: fronts().map(Front::watch_count).sum(), ..status }
    }

    #[cfg(test)]
    pub(super) fn back(&self) -> &Back<L> {
        &self.back
    }

    /// How it is told which front a connection is at: by its number, in turn.
    fn front_at(&mut self, conn: zoolog_core::ConnId) -> &mut Front {
        let n = conn.0 as usize % self.lanes.len();
        &mut self.lanes[n].front
    }

    fn has_room(&self) -> bool {
        self.lanes.iter().all(|l| l.queue.len() < self.queue_len)
    }

    fn publish(&mut self) {
        let Some(published) = self.back.publish() else { return };
        let published = Rc::new(published);
        self.lanes.iter_mut().for_each(|l| l.queue.push_back(published.clone()));
    }

    /// A turn of a front: it takes what was published, perhaps serves, and says what it has to say.
    fn front_turn(&mut self, now: Instant, n: usize) {
        let lane = &mut self.lanes[n];
        while let Some(published) = lane.queue.pop_front() {
            lane.front.take(now, &published);
        }
        lane.front.serve(now, &self.state);
        while let Some(output) = lane.front.poll_output(now) {
            if !matches!(output, Output::ReadClock) {
                self.outbox.push_back(output);
            }
        }
        lane.front.sent(now);
        for said in lane.front.say() {
            self.back.hear(now, &self.state, said);
            self.back_is_due = true;
        }
    }

    /// A part of a turn of the back, up to the next batch at most.
    fn back_turn(&mut self, now: Instant) {
        let has_room = self.has_room();
        if let Some(held) = self.held.take_if(|_| has_room) {
            match held {
                Held::Batch(committed) => self.back.apply(now, &mut self.state, &committed),
                Held::Replacement(new) => self.back.replace(now, &mut self.state, new),
            }
            return self.publish();
        }
        if self.held.is_some() {
            return;
        }
        loop {
            match self.back.step(now) {
                Step::Output(Output::ReadClock) => {}
                Step::Output(output) => self.outbox.push_back(output),
                Step::Apply(committed) => {
                    self.held = Some(Held::Batch(committed));
                    return;
                }
                Step::Replace(new) => {
                    self.held = Some(Held::Replacement(new));
                    return;
                }
                Step::Learn(learned) => self.back.learn(now, &self.state, learned),
                Step::GoOn => self.back.go_on(now, &self.state),
                Step::Nothing => {
                    self.back.sent(now);
                    self.back_is_due = false;
                    if self.has_room() {
                        self.publish();
                    }
                    return;
                }
            }
        }
    }

    /// Whether the executor, a front or (behind them) the back, has something to do.
    fn is_due(&self, n: usize) -> bool {
        match self.lanes.get(n) {
            Some(lane) => {
                let watches = lane.front.watch_count() > 0;
                let concerned = lane.queue.iter().any(|p| p.concerns(n as u16, watches));
                concerned || lane.queue.len() > self.queue_len / 2 || lane.front.wants_turn()
            }
            None if self.held.is_some() => self.has_room(),
            None => self.back_is_due || self.back.has_unpublished() && self.has_room(),
        }
    }
}

impl<L: SharedLog> Machine for Team<L> {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Instant, input: Input<NodeCommand>) {
        match input {
            Input::Accepted { conn, .. }
            | Input::Frame { conn, .. }
            | Input::Closed { conn }
            | Input::Backlog { conn, .. }
                if !conn.is_dialled() =>
            {
                self.front_at(conn).handle(now, input);
            }
            Input::SnapshotSaved { gsn, last, result } => {
                self.back.snapshot_saved(now, &mut self.state, gsn, last, result);
                self.back_is_due = true;
            }
            Input::Timer => {
                for lane in &mut self.lanes {
                    lane.front.handle(now, Input::<NodeCommand>::Timer);
                }
                self.back.handle(now, &self.state, Input::Timer);
                self.back_is_due = true;
            }
            input => {
                self.back.handle(now, &self.state, input);
                self.back_is_due = true;
            }
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        self.back_is_due |= self.outbox.is_empty();
        loop {
            let due: Vec<usize> = (0..=self.lanes.len()).filter(|n| self.is_due(*n)).collect();
            if due.is_empty() {
                return self.outbox.pop_front();
            }
            let n = due[self.rng.below(due.len() as u64) as usize];
            if n < self.lanes.len() { self.front_turn(now, n) } else { self.back_turn(now) }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let fronts = self.lanes.iter().filter_map(|l| l.front.next_deadline());
        fronts.chain(self.back.next_deadline()).min_by_key(|d| d.0)
    }

    fn checkpoint(&self) -> bytes::Bytes {
        self.back.log().checkpoint()
    }
}
