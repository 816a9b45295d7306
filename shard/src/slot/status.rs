//! How is the slot? A JSON object for people and tests.

use super::Slot;
use std::fmt::Write;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{Stages, StatusIs};

impl Slot {
    pub(super) fn answer_status(&mut self, conn: ConnId, request: u64) {
        let json = self.status();
        self.fx.send(conn, StatusIs { request, json });
    }

    /// How long the stages of appends take here; they are counted anew if `reset`.
    pub(super) fn answer_stages(&mut self, conn: ConnId, m: &Stages) {
        let json = self.fx.stages.json();
        self.fx.send(conn, StatusIs { request: m.request, json });
        if m.reset {
            self.fx.stages.reset();
        }
    }

    /// A JSON object: role, slot, incarnation, leader_connected, view, lanes with their lengths, and what is
    /// in progress.
    pub fn status(&self) -> String {
        let mut lanes = String::new();
        let mut copies = String::new();
        for replica in self.replicas.values() {
            if let Some((records, of, bytes)) = replica.copied() {
                let (comma, shard) = (if copies.is_empty() { "" } else { "," }, replica.shard);
                let _ = write!(
                    copies,
                    "{comma}{{\"shard\":{shard},\"records\":{records},\"of\":{of},\"bytes\":{bytes}}}"
                );
            }
        }
        for replica in self.replicas.values() {
            let mend = &replica.mend;
            let damage = replica.broken.is_some()
                || mend.hopeless.is_some()
                || (replica.live && mend.is_crippled(replica.index));
            let mending = !replica.may_report();
            for (i, lane) in replica.lanes.iter().enumerate() {
                let primary = i == usize::from(replica.index);
                let state = match (replica.live, primary, replica.own.serving) {
                    _ if damage => "damaged",
                    _ if mending => "mending",
                    (false, ..) if replica.is_copy() => "rebuilding",
                    (false, ..) => "finalized",
                    (true, true, false) => "recovering",
                    (true, ..) => "serving",
                };
                let comma = if lanes.is_empty() { "" } else { "," };
                let (start, batches) = (lane.start, lane.batches());
                let (accepted, durable, committed) = (lane.accepted, lane.durable, lane.committed);
                let (id, lost) = (lane.id, lane.lost().map(|(from, to)| to - from).sum::<u64>());
                let _ = write!(
                    lanes,
                    "{comma}{{\"lane\":\"{id}\",\"primary\":{primary},\"state\":\"{state}\",\"start\":{start},\
                     \"batches\":{batches},\"lost\":{lost},\"accepted\":{accepted},\
                     \"durable\":{durable},\"committed\":{committed}}}"
                );
            }
        }
        format!(
            "{{\"role\":\"slot\",\"slot\":\"{}\",\"incarnation\":{},\"leader_connected\":{},\"view\":{},\
             \"trim\":{},\"disk\":{{\"room\":\"{}\",\"free_bytes\":{}}},\"connections\":{},\"loading\":{},\"unsynced_bytes\":{},\"writers\":{},\"mended_batches\":{},\"scrub\":{},\"copies\":[{copies}],\"lanes\":[{lanes}]}}",
            self.cfg.slot,
            self.incarnation,
            self.leader.registered,
            self.view.number,
            self.trim.point,
            self.space.room.name(),
            self.space.free_bytes.map_or("null".into(), |b| b.to_string()),
            self.conns.len(),
            self.fx.loading(),
            self.unsynced_bytes,
            self.replicas.values().map(|r| r.writers[usize::from(r.index)].len()).sum::<usize>(),
            self.replicas.values().map(|r| r.mend.batches).sum::<u64>(),
            self.scrub_status(),
        )
    }
}
