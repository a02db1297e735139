//! Figures of servers in a cluster with a stream.

use std::fmt::Write as _;

use roomcast_loadgen::{ClusterReport, Report};

use super::cluster::{Cluster, shown};
use crate::cluster::ClusterLoad;
use crate::contender::{NODE_ADAPTERS, stream_servers};
use crate::load::{Load, cluster_loads};
use crate::table::paired;

impl Cluster<'_> {
    /// Returns a table of the costs of messages, with a row per load and server.
    pub(super) fn stream_costs(&self) -> String {
        let mut text =
            "| Load | Servers | sender µs | receiver µs | sender to Node | receiver to Node | Redis µs |\n\
                        | --- | --- | --- | --- | --- | --- | --- |\n"
                .to_owned();
        for load in cluster_loads().iter().filter(|load| load.cluster != Some(ClusterLoad::Sessions)) {
            for server in stream_servers() {
                let time = |value: fn(&ClusterReport) -> f64| shown(self.summary(load, server, value));
                let ratio = |value: fn(&ClusterReport) -> f64| self.to_node(load, server, value);
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

    /// Returns a table of the costs of sessions.
    pub(super) fn session_costs(&self) -> String {
        let mut text =
            "| Servers | server µs per change | to Node | Redis µs per change | µs per second of an idle \
                        session, both |\n| --- | --- | --- | --- | --- |\n"
                .to_owned();
        for load in cluster_loads().iter().filter(|load| load.cluster == Some(ClusterLoad::Sessions)) {
            for server in stream_servers() {
                let time = |value: fn(&ClusterReport) -> f64| shown(self.summary(load, server, value));
                _ = writeln!(
                    text,
                    "| `{server}` | {} | {} | {} | {} |",
                    time(|it| it.sender_us),
                    self.to_node(load, server, |it| it.sender_us),
                    time(|it| it.redis_us),
                    time(|it| it.idle_us),
                );
            }
        }
        text
    }

    /// Returns the ratio of a time to that of Node's server without recovery.
    fn to_node(&self, load: &Load, server: &str, value: fn(&ClusterReport) -> f64) -> String {
        let [_, _, (node, _)] = NODE_ADAPTERS;
        if server == node {
            return "1".to_owned();
        }
        let name = load.to_string();
        let value = |report: &Report| report.cluster.as_ref().map(value);
        shown(paired(self.0.runs.iter().filter(|run| run.load == name), server, node, value))
    }
}
