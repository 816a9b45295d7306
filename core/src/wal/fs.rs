//! How is a directory of segments read at start? With plain files, the only I/O of this module.

use super::{WalSource, segment_number};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes read ahead: recovery asks for block after block.
const AHEAD_BYTES: usize = 1 << 20;

/// The segments of a directory. Other files in it are ignored.
#[derive(Debug)]
pub struct FsSource {
    dir: PathBuf,
    open: RefCell<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    segment: u32,
    file: File,
    start: u64,
    bytes: Vec<u8>,
}

impl FsSource {
    /// Looks at `dir`, which must exist. Opens nothing yet.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { dir: dir.as_ref().to_path_buf(), open: RefCell::new(None) }
    }
}

impl WalSource for FsSource {
    fn segments(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
                found.push((number, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn read(&self, segment: u32, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut open = self.open.borrow_mut();
        let window = match open.take() {
            Some(w) if w.segment == segment => open.insert(w),
            _ => {
                let file = File::open(self.dir.join(super::segment_file_name(segment)))?;
                open.insert(Window { segment, file, start: 0, bytes: Vec::new() })
            }
        };
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let held =
                at.checked_sub(window.start).and_then(|skip| window.bytes.get(usize::try_from(skip).ok()?..));
            match held {
                Some(bytes) if !bytes.is_empty() => {
                    let n = bytes.len().min(buf.len() - done);
                    buf[done..done + n].copy_from_slice(&bytes[..n]);
                    done += n;
                }
                _ => {
                    window.file.seek(SeekFrom::Start(at))?;
                    window.start = at;
                    window.bytes.clear();
                    let file = &mut window.file;
                    if file.take(AHEAD_BYTES as u64).read_to_end(&mut window.bytes)? == 0 {
                        break;
                    }
                }
            }
        }
        Ok(done)
    }
}
