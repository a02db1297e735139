//! Message engine in memory with faults, and the fault suite of clusters.
//!
//! [`MemoryEngine`] connects nodes in virtual time, with delays, losses, duplicates, partitions and failures.
//! [`run_seed`] plays random operations and faults on 2 to 16 nodes, and checks what the cluster promises. It takes any
//! [`Harness`], so the same suite runs on real engines. [`ShardedEngine`] is several engines in memory as one, whose
//! set changes during a run.

mod check;
mod clock;
mod harness;
mod memory;
mod process;
mod sharded;
mod suite;

pub use harness::{Fault, Harness};
pub use memory::{MemoryBackplane, MemoryEngine};
pub use sharded::{ShardedEngine, ShardedStats};
pub use suite::{Limits, SeedStats, Violation, run_seed};
