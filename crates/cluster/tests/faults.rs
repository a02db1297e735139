//! Fault suite on the engine in memory.
//!
//! Each seed is one run. A failing seed is printed with the shortest run that still fails. `CLUSTER_SEED=n` reruns one
//! seed alone, with `CLUSTER_OPERATIONS=n` only its first operations; `CLUSTER_SEEDS=n` runs n seeds, such as 100,000,
//! from `CLUSTER_FIRST=n` on:
//!
//! ```sh
//! CLUSTER_SEEDS=100000 cargo test --config profile.test.opt-level=2 -p roomcast-cluster --test faults -- --nocapture
//! ```
//!
//! A defect that a seed finds gets a test in `node/`, since a change of the suite changes the runs of all seeds.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use roomcast_cluster::{ClusterConfig, Mutation};
use roomcast_testkit::cluster::{Limits, MemoryEngine, SeedStats, Violation, run_seed};

/// Seeds of a test run.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn play(seed: u64, limits: Limits, mutation: Option<Mutation>) -> Result<SeedStats, Violation> {
    let configure = |config: &mut ClusterConfig| config.mutation = mutation;
    let run = || run_seed(MemoryEngine::new(seed), seed, limits, configure);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(Violation("panic".into())))
}

/// Returns the number of operations after which a seed fails first.
fn shrink(seed: u64, mutation: Option<Mutation>) -> Option<usize> {
    (0..100).find(|operations| {
        let limits = Limits { operations: Some(*operations) };
        play(seed, limits, mutation).is_err()
    })
}

fn check(seed: u64, limits: Limits) -> SeedStats {
    play(seed, limits, None).unwrap_or_else(|violation| {
        let operations = shrink(seed, None);
        panic!("CLUSTER_SEED={seed} CLUSTER_OPERATIONS={operations:?}: {violation}")
    })
}

#[test]
fn cluster_keeps_promises_under_faults() {
    if let Some(seed) = number("CLUSTER_SEED") {
        let operations = number("CLUSTER_OPERATIONS").and_then(|number| usize::try_from(number).ok());
        println!("{:?}", check(seed, Limits { operations }));
        return;
    }
    let seeds = number("CLUSTER_SEEDS").unwrap_or(SEEDS);
    let first = number("CLUSTER_FIRST").unwrap_or(0);
    let total = std::thread::scope(|scope| {
        let part = |part| {
            scope.spawn(move || {
                let mut total = SeedStats::default();
                (first..first + seeds)
                    .filter(|seed| seed % 2 == part)
                    .for_each(|seed| total += check(seed, Limits::default()));
                total
            })
        };
        let parts = [part(0), part(1)];
        let mut total = SeedStats::default();
        for part in parts {
            match part.join() {
                Ok(stats) => total += stats,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        total
    });
    println!("{seeds} seeds: {total:?}");
    // Otherwise the checks would be vacuous.
    assert!(total.expected > 20 * seeds && total.delivered > 20 * seeds, "{total:?}");
    assert!(total.reported > seeds && total.requests > seeds && total.rejoins > seeds / 20, "{total:?}");
}

#[test]
fn every_mutation_is_found() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        let fails = |seed| Some((seed, play(seed, Limits::default(), Some(mutation)).err()?));
        match (0..SEEDS).find_map(fails) {
            Some((seed, violation)) => {
                check(seed, Limits::default());
                println!("{mutation:?}: seed {seed}: {violation}");
            }
            None => missed.push(mutation),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
