//! Runs each check on its seeds and on ten thousand reproducible mutations of them.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs};

use fastrand::Rng;
use roomcast_fuzz::CHECKS;

#[test]
fn seeds_and_mutations_pass_every_check() {
    let mutations = env::var("ROOMCAST_FUZZ_MUTATIONS")
        .map_or(MUTATIONS, |number| number.parse().expect("ROOMCAST_FUZZ_MUTATIONS is a number"));
    count_panics();
    for (name, check) in CHECKS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "fuzz/seeds/{name} has no seeds");
        let mut rng = Rng::with_seed(0);
        seeds.iter().for_each(|seed| run(name, check, seed));
        for _ in 0..mutations {
            let input = mutated(&seeds, &mut rng);
            run(name, check, &input);
        }
        println!("{name}: {} seeds, {mutations} mutations", seeds.len());
    }
}

#[test]
fn every_check_has_target_and_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).expect("the folder exists");
        let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| stem(&entry.path())).collect();
        names.sort();
        names
    };
    let checks = CHECKS.map(|(name, _)| name.to_owned());
    assert_eq!(names("fuzz_targets"), checks);
    assert_eq!(names("seeds"), checks);
}

fn run(name: &str, check: fn(&[u8]), input: &[u8]) {
    let before = PANICS.load(Ordering::Relaxed);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| check(input)));
    // A failure in a spawned task would otherwise go unnoticed.
    let calm = outcome.is_ok() && PANICS.load(Ordering::Relaxed) == before;
    assert!(calm, "{name} does not hold for b\"{}\"", input.escape_ascii());
}

fn count_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        print(info);
    }));
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("the seed is readable")).collect()
}

/// Applies a few changes to a seed, of kinds that break parsers.
fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..1 + rng.usize(..6) {
        let at = rng.usize(..input.len() + 1);
        let end = at + rng.usize(..input.len() - at + 1).min(rng.usize(..64));
        match rng.usize(..8) {
            0 if at < input.len() => input[at] ^= 1 << rng.usize(..8),
            1 if at < input.len() => input[at] = INTERESTING[rng.usize(..INTERESTING.len())],
            2 => input.insert(at, INTERESTING[rng.usize(..INTERESTING.len())]),
            3 => drop(input.drain(at..end)),
            4 => {
                let copy = input[at..end].to_vec();
                let to = rng.usize(..input.len() + 1);
                input.splice(to..to, copy);
            }
            5 => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => input.truncate(at),
            _ => {
                let mut lines: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
                let (one, other) = (rng.usize(..lines.len().max(1)), rng.usize(..lines.len().max(1)));
                if !lines.is_empty() {
                    lines.swap(one, other);
                }
                input = lines.concat();
            }
        }
    }
    input
}

static PANICS: AtomicU64 = AtomicU64::new(0);
const MUTATIONS: usize = 10_000;
const INTERESTING: &[u8] =
    b"\x00\x01\x1e\x7f\x80\x81\x88\xc3\xed\xf4\xfe\xff\n\r\t \"\\,:[]{}0123456789-_/bTeE+.";
