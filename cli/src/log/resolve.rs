//! `zoolog log resolve`: which of a writer's batches are in the log for good, when its own process can't tell any more?
//! Any replica of a lane knows, once nothing more of that writer can come in: its shard is finalized, or a fence closes
//! the lane for the writer.

use super::interrupt::Interrupt;
use super::session::{Said, Session};
use crate::args::ResolveArgs;
use crate::exit::{Code, Failure};
use crate::{out, status};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use zoolog_client::{LogCommand, LogEvent};
use zoolog_core::batch::{BatchBuilder, BatchKind, FENCE_SEQ};
use zoolog_core::rt::clock;
use zoolog_core::view::ShardView;
use zoolog_core::wire::{self, Fence, Message, Resolve, ResolveEnd};
use zoolog_core::{Epoch, Gsn, LaneId, Seq, WriterId};

/// Pause between questions that were of no use.
const PAUSE: Duration = Duration::from_millis(20);

/// Carries it out.
///
/// # Errors
/// If it can't be said: nobody there, nobody remembers, or the writer may still append.
pub fn run(args: &ResolveArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let order = status::order(&args.place.orderers()?)?;
    let asked: Vec<(LaneId, &ShardView)> = order
        .view
        .shards
        .iter()
        .flat_map(|s| s.lanes().map(move |lane| (lane, s)))
        .filter(|(lane, _)| args.lane.is_none_or(|l| l == *lane))
        .collect();
    if asked.is_empty() {
        return Err(Failure::new(
            Code::NotFound,
            "there is no such lane: `zoolog log view` shows which there are",
        ));
    }
    let mut found = Found::default();
    for (lane, fate) in fates(args, &asked, &interrupt)? {
        match fate {
            Fate::In(acks) => found.batches.extend(acks.into_iter().map(|(seq, gsn)| (seq, gsn, lane))),
            Fate::Open => found.open.push(lane),
            Fate::Forgotten => found.forgotten.push(lane),
        }
    }
    found.batches.sort_unstable();
    let counts = counts(args, &found, &interrupt)?;
    print(args, &found, &counts)?;
    found.judge(args)
}

/// What became of the writer's batches in each lane.
///
/// The numbers of a name's opening tell which it is, and later ones are others' business. A writer without a name goes on in
/// its next opening when all lanes were closed for the one before, so each lane is asked for the newest opening that it
/// has seen, and one that has seen none is closed for the newest of all.
fn fates(
    args: &ResolveArgs,
    asked: &[(LaneId, &ShardView)],
    interrupt: &Interrupt,
) -> Result<Vec<(LaneId, Fate)>, Failure> {
    let first = Epoch((args.from >> 40) as u32);
    let mut lanes = Vec::new();
    for &(lane, shard) in asked {
        let fence = args.fence && args.writer.is_named();
        lanes.push((lane, shard, ask_lane(args, lane, shard, (first, fence), interrupt)?));
    }
    if args.fence && !args.writer.is_named() {
        let newest = lanes.iter().filter_map(|(.., answer)| answer.newest).fold(first, Epoch::max);
        for (lane, shard, answer) in lanes.iter_mut().filter(|(.., a)| matches!(a.fate, Fate::Open)) {
            let opening = answer.newest.unwrap_or(newest);
            *answer = ask_lane(args, *lane, shard, (opening, true), interrupt)?;
        }
    }
    Ok(lanes.into_iter().map(|(lane, _, answer)| (lane, answer.fate)).collect())
}

/// What became of the writer's batches in a lane.
enum Fate {
    /// These are in it, no others.
    In(Vec<(Seq, Gsn)>),
    /// More may come.
    Open,
    /// Nobody remembers.
    Forgotten,
}

/// What a lane's replicas know.
struct Answer {
    fate: Fate,
    /// The newest opening that the lane has seen.
    newest: Option<Epoch>,
}

#[derive(Default)]
struct Found {
    batches: Vec<(Seq, Gsn, LaneId)>,
    open: Vec<LaneId>,
    forgotten: Vec<LaneId>,
}

impl Found {
    /// Numbers from `from` on, as ranges, that come before one that is in, and that no lane places. They are in: a writer's
    /// batches get in in order. Their lane has seen a later opening of the writer since, or they are trimmed.
    fn unplaced(&self, args: &ResolveArgs) -> Vec<(u64, u64)> {
        let (mut next, mut ranges) = (args.from, Vec::new());
        // The numbers of a name's openings are apart.
        for (seq, ..) in self.batches.iter().filter(|_| !args.writer.is_named()) {
            if seq.0 > next {
                ranges.push((next, seq.0 - 1));
            }
            next = seq.0 + 1;
        }
        ranges
    }

    fn judge(&self, args: &ResolveArgs) -> Result<(), Failure> {
        let list = |lanes: &[LaneId]| lanes.iter().map(LaneId::to_string).collect::<Vec<_>>().join(", ");
        let writer = format!("{:032x}", args.writer.0);
        if !self.open.is_empty() {
            return Err(Failure::new(
                Code::Unknown,
                format!(
                    "lanes {} are open to writer {writer}: more of it may come in there. If it doesn't run any more, \
                     --fence closes them for it, and what is printed then is final",
                    list(&self.open)
                ),
            ));
        }
        if !self.forgotten.is_empty() {
            return Err(Failure::new(
                Code::NotFound,
                format!(
                    "lanes {} don't remember the batches of writer {writer} from {} on: it was idle for too long, \
                     or they are trimmed. What of it is in the log can only be read there",
                    list(&self.forgotten),
                    args.from
                ),
            ));
        }
        Ok(())
    }
}

/// Asks the lane's replicas in turn, the primary first, until one knows; of that opening, perhaps behind a fence, or of a
/// later one if the lane has seen one of a writer without a name.
fn ask_lane(
    args: &ResolveArgs,
    lane: LaneId,
    shard: &ShardView,
    (mut opening, fence): (Epoch, bool),
    interrupt: &Interrupt,
) -> Result<Answer, Failure> {
    let (since, n) = (clock::now(), shard.replicas.len());
    let (mut forgotten, mut problem) = (0, String::from("no replica is ready to say"));
    for turn in 0.. {
        let addr = &shard.replicas[(usize::from(lane.index()) + turn) % n].addr;
        let answer = status::converse(addr, &question(args, lane, opening, fence), |answer| match answer {
            Message::Resolved(is) if is.lane == lane && is.writer == args.writer => Some(is),
            _ => None,
        });
        let newest = answer.as_ref().ok().and_then(|is| is.newest);
        let newer = newest.filter(|n| *n > opening && !args.writer.is_named());
        match answer.map(|is| (is.end, is.acks)) {
            _ if newer.is_some() => (opening, forgotten) = (newer.unwrap_or(opening), 0),
            Ok((ResolveEnd::Final, acks)) => return Ok(Answer { fate: Fate::In(acks), newest }),
            // Of a fence this only says that it isn't committed yet.
            Ok((ResolveEnd::Open, _)) if !fence => return Ok(Answer { fate: Fate::Open, newest }),
            Ok((ResolveEnd::Forgotten, _)) => forgotten += 1,
            Ok((ResolveEnd::Open | ResolveEnd::NotReady, _)) => {}
            Err(why) => problem = why,
        }
        if forgotten >= n {
            return Ok(Answer { fate: Fate::Forgotten, newest });
        }
        interrupt.check()?;
        if clock::now().since(since) > args.patience.patience() {
            let text = format!("lane {lane}: {problem}. `zoolog admin servers` tells who is there");
            return Err(Failure::new(Code::Unavailable, text));
        }
        pause();
    }
    unreachable!("asked until it is answered, or given up")
}

#[expect(clippy::disallowed_methods, reason = "a command that has nothing else to do meanwhile")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// What a replica is sent.
fn question(args: &ResolveArgs, lane: LaneId, epoch: Epoch, fence: bool) -> Vec<Bytes> {
    let (writer, from) = (args.writer, Seq(args.from));
    let mut frames = Vec::new();
    if fence {
        let mut builder = BatchBuilder::new();
        builder.push(b"");
        let fence = builder.finish(BatchKind::Fence, writer, epoch, FENCE_SEQ);
        frames.push(wire::encode_with(Fence { lane }, &[fence.bytes()]));
    }
    frames.push(wire::encode(Resolve { request: 1, lane, writer, epoch, from }));
    frames
}

/// How many records each of the batches has; `None` of one that is trimmed by now.
fn counts(args: &ResolveArgs, found: &Found, interrupt: &Interrupt) -> Result<Vec<Option<u32>>, Failure> {
    if found.batches.is_empty() {
        return Ok(Vec::new());
    }
    let mut session = Session::start(&args.place, args.patience.patience())?;
    let mut counts = Vec::new();
    for (_, gsn, _) in &found.batches {
        let tag = session.tag();
        session.ask(LogCommand::Read { tag, from: *gsn, to: gsn.next(), max_bytes: 1 });
        let batches = loop {
            match session.next()? {
                Some(Said::Log(LogEvent::ReadDone { batches, .. })) => break batches,
                _ => interrupt.check()?,
            }
        };
        counts.push(batches.first().map(|b| b.placed.batch.count()));
    }
    Ok(counts)
}

fn print(args: &ResolveArgs, found: &Found, counts: &[Option<u32>]) -> Result<(), Failure> {
    let all = found.batches.iter().zip(counts);
    let unplaced = found.unplaced(args);
    if args.json {
        let batches: Vec<Value> = all
            .map(|((seq, gsn, lane), n)| {
                json!({ "seq": seq.0, "gsn": gsn.0, "records": n, "lane": lane.to_string() })
            })
            .collect();
        let lanes = |lanes: &[LaneId]| lanes.iter().map(LaneId::to_string).collect::<Vec<_>>();
        let final_ = found.open.is_empty() && found.forgotten.is_empty();
        return out::print(format!(
            "{:#}",
            json!({
                "writer": format!("{:032x}", args.writer.0), "from": args.from, "final": final_,
                "batches": batches, "unplaced": unplaced, "open": lanes(&found.open), "forgotten": lanes(&found.forgotten),
            })
        ));
    }
    let mut table = out::table(["batch", "position", "records", "lane"], 0..3);
    for ((seq, gsn, lane), n) in all {
        let n = n.map_or_else(|| "trimmed".into(), |n| n.to_string());
        table.add_row([seq.to_string(), gsn.to_string(), n, lane.to_string()]);
    }
    if found.batches.is_empty() {
        return out::print(format!("none of its batches from {} on is in the log", args.from));
    }
    out::print(table)?;
    for (first, last) in unplaced {
        out::print(format!(
            "batches {first} to {last} are in as well, being before one that is; where, no lane remembers: it has seen a later \
             opening of the writer since, or they are trimmed"
        ))?;
    }
    Ok(())
}

/// Reads a writer's id.
///
/// # Errors
/// If it is none.
pub fn writer(text: &str) -> Result<WriterId, String> {
    match u128::from_str_radix(text, 16) {
        Ok(id) if text.len() == 32 => Ok(WriterId(id)),
        _ => Err("a writer's id has 32 hexadecimal digits".into()),
    }
}
