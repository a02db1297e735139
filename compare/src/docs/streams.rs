//! Figures of servers in a cluster with a stream.

use std::fmt::Write as _;

use roomcast_loadgen::ClusterReport;

use super::cluster::{Cluster, node, shown};
use crate::cluster::ClusterLoad;
use crate::contender::stream_servers;
use crate::load::cluster_loads;

impl Cluster<'_> {
    /// Returns a table of the costs of sessions.
    pub(super) fn sessions(&self) -> String {
        let mut text =
            "| Servers | server µs per change | to Node | Redis µs per change | µs per second of an idle \
                        session, both |\n| --- | --- | --- | --- | --- |\n"
                .to_owned();
        for load in cluster_loads().iter().filter(|load| load.cluster == Some(ClusterLoad::Sessions)) {
            for server in stream_servers() {
                let base = node(server);
                let time = |value: fn(&ClusterReport) -> f64| shown(self.summary(load, server, value));
                _ = writeln!(
                    text,
                    "| `{server}` | {} | {} | {} | {} |",
                    time(|it| it.sender_us),
                    if server == base {
                        "1".to_owned()
                    } else {
                        shown(self.ratio(load, server, base, |it| it.sender_us))
                    },
                    time(|it| it.redis_us),
                    time(|it| it.idle_us),
                );
            }
        }
        text
    }
}
