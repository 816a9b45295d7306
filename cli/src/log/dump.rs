//! `zoolog log dump`: what does a stopped node's write-ahead log hold, block by block? As it is read, a line each.

use super::fsck::{describe, identify};
use super::interrupt::Interrupt;
use super::node_dir::{self, Kind, NodeDir};
use crate::args::DumpArgs;
use crate::exit::{Code, Failure};
use crate::out::{Reader, Stdout};
use bytes::Bytes;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use zoolog_core::batch::BatchKind;
use zoolog_core::wal::block::Header;
use zoolog_core::wal::{FsSource, Seen, WalEntry, audit, segment_file_name};
use zoolog_order::audit as order_audit;
use zoolog_shard::audit::{CheckpointSummary, Mark};

/// Carries it out.
///
/// # Errors
/// If there is no such log, or what is wrong with it, behind what can be read.
pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let dirs = node_dir::find(&args.dir)?;
    let [dir] = &dirs[..] else {
        let all: Vec<_> = dirs.iter().map(|d| d.display().to_string()).collect();
        return Err(Failure::new(Code::Usage, format!("name one of the nodes: {}", all.join(", "))));
    };
    let node = NodeDir::open(dir).map_err(|e| node_dir::failure(&e))?;
    if node.kind == Kind::Zk {
        let text = format!("{} is of a ZooKeeper node, which has no write-ahead log", dir.display());
        return Err(Failure::new(Code::Usage, text));
    }
    if args.lane.is_some() && !matches!(node.kind, Kind::Slot(_)) {
        let text =
            format!("{} is of {}: only the slots of data servers have lanes", dir.display(), node.name);
        return Err(Failure::new(Code::Usage, text));
    }
    let source = FsSource::new(node.wal());
    let cfg = identify(&node, &source)?;
    let mut dump = Dump {
        args,
        kind: node.kind,
        stdout: Stdout::open()?,
        left: args.n.unwrap_or(u64::MAX),
        trouble: None,
    };
    let mut visit = |seen: Seen<'_>| {
        let flow = dump.show(&seen);
        if interrupt.is_set() { ControlFlow::Break(()) } else { flow }
    };
    let found = audit(&source, &cfg, &mut visit).map_err(|e| e.to_string())?;
    dump.stdout.flush()?;
    if let Some(trouble) = dump.trouble {
        return Err(trouble);
    }
    interrupt.check()?;
    if let Some(refusal) = found.refusals.first() {
        return Err(Failure::new(Code::Unusable, format!("{refusal} (`zoolog log fsck` tells more)")));
    }
    match found.damage.len() {
        0 => Ok(()),
        n => {
            Err(Failure::new(Code::Damaged, format!("{n} places are damaged: `zoolog log fsck` tells more")))
        }
    }
}

struct Dump<'a> {
    args: &'a DumpArgs,
    kind: Kind,
    stdout: Stdout,
    left: u64,
    /// Stdout failed.
    trouble: Option<Failure>,
}

impl Dump<'_> {
    fn show(&mut self, seen: &Seen<'_>) -> ControlFlow<()> {
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        let line = match seen {
            Seen::Block(header) => self.args.lane.is_none().then(|| block(header)),
            Seen::Damage(d) => Some(Line {
                at: (d.segment, d.offset),
                kind: "damage",
                text: describe(d),
                json: json!({ "bytes": d.bytes, "why": d.why }),
            }),
            _ if self.args.blocks => None,
            Seen::Checkpoint(bytes) => self.args.lane.is_none().then(|| self.checkpoint(bytes)),
            Seen::Entry(entry) => self.entry(entry),
            Seen::Lost(e) => self.args.lane.is_none_or(|lane| lane.0 == e.key1).then(|| Line {
                at: (e.pos.segment, e.pos.offset),
                kind: "lost",
                text: format!("kind {} key1 {} key2 {} aux {} bytes {}", e.kind, e.key1, e.key2, e.aux, e.pos.len),
                json: json!({ "kind": e.kind, "key1": e.key1, "key2": e.key2, "aux": e.aux, "bytes": e.pos.len }),
            }),
        };
        let Some(line) = line else { return ControlFlow::Continue(()) };
        self.left -= 1;
        match self.stdout.write(line.show(self.args.json).as_bytes()) {
            Ok(Reader::There) => ControlFlow::Continue(()),
            Ok(Reader::Gone) => ControlFlow::Break(()),
            Err(trouble) => {
                self.trouble = Some(trouble);
                ControlFlow::Break(())
            }
        }
    }

    fn checkpoint(&self, bytes: &Bytes) -> Line {
        let said = match self.kind {
            Kind::Slot(_) => CheckpointSummary::read(bytes).map(|summary| {
                summary.map(|s| {
                    let lanes: Vec<_> =
                        s.lanes.iter().map(|(l, r)| format!("{l} {}..{}", r.start, r.end)).collect();
                    (
                        format!("view {} lanes [{}] writers {}", s.view, lanes.join(", "), s.writers),
                        json!({ "view": s.view.0, "lanes": lanes, "writers": s.writers }),
                    )
                })
            }),
            Kind::Orderer(_) => order_audit::checkpoint(bytes).map(|record| record.map(|r| raft(&r))),
            Kind::Zk | Kind::Unknown => Ok(None),
        };
        let (text, json) = match said {
            Ok(Some(said)) => said,
            Ok(None) => (String::new(), json!({})),
            Err(why) => (why.clone(), json!({ "error": why })),
        };
        let text = format!("bytes {} {text}", bytes.len());
        Line { at: (0, 0), kind: "checkpoint", text: text.trim_end().to_owned(), json }
    }

    /// A record, if it is wanted.
    fn entry(&self, entry: &WalEntry) -> Option<Line> {
        let at = (entry.pos.segment, entry.pos.offset);
        let unknown = |why: Option<String>| {
            let WalEntry { kind, aux, key1, key2, pos, .. } = entry;
            let why = why.map(|w| format!(": {w}")).unwrap_or_default();
            let text = format!("kind {kind} key1 {key1} key2 {key2} aux {aux} bytes {}{why}", pos.len);
            let json = json!({ "kind": kind, "key1": key1, "key2": key2, "aux": aux, "bytes": pos.len });
            Line { at, kind: "record", text, json }
        };
        match self.kind {
            Kind::Slot(_) => match Mark::read(entry) {
                Ok(mark) => {
                    let wanted = self.args.lane.is_none_or(|lane| match mark.lane() {
                        Some(of) => of == lane,
                        None => mark.shard() == Some(lane.shard()),
                    });
                    wanted.then(|| slot_mark(at, &mark, entry.pos.len))
                }
                Err(why) => Some(unknown(Some(why))),
            },
            Kind::Orderer(_) => Some(match order_audit::record(entry) {
                Ok(record) => {
                    let (text, json) = raft(&record);
                    Line { at, kind: "raft", text: format!("{text} bytes {}", entry.pos.len), json }
                }
                Err(why) => unknown(Some(why)),
            }),
            Kind::Zk | Kind::Unknown => Some(unknown(None)),
        }
    }
}

/// One thing, both ways.
struct Line {
    at: (u32, u32),
    kind: &'static str,
    text: String,
    json: Value,
}

impl Line {
    fn show(mut self, json: bool) -> String {
        let (file, offset) = (segment_file_name(self.at.0), self.at.1);
        if json {
            self.json["type"] = json!(self.kind);
            if self.at.0 > 0 {
                (self.json["file"], self.json["offset"]) = (json!(file), json!(offset));
            }
            return format!("{}\n", self.json);
        }
        match self.kind {
            "block" | "damage" => format!("{file} {offset} {} {}\n", self.kind, self.text),
            kind => format!("    {kind} {}\n", self.text),
        }
    }
}

fn block(h: &Header) -> Line {
    let kind = format!("{:?}", h.kind).to_lowercase();
    Line {
        at: (h.segment, h.offset),
        kind: "block",
        text: format!(
            "{kind} seq {} group {} ({} of {}) start {} bytes {} content {} synced through {}",
            h.sequence,
            h.group,
            h.block + 1,
            h.blocks,
            h.incarnation,
            h.bytes,
            h.content,
            h.synced_through
        ),
        json: json!({
            "kind": kind, "seq": h.sequence, "group": h.group, "block": h.block, "blocks": h.blocks,
            "incarnation": h.incarnation, "bytes": h.bytes, "content": h.content,
            "synced_through": h.synced_through,
        }),
    }
}

fn slot_mark(at: (u32, u32), mark: &Mark, bytes: u32) -> Line {
    let (kind, text, json) = match mark {
        Mark::Batch(placed) => {
            let (p, b) = (&placed.placement, &placed.batch);
            let fence = match b.kind() {
                BatchKind::Data => String::new(),
                BatchKind::Fence => " fence".into(),
                BatchKind::OnlyAt(gsn) => format!(" counts only at {gsn}"),
            };
            let only_at = if let BatchKind::OnlyAt(gsn) = b.kind() { Some(gsn.0) } else { None };
            (
                "batch",
                format!(
                    "lane {} lsn {}..{} writer {:032x} epoch {} seq {} count {} bytes {bytes} placed by start {}{fence}",
                    p.lane,
                    p.first_lsn,
                    placed.end_lsn(),
                    b.writer().0,
                    b.epoch(),
                    b.seq(),
                    b.count(),
                    p.incarnation
                ),
                json!({
                    "lane": p.lane.to_string(), "first_lsn": p.first_lsn.0, "end_lsn": placed.end_lsn().0,
                    "writer": format!("{:032x}", b.writer().0), "epoch": b.epoch().0, "seq": b.seq().0,
                    "count": b.count(), "bytes": bytes, "incarnation": p.incarnation.0,
                    "fence": b.kind() == BatchKind::Fence, "only_at": only_at,
                }),
            )
        }
        Mark::Cut { shard, part } => (
            "cut",
            format!("{} shard {shard} base {} lengths {:?}", part.number, part.base, part.lens),
            json!({ "cut": part.number.0, "shard": shard.0, "base": part.base.0, "lens": part.lens }),
        ),
        Mark::View(view) => {
            let shards: Vec<u32> = view.shards.iter().map(|s| s.id.0).collect();
            (
                "view",
                format!("{} shards {shards:?}", view.number),
                json!({ "view": view.number.0, "shards": shards }),
            )
        }
        Mark::Trim { shard, trim, base } => (
            "trim",
            format!(
                "{trim} shard {shard} begins behind cut {} at {} lengths {:?}",
                base.number, base.end, base.lens
            ),
            json!({
                "trim": trim.0, "shard": shard.0, "cut": base.number.0, "end": base.end.0, "lens": base.lens,
            }),
        ),
        Mark::Lane { lane, start } => (
            "lane",
            format!("{lane} goes on at lsn {start}"),
            json!({ "lane": lane.to_string(), "start": start.0 }),
        ),
        Mark::End { lane, len } => (
            "end",
            format!("{lane} had {len} records when a start found damage"),
            json!({ "lane": lane.to_string(), "len": len.0 }),
        ),
        Mark::Forget { shard } => (
            "forget",
            format!("what precedes this of shard {shard} counts for nothing"),
            json!({ "shard": shard.0 }),
        ),
    };
    Line { at, kind, text, json }
}

fn raft(r: &order_audit::Record) -> (String, Value) {
    let entries = r
        .entries
        .map_or_else(|| "no entries".into(), |(a, b)| format!("entries {a}..={b} of term {}", r.last_term));
    let snapshot = r.snapshot.map(|at| format!(" snapshot at {at}")).unwrap_or_default();
    let hard = r.hard.map(|(term, vote, commit)| format!(" term {term} vote {vote} commit {commit}"));
    let hard = hard.unwrap_or_default();
    let json = json!({
        "first": r.entries.map(|e| e.0), "last": r.entries.map(|e| e.1), "last_term": r.last_term,
        "snapshot": r.snapshot, "term": r.hard.map(|h| h.0), "vote": r.hard.map(|h| h.1),
        "commit": r.hard.map(|h| h.2),
    });
    (format!("{entries}{snapshot}{hard}"), json)
}
