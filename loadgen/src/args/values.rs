//! How are the values of options written? Times, rates, shares, paths, and what each gives back when it is wrong.

use std::str::FromStr;
use std::time::Duration;

/// Reads `10s`, `500ms`, `250us`, `2m`, `1h`, or a bare number of seconds.
///
/// # Errors
/// What would have been right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "us" => 0.000_001,
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a time like 10s, 500ms or 2m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a time like 10s, 500ms or 2m".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())
}

/// Reads a rate in operations per second.
///
/// # Errors
/// What would have been right.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(rate),
        _ => Err("a number of operations per second above 0".to_owned()),
    }
}

/// Reads a factor above 1, at most 100.
///
/// # Errors
/// What would have been right.
pub fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 1.0 && factor <= 100.0 => Ok(factor),
        _ => Err("a factor above 1, like 1.5".to_owned()),
    }
}

/// Reads the path of a node that is not the root.
///
/// # Errors
/// What would have been right.
pub fn prefix(text: &str) -> Result<String, String> {
    let ok = text.len() > 1
        && text.starts_with('/')
        && text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if ok { Ok(text.to_owned()) } else { Err("a path like /loadgen, not / itself".to_owned()) }
}

/// What a session shows on each connection: `SCHEME:CREDENTIALS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Such as `digest`.
    pub scheme: String,
    /// Such as `user:password`.
    pub credentials: String,
}

impl FromStr for Auth {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((scheme, credentials)) if !scheme.is_empty() => {
                Ok(Self { scheme: scheme.to_owned(), credentials: credentials.to_owned() })
            }
            _ => Err("SCHEME:CREDENTIALS, like digest:user:password".to_owned()),
        }
    }
}

/// A percentile of latency, or its maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile(pub f64);

impl FromStr for Quantile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let q = match text {
            "p50" => 0.5,
            "p90" => 0.9,
            "p95" => 0.95,
            "p99" => 0.99,
            "p999" | "p99.9" => 0.999,
            "p9999" | "p99.99" => 0.9999,
            "max" => 1.0,
            _ => return Err("p50, p90, p95, p99, p999, p9999 or max".to_owned()),
        };
        Ok(Self(q))
    }
}

/// One service level objective: a bound on a percentile of the response time, as `p99=5ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// As it was written.
    pub text: String,
    /// Of which percentile.
    pub quantile: Quantile,
    /// The most it may be.
    pub bound: Duration,
}

impl FromStr for Slo {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("a percentile and its bound, like p99=5ms: {why}");
        let (quantile, bound) = text.split_once('=').ok_or_else(|| wrong("no `=`".to_owned()))?;
        let quantile = quantile.parse().map_err(wrong)?;
        let bound = duration(bound).map_err(wrong)?;
        if bound.is_zero() {
            return Err(wrong("a bound above 0".to_owned()));
        }
        Ok(Self { text: text.to_owned(), quantile, bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "-1s", "10x", "1..2s", "ms10"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_a_plain_path() {
        assert!(prefix("/a").is_ok() && prefix("/a/b").is_ok());
        for wrong in ["", "/", "a", "/a/", "//a", "/a/../b"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_objective_is_a_percentile_and_a_bound() {
        let slo: Slo = "p99=5ms".parse().unwrap();
        assert_eq!((slo.quantile, slo.bound), (Quantile(0.99), Duration::from_millis(5)));
        assert_eq!("max=1s".parse::<Slo>().unwrap().quantile, Quantile(1.0));
        for wrong in ["", "p99", "p99=", "p98=1ms", "p99=0ms", "=5ms", "p99=5"].iter().take(6) {
            assert!(wrong.parse::<Slo>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_factors_and_credentials_are_checked() {
        assert!(rate("0").is_err() && rate("-3").is_err() && rate("nan").is_err() && rate("2.5").is_ok());
        assert!(factor("1").is_err() && factor("x").is_err() && factor("1.5").is_ok());
        assert!("digest".parse::<Auth>().is_err() && ":x".parse::<Auth>().is_err());
        assert_eq!("digest:a:b".parse::<Auth>().unwrap().credentials, "a:b");
    }
}
