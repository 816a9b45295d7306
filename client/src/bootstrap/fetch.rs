//! How does a node get another's snapshot? It asks who offers one, takes the newest, several pieces at a time; each goes
//! into a state that nobody sees before it is whole, as it comes, and to the disk as fast as that takes it. Whatever breaks, it
//! goes on with the next offer, where it was if that is the same file, and asks anew when there is none left: for ever, with
//! pauses, and says so. Where the log could be played instead, it does so only for one that is clearly cheaper, and not for ever.

use super::begun::Begun;
use super::cheaper;
use super::pace::Pace;
use super::{PIECE_BYTES_MAX, Progress};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::snapshot::SnapshotError;
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
/// How long the log may look for who offers some, and how long another for its snapshot, where the log could be played instead.
const LOOK_TIMES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));
/// So many rounds without a piece, and the log is played instead of going on with what was begun.
const LOG_ROUNDS: u32 = 3;
/// Longest address that is dialled.
const ADDR_BYTES_MAX: usize = 256;
/// Longest file that is begun.
const FILE_BYTES_MAX: u64 = 1 << 44;

/// Makes a state of the bytes of a snapshot's file, however they are cut.
pub trait Load {
    /// What comes of it.
    type State;

    /// Of a snapshot of that cluster; of that structure, if there are several kinds.
    fn begin(cluster: ClusterId, structure: &str) -> Self;

    /// The next bytes.
    ///
    /// # Errors
    /// When the snapshot can't be used. Nothing more is pushed then.
    fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError>;

    /// All bytes are in: the position of the snapshot, and the state.
    ///
    /// # Errors
    /// When the file was not whole, or is not what it was when it was written.
    fn finish(self) -> Result<(Gsn, Self::State), SnapshotError>;
}

/// Settings of a [`Fetch`].
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Bytes taken per second; 0: as many as there are.
    pub bytes_per_s: u64,
    /// Bytes of a piece.
    pub piece_bytes: u32,
    /// Pieces that are asked for or wait for the disk.
    pub window: usize,
    /// Bytes of log that a node which begins rather plays than gets another's snapshot: `cheaper` says how they are estimated.
    /// 0: however many.
    pub log_bytes: u64,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { bytes_per_s: 512 << 20, piece_bytes: 512 << 10, window: 8, log_bytes: 64 << 20 }
    }
}

/// What a [`Fetch`] wants done.
#[derive(Debug)]
pub enum Act<T> {
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
        /// Which.
        of: SnapshotAt,
        /// Where the piece begins.
        from: u64,
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
    /// Nobody has a snapshot, or one that would be cheaper, and nobody needs one: the log is whole.
    FromLog,
    /// The state, as of a snapshot that is on this node's disk now; and bytes of that.
    Done(T, u64),
}

/// A file that is being got.
#[derive(Debug)]
struct Part<L: Load> {
    of: SnapshotAt,
    /// `None` behind the last piece.
    loader: Option<L>,
    /// Its bytes so far, and of which that is the checksum. All of them are loaded.
    received: u64,
    crc: u32,
    /// Bytes that were given to the disk.
    given: u64,
    /// Received, and not given to the disk.
    waiting: VecDeque<Bytes>,
    /// All of it, once the last piece has come.
    state: Option<L::State>,
}

impl<L: Load> Part<L> {
    fn new(begun: Begun<L>) -> Self {
        let Begun { of, loader, bytes, crc } = begun;
        let (waiting, state) = (VecDeque::new(), None);
        Self { of, loader: Some(loader), received: bytes, crc, given: bytes, waiting, state }
    }

    /// Loads the next piece: what makes no sense is not written.
    fn load(&mut self, bytes: &[u8]) -> Result<(), String> {
        let loader = self.loader.as_mut().expect("until the last piece");
        loader.push(bytes).map_err(|e| e.to_string())?;
        self.received += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        if self.received < self.of.bytes {
            return Ok(());
        }
        if self.crc != self.of.crc {
            return Err("its bytes are not those that were announced".into());
        }
        let (gsn, state) = self.loader.take().expect("just there").finish().map_err(|e| e.to_string())?;
        if gsn != self.of.gsn {
            return Err(format!("it is of {gsn}"));
        }
        self.state = Some(state);
        Ok(())
    }
}

#[derive(Debug)]
enum Stage {
    Off,
    /// Until then, all are left alone.
    Pausing {
        until: Instant,
    },
    /// The log was asked.
    Asking {
        since: Instant,
    },
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

/// What the name of a node says of whose node it is.
fn structure_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(structure, _)| structure)
}

/// Gets a snapshot. How: at the head of `bootstrap`.
#[derive(Debug)]
pub struct Fetch<L: Load> {
    cfg: FetchConfig,
    cluster: ClusterId,
    /// Whose offers are its own.
    name: String,
    /// Whose offers are of the same structure: what their names have before a `/`; empty if they have none.
    structure: String,
    stage: Stage,
    /// A snapshot from before that leads nowhere.
    least: Gsn,
    /// The log could be played instead, from there on.
    instead: Option<Gsn>,
    /// Snapshots of its own that are finished go when another begins to come.
    drops_own: bool,
    /// Who is to be asked next, in this round.
    offers: VecDeque<OfferAt>,
    /// Who is being asked.
    from: String,
    part: Option<Part<L>>,
    /// The disk has a piece: of the file that is being got, or of another.
    saving: Option<bool>,
    pace: Pace,
    /// Rounds since a piece came.
    rounds: u32,
    /// Somebody has given something in this round.
    heard: bool,
    /// Since when it comes over this connection, and how much had come before.
    began: (Instant, u64),
    /// What there is to be told of it.
    progress: Progress,
    conns: u64,
    requests: u64,
    acts: VecDeque<Act<L::State>>,
}

impl<L: Load> Fetch<L> {
    /// One that has nothing to do. `name` is what this node offers its own snapshots under, `STRUCTURE/NODE` or what has no
    /// `/`.
    pub fn new(cfg: FetchConfig, cluster: ClusterId, name: String) -> Self {
        let structure = structure_of(&name).to_string();
        let cfg = FetchConfig {
            piece_bytes: cfg.piece_bytes.clamp(1, PIECE_BYTES_MAX),
            window: cfg.window.clamp(1, 16),
            ..cfg
        };
        let progress = Progress { limit_bytes_per_s: cfg.bytes_per_s, ..Progress::default() };
        Self {
            pace: Pace::new(cfg.bytes_per_s),
            cfg,
            cluster,
            name,
            structure,
            stage: Stage::Off,
            least: Gsn(0),
            instead: None,
            drops_own: false,
            offers: VecDeque::new(),
            from: String::new(),
            part: None,
            saving: None,
            rounds: 0,
            heard: false,
            began: (Instant(0), 0),
            progress,
            conns: 0,
            requests: 0,
            acts: VecDeque::new(),
        }
    }

    /// An earlier life has begun with that one.
    pub fn has_begun(&mut self, begun: Begun<L>) {
        assert!(!self.is_on() && self.part.is_none(), "before all else");
        self.part = Some(Part::new(begun));
    }

    /// Begins: a snapshot of `least` or later is wanted. `drops_own`: those that this node has are good for nothing.
    /// `saving`: the disk has a piece of another, whose answer is to come. If it is at work already, only for one that is
    /// cheaper than the log, it is from now on for one that must be.
    ///
    /// # Panics
    /// When it has begun with one that must be.
    pub fn begin(&mut self, now: Instant, cluster: ClusterId, least: Gsn, drops_own: bool, saving: bool) {
        assert!(self.is_optional() || !self.is_on(), "one at a time");
        self.leave_conn();
        self.offers.clear();
        (self.cluster, self.least, self.instead, self.rounds) = (cluster, least, None, 0);
        if saving {
            assert!(self.saving.is_none(), "the disk has one piece");
            self.saving = Some(false);
        }
        self.drops_own = drops_own;
        let part = self.part.as_ref();
        if part.is_some_and(|p| drops_own || p.of.gsn < least) {
            self.drop_part();
        }
        if self.part.as_ref().is_some_and(|p| p.state.is_some()) {
            self.stage = Stage::Saving;
            return;
        }
        self.stage = Stage::Pausing { until: now };
        self.tick(now);
    }

    /// Begins, if that is wanted at all: a snapshot is wanted if it is cheaper than to play the log from `have` on.
    pub fn look(&mut self, now: Instant, cluster: ClusterId, have: Gsn) {
        assert!(!self.is_on(), "one at a time");
        if self.cfg.log_bytes > 0 {
            (self.cluster, self.least, self.rounds) = (cluster, have, 0);
            self.instead = Some(have);
            self.stage = Stage::Pausing { until: now };
            self.tick(now);
        }
    }

    /// Whether it is at work, and the log could be played instead.
    pub fn is_optional(&self) -> bool {
        self.is_on() && self.instead.is_some()
    }

    /// Nobody needs what an earlier life has begun with.
    pub fn forget(&mut self) {
        if !self.is_on() {
            self.drop_part();
        }
    }

    /// Whether something of another's snapshot is here.
    pub const fn has_part(&self) -> bool {
        self.part.is_some()
    }

    /// Whether it is at work.
    pub fn is_on(&self) -> bool {
        !matches!(self.stage, Stage::Off)
    }

    /// Whether the disk has a piece whose answer is to come.
    pub fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Snapshots of its own are good for nothing, as turns out now. They go before another is written: that begins anew.
    pub fn drops_own(&mut self, now: Instant) {
        self.drops_own = true;
        if self.part.as_ref().is_some_and(|p| p.given > 0) {
            self.leave_conn();
            self.offers.clear();
            self.drop_part();
            self.stage = Stage::Pausing { until: now };
            self.tick(now);
        }
    }

    /// Whether that connection is one of its own, now or before.
    pub const fn owns(conn: ConnId) -> bool {
        conn.is_dialled() && conn.0 & OURS != 0
    }

    /// How far it is, or was in the end.
    pub fn progress(&self) -> Progress {
        Progress { on: self.is_on(), ..self.progress.clone() }
    }

    fn count(&mut self, now: Instant) {
        if let Some(part) = &self.part {
            let (since, before) = self.began;
            let us = (now.since(since).as_micros() as u64).max(1);
            let rate = u128::from(part.received - before) * 1_000_000 / u128::from(us);
            let p = &mut self.progress;
            (p.gsn, p.bytes, p.of_bytes) = (part.of.gsn, part.received, part.of.bytes);
            p.bytes_per_s = rate.min(u64::MAX.into()) as u64;
        }
    }

    /// Pieces in memory, or on their way: never more than the window.
    pub fn waiting(&self) -> usize {
        let under_way = if let Stage::Taking { under_way, .. } = self.stage { under_way } else { 0 };
        under_way + self.part.as_ref().map_or(0, |p| p.waiting.len())
    }

    /// What it wants done next.
    pub fn poll(&mut self) -> Option<Act<L::State>> {
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
            Stage::Off | Stage::Pausing { .. } | Stage::Asking { .. } | Stage::Saving => None,
        }
    }

    fn leave_conn(&mut self) {
        if let Some(conn) = self.conn() {
            self.acts.push_back(Act::Close { conn });
        }
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Who offers what, and what can't be read of the log any more.
    pub fn offers(&mut self, now: Instant, trim: Gsn, offers: Vec<OfferAt>) {
        if !matches!(self.stage, Stage::Asking { .. }) {
            return;
        }
        if self.instead.is_some_and(|have| have < trim) {
            // The log will say so, and then there is no way but one: what was begun stays.
            (self.stage, self.instead) = (Stage::Off, None);
            return self.acts.push_back(Act::FromLog);
        }
        self.least = self.least.max(trim);
        if self.part.as_ref().is_some_and(|p| p.of.gsn < self.least) {
            self.drop_part();
        }
        let mut offers: Vec<OfferAt> = offers
            .into_iter()
            .filter(|o| structure_of(&o.name) == self.structure)
            .filter(|o| o.gsn >= self.least && (o.name != self.name || self.name.is_empty()))
            .filter(|o| !o.addr.is_empty() && o.addr.len() <= ADDR_BYTES_MAX)
            .filter(|o| self.may_pay(o.gsn, None))
            .collect();
        if offers.is_empty() && (self.least == Gsn(0) || self.instead.is_some()) {
            return self.play();
        }
        // The one that was begun, then the newest: the most of the log is spared.
        let begun = self.part.as_ref().map(|p| p.of.gsn);
        offers.sort_by_key(|o| (Some(o.gsn) != begun, std::cmp::Reverse(o.gsn)));
        self.offers = offers.into();
        self.next(now);
    }

    /// Whether that one, of so many bytes if that is known, is wanted.
    fn may_pay(&self, gsn: Gsn, bytes: Option<u64>) -> bool {
        self.instead.is_none_or(|have| cheaper(self.cfg.log_bytes, have, gsn, bytes))
    }

    /// The log is played.
    fn play(&mut self) {
        (self.stage, self.instead) = (Stage::Off, None);
        self.offers.clear();
        self.leave_own();
        self.drop_part();
        self.acts.push_back(Act::FromLog);
    }

    /// The next offer; when there is none, a pause.
    fn next(&mut self, now: Instant) {
        self.leave_conn();
        let Some(offer) = self.offers.pop_front() else {
            if self.instead.is_some() && (self.part.is_none() || self.rounds >= LOG_ROUNDS) {
                return self.play();
            }
            if self.tells() && !self.heard {
                self.note(format!(
                    "no other node gives a snapshot of {} or later yet: asking again until one does",
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
        if !self.may_pay(of.gsn, Some(of.bytes)) {
            return self.next(now);
        }
        let again = self.part.as_ref().is_some_and(|p| p.of == of);
        if !again {
            self.drop_part();
            self.part = Some(Part::new(Begun::of_structure(of, self.cluster, &self.structure)));
        }
        let from = self.part.as_ref().map_or(0, |part| part.received);
        self.progress.from.clone_from(&self.from);
        self.began = (now, from);
        self.count(now);
        let go = if from > 0 { format!("goes on at byte {from}") } else { "begins".into() };
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
        if let Err(why) = part.load(&bytes) {
            let why = format!("its snapshot at {} is bad: {why}", part.of.gsn);
            self.drop_part();
            return self.give_up(now, &why);
        }
        part.waiting.push_back(bytes);
        let whole = part.state.is_some();
        self.count(now);
        if whole {
            self.leave_conn();
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
                self.part = None; // its file is gone
                self.leave_conn();
                self.offers.clear();
                if self.instead.is_some() {
                    self.note(format!("another's snapshot can't be saved: {why}; the log is played instead"));
                    return self.play();
                }
                self.note(format!(
                    "another's snapshot can't be saved: {why}; trying again in {DISK_PAUSE:?}"
                ));
                self.stage = Stage::Pausing { until: now + DISK_PAUSE };
            }
            Ok(()) if ours && last => {
                self.count(now);
                let part = self.part.take().expect("it was saved");
                (self.stage, self.instead) = (Stage::Off, None);
                self.offers.clear();
                self.progress.done += 1;
                let state = part.state.expect("loaded before its last piece was given away");
                self.acts.push_back(Act::Done(state, part.of.bytes));
            }
            _ => self.go_on(now),
        }
    }

    /// Gives the disk the next piece, and asks for more.
    fn go_on(&mut self, now: Instant) {
        if self.saving.is_none()
            && let Some(part) = &mut self.part
            && let Some(bytes) = part.waiting.pop_front()
        {
            let (of, from) = (part.of, part.given);
            part.given += bytes.len() as u64;
            let last = part.given == of.bytes;
            if from == 0 {
                self.leave_own();
            }
            self.saving = Some(true);
            self.acts.push_back(Act::Save { of, from, bytes, last });
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

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        match self.stage {
            Stage::Pausing { until } if until <= now => {
                (self.stage, self.heard) = (Stage::Asking { since: now }, false);
                self.acts.push_back(Act::FindOffers);
            }
            Stage::Dialing { since, .. } if since + DIAL_TIME <= now => {
                self.give_up(now, "it can't be reached");
            }
            Stage::Asking { since } if self.instead.is_some() && since + LOOK_TIMES.0 <= now => self.play(),
            Stage::Choosing { since, .. } if since + self.find_time() <= now => {
                self.give_up(now, "it doesn't say which it has");
            }
            Stage::Taking { heard_at, under_way, .. } if under_way > 0 && heard_at + PIECE_TIME <= now => {
                self.give_up(now, "no piece has come for a while");
            }
            Stage::Taking { .. } => self.go_on(now),
            _ => {}
        }
    }

    fn find_time(&self) -> Duration {
        if self.instead.is_some() { LOOK_TIMES.1 } else { FIND_TIME }
    }

    /// When [`Fetch::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Off | Stage::Saving => None,
            Stage::Asking { since } => self.instead.map(|_| since + LOOK_TIMES.0),
            Stage::Pausing { until } => Some(until),
            Stage::Dialing { since, .. } => Some(since + DIAL_TIME),
            Stage::Choosing { since, .. } => Some(since + self.find_time()),
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
