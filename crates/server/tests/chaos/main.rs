//! Sessions in virtual time: random actions of clients and an application, in any order.
//!
//! Each seed is one run. A failing seed is printed with its steps; `CHAOS_SEED=n` reruns it alone, and `CHAOS_SEEDS=n`
//! runs n seeds.
#![allow(clippy::disallowed_methods, reason = "the clock is the runtime's, which is paused")]

mod behind;
mod client;
mod pauses;
mod stage;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::world::World;

const SEEDS: u64 = 1_000;

/// Random choices determined by a seed.
struct Dice(fastrand::Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound.max(1))
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

fn play(seed: u64) {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut world = World::new(seed, steps.clone());
            for _ in 0..80 {
                world.step().await;
            }
            world.end().await;
        });
    }));
    let steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(played.is_ok(), "CHAOS_SEED={seed} after {} steps: {steps:#?}", steps.len());
}

#[test]
fn sessions_keep_invariants_in_chaos() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds = match number("CHAOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CHAOS_SEEDS").unwrap_or(SEEDS),
    };
    thread::scope(|scope| {
        for part in 0..2 {
            let seeds = seeds.clone();
            scope.spawn(move || seeds.filter(|seed| seed % 2 == part).for_each(play));
        }
    });
}
