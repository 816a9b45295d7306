//! Where does a ZooKeeper node give others its snapshots? At a port of its own, which nobody has to choose, on a thread of
//! its own: others find it through the orderers.

use std::net::TcpListener;
use std::time::Duration;
use zoolog_core::ClusterId;
use zoolog_core::config::{ClusterConfig, ZkConfig};
use zoolog_core::rt::snapshots::SnapshotStore;
use zoolog_core::rt::{self, Executor, Job, NodeSpec, Stop};
use zoolog_zk::bootstrap::{Serve, ServeConfig};

/// Nodes that are given a snapshot at a time.
const FETCHERS_MAX: usize = 4;
/// Bytes of what one of them may say.
const FRAME_BYTES_MAX: usize = 4096;
/// Says that nothing is given.
const NOWHERE: &str = "none";

/// The port, bound.
pub struct Giving {
    listener: TcpListener,
    /// As others are told of it.
    pub addr: String,
    bytes_per_s: u64,
    cluster: ClusterId,
}

/// Binds the port of a node with these settings, unless it is to have none.
///
/// # Errors
/// Text for a person.
pub fn listen(config: &ZkConfig, cluster: &ClusterConfig) -> Result<Option<Giving>, String> {
    let at = match config.snapshot_listen.as_str() {
        NOWHERE => return Ok(None),
        "" => by_itself(&config.listen, &cluster.orderers),
        addr => addr.to_string(),
    };
    let listener = rt::listen_when_free(&at)?;
    let bound = listener.local_addr().map_err(|e| e.to_string())?;
    let addr = match config.snapshot_advertise.as_str() {
        "" => bound.to_string(),
        host => format!("{host}:{}", bound.port()),
    };
    Ok(Some(Giving { listener, addr, bytes_per_s: config.snapshot_bytes_per_s, cluster: cluster.cluster() }))
}

/// Where it listens if nobody says it: where its clients connect, at any port. But where only this machine's clients
/// do though the orderers are elsewhere, so may be those who want snapshots: then everywhere.
fn by_itself(listen: &str, orderers: &[String]) -> String {
    let host = |addr: &str| addr.rsplit_once(':').map_or(String::new(), |(host, _)| host.to_string());
    let is_here = |host: &str| host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let own = host(listen);
    if is_here(&own) && !orderers.iter().all(|addr| is_here(&host(addr))) {
        return "0.0.0.0:0".into();
    }
    format!("{own}:0")
}

impl Giving {
    /// Gives the snapshots that are there from now on, until the end of the process or `stop`.
    ///
    /// # Errors
    /// Text for a person.
    pub fn start(self, name: &str, store: SnapshotStore, stop: Stop) -> Result<(), String> {
        let Self { listener, bytes_per_s, cluster, .. } = self;
        let node = format!("{name}.giving");
        let spec = NodeSpec {
            name: node.clone(),
            listener: Some(listener),
            framing: rt::node_framing,
            frame_limit: FRAME_BYTES_MAX,
            disk: None,
            snapshots: None,
            gives: Some(store),
            stop,
        };
        let serve = Serve::new(ServeConfig { cluster, bytes_per_s, fetchers_max: FETCHERS_MAX });
        let told = node.clone();
        let job: Job = Box::new(move |host| {
            host.run(serve, spec, move |note| {
                tracing::info!(node = told, "{note}");
                Ok(())
            })
        });
        let thread = Executor::start("giving", Duration::ZERO, vec![job])?;
        // Its clients are served all the same.
        let watch = move || {
            if let Err(why) = thread.join() {
                tracing::warn!(node, "gives no snapshots any more: {why}");
            }
        };
        std::thread::Builder::new().name("giving".into()).spawn(watch).map_err(|e| e.to_string())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::by_itself;

    #[test]
    fn it_listens_where_those_who_need_it_come_from() {
        let (here, there) = (["127.0.0.1:9".to_string()], ["127.0.0.1:9".into(), "10.0.0.1:9".to_string()]);
        for (listen, orderers, wanted) in [
            ("127.0.0.1:2181", &here[..], "127.0.0.1:0"),
            ("127.0.0.1:2181", &there, "0.0.0.0:0"),
            ("localhost:2181", &there, "0.0.0.0:0"),
            ("10.0.0.7:2181", &there, "10.0.0.7:0"),
            ("0.0.0.0:2181", &here, "0.0.0.0:0"),
            ("[::]:2181", &there, "[::]:0"),
        ] {
            assert_eq!(by_itself(listen, orderers), wanted, "{listen}");
        }
    }
}
