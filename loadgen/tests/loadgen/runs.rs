//! Does each kind of run do what it says, and leave the files it was asked for?

use crate::fake::{Fake, Manner};
use crate::{json, loadgen, stderr, stdout};
use serde_json::Value;

/// A short run against a server that does right: its JSON, with what the server saw.
fn right(line: &str) -> (Value, Fake) {
    let fake = Fake::start(Manner::Right);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let line = format!("zk --servers {} --sessions 3 --depth 4 --warmup 50ms {line}", fake.at);
    let output = loadgen(&line, &["--json", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{line}: {}{}", stdout(&output), stderr(&output));
    let json = json(&file);
    assert_eq!((&json["ok"], &json["partial"]), (&true.into(), &false.into()));
    (json, fake)
}

fn answered(json: &Value, kind: &str) -> u64 {
    json["ops"][kind]["answered"].as_u64().unwrap_or_else(|| panic!("no {kind} in {}", json["ops"]))
}

#[test]
fn every_operation_runs_on_one_thread_and_on_several() {
    for (op, kinds) in [
        ("create", &["create"][..]),
        ("set", &["set"]),
        ("get", &["get"]),
        ("exists", &["exists"]),
        ("mixed:50", &["get", "set"]),
        ("create-delete", &["create", "delete"]),
        ("watch-storm", &["event", "last-event", "arm", "set"]),
        ("session-storm", &["open", "close"]),
    ] {
        for threads in [1, 3] {
            let line = format!("--op {op} --threads {threads} --keys 20 --duration 400ms");
            let (json, _) = right(&line);
            for kind in kinds {
                assert!(answered(&json, kind) > 0, "{line}: {json}");
            }
            assert_eq!(json["counts"]["threads_busy_percent"].as_array().unwrap().len(), threads);
        }
    }
}

#[test]
fn a_watch_storm_reaches_every_watcher_once_per_set() {
    let (json, _) = right("--op watch-storm --threads 2 --duration 500ms");
    let (events, lasts) = (answered(&json, "event"), answered(&json, "last-event"));
    // The window may open and close in mid-round.
    assert!(lasts > 0 && events.abs_diff(lasts * 3) <= 3, "{events} events, {lasts} rounds of 3");
}

#[test]
fn a_session_storm_opens_a_session_each_time() {
    let (json, fake) = right("--op session-storm --duration 500ms");
    let opened = fake.sessions.load(std::sync::atomic::Ordering::SeqCst);
    assert!(opened >= answered(&json, "open"), "{opened} sessions");
    assert!(answered(&json, "open") > 3);
}

#[test]
fn keys_sizes_and_credentials_reach_the_server() {
    let (json, fake) = right(
        "--op mixed:50 --keys 50 --distribution zipfian:1.2 --size uniform:10-300 --auth digest:a:b --duration 400ms",
    );
    assert_eq!(json["settings"]["distribution"], "zipfian:1.2");
    assert_eq!(json["settings"]["size_bytes"], "uniform:10-300");
    assert!(fake.count(100) >= 3, "each session shows its credentials");
}

#[test]
fn a_fixed_rate_is_kept_and_response_and_service_time_are_told_apart() {
    let (json, _) = right("--op set --keys 9 --rate 300 --duration 1s --lateness 10s");
    assert_eq!(json["counts"]["scheduled"], 315, "50 ms of warm-up and a second at 300 per second");
    assert!(answered(&json, "set") <= 315);
    for which in ["latency_us", "service_us"] {
        assert!(json["ops"]["set"][which]["p99"].as_f64().unwrap() > 0.0, "{which}");
    }
    assert!(json["generator_lateness_us"]["count"].as_u64().unwrap() > 100);
}

#[test]
fn a_run_leaves_the_files_it_was_asked_for() {
    let fake = Fake::start(Manner::Right);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let line =
        format!("zk --servers {} --sessions 2 --keys 5 --warmup 0s --duration 1500ms --threads 2", fake.at);
    let output = loadgen(
        &line,
        &[
            "--json",
            &path("a/r.json"),
            "--hgrm",
            &path("r.hgrm"),
            "--hlog",
            &path("r.hlog"),
            "--plots",
            &path("p"),
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert!(read("r.hgrm").contains("#[Max"));
    assert!(read("r.hlog").lines().filter(|l| !l.starts_with('#')).count() >= 2, "{}", read("r.hlog"));
    assert!(read("p/timeline.svg").contains("</svg>"));
    let json = json(&folder.path().join("a/r.json"));
    let rows = json["timeline"].as_array().unwrap();
    let sum: u64 = rows.iter().map(|r| r["answered"].as_u64().unwrap()).sum();
    assert_eq!((rows.len(), sum), (2, answered(&json, "set")), "the timeline has every answer once");
}

#[test]
fn a_sweep_climbs_until_it_breaks_and_names_the_knee() {
    let fake = Fake::start(Manner::Right);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sweep.json");
    // One request in flight of one session: no server on earth answers a million of those per second.
    let line = format!(
        "zk --servers {} --sessions 1 --depth 1 --keys 5 --warmup 0s --sweep --rate-from 50 --rate-factor 100 \
         --step-duration 400ms --lateness 10s --slo max=10s --plots {}",
        fake.at,
        folder.path().to_str().unwrap()
    );
    let output = loadgen(&line, &["--json", file.to_str().unwrap()]);
    let sweep = json(&file)["sweep"].clone();
    let steps = sweep["steps"].as_array().unwrap();
    assert!(
        steps.len() >= 2 && steps[0]["good"] == true && steps.last().unwrap()["good"] == false,
        "{sweep}"
    );
    assert!(sweep["knee_per_second"].as_f64().unwrap() >= 50.0, "{sweep}");
    assert!(
        stdout(&output).contains("knee:") && stdout(&output).contains("of the rate"),
        "{}",
        stdout(&output)
    );
    assert!(std::fs::read_to_string(folder.path().join("sweep.svg")).unwrap().contains("objective max=10s"));
}

#[test]
fn an_objective_that_is_not_met_is_an_exit_code() {
    let fake = Fake::start(Manner::Right);
    let line = format!("zk --servers {} --sessions 2 --keys 5 --warmup 0s --duration 300ms", fake.at);
    for (slo, code) in [("p50=10s", 0), ("p50=1us", 6), ("p50=10s,max=1us", 6)] {
        let output = loadgen(&line, &["--slo", slo]);
        assert_eq!(output.status.code(), Some(code), "{slo}: {}", stderr(&output));
        assert_eq!(stdout(&output).contains("NOT met"), code == 6, "{}", stdout(&output));
    }
}

#[test]
fn a_generator_that_can_not_keep_up_is_an_error_of_its_own() {
    let fake = Fake::start(Manner::Right);
    // No generator begins a request within a microsecond of its time.
    let line =
        format!("zk --servers {} --sessions 2 --keys 5 --warmup 0s --duration 500ms --rate 500", fake.at);
    let output = loadgen(&line, &["--lateness", "1us"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("could not keep up") && stderr(&output).contains("--threads"));
}
