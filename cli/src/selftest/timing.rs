//! How steady is time here, and how soon does one thread hear another? Clocks, standstills, wake-ups, the loopback.

use super::{Item, Spread, Verdict};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::time::Duration;
use zoolog_core::rt::clock;

/// Nanoseconds in a second.
const SECOND_NS: i64 = 1_000_000_000;
/// What counts as one moment.
const MOMENT_NS: i64 = 100_000;
/// How long clocks and standstills are watched.
const WATCH: Duration = Duration::from_secs(4);
/// How long each kind of round trip is measured at most, and how often.
const TRIPS: Duration = Duration::from_secs(3);
const TRIPS_MAX: usize = 20_000;
const NAP: Duration = Duration::from_millis(1);
/// Clock sources that are read without asking the kernel.
const QUICK: [&str; 4] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
/// What the wall clock may differ from the steady one within the watch.
const JUMP_US: f64 = 5_000.0;
const READ_SLOW_NS: f64 = 200.0;
/// A shard's replica counts as suspect after 200 ms without a word.
const STANDSTILL_SLOW_US: f64 = 50_000.0;
const WAKE_SLOW_US: f64 = 50.0;
const TCP_SLOW_US: f64 = 150.0;

pub(super) fn items() -> Vec<Item> {
    let watched = watch();
    vec![
        clock_item(&watched),
        standstills(&watched),
        trips(
            "wake-up",
            wake_ups(),
            WAKE_SLOW_US,
            "one way between two threads",
            "cores sleep deeply or are shared with others: `spin_us` avoids some of it; so do \
             `cpupower idle-set -D 10` and a virtual machine with cores of its own",
        ),
        trips(
            "loopback",
            loopback(),
            TCP_SLOW_US,
            "there and back over TCP",
            "every request takes several of these: see wake-up; a firewall that filters the loopback costs too",
        ),
    ]
}

/// What a while of napping and looking at the clocks showed.
struct Watched {
    went_back: bool,
    /// Greatest step between wall clock and steady clock, from one look to the next.
    jump_us: f64,
    /// Wall clock by steady clock, parts per million.
    drift_ppm: f64,
    late: Spread,
}

#[allow(clippy::disallowed_methods, reason = "how late a nap ends is what is measured")]
fn watch() -> Watched {
    let first = look();
    let (mut last, mut went_back, mut jump_ns, mut late) = (first, false, 0, Vec::new());
    while last.0 - first.0 < WATCH.as_nanos() as i64 {
        std::thread::sleep(NAP);
        let now = look();
        went_back |= now.0 < last.0;
        late.push((now.0 - last.0 - NAP.as_nanos() as i64).max(0) as u64);
        jump_ns = jump_ns.max(((now.1 - now.0) - (last.1 - last.0)).abs());
        last = now;
    }
    let elapsed = (last.0 - first.0).max(1) as f64;
    let drift_ppm = ((last.1 - first.1) as f64 - elapsed) / elapsed * 1e6;
    Watched { went_back, jump_us: jump_ns as f64 / 1e3, drift_ppm, late: Spread::of(late) }
}

/// Steady and wall clock at one moment. A thread that is set aside between the two would see a jump that is none:
/// then it looks again.
fn look() -> (i64, i64) {
    loop {
        let (before, wall) = (read_ns(libc::CLOCK_MONOTONIC), read_ns(libc::CLOCK_REALTIME));
        // Also if it went back: that is the caller's to notice.
        if read_ns(libc::CLOCK_MONOTONIC) - before < MOMENT_NS {
            return (before, wall);
        }
    }
}

fn read_ns(which: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain call on a local struct.
    unsafe { libc::clock_gettime(which, &mut time) };
    time.tv_sec * SECOND_NS + time.tv_nsec
}

fn clock_item(watched: &Watched) -> Item {
    const READS: i64 = 100_000;
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .unwrap_or_default();
    let source = source.trim();
    let began = read_ns(libc::CLOCK_MONOTONIC);
    for _ in 0..READS {
        std::hint::black_box(read_ns(libc::CLOCK_MONOTONIC));
    }
    let read_cost_ns = (read_ns(libc::CLOCK_MONOTONIC) - began) as f64 / READS as f64;
    let text = format!(
        "source {}, {read_cost_ns:.0} ns to read, greatest step of the wall clock {:.0} us",
        if source.is_empty() { "unknown" } else { source },
        watched.jump_us
    );
    let values = json!({
        "source": source, "read_ns": read_cost_ns, "jump_us": watched.jump_us, "drift_ppm": watched.drift_ppm,
        "went_back": watched.went_back,
    });
    Item::new("clock", text, values)
        .unless(watched.went_back, Verdict::Unfit, "the steady clock went back: timeouts mean nothing on this machine")
        .unless(
            watched.jump_us > JUMP_US,
            Verdict::Slow,
            "the wall clock was set while it was watched: let it be slewed (chrony), not set",
        )
        .unless(
            read_cost_ns > READ_SLOW_NS || (!source.is_empty() && !QUICK.contains(&source)),
            Verdict::Slow,
            "each look at this clock asks the kernel or a device: boot with clocksource=tsc if the processor's is stable",
        )
}

fn standstills(watched: &Watched) -> Item {
    let late = &watched.late;
    Item::new("standstills", format!("naps of 1 ms end late by {}", late.text()), late.json()).unless(
        late.max_us > STANDSTILL_SLOW_US,
        Verdict::Slow,
        "the machine stood still: others share its cores (steal time), or too much runs here; nodes that stand still \
         long enough are taken for dead",
    )
}

fn trips(name: &'static str, measured: io::Result<Spread>, slow_us: f64, what: &str, cure: &str) -> Item {
    match measured {
        Ok(spread) => Item::new(name, format!("{what}: {}", spread.text()), spread.json()).unless(
            spread.p50_us > slow_us,
            Verdict::Slow,
            cure,
        ),
        Err(e) => Item::new(name, format!("can't be measured: {e}"), json!({ "error": e.to_string() }))
            .unless(true, Verdict::Unfit, "what every node needs fails here"),
    }
}

/// Half of what it takes to wake another thread and be woken by it.
fn wake_ups() -> io::Result<Spread> {
    const ON: u64 = 1;
    const OVER: u64 = 2;
    let (mut ping, mut pong) = (event()?, event()?);
    let (mut heard, mut said) = (ping.try_clone()?, pong.try_clone()?);
    let other = std::thread::spawn(move || -> io::Result<()> {
        while take(&mut heard)? == ON {
            said.write_all(&ON.to_ne_bytes())?;
        }
        Ok(())
    });
    let spread = exchange(2, || {
        ping.write_all(&ON.to_ne_bytes())?;
        take(&mut pong).map(drop)
    });
    ping.write_all(&OVER.to_ne_bytes())?;
    other.join().map_err(|_| io::Error::other("the other thread panicked"))??;
    spread
}

fn take(event: &mut File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    event.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn event() -> io::Result<File> {
    // SAFETY: a plain call.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor this function just got, and that nothing else closes.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// What it takes over a connection of this machine with itself.
fn loopback() -> io::Result<Spread> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    let (mut there, _) = listener.accept()?;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    let other = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        // Ends with the connection.
        while there.read_exact(&mut bytes).is_ok() && there.write_all(&bytes).is_ok() {}
    });
    let mut bytes = [1; 64];
    let spread = exchange(1, || {
        here.write_all(&bytes)?;
        here.read_exact(&mut bytes)
    });
    drop(here);
    other.join().map_err(|_| io::Error::other("the other thread panicked"))?;
    spread
}

/// Times `trip`, over and over; each counts as so many `ways`.
fn exchange(ways: u64, mut trip: impl FnMut() -> io::Result<()>) -> io::Result<Spread> {
    let began = clock::now();
    let mut ns = Vec::with_capacity(TRIPS_MAX);
    while clock::now().since(began) < TRIPS && ns.len() < TRIPS_MAX {
        let start = clock::now();
        trip()?;
        ns.push(clock::now().since(start).as_nanos() as u64 / ways);
    }
    Ok(Spread::of(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_counted_and_end() {
        assert!(wake_ups().unwrap().count > 0);
        assert!(loopback().unwrap().count > 0);
    }

    #[test]
    fn a_set_wall_clock_and_one_that_goes_back_are_told_apart() {
        let late = Spread::of(vec![60_000_000]);
        let watched = |went_back, jump_us| Watched { went_back, jump_us, drift_ppm: 0.0, late };
        assert_eq!(clock_item(&watched(true, 0.0)).verdict, Verdict::Unfit);
        assert!(clock_item(&watched(false, 1e6)).cure.contains("slewed"));
        assert_eq!(standstills(&watched(false, 0.0)).verdict, Verdict::Slow);
    }
}
