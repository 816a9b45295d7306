//! What does a ZooKeeper node's admin port answer? Commands as ZooKeeper's own admin server has them, figures for
//! Prometheus, and probes.

use super::{Page, Pages, commands, metrics};
use crate::asking::Asking;
use std::sync::Arc;
use zoolog_core::config::ZkConfig;
use zoolog_zk::node::{About, Facts, Report};

/// A node, and what else is told of it.
#[derive(Debug)]
pub struct ZkPages {
    /// Who asks it.
    pub asking: Asking,
    /// Its settings.
    pub config: ZkConfig,
    /// Its surroundings.
    pub facts: Facts,
}

const PATHS: [&str; 4] = ["/commands", "/metrics", "/healthz", "/readyz"];

impl Pages for ZkPages {
    fn get(&self, path: &str, _query: &str) -> Page {
        match path {
            "/commands" | "/commands/" => {
                Page { code: 200, kind: "text/html;charset=utf-8", body: commands::index() }
            }
            "/metrics" => match self.figures() {
                Some(report) => {
                    Page { code: 200, kind: metrics::KIND, body: metrics::of_zk(&report, &self.facts) }
                }
                None => Page::json(503, "{\"error\":\"the node doesn't answer\"}\n".into()),
            },
            "/healthz" => Page::probe("ok", self.figures().is_some()),
            "/readyz" => Page::probe("ready", self.figures().is_some_and(|r| r.status.serving)),
            path => match path.strip_prefix("/commands/") {
                Some(name) => Page::json(200, format!("{:#}", commands::answer(self, name))),
                None => Page::unknown(&PATHS),
            },
        }
    }
}

impl ZkPages {
    fn figures(&self) -> Option<Arc<Report>> {
        self.asking.ask(About { counts: true, ..About::default() })
    }
}
