//! How does a ZooKeeper client write and read the wire? Just the few requests of the workload, written from
//! the protocol's description and independent of the server's codec.

use crate::observe::ZkStat;
use bytes::Bytes;

/// Numbers of the operations used.
pub mod op {
    /// create
    pub const CREATE: i32 = 1;
    /// delete
    pub const DELETE: i32 = 2;
    /// getData
    pub const GET: i32 = 4;
    /// setData
    pub const SET: i32 = 5;
    /// getChildren
    pub const CHILDREN: i32 = 8;
    /// sync
    pub const SYNC: i32 = 9;
    /// ping
    pub const PING: i32 = 11;
    /// check
    pub const CHECK: i32 = 13;
    /// multi
    pub const MULTI: i32 = 14;
    /// createContainer
    pub const CREATE_CONTAINER: i32 = 19;
    /// multiRead
    pub const MULTI_READ: i32 = 22;
    /// auth
    pub const AUTH: i32 = 100;
    /// setWatches
    pub const SET_WATCHES: i32 = 101;
    /// addWatch
    pub const ADD_WATCH: i32 = 106;
    /// closeSession
    pub const CLOSE: i32 = -11;
}

/// Length of the frame at the front of these bytes, once it is known.
///
/// # Errors
/// They are none.
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some((front, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let len = i32::from_be_bytes(*front);
    if !(0..=4 << 20).contains(&len) {
        return Err(format!("a frame of {len} bytes"));
    }
    Ok(Some(4 + len as usize))
}

/// Writes one frame.
#[derive(Debug)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// A frame without a request header: the handshake.
    pub fn bare() -> Self {
        Self(vec![0; 4])
    }

    /// A frame with a request header.
    pub fn request(xid: i32, op: i32) -> Self {
        Self::bare().int(xid).int(op)
    }

    /// Adds an int.
    pub fn int(mut self, v: i32) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// Adds a long.
    pub fn long(mut self, v: i64) -> Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// Adds a bool.
    pub fn bool(mut self, v: bool) -> Self {
        self.0.push(u8::from(v));
        self
    }

    /// Adds a buffer or string.
    pub fn bytes(self, v: &[u8]) -> Self {
        let mut s = self.int(v.len() as i32);
        s.0.extend_from_slice(v);
        s
    }

    /// Adds the ACL world:anyone, all permissions.
    pub fn open_acl(self) -> Self {
        self.int(1).int(31).bytes(b"world").bytes(b"anyone")
    }

    /// The frame's bytes, with its length.
    pub fn done(mut self) -> Bytes {
        let len = (self.0.len() - 4) as i32;
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        Bytes::from(self.0)
    }
}

/// Reads a reply; `None` where it is too short.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    /// An int.
    pub fn int(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// A long.
    pub fn long(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// A bool.
    pub fn bool(&mut self) -> Option<bool> {
        self.take::<1>().map(|b| b != [0])
    }

    /// A buffer or string; null is empty.
    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        let len = self.int()?.max(0) as usize;
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front.to_vec())
    }

    /// A string.
    pub fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    /// A vector of strings.
    pub fn strings(&mut self) -> Option<Vec<String>> {
        let n = self.int()?.max(0);
        (0..n).map(|_| self.string()).collect()
    }

    /// A Stat.
    pub fn stat(&mut self) -> Option<ZkStat> {
        let (czxid, mzxid) = (self.long()?, self.long()?);
        let _times = (self.long()?, self.long()?);
        let version = self.int()?;
        let _versions = (self.int()?, self.int()?);
        let owner = self.long()?;
        let _sizes = (self.int()?, self.int()?, self.long()?);
        Some(ZkStat { mzxid, czxid, version, owner })
    }
}
