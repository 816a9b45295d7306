//! How do nodes run as processes of their own? Started, watched, restarted, and ended with us.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use zoolog_core::Instant;
use zoolog_core::rt::{Stop, clock};

/// How often the children are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node that dies is started again after this; twice as long each time it dies within `STEADY`.
const RESTART_FIRST: Duration = Duration::from_millis(50);
const RESTART_MAX: Duration = Duration::from_secs(2);
const STEADY: Duration = Duration::from_secs(5);
/// How long children may take to end when asked.
const GRACE: Duration = Duration::from_secs(5);

/// A node to run.
#[derive(Debug)]
pub struct Node {
    /// Such as `shard-0`.
    pub name: String,
    /// The subcommand that runs it.
    pub kind: &'static str,
    /// Holds its `config.toml`; gets its `pid` and `log`.
    pub folder: PathBuf,
}

struct Running {
    node: Node,
    child: Option<Child>,
    started: Instant,
    restart_at: Instant,
    backoff: Duration,
    held: bool,
}

/// Runs `nodes` until asked to stop. Prints `line` when all have been ready once.
///
/// # Errors
/// If a node can't be started at all.
pub fn run(dir: &Path, nodes: Vec<Node>, stop: &Stop, line: &str, patience: Duration) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| format!("can't find my own binary: {e}"))?;
    let (ready, is_ready) = mpsc::channel();
    let start = clock::now();
    let mut all: Vec<Running> = nodes
        .into_iter()
        .map(|node| Running {
            node,
            child: None,
            started: start,
            restart_at: start,
            backoff: RESTART_FIRST,
            held: false,
        })
        .collect();
    let mut waiting: Option<Vec<String>> = Some(all.iter().map(|r| r.node.name.clone()).collect());
    let mut complained = start;
    let mut outcome = Ok(());
    while !stop.is_stopped() {
        let now = clock::now();
        for running in &mut all {
            if let Err(e) = running.look(now, &program, &ready) {
                outcome = Err(e);
                stop.stop();
            }
        }
        if let Some(names) = &mut waiting {
            while let Ok(name) = is_ready.try_recv() {
                names.retain(|n| *n != name);
            }
            if names.is_empty() {
                println!("{line}");
                waiting = None;
            } else if now.since(complained) > patience {
                complained = now;
                tracing::warn!("not ready yet: {}; see {}/NAME/log", names.join(" "), dir.display());
            }
        }
        pause();
    }
    end(&mut all);
    outcome
}

#[allow(clippy::disallowed_methods, reason = "this thread's work is to look now and then")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

impl Running {
    /// Starts the node if it is due, notices if it has died.
    fn look(&mut self, now: Instant, program: &Path, ready: &mpsc::Sender<String>) -> Result<(), String> {
        if let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) => return Ok(()),
                Ok(Some(status)) => {
                    tracing::warn!(node = %self.node.name, "died ({status}); its last words are in {}", self.log().display());
                }
                Err(e) => return Err(format!("{}: {e}", self.node.name)),
            }
            self.child = None;
            let steady = now.since(self.started) > STEADY;
            self.backoff = if steady { RESTART_FIRST } else { (self.backoff * 2).min(RESTART_MAX) };
            self.restart_at = now + self.backoff;
            return Ok(());
        }
        let held = self.node.folder.join("hold").exists();
        if held != self.held {
            tracing::info!(node = %self.node.name, "{}", if held { "held down" } else { "let go" });
            self.held = held;
        }
        if held || now < self.restart_at {
            return Ok(());
        }
        self.started = now;
        self.child = Some(self.spawn(program, ready.clone())?);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.node.folder.join("log")
    }

    fn spawn(&self, program: &Path, ready: mpsc::Sender<String>) -> Result<Child, String> {
        let wrong = |e: std::io::Error| format!("can't start {}: {e}", self.node.name);
        let log = File::options().create(true).append(true).open(self.log()).map_err(wrong)?;
        let mut command = Command::new(program);
        command.arg(self.node.kind).arg("--config").arg(self.node.folder.join("config.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // SAFETY: prctl and setpgid are async-signal-safe. The child ends with us even if we are killed, and
        // a Ctrl-C at the terminal reaches it through us only.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                libc::setpgid(0, 0);
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(wrong)?;
        std::fs::write(self.node.folder.join("pid"), format!("{}\n", child.id())).map_err(wrong)?;
        let stdout = child.stdout.take().expect("it is piped");
        let name = self.node.name.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with("ready:") {
                    // Nobody listens any more at the end.
                    let _ = ready.send(name.clone());
                }
            }
        });
        Ok(child)
    }

    fn signal(&self, signal: i32) {
        if let Some(child) = &self.child {
            // SAFETY: a plain syscall; the child has not been waited for, so its pid is still its own.
            unsafe { libc::kill(child.id() as i32, signal) };
        }
    }
}

/// Asks all children to end, then makes them.
fn end(all: &mut [Running]) {
    all.iter().for_each(|r| r.signal(libc::SIGTERM));
    let asked = clock::now();
    while all.iter_mut().any(|r| r.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))) {
        if clock::now().since(asked) > GRACE {
            all.iter().for_each(|r| r.signal(libc::SIGKILL));
        }
        pause();
    }
    for running in all {
        // A pid file without its process misleads.
        let _ = std::fs::remove_file(running.node.folder.join("pid"));
    }
}
