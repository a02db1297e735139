//! The fault suite of clusters on real servers, with the faults that a test can produce there.
//!
//! ```sh
//! cargo test --package roomcast-backplane-redis --test suite -- --ignored
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::collections::BTreeSet;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use roomcast_backplane_redis::{RedisBackplane, RedisConfig};
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
use roomcast_testkit::cluster::{Fault, Harness, Limits, SeedStats, run_seed};
use server::Redis;
use tokio::runtime::{Handle, Runtime};

/// Engine that is polled outside of a runtime.
#[derive(Debug)]
struct Entered {
    engine: RedisBackplane,
    runtime: Handle,
}

impl Backplane for Entered {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _guard = self.runtime.enter();
        self.engine.poll_ready(cx)
    }

    fn send(&mut self, command: BackplaneCommand) {
        self.engine.send(command);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _guard = self.runtime.enter();
        self.engine.poll_flush(cx)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        let _guard = self.runtime.enter();
        self.engine.poll_event(cx)
    }
}

/// Server with a clock that follows the time of the machine, but stops wherever the suite asks for.
struct RealHarness {
    server: Redis,
    runtime: Runtime,
    now: Instant,
    is_frozen: bool,
}

impl Harness for RealHarness {
    type Backplane = Entered;

    fn connect(&mut self, _: usize) -> Entered {
        let config = RedisConfig::from_url(&self.server.url()).expect("a URL");
        let engine = RedisBackplane::new(config.ping_interval(Duration::from_millis(100)));
        Entered { engine, runtime: self.runtime.handle().clone() }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn advance(&mut self, until: Instant) {
        let slice = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(1));
        thread::sleep(slice);
        self.now = self.now.max(Instant::now().min(until));
    }

    fn inject(&mut self, fault: &Fault) -> bool {
        match fault {
            // All nodes lose their subscriptions, since the server does not know them by number.
            Fault::Disconnect { .. } if !self.is_frozen => {
                self.server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                true
            }
            Fault::Down { on, .. } => {
                if *on {
                    self.server.freeze();
                } else {
                    self.server.thaw();
                }
                self.is_frozen = *on;
                true
            }
            _ => false,
        }
    }

    fn subscriptions(&self, _: usize) -> Option<BTreeSet<Channel>> {
        None
    }
}

fn play(seed: u64) -> SeedStats {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let harness = RealHarness {
        server: Redis::start(""),
        runtime: runtime.expect("a runtime"),
        now: Instant::now(),
        is_frozen: false,
    };
    run_seed(harness, seed, Limits::default(), |_| {})
        .unwrap_or_else(|broken| panic!("seed {seed}: {broken}"))
}

#[test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
fn cluster_keeps_promises_on_redis() {
    // By the number modulo 8: nodes that leave, freezes of nodes, faults of the server, crashes, all of them.
    let seeds = [0, 4, 5, 13, 6, 7];
    let stats = seeds.map(|seed| thread::spawn(move || play(seed))).map(|run| run.join().expect("a run"));
    let mut total = SeedStats::default();
    stats.into_iter().for_each(|stats| total += stats);
    println!("{total:?}");
    assert!(total.expected > 50 && total.delivered > 50, "{total:?}");
}
