//! Fault suite on several engines in memory as one, which are lost, added and removed during a run.
//!
//! `SHARDS_SEED=n` reruns one seed alone, with `SHARDS_OPERATIONS=n` only its first operations; `SHARDS_SEEDS=n` runs n
//! seeds from `SHARDS_FIRST=n` on:
//!
//! ```sh
//! SHARDS_SEEDS=100000 cargo test --config profile.test.opt-level=2 -p roomcast-cluster --test shards -- --nocapture
//! ```

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use roomcast_testkit::cluster::{Limits, SeedStats, ShardedEngine, ShardedStats, Violation, run_seed};

/// Seeds of a test run.
const SEEDS: u64 = 500;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn play(seed: u64, limits: Limits, shards: &Arc<Mutex<ShardedStats>>) -> Result<SeedStats, Violation> {
    let run = || run_seed(ShardedEngine::new(seed, shards.clone()), seed, limits, |_| {});
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Violation("panic".into())))
}

fn check(seed: u64, limits: Limits, shards: &Arc<Mutex<ShardedStats>>) -> SeedStats {
    play(seed, limits, shards).unwrap_or_else(|violation| {
        let fails =
            |operations: &usize| play(seed, Limits { operations: Some(*operations) }, shards).is_err();
        let operations = (0..100).find(fails);
        panic!("SHARDS_SEED={seed} SHARDS_OPERATIONS={operations:?}: {violation}")
    })
}

#[test]
fn shards_keep_promises_under_faults() {
    let shards = Arc::new(Mutex::new(ShardedStats::default()));
    if let Some(seed) = number("SHARDS_SEED") {
        let operations = number("SHARDS_OPERATIONS").and_then(|number| usize::try_from(number).ok());
        println!("{:?}", check(seed, Limits { operations }, &shards));
        return;
    }
    let seeds = number("SHARDS_SEEDS").unwrap_or(SEEDS);
    let first = number("SHARDS_FIRST").unwrap_or(0);
    let mut total = SeedStats::default();
    std::thread::scope(|scope| {
        let part = |part| {
            let shards = shards.clone();
            scope.spawn(move || {
                let mut total = SeedStats::default();
                (first..first + seeds)
                    .filter(|seed| seed % 2 == part)
                    .for_each(|seed| total += check(seed, Limits::default(), &shards));
                total
            })
        };
        for part in [part(0), part(1)] {
            match part.join() {
                Ok(stats) => total += stats,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let shards = *shards.lock().expect("stats");
    println!("{seeds} seeds: {total:?} {shards:?}");
    // Otherwise the checks would be vacuous.
    assert!(total.expected > 20 * seeds && total.delivered > 20 * seeds, "{total:?}");
    assert!(total.reported > seeds && total.requests > seeds && total.rejoins > seeds / 20, "{total:?}");
    assert!(shards.planned > seeds && shards.changes > seeds && shards.copies > 20 * seeds, "{shards:?}");
}
