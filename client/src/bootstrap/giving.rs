//! Where does a node give others its snapshots? At a port of its own, which nobody has to choose, on a thread of its own:
//! others find it through the orderers. Where there is more work than cores, the thread lets others go first: a node's own clients
//! wait for nobody who needs a snapshot.

use super::{Serve, ServeConfig};
use std::net::TcpListener;
use std::time::Duration;
use zoolog_core::ClusterId;
use zoolog_core::rt::snapshots::SnapshotStore;
use zoolog_core::rt::{self, Executor, Job, NodeSpec, Stop};

/// Nodes that are given a snapshot at a time.
const FETCHERS_MAX: usize = 4;
/// Bytes of what one of them may say.
const FRAME_BYTES_MAX: usize = 4096;

/// The port, bound.
#[derive(Debug)]
pub struct Giving {
    listener: TcpListener,
    /// As others are told of it.
    pub addr: String,
    bytes_per_s: u64,
}

impl Giving {
    /// Where a node listens for it if nobody says it: at any port of the address where it listens otherwise. But where only
    /// this machine's clients come there though the orderers are elsewhere, so may be those who want snapshots: then
    /// everywhere.
    pub fn place(listen: &str, orderers: &[String]) -> String {
        let host = |addr: &str| addr.rsplit_once(':').map_or(String::new(), |(host, _)| host.to_string());
        let is_here = |host: &str| host == "localhost" || host.starts_with("127.") || host == "[::1]";
        let own = host(listen);
        if is_here(&own) && !orderers.iter().all(|addr| is_here(&host(addr))) {
            return "0.0.0.0:0".into();
        }
        format!("{own}:0")
    }

    /// Binds the port. `advertise` is the host that others are told; empty: where it listens, or is seen to be. So many
    /// bytes per second are given to all together; 0: as many as there are.
    ///
    /// # Errors
    /// Text for a person.
    pub fn bind(listen: &str, advertise: &str, bytes_per_s: u64) -> Result<Self, String> {
        let listener = rt::listen_when_free(listen)?;
        let bound = listener.local_addr().map_err(|e| e.to_string())?;
        let addr = match advertise {
            "" => bound.to_string(),
            host => format!("{host}:{}", bound.port()),
        };
        Ok(Self { listener, addr, bytes_per_s })
    }

    /// Gives the snapshots of that cluster that are there from now on, until the end of the process or `stop`.
    ///
    /// # Errors
    /// Text for a person.
    pub fn start(
        self,
        name: &str,
        cluster: ClusterId,
        store: SnapshotStore,
        stop: Stop,
    ) -> Result<(), String> {
        let Self { listener, bytes_per_s, .. } = self;
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
            // Also of the thread that reads, which begins here.
            rt::priority::let_others_go_first();
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
    use super::Giving;

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
            assert_eq!(Giving::place(listen, orderers), wanted, "{listen}");
        }
    }
}
