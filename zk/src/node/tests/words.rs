//! Do the four-letter words say what tools parse?

use super::world::*;
use crate::node::VERSION;

fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find(|l| l.starts_with(&format!("{key}\t"))).expect(key);
    line.split('\t').nth(1).expect("a value")
}

#[test]
fn health_words_have_no_newline() {
    let mut w = World::new(1);
    assert_eq!(w.word(0, "ruok"), "imok");
    assert_eq!(w.word(0, "isro"), "rw");
    assert_eq!(w.word(0, "nope"), "");
}

#[test]
fn monitor_lines_are_keys_and_values_that_add_up() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.call(c, 2, &create("/e", 1));
    w.call(c, 3, &exists("/a", true));
    let text = w.word(0, "mntr");
    for line in text.lines() {
        let (key, value) = line.split_once('\t').expect("a tab");
        assert!(key.starts_with("zk_") && value.starts_with(|c: char| c.is_ascii_alphanumeric()), "{line}");
    }
    assert!(value(&text, "zk_version").starts_with(VERSION));
    assert_eq!(value(&text, "zk_znode_count"), "6");
    assert_eq!(value(&text, "zk_ephemerals_count"), "1");
    assert_eq!(value(&text, "zk_watch_count"), "1");
    assert_eq!(value(&text, "zk_num_alive_connections"), "2");
    assert_eq!(value(&text, "zk_applied_gsn"), value(&text, "zk_order_tail"));
    let other = w.word(1, "mntr");
    for key in ["zk_applied_gsn", "zk_state_hash", "zk_znode_count", "zk_approximate_data_size"] {
        assert_eq!(value(&text, key), value(&other, key));
    }
}

#[test]
fn stages_count_requests_until_they_are_counted_anew() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.call(c, 2, &create("/b", 0));
    w.call(c, 3, &exists("/a", false));
    let counts = |text: &str| -> Vec<u64> {
        let all = text.split("\"count\":").skip(1);
        all.map(|rest| rest.split(',').next().expect("a number").parse().expect("a number")).collect()
    };
    let text = w.word(0, "stgs");
    assert!(text.starts_with("[{\"name\":\"zk_write\",") && text.ends_with("}]"), "{text}");
    assert_eq!(counts(&text), [2, 1, 3], "the session's record too");
    assert_eq!(w.word(0, "stgr"), text);
    assert_eq!(counts(&w.word(0, "stgs")), [0, 0, 0]);
    assert_eq!(counts(&w.word(1, "stgs")), [0, 0, 0], "each node counts its own");
}

#[test]
fn the_server_text_has_the_lines_that_parsers_count_on() {
    let mut w = World::new(1);
    w.connect(0);
    let text = w.word(0, "srvr");
    let keys: Vec<&str> = text.lines().map(|l| l.split_once(": ").expect(l).0).collect();
    let expected = [
        "Zookeeper version",
        "Latency min/avg/max",
        "Received",
        "Sent",
        "Connections",
        "Outstanding",
        "Zxid",
        "Mode",
        "Node count",
    ];
    assert_eq!(keys, expected);
    let first = text.lines().next().expect("a line");
    assert_eq!(first, format!("Zookeeper version: {VERSION}, built on 01/01/2026 00:00 GMT"));
    let stat = w.word(0, "stat");
    let mut lines = stat.lines();
    assert_eq!((lines.next(), lines.next()), (Some(first), Some("Clients:")));
    assert!(lines.next().expect("a client").starts_with(" /10.0.0.1:1001[1](queued=0,recved=1,sent=1)"));
}

#[test]
fn a_node_that_has_not_caught_up_says_so() {
    let mut w = World::new(0);
    w.cut(0, true);
    w.start(10);
    assert_eq!(w.word(0, "ruok"), "imok");
    assert_eq!(w.word(0, "isro"), "null");
    assert_eq!(w.word(0, "mntr"), "This ZooKeeper instance is not currently serving requests\n");
    assert!(w.word(0, "envi").contains("zookeeper.version=3.9.3-"));
    assert!(w.command_status(0).contains("\"serving\":false"));
}

#[test]
fn a_connection_that_is_closed_is_noted_with_its_reason() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    assert!(w.put(c, &[0, 0, 0, 2, 1, 1], false));
    w.run();
    assert!(w.is_closed(c));
    assert_eq!(w.notes(0), ["connection from 10.0.0.1:1001 is closed: a request without a header"]);
}
