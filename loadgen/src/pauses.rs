//! When was nothing answered, and for how long? A bit per millisecond of the measured window: set if something was. So
//! what many clients saw can be laid over each other, and a pause is told to the millisecond however long the run was.

/// A stretch without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Pause {
    /// How long, give or take a millisecond.
    pub ms: u64,
    /// Where it began, in seconds since measuring began.
    pub at_seconds: f64,
}

/// In which milliseconds of a window something was answered.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    answered: Vec<u64>,
    ms: usize,
}

impl Pauses {
    /// Of a window of so many milliseconds.
    pub fn new(ms: usize) -> Self {
        Self { answered: vec![0; ms.div_ceil(64)], ms }
    }

    /// Something was answered in that millisecond of the window.
    pub fn answered(&mut self, ms: usize) {
        assert!(ms < self.ms, "millisecond {ms} of {}", self.ms);
        self.answered[ms / 64] |= 1 << (ms % 64);
    }

    /// Forgets what lies behind the first `ms` milliseconds.
    pub fn cut(&mut self, ms: usize) {
        self.ms = self.ms.min(ms);
        self.answered.truncate(self.ms.div_ceil(64));
    }

    /// Adds what another saw in the same milliseconds.
    pub fn merge(&mut self, other: &Self) {
        self.ms = self.ms.max(other.ms);
        self.answered.resize(self.ms.div_ceil(64), 0);
        self.answered.iter_mut().zip(&other.answered).for_each(|(mine, more)| *mine |= more);
    }

    /// Stretches from one millisecond with an answer to the next, in order; the window's ends count as answers.
    fn all(&self) -> impl Iterator<Item = Pause> + '_ {
        let words = self.answered.iter().enumerate();
        let set =
            words.flat_map(|(i, &word)| (0..64).filter(move |b| word >> b & 1 != 0).map(move |b| i * 64 + b));
        let ends = set.filter(|ms| *ms < self.ms).chain([self.ms]);
        ends.scan(0, |from, to| {
            let (ms, at_seconds) = ((to - *from) as u64, *from as f64 / 1e3);
            *from = to;
            Some(Pause { ms, at_seconds })
        })
    }

    /// The longest, the first of them if there are several. The whole window if nothing was answered.
    pub fn longest(&self) -> Pause {
        self.all().fold(Pause::default(), |longest, p| if p.ms > longest.ms { p } else { longest })
    }

    /// How many are longer than that.
    pub fn longer_than(&self, ms: u64) -> u64 {
        self.all().filter(|p| p.ms > ms).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pauses(ms: usize, answers: &[usize]) -> Pauses {
        let mut p = Pauses::new(ms);
        answers.iter().for_each(|ms| p.answered(*ms));
        p
    }

    #[test]
    fn the_longest_is_found_wherever_it_lies() {
        let longest = |answers: &[usize]| pauses(1_000, answers).longest();
        assert_eq!(longest(&[10, 20, 400, 990]), Pause { ms: 590, at_seconds: 0.4 });
        assert_eq!(longest(&[700, 999]), Pause { ms: 700, at_seconds: 0.0 });
        assert_eq!(longest(&[5, 63, 64]), Pause { ms: 936, at_seconds: 0.064 });
        assert_eq!(longest(&[]), Pause { ms: 1_000, at_seconds: 0.0 });
        assert_eq!(pauses(0, &[]).longest().ms, 0, "nothing was measured");
        assert_eq!(pauses(1_000, &[100, 151, 300]).longer_than(51), 3);
    }

    #[test]
    fn what_was_cut_off_is_gone() {
        let mut p = pauses(1_000, &[100, 110, 600]);
        p.cut(200);
        assert_eq!(p.longest(), Pause { ms: 100, at_seconds: 0.0 });
        p.merge(&pauses(200, &[50]));
        assert_eq!(p.longest(), Pause { ms: 90, at_seconds: 0.11 });
    }

    proptest! {
        /// Merged is as if one had seen all; and it is what comparing all answers with each other finds.
        #[test]
        fn any_answers_are_as_if_compared(
            mine in prop::collection::btree_set(0usize..500, 0..20),
            more in prop::collection::btree_set(0usize..500, 0..20),
        ) {
            let mut merged = pauses(500, &mine.iter().copied().collect::<Vec<_>>());
            merged.merge(&pauses(500, &more.iter().copied().collect::<Vec<_>>()));
            let all: Vec<usize> = [0].into_iter().chain(mine.union(&more).copied()).chain([500]).collect();
            let longest = all.windows(2).map(|w| w[1] - w[0]).max().unwrap();
            prop_assert_eq!(merged.longest().ms, longest as u64);
        }
    }
}
