//! How does a transaction become a record of the log, and a record a transaction again?

use crate::txn::{ArchivedOp, ArchivedTxn, TXN_HEADER_BYTES, TXN_VERSION, Txn, flags};
use rkyv::rancor::Error;
use zoolog_core::Gsn;

/// The record's bytes. Panics when there is no memory for it: nothing else can go wrong.
pub fn encode(txn: &Txn) -> Vec<u8> {
    encode_with(0, txn)
}

/// The same, with [`flags`].
pub fn encode_with(flags: u8, txn: &Txn) -> Vec<u8> {
    let mut record = Vec::with_capacity(256);
    record.extend_from_slice(&[TXN_VERSION, flags, 0, 0, 0, 0, 0, 0]);
    debug_assert_eq!(record.len(), TXN_HEADER_BYTES);
    rkyv::api::high::to_bytes_in::<_, Error>(txn, record).expect("a txn can be archived")
}

/// Flags and transaction of a record, checked throughout; `None` if it is none, or of another version.
pub fn access(record: &[u8]) -> Option<(u8, &ArchivedTxn)> {
    let (header, archive) = record.split_first_chunk::<TXN_HEADER_BYTES>()?;
    let [TXN_VERSION, given, 0, 0, 0, 0, 0, 0] = *header else { return None };
    if given & !flags::ALL != 0 {
        return None;
    }
    rkyv::access::<ArchivedTxn, Error>(archive).ok().map(|txn| (given, txn))
}

/// Why a record is no transaction; `None` if it is one.
pub fn why_none(record: &[u8]) -> Option<String> {
    let Some((header, archive)) = record.split_first_chunk::<TXN_HEADER_BYTES>() else {
        return Some("it is too short to be a transaction".into());
    };
    let [version, given, zeros @ ..] = *header;
    if zeros != [0; 6] || version == 0 {
        return Some("it is no transaction, but something else's".into());
    }
    if version != TXN_VERSION || given & !flags::ALL != 0 {
        return Some(format!(
            "its header says version {version}, flags {given:#x}, which this build doesn't know"
        ));
    }
    rkyv::access::<ArchivedTxn, Error>(archive).err().map(|why| format!("it can't be decoded: {why}"))
}

/// Whether the record is one of ours, as its header says: whether or not it can be decoded.
pub fn is_txn(record: &[u8]) -> bool {
    matches!(record, [version, _, 0, 0, 0, 0, 0, 0, ..] if *version > 0)
}

/// Up to which position whoever wrote this record had applied the log, as far as it shows that.
pub fn shows_applied(record: &[u8]) -> Option<Gsn> {
    let txn = access(record)?.1;
    let by_op = match &txn.op {
        ArchivedOp::Touch { sessions } => sessions.iter().map(|heard| heard.1.to_native()).max(),
        ArchivedOp::Expire { attach, touch, .. } => Some(attach.to_native().max(touch.to_native())),
        ArchivedOp::Hashed { at, .. } => Some(at.to_native()),
        _ => None,
    };
    let by_session = Some(txn.attach.to_native()).filter(|_| txn.session != 0);
    by_op.into_iter().chain(by_session).max().map(Gsn)
}

/// Which record this one has passed over, if it is of that kind.
pub fn skips(record: &[u8]) -> Option<Gsn> {
    match access(record)?.1.op {
        ArchivedOp::Skip { gsn } => Some(Gsn(gsn.to_native())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{Acl, AuthId, CreateMode, Op};
    use proptest::prelude::*;
    use zoolog_core::WallMs;

    fn create() -> Txn {
        let id = AuthId { scheme: "world".into(), id: "anyone".into() };
        Txn {
            session: 7,
            attach: 3,
            wall: WallMs(1_700_000_000_000),
            ids: vec![id.clone()],
            op: Op::Create {
                path: "/a".into(),
                data: Some(b"data".to_vec()),
                acl: vec![Acl { perms: 31, id }],
                mode: CreateMode::EphemeralSequential,
            },
        }
    }

    #[test]
    fn a_txn_comes_back_from_its_record() {
        let record = encode(&create());
        let (flags, archived) = access(&record).expect("it was just made");
        assert_eq!(flags, 0);
        assert_eq!(rkyv::deserialize::<Txn, Error>(archived).expect("checked"), create());
    }

    /// The bytes in the log are for ever: if this fails, raise the version and keep reading the old one.
    #[test]
    fn a_record_has_its_golden_bytes() {
        let txn = Txn {
            session: 0x0102,
            attach: 3,
            wall: WallMs(4),
            ids: vec![],
            op: Op::Delete { path: "/a".into(), version: -1 },
        };
        let hex: String = encode(&txn).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "0100000000000000020100000000000003000000000000000400000000000000e8ffffff00000000\
        062f61ffffffffffffffffffff0000000000000000000000000000";

    #[test]
    fn other_versions_and_headers_alone_are_no_txns() {
        let good = encode(&create());
        assert_eq!(access(&encode_with(flags::ALL, &create())).map(|a| a.0), Some(flags::ALL));
        for at in 0..TXN_HEADER_BYTES {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(access(&bad).is_none(), "byte {at}");
        }
        assert!(access(&[]).is_none());
        assert!(access(&good[..TXN_HEADER_BYTES]).is_none());
    }

    proptest! {
        /// Damage gives another txn or none, never a panic.
        #[test]
        fn damaged_records_never_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut record = encode(&create());
            for (at, with) in flips {
                let at = at.index(record.len());
                record[at] ^= with;
            }
            let read = access(&record).map(|a| rkyv::deserialize::<Txn, Error>(a.1));
            prop_assert!(read.is_none_or(|t| t.is_ok()));
        }
    }
}
