//! Where does the log end? Nowhere, until an entry says so: what is ordered before that is all that it will ever hold.

use super::{Applied, State, Succession};
use zoolog_core::limits::SUCCESSOR_BYTES_MAX;
use zoolog_core::{Gsn, ShardId};

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// First position that is not in it, and the first one of the log that follows.
    pub tail: Gsn,
    /// How to find that.
    pub successor: String,
}

impl Seal {
    /// Whether a text says where a log goes on.
    pub(crate) fn is_successor(text: &str) -> bool {
        (1..=SUCCESSOR_BYTES_MAX).contains(&text.len()) && !text.contains(['\n', '\r'])
    }

    pub(super) fn is_sound(&self) -> bool {
        Self::is_successor(&self.successor)
    }

    /// As bytes of an image: the position, the text's length, the text.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let len = u16::try_from(self.successor.len()).expect("a text of 2 KiB at most");
        out.extend_from_slice(&self.tail.0.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(self.successor.as_bytes());
    }

    /// From such bytes, and what is behind them.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (tail, bytes) = bytes.split_first_chunk::<8>()?;
        let (len, bytes) = bytes.split_first_chunk::<2>()?;
        let (text, rest) = bytes.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let successor = String::from_utf8(text.to_vec()).ok()?;
        let seal = Self { tail: Gsn(u64::from_le_bytes(*tail)), successor };
        seal.is_sound().then_some((seal, rest))
    }
}

impl State {
    /// Where the log has ended, if it has.
    pub const fn sealed(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// All shards that take appends end as they are, and none is formed any more: so entries that come later order nothing.
    /// Whoever waits for a record that is not ordered learns from its shard, as when any shard ends, that it never will be.
    pub(super) fn end(&mut self, successor: String) -> Applied {
        if self.seal.is_some() {
            return Applied::Nothing("a log that has ended before");
        }
        if self.succession == Succession::Awaits {
            return Applied::Nothing("the end of a log that has not begun");
        }
        let seal = Seal { tail: self.tail, successor };
        if !seal.is_sound() {
            return Applied::Nothing("a successor that is none");
        }
        let ends: Vec<ShardId> = self.view.live().map(|s| s.id).collect();
        ends.iter().for_each(|id| self.finalize(*id));
        if !ends.is_empty() {
            self.view.number = self.view.number.next();
        }
        self.seal = Some(seal);
        Applied::Sealed(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formed, slot};
    use super::super::{Command, FormView, ProposedCut};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::view::ShardState;
    use zoolog_core::{ClusterId, LaneId};

    fn apply(s: &mut State, command: &Command) -> Applied {
        let applied = s.apply(&command.encode());
        assert_eq!(&State::decode(s.cluster, &s.encode()).unwrap(), s, "it comes back equal");
        applied
    }

    fn grow(s: &mut State, shard: u32, to: u64) -> Applied {
        let lanes = vec![(LaneId::new(ShardId(shard), 0), to)];
        apply(s, &Command::Cut(ProposedCut { lanes, known: vec![] }))
    }

    fn form(s: &mut State, finalize: Vec<ShardId>) -> Applied {
        let shards = vec![vec![slot(0), slot(1)]];
        apply(s, &Command::FormView(FormView { expected: s.view.number, finalize, shards }))
    }

    fn seal(s: &mut State, text: &str) -> Applied {
        apply(s, &Command::Seal(text.into()))
    }

    /// LOG-11: the first one counts, and nothing is ordered behind it, whatever was on its way.
    #[test]
    fn a_log_ends_once_and_nothing_is_ordered_behind_that() {
        let mut s = formed(3, 3, 2);
        grow(&mut s, 1, 5);
        let Applied::Sealed(ended) = seal(&mut s, "b:1") else { panic!("it ends") };
        assert_eq!(ended.len(), 3);
        assert!(s.view.shards.iter().all(|x| x.state != ShardState::Live));
        let (end, before) = (s.sealed().cloned().unwrap(), s.clone());
        assert_eq!((end.tail, end.successor.as_str()), (Gsn(5), "b:1"));
        // A cut, a view, another seal, shards that are wanted: all of them on their way when it was decided.
        for shard in 1..5 {
            assert!(matches!(grow(&mut s, shard, 99), Applied::Nothing(_)));
        }
        assert!(matches!(form(&mut s, vec![]), Applied::Nothing(_)));
        assert!(matches!(seal(&mut s, "c:1"), Applied::Nothing(_)));
        assert!(matches!(apply(&mut s, &Command::WantShards(9)), Applied::Nothing(_)));
        assert_eq!(s, before);
        // It goes on being trimmed, until nothing is left of it.
        assert_eq!(apply(&mut s, &Command::Trim(Gsn(5))), Applied::Trimmed(Gsn(5)));
        apply(&mut s, &Command::DropShards((1..4).map(ShardId).collect()));
        assert!(s.view.shards.is_empty() && s.sealed() == Some(&end));
    }

    /// A log that waits to be told where it begins has no end that could be told.
    #[test]
    fn a_log_that_has_not_begun_does_not_end() {
        let mut s = State::new(ClusterId(5));
        apply(&mut s, &Command::Await);
        assert!(matches!(seal(&mut s, "b:1"), Applied::Nothing(_)));
        apply(&mut s, &Command::Begin(Gsn(100)));
        assert_eq!(seal(&mut s, "b:1"), Applied::Sealed(vec![]));
        assert_eq!(s.sealed().unwrap().tail, Gsn(100), "and one in which nothing was does");
    }

    #[test]
    fn a_successor_is_a_text_that_fits_in_a_line() {
        let mut s = formed(3, 3, 2);
        for wrong in ["", "a\nb", "a\rb", &"x".repeat(SUCCESSOR_BYTES_MAX + 1)] {
            assert!(matches!(seal(&mut s, wrong), Applied::Nothing(_)), "{wrong}");
        }
        assert!(matches!(seal(&mut s, &"x".repeat(SUCCESSOR_BYTES_MAX)), Applied::Sealed(_)));
    }

    proptest! {
        /// Of images only those are read that say so.
        #[test]
        fn bytes_say_where_it_ended_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80), len in 0u16..80) {
            let with_len = [&bytes[..bytes.len().min(8)], &len.to_le_bytes(), &bytes[bytes.len().min(8)..]].concat();
            for bytes in [&bytes, &with_len] {
                if let Some((seal, rest)) = Seal::decode(bytes) {
                    let mut again = Vec::new();
                    seal.encode(&mut again);
                    again.extend_from_slice(rest);
                    prop_assert_eq!(&again, bytes);
                }
            }
        }

        /// Whatever comes in whatever order: it ends at most once, and its tail stays where it ended.
        #[test]
        fn whatever_comes_it_ends_once_for_good(steps in prop::collection::vec((0u8..5, 1u32..6, 0u64..40), 0..40)) {
            let mut s = formed(3, 3, 2);
            let mut ended: Option<Seal> = None;
            for (what, shard, n) in steps {
                let applied = match what {
                    0 | 1 => grow(&mut s, shard, n),
                    2 => form(&mut s, vec![ShardId(shard)]),
                    3 => form(&mut s, vec![]),
                    _ => seal(&mut s, &format!("b:{n}")),
                };
                match applied {
                    Applied::Sealed(_) => {
                        prop_assert!(ended.is_none());
                        ended = s.sealed().cloned();
                    }
                    Applied::Cut(_) | Applied::Formed { .. } => prop_assert!(ended.is_none()),
                    _ => {}
                }
                if let Some(end) = &ended {
                    prop_assert_eq!((Some(end), end.tail), (s.sealed(), s.tail()));
                }
            }
        }
    }
}
