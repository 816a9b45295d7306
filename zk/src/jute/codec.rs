//! How are values laid out? Jute's primitives, read from borrowed bytes and written into a `Vec`.

use super::frame::LENGTH_BYTES;
use crate::txn::{Acl, AuthId, Stat};
use std::borrow::Cow;

/// A record that can't be decoded. The request is answered with a marshalling error, the connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends inside a value.
    #[error("{have} bytes left where {want} are needed")]
    Short {
        /// Left in the record.
        have: usize,
        /// Needed by the value.
        want: usize,
    },
    /// A length or count below -1.
    #[error("length {0} is below -1")]
    Length(i32),
    /// A value that its field can't have.
    #[error("{0}")]
    Value(&'static str),
}

const NULL_PATH: DecodeError = DecodeError::Value("a path is null");

/// Reads values from a record. Every length and count is bounded by the bytes that are there. Bytes left
/// over behind a record are ignored, as ZooKeeper does.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, want: usize) -> Result<&'a [u8], DecodeError> {
        let have = self.rest.len();
        let (taken, rest) = self.rest.split_at_checked(want).ok_or(DecodeError::Short { have, want })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("take gives what it was asked for"))
    }

    /// An int.
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A long.
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A boolean: any byte but zero is true.
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        Ok(self.array::<1>()? != [0])
    }

    /// A length: `None` for -1.
    fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.int()? {
            -1 => Ok(None),
            n => usize::try_from(n).map(Some).map_err(|_| DecodeError::Length(n)),
        }
    }

    /// A buffer; `None` is null, which is not the same as empty.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length()? {
            None => Ok(None),
            Some(n) => self.take(n).map(Some),
        }
    }

    /// A string that may be null. What is not UTF-8 becomes U+FFFD, as in Java; such paths are never valid.
    pub fn nullable_string(&mut self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        // Nearly all are UTF-8, which the plain check sees several times as fast.
        let text =
            |b: &'a [u8]| std::str::from_utf8(b).map_or_else(|_| String::from_utf8_lossy(b), Cow::Borrowed);
        Ok(self.buffer()?.map(text))
    }

    /// A string; null counts as empty, since clients write the one for the other.
    pub fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    /// A path. Null is not the empty path, which is a name of the root: as in ZooKeeper it is refused.
    pub fn path(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.nullable_string()?.ok_or(NULL_PATH)
    }

    /// A vector whose elements take at least `min_bytes` each on the wire: a count that can't fit is refused before
    /// anything is allocated for it. Null, and any other count below zero, is empty, as in ZooKeeper.
    ///
    /// # Errors
    /// When it is cut short, or an element is.
    pub fn vector<T>(
        &mut self,
        min_bytes: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.int()?).unwrap_or(0);
        let (have, want) = (self.rest.len(), count.saturating_mul(min_bytes.max(1)));
        if want > have {
            return Err(DecodeError::Short { have, want });
        }
        // An element may take more memory than its least bytes on the wire: don't trust the count alone.
        let mut all = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            all.push(element(self)?);
        }
        Ok(all)
    }

    /// A vector of strings.
    pub fn strings(&mut self) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        self.vector(LENGTH_BYTES, Self::string)
    }

    /// A vector of paths.
    pub fn paths(&mut self) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        self.vector(LENGTH_BYTES, Self::path)
    }

    /// Passes over what [`Reader::paths`] would read, and fails where that would.
    pub fn skip_paths(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.int()?.max(0) {
            self.buffer()?.ok_or(NULL_PATH)?;
        }
        Ok(())
    }

    /// One ACL entry. A null id is legal only under the scheme `auth`.
    pub fn acl(&mut self) -> Result<Acl, DecodeError> {
        let perms = self.int()?;
        let scheme = self.string()?.into_owned();
        let id = match self.nullable_string()? {
            Some(id) => id.into_owned(),
            None if scheme == "auth" => String::new(),
            None => return Err(DecodeError::Value("an ACL's id is null")),
        };
        Ok(Acl { perms, id: AuthId { scheme, id } })
    }

    /// A list of ACL entries; null counts as empty.
    pub fn acls(&mut self) -> Result<Vec<Acl>, DecodeError> {
        self.vector(3 * LENGTH_BYTES, Self::acl)
    }

    /// A Stat.
    pub fn stat(&mut self) -> Result<Stat, DecodeError> {
        Ok(Stat {
            czxid: self.long()?,
            mzxid: self.long()?,
            ctime: self.long()?,
            mtime: self.long()?,
            version: self.int()?,
            cversion: self.int()?,
            aversion: self.int()?,
            ephemeral_owner: self.long()?,
            data_length: self.int()?,
            num_children: self.int()?,
            pzxid: self.long()?,
        })
    }
}

/// Appends one frame to a buffer that may hold others already. The length is put in by [`Writer::finish`];
/// a writer dropped without it leaves a broken frame behind.
#[derive(Debug)]
#[must_use = "finish it, or the frame has no length"]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Starts a frame at the end of `out`.
    pub fn frame(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        Self { out, start }
    }

    /// Goes on with a frame whose length is in it already, at the end of `out`: no finish is wanted.
    pub fn bare(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    /// Bytes of the frame so far.
    pub fn bytes(&self) -> usize {
        self.out.len() - self.start
    }

    /// Completes the frame. Panics if it is over 2 GiB.
    pub fn finish(self) {
        let bytes = self.out.len() - self.start - LENGTH_BYTES;
        let length = i32::try_from(bytes).expect("a frame is below 2 GiB");
        self.out[self.start..self.start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// An int.
    pub fn int(&mut self, v: i32) -> &mut Self {
        self.out.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// A long.
    pub fn long(&mut self, v: i64) -> &mut Self {
        self.out.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// A boolean.
    pub fn boolean(&mut self, v: bool) -> &mut Self {
        self.out.push(u8::from(v));
        self
    }

    /// A length or count. Panics if it is 2 Gi or more.
    pub fn count(&mut self, n: usize) -> &mut Self {
        self.int(i32::try_from(n).expect("a count fits an int"))
    }

    /// A buffer; `None` is null.
    pub fn buffer(&mut self, v: Option<&[u8]>) -> &mut Self {
        let Some(bytes) = v else { return self.int(-1) };
        self.count(bytes.len());
        self.out.extend_from_slice(bytes);
        self
    }

    /// A string.
    pub fn string(&mut self, v: &str) -> &mut Self {
        self.buffer(Some(v.as_bytes()))
    }

    /// A vector of strings.
    pub fn strings<S: AsRef<str>>(&mut self, all: impl ExactSizeIterator<Item = S>) -> &mut Self {
        self.count(all.len());
        for s in all {
            self.string(s.as_ref());
        }
        self
    }

    /// What precedes each operation of a multi, and ends it.
    pub fn multi_header(&mut self, op: i32, done: bool, err: i32) -> &mut Self {
        self.int(op).boolean(done).int(err)
    }

    /// A list of ACL entries.
    pub fn acls(&mut self, all: &[Acl]) -> &mut Self {
        self.count(all.len());
        for acl in all {
            self.int(acl.perms).string(&acl.id.scheme).string(&acl.id.id);
        }
        self
    }

    /// A Stat.
    pub fn stat(&mut self, s: &Stat) -> &mut Self {
        self.long(s.czxid).long(s.mzxid).long(s.ctime).long(s.mtime);
        self.int(s.version).int(s.cversion).int(s.aversion);
        self.long(s.ephemeral_owner).int(s.data_length).int(s.num_children).long(s.pzxid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::frame(&mut out);
        write(&mut w);
        w.finish();
        out.split_off(LENGTH_BYTES)
    }

    #[test]
    fn a_stat_takes_68_bytes_and_comes_back() {
        let stat = Stat { czxid: 1, mtime: -2, cversion: 3, pzxid: i64::MAX, ..Stat::default() };
        let bytes = payload(|w| {
            w.stat(&stat);
        });
        assert_eq!(bytes.len(), 68);
        assert_eq!(Reader::new(&bytes).stat(), Ok(stat));
    }

    #[test]
    fn null_and_empty_buffers_differ() {
        let bytes = payload(|w| {
            w.buffer(None).buffer(Some(b""));
        });
        let mut r = Reader::new(&bytes);
        assert_eq!(r.buffer(), Ok(None));
        assert_eq!(r.buffer(), Ok(Some(&b""[..])));
        assert_eq!(r.int(), Err(DecodeError::Short { have: 0, want: 4 }));
    }

    #[test]
    fn lengths_below_null_and_counts_beyond_the_record_are_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).buffer(), Err(DecodeError::Length(-2)));
        let huge = [0x7f, 0xff, 0xff, 0xff, 0, 0];
        assert!(matches!(Reader::new(&huge).buffer(), Err(DecodeError::Short { have: 2, .. })));
        let all = |bytes| Err(DecodeError::Short { have: 2, want: bytes * i32::MAX as usize });
        assert_eq!(Reader::new(&huge).strings(), all(4), "refused by the count, before any element");
        assert_eq!(Reader::new(&huge).acls().map(|_| Vec::<Cow<'_, str>>::new()), all(12));
    }

    /// kazoo writes the empty id of scheme `auth` as null.
    #[test]
    fn a_null_acl_id_is_legal_only_under_auth() {
        let entry = |scheme: &str| {
            payload(|w| {
                w.count(1).int(31).string(scheme).buffer(None);
            })
        };
        let ids = Reader::new(&entry("auth")).acls().map(|a| a[0].id.id.clone());
        assert_eq!(ids, Ok(String::new()));
        assert!(matches!(Reader::new(&entry("digest")).acls(), Err(DecodeError::Value(_))));
    }

    #[test]
    fn what_is_not_utf8_becomes_the_replacement_character() {
        let bytes = payload(|w| {
            w.buffer(Some(b"/a\xff"));
        });
        assert_eq!(Reader::new(&bytes).string().as_deref(), Ok("/a\u{fffd}"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let read = |f: &dyn Fn(&mut Reader<'_>) -> bool| {
                let mut r = Reader::new(&bytes);
                while f(&mut r) {}
                r.rest().len() <= bytes.len()
            };
            prop_assert!(read(&|r| r.buffer().is_ok()));
            prop_assert!(read(&|r| r.strings().is_ok()));
            prop_assert!(read(&|r| r.acls().is_ok()));
            prop_assert!(read(&|r| r.stat().is_ok()));
        }

        #[test]
        fn acls_come_back(acls in prop::collection::vec((any::<i32>(), ".{0,8}", ".{0,8}"), 0..5)) {
            let acls: Vec<_> = acls
                .into_iter()
                .map(|(perms, scheme, id)| Acl { perms, id: AuthId { scheme, id } })
                .collect();
            let bytes = payload(|w| { w.acls(&acls); });
            prop_assert_eq!(Reader::new(&bytes).acls(), Ok(acls));
        }
    }
}
