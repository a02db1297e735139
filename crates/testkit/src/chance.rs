//! Reproducible variety

use fastrand::Rng;

/// Source of choices that depend on a seed alone.
#[derive(Debug, Clone)]
pub(crate) struct Chance(Rng);

impl Chance {
    /// Creates a source; each seed gives a sequence of its own.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// Returns a number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.0.u64(..bound)).expect("bounds are small")
    }

    /// Returns one of these.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }
}
