//! What do ZooKeeper's settings mean here? Each key that its administrator's guide knows: what it sets, or what Zoolog
//! does instead.

use toml::Value;
use zoolog_core::limits::RECORD_BYTES_MAX;
use zoolog_zk::node::Whitelist;

/// Settings of a node as far as read, and what belongs together before it is one.
#[derive(Debug, Default)]
pub struct Draft {
    /// By their names in a node's own file.
    pub table: toml::Table,
    /// What is to be said to who reads logs.
    pub warnings: Vec<String>,
    client: Place,
    admin: Place,
    admin_is_off: bool,
    metrics: Place,
    /// Where a server's number may be.
    pub data_dir: Option<String>,
}

/// Where something listens.
#[derive(Debug, Default)]
struct Place {
    host: Option<String>,
    port: Option<u16>,
}

impl Place {
    fn listen(&self, port: u16) -> Value {
        let host = self.host.as_deref().unwrap_or("0.0.0.0");
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.into() };
        Value::String(format!("{host}:{}", self.port.unwrap_or(port)))
    }
}

impl Draft {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.table.insert(key.into(), value.into());
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// What was told in several keys becomes one.
    pub fn settle(&mut self) {
        if self.client.port.is_some() || self.client.host.is_some() {
            let listen = self.client.listen(2181);
            self.set("listen", listen);
        }
        let named = self.admin.port.is_some() || self.admin.host.is_some();
        if named && !self.admin_is_off {
            let listen = self.admin.listen(8080);
            self.set("admin_listen", listen);
        }
        if self.metrics.port.is_some() || self.metrics.host.is_some() {
            let listen = self.metrics.listen(7000);
            self.set("metrics_listen", listen);
        }
    }
}

/// Takes a value, or says what is allowed.
type Take = fn(&mut Draft, &str) -> Result<(), String>;

/// What a key means.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// This takes its value.
    Sets(Take),
    /// Nothing: this holds instead.
    Instead(&'static str),
    /// It would protect something, and can't: only off is accepted.
    OnlyOff(&'static str),
    /// Something only if it is on, and then this holds instead.
    InsteadOfOn(&'static str),
}

impl std::fmt::Debug for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Meaning::Sets(_) => "Sets",
            Meaning::Instead(_) => "Instead",
            Meaning::OnlyOff(_) => "OnlyOff",
            Meaning::InsteadOfOn(_) => "InsteadOfOn",
        })
    }
}

/// A whole number in these bounds; hexadecimal behind `0x`, as Java reads it.
fn number(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    read.filter(|n| (min..=max).contains(n)).ok_or_else(|| format!("a whole number, {min} to {max}"))
}

/// `true` or `yes`, `false` or `no`.
pub fn on(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err("true, yes, false or no".into()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    number(text, 1, 65535).map(|n| n as u16)
}

fn host(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("an address of this machine".into());
    }
    Ok(Some(text.to_string()))
}

const U32: i64 = u32::MAX as i64;

/// Keys that set something.
pub(super) const SETTING: &[(&str, Take)] = &[
    ("clientPort", |d, v| {
        d.client.port = Some(port(v)?);
        Ok(())
    }),
    ("clientPortAddress", |d, v| {
        d.client.host = host(v)?;
        Ok(())
    }),
    ("tickTime", |d, v| {
        d.set("tick_ms", number(v, 10, 3_600_000)?);
        Ok(())
    }),
    ("minSessionTimeout", |d, v| {
        d.set("min_session_timeout_ms", number(v, -1, i32::MAX.into())?.max(0));
        Ok(())
    }),
    ("maxSessionTimeout", |d, v| {
        d.set("max_session_timeout_ms", number(v, -1, i32::MAX.into())?.max(0));
        Ok(())
    }),
    ("maxClientCnxns", |d, v| {
        d.set("max_connections_per_ip", number(v, 0, U32)?);
        Ok(())
    }),
    ("maxCnxns", |d, v| {
        let n = number(v, 0, U32)?;
        if n > 0 {
            d.set("max_connections", n);
        }
        Ok(())
    }),
    ("globalOutstandingLimit", |d, v| {
        d.set("max_pending_requests", number(v, 1, U32)?);
        d.warn("globalOutstandingLimit: here it holds for each connection, so that none makes others wait");
        Ok(())
    }),
    ("jute.maxbuffer", |d, v| {
        let n = number(v, 1024, i32::MAX.into())?;
        let most = RECORD_BYTES_MAX as i64 - 4096;
        if n > most {
            d.warn(format!("jute.maxbuffer={n}: no record of the log is that long, so it is {most}"));
        }
        d.set("max_request_bytes", n.min(most));
        Ok(())
    }),
    ("snapCount", |d, v| {
        d.set("snapshot_records", number(v, 2, i64::MAX)?);
        Ok(())
    }),
    ("snapSizeLimitInKb", |d, v| {
        d.set("snapshot_bytes", number(v, -1, i64::MAX / 1024)?.max(0) * 1024);
        Ok(())
    }),
    ("4lw.commands.whitelist", |d, v| {
        let (_, unknown) = Whitelist::parse(v);
        if !unknown.is_empty() {
            d.warn(format!("4lw.commands.whitelist: there is no word {}", unknown.join(", ")));
        }
        let known = v.split(',').map(str::trim).filter(|w| !unknown.iter().any(|u| u == w));
        d.set("four_letter_words", known.collect::<Vec<_>>().join(","));
        Ok(())
    }),
    ("DigestAuthenticationProvider.superDigest", |d, v| {
        d.set("super_digest", v);
        Ok(())
    }),
    ("DigestAuthenticationProvider.digestAlg", |_, v| match v {
        "SHA1" | "SHA-1" => Ok(()),
        _ => Err("SHA1: Zoolog knows no other".into()),
    }),
    ("skipACL", |d, v| {
        d.set("skip_acl", on(v)?);
        Ok(())
    }),
    ("readonlymode.enabled", |d, v| {
        d.set("read_only", on(v)?);
        Ok(())
    }),
    ("enforceQuota", |d, v| {
        d.set("enforce_quota", on(v)?);
        Ok(())
    }),
    ("extendedTypesEnabled", |d, v| {
        d.set("extended_types", on(v)?);
        Ok(())
    }),
    ("znode.container.checkIntervalMs", |d, v| {
        d.set("container_check_interval_ms", number(v, 1, U32)?);
        Ok(())
    }),
    ("znode.container.maxPerMinute", |d, v| {
        d.set("container_max_per_minute", number(v, 1, U32)?);
        Ok(())
    }),
    ("admin.enableServer", |d, v| {
        d.admin_is_off = !on(v)?;
        if !d.admin_is_off {
            d.admin.host.get_or_insert_with(|| "0.0.0.0".into());
        }
        Ok(())
    }),
    ("admin.serverPort", |d, v| {
        d.admin.port = Some(port(v)?);
        Ok(())
    }),
    ("admin.serverAddress", |d, v| {
        d.admin.host = host(v)?;
        Ok(())
    }),
    ("metricsProvider.httpPort", |d, v| {
        d.metrics.port = Some(port(v)?);
        Ok(())
    }),
    ("metricsProvider.httpHost", |d, v| {
        d.metrics.host = host(v)?;
        Ok(())
    }),
    ("metricsProvider.className", |d, v| {
        if v.ends_with("PrometheusMetricsProvider") {
            d.metrics.port.get_or_insert(7000);
        }
        Ok(())
    }),
    ("dataDir", |d, v| {
        d.data_dir = Some(v.to_string());
        d.warn(
            "dataDir: the log is on the data servers; what is this node's own is in its `data_dir`. Of dataDir only the \
             number in `myid` is taken",
        );
        Ok(())
    }),
];

const VOTING: &str = "ZooKeeper nodes neither vote nor follow each other: orderers do, which `cluster.toml` names; start one \
                      `zoolog zk` in place of each server";
const LOG: &str = "the data servers write the log: each write is synced before it is acknowledged, and segments are made ahead";
const PURGE: &str = "old snapshots, and what no node needs of the log, go by themselves";
const SERVING: &str = "executors serve the connections, each connection is bounded by itself, and all together \
                       (`executors`, `max_pending_requests`, `max_pending_bytes`, `max_pending_bytes_of_all`)";
const TLS: &str = "there is no TLS, X.509 or SASL yet: nothing listens there, and nobody is let in by it";
const LOCAL: &str = "every session is one of all nodes";
const HTTP: &str =
    "the admin server speaks plain HTTP/1.1 at /commands; what listens, and where, is in `admin_listen`";
const STATE: &str = "the hash of the state is always kept, and shown by `mntr`";
const QUIET: &str = "nothing is logged per request";
const TUNING: &str = "there is nothing to tune there";

/// Keys that set nothing, as they are or with a `*` at their end.
pub(super) const OTHERS: &[(&str, Meaning)] = &[
    ("server.*", Meaning::Instead(VOTING)),
    ("group.*", Meaning::Instead(VOTING)),
    ("weight.*", Meaning::Instead(VOTING)),
    ("initLimit", Meaning::Instead(VOTING)),
    ("syncLimit", Meaning::Instead(VOTING)),
    ("connectToLearnerMasterLimit", Meaning::Instead(VOTING)),
    ("electionAlg", Meaning::Instead(VOTING)),
    ("electionPortBindRetry", Meaning::Instead(VOTING)),
    ("peerType", Meaning::Instead(VOTING)),
    ("leaderServes", Meaning::Instead(VOTING)),
    ("standaloneEnabled", Meaning::Instead(VOTING)),
    ("reconfigEnabled", Meaning::InsteadOfOn(VOTING)),
    ("dynamicConfigFile", Meaning::Instead(VOTING)),
    ("localConfig*", Meaning::Instead(VOTING)),
    ("quorumListenOnAllIPs", Meaning::Instead(VOTING)),
    ("observerMasterPort", Meaning::Instead(VOTING)),
    ("observer.*", Meaning::Instead(VOTING)),
    ("cnxTimeout", Meaning::Instead(VOTING)),
    ("multiAddress.*", Meaning::Instead(VOTING)),
    ("learner.*", Meaning::Instead(VOTING)),
    ("leader.*", Meaning::Instead(VOTING)),
    ("quorum.*", Meaning::Instead(VOTING)),
    ("follower.*", Meaning::Instead(VOTING)),
    ("syncEnabled", Meaning::Instead(VOTING)),
    ("dataLogDir", Meaning::Instead(LOG)),
    ("preAllocSize", Meaning::Instead(LOG)),
    ("forceSync", Meaning::Instead(LOG)),
    ("fsync.warningthresholdms", Meaning::Instead(LOG)),
    ("commitLogCount", Meaning::Instead(LOG)),
    ("flushDelay", Meaning::Instead(LOG)),
    ("maxWriteQueuePollTime", Meaning::Instead(LOG)),
    ("maxBatchSize", Meaning::Instead(LOG)),
    ("txnLogSizeLimitInKb", Meaning::Instead(LOG)),
    ("snapshot.*", Meaning::Instead(LOG)),
    ("autopurge.*", Meaning::Instead(PURGE)),
    ("clientPortListenBacklog", Meaning::Instead(SERVING)),
    ("serverCnxnFactory", Meaning::Instead(SERVING)),
    ("nio.*", Meaning::Instead(SERVING)),
    ("netty.*", Meaning::Instead(SERVING)),
    ("clientTcpKeepAlive", Meaning::Instead(SERVING)),
    ("maxResponseCacheSize", Meaning::Instead(SERVING)),
    ("maxGetChildrenResponseCacheSize", Meaning::Instead(SERVING)),
    ("commitProcessor.*", Meaning::Instead(SERVING)),
    ("request_throttle*", Meaning::Instead(SERVING)),
    ("requestThrottle*", Meaning::Instead(SERVING)),
    ("throttled_op_wait_time", Meaning::Instead(SERVING)),
    ("connection_throttle*", Meaning::Instead(SERVING)),
    ("connectionMaxTokens", Meaning::Instead(SERVING)),
    ("largeRequest*", Meaning::Instead(SERVING)),
    ("jute.maxbuffer.extrasize", Meaning::Instead(SERVING)),
    ("watchManagerName", Meaning::Instead(TUNING)),
    ("watcherClean*", Meaning::Instead(TUNING)),
    ("maxInProcessingDeadWatchers", Meaning::Instead(TUNING)),
    ("bitHashCacheSize", Meaning::Instead(TUNING)),
    ("closeSessionTxn.enabled", Meaning::Instead(TUNING)),
    ("enableEagerACLCheck", Meaning::Instead(TUNING)),
    ("znode.container.maxNeverUsedIntervalMs", Meaning::Instead(TUNING)),
    ("secureClientPort*", Meaning::Instead(TLS)),
    ("ssl.*", Meaning::Instead(TLS)),
    ("sslQuorum", Meaning::InsteadOfOn(TLS)),
    ("client.portUnification", Meaning::InsteadOfOn(TLS)),
    ("authProvider.*", Meaning::Instead(TLS)),
    ("X509AuthenticationProvider.*", Meaning::Instead(TLS)),
    ("sasl.*", Meaning::Instead(TLS)),
    ("requireClientAuthScheme", Meaning::Instead(TLS)),
    ("fips-mode", Meaning::Instead(TLS)),
    ("localSessionsEnabled", Meaning::InsteadOfOn(LOCAL)),
    ("localSessionsUpgradingEnabled", Meaning::InsteadOfOn(LOCAL)),
    ("admin.commandURL", Meaning::Instead(HTTP)),
    ("admin.idleTimeout", Meaning::Instead(HTTP)),
    ("admin.portUnification", Meaning::Instead(HTTP)),
    ("admin.snapshot*", Meaning::Instead(HTTP)),
    ("admin.restore*", Meaning::Instead(HTTP)),
    ("admin.rateLimiterIntervalInMS", Meaning::Instead(HTTP)),
    ("metricsProvider.*", Meaning::Instead(HTTP)),
    ("digest.enabled", Meaning::Instead(STATE)),
    ("audit.enable", Meaning::InsteadOfOn(QUIET)),
    ("audit.impl.class", Meaning::Instead(QUIET)),
    ("admin.forceHttps", Meaning::OnlyOff("the admin server speaks plain HTTP only")),
    ("admin.needClientAuth", Meaning::OnlyOff("the admin server asks for no certificate")),
    (
        "enforce.auth.enabled",
        Meaning::OnlyOff("Zoolog can't yet demand a proof of identity before anything else"),
    ),
    (
        "enforce.auth.schemes",
        Meaning::Instead("Zoolog can't yet demand a proof of identity before anything else"),
    ),
    ("sessionRequireClientSASLAuth", Meaning::OnlyOff("there is no SASL yet")),
];

/// What a key means, its prefix `zookeeper.` taken off; and the name under which it is told of once.
pub fn meaning(key: &str) -> Option<(&'static str, Meaning)> {
    let exact =
        SETTING.iter().find(|(name, _)| *name == key).map(|(name, take)| (*name, Meaning::Sets(*take)));
    exact.or_else(|| OTHERS.iter().find(|(name, _)| *name == key).copied()).or_else(|| {
        let begins = |name: &str| name.strip_suffix('*').is_some_and(|start| key.starts_with(start));
        OTHERS.iter().find(|(name, _)| begins(name)).copied()
    })
}

/// The known key that is most like one that is not.
pub fn nearest(key: &str) -> &'static str {
    let names = SETTING.iter().map(|(name, _)| *name).chain(OTHERS.iter().map(|(name, _)| *name));
    names.min_by_key(|name| strsim::damerau_levenshtein(name, key)).expect("there are some")
}
