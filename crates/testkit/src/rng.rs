//! Reproducible random choices.

use fastrand::Rng;

/// Pseudo-random generator that depends only on its seed.
#[derive(Debug, Clone)]
pub(crate) struct SeededRng(Rng);

impl SeededRng {
    /// Creates a generator; each seed gives a distinct sequence.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// Returns a number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.0.u64(..bound)).expect("bound fits in usize")
    }

    /// Returns a random element of the slice.
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }
}
