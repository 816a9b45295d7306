//! Where is the ordering layer's leader, and are we following it? Tries the orderers in turn (those of now, as a leader
//! said last, then those it was configured with), follows `NotLeader`, asks for the order, and makes sure that silence
//! is not a dead line.

use super::cx::Cx;
use crate::log::LogEvent;
use zoolog_core::wire::{Begin, BeginIs, Consumer, Message, OrderersAre, WatchGrowth, WatchViews};
use zoolog_core::{ConnId, CutNumber, Gsn, Instant};

/// After this many pointers in a row that led nowhere we pause: two orderers may point at each other while
/// an election runs.
const HOPS_MAX: u32 = 4;
/// Longest address we take from anybody.
const ADDR_BYTES_MAX: usize = 256;
/// Orderers we remember: more than there can be.
const KNOWN_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Down {
        dial_at: Instant,
    },
    Dialing {
        conn: ConnId,
        since: Instant,
    },
    /// `Begin` is sent: nothing is asked before this is the log that was meant.
    Beginning {
        conn: ConnId,
        since: Instant,
        request: u64,
    },
    /// `Consumer` is sent: nothing is asked before we are registered.
    Registering {
        conn: ConnId,
        since: Instant,
    },
    /// `WatchGrowth` is sent, or `WatchViews`.
    Asked {
        conn: ConnId,
        since: Instant,
        request: u64,
    },
    /// `OrderIs` has come, cuts follow.
    Following {
        conn: ConnId,
        heard: Instant,
        /// The last cut that was said here: what the next one adds is added to that.
        said: CutNumber,
    },
}

#[derive(Debug)]
pub(super) struct Orderers {
    state: State,
    /// The orderers, as a leader said last.
    known: Vec<String>,
    /// The next of them, and then of the configured ones, to try.
    turn: usize,
    /// Where a `NotLeader` pointed.
    hint: Option<String>,
    hops: u32,
    fails: u32,
    /// Since when nobody is followed.
    pub lost_since: Option<Instant>,
}

impl Orderers {
    /// Starts at a random one, so that many clients spread.
    pub fn new(cx: &mut Cx) -> Self {
        let turn = cx.rng.below(cx.cfg.orderers.len().max(1) as u64) as usize;
        let state = State::Down { dial_at: cx.now };
        Self { state, known: Vec::new(), turn, hint: None, hops: 0, fails: 0, lost_since: Some(cx.now) }
    }

    /// These are the orderers now.
    pub fn are(&mut self, cx: &mut Cx, m: OrderersAre) {
        let addrs = m.orderers.into_iter().map(|o| o.addr);
        let fits = |addr: &String| !addr.is_empty() && addr.len() <= ADDR_BYTES_MAX;
        let known: Vec<String> = addrs.filter(fits).take(KNOWN_MAX).collect();
        if known != self.known {
            cx.event(LogEvent::Orderers { addrs: known.clone() });
            self.known = known;
        }
    }

    /// How many there are to try.
    fn count(&self, cx: &Cx) -> usize {
        self.known.len() + cx.cfg.orderers.len()
    }

    fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Down { .. } => None,
            State::Dialing { conn, .. }
            | State::Beginning { conn, .. }
            | State::Registering { conn, .. }
            | State::Asked { conn, .. }
            | State::Following { conn, .. } => Some(conn),
        }
    }

    pub fn owns(&self, conn: ConnId) -> bool {
        self.conn() == Some(conn)
    }

    pub fn following(&self) -> bool {
        matches!(self.state, State::Following { .. })
    }

    /// The connection is up: we register, if we have a name, and then ask for the order.
    pub fn connected(&mut self, cx: &mut Cx, registration: Option<Consumer>) {
        let conn = match self.state {
            State::Dialing { conn, .. } => {
                cx.hello(conn);
                conn
            }
            State::Beginning { conn, .. } => conn,
            _ => return,
        };
        match registration {
            Some(consumer) => {
                cx.send_message(conn, consumer);
                self.state = State::Registering { conn, since: cx.now };
            }
            None => self.watch(cx, conn),
        }
    }

    /// The connection is up: first of all we say where the log begins.
    pub fn begin(&mut self, cx: &mut Cx, first_gsn: Gsn) {
        let State::Dialing { conn, .. } = self.state else { return };
        cx.hello(conn);
        let request = cx.request();
        cx.send_message(conn, Begin { request, first_gsn: Some(first_gsn) });
        self.state = State::Beginning { conn, since: cx.now, request };
    }

    /// Whether this answers where the log begins.
    pub fn is_begin(&self, m: &BeginIs) -> bool {
        matches!(self.state, State::Beginning { request, .. } if request == m.request)
    }

    /// We are registered.
    pub fn registered(&mut self, cx: &mut Cx) {
        if let State::Registering { conn, .. } = self.state {
            self.watch(cx, conn);
        }
    }

    /// Whether nothing can be asked before we are registered.
    pub fn registering(&self) -> bool {
        matches!(self.state, State::Registering { .. })
    }

    fn watch(&mut self, cx: &mut Cx, conn: ConnId) {
        let request = cx.request();
        match cx.cfg.fetch.is_pulled() {
            true => cx.send_message(conn, WatchViews { request }),
            false => cx.send_message(conn, WatchGrowth { request }),
        }
        self.state = State::Asked { conn, since: cx.now, request };
    }

    /// Whether this `OrderIs` answers our question; from then on we follow.
    pub fn accept_order(&mut self, cx: &Cx, request: u64, number: CutNumber) -> bool {
        match self.state {
            State::Asked { conn, request: asked, .. } if asked == request => {
                self.state = State::Following { conn, heard: cx.now, said: number };
                (self.hops, self.fails, self.lost_since) = (0, 0, None);
                true
            }
            _ => false,
        }
    }

    /// The last cut that was said by whom we follow.
    pub fn said(&self) -> CutNumber {
        if let State::Following { said, .. } = self.state { said } else { CutNumber(0) }
    }

    /// That cut was said.
    pub fn cut_said(&mut self, number: CutNumber) {
        if let State::Following { said, .. } = &mut self.state {
            *said = number;
        }
    }

    /// A sign of life.
    pub fn heard(&mut self, cx: &Cx) {
        if let State::Following { heard, .. } = &mut self.state {
            *heard = cx.now;
        }
    }

    pub fn send(&self, cx: &mut Cx, message: impl Into<Message>) {
        if let State::Following { conn, .. } = self.state {
            cx.send_message(conn, message);
        }
    }

    /// The one we are connected to says that somebody else leads, or that nobody does.
    pub fn not_leader(&mut self, cx: &mut Cx, leader: Option<String>) {
        self.hang_up(cx);
        self.hops += 1;
        self.hint = leader.filter(|l| !l.is_empty() && l.len() <= ADDR_BYTES_MAX);
        if self.hint.is_some() && self.hops <= HOPS_MAX {
            self.dial(cx);
        } else {
            self.hops = 0;
            self.retry_later(cx);
        }
    }

    /// The connection has ended, or has become useless: try the next one after a pause.
    pub fn lost(&mut self, cx: &mut Cx) {
        self.hang_up(cx);
        self.retry_later(cx);
    }

    /// The shell says that the connection is gone.
    pub fn closed(&mut self, cx: &mut Cx) {
        // Nothing to hang up any more.
        self.state = State::Down { dial_at: cx.now };
        self.lost_since.get_or_insert(cx.now);
        self.retry_later(cx);
    }

    /// Nobody is to be followed any more.
    pub fn give_up(&mut self, cx: &mut Cx) {
        self.hang_up(cx);
        (self.hint, self.known, cx.cfg.orderers) = (None, Vec::new(), Vec::new());
    }

    fn hang_up(&mut self, cx: &mut Cx) {
        if let Some(conn) = self.conn() {
            cx.close(conn);
        }
        self.state = State::Down { dial_at: cx.now };
        self.lost_since.get_or_insert(cx.now);
    }

    fn retry_later(&mut self, cx: &mut Cx) {
        // One quick round over all of them, then slower.
        let round = self.fails / self.count(cx).max(1) as u32;
        let pause = cx.redial_pause(round);
        self.fails = self.fails.saturating_add(1);
        self.state = State::Down { dial_at: cx.now + pause };
    }

    fn dial(&mut self, cx: &mut Cx) {
        let addr = match self.hint.take() {
            Some(hint) => hint,
            None if self.count(cx) == 0 => return,
            None => {
                self.turn = (self.turn + 1) % self.count(cx);
                self.known.iter().chain(&cx.cfg.orderers).nth(self.turn).expect("one of them").clone()
            }
        };
        let conn = cx.dial(&addr);
        self.state = State::Dialing { conn, since: cx.now };
    }

    /// Dials if it is time to.
    pub fn dial_due(&mut self, cx: &mut Cx) {
        if matches!(self.state, State::Down { dial_at } if dial_at <= cx.now) {
            self.dial(cx);
        }
    }

    /// Dials when due, gives up what takes too long. Returns whether the leader has been silent for so long
    /// that it should be asked something.
    pub fn tick(&mut self, cx: &mut Cx) -> bool {
        let timeout = cx.cfg.request_timeout;
        match self.state {
            State::Down { .. } => self.dial_due(cx),
            State::Dialing { since, .. }
            | State::Beginning { since, .. }
            | State::Registering { since, .. }
            | State::Asked { since, .. }
                if since + timeout <= cx.now =>
            {
                self.lost(cx);
            }
            State::Following { heard, .. } => return heard + 2 * timeout <= cx.now,
            _ => {}
        }
        false
    }

    /// `probing`: the question is already asked.
    pub fn deadline(&self, cx: &Cx, probing: bool) -> Option<(Instant, &'static str)> {
        let timeout = cx.cfg.request_timeout;
        match self.state {
            State::Down { .. } if self.count(cx) == 0 && self.hint.is_none() => None,
            State::Down { dial_at } => Some((dial_at, "dial an orderer")),
            State::Dialing { since, .. }
            | State::Beginning { since, .. }
            | State::Registering { since, .. }
            | State::Asked { since, .. } => Some((since + timeout, "an orderer takes too long")),
            State::Following { .. } if probing => None,
            State::Following { heard, .. } => Some((heard + 2 * timeout, "is the leader still there")),
        }
    }
}
