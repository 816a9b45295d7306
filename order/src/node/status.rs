//! How is this orderer? A JSON object for people and tests.

use super::Orderer;
use crate::sequencer::{Member, Standing};
use std::collections::BTreeMap;
use zoolog_core::wire::{self, DiskRoom, StatusIs};
use zoolog_core::{ConnId, OrdererId};

/// A leader's stage: there is something to propose, until a cut is proposed.
pub(super) const CUT_WAIT: usize = 0;
/// A leader's stage: a cut is proposed, until it is committed and applied here.
pub(super) const RAFT: usize = 1;
/// Every orderer's stage: a record of raft's is given to the log, until it is durable.
pub(super) const RAFT_WAL: usize = 2;
/// A leader's stage: a cut is committed and applied here, until it is offered to the sockets of all who wait for it.
pub(super) const CUT_SEND: usize = 3;
pub(super) const STAGES: [&str; 4] = ["cut_wait", "raft", "raft_wal", "cut_send"];

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// How much room a disk has.
fn room_json(room: DiskRoom, free_bytes: u64) -> String {
    format!("{{\"room\":\"{}\",\"free_bytes\":{free_bytes}}}", room.name())
}

impl Orderer {
    /// How long its stages take; they are counted anew if `reset`.
    pub(super) fn answer_stages(&mut self, conn: ConnId, m: &wire::Stages) {
        self.send(conn, wire::encode(StatusIs { request: m.request, json: self.stages.json() }));
        if m.reset {
            self.stages.reset();
        }
    }

    pub(super) fn status(&mut self, conn: ConnId, request: u64) {
        let addr = self.consensus.leader().and_then(|id| self.addr_of(id));
        let live = self.lead.as_ref().map_or(0, |l| l.reports.connected().len());
        let mut mending = String::new();
        for (slot, shards) in self.lead.iter().flat_map(|l| l.reports.mending()) {
            let comma = if mending.is_empty() { "" } else { "," };
            let shards: Vec<String> = shards.iter().map(ToString::to_string).collect();
            mending.push_str(&format!("{comma}\"{slot}\":[{}]", shards.join(",")));
        }
        let state = &self.state;
        let mut consumers = String::new();
        for (name, at) in state.consumers() {
            let comma = if consumers.is_empty() { "" } else { "," };
            consumers.push_str(&format!("{comma}{}:{at}", quoted(name)));
        }
        let here: Vec<String> = self.lead.iter().flat_map(|l| l.consumers.here()).map(quoted).collect();
        let here = here.join(",");
        let disk = self.disk.map_or("null".into(), |(room, free)| room_json(room, free));
        let mut short = String::new();
        for (slot, room, free) in self.lead.iter().flat_map(|l| l.watch.short()) {
            let comma = if short.is_empty() { "" } else { "," };
            short.push_str(&format!("{comma}\"{slot}\":{}", room_json(room, free)));
        }
        let sealed = state.sealed().map_or("null".into(), |s| {
            format!("{{\"tail\":{},\"successor\":{}}}", s.tail, quoted(&s.successor))
        });
        let keep_from = state.retention().keep_from.map_or("null".into(), |gsn| gsn.to_string());
        let orderers = self.orderers_json();
        let json = format!(
            "{{\"role\":\"orderer\",\"id\":{},\"leader\":{},\"leader_addr\":{},\"term\":{},\"view\":{},\
             \"shards\":{},\"servers\":{},\"slots_connected\":{live},\"mending\":{{{mending}}},\"cut\":{},\"tail\":{},\"trim\":{},\
             \"keep_from\":{keep_from},\"consumers\":{{{consumers}}},\"consumers_here\":[{here}],\"disk\":{disk},\"short_of_room\":{{{short}}},\"sealed\":{sealed},\"generation\":{},\"applied\":{},\"orderers\":[{orderers}]}}",
            self.cfg.id,
            self.is_leading(),
            addr.map_or("null".into(), quoted),
            self.consensus.term(),
            state.view().number,
            state.view().shards.len(),
            state.servers(),
            state.last_cut(),
            state.tail(),
            state.trim(),
            self.cfg.generation,
            self.applied,
        );
        self.send(conn, wire::encode(StatusIs { request, json }));
    }

    /// The orderers, as far as this one knows; how far each has come, only a leader does.
    fn orderers_json(&self) -> String {
        let leader = self.consensus.leader();
        let matched: BTreeMap<OrdererId, u64> = match &self.lead {
            Some(_) => self.consensus.matched().collect(),
            None => BTreeMap::new(),
        };
        let last = self.consensus.last();
        let one = |(id, m): (OrdererId, &Member)| {
            let standing = match m.standing {
                Standing::Learner => "learner",
                Standing::Voter => "voter",
                Standing::Leaving => "leaving",
            };
            let addr = quoted(self.addr_of(id).unwrap_or(&m.addr));
            let lag = matched.get(&id).map_or("null".into(), |at| last.saturating_sub(*at).to_string());
            let at = matched.get(&id).map_or("null".into(), u64::to_string);
            format!(
                "{{\"id\":{id},\"addr\":{addr},\"role\":\"{standing}\",\"leader\":{},\"matched\":{at},\"lag\":{lag}}}",
                leader == Some(id)
            )
        };
        self.state.members().iter().map(one).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
