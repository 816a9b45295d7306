//! How does a command talk to the log? The log's client runs on a thread of its own; the command hands it what it
//! wants, and takes what it says, one after the other.
//!
//! Both ways are bounded. What the client says waits for the command to take it, and then the client waits: it takes
//! nothing from the servers meanwhile, who send it no more than it has credit for. Records to be appended wait
//! for room in the writer's window, and then who reads them waits.

use super::driven::{Driven, Inbox};
use super::interrupt::Interrupt;
use crate::args::Place;
use crate::exit::{Code, Failure};
use crate::{start, status};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use zoolog_client::{ClientConfig, LogClient, LogCommand, LogEvent, SharedLog};
use zoolog_core::rt::{self, Executor, Job, NodeSpec, Stop, clock};
use zoolog_core::{Gsn, WriterId};

/// What the client said that may wait to be taken: batches, or answers of a few megabytes.
const SAID_MAX: usize = 16;
/// How often a command that waits looks whether it was interrupted, or nobody reads it any more.
pub const LOOK: Duration = Duration::from_millis(100);

/// What a command hears.
#[derive(Debug)]
pub enum Said {
    /// From the log.
    Log(LogEvent),
    /// From who reads the records to be appended: no more come; why, if not because that was all.
    InputEnded(Result<(), Failure>),
}

/// A log client on its thread.
#[derive(Debug)]
pub struct Session {
    orderers: Vec<String>,
    writer: WriterId,
    patience: Duration,
    inbox: Arc<Inbox>,
    said: Receiver<Said>,
    teller: SyncSender<Said>,
    stop: Stop,
    executor: Option<Executor>,
    tags: u64,
}

impl Session {
    /// Starts a client of the cluster at `place`. It gives up on what makes no progress for `patience`.
    ///
    /// # Errors
    /// If there is no such place, or this machine can't run a client.
    pub fn start(place: &Place, patience: Duration) -> Result<Self, Failure> {
        Self::start_as(place, patience, None, None)
    }

    /// The same, under a name, which is taken over only if it ends where it is expected to.
    ///
    /// # Errors
    /// As [`Session::start`].
    pub fn start_as(
        place: &Place,
        patience: Duration,
        name: Option<String>,
        expected_tail: Option<Gsn>,
    ) -> Result<Self, Failure> {
        let orderers = place.orderers()?;
        rt::preflight::check()?;
        let cfg = ClientConfig {
            orderers: orderers.clone(),
            read_patience: patience,
            name,
            expected_tail,
            ..ClientConfig::default()
        };
        // A writer's id follows from its seed, and none may come twice in a cluster's life: so real chance.
        let seed = u64::from_le_bytes(start::random_bytes()?);
        let (inbox, stop) = (Arc::new(Inbox::default()), Stop::default());
        let (teller, said) = sync_channel(SAID_MAX);
        let spec = NodeSpec {
            name: "log".into(),
            listener: None,
            framing: rt::node_framing,
            frame_limit: zoolog_core::limits::FRAME_BYTES_MAX,
            disk: None,
            snapshots: None,
            gives: None,
            stop: stop.clone(),
        };
        let (tell, its_inbox) = (teller.clone(), inbox.clone());
        let (to_wake, woken) = mpsc::channel();
        let job: Job = Box::new(move |host| {
            let client = LogClient::new(cfg, seed, clock::now());
            let _ = to_wake.send((host.waker(), client.writer())); // it waits for it
            let machine = Driven::new(client, its_inbox);
            host.run(machine, spec, move |event| {
                let _ = tell.send(Said::Log(event)); // nobody listens any more at the end
                Ok(())
            })
        });
        let executor = Executor::start("log", Duration::ZERO, vec![job])?;
        let Ok((waker, writer)) = woken.recv() else {
            return Err(executor.join().err().unwrap_or("the client's thread ended".into()).into());
        };
        inbox.wakes(waker);
        Ok(Self { orderers, writer, patience, inbox, said, teller, stop, executor: Some(executor), tags: 0 })
    }

    /// Where records to be appended are put, and where to say that there are no more.
    pub fn input(&self) -> (Arc<Inbox>, SyncSender<Said>) {
        (self.inbox.clone(), self.teller.clone())
    }

    /// Has the client do something.
    pub fn ask(&self, command: LogCommand) {
        self.inbox.put(command);
    }

    /// A number for a question.
    pub fn tag(&mut self) -> u64 {
        self.tags += 1;
        self.tags
    }

    /// Who writes what is appended here; of one with a name `Opened` tells.
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// How long to wait without progress.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The next that was said, if it comes within [`LOOK`].
    ///
    /// # Errors
    /// If the client's thread has ended: this machine's fault.
    pub fn next(&mut self) -> Result<Option<Said>, Failure> {
        match self.said.recv_timeout(LOOK) {
            Ok(said) => Ok(Some(said)),
            Err(RecvTimeoutError::Timeout) if self.executor.as_ref().is_none_or(Executor::has_ended) => {
                let outcome = self.executor.take().map_or(Ok(()), Executor::join);
                Err(outcome.err().unwrap_or("the client's thread ended".into()).into())
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender"),
        }
    }

    /// The next that was said, if it is there already.
    pub fn at_once(&mut self) -> Option<Said> {
        self.said.try_recv().ok()
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// If nobody can say, or the command was interrupted.
    pub fn tail(&mut self, interrupt: &Interrupt) -> Result<Gsn, Failure> {
        let tag = self.tag();
        self.ask(LogCommand::Tail { tag });
        let since = clock::now();
        loop {
            match self.next()? {
                Some(Said::Log(LogEvent::Tail { gsn, .. })) => return Ok(gsn),
                _ if clock::now().since(since) > self.patience => return Err(self.unavailable()),
                _ => interrupt.check()?,
            }
        }
    }

    /// Why nothing comes: asks around who is there.
    pub fn unavailable(&self) -> Failure {
        let seconds = self.patience.as_secs_f64();
        let said: Vec<_> = self.orderers.iter().map(|addr| (addr, status::ask(addr))).collect();
        let text = if said.iter().all(|(_, answer)| answer.is_err()) {
            let each: Vec<_> = said.into_iter().filter_map(|(_, answer)| answer.err()).collect();
            format!(
                "no orderer answers ({}): are they running, and are these their addresses?",
                each.join("; ")
            )
        } else if !said.iter().any(|(_, answer)| answer.as_ref().is_ok_and(|a| a["leader"] == true)) {
            let there = said.iter().filter(|(_, answer)| answer.is_ok()).count();
            format!(
                "{there} of {} orderers answer, but none leads: a majority of them must run; their logs say why \
                 one doesn't",
                said.len()
            )
        } else {
            "the orderers are there, but a data server that is needed doesn't answer: `zoolog admin servers` \
             tells which"
                .to_owned()
        };
        Failure::new(Code::Unavailable, format!("no progress within {seconds} s: {text}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inbox.close();
        self.stop.stop();
        // Its thread may wait for us to take what it says.
        let (_, nothing) = sync_channel(0);
        drop(std::mem::replace(&mut self.said, nothing));
        if let Some(executor) = self.executor.take() {
            let _ = executor.join(); // the command's outcome is known already
        }
    }
}
