//! What are a ZooKeeper node's surroundings? What it tells of them when it is asked: measured here, now and then, on a
//! thread of its own; and asked of the orderers, who know which nodes are there.

use crate::{remembered, status};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use zoolog_client::Way;
use zoolog_core::config::ZkConfig;
use zoolog_core::rt::clock;
use zoolog_zk::node::{Facts, Gauges};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// The same as long as the orderers don't know of this node, or aren't there.
const SOON: Duration = Duration::from_secs(1);

/// The surroundings of a node with these settings, in a cluster with these orderers, measured as long as it lives. Without
/// any it is alone.
pub fn of(config: &ZkConfig, orderers: &[String]) -> Facts {
    let gauges = Arc::new(Gauges::default());
    let dir = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    measure(&gauges, &dir);
    let (mine, data_dir) = (Arc::downgrade(&gauges), dir.display().to_string());
    let (id, configured) = (config.id, orderers.to_vec());
    let look = move || keep_looking(&mine, &dir, id, &configured);
    let spawned = std::thread::Builder::new().name("gauges".into()).spawn(look);
    if let Err(e) = spawned {
        tracing::warn!("open files and sizes of directories are not measured: {e}");
    }
    let port = config.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let (client_port, environment) = (port.unwrap_or(0), environment());
    Facts { client_port, data_dir, environment, alone: orderers.is_empty(), gauges }
}

fn keep_looking(gauges: &Weak<Gauges>, dir: &Path, id: u32, configured: &[String]) {
    let (mut pause, mut leads_since) = (SOON, None);
    loop {
        std::thread::park_timeout(pause);
        // Nothing of the node is held while the orderers are asked: it may end meanwhile.
        let told = match configured {
            [] => None,
            // The newest log's first, if the log went on elsewhere.
            configured => {
                let newest =
                    Way::read(dir).unwrap_or_default().newest().map_or_else(Vec::new, |s| s.orderers);
                let all = [newest, remembered::with_configured(dir, configured)].concat();
                status::leader(&all).ok()
            }
        };
        let Some(gauges) = gauges.upgrade() else { return };
        measure(&gauges, dir);
        let is_known = told.is_some_and(|status| note_nodes(&gauges, id, &status));
        leads_since = match gauges.leads.load(Ordering::Relaxed) {
            true => leads_since.or_else(|| Some(clock::now())),
            false => None,
        };
        let for_ms = leads_since.map_or(0, |at| clock::now().since(at).as_millis() as u64);
        gauges.leads_for_ms.store(for_ms, Ordering::Relaxed);
        pause = if is_known || configured.is_empty() { EVERY } else { SOON };
    }
}

/// Numbers of ZooKeeper nodes among these consumers, lowest first.
fn numbers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let mut ids: Vec<u32> = names.filter_map(|name| name.strip_prefix("zk-")?.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Notes which nodes there are, as the leader of the orderers says: those that it keeps the log for, and those that it is
/// connected to, of which the first one is called the leader. Returns whether this node is among them; while it is not, it
/// leads nobody.
fn note_nodes(gauges: &Gauges, id: u32, status: &Value) -> bool {
    let known =
        numbers(status["consumers"].as_object().into_iter().flat_map(|all| all.keys().map(String::as_str)));
    let here = numbers(status["consumers_here"].as_array().into_iter().flatten().filter_map(Value::as_str));
    gauges.nodes.store(known.len() as u64, Ordering::Relaxed);
    gauges.nodes_here.store(here.len() as u64, Ordering::Relaxed);
    gauges.first.store(here.first().copied().unwrap_or(0).into(), Ordering::Relaxed);
    gauges.leads.store(here.first() == Some(&id), Ordering::Relaxed);
    here.contains(&id)
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
    use serde_json::json;
    use zoolog_zk::node::Mode;

    #[test]
    fn the_first_of_those_that_are_there_leads_and_nobody_else() {
        let known = json!({ "zk-1": 5, "zk-2": 5, "zk-9": 6, "zk-10": 7, "counts/7": 8 });
        let here = ["counts/7", "zk-10", "zk-2", "zk-9", "zk-x"];
        let status = json!({ "leader": true, "consumers": known, "consumers_here": here });
        let mut leading = Vec::new();
        for id in [1, 2, 9, 10] {
            let facts = Facts::default();
            assert_eq!(facts.mode(), Mode::Follower, "nobody told yet");
            assert_eq!(note_nodes(&facts.gauges, id, &status), id != 1);
            let g = &facts.gauges;
            let told = [&g.nodes, &g.nodes_here, &g.first].map(Gauges::get);
            assert_eq!(told, [4, 3, 2]);
            if facts.mode() == Mode::Leader {
                leading.push(id);
            }
            assert!(!note_nodes(&facts.gauges, id, &json!({ "leader": true })));
            assert_eq!(facts.mode(), Mode::Follower, "an orderer that knows of nobody");
        }
        assert_eq!(leading, [2]);
    }

    #[test]
    fn a_nodes_surroundings_are_measured_before_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("snapshots")).unwrap();
        std::fs::write(dir.path().join("snapshots/one"), [0; 1000]).unwrap();
        std::fs::write(dir.path().join("two"), [0; 234]).unwrap();
        let config =
            ZkConfig { data_dir: dir.path().into(), listen: "0.0.0.0:77".into(), ..ZkConfig::default() };
        let facts = of(&config, &[]);
        assert_eq!(facts.mode(), Mode::Standalone);
        assert_eq!((facts.client_port, Gauges::get(&facts.gauges.data_dir_bytes)), (77, 1234));
        assert!(Gauges::get(&facts.gauges.open_files) >= 3);
        assert!(Gauges::get(&facts.gauges.max_files) >= Gauges::get(&facts.gauges.open_files));
        let keys: Vec<&str> = facts.environment.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys[..2], ["host.name", "os.name"]);
        assert!(facts.environment.iter().all(|(_, value)| !value.is_empty()));
    }
}
