//! Where does the work run? glommio executors, one thread each, and the thread that keeps them awake.

use super::clock;
use futures_lite::future::FutureExt;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Work for an executor: made on it, since its future need not be `Send`.
pub type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), String>>>> + Send>;

/// How often an executor is woken in case it sleeps on runnable tasks (see [`keep_awake`]): the pace, and the
/// inputs per second from which on it holds.
const BUMP_CROWDED: (Duration, u64) = (Duration::from_millis(5), 20_000);
const BUMP_BUSY: (Duration, u64) = (Duration::from_millis(50), 500);
const BUMP_IDLE: Duration = Duration::from_millis(250);
/// Memory per executor that is registered with io_uring; three times this is locked.
const IO_MEMORY_BYTES: usize = 1 << 20;

thread_local! {
    static INPUTS: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

/// Told by every pump at every turn: what it was given to do.
pub(super) fn count_inputs(n: usize) {
    if let Some(inputs) = INPUTS.get() {
        inputs.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// A running executor.
#[derive(Debug)]
pub struct Executor {
    thread: glommio::ExecutorJoinHandle<Result<(), String>>,
}

/// Asks running jobs to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    stopped: AtomicBool,
    waiters: Mutex<Vec<Waker>>,
}

impl Stop {
    /// Asks for the end.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let waiters = std::mem::take(&mut *self.0.waiters.lock().expect("no panic under this lock"));
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Whether it was asked for.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Returns when it is asked for.
    pub async fn wait(&self) {
        let mut registered = false;
        poll_fn(|cx| {
            if self.is_stopped() {
                return Poll::Ready(());
            }
            if !registered {
                self.0.waiters.lock().expect("no panic under this lock").push(cx.waker().clone());
                registered = true;
                if self.is_stopped() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }
}

impl Executor {
    /// Starts a thread that runs `jobs` side by side until all have ended or one fails.
    ///
    /// # Errors
    /// If the thread can't be made.
    pub fn start(name: &str, jobs: Vec<Job>) -> Result<Self, String> {
        // Unbound: steadier than pinning wherever others share the cores, and many nodes per core are usual.
        let thread = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
            .name(name)
            .io_memory(IO_MEMORY_BYTES)
            .ring_depth(256)
            .spawn(move || async move {
                let _awake = keep_awake();
                let tasks: Vec<_> = jobs.into_iter().map(|job| glommio::spawn_local(job())).collect();
                let mut all: Pin<Box<dyn Future<Output = Result<(), String>>>> = Box::pin(async { Ok(()) });
                for task in tasks {
                    all = Box::pin(async { futures_lite::future::try_zip(all, task).await.map(|_| ()) });
                }
                all.await
            })
            .map_err(|e| format!("can't start an executor: {e}"))?;
        Ok(Self { thread })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Of the first job that failed, or of the executor itself.
    pub fn join(self) -> Result<(), String> {
        self.thread.join().map_err(|e| format!("an executor failed: {e}"))?
    }
}

/// What keeps one executor awake; ends when dropped.
struct Awake(Arc<Bumped>);

struct Bumped {
    waker: Mutex<Option<Waker>>,
    ended: AtomicBool,
    /// Inputs so far, and as of the last look.
    inputs: &'static AtomicU64,
    seen: AtomicU64,
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

/// glommio 0.9.0 can park an executor that has runnable tasks: its loop takes "preempted before anything
/// ran" for "nothing to run". A wake from another thread always reaches it, so a thread of ours sends one: often
/// where it is crowded, which the flaw needs, seldom elsewhere, so that idle nodes cost nothing to speak of.
fn keep_awake() -> Awake {
    let inputs: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0))); // one per executor, for ever
    INPUTS.set(Some(inputs));
    let (waker, ended, seen) = (Mutex::default(), AtomicBool::new(false), AtomicU64::new(0));
    let bumped = Arc::new(Bumped { waker, ended, inputs, seen });
    let task = bumped.clone();
    glommio::spawn_local(poll_fn(move |cx| {
        let mut waker = task.waker.lock().expect("no panic under this lock");
        if waker.is_none() {
            *waker = Some(cx.waker().clone());
        }
        Poll::<()>::Pending
    }))
    .detach();
    BUMPER.with_all(|all| all.push(bumped.clone()));
    Awake(bumped)
}

/// The one bumping thread of the process.
struct Bumper(Mutex<Vec<Arc<Bumped>>>, std::sync::Once);
static BUMPER: Bumper = Bumper(Mutex::new(Vec::new()), std::sync::Once::new());

impl Bumper {
    fn with_all(&'static self, f: impl FnOnce(&mut Vec<Arc<Bumped>>)) {
        f(&mut self.0.lock().expect("no panic under this lock"));
        self.1.call_once(|| {
            std::thread::Builder::new().name("bumper".into()).spawn(|| self.run()).expect("a thread");
        });
    }

    #[allow(clippy::disallowed_methods, reason = "a thread of its own, whose work is to wait")]
    fn run(&self) {
        let mut looked = clock::now();
        loop {
            let all: Vec<_> = {
                let mut all = self.0.lock().expect("no panic under this lock");
                all.retain(|b| !b.ended.load(Ordering::SeqCst));
                all.clone()
            };
            let now = clock::now();
            let passed_ns = u64::try_from(now.since(looked).as_nanos()).unwrap_or(u64::MAX).max(1);
            looked = now;
            let mut pace = BUMP_IDLE;
            for b in &all {
                let inputs = b.inputs.load(Ordering::Relaxed);
                let new = inputs - b.seen.swap(inputs, Ordering::Relaxed);
                let per_second = u128::from(new) * 1_000_000_000 / u128::from(passed_ns);
                for (faster, from) in [BUMP_BUSY, BUMP_CROWDED] {
                    if per_second >= u128::from(from) {
                        pace = pace.min(faster);
                    }
                }
                if let Some(waker) = &*b.waker.lock().expect("no panic under this lock") {
                    waker.wake_by_ref();
                }
            }
            std::thread::sleep(pace);
        }
    }
}

/// Waits for `future` at most `time`; `None` if it took longer.
pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    async { Some(future.await) }
        .or(async {
            glommio::timer::sleep(time).await;
            None
        })
        .await
}
