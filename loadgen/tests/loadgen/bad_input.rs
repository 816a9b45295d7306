//! What does a user read who points it at the wrong thing? Each case: an error with its cure, what was measured
//! kept and marked partial, and an exit code that says so.

use crate::fake::{Fake, Manner};
use crate::{json, loadgen, stderr, stdout};
use std::net::TcpListener;
use std::process::Output;
use zoolog_zk::jute::ErrorCode;

const SMALL: &str = "--sessions 2 --depth 2 --keys 5 --warmup 0s --connect-timeout 600ms";

/// A run of at most half a minute, which the server is meant to end early; and its JSON.
fn run(servers: &str, more: &str) -> (Output, serde_json::Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/run.json");
    let line = format!("zk --servers {servers} --duration 30s --outage 400ms {SMALL} {more}");
    let output = loadgen(&line, &["--json", file.to_str().unwrap()]);
    let json = json(&file);
    (output, json)
}

/// Nothing could be measured: exit code 1, `words` on stderr and in the file, which is marked.
fn fails_before_the_load(servers: &str, more: &str, words: &[&str]) {
    let (output, json) = run(servers, more);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for word in words {
        assert!(stderr(&output).contains(word), "`{word}` in: {}", stderr(&output));
        assert!(json["error"].as_str().unwrap().contains(word), "`{word}` in: {json}");
    }
    assert_eq!((&json["partial"], &json["ok"]), (&true.into(), &false.into()));
}

#[test]
fn nothing_listens_there() {
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fails_before_the_load(&at, "", &[&at, "refused", "start the server, or correct --servers"]);
}

#[test]
fn another_protocol_is_spoken_there() {
    let fake = Fake::start(Manner::Http);
    fails_before_the_load(&fake.at, "", &[&fake.at, "no ZooKeeper", "HTTP/1.1 400", "client ports"]);
}

#[test]
fn the_server_never_answers() {
    let fake = Fake::start(Manner::Silent);
    fails_before_the_load(&fake.at, "", &[&fake.at, "answered nothing", "--connect-timeout"]);
}

#[test]
fn the_server_gives_no_session() {
    let fake = Fake::start(Manner::Refuses);
    fails_before_the_load(&fake.at, "", &[&fake.at, "refuses to give a session"]);
}

#[test]
fn the_server_wants_credentials() {
    for error in [ErrorCode::SessionClosedRequireSaslAuth, ErrorCode::AuthFailed] {
        let fake = Fake::start(Manner::Denies(error));
        fails_before_the_load(&fake.at, "", &[&fake.at, "wants credentials", "--auth"]);
    }
    let fake = Fake::start(Manner::Denies(ErrorCode::NoAuth));
    fails_before_the_load(&fake.at, "", &[&fake.at, "--prefix", "NoAuth"]);
}

#[test]
fn a_name_that_means_nothing() {
    let output = loadgen("zk --servers no-such-host.invalid:2181", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no-such-host.invalid"), "{}", stderr(&output));
}

/// The load began: exit code 5, and what was measured is there.
fn ends_in_mid_run(manner: Manner, word: &str) {
    for more in ["", "--rate 2000", "--threads 2", "--sweep --rate-from 500 --step-duration 20s"] {
        let fake = Fake::start(manner);
        let (output, json) = run(&fake.at, more);
        assert_eq!(output.status.code(), Some(5), "{more}: {}", stderr(&output));
        assert!(stderr(&output).contains("no server has answered"), "{more}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{more}: `{word}` in: {}", stderr(&output));
        assert!(stdout(&output).contains("PARTIAL"), "{}", stdout(&output));
        assert_eq!((&json["partial"], &json["ok"]), (&true.into(), &true.into()), "{more}");
        assert!(json["ops"]["set"]["answered"].as_u64().unwrap() > 0, "{more}: {json}");
        assert!(json["seconds"].as_f64().unwrap() < 25.0 && json["error"].as_str().unwrap().contains(word));
    }
}

#[test]
fn a_server_that_dies_in_mid_run() {
    ends_in_mid_run(Manner::DiesAfter(600), "refused");
}

#[test]
fn a_server_that_freezes_in_mid_run() {
    ends_in_mid_run(Manner::FreezesAfter(600), "don't answer");
}

#[test]
fn one_dead_server_of_two_is_survived() {
    let (dying, living) = (Fake::start(Manner::DiesAfter(300)), Fake::start(Manner::Right));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    // No zxid or version carries over from one fake to the other: a create has neither.
    let line = format!("zk --servers {},{} --op create --duration 2s {SMALL}", dying.at, living.at);
    let output = loadgen(&line, &["--json", file.to_str().unwrap()]);
    let json = json(&file);
    assert_eq!(json["partial"], false, "{}", stderr(&output));
    assert!(json["counts"]["connections_lost"].as_u64().unwrap() > 0, "{json}");
}

#[test]
fn a_server_that_answers_wrong_fails_the_run() {
    let fake = Fake::start(Manner::Forgets);
    let output = loadgen(&format!("zk --servers {} --op set --duration 500ms {SMALL}", fake.at), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stdout(&output).contains("each set raises the version"), "{}", stdout(&output));
}

#[test]
fn admin_ports_that_are_none_are_said() {
    let fake = Fake::start(Manner::Right);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let line = format!("zk --servers {} --duration 300ms {SMALL} --stages --admin {gone}", fake.at);
    let output = loadgen(&line, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&gone) && stderr(&output).contains("admin port"), "{}", stderr(&output));
}

#[test]
fn options_that_make_no_sense_are_refused_with_what_would() {
    for (line, code, word) in [
        ("zk --servers a:1 --op mixed:101", 2, "mixed:R"),
        ("zk --servers a:1 --slo p98=5ms", 2, "p99"),
        ("zk --servers a:1 --size huge", 2, "lognormal"),
        ("zk --servers a:1 --distribution normal", 2, "zipfian"),
        ("zk --servers a:1 --sweep --rate 5", 2, "--rate"),
        ("zk --servers a:1 --rate-from 5", 2, "--sweep"),
        ("zk --servers a:1 --stages", 2, "--admin"),
        ("zk --servers 127.0.0.1:1 --op watch-storm --rate 5", 1, "--rate"),
        ("zk --servers 127.0.0.1:1 --sessions 2 --threads 3", 1, "--threads"),
        ("order --orderers 127.0.0.1:1 --lanes 3", 1, "--lanes"),
        ("order --orderers 127.0.0.1:1 --rate 3", 1, "--interval"),
        ("order", 2, "--orderers"),
        ("order --spawn /nonexistent/zoolog", 1, "--spawn"),
        // All three end; which is seen first is not for us to say.
        ("order --spawn /bin/false", 1, "ended (exit status: 1)"),
    ] {
        let output = loadgen(line, &[]);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{line}: {}", stderr(&output));
    }
}
