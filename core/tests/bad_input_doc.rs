//! Does docs/BAD_INPUT.md name tests that there are, and all that were written for it?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names of the functions in these files, or in all below these folders.
fn functions(paths: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut left: Vec<PathBuf> = paths.iter().map(|p| root.join(p)).collect();
    let mut names = BTreeSet::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            names.extend(
                text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())),
            );
        }
    }
    names
}

/// The points that there are of what clients send: each has a row, in order, and a test in it.
#[test]
fn each_point_of_what_clients_send_has_a_test() {
    let text = include_str!("../../docs/BAD_INPUT.md");
    let point = |line: &'static str| {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
        Some((number.parse::<usize>().ok()?, rest))
    };
    let rows: Vec<_> = text.lines().filter_map(point).collect();
    assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), (1..=56).collect::<Vec<_>>());
    for (number, rest) in rows {
        let names = rest.split('`').skip(1).step_by(2).filter(|w| w.matches('_').count() >= 2);
        assert!(names.count() > 0, "point {number}: {rest}");
    }
}

#[test]
fn the_table_names_each_test_and_each_test_is_there() {
    let text = include_str!("../../docs/BAD_INPUT.md");
    let rows = text.lines().filter(|l| l.starts_with('|'));
    let words = rows.flat_map(|l| l.split('`').skip(1).step_by(2));
    let is_name = |w: &&str| w.matches('_').count() >= 2 && !w.contains(['/', '.', ':', '{']);
    let named: BTreeSet<String> = words.filter(is_name).map(String::from).collect();
    assert!(named.len() > 150, "{} names", named.len());
    let all = functions(&[
        "shard/tests",
        "shard/src",
        "order/tests",
        "order/src",
        "client/tests",
        "core/src",
        "core/tests",
        "zk/src",
        "zk/tests",
        "cli/src",
        "cli/tests",
    ]);
    let unknown: Vec<_> = named.difference(&all).collect();
    assert!(unknown.is_empty(), "there are no such tests: {unknown:?}");
    let written = functions(&[
        "shard/tests/slot/bad_input",
        "order/tests/machine/bad_input.rs",
        "order/tests/machine/bad_files.rs",
        "client/tests/client/bad_input.rs",
        "client/tests/local/bad_input.rs",
        "zk/src/node/tests/bad_input",
        "zk/tests/decode_memory.rs",
        "cli/tests/bad_input.rs",
        "core/tests/decoders.rs",
    ]);
    // Helpers have short names.
    let is_test =
        |n: &&String| n.matches('_').count() >= 4 && !n.starts_with("forged_report") && !n.contains('<');
    let missing: Vec<_> = written.difference(&named).filter(is_test).collect();
    assert!(missing.is_empty(), "not in docs/BAD_INPUT.md: {missing:?}");
}
