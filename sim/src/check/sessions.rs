//! ZK-2: does a session ever see the past again? Header zxids never decrease in it, nor the changes it has
//! seen of a node; its own writes included.

use super::{Verdict, promise};
use crate::observe::{ZkCall, ZkFact, ZkReply};
use std::collections::BTreeMap;

/// What each session has seen.
#[derive(Debug, Default)]
pub struct Sessions {
    zxid: BTreeMap<i64, i64>,
    seen: BTreeMap<(i64, String), i64>,
}

impl Sessions {
    /// Takes what one request came to. Facts of a session come in the order of its replies.
    pub fn fact(&mut self, fact: &ZkFact) -> Verdict {
        let (zxid, stat) = match &fact.reply {
            ZkReply::Ok { zxid, stat, .. } => (*zxid, *stat),
            ZkReply::Error { zxid, .. } | ZkReply::Logged { zxid } => (*zxid, None),
            ZkReply::Unknown | ZkReply::Expired => return Ok(()),
        };
        if matches!(fact.call, ZkCall::Connect { .. }) {
            return Ok(());
        }
        let before = self.zxid.insert(fact.session, zxid).unwrap_or(0);
        promise!("ZK-2", before <= zxid, "{fact:?}: the session's zxid was {before} before");
        let path = match &fact.call {
            ZkCall::Set { path, .. } | ZkCall::Get { path, .. } => path,
            _ => return Ok(()),
        };
        if let Some(stat) = stat {
            let seen = self.seen.entry((fact.session, path.clone())).or_insert(0);
            promise!("ZK-2", *seen <= stat.mzxid, "{fact:?}: the session has seen {path} at {seen} before");
            promise!("ZK-2", stat.mzxid <= zxid, "{fact:?}: shows a change past its own header");
            *seen = stat.mzxid;
        }
        Ok(())
    }
}
