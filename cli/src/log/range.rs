//! Which positions are wanted? `FROM..TO`, with either left away, or a single one.

use std::str::FromStr;
use zoolog_core::Gsn;

/// No log gets here.
const GSN_MAX: u64 = 1 << 62;

/// A range of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First position; `None`: the first that is readable.
    pub from: Option<Gsn>,
    /// One past the last; `None`: where the log ends.
    pub to: Option<Gsn>,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let position = |text: &str| match text.parse() {
            Ok(gsn) if gsn <= GSN_MAX => Ok(Gsn(gsn)),
            _ => Err(format!("`{text}` is no position: a number from 0 on")),
        };
        let side = |text: &str| if text.is_empty() { Ok(None) } else { position(text).map(Some) };
        let Some((from, to)) = text.split_once("..") else {
            let from = position(text)?;
            return Ok(Self { from: Some(from), to: Some(from.next()) });
        };
        let range = Self { from: side(from)?, to: side(to)? };
        match range {
            Self { from: Some(from), to: Some(to) } if from > to => {
                Err(format!("it ends before it begins; did you mean {to}..{from}?"))
            }
            range => Ok(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_understood_and_others_explained() {
        let range = |from: Option<u64>, to: Option<u64>| Ok(Range { from: from.map(Gsn), to: to.map(Gsn) });
        for (text, want) in [
            ("3..9", range(Some(3), Some(9))),
            ("3..", range(Some(3), None)),
            ("..9", range(None, Some(9))),
            ("..", range(None, None)),
            ("7", range(Some(7), Some(8))),
            ("5..5", range(Some(5), Some(5))),
        ] {
            assert_eq!(text.parse::<Range>(), want, "{text}");
        }
        for (text, about) in [
            ("9..3", "3..9"),
            ("-1..3", "`-1`"),
            ("a..", "`a`"),
            ("18446744073709551615", "position"),
            ("", "``"),
        ] {
            let e = text.parse::<Range>().unwrap_err();
            assert!(e.contains(about), "{text}: {e}");
        }
    }
}
