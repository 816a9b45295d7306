//! What does an operator do? Adds, replaces and removes orderers and has others lead, at random, asking whoever leads;
//! what is refused is left, what gets no answer may have happened or not.

use crate::observe::Observation;
use crate::options::around;
use crate::process::Process;
use bytes::Bytes;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::wire::{
    self, ChangeOrderers, ChangeOutcome, Hello, Message, NewOrderer, OrdererChange, Role,
};
use zoolog_core::{ClusterId, ConnId, Incarnation, Input, Instant, OrdererId, Output};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(30);
/// Attempts at one change.
const ATTEMPTS: u32 = 20;

/// An operator.
pub struct Operator {
    /// Where each orderer is, those that may come included; ids from 1.
    orderers: Vec<String>,
    /// The highest id that was used, as far as it knows.
    newest: u64,
    rng: Rng,
    every: Duration,
    calm_at: Instant,
    next: Instant,
    /// What it does, one after the other, if it does nothing at random.
    script: Option<VecDeque<OrdererChange>>,
    /// What it is about, and how often it has tried.
    wants: Option<(OrdererChange, u32)>,
    conn: Option<(ConnId, Instant)>,
    hint: Option<String>,
    dialled: u64,
    out: VecDeque<Output<Observation>>,
}

impl Operator {
    /// One that changes something every `every` or so until `calm_at`; the first `first` of the orderers are there.
    pub fn new(
        orderers: Vec<String>,
        first: u64,
        seed: u64,
        every: Duration,
        calm_at: Instant,
        now: Instant,
    ) -> Self {
        let mut rng = Rng::new(seed, "operator");
        let next = now + around(&mut rng, every);
        Self {
            orderers,
            newest: first,
            rng,
            every,
            calm_at,
            next,
            script: None,
            wants: None,
            conn: None,
            hint: None,
            dialled: 0,
            out: VecDeque::new(),
        }
    }

    /// One that makes these changes from `at` on, each as soon as the one before is decided.
    pub fn scripted(orderers: Vec<String>, seed: u64, at: Instant, script: Vec<OrdererChange>) -> Self {
        let never = Instant(u64::MAX);
        let this = Self::new(orderers, 0, seed, PAUSE, never, at);
        Self { next: at, script: Some(script.into()), ..this }
    }

    /// The first one stays: nodes that start again know no others than the first.
    fn any_but_first(&mut self) -> OrdererId {
        OrdererId(self.rng.between(2, self.newest + 1))
    }

    fn decide(&mut self) -> OrdererChange {
        let spare = self.newest < self.orderers.len() as u64;
        match self.rng.below(10) {
            0..5 if spare => {
                self.newest += 1;
                let id = OrdererId(self.newest);
                let addr = self.orderers[self.newest as usize - 1].clone();
                let replaces = self.rng.chance(60).then(|| self.any_but_first()).filter(|old| *old != id);
                OrdererChange::Add(NewOrderer { id, addr, replaces })
            }
            0..7 => OrdererChange::Remove(self.any_but_first()),
            _ => OrdererChange::Transfer(OrdererId(self.rng.between(1, self.newest + 1))),
        }
    }

    fn hang_up(&mut self, now: Instant) {
        if let Some((conn, _)) = self.conn.take() {
            self.out.push_back(Output::Close { conn });
        }
        self.next = now + PAUSE;
    }

    fn give_up(&mut self, now: Instant) {
        self.wants = None;
        self.hang_up(now);
        self.next = now + around(&mut self.rng, self.every);
    }

    fn work(&mut self, now: Instant) {
        if self.conn.is_some_and(|(_, since)| since + PATIENCE <= now) {
            self.hang_up(now);
        }
        if self.conn.is_some() || now < self.next {
            return;
        }
        if self.wants.is_none() && now < self.calm_at {
            let next = match &mut self.script {
                Some(script) => script.pop_front(),
                None => Some(self.decide()),
            };
            let Some(change) = next else {
                self.next = self.calm_at;
                return;
            };
            self.out.push_back(Output::Event(Observation::Note(format!("wants {change:?}"))));
            self.wants = Some((change, 0));
        }
        match &mut self.wants {
            Some((_, tried)) if *tried < ATTEMPTS || self.script.is_some() => *tried += 1,
            _ => return self.give_up(now),
        }
        self.dialled += 1;
        let conn = ConnId::dialled(self.dialled);
        let any = self.rng.below(self.orderers.len() as u64) as usize;
        let addr = self.hint.take().unwrap_or_else(|| self.orderers[any].clone());
        self.conn = Some((conn, now));
        self.out.push_back(Output::Dial { conn, addr });
    }

    fn answered(&mut self, now: Instant, message: Message) {
        match message {
            Message::NotLeader(m) => {
                self.hint = m.leader;
                self.hang_up(now);
            }
            Message::OrderersChanged(m) => match m.outcome {
                ChangeOutcome::Done => {
                    self.out.push_back(Output::Event(Observation::Decided));
                    self.give_up(now);
                }
                ChangeOutcome::Later(_) => self.hang_up(now),
                ChangeOutcome::Refused(text) => {
                    self.out.push_back(Output::Event(Observation::Note(text)));
                    self.give_up(now);
                }
            },
            _ => self.hang_up(now),
        }
    }
}

impl Process for Operator {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::Connected { conn } if self.conn.is_some_and(|(c, _)| c == conn) => {
                let (cluster, incarnation) = (ClusterId(0), Incarnation(0));
                let hello = Hello { role: Role::Client, cluster, node: 0, slot: 0, incarnation };
                self.out.push_back(Output::Send { conn, bytes: wire::encode(hello) });
                if let Some((change, _)) = &self.wants {
                    let ask = ChangeOrderers { request: 1, change: change.clone() };
                    self.out.push_back(Output::Send { conn, bytes: wire::encode(ask) });
                }
            }
            Input::Frame { conn, bytes } if self.conn.is_some_and(|(c, _)| c == conn) => {
                match wire::decode(bytes) {
                    Ok(packet) => self.answered(now, packet.message),
                    Err(_) => self.hang_up(now),
                }
            }
            Input::Closed { conn } if self.conn.is_some_and(|(c, _)| c == conn) => {
                self.conn = None;
                self.next = now + PAUSE;
            }
            _ => {}
        }
        self.work(now);
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        match self.conn {
            Some((_, since)) => Some((since + PATIENCE, "no answer")),
            // After the storm it only brings to an end what it is about.
            None if self.wants.is_none() && self.next >= self.calm_at => None,
            None => Some((self.next, "the next change")),
        }
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}

/// What is left of an orderer that must not take part any more: nobody.
#[derive(Debug, Default)]
pub struct Ended {
    closing: VecDeque<ConnId>,
}

impl Process for Ended {
    fn handle(&mut self, _now: Instant, input: Input<Infallible>) {
        if let Input::Accepted { conn, .. } = input {
            self.closing.push_back(conn);
        }
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        self.closing.pop_front().map(|conn| Output::Close { conn })
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}
