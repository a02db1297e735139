//! Variety that can be had again

/// A small source of reproducible variety (xorshift)
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Each seed gives a sequence of its own
    pub(crate) fn new(seed: u64) -> Self {
        // Spreads small seeds over all bits; zero would stay zero.
        let mut chance = Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            chance.next();
        }
        chance
    }

    /// A number below `bound`, which is not zero
    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).expect("bounds are small")
    }

    /// One of these
    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64)]
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
