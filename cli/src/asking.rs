//! How does another thread ask a ZooKeeper node how it is? Its questions go into a queue that the node's executor looks
//! into at the beginning of a turn, as one input more; the node's answer comes back as an event.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use zoolog_core::rt::Waker;
use zoolog_core::{Input, Instant, Machine, Output};
use zoolog_zk::node::{About, NodeCommand, NodeEvent, Report};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    /// Questions in the queue.
    waiting: AtomicUsize,
    waker: OnceLock<Waker>,
}

type Answer = (u64, Arc<Report>);

/// Who asks. One question at a time: while one is not answered, there is no other.
#[derive(Debug)]
pub struct Asking {
    shared: Arc<Shared>,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    questions: Sender<(u64, About)>,
    answers: Receiver<Answer>,
    last: u64,
    answered: u64,
}

/// The node's side: where questions come from, and where answers go.
#[derive(Debug)]
pub struct Asked {
    shared: Arc<Shared>,
    questions: Receiver<(u64, About)>,
    answers: Sender<Answer>,
}

/// Both sides.
pub fn line() -> (Asking, Asked) {
    let shared = Arc::new(Shared::default());
    let (ask, questions) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let line = Mutex::new(Line { questions: ask, answers, last: 0, answered: 0 });
    (Asking { shared: shared.clone(), line }, Asked { shared, questions, answers: answer })
}

impl Asking {
    /// What the node says; `None` if it doesn't in time.
    ///
    /// # Panics
    /// Never: a panic anywhere ends the process.
    pub fn ask(&self, about: About) -> Option<Arc<Report>> {
        let mut line = self.line.lock().expect("a panic ends the process");
        if line.answered < line.last {
            line.next()?; // the node was too slow the last time, and still may be
        }
        line.last += 1;
        let question = (line.last, about);
        line.questions.send(question).ok()?;
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        if let Some(waker) = self.shared.waker.get() {
            waker.wake();
        }
        line.next()
    }
}

impl Line {
    fn next(&mut self) -> Option<Arc<Report>> {
        let (ask, report) = self.answers.recv_timeout(PATIENCE).ok()?;
        assert_eq!(ask, self.last, "one question at a time");
        self.answered = ask;
        Some(report)
    }
}

impl Asked {
    /// Where the node's answers go.
    pub fn answers(&self) -> Sender<Answer> {
        self.answers.clone()
    }

    /// `machine` is asked, on the thread of `waker`.
    ///
    /// # Panics
    /// When it has begun before.
    pub fn take<M>(self, machine: M, waker: Waker) -> Answering<M> {
        self.shared.waker.set(waker).expect("a node has one thread");
        Answering { machine, asked: self }
    }
}

/// A node that is asked.
#[derive(Debug)]
pub struct Answering<M> {
    machine: M,
    asked: Asked,
}

impl<M: Machine<Command = NodeCommand, Event = NodeEvent>> Machine for Answering<M> {
    type Command = NodeCommand;
    type Event = NodeEvent;

    fn handle(&mut self, now: Instant, input: Input<NodeCommand>) {
        if self.asked.shared.waiting.load(Ordering::SeqCst) > 0
            && let Ok((ask, about)) = self.asked.questions.try_recv()
        {
            self.asked.shared.waiting.fetch_sub(1, Ordering::SeqCst);
            self.machine.handle(now, Input::Command(NodeCommand::Report { ask, about }));
        }
        self.machine.handle(now, input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<NodeEvent>> {
        self.machine.poll_output(now)
    }

    fn sent(&mut self, now: Instant) {
        self.machine.sent(now);
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.asked.shared.waiting.load(Ordering::SeqCst) > 0 {
            return Some((Instant(0), "a question"));
        }
        self.machine.next_deadline()
    }

    fn farewell(&mut self, now: Instant) -> bool {
        self.machine.farewell(now)
    }

    fn checkpoint(&self) -> bytes::Bytes {
        self.machine.checkpoint()
    }
}
