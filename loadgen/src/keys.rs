//! Which key comes next? Uniformly, or by Zipf's law, in constant time and memory for any number of keys.
//!
//! Zipf's law by rejection inversion (W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates
//! from monotone discrete distributions", 1996): no table of sums, so a million keys cost what ten do.

use std::str::FromStr;
use zoolog_core::rng::Rng;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Each as often as any other.
    Uniform,
    /// The nth in proportion to n to the power of minus this.
    Zipfian(f64),
}

/// The exponent unless another is given.
const THETA: f64 = 0.99;

impl FromStr for Distribution {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            None if text == "zipfian" => Ok(Self::Zipfian(THETA)),
            Some(("zipfian", theta)) => match theta.parse() {
                Ok(theta) if (0.01..=5.0).contains(&theta) => Ok(Self::Zipfian(theta)),
                _ => Err("zipfian:THETA with THETA from 0.01 to 5".to_owned()),
            },
            _ => Err("uniform, zipfian, or zipfian:THETA".to_owned()),
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipfian(theta) => write!(f, "zipfian:{theta}"),
        }
    }
}

/// Chooses among a fixed number of keys.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    n: u32,
    zipf: Option<Zipf>,
}

impl Keys {
    /// Among `n` keys, at least one.
    pub fn new(n: u32, distribution: Distribution) -> Self {
        assert!(n > 0, "a choice among no keys");
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipfian(theta) => Some(Zipf::new(f64::from(n), theta)),
        };
        Self { n, zipf }
    }

    /// The next one, from 0 to n - 1.
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        match &self.zipf {
            None => rng.below(u64::from(self.n)) as u32,
            Some(zipf) => zipf.draw(rng) - 1,
        }
    }
}

/// Ranks from 1 to n.
#[derive(Clone, Copy, Debug)]
struct Zipf {
    n: f64,
    theta: f64,
    /// The integral of the hat at its lower and upper end.
    low: f64,
    high: f64,
    /// Distance from a rank within which no second look is needed.
    sure: f64,
}

impl Zipf {
    fn new(n: f64, theta: f64) -> Self {
        let mut zipf = Self { n, theta, low: 0.0, high: 0.0, sure: 0.0 };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(n + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// Weight of rank `x`, continued between ranks.
    fn weight(&self, x: f64) -> f64 {
        x.powf(-self.theta)
    }

    /// Its integral from 1 on.
    fn integral(&self, x: f64) -> f64 {
        let (power, log) = (1.0 - self.theta, x.ln());
        if (power * log).abs() < 1e-8 { log } else { (power * log).exp_m1() / power }
    }

    fn inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.theta;
        let t = (power * area).max(-1.0);
        if t.abs() < 1e-8 { area.exp() } else { (t.ln_1p() / power).exp() }
    }

    fn draw(&self, rng: &mut Rng) -> u32 {
        loop {
            // 53 random bits are what a double holds between 0 and 1.
            let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            let area = self.high + unit * (self.low - self.high);
            let x = self.inverse(area);
            let rank = x.round().clamp(1.0, self.n);
            if rank - x <= self.sure || area >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(n: u32, distribution: Distribution, draws: u32) -> Vec<f64> {
        let (keys, mut rng) = (Keys::new(n, distribution), Rng::new(5, "keys"));
        let mut count = vec![0u32; n as usize];
        (0..draws).for_each(|_| count[keys.draw(&mut rng) as usize] += 1);
        count.into_iter().map(|c| f64::from(c) / f64::from(draws)).collect()
    }

    #[test]
    fn zipfian_shares_follow_the_law() {
        for theta in [0.5, 0.99, 1.0, 1.5, 3.0] {
            let total: f64 = (1..=100).map(|i| f64::from(i).powf(-theta)).sum();
            let found = shares(100, Distribution::Zipfian(theta), 200_000);
            for (i, share) in found.iter().enumerate().take(20) {
                let due = (i as f64 + 1.0).powf(-theta) / total;
                assert!((share - due).abs() < 0.004 + due * 0.05, "{theta}: rank {i}: {share}, not {due}");
            }
        }
    }

    #[test]
    fn uniform_shares_are_equal() {
        for share in shares(10, Distribution::Uniform, 100_000) {
            assert!((0.09..0.11).contains(&share), "{share}");
        }
    }

    #[test]
    fn every_draw_is_one_of_the_keys_however_few_or_many() {
        let mut rng = Rng::new(1, "x");
        for n in [1, 2, 3, 50_000_000] {
            for distribution in
                [Distribution::Uniform, Distribution::Zipfian(0.99), Distribution::Zipfian(5.0)]
            {
                let keys = Keys::new(n, distribution);
                assert!((0..1000).all(|_| keys.draw(&mut rng) < n), "{n} {distribution}");
            }
        }
    }

    #[test]
    fn distributions_are_read_and_printed() {
        for text in ["uniform", "zipfian:0.5", "zipfian:1"] {
            assert_eq!(text.parse::<Distribution>().map(|d| d.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("zipfian".parse(), Ok(Distribution::Zipfian(0.99)));
        for wrong in ["", "zipf", "zipfian:", "zipfian:0", "zipfian:9", "uniform:1"] {
            assert!(wrong.parse::<Distribution>().is_err(), "{wrong}");
        }
    }
}
