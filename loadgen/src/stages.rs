//! How long did each stage inside the nodes take? Fetched from their admin ports after a run.

use crate::args::RunArgs;
use crate::recorder::Recorder;
use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long one node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What one node says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// Its stages, in the order of the way of a request.
    pub stages: Vec<Stage>,
    /// Why it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How long one stage took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How often it was passed.
    pub count: u64,
    /// Half of the times took this long at most, microseconds.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The 99.9th percentile.
    pub p999_us: f64,
    /// The longest time.
    pub max_us: f64,
}

/// Has the nodes count anew when measuring begins, so that they show the same time as this program.
#[derive(Debug)]
pub struct Anew<'a> {
    admins: &'a [String],
}

impl<'a> Anew<'a> {
    /// Nothing to do unless `run` wants stages.
    pub fn of(run: &'a RunArgs) -> Self {
        Self { admins: if run.stages { &run.admin } else { &[] } }
    }

    /// Called again and again: tells the nodes once, as soon as it is `time`.
    ///
    /// # Errors
    /// As [`fetch`].
    pub fn tell(&mut self, time: bool) -> anyhow::Result<()> {
        if time {
            ask_all(std::mem::take(&mut self.admins), "/stages?reset=1")?;
        }
        Ok(())
    }
}

/// What this program itself measured: per kind of operation, from sending the request to taking its answer.
pub fn client(recorder: &Recorder) -> Node {
    let stage = |kind: &crate::recorder::Kind| {
        let h = if recorder.is_open_loop() { &kind.service } else { &kind.response };
        let us = |ns: u64| ns as f64 / 1e3;
        Stage {
            name: format!("client_{}", kind.name.replace('-', "_")),
            count: h.len(),
            p50_us: us(h.value_at_quantile(0.5)),
            p99_us: us(h.value_at_quantile(0.99)),
            p999_us: us(h.value_at_quantile(0.999)),
            max_us: us(h.max()),
        }
    };
    Node { node: "loadgen".into(), stages: recorder.kinds().iter().map(stage).collect(), error: None }
}

/// Asks all of `admins` for all of the nodes that each knows.
///
/// # Errors
/// Which of them could not be asked, why, and what to do.
pub fn fetch(admins: &[String]) -> anyhow::Result<Vec<Node>> {
    ask_all(admins, "/stages")
}

fn ask_all(admins: &[String], path: &str) -> anyhow::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for at in admins {
        nodes.extend(one(at, path).with_context(|| {
            format!(
                "no stages from {at}: is it the admin port of a Zoolog node (`admin=` in its ready line)?"
            )
        })?);
    }
    Ok(nodes)
}

fn one(at: &str, path: &str) -> anyhow::Result<Vec<Node>> {
    let address = at.to_socket_addrs()?.next().context("it has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0 has neither chunks nor connections that stay: the body is what comes until the end.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("it answered `{status}`: it may be too old to know stages");
    }
    serde_json::from_str(body).context("the answer is not what /stages gives")
}

/// The table for people.
pub fn table(nodes: &[Node]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["node", "stage", "count", "p50 us", "p99 us", "p99.9 us", "max us"]);
    for node in nodes {
        if let Some(error) = &node.error {
            table.add_row([&node.node, error]);
        }
        for s in &node.stages {
            let us = [s.p50_us, s.p99_us, s.p999_us, s.max_us].map(|us| format!("{us:.1}"));
            table.add_row(
                [vec![node.node.clone(), s.name.clone(), s.count.to_string()], us.to_vec()].concat(),
            );
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_client_s_stage_is_the_service_time() {
        let run = |open_loop| {
            let mut r = Recorder::new(&["get", "create-delete"], open_loop);
            r.open(0, 1_000_000_000);
            r.answered(1, 1_000_000, 3_000_000, 5_000_000, 7);
            client(&r)
        };
        for (open_loop, us) in [(true, 2_000.0), (false, 4_000.0)] {
            let node = run(open_loop);
            let [get, other] = &node.stages[..] else { panic!("{node:?}") };
            assert_eq!((get.count, other.count, other.name.as_str()), (0, 7, "client_create_delete"));
            assert!((other.max_us - us).abs() < us / 100.0, "{other:?}");
        }
    }

    /// An admin port that gives one answer.
    fn admin(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"GET /stages HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        at
    }

    #[test]
    fn stages_of_all_nodes_make_one_table() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[{\"node\":\"shard-0\",\"stages\":[\
             {\"name\":\"primary_wal\",\"count\":7,\"p50_us\":1.5,\"p99_us\":20,\"p999_us\":30.0,\"max_us\":99}]},\
             {\"node\":\"zk-0\",\"stages\":[],\"error\":\"it is gone\"}]";
        let nodes = fetch(&[admin(answer), admin(answer)]).unwrap();
        assert_eq!((nodes.len(), nodes[2].stages[0].count), (4, 7));
        assert!(table(&nodes).contains("it is gone"));
        assert!(table(&nodes).contains("primary_wal") && table(&nodes).contains("99.0"));
    }

    #[test]
    fn whatever_is_not_a_node_that_knows_stages_is_said() {
        for (answer, word) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            ("HTTP/1.1 200 OK\r\n\r\n{\"node\":3}", "not what /stages gives"),
            ("SSH-2.0-x\r\n", "not HTTP"),
            ("", "not HTTP"),
        ] {
            let at = admin(answer);
            let error = format!("{:#}", fetch(std::slice::from_ref(&at)).unwrap_err());
            assert!(error.contains(word) && error.contains(&at), "{error}");
        }
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(format!("{:#}", fetch(&[gone]).unwrap_err()).contains("admin port"));
    }
}
