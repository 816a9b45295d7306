//! What does one shard contribute to a range? Its windows: consecutive stretches of the range, several of which are
//! asked for at a time, so that disk, replicas and network work at once. How many positions make a window of
//! about as many bytes as one answer carries is learned from the answers.

use super::super::cx::Cx;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wire::ReadEnd;
use zoolog_core::{Gsn, Instant, LaneId, Lsn};

/// Pause before a window is asked for again, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// Windows of one part, most of them with nothing in them, behind one whose answer doesn't come.
const WINDOWS_MAX: usize = 64;

/// A stretch of the range.
#[derive(Debug)]
struct Window {
    /// All that the shard has in it before this position is in `batches`, or was handed out.
    covers: Gsn,
    to: Gsn,
    batches: VecDeque<(Gsn, PlacedBatch)>,
    bytes: usize,
    asked: Option<u64>,
    retry_at: Instant,
    /// Failures since the last success.
    fails: u32,
}

impl Window {
    fn new(covers: Gsn, to: Gsn) -> Self {
        let (batches, bytes, asked) = (VecDeque::new(), 0, None);
        Self { covers, to, batches, bytes, asked, retry_at: Instant::default(), fails: 0 }
    }
}

/// One shard's share of a range.
#[derive(Debug)]
pub(super) struct Part {
    /// In order, each beginning where the one before ends; the last ends at `planned`.
    windows: VecDeque<Window>,
    planned: Gsn,
    /// Per lane: where its next batch must begin, and the checksum it must refer to.
    chain: BTreeMap<LaneId, (Lsn, u32)>,
    /// Positions that answers have lately covered, per payload byte, times 2^16. Not known at first.
    positions_per_byte: Option<u64>,
    /// Windows begun, and failures, so far: both move the choice of replica on.
    begun: usize,
    failed: usize,
    /// No window is begun before that.
    retry_at: Instant,
}

/// What is to be asked next.
#[derive(Debug)]
pub(super) struct Due {
    pub from: Gsn,
    pub to: Gsn,
    /// Which replica, counted on from the first choice.
    pub choice: usize,
    window: usize,
}

impl Part {
    /// A part of a range from `from` on.
    pub fn new(from: Gsn, now: Instant) -> Self {
        Self {
            windows: VecDeque::new(),
            planned: from,
            chain: BTreeMap::new(),
            positions_per_byte: None,
            begun: 0,
            failed: 0,
            retry_at: now,
        }
    }

    /// All that the shard has before this position is at hand, or was handed out.
    pub fn covers(&self) -> Gsn {
        self.windows.front().map_or(self.planned, |w| w.covers)
    }

    /// Positions of the next batch, (first, end), if it is here.
    pub fn front(&mut self) -> Option<(Gsn, Gsn)> {
        while self.windows.front().is_some_and(|w| w.covers >= w.to && w.batches.is_empty()) {
            self.windows.pop_front();
        }
        let (first, placed) = self.windows.front()?.batches.front()?;
        Some((*first, first.plus(u64::from(placed.batch.count()))))
    }

    /// Takes the next batch; none if it doesn't follow the one before in its lane. Invariant LOG-4.
    pub fn pop(&mut self) -> Option<(Gsn, PlacedBatch)> {
        let window = self.windows.front_mut()?;
        let (first, placed) = window.batches.pop_front()?;
        window.bytes -= placed.encoded_len();
        let place = placed.placement;
        let follows = match self.chain.get(&place.lane) {
            // Where the range was cut its last batch comes a second time.
            Some(&(lsn, crc)) if placed.end_lsn() == lsn && place.crc == crc => true,
            Some(&(lsn, crc)) => place.first_lsn == lsn && place.prev == crc,
            None => true,
        };
        self.chain.insert(place.lane, (placed.end_lsn(), place.crc));
        follows.then_some((first, placed))
    }

    /// What is to be asked next, if something is and there is room for `chunk` bytes more, of `room` in all.
    pub fn due(&mut self, now: Instant, end: Gsn, room: usize, chunk: usize) -> Option<Due> {
        let outstanding = self.windows.iter().filter(|w| w.asked.is_some()).count();
        let used = self.windows.iter().map(|w| w.bytes).sum::<usize>() + outstanding * chunk;
        let ready = |w: &Window| w.asked.is_none() && w.covers < w.to && w.retry_at <= now;
        if let Some(window) = self.windows.iter().position(ready) {
            // What is handed out next has its turn however much waits behind it.
            let urgent = window == 0 && self.windows[0].batches.is_empty();
            return (urgent || used + chunk <= room).then(|| self.question(window));
        }
        // Until it is known how long a window should be, there is one.
        let first = outstanding == 0 && used == 0;
        let more = self.windows.len() < WINDOWS_MAX && used + chunk <= room;
        let may = first || (self.positions_per_byte.is_some() && more);
        if !may || self.planned >= end || self.retry_at > now {
            return None;
        }
        let to = self.window_end(end, chunk);
        self.windows.push_back(Window::new(self.planned, to));
        self.planned = to;
        self.begun = self.begun.wrapping_add(1);
        Some(self.question(self.windows.len() - 1))
    }

    /// What is to be asked next of `from..end`, which lies behind all that was asked before, and of which others have what
    /// lies between.
    pub fn due_in_turn(&mut self, now: Instant, from: Gsn, end: Gsn, chunk: usize) -> Option<Due> {
        if self.questions().next().is_some() {
            return None;
        }
        // What failed before is asked again, unless others have it by now.
        self.windows.iter_mut().filter(|w| w.covers != from).for_each(|w| w.to = w.covers);
        if let Some(window) = self.windows.iter().position(|w| w.covers < w.to) {
            return (self.windows[window].retry_at <= now).then(|| self.question(window));
        }
        if self.retry_at > now {
            return None;
        }
        self.planned = from;
        let to = self.window_end(end, chunk);
        self.windows.push_back(Window::new(from, to));
        self.planned = to;
        self.begun = self.begun.wrapping_add(1);
        Some(self.question(self.windows.len() - 1))
    }

    /// Drops all that it has from `at` on, and is not being asked for: it is asked for again.
    pub fn forget(&mut self, at: Gsn) {
        for window in &mut self.windows {
            let kept = window.batches.partition_point(|(first, _)| *first < at);
            window.bytes -=
                window.batches.drain(kept..).map(|(_, placed)| placed.encoded_len()).sum::<usize>();
            (window.covers, window.to) = (window.covers.min(at), window.to.min(at));
        }
        self.planned = self.planned.min(at);
    }

    fn question(&self, window: usize) -> Due {
        let w = &self.windows[window];
        // Neighbours are asked of different replicas; what failed, of another one than before.
        let index = self.begun.wrapping_sub(self.windows.len() - window);
        Due { from: w.covers, to: w.to, choice: index.wrapping_add(self.failed), window }
    }

    /// Where a window that begins at `planned` should end, before `end`.
    fn window_end(&self, end: Gsn, chunk: usize) -> Gsn {
        self.positions_per_byte.map_or(end, |p| {
            // A little less than fits, since windows differ.
            let positions = (u128::from(p) * (chunk as u128 / 8 * 7)) >> 16;
            let positions = u64::try_from(positions.max(1)).unwrap_or(u64::MAX);
            Gsn(self.planned.0.saturating_add(positions)).min(end)
        })
    }

    /// It was asked.
    pub fn asked(&mut self, due: &Due, request: u64) {
        self.windows[due.window].asked = Some(request);
    }

    /// Questions that are not answered yet.
    pub fn questions(&self) -> impl Iterator<Item = u64> {
        self.windows.iter().filter_map(|w| w.asked)
    }

    fn window(&mut self, request: u64) -> &mut Window {
        let of = self.windows.iter_mut().find(|w| w.asked == Some(request));
        of.expect("a window stays as long as its question")
    }

    /// An answer that was found right: what the shard has of the window before `covers`.
    pub fn answered(&mut self, request: u64, covers: Gsn, batches: Vec<(Gsn, PlacedBatch)>) {
        let window = self.window(request);
        let (positions, before) = (covers.since(window.covers), window.bytes);
        window.covers = covers;
        for (first, placed) in batches {
            window.bytes += placed.encoded_len();
            window.batches.push_back((first, placed));
        }
        let bytes = (window.bytes - before).max(1) as u128;
        if positions > 0 {
            // A stretch without records says little about the next.
            let most = self.positions_per_byte.map_or(u64::MAX, |p| p.saturating_mul(4));
            let per_byte = u64::try_from((u128::from(positions) << 16) / bytes).unwrap_or(u64::MAX);
            self.positions_per_byte = Some(per_byte.clamp(1, most));
        }
    }

    /// The replica could say all that it was asked, or as much as an answer holds.
    pub fn succeeded(&mut self, request: u64, end: ReadEnd) {
        let at = self.windows.iter().position(|w| w.asked == Some(request));
        let at = at.expect("a window stays as long as its question");
        let last = at + 1 == self.windows.len();
        let window = &mut self.windows[at];
        (window.asked, window.fails) = (None, 0);
        if last && end == ReadEnd::More {
            // It ends where its answer did: what is behind is asked for in windows that fit.
            window.to = window.covers;
            self.planned = window.to;
        }
    }

    /// The question was not answered, or not wholly: it is asked again after a while, elsewhere.
    pub fn failed(&mut self, cx: &mut Cx, request: u64) {
        cx.metrics.reread += 1;
        let window = self.window(request);
        let pause = cx.pause(RETRY.0, RETRY.1, window.fails);
        (window.asked, window.retry_at) = (None, cx.now + pause);
        window.fails = window.fails.saturating_add(1);
        self.failed = self.failed.wrapping_add(1);
    }

    /// Forgets all that was not handed out: it is asked for again from `from` on, after a while and elsewhere. The
    /// questions must have been withdrawn.
    pub fn restart(&mut self, cx: &mut Cx, from: Gsn) {
        cx.metrics.reread += 1;
        let pause = cx.pause(RETRY.0, RETRY.1, 0);
        let (begun, failed) = (self.begun, self.failed.wrapping_add(1));
        *self = Self { begun, failed, ..Self::new(from, cx.now + pause) };
    }

    /// When something is to be asked again.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        let windows =
            self.windows.iter().filter(|w| w.asked.is_none() && w.covers < w.to).map(|w| w.retry_at);
        windows.chain([self.retry_at]).filter(|&t| t > now).min()
    }
}
