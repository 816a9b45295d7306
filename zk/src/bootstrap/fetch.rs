//! How does a node get another's snapshot? It asks who offers one, takes the newest, several pieces at a time; each goes
//! to the disk and into a state that nobody sees before it is whole. Whatever breaks, it goes on with the next offer, where
//! it was if that is the same file, and asks anew when there is none left: for ever, with pauses, and says so.

use super::PIECE_BYTES_MAX;
use super::pace::Pace;
use crate::snapshot::Loader;
use crate::state::State;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::wire::{
    self, Hello, Message, OfferAt, Packet, Role, SnapshotAt, SnapshotIs, SnapshotWanted,
};
use zoolog_core::{ClusterId, ConnId, Gsn, Incarnation, Instant};

/// Set in the numbers of its connections, so that the log client's are others.
const OURS: u64 = 1 << 62;
/// How long a dial may take.
const DIAL_TIME: Duration = Duration::from_secs(3);
/// How long the other may look for a snapshot: it reads it as a whole first.
const FIND_TIME: Duration = Duration::from_secs(120);
/// How long a piece may take.
const PIECE_TIME: Duration = Duration::from_secs(10);
/// Pause before all are asked again; it doubles up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause after the disk would not take it.
const DISK_PAUSE: Duration = Duration::from_secs(10);
/// A person is told again after so many rounds.
const TELL_EVERY: u32 = 12;
/// Longest address that is dialled.
const ADDR_BYTES_MAX: usize = 256;
/// Longest file that is begun.
const FILE_BYTES_MAX: u64 = 1 << 44;

/// Settings of a [`Fetch`].
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Bytes taken per second; 0: as many as there are.
    pub bytes_per_s: u64,
    /// Bytes of a piece.
    pub piece_bytes: u32,
    /// Pieces that are asked for or wait for the disk.
    pub window: usize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { bytes_per_s: 256 << 20, piece_bytes: 512 << 10, window: 4 }
    }
}

/// What a [`Fetch`] wants done.
#[derive(Debug)]
pub enum Act {
    /// Ask the log who offers snapshots; [`Fetch::offers`] gets the answer.
    FindOffers,
    /// Connect.
    Dial {
        /// Under this number.
        conn: ConnId,
        /// Where to.
        addr: String,
    },
    /// Send.
    Send {
        /// Over which connection.
        conn: ConnId,
        /// What.
        bytes: Bytes,
    },
    /// End a connection.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Append a piece to the snapshot's file; [`Fetch::saved`] gets the answer.
    Save {
        /// Its position.
        gsn: Gsn,
        /// The piece.
        bytes: Bytes,
        /// Whether it is the last.
        last: bool,
    },
    /// What was saved of it is of no use. Finished ones go too, if so.
    Drop {
        /// Whether they do.
        finished: bool,
    },
    /// Tell a person.
    Note(String),
    /// Nobody has a snapshot, and nobody needs one: the log is whole.
    FromLog,
    /// The state, as of a snapshot that is on this node's disk now; and bytes of that.
    Done(Box<State>, u64),
}

/// A file that is being got.
#[derive(Debug)]
struct Part {
    of: SnapshotAt,
    /// `None` behind the last piece.
    loader: Option<Loader>,
    /// Its bytes so far, and of which that is the checksum.
    received: u64,
    crc: u32,
    /// Received, and not given to the disk.
    waiting: VecDeque<Bytes>,
    /// All of it, once it was loaded.
    state: Option<Box<State>>,
}

#[derive(Debug)]
enum Stage {
    Off,
    /// Until then, all are left alone.
    Pausing {
        until: Instant,
    },
    /// The log was asked.
    Asking,
    Dialing {
        conn: ConnId,
        since: Instant,
    },
    /// The other was asked which it has.
    Choosing {
        conn: ConnId,
        since: Instant,
    },
    /// Pieces come. Asked for up to there, so many of them not here.
    Taking {
        conn: ConnId,
        heard_at: Instant,
        asked: u64,
        under_way: usize,
    },
    /// All have come; the disk takes them.
    Saving,
}

/// Gets a snapshot. How: at the head of `bootstrap`.
#[derive(Debug)]
pub struct Fetch {
    cfg: FetchConfig,
    cluster: ClusterId,
    /// Whose offers are its own.
    name: String,
    stage: Stage,
    /// A snapshot from before that leads nowhere.
    least: Gsn,
    /// Snapshots of its own that are finished go when another begins to come.
    drops_own: bool,
    /// Who is to be asked next, in this round.
    offers: VecDeque<OfferAt>,
    /// Who is being asked.
    from: String,
    part: Option<Part>,
    /// The disk has a piece: of the file that is being got, or of another.
    saving: Option<bool>,
    pace: Pace,
    /// Rounds since a piece came.
    rounds: u32,
    /// Somebody has given something in this round.
    heard: bool,
    conns: u64,
    requests: u64,
    acts: VecDeque<Act>,
}

impl Fetch {
    /// One that has nothing to do. `name` is what this node offers its own snapshots under.
    pub fn new(cfg: FetchConfig, cluster: ClusterId, name: String) -> Self {
        let cfg = FetchConfig {
            piece_bytes: cfg.piece_bytes.clamp(1, PIECE_BYTES_MAX),
            window: cfg.window.clamp(1, 8),
            ..cfg
        };
        Self {
            pace: Pace::new(cfg.bytes_per_s),
            cfg,
            cluster,
            name,
            stage: Stage::Off,
            least: Gsn(0),
            drops_own: false,
            offers: VecDeque::new(),
            from: String::new(),
            part: None,
            saving: None,
            rounds: 0,
            heard: false,
            conns: 0,
            requests: 0,
            acts: VecDeque::new(),
        }
    }

    /// Begins: a snapshot of `least` or later is wanted. `drops_own`: those that this node has are good for nothing.
    /// `saving`: the disk has a piece of another, whose answer is to come.
    ///
    /// # Panics
    /// When it has begun.
    pub fn begin(&mut self, now: Instant, cluster: ClusterId, least: Gsn, drops_own: bool, saving: bool) {
        assert!(!self.is_on(), "one at a time");
        (self.cluster, self.least, self.drops_own, self.rounds) = (cluster, least, drops_own, 0);
        self.saving = saving.then_some(false);
        self.stage = Stage::Pausing { until: now };
        self.tick(now);
    }

    /// Whether it is at work.
    pub fn is_on(&self) -> bool {
        !matches!(self.stage, Stage::Off)
    }

    /// Whether the disk has a piece whose answer is to come.
    pub fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Snapshots of its own are good for nothing, as turns out now.
    pub fn drops_own(&mut self) {
        self.drops_own = true;
    }

    /// Whether that connection is one of its own, now or before.
    pub const fn owns(conn: ConnId) -> bool {
        conn.is_dialled() && conn.0 & OURS != 0
    }

    /// Bytes of the file that have come, and bytes of all of it; none before one was chosen.
    pub fn progress(&self) -> (u64, u64) {
        self.part.as_ref().map_or((0, 0), |p| (p.received, p.of.bytes))
    }

    /// Pieces in memory, or on their way.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let under_way = if let Stage::Taking { under_way, .. } = self.stage { under_way } else { 0 };
        under_way + self.part.as_ref().map_or(0, |p| p.waiting.len())
    }

    /// What it wants done next.
    pub fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    fn note(&mut self, text: String) {
        self.acts.push_back(Act::Note(text));
    }

    fn conn(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Dialing { conn, .. } | Stage::Choosing { conn, .. } | Stage::Taking { conn, .. } => {
                Some(conn)
            }
            Stage::Off | Stage::Pausing { .. } | Stage::Asking | Stage::Saving => None,
        }
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Who offers what, and what can't be read of the log any more.
    pub fn offers(&mut self, now: Instant, trim: Gsn, offers: Vec<OfferAt>) {
        if !matches!(self.stage, Stage::Asking) {
            return;
        }
        self.least = self.least.max(trim);
        let mut offers: Vec<OfferAt> = offers
            .into_iter()
            .filter(|o| o.gsn >= self.least && (o.name != self.name || self.name.is_empty()))
            .filter(|o| !o.addr.is_empty() && o.addr.len() <= ADDR_BYTES_MAX)
            .collect();
        if offers.is_empty() && self.least == Gsn(0) {
            self.stage = Stage::Off;
            self.leave_own();
            self.drop_part();
            return self.acts.push_back(Act::FromLog);
        }
        // The one that was begun, then the newest: the most of the log is spared.
        let begun = self.part.as_ref().map(|p| p.of.gsn);
        offers.sort_by_key(|o| (Some(o.gsn) != begun, std::cmp::Reverse(o.gsn)));
        self.offers = offers.into();
        self.next(now);
    }

    /// The next offer; when there is none, a pause.
    fn next(&mut self, now: Instant) {
        if let Some(conn) = self.conn() {
            self.acts.push_back(Act::Close { conn });
        }
        let Some(offer) = self.offers.pop_front() else {
            if self.tells() && !self.heard {
                self.note(format!(
                    "no other ZooKeeper node gives a snapshot of {} or later yet: asking again until one does",
                    self.least
                ));
            }
            let pause = PAUSE.0.saturating_mul(1 << self.rounds.min(10)).min(PAUSE.1);
            self.rounds += 1;
            self.stage = Stage::Pausing { until: now + pause };
            return;
        };
        self.conns += 1;
        let conn = ConnId::dialled(OURS | self.conns);
        self.from = if offer.name.is_empty() { offer.addr.clone() } else { offer.name };
        self.acts.push_back(Act::Dial { conn, addr: offer.addr });
        self.stage = Stage::Dialing { conn, since: now };
    }

    /// Whether a person is told in this round.
    fn tells(&self) -> bool {
        self.rounds.is_multiple_of(TELL_EVERY)
    }

    fn give_up(&mut self, now: Instant, why: &str) {
        if self.tells() {
            self.note(format!("{} gives no snapshot: {why}", self.from));
        }
        self.next(now);
    }

    /// A connection is up.
    pub fn connected(&mut self, now: Instant, conn: ConnId) {
        if !matches!(self.stage, Stage::Dialing { conn: ours, .. } if ours == conn) {
            return;
        }
        let (role, cluster, incarnation) = (Role::Client, self.cluster, Incarnation(0));
        let hello = wire::encode(Hello { role, cluster, node: 0, slot: 0, incarnation });
        let (request, which) = (self.request(), self.part.as_ref().map(|p| p.of));
        let wanted = wire::encode(SnapshotWanted { request, which, from: 0, bytes: 0 });
        self.acts.push_back(Act::Send { conn, bytes: hello });
        self.acts.push_back(Act::Send { conn, bytes: wanted });
        self.stage = Stage::Choosing { conn, since: now };
    }

    /// A connection has ended.
    pub fn closed(&mut self, now: Instant, conn: ConnId) {
        if self.conn() == Some(conn) {
            self.next(now);
        }
    }

    /// A frame has come.
    pub fn frame(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        if self.conn() != Some(conn) {
            return;
        }
        match wire::decode(bytes) {
            Ok(Packet { message: Message::SnapshotIs(m), payload }) => match self.stage {
                Stage::Choosing { .. } => self.chosen(now, conn, &m),
                Stage::Taking { .. } => self.piece(now, &m, payload),
                _ => self.give_up(now, "it answers what it was not asked"),
            },
            Ok(Packet { message: Message::Refused(m), .. }) => self.give_up(now, &m.text),
            Ok(other) => {
                let text = format!("it says {}", other.message.name());
                self.give_up(now, &text);
            }
            Err(e) => self.give_up(now, &e.to_string()),
        }
    }

    /// The other says which snapshot it has.
    fn chosen(&mut self, now: Instant, conn: ConnId, m: &SnapshotIs) {
        let fits = |at: &SnapshotAt| at.gsn >= self.least && (1..=FILE_BYTES_MAX).contains(&at.bytes);
        let Some(of) = m.which.filter(fits) else {
            return self.give_up(now, "it has none that is new enough");
        };
        let again = self.part.as_ref().is_some_and(|p| p.of == of);
        let from = match &self.part {
            Some(part) if again => part.received,
            _ => {
                self.drop_part();
                let loader = Some(Loader::new(self.cluster));
                let (received, crc, waiting, state) = (0, 0, VecDeque::new(), None);
                self.part = Some(Part { of, loader, received, crc, waiting, state });
                0
            }
        };
        let go = if again { format!("goes on at byte {from}") } else { "begins".into() };
        self.note(format!("the snapshot at {}, {} bytes, {go}: from {}", of.gsn, of.bytes, self.from));
        self.stage = Stage::Taking { conn, heard_at: now, asked: from, under_way: 0 };
        self.go_on(now);
    }

    /// What was begun is not gone on with.
    fn drop_part(&mut self) {
        if self.part.take().is_some() {
            self.saving = self.saving.map(|_| false);
            self.acts.push_back(Act::Drop { finished: false });
        }
    }

    /// Own snapshots go, if they are good for nothing: now, as another comes in their place.
    fn leave_own(&mut self) {
        if std::mem::take(&mut self.drops_own) {
            self.acts.push_back(Act::Drop { finished: true });
        }
    }

    /// A piece has come.
    fn piece(&mut self, now: Instant, m: &SnapshotIs, bytes: Bytes) {
        let part = self.part.as_mut().expect("pieces of one come");
        let Stage::Taking { heard_at, under_way, .. } = &mut self.stage else { return };
        let rest = part.of.bytes - part.received;
        let wrong = if m.which.is_none() {
            Some("it has it no more")
        } else if m.which != Some(part.of) || m.from != part.received || *under_way == 0 {
            Some("it sends what it was not asked for")
        } else if bytes.len() as u64 != rest.min(self.cfg.piece_bytes.into()) {
            Some("it sends less, or more, than it was asked for")
        } else if crc32c::crc32c(&bytes) != m.crc {
            Some("a piece arrived damaged")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return self.give_up(now, wrong);
        }
        (*heard_at, *under_way) = (now, *under_way - 1);
        part.received += bytes.len() as u64;
        part.crc = crc32c::crc32c_append(part.crc, &bytes);
        part.waiting.push_back(bytes);
        let whole = part.received == part.of.bytes;
        if whole {
            let conn = self.conn().expect("it came over one");
            self.acts.push_back(Act::Close { conn });
            self.stage = Stage::Saving;
        }
        (self.rounds, self.heard) = (0, true);
        self.go_on(now);
    }

    /// The answer to an [`Act::Save`], or to what the disk had before.
    pub fn saved(&mut self, now: Instant, last: bool, result: Result<(), String>) {
        let ours = self.saving.take().expect("the disk had a piece");
        match result {
            Err(why) if ours => {
                self.note(format!(
                    "another's snapshot can't be saved: {why}; trying again in {DISK_PAUSE:?}"
                ));
                self.part = None; // its file is gone
                if let Some(conn) = self.conn() {
                    self.acts.push_back(Act::Close { conn });
                }
                self.offers.clear();
                self.stage = Stage::Pausing { until: now + DISK_PAUSE };
            }
            Ok(()) if ours && last => {
                let part = self.part.take().expect("it was saved");
                self.stage = Stage::Off;
                self.offers.clear();
                let state = part.state.expect("loaded before its last piece was given away");
                self.acts.push_back(Act::Done(state, part.of.bytes));
            }
            _ => self.go_on(now),
        }
    }

    /// Gives the disk the next piece, and asks for more.
    fn go_on(&mut self, now: Instant) {
        if self.saving.is_none() && self.part.as_ref().is_some_and(|p| !p.waiting.is_empty()) {
            match self.load() {
                Ok((gsn, bytes, last)) => {
                    self.leave_own();
                    self.saving = Some(true);
                    self.acts.push_back(Act::Save { gsn, bytes, last });
                }
                Err(why) => {
                    self.drop_part();
                    return self.give_up(now, &why);
                }
            }
        }
        let Stage::Taking { conn, asked, under_way, heard_at } = self.stage else { return };
        let part = self.part.as_ref().expect("pieces of one come");
        let (of, mut asked, mut under_way, before) = (part.of, asked, under_way, under_way);
        let waiting = part.waiting.len();
        while asked < of.bytes
            && under_way + waiting < self.cfg.window
            && self.pace.waits_until(now).is_none()
        {
            let bytes = (of.bytes - asked).min(self.cfg.piece_bytes.into()) as u32;
            let request = self.request();
            let wanted = SnapshotWanted { request, which: Some(of), from: asked, bytes };
            self.acts.push_back(Act::Send { conn, bytes: wire::encode(wanted) });
            self.pace.spend(now, bytes);
            (asked, under_way) = (asked + u64::from(bytes), under_way + 1);
        }
        // Nobody is late with what was not asked for.
        let heard_at = if before == 0 { now } else { heard_at };
        self.stage = Stage::Taking { conn, heard_at, asked, under_way };
    }

    /// Loads the piece that is to be given to the disk: what makes no sense is not written.
    fn load(&mut self) -> Result<(Gsn, Bytes, bool), String> {
        let part = self.part.as_mut().expect("there is a piece of one");
        let bytes = part.waiting.pop_front().expect("looked at");
        let bad = |why: &dyn std::fmt::Display| format!("its snapshot at {} is bad: {why}", part.of.gsn);
        let mut loader = part.loader.take().expect("until the last piece");
        loader.push(&bytes).map_err(|e| bad(&e))?;
        let last = part.received == part.of.bytes && part.waiting.is_empty();
        if last {
            if part.crc != part.of.crc {
                return Err(bad(&"its bytes are not those that were announced"));
            }
            let state = loader.finish().map_err(|e| bad(&e))?;
            if state.applied() != part.of.gsn {
                return Err(bad(&format!("it is of {}", state.applied())));
            }
            part.state = Some(Box::new(state));
        } else {
            part.loader = Some(loader);
        }
        Ok((part.of.gsn, bytes, last))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        match self.stage {
            Stage::Pausing { until } if until <= now => {
                (self.stage, self.heard) = (Stage::Asking, false);
                self.acts.push_back(Act::FindOffers);
            }
            Stage::Dialing { since, .. } if since + DIAL_TIME <= now => {
                self.give_up(now, "it can't be reached");
            }
            Stage::Choosing { since, .. } if since + FIND_TIME <= now => {
                self.give_up(now, "it doesn't say which it has");
            }
            Stage::Taking { heard_at, under_way, .. } if under_way > 0 && heard_at + PIECE_TIME <= now => {
                self.give_up(now, "no piece has come for a while");
            }
            Stage::Taking { .. } => self.go_on(now),
            _ => {}
        }
    }

    /// When [`Fetch::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Off | Stage::Asking | Stage::Saving => None,
            Stage::Pausing { until } => Some(until),
            Stage::Dialing { since, .. } => Some(since + DIAL_TIME),
            Stage::Choosing { since, .. } => Some(since + FIND_TIME),
            Stage::Taking { heard_at, under_way, asked, .. } => {
                let late = (under_way > 0).then_some(heard_at + PIECE_TIME);
                let part = self.part.as_ref()?;
                let more = asked < part.of.bytes && under_way + part.waiting.len() < self.cfg.window;
                let pace = if more { self.pace.waits_until(Instant(0)) } else { None };
                [late, pace].into_iter().flatten().min()
            }
        }
    }
}
