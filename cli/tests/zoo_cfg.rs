//! Does a topology take what people have for ZooKeeper: its `zoo.cfg`, its Java properties, its super user?

mod common;

use common::{Dev, free_port, zoolog};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use zoolog_zk::jute::{ConnectRequest, ConnectResponse, ErrorCode, ReplyHeader, Request, xid};
use zoolog_zk::txn::{Acl, AuthId};

/// Digest of `super:test`.
const SUPER: &str = "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

fn word(addr: &str, word: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

struct Client(TcpStream);

impl Client {
    /// With the timeout that is granted for a wish.
    fn connect(addr: &str, wished_ms: i32) -> (Self, i32) {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client(stream);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: wished_ms,
            session: 0,
            password: &[0; 16],
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        client.0.write_all(&bytes).unwrap();
        let answer = client.frame();
        let answer = ConnectResponse::decode(&answer).unwrap();
        (client, answer.timeout_ms)
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn call(&mut self, xid: i32, request: &Request<'_>) -> i32 {
        let mut bytes = Vec::new();
        request.encode(xid, &mut bytes);
        self.0.write_all(&bytes).unwrap();
        let answer = self.frame();
        let (header, _) = ReplyHeader::decode(&answer).unwrap();
        assert_eq!(header.xid, xid);
        header.err
    }
}

#[test]
fn zookeepers_configuration_holds_and_its_super_user_passes_every_acl() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = dir.path().join("zoo.cfg");
    let text = format!(
        "tickTime=500\nmaxSessionTimeout=7000\nzookeeper.{SUPER}\n4lw.commands.whitelist=srvr,conf\n"
    );
    std::fs::write(&cfg, text).unwrap();
    let data = dir.path().join("data");
    let dev = Dev::start(&data, &["--zoo-cfg", cfg.to_str().unwrap(), "-Dzookeeper.maxClientCnxns=50"]);
    let conf = word(&dev.zk[0], "conf");
    for line in ["tickTime=500", "minSessionTimeout=1000", "maxSessionTimeout=7000", "maxClientCnxns=50"] {
        assert!(conf.lines().any(|l| l == line), "{line}: {conf}");
    }
    assert_eq!(word(&dev.zk[0], "ruok"), "ruok is not executed because it is not in the whitelist.\n");
    let (mut c, granted) = Client::connect(&dev.zk[0], 60_000);
    assert_eq!(granted, 7000);
    let nobody = Acl { perms: 31, id: AuthId { scheme: "digest".into(), id: "who:ever".into() } };
    let create = Request::Create {
        path: "/locked".into(),
        data: Some(b"x"),
        acl: vec![nobody],
        flags: 0,
        with_stat: false,
    };
    assert_eq!(c.call(1, &create), 0);
    let get = Request::GetData { path: "/locked".into(), watch: false };
    let delete = Request::Delete { path: "/locked".into(), version: -1 };
    assert_eq!(c.call(2, &get), ErrorCode::NoAuth.code());
    let auth = |text: &'static [u8]| Request::Auth { scheme: "digest".into(), auth: text };
    assert_eq!(c.call(xid::AUTH, &auth(b"super:wrong")), 0);
    assert_eq!(c.call(3, &get), ErrorCode::NoAuth.code());
    assert_eq!(c.call(xid::AUTH, &auth(b"super:test")), 0);
    assert_eq!((c.call(4, &get), c.call(5, &delete)), (0, 0));
    dev.stop();
}

#[test]
fn a_value_that_cannot_be_ends_the_start_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = dir.path().join("zoo.cfg");
    std::fs::write(&cfg, "tickTime=2000\nclientPort=x\n").unwrap();
    let (cfg, port) = (cfg.to_str().unwrap(), free_port().to_string());
    let output = zoolog(&["zk", "--zoo-cfg", cfg]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success() && text.contains("zoo.cfg line 2: clientPort=x: it must be"), "{text}");
    let output =
        zoolog(&["dev", "--port", &port, "-D", "snapCount=0"]).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success() && text.contains("-D snapCount=0: it must be"), "{text}");
}
