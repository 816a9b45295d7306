//! What can be set? One struct per file, every key with its unit, default and consequence; an unknown key is
//! an error that names the nearest known one.

use crate::policy::{Acks, Fetch, Reads};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A setting that can't be used, as text for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// A file of settings.
pub trait Config: Serialize + DeserializeOwned + Default {
    /// Relations between settings.
    ///
    /// # Errors
    /// Which relation is broken, and why it matters.
    fn validate(&self) -> Result<(), ConfigError>;
}

/// Reads settings from TOML; keys that are not given have their default.
///
/// # Errors
/// Names the key, what is wrong, and the nearest known key if it is unknown.
pub fn parse<C: Config>(text: &str) -> Result<C, ConfigError> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError(e.to_string()))?;
    let known = toml::Table::try_from(C::default()).map_err(|e| ConfigError(e.to_string()))?;
    unknown_keys(&table, &known, "")?;
    let config: C = toml::from_str(text).map_err(|e| ConfigError(e.to_string()))?;
    config.validate()?;
    Ok(config)
}

/// Reads a file of settings.
///
/// # Errors
/// As [`parse`], and if it can't be read; with the path.
pub fn load<C: Config>(path: &std::path::Path) -> Result<C, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError(format!("can't read {}: {e}", path.display())))?;
    parse(&text).map_err(|e| ConfigError(format!("{}: {e}", path.display())))
}

fn unknown_keys(table: &toml::Table, known: &toml::Table, within: &str) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = format!("{within}{key}");
        match known.get(key) {
            None => {
                let near = known.keys().min_by_key(|k| strsim::damerau_levenshtein(k, key));
                let hint = near.map(|k| format!("; did you mean `{within}{k}`?")).unwrap_or_default();
                return Err(ConfigError(format!("unknown key `{name}`{hint}")));
            }
            Some(toml::Value::Table(inner)) => {
                if let toml::Value::Table(given) = value {
                    unknown_keys(given, inner, &format!("{name}."))?;
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn wrong<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// The birth certificate of a cluster, `cluster.toml`: made once by `zoolog admin init` (or `dev`), the same
/// file for every node. Holds the secret: keep it readable by the nodes only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterConfig {
    /// 128 bits, hexadecimal.
    pub id: String,
    /// 256 bits, hexadecimal: session passwords are derived from it.
    pub secret: String,
    /// The first orderers, as `ip:port`; their ids are 1, 2, ... in this order. Data servers and ZooKeeper nodes find
    /// the others through any of them; orderers look here at their very first start only.
    pub orderers: Vec<String>,
    /// Shards to form.
    pub shards: u32,
    /// Replicas of each shard; an acknowledged record survives the loss of all but one.
    pub replicas: u32,
    /// Servers that must have registered before the first shards are formed.
    pub servers: u32,
    /// Whether its log goes on where another of the same id and secret ends: then it takes nothing before it is told where
    /// that is, by `zoolog admin log switch`.
    pub successor: bool,
    /// How many clusters of the same id and secret came before it, each of which has ended, or will, where the next one begins.
    /// Its nodes and directories are told from theirs by it.
    pub generation: u32,
}

impl Config for ClusterConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let birth = BirthConfig { id: self.id.clone(), secret: self.secret.clone() };
        birth.validate().map_err(|e| ConfigError(format!("{e}: make the file with `zoolog admin init`")))?;
        if self.orderers.is_empty() || self.orderers.len().is_multiple_of(2) {
            return wrong(format!(
                "`orderers` has {} members: 1, 3 or 5 are useful, an even number only adds cost",
                self.orderers.len()
            ));
        }
        if self.replicas == 0 || self.replicas as usize > crate::limits::REPLICAS_MAX {
            return wrong(format!("`replicas` must be 1 to {}", crate::limits::REPLICAS_MAX));
        }
        if self.generation > 0 && !self.successor {
            return wrong("`generation` is of a cluster that follows another: then `successor` is true");
        }
        if self.shards == 0 {
            return wrong("`shards` must be at least 1");
        }
        if self.servers < self.replicas {
            return wrong(format!(
                "`servers` is {}, but the {} replicas of a shard must be on different servers",
                self.servers, self.replicas
            ));
        }
        Ok(())
    }
}

/// Who an embedded log is, `log.toml` in its directory: made at its first start. Holds a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BirthConfig {
    /// 128 bits, hexadecimal.
    pub id: String,
    /// 256 bits, hexadecimal: session passwords are derived from it.
    pub secret: String,
}

impl BirthConfig {
    /// The id as a number. Only after `validate`.
    ///
    /// # Panics
    /// Before it.
    pub fn cluster(&self) -> crate::ids::ClusterId {
        crate::ids::ClusterId(u128::from_str_radix(&self.id, 16).expect("validated"))
    }
}

impl Config for BirthConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if u128::from_str_radix(&self.id, 16).unwrap_or(0) == 0 {
            return wrong("`id` must be 32 hexadecimal digits, not all zero");
        }
        if self.secret.len() != 64 || !self.secret.bytes().all(|b| b.is_ascii_hexdigit()) {
            return wrong("`secret` must be 64 hexadecimal digits");
        }
        Ok(())
    }
}

impl ClusterConfig {
    /// What names the order, in whichever of the clusters that follow each other: of snapshots, of who uses the log. Only after
    /// `validate`.
    pub fn order_id(&self) -> crate::ids::ClusterId {
        crate::ids::ClusterId(u128::from_str_radix(&self.id, 16).expect("validated"))
    }

    /// What the nodes of this one call themselves, and stamp their directories with. Only after `validate`.
    pub fn cluster(&self) -> crate::ids::ClusterId {
        self.order_id().at(self.generation)
    }

    /// The secret as bytes. Only after `validate`.
    pub fn secret_bytes(&self) -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&self.secret[2 * i..2 * i + 2], 16).expect("validated"))
    }
}

/// `zoolog order --config FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderConfig {
    /// Where the log of this orderer lives. Default `zoolog-order`.
    pub data_dir: PathBuf,
    /// The cluster's birth certificate; waited for if it isn't there yet. Default `cluster.toml`.
    pub cluster_file: PathBuf,
    /// This orderer's id: its place among `orderers` in the cluster file, from 1; or, if it joins later, one that was
    /// never used. Default 1.
    pub id: u64,
    /// Where to listen, `ip:port`; empty for the address in the cluster file. Default empty.
    pub listen: String,
    /// Where others reach this orderer, `host:port`; empty for the address in the cluster file, or for `listen` if it
    /// joins. Default empty.
    pub advertise: String,
    /// Whether it joins a cluster that runs: on an empty `data_dir` it then waits until it is added with
    /// `zoolog admin orderers add`. Default false.
    pub join: bool,
    /// Addresses that hold in place of those that the orderers remember, as `ID=HOST:PORT`, after machines were given
    /// others: the same list for every orderer. Default empty.
    pub moved: Vec<String>,
    /// Microseconds between cuts; 0 adapts: at once after idle, spaced under load. Fixed values are for tuning
    /// and for repeating the paper's experiments. Default 0.
    pub cut_interval_us: u64,
    /// Milliseconds for which a replica may be silent, or hold up what others have accepted, before its shard is
    /// finalized and another formed in its place. Default 1000; at least 500, or 0: only by hand.
    pub failure_timeout_ms: u64,
    /// Milliseconds that data servers which have not spoken yet are given after a start of this orderer: they may be
    /// reading their logs. Default 30000.
    pub start_grace_ms: u64,
    /// Milliseconds for which a replica of a finalized shard may be gone before a copy is made on another server in its
    /// place. Default 60000; at least 1000, or 0: only by hand.
    pub rebuild_after_ms: u64,
    /// Seconds for which records are kept at least, whatever consumers need; 0: no longer than they need. Give it, and
    /// the next three, to all orderers alike: the leader's count. Default 0.
    pub retain_time_s: u64,
    /// Bytes of the newest records that are kept at least, counted once and not per copy; 0: no more than consumers
    /// need. With this or `retain_time_s`, what neither keeps goes even without any consumer; with neither, nothing
    /// goes by itself without one. Default 0.
    pub retain_bytes: u64,
    /// Seconds after which a consumer that is not there any more is dropped, so that it doesn't hold the log for ever;
    /// 0: never. Default 604800, a week.
    pub consumer_max_age_s: u64,
    /// Bytes of records before a consumer, counted once, above which it is dropped, even if it is there; 0: however
    /// many. Should be several snapshots of a ZooKeeper node. Default 0.
    pub consumer_max_lag_bytes: u64,
    /// Bytes that stay free on the disk of the log, or a quarter of the disk if that is less: with less its status says so.
    /// 0: none. Default 536870912.
    pub disk_reserve_bytes: u64,
    /// Bytes that the log's files may take, as if the disk were no larger; 0: as many as there are. At least
    /// 268435456. Default 0.
    pub disk_quota_bytes: u64,
    /// Where the admin HTTP server listens, `ip:port`; empty: nowhere. Default empty.
    pub admin_listen: String,
    /// Microseconds for which a thread polls before it sleeps: quicker where cores are idle, dearer everywhere.
    /// Default 0; up to 1000.
    pub spin_us: u32,
}

impl Default for OrderConfig {
    fn default() -> Self {
        Self {
            data_dir: "zoolog-order".into(),
            cluster_file: "cluster.toml".into(),
            id: 1,
            listen: String::new(),
            advertise: String::new(),
            join: false,
            moved: Vec::new(),
            cut_interval_us: 0,
            failure_timeout_ms: 1000,
            start_grace_ms: 30_000,
            rebuild_after_ms: 60_000,
            retain_time_s: 0,
            retain_bytes: 0,
            consumer_max_age_s: 7 * 24 * 3600,
            consumer_max_lag_bytes: 0,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            disk_quota_bytes: 0,
            admin_listen: String::new(),
            spin_us: 0,
        }
    }
}

impl Config for OrderConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.id == 0 {
            return wrong("`id` counts from 1");
        }
        if self.join && self.listen.is_empty() {
            return wrong("who joins needs `listen`: it has no address in the cluster file");
        }
        let anywhere = ["0.0.0.0:", "[::]:"].iter().any(|any| self.listen.starts_with(any));
        if self.join && anywhere && self.advertise.is_empty() {
            return wrong("who joins and listens everywhere needs `advertise`: where others reach it");
        }
        self.moved()?;
        if self.cut_interval_us > 1_000_000 {
            return wrong("`cut_interval_us` is above a second: appends would wait that long");
        }
        if (1..500).contains(&self.failure_timeout_ms) {
            return wrong(
                "`failure_timeout_ms` is below 500: pauses that are nobody's failure would end shards",
            );
        }
        if (1..1000).contains(&self.rebuild_after_ms) {
            return wrong(
                "`rebuild_after_ms` is below 1000: servers that are only being restarted would be taken for lost",
            );
        }
        if self.consumer_max_age_s > 0 && self.consumer_max_age_s < 60 {
            return wrong(
                "`consumer_max_age_s` below 60: a consumer that is only being restarted would be dropped",
            );
        }
        is_place("admin_listen", &self.admin_listen)?;
        quota_is_enough(self.disk_quota_bytes)?;
        spin_is_short(self.spin_us)?;
        Ok(())
    }
}

/// Bytes that stay free on a disk unless something else is set: for the next segments of the logs on it, for what is
/// under way when it gets low, and for what keeps sessions alive after that.
const DISK_RESERVE_BYTES: u64 = 512 << 20;

/// Whether something can listen there, or needn't.
fn is_place(key: &str, addr: &str) -> Result<(), ConfigError> {
    let port = addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if addr.is_empty() || port.is_some() {
        Ok(())
    } else {
        wrong(format!("`{key}` must be ip:port, or empty: nowhere"))
    }
}

/// Whether that is a user, and 160 bits in base64.
fn is_digest(text: &str) -> bool {
    let Some((user, digest)) = text.split_once(':') else { return false };
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let digits = digest.strip_suffix('=').unwrap_or_default();
    !user.is_empty() && digits.len() == 27 && digits.as_bytes().iter().all(is_base64)
}

fn quota_is_enough(bytes: u64) -> Result<(), ConfigError> {
    if bytes > 0 && bytes < 256 << 20 {
        return wrong("`disk_quota_bytes` is below 268435456: a log needs four segments of 64 MiB to go on");
    }
    Ok(())
}

impl OrderConfig {
    /// Ids and addresses in `moved`.
    ///
    /// # Errors
    /// Names the first that is none.
    pub fn moved(&self) -> Result<Vec<(crate::ids::OrdererId, String)>, ConfigError> {
        let one = |text: &String| {
            let (id, addr) = text.split_once('=')?;
            Some((crate::ids::OrdererId(id.trim().parse().ok()?), addr.trim().to_string()))
        };
        let parsed = self.moved.iter().map(|text| {
            one(text).ok_or_else(|| ConfigError(format!("`moved` has {text:?}: it must be ID=HOST:PORT")))
        });
        parsed.collect()
    }
}

fn spin_is_short(spin_us: u32) -> Result<(), ConfigError> {
    if spin_us > 1000 {
        return wrong("`spin_us` is above 1000: a thread that polls for longer takes a core for nothing");
    }
    Ok(())
}

/// `zoolog shard --config FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardConfig {
    /// Where this server's logs live, one folder per slot. Default `zoolog-shard`.
    pub data_dir: PathBuf,
    /// The cluster's birth certificate; waited for if it isn't there yet. Default `cluster.toml`.
    pub cluster_file: PathBuf,
    /// This server's id, unique in the cluster and never given to another machine. Default 0.
    pub server: u32,
    /// Where the first slot listens, `ip:port`; slot n listens n ports higher. Default `127.0.0.1:4000`.
    pub listen: String,
    /// Host or ip that others reach this server by; empty for the one in `listen`. Default empty.
    pub advertise: String,
    /// Executors, each with its own port and log. Default 1; up to one per core is useful.
    pub slots: u16,
    /// Servers of one fault domain fail together; replicas of a shard are kept apart. Default empty: every
    /// server is a domain of its own.
    pub domain: String,
    /// Bytes that stay free on the disk of the log, or a quarter of the disk if that is less: with less
    /// appends are held back, with less than half of it they are refused, until there is more.
    /// 0: none. Default 536870912.
    pub disk_reserve_bytes: u64,
    /// Bytes that the log's files of each slot may take, as if the disk were no larger; 0: as many as there are. At
    /// least 268435456. Default 0.
    pub disk_quota_bytes: u64,
    /// Where the admin HTTP server listens, `ip:port`; empty: nowhere. Default empty.
    pub admin_listen: String,
    /// Bytes per second that each slot takes from others to make a copy in place of one that was lost with its server;
    /// 0: as many as there are. Default 33554432.
    pub rebuild_bytes_per_s: u64,
    /// Microseconds for which a thread polls before it sleeps: quicker where cores are idle, dearer everywhere.
    /// Default 0; up to 1000.
    pub spin_us: u32,
    /// Bytes per second and slot that the scrubber reads of what lies cold on the disk, to find and mend what can't be
    /// read any more; 0: none. Default 2097152.
    pub scrub_bytes_per_s: u64,
    /// Microseconds between two reports of what is durable; 0: at once, with each sync. Fixed values are for repeating
    /// the experiments of systems that report so, as with `cut_interval_us` of the orderers. Default 0.
    pub report_interval_us: u64,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            data_dir: "zoolog-shard".into(),
            cluster_file: "cluster.toml".into(),
            server: 0,
            listen: "127.0.0.1:4000".into(),
            advertise: String::new(),
            slots: 1,
            domain: String::new(),
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            disk_quota_bytes: 0,
            admin_listen: String::new(),
            rebuild_bytes_per_s: 32 << 20,
            spin_us: 0,
            scrub_bytes_per_s: 2 << 20,
            report_interval_us: 0,
        }
    }
}

impl Config for ShardConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.slots == 0 || self.slots > 1024 {
            return wrong("`slots` must be 1 to 1024");
        }
        is_place("admin_listen", &self.admin_listen)?;
        spin_is_short(self.spin_us)?;
        quota_is_enough(self.disk_quota_bytes)?;
        if self.report_interval_us > 1_000_000 {
            return wrong("`report_interval_us` is above a second: appends would wait that long");
        }
        match self.listen.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
            Some(Ok(port)) if port != 0 && u32::from(port) + u32::from(self.slots) <= 65536 => Ok(()),
            _ => wrong("`listen` must be ip:port, with a port that leaves room for all slots"),
        }
    }
}

/// `zoolog zk --config FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZkConfig {
    /// Where this node keeps what is its own. Default `zoolog-zk`.
    pub data_dir: PathBuf,
    /// The cluster's birth certificate; waited for if it isn't there yet. Default `cluster.toml`.
    pub cluster_file: PathBuf,
    /// This node's id, unique among the cluster's ZooKeeper nodes. Default 0.
    pub id: u32,
    /// Where clients connect, `ip:port`. Default `127.0.0.1:2181`.
    pub listen: String,
    /// ZooKeeper's tickTime, milliseconds. Default 2000.
    pub tick_ms: u32,
    /// Shortest session timeout granted, milliseconds; 0 means 2 ticks. Default 0.
    pub min_session_timeout_ms: u32,
    /// Longest session timeout granted, milliseconds; 0 means 20 ticks. Default 0.
    pub max_session_timeout_ms: u32,
    /// Connections per client address; 0 is no limit. Default 60.
    pub max_connections_per_ip: u32,
    /// Connections in all (ZooKeeper's maxCnxns). Default 65536.
    pub max_connections: u32,
    /// Requests of one connection that may wait for the log before it is no longer read from. Default 1024.
    pub max_pending_requests: u32,
    /// Bytes of such requests, at least two of the longest. Default 16777216.
    pub max_pending_bytes: u64,
    /// The same of all connections together (of those of each executor that has any): above it those are not read from that
    /// have more than their part of it. Default 268435456.
    pub max_pending_bytes_of_all: u64,
    /// Watches in all (at each executor with connections as many): who asks for another is closed. Default 2000000.
    pub max_watches: u64,
    /// Milliseconds that a connection may take until it has a session. Default 10000; at least 100.
    pub handshake_timeout_ms: u32,
    /// Longest request, bytes (ZooKeeper's jute.maxbuffer). Default 1048575.
    pub max_request_bytes: u32,
    /// Four-letter words that are answered on the client port, with commas between them, or `*` for all (ZooKeeper's
    /// `4lw.commands.whitelist`). Default those that change nothing and name no node of the tree.
    pub four_letter_words: String,
    /// Who may do everything: `super:` and the digest of `super:PASSWORD` (ZooKeeper's
    /// `DigestAuthenticationProvider.superDigest`). Default empty: nobody.
    pub super_digest: String,
    /// Whether ACLs don't count for the clients of this node (ZooKeeper's `skipACL`). Default false.
    pub skip_acl: bool,
    /// Whether writes of this node's clients that are over a hard quota are refused (ZooKeeper's `enforceQuota`).
    /// Default false.
    pub enforce_quota: bool,
    /// Whether nodes may have a time to live (ZooKeeper's `extendedTypesEnabled`). Default true.
    pub extended_types: bool,
    /// Milliseconds between two looks for empty containers, and for nodes whose time to live is over
    /// (`znode.container.checkIntervalMs`). Default 60000.
    pub container_check_interval_ms: u64,
    /// How many of these go in a minute at most (`znode.container.maxPerMinute`). Default 10000.
    pub container_max_per_minute: u32,
    /// Where the admin HTTP server listens, `ip:port`; empty: nowhere. Default empty.
    pub admin_listen: String,
    /// Where it listens besides, for `/metrics`; empty: nowhere. Default empty.
    pub metrics_listen: String,
    /// Whether clients that say they would take it are served reads, and nothing else, while this node can't reach the log
    /// (ZooKeeper's `readonlymode.enabled`). Needs `reads = "session"`. Default false.
    pub read_only: bool,
    /// Records after which the next snapshot of this node's state is taken (but not before as many bytes of
    /// records came as the last one has); 0: however many. More means rarer
    /// writing of snapshots, a longer log and a slower start. Default 500000.
    pub snapshot_records: u64,
    /// Bytes of records after which it is taken, if that comes first; 0: however many. Default 268435456.
    pub snapshot_bytes: u64,
    /// Where other ZooKeeper nodes get this one's snapshots, `ip:port`; empty: at any free port of the address in `listen`,
    /// or of all of them if that is for this machine only and orderers are elsewhere; `none`: nowhere. Default empty.
    pub snapshot_listen: String,
    /// Host under which they reach it; empty: the address it listens at, or the one it is seen at. Default empty.
    pub snapshot_advertise: String,
    /// Bytes per second that this node gives others of its snapshots, all together, and takes of theirs when it needs
    /// one; 0: as many as there are. Default 536870912; at least 1048576.
    pub snapshot_bytes_per_s: u64,
    /// Bytes of log that this node, when it starts, rather plays than gets another's snapshot. How much there is to play is
    /// estimated: 256 bytes per record, and from the log's beginning at least as many as the snapshot has; a snapshot that is
    /// longer than that is not got. 0: it plays whatever the log has, and gets a snapshot only if that is trimmed. Default
    /// 67108864.
    pub bootstrap_log_bytes: u64,
    /// How the log's records come to this node: `streamed`, `batched`, `deferred` or `lazy`. Only the first two keep all
    /// promises, and end sessions that fell silent; see docs/POLICIES.md. Default `streamed`.
    pub fetch: Fetch,
    /// Milliseconds between two fetches of a `batched` or `deferred` node. Default 20; up to 60000.
    pub defer_ms: u32,
    /// Ranges of positions of which a `deferred` or `lazy` node remembers who may have them. Default 200; up to 65536.
    pub location_limit: u32,
    /// When a write is answered: `applied`, or `logged`, before it is known what it comes to. Default `applied`.
    pub acks: Acks,
    /// What a read shows: `session`, `linearizable`, or `log`. Default `session`.
    pub reads: Reads,
    /// Threads: 1 does everything; of more, one applies the log's records and the others have the clients'
    /// connections. 0 takes what suits the cores, see [`ZkConfig::executors_on`]. Default 0; up to 64.
    pub executors: u16,
    /// Microseconds for which a thread polls before it sleeps: quicker where cores are idle, dearer everywhere.
    /// Default 0; up to 1000.
    pub spin_us: u32,
}

impl Default for ZkConfig {
    fn default() -> Self {
        Self {
            data_dir: "zoolog-zk".into(),
            cluster_file: "cluster.toml".into(),
            id: 0,
            listen: "127.0.0.1:2181".into(),
            tick_ms: 2000,
            min_session_timeout_ms: 0,
            max_session_timeout_ms: 0,
            max_connections_per_ip: 60,
            max_connections: 65_536,
            max_pending_requests: 1024,
            max_pending_bytes: 16 << 20,
            max_pending_bytes_of_all: 256 << 20,
            max_watches: 2_000_000,
            handshake_timeout_ms: 10_000,
            max_request_bytes: 0xf_ffff,
            four_letter_words: FOUR_LETTER_WORDS.into(),
            super_digest: String::new(),
            skip_acl: false,
            enforce_quota: false,
            extended_types: true,
            container_check_interval_ms: 60_000,
            container_max_per_minute: 10_000,
            admin_listen: String::new(),
            metrics_listen: String::new(),
            read_only: false,
            snapshot_records: 500_000,
            snapshot_bytes: 256 << 20,
            snapshot_listen: String::new(),
            snapshot_advertise: String::new(),
            snapshot_bytes_per_s: 512 << 20,
            bootstrap_log_bytes: 64 << 20,
            fetch: Fetch::default(),
            defer_ms: 20,
            location_limit: 200,
            acks: Acks::default(),
            reads: Reads::default(),
            executors: 0,
            spin_us: 0,
        }
    }
}

/// Words that are answered unless something else is set.
const FOUR_LETTER_WORDS: &str = "conf,cons,dirs,envi,hash,isro,mntr,ruok,srvr,stat,wchs";

/// More executors than these wait for the one that applies.
const EXECUTORS_USEFUL: usize = 8;
/// Below, executors would only wait for each other's processor.
const CORES_FOR_SEVERAL: usize = 4;

impl ZkConfig {
    /// How many executors the node has if so many cores are its own. If that is not set: one below 4 cores; from
    /// there on three of four cores, up to 8: the others are the kernel's, and snapshots'.
    pub fn executors_on(&self, cores: usize) -> u16 {
        match self.executors {
            0 if cores < CORES_FOR_SEVERAL => 1,
            0 => (cores * 3 / 4).min(EXECUTORS_USEFUL) as u16,
            n => n,
        }
    }

    /// Shortest and longest session timeout granted, milliseconds.
    pub fn session_timeouts_ms(&self) -> (u32, u32) {
        let or = |given: u32, ticks: u32| if given == 0 { self.tick_ms.saturating_mul(ticks) } else { given };
        (or(self.min_session_timeout_ms, 2), or(self.max_session_timeout_ms, 20))
    }
}

impl Config for ZkConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.tick_ms < 10 {
            return wrong("`tick_ms` below 10 leaves no time to keep a session alive");
        }
        let (min, max) = self.session_timeouts_ms();
        if min > max {
            return wrong(format!("the shortest session timeout, {min} ms, is above the longest, {max} ms"));
        }
        if self.max_request_bytes as usize + 4096 > crate::limits::RECORD_BYTES_MAX
            || self.max_request_bytes < 1024
        {
            return wrong(format!(
                "`max_request_bytes` must be 1024 to {}",
                crate::limits::RECORD_BYTES_MAX - 4096
            ));
        }
        for (key, n) in [
            ("max_connections", u64::from(self.max_connections)),
            ("max_pending_requests", u64::from(self.max_pending_requests)),
            ("max_watches", self.max_watches),
            ("container_check_interval_ms", self.container_check_interval_ms),
            ("container_max_per_minute", u64::from(self.container_max_per_minute)),
        ] {
            if n == 0 {
                return wrong(format!("`{key}` must be at least 1"));
            }
        }
        if self.read_only && self.reads != Reads::Session {
            return wrong(
                "`read_only` needs `reads = \"session\"`: what is read while the log is away may be old",
            );
        }
        if self.max_pending_bytes < 2 * u64::from(self.max_request_bytes) {
            return wrong(
                "`max_pending_bytes` must be at least twice `max_request_bytes`: two requests must find room",
            );
        }
        if self.max_pending_bytes_of_all < self.max_pending_bytes {
            return wrong(
                "`max_pending_bytes_of_all` must be at least `max_pending_bytes`, which one connection may take",
            );
        }
        if self.handshake_timeout_ms < 100 {
            return wrong("`handshake_timeout_ms` below 100 leaves no time to open a session");
        }
        if !self.super_digest.is_empty() && !is_digest(&self.super_digest) {
            return wrong(
                "`super_digest` must be `super:` and the digest of `super:PASSWORD`, 28 characters as of \
                 `printf super:PASSWORD | openssl sha1 -binary | base64`",
            );
        }
        is_place("admin_listen", &self.admin_listen)?;
        is_place("metrics_listen", &self.metrics_listen)?;
        if self.snapshot_listen != "none" {
            is_place("snapshot_listen", &self.snapshot_listen)?;
        }
        if (1..1 << 20).contains(&self.snapshot_bytes_per_s) {
            return wrong("`snapshot_bytes_per_s` must be 0 (as many as there are) or at least 1048576");
        }
        if !(1..=60_000).contains(&self.defer_ms) {
            return wrong("`defer_ms` must be 1 to 60000");
        }
        if !(1..=65_536).contains(&self.location_limit) {
            return wrong("`location_limit` must be 1 to 65536");
        }
        if self.executors > 64 {
            return wrong(
                "`executors` must be 0 (what suits the cores) to 64: more than cores slow each other down",
            );
        }
        spin_is_short(self.spin_us)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_has_its_default() {
        let c: ZkConfig = parse("id = 3\ntick_ms = 500").unwrap();
        assert_eq!((c.id, c.session_timeouts_ms()), (3, (1000, 10_000)));
        assert_eq!(c.listen, ZkConfig::default().listen);
    }

    #[test]
    fn executors_suit_the_cores_unless_they_are_set() {
        let auto = ZkConfig::default();
        let found = [1, 2, 3, 4, 8, 16, 128].map(|cores| auto.executors_on(cores));
        assert_eq!(found, [1, 1, 1, 3, 6, 8, 8]);
        let set: ZkConfig = parse("executors = 5").unwrap();
        assert_eq!((set.executors_on(1), set.executors_on(128)), (5, 5));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let e = parse::<ZkConfig>("tickms = 500").unwrap_err().to_string();
        assert!(e.contains("`tickms`") && e.contains("`tick_ms`"), "{e}");
    }

    #[test]
    fn a_wrong_type_names_its_key() {
        let e = parse::<ShardConfig>("slots = \"two\"").unwrap_err().to_string();
        assert!(e.contains("slots"), "{e}");
    }

    #[test]
    fn broken_relations_are_explained() {
        for (text, about) in [
            ("min_session_timeout_ms = 9000\nmax_session_timeout_ms = 10", "shortest"),
            ("max_request_bytes = 4000000000", "max_request_bytes"),
            ("executors = 65", "`executors` must be 0"),
            ("super_digest = \"super:secret\"", "openssl"),
            ("admin_listen = \"8080\"", "`admin_listen` must be ip:port"),
            ("defer_ms = 0", "`defer_ms` must be 1 to 60000"),
            ("location_limit = 0", "`location_limit` must be 1"),
            ("fetch = \"eager\"", "streamed"),
            ("snapshot_listen = \"2888\"", "`snapshot_listen` must be ip:port"),
            ("snapshot_bytes_per_s = 1000", "`snapshot_bytes_per_s` must be 0"),
            ("container_max_per_minute = 0", "`container_max_per_minute` must be at least 1"),
            ("read_only = true\nreads = \"linearizable\"", "`read_only` needs `reads"),
            ("max_watches = 0", "`max_watches` must be at least 1"),
            ("max_pending_bytes = 2000000", "twice `max_request_bytes`"),
            ("max_pending_bytes_of_all = 16777215", "which one connection may take"),
            ("handshake_timeout_ms = 99", "`handshake_timeout_ms` below 100"),
        ] {
            let e = parse::<ZkConfig>(text).unwrap_err().to_string();
            assert!(e.contains(about), "{e}");
        }
        assert!(parse::<OrderConfig>("id = 0").is_err());
        assert!(parse::<OrderConfig>("id = 4\njoin = true").is_err());
        assert!(parse::<OrderConfig>("id = 4\njoin = true\nlisten = \"0.0.0.0:4\"").is_err());
        assert!(parse::<OrderConfig>("moved = [\"1:a\"]").is_err());
        assert!(parse::<OrderConfig>("moved = [\"1=a:1\"]").is_ok());
        assert!(parse::<ShardConfig>("listen = \"127.0.0.1:65535\"\nslots = 2").is_err());
        assert!(parse::<ShardConfig>("report_interval_us = 1000001").is_err());
        let cluster = "id = \"0f\"\norderers = [\"a:1\"]\nshards = 1\nreplicas = 2\nservers = 1\nsecret = \"";
        let e = parse::<ClusterConfig>(&format!("{cluster}{}\"", "ab".repeat(32))).unwrap_err();
        assert!(e.to_string().contains("servers"), "{e}");
    }
}
