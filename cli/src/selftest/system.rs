//! What does this machine grant us? Kernel, io_uring, limits, cores, memory settings.

use super::{Item, Verdict};
use serde_json::json;
use std::fs::read_to_string;
use zoolog_core::rt::preflight;

/// `io_uring_setup` flags.
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
/// Words of `struct io_uring_params`: where flags go in and features come out.
const PARAMS_WORDS: usize = 30;
const FLAGS: usize = 2;
const FEATURES: usize = 5;
/// Files that may be open, below which many connections don't fit.
const FILES_WANTED: u64 = 65_536;

pub(super) fn items() -> Vec<Item> {
    // The checks raise the limits as far as they may, as they do for a node.
    vec![startup(), io_uring(), limits(), cores(), memory()]
}

/// What every node checks when it starts.
fn startup() -> Item {
    match preflight::check() {
        Ok(()) => Item::new("start-up checks", "passed", json!({ "error": null })),
        Err(e) => Item::new("start-up checks", "a node would refuse to start", json!({ "error": e })).unless(
            true,
            Verdict::Unfit,
            e,
        ),
    }
}

fn io_uring() -> Item {
    let kernel = read("/proc/sys/kernel/osrelease");
    let features = ring(0);
    let deferred = ring(SINGLE_ISSUER | DEFER_TASKRUN).is_ok();
    let values = json!({
        "kernel": kernel, "available": features.is_ok(), "defer_taskrun": deferred,
        "features_hex": features.as_ref().ok().map(|f| format!("{f:#x}")),
    });
    let text = match &features {
        Ok(bits) => format!(
            "kernel {kernel}, features {bits:#x}, DEFER_TASKRUN {}",
            if deferred { "yes" } else { "no" }
        ),
        Err(e) => format!("kernel {kernel}, no ring: {e}"),
    };
    Item::new("io_uring", text, values)
        .unless(features.is_err(), Verdict::Unfit, "no ring can be made: see the start-up checks")
        .unless(
            features.is_ok() && !deferred,
            Verdict::Slow,
            "without DEFER_TASKRUN completions interrupt the thread at any time: Linux 6.1 or newer has it",
        )
}

/// Makes a small ring and closes it: its features, or why there is none.
fn ring(flags: u32) -> Result<u32, std::io::Error> {
    let mut params = [0u32; PARAMS_WORDS];
    params[FLAGS] = flags;
    // SAFETY: the kernel reads and fills at most the 120 bytes of its struct.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8u32, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor this function just got.
    unsafe { libc::close(fd as i32) };
    Ok(params[FEATURES])
}

fn limits() -> Item {
    let (files, files_hard) = limit(libc::RLIMIT_NOFILE);
    let (memlock, memlock_hard) = limit(libc::RLIMIT_MEMLOCK);
    let count = |n: u64| if n == libc::RLIM_INFINITY { "unlimited".to_string() } else { n.to_string() };
    let kib =
        |n: u64| if n == libc::RLIM_INFINITY { "unlimited".to_string() } else { format!("{} KiB", n >> 10) };
    let values = json!({
        "files": files, "files_hard": files_hard, "memlock_bytes": memlock, "memlock_hard_bytes": memlock_hard,
    });
    let text = format!(
        "files {} (hard {}), locked memory {} (hard {})",
        count(files),
        count(files_hard),
        kib(memlock),
        kib(memlock_hard)
    );
    Item::new("limits", text, values).unless(
        files_hard < FILES_WANTED,
        Verdict::Slow,
        format!(
            "at most {} connections and files at once: raise it with `ulimit -Hn {FILES_WANTED}` or LimitNOFILE",
            count(files_hard)
        ),
    )
}

/// (soft, hard) limit.
fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a plain call on a local struct.
    unsafe { libc::getrlimit(resource, &mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

fn cores() -> Item {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let driver = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver");
    let shown = if governor.is_empty() { "not visible, as in most virtual machines" } else { &governor };
    // The pstate drivers in active mode call their usual, demand-driven mode `powersave`.
    let sleepy = governor == "powersave" && !driver.contains("pstate");
    let halfway = governor == "powersave" && driver.contains("pstate");
    Item::new(
        "cores",
        format!("{cores}, governor {shown}"),
        json!({ "cores": cores, "governor": governor, "driver": driver }),
    )
    .unless(cores < 2, Verdict::Slow, "one core: load, nodes and kernel take turns on it")
    .unless(
        sleepy || halfway,
        Verdict::Slow,
        format!("the governor {governor} keeps the clock low between requests: `cpupower frequency-set -g performance`"),
    )
}

fn memory() -> Item {
    let huge = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let swap_kib = meminfo("SwapTotal:");
    let available_kib = meminfo("MemAvailable:");
    let always = huge.contains("[always]");
    let chosen = huge.split(['[', ']']).nth(1).unwrap_or("absent");
    Item::new(
        "memory",
        format!("{} MiB available, swap {} MiB, huge pages {chosen}", available_kib >> 10, swap_kib >> 10),
        json!({ "available_kib": available_kib, "swap_kib": swap_kib, "transparent_huge_pages": chosen }),
    )
    .unless(available_kib < 1 << 20, Verdict::Slow, "below 1 GiB a tree of some size does not fit")
    .unless(
        swap_kib > 0,
        Verdict::Slow,
        "a node whose pages are swapped out stands still for as long as the disk takes: `swapoff -a`, or vm.swappiness=1",
    )
    .unless(
        always,
        Verdict::Slow,
        "the kernel may stand still to make huge pages: \
         `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`",
    )
}

/// A figure of /proc/meminfo, KiB; 0 if there is none.
fn meminfo(key: &str) -> u64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A file of the kernel's, empty if there is none.
fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default().trim().to_string()
}
