//! Redis Cluster of the tests: three masters and a replica of each.

use std::time::Duration;

use super::{Redis, free_port, until};

/// Running cluster; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Redis>,
    ids: Vec<String>,
    buses: Vec<u16>,
    /// Ports with TLS, if it is used.
    pub(crate) tls_ports: Vec<u16>,
}

const MASTERS: usize = 3;

impl Cluster {
    /// Starts the servers, which are masters and replicas in this order.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_each(config, None)
    }

    /// Starts servers whose connections of each kind use TLS, with a certificate and its key by their path without
    /// extension.
    pub(crate) fn start_tls(config: &str, certificate: &str) -> Self {
        Self::start_each(config, Some(certificate))
    }

    fn start_each(config: &str, certificate: Option<&str>) -> Self {
        let (servers, ids, buses, tls_ports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut cluster = Self { servers, ids, buses, tls_ports };
        for index in 0..2 * MASTERS {
            let bus = free_port();
            let tls = certificate.map_or_else(String::new, |certificate| {
                let port = free_port();
                cluster.tls_ports.push(port);
                format!(
                    "tls-port {port}\ntls-cert-file {certificate}.crt\ntls-key-file {certificate}.key\n\
                     tls-ca-cert-file {certificate}.crt\ntls-auth-clients no\ntls-replication yes\ntls-cluster yes\n"
                )
            });
            let server = Redis::start(&format!(
                "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}\n\
                 cluster-node-timeout 1000\ncluster-require-full-coverage no\n\
                 cluster-replica-validity-factor 0\nrepl-diskless-sync-delay 0\n{tls}{config}"
            ));
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            let id = server.command(&["CLUSTER", "MYID"]);
            cluster.ids.push(id.lines().nth(1).expect("an id").to_owned());
            cluster.buses.push(bus);
            cluster.servers.push(server);
        }
        for (index, [first, last]) in [[0, 5460], [5461, 10_922], [10_923, 16_383]].into_iter().enumerate() {
            let range = [first.to_string(), last.to_string()];
            let reply = cluster.servers[index].command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            assert_eq!(reply, "+OK\r\n");
        }
        for (server, bus) in cluster.servers.iter().zip(&cluster.buses) {
            let (port, bus) = (server.port.to_string(), bus.to_string());
            cluster.servers[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let all_know = |text: &str| {
            cluster.servers.iter().all(|server| server.command(&["CLUSTER", "INFO"]).contains(text))
        };
        assert!(until(START, || all_know("cluster_known_nodes:6")), "the servers do not meet");
        for index in 0..MASTERS {
            let replica = &cluster.servers[index + MASTERS];
            let replicates = || replica.command(&["CLUSTER", "REPLICATE", &cluster.ids[index]]) == "+OK\r\n";
            assert!(until(START, replicates), "a server does not become a replica");
        }
        assert!(until(START, || all_know("cluster_state:ok")), "the cluster is not in order");
        assert!(until(START, || cluster.is_whole()), "the replicas do not follow");
        cluster
    }

    /// Returns the URL with all servers.
    pub(crate) fn url(&self) -> String {
        let hosts = |ports: &[u16]| {
            let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            hosts.join(",")
        };
        if self.tls_ports.is_empty() {
            let ports: Vec<_> = self.servers.iter().map(|server| server.port).collect();
            return format!("redis://{}", hosts(&ports));
        }
        format!("rediss://{}", hosts(&self.tls_ports))
    }

    /// Returns whether each master has a replica that follows it.
    pub(crate) fn is_whole(&self) -> bool {
        let whole = |server: &&Redis| {
            server.command(&["INFO", "replication"]).contains("connected_slaves:1\r\n")
                && self.is_master(server)
        };
        let agree = |server: &Redis| {
            let nodes = server.command(&["CLUSTER", "NODES"]);
            !nodes.contains("fail") && nodes.matches("slave").count() == MASTERS
        };
        self.servers.iter().filter(whole).count() == MASTERS && self.servers.iter().all(agree)
    }

    pub(crate) fn is_master(&self, server: &Redis) -> bool {
        server.try_command(&["ROLE"]).is_some_and(|role| role.contains("master"))
    }

    /// Returns the indices of the masters.
    pub(crate) fn masters(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|index| self.is_master(&self.servers[*index])).collect()
    }

    /// Returns the master of a slot, as it knows itself.
    pub(crate) fn owner(&self, slot: u16) -> usize {
        // The own line has the slots of a master, as ranges.
        let owns = |index: &usize| {
            let nodes = self.servers[*index].command(&["CLUSTER", "NODES"]);
            let own = nodes.lines().find(|line| line.contains("myself,master")).unwrap_or_default();
            own.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bounds = (first.parse::<u16>(), last.parse::<u16>());
                matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            })
        };
        self.masters().into_iter().find(owns).expect("a master of the slot")
    }

    /// Waits until all servers know the last change of slots.
    ///
    /// Two masters that take slots at the same time may choose the same epoch, and then disagree about a slot for good.
    pub(crate) fn wait_for_agreement(&self) {
        let epoch = |server: &Redis| {
            let info = server.command(&["CLUSTER", "INFO"]);
            info.lines().find(|line| line.starts_with("cluster_current_epoch")).map(str::to_owned)
        };
        let agree = || self.servers.iter().all(|server| epoch(server) == epoch(&self.servers[0]));
        assert!(until(START, agree), "the servers do not agree");
    }

    /// Moves a slot without keys to another master.
    pub(crate) fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let set = |server: usize, args: &[&str]| {
            let command = [&["CLUSTER", "SETSLOT", &slot], args].concat();
            assert_eq!(self.servers[server].command(&command), "+OK\r\n");
        };
        set(to, &["IMPORTING", &self.ids[from]]);
        set(from, &["MIGRATING", &self.ids[to]]);
        set(to, &["NODE", &self.ids[to]]);
        set(from, &["NODE", &self.ids[to]]);
    }
}

const START: Duration = Duration::from_secs(20);
