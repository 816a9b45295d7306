//! How long is a value? Fixed, or drawn; drawn from what names the value, so that whoever reads it can tell
//! how long it must be.

use crate::payload::Origin;
use std::str::FromStr;

/// Longest value there may be, in bytes.
pub const BYTES_MAX: u32 = 1_000_000;

/// Lengths of values, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(u32),
    /// Each from the first to the last as often as any other.
    Uniform(u32, u32),
    /// The logarithm is normally distributed.
    LogNormal {
        /// Half of them are shorter.
        median: u32,
        /// Standard deviation of the logarithm.
        sigma: f64,
        /// What would be longer is cut to this.
        max: u32,
    },
}

impl Sizes {
    /// Length of the longest.
    pub fn max(&self) -> u32 {
        match *self {
            Self::Fixed(n) | Self::Uniform(_, n) => n,
            Self::LogNormal { max, .. } => max,
        }
    }

    /// Length of the value `origin`.
    pub fn of(&self, origin: Origin) -> u32 {
        match *self {
            Self::Fixed(n) => n,
            Self::Uniform(from, to) => {
                let span = u64::from(to - from) + 1;
                from + ((u128::from(mix(origin, 1)) * u128::from(span)) >> 64) as u32
            }
            Self::LogNormal { median, sigma, max } => {
                // Box and Muller; the first unit is never 0.
                let unit = |salt| ((mix(origin, salt) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
                let normal = (-2.0 * unit(1).ln()).sqrt() * (std::f64::consts::TAU * unit(2)).cos();
                (f64::from(median) * (sigma * normal).exp()).min(f64::from(max)) as u32
            }
        }
    }
}

/// 64 bits that look random, from what names a value (the finalizer of SplitMix64).
fn mix(origin: Origin, salt: u64) -> u64 {
    let named = (u64::from(origin.writer) << 32 | u64::from(origin.key)) ^ origin.counter.rotate_left(17);
    let mut z = named.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for multiplier in [0xbf58_476d_1ce4_e5b9u64, 0x94d0_49bb_1331_11eb, 0xbf58_476d_1ce4_e5b9] {
        z = (z ^ (z >> 30)).wrapping_mul(multiplier);
    }
    z ^ (z >> 31)
}

const FORMS: &str =
    "a number of bytes up to 1000000, uniform:FROM-TO, or lognormal:MEDIAN:SIGMA[:MAX] with SIGMA up to 5";

impl FromStr for Sizes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = |t: &str| t.parse().ok().filter(|n| *n <= BYTES_MAX);
        let sizes = match text.split_once(':') {
            None => bytes(text).map(Self::Fixed),
            Some(("uniform", range)) => range
                .split_once('-')
                .and_then(|(from, to)| Some((bytes(from)?, bytes(to)?)))
                .filter(|(from, to)| from <= to)
                .map(|(from, to)| Self::Uniform(from, to)),
            Some(("lognormal", rest)) => {
                let mut parts = rest.split(':');
                let median = parts.next().and_then(bytes).filter(|n| *n > 0);
                let sigma =
                    parts.next().and_then(|t| t.parse::<f64>().ok()).filter(|s| (0.0..=5.0).contains(s));
                let max = parts.next().map_or(Some(BYTES_MAX), bytes);
                match (median, sigma, max, parts.next()) {
                    (Some(median), Some(sigma), Some(max), None) if max >= median => {
                        Some(Self::LogNormal { median, sigma, max })
                    }
                    _ => None,
                }
            }
            Some(_) => None,
        };
        sizes.ok_or_else(|| FORMS.to_owned())
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Uniform(from, to) => write!(f, "uniform:{from}-{to}"),
            Self::LogNormal { median, sigma, max } => write!(f, "lognormal:{median}:{sigma}:{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Vec<u32> {
        let sizes: Sizes = text.parse().unwrap();
        let mut all: Vec<u32> =
            (0..20_000).map(|counter| sizes.of(Origin { key: 3, writer: 1, counter })).collect();
        assert!(all.iter().all(|n| *n <= sizes.max()));
        all.sort_unstable();
        all
    }

    #[test]
    fn lengths_are_spread_as_asked_for() {
        assert!(drawn("100").iter().all(|n| *n == 100));
        let uniform = drawn("uniform:50-200");
        assert_eq!((uniform[0], uniform[19_999]), (50, 200));
        assert!((120..130).contains(&uniform[10_000]), "{}", uniform[10_000]);
        let log = drawn("lognormal:100:0.5:1000");
        assert!((96..104).contains(&log[10_000]), "median {}", log[10_000]);
        // One standard deviation up: 100 * e^0.5 = 165.
        assert!((158..172).contains(&log[16_827]), "{}", log[16_827]);
    }

    #[test]
    fn the_same_value_always_has_the_same_length() {
        let sizes: Sizes = "uniform:0-1000000".parse().unwrap();
        let origin = Origin { key: 9, writer: 2, counter: 77 };
        assert_eq!(sizes.of(origin), sizes.of(origin));
        assert_ne!(sizes.of(origin), sizes.of(Origin { counter: 78, ..origin }));
    }

    #[test]
    fn forms_are_read_and_printed() {
        for text in ["0", "128", "uniform:50-200", "uniform:7-7", "lognormal:100:0.5:2000"] {
            assert_eq!(text.parse::<Sizes>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        let wrongs = [
            "",
            "x",
            "-1",
            "1000001",
            "uniform:9-8",
            "uniform:9",
            "lognormal:0:1",
            "lognormal:9:6",
            "normal:1:1",
            "lognormal:9:1:8",
        ];
        for wrong in wrongs {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
