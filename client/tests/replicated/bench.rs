//! A replicated structure over an embedded log on a memory disk, with a directory of snapshots as the shell keeps one: a file
//! counts once it was answered; a crash may leave a torn one.

use crate::disk::{Bench, CLUSTER, tiny};
use std::collections::BTreeMap;
use zoolog_client::LocalLog;
use zoolog_client::replicated::{
    Applied, Loader, ProposeError, Replicated, ReplicatedConfig, ReplicatedEvent, Restored, StateMachine,
};
use zoolog_core::rng::Rng;
use zoolog_core::wal::MemoryDisk;
use zoolog_core::{Gsn, Input, Instant};

pub const NAME: &str = "test";

/// Files of snapshots by position; whether each was answered.
pub type Files = BTreeMap<Gsn, (Vec<u8>, bool)>;
pub type Event<S> = ReplicatedEvent<<S as StateMachine>::Outcome>;

pub struct World<S: StateMachine> {
    pub bench: Bench<Replicated<S, LocalLog>>,
    pub files: Files,
    writing: Vec<u8>,
    /// Saving snapshots fails.
    pub broken: bool,
}

/// Settings that take snapshots soon.
pub fn config() -> ReplicatedConfig {
    ReplicatedConfig { snapshot_records: 20, snapshot_bytes: 0, ..ReplicatedConfig::new(NAME) }
}

/// What a start makes of the files: the newest good one, and the next good one behind it.
pub fn restore<S: StateMachine>(files: &Files) -> Result<Restored<S>, String> {
    let mut found: Option<Restored<S>> = None;
    for (gsn, (bytes, good)) in files.iter().rev() {
        let mut loader = Loader::new::<S>(CLUSTER, NAME);
        let pushed = bytes.chunks(100).try_for_each(|chunk| loader.push(chunk));
        match (pushed.and_then(|()| loader.finish::<S>()), &mut found) {
            (Ok(restored), None) => found = Some(restored),
            (Ok(_), Some(found)) => {
                found.second_newest = Some(*gsn);
                break;
            }
            (Err(why), _) if *good => return Err(format!("the snapshot at {gsn}: {why}")),
            (Err(_), _) => {}
        }
    }
    Ok(found.unwrap_or_default())
}

impl<S: StateMachine> World<S> {
    pub fn new(seed: u64) -> Self {
        Self::start(MemoryDisk::new(), Files::new(), seed, Instant(1))
    }

    pub fn start(disk: MemoryDisk, mut files: Files, seed: u64, now: Instant) -> Self {
        let restored = restore(&files).expect("what was answered is good for ever");
        // What a start has found good is good for ever, too.
        files.retain(|gsn, _| restored.newest >= Some(*gsn));
        files.values_mut().for_each(|f| f.1 = true);
        Self::start_from(restored, disk, files, seed, now)
    }

    pub fn start_from(
        restored: Restored<S>,
        disk: MemoryDisk,
        files: Files,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self::start_with(config(), restored, disk, files, seed, now)
    }

    pub fn start_with(
        cfg: ReplicatedConfig,
        restored: Restored<S>,
        disk: MemoryDisk,
        files: Files,
        seed: u64,
        now: Instant,
    ) -> Self {
        let bench = Bench::open_with(disk, now, |recovered| {
            Ok(Replicated::new(cfg, LocalLog::new(tiny(), recovered, seed)?, restored))
        });
        Self { bench: bench.expect("a crash harms no log"), files, writing: Vec::new(), broken: false }
    }

    /// The power goes; what is left, for a start.
    pub fn cut_power(mut self, rng: &mut Rng) -> (MemoryDisk, Files, Instant) {
        if let Some((gsn, bytes, true)) = self.bench.pieces.pop_front() {
            // Its last piece was written, and not answered: it may be there, or half of it.
            let mut file = [&self.writing[..], &bytes].concat();
            if rng.chance(50) {
                file.truncate(rng.below(file.len() as u64) as usize);
            }
            self.files.insert(gsn, (file, false));
        }
        let (disk, now) = self.bench.cut_power(rng);
        (disk, self.files, now)
    }

    pub fn crash(self, rng: &mut Rng) -> Self {
        let (disk, files, now) = self.cut_power(rng);
        Self::start(disk, files, rng.next_u64(), now)
    }

    /// One piece of a snapshot is saved.
    pub fn save(&mut self) -> bool {
        let Some((gsn, bytes, last)) = self.bench.pieces.pop_front() else { return false };
        let result = if self.broken { Err("no room".to_string()) } else { Ok(()) };
        if self.broken {
            self.writing.clear();
        } else {
            self.writing.extend_from_slice(&bytes);
        }
        if last && !self.broken {
            self.files.insert(gsn, (std::mem::take(&mut self.writing), true));
            while self.files.len() > 3 {
                self.files.pop_first();
            }
        }
        self.bench.turn(Some(Input::SnapshotSaved { gsn, last, result }));
        true
    }

    /// Until nothing is left to do.
    pub fn settle(&mut self) {
        self.bench.settle();
        while self.save() {
            self.bench.settle();
        }
    }

    /// Appends bytes as they are, as another program could.
    pub fn append_raw(&mut self, bytes: &[u8]) {
        self.bench.log.propose_record(bytes).expect("room");
        self.bench.turn(None);
    }

    pub fn node(&self) -> &Replicated<S, LocalLog> {
        &self.bench.log
    }

    pub fn events(&mut self) -> Vec<Event<S>> {
        self.bench.events.drain(..).collect()
    }

    /// Proposes, and waits for what comes of it.
    pub fn call(&mut self, command: &S::Command) -> Result<Applied<S::Outcome>, ProposeError> {
        let id = self.bench.log.propose(command)?;
        self.settle();
        let mut found = None;
        for event in self.events() {
            if let ReplicatedEvent::Outcome { proposal, result } = event
                && proposal == id
            {
                assert!(found.replace(result).is_none(), "an outcome comes once");
            }
        }
        found.expect("an outcome")
    }
}
