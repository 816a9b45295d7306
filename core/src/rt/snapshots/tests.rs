//! Real files: whole, torn, flipped, foreign, newer, left behind.

use super::*;
use crate::machine::Token;
use crate::snapshot::Framer;
use crate::wire::SnapshotAt;
use std::sync::mpsc::{Receiver, channel};

const CLUSTER: ClusterId = ClusterId(9);

/// The bytes of a snapshot, in pieces.
fn snapshot(cluster: ClusterId, gsn: Gsn, pieces: usize) -> Vec<Bytes> {
    let mut begin = Vec::new();
    let mut framer = Framer::begin(&mut begin, cluster, gsn);
    let mut all = Vec::new();
    for i in 0..pieces {
        let mut out = std::mem::take(&mut begin);
        framer.piece(&mut out, i + 1 == pieces, |out| out.resize(out.len() + 300_000, i as u8));
        all.push(out.into());
    }
    all
}

type Answers = Receiver<(Gsn, bool, Result<(), String>)>;

fn writer(dir: &Path) -> (SnapshotStore, SnapshotWriter, Answers) {
    let store = SnapshotStore::open(dir, CLUSTER).expect("a directory");
    let (sender, answers) = channel();
    let answer: Answer = Box::new(move |gsn, last, result| {
        // Nobody listens when a test has ended.
        let _ = sender.send((gsn, last, result));
    });
    let writer = SnapshotWriter::start(store.clone(), answer).expect("a thread");
    (store, writer, answers)
}

/// Saves a snapshot as a machine would, one piece at a time. Returns the last answer.
fn save(writer: &SnapshotWriter, answers: &Answers, gsn: Gsn, pieces: &[Bytes]) -> Result<(), String> {
    for (i, bytes) in pieces.iter().enumerate() {
        let last = i + 1 == pieces.len();
        writer.save(gsn, bytes.clone(), last)?;
        let (of, was_last, result) = answers.recv().expect("the thread lives");
        assert_eq!((of, was_last), (gsn, last));
        result?;
    }
    Ok(())
}

fn gsns(store: &SnapshotStore) -> Vec<u64> {
    store.newest().expect("readable").iter().map(|f| f.gsn.0).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("readable");
    let mut names: Vec<_> = names.map(|e| e.expect("readable").file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A directory with good snapshots at these positions.
fn with_files(gsns: &[u64]) -> (tempfile::TempDir, SnapshotStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, writer, answers) = writer(dir.path());
    for &gsn in gsns {
        save(&writer, &answers, Gsn(gsn), &snapshot(CLUSTER, Gsn(gsn), 3)).expect("room");
    }
    (dir, store)
}

#[test]
fn what_was_saved_is_read_back_and_the_newest_three_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, writer, answers) = writer(dir.path());
    for gsn in [5, 70, 800, 9000] {
        let pieces = snapshot(CLUSTER, Gsn(gsn), 20);
        save(&writer, &answers, Gsn(gsn), &pieces).expect("room");
        let newest = store.newest().expect("readable").remove(0);
        assert_eq!((newest.gsn, newest.bytes), (Gsn(gsn), pieces.concat().len() as u64));
        let mut read = Vec::new();
        let mut sink = |bytes: &[u8]| {
            read.extend_from_slice(bytes);
            Ok(())
        };
        store.read(&newest, &mut sink).expect("a good file");
        assert!(read == pieces.concat(), "the file at {gsn}");
    }
    assert_eq!(gsns(&store), [9000, 800, 70]);
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn a_file_has_no_name_before_its_last_piece_and_what_is_left_over_is_swept_away() {
    let (dir, store) = with_files(&[3]);
    let (_, writer, answers) = writer(dir.path());
    for bytes in &snapshot(CLUSTER, Gsn(7), 4)[..3] {
        writer.save(Gsn(7), bytes.clone(), false).expect("room");
        assert_eq!(answers.recv(), Ok((Gsn(7), false, Ok(()))));
        assert_eq!(gsns(&store), [3]);
        assert_eq!(names(dir.path()), ["00000000000000000003.snapshot", "00000000000000000007.tmp"]);
    }
    drop(writer);
    assert_eq!(names(dir.path()), ["00000000000000000003.snapshot"], "who ends in order cleans up");
    // As after a crash, in which nobody does.
    std::fs::write(dir.path().join("00000000000000000008.tmp"), b"half").expect("room");
    std::fs::write(dir.path().join("notes.txt"), b"mine").expect("room");
    let store = SnapshotStore::open(dir.path(), CLUSTER).expect("a directory");
    assert_eq!(gsns(&store), [3]);
    assert_eq!(names(dir.path()), ["00000000000000000003.snapshot", "notes.txt"]);
}

#[test]
fn a_snapshot_that_is_not_what_it_should_be_never_gets_its_name() {
    let (dir, store) = with_files(&[3]);
    let (_, writer, answers) = writer(dir.path());
    let mut wrong = snapshot(CLUSTER, Gsn(9), 3);
    wrong[1] = wrong[1].iter().map(|b| b ^ 1).collect::<Vec<_>>().into();
    let why = save(&writer, &answers, Gsn(9), &wrong).expect_err("damaged");
    assert!(why.contains("damaged"), "{why}");
    let short = &snapshot(CLUSTER, Gsn(9), 3)[..2];
    let why = save(&writer, &answers, Gsn(9), short).expect_err("torn");
    assert!(why.contains("without its last piece"), "{why}");
    let why = save(&writer, &answers, Gsn(9), &snapshot(CLUSTER, Gsn(8), 2)).expect_err("another position");
    assert!(why.contains("it is of position 8"), "{why}");
    assert_eq!(gsns(&store), [3]);
    // What failed is not in the way of the next.
    save(&writer, &answers, Gsn(9), &snapshot(CLUSTER, Gsn(9), 3)).expect("room");
    assert_eq!(gsns(&store), [9, 3]);
    drop(writer);
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn a_directory_that_has_gone_is_an_answer_and_not_the_end() {
    let outer = tempfile::tempdir().expect("a directory");
    let dir = outer.path().join("snapshots");
    let (store, writer, answers) = writer(&dir);
    std::fs::remove_dir(&dir).expect("it is empty");
    let why = save(&writer, &answers, Gsn(1), &snapshot(CLUSTER, Gsn(1), 2)).expect_err("nowhere to write");
    assert!(why.contains("can't make"), "{why}");
    std::fs::create_dir(&dir).expect("room");
    save(&writer, &answers, Gsn(1), &snapshot(CLUSTER, Gsn(1), 2)).expect("room");
    assert_eq!(gsns(&store), [1]);
}

/// The reason why the file at 50 can't be used once `damage` was done to its bytes; the one before it still can.
fn reason(damage: impl FnOnce(&mut Vec<u8>)) -> String {
    let (_dir, store) = with_files(&[40, 50]);
    let files = store.newest().expect("readable");
    let mut bytes = std::fs::read(&files[0].path).expect("readable");
    damage(&mut bytes);
    std::fs::write(&files[0].path, bytes).expect("room");
    assert_eq!(store.verify(&files[1]), Ok(()));
    let why = store.verify(&files[0]).expect_err("it was damaged");
    assert!(why.contains("00000000000000000050.snapshot can't be used"), "{why}");
    why
}

#[test]
fn files_that_can_t_be_used_are_skipped_with_a_reason() {
    for cut in [0, 10, 64, 70, 300_000, 900_000] {
        let why = reason(|bytes| bytes.truncate(cut));
        assert!(why.contains(&format!("it ends after {cut} bytes")), "{why}");
    }
    for at in [8 + 20, 64, 75, 400_000, 900_000] {
        let why = reason(|bytes| bytes[at] ^= 4);
        assert!(why.contains("it is damaged at byte"), "{why}");
    }
    let why = reason(|bytes| bytes.push(0));
    assert!(why.contains("something follows the last piece"), "{why}");
    let why = reason(|bytes| *bytes = b"#!/bin/sh\n".repeat(20));
    assert!(why.contains("it is no snapshot"), "{why}");
    let why = reason(|bytes| bytes[8] = 2);
    assert!(why.contains("it has format version 2, this build knows 1"), "{why}");
    let why = reason(|bytes| *bytes = snapshot(ClusterId(0xabc), Gsn(50), 2).concat());
    assert!(why.contains("it belongs to cluster 00000000000000000000000000000abc"), "{why}");
    let why = reason(|bytes| *bytes = snapshot(CLUSTER, Gsn(51), 2).concat());
    assert!(why.contains("it is of position 51"), "{why}");
}

#[test]
fn files_that_claim_to_be_newer_are_left_alone() {
    let (dir, store) = with_files(&[10, 20, 30]);
    for name in ["00000000000000000099.snapshot", "0000000000000000099.snapshot", "x.snapshot"] {
        std::fs::write(dir.path().join(name), b"?").expect("room");
    }
    let (_, writer, answers) = writer(dir.path());
    save(&writer, &answers, Gsn(40), &snapshot(CLUSTER, Gsn(40), 2)).expect("room");
    assert_eq!(gsns(&store), [99, 40, 30, 20]);
    assert_eq!(names(dir.path()).len(), 6);
}

fn reader(store: &SnapshotStore) -> (SnapshotReader, Receiver<Given>) {
    let (tell, given) = channel();
    let reader = SnapshotReader::start(store.clone(), Box::new(move |g| tell.send(g).unwrap())).unwrap();
    (reader, given)
}

fn found(
    (reader, given): &(SnapshotReader, Receiver<Given>),
    like: Option<SnapshotAt>,
) -> Option<SnapshotAt> {
    reader.find(like).unwrap();
    match given.recv().unwrap() {
        Given::Found(found) => found,
        Given::Piece(..) => panic!("nothing was to be read"),
    }
}

fn read(
    (reader, given): &(SnapshotReader, Receiver<Given>),
    of: SnapshotAt,
    from: u64,
    bytes: u32,
) -> Result<Bytes, String> {
    reader.read(Token(from), of, from, bytes).unwrap();
    match given.recv().unwrap() {
        Given::Piece(token, piece) if token == Token(from) => piece,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_given_to_others_is_the_file_piece_by_piece_wherever_it_is_cut() {
    let (dir, store) = with_files(&[5, 9]);
    let reader = reader(&store);
    let file = std::fs::read(dir.path().join(format!("{:020}.snapshot", 9))).unwrap();
    let at = found(&reader, None).unwrap();
    assert_eq!(at, SnapshotAt { gsn: Gsn(9), bytes: file.len() as u64, crc: crc32c::crc32c(&file) });
    for bytes in [4096u32, 5000, 70_001, 1 << 20] {
        let mut whole = Vec::new();
        for from in (0..at.bytes).step_by(bytes as usize) {
            let now = u64::from(bytes).min(at.bytes - from) as u32;
            let piece = read(&reader, at, from, now).unwrap();
            assert_eq!(piece.len(), now as usize);
            whole.extend_from_slice(&piece);
        }
        assert!(whole == file, "in pieces of {bytes}");
    }
    for from in [0, 1, 4095, 4096, at.bytes - 1] {
        assert_eq!(read(&reader, at, from, 1).unwrap(), file[from as usize..][..1]);
    }
    assert!(read(&reader, at, at.bytes - 1, 2).unwrap_err().contains("ends"), "nothing is made up");
    assert!(read(&reader, SnapshotAt { crc: 0, ..at }, 0, 1).unwrap_err().contains("not there"));
}

#[test]
fn what_was_found_is_given_to_its_end_though_it_is_gone_and_damaged_ones_never_are() {
    let (dir, store) = with_files(&[5, 9]);
    let reader = reader(&store);
    let path = |gsn: u64| dir.path().join(format!("{gsn:020}.snapshot"));
    let at = found(&reader, None).unwrap();
    let file = std::fs::read(path(9)).unwrap();
    std::fs::remove_file(path(9)).unwrap();
    assert_eq!(found(&reader, Some(at)), Some(at), "it is still open");
    assert_eq!(read(&reader, at, 0, 50).unwrap(), file[..50]);
    assert_eq!(found(&reader, None).unwrap().gsn, Gsn(5), "who has begun none begins with what is there");
    let mut rotten = std::fs::read(path(5)).unwrap();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    std::fs::write(path(5), rotten).unwrap();
    assert_eq!(found(&reader, None), None);
    let nothing_there = SnapshotStore::look(&dir.path().join("nowhere"), CLUSTER);
    assert_eq!(found(&super::tests::reader(&nothing_there), None), None);
}

#[test]
fn what_is_dropped_is_gone_and_another_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writer, answers) = writer(dir.path());
    let pieces = snapshot(store.cluster, Gsn(9), 3);
    save(&writer, &answers, Gsn(9), &pieces).unwrap();
    // Half of one of the same position: what is saved next is the first piece of the whole.
    writer.save(Gsn(11), pieces[0].clone(), false).unwrap();
    assert!(answers.recv().unwrap().2.is_ok());
    writer.drop_files(false).unwrap();
    let other = snapshot(store.cluster, Gsn(11), 2);
    save(&writer, &answers, Gsn(11), &other).unwrap();
    assert_eq!(gsns(&store), [11, 9]);
    writer.drop_files(true).unwrap();
    let last = snapshot(store.cluster, Gsn(12), 2);
    save(&writer, &answers, Gsn(12), &last).unwrap();
    assert_eq!(gsns(&store), [12]);
}

/// What `bytes` are of.
fn about(gsn: Gsn, bytes: &[u8]) -> SnapshotAt {
    SnapshotAt { gsn, bytes: bytes.len() as u64, crc: crc32c::crc32c(bytes) }
}

/// Saves `all` of another node's snapshot from `from` on, as far as `until`, in pieces. Returns the last answer.
fn save_part(
    (writer, answers): (&SnapshotWriter, &Answers),
    of: SnapshotAt,
    all: &[u8],
    (mut from, until): (usize, usize),
) -> Result<(), String> {
    while from < until {
        let piece = &all[from..until.min(from + 700_000)];
        let last = from + piece.len() == all.len();
        writer.save_part(of, from as u64, Bytes::copy_from_slice(piece), last)?;
        let (gsn, was_last, result) = answers.recv().expect("the thread lives");
        assert_eq!((gsn, was_last), (of.gsn, last));
        result?;
        from += piece.len();
    }
    Ok(())
}

#[test]
fn what_is_there_of_anothers_snapshot_outlives_its_writer_and_is_gone_on_with() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = snapshot(CLUSTER, Gsn(70), 40).concat();
    let of = about(Gsn(70), &all);
    let (_, first, answers) = writer(dir.path());
    save_part((&first, &answers), of, &all, (0, 9_500_000)).expect("room");
    assert_eq!(names(dir.path()), [format!("{:020}-{}-{:08x}.part", 70, of.bytes, of.crc)]);
    drop(first);
    let (store, second, answers) = writer(dir.path());
    assert_eq!(gsns(&store), [0; 0], "it has no name yet");
    let part = store.part().expect("readable").expect("it is there");
    assert_eq!((part.of, part.bytes), (of, 8 << 20), "so much was synced");
    let mut read = Vec::new();
    let mut sink = |bytes: &[u8]| {
        read.extend_from_slice(bytes);
        Ok(())
    };
    store.read_part(&part, &mut sink).expect("readable");
    assert!(read == all[..8 << 20]);
    // Own ones don't come in its way.
    save(&second, &answers, Gsn(60), &snapshot(CLUSTER, Gsn(60), 2)).expect("room");
    save_part((&second, &answers), of, &all, (8 << 20, all.len())).expect("room");
    assert_eq!(gsns(&store), [70, 60]);
    assert_eq!(std::fs::read(&store.newest().expect("readable")[0].path).expect("readable"), all);
    assert_eq!(names(dir.path()).len(), 2);
    assert_eq!(store.part(), Ok(None));
}

#[test]
fn what_is_there_of_anothers_snapshot_goes_when_it_is_dropped_or_another_is_begun_or_the_disk_says_no() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = snapshot(CLUSTER, Gsn(70), 40).concat();
    let of = about(Gsn(70), &all);
    let (store, writer, answers) = writer(dir.path());
    save(&writer, &answers, Gsn(3), &snapshot(CLUSTER, Gsn(3), 2)).expect("room");
    let begin = || save_part((&writer, &answers), of, &all, (0, 9_500_000)).expect("room");
    let done = || save(&writer, &answers, Gsn(3), &snapshot(CLUSTER, Gsn(3), 2)).expect("room");
    begin();
    writer.drop_files(false).expect("room");
    done();
    assert_eq!((store.part(), gsns(&store)), (Ok(None), vec![3]));
    begin();
    let other = SnapshotAt { crc: 1, ..of };
    save_part((&writer, &answers), other, &all, (0, 5_000_000)).expect("room");
    assert_eq!(store.part().expect("readable").map(|p| p.of), Some(other));
    // What doesn't go on where it was is not taken, and what there is is no good then.
    for (of, from) in [(other, 4_194_305), (of, 4 << 20), (other, 8 << 20)] {
        done();
        let why = save_part((&writer, &answers), of, &all, (from, from + 1)).expect_err("elsewhere");
        assert!(why.contains("does not have the"), "{why}");
    }
    begin();
    let why = save_part((&writer, &answers), of, &all, (9_400_000, 9_500_000)).expect_err("elsewhere");
    assert!(why.contains("what comes begins at"), "{why}");
    assert_eq!(store.part(), Ok(None));
    begin();
    writer.drop_files(true).expect("room");
    save_part((&writer, &answers), of, &all, (0, all.len())).expect("room");
    assert_eq!(gsns(&store), [70]);
}

#[test]
fn a_part_that_turns_out_to_be_damaged_gets_no_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut all = snapshot(CLUSTER, Gsn(70), 20).concat();
    let of = about(Gsn(70), &all);
    all[5_000_000] ^= 4;
    let (store, writer, answers) = writer(dir.path());
    let why = save_part((&writer, &answers), of, &all, (0, all.len())).expect_err("damaged");
    assert!(why.contains("damaged"), "{why}");
    assert!(names(dir.path()).is_empty());
    // Names that say nothing go.
    for name in ["x.part", "1-2.part", "00000000000000000070-5-00000001.part"] {
        std::fs::write(dir.path().join(name), [0; 100]).expect("room");
    }
    assert_eq!(store.part(), Ok(None));
    assert!(names(dir.path()).is_empty());
}

#[test]
fn reading_ahead_gives_the_file_as_it_is_and_ends_when_nobody_wants_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SnapshotStore::open(dir.path(), CLUSTER).expect("a directory");
    // Several blocks, and none.
    for bytes in [(9 << 20) + 5, 4 << 20, 4097, 0] {
        let path = dir.path().join(format!("{:020}.snapshot", 7));
        let content: Vec<u8> = (0..bytes).map(|i: u64| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
        std::fs::write(&path, &content).expect("room");
        let file = store.newest().expect("readable").remove(0);
        assert_eq!(file.bytes, bytes);
        let mut read = Vec::new();
        let all = store.read_ahead(&file, &mut |bytes| {
            read.extend_from_slice(bytes);
            Ok(())
        });
        assert!(all == Ok(()) && read == content, "{bytes} bytes: {all:?}");
        let mut calls = 0;
        let refused = store.read_ahead(&file, &mut |_| {
            calls += 1;
            Err(SnapshotError::NotASnapshot)
        });
        let expected = (bytes > 0).then(|| SnapshotError::NotASnapshot.to_string());
        assert_eq!((calls, refused.err()), (usize::from(bytes > 0), expected));
        std::fs::remove_file(&path).expect("just made");
        let gone = store.read_ahead(&file, &mut |_| Ok(())).expect_err("it is gone");
        assert!(gone.contains("it can't be read"), "{gone}");
    }
}
