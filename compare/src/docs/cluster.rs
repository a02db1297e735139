//! Figures of servers in a cluster.

use std::fmt::Write as _;

use roomcast_loadgen::{ClusterReport, Report};

use super::figures::{NOT_MEASURED, wrapped};
use crate::cluster::ClusterLoad;
use crate::contender::{BARE_CLIENTS, NODE_ADAPTERS, ROOMCAST_ADAPTERS, SEVERAL_SERVERS, stream_servers};
use crate::document::Record;
use crate::load::{Load, cluster_loads};
use crate::summary::{Summary, thousands};
use crate::table::paired;
use crate::targets::{Status, cluster_targets};

/// Results of `compare --cluster`.
#[derive(Debug)]
pub(super) struct Cluster<'a>(pub(super) &'a Record);

impl Cluster<'_> {
    /// Returns a table of the costs, with a row per load and server.
    pub(super) fn costs(&self) -> String {
        let mut text =
            "| Load | Servers | sender µs | receiver µs | sender to Node | receiver to Node | Redis µs |\n\
                        | --- | --- | --- | --- | --- | --- | --- |\n"
                .to_owned();
        for load in cluster_loads().into_iter().filter(|load| load.cluster != Some(ClusterLoad::Sessions)) {
            for server in self.contenders(&load) {
                let time = |value: fn(&ClusterReport) -> f64| shown(self.summary(&load, server, value));
                let ratio = |value: fn(&ClusterReport) -> f64| {
                    let base = node(server);
                    if server == base {
                        "1".to_owned()
                    } else {
                        shown(self.ratio(&load, server, base, value))
                    }
                };
                let sends = load.cluster != Some(ClusterLoad::NoMembers);
                let of_sender = |cell: String| if sends { cell } else { "–".to_owned() };
                _ = writeln!(
                    text,
                    "| `{}` | `{server}` | {} | {} | {} | {} | {} |",
                    load.cluster.map_or("", ClusterLoad::name),
                    of_sender(time(|it| it.sender_us)),
                    time(|it| it.receiver_us),
                    of_sender(ratio(|it| it.sender_us)),
                    ratio(|it| it.receiver_us),
                    time(|it| it.redis_us),
                );
            }
        }
        text
    }

    /// Returns a table of the costs and rates by the number of Redis servers.
    pub(super) fn servers(&self) -> String {
        let mut text = "| Redis servers | sender µs | receiver µs | Redis µs, all | messages/s | messages/s per Redis core \
                        | in total |\n| --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        let one = (ROOMCAST_ADAPTERS[0].0, 1);
        for load in cluster_loads().iter().filter(|it| it.cluster == Some(ClusterLoad::Rooms)) {
            for (server, count) in [one].into_iter().chain(SEVERAL_SERVERS) {
                let time = |value: fn(&ClusterReport) -> f64| shown(self.summary(load, server, value));
                let rate = |rate: f64| thousands((rate / 1000.0).round() * 1000.0);
                let rates = |value: fn(&ClusterReport) -> f64, times: f64| {
                    let value = self.summary(load, server, value);
                    value.map_or_else(|| NOT_MEASURED.into(), |it| rate(it.median * times))
                };
                let per_core: fn(&ClusterReport) -> f64 = |it| 1e6 / it.redis_us;
                _ = writeln!(
                    text,
                    "| {count} | {} | {} | {} | {} | {} | {} |",
                    time(|it| it.sender_us),
                    time(|it| it.receiver_us),
                    time(|it| it.redis_us),
                    rates(|it| it.messages_per_s, 1.0),
                    rates(per_core, 1.0),
                    rates(per_core, count as f64),
                );
            }
        }
        text
    }

    /// Returns a table of the targets.
    pub(super) fn targets(&self) -> String {
        let mut text = "| Case | Load | Servers | to | measured | must | aim |\n\
                        | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        // The results of another run have the other servers.
        let is_here = |server: &str| self.0.runs.iter().any(|run| run.server == server);
        for target in cluster_targets().into_iter().filter(|target| is_here(&target.server)) {
            let measured = target.measured(&self.0.runs);
            let value = measured.map_or_else(|| NOT_MEASURED.into(), |it| target.text(it));
            let missed = target.status(measured) == Status::Missed;
            let name = target.load.split(':').next().unwrap_or_default();
            _ = writeln!(
                text,
                "| {} | `{name}` | `{}` | {} | {} | {:.2} | {:.2} |",
                target.case,
                target.server,
                target.base.as_ref().map_or_else(|| "–".to_owned(), |base| format!("`{base}`")),
                if missed { format!("**{value}**") } else { value },
                target.must,
                target.aim,
            );
        }
        text
    }

    /// Returns a table of the messages per second that one core sends or receives.
    pub(super) fn sizing(&self) -> String {
        let mut text =
            "| Servers | *o*, sender | messages/s per core | *i*, receiver | messages/s per core |\n\
                        | --- | --- | --- | --- | --- |\n"
                .to_owned();
        let Some(load) = cluster_loads().into_iter().find(|it| it.cluster == Some(ClusterLoad::Saturated))
        else {
            return text;
        };
        for server in self
            .contenders(&load)
            .into_iter()
            .filter(|name| BARE_CLIENTS.iter().all(|(bare, _)| bare != name))
        {
            let time = |value: fn(&ClusterReport) -> f64| self.summary(&load, server, value);
            let per_core = |time: Option<Summary>| {
                time.map_or_else(|| NOT_MEASURED.into(), |it| thousands((1e4 / it.median).round() * 100.0))
            };
            let cost = |time: Option<Summary>| {
                time.map_or_else(|| NOT_MEASURED.into(), |it| format!("{} µs", it.text(2)))
            };
            let (sender, receiver) = (time(|it| it.sender_us), time(|it| it.receiver_us));
            _ = writeln!(
                text,
                "| `{server}` | {} | {} | {} | {} |",
                cost(sender),
                per_core(sender),
                cost(receiver),
                per_core(receiver)
            );
        }
        text
    }

    /// Returns date, machine and number of rounds.
    pub(super) fn source(&self) -> String {
        let Record { rounds, machine, runs, versions, .. } = self.0;
        let noisy = runs.iter().filter(|run| run.noisy).count();
        let has_streams = runs.iter().any(|run| run.server == NODE_ADAPTERS[2].0);
        let adapter =
            if has_streams { "@socket.io/redis-streams-adapter" } else { "@socket.io/redis-adapter" };
        let versions: Vec<String> = ["roomcast", "node", adapter, "redis", "redis-server"]
            .iter()
            .filter_map(|name| versions.iter().find(|version| version.0 == *name))
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        wrapped(&format!(
            "Median and 95 % interval of {rounds} rounds, {}; {noisy} of {} runs are noisy. {machine}. Both servers on \
             one CPU, Redis and the clients on the other. Versions: {}.",
            self.0.date(),
            runs.len(),
            versions.join(", "),
        ))
    }

    /// Returns the servers that took part under a load.
    fn contenders(&self, load: &Load) -> Vec<&'static str> {
        let name = load.to_string();
        let runs: Vec<&str> =
            self.0.runs.iter().filter(|run| run.load == name).map(|run| &*run.server).collect();
        let adapters = ROOMCAST_ADAPTERS.iter().chain(&NODE_ADAPTERS).map(|(name, _)| *name);
        let streams = stream_servers().filter(|name| !adapters.clone().any(|it| it == *name));
        adapters
            .clone()
            .chain(streams)
            .chain(BARE_CLIENTS.map(|(name, _)| name))
            .filter(|name| runs.contains(name))
            .collect()
    }

    pub(super) fn summary(
        &self,
        load: &Load,
        server: &str,
        value: fn(&ClusterReport) -> f64,
    ) -> Option<Summary> {
        let name = load.to_string();
        let reports = self.0.results(&name, server);
        Summary::of(reports.filter_map(|report| report.cluster.as_ref().map(value)))
    }

    pub(super) fn ratio(
        &self,
        load: &Load,
        server: &str,
        base: &str,
        value: fn(&ClusterReport) -> f64,
    ) -> Option<Summary> {
        let name = load.to_string();
        let value = |report: &Report| report.cluster.as_ref().map(value);
        paired(self.0.runs.iter().filter(|run| run.load == name), server, base, value)
    }
}

pub(super) fn shown(value: Option<Summary>) -> String {
    value.map_or_else(|| NOT_MEASURED.into(), |it| it.text(2))
}

/// Returns Node's server with the same adapter; the classic one for servers without counterpart.
pub(super) fn node(server: &str) -> &'static str {
    let [(_, _), (_, _), (sharded, _)] = ROOMCAST_ADAPTERS;
    let [(classic, _), (node_sharded, _), (streams, _)] = NODE_ADAPTERS;
    match server {
        _ if server == sharded || server == node_sharded => node_sharded,
        _ if stream_servers().any(|name| name == server) => streams,
        _ => classic,
    }
}
