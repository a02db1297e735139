use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;

use roomcast_loadgen::process::open_files_limit;
use roomcast_loadgen::scenario::{DEFAULT_PAYLOAD, Habit, Scenario};

use super::cluster::ClusterLoad;

/// Load pattern with its sizes: `[free-][text-][tls-][poll-]NAME[:CLIENTS[:PAYLOAD]]`.
///
/// `connections[:CLIENTS]` is `idle` with frequent heartbeats; the number of clients may be `limit`, as many as the
/// limit of open files permits. `latency-capacity` and `latency-30`, `-60` and `-80` are `paced` at a fixed rate;
/// `latency` selects all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub(super) scenario: Scenario,
    /// Whether to use long-polling instead of WebSocket.
    pub(super) polling: bool,
    /// Whether the server may use all CPUs, for several threads.
    pub(super) free: bool,
    /// Whether messages are record-like text, for compression.
    pub(super) text: bool,
    /// Whether to compare TLS with plain text.
    pub(super) tls: bool,
    /// Whether heartbeats are frequent enough to be measured.
    pub(super) heartbeats: bool,
    /// Habit of the load generator, where habits are compared.
    pub(super) habit: Option<Habit>,
    /// Fixed rate, if any.
    pub(super) rate: Option<Rate>,
    /// Load of servers in a cluster, if it is one.
    pub(super) cluster: Option<ClusterLoad>,
    pub(super) clients: usize,
    pub(super) payload: usize,
}

/// Rate of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    /// All of the other variants, before they are [expanded](Load::expanded).
    All,
    /// Highest rate that the server sustains.
    Capacity,
    /// Percentage of the lowest capacity among the servers.
    Share(u8),
}

impl Load {
    /// Replaces `latency` and `cluster` by the loads that they select.
    pub(super) fn expanded(self) -> Vec<Self> {
        if self.cluster == Some(ClusterLoad::All) {
            return ClusterLoad::EACH.map(|load| Self { cluster: Some(load), ..self }).into();
        }
        match self.rate {
            Some(Rate::All) => {
                let shares = SHARES.map(Rate::Share);
                let rates = [Rate::Capacity].into_iter().chain(shares);
                rates.map(|rate| Self { rate: Some(rate), ..self }).collect()
            }
            _ => vec![self],
        }
    }

    /// Returns the load that measures the capacities of the same sizes.
    pub(super) fn capacity(&self) -> Self {
        Self { rate: Some(Rate::Capacity), ..*self }
    }

    /// Returns the pattern argument of the example server and the limit.
    pub(super) fn pattern(&self) -> &'static str {
        match self.scenario {
            Scenario::Echo => "echo",
            Scenario::Rooms | Scenario::Chat => "room",
            Scenario::Paced | Scenario::Saturated | Scenario::Idle => "broadcast",
        }
    }

    /// Returns the limit server that is the baseline.
    ///
    /// With one message in flight, batching has no effect; with many, a server without batching is far from the limit.
    pub(super) fn base(&self) -> &'static str {
        match self.scenario {
            Scenario::Paced | Scenario::Rooms | Scenario::Idle | Scenario::Chat => "limit-write",
            Scenario::Saturated | Scenario::Echo => "limit-batch",
        }
    }

    /// Returns whether the sizes are the defaults.
    ///
    /// Any size of a chat counts, since a short comparison has fewer clients.
    pub(super) fn is_usual(&self) -> bool {
        self.scenario == Scenario::Chat
            || self.heartbeats
            || self.rate.is_some()
            || self.cluster.is_some()
            || *self
                == Self {
                    free: self.free,
                    text: self.text,
                    tls: self.tls,
                    ..Self::usual(self.scenario, self.polling)
                }
    }

    /// Returns the maximum number of rounds of Roomcast, and of other projects' servers.
    ///
    /// Long loads run in fewer rounds.
    pub(super) fn most_rounds(&self) -> [usize; 2] {
        match (self.heartbeats, self.rate) {
            (true, _) => [3, 1],
            (_, Some(Rate::Capacity)) => [1, 1],
            (_, Some(_)) => [3, 3],
            _ => [usize::MAX; 2],
        }
    }

    fn usual(scenario: Scenario, polling: bool) -> Self {
        let clients = if polling { POLLING_CLIENTS } else { scenario.default_clients() };
        let payload = DEFAULT_PAYLOAD;
        Self {
            scenario,
            polling,
            free: false,
            text: false,
            tls: false,
            heartbeats: false,
            habit: None,
            rate: None,
            cluster: None,
            clients,
            payload,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(habit) = self.habit {
            write!(f, "{}-", habit.name())?;
        }
        f.write_str(if self.free { FREE } else { "" })?;
        f.write_str(if self.text { TEXT } else { "" })?;
        f.write_str(if self.tls { TLS } else { "" })?;
        f.write_str(if self.polling { POLLING } else { "" })?;
        let name = match (self.rate, self.cluster) {
            (Some(Rate::All), _) => LATENCY.into(),
            (Some(Rate::Capacity), _) => format!("{LATENCY}-{CAPACITY}"),
            (Some(Rate::Share(percent)), _) => format!("{LATENCY}-{percent}"),
            (None, Some(cluster)) => cluster.name().into(),
            _ if self.heartbeats => CONNECTIONS.into(),
            _ => self.scenario.name(),
        };
        write!(f, "{name}:{}", self.clients)?;
        if self.scenario == Scenario::Idle { Ok(()) } else { write!(f, ":{}", self.payload) }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let prefixed = |habit: Habit| Some((habit, name.strip_prefix(&habit.name())?.strip_prefix('-')?));
        let (habit, name) = match Habit::ALL.into_iter().find_map(prefixed) {
            Some((habit, name)) => (Some(habit), name),
            None => (None, name),
        };
        let (free, name) = name.strip_prefix(FREE).map_or((false, name), |name| (true, name));
        let (text, name) = name.strip_prefix(TEXT).map_or((false, name), |name| (true, name));
        let (tls, name) = name.strip_prefix(TLS).map_or((false, name), |name| (true, name));
        let (polling, name) = name.strip_prefix(POLLING).map_or((false, name), |name| (true, name));
        let heartbeats = name == CONNECTIONS;
        let rate = match name.strip_prefix(LATENCY).map(|rest| rest.strip_prefix('-').unwrap_or(rest)) {
            Some("") => Some(Rate::All),
            Some(CAPACITY) => Some(Rate::Capacity),
            Some(percent) => {
                Some(Rate::Share(share(percent).ok_or("latency- requires capacity, 30, 60 or 80")?))
            }
            None => None,
        };
        let cluster =
            [ClusterLoad::All].into_iter().chain(ClusterLoad::EACH).find(|load| load.name() == name);
        let scenario = match rate {
            Some(_) => Scenario::Paced,
            None if cluster == Some(ClusterLoad::Paced) => Scenario::Paced,
            None if cluster.is_some() => Scenario::Saturated,
            None if heartbeats => Scenario::Idle,
            None => Scenario::from_str(name, false)?,
        };
        if (heartbeats || rate.is_some() || cluster.is_some()) && (free || text || tls || polling) {
            return Err(format!("{name} supports neither free-, text-, tls- nor poll-"));
        }
        if polling && !matches!(scenario, Scenario::Paced | Scenario::Saturated) {
            return Err("poll- requires paced or saturated".into());
        }
        if scenario == Scenario::Chat && (free || text || tls) {
            return Err("chat supports neither free-, text- nor tls-".into());
        }
        let usual =
            Self { free, text, tls, heartbeats, habit, rate, cluster, ..Self::usual(scenario, polling) };
        let usual = match cluster {
            Some(_) => Self { clients: 1, payload: CLUSTER_PAYLOAD, ..usual },
            None => usual,
        };
        let mut number = |default| match parts.next() {
            Some("limit") if heartbeats => Ok(most_clients()),
            Some(number) => number.parse().map_err(|_| format!("{number} is not a number")),
            None => Ok(default),
        };
        let load = Self { clients: number(usual.clients)?, payload: number(usual.payload)?, ..usual };
        if cluster.is_some() && load.clients != 1 {
            return Err("a cluster has one client per server".into());
        }
        if parts.next().is_some() {
            return Err("expected NAME[:CLIENTS[:PAYLOAD]]".into());
        }
        Ok(load)
    }
}

fn share(percent: &str) -> Option<u8> {
    percent.parse().ok().filter(|percent| SHARES.contains(percent))
}

/// Returns the maximum number of connections of a process, for the load generator and the server alike.
fn most_clients() -> usize {
    let files = open_files_limit().unwrap_or_else(|| u64::from(u16::MAX));
    usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(SPARE_FILES).min(MOST_CLIENTS)
}

/// Returns the loads under which habits are compared.
pub(super) fn habit_loads() -> Vec<Load> {
    let varied = |load: &'static str| {
        let applies = move |habit: &Habit| *habit != Habit::BatchedPolls || load.starts_with(POLLING);
        let name = move |habit: Habit| format!("{}-{load}", habit.name()).parse::<Load>().ok();
        Habit::ALL.into_iter().filter(applies).filter_map(name)
    };
    HABIT_LOADS.into_iter().flat_map(varied).collect()
}

/// Returns the loads of servers in a cluster.
pub(super) fn cluster_loads() -> Vec<Load> {
    ClusterLoad::EACH.iter().filter_map(|load| load.name().parse().ok()).collect()
}

/// Loads that depend most on the habits of the load generator.
pub(super) const HABIT_LOADS: [&str; 4] = ["saturated", "paced", "echo", "poll-saturated"];

/// Default scenarios: all that the [targets](super::targets) refer to.
pub(super) const DEFAULT_LOADS: &str = "paced:1000:64,paced:100:64,paced:4000:64,paced:1000:1024,paced:100:1024,\
                                        paced:4000:1024,rooms,saturated,echo,idle,connections:5000,\
                                        connections:10000,connections:limit,chat,poll-paced,poll-saturated,\
                                        free-paced,free-saturated,free-rooms,\
                                        latency-capacity,latency-30,latency-60,latency-80,tls-paced,tls-saturated,tls-idle,\
                                        text-paced:1000:1024";

const FREE: &str = "free-";
const TEXT: &str = "text-";
const TLS: &str = "tls-";
const POLLING: &str = "poll-";
const LATENCY: &str = "latency";
const CAPACITY: &str = "capacity";
/// Shares of the lowest capacity at which latencies are measured, in percent.
const SHARES: [u8; 3] = [30, 60, 80];
const CONNECTIONS: &str = "connections";
/// Open files that a process needs besides its connections.
const SPARE_FILES: usize = 200;
/// Maximum number of clients of the load generator.
const MOST_CLIENTS: usize = 60_000;
const POLLING_CLIENTS: usize = 500;
/// Default payload of a message between servers.
const CLUSTER_PAYLOAD: usize = 180;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_sizes_with_defaults() {
        let load: Load = "paced:4000:1024".parse().unwrap();
        assert_eq!((load.scenario, load.clients, load.payload), (Scenario::Paced, 4000, 1024));
        for (text, whole, usual) in [
            ("rooms", "rooms:4000:64", true),
            ("poll-saturated", "poll-saturated:500:64", true),
            ("free-paced:1000", "free-paced:1000:64", true),
            ("free-saturated:10", "free-saturated:10:64", false),
            ("idle", "idle:10000", true),
            ("text-paced:1000:1024", "text-paced:1000:1024", false),
            ("paced:100", "paced:100:64", false),
            ("tls-idle:2000", "tls-idle:2000", false),
            ("delayed-acks-poll-saturated", "delayed-acks-poll-saturated:500:64", false),
            ("usual-echo", "usual-echo:64:64", false),
            ("latency", "latency:1000:64", true),
            ("latency-60:100", "latency-60:100:64", true),
            ("latency-capacity", "latency-capacity:1000:64", true),
            ("connections:5000", "connections:5000", true),
            ("cluster-paced", "cluster-paced:1:180", true),
            ("cluster-no-members:1:1024", "cluster-no-members:1:1024", true),
        ] {
            let load = text.parse::<Load>().unwrap();
            assert_eq!((load.to_string(), load.is_usual()), (whole.to_owned(), usual));
        }
        for wrong in [
            "",
            "pace",
            "paced:x",
            "paced:1:2:3",
            "poll-echo",
            "poll-free-paced",
            "free-chat",
            "free-connections",
            "latency-50",
            "poll-latency",
            "cluster:2",
            "free-cluster-paced",
        ] {
            assert!(wrong.parse::<Load>().is_err(), "{wrong}");
        }
        let all = "latency:500".parse::<Load>().unwrap().expanded();
        let names =
            ["latency-capacity:500:64", "latency-30:500:64", "latency-60:500:64", "latency-80:500:64"];
        assert_eq!(all.iter().map(Load::to_string).collect::<Vec<_>>(), names);
        let all: Vec<String> =
            "cluster".parse::<Load>().unwrap().expanded().iter().map(Load::to_string).collect();
        let names = ["saturated", "paced", "no-members", "rooms", "sessions"]
            .map(|name| format!("cluster-{name}:1:180"));
        assert_eq!(all, names);
        assert_eq!(habit_loads().len(), 3 * 5 + 6);
        assert!("idle:limit".parse::<Load>().is_err());
        let most = "connections:limit".parse::<Load>().unwrap();
        assert!(most.clients > 0 && most.to_string() == format!("connections:{}", most.clients));
        assert!(DEFAULT_LOADS.split(',').all(|load| load.parse::<Load>().is_ok()));
    }
}
