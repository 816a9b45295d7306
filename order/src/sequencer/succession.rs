//! Where does the log begin? At 0, by itself; or where another has ended: then nothing is taken before that is said, once.

use super::{Applied, GSN_MAX, State};
use zoolog_core::wire::BeginEnd;
use zoolog_core::{CutNumber, Gsn, ViewNumber};

/// Whether this log follows another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Succession {
    /// No: it began at 0.
    #[default]
    Own,
    /// Yes, and where that one ends is not known yet: there is no shard, so nobody can append.
    Awaits,
    /// Yes: this is its first position.
    Begun(Gsn),
}

impl Succession {
    /// First position of the log, as far as known.
    pub(super) const fn first_gsn(self) -> Gsn {
        match self {
            Self::Begun(gsn) => gsn,
            Self::Own | Self::Awaits => Gsn(0),
        }
    }

    /// As bytes of an image: what it is, and the position.
    pub(super) fn encode(self) -> [u8; 9] {
        let (kind, gsn) = match self {
            Self::Own => (0, 0),
            Self::Awaits => (1, 0),
            Self::Begun(gsn) => (2, gsn.0),
        };
        let mut bytes = [kind; 9];
        bytes[1..].copy_from_slice(&gsn.to_le_bytes());
        bytes
    }

    /// From such bytes.
    pub(super) fn decode(bytes: [u8; 9]) -> Option<Self> {
        let gsn = u64::from_le_bytes(bytes[1..].try_into().expect("8 bytes"));
        match (bytes[0], gsn) {
            (0, 0) => Some(Self::Own),
            (1, 0) => Some(Self::Awaits),
            (2, gsn) => Some(Self::Begun(Gsn(gsn))),
            _ => None,
        }
    }
}

impl State {
    /// Whether this log follows another, and where it begins.
    pub const fn succession(&self) -> Succession {
        self.succession
    }

    /// Whether nothing has happened to the log yet: no shard was formed, nothing ordered.
    pub(crate) fn is_blank(&self) -> bool {
        self.number == CutNumber(0)
            && self.view.number == ViewNumber(0)
            && (self.succession == Succession::Own && self.seal.is_none())
    }

    /// It is to follow another log: until that one's tail is known there is nothing to append to.
    pub(super) fn await_begin(&mut self) -> Applied {
        if !self.is_blank() {
            return Applied::Nothing("a log that has begun, or waits already");
        }
        self.succession = Succession::Awaits;
        Applied::Nothing("it waits for the end of the log before it")
    }

    /// The log before this one ends there. All of it counts as trimmed here; who registered meanwhile needs nothing of it
    /// from here.
    pub(super) fn begin(&mut self, first_gsn: Gsn) -> Applied {
        if self.succession != Succession::Awaits {
            return Applied::Nothing("a log that doesn't wait to be told where it begins");
        }
        if first_gsn.0 > GSN_MAX {
            return Applied::Nothing("a beginning beyond the last GSN");
        }
        self.succession = Succession::Begun(first_gsn);
        (self.tail, self.trim, self.gone) = (first_gsn, first_gsn, first_gsn.0);
        self.consumers.values_mut().for_each(|at| *at = first_gsn);
        Applied::Begun(first_gsn)
    }

    /// As it is told to who asks.
    pub(crate) const fn begin_end(&self) -> BeginEnd {
        match self.succession {
            Succession::Own => BeginEnd::Own(self.tail),
            Succession::Awaits => BeginEnd::Awaits,
            Succession::Begun(gsn) => BeginEnd::Begun(gsn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, formed, slot};
    use super::super::{Command, ConsumerAt, FormView, ProposedCut, Registration, SlotEntry};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::{ClusterId, LaneId, ShardId};

    fn apply(s: &mut State, command: &Command) -> Applied {
        let applied = s.apply(&command.encode());
        assert_eq!(&State::decode(s.cluster, &s.encode()).unwrap(), s, "it comes back equal");
        applied
    }

    /// A log that waits, with its servers there.
    fn waiting() -> State {
        let mut s = State::new(ClusterId(5));
        apply(&mut s, &Command::Await);
        for i in 0..3 {
            let SlotEntry { incarnation, addr, domain, stamp } = entry(i, "");
            let r = Registration { slot: slot(i), incarnation, addr, domain, stamp };
            apply(&mut s, &Command::Register(r));
        }
        s
    }

    fn form(s: &mut State) -> Applied {
        let shards = vec![vec![slot(0), slot(1)]];
        apply(s, &Command::FormView(FormView { expected: ViewNumber(0), finalize: vec![], shards }))
    }

    fn grow(s: &mut State, to: u64) -> Applied {
        let lanes = vec![(LaneId::new(ShardId(1), 0), to)];
        apply(s, &Command::Cut(ProposedCut { lanes, known: vec![] }))
    }

    /// LOG-11: nothing before it is told, then from there on.
    #[test]
    fn nothing_is_taken_before_it_is_told_where_it_begins_and_then_it_goes_on_there() {
        let mut s = waiting();
        assert!(matches!(form(&mut s), Applied::Nothing(_)), "no shard");
        assert!(matches!(grow(&mut s, 5), Applied::Nothing(_)));
        let at = ConsumerAt { name: "early".into(), upto: Gsn(0) };
        apply(&mut s, &Command::Consumers(vec![at]));
        assert_eq!(apply(&mut s, &Command::Begin(Gsn(1000))), Applied::Begun(Gsn(1000)));
        assert_eq!((s.tail(), s.trim(), s.consumer("early")), (Gsn(1000), Gsn(1000), Some(Gsn(1000))));
        assert!(matches!(form(&mut s), Applied::Formed { .. }));
        let Applied::Cut(cut) = grow(&mut s, 5) else { panic!("it takes appends") };
        assert_eq!((cut.number, cut.base, s.tail()), (CutNumber(1), Gsn(1000), Gsn(1005)));
    }

    /// Said again, by whomever, it changes nothing; and nobody may say it elsewhere.
    #[test]
    fn it_is_told_once() {
        let mut s = waiting();
        apply(&mut s, &Command::Begin(Gsn(7)));
        let before = s.clone();
        for gsn in [7, 0, 8, u64::MAX] {
            assert!(matches!(apply(&mut s, &Command::Begin(Gsn(gsn))), Applied::Nothing(_)));
        }
        assert!(matches!(apply(&mut s, &Command::Await), Applied::Nothing(_)));
        assert_eq!((&s, s.begin_end()), (&before, BeginEnd::Begun(Gsn(7))));
        let mut own = formed(3, 3, 2);
        let before = own.clone();
        assert!(matches!(apply(&mut own, &Command::Await), Applied::Nothing(_)), "it has shards");
        assert!(matches!(apply(&mut own, &Command::Begin(Gsn(7))), Applied::Nothing(_)));
        assert_eq!((&own, own.begin_end()), (&before, BeginEnd::Own(Gsn(0))));
        assert!(matches!(apply(&mut waiting(), &Command::Begin(Gsn(GSN_MAX + 1))), Applied::Nothing(_)));
    }

    proptest! {
        /// Of images only those are read that say one of the three.
        #[test]
        fn bytes_say_one_of_three(bytes in prop::array::uniform9(any::<u8>())) {
            if let Some(s) = Succession::decode(bytes) {
                prop_assert_eq!(s.encode(), bytes);
            }
        }

        /// Whatever comes in whatever order: it begins at most once, where it was told, and nothing is ordered before.
        #[test]
        fn it_begins_at_most_once(steps in prop::collection::vec((0u8..4, 0u64..50), 0..30)) {
            let mut s = waiting();
            let (mut begun, mut len) = (None, 0);
            for (what, n) in steps {
                let applied = match what {
                    0 => apply(&mut s, &Command::Begin(Gsn(n))),
                    1 => form(&mut s),
                    2 => apply(&mut s, &Command::Await),
                    _ => { len += n; grow(&mut s, len) }
                };
                match applied {
                    Applied::Begun(gsn) => { prop_assert!(begun.is_none()); begun = Some(gsn); }
                    Applied::Cut(cut) => prop_assert!(begun.is_some_and(|b| cut.base >= b)),
                    Applied::Formed { .. } => prop_assert!(begun.is_some()),
                    _ => {}
                }
                prop_assert!(s.tail() >= begun.unwrap_or_default());
            }
        }
    }
}
