//! What does the admin port answer? Health and status of a `dev` topology, for people and probes.

use crate::{admin, stages, status};
use serde_json::json;
use std::io::Cursor;
use tiny_http::{Header, Response, Server};

/// What the admin port can tell of.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Addresses of the orderers.
    pub orderers: Vec<String>,
    /// Client addresses of the ZooKeeper nodes.
    pub zk: Vec<String>,
}

/// Serves from a thread of its own until the process ends.
///
/// # Errors
/// If the port can't be had.
pub fn serve(addr: &str, topology: Topology) -> Result<(), String> {
    let listener = zoolog_core::rt::listen(addr)?;
    let server = Server::from_listener(listener, None).map_err(|e| format!("admin port {addr}: {e}"))?;
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || {
            for request in server.incoming_requests() {
                let (code, body) = answer(request.url(), &topology);
                let json = Header::from_bytes("Content-Type", "application/json").expect("a valid header");
                let len = body.len();
                let body = Cursor::new(body.into_bytes());
                // Who hangs up before the answer doesn't get it.
                let _ = request.respond(Response::new(code.into(), vec![json], body, Some(len), None));
            }
        })
        .map_err(|e| e.to_string())?;
    Ok(())
}

fn answer(url: &str, topology: &Topology) -> (u16, String) {
    match url.split('?').next().unwrap_or_default() {
        "/healthz" => (200, "{\"ok\":true}\n".into()),
        "/readyz" => {
            let not: Vec<_> = topology.zk.iter().filter(|addr| !serves(addr)).map(String::as_str).collect();
            let ready = not.is_empty();
            (if ready { 200 } else { 503 }, format!("{}\n", json!({ "ready": ready, "not_ready": not })))
        }
        "/status" => {
            let mut all = admin::cluster_status(&topology.orderers);
            let zk: Vec<_> = topology.zk.iter().map(|a| json!({ "addr": a, "ready": serves(a) })).collect();
            all["zk"] = json!(zk);
            (200, format!("{all:#}\n"))
        }
        "/stages" => {
            let reset =
                url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|q| q == "reset=1"));
            (200, format!("{}\n", stages::all(&topology.orderers, &topology.zk, reset)))
        }
        _ => (404, "{\"paths\":[\"/healthz\",\"/readyz\",\"/status\",\"/stages\"]}\n".into()),
    }
}

/// Whether a ZooKeeper node is up and caught up.
fn serves(addr: &str) -> bool {
    status::four_letters(addr, "srvr").is_ok_and(|text| text.starts_with("Zookeeper version"))
}
