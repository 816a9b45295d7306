//! Disks that are short of room: writers are told, then refused, by whichever disk of a lane has least; what was taken is
//! committed, reads and trims go on, and with the room the appends come back.

use crate::world::client::*;
use crate::world::*;
use zoolog_core::machine::Input;
use zoolog_core::wal::WalSource;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

fn disk(world: &mut World, n: usize, room: DiskRoom) {
    world.turn(n, vec![Input::DiskSpace { room, free_bytes: 12_345 }]);
    world.settle();
}

/// What a writer heard: rooms, refusals, acknowledged numbers.
fn heard(world: &mut World, c: usize) -> (Vec<DiskRoom>, Vec<(u64, AppendRefusedWhy)>, Vec<u64>) {
    let (mut rooms, mut refused, mut acked) = (Vec::new(), Vec::new(), Vec::new());
    for p in std::mem::take(&mut world.clients[c].inbox) {
        match p.message {
            Message::Room(m) => rooms.push(m.room),
            Message::AppendRefused(m) => refused.push((m.seq.0, m.why)),
            Message::Appended(m) => acked.extend(m.acks.iter().map(|a| a.0.0)),
            other => panic!("a writer got {other:?}"),
        }
    }
    (rooms, refused, acked)
}

fn put(world: &mut World, c: usize, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        world.send(c, append(lane(1, 0), &batch(31, seq, 2, 150)));
    }
    world.settle();
}

#[test]
fn the_least_room_of_all_copies_decides_and_appends_come_back_with_it() {
    use DiskRoom::*;
    // Of the primary, and of the backup.
    for short in [0, 1] {
        let mut world = World::ready(1, &[&[0, 1]], &Bounds::default());
        let c = world.client(0);
        put(&mut world, c, 0..5);
        assert_eq!(heard(&mut world, c), (vec![], vec![], (0..5).collect()));
        disk(&mut world, short, Low);
        put(&mut world, c, 5..8);
        assert_eq!(heard(&mut world, c), (vec![Low], vec![], (5..8).collect()), "a word, and no more");
        disk(&mut world, short, Full);
        put(&mut world, c, 8..12);
        let full = (8, AppendRefusedWhy::DiskFull);
        assert_eq!(heard(&mut world, c), (vec![Full], vec![full], vec![]), "the first, and none behind it");
        // One that was taken before is answered again, a newcomer is told first.
        put(&mut world, c, 3..4);
        assert_eq!(heard(&mut world, c), (vec![], vec![], vec![3]));
        let late = world.client(0);
        world.send(late, append(lane(1, 0), &batch(77, 0, 1, 10)));
        world.settle();
        assert_eq!(heard(&mut world, late), (vec![Full], vec![(0, AppendRefusedWhy::DiskFull)], vec![]));
        for n in 0..2 {
            let (got, covers, end) = world.read(n, 1, Gsn(0), Gsn(16), 1 << 20);
            assert_eq!((got.len(), covers, end), (8, Gsn(16), ReadEnd::Complete), "reads go on");
        }
        assert!(
            world.status(short).contains("\"room\":\"full\",\"free_bytes\":12345"),
            "{}",
            world.status(short)
        );
        disk(&mut world, short, Ample);
        put(&mut world, c, 8..12);
        assert_eq!(heard(&mut world, c), (vec![Ample], vec![], (8..12).collect()));
        assert_eq!(heard(&mut world, late).0, vec![Ample]);
        disk(&mut world, short, Ample);
        assert_eq!(heard(&mut world, c).0, vec![], "no news");
    }
}

/// A backup whose disk is full says so again over a new connection, and one that is gone is not waited for: without it
/// nothing is committed anyway.
#[test]
fn a_backup_says_how_its_disk_is_over_each_connection() {
    let mut world = World::ready(2, &[&[0, 1]], &Bounds::default());
    let c = world.client(0);
    put(&mut world, c, 0..1);
    disk(&mut world, 1, DiskRoom::Full);
    world.crash(0);
    world.start(0);
    world.run(3000);
    let c = world.client(0);
    put(&mut world, c, 1..2);
    assert_eq!(heard(&mut world, c), (vec![DiskRoom::Full], vec![(1, AppendRefusedWhy::DiskFull)], vec![]));
    // It starts anew, and has room now.
    world.crash(1);
    world.start(1);
    world.run(3000);
    assert_eq!(heard(&mut world, c).0, vec![DiskRoom::Ample]);
    put(&mut world, c, 1..2);
    assert_eq!(heard(&mut world, c).2, vec![1]);
}

/// On a full disk nothing is appended, so nothing carries the marks of a trim: they go alone, and the log rolls to give
/// its segments back. Then it is quiet.
#[test]
fn an_idle_or_full_log_gives_back_what_is_trimmed() {
    for full in [false, true] {
        let mut world = World::ready(3, &[&[0, 1]], &tiny());
        let c = world.client(0);
        for i in 0..100 {
            put(&mut world, c, 3 * i..3 * i + 3);
        }
        assert_eq!(heard(&mut world, c).2.len(), 300);
        if full {
            (0..2).for_each(|n| disk(&mut world, n, DiskRoom::Full));
        }
        let segments = |w: &World, n: usize| w.nodes[n].disk.segments().unwrap().len();
        let before: Vec<usize> = (0..2).map(|n| segments(&world, n)).collect();
        assert!(before.iter().all(|s| *s > 6), "{before:?}");
        world.trim(Gsn(500));
        world.run(100);
        for n in 0..2 {
            let (left, before) = (segments(&world, n), before[n]);
            assert!(left <= before / 6 + 6, "{left} of {before} segments left");
            let (got, _, end) = world.read(n, 1, Gsn(500), Gsn(600), 1 << 20);
            assert_eq!((got.len(), end), (50, ReadEnd::Complete));
        }
        let persists: Vec<usize> = world.nodes.iter().map(|n| n.persists.len()).collect();
        world.trim(Gsn(502));
        world.run(10_000);
        let after: Vec<usize> = world.nodes.iter().map(|n| n.persists.len()).collect();
        assert_eq!(persists, after, "what frees no segment writes nothing");
        for n in 0..2 {
            world.crash(n);
            world.start(n);
        }
        world.run(3000);
        let (got, _, end) = world.read(1, 1, Gsn(502), Gsn(600), 1 << 20);
        assert_eq!((got.len(), end), (49, ReadEnd::Complete));
    }
}

/// The leader learns how much lies behind which position, of each lane once, and how the disks are.
#[test]
fn the_leader_hears_what_is_held() {
    let mut world = World::ready(4, &[&[0, 1]], &Bounds::default());
    let c = world.client(0);
    for i in 0..400 {
        put(&mut world, c, i..i + 1);
        if i % 100 == 0 {
            world.run(1100);
        }
    }
    world.run(2200);
    put(&mut world, c, 400..401);
    let said = &world.orderer.said[&slot_id(0)];
    assert!(said.len() < 12, "{} times", said.len());
    let newest =
        said.iter().rev().flat_map(|h| &h.lanes).find(|l| l.lane == lane(1, 0)).expect("its lane").clone();
    assert!(newest.from.len() > 3 && newest.from.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{newest:?}");
    let (first, bytes) = newest.from[0];
    let really = (802 - first.0) * 150;
    assert!(bytes <= really * 3 / 2 && bytes > really / 2, "{bytes} bytes from {first} on");
    assert!(!world.orderer.said.contains_key(&slot_id(1)), "it is primary of nothing that holds something");
    disk(&mut world, 1, DiskRoom::Low);
    let told = world.orderer.said[&slot_id(1)].last().unwrap();
    assert_eq!((told.room, told.free_bytes), (DiskRoom::Low, 12_345));
    // Another leader, or the same anew: all of it again.
    world.crash(0);
    world.start(0);
    world.run(4000);
    let again = world.orderer.said[&slot_id(0)].iter().rev().flat_map(|h| &h.lanes).next().unwrap();
    assert_eq!(again.lane, lane(1, 0));
    assert!(again.from.last().unwrap().0 >= newest.from.last().unwrap().0);
}
