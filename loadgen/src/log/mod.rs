//! `loadgen log`: what is a run? Writers, readers or followers, each a machine around a log client of its own,
//! side by side on one executor; a window that all of them measure; for writers a read-back of everything
//! acknowledged.

mod append;
pub mod audit;
mod control;
mod follow;
mod loader;
mod read;
mod verify;

use crate::args::{LogArgs, LogOp};
use crate::checks::Checks;
use crate::clock::{nanos, wall_ms};
use crate::environment::cpu_seconds;
use crate::interrupt::Interrupt;
use crate::objectives::judge;
use crate::payload::Payload;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::{Ending, Report};
use crate::sizes::Sizes;
use crate::stages::Anew;
use crate::{Outcome, finish};
use anyhow::{Context, anyhow, bail};
use append::{Acked, Appender};
use control::{Control, Window};
use follow::Follower;
use loader::{Load, Loader, Measured};
use read::Reader;
use serde_json::json;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use verify::Verifier;
use zoolog_client::{ClientConfig, LogClient};
use zoolog_core::rt::{self, Executor, Job, NodeSpec, Stop, clock};

/// Longest wait for all clients to reach the log.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait for the clients to end behind the window.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// Longest standstill of appends or reads before a run ends with what was measured so far.
const OUTAGE: Duration = Duration::from_secs(5);
/// Longest standstill of the read-back.
const READ_BACK_PATIENCE: Duration = Duration::from_secs(30);
/// How often this thread looks at signals and progress.
const LOOK: Duration = Duration::from_millis(20);

/// Runs it.
///
/// # Errors
/// Why nothing could be measured.
pub fn run(args: &LogArgs) -> anyhow::Result<Outcome> {
    rt::preflight::check().map_err(|e| anyhow!(e))?;
    let started_ms = wall_ms();
    let interrupt = Interrupt::install().context("installing signal handlers")?;
    let control = Arc::new(Control::default());
    let run_id = (started_ms as u32).wrapping_mul(0x9e37_79b1) ^ std::process::id();
    let progress = Progress::new();
    let mut run =
        Run { args, interrupt: &interrupt, progress, control, run_id, cpu_seconds: 0.0, trouble: None };
    let measured = match args.op {
        LogOp::Append => run.append(),
        LogOp::Read => {
            run.measure(|index, control| Reader::new(index, control, args)).map(Measured::merge_all)
        }
        LogOp::Follow => run.measure(|_, control| Follower::new(control)).map(Measured::merge_all),
    };
    run.progress.end();
    let (processor_seconds, trouble) = (run.cpu_seconds, run.trouble);
    let measured = match measured {
        Ok(Some(measured)) => measured,
        Ok(None) => bail!("no client came to its end"),
        Err(e) if interrupt.is_set() => {
            eprintln!("interrupted before anything was measured ({e:#})");
            return Ok(Outcome::Interrupted);
        }
        Err(e) => return Err(e),
    };
    let ending = Ending { trouble, interrupted: interrupt.is_set(), lagged: None };
    report(args, started_ms, processor_seconds, measured, ending)
}

struct Run<'a> {
    args: &'a LogArgs,
    interrupt: &'a Interrupt,
    progress: Progress,
    control: Arc<Control>,
    run_id: u32,
    /// That this process took for the load.
    cpu_seconds: f64,
    /// Why the load ended before its time, if the log made it.
    trouble: Option<String>,
}

impl Run<'_> {
    /// Appends, then reads back.
    fn append(&mut self) -> anyhow::Result<Option<Measured>> {
        let (args, run_id) = (self.args.clone(), self.run_id);
        let results = self.measure(|index, control| Appender::new(index, &args, run_id, control))?;
        let (measured, acked): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        let mut all = Measured::merge_all(measured);
        if let Some(all) = &mut all
            && acked.iter().any(|a: &Acked| !a.batches.is_empty())
            && self.trouble.is_none()
        {
            self.read_back(acked, &mut all.checks)?;
        }
        Ok(all)
    }

    /// Follows the log over everything that was acknowledged.
    fn read_back(&mut self, acked: Vec<Acked>, checks: &mut Checks) -> anyhow::Result<()> {
        self.progress.say("reading back what was acknowledged");
        let payload = Payload::new(self.run_id, Sizes::Fixed(self.args.size));
        let control = Arc::new(Control::default());
        let verifier = Verifier::new(acked, payload, control.clone());
        let mut clients = Clients::start(&self.args.orderers, vec![verifier])?;
        let (mut last, mut since_ns) = (0, clock::now().0);
        loop {
            // A first signal ends the load, not its verification; a second one ends everything at once.
            if let Some(found) = clients.next(LOOK)? {
                checks.merge(found);
                break;
            }
            let so_far = control.answered();
            if so_far != last {
                (last, since_ns) = (so_far, clock::now().0);
            } else if clock::now().0 - since_ns > nanos(READ_BACK_PATIENCE) {
                checks.fail(verify::ALL_THERE, || format!("nothing more to read after {so_far} records"));
                break;
            }
        }
        clients.end()
    }

    /// Runs one load per writer over the window.
    fn measure<L: Load + Send + 'static>(
        &mut self,
        make: impl Fn(u32, Arc<Control>) -> L,
    ) -> anyhow::Result<Vec<L::Result>>
    where
        L::Result: Send,
    {
        let n = self.args.writers;
        self.progress.say("connecting");
        let loads = (0..n).map(|i| make(i, self.control.clone())).collect();
        let mut clients = Clients::start(&self.args.orderers, loads)?;
        let began_ns = clock::now().0;
        while self.control.ready() < n {
            if let Some(_early) = clients.next(LOOK)? {
                bail!("a client ended before the start");
            }
            if self.interrupt.is_set() || clock::now().0 - began_ns > nanos(READY_PATIENCE) {
                let orderers = self.args.orderers.join(",");
                bail!(
                    "{} of {n} clients reached the log: do orderers serve at {orderers}?",
                    self.control.ready()
                );
            }
        }
        let window = Window::from(clock::now().0, &self.args.run);
        self.control.open(window);
        self.progress.start(window.end_ns - window.start_ns);
        let before = cpu_seconds();
        let mut stages = Anew::of(&self.args.run);
        let (mut results, mut last) = (Vec::new(), (0, window.start_ns));
        while results.len() < n as usize {
            results.extend(clients.next(LOOK)?);
            let now_ns = clock::now().0;
            stages.tell(now_ns >= window.measure_ns)?;
            if self.control.answered() != last.0 {
                last = (self.control.answered(), now_ns);
            }
            // A follower may wait for others to append; writers and readers are always answered.
            let silent_ns = now_ns.saturating_sub(last.1);
            if self.args.op != LogOp::Follow && now_ns < window.end_ns && silent_ns > nanos(OUTAGE) {
                let orderers = self.args.orderers.join(",");
                self.trouble.get_or_insert(format!(
                    "the log has answered nothing for {} s: are the data servers and a majority of the orderers \
                     ({orderers}) alive? Their logs say why",
                    OUTAGE.as_secs()
                ));
            }
            if self.interrupt.is_set() || self.trouble.is_some() {
                self.control.cut(now_ns);
            }
            self.progress.at(now_ns.saturating_sub(window.start_ns), self.control.answered());
            if now_ns > window.end_ns + nanos(END_PATIENCE) {
                bail!("only {} of {n} clients came to their end", results.len());
            }
        }
        self.cpu_seconds = cpu_seconds() - before;
        clients.end()?;
        Ok(results)
    }
}

/// Machines on their executor, and what they send when they have come to their end.
struct Clients<R> {
    executor: Option<Executor>,
    stop: Stop,
    results: mpsc::Receiver<R>,
}

impl<R: Send + 'static> Clients<R> {
    fn start<L: Load<Result = R> + Send + 'static>(
        orderers: &[String],
        loads: Vec<L>,
    ) -> anyhow::Result<Self> {
        let (sender, results) = mpsc::channel();
        let stop = Stop::default();
        let mut jobs: Vec<Job> = Vec::new();
        for (i, load) in loads.into_iter().enumerate() {
            let cfg = ClientConfig { orderers: orderers.to_vec(), ..ClientConfig::default() };
            let (seed, sender) = (random_seed()?, sender.clone());
            let spec = NodeSpec {
                name: format!("client-{i}"),
                listener: None,
                framing: rt::node_framing,
                frame_limit: zoolog_core::limits::FRAME_BYTES_MAX,
                disk: None,
                snapshots: None,
                gives: None,
                stop: stop.clone(),
            };
            jobs.push(Box::new(move |host| {
                let machine = Loader::new(LogClient::new(cfg, seed, clock::now()), load);
                host.run(machine, spec, move |result| {
                    let _ = sender.send(result); // nobody listens any more after an interrupt
                    Ok(())
                })
            }));
        }
        let executor = Executor::start("loadgen", Duration::ZERO, jobs).map_err(|e| anyhow!(e))?;
        Ok(Self { executor: Some(executor), stop, results })
    }

    /// The next result, if one comes in time.
    fn next(&mut self, patience: Duration) -> anyhow::Result<Option<R>> {
        match self.results.recv_timeout(patience) {
            Ok(result) => Ok(Some(result)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                self.end()?;
                bail!("the clients ended")
            }
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.stop.stop();
        match self.executor.take() {
            Some(executor) => executor.join().map_err(|e| anyhow!(e)),
            None => Ok(()),
        }
    }
}

impl<R> Drop for Clients<R> {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(executor) = self.executor.take() {
            let _ = executor.join(); // on the way out of a failure that is already known
        }
    }
}

/// A writer's id follows from its seed, and none may come twice in a cluster's life: so real chance.
fn random_seed() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut seed = [0; 8];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut seed)).context("/dev/urandom")?;
    Ok(u64::from_le_bytes(seed))
}

fn report(
    args: &LogArgs,
    started_ms: u64,
    cpu_seconds: f64,
    measured: Measured,
    ending: Ending,
) -> anyhow::Result<Outcome> {
    let Measured { recorder, checks, unknown, never_begun, begun_late, pause_of_one, mut warnings } =
        measured;
    if never_begun > 0 || begun_late > recorder.answered_ever() / 100 {
        warnings.push(format!(
            "the rate was not kept up: {begun_late} records were appended more than 10 ms late, {never_begun} never were"
        ));
    }
    if recorder.seconds() > 0.0 && cpu_seconds > 0.9 * recorder.seconds() {
        warnings.push("the generator was busy all the time: it may be what was measured".to_owned());
    }
    let settings = json!({
        "target": "log", "orderers": args.orderers, "op": format!("{:?}", args.op).to_lowercase(),
        "writers": args.writers, "depth": args.depth, "ranges": args.ranges, "size_bytes": args.size,
        "rate_per_second": args.run.rate, "duration_seconds": args.run.duration.as_secs_f64(),
        "warmup_seconds": args.run.warmup.as_secs_f64(),
    });
    let counts = json!({
        "unknown": unknown, "never_begun": never_begun, "begun_late": begun_late, "load_cpu_seconds": cpu_seconds,
        "longest_pause_of_one_ms": pause_of_one.ms, "longest_pause_of_one_at_seconds": pause_of_one.at_seconds,
    });
    let report = Report {
        recorder: &recorder,
        checks: &checks,
        settings,
        counts,
        started_ms,
        warnings: &warnings,
        ending,
        objectives: judge(&args.run.slo, &recorder),
        stages: Vec::new(),
    };
    let title = format!("log {:?}, {} writers x {}", args.op, args.writers, args.depth).to_lowercase();
    finish(report, &args.run, &[], &title)
}

/// A recorder for one kind of operation.
fn recorder(name: &'static str, open_loop: bool) -> Recorder {
    Recorder::new(&[name], open_loop)
}
