//! Which logs has this node gone on in, one after the other? [`Way`]: a small file in its directory, so that a node which starts again
//! goes straight to the newest log that it knows, though its settings name an older one that may be gone by now.

use super::Successor;
use crate::Sealed;
use std::fmt;
use std::str::FromStr;
use zoolog_core::Gsn;
use zoolog_core::limits::SUCCESSOR_BYTES_MAX;

/// Exchanges that are remembered; what lay before an older one counts as left.
const EXCHANGES_MAX: usize = 16;
/// Version of the file.
const VERSION: u32 = 1;
/// First word of its first line, and of its last.
const NAME: &str = "way";
const CHECK: &str = "crc";

/// A log that has ended, and in whose successor its reader went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Where it ended, and what follows it.
    pub sealed: Sealed,
    /// Nothing of it is needed any more, and it knows.
    pub left: bool,
}

impl Passed {
    /// Which cluster follows; `None` if the text names none.
    pub fn successor(&self) -> Option<Successor> {
        self.sealed.successor.parse().ok()
    }
}

/// The logs that were passed, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way(Vec<Passed>);

impl Way {
    /// The log went on there. Returns whether that is news.
    pub fn moved(&mut self, sealed: &Sealed) -> bool {
        let passed = Passed { sealed: sealed.clone(), left: false };
        if !self.0.last().is_none_or(|last| follows(last, &passed)) || passed.successor().is_none() {
            return false;
        }
        self.0.push(passed);
        if self.0.len() > EXCHANGES_MAX {
            self.0.remove(0);
            self.0[0].left = true;
        }
        true
    }

    /// Nothing of the log that ended there is needed any more, nor of those before it. Returns whether that is news.
    pub fn left(&mut self, tail: Gsn) -> bool {
        let mut news = false;
        for passed in self.0.iter_mut().filter(|p| p.sealed.tail <= tail) {
            news |= !std::mem::replace(&mut passed.left, true);
        }
        news
    }

    /// What lies ahead of who begins with the cluster of that generation, at these orderers; without a generation they tell.
    pub fn ahead(&self, generation: Option<u32>, orderers: &[String]) -> Vec<Passed> {
        let is_there = |p: &Passed| {
            p.successor().is_some_and(|s| match generation {
                Some(ours) => s.generation <= ours,
                None => s.orderers.iter().any(|addr| orderers.contains(addr)),
            })
        };
        let from = self.0.iter().rposition(is_there).map_or(0, |i| i + 1);
        self.0[from..].to_vec()
    }

    /// Where the newest log is.
    pub fn newest(&self) -> Option<Successor> {
        self.0.last().and_then(Passed::successor)
    }
}

/// Whether an exchange can come after another.
fn follows(before: &Passed, later: &Passed) -> bool {
    let generation = |p: &Passed| p.successor().map(|s| s.generation);
    before.sealed.tail <= later.sealed.tail && generation(before) < generation(later)
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{NAME} {VERSION}\n");
        for Passed { sealed: Sealed { tail, successor }, left } in &self.0 {
            text += &format!("{} {} {successor}\n", tail.0, if *left { "left" } else { "kept" });
        }
        write!(f, "{text}{}", last_line(&text))
    }
}

/// What follows the other lines.
fn last_line(body: &str) -> String {
    format!("{CHECK} {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first = text.lines().next().and_then(|l| l.strip_prefix(NAME)?.strip_prefix(' '));
        let version: u32 = first.and_then(|v| v.parse().ok()).ok_or("its first line is none of ours")?;
        if version != VERSION {
            return Err(format!("it has version {version}, this build knows {VERSION}"));
        }
        let body = text.trim_end_matches('\n').rfind('\n').map_or(0, |i| i + 1);
        let (body, check) = text.split_at(body);
        if check != last_line(body) {
            return Err("its checksum is not that of what it says".into());
        }
        let mut way = Vec::new();
        for line in body.lines().skip(1) {
            let passed = passed(line).filter(|p| way.last().is_none_or(|last| follows(last, p)));
            way.push(passed.ok_or_else(|| format!("`{line}` makes no sense there"))?);
        }
        if way.len() > EXCHANGES_MAX { Err("it is too long".into()) } else { Ok(Self(way)) }
    }
}

fn passed(line: &str) -> Option<Passed> {
    let mut words = line.splitn(3, ' ');
    let (tail, left, successor) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let left = match left {
        "left" => true,
        "kept" => false,
        _ => return None,
    };
    let sealed = Sealed { tail: Gsn(tail), successor: successor.into() };
    let passed = Passed { sealed, left };
    (successor.len() <= SUCCESSOR_BYTES_MAX && passed.successor().is_some()).then_some(passed)
}

#[cfg(feature = "rt")]
mod file {
    use super::*;
    use std::path::Path;
    use zoolog_core::rt::datadir::write_durably;

    /// No file of ours is longer.
    const FILE_BYTES_MAX: u64 = 64 << 10;

    impl Way {
        /// What the node in that directory wrote down; nothing if it never did.
        ///
        /// # Errors
        /// Text for a person: it can't be used.
        pub fn read(dir: &Path) -> Result<Self, String> {
            let path = dir.join(NAME);
            match std::fs::metadata(&path) {
                Ok(found) if found.len() > FILE_BYTES_MAX => return Err("it is too long".into()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
                _ => {}
            }
            std::fs::read_to_string(&path).map_err(|e| e.to_string())?.parse()
        }

        /// The same. What can't be used is said, with what to do: the node then begins with the log that its settings name, and is
        /// told the way by that.
        fn recall(dir: &Path) -> Self {
            Self::read(dir).unwrap_or_else(|why: String| {
                tracing::error!(
                    "{} can't be used: {why}. This node begins with the log that its settings name; if that is gone, \
                     have them name the newest one, and remove the file",
                    dir.join(NAME).display()
                );
                Self::default()
            })
        }

        /// What lies ahead of the node in that directory, whose settings name this cluster ([`Way::ahead`]); what lies behind it is
        /// forgotten.
        pub fn begin(dir: &Path, generation: Option<u32>, orderers: &[String]) -> Vec<Passed> {
            let ahead = Self::recall(dir).ahead(generation, orderers);
            Self::change(dir, |way| {
                let shorter = ahead.len() < way.0.len();
                way.0.clone_from(&ahead);
                shorter
            });
            ahead
        }

        /// Writes down that the log went on there.
        pub fn remember_moved(dir: &Path, sealed: &Sealed) {
            Self::change(dir, |way| way.moved(sealed));
        }

        /// Writes down that nothing of the log which ended there is needed.
        pub fn remember_left(dir: &Path, tail: Gsn) {
            Self::change(dir, |way| way.left(tail));
        }

        fn change(dir: &Path, change: impl FnOnce(&mut Self) -> bool) {
            let mut way = Self::read(dir).unwrap_or_default();
            let path = dir.join(NAME);
            if change(&mut way)
                && let Err(why) = write_durably(&path, way.to_string().as_bytes())
            {
                tracing::error!(
                    "the next start will begin with the log that the settings name, since {} can't be written: {why}",
                    path.display()
                );
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_damaged_or_unknown_is_not_used_and_written_anew() {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(Way::read(dir.path()), Ok(Way::default()));
            let sealed = Sealed { tail: Gsn(7), successor: "b:1;generation=1".into() };
            Way::remember_moved(dir.path(), &sealed);
            Way::remember_left(dir.path(), Gsn(7));
            let begin = |generation| Way::begin(dir.path(), Some(generation), &[]);
            assert_eq!(begin(0), [Passed { sealed: sealed.clone(), left: true }]);
            let path = dir.path().join(NAME);
            let whole = std::fs::read(&path).unwrap();
            for bad in [&whole[..9], &[0xff; 4], &[b'x'; 70_000], b"way 2\ncrc 0\n", b""] {
                std::fs::write(&path, bad).unwrap();
                assert!(Way::read(dir.path()).is_err());
                assert_eq!(begin(0), []);
            }
            Way::remember_moved(dir.path(), &sealed);
            assert_eq!(begin(0), [Passed { sealed, left: false }]);
            // Somebody has its settings name the newer one.
            assert_eq!(begin(1), []);
            assert_eq!(begin(0), []);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(tail: u64, generation: u32) -> Sealed {
        Sealed {
            tail: Gsn(tail),
            successor: format!("o{generation}:1,p{generation}:2;generation={generation}"),
        }
    }

    #[test]
    fn who_begins_further_on_has_less_ahead() {
        let mut way = Way::default();
        assert!(way.moved(&sealed(5, 1)) && way.moved(&sealed(9, 2)));
        assert!(!way.moved(&sealed(9, 2)) && !way.moved(&sealed(8, 3)) && !way.moved(&sealed(12, 1)));
        assert!(way.left(Gsn(5)) && !way.left(Gsn(5)));
        let all = [Passed { sealed: sealed(5, 1), left: true }, Passed { sealed: sealed(9, 2), left: false }];
        assert_eq!(way.ahead(Some(0), &[]), all);
        assert_eq!(way.ahead(Some(1), &[]), all[1..]);
        assert_eq!(way.ahead(Some(2), &[]), []);
        let at = |addr: &str| way.ahead(None, &["x:1".into(), addr.into()]);
        assert_eq!((at("y:1"), at("p1:2"), at("o2:1")), (all.to_vec(), all[1..].to_vec(), Vec::new()));
    }

    #[test]
    fn of_many_exchanges_the_newest_are_remembered() {
        let mut way = Way::default();
        assert!((1..=40).all(|n| way.moved(&sealed(u64::from(n), n))));
        let ahead = way.ahead(Some(0), &[]);
        assert_eq!(ahead.iter().map(|p| p.left).collect::<Vec<_>>(), [vec![true], vec![false; 15]].concat());
        assert_eq!(way.newest().unwrap().generation, 40);
        assert_eq!(way.to_string().parse(), Ok(way));
    }

    proptest! {
        #[test]
        fn a_file_comes_back_and_any_damage_is_noticed(
            exchanges in prop::collection::vec((0u64..9, prop::bool::ANY), 0..12), bit in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut way, mut tail) = (Way::default(), 0);
            for (i, (more, left)) in exchanges.into_iter().enumerate() {
                tail += more;
                prop_assert!(way.moved(&sealed(tail, i as u32 + 1)));
                if left {
                    way.left(Gsn(tail));
                }
            }
            let text = way.to_string();
            prop_assert_eq!(text.parse(), Ok(way));
            let mut bytes = text.clone().into_bytes();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(damaged) = String::from_utf8(bytes) {
                prop_assert!(damaged.parse::<Way>().is_err(), "{}", damaged);
            }
            let cut = cut.index(text.len());
            prop_assert!(text[..cut].parse::<Way>().is_err(), "{}", &text[..cut]);
        }
    }
}
