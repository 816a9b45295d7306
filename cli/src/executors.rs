//! How does a ZooKeeper node run on several executors? One has the log and applies, the others have the clients'
//! connections; between them a lock on the state and bounded queues. What each does is decided in `zoolog_zk`, where a
//! `Team` does the same on one thread; here are threads.
//!
//! Apply takes the lock once per batch, when every front's queue has room, and publishes before it releases it. A front
//! takes the lock once per turn, then everything that was published, and only then reads. So a front that has fallen
//! [`QUEUE_LEN`] values behind slows apply, and with it all writes of the node; nobody waits for anybody else while he
//! holds the lock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use zoolog_client::{Committed, SharedLog};
use zoolog_core::rt::Waker;
use zoolog_core::{Input, Instant, Machine, Output};
use zoolog_zk::node::{Back, Front, NodeCommand, NodeEvent, Published, Replacement, Said, Step};
use zoolog_zk::state::State;

/// Published values that may wait for a front.
const QUEUE_LEN: usize = 64;

/// Where values wait for another thread.
#[derive(Debug, Default)]
struct Mailbox {
    /// How many do.
    len: AtomicUsize,
    /// It was told, and has not looked since.
    told: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Mailbox {
    fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Makes its thread look. At most one syscall until it does; none before it runs, since it begins by looking.
    fn tell(&self) {
        if !self.told.swap(true, Ordering::AcqRel)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }

    /// Its thread looks now: whoever puts in something from here on tells again.
    fn look(&self) {
        self.told.swap(false, Ordering::AcqRel);
    }
}

/// What a front shares with the others.
#[derive(Debug, Default)]
struct Lane {
    mailbox: Mailbox,
    /// Whether its clients watch anything. Changes only under the lock.
    watches: AtomicBool,
}

/// What all executors of a node share.
#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    lanes: Vec<Lane>,
    back: Mailbox,
    /// The back waits until every front's queue has room.
    back_waits: AtomicBool,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("a panic ends the process")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("a panic ends the process")
    }

    fn has_room(&self) -> bool {
        self.lanes.iter().all(|l| l.mailbox.len() < QUEUE_LEN)
    }
}

/// The two kinds of executors' parts of one node, not begun yet.
pub fn split(fronts: u16) -> (BackSeat, Vec<FrontSeat>) {
    let shared = Arc::new(Shared {
        state: RwLock::default(),
        lanes: (0..fronts).map(|_| Lane::default()).collect(),
        back: Mailbox::default(),
        back_waits: AtomicBool::new(false),
    });
    let (say, said) = mpsc::channel();
    let (mut queues, mut seats) = (Vec::new(), Vec::new());
    for index in 0..fronts {
        let (publish, published) = mpsc::channel();
        queues.push(publish);
        seats.push(FrontSeat { index, shared: shared.clone(), published, say: say.clone() });
    }
    (BackSeat { shared, said, queues }, seats)
}

/// Where the executor that applies will be.
#[derive(Debug)]
pub struct BackSeat {
    shared: Arc<Shared>,
    said: Receiver<Vec<Said>>,
    queues: Vec<Sender<Arc<Published>>>,
}

impl BackSeat {
    /// `back` runs here, on the thread of `waker`, and begins with `state`.
    ///
    /// # Panics
    /// When it has begun before.
    pub fn take<L: SharedLog>(self, mut back: Back<L>, state: State, waker: Waker) -> BackOn<L> {
        let Self { shared, said, queues } = self;
        shared.back.waker.set(waker).expect("a back has one thread");
        back.set_fronts(queues.len() as u16, &state);
        // Nobody reads it before the back serves, and says so.
        *shared.write() = state;
        BackOn { back, shared, said, queues, inputs: Vec::new(), held: None, in_turn: false }
    }
}

/// What changes the state.
#[derive(Debug)]
enum Held {
    Batch(Committed),
    Replacement(Replacement),
}

/// The executor that has the log, and applies.
#[derive(Debug)]
pub struct BackOn<L> {
    back: Back<L>,
    shared: Arc<Shared>,
    said: Receiver<Vec<Said>>,
    queues: Vec<Sender<Arc<Published>>>,
    /// Of this turn, taken in under one lock.
    inputs: Vec<Input<NodeCommand>>,
    /// What waits until every queue has room.
    held: Option<Held>,
    in_turn: bool,
}

impl<L: SharedLog> BackOn<L> {
    fn publish(&mut self) {
        let Some(published) = self.back.publish() else { return };
        let published = Arc::new(published);
        for (i, (lane, queue)) in self.shared.lanes.iter().zip(&self.queues).enumerate() {
            let watches = lane.watches.load(Ordering::Acquire);
            let len = lane.mailbox.len.fetch_add(1, Ordering::SeqCst) + 1;
            // If it has ended, so will we.
            let _ = queue.send(published.clone());
            // Who has nothing to do with it is told when many wait.
            if published.concerns(i as u16, watches) || len >= QUEUE_LEN / 2 {
                lane.mailbox.tell();
            }
        }
    }

    /// Takes in what came since the last turn.
    fn begin(&mut self, now: Instant) {
        self.shared.back.look();
        let shared = self.shared.clone();
        let mut reading = None;
        for input in self.inputs.drain(..) {
            if let Input::SnapshotSaved { gsn, last, result } = input {
                reading = None;
                self.back.snapshot_saved(now, &mut shared.write(), gsn, last, result);
            } else {
                self.back.handle(now, reading.get_or_insert_with(|| shared.read()), input);
            }
        }
        while let Ok(all) = self.said.try_recv() {
            self.shared.back.len.fetch_sub(1, Ordering::SeqCst);
            let state = reading.get_or_insert_with(|| shared.read());
            all.into_iter().for_each(|said| self.back.hear(now, state, said));
        }
    }

    /// Whether there is room now. If not, the fronts will say when there is.
    fn has_room(&self) -> bool {
        if self.shared.has_room() {
            return true;
        }
        self.shared.back_waits.store(true, Ordering::SeqCst);
        // One of them may have looked just before.
        self.shared.has_room()
    }
}

impl<L: SharedLog> Machine for BackOn<L> {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, _: Instant, input: Input<NodeCommand>) {
        self.inputs.push(input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        if !std::mem::replace(&mut self.in_turn, true) {
            self.begin(now);
        }
        loop {
            if self.held.is_some() {
                if !self.has_room() {
                    break;
                }
                let (shared, held) = (self.shared.clone(), self.held.take().expect("looked at"));
                let mut state = shared.write();
                match held {
                    Held::Batch(committed) => self.back.apply(now, &mut state, &committed),
                    Held::Replacement(new) => self.back.replace(now, &mut state, new),
                }
                self.publish();
            }
            match self.back.step(now) {
                Step::Output(output) => return Some(output),
                Step::Apply(committed) => self.held = Some(Held::Batch(committed)),
                Step::Replace(new) => self.held = Some(Held::Replacement(new)),
                Step::Learn(learned) => self.back.learn(now, &self.shared.read(), learned),
                Step::GoOn => self.back.go_on(now, &self.shared.read()),
                Step::Nothing => {
                    if self.back.has_unpublished() && self.has_room() {
                        self.publish();
                    }
                    break;
                }
            }
        }
        self.in_turn = false;
        None
    }

    fn sent(&mut self, now: Instant) {
        self.back.sent(now);
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.shared.back.len() > 0 {
            return Some((Instant(0), "a front has said something"));
        }
        if (self.held.is_some() || self.back.has_unpublished()) && self.shared.has_room() {
            return Some((Instant(0), "the fronts have room"));
        }
        self.back.next_deadline()
    }

    fn checkpoint(&self) -> bytes::Bytes {
        self.back.log().checkpoint()
    }
}

/// Where an executor with connections will be.
#[derive(Debug)]
pub struct FrontSeat {
    index: u16,
    shared: Arc<Shared>,
    published: Receiver<Arc<Published>>,
    say: Sender<Vec<Said>>,
}

impl FrontSeat {
    /// Which front.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// `front` runs here, on the thread of `waker`.
    ///
    /// # Panics
    /// When it has begun before.
    pub fn take(self, front: Front, waker: Waker) -> FrontOn {
        let lane = &self.shared.lanes[usize::from(self.index)];
        lane.mailbox.waker.set(waker).expect("a front has one thread");
        FrontOn { front, seat: self, in_turn: false }
    }
}

/// An executor that has connections.
#[derive(Debug)]
pub struct FrontOn {
    front: Front,
    seat: FrontSeat,
    in_turn: bool,
}

impl FrontOn {
    fn lane(&self) -> &Lane {
        &self.seat.shared.lanes[usize::from(self.seat.index)]
    }

    /// Takes what was published, and serves.
    fn begin(&mut self, now: Instant) {
        self.lane().mailbox.look();
        if !self.front.wants_state() && self.lane().mailbox.len() == 0 {
            return;
        }
        let shared = self.seat.shared.clone();
        let state = shared.read();
        let mut taken = 0;
        while let Ok(published) = self.seat.published.try_recv() {
            self.front.take(now, &published);
            taken += 1;
        }
        self.front.serve(now, &state);
        self.lane().watches.store(self.front.watch_count() > 0, Ordering::Release);
        drop(state);
        if taken > 0 {
            self.lane().mailbox.len.fetch_sub(taken, Ordering::SeqCst);
            if shared.back_waits.swap(false, Ordering::SeqCst) {
                shared.back.tell();
            }
        }
    }
}

impl Machine for FrontOn {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Instant, input: Input<NodeCommand>) {
        self.front.handle(now, input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        if !std::mem::replace(&mut self.in_turn, true) {
            self.begin(now);
        }
        if let Some(output) = self.front.poll_output(now) {
            return Some(output);
        }
        self.in_turn = false;
        let said = self.front.say();
        if !said.is_empty() {
            let back = &self.seat.shared.back;
            back.len.fetch_add(1, Ordering::SeqCst);
            // If it has ended, so will we.
            let _ = self.seat.say.send(said);
            back.tell();
        }
        None
    }

    fn sent(&mut self, now: Instant) {
        self.front.sent(now);
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.lane().mailbox.len() > 0 {
            return Some((Instant(0), "something was published"));
        }
        self.front.next_deadline()
    }
}
