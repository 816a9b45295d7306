//! `zoolog zk dump`: a tree, as lines that can be kept, looked at and restored.

use super::format::{Foot, Head, Line, VERSION, write};
use super::{Sink, apache, server, snapshot};
use crate::args::DumpTreeArgs;
use crate::exit::{Code, Failure};
use crate::out;
use indicatif::ProgressBar;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use zoolog_zk::txn::ImportedNode;

/// Carries it out.
///
/// # Errors
/// If there is no such tree, or nowhere to write it.
pub fn run(args: &DumpTreeArgs) -> Result<(), Failure> {
    let Some(path) = &args.out else {
        return write_to(args, "stdout", Box::new(std::io::stdout()));
    };
    let wrong = |e: std::io::Error| Failure::from(format!("{}: {e}", path.display()));
    let file = File::create_new(path).map_err(wrong)?;
    let out = Box::new(file.try_clone().map_err(wrong)?);
    let done = write_to(args, &path.display().to_string(), out).and_then(|()| file.sync_all().map_err(wrong));
    if done.is_err() {
        let _ = std::fs::remove_file(path); // what is not whole can't be restored
    }
    done
}

fn write_to(args: &DumpTreeArgs, name: &str, out: Box<dyn Write>) -> Result<(), Failure> {
    let progress = if out::shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let mut lines = Writing {
        name,
        out: BufWriter::with_capacity(1 << 20, out),
        foot: Foot { nodes: 0, ephemerals: 0, zxid: None },
        progress,
    };
    let source = match (&args.server, &args.snapshot) {
        (Some(addr), _) => addr.clone(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => unreachable!("clap wants one of them"),
    };
    lines.write(&Head { zoolog_dump: VERSION, source })?;
    lines.foot.zxid = match (&args.server, &args.snapshot) {
        (Some(addr), _) => {
            server::read(addr, &args.auth, &mut lines)?;
            None
        }
        (None, path) => files(path.as_deref().unwrap_or(Path::new(".")), &mut lines)?,
    };
    let foot = lines.foot;
    lines.write(&foot)?;
    lines.out.flush().map_err(|e| format!("{name}: {e}"))?;
    lines.progress.finish_and_clear();
    let left = "ephemeral ones, which go with their sessions, are left out";
    out::note(format!("{} nodes; {} {left}", foot.nodes, foot.ephemerals));
    if args.server.is_some() {
        out::note("they were read one after the other: what was written meanwhile may be in or not");
    }
    Ok(())
}

/// Ours, a file of Apache's, or the newest in a directory of either.
fn files(path: &Path, sink: &mut dyn Sink) -> Result<Option<i64>, Failure> {
    let file = match path.is_dir() {
        false => path.to_path_buf(),
        true => {
            if let Some(zxid) = snapshot::read_newest(path, sink)? {
                return Ok(Some(zxid));
            }
            apache::newest(path)?.ok_or_else(|| {
                let text = format!(
                    "{}: neither a node's data directory with `snapshots` in it, nor one with ZooKeeper's `snapshot.ZXID`",
                    path.display()
                );
                Failure::new(Code::NotFound, text)
            })?
        }
    };
    let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    apache::read(&file, &bytes, sink)
}

/// A dump on its way out.
struct Writing<'a> {
    name: &'a str,
    out: BufWriter<Box<dyn Write>>,
    foot: Foot,
    progress: ProgressBar,
}

impl Writing<'_> {
    fn write(&mut self, line: &impl serde::Serialize) -> Result<(), Failure> {
        self.out.write_all(&write(line)).map_err(|e| format!("{}: {e}", self.name).into())
    }
}

impl Sink for Writing<'_> {
    fn node(&mut self, node: ImportedNode) -> Result<(), Failure> {
        self.foot.nodes += 1;
        if self.foot.nodes.is_multiple_of(1000) {
            self.progress.set_message(format!("{} nodes", self.foot.nodes));
            self.progress.tick();
        }
        self.write(&Line::from(node))
    }

    fn ephemeral(&mut self) {
        self.foot.ephemerals += 1;
    }
}
