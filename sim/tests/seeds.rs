//! Seeds that once failed, each with what they found; and that a seed is one history.

use zoolog_sim::run::run;
use zoolog_sim::trace::TraceMode;

fn passes(seed: u64) {
    let outcome = run(seed, TraceMode::Off);
    assert_eq!(outcome.failure, None, "seed {seed}: {}", outcome.summary);
}

/// Sessions so short, on links so slow, that a node could never touch them in time: the world was at fault.
#[test]
fn seed_79_slow_links_and_short_sessions() {
    passes(79);
}

/// The last cuts were applied while nobody listened, and all of them was trimmed soon: the checker, which had only heard
/// of cuts, took the reader to be ahead of the log.
#[test]
fn seed_430_cuts_that_nobody_was_sent() {
    passes(430);
}

/// 36,588 records, read again from the start in pieces of 3 KiB over links of 15 ms: the world was at fault.
#[test]
fn seed_1422_a_reader_that_gets_on_slowly() {
    passes(1422);
}

/// A leader fell silent with the question for a name unanswered, and the client that left it asked nobody again.
#[test]
fn seed_1998_a_name_asked_of_a_silent_leader() {
    passes(1998);
}

/// A leader had applied its removal, which others had made durable, before its own disk had: raft looked its copy up among
/// the members' and panicked.
#[test]
fn seed_4787_a_removed_leader_with_a_slow_disk() {
    passes(4787);
}

/// A writer without a name had closed all lanes eight times before its first batch got in: the checker took that for a
/// later opening of a name, whose numbers begin anew.
#[test]
fn seed_5959_eight_openings_before_the_first_batch() {
    passes(5959);
}

/// The reader was cut off so early that it became a consumer only after some of the log was trimmed.
#[test]
fn seed_1907_a_reader_that_comes_late() {
    passes(1907);
}

/// An operator trimmed by hand before any ZooKeeper node was a consumer: none of them could ever start.
#[test]
fn seed_7776_a_trim_before_anybody_holds_the_log() {
    passes(7776);
}

#[test]
fn one_seed_twice_gives_the_same_trace_to_the_byte() {
    for seed in [1, 6] {
        let (a, b) = (run(seed, TraceMode::Collect), run(seed, TraceMode::Collect));
        assert!(!a.trace.is_empty());
        let differ = a.trace.lines().zip(b.trace.lines()).position(|(x, y)| x != y);
        assert_eq!(differ, None, "seed {seed}: the first line that differs");
        assert_eq!(a.trace.len(), b.trace.len());
    }
}

#[test]
fn seeds_differ_in_kind_and_not_only_in_order() {
    let summaries: Vec<String> = (1..5).map(|s| run(s, TraceMode::Off).summary).collect();
    assert!(summaries.windows(2).all(|w| w[0] != w[1]), "{summaries:?}");
}
