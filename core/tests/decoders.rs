//! SYS-1: no bytes make a decoder panic, hang, or take more memory than a small multiple of their own length. Random bytes, and
//! valid ones changed anywhere, with every checksum made right again: a checksum keeps out accidents, not forgers.

use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use zoolog_core::batch::{Batch, PLACEMENT_BYTES, PlacedBatch, WRITER_BYTES};
use zoolog_core::rng::Rng;
use zoolog_core::snapshot::{Framer, HEADER_BYTES as SNAPSHOT_HEADER_BYTES, PIECE_HEADER_BYTES, Unframer};
use zoolog_core::wal::{MemoryDisk, OnDamage, UNIT, WalConfig, WalRecord, WalSource, audit, recover};
use zoolog_core::wire::{HEADER_BYTES, TABLE, decode, encode_ref};
use zoolog_core::{ClusterId, Gsn, Token};

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: all is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` gives, and the most bytes it held at a time.
fn most_held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    MOST.set(0);
    let done = work();
    (done, MOST.get().max(0) as usize)
}

/// A small multiple of the input's length, and some for what has none.
fn bound(input: usize) -> usize {
    (16 << 10) + 16 * input
}

/// The sample of yesterday: every message and batch by name.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let hex =
        |h: &str| (0..h.len() / 2).map(|i| u8::from_str_radix(&h[2 * i..2 * i + 2], 16).unwrap()).collect();
    let lines = include_str!("golden/bytes.txt").lines();
    lines.map(|l| l.split_once(' ').unwrap()).map(|(name, h)| (name, hex(h))).collect()
}

/// Changes some of it: bits, whole numbers, its length, places.
fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.between(1, 4) {
        let len = bytes.len() as u64;
        let at = rng.below(len.max(1)) as usize;
        match rng.below(7) {
            0 if len > 0 => bytes[at] ^= 1 << rng.below(8),
            1 if len >= 4 => {
                let numbers =
                    [0, 1, 0xff, len as u32, i32::MAX as u32, u32::MAX, u32::MAX - 7, 1 << 31, 1 << 24];
                let number =
                    numbers[rng.below(numbers.len() as u64) as usize].wrapping_add(rng.below(3) as u32);
                let at = at.min(bytes.len() - 4) / 4 * 4;
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            2 => bytes.truncate(at),
            3 => (0..rng.below(40)).for_each(|_| bytes.push(rng.next_u64() as u8)),
            4 if len >= 16 => {
                // One part twice: pointers that lead to the same place.
                let (from, to) = (rng.below(len - 8) as usize, rng.below(len - 8) as usize);
                bytes.copy_within(from..from + 8, to);
            }
            5 if len > 0 => bytes[at..].iter_mut().take(8).for_each(|b| *b = rng.next_u64() as u8),
            _ if len >= 4 => {
                let at = at.min(bytes.len() - 4);
                let was = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                let now = was.wrapping_add(rng.below(64) as u32).wrapping_sub(32);
                bytes[at..at + 4].copy_from_slice(&now.to_le_bytes());
            }
            _ => {}
        }
    }
}

/// A short frame of that kind, right in all but its body.
fn short(kind: u16, body: &[u8]) -> Bytes {
    let body = &body[..body.len().min(255)];
    let mut out = Vec::from([b'Z', b'1', kind as u8, body.len() as u8]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(8), 0);
    out.into()
}

/// A frame of that kind, right in all but its body.
fn frame(kind: u16, body: &[u8], payload: &[u8]) -> Bytes {
    let mut out = Vec::from(*b"ZLM1\x01\x00");
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend_from_slice(&crc.to_le_bytes());
    for part in [body, payload] {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out.into()
}

/// Decodes it, within the bound. What it makes a message of is one: it comes back as it.
fn decodes(bytes: Bytes) -> bool {
    let len = bytes.len();
    let (packet, held) = most_held(|| decode(bytes));
    assert!(held <= bound(len), "{held} bytes held for a frame of {len}: {packet:?}");
    let Ok(packet) = packet else { return false };
    let payload: &[&[u8]] = if packet.payload.is_empty() { &[] } else { &[&packet.payload] };
    let again = decode(encode_ref(&packet.message, payload)).unwrap();
    assert_eq!(again, packet);
    true
}

#[test]
fn no_body_of_any_message_makes_its_decoder_panic_or_take_more_than_its_share() {
    let mut rng = Rng::new(1, "bodies");
    let (mut sound, mut all) = (0, 0);
    for (name, whole) in golden() {
        let Some(&(kind, _)) = TABLE.iter().find(|(_, n)| *n == name) else { continue };
        let is_short = whole.starts_with(b"Z1");
        let good = match is_short {
            true => &whole[8..8 + usize::from(whole[3])],
            false => {
                let body_len = u32::from_le_bytes(whole[8..12].try_into().unwrap()) as usize;
                &whole[HEADER_BYTES..HEADER_BYTES + body_len]
            }
        };
        let framed = |body: &[u8]| if is_short { short(kind, body) } else { frame(kind, body, &[]) };
        assert!(decodes(framed(good)), "{name}");
        assert!(decodes(frame(kind, good, b"payload")) != is_short, "{name}: a kind has one sort of frame");
        assert!(is_short || !decodes(short(kind, good)), "{name}: a kind has one sort of frame");
        for round in 0..400 {
            let mut body = good.to_vec();
            if round % 8 == 0 {
                body = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
            } else {
                change(&mut rng, &mut body);
            }
            (all, sound) = (all + 1, sound + usize::from(decodes(framed(&body))));
        }
    }
    assert!(
        sound > all / 20 && sound < all,
        "{sound} of {all} were messages: changes are too large, or too small"
    );
}

#[test]
fn no_header_of_a_frame_makes_its_decoder_panic_or_wait_for_more_than_the_limit() {
    let mut rng = Rng::new(2, "frames");
    let all = golden();
    for _ in 0..40_000 {
        let (_, whole) = &all[rng.below(all.len() as u64) as usize];
        let mut bytes = whole.clone();
        change(&mut rng, &mut bytes);
        let len = bytes.len();
        if let Ok(Some(wanted)) = zoolog_core::wire::frame_length(&bytes, 1 << 20) {
            assert!(wanted <= 1 << 20);
        }
        let (_, held) = most_held(|| decode(Bytes::from(bytes)).is_ok());
        assert!(held <= bound(len), "{held} bytes held for {len}");
    }
}

/// Makes a batch's checksum right again, if it has one.
fn seal_batch(bytes: &mut [u8]) {
    if bytes.len() >= WRITER_BYTES {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..44]), &bytes[WRITER_BYTES..]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn no_batch_makes_its_decoder_panic_or_take_more_than_its_share() {
    let mut rng = Rng::new(3, "batches");
    let all = golden();
    let good = |name: &str| all.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let mut sound = 0;
    for _ in 0..40_000 {
        let mut bytes = good("batch");
        change(&mut rng, &mut bytes);
        seal_batch(&mut bytes);
        let len = bytes.len();
        let (batch, held) = most_held(|| Batch::check(Bytes::from(bytes)));
        assert!(held <= bound(len), "{held} bytes held for a batch of {len}");
        let Ok(batch) = batch else { continue };
        sound += 1;
        assert_eq!(batch.records().count(), batch.count() as usize);
        assert!(batch.records().map(|r| r.len()).sum::<usize>() <= len);
    }
    assert!(sound > 500, "{sound} were batches");
    for _ in 0..40_000 {
        let mut bytes = good("placed");
        change(&mut rng, &mut bytes);
        if bytes.len() >= PLACEMENT_BYTES + WRITER_BYTES {
            seal_batch(&mut bytes[PLACEMENT_BYTES..]);
            let crc =
                crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), &bytes[PLACEMENT_BYTES + 44..][..4]);
            bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        }
        let (len, mut rest) = (bytes.len(), Bytes::from(bytes));
        let (placed, held) = most_held(|| PlacedBatch::check_next(&mut rest));
        assert!(held <= bound(len), "{held} bytes held for {len}");
        assert_eq!(placed.map_or(0, |p| p.encoded_len()), len - rest.len());
    }
}

/// A log of a few segments.
fn log(cfg: &WalConfig) -> MemoryDisk {
    let mut disk = MemoryDisk::new();
    let (_, mut wal) = recover(&disk, cfg).unwrap();
    let run = |wal: &mut zoolog_core::wal::Wal, disk: &mut MemoryDisk| {
        loop {
            while let Some((number, bytes)) = wal.wants_segment() {
                disk.create(number, bytes);
                wal.segment_ready(number, bytes);
            }
            let Some(plan) = wal.group() else { break };
            let mut buffer = vec![0; plan.len];
            wal.fill(&plan, &mut buffer);
            disk.write(plan.segment, plan.offset, &buffer);
            wal.completed(plan);
        }
    };
    for n in 0..14u64 {
        let data = vec![Bytes::from(vec![n as u8; 40 * (n as usize % 5)])];
        let record = WalRecord { kind: 1, in_index: n % 3 == 0, aux: 7, key1: n, key2: !n, data };
        wal.append(Token(n), vec![record]);
        run(&mut wal, &mut disk);
        if n % 5 == 4 {
            wal.start_segment(Bytes::from_static(b"a checkpoint"));
            run(&mut wal, &mut disk);
        }
    }
    disk
}

/// Changes numbers in the header of a block, or of its first record, and makes the checksums right.
fn forge(rng: &mut Rng, block: &mut [u8]) {
    let absurd = [0, 1, 2, 95, 96, 4096, 8192, 1 << 20, i32::MAX as u32, u32::MAX, u32::MAX - 4095];
    for _ in 0..rng.between(1, 3) {
        let at = rng.below(32) as usize * 4;
        let number = absurd[rng.below(absurd.len() as u64) as usize];
        block[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    seal_block(block);
}

/// Makes the checksums of a block with one record right again.
fn seal_block(block: &mut [u8]) {
    let at = |block: &[u8], at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
    // The record's own checksum: where it lies, its header without it, its data as far as there is any.
    let (segment, offset, len) = (at(block, 64), at(block, 68).wrapping_add(96), at(block, 96) as usize);
    let mut crc = crc32c::crc32c(&segment.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &block[96..108]);
    crc = crc32c::crc32c_append(crc, &block[112..128]);
    crc = crc32c::crc32c_append(crc, &block[128..128 + len.min(block.len() - 128)]);
    block[108..112].copy_from_slice(&crc.to_le_bytes());
    let records = crc32c::crc32c(&block[96..128]);
    block[88..92].copy_from_slice(&records.to_le_bytes());
    let header = crc32c::crc32c(&block[..92]);
    block[92..96].copy_from_slice(&header.to_le_bytes());
}

#[test]
fn no_log_makes_its_reader_panic_or_take_more_than_its_share() {
    let mut rng = Rng::new(4, "logs");
    let mut cfg = WalConfig::new(ClusterId(7), 3, OnDamage::Report);
    (cfg.first_segment_bytes, cfg.segment_bytes) = (8 * UNIT as u32, 12 * UNIT as u32);
    let good = log(&cfg);
    let whole = recover(&good, &cfg).unwrap().0;
    assert!(whole.damage.is_empty() && whole.tail.len() + whole.sealed.len() == 14);
    let segments: Vec<u32> = good.segments().unwrap().iter().map(|s| s.0).collect();
    assert!(segments.len() > 2);
    // Sealing leaves what is right as it is, so what is forged is refused for what it says, not for its checksums.
    let mut resealed = good.clone();
    seal_block(&mut resealed.bytes_mut(1).unwrap()[2 * UNIT..3 * UNIT]);
    assert_eq!(resealed.read_range(1, 0, 4 * UNIT), good.read_range(1, 0, 4 * UNIT));
    let (mut refused, mut opened) = (0, 0);
    for round in 0..3000 {
        let mut disk = good.clone();
        for _ in 0..rng.between(1, 3) {
            let number = segments[rng.below(segments.len() as u64) as usize];
            let bytes = disk.bytes_mut(number).unwrap();
            let unit = rng.below((bytes.len() / UNIT) as u64) as usize * UNIT;
            match round % 4 {
                0 => bytes[unit..unit + UNIT].iter_mut().for_each(|b| *b = rng.next_u64() as u8),
                1 => (0..4).for_each(|_| bytes[unit + rng.below(160) as usize] ^= 1 << rng.below(8)),
                _ => forge(&mut rng, &mut bytes[unit..unit + UNIT]),
            }
        }
        let len: usize = disk.segments().unwrap().iter().map(|s| s.1 as usize).sum();
        for on_damage in [OnDamage::Report, OnDamage::Refuse] {
            cfg.on_damage = on_damage;
            let (found, held) = most_held(|| recover(&disk, &cfg));
            assert!(held <= bound(len), "{held} bytes held for a log of {len}");
            match found {
                Ok((r, _)) => {
                    opened += 1;
                    assert!(r.tail.len() + r.sealed.len() <= 14 * 3, "{} records", r.tail.len());
                }
                Err(e) => {
                    refused += 1;
                    assert!(!e.to_string().is_empty());
                }
            }
        }
        let (_, held) =
            most_held(|| audit(&disk, &cfg, &mut |_| std::ops::ControlFlow::Continue(())).is_ok());
        assert!(held <= bound(len), "{held} bytes held for a look at {len}");
    }
    assert!(refused > 100 && opened > 100, "{refused} refused, {opened} opened");
}

#[test]
fn no_snapshot_file_makes_its_reader_panic_or_take_more_than_its_share() {
    let mut rng = Rng::new(5, "snapshots");
    let mut good = Vec::new();
    let mut framer = Framer::begin(&mut good, ClusterId(77), Gsn(42));
    for n in 0..4u8 {
        framer.piece(&mut good, n == 3, |out| out.extend_from_slice(&[n; 100]));
    }
    let (mut whole, mut broken) = (0, 0);
    for round in 0..20_000 {
        let mut bytes = good.clone();
        if round > 0 {
            change(&mut rng, &mut bytes);
        }
        if bytes.len() > SNAPSHOT_HEADER_BYTES + PIECE_HEADER_BYTES {
            // The header's checksum and the first piece's, over what there is of it.
            let (header, piece) = bytes.split_at_mut(SNAPSHOT_HEADER_BYTES);
            let crc = crc32c::crc32c(&header[..60]);
            header[60..].copy_from_slice(&crc.to_le_bytes());
            let len = u32::from_le_bytes(piece[..4].try_into().unwrap()) as usize;
            let to = (PIECE_HEADER_BYTES + len.min(1 << 20)).min(piece.len());
            let crc = crc32c::crc32c_append(
                crc32c::crc32c_append(crc, &piece[..12]),
                &piece[PIECE_HEADER_BYTES..to],
            );
            piece[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        let len = bytes.len();
        let chunk = rng.between(1, 300) as usize;
        let (read, held) = most_held(|| {
            let mut reader = Unframer::new(ClusterId(77));
            let mut payload = 0;
            for part in bytes.chunks(chunk) {
                reader.push(part, |piece, _| {
                    payload += piece.len();
                    Ok(())
                })?;
            }
            reader.finish().map(|gsn| (gsn, payload))
        });
        assert!(held <= bound(len), "{held} bytes held for a file of {len}");
        match read {
            Ok((_, payload)) => {
                whole += 1;
                assert!(payload <= len);
            }
            Err(_) => broken += 1,
        }
    }
    assert!(whole > 0 && broken > 10_000, "{whole} whole, {broken} broken");
}
