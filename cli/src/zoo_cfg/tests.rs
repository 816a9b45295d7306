//! Do ZooKeeper's settings become ours, in the right order, with words for what doesn't?

use super::*;
use std::path::PathBuf;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
    fn zoo(&self, text: &str, properties: &[&str]) -> ZooArgs {
        let zoo_cfg = Some(self.put("zoo.cfg", text));
        ZooArgs { zoo_cfg, property: properties.iter().map(|p| p.to_string()).collect() }
    }
}

#[test]
fn what_people_have_becomes_what_a_node_is_set_to() {
    let files = Files::new();
    let text = "# a server\n! another comment\ntickTime : 2500\nclientPort=2182 \nclientPortAddress=::1\n\
                maxClientCnxns=0\nmaxCnxns=500\nminSessionTimeout=-1\nmaxSessionTimeout=90000\nsnapCount=12345\n\
                jute.maxbuffer=0x200000\nglobalOutstandingLimit=77\n4lw.commands.whitelist=stat, \\\n   ruok\n\
                admin.serverPort=8081\nmetricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n\
                zookeeper.skipACL=yes\nenforceQuota=true\nreadonlymode.enabled=true\nzookeeper.extendedTypesEnabled=false\n\
                znode.container.checkIntervalMs=5\nzookeeper.znode.container.maxPerMinute=9\n\
                zookeeper.DigestAuthenticationProvider.superDigest=super\\:D/InIHSb7yEEbrWz8b9l71RjZJU\\=\n";
    let c = node_config(None, &files.zoo(text, &[])).unwrap();
    let wanted = ZkConfig {
        tick_ms: 2500,
        listen: "[::1]:2182".into(),
        max_connections_per_ip: 0,
        max_connections: 500,
        max_session_timeout_ms: 90_000,
        snapshot_records: 12_345,
        max_request_bytes: c.max_request_bytes,
        max_pending_requests: 77,
        four_letter_words: "stat,ruok".into(),
        admin_listen: "0.0.0.0:8081".into(),
        metrics_listen: "0.0.0.0:7000".into(),
        skip_acl: true,
        enforce_quota: true,
        read_only: true,
        extended_types: false,
        container_check_interval_ms: 5,
        container_max_per_minute: 9,
        super_digest: "super:D/InIHSb7yEEbrWz8b9l71RjZJU=".into(),
        ..ZkConfig::default()
    };
    assert_eq!(c, wanted);
    assert!(c.max_request_bytes > ZkConfig::default().max_request_bytes);
}

#[test]
fn a_flag_comes_before_the_own_file_and_that_before_zoo_cfg() {
    let files = Files::new();
    let own = files.put("zk.toml", "id = 4\nmax_connections_per_ip = 7\nsnapshot_records = 3");
    let zoo = files.zoo(
        "maxClientCnxns=8\nsnapCount=9\nclientPort=5555\n",
        &["zookeeper.snapCount=10", "znode.container.maxPerMinute=11"],
    );
    let c = node_config(Some(&own), &zoo).unwrap();
    assert_eq!((c.id, c.max_connections_per_ip, c.snapshot_records), (4, 7, 10));
    assert_eq!((c.listen.as_str(), c.container_max_per_minute), ("0.0.0.0:5555", 11));
    assert_eq!(c.tick_ms, 3000, "as where a zoo.cfg names none");
    let alone = node_config(Some(&own), &ZooArgs::default()).unwrap();
    assert_eq!((alone.tick_ms, alone.listen.as_str()), (2000, "127.0.0.1:2181"));
}

#[test]
fn what_has_no_meaning_is_told_once_with_what_is_done_instead() {
    let files = Files::new();
    files.put("myid", "3\n");
    let text = format!(
        "dataDir={}\ninitLimit=10\nsyncLimit=5\nserver.1=a:2888:3888\nserver.2=b:2888:3888\n\
         autopurge.purgeInterval=1\nautopurge.snapRetainCount=3\ntickTme=5\nreconfigEnabled=false\n\
         secureClientPort=2281\nssl.keyStore.password=hush\nlocalSessionsEnabled=false\n",
        files.dir.path().display()
    );
    let (given, warnings) = read_quietly(&files.zoo(&text, &["audit.enable=true"])).unwrap();
    assert_eq!(given.file.get("id").and_then(toml::Value::as_integer), Some(3));
    let of = |what: &str| warnings.iter().filter(|w| w.contains(what)).count();
    assert_eq!((of("neither vote"), of("go by themselves"), of("no TLS"), of("`myid`")), (1, 1, 1, 1));
    assert_eq!(
        (of("tickTme is ignored; did you mean tickTime?"), of("logged per request")),
        (1, 1),
        "{warnings:?}"
    );
    assert_eq!((of("hush"), of("every session"), warnings.len()), (0, 0, 6), "{warnings:?}");
}

#[test]
fn a_bad_value_is_told_with_file_line_key_value_and_what_is_allowed() {
    let files = Files::new();
    for (text, about) in [
        ("\n\ntickTime=soon\n", "zoo.cfg line 3: tickTime=soon: it must be a whole number, 10 to"),
        ("clientPort=70000", "zoo.cfg line 1: clientPort=70000: it must be a whole number, 1 to 65535"),
        ("skipACL=maybe", "zoo.cfg line 1: skipACL=maybe: it must be true, yes, false or no"),
        ("a=1\nDigestAuthenticationProvider.superDigest=super:pw", "zoo.cfg line 2: `super_digest` must be"),
        ("enforce.auth.enabled=true", "enforce.auth.enabled=true: it must be false, or left away"),
        ("minSessionTimeout=9000\nmaxSessionTimeout=10", "shortest session timeout"),
        ("tickTime=\\uZZZZ", "zoo.cfg"),
    ] {
        let e = node_config(None, &files.zoo(text, &[])).unwrap_err();
        assert!(e.contains(about), "{text}: {e}");
    }
    for (property, about) in [("snapCount=x", "-D snapCount=x: it must be"), ("snapCount", "KEY=VALUE")] {
        let e = node_config(None, &files.zoo("", &[property])).unwrap_err();
        assert!(e.contains(about), "{e}");
    }
    let gone = ZooArgs { zoo_cfg: Some("/nowhere/zoo.cfg".into()), property: vec![] };
    assert!(node_config(None, &gone).unwrap_err().contains("can't read /nowhere/zoo.cfg"));
}

#[test]
fn words_that_are_answered_by_default_are_the_same_everywhere() {
    assert_eq!(ZkConfig::default().four_letter_words, zoolog_zk::node::DEFAULT_WORDS.join(","));
}

/// What a node is set to by properties alone, where it is not the default.
fn set_by(properties: &[&str]) -> Result<toml::Table, String> {
    let property = properties.iter().map(|p| p.to_string()).collect();
    let set = node_config(None, &ZooArgs { zoo_cfg: None, property })?;
    let default = toml::Table::try_from(ZkConfig::default()).unwrap();
    let all = toml::Table::try_from(set).unwrap();
    Ok(all.into_iter().filter(|(key, value)| default.get(key) != Some(value)).collect())
}

/// Key by key: its value, and the one setting that differs then, with its value.
#[test]
fn each_key_sets_one_thing_and_is_documented() {
    const SUPER: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
    const PROMETHEUS: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
    let (on, off) = (|| toml::Value::Boolean(true), || toml::Value::Boolean(false));
    let cases: Vec<(&str, &str, &str, toml::Value)> = vec![
        ("clientPort", "2182", "listen", "0.0.0.0:2182".into()),
        ("clientPortAddress", "10.0.0.1", "listen", "10.0.0.1:2181".into()),
        ("tickTime", "2500", "tick_ms", 2500.into()),
        ("minSessionTimeout", "5000", "min_session_timeout_ms", 5000.into()),
        ("maxSessionTimeout", "90000", "max_session_timeout_ms", 90_000.into()),
        ("maxClientCnxns", "7", "max_connections_per_ip", 7.into()),
        ("maxCnxns", "500", "max_connections", 500.into()),
        ("globalOutstandingLimit", "77", "max_pending_requests", 77.into()),
        ("jute.maxbuffer", "0x7a120", "max_request_bytes", 500_000.into()),
        ("snapCount", "12345", "snapshot_records", 12_345.into()),
        ("snapSizeLimitInKb", "2048", "snapshot_bytes", (2 << 20).into()),
        ("4lw.commands.whitelist", "stat, ruok", "four_letter_words", "stat,ruok".into()),
        ("DigestAuthenticationProvider.superDigest", SUPER, "super_digest", SUPER.into()),
        ("skipACL", "yes", "skip_acl", on()),
        ("readonlymode.enabled", "true", "read_only", on()),
        ("enforceQuota", "true", "enforce_quota", on()),
        ("extendedTypesEnabled", "false", "extended_types", off()),
        ("znode.container.checkIntervalMs", "5", "container_check_interval_ms", 5.into()),
        ("znode.container.maxPerMinute", "9", "container_max_per_minute", 9.into()),
        ("admin.enableServer", "true", "admin_listen", "0.0.0.0:8080".into()),
        ("admin.serverPort", "8081", "admin_listen", "0.0.0.0:8081".into()),
        ("admin.serverAddress", "127.0.0.1", "admin_listen", "127.0.0.1:8080".into()),
        ("metricsProvider.httpPort", "7001", "metrics_listen", "0.0.0.0:7001".into()),
        ("metricsProvider.httpHost", "127.0.0.1", "metrics_listen", "127.0.0.1:7000".into()),
        ("metricsProvider.className", PROMETHEUS, "metrics_listen", "0.0.0.0:7000".into()),
    ];
    for (key, value, setting, wanted) in &cases {
        for prefix in ["", "zookeeper."] {
            let set = set_by(&[&format!("{prefix}{key}={value}")]).unwrap();
            let expected = toml::Table::from_iter([(setting.to_string(), wanted.clone())]);
            assert_eq!(set, expected, "{prefix}{key}");
        }
    }
    assert_eq!(set_by(&["DigestAuthenticationProvider.digestAlg=SHA1"]), Ok(toml::Table::new()));
    assert!(set_by(&["DigestAuthenticationProvider.digestAlg=SHA3"]).unwrap_err().contains("must be SHA1"));
    assert_eq!(set_by(&["admin.enableServer=false", "admin.serverPort=8081"]), Ok(toml::Table::new()));

    let operating = include_str!("../../../docs/OPERATING.md");
    for (key, _) in keys::SETTING {
        // Two are told of in tests of their own.
        let is_tried = cases.iter().any(|case| case.0 == *key) || ["dataDir"].contains(key);
        assert!(is_tried || key.ends_with("digestAlg"), "{key} is not tried");
        assert!(operating.contains(&format!("`{key}`")), "{key} is not in OPERATING.md");
    }
}

#[test]
fn each_key_without_a_meaning_says_what_holds_instead_or_is_refused() {
    for (key, meaning) in keys::OTHERS {
        let key = key.replace('*', "x");
        let told = |value: &str| {
            let zoo = ZooArgs { zoo_cfg: None, property: vec![format!("{key}={value}")] };
            read_quietly(&zoo).map(|(given, warnings)| (given.line.len(), warnings.len()))
        };
        match meaning {
            Meaning::Instead(_) => assert_eq!(told("1"), Ok((0, 1)), "{key}"),
            Meaning::InsteadOfOn(_) => {
                assert_eq!((told("true"), told("no")), (Ok((0, 1)), Ok((0, 0))), "{key}");
                assert!(told("perhaps").is_err());
            }
            Meaning::OnlyOff(_) => {
                assert_eq!(told("false"), Ok((0, 0)), "{key}");
                assert!(told("true").unwrap_err().contains("false, or left away"), "{key}");
            }
            Meaning::Sets(_) => panic!("{key} sets something"),
        }
    }
}
