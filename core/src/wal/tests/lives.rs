//! Whole lives of a log: random work, power cuts at random places, rot anywhere.

use super::*;
use crate::rng::Rng;
use proptest::prelude::{ProptestConfig, any, proptest};
use std::collections::BTreeMap;

/// What a log may and must contain, across crashes.
#[derive(Default)]
struct Model {
    /// Completed, or there when the log was opened: must be there for good, in this order.
    kept: Vec<u64>,
    /// Appended after those: a prefix of it may be there.
    maybe: Vec<u64>,
    lens: BTreeMap<u64, usize>,
    next: u64,
    /// Number of records that each checkpoint stands for.
    checkpoint: Option<u64>,
    incarnation: u64,
}

struct Life {
    rng: Rng,
    model: Model,
}

impl Life {
    fn records(&mut self) -> Vec<(u64, bool, usize)> {
        let n = self.rng.below(5);
        (0..n)
            .map(|_| {
                let key = self.model.next;
                self.model.next += 1;
                let max = [50, 600, 5000, 20_000][self.rng.below(4) as usize];
                let len = self.rng.below(max) as usize;
                self.model.lens.insert(key, len);
                (key, self.rng.chance(30) && len < 700, len)
            })
            .collect()
    }

    /// One incarnation, which ends with a power cut. Gives the disk back.
    fn live(&mut self, mut b: Bench, steps: u64) -> MemoryDisk {
        // Appended, in order; a prefix of it will be found again.
        let mut given: Vec<u64> = Vec::new();
        let (mut plan, mut done) = (None, 0);
        for _ in 0..steps {
            match self.rng.below(10) {
                0..4 => {
                    let records = self.records();
                    given.extend(records.iter().map(|r| r.0));
                    b.append(records);
                }
                4..7 => {
                    if self.rng.chance(80) {
                        b.segments();
                    }
                    if plan.is_none() {
                        plan = b.wal.group();
                        plan.iter().for_each(|p| b.write(p));
                    }
                }
                7..9 => {
                    if let Some(plan) = plan.take() {
                        b.finish(plan);
                        assert_eq!(
                            b.done[done..].iter().map(|d| d.0).collect::<Vec<_>>(),
                            given[done..b.done.len()]
                        );
                        done = b.done.len();
                    }
                }
                _ if b.wal.wants_checkpoint() => {
                    // It stands for all that was appended so far.
                    let covered = (self.model.kept.len() + given.len()) as u64;
                    let mut state = covered.to_le_bytes().to_vec();
                    state.resize(8 + self.rng.below(40_000) as usize, 7);
                    b.wal.start_segment(state.into());
                }
                _ => {
                    if plan.is_none() {
                        plan = b.wal.idle_block();
                        plan.iter().for_each(|p| b.write(p));
                    }
                }
            }
        }
        self.model.kept.extend(&given[..done]);
        self.model.maybe = given.split_off(done);
        b.disk
    }

    /// The process is killed, or the power goes.
    fn crash(&mut self, disk: &mut MemoryDisk, cfg: &WalConfig) {
        if self.rng.chance(70) {
            disk.crash(&mut self.rng);
        }
        self.check(disk, &recover(disk, cfg).unwrap().0);
    }

    fn check(&mut self, disk: &MemoryDisk, r: &Recovered) -> (Vec<u64>, Option<u64>) {
        assert!(r.damage.is_empty(), "a power cut is no damage: {:?}", r.damage);
        assert!(r.incarnation > self.model.incarnation, "{} after {}", r.incarnation, self.model.incarnation);
        let found: Vec<u64> = Bench::keys(&r.sealed).into_iter().chain(Bench::keys(&r.tail)).collect();
        let possible: Vec<u64> = self.model.kept.iter().chain(&self.model.maybe).copied().collect();
        assert!(found.len() >= self.model.kept.len(), "{found:?} lacks some of {:?}", self.model.kept);
        assert_eq!(found, possible[..found.len()], "nothing else, nothing out of order");
        r.sealed.iter().chain(&r.tail).for_each(|e| check_entry(e, |k| self.model.lens.get(&k).copied()));
        assert!(r.tail.iter().all(|e| e.data.is_some()));
        let covered = r.checkpoint.as_ref().map(|s| u64::from_le_bytes(s[..8].try_into().unwrap()));
        assert_eq!(
            covered.unwrap_or(0),
            r.sealed.len() as u64,
            "the checkpoint stands for what is before it"
        );
        assert!(covered >= self.model.checkpoint);
        for e in r.sealed.iter().chain(&r.tail) {
            let (offset, len) = e.pos.range();
            let data = verify_record(e.pos, &disk.read_range(e.pos.segment, offset, len).unwrap()).unwrap();
            assert_eq!(data.len(), self.model.lens[&e.key1]);
        }
        (found, covered)
    }
}

fn whole_life(seed: u64, strict: bool) {
    let mut life = Life { rng: Rng::new(seed, "wal life"), model: Model::default() };
    let mut cfg = WalConfig {
        first_segment_bytes: (4 + life.rng.below(20) as u32) * UNIT as u32,
        segment_bytes: (4 + life.rng.below(60) as u32) * UNIT as u32,
        block_bytes: 1 + life.rng.below(20_000) as u32,
        group_bytes: 1 + life.rng.below(100_000) as u32,
        ..small()
    };
    if strict {
        cfg.on_damage = OnDamage::Refuse;
    }
    let mut disk = MemoryDisk::new();
    for _ in 0..1 + life.rng.below(8) {
        while life.rng.chance(30) {
            // A crash while opening: of the segment that may be needed, and of the open itself.
            let mut wal = recover(&disk, &cfg).unwrap().1;
            if let Some((number, bytes)) = wal.wants_segment() {
                disk.create(number, bytes);
                wal.segment_ready(number, bytes);
            }
            if let Some(plan) = wal.group() {
                let mut buffer = vec![0; plan.len];
                wal.fill(&plan, &mut buffer);
                disk.write(plan.segment, plan.offset, &buffer);
            }
            life.crash(&mut disk, &cfg);
        }
        let b = Bench::on(cfg.clone(), disk).unwrap();
        let (found, covered) = life.check(&b.disk, &b.recovered);
        let incarnation = b.wal.incarnation();
        life.model = Model { kept: found, maybe: vec![], checkpoint: covered, incarnation, ..life.model };
        let steps = life.rng.below(120);
        disk = life.live(b, steps);
        life.crash(&mut disk, &cfg);
    }
}

/// What a killed process wrote and never saw synced is found by the next, which then counts it as durable: it must
/// be, when the power goes after that.
#[test]
fn what_is_found_at_a_start_is_durable_from_then_on() {
    for seed in 0..50 {
        let mut b = Bench::new(small());
        b.put(vec![(1, false, 100)]);
        drop(b.put_unsynced(vec![(2, false, 100)]));
        let mut b = b.reopen();
        assert_eq!(b.tail(), [1, 2]);
        b.disk.crash(&mut Rng::new(seed, "power"));
        assert_eq!(b.reopen().tail(), [1, 2], "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Everything completed is there after any power cut, nothing is invented, order is kept, and of what was
    /// in flight at most a prefix appears; over many incarnations.
    #[test]
    fn what_was_completed_survives_every_power_cut(seed in any::<u64>(), strict in any::<bool>()) {
        whole_life(seed, strict);
    }

    /// SYS-1, LOG-4: one byte that rots anywhere panics nothing, and no record comes back changed.
    #[test]
    fn a_flipped_byte_never_gives_a_wrong_record(seed in any::<u64>(), flips in 1usize..4) {
        let mut rng = Rng::new(seed, "wal rot");
        let (mut b, lens) = a_full_log(&mut rng);
        let clean = recover(&b.disk, &b.cfg).unwrap().0;
        for _ in 0..flips {
            let segments = b.disk.segments().unwrap();
            let (number, bytes) = segments[rng.below(segments.len() as u64) as usize];
            let at = rng.below(bytes) as usize;
            b.disk.bytes_mut(number).unwrap()[at] ^= 1 << rng.below(8);
        }
        let Ok((r, _)) = recover(&b.disk, &b.cfg) else { return Ok(()) };
        check_damaged(&b, &lens, &clean, &r);
    }

    /// SYS-1: whole regions of noise, zeros, or another region's bytes; files cut short.
    #[test]
    fn larger_damage_never_gives_a_wrong_record(seed in any::<u64>()) {
        let mut rng = Rng::new(seed, "wal damage");
        let (mut b, lens) = a_full_log(&mut rng);
        let clean = recover(&b.disk, &b.cfg).unwrap().0;
        for _ in 0..1 + rng.below(3) {
            let segments = b.disk.segments().unwrap();
            let (number, _) = segments[rng.below(segments.len() as u64) as usize];
            let bytes = b.disk.bytes_mut(number).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let at = rng.below(bytes.len() as u64) as usize;
            let len = (rng.below(5 * UNIT as u64) as usize).min(bytes.len() - at);
            match rng.below(5) {
                0 => bytes[at..at + len].fill(0),
                1 => bytes[at..at + len].fill_with(|| rng.next_u64() as u8),
                2 => bytes.copy_within(0..len, at),
                3 => bytes.copy_within(at / UNIT * UNIT..at / UNIT * UNIT + len, 0),
                _ => bytes.truncate(at),
            }
        }
        let Ok((r, _)) = recover(&b.disk, &b.cfg) else { return Ok(()) };
        check_damaged(&b, &lens, &clean, &r);
    }
}

/// A log of a few segments, two opens, all groups known to be synced.
fn a_full_log(rng: &mut Rng) -> (Bench, BTreeMap<u64, usize>) {
    let (mut b, mut lens) = (Bench::new(small()), BTreeMap::new());
    for k in 0..60 {
        let len = rng.below(3000) as usize;
        lens.insert(k, len);
        b.put(vec![(k, k % 4 == 0 && len < 500, len)]);
        if b.wal.wants_checkpoint() && rng.chance(50) {
            b.roll(&k.to_le_bytes());
        }
        if k == 30 {
            b = b.reopen();
        }
    }
    let plan = b.wal.idle_block();
    if let Some(plan) = plan {
        b.write(&plan);
        b.finish(plan);
    }
    (b, lens)
}

/// Whatever came back is right, in order, and what did not is accounted for.
fn check_damaged(b: &Bench, lens: &BTreeMap<u64, usize>, clean: &Recovered, r: &Recovered) {
    let found: Vec<u64> = Bench::keys(&r.sealed).into_iter().chain(Bench::keys(&r.tail)).collect();
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    let place: BTreeMap<u64, WalPos> =
        clean.sealed.iter().chain(&clean.tail).map(|e| (e.key1, e.pos)).collect();
    for e in r.sealed.iter().chain(&r.tail) {
        check_entry(e, |k| lens.get(&k).copied());
        assert_eq!(place[&e.key1], e.pos);
    }
    if found.len() == place.len() {
        return;
    }
    // Without a word only the end of the log can be gone: the blocks behind the last proof.
    let lost: Vec<u64> = place.keys().filter(|k| !found.contains(k)).copied().collect();
    let unsaid: Vec<u64> = lost
        .iter()
        .filter(|k| {
            let p = place[k];
            let covers = |d: &Damage| {
                d.segment == p.segment
                    && d.offset <= p.offset
                    && (p.offset < d.offset + d.bytes || d.bytes == 0)
            };
            let cut = b
                .disk
                .segments()
                .unwrap()
                .iter()
                .any(|s| s.0 == p.segment && s.1 / UNIT as u64 * UNIT as u64 <= u64::from(p.offset));
            let cut = cut && r.damage.iter().any(|d| d.segment == p.segment);
            !cut && !r.damage.iter().any(covers)
        })
        .copied()
        .collect();
    let end = (r.end.0, r.end.1);
    assert!(
        unsaid.iter().all(|k| (place[k].segment, place[k].offset) >= end),
        "lost without a word: {:?}, end {end:?}, damage {:?}",
        unsaid.iter().map(|k| place[k]).collect::<Vec<_>>(),
        r.damage
    );
}
