//! `zoolog zk restore`: a dump's nodes become records of a cluster's log, and every ZooKeeper node applies them.

use super::client::Client;
use super::format::Lines;
use crate::args::RestoreArgs;
use crate::exit::{Code, Failure};
use crate::log::{Said, Session, Source, start_input};
use crate::out;
use indicatif::ProgressBar;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zoolog_client::LogEvent;
use zoolog_core::WallMs;
use zoolog_core::rt::clock;
use zoolog_zk::jute::{Reader, Request};
use zoolog_zk::state::encode;
use zoolog_zk::tree::Lifetime;
use zoolog_zk::txn::{ImportedNode, Op, Txn};

/// Bytes of nodes in one record: little enough that applying one keeps nobody waiting.
const RECORD_BYTES: usize = 64 << 10;
/// Nodes that a service has by itself.
const BUILT_IN: i32 = 3;

/// Carries it out.
///
/// # Errors
/// If the dump is not whole, there is no such cluster, or it is not empty.
pub fn run(args: &RestoreArgs) -> Result<(), Failure> {
    let open = || {
        let file = File::open(&args.dump).map_err(|e| format!("{}: {e}", args.dump.display()))?;
        Lines::open(BufReader::with_capacity(1 << 20, file))
    };
    // Nothing is begun that can't be ended: all of it is read once before.
    let mut lines = open()?;
    let mut nodes = 0;
    while lines.next()?.is_some() {
        nodes += 1;
    }
    let (source, zxid) = (lines.head.source.clone(), lines.foot.and_then(|f| f.zxid));
    let mut server = Client::open(&args.server, &[])?;
    let there = descendants(&mut server)?;
    if there > BUILT_IN && !args.force {
        let text = format!(
            "{} holds {} nodes already: restore into an empty service, or --force: nodes of the dump then take the place of \
             those with the same path, others stay",
            args.server,
            there - BUILT_IN
        );
        return Err(Failure::new(Code::Usage, text));
    }
    append(args, open()?, nodes)?;
    let sync = server.call(&Request::Sync { path: "/".into() })?;
    sync.map_err(|e| format!("{}: sync: {e:?}", args.server))?;
    let now = descendants(&mut server)?;
    let of = zxid.map_or_else(String::new, |z| format!(" as of zxid {z:#x}"));
    if now < i32::try_from(nodes).unwrap_or(i32::MAX).saturating_sub(1) {
        let text = format!(
            "{nodes} nodes were given to the log, but {} shows only {now}: do its nodes run this version?",
            args.server
        );
        return Err(text.into());
    }
    out::note(format!("{nodes} nodes of {source}{of} are in; {} shows {now} below the root", args.server));
    Ok(())
}

fn descendants(server: &mut Client) -> Result<i32, Failure> {
    let answer = server.call(&Request::GetAllChildrenNumber { path: "/".into() })?;
    let answer = answer.map_err(|e| format!("the server can't count its nodes: {e:?}"))?;
    Reader::new(&answer).int().map_err(|e| e.to_string().into())
}

fn append(args: &RestoreArgs, lines: Lines<BufReader<File>>, nodes: u64) -> Result<(), Failure> {
    let mut session = Session::start(&args.place, args.patience.patience())?;
    let (inbox, teller) = session.input();
    let taken = Arc::new(AtomicU64::new(0));
    let given = Arc::new(AtomicU64::new(0));
    let records = Records {
        lines,
        given: given.clone(),
        wall: wall_ms(),
        open: Vec::new(),
        waiting: Vec::new(),
        done: false,
    };
    start_input(Source::Made(Box::new(records)), None, inbox, taken.clone(), teller)?;
    let progress = if out::shows_progress() { ProgressBar::new(nodes) } else { ProgressBar::hidden() };
    let (mut acked, mut ended, mut moved) = (0, None, clock::now());
    let outcome = loop {
        match session.next()? {
            Some(Said::InputEnded(outcome)) => ended = Some(outcome),
            Some(Said::Log(LogEvent::Appended { count, .. })) => {
                acked += u64::from(count);
                moved = clock::now();
                progress.set_position(given.load(Ordering::Relaxed).min(nodes));
            }
            Some(Said::Log(LogEvent::WriterLost { why, .. })) => break Err(unknown(&why.to_string())),
            Some(Said::Log(LogEvent::AppendFailed { error, .. })) => break Err(unknown(&error.to_string())),
            _ => {}
        }
        let pending = taken.load(Ordering::SeqCst) - acked;
        if let (0, Some(outcome)) = (pending, &ended) {
            break outcome.clone();
        }
        if pending > 0 && clock::now().since(moved) > session.patience() {
            break Err(unknown(&session.unavailable().text));
        }
    };
    progress.finish_and_clear();
    outcome
}

fn unknown(why: &str) -> Failure {
    let text = format!("{why}. Some of the nodes are in, some are not: restore once more, with --force");
    Failure::new(Code::Unknown, text)
}

#[expect(clippy::disallowed_methods, reason = "a command has a wall clock")]
fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_millis().try_into().unwrap_or(i64::MAX))
}

/// Makes records of nodes, several in each.
///
/// What would be swept while its children are still to come is given twice: before them as if it had been made now and
/// never had any, behind them as it was.
struct Records<R> {
    lines: Lines<R>,
    given: Arc<AtomicU64>,
    wall: i64,
    /// Containers and nodes with a time to live, on the way down to where we are.
    open: Vec<ImportedNode>,
    /// Nodes for the next record.
    waiting: Vec<ImportedNode>,
    done: bool,
}

impl<R: BufRead> Records<R> {
    /// Those of the way that the next node, if there is one, isn't below are through.
    fn leave(&mut self, next: Option<&str>) {
        let within = |node: &ImportedNode| {
            next.is_some_and(|path| path.strip_prefix(&*node.path).is_some_and(|rest| rest.starts_with('/')))
        };
        while self.open.last().is_some_and(|last| !within(last)) {
            self.waiting.extend(self.open.pop());
        }
    }

    fn take(&mut self, node: ImportedNode) {
        self.leave(Some(&node.path));
        self.given.fetch_add(1, Ordering::Relaxed);
        if matches!(Lifetime::of(node.owner), Some(Lifetime::Container | Lifetime::Ttl(_))) {
            self.open.push(node.clone());
            let times = [node.times[0], self.wall];
            return self.waiting.push(ImportedNode { created: 0, times, ..node });
        }
        self.waiting.push(node);
    }
}

/// About what a node takes in a record.
fn bytes_of(n: &ImportedNode) -> usize {
    let acl: usize = n.acl.iter().map(|a| a.id.scheme.len() + a.id.id.len() + 32).sum();
    n.path.len() + n.data.as_ref().map_or(0, Vec::len) + acl + 96
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = Result<Vec<u8>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        // What the record before had no room for.
        let mut bytes: usize = self.waiting.iter().map(bytes_of).sum();
        while !self.done && bytes < RECORD_BYTES {
            let had = self.waiting.len();
            match self.lines.next() {
                Ok(Some(node)) => self.take(node),
                Ok(None) => {
                    self.done = true;
                    self.leave(None);
                }
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
            bytes += self.waiting[had..].iter().map(bytes_of).sum::<usize>();
        }
        if self.waiting.is_empty() {
            return None;
        }
        // No more than belong in: the last that came may be long.
        let mut fit = self.waiting.len();
        while fit > 1 && bytes > 2 * RECORD_BYTES {
            fit -= 1;
            bytes -= bytes_of(&self.waiting[fit]);
        }
        let rest = self.waiting.split_off(fit);
        let nodes = std::mem::replace(&mut self.waiting, rest);
        let wall = WallMs(self.wall.unsigned_abs());
        Some(Ok(encode(&Txn { session: 0, attach: 0, wall, ids: Vec::new(), op: Op::Import { nodes } })))
    }
}
