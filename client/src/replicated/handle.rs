//! How does any program talk to its node? A [`ReplicatedHandle`]: cheap to clone, from any thread. What it is asked comes back as a
//! [`Pending`]: a future that needs no particular runtime, or to be waited for.
//!
//! Two queues lead to the node's thread, one of proposals and one of reads, so that reads go on when the log stands still. Both
//! are bounded, and nobody waits to get in: who finds one full is told `Busy`.

use super::event::{Applied, Figures};
use super::machine::StateMachine;
use super::node::Replicated;
use super::proposals::ProposeError;
use super::queries::{Consistency, QueryError};
use super::record::Writing;
use crate::SharedLog;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use zoolog_core::Gsn;
use zoolog_core::rt::Waker;

/// Proposals, and reads, that may wait for the node's thread.
pub(super) const QUEUE_MAX: usize = 4096;
/// Bytes of proposals that may.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// What will come: a future of any runtime, or a value to be waited for. Dropping it changes nothing: what was asked for is
/// done all the same.
#[must_use = "what was asked for is done, but whether and how is only said here"]
#[derive(Debug)]
pub struct Pending<T, E> {
    answer: Answer<T, E>,
    /// What is so if the node's thread died without an answer.
    lost: fn() -> E,
}

#[derive(Debug)]
enum Answer<T, E> {
    Now(Option<Result<T, E>>),
    Later(oneshot::Receiver<Result<T, E>>),
}

// Nothing in it is pinned.
impl<T, E> Unpin for Pending<T, E> {}

impl<T, E> Pending<T, E> {
    fn now(result: Result<T, E>, lost: fn() -> E) -> Self {
        Self { answer: Answer::Now(Some(result)), lost }
    }

    /// Waits for it, this thread doing nothing else.
    ///
    /// # Errors
    /// As what was asked for says.
    ///
    /// # Panics
    /// On a thread that runs tokio's tasks, which must not be blocked: `await` it there.
    pub fn wait(self) -> Result<T, E> {
        match self.answer {
            Answer::Now(result) => result.expect("not awaited before"),
            Answer::Later(answer) => answer.blocking_recv().unwrap_or_else(|_| Err((self.lost)())),
        }
    }
}

impl<T, E> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lost = self.lost;
        match &mut self.answer {
            Answer::Now(result) => Poll::Ready(result.take().expect("not polled after its end")),
            Answer::Later(answer) => {
                Pin::new(answer).poll(cx).map(|result| result.unwrap_or_else(|_| Err(lost())))
            }
        }
    }
}

/// Where an outcome goes.
pub(super) type Reply<O> = oneshot::Sender<Result<Applied<O>, ProposeError>>;

/// A command that waits for the node's thread.
#[derive(Debug)]
pub(super) struct Proposing<O> {
    pub record: Vec<u8>,
    pub reply: Reply<O>,
}

/// What a read sees of the node.
pub(super) struct View<'a, S> {
    pub state: &'a S,
    pub applied: Gsn,
    pub figures: Figures,
}

/// A read, and where its result goes.
pub(super) type Reading<S> = Box<dyn FnOnce(Result<View<'_, S>, QueryError>) + Send>;

/// Something for the node's thread besides commands.
pub(super) enum Asking<S> {
    Read(Consistency, Reading<S>),
    Snapshot,
}

/// What handles and node see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// There is something in a queue, as far as a glance can tell.
    pub filled: AtomicBool,
    /// Bytes of proposals in their queue.
    pub bytes: AtomicUsize,
    pub waker: OnceLock<Waker>,
    /// Why the node takes nothing more.
    pub ended: OnceLock<String>,
}

impl Shared {
    fn fill(&self) {
        if !self.filled.swap(true, Ordering::SeqCst)
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
        }
    }

    /// Why nothing more is taken.
    pub fn why(&self) -> String {
        self.ended.get().cloned().unwrap_or_else(|| "its thread is gone".into())
    }
}

/// Speaks to a node from any thread.
pub struct ReplicatedHandle<S: StateMachine> {
    shared: Arc<Shared>,
    writing: Writing,
    proposals: SyncSender<Proposing<S::Outcome>>,
    asks: SyncSender<Asking<S>>,
}

impl<S: StateMachine> Clone for ReplicatedHandle<S> {
    fn clone(&self) -> Self {
        let (proposals, asks) = (self.proposals.clone(), self.asks.clone());
        Self { shared: self.shared.clone(), writing: self.writing, proposals, asks }
    }
}

impl<S: StateMachine> std::fmt::Debug for ReplicatedHandle<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicatedHandle").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl<S: StateMachine> ReplicatedHandle<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        writing: Writing,
        proposals: SyncSender<Proposing<S::Outcome>>,
        asks: SyncSender<Asking<S>>,
    ) -> Self {
        Self { shared, writing, proposals, asks }
    }

    /// Proposes a command. What one thread proposes is applied in that order, by all nodes. The outcome comes once the
    /// command is durable in the log and was applied here.
    ///
    /// Never blocks: with 4,096 commands or 64 MiB of them not yet in the log's hands it is [`ProposeError::Busy`].
    pub fn propose(&self, command: &S::Command) -> Pending<Applied<S::Outcome>, ProposeError> {
        let lost = || ProposeError::Unknown("the node's thread died".into());
        let record = match self.writing.command(command) {
            Ok(record) => record,
            Err(e) => return Pending::now(Err(e), lost),
        };
        let bytes = record.len();
        if self.shared.bytes.fetch_add(bytes, Ordering::SeqCst) > QUEUE_BYTES_MAX {
            self.shared.bytes.fetch_sub(bytes, Ordering::SeqCst);
            return Pending::now(Err(ProposeError::Busy), lost);
        }
        let (reply, answer) = oneshot::channel();
        let refused = match self.proposals.try_send(Proposing { record, reply }) {
            Ok(()) => {
                self.shared.fill();
                return Pending { answer: Answer::Later(answer), lost };
            }
            Err(TrySendError::Full(_)) => ProposeError::Busy,
            Err(TrySendError::Disconnected(_)) => ProposeError::Closed(self.shared.why()),
        };
        self.shared.bytes.fetch_sub(bytes, Ordering::SeqCst);
        Pending::now(Err(refused), lost)
    }

    /// Reads the state, at the consistency asked for, on the node's thread, which applies nothing meanwhile: take out what you
    /// need, and think about it elsewhere.
    pub fn read<R: Send + 'static>(
        &self,
        consistency: Consistency,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Pending<R, QueryError> {
        self.view(consistency, |view| read(view.state))
    }

    /// Waits until the command at that position is applied here: another node's outcome is then seen.
    pub fn wait_for(&self, gsn: Gsn) -> Pending<(), QueryError> {
        self.view(Consistency::Since(gsn), |_| ())
    }

    /// Waits until all is applied that was in the log when the node began.
    pub fn caught_up(&self) -> Pending<(), QueryError> {
        self.view(Consistency::Session, |_| ())
    }

    /// Hash of the state, and the first position that it doesn't hold: nodes at equal positions have equal hashes.
    pub fn state_hash(&self, consistency: Consistency) -> Pending<(Gsn, u64), QueryError> {
        self.view(consistency, |view| (view.applied, view.state.state_hash()))
    }

    /// What the node has counted since its start.
    pub fn figures(&self) -> Pending<Figures, QueryError> {
        self.view(Consistency::Session, |view| view.figures)
    }

    /// Has a snapshot taken as soon as can be, unless nothing was applied since the last. Asked for when the queue is full,
    /// it is not.
    pub fn snapshot(&self) {
        if self.asks.try_send(Asking::Snapshot).is_ok() {
            self.shared.fill();
        }
    }

    fn view<R: Send + 'static>(
        &self,
        consistency: Consistency,
        read: impl FnOnce(View<'_, S>) -> R + Send + 'static,
    ) -> Pending<R, QueryError> {
        let lost = || QueryError::Closed("its thread died".into());
        let (reply, answer) = oneshot::channel();
        let reading: Reading<S> = Box::new(move |view| {
            // The state is only lent: a panic leaves nothing half done.
            let read = |view| catch_unwind(AssertUnwindSafe(|| read(view))).map_err(|_| QueryError::Panicked);
            // Who asked may be gone.
            let _ = reply.send(view.and_then(read));
        });
        let refused = match self.asks.try_send(Asking::Read(consistency, reading)) {
            Ok(()) => {
                self.shared.fill();
                return Pending { answer: Answer::Later(answer), lost };
            }
            Err(TrySendError::Full(_)) => QueryError::Busy,
            Err(TrySendError::Disconnected(_)) => QueryError::Closed(self.shared.why()),
        };
        Pending::now(Err(refused), lost)
    }
}

/// What a node shows to reads.
pub(super) fn view<S: StateMachine, L: SharedLog>(node: &Replicated<S, L>) -> View<'_, S> {
    View { state: node.state(), applied: node.applied(), figures: node.figures() }
}
