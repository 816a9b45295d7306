//! The binary, run as users run it, against a server that does right or wrong in a known way.

mod bad_input;
mod fake;
mod runs;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `loadgen` with the words of `line`, and then `more`.
fn loadgen(line: &str, more: &[&str]) -> Output {
    let words = line.split_whitespace().chain(more.iter().copied());
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(words).output().expect("it starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}
