//! How does a dump look? JSON, a line each: what it is, the nodes (parents before children), and how many they were, so
//! that a dump that was cut short is noticed.

use crate::exit::Failure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::io::BufRead;
use zoolog_zk::tree::Lifetime;
use zoolog_zk::txn::{Acl, AuthId, ImportedNode};

/// Version of the format that this build writes.
pub const VERSION: u32 = 1;
/// Longest line: a node's data in base64, and its names.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the format.
    pub zoolog_dump: u32,
    /// Where the tree was found.
    pub source: String,
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foot {
    /// Lines between the first and this one.
    pub nodes: u64,
    /// Sessions' nodes that were left out.
    pub ephemerals: u64,
    /// zxid as of which the tree is; none if its nodes were read one after the other.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zxid: Option<i64>,
}

/// A line between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    path: String,
    /// If it is text; neither this nor `base64`: null.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    base64: Option<String>,
    /// (permissions, scheme, id); none: open to everyone.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    acl: Vec<(i32, String, String)>,
    #[serde(skip_serializing_if = "is_false", default)]
    container: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ttl_ms: Option<u64>,
    /// Children ever created: the next sequence number.
    created: u64,
    version: i32,
    aversion: i32,
    ctime: i64,
    mtime: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(b: &bool) -> bool {
    !b
}

impl From<ImportedNode> for Line {
    fn from(n: ImportedNode) -> Self {
        let (data, base64) = match n.data.map(String::from_utf8) {
            None => (None, None),
            Some(Ok(text)) => (Some(text), None),
            Some(Err(e)) => (None, Some(BASE64.encode(e.as_bytes()))),
        };
        let life = Lifetime::of(n.owner);
        Self {
            path: n.path,
            data,
            base64,
            acl: n.acl.into_iter().map(|a| (a.perms, a.id.scheme, a.id.id)).collect(),
            container: life == Some(Lifetime::Container),
            ttl_ms: if let Some(Lifetime::Ttl(ms)) = life { Some(ms) } else { None },
            created: n.created,
            version: n.versions[0],
            aversion: n.versions[1],
            ctime: n.times[0],
            mtime: n.times[1],
        }
    }
}

impl Line {
    /// The node that it tells of.
    fn node(self) -> Result<ImportedNode, String> {
        let data = match (self.data, self.base64) {
            (Some(_), Some(_)) => return Err("both `data` and `base64`".into()),
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => Some(BASE64.decode(text).map_err(|e| format!("base64: {e}"))?),
            (None, None) => None,
        };
        let life = match (self.container, self.ttl_ms) {
            (true, Some(_)) => return Err("both `container` and `ttl_ms`".into()),
            (true, None) => Lifetime::Container,
            (false, Some(ms)) if (1..=zoolog_zk::tree::TTL_MS_MAX).contains(&ms) => Lifetime::Ttl(ms),
            (false, Some(ms)) => return Err(format!("a time to live of {ms} ms")),
            (false, None) => Lifetime::Persistent,
        };
        let acl = self.acl.into_iter();
        Ok(ImportedNode {
            path: self.path,
            data,
            acl: acl.map(|(perms, scheme, id)| Acl { perms, id: AuthId { scheme, id } }).collect(),
            owner: life.owner(),
            created: self.created,
            versions: [self.version, self.aversion],
            times: [self.ctime, self.mtime],
        })
    }
}

/// A line of a dump.
pub fn write(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("plain data is JSON");
    line.push(b'\n');
    line
}

/// Reads a dump.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    /// Lines read.
    n: u64,
    pub head: Head,
    pub foot: Option<Foot>,
}

impl<R: BufRead> Lines<R> {
    /// Of that input, whose first line is read.
    ///
    /// # Errors
    /// If it is no dump, or one of a newer version.
    pub fn open(input: R) -> Result<Self, Failure> {
        let head = Head { zoolog_dump: 0, source: String::new() };
        let mut lines = Self { input, line: Vec::new(), n: 0, head, foot: None };
        if !lines.read()? {
            return Err("the dump is empty".into());
        }
        lines.head = serde_json::from_slice(&lines.line)
            .map_err(|_| "its first line is not that of a dump: make one with `zoolog zk dump`")?;
        match lines.head.zoolog_dump {
            VERSION => Ok(lines),
            v => {
                Err(format!("it is of version {v}, this build knows {VERSION}: use the zoolog that wrote it")
                    .into())
            }
        }
    }

    fn read(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        self.n += 1;
        let mut input = std::io::Read::take(&mut self.input, LINE_BYTES_MAX);
        let read = input.read_until(b'\n', &mut self.line).map_err(|e| format!("line {}: {e}", self.n))?;
        Ok(read > 0)
    }

    /// The next node; none behind the last.
    ///
    /// # Errors
    /// With the line's number: it makes no sense, or the dump is cut short.
    pub fn next(&mut self) -> Result<Option<ImportedNode>, Failure> {
        if self.foot.is_some() {
            return Ok(None);
        }
        if !self.read()? {
            let text = format!(
                "the dump is cut short: it ends at line {} without saying how many nodes it has",
                self.n
            );
            return Err(text.into());
        }
        if let Ok(foot) = serde_json::from_slice::<Foot>(&self.line) {
            if foot.nodes != self.n - 2 {
                return Err(
                    format!("the dump should have {} nodes, but has {}", foot.nodes, self.n - 2).into()
                );
            }
            self.foot = Some(foot);
            return Ok(None);
        }
        let line = serde_json::from_slice::<Line>(&self.line).map_err(|e| e.to_string());
        let node = line.and_then(Line::node).map_err(|e| format!("line {}: {e}", self.n))?;
        Ok(Some(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<ImportedNode>, Failure> {
        let mut lines = Lines::open(bytes)?;
        let mut all = Vec::new();
        while let Some(node) = lines.next()? {
            all.push(node);
        }
        Ok(all)
    }

    fn dump(nodes: &[ImportedNode]) -> Vec<u8> {
        let mut out = write(&Head { zoolog_dump: VERSION, source: "test".into() });
        nodes.iter().for_each(|n| out.extend(write(&Line::from(n.clone()))));
        out.extend(write(&Foot { nodes: nodes.len() as u64, ephemerals: 0, zxid: Some(7) }));
        out
    }

    proptest! {
        #[test]
        fn a_node_comes_back_as_it_was(
            (path, data) in ("/\\PC{0,9}", prop::option::of(prop::collection::vec(any::<u8>(), 0..9))),
            life in prop::sample::select(vec![Lifetime::Persistent, Lifetime::Container, Lifetime::Ttl(5)]),
            (created, versions, times) in (any::<u64>(), any::<[i32; 2]>(), any::<[i64; 2]>()),
            acl in prop::collection::vec((any::<i32>(), "\\PC{0,4}", "\\PC{0,4}"), 0..3),
        ) {
            let acl = acl.into_iter().map(|(perms, scheme, id)| Acl { perms, id: AuthId { scheme, id } }).collect();
            let node = ImportedNode { path, data, acl, owner: life.owner(), created, versions, times };
            prop_assert_eq!(read(&dump(&[node.clone(), node.clone()])).unwrap(), [node.clone(), node]);
        }
    }

    #[test]
    fn what_is_no_whole_dump_is_refused_with_the_line() {
        let node = ImportedNode {
            path: "/a".into(),
            data: None,
            acl: vec![],
            owner: 0,
            created: 0,
            versions: [0; 2],
            times: [0; 2],
        };
        let whole = dump(&[node]);
        let text = String::from_utf8(whole.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (bytes, about) in [
            (String::new(), "empty"),
            ("hello\n".into(), "first line"),
            (text.replace("\"zoolog_dump\":1", "\"zoolog_dump\":2"), "version 2"),
            (lines[..2].join("\n"), "cut short"),
            (lines[0].to_owned(), "cut short"),
            ([lines[0], lines[2]].join("\n"), "should have 1 nodes"),
            (text.replace("\"version\":0", "\"version\":\"x\""), "line 2"),
            (text.replace("\"version\":0", "\"data\":\"\",\"base64\":\"\",\"version\":0"), "line 2"),
            (text.replace("\"version\":0", "\"ttl_ms\":0,\"version\":0"), "line 2"),
            (text.replace("\"version\":0", "\"sort\":0,\"version\":0"), "line 2"),
        ] {
            let error = read(bytes.as_bytes()).unwrap_err();
            assert!(error.text.contains(about), "{bytes}: {}", error.text);
        }
        for n in 0..whole.len() - 1 {
            assert!(read(&whole[..n]).is_err(), "cut at {n}");
        }
    }
}
