//! What do the four-letter words say? Text for people and monitoring tools, in the shapes their parsers insist
//! on.

use super::connection::Slot;
use super::facts::{Facts, Gauges, Mode};
use super::fronts::Asker;
use super::report::{About, Connection, Report, Reset};
use super::{Back, NodeConfig};
use crate::state::State;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use zoolog_client::SharedLog;
use zoolog_core::Instant;
use zoolog_core::stages::Summary;

/// The version that tools see: the ZooKeeper whose behaviour is followed, then ours.
pub const VERSION: &str = concat!("3.9.3-zoolog-", env!("CARGO_PKG_VERSION"));

/// Part of the version line that tools parse; ours are reproducible and have no other date.
pub const BUILT_ON: &str = "01/01/2026 00:00 GMT";

/// What a node says that has not caught up.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// A line of a node that is cut off from the log.
const READ_ONLY: &str = "READ-ONLY mode; serving only read-only clients\n";

/// What the original traces unless told otherwise. Nothing is traced here.
pub const TRACE_MASK: i64 = 306;

/// What is to be known for a word; `None` for one that is not known.
fn about(word: &[u8]) -> Option<About> {
    let figures = About { counts: true, ..About::default() };
    let reset = |reset| About { reset, ..figures };
    Some(match word {
        b"ruok" | b"isro" | b"envi" | b"conf" | b"dirs" | b"hash" | b"gtmk" | b"stmk" | b"redy" => {
            About::default()
        }
        b"srvr" | b"mntr" | b"wchs" | b"stgs" => figures,
        b"stat" | b"cons" => About { connections: true, ..figures },
        b"wchc" | b"wchp" => About { watches: true, ..figures },
        b"dump" => About { connections: true, sessions: true, ..figures },
        b"stgr" => reset(Reset::Stages),
        b"srst" => reset(Reset::Server),
        b"crst" => reset(Reset::Connections),
        _ => return None,
    })
}

impl<L: SharedLog> Back<L> {
    /// A four-letter word, which ends the connection once it is answered. One that is not known isn't.
    pub(super) fn on_word(&mut self, now: Instant, state: &State, slot: Slot, word: &Bytes) {
        let Some(about) = about(word) else { return self.end_conn(slot) };
        let is_ours = matches!(&word[..], b"stgs" | b"stgr" | b"redy");
        // There is nothing to be traced, so nobody may say what.
        if !is_ours && (!self.cfg.words.has(word) || &word[..] == b"stmk") {
            let word = String::from_utf8_lossy(word);
            let text = format!("{word} is not executed because it is not in the whitelist.\n");
            return self.say(slot, &text);
        }
        if let Some(text) = without_state(&self.cfg, self.serving, self.is_read_only(now, state), word) {
            return self.say(slot, &text);
        }
        let id = self.conns.at(slot).id;
        self.ask(now, state, Asker::Conn { slot, id, word: word.clone() }, about);
    }

    /// Answers a word for which everything is known now.
    pub(super) fn answer_word(&mut self, now: Instant, state: &State, slot: Slot, word: &[u8], about: About) {
        let report = self.report(now, state, about);
        let text = answer(word, &report, &self.cfg);
        self.say(slot, &text);
    }

    fn say(&mut self, slot: Slot, text: &str) {
        self.conns.out(slot).extend_from_slice(text.as_bytes());
        self.end_conn(slot);
    }
}

/// What words say that ask for nothing that is counted, and what all others say on a node that doesn't serve.
fn without_state(cfg: &NodeConfig, serving: bool, read_only: bool, word: &[u8]) -> Option<String> {
    Some(match word {
        b"ruok" => "imok".into(),
        b"redy" => if serving { "yes" } else { "no" }.into(),
        b"isro" if read_only => "ro".into(),
        b"isro" => if serving { "rw" } else { "null" }.into(),
        b"envi" => environment(&cfg.facts),
        b"gtmk" => TRACE_MASK.to_string(),
        b"stgs" | b"stgr" => return None,
        b"hash" if !serving => NOT_SERVING.into(),
        _ if !serving => format!("{NOT_SERVING}\n"),
        _ => return None,
    })
}

fn answer(word: &[u8], report: &Report, cfg: &NodeConfig) -> String {
    let mut text = match word {
        b"srvr" => server(report, &cfg.facts, String::new()),
        b"stat" => return server(report, &cfg.facts, clients(report)),
        b"mntr" => monitor(report, &cfg.facts),
        b"conf" => config(cfg),
        b"dirs" => directories(&cfg.facts),
        b"hash" => format!("{:x}: {}\n", report.status.applied.0, report.status.hash),
        b"cons" => connections(report),
        b"dump" => dump(report),
        b"wchs" => format!(
            "{} connections watching {} paths\nTotal watches:{}\n",
            report.watchers, report.watched_paths, report.status.watches
        ),
        b"wchc" => watches_by_session(report),
        b"wchp" => watches_by_path(report),
        b"srst" => "Server stats reset.\n".into(),
        b"crst" => "Connection stats reset.\n".into(),
        b"stgs" | b"stgr" => report.stages.json(),
        other => panic!("{other:?} was known"),
    };
    left_out(&mut text, report);
    if matches!(word, b"cons" | b"wchc" | b"wchp") {
        text.push('\n');
    }
    text
}

/// A list that was cut off says so.
fn left_out(text: &mut String, report: &Report) {
    if report.left_out > 0 {
        let _ = writeln!(text, "... and {} more", report.left_out);
    }
}

fn environment(facts: &Facts) -> String {
    let mut text = format!("Environment:\nzookeeper.version={VERSION}, built on {BUILT_ON}\n");
    for (key, value) in &facts.environment {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// What a node calls itself now.
pub fn mode(report: &Report, facts: &Facts) -> &'static str {
    if report.read_only { "read-only" } else { facts.mode().name() }
}

fn server(report: &Report, facts: &Facts, clients: String) -> String {
    let (s, mode) = (&report.status, mode(report, facts));
    let note = if report.read_only { READ_ONLY } else { "" };
    let (min, avg, max) = s.latency_ms;
    format!(
        "Zookeeper version: {VERSION}, built on {BUILT_ON}\n{note}{clients}Latency min/avg/max: {min}/{avg:.4}/{max}\n\
         Received: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {mode}\nNode count: {}\n",
        s.received, s.sent, s.connections, s.outstanding, s.applied.0, s.znodes
    )
}

/// What all lines about a connection begin with.
fn connection(c: &Connection) -> String {
    let interest = u8::from(c.reading);
    let Connection { peer, queued, received, sent, .. } = c;
    format!(" /{peer}[{interest}](queued={queued},recved={received},sent={sent}")
}

fn clients(report: &Report) -> String {
    let mut text = String::from("Clients:\n");
    for c in &report.connections {
        let _ = writeln!(text, "{})", connection(c));
    }
    left_out(&mut text, report);
    text.push('\n');
    text
}

fn connections(report: &Report) -> String {
    let mut text = String::new();
    for c in &report.connections {
        text.push_str(&connection(c));
        if let Some((session, timeout_ms)) = c.session {
            let s = &c.served;
            let _ = write!(text, ",sid=0x{session:x},lop={},est={},to={timeout_ms}", s.op, c.since_ms);
            if s.xid >= 0 {
                let _ = write!(text, ",lcxid=0x{:x}", s.xid);
            }
            let _ = write!(
                text,
                ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
                s.zxid,
                s.at.0 / 1_000_000,
                s.last_ms,
                s.min_ms,
                s.mean_ms(),
                s.max_ms
            );
        }
        text.push_str(")\n");
    }
    text
}

fn dump(report: &Report) -> String {
    let sessions = &report.sessions;
    let mut text = format!("SessionTracker dump:\nGlobal Sessions({}):\n", sessions.len());
    for s in sessions {
        let _ = writeln!(text, "0x{:x}\t{}ms", s.id, s.timeout_ms);
    }
    let owners = || sessions.iter().filter(|s| !s.ephemerals.is_empty());
    let _ = write!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", owners().count());
    for s in owners() {
        let _ = writeln!(text, "0x{:x}:", s.id);
        lines(&mut text, s.ephemerals.iter());
    }
    let mut sets: BTreeMap<u64, Vec<&Connection>> = BTreeMap::new();
    for c in &report.connections {
        sets.entry(c.expires_ms.div_ceil(1000)).or_default().push(c);
    }
    let all = report.connections.len();
    let _ = write!(text, "Connections dump:\nConnections Sets ({})/({all}):\n", sets.len());
    for (second, set) in sets {
        let _ = writeln!(text, "{} expire at {}:", set.len(), date(second));
        for c in set {
            let session = c.session.map_or(0, |s| s.0);
            let _ = writeln!(text, "\tip: /{} sessionId: 0x{session:x}", c.peer);
        }
    }
    text
}

fn lines(text: &mut String, all: impl Iterator<Item = impl Display>) {
    for one in all {
        let _ = writeln!(text, "\t{one}");
    }
}

fn watches_by_session(report: &Report) -> String {
    let mut text = String::new();
    for (session, paths) in &report.watches {
        let _ = writeln!(text, "0x{session:x}");
        lines(&mut text, paths.iter());
    }
    text
}

fn watches_by_path(report: &Report) -> String {
    let mut text = String::new();
    for (path, sessions) in report.watches_by_path() {
        let _ = writeln!(text, "{path}");
        lines(&mut text, sessions.iter().map(|session| format!("0x{session:x}")));
    }
    text
}

/// A second since 1970, as `java.util.Date` shows it in UTC.
fn date(second: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (day, in_day) = (second / 86_400, second % 86_400);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    let is_leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut left) = (1970, day.min(400 * 365));
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let (name, month, mday) = (DAYS[(day % 7) as usize], MONTHS[month], left + 1);
    format!("{name} {month} {mday:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// One of the figures that `mntr` lists.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// Something that is no number.
    Text(String),
    /// A count.
    Whole(u64),
    /// A mean.
    Mean(f64),
}

impl Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Figure::Text(text) => f.write_str(text),
            Figure::Whole(n) => n.fmt(f),
            Figure::Mean(mean) => write!(f, "{mean:.4}"),
        }
    }
}

/// The figures of a node that monitoring tools know, under their names, then its own.
pub fn monitored(report: &Report, facts: &Facts) -> Vec<(&'static str, Figure)> {
    let s = &report.status;
    let (min, avg, max) = s.latency_ms;
    let text = |text: &dyn Display| Figure::Text(text.to_string());
    let count = |n: usize| Figure::Whole(n as u64);
    let gauges = &facts.gauges;
    let mut all = vec![
        ("version", text(&format_args!("{VERSION}, built on {BUILT_ON}"))),
        ("server_state", text(&mode(report, facts))),
        ("avg_latency", Figure::Mean(avg)),
        ("max_latency", Figure::Whole(max)),
        ("min_latency", Figure::Whole(min)),
        ("packets_received", Figure::Whole(s.received)),
        ("packets_sent", Figure::Whole(s.sent)),
        ("num_alive_connections", count(s.connections)),
        ("outstanding_requests", count(s.outstanding)),
        ("uptime", Figure::Whole(s.uptime.as_millis() as u64)),
        ("znode_count", count(s.znodes)),
        ("watch_count", count(s.watches)),
        ("ephemerals_count", count(s.ephemerals)),
        ("approximate_data_size", Figure::Whole(s.data_bytes)),
        ("global_sessions", count(s.sessions)),
        ("local_sessions", Figure::Whole(0)),
        ("open_file_descriptor_count", Figure::Whole(Gauges::get(&gauges.open_files))),
        ("max_file_descriptor_count", Figure::Whole(Gauges::get(&gauges.max_files))),
        ("auth_failed_count", Figure::Whole(report.auth_failed)),
        ("connection_request_count", Figure::Whole(report.accepted)),
        ("connection_rejected", Figure::Whole(report.refused)),
        ("connection_drop_count", Figure::Whole(report.dropped)),
        ("sessionless_connections_expired", Figure::Whole(report.sessionless)),
        ("stale_sessions_expired", Figure::Whole(report.expired)),
        ("bytes_received_count", Figure::Whole(report.received_bytes)),
        ("applied_gsn", Figure::Whole(s.applied.0)),
        ("order_tail", Figure::Whole(s.order_tail.0)),
        ("log_room", text(&s.log_room.name())),
        ("state_hash", text(&format_args!("{:016x}", s.hash))),
        ("snapshot_gsn", Figure::Whole(s.snapshot.map_or(0, |gsn| gsn.0))),
        ("snapshot_aside_bytes", count(report.snapshot_aside_bytes)),
        ("apply_version", Figure::Whole(report.apply_version.into())),
        ("records_in_flight", count(s.in_flight)),
        ("fetches", Figure::Whole(report.fetching.fetches)),
        ("location_entries", count(report.fetching.location_entries)),
        ("location_bytes", Figure::Whole(report.fetching.location_bytes)),
        ("writes_failed_after_ack", Figure::Whole(report.failed_late)),
        ("bootstrap_bytes", Figure::Whole(s.bootstrap.bytes)),
        ("bootstrap_of_bytes", Figure::Whole(s.bootstrap.of_bytes)),
        ("bootstrap_bytes_per_s", Figure::Whole(s.bootstrap.bytes_per_s)),
        ("bootstrap_limit_bytes_per_s", Figure::Whole(s.bootstrap.limit_bytes_per_s)),
        ("bootstraps", Figure::Whole(s.bootstrap.done)),
    ];
    if !s.bootstrap.from.is_empty() {
        all.push(("bootstrap_from", Figure::Text(s.bootstrap.peer())));
    }
    all.extend(among_others(facts));
    all
}

/// What tools ask of a server that is one of several, under the original's names: how many nodes there should be, and are.
fn among_others(facts: &Facts) -> Vec<(&'static str, Figure)> {
    let (known, here) = (Gauges::get(&facts.gauges.nodes), Gauges::get(&facts.gauges.nodes_here));
    let others = Figure::Whole(here.saturating_sub(1));
    let state = |text: &str| ("peer_state", Figure::Text(text.into()));
    match facts.mode() {
        Mode::Standalone => Vec::new(),
        Mode::Follower => vec![state("following - broadcast"), ("quorum_size", Figure::Whole(known))],
        Mode::Leader => vec![
            state("leading - broadcast"),
            ("quorum_size", Figure::Whole(known)),
            ("leader_uptime", Figure::Whole(Gauges::get(&facts.gauges.leads_for_ms))),
            ("learners", others.clone()),
            ("followers", others.clone()),
            ("synced_followers", others),
            ("synced_observers", Figure::Whole(0)),
            ("synced_non_voting_followers", Figure::Whole(0)),
            ("pending_syncs", Figure::Whole(0)),
        ],
    }
}

/// What the original measures of requests, under its names.
pub fn latencies(report: &Report) -> impl Iterator<Item = (&'static str, Summary)> {
    report.stages.summaries().filter_map(|stage| match stage.name {
        "zk_read" => Some(("readlatency", stage)),
        "zk_write" => Some(("updatelatency", stage)),
        // From the append of a write to its delivery, order and all copies included.
        "zk_log" => Some(("propagation_latency", stage)),
        _ => None,
    })
}

/// What the original sums up without percentiles, under its names.
pub fn totals(report: &Report) -> [(&'static str, Summary); 1] {
    [("snapshottime", report.snapshots)]
}

/// The lines of `mntr` about such a sum.
pub fn total_lines(name: &str, total: &Summary) -> Vec<(String, Figure)> {
    summary_lines(name, total).into_iter().filter(|(key, _)| !key.starts_with('p')).collect()
}

/// The lines of `mntr` about such a summary: keys, and values in milliseconds.
pub fn summary_lines(name: &str, stage: &Summary) -> Vec<(String, Figure)> {
    let Summary { count, sum_us, min_us, max_us, quantiles_us: at, .. } = *stage;
    let mean_ms = sum_us as f64 / 1000.0 / count.max(1) as f64;
    let ms = |us: u64| Figure::Whole(us / 1000);
    [
        ("avg", Figure::Mean(mean_ms)),
        ("min", ms(min_us)),
        ("max", ms(max_us)),
        ("cnt", Figure::Whole(count)),
        ("sum", ms(sum_us)),
        ("p50", ms(at[0])),
        ("p95", ms(at[1])),
        ("p99", ms(at[2])),
        ("p999", ms(at[3])),
    ]
    .map(|(what, figure)| (format!("{what}_{name}"), figure))
    .into()
}

fn monitor(report: &Report, facts: &Facts) -> String {
    let mut text = String::new();
    for (key, figure) in monitored(report, facts) {
        let _ = writeln!(text, "zk_{key}\t{figure}");
    }
    let lines = latencies(report).flat_map(|(name, stage)| summary_lines(name, &stage));
    let totals = totals(report).into_iter().flat_map(|(name, total)| total_lines(name, &total));
    for (key, figure) in lines.chain(totals) {
        let _ = writeln!(text, "zk_{key}\t{figure}");
    }
    text
}

fn directories(facts: &Facts) -> String {
    let bytes = Gauges::get(&facts.gauges.data_dir_bytes);
    format!("datadir_size: {bytes}\nlogdir_size: 0\n")
}

fn config(c: &NodeConfig) -> String {
    let Facts { client_port, data_dir, gauges, .. } = &c.facts;
    format!(
        "clientPort={client_port}\nsecureClientPort=-1\ndataDir={data_dir}\ndataDirSize={}\ndataLogDir={data_dir}\n\
         dataLogSize=0\ntickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\n\
         clientPortListenBacklog=-1\nserverId={}\n",
        Gauges::get(&gauges.data_dir_bytes),
        c.tick_ms,
        c.max_connections_per_ip,
        c.min_timeout_ms(),
        c.max_timeout_ms(),
        c.id
    )
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (second, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (951_782_400, "Tue Feb 29 00:00:00 UTC 2000"),
            (951_868_799, "Tue Feb 29 23:59:59 UTC 2000"),
            (1_795_420_705, "Mon Nov 23 07:58:25 UTC 2026"),
            (4_107_542_399, "Sun Feb 28 23:59:59 UTC 2100"),
            (4_107_542_400, "Mon Mar 01 00:00:00 UTC 2100"),
        ] {
            assert_eq!(date(second), text);
        }
    }
}
