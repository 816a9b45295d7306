//! What does a durable write cost here? As the logs write: aligned, around the page cache, into blocks that are
//! already there.

use super::{Item, Spread, Verdict};
use serde_json::json;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zoolog_core::rt::clock;

const PAGE_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 1 << 20;
const FILE_CHUNKS: u64 = 64;
const FREE_WANTED_BYTES: u64 = 4 << 30;
/// The longest that each part measures, and its most writes.
const PART: Duration = Duration::from_secs(4);
const WRITES_MAX: usize = 5000;
/// From here on requests feel it.
const P50_SLOW_US: f64 = 2_000.0;
const P99_SLOW_US: f64 = 20_000.0;
/// No device makes 4 KiB durable in less; a cache without a battery can.
const P50_SUSPECT_US: f64 = 8.0;
const BANDWIDTH_SLOW: f64 = 50.0;

pub(super) fn items(dir: &Path) -> Vec<Item> {
    let dir = existing(dir);
    match measure(&dir) {
        Ok(found) => vec![
            place(&dir),
            latency("write, O_DSYNC", &found.synced),
            latency("write and fdatasync", &found.then_synced),
            bandwidth(found.mib_per_second),
        ],
        Err(e) => {
            let item =
                Item::new("disk", format!("{}: {e}", dir.display()), json!({ "error": e.to_string() }));
            let cure = match e.raw_os_error() {
                Some(libc::EINVAL) => {
                    "the file system takes no direct I/O: put the data on ext4 or xfs on a real disk"
                        .to_string()
                }
                Some(libc::ENOSPC) => "the disk is full: make room, or give another --data-dir".to_string(),
                Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                    "it can't be written to: check its owner and rights, or give another --data-dir"
                        .to_string()
                }
                _ => "durable writes fail here: give another --data-dir".to_string(),
            };
            vec![place(&dir), item.unless(true, Verdict::Unfit, cure)]
        }
    }
}

/// The directory, or the nearest above it that exists.
fn existing(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    dir.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

/// What the directory lies on.
fn place(dir: &Path) -> Item {
    let Some((kind, free_bytes)) = file_system(dir) else {
        return Item::new("file system", dir.display().to_string(), json!({ "dir": dir }));
    };
    let name = match kind {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0x2fc1_2fc1 => "zfs",
        _ => "other",
    };
    let ram = matches!(name, "tmpfs" | "ramfs");
    Item::new(
        "file system",
        format!("{} on {name}, {} GiB free", dir.display(), free_bytes >> 30),
        json!({ "dir": dir, "kind": name, "free_bytes": free_bytes }),
    )
    .unless(
        ram,
        Verdict::Unfit,
        "it is memory: what is acknowledged would be lost with the power; give another --data-dir",
    )
    .unless(
        matches!(name, "btrfs" | "zfs" | "nfs" | "overlayfs"),
        Verdict::Slow,
        format!("{name} does more for each durable write than it must: ext4 or xfs on a disk of its own"),
    )
    .unless(free_bytes < FREE_WANTED_BYTES, Verdict::Slow, "below 4 GiB a fast log has too little room")
}

/// (magic number, free bytes).
fn file_system(dir: &Path) -> Option<(u64, u64)> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero statfs is valid; the call fills it.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with zero, and a struct of the right kind.
    let answer = unsafe { libc::statfs(path.as_ptr(), &mut stat) };
    (answer == 0).then(|| (stat.f_type as u64, stat.f_bavail * stat.f_bsize as u64))
}

struct Found {
    synced: Spread,
    then_synced: Spread,
    mib_per_second: f64,
}

/// Lays a file out, then writes over it. It has no name, so nothing is left whatever happens.
fn measure(dir: &Path) -> io::Result<Found> {
    let path = dir.join(format!(".zoolog-selftest-{}", std::process::id()));
    let open = |flags: i32| OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | flags).open(&path);
    let laid_out = || -> io::Result<(File, File)> {
        let file =
            OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&path)?;
        Ok((file, open(libc::O_DSYNC)?))
    };
    let files = laid_out();
    let removed = std::fs::remove_file(&path);
    let (plain, synced) = files?;
    removed?;
    let chunk = Aligned::filled(CHUNK_BYTES);
    for n in 0..FILE_CHUNKS {
        plain.write_all_at(chunk.bytes(), n * CHUNK_BYTES as u64)?;
    }
    plain.sync_all()?;
    let mib_per_second = sequential(&plain, &chunk)?;
    let page = &chunk.bytes()[..PAGE_BYTES];
    Ok(Found {
        synced: pages(|at| synced.write_all_at(page, at))?,
        then_synced: pages(|at| {
            plain.write_all_at(page, at)?;
            // SAFETY: a plain call on a descriptor that is open.
            match unsafe { libc::fdatasync(plain.as_raw_fd()) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })?,
        mib_per_second,
    })
}

/// 1 MiB writes over the whole file, over and over, each made durable.
fn sequential(file: &File, chunk: &Aligned) -> io::Result<f64> {
    let began = clock::now();
    let mut chunks = 0u64;
    while clock::now().since(began) < PART && chunks < 16 * FILE_CHUNKS {
        file.write_all_at(chunk.bytes(), chunks % FILE_CHUNKS * CHUNK_BYTES as u64)?;
        file.sync_data()?;
        chunks += 1;
    }
    Ok(chunks as f64 / clock::now().since(began).as_secs_f64())
}

/// Times `write` at one page after the other.
fn pages(mut write: impl FnMut(u64) -> io::Result<()>) -> io::Result<Spread> {
    let began = clock::now();
    let last = FILE_CHUNKS * (CHUNK_BYTES / PAGE_BYTES) as u64;
    let mut ns = Vec::with_capacity(WRITES_MAX);
    while clock::now().since(began) < PART && ns.len() < WRITES_MAX {
        let start = clock::now();
        write(ns.len() as u64 % last * PAGE_BYTES as u64)?;
        ns.push(clock::now().since(start).as_nanos() as u64);
    }
    Ok(Spread::of(ns))
}

fn latency(name: &'static str, spread: &Spread) -> Item {
    let mut item = Item::new(name, format!("4 KiB: {}", spread.text()), spread.json());
    if spread.p50_us < P50_SUSPECT_US {
        item.text.push_str("; quicker than a disk: make sure that this cache survives a power cut");
    }
    item.unless(
        spread.p50_us > P50_SLOW_US,
        Verdict::Slow,
        "each acknowledged write waits for this twice, on its replicas and on the orderers: \
         a disk whose cache survives a power cut answers in tens of microseconds",
    )
    .unless(
        spread.p99_us > P99_SLOW_US && spread.p50_us <= P50_SLOW_US,
        Verdict::Slow,
        "now and then it takes far longer than usual: does something else write to this disk?",
    )
}

fn bandwidth(mib_per_second: f64) -> Item {
    Item::new(
        "sequential writes",
        format!("{mib_per_second:.0} MiB/s in 1 MiB durable writes"),
        json!({ "mib_per_second": mib_per_second }),
    )
    .unless(
        mib_per_second < BANDWIDTH_SLOW,
        Verdict::Slow,
        "every record is written once per copy: this bounds the log",
    )
}

/// Memory that direct I/O takes.
struct Aligned {
    start: std::ptr::NonNull<u8>,
    layout: Layout,
}

impl Aligned {
    /// So many bytes that no disk mistakes for zeros.
    fn filled(len: usize) -> Self {
        let layout = Layout::from_size_align(len, PAGE_BYTES).expect("a small length");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = std::ptr::NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        // SAFETY: ours, initialized, and nobody else has it yet.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) };
        let mut word = 0x9e37_79b9_7f4a_7c15u64;
        for eight in bytes.chunks_exact_mut(8) {
            word = word.rotate_left(5).wrapping_mul(0x517c_c1b7_2722_0a95).wrapping_add(1);
            eight.copy_from_slice(&word.to_le_bytes());
        }
        Self { start, layout }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: ours, initialized, and never written to again.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: made with this layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_stands_for_its_nearest_parent() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(existing(&home.path().join("a/b/c")), home.path());
        assert_eq!(existing(home.path()), home.path());
    }

    #[test]
    fn what_is_written_is_aligned_and_no_row_of_zeros() {
        let chunk = Aligned::filled(2 * PAGE_BYTES);
        assert_eq!(chunk.bytes().as_ptr() as usize % PAGE_BYTES, 0);
        assert!(chunk.bytes().chunks(64).all(|line| line.iter().any(|b| *b != 0)));
    }

    #[test]
    fn slow_and_quick_writes_are_told_apart() {
        let item = |p50_us, p99_us| latency("x", &Spread { p50_us, p99_us, max_us: p99_us, count: 1 });
        assert_eq!(item(100.0, 900.0).verdict, Verdict::Fit);
        assert_eq!(item(100.0, 30_000.0).verdict, Verdict::Slow);
        assert_eq!(item(5000.0, 9000.0).verdict, Verdict::Slow);
        assert!(item(2.0, 3.0).text.contains("power"));
        assert_eq!(bandwidth(10.0).verdict, Verdict::Slow);
    }
}
