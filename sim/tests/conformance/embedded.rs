//! An embedded log, as the suite uses it.

use crate::disk;
use crate::suite::Harness;
use std::time::Duration;
use zoolog_client::{LocalConfig, LogEvent, SharedLog};
use zoolog_core::Input;
use zoolog_core::rng::Rng;

/// The embedded log, on a memory disk that syncs and reads when the suite steps.
pub struct Embedded {
    bench: Option<disk::Bench>,
    cfg: LocalConfig,
    rng: Rng,
}

impl Harness for Embedded {
    const SUCCESSOR: &str = "elsewhere:1";

    /// Its owner is a consumer once it has released something.
    fn new(seed: u64, _: bool) -> Self {
        let cfg =
            LocalConfig { cache_bytes: 4 << 10, prefetch_bytes: 8 << 10, ..LocalConfig::new(disk::CLUSTER) };
        Self { bench: Some(disk::Bench::new(cfg.clone())), cfg, rng: Rng::new(seed, "embedded") }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R {
        f(&mut self.bench.as_mut().expect("open").log)
    }

    fn step(&mut self) -> Vec<LogEvent> {
        let bench = self.bench.as_mut().expect("open");
        bench.turn(None);
        if self.rng.chance(60) {
            bench.sync();
        }
        if self.rng.chance(60) {
            bench.load();
        }
        bench.events.drain(..).collect()
    }

    /// Its disk can't be read for a while.
    fn disturb(&mut self, _: &mut Rng) {
        let bench = self.bench.as_mut().expect("open");
        bench.unreadable = true;
        while bench.load() {}
        bench.unreadable = false;
        bench.now = bench.now + Duration::from_secs(2);
        bench.turn(Some(Input::Timer));
    }

    fn reopen(&mut self) {
        let bench = self.bench.take().expect("open");
        self.bench = Some(bench.crash(self.cfg.clone(), &mut self.rng));
    }
}
