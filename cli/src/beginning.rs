//! From which state does a ZooKeeper node begin? That of its newest snapshot that is good. Which ones are not is said, with
//! the reason; if none is, it begins with nothing, and gets what the log has no more from another node. What it had got of
//! another's before it ended is read, too, so that it can go on there.

use crate::beware;
use std::path::Path;
use zoolog_core::ClusterId;
use zoolog_core::rt::clock;
use zoolog_core::rt::snapshots::{SnapshotFile, SnapshotStore};
use zoolog_zk::bootstrap::Begun;
use zoolog_zk::snapshot::Restored;

/// The state to start from. Each file was read back when it was made, so that the next older one than that which is loaded
/// counts without being read again. One that may be of a wrong state, as the end of the last life says, is put aside.
///
/// # Errors
/// Text for a person: the directory can't be read.
pub fn restored(
    name: &str,
    dir: &Path,
    store: &SnapshotStore,
    cluster: ClusterId,
) -> Result<Restored, String> {
    let beware = beware::recall(dir)?;
    let put_aside = |file: &SnapshotFile| {
        tracing::warn!(node = name, "{} may be of a wrong state: it is put aside", file.path.display());
        beware::put_aside(file)
    };
    let mut restored = Restored::default();
    let mut files = store.newest()?.into_iter();
    while let Some(file) = files.next() {
        if !beware.permits(file.gsn, |_| true) {
            put_aside(&file)?;
            continue;
        }
        let began = clock::now();
        match crate::zk::load_snapshot(store, &file, cluster) {
            Ok(state) if !beware.permits(file.gsn, |gsn| state.has_skipped(gsn)) => put_aside(&file)?,
            Ok(state) => {
                let (znodes, ms) = (state.znode_count(), clock::now().since(began).as_millis());
                tracing::info!(
                    node = name,
                    "starting from the snapshot at {}: {znodes} znodes, {} bytes in {ms} ms",
                    file.gsn,
                    file.bytes
                );
                restored = Restored::from_snapshot(state, files.next().map(|f| f.gsn));
                break;
            }
            Err(why) => tracing::warn!(node = name, "{why}; trying the one before it"),
        }
    }
    restored.begun = Begun::on_disk(name, store, (cluster, ""), restored.state.applied())?;
    restored.look_ahead = beware.command.is_some();
    restored.outline = beware::recall_outline(dir);
    beware::keep(dir, beware.left(restored.second_newest))?;
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use zoolog_core::snapshot::{Framer, HEADER_BYTES, Unframer};
    use zoolog_core::wire::SnapshotAt;
    use zoolog_core::{Gsn, WallMs};
    use zoolog_zk::snapshot::{Pace, Taking};
    use zoolog_zk::state::{State, encode};
    use zoolog_zk::txn::{Acl, AuthId, CreateMode, Op, Txn};

    const CLUSTER: ClusterId = ClusterId(7);
    /// First byte of a piece of nodes.
    const NODES: u8 = 4;

    /// The file of a state of so many nodes, and its position.
    fn file(cluster: ClusterId, nodes: usize) -> (Gsn, Vec<u8>) {
        let mut state = State::new();
        for i in 0..nodes {
            let acl = vec![Acl { perms: 1, id: AuthId { scheme: "digest".into(), id: "a:b".into() } }];
            let (path, data) = (format!("/{i}"), Some(vec![1; 20]));
            let op = Op::Create { path, data, acl, mode: CreateMode::Persistent };
            let record = encode(&Txn { session: 0, attach: 0, wall: WallMs(1), ids: vec![], op });
            state.apply(state.applied(), &record, &mut Vec::new());
        }
        let mut taking = Taking::begin(&mut state, cluster, Pace::default());
        let mut file = Vec::new();
        loop {
            let (bytes, last) = taking.next(&mut state);
            file.extend_from_slice(&bytes);
            if last {
                return (state.applied(), file);
            }
        }
    }

    fn path(dir: &Path, gsn: Gsn) -> PathBuf {
        dir.join(format!("{:020}.snapshot", gsn.0))
    }

    /// What a node begins with that has three snapshots, of which `change` has changed the newest; and where the others are.
    fn with_newest(change: impl FnOnce(&mut Vec<u8>)) -> (Restored, [Gsn; 3]) {
        let dir = tempfile::tempdir().unwrap();
        let gsns = [9, 6, 3].map(|nodes| {
            let (gsn, bytes) = file(CLUSTER, nodes);
            std::fs::write(path(dir.path(), gsn), bytes).unwrap();
            gsn
        });
        let mut bytes = std::fs::read(path(dir.path(), gsns[0])).unwrap();
        change(&mut bytes);
        std::fs::write(path(dir.path(), gsns[0]), bytes).unwrap();
        let store = SnapshotStore::open(dir.path(), CLUSTER).unwrap();
        (restored("zk-0", dir.path(), &store, CLUSTER).unwrap(), gsns)
    }

    /// The newest is passed over, and nothing of it is used.
    fn is_passed_over(change: impl FnOnce(&mut Vec<u8>)) {
        let (restored, gsns) = with_newest(change);
        assert_eq!((restored.newest, restored.second_newest), (Some(gsns[1]), Some(gsns[2])));
        assert_eq!((restored.state.applied(), restored.state.znode_count()), (gsns[1], 6 + 4));
    }

    /// The same file but for what `change` does to the pieces of nodes, with all checksums right.
    fn with_nodes(bytes: &mut Vec<u8>, change: impl Fn(&mut Vec<u8>)) {
        let (mut frame, mut pieces) = (Unframer::new(CLUSTER), Vec::new());
        let each = |piece: &[u8], _| {
            pieces.push(piece.to_vec());
            Ok(())
        };
        frame.push(bytes, each).unwrap();
        let gsn = frame.finish().unwrap();
        bytes.clear();
        let mut framer = Framer::begin(bytes, CLUSTER, gsn);
        let last = pieces.len() - 1;
        for (i, mut piece) in pieces.into_iter().enumerate() {
            if piece[0] == NODES {
                change(&mut piece);
            }
            framer.piece(bytes, i == last, |out| out.extend_from_slice(&piece));
        }
    }

    #[test]
    fn the_newest_good_snapshot_is_begun_with() {
        let (restored, gsns) = with_newest(|_| ());
        assert_eq!((restored.newest, restored.second_newest), (Some(gsns[0]), Some(gsns[1])));
        assert_eq!(restored.state.znode_count(), 9 + 4);
        let (again, _) = with_newest(|bytes| with_nodes(bytes, |_| ()));
        assert_eq!(again.newest, Some(gsns[0]), "what `with_nodes` does alone changes nothing");
    }

    #[test]
    fn a_snapshot_that_is_truncated_is_passed_over() {
        for part in [1, 2, 3, 10, 1000] {
            is_passed_over(|bytes| {
                bytes.truncate(bytes.len() - bytes.len().div_ceil(part).min(bytes.len() - 1))
            });
        }
        is_passed_over(|bytes| bytes.truncate(bytes.len() - 1));
        is_passed_over(|bytes| bytes.truncate(HEADER_BYTES));
    }

    #[test]
    fn a_snapshot_with_a_flipped_bit_is_passed_over() {
        let len = file(CLUSTER, 9).1.len();
        for at in (0..len).step_by(len / 40) {
            is_passed_over(|bytes| bytes[at] ^= 1 << (at % 8));
        }
    }

    #[test]
    fn a_snapshot_that_is_empty_is_passed_over() {
        is_passed_over(Vec::clear);
    }

    #[test]
    fn a_snapshot_of_another_cluster_is_passed_over() {
        is_passed_over(|bytes| *bytes = file(ClusterId(8), 9).1);
    }

    #[test]
    fn a_snapshot_of_a_newer_version_is_passed_over() {
        is_passed_over(|bytes| {
            bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        });
    }

    #[test]
    fn a_snapshot_of_another_position_than_its_name_says_is_passed_over() {
        is_passed_over(|bytes| *bytes = file(CLUSTER, 4).1);
    }

    /// A file refers to itself by numbers: of a node's parent, of its ACL, of bytes of its name and its data.
    #[test]
    fn a_snapshot_that_points_outside_itself_is_passed_over() {
        // The last node's numbers: its slot, parent, ACL, and the lengths of its name and data.
        let of_last = |piece: &[u8]| piece.len() - (84 + 1 + 20);
        for at in 1..5 {
            for number in [0x00ff_ffff, u32::MAX, u32::MAX - 1] {
                is_passed_over(|bytes| {
                    with_nodes(bytes, |piece| {
                        let start = of_last(piece) + 4 * at;
                        piece[start..start + 4].copy_from_slice(&number.to_le_bytes());
                    });
                });
            }
        }
    }

    /// Bytes after which the store syncs.
    const SYNC_BYTES: usize = 4 << 20;

    /// The file of a state of 50,000 nodes.
    static LARGE: LazyLock<(Gsn, Vec<u8>)> = LazyLock::new(|| file(CLUSTER, 50_000));

    /// That file, of which `have` bytes are there from an earlier life, changed by `change`: what there is of it afterwards.
    fn with_part(newest: usize, have: usize, change: impl FnOnce(&mut [u8])) -> (Option<Begun>, bool) {
        let dir = tempfile::tempdir().unwrap();
        let (gsn, mut bytes) = LARGE.clone();
        let of = SnapshotAt { gsn, bytes: bytes.len() as u64, crc: crc32c::crc32c(&bytes) };
        assert!(bytes.len() > SYNC_BYTES, "{} bytes", bytes.len());
        bytes.truncate(have);
        change(&mut bytes);
        let part = dir.path().join(format!("{:020}-{}-{:08x}.part", of.gsn.0, of.bytes, of.crc));
        std::fs::write(&part, bytes).unwrap();
        if newest > 0 {
            let (gsn, bytes) = file(CLUSTER, newest);
            std::fs::write(path(dir.path(), gsn), bytes).unwrap();
        }
        let store = SnapshotStore::open(dir.path(), CLUSTER).unwrap();
        let begun = restored("zk-0", dir.path(), &store, CLUSTER).unwrap().begun;
        assert!(begun.as_ref().is_none_or(|b| b.of() == of));
        (begun, part.exists())
    }

    #[test]
    fn what_was_got_of_anothers_snapshot_is_gone_on_with_where_it_was_synced() {
        let (begun, there) = with_part(9, SYNC_BYTES + 1000, |_| ());
        assert_eq!((begun.unwrap().bytes(), there), (SYNC_BYTES as u64, true));
        // What was not synced may be anything.
        let (begun, there) = with_part(0, SYNC_BYTES + 1000, |bytes| bytes[SYNC_BYTES..].fill(7));
        assert_eq!((begun.unwrap().bytes(), there), (SYNC_BYTES as u64, true));
    }

    #[test]
    fn what_was_got_and_is_damaged_too_short_or_older_than_what_there_is_is_removed() {
        for at in [3, 5000, SYNC_BYTES / 2] {
            let (begun, there) = with_part(9, SYNC_BYTES, |bytes| bytes[at] ^= 1);
            assert!(begun.is_none() && !there, "byte {at}");
        }
        let (begun, there) = with_part(9, SYNC_BYTES - 1, |_| ());
        assert!(begun.is_none() && !there);
        let (begun, there) = with_part(50_001, SYNC_BYTES, |_| ());
        assert!(begun.is_none() && !there);
    }

    #[test]
    fn with_none_that_is_good_it_begins_with_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path(), Gsn(5)), b"no snapshot").unwrap();
        let store = SnapshotStore::open(dir.path(), CLUSTER).unwrap();
        let restored = restored("zk-0", dir.path(), &store, CLUSTER).unwrap();
        assert_eq!((restored.newest, restored.state.applied()), (None, Gsn(0)));
        assert!(path(dir.path(), Gsn(5)).exists(), "it may be worth something to somebody");
    }
}
