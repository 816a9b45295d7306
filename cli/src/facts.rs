//! What are a ZooKeeper node's surroundings? What it tells of them when it is asked: measured here, now and then, on a
//! thread of its own.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use zoolog_core::config::ZkConfig;
use zoolog_zk::node::{Facts, Gauges};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// The surroundings of a node with these settings, measured as long as it lives.
pub fn of(config: &ZkConfig) -> Facts {
    let gauges = Arc::new(Gauges::default());
    let dir = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    measure(&gauges, &dir);
    let (mine, data_dir) = (Arc::downgrade(&gauges), dir.display().to_string());
    let spawned =
        std::thread::Builder::new().name("gauges".into()).spawn(move || keep_measuring(&mine, &dir));
    if let Err(e) = spawned {
        tracing::warn!("open files and sizes of directories are not measured: {e}");
    }
    let port = config.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    Facts { client_port: port.unwrap_or(0), data_dir, environment: environment(), gauges }
}

fn keep_measuring(gauges: &Weak<Gauges>, dir: &Path) {
    while let Some(gauges) = gauges.upgrade() {
        measure(&gauges, dir);
        drop(gauges);
        std::thread::park_timeout(EVERY);
    }
}

fn measure(gauges: &Gauges, dir: &Path) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // SAFETY: a plain call that fills what it is given.
    let limit = unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 { limit.rlim_cur } else { 0 }
    };
    // One of them is the look itself.
    gauges.open_files.store(open.saturating_sub(1) as u64, Ordering::Relaxed);
    gauges.max_files.store(limit, Ordering::Relaxed);
    gauges.data_dir_bytes.store(bytes_below(dir, 3), Ordering::Relaxed);
}

/// Bytes of the files in a directory, and below it to that depth.
fn bytes_below(dir: &Path, depth: u32) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() && depth > 0 => bytes_below(&entry.path(), depth - 1),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    });
    bytes.sum()
}

/// Keys as Java has them, as far as they mean something here.
fn environment() -> Vec<(String, String)> {
    let file = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_string());
    let var = |name: &str| std::env::var(name).ok();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        arch => arch,
    };
    let dir = std::env::current_dir().ok().map(|dir| dir.display().to_string());
    [
        ("host.name", file("/proc/sys/kernel/hostname")),
        ("os.name", Some("Linux".into())),
        ("os.arch", Some(arch.into())),
        ("os.version", file("/proc/sys/kernel/osrelease")),
        ("user.name", var("USER").or_else(|| var("LOGNAME"))),
        ("user.home", var("HOME")),
        ("user.dir", dir),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value.filter(|v| !v.is_empty()).unwrap_or_else(|| "<NA>".into())))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_surroundings_are_measured_before_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("snapshots")).unwrap();
        std::fs::write(dir.path().join("snapshots/one"), [0; 1000]).unwrap();
        std::fs::write(dir.path().join("two"), [0; 234]).unwrap();
        let config =
            ZkConfig { data_dir: dir.path().into(), listen: "0.0.0.0:77".into(), ..ZkConfig::default() };
        let facts = of(&config);
        assert_eq!((facts.client_port, Gauges::get(&facts.gauges.data_dir_bytes)), (77, 1234));
        assert!(Gauges::get(&facts.gauges.open_files) >= 3);
        assert!(Gauges::get(&facts.gauges.max_files) >= Gauges::get(&facts.gauges.open_files));
        let keys: Vec<&str> = facts.environment.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys[..2], ["host.name", "os.name"]);
        assert!(facts.environment.iter().all(|(_, value)| !value.is_empty()));
    }
}
