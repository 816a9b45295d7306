//! How is this orderer? A JSON object for people and tests.

use super::Orderer;
use zoolog_core::ConnId;
use zoolog_core::wire::{self, StatusIs};

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

impl Orderer {
    pub(super) fn status(&mut self, conn: ConnId, request: u64) {
        let addr = self.consensus.leader().and_then(|id| self.cfg.addr(id));
        let live = self.lead.as_ref().map_or(0, |l| l.reports.connected().len());
        let state = &self.state;
        let json = format!(
            "{{\"role\":\"orderer\",\"id\":{},\"leader\":{},\"leader_addr\":{},\"term\":{},\"view\":{},\
             \"shards\":{},\"servers\":{},\"slots_connected\":{live},\"cut\":{},\"tail\":{},\"applied\":{}}}",
            self.cfg.id,
            self.is_leading(),
            addr.map_or("null".into(), quoted),
            self.consensus.term(),
            state.view().number,
            state.view().shards.len(),
            state.servers(),
            state.last_cut(),
            state.tail(),
            self.applied,
        );
        self.send(conn, wire::encode(StatusIs { request, json }));
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
