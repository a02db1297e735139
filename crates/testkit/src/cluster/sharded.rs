//! Several message engines in memory as one, which come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use roomcast_cluster::{Channel, Server, ShardedBackplane, Shards, ShardsMetrics};

use super::harness::{Fault, Harness};
use super::memory::{MemoryBackplane, MemoryEngine};
use crate::rng::SeededRng;

/// Up to four [`MemoryEngine`]s as one, by [`ShardedBackplane`]; their faults and changes depend only on the seed.
///
/// In most runs the set of engines changes up to three times. Each node gets the new set at another time. Faults of the
/// engine hit one engine.
#[derive(Debug)]
pub struct ShardedEngine {
    engines: Vec<MemoryEngine>,
    rng: SeededRng,
    /// Present set, by index.
    set: Vec<usize>,
    /// Later sets by time.
    plan: Vec<(Instant, Vec<usize>)>,
    /// Nodes that get the present set, by time.
    untold: BTreeMap<usize, Instant>,
    nodes: BTreeMap<usize, Shards<MemoryBackplane>>,
    stats: Arc<Mutex<ShardedStats>>,
}

/// Figures of runs on a [`ShardedEngine`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardedStats {
    /// Changes of the set of engines.
    pub planned: u64,
    /// Changes of the servers by which a node published, as far as the nodes were still there at the end.
    pub changes: u64,
    /// Copies of messages that were dropped.
    pub copies: u64,
    /// Publications dropped while an engine was down.
    pub dropped: u64,
}

impl ShardedEngine {
    /// Creates engines without faults; the stats are those of the run once the engines are dropped.
    #[must_use]
    pub fn new(seed: u64, stats: Arc<Mutex<ShardedStats>>) -> Self {
        let mut rng = SeededRng::new(seed ^ 0x5a5a);
        let first = MemoryEngine::new(seed);
        let start = first.now();
        let mut engines = vec![first.clone()];
        engines.extend((1..MAX_ENGINES).map(|index| first.beside(seed.wrapping_mul(31) + index as u64)));
        let set = random_set(&mut rng);
        let mut plan = Vec::new();
        for _ in 0..rng.below(4) {
            let at = start + Duration::from_millis(rng.below(2500) as u64);
            plan.push((at, random_set(&mut rng)));
        }
        plan.sort();
        Self { engines, rng, set, plan, untold: BTreeMap::new(), nodes: BTreeMap::new(), stats }
    }

    /// Returns the servers of the present set.
    fn servers(&self, node: usize) -> Vec<Server<MemoryBackplane>> {
        self.set.iter().map(|index| self.server(*index, node)).collect()
    }

    fn server(&self, index: usize, node: usize) -> Server<MemoryBackplane> {
        let mut engine = self.engines[index].clone();
        Server::new(format!("engine-{index}"), move || engine.connect(node))
    }

    fn next_at(&self) -> Option<Instant> {
        let engines = self.engines.iter().filter_map(MemoryEngine::next_at);
        engines.chain(self.plan.first().map(|(at, _)| *at)).chain(self.untold.values().copied()).min()
    }

    /// Begins the changes that are due.
    fn change(&mut self) {
        let now = self.now();
        while self.plan.first().is_some_and(|(at, _)| *at <= now) {
            let (_, set) = self.plan.remove(0);
            self.set = set;
            self.lock().planned += 1;
            for node in self.nodes.keys() {
                let delay = Duration::from_millis(self.rng.of(&[0, 0, 20, 150, 500]));
                self.untold.insert(*node, now + delay);
            }
        }
        let due: Vec<_> = self.untold.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in due {
            self.untold.remove(&node);
            if let Some(shards) = self.nodes.get(&node) {
                shards.set(self.servers(node)).expect("servers with different names");
            }
        }
    }

    fn random(&mut self) -> &mut MemoryEngine {
        let index = self.rng.below(self.engines.len() as u64);
        &mut self.engines[index]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ShardedStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, metrics: &ShardsMetrics) {
        let mut stats = self.lock();
        stats.changes += metrics.changes;
        stats.copies += metrics.copies;
        stats.dropped += metrics.dropped;
    }
}

impl Harness for ShardedEngine {
    type Backplane = ShardedBackplane<MemoryBackplane>;

    fn connect(&mut self, node: usize) -> Self::Backplane {
        // Other nodes may still use the other engines.
        let others = (0..MAX_ENGINES).filter(|index| !self.set.contains(index));
        let retired = others.map(|index| self.server(index, node).retired());
        let servers = self.servers(node).into_iter().chain(retired).collect();
        let (backplane, shards) = ShardedBackplane::new(servers).expect("servers");
        self.untold.remove(&node);
        if let Some(old) = self.nodes.insert(node, shards) {
            self.count(&old.metrics());
        }
        backplane
    }

    fn now(&self) -> Instant {
        self.engines[0].now()
    }

    fn advance(&mut self, until: Instant) {
        let at = self.next_at().map_or(until, |next| next.max(self.now()).min(until));
        self.engines.iter_mut().for_each(|engine| engine.advance(at));
        self.change();
    }

    fn inject(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::Deaf { on: true, .. } | Fault::Disconnect { .. } | Fault::Down { on: true, .. } => {
                self.random().inject(fault)
            }
            fault => {
                // On each of them, also if one does not support it.
                let injected =
                    self.engines.iter_mut().filter_map(|engine| engine.inject(fault).then_some(()));
                injected.count() == MAX_ENGINES
            }
        }
    }

    fn subscriptions(&self, node: usize) -> Option<BTreeSet<Channel>> {
        let mut all = BTreeSet::new();
        let mut copies = BTreeMap::<Channel, usize>::new();
        for (index, engine) in self.engines.iter().enumerate() {
            let subscribed = engine.subscriptions(node).unwrap_or_default();
            assert!(self.set.contains(&index) || subscribed.is_empty(), "engine {index} has {subscribed:?}");
            subscribed.iter().for_each(|channel| *copies.entry(channel.clone()).or_default() += 1);
            all.extend(subscribed);
        }
        for (channel, copies) in copies {
            let expected = match channel {
                Channel::Nodes | Channel::Inbox(_) => self.set.len(),
                _ => 1,
            };
            assert_eq!(copies, expected, "engines with {channel}, of {:?}", self.set);
        }
        Some(all)
    }
}

impl Drop for ShardedEngine {
    fn drop(&mut self) {
        self.nodes.values().for_each(|shards| self.count(&shards.metrics()));
    }
}

fn random_set(rng: &mut SeededRng) -> Vec<usize> {
    loop {
        let bits = rng.below(1 << MAX_ENGINES);
        let set: Vec<_> = (0..MAX_ENGINES).filter(|index| bits & 1 << index != 0).collect();
        if !set.is_empty() {
            return set;
        }
    }
}

const MAX_ENGINES: usize = 4;
