//! What does every command do first? Logs, limits, signals.

use crate::args::LogFormat;
use std::io::IsTerminal;
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
/// rules must not go on with half of its tasks.
///
/// # Errors
/// What is missing, with the cure.
pub fn prepare() -> Result<(), String> {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        std::process::abort();
    }));
    // SAFETY: plain calls, before any other thread runs. Whatever they answer, the allocator works.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP_FREE_BYTES);
        libc::mallopt(libc::M_TOP_PAD, KEEP_FREE_BYTES / 16);
    }
    zoolog_core::rt::preflight::check()
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
