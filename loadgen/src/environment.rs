//! On what did it run? Kernel, processor, cores, memory and commit, as far as they can be found out.

use serde::Serialize;
use std::process::Command;

/// The machine and the code.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Commit of the working directory's repository, with `-dirty` if files were changed; null outside one.
    pub commit: Option<String>,
    /// Version of this program.
    pub version: &'static str,
    /// The command line.
    pub command: Vec<String>,
}

impl Environment {
    /// Looks around.
    pub fn of_this_process() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|v| v.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0);
        Self {
            host: read("/proc/sys/kernel/hostname").trim().to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_kib * 1024,
            commit: commit(),
            version: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
        }
    }
}

fn commit() -> Option<String> {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// Processor seconds this process has used.
pub fn cpu_seconds() -> f64 {
    cpu_seconds_of("self")
}

/// Processor seconds that the process `pid` has used; 0 if there is none.
pub fn cpu_seconds_of(pid: &str) -> f64 {
    // utime and stime are the 14th and 15th field; the second one, in parentheses, may hold spaces.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0 // USER_HZ, 100 on every Linux there is
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        let e = Environment::of_this_process();
        assert!(e.cores > 0 && e.memory_bytes > 0 && !e.kernel.is_empty() && !e.command.is_empty());
    }

    #[test]
    fn processor_time_grows_with_work() {
        let before = cpu_seconds();
        let mut x = 1u64;
        while cpu_seconds() - before < 0.02 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_seconds() > before);
    }
}
