//! Do the four-letter words say what tools parse?

use super::world::*;
use crate::node::VERSION;
use std::time::Duration;

fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find(|l| l.starts_with(&format!("{key}\t"))).expect(key);
    line.split('\t').nth(1).expect("a value")
}

#[test]
pub(super) fn health_words_have_no_newline() {
    let mut w = World::new(1);
    assert_eq!(w.word(0, "ruok"), "imok");
    assert_eq!(w.word(0, "isro"), "rw");
    assert_eq!(w.word(0, "nope"), "");
}

#[test]
pub(super) fn monitor_lines_are_keys_and_values_that_add_up() {
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
pub(super) fn stages_count_requests_until_they_are_counted_anew() {
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
    // Three requests, and the one for the session, whose record both nodes apply.
    assert_eq!(counts(&text), [2, 1, 4, 3, 3, 3, 3, 4]);
    assert_eq!(w.word(0, "stgr"), text);
    assert_eq!(counts(&w.word(0, "stgs")), [0; 8]);
    assert_eq!(counts(&w.word(1, "stgs")), [0, 0, 0, 0, 0, 3, 3, 0], "each node counts its own");
}

/// A turn looks at the clock when its inputs are taken, behind each batch that it applies, and when all is sent.
#[test]
fn stages_of_a_turn_end_when_the_clock_is_read() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let (d, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.word(0, "stgr");
    w.hub.borrow_mut().hold = true;
    w.stage_takes = 3 * MS;
    w.put_request(c, 2, &set("/a", b"x"));
    w.run();
    w.stage_takes = 10 * MS;
    w.hub.borrow_mut().commit(1);
    w.put_request(c, 3, &get("/a", false));
    w.put_request(d, 4, &set("/a", b"y"));
    w.run();
    assert_eq!(w.got(c).iter().map(|g| g.reply().0).collect::<Vec<_>>(), [2, 3]);
    w.stage_takes = Duration::ZERO;
    let text = w.word(0, "stgs");
    let stages: Vec<(String, u64, u64)> = text
        .split("{\"name\":\"")
        .skip(1)
        .map(|one| {
            let number = |key: &str| one.split(key).nth(1).unwrap().split([',', '}']).next().unwrap().parse();
            let name = one.split('"').next().expect("a name").to_string();
            (name, number("\"count\":").unwrap(), number("\"max_us\":").unwrap())
        })
        .collect();
    let near = |us: u64, ms: u64| us.abs_diff(1000 * ms) <= 10 * ms || ms == 0 && us <= 1;
    // The write waits for its turn's inputs to be read (3 ms), is committed in the next turn, whose inputs are
    // read in 10 ms, and applied in 10 ms. What that turn submits leaves behind all that.
    let wanted = [
        ("zk_write", 1, 13),
        ("zk_read", 1, 10),
        ("zk_decode", 3, 10),
        ("zk_submit", 1, 20),
        ("zk_log", 1, 13),
        ("zk_deliver", 1, 0),
        ("zk_apply", 1, 10),
        ("zk_reply", 2, 10),
    ];
    for ((name, count, us), wanted) in stages.iter().zip(wanted) {
        assert_eq!((name.as_str(), *count), (wanted.0, wanted.1), "{stages:?}");
        assert!(near(*us, wanted.2), "{name}: {us} us, not {} ms: {stages:?}", wanted.2);
    }
    assert_eq!(stages.len(), wanted.len());
}

#[test]
pub(super) fn the_server_text_has_the_lines_that_parsers_count_on() {
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
pub(super) fn a_node_that_has_not_caught_up_says_so() {
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
pub(super) fn a_connection_that_is_closed_is_noted_with_its_reason() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    assert!(w.put(c, &[0, 0, 0, 2, 1, 1], false));
    w.run();
    assert!(w.is_closed(c));
    assert_eq!(w.notes(0), ["connection from 10.0.0.1:1001 is closed: a request without a header"]);
}
