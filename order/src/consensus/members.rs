//! How do the members change, and who leads? Raft's set of them follows the replicated state's, step by step.

use super::Consensus;
use super::storage::from_raft;
use crate::sequencer::{Conf, Step};
use raft::prelude::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use zoolog_core::OrdererId;

fn to_raft(steps: &[Step], context: Vec<u8>) -> ConfChangeV2 {
    let single = |step: &Step| {
        let (kind, id) = match step {
            Step::Learns(id) => (ConfChangeType::AddLearnerNode, id),
            Step::Votes(id) => (ConfChangeType::AddNode, id),
            Step::Goes(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut change = ConfChangeSingle::default();
        change.set_change_type(kind);
        change.set_node_id(id.0);
        change
    };
    let mut change = ConfChangeV2::default();
    // Two steps at once are made by joint consensus, which raft leaves by itself.
    change.set_transition(ConfChangeTransition::Auto);
    change.set_changes(steps.iter().map(single).collect::<Vec<_>>().into());
    change.set_context(context.into());
    change
}

impl Consensus {
    /// Whether a change of the members may be proposed and not applied yet.
    pub fn is_changing(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Proposes a change of the members; its index if raft took it. Raft turns one that comes at the wrong time into
    /// an entry without effect.
    pub fn propose_members(&mut self, steps: &[Step], change: Vec<u8>) -> Option<u64> {
        if !self.is_leader() || self.is_changing() {
            return None;
        }
        self.node.propose_conf_change(Vec::new(), to_raft(steps, change)).ok()?;
        Some(self.node.raft.raft_log.last_index())
    }

    /// Proposes that the members of before count no more; its index if raft took it.
    pub fn propose_leave(&mut self) -> Option<u64> {
        if !self.is_leader() || self.is_changing() {
            return None;
        }
        self.node.propose_conf_change(Vec::new(), ConfChangeV2::default()).ok()?;
        Some(self.node.raft.raft_log.last_index())
    }

    /// A committed change of the members is made: these steps, or none, which is the end of a joint set. `then` is
    /// what the replicated state has after it.
    pub fn change_members(&mut self, steps: &[Step], then: &Conf) {
        let conf = self.node.apply_conf_change(&to_raft(steps, Vec::new()));
        let conf = conf.unwrap_or_else(|e| panic!("ORD-9: raft can't make {steps:?}: {e}"));
        assert_eq!(from_raft(&conf), *then, "ORD-9: raft has other members than the state, after {steps:?}");
        self.node.mut_store().set_conf(conf);
        self.tame();
    }

    /// Whether a quorum of those that vote know, for ever, that everything up to there is committed.
    pub fn is_known(&self, index: u64) -> bool {
        let (prs, own) = (self.node.raft.prs(), self.node.raft.id);
        let voters = from_raft(&prs.conf().to_conf_state()).voters;
        let knows = |id: &&u64| match **id == own {
            true => self.durable_commit >= index,
            false => prs.get(**id).is_some_and(|p| p.committed_index >= index),
        };
        voters.iter().filter(knows).count() > voters.len() / 2
    }

    /// Whether this member goes with the joint set that is under way, or has gone. One that was elected in it still leads
    /// until the set has ended; raft then knows no copy of its own any more, and could commit nothing that was proposed
    /// meanwhile: so nothing is, and the next leader, to whom it hands over at once, goes on.
    pub(super) fn is_leaving(&self) -> bool {
        !self.node.store().stays(self.node.raft.id)
    }

    /// Starts to hand leadership over.
    pub fn transfer(&mut self, to: OrdererId) {
        self.node.transfer_leader(to.0);
    }

    /// Whether leadership is being handed over: nothing is taken meanwhile.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }
}
