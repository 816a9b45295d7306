//! What does `dev --set KEY=VALUE` change? Settings of the nodes' files, checked like those files.

use crate::args::ZooArgs;
use crate::zoo_cfg;
use zoolog_core::config::{self, Config, OrderConfig, ShardConfig, ZkConfig};

/// What `dev` decides itself for each node.
const TAKEN: [&str; 8] = ["data_dir", "cluster_file", "id", "server", "listen", "advertise", "join", "moved"];

/// What the nodes of each kind have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// Of orderers.
    pub order: OrderConfig,
    /// Of data servers.
    pub shard: ShardConfig,
    /// Of ZooKeeper nodes.
    pub zk: ZkConfig,
}

impl Common {
    /// The defaults, with ZooKeeper's settings for its nodes, and `set` on top: `KEY=VALUE` for all kinds of nodes that know the key, `KIND.KEY=VALUE`
    /// for one kind.
    ///
    /// # Errors
    /// Names the setting, what is wrong with it, and the nearest known key if it is unknown.
    pub fn new(set: &[String], zoo: &ZooArgs) -> Result<Self, String> {
        // Everything comes from one address here.
        let zk = ZkConfig { max_connections_per_ip: 0, ..ZkConfig::default() };
        let given = zoo_cfg::read(zoo)?;
        let mut zk_table = table(&zk)?;
        zk_table.extend(given.file.into_iter().chain(given.line));
        let mut tables = [
            ("order", table(&OrderConfig::default())?),
            ("shard", table(&ShardConfig::default())?),
            ("zk", zk_table),
        ];
        for setting in set {
            put(&mut tables, setting).map_err(|e| format!("--set {setting}: {e}"))?;
        }
        let [(_, order), (_, shard), (_, zk)] = tables;
        Ok(Self { order: parse(&order)?, shard: parse(&shard)?, zk: parse(&zk)? })
    }
}

fn put(tables: &mut [(&'static str, toml::Table); 3], setting: &str) -> Result<(), String> {
    let (name, text) = setting.split_once('=').ok_or("it must be KEY=VALUE or KIND.KEY=VALUE")?;
    let (kind, key) = match name.split_once('.') {
        Some((kind, key)) => (Some(kind), key),
        None => (None, name),
    };
    if kind.is_some_and(|kind| tables.iter().all(|(name, _)| *name != kind)) {
        return Err("the kinds of nodes are order, shard and zk".into());
    }
    if TAKEN.contains(&key) {
        return Err(format!("`{key}` differs from node to node, so `dev` decides on it"));
    }
    let mine = |name: &str| kind.is_none_or(|kind| kind == name);
    let known = || tables.iter().filter(|(name, _)| mine(name)).flat_map(|(_, table)| table.keys());
    if !known().any(|k| k == key) {
        let usable = known().filter(|k| !TAKEN.contains(&k.as_str()));
        let near = usable.min_by_key(|k| strsim::damerau_levenshtein(k, key));
        return Err(format!(
            "unknown key{}",
            near.map(|k| format!("; did you mean `{k}`?")).unwrap_or_default()
        ));
    }
    // What is no number or other word of TOML's is text.
    let value = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = value.unwrap_or_else(|| toml::Value::String(text.to_string()));
    for (name, table) in tables {
        if mine(name) && table.contains_key(key) {
            table.insert(key.to_string(), value.clone());
            check(name, table)?;
        }
    }
    Ok(())
}

/// As the node itself would.
fn check(kind: &str, table: &toml::Table) -> Result<(), String> {
    match kind {
        "order" => parse::<OrderConfig>(table).map(drop),
        "shard" => parse::<ShardConfig>(table).map(drop),
        _ => parse::<ZkConfig>(table).map(drop),
    }
}

fn table<C: Config>(config: &C) -> Result<toml::Table, String> {
    toml::Table::try_from(config).map_err(|e| e.to_string())
}

fn parse<C: Config>(table: &toml::Table) -> Result<C, String> {
    config::parse(&toml::to_string(table).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(set: &[&str]) -> Result<Common, String> {
        Common::new(&set.iter().map(|s| s.to_string()).collect::<Vec<_>>(), &ZooArgs::default())
    }

    #[test]
    fn zookeepers_settings_reach_the_zookeeper_nodes_and_set_comes_before_them() {
        let property = vec!["maxClientCnxns=9".into(), "skipACL=yes".into()];
        let zoo = ZooArgs { zoo_cfg: None, property };
        let c = Common::new(&["zk.skip_acl=false".into()], &zoo).unwrap();
        assert_eq!((c.zk.max_connections_per_ip, c.zk.skip_acl, c.zk.tick_ms), (9, false, 2000));
    }

    #[test]
    fn nothing_set_is_the_default() {
        let c = common(&[]).unwrap();
        assert_eq!((c.order, c.shard), (OrderConfig::default(), ShardConfig::default()));
    }

    #[test]
    fn a_key_reaches_the_kinds_that_know_it_or_the_one_that_is_named() {
        let c = common(&["spin_us=20", "zk.spin_us=30", "slots=2", "shard.domain=rack 7"]).unwrap();
        assert_eq!((c.order.spin_us, c.shard.spin_us, c.zk.spin_us), (20, 20, 30));
        assert_eq!((c.shard.slots, c.shard.domain.as_str()), (2, "rack 7"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_cure() {
        for (set, about) in [
            ("cut_intervl_us=5", "`cut_interval_us`"),
            ("zk.cut_interval_us=5", "unknown key"),
            ("cut_interval_us=9999999", "above a second"),
            ("cut_interval_us=soon", "cut_interval_us"),
            ("slots", "KEY=VALUE"),
            ("disk.slots=1", "order, shard and zk"),
            ("listen=127.0.0.1:1", "`dev` decides"),
        ] {
            let e = common(&[set]).unwrap_err();
            assert!(e.contains(about) && e.contains(set), "{set}: {e}");
        }
    }
}
