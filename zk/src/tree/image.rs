//! What are the bytes of a node in a snapshot? 84 of fixed fields, little-endian, then its name and its data.
//! Its children, its path's hash and its data's follow from the other nodes and from those bytes.

use super::acls::AclId;
use super::node::{Node, data_hash};
use super::slab::Slot;
use std::mem::take;

/// Bytes in front of name and data.
pub const FIXED_BYTES: usize = 84;

/// Data length of null.
const NULL: u32 = u32::MAX;

/// Bytes that [`encode`] appends.
pub fn bytes(node: &Node) -> usize {
    FIXED_BYTES + node.name.len() + node.data_len()
}

/// Appends the node that is at `slot`.
pub fn encode(out: &mut Vec<u8>, slot: Slot, n: &Node) {
    let data_len = n.data.as_ref().map_or(NULL, |d| u32::try_from(d.len()).expect("data fits a record"));
    let mut fixed = [0; FIXED_BYTES];
    let mut rest = &mut fixed[..];
    let mut put = |bytes: &[u8]| {
        let (here, behind) = take(&mut rest).split_at_mut(bytes.len());
        here.copy_from_slice(bytes);
        rest = behind;
    };
    put(&slot.to_le_bytes());
    put(&n.parent.to_le_bytes());
    put(&n.acl.number().to_le_bytes());
    put(&u32::try_from(n.name.len()).expect("a name fits a record").to_le_bytes());
    put(&data_len.to_le_bytes());
    put(&n.version.to_le_bytes());
    put(&n.aversion.to_le_bytes());
    put(&n.created.to_le_bytes());
    for word in [n.owner, n.czxid, n.mzxid, n.pzxid, n.ctime, n.mtime] {
        put(&word.to_le_bytes());
    }
    assert!(rest.is_empty(), "the fields are of {FIXED_BYTES} bytes");
    out.extend_from_slice(&fixed);
    out.extend_from_slice(n.name.as_bytes());
    out.extend_from_slice(n.data.as_deref().unwrap_or(&[]));
}

/// Takes a node and its slot from the front of `bytes`. It has no children yet, and its path's hash is 0;
/// parent and ACL are as in the snapshot. `None` if that is none.
pub fn decode(bytes: &mut &[u8]) -> Option<(Slot, Node)> {
    let (fixed, mut rest) = bytes.split_first_chunk::<FIXED_BYTES>()?;
    let mut at = 0;
    let mut u32s = || {
        at += 4;
        u32::from_le_bytes(fixed[at - 4..at].try_into().expect("4 bytes"))
    };
    let (slot, parent, acl, name_len, data_len) = (u32s(), u32s(), u32s(), u32s(), u32s());
    let (version, aversion) = (u32s() as i32, u32s() as i32);
    let mut at = 28;
    let mut u64s = || {
        at += 8;
        u64::from_le_bytes(fixed[at - 8..at].try_into().expect("8 bytes"))
    };
    let created = u64s();
    let mut i64s = || u64s() as i64;
    let (owner, czxid, mzxid, pzxid, ctime, mtime) = (i64s(), i64s(), i64s(), i64s(), i64s(), i64s());
    let name = rest.split_off(..name_len as usize)?;
    let data = match data_len {
        NULL => None,
        len => Some(rest.split_off(..len as usize)?),
    };
    *bytes = rest;
    let node = Node {
        name: std::str::from_utf8(name).ok()?.into(),
        parent,
        acl: AclId::from_number(acl),
        data_hash: data_hash(data),
        data: data.map(Box::from),
        children: None,
        created,
        owner,
        czxid,
        mzxid,
        pzxid,
        ctime,
        mtime,
        version,
        aversion,
        path_hash: 0,
    };
    Some((slot, node))
}
