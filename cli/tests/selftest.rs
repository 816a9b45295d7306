//! Does `zoolog admin selftest` say something about everything, and leave nothing behind? What it measures is the
//! machine's; only the shape is checked here.

use serde_json::Value;
use std::process::Command;

#[test]
fn every_item_has_a_verdict_and_a_cure_when_it_needs_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_zoolog"))
        .args(["admin", "selftest", "--json", "--data-dir"])
        .arg(dir.path().join("not/there/yet"))
        .output()
        .unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rank = |v: &Value| ["fit", "slow", "unfit"].iter().position(|name| v == name).expect("a verdict");
    let items = all["items"].as_array().unwrap();
    let mut worst = 0;
    for item in items {
        let verdict = rank(&item["verdict"]);
        worst = worst.max(verdict);
        assert_eq!(verdict == 0, item["cure"] == "", "{item}");
        assert!(!item["text"].as_str().unwrap().is_empty() && item["values"].is_object(), "{item}");
    }
    assert_eq!(rank(&all["verdict"]), worst);
    assert_eq!(output.status.success(), worst < 2, "{}", String::from_utf8_lossy(&output.stderr));
    for name in
        ["start-up checks", "io_uring", "limits", "cores", "memory", "file system", "clock", "standstills"]
    {
        assert!(items.iter().any(|item| item["name"] == name), "{name}: {all}");
    }
    for name in ["write, O_DSYNC", "wake-up", "loopback"] {
        let item = items.iter().find(|item| item["name"] == name);
        // Where direct I/O is refused there is a reason instead of figures.
        let values = item.map(|item| &item["values"]);
        assert!(values.is_none_or(|v| v["p99_us"].as_f64() >= v["p50_us"].as_f64()), "{all}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}
