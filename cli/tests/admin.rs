//! Do the admin ports answer as ZooKeeper's admin server and Prometheus exporter do, and tell how each node is?

mod common;

use common::{Dev, free_port};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use zoolog_zk::jute::{ConnectRequest, ConnectResponse, ReplyHeader, Request};
use zoolog_zk::txn::{Acl, AuthId};

/// (status line, content type, body).
fn get(addr: &str, path: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect(&text);
    let kind = head.lines().find_map(|l| l.strip_prefix("content-type: ")).unwrap_or_default();
    (head.lines().next().unwrap().to_string(), kind.to_string(), body.to_string())
}

fn command(addr: &str, name: &str) -> Value {
    let (status, kind, body) = get(addr, &format!("/commands/{name}"));
    assert!(status.contains("200 OK") && kind == "application/json", "{name}: {status} {kind}");
    serde_json::from_str(&body).expect(&body)
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// A session with a node `/p` that it watches, and an ephemeral one.
fn session(addr: &str) -> (TcpStream, i64) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut frame = move |bytes: &[u8]| {
        stream.write_all(bytes).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        (answer, stream.try_clone().unwrap())
    };
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 30_000,
        session: 0,
        password: &[0; 16],
        read_only: Some(false),
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    let (answer, stream) = frame(&bytes);
    let session = ConnectResponse::decode(&answer).unwrap().session;
    let create = |path: &'static str, flags| {
        let acl = vec![Acl { perms: 31, id: AuthId { scheme: "world".into(), id: "anyone".into() } }];
        Request::Create { path: path.into(), data: Some(b"x"), acl, flags, with_stat: false }
    };
    let watch = Request::GetData { path: "/p".into(), watch: true };
    for (xid, request) in (1..).zip([create("/p", 0), create("/e", 1), watch]) {
        let mut bytes = Vec::new();
        request.encode(xid, &mut bytes);
        let header = ReplyHeader::decode(&frame(&bytes).0).unwrap().0;
        assert_eq!((header.xid, header.err), (xid, 0));
    }
    (stream, session)
}

/// Fields that Apache ZooKeeper 3.8.0 was seen to give, beside `command` and `error`.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "configuration",
        &[
            "client_port",
            "client_port_listen_backlog",
            "data_dir",
            "data_log_dir",
            "max_client_cnxns",
            "max_session_timeout",
            "min_session_timeout",
            "server_id",
            "tick_time",
        ],
    ),
    ("connections", &["connections", "secure_connections"]),
    ("dirs", &["datadir_size", "logdir_size"]),
    ("dump", &["expiry_time_to_session_ids", "session_id_to_ephemeral_paths"]),
    ("get_trace_mask", &["tracemask"]),
    ("hash", &["digests"]),
    ("initial_configuration", &["initial_configuration"]),
    ("is_read_only", &["read_only"]),
    ("last_snapshot", &["timestamp", "zxid"]),
    ("observers", &["observers", "synced_observers"]),
    ("observer_connection_stat_reset", &[]),
    ("ruok", &[]),
    ("server_stats", &["client_response", "node_count", "read_only", "server_stats", "version"]),
    (
        "stats",
        &[
            "client_response",
            "connections",
            "node_count",
            "read_only",
            "secure_connections",
            "server_stats",
            "version",
        ],
    ),
    ("voting_view", &["current_config"]),
    ("watch_summary", &["num_connections", "num_paths", "num_total_watches"]),
    ("watches", &["session_id_to_watched_paths"]),
    ("watches_by_path", &["path_to_session_ids"]),
    ("zabstate", &["voting", "zabstate"]),
];

fn check_zk(admin: &str, zk: &str) {
    let (_stream, session) = session(zk);
    for (name, fields) in FIELDS {
        let answer = command(admin, name);
        let mut wanted = [&["command", "error"], *fields].concat();
        wanted.sort_unstable();
        assert_eq!(keys(&answer), wanted, "{name}");
        assert_eq!((&answer["command"], &answer["error"]), (&Value::from(*name), &Value::Null));
    }
    let cons = command(admin, "cons");
    assert_eq!(cons["command"], "connections", "by its abbreviation, too");
    let mine = cons["connections"].as_array().unwrap().iter().find(|c| c["session_id"] == session);
    let mine = mine.expect("the session's connection");
    assert_eq!((&mine["last_operation"], &mine["last_cxid"]), (&Value::from("GETD"), &Value::from(3)));
    assert_eq!(mine["session_timeout"], 30_000);
    let id = session.to_string();
    assert_eq!(command(admin, "dump")["session_id_to_ephemeral_paths"][&id], serde_json::json!(["/e"]));
    assert_eq!(command(admin, "wchc")["session_id_to_watched_paths"][&id], serde_json::json!(["/p"]));
    assert_eq!(command(admin, "wchp")["path_to_session_ids"]["/p"], serde_json::json!([session]));
    let monitor = command(admin, "mntr");
    assert_eq!((&monitor["server_state"], &monitor["ephemerals_count"]), (&"follower".into(), &1.into()));
    assert_eq!(command(admin, "nope")["error"], "Unknown command: nope");
    assert!(command(admin, "set_trace_mask")["error"].is_string());
    assert!(command(admin, "environment")["zookeeper.version"].as_str().unwrap().starts_with("3.9."));
    let (_, kind, index) = get(admin, "/commands");
    assert!(kind.starts_with("text/html"));
    assert!(index.starts_with("<a href=\"/commands/configuration\">configuration</a>\n<br/>\n"), "{index}");
    assert_eq!(index.matches("<br/>").count(), 26);
    let (status, kind, text) = get(admin, "/metrics");
    assert!(status.contains("200") && kind.starts_with("text/plain; version=0.0.4"));
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).expect(name);
        line.parse().expect(line)
    };
    assert_eq!((value("ephemerals_count"), value("watch_count"), value("zoolog_serving")), (1.0, 1.0, 1.0));
    assert!(value("num_alive_connections") >= 1.0 && value("uptime") > 0.0 && value("znode_count") == 6.0);
    assert_eq!(
        (value("zoolog_bootstraps"), value("zoolog_bootstrap_limit_bytes_per_s")),
        (0.0, 536_870_912.0)
    );
    assert!(text.contains("\nzoolog_bootstrap{from=\"\"} 0\n"), "{text}");
    assert!(value("open_file_descriptor_count") > 3.0 && value("updatelatency_count") >= 2.0);
    for name in [
        "outstanding_requests",
        "packets_received",
        "packets_sent",
        "approximate_data_size",
        "max_file_descriptor_count",
        "avg_latency",
        "min_latency",
        "max_latency",
        "global_sessions",
        "connection_request_count",
        "bytes_received_count",
        "readlatency_sum",
        "readlatency{quantile=\"0.99\"}",
        "zoolog_applied_gsn",
        "zoolog_stage_seconds_count{stage=\"zk_apply\"}",
    ] {
        assert!(value(name) >= 0.0, "{name}");
    }
    assert_eq!(command(admin, "stat_reset")["error"], Value::Null);
    assert!(command(admin, "srvr")["server_stats"]["packets_received"].as_u64().unwrap() < 3);
    assert!(get(admin, "/healthz").0.contains("200") && get(admin, "/readyz").2.contains("true"));
    assert!(get(admin, "/nothing").0.contains("404"));
}

#[test]
fn every_command_has_the_fields_of_the_original_and_every_kind_of_node_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let [zk, order, shard] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
    let set = [("zk", &zk), ("order", &order), ("shard", &shard)];
    let set = set.map(|(kind, addr)| format!("--set={kind}.admin_listen={addr}"));
    let dev = Dev::start(dir.path(), &set.each_ref().map(String::as_str));
    check_zk(&zk, &dev.zk[0]);
    for (addr, figure) in [(&order, "zoolog_order_tail"), (&shard, "zoolog_shard_incarnation")] {
        assert!(get(addr, "/healthz").0.contains("200"));
        assert!(get(addr, "/readyz").0.contains("200"), "{}", get(addr, "/status").2);
        let text = get(addr, "/metrics").2;
        assert!(text.contains(figure) && text.contains("zoolog_stage_seconds_count{node="), "{text}");
    }
    dev.stop();
}

#[test]
fn a_node_of_several_executors_answers_for_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let zk = format!("127.0.0.1:{}", free_port());
    let set = format!("--set=zk.admin_listen={zk}");
    let dev = Dev::start(dir.path(), &[&set, "--isolate", "process", "--executors", "3"]);
    check_zk(&zk, &dev.zk[0]);
    dev.stop();
}
