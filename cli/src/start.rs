//! What does every command do first? Logs, limits, signals.

use crate::args::LogFormat;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zoolog_core::rt::Stop;

/// Log lines go to stderr, those of `level` and above unless RUST_LOG says otherwise; stdout is for what was asked
/// for.
pub fn logs(format: LogFormat, level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
}

/// Free memory is kept up to this, and taken from the kernel in pieces of a sixteenth: buffers of many sizes come
/// and go with every turn, and giving the last of them back each time costs a system call and page faults.
const KEEP_FREE_BYTES: i32 = 16 << 20;

/// Checks the machine and makes sure that a panic anywhere ends the process: a node that has broken its own
/// rules must not go on with half of its tasks. But for one behind a guard, after which the node says what it was.
///
/// # Errors
/// What is missing, with the cure.
pub fn prepare() -> Result<(), String> {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        if !zoolog_core::guard::is_guarded() {
            std::process::abort();
        }
    }));
    // SAFETY: plain calls, before any other thread runs. Whatever they answer, the allocator works.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP_FREE_BYTES);
        libc::mallopt(libc::M_TOP_PAD, KEEP_FREE_BYTES / 16);
    }
    zoolog_core::rt::preflight::check()
}

/// Whether this process is to begin again when it ends.
static AGAIN: AtomicBool = AtomicBool::new(false);
/// Until it does.
const PAUSE: Duration = Duration::from_secs(1);

/// A node in this process ends with what its next life is without: that is not to wait for a person, nor for whoever
/// watches over processes.
pub fn again_at_the_end() {
    AGAIN.store(true, Ordering::Relaxed);
}

/// Begins again as the process that this is, with the same arguments, if that is wanted. It comes back if it is not, or if
/// that can't be.
#[allow(
    clippy::disallowed_methods,
    reason = "nothing runs any more, and what crashes at once is not to fill the disk with logs"
)]
pub fn again_if_wanted() {
    if !AGAIN.load(Ordering::Relaxed) {
        return;
    }
    std::thread::sleep(PAUSE);
    let Ok(program) = std::env::current_exe() else { return };
    tracing::warn!("starting again");
    let why = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    tracing::error!("could not start again: {why}");
}

/// Stops when SIGINT or SIGTERM comes; a second one ends the process at once.
///
/// # Errors
/// If signals can't be had.
pub fn stop_on_signals() -> Result<Stop, String> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Stop::default();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(|e| e.to_string())?;
    let asked = stop.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (n, _) in signals.forever().enumerate() {
                if n > 0 {
                    std::process::exit(130);
                }
                asked.stop();
            }
        })
        .map_err(|e| e.to_string())?;
    Ok(stop)
}

pub use zoolog_core::rt::random_bytes;
