//! What is in a snapshot file of Apache ZooKeeper? `snapshot.ZXID` below `version-2/`, as 3.4 to 3.9 write them
//! uncompressed: sessions, ACLs, nodes, a checksum.

use super::{Sink, is_own, unless_open};
use crate::exit::Failure;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zoolog_zk::jute::{DecodeError, Reader};
use zoolog_zk::tree::Lifetime;
use zoolog_zk::txn::{Acl, ImportedNode};

/// "ZKSN".
pub const MAGIC: i32 = 0x5a4b_534e;
const VERSION: i32 = 2;
/// The number of the ACL that is open to everyone.
const OPEN: i64 = -1;

/// The snapshot with the highest zxid in that directory, or in `version-2` below it.
///
/// # Errors
/// If it can't be read.
pub fn newest(dir: &Path) -> Result<Option<PathBuf>, Failure> {
    let mut found: Option<(u64, PathBuf)> = None;
    for dir in [dir.to_path_buf(), dir.join("version-2")] {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.filter_map(Result::ok).map(|e| e.path()) {
            if let Some(zxid) = zxid_of(&path)
                && found.as_ref().is_none_or(|(newest, _)| *newest < zxid)
            {
                found = Some((zxid, path));
            }
        }
    }
    Ok(found.map(|f| f.1))
}

fn zxid_of(path: &Path) -> Option<u64> {
    let hex = path.file_name()?.to_str()?.strip_prefix("snapshot.")?;
    u64::from_str_radix(hex, 16).ok()
}

/// Reads such a file, and gives the zxid in its name, if it has one.
///
/// # Errors
/// If it is none, or not whole.
pub fn read(path: &Path, bytes: &[u8], sink: &mut dyn Sink) -> Result<Option<i64>, Failure> {
    let wrong = |why: String| Failure::from(format!("{}: {why}", path.display()));
    let mut r = Reader::new(bytes);
    let acls = head(&mut r).map_err(|e| wrong(e.to_string()))?;
    loop {
        let at = bytes.len() - r.rest().len();
        let damaged = |e: DecodeError| wrong(format!("at byte {at}: {e}: it is cut short or damaged"));
        let path = r.string().map_err(damaged)?.into_owned();
        if path == "/" {
            break;
        }
        let (acl, node) = node(&mut r, path).map_err(damaged)?;
        let acl = match acl {
            OPEN => Vec::new(),
            n => acls
                .get(&n)
                .cloned()
                .ok_or_else(|| wrong(format!("{} has an unknown ACL, {n}", node.path)))?,
        };
        match Lifetime::of(node.owner) {
            Some(Lifetime::Ephemeral(_)) | None => sink.ephemeral(),
            Some(_) if is_own(&node.path) => {}
            Some(_) => sink.node(ImportedNode { acl, ..node })?,
        }
    }
    check(bytes, r.rest()).map_err(wrong)?;
    Ok(zxid_of(path).and_then(|z| z.try_into().ok()))
}

/// Header, sessions and ACLs.
fn head(r: &mut Reader<'_>) -> Result<BTreeMap<i64, Vec<Acl>>, DecodeError> {
    if r.int()? != MAGIC {
        return Err(DecodeError::Value("it is no uncompressed snapshot of ZooKeeper"));
    }
    if r.int()? != VERSION {
        return Err(DecodeError::Value("it is of another version than 2"));
    }
    r.long()?; // the database's number, always -1
    for _ in 0..r.int()? {
        r.long()?;
        r.int()?;
    }
    let mut acls = BTreeMap::new();
    for _ in 0..r.int()? {
        let n = r.long()?;
        acls.insert(n, unless_open(r.acls()?));
    }
    Ok(acls)
}

/// A node behind its path, and the number of its ACL.
fn node(r: &mut Reader<'_>, path: String) -> Result<(i64, ImportedNode), DecodeError> {
    let data = r.buffer()?.map(<[u8]>::to_vec);
    let acl = r.long()?;
    let (_czxid, _mzxid, ctime, mtime) = (r.long()?, r.long()?, r.long()?, r.long()?);
    let (version, cversion, aversion) = (r.int()?, r.int()?, r.int()?);
    let (owner, _pzxid) = (r.long()?, r.long()?);
    let node = ImportedNode {
        path: if path.is_empty() { "/".into() } else { path },
        data,
        acl: Vec::new(),
        owner,
        // What is stored counts creations; what clients see is computed from it.
        created: u64::from(cversion.max(0).unsigned_abs()),
        versions: [version, aversion],
        times: [ctime, mtime],
    };
    Ok((acl, node))
}

/// Behind the nodes: since 3.6 a digest with its checksum, else the checksum of all before it.
fn check(bytes: &[u8], rest: &[u8]) -> Result<(), String> {
    let mut r = Reader::new(rest);
    let (Ok(sum), Ok(mark)) = (r.long(), r.string()) else {
        return Err("it is cut short: its checksum is missing".into());
    };
    let before = &bytes[..bytes.len() - rest.len()];
    if mark != "/" || sum != i64::from(adler2::adler32_slice(before)) {
        return Err("its checksum is wrong: it is damaged".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Vec<ImportedNode>, u64);

    impl Sink for Kept {
        fn node(&mut self, node: ImportedNode) -> Result<(), Failure> {
            self.0.push(node);
            Ok(())
        }
        fn ephemeral(&mut self) {
            self.1 += 1;
        }
    }

    fn text(out: &mut Vec<u8>, text: &[u8]) {
        out.extend((text.len() as i32).to_be_bytes());
        out.extend(text);
    }

    /// As ZooKeeper writes it: one session, one list of permissions, and these nodes with their ACLs and owners.
    fn file(nodes: &[(&str, i64, i64)]) -> Vec<u8> {
        let mut out = Vec::new();
        let int = |out: &mut Vec<u8>, n: i32| out.extend(n.to_be_bytes());
        let long = |out: &mut Vec<u8>, n: i64| out.extend(n.to_be_bytes());
        int(&mut out, MAGIC);
        int(&mut out, 2);
        long(&mut out, -1);
        int(&mut out, 1);
        long(&mut out, 77);
        int(&mut out, 30_000);
        int(&mut out, 1);
        long(&mut out, 5);
        int(&mut out, 1);
        int(&mut out, 1);
        text(&mut out, b"digest");
        text(&mut out, b"me:x");
        for (path, acl, owner) in nodes {
            text(&mut out, path.as_bytes());
            text(&mut out, b"data");
            long(&mut out, *acl);
            (1..=4).for_each(|n| long(&mut out, n));
            (5..=7).for_each(|n| int(&mut out, n));
            long(&mut out, *owner);
            long(&mut out, 8);
        }
        text(&mut out, b"/");
        let sum = adler2::adler32_slice(&out);
        long(&mut out, sum.into());
        text(&mut out, b"/");
        out
    }

    #[test]
    fn what_zookeeper_has_written_is_read() {
        let ttl = Lifetime::Ttl(9).owner();
        let bytes = file(&[
            ("", -1, 0),
            ("/zookeeper", -1, 0),
            ("/a", 5, 0),
            ("/a/e", -1, 77),
            ("/c", -1, i64::MIN),
            ("/t", -1, ttl),
        ]);
        let mut kept = Kept::default();
        assert_eq!(read(Path::new("x/snapshot.1f"), &bytes, &mut kept).unwrap(), Some(0x1f));
        let got: Vec<_> = kept.0.iter().map(|n| (n.path.as_str(), n.acl.len(), n.owner)).collect();
        assert_eq!(got, [("/", 0, 0), ("/a", 1, 0), ("/c", 0, i64::MIN), ("/t", 0, ttl)]);
        assert_eq!(kept.1, 1, "the session's is left out");
        let a = &kept.0[1];
        assert_eq!((a.created, a.versions, a.times), (6, [5, 7], [3, 4]));
    }

    #[test]
    fn what_is_cut_or_damaged_is_refused() {
        let whole = file(&[("", -1, 0), ("/a", 5, 0)]);
        let refused = |bytes: &[u8]| read(Path::new("f"), bytes, &mut Kept::default()).is_err();
        assert!(!refused(&whole));
        assert!((0..whole.len()).all(|n| refused(&whole[..n])));
        for at in 0..whole.len() - 5 {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert!(refused(&bytes), "byte {at}");
        }
        assert!(refused(&file(&[("/a", 6, 0)])), "an ACL that is not there");
    }
}
