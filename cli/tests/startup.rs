//! Do start-up problems name their cure, and does a topology start, stop and continue?

mod common;

use common::{Dev, free_port, zoolog};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

fn failure(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it should have failed: {text}");
    text
}

fn dev_fails(dir: &Path, more: &[&str]) -> String {
    let mut args = vec!["dev", "--data-dir", dir.to_str().unwrap()];
    args.extend(more);
    failure(zoolog(&args).output().unwrap())
}

fn four_letters(addr: &str, word: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Opens a session, which takes a record in the log.
fn open_session(addr: &str) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut request = [0; 48];
    request[3] = 44; // bytes behind the length: version, zxid, timeout, session, password
    request[16..20].copy_from_slice(&10_000u32.to_be_bytes());
    request[31] = 16;
    stream.write_all(&request).unwrap();
    let mut answer = [0; 24];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer[12..20] != [0; 8], "a session's id: {answer:?}");
}

fn get(admin: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn stages(admin: &str, path: &str) -> Vec<serde_json::Value> {
    let text = get(admin, path);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("200 OK"), "{text}");
    serde_json::from_str(body).unwrap()
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = dev_fails(dir.path(), &["--port", &port]);
    assert!(text.contains(&port) && text.contains("in use"), "{text}");
}

#[test]
fn a_directory_of_another_process_cluster_or_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &[]);
    let text = dev_fails(
        dir.path(),
        &["--port", &free_port().to_string(), "--admin-port", &free_port().to_string()],
    );
    assert!(text.contains("in use by another process"), "{text}");
    let text = dev_fails(dir.path(), &["--port", dev.zk[0].rsplit(':').next().unwrap()]);
    assert!(text.contains("in use"), "{text}");
    dev.stop();

    let cluster = dir.path().join("cluster.toml");
    let born = std::fs::read_to_string(&cluster).unwrap();
    let id = born.lines().find_map(|l| l.strip_prefix("id = \"")).unwrap();
    let other = born.replace(&id[..8], "deadbeef");
    std::fs::write(&cluster, &other).unwrap();
    let config = dir.path().join("nodes/shard-0/config.toml");
    // A port of the test's own: that of the `dev` that has ended may be another test's by now.
    let settings = std::fs::read_to_string(&config).unwrap();
    let other_port = |line: &str| match line.strip_prefix("listen = ") {
        Some(_) => format!("listen = \"127.0.0.1:{}\"\n", free_port()),
        None => format!("{line}\n"),
    };
    std::fs::write(&config, settings.lines().map(other_port).collect::<String>()).unwrap();
    let node = |kind: &str| failure(zoolog(&[kind, "--config", config.to_str().unwrap()]).output().unwrap());
    let text = node("shard");
    assert!(text.contains("belongs to cluster"), "{text}");
    std::fs::write(&cluster, &born).unwrap();

    let stamp = dir.path().join("nodes/shard-0/data/slot-0/stamp.toml");
    let newer = std::fs::read_to_string(&stamp).unwrap().replace("format = 1", "format = 99");
    std::fs::write(&stamp, newer).unwrap();
    let text = node("shard");
    assert!(text.contains("format 99"), "{text}");

    let text = dev_fails(dir.path(), &["--shards", "7", "--port", &free_port().to_string()]);
    assert!(text.contains("--shards 3"), "{text}");
}

#[test]
fn too_little_memlock_and_too_few_files_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    for (resource, limit, cure) in
        [(libc::RLIMIT_MEMLOCK, 64 << 10, "ulimit -l"), (libc::RLIMIT_NOFILE, 64, "ulimit -n")]
    {
        let mut command = zoolog(&["dev", "--data-dir", dir.path().to_str().unwrap()]);
        // SAFETY: setrlimit and setuid are async-signal-safe. Not as root, who may raise any limit again.
        unsafe {
            command.pre_exec(move || {
                let rlimit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                if libc::setrlimit(resource, &rlimit) != 0
                    || (libc::getuid() == 0 && libc::setuid(65534) != 0)
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        match command.output() {
            Ok(output) => {
                let text = failure(output);
                assert!(text.contains(cure), "{text}");
            }
            // Built below a directory that only root may enter.
            Err(e) => eprintln!("NOT RUN: can't start the binary as nobody: {e}"),
        }
    }
}

/// A service manager may leave the soft limit low: connections may be as many as the hard one allows.
#[test]
fn files_may_be_as_many_as_the_hard_limit_allows() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port().to_string());
    let log = format!("local:{}", dir.path().join("log").display());
    let data = dir.path().join("data");
    let mut command = zoolog(&["zk", "--log", &log, "--port", &port, "--data-dir", data.to_str().unwrap()]);
    let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain syscalls on a local struct, and one that is async-signal-safe.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut own), 0);
        let low = libc::rlimit { rlim_cur: 300, ..own };
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &low) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let wanted = own.rlim_max.min(65_536);
    let soft = || {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let line = text.lines().find(|l| l.starts_with("Max open files")).unwrap().to_string();
        line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    let raised = (0..100_000).any(|_| soft() >= wanted);
    let last = soft();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(raised, "{last} of {wanted}");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("zk.toml");
    std::fs::write(&config, "tickms = 5\n").unwrap();
    let text = failure(zoolog(&["zk", "--config", config.to_str().unwrap()]).output().unwrap());
    assert!(text.contains("tickms") && text.contains("tick_ms"), "{text}");
}

#[test]
fn it_starts_answers_stops_and_continues() {
    for isolate in ["thread", "process"] {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::start(dir.path(), &["--isolate", isolate, "--zk", "2"]);
        assert_eq!(dev.zk.len(), 2);
        for zk in &dev.zk {
            assert_eq!(four_letters(zk, "ruok"), "imok");
            assert!(four_letters(zk, "srvr").starts_with("Zookeeper version: "));
        }
        let text = get(&dev.admin, "/readyz");
        assert!(text.contains("200 OK") && text.contains("\"ready\":true"), "{text}");
        open_session(&dev.zk[0]);
        let own = ["zk_decode", "zk_submit", "zk_log", "zk_deliver", "zk_apply", "zk_reply"];
        let count = |node: &serde_json::Value, name: &str| {
            let stage = node["stages"].as_array().unwrap().iter().find(|s| s["name"] == name).expect(name);
            stage["count"].as_u64().unwrap()
        };
        // The client may have its answer a moment before the node counts that it was sent.
        let has_counted = || own.iter().all(|s| count(&stages(&dev.admin, "/stages")[6], s) > 0);
        assert!((0..200).any(|_| has_counted()));
        let stages = stages(&dev.admin, "/stages?reset=1");
        let names: Vec<&str> = stages.iter().map(|n| n["node"].as_str().unwrap()).collect();
        let all = ["order-0", "order-1", "order-2", "shard-0", "shard-1", "shard-2", "zk-0", "zk-1"];
        assert_eq!(names, all);
        // The session's record went this way; through which of the nodes is not for us to know.
        let passed = |nodes: &[serde_json::Value], name| nodes.iter().any(|n| count(n, name) > 0);
        assert!(
            ["cut_wait", "raft", "raft_wal", "cut_send"].iter().all(|s| passed(&stages[..3], s)),
            "{stages:?}"
        );
        assert!(
            ["primary_wal", "backup_wal", "report"].iter().all(|s| passed(&stages[3..6], s)),
            "{stages:?}"
        );
        assert!(own.iter().all(|s| passed(&stages[6..7], s)), "{stages:?}");
        let dir_arg = dir.path().to_str().unwrap();
        let shown = zoolog(&["admin", "stages", "--json", "--data-dir", dir_arg]).output().unwrap();
        let shown: Vec<serde_json::Value> = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown.iter().map(|n| n["node"].as_str().unwrap()).collect::<Vec<_>>(), all);
        assert!(shown.iter().all(|n| n["error"].is_null()), "{shown:?}");
        dev.stop();
        Dev::start(dir.path(), &["--isolate", isolate]).stop();
    }
}

/// Found by the experiments: the kernel gives ports back only when it has taken the rings of the dead apart, and the next
/// one ended meanwhile, "its port is in use".
#[test]
fn after_a_kill_of_everything_it_starts_at_once_at_the_same_ports() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut orderers: Option<Vec<String>> = None;
    for _ in 0..5 {
        let mut dev = Dev::start_at(port, dir.path(), &["--zk", "2"]);
        open_session(&dev.zk[1]);
        assert_eq!(*orderers.get_or_insert(dev.orderers.clone()), dev.orderers, "they had to move");
        dev.child.kill().unwrap();
        dev.child.wait().unwrap();
    }
    Dev::start_at(port, dir.path(), &[]).stop();
}

/// SYS-1: bad input costs the connection it came on, and nothing else.
#[test]
fn garbage_on_any_port_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &[]);
    let cluster = std::fs::read_to_string(dir.path().join("cluster.toml")).unwrap();
    let shard = std::fs::read_to_string(dir.path().join("nodes/shard-0/config.toml")).unwrap();
    let ports: Vec<String> = (cluster.clone() + &shard)
        .split('"')
        .filter(|t| t.starts_with("127.0.0.1:"))
        .map(String::from)
        .chain(dev.zk.iter().cloned())
        .collect();
    assert!(ports.len() >= 5, "{ports:?}");
    let inputs: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        b"ZLM1\x01\0\x01\0\xff\xff\xff\x7f\xff\xff\xff\x7f\0\0\0\0\0\0\0\0",
        &[0, 0, 0, 44, 0, 0],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        &[0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 99],
    ];
    for port in &ports {
        for input in inputs {
            let mut stream = TcpStream::connect(port).unwrap();
            // It may be closed before all was written.
            let _ = stream.write_all(input);
            drop(stream);
        }
    }
    assert_eq!(four_letters(&dev.zk[0], "ruok"), "imok");
    assert!(four_letters(&dev.zk[0], "srvr").starts_with("Zookeeper version: "));
    dev.stop();
}

/// A process that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn admin(dir: &Path, args: &[&str]) -> Output {
    let mut all = vec!["admin", "orderers"];
    all.extend(args);
    all.extend(["--data-dir", dir.to_str().unwrap()]);
    zoolog(&all).output().unwrap()
}

/// Id, role and whether it leads, of each orderer.
fn listed(dir: &Path) -> Vec<(u64, String, bool)> {
    let out = admin(dir, &["--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let list: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let one = |o: &serde_json::Value| {
        (o["id"].as_u64().unwrap(), o["role"].as_str().unwrap().to_string(), o["leader"] == true)
    };
    list["orderers"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn an_orderer_joins_takes_anothers_place_and_leads_and_the_other_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("dev");
    let dev = Dev::start(&data, &["--isolate", "process"]);
    let listen = format!("127.0.0.1:{}", free_port());
    let file = dir.path().join("order-4.toml");
    let text = format!(
        "data_dir = {:?}\ncluster_file = {:?}\nid = 4\nlisten = {listen:?}\n",
        dir.path().join("order-4"),
        data.join("cluster.toml")
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let text = failure(zoolog(&["order", "--config", file]).output().unwrap());
    assert!(text.contains("--join"), "{text}");
    let _new = Running(zoolog(&["order", "--config", file, "--join"]).stdout(Stdio::null()).spawn().unwrap());
    let leader = listed(&data).into_iter().find(|o| o.2).expect("somebody leads").0;
    let leads = leader.to_string();
    let text = failure(admin(&data, &["add", "2", "127.0.0.1:1"]));
    assert!(text.contains("never used twice") && text.contains("such as 4"), "{text}");
    let added = admin(&data, &["add", "4", &listen, "--replace", &leads]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let now = listed(&data);
    assert_eq!((now.len(), now.iter().all(|o| o.0 != leader && o.1 == "voter")), (3, true), "{now:?}");
    assert!(admin(&data, &["transfer", "4"]).status.success());
    assert!(listed(&data).iter().any(|o| o.0 == 4 && o.2));
    open_session(&dev.zk[0]);
    let gone = data.join(format!("nodes/order-{}/config.toml", leader - 1));
    std::fs::write(data.join(format!("nodes/order-{}/hold", leader - 1)), "").unwrap();
    // Its own restarts may still have the directory for a moment.
    let refused = (0..50).map(|_| zoolog(&["order", "--config", gone.to_str().unwrap()]).output().unwrap());
    let refused = refused.map(failure).find(|text| text.contains("was removed"));
    assert!(refused.is_some(), "a removed orderer's directory starts");
    dev.stop();
}
