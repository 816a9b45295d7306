//! How does somebody have a log sealed that another process uses? Over a socket in its directory, which the directory's owner
//! alone can open: a line says for what, a line comes back. A thread waits there; the log looks when it is woken.

use crate::{RequestId, SealError, Sealed};
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use zoolog_core::Gsn;
use zoolog_core::rt::Waker;

/// The socket's name in the log's directory.
const NAME: &str = "control";
/// Longest line, bytes.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// How long a question may take to come, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer is waited for: a sync of a slow disk.
const ANSWER: Duration = Duration::from_secs(30);

type Outcome = Result<Sealed, SealError>;

/// Somebody who wants the log sealed.
#[derive(Debug)]
struct Caller {
    successor: String,
    answer: Sender<Outcome>,
}

/// The log's side.
#[derive(Debug)]
pub struct Control {
    called: Arc<AtomicBool>,
    callers: Receiver<Caller>,
    /// Who was asked for just now, and who waits for the answer to which.
    now: Option<Sender<Outcome>>,
    waiting: Vec<(RequestId, Sender<Outcome>)>,
    path: PathBuf,
}

/// Paths of sockets have to be short: the directory by its number.
fn reach(dir: &Path) -> Result<(File, PathBuf), String> {
    let open = File::open(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd()));
    Ok((open, path))
}

impl Control {
    /// Listens in `dir`, which the caller has locked; the log runs on the thread of `waker`.
    ///
    /// # Errors
    /// Text for a person.
    pub fn listen(dir: &Path, waker: Waker) -> Result<Self, String> {
        let path = dir.join(NAME);
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let (_open, short) = reach(dir)?;
        let listener = UnixListener::bind(&short).map_err(failed)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        let called = Arc::new(AtomicBool::new(false));
        let (call, callers) = channel();
        let flag = called.clone();
        let serve = move || {
            for stream in listener.incoming().flatten() {
                let ring = |caller| {
                    let taken = call.send(caller).is_ok();
                    flag.store(true, Ordering::SeqCst);
                    waker.wake();
                    taken
                };
                // Whoever hangs up, or says something else, is not answered.
                let _ = serve_one(&stream, ring);
            }
        };
        let thread = std::thread::Builder::new().name("log control".into());
        thread.spawn(serve).map_err(|e| format!("no thread for {}: {e}", path.display()))?;
        Ok(Self { called, callers, now: None, waiting: Vec::new(), path })
    }

    /// Whether somebody wants something.
    pub(super) fn is_called(&self) -> bool {
        self.called.load(Ordering::SeqCst)
    }

    /// What the next one wants the log sealed for; [`Control::asked`] follows.
    pub(super) fn next(&mut self) -> Option<String> {
        // Cleared before looking: who comes meanwhile calls again.
        if !self.called.swap(false, Ordering::SeqCst) {
            return None;
        }
        let Caller { successor, answer } = self.callers.try_recv().ok()?;
        // There may be more.
        self.called.store(true, Ordering::SeqCst);
        self.now = Some(answer);
        Some(successor)
    }

    /// What the log said to that.
    pub(super) fn asked(&mut self, asked: Result<RequestId, SealError>) {
        let answer = self.now.take().expect("somebody asked");
        match asked {
            Ok(request) => self.waiting.push((request, answer)),
            // Who asked may be gone; so below.
            Err(e) => drop(answer.send(Err(e))),
        }
    }

    /// Whether that was asked for here; then it is answered.
    pub(super) fn answer(&mut self, request: RequestId, outcome: &Outcome) -> bool {
        let Some(i) = self.waiting.iter().position(|w| w.0 == request) else { return false };
        let _ = self.waiting.swap_remove(i).1.send(outcome.clone());
        true
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Nobody answers there any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn line(stream: &UnixStream) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(line.trim_end().to_string())
}

fn serve_one(mut stream: &UnixStream, ring: impl FnOnce(Caller) -> bool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let asked = line(stream)?;
    let Some(successor) = asked.strip_prefix("seal ") else { return Ok(()) };
    let (answer, answered) = channel();
    if !ring(Caller { successor: successor.to_string(), answer }) {
        return writeln!(stream, "error its process is ending");
    }
    match answered.recv_timeout(ANSWER) {
        Ok(Ok(Sealed { tail, successor })) => writeln!(stream, "sealed {tail} {successor}"),
        Ok(Err(SealError::Another(Sealed { tail, successor }))) => {
            writeln!(stream, "another {tail} {successor}")
        }
        Ok(Err(e)) => writeln!(stream, "error {e}"),
        Err(_) => writeln!(stream, "error its process doesn't answer: it may be sealed or not, ask again"),
    }
}

fn parse(answer: &str) -> Option<Result<Sealed, String>> {
    let (what, rest) = answer.split_once(' ')?;
    if what == "error" {
        return Some(Err(rest.to_string()));
    }
    let (tail, successor) = rest.split_once(' ')?;
    let sealed = Sealed { tail: Gsn(tail.parse().ok()?), successor: successor.to_string() };
    match what {
        "sealed" => Some(Ok(sealed)),
        "another" => Some(Err(SealError::Another(sealed).to_string())),
        _ => None,
    }
}

/// Has the log in `dir` sealed by the process that uses it; `None` if none does.
///
/// # Errors
/// Text for a person: why it was not, or that it is not known.
pub fn control_seal(dir: &Path, successor: &str) -> Result<Option<Sealed>, String> {
    let at = dir.join(NAME);
    let failed = |e: std::io::Error| format!("{}: {e}", at.display());
    let (_open, short) = reach(dir)?;
    let mut stream = match UnixStream::connect(&short) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    stream.set_read_timeout(Some(ANSWER + PATIENCE)).map_err(failed)?;
    writeln!(stream, "seal {successor}").map_err(failed)?;
    let answer = line(&stream).map_err(failed)?;
    let answer = parse(&answer).ok_or_else(|| format!("{}: it answered `{answer}`", at.display()))?;
    answer.map(Some).map_err(|why| format!("the log in {} was not sealed: {why}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_what_they_say() {
        let sealed = Sealed { tail: Gsn(7), successor: "a:1,b:2".into() };
        assert_eq!(parse("sealed 7 a:1,b:2"), Some(Ok(sealed)));
        assert!(parse("another 7 a:1,b:2").is_some_and(|a| a.is_err_and(|why| why.contains("a:1,b:2"))));
        assert_eq!(parse("error no room"), Some(Err("no room".into())));
        for wrong in ["", "sealed", "sealed 7", "sealed x a:1", "open 7 a:1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn where_nobody_listens_nobody_is_asked() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(control_seal(dir.path(), "a:1"), Ok(None));
        // What one left that was killed.
        drop(UnixListener::bind(dir.path().join(NAME)).expect("a socket"));
        assert_eq!(control_seal(dir.path(), "a:1"), Ok(None));
        assert!(control_seal(Path::new("/nowhere"), "a:1").is_err());
    }
}
