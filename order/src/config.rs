//! What must an orderer be told, and what can be wrong with it?

use crate::sequencer::{ORDERERS_MAX, is_addr};
use std::time::Duration;
use zoolog_core::limits::REPLICAS_MAX;
use zoolog_core::{ClusterId, OrdererId};

/// When the leader proposes cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutInterval {
    /// After idle at once; under load `max / 2` apart, or `max` while the one before is not committed yet.
    Adaptive {
        /// The longest that news waits, if the leader can commit at all.
        max: Duration,
    },
    /// Only at multiples of this time (for tuning, and to repeat the paper's experiments); zero is "at once".
    Fixed(Duration),
}

impl Default for CutInterval {
    fn default() -> Self {
        Self::Adaptive { max: Duration::from_millis(1) }
    }
}

/// What is kept beyond what consumers need, and how long the log waits for them. What is `None` plays no part. With
/// neither `time` nor `bytes` consumers alone decide, and without any consumer nothing is trimmed by itself; with one of
/// them and no consumer, all goes that neither keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Records are kept for that long at least.
    pub time: Option<Duration>,
    /// The newest records of that many bytes, counted once, are kept at least.
    pub bytes: Option<u64>,
    /// A consumer that was not there for so long is dropped.
    pub max_age: Option<Duration>,
    /// A consumer that has more than so many bytes before it is dropped, even if it is there.
    pub max_lag_bytes: Option<u64>,
}

impl RetentionConfig {
    /// Whether it says anything.
    pub(crate) fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

/// The settings of one orderer. All of a cluster must agree on all but `id`, `addr` and `joins`.
#[derive(Clone, Debug)]
pub struct OrdererConfig {
    /// The cluster; never 0.
    pub cluster: ClusterId,
    /// This member.
    pub id: OrdererId,
    /// Where the others, slots and clients reach it, `ip:port`; empty for where it is known to be.
    pub addr: String,
    /// The first orderers of the cluster: id and `ip:port`. Counts at the very first start only: who they are from
    /// then on is decided and remembered.
    pub peers: Vec<(OrdererId, String)>,
    /// Whether it is none of the first, and waits to be added when it starts on an empty directory.
    pub joins: bool,
    /// Addresses that hold in place of the remembered ones. The same for every orderer.
    pub moved: Vec<(OrdererId, String)>,
    /// Shards that the first view has.
    pub wanted_shards: u32,
    /// Replicas of each shard, on as many servers.
    pub replicas: u32,
    /// Distinct servers that must be there before the first view is formed.
    pub servers: u32,
    /// When cuts are proposed.
    pub cut_interval: CutInterval,
    /// What is kept.
    pub retention: RetentionConfig,
    /// When a shard is given up.
    pub failures: Failures,
    /// Whether the log goes on where another ends: then it takes nothing before it is told where that is. Counts while the log
    /// is empty and has no shards.
    pub successor: bool,
    /// How many clusters came before this one whose order it goes on with: that is named by `cluster` without this number.
    pub generation: u32,
}

/// When the leader gives a shard up whose replicas fail it. It never does while it can't form another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// For how long a replica may be silent, or hold up what others have accepted. Default 1 s; zero: a shard is
    /// only given up by hand.
    pub timeout: Duration,
    /// How long slots that have not spoken yet are given after a start of this orderer: they may be reading their
    /// logs. Default 30 s.
    pub start_grace: Duration,
    /// How long a finalized shard stays in the view after all of it was trimmed: so long its writers may ask what
    /// became of their last batches. Default 60 s.
    pub linger: Duration,
    /// How long a replica of a finalized shard may be gone before a copy is made elsewhere in its place. Default 60 s;
    /// zero: only by hand.
    pub rebuild_after: Duration,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            start_grace: Duration::from_secs(30),
            linger: Duration::from_secs(60),
            rebuild_after: Duration::from_secs(60),
        }
    }
}

/// Why an orderer can't start. The text says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The settings contradict each other.
    #[error("orderer settings: {0}")]
    Config(String),
    /// What was found on disk is not the state of this orderer.
    #[error(
        "orderer state on disk: {0}; replace this member under a new id rather than emptying its directory"
    )]
    Recovered(String),
    /// It must never take part again.
    #[error("{0}")]
    Dismissed(String),
}

impl OrdererConfig {
    /// Address of one of the first orderers, if it is one.
    pub fn addr(&self, id: OrdererId) -> Option<&str> {
        self.peers.iter().find(|(p, _)| *p == id).map(|(_, addr)| addr.as_str())
    }

    /// What must be so at the first start on an empty directory.
    pub(crate) fn check_first(&self) -> Result<(), OrderError> {
        if self.joins || self.addr(self.id).is_some() {
            return Ok(());
        }
        Err(OrderError::Config(format!(
            "orderer {} is not among the first orderers {:?}, and its data directory is empty: a new orderer is \
             started with --join and added with `zoolog admin orderers add {} HOST:PORT`",
            self.id, self.peers, self.id
        )))
    }

    pub(crate) fn check(&self) -> Result<(), OrderError> {
        let wrong = |text: String| Err(OrderError::Config(text));
        if self.cluster == ClusterId(0) {
            return wrong("cluster id 0 means `none yet`: initialise the cluster first".into());
        }
        let mut ids: Vec<_> = self.peers.iter().map(|(id, _)| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != self.peers.len() || ids.first() == Some(&0) || ids.len() > ORDERERS_MAX {
            return wrong(format!(
                "orderers {:?}: ids must differ, be above 0, and be at most {ORDERERS_MAX}",
                self.peers
            ));
        }
        if self.id == OrdererId(0) {
            return wrong("an orderer's id counts from 1".into());
        }
        let addrs = self.peers.iter().chain(&self.moved).map(|(_, addr)| addr);
        if let Some(addr) = addrs.chain(Some(&self.addr).filter(|a| !a.is_empty())).find(|a| !is_addr(a)) {
            return wrong(format!("{addr:?} is no address of an orderer: host:port"));
        }
        let (replicas, servers) = (self.replicas, self.servers);
        if replicas == 0 || replicas as usize > REPLICAS_MAX || replicas > servers {
            return wrong(format!(
                "{replicas} replicas on {servers} servers; 1 to {REPLICAS_MAX} are possible, each on its own server"
            ));
        }
        if self.wanted_shards == 0 || self.wanted_shards as usize > crate::sequencer::SHARDS_MAX {
            return wrong(format!(
                "{} shards, 1 to {} are possible",
                self.wanted_shards,
                crate::sequencer::SHARDS_MAX
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> OrdererConfig {
        OrdererConfig {
            cluster: ClusterId(1),
            id: OrdererId(2),
            addr: String::new(),
            peers: (1..4).map(|i| (OrdererId(i), format!("h{i}:1"))).collect(),
            joins: false,
            moved: Vec::new(),
            wanted_shards: 3,
            replicas: 2,
            servers: 3,
            cut_interval: CutInterval::default(),
            failures: Failures::default(),
            retention: RetentionConfig::default(),
            successor: false,
            generation: 0,
        }
    }

    #[test]
    fn who_is_none_of_the_first_must_be_told_to_join() {
        let mut cfg = good();
        cfg.check_first().expect("one of the first");
        cfg.id = OrdererId(4);
        let text = cfg.check_first().unwrap_err().to_string();
        assert!(text.contains("--join") && text.contains("orderers add 4"), "{text}");
        cfg.joins = true;
        cfg.check_first().expect("it joins");
    }

    #[test]
    fn contradictions_are_named() {
        good().check().expect("sound");
        let wrong: [fn(&mut OrdererConfig); 8] = [
            |c| c.cluster = ClusterId(0),
            |c| c.id = OrdererId(0),
            |c| c.addr = "nowhere".into(),
            |c| c.peers[0].0 = OrdererId(0),
            |c| c.peers[0].0 = OrdererId(3),
            |c| c.replicas = 4,
            |c| c.replicas = 0,
            |c| c.wanted_shards = 0,
        ];
        for (i, spoil) in wrong.iter().enumerate() {
            let mut cfg = good();
            spoil(&mut cfg);
            assert!(matches!(cfg.check(), Err(OrderError::Config(_))), "case {i}");
        }
    }
}
