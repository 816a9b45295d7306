//! Where does a ZooKeeper node give others its snapshots, as its settings say?

use zoolog_client::bootstrap::Giving;
use zoolog_core::config::{ClusterConfig, ZkConfig};

/// Says that nothing is given.
const NOWHERE: &str = "none";

/// Binds the port of a node with these settings, unless it is to have none.
///
/// # Errors
/// Text for a person.
pub fn listen(config: &ZkConfig, cluster: &ClusterConfig) -> Result<Option<Giving>, String> {
    let at = match config.snapshot_listen.as_str() {
        NOWHERE => return Ok(None),
        "" => Giving::place(&config.listen, &cluster.orderers),
        addr => addr.to_string(),
    };
    Giving::bind(&at, &config.snapshot_advertise, config.snapshot_bytes_per_s).map(Some)
}
