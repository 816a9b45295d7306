//! How does a client on its own thread hear what to do? Through an inbox with bounded room; records wait in it for
//! the writer's window.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use zoolog_client::{AppendError, LogClient, LogCommand, LogEvent, SharedLog};
use zoolog_core::rt::Waker;
use zoolog_core::{Gsn, Input, Instant, Machine, Output};

/// Bytes of records that may wait for the writer's window.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What the client is to do, and who wakes it.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    room: Condvar,
    /// There is something, as far as a glance can tell.
    filled: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<LogCommand>,
    bytes: usize,
    closed: bool,
    waker: Option<Waker>,
}

fn bytes_of(command: &LogCommand) -> usize {
    match command {
        LogCommand::Append { records } | LogCommand::AppendIf { records, .. } => {
            records.iter().map(|r| r.len() + 64).sum()
        }
        _ => 0,
    }
}

impl Inbox {
    /// Who is to be woken.
    pub fn wakes(&self, waker: Waker) {
        self.waiting.lock().expect("no panic under this lock").waker = Some(waker);
    }

    /// Puts something in, for the client to do when it can; waits until there is room for its records. Whether it will
    /// be done: not after [`Inbox::close`].
    pub fn put(&self, command: LogCommand) -> bool {
        let bytes = bytes_of(&command);
        let mut waiting = self.waiting.lock().expect("no panic under this lock");
        while bytes > 0 && waiting.bytes > WAITING_BYTES_MAX && !waiting.closed {
            waiting = self.room.wait(waiting).expect("no panic under this lock");
        }
        if waiting.closed {
            return false;
        }
        waiting.bytes += bytes;
        waiting.commands.push_back(command);
        self.filled.store(true, Ordering::Release);
        if let Some(waker) = &waiting.waker {
            waker.wake();
        }
        true
    }

    /// Nothing more is to be done, not even what waits. Returns how many records are dropped.
    pub fn close(&self) -> u64 {
        let mut waiting = self.waiting.lock().expect("no panic under this lock");
        waiting.closed = true;
        let records = |command: LogCommand| match command {
            LogCommand::Append { records } | LogCommand::AppendIf { records, .. } => records.len() as u64,
            _ => 0,
        };
        let dropped = waiting.commands.drain(..).map(records).sum();
        waiting.bytes = 0;
        self.filled.store(false, Ordering::Release);
        self.room.notify_all();
        dropped
    }

    fn is_filled(&self) -> bool {
        self.filled.load(Ordering::Acquire)
    }

    fn take(&self) -> Option<LogCommand> {
        let mut waiting = self.waiting.lock().expect("no panic under this lock");
        let command = waiting.commands.pop_front();
        self.filled.store(!waiting.commands.is_empty(), Ordering::Release);
        if let Some(command) = &command {
            waiting.bytes -= bytes_of(command);
            self.room.notify_all();
        }
        command
    }
}

/// The client, with its inbox.
#[derive(Debug)]
pub struct Driven {
    log: LogClient,
    inbox: Arc<Inbox>,
    /// Records that the writer's window had no room for yet.
    held: VecDeque<Bytes>,
    /// Records to be appended together, for which the log is not ready yet.
    together: Option<(Gsn, Vec<Bytes>)>,
    /// Something happened since the inbox was looked at.
    stirred: bool,
    /// The order is known, and that was told.
    told: bool,
}

impl Driven {
    /// One that has done nothing yet.
    pub fn new(log: LogClient, inbox: Arc<Inbox>) -> Self {
        Self { log, inbox, held: VecDeque::new(), together: None, stirred: true, told: false }
    }

    /// Gives the client what it can take. A refused record is its event.
    fn pass_on(&mut self, now: Instant) -> Option<LogEvent> {
        loop {
            while let Some(record) = self.held.front() {
                match self.log.append(record) {
                    Ok(_) => self.held.pop_front(),
                    // Of a writer that has ended it is said why; and of a log.
                    Err(
                        AppendError::Full | AppendError::NotOpen | AppendError::Closed | AppendError::Sealed,
                    ) => return None,
                    Err(error) => {
                        self.held.clear();
                        return Some(LogEvent::AppendFailed { first: 0, error });
                    }
                };
            }
            if let Some((expected, records)) = self.together.take() {
                let refs: Vec<&[u8]> = records.iter().map(|r| &r[..]).collect();
                match self.log.append_if(expected, &refs) {
                    Ok(_) => {}
                    Err(
                        AppendError::Full
                        | AppendError::NotOpen
                        | AppendError::Unsettled
                        | AppendError::Closed
                        | AppendError::Sealed,
                    ) => {
                        self.together = Some((expected, records));
                        return None;
                    }
                    Err(error) => return Some(LogEvent::AppendFailed { first: 0, error }),
                }
            }
            match self.inbox.take()? {
                LogCommand::AppendIf { expected_tail, records } => {
                    self.together = Some((expected_tail, records))
                }
                LogCommand::Append { records } => self.held.extend(records),
                other => self.log.handle(now, Input::Command(other)),
            }
        }
    }
}

impl Machine for Driven {
    type Command = ();
    type Event = LogEvent;

    fn handle(&mut self, now: Instant, input: Input<()>) {
        self.stirred = true;
        if let Some(input) = input.try_map(|()| None) {
            self.log.handle(now, input);
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        loop {
            if std::mem::take(&mut self.stirred)
                && let Some(event) = self.pass_on(now)
            {
                return Some(Output::Event(event));
            }
            match self.log.poll_output(now)? {
                // The first one says that the log is there. Others are no news.
                Output::Event(LogEvent::Progress { .. }) if std::mem::replace(&mut self.told, true) => {}
                output => {
                    // An acknowledgement makes room.
                    self.stirred |=
                        matches!(output, Output::Event(LogEvent::Appended { .. } | LogEvent::Opened { .. }));
                    return Some(output);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        if self.held.is_empty() && self.together.is_none() && self.inbox.is_filled() {
            return Some((Instant(0), "commands"));
        }
        self.log.next_deadline()
    }
}
