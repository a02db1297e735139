use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;

use crate::loadgen::{DEFAULT_PAYLOAD, Scenario};

/// One pattern of load with its sizes: `NAME[:CLIENTS[:PAYLOAD]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub(super) scenario: Scenario,
    /// By long-polling instead of WebSocket
    pub(super) polling: bool,
    pub(super) clients: usize,
    pub(super) payload: usize,
}

impl Load {
    /// What the product's example and the limit are told to do
    pub(super) fn pattern(&self) -> &'static str {
        match self.scenario {
            Scenario::Echo => "echo",
            Scenario::Rooms => "room",
            Scenario::Paced | Scenario::Saturated | Scenario::Idle => "broadcast",
        }
    }

    /// The limit server that all are divided by
    ///
    /// With one message on its way there is nothing to batch; with many, whoever does not batch is far from the limit.
    pub(super) fn base(&self) -> &'static str {
        match self.scenario {
            Scenario::Paced | Scenario::Rooms | Scenario::Idle => "limit-write",
            Scenario::Saturated | Scenario::Echo => "limit-batch",
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.polling { POLLING } else { "" };
        write!(f, "{prefix}{}:{}", self.scenario.name(), self.clients)?;
        if self.scenario == Scenario::Idle { Ok(()) } else { write!(f, ":{}", self.payload) }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let (polling, name) = name.strip_prefix(POLLING).map_or((false, name), |name| (true, name));
        let scenario = Scenario::from_str(name, false)?;
        if polling && !matches!(scenario, Scenario::Paced | Scenario::Saturated) {
            return Err("only paced and saturated go by long-polling".into());
        }
        let mut number = |default| match parts.next() {
            Some(number) => number.parse().map_err(|_| format!("{number} is not a number")),
            None => Ok(default),
        };
        let clients = number(if polling { POLLING_CLIENTS } else { scenario.default_clients() })?;
        let payload = number(DEFAULT_PAYLOAD)?;
        if parts.next().is_some() {
            return Err("expected NAME[:CLIENTS[:PAYLOAD]]".into());
        }
        Ok(Self { scenario, polling, clients, payload })
    }
}

/// The scenarios that are run if none are named
pub(super) const DEFAULT_LOADS: &str = "paced,saturated,echo,rooms,idle";

const POLLING: &str = "poll-";
const POLLING_CLIENTS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_fills_in_those_left_out() {
        let load: Load = "paced:4000:1024".parse().unwrap();
        assert_eq!((load.scenario, load.clients, load.payload), (Scenario::Paced, 4000, 1024));
        assert_eq!("rooms".parse::<Load>().unwrap().to_string(), "rooms:4000:64");
        assert_eq!("poll-saturated".parse::<Load>().unwrap().to_string(), "poll-saturated:500:64");
        assert_eq!("idle".parse::<Load>().unwrap().to_string(), "idle:10000");
        for wrong in ["", "pace", "paced:x", "paced:1:2:3", "poll-echo"] {
            assert!(wrong.parse::<Load>().is_err(), "{wrong}");
        }
    }
}
