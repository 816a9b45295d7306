//! Do the four-letter words say what tools parse?

use super::world::*;
use crate::jute::Request;
use crate::node::{Facts, Gauges, VERSION, Whitelist};
use std::sync::atomic::Ordering;
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

/// A world that answers every word.
fn open_world(nodes: usize) -> World {
    let mut w = World::new(0);
    w.cfg.words = Whitelist::parse("*").0;
    w.cfg.facts = Facts {
        client_port: 2181,
        data_dir: "/data".into(),
        environment: vec![("host.name".into(), "here".into())],
        alone: false,
        gauges: Gauges::default().into(),
    };
    w.cfg.facts.gauges.data_dir_bytes.store(77, Ordering::Relaxed);
    w.cfg.facts.gauges.open_files.store(12, Ordering::Relaxed);
    for _ in 0..nodes {
        w.start(1000);
    }
    w
}

/// Digits become one `N`, hexadecimal ones behind `0x` one `X`, ports and all: what is left is the shape.
fn shape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("0x") {
            out.push_str("0xX");
            rest = hex.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        } else if c.is_ascii_digit() {
            out.push('N');
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The shapes that Apache ZooKeeper 3.8.0 was seen to answer with.
#[test]
pub(super) fn every_word_has_the_shape_of_the_original() {
    let mut w = open_world(1);
    let (c, session) = w.connect(0);
    let (d, other) = w.connect(0);
    let (session, other) = (session.session, other.session);
    w.call(c, 1, &create("/p", 0));
    w.call(c, 2, &create("/e", 1));
    w.call(c, 3, &create("/f", 1));
    w.call(c, 4, &get("/p", true));
    w.call(d, 1, &exists("/p", true));
    w.call(d, 2, &Request::GetChildren { path: "/".into(), watch: true, with_stat: false });
    let head = " /N.N.N.N:N[N](queued=N,recved=N,sent=N";
    let stats = ",lop=GETD,est=N,to=N,lcxid=0xX,lzxid=0xX,lresp=N,llat=N,minlat=N,avglat=N,maxlat=N)\n";
    let cons = format!("{head},sid=0xX{stats}{head},sid=0xX{}{head})\n\n", stats.replace("GETD", "GETC"));
    assert_eq!(shape(&w.word(0, "cons")), cons);
    let server = "Latency min/avg/max: N/N.N/N\nReceived: N\nSent: N\nConnections: N\nOutstanding: N\nZxid: 0xX\n\
                  Mode: follower\nNode count: N\n";
    let stat = w.word(0, "stat");
    let (first, rest) = stat.split_once('\n').expect("lines");
    assert!(first.starts_with("Zookeeper version: 3.9.3-"));
    assert_eq!(shape(rest), format!("Clients:\n{head})\n{head})\n{head})\n\n{server}"));
    assert_eq!(
        w.word(0, "conf"),
        "clientPort=2181\nsecureClientPort=-1\ndataDir=/data\ndataDirSize=77\ndataLogDir=/data\ndataLogSize=0\n\
         tickTime=1000\nmaxClientCnxns=60\nminSessionTimeout=2000\nmaxSessionTimeout=20000\n\
         clientPortListenBacklog=-1\nserverId=0\n"
    );
    assert_eq!(w.word(0, "dirs"), "datadir_size: 77\nlogdir_size: 0\n");
    assert_eq!(
        w.word(0, "envi"),
        format!("Environment:\nzookeeper.version={VERSION}, built on 01/01/2026 00:00 GMT\nhost.name=here\n")
    );
    let dump = w.word(0, "dump");
    let (known, conns) = dump.split_once("Connections dump:\n").expect("connections");
    assert_eq!(
        known,
        format!(
            "SessionTracker dump:\nGlobal Sessions(2):\n0x{session:x}\t4000ms\n0x{other:x}\t4000ms\n\
             ephemeral nodes dump:\nSessions with Ephemerals (1):\n0x{session:x}:\n\t/e\n\t/f\n"
        )
    );
    let mut lines = conns.lines();
    assert_eq!(shape(lines.next().expect("a line")), "Connections Sets (N)/(N):");
    let (sets, conns): (Vec<&str>, Vec<&str>) = lines.partition(|l| l.contains(" expire at "));
    assert!(!sets.is_empty() && sets.iter().all(|l| l.ends_with(" UTC 2023:")), "{dump}");
    assert_eq!(conns.len(), 3);
    assert!(conns.iter().all(|l| shape(l) == "\tip: /N.N.N.N:N sessionId: 0xX"), "{conns:?}");
    assert_eq!(w.word(0, "wchc"), format!("0x{session:x}\n\t/p\n0x{other:x}\n\t/\n\t/p\n\n"));
    assert_eq!(w.word(0, "wchp"), format!("/\n\t0x{other:x}\n/p\n\t0x{session:x}\n\t0x{other:x}\n\n"));
    assert_eq!(shape(&w.word(0, "wchs")), "N connections watching N paths\nTotal watches:N\n");
    assert_eq!(shape(&w.word(0, "hash").replace(|c| ('a'..='f').contains(&c), "0")), "N: N\n");
    assert_eq!(w.word(0, "gtmk"), "306");
}

/// Monitoring counts leaders: there is to be one, and it says how many follow.
#[test]
pub(super) fn one_node_is_called_the_leader_and_counts_the_others() {
    let mut w = open_world(1);
    let gauges = w.cfg.facts.gauges.clone();
    let told = |w: &mut World| {
        let (text, mode) = (w.word(0, "mntr"), w.word(0, "srvr"));
        let mode = mode.lines().find_map(|l| l.strip_prefix("Mode: ").map(String::from)).expect("a mode");
        assert_eq!(value(&text, "zk_server_state"), mode);
        let other =
            |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('\t').map(String::from));
        (mode, other("zk_quorum_size"), other("zk_learners"), other("zk_synced_followers"))
    };
    let some = |n: &str| Some(n.to_string());
    assert_eq!(told(&mut w), ("follower".into(), some("0"), None, None));
    gauges.nodes.store(4, Ordering::Relaxed);
    gauges.nodes_here.store(3, Ordering::Relaxed);
    assert_eq!(told(&mut w), ("follower".into(), some("4"), None, None));
    gauges.leads.store(true, Ordering::Relaxed);
    assert_eq!(told(&mut w), ("leader".into(), some("4"), some("2"), some("2")));
}

#[test]
pub(super) fn what_is_reset_is_counted_anew() {
    let mut w = open_world(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.call(c, 2, &get("/a", false));
    assert_eq!(w.word(0, "crst"), "Connection stats reset.\n");
    let cons = w.word(0, "cons");
    let line = cons.lines().next().expect("a line");
    assert!(line.contains("(queued=0,recved=0,sent=0,sid=0x") && line.contains(",lop=NA,"), "{cons}");
    assert!(!line.contains("lcxid"), "{cons}");
    w.call(c, 3, &get("/a", false));
    assert!(w.word(0, "cons").contains("(queued=0,recved=1,sent=1,"));
    assert_eq!(w.word(0, "srst"), "Server stats reset.\n");
    let text = w.word(0, "srvr");
    let received: u64 =
        text.lines().find_map(|l| l.strip_prefix("Received: ")).expect("it").parse().expect("one");
    assert!(received <= 1, "{text}");
}

#[test]
pub(super) fn words_that_are_not_in_the_whitelist_are_refused() {
    let mut w = World::new(1);
    for word in ["wchc", "wchp", "dump", "crst", "srst", "gtmk", "stmk"] {
        let refused = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(w.word(0, word), refused);
    }
    w.cfg.words = Whitelist::parse("srvr").0;
    w.start(1000);
    assert_eq!(w.word(1, "ruok"), "ruok is not executed because it is not in the whitelist.\n");
    assert!(w.word(1, "srvr").starts_with("Zookeeper version"));
    assert!(w.word(1, "stgs").starts_with("[{"), "ours are always answered");
    assert_eq!(w.word(1, "redy"), "yes");
    assert_eq!(w.word(1, "lsnp"), "");
}

#[test]
pub(super) fn lists_of_watches_are_cut_off_where_they_would_take_too_long() {
    let mut w = open_world(1);
    let (c, _) = w.connect(0);
    let more = crate::node::LIST_MAX + 5;
    for (xid, n) in (1..).zip(0..more) {
        w.put_request(c, xid, &exists(&format!("/{n}"), true));
        if n % 500 == 0 {
            w.run();
        }
    }
    w.run();
    let text = w.word(0, "wchc");
    assert_eq!(text.lines().filter(|l| l.starts_with('\t')).count(), crate::node::LIST_MAX);
    assert!(text.ends_with("\n... and 5 more\n\n"), "{}", &text[text.len() - 60..]);
}

#[test]
pub(super) fn a_node_that_has_not_caught_up_says_so() {
    let mut w = World::new(0);
    w.cut(0, true);
    w.start(10);
    assert_eq!(w.word(0, "ruok"), "imok");
    assert_eq!(w.word(0, "isro"), "null");
    assert_eq!(w.word(0, "redy"), "no");
    assert_eq!(w.word(0, "mntr"), "This ZooKeeper instance is not currently serving requests\n");
    assert!(w.word(0, "envi").contains("zookeeper.version=3.9.3-"));
    assert_eq!(w.word(0, "hash"), "This ZooKeeper instance is not currently serving requests");
    assert!(w.command_status(0).contains("\"serving\":false"));
}

#[test]
pub(super) fn a_connection_that_is_closed_is_noted_with_its_reason() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    assert!(w.put(c, &[0, 0, 0, 2, 1, 1], false));
    w.run();
    assert!(w.is_closed(c));
    let closed: Vec<_> = w.notes(0).iter().filter(|n| n.contains("is closed")).collect();
    assert_eq!(closed, ["connection from 10.0.0.1:1001 is closed: a request without a header"]);
}
