//! What does the admin port of an orderer or of a data server answer? Its status, figures for Prometheus, and probes:
//! what its nodes say when they are asked over their own ports.

use super::{Page, Pages, metrics};
use crate::status;
use serde_json::{Value, json};
use zoolog_core::wire::Stages;

/// Nodes of one process.
#[derive(Debug)]
pub struct StoredPages {
    /// `order` or `shard`.
    pub kind: &'static str,
    /// Name and address of each.
    pub nodes: Vec<(String, String)>,
}

const PATHS: [&str; 4] = ["/status", "/metrics", "/healthz", "/readyz"];

impl StoredPages {
    fn statuses(&self) -> Result<Vec<Value>, String> {
        self.nodes.iter().map(|(_, addr)| status::ask(addr)).collect()
    }

    /// Whether one can work: an orderer knows who leads, a slot is connected to him.
    fn works(status: &Value) -> bool {
        status["leader_addr"].is_string() || status["leader"] == true || status["leader_connected"] == true
    }

    fn metrics(&self) -> Result<String, String> {
        let stages = |addr: &String| status::ask_for(addr, Stages { request: 1, reset: false });
        let one = |(name, addr): &(String, String)| Ok((name.clone(), status::ask(addr)?, stages(addr)?));
        let all = self.nodes.iter().map(one).collect::<Result<Vec<_>, String>>()?;
        Ok(metrics::of_stored(self.kind, &all))
    }
}

impl Pages for StoredPages {
    fn get(&self, path: &str, _query: &str) -> Page {
        let failed = |why: String| Page::json(503, format!("{}\n", json!({ "error": why })));
        match path {
            "/status" => match self.statuses() {
                Ok(all) => Page::json(200, format!("{:#}\n", json!(all))),
                Err(why) => failed(why),
            },
            "/metrics" => match self.metrics() {
                Ok(body) => Page { code: 200, kind: metrics::KIND, body },
                Err(why) => failed(why),
            },
            "/healthz" => Page::probe("ok", self.statuses().is_ok()),
            "/readyz" => Page::probe("ready", self.statuses().is_ok_and(|all| all.iter().all(Self::works))),
            _ => Page::unknown(&PATHS),
        }
    }
}
