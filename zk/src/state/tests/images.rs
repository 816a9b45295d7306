//! Snapshots of random histories: begun anywhere, with the history going on while they are taken.

use super::*;
use crate::snapshot::{Loader, Pace, Taking};
use zoolog_core::{ClusterId, Gsn};

/// What a snapshot must come to: the model as it was.
struct Wanted {
    model: Model,
    hash: u64,
    applied: Gsn,
}

fn check_file(bytes: &[u8], wanted: &Wanted) {
    let mut loader = Loader::new(ClusterId(1));
    for chunk in bytes.chunks(1000) {
        loader.push(chunk).expect("a good file");
    }
    let state = loader.finish().expect("a good file");
    assert_eq!((state.applied(), state.hash()), (wanted.applied, wanted.hash));
    assert_eq!(state.hash_from_scratch(), wanted.hash);
    check_against_model(&state, &wanted.model);
    assert_eq!(state.znode_count(), state.tree.walk_count(), "every node is below the root");
}

proptest! {
    /// Invariant ZK-5 across snapshots: whatever is applied while one is taken, and whenever, it holds the
    /// state at its position, and the state goes on as if none had been taken.
    #[test]
    fn a_snapshot_is_the_state_at_its_position(
        steps in prop::collection::vec((steps(), 0u8..8), 1..160),
        piece_bytes in 1..600usize,
        piece_slots in 1..6u32,
    ) {
        let (mut run, mut model) = (Run::default(), Model::new());
        let mut connections: Vec<(i64, u64)> = Vec::new();
        let mut taking: Option<(Taking, Vec<u8>, Wanted)> = None;
        for (step, dice) in &steps {
            if let Some((flags, txn)) = resolve(step, &model, &connections) {
                run.apply_bytes(&encode_with(flags, &txn));
                model.apply(flags, &txn, &mut Vec::new());
                connections.extend(run.changes.iter().filter_map(|change| match change {
                    Change::SessionAttached { session, attach } => Some((*session, *attach)),
                    _ => None,
                }));
            }
            match (dice, taking.take()) {
                (0..3, None) => {
                    let (hash, applied) = (run.state.hash(), run.state.applied());
                    let pace = Pace { piece_bytes, piece_slots };
                    let new = Taking::begin(&mut run.state, ClusterId(1), pace);
                    taking = Some((new, Vec::new(), Wanted { model: model.clone(), hash, applied }));
                }
                (0, Some((given_up, ..))) => given_up.abandon(&mut run.state),
                (1..5, Some((mut going_on, mut file, wanted))) => {
                    let (bytes, last) = going_on.next(&mut run.state);
                    file.extend_from_slice(&bytes);
                    if last {
                        check_file(&file, &wanted);
                        prop_assert_eq!(run.state.image_bytes(), 0);
                    } else {
                        taking = Some((going_on, file, wanted));
                    }
                }
                (_, left) => taking = left,
            }
        }
        if let Some((mut going_on, mut file, wanted)) = taking {
            loop {
                let (bytes, last) = going_on.next(&mut run.state);
                file.extend_from_slice(&bytes);
                if last {
                    break;
                }
            }
            check_file(&file, &wanted);
        }
        check_against_model(&run.state, &model);
    }
}
