//! What does the admin port answer? Health and status of a `dev` topology, for people and probes.

use super::{Page, Pages};
use crate::{admin, stages, status};
use serde_json::json;

/// What the admin port can tell of.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Addresses of the orderers.
    pub orderers: Vec<String>,
    /// Client addresses of the ZooKeeper nodes.
    pub zk: Vec<String>,
}

impl Pages for Topology {
    fn get(&self, path: &str, query: &str) -> Page {
        match path {
            "/healthz" => Page::probe("ok", true),
            "/readyz" => {
                let not: Vec<_> = self.zk.iter().filter(|addr| !serves(addr)).map(String::as_str).collect();
                let ready = not.is_empty();
                let body = format!("{}\n", json!({ "ready": ready, "not_ready": not }));
                Page::json(if ready { 200 } else { 503 }, body)
            }
            "/status" => {
                let mut all = admin::cluster_status(&self.orderers);
                let zk: Vec<_> = self.zk.iter().map(|a| json!({ "addr": a, "ready": serves(a) })).collect();
                all["zk"] = json!(zk);
                Page::json(200, format!("{all:#}\n"))
            }
            "/stages" => {
                let reset = query.split('&').any(|q| q == "reset=1");
                Page::json(200, format!("{}\n", stages::all(&self.orderers, &self.zk, reset)))
            }
            _ => Page::unknown(&["/healthz", "/readyz", "/status", "/stages"]),
        }
    }
}

/// Whether a ZooKeeper node is up and caught up.
fn serves(addr: &str) -> bool {
    status::four_letters(addr, "redy").is_ok_and(|text| text == "yes")
}
