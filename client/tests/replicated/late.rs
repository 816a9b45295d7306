//! A log that delivers before it says which cluster's it is, as the sharded one does while its writer has no place yet.

use crate::bench::{Event, config};
use crate::disk::{Bench, tiny};
use crate::{Ledger, enter};
use bytes::Bytes;
use zoolog_client::replicated::{Replicated, ReplicatedEvent, Restored};
use zoolog_client::{AppendError, LocalLog, LogCommand, LogEvent, RequestId, SharedLog};
use zoolog_core::wal::MemoryDisk;
use zoolog_core::{Gsn, Input, Instant, Machine, Output, Seq, WriterId};

struct Late {
    log: LocalLog,
    held: Option<Output<LogEvent>>,
    may_say: bool,
}

impl Machine for Late {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, now: Instant, input: Input<LogCommand>) {
        // Nobody here commands anything: it stands for the cluster's answer.
        self.may_say |= matches!(input, Input::Timer);
        self.log.handle(now, input);
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        if self.may_say && self.held.is_some() {
            return self.held.take();
        }
        match self.log.poll_output(now)? {
            ready @ Output::Event(LogEvent::Ready { .. }) => {
                self.held = Some(ready);
                self.poll_output(now)
            }
            other => Some(other),
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.log.next_deadline()
    }

    fn checkpoint(&self) -> Bytes {
        self.log.checkpoint()
    }
}

impl SharedLog for Late {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        self.log.append(record)
    }
    fn writer(&self) -> WriterId {
        self.log.writer()
    }
    fn pending_batches(&self) -> usize {
        self.log.pending_batches()
    }
    fn has_room(&self) -> bool {
        self.log.has_room()
    }
    fn subscribe(&mut self, from: Gsn) {
        self.log.subscribe(from);
    }
    fn read(&mut self, from: Gsn, to: Gsn, max_bytes: usize) -> RequestId {
        self.log.read(from, to, max_bytes)
    }
    fn tail(&mut self) -> RequestId {
        self.log.tail()
    }
    fn trim(&mut self, gsn: Gsn) -> RequestId {
        self.log.trim(gsn)
    }
    fn release(&mut self, upto: Gsn) {
        self.log.release(upto);
    }
    fn base_gsn(&self) -> Gsn {
        self.log.base_gsn()
    }
}

/// Found by the simulator: a snapshot was taken under cluster 0, and refused by the next start as another cluster's.
#[test]
fn no_snapshot_is_taken_before_it_is_known_whose_it_is() {
    let mut bench = Bench::open_with(MemoryDisk::new(), Instant(1), |recovered| {
        let log = Late { log: LocalLog::new(tiny(), recovered, 1)?, held: None, may_say: false };
        Ok(Replicated::<Ledger, _>::new(config(), log, Restored::default()))
    })
    .expect("an empty disk");
    for n in 0..30 {
        bench.log.propose(&enter(n)).expect("room");
        bench.settle();
    }
    bench.log.snapshot();
    bench.settle();
    let is_said = |e: &Event<Ledger>| matches!(e, ReplicatedEvent::Cluster { .. });
    assert!(!bench.events.iter().any(is_said) && bench.log.applied() == Gsn(30));
    assert_eq!(bench.pieces.len(), 0, "not yet");
    bench.turn(Some(Input::Timer));
    assert!(bench.events.iter().any(is_said));
    assert_eq!(bench.pieces.len(), 1, "now it may");
}
