use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Load;
use super::cluster::ClusterLoad;
use super::trial::PING_INTERVAL;
use roomcast_loadgen::scenario::{Kind, Scenario};

/// Server to run, and the protocol of its clients: `NAME=KIND[/PATH]:COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    name: String,
    family: Family,
    kind: Kind,
    /// WebSocket endpoint, if not the default.
    path: Option<String>,
    program: PathBuf,
    /// Arguments with the placeholders `{port}` and `{pattern}`.
    arguments: Vec<String>,
    /// Whether it accepts `--ping-interval SECONDS`.
    pings: bool,
    /// Required file besides the program.
    needs: Option<PathBuf>,
    /// How to build it.
    remedy: String,
}

/// Role of a server; determines its position in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Baseline of all ratios.
    Limit,
    /// Bare loop of another design, which checks the limits.
    OtherLimit,
    /// Roomcast stand-alone, on one thread.
    Product,
    /// Roomcast inside another HTTP server.
    Mounted,
    /// Roomcast on several threads.
    Threads,
    /// Roomcast with compression, for clients that negotiate it.
    Compressed,
    /// Roomcast with connection state recovery.
    Recovery,
    /// Roomcast with MessagePack packets.
    Msgpack,
    /// Roomcast with TLS.
    Tls,
    /// Roomcast with TLS, for clients that resume sessions.
    Resumed,
    /// Server of another project.
    Peer,
    /// Server of another project on several threads.
    PeerThreads,
    /// Server of another project with MessagePack packets.
    PeerMsgpack,
    /// Roomcast in a cluster.
    Cluster,
    /// Roomcast in a cluster on several Redis servers.
    ClusterServers,
    /// Server of another project in a cluster.
    PeerCluster,
    /// Client library of Redis without a server.
    BareClient,
    /// Server given on the command line.
    Given,
}

impl Family {
    pub(super) fn is_peer(self) -> bool {
        matches!(self, Self::Peer | Self::PeerThreads | Self::PeerMsgpack | Self::PeerCluster)
    }

    /// Returns whether it takes part in a cluster.
    fn is_clustered(self) -> bool {
        matches!(self, Self::Cluster | Self::ClusterServers | Self::PeerCluster | Self::BareClient)
    }
}

impl Contender {
    /// Returns the two limits, all variants of Roomcast's example, and the peers.
    pub(super) fn built_in(programs: &Programs) -> Vec<Self> {
        let mut all: Vec<Self> = ["write", "batch"].map(|send| Self::limit(programs, send)).into();
        all.push(Self {
            name: "limit-other".into(),
            family: Family::OtherLimit,
            program: programs.limit.with_file_name("limit_other"),
            arguments: words("{port} {pattern}"),
            ..Self::limit(programs, "batch")
        });
        for (name, kind) in [("roomcast-plain", Kind::Plain), ("roomcast-sio", Kind::Sio)] {
            for (suffix, family, arguments) in [
                ("", Family::Product, "--threads 1"),
                ("-mounted", Family::Mounted, "--mounted"),
                ("-2-threads", Family::Threads, "--threads 2"),
                ("-compressed", Family::Compressed, "--compression"),
                ("-recovery", Family::Recovery, "--recovery"),
                ("-msgpack", Family::Msgpack, "--msgpack"),
                ("-tls", Family::Tls, "--tls {certificate} {key}"),
                ("-tls-resumed", Family::Resumed, "--tls {certificate} {key}"),
            ] {
                // Plain text has neither packets nor room for an offset.
                if matches!(family, Family::Recovery | Family::Msgpack) && kind == Kind::Plain {
                    continue;
                }
                let tls = matches!(family, Family::Tls | Family::Resumed);
                let build = if tls { " --features tls --target-dir target/tls" } else { "" };
                let file = |name: &str| programs.certificates.join(name).display().to_string();
                let fill = |word: String| match word.as_str() {
                    "{certificate}" => file("one.crt"),
                    "{key}" => file("one.key"),
                    _ => word,
                };
                let arguments = words(&format!("{{port}} {{pattern}} {arguments}"));
                all.push(Self {
                    name: format!("{name}{suffix}"),
                    family,
                    kind: if family == Family::Msgpack { Kind::Msgpack } else { kind },
                    path: (family == Family::Msgpack).then(|| MSGPACK_PATH.into()),
                    program: if tls { &programs.tls_server } else { &programs.fanout_server }.clone(),
                    arguments: arguments.into_iter().map(fill).collect(),
                    pings: true,
                    needs: None,
                    remedy: format!("cargo build --profile dist -p roomcast --example fanout_server{build}"),
                });
            }
        }
        all.extend(PEERS.iter().map(|peer| peer.contender(programs)));
        all.extend(Self::clustered(programs));
        all
    }

    /// Returns the servers that are compared in a cluster on Redis.
    fn clustered(programs: &Programs) -> Vec<Self> {
        let node =
            Peer { name: "", kind: Kind::Sio, program: "cluster.js", arguments: "" }.contender(programs);
        let script = node.arguments.first().cloned().unwrap_or_default();
        let servers = |family, names: &[(&str, &str)]| {
            let server = |(name, adapter): &(&str, &str)| {
                let mut arguments = words(&format!("{{port}} --redis {{redis}} --adapter {adapter}"));
                let (program, needs, remedy) = if family != Family::PeerCluster {
                    let build =
                        "cargo build --profile dist -p roomcast --features redis --example cluster_fanout";
                    (programs.cluster_server.clone(), None, build.to_owned())
                } else {
                    arguments.insert(0, script.clone());
                    (node.program.clone(), node.needs.clone(), node.remedy.clone())
                };
                let name = (*name).into();
                let kind = Kind::Sio;
                Self { name, family, kind, path: None, program, arguments, pings: false, needs, remedy }
            };
            names.iter().map(server).collect::<Vec<_>>()
        };
        let mut all = servers(Family::Cluster, &ROOMCAST_ADAPTERS);
        for (name, count) in SEVERAL_SERVERS {
            let mut server = servers(Family::ClusterServers, &[(name, "native")]);
            for server in &mut server {
                let others = " --redis {redis}".repeat(count - 1);
                server.arguments.extend(words(others.trim_start()));
            }
            all.extend(server);
        }
        all.extend(servers(Family::PeerCluster, &NODE_ADAPTERS));
        all.extend(servers(Family::Cluster, &ROOMCAST_STREAMS));
        all.extend(servers(Family::PeerCluster, &NODE_STREAMS));
        all.extend(BARE_CLIENTS.map(|(name, format)| Self {
            name: name.into(),
            family: Family::BareClient,
            program: programs.bare_client.clone(),
            arguments: words(&format!("{{role}} {{redis}} {format}")),
            remedy: "cargo build --profile dist -p roomcast-backplane-redis --example bare_client".into(),
            ..Self::limit(programs, "batch")
        }));
        all
    }

    fn limit(programs: &Programs, send: &str) -> Self {
        Self {
            name: format!("limit-{send}"),
            family: Family::Limit,
            kind: Kind::Plain,
            path: None,
            program: programs.limit.clone(),
            arguments: words(&format!("--port {{port}} --send {send} --pattern {{pattern}}")),
            pings: false,
            needs: None,
            remedy: "cargo build --profile dist -p roomcast-compare".into(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Returns whether it runs under this load: it must support the load and, unless `named`, give useful results.
    pub(super) fn takes(&self, load: &Load, named: bool) -> bool {
        if let Some(cluster) = load.cluster {
            let is_rooms = cluster == ClusterLoad::Rooms;
            return match self.family {
                // Other adapters have no sessions.
                _ if cluster == ClusterLoad::Sessions => self.has_stream(),
                // Other clusters are on one Redis server.
                Family::Cluster => !is_rooms || named || self.name == ROOMCAST_ADAPTERS[0].0,
                Family::PeerCluster => !is_rooms || named,
                Family::ClusterServers => is_rooms,
                // A bare client has no rooms and no other costs.
                Family::BareClient => cluster == ClusterLoad::Saturated,
                _ => false,
            };
        }
        if self.family.is_clustered() {
            return false;
        }
        let speaks = !load.polling || self.family == Family::Limit || self.kind == Kind::Sio;
        let fan_out = matches!(load.scenario, Scenario::Paced | Scenario::Saturated | Scenario::Rooms);
        let together = fan_out || load.scenario == Scenario::Chat;
        let usual = load.is_usual() && !load.free && !load.text && !load.tls;
        let rated = load.rate.is_some();
        let idle = load.scenario == Scenario::Idle;
        let tells = named
            || match self.family {
                Family::Limit => !load.free && !load.text && !load.tls && self.name == load.base(),
                Family::OtherLimit => usual && !rated && !load.polling && load.pattern() != "room" && !idle,
                Family::Product => true,
                Family::Compressed => load.text,
                Family::Tls => load.tls && !load.polling,
                // Resumption only changes the handshake.
                Family::Resumed => load.tls && load.scenario == Scenario::Idle,
                Family::Mounted => usual && !load.polling && together && !rated,
                Family::Recovery => usual && !rated && !load.polling && fan_out,
                Family::Msgpack | Family::PeerMsgpack => usual && !rated && fan_out,
                Family::Threads => load.free,
                Family::PeerThreads => load.free && load.is_usual(),
                // Finding a capacity takes long, so only the better one of a server's variants runs.
                Family::Peer => usual && !(rated && PEERS.iter().any(|peer| self.is_untuned(peer))),
                Family::Cluster | Family::ClusterServers | Family::PeerCluster | Family::BareClient => false,
                Family::Given => usual,
            };
        speaks && tells
    }

    /// Returns whether it is in a cluster with a stream.
    fn has_stream(&self) -> bool {
        stream_servers().any(|name| name == self.name)
    }

    /// Returns whether `peer` is the same server with `-tuned`.
    fn is_untuned(&self, peer: &Peer) -> bool {
        peer.name.strip_suffix("-tuned") == Some(&self.name)
    }

    pub(super) fn kind(&self, load: &Load) -> Kind {
        if load.polling { Kind::Poll } else { self.kind }
    }

    /// Returns whether its clients negotiate compression, which exists only for WebSocket.
    pub(super) fn compresses(&self, load: &Load) -> bool {
        self.family == Family::Compressed && !load.polling
    }

    /// Returns whether its clients use TLS.
    pub(super) fn encrypts(&self) -> bool {
        matches!(self.family, Family::Tls | Family::Resumed)
    }

    /// Returns whether its clients resume TLS sessions.
    pub(super) fn resumes(&self) -> bool {
        self.family == Family::Resumed
    }

    /// Returns the position in a round, which puts a server next to its baseline.
    ///
    /// The limit is in the middle, Roomcast on both sides of it, and outside are the servers with Roomcast as baseline.
    /// Other servers have no position.
    pub(super) fn place(&self) -> Option<i8> {
        let side = if self.kind == Kind::Plain { -1 } else { 1 };
        match self.family {
            Family::Limit => Some(0),
            // A position of its own, since the limit is next to Roomcast.
            Family::OtherLimit => Some(4),
            Family::Product => Some(side),
            Family::Mounted
            | Family::Threads
            | Family::Compressed
            | Family::Recovery
            | Family::Tls
            | Family::Resumed => Some(2 * side),
            Family::Msgpack => Some(3 * side),
            // Node's classic and sharded adapters are next to Roomcast's, and Roomcast's are near the bare client.
            Family::BareClient | Family::ClusterServers => Some(0),
            Family::Cluster if self.name == ROOMCAST_ADAPTERS[1].0 => Some(1),
            Family::Cluster if self.name == ROOMCAST_ADAPTERS[2].0 => Some(-2),
            Family::Cluster => Some(-1),
            Family::PeerCluster if self.name == NODE_ADAPTERS[0].0 => Some(2),
            Family::PeerCluster if self.name == NODE_ADAPTERS[1].0 => Some(-3),
            Family::Peer
            | Family::PeerThreads
            | Family::PeerMsgpack
            | Family::PeerCluster
            | Family::Given => None,
        }
    }

    pub(super) fn path(&self, load: &Load) -> Option<&str> {
        if load.polling { None } else { self.path.as_deref() }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the arguments of the servers in a cluster, with their placeholders.
    pub(super) fn cluster_arguments(&self) -> &[String] {
        &self.arguments
    }

    pub(super) fn arguments(&self, load: &Load, port: u16) -> Vec<String> {
        let polls = load.polling && self.family == Family::Limit;
        let pattern = if polls { "poll" } else { load.pattern() };
        let fill = |word: &String| word.replace("{port}", &port.to_string()).replace("{pattern}", pattern);
        let mut arguments: Vec<String> = self.arguments.iter().map(fill).collect();
        if self.pings && load.heartbeats {
            arguments.extend(["--ping-interval".into(), PING_INTERVAL.as_secs().to_string()]);
        }
        arguments
    }

    /// Returns why it cannot run here, with a remedy, or `None` if it can.
    pub(super) fn missing(&self) -> Option<String> {
        // A program without a folder is looked up on the path when it is started.
        let there = self.program.components().count() == 1 || self.program.is_file();
        if there && self.needs.as_ref().is_none_or(|needed| needed.exists()) {
            return None;
        }
        Some(format!("not built; {}", self.remedy))
    }
}

/// Paths of the programs.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) limit: PathBuf,
    pub(super) fanout_server: PathBuf,
    /// The example server of a cluster.
    pub(super) cluster_server: PathBuf,
    /// The client library of Redis as a program.
    pub(super) bare_client: PathBuf,
    /// The example server, built with TLS.
    pub(super) tls_server: PathBuf,
    /// Folder with `one.crt` and `one.key`.
    pub(super) certificates: PathBuf,
    /// Folder of the Rust peers.
    pub(super) rust_peers: PathBuf,
    /// Folder of the Node peers.
    pub(super) node_peers: PathBuf,
    /// Folder of the Python peers.
    pub(super) python_peers: PathBuf,
    /// Virtual environment of the Python peers.
    pub(super) python: PathBuf,
}

/// Server of another project, in `compare/peers`.
struct Peer {
    name: &'static str,
    kind: Kind,
    /// Script in `compare/peers/node` or `compare/peers/python`, or program of `compare/peers/rust`.
    program: &'static str,
    /// Arguments after port and pattern.
    arguments: &'static str,
}

impl Peer {
    fn contender(&self, programs: &Programs) -> Contender {
        let Self { name, kind, program, arguments } = *self;
        let run = "run `cargo xtask compare`";
        let (path, script, needs, remedy) = if program.ends_with(".js") {
            let folder = &programs.node_peers;
            let needs = folder.join("node_modules/.package-lock.json");
            ("node".into(), Some(folder.join(program)), Some(needs), run.to_owned())
        } else if program.ends_with(".py") {
            let script = programs.python_peers.join(program);
            let needs = programs.python.join("ready");
            let remedy = format!("{run}; needs Python with venv, and libuv (Debian: python3-venv, libuv1)");
            (programs.python.join("bin/python"), Some(script), Some(needs), remedy)
        } else {
            (programs.rust_peers.join(program), None, None, run.to_owned())
        };
        let mut words = words(&format!("{{port}} {{pattern}} {arguments}"));
        if let Some(script) = script {
            words.insert(0, script.display().to_string());
        }
        let threads = arguments.contains("--threads");
        Contender {
            name: name.into(),
            family: match kind {
                Kind::Msgpack => Family::PeerMsgpack,
                _ if threads => Family::PeerThreads,
                _ => Family::Peer,
            },
            kind,
            path: None,
            program: path,
            arguments: words,
            pings: ["socketioxide", "sockudo_ws", "socket.io.js"].contains(&program),
            needs,
            remedy,
        }
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
        let Some((name, (kind, command))) = parts else {
            return Err("expected NAME=KIND:COMMAND".into());
        };
        let (kind, path) =
            kind.find('/').map_or((kind, None), |at| (&kind[..at], Some(kind[at..].to_owned())));
        let kind = match kind {
            "plain" => Kind::Plain,
            "sio" => Kind::Sio,
            other => return Err(format!("unknown kind {other}; expected plain or sio")),
        };
        let mut words = words(command);
        if name.is_empty() || words.is_empty() {
            return Err("empty name or command".into());
        }
        if !command.contains("{port}") {
            return Err("the command must contain {port}".into());
        }
        let program = PathBuf::from(words.remove(0));
        Ok(Self {
            name: name.into(),
            family: Family::Given,
            kind,
            path,
            remedy: format!("no file {}", program.display()),
            program,
            arguments: words,
            pings: false,
            needs: None,
        })
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Peers, each set up as its documentation shows; `-tuned` with the one setting known to help.
///
/// On two threads, axum and tokio-tungstenite run with that setting.
const PEERS: &[Peer] = &[
    peer("ws", Kind::Plain, "ws.js", ""),
    peer("socket.io", Kind::Sio, "socket.io.js", ""),
    peer("socket.io-tuned", Kind::Sio, "socket.io.js", "--tuned"),
    peer("socket.io-msgpack", Kind::Msgpack, "socket.io.js", "--msgpack"),
    peer("socketioxide", Kind::Sio, "socketioxide", ""),
    peer("axum", Kind::Plain, "axum", ""),
    peer("axum-tuned", Kind::Plain, "axum", "--tuned"),
    peer("tokio-tungstenite", Kind::Plain, "tokio_tungstenite", ""),
    peer("tokio-tungstenite-tuned", Kind::Plain, "tokio_tungstenite", "--tuned"),
    peer("tokio-websockets", Kind::Plain, "tokio_websockets", ""),
    peer("fastwebsockets", Kind::Plain, "fastwebsockets", ""),
    peer("sockudo-ws", Kind::Plain, "sockudo_ws", ""),
    peer("socketify", Kind::Plain, "fanout.py", ""),
    peer("socketioxide-2-threads", Kind::Sio, "socketioxide", "--threads 2"),
    peer("axum-2-threads", Kind::Plain, "axum", "--tuned --threads 2"),
    peer("tokio-tungstenite-2-threads", Kind::Plain, "tokio_tungstenite", "--tuned --threads 2"),
    peer("tokio-websockets-2-threads", Kind::Plain, "tokio_websockets", "--threads 2"),
    peer("fastwebsockets-2-threads", Kind::Plain, "fastwebsockets", "--threads 2"),
    peer("sockudo-ws-2-threads", Kind::Plain, "sockudo_ws", "--threads 2"),
];

/// Roomcast's servers in a cluster, with their adapters.
pub(super) const ROOMCAST_ADAPTERS: [(&str, &str); 3] =
    [("roomcast-native", "native"), ("roomcast-classic", "classic"), ("roomcast-sharded", "sharded")];
/// Roomcast's servers in a cluster on several Redis servers, and their number.
pub(super) const SEVERAL_SERVERS: [(&str, usize); 2] =
    [("roomcast-native-2-redis", 2), ("roomcast-native-4-redis", 4)];
/// Node's servers in a cluster, with their adapters.
pub(super) const NODE_ADAPTERS: [(&str, &str); 3] =
    [("socket.io-classic", "classic"), ("socket.io-sharded", "sharded"), ("socket.io-streams", "streams")];

/// Roomcast's servers in a cluster with a stream.
const ROOMCAST_STREAMS: [(&str, &str); 3] = [
    ("roomcast-streams", "streams"),
    ("roomcast-streams-recovery", "streams-recovery"),
    ("roomcast-streams-sessions", "streams-sessions"),
];
/// Node's server in a cluster with a stream, with recovery; the one without is among its adapters.
const NODE_STREAMS: [(&str, &str); 1] = [("socket.io-streams-recovery", "streams-recovery")];

/// Returns the servers in a cluster with a stream; the first one of Node is the baseline.
pub(super) fn stream_servers() -> impl Iterator<Item = &'static str> {
    let [_, _, node] = NODE_ADAPTERS;
    ROOMCAST_STREAMS.into_iter().chain([node]).chain(NODE_STREAMS).map(|(name, _)| name)
}

/// Client library of Redis without a server, with the format of its traffic: bare, and as of Node's classic adapter.
pub(super) const BARE_CLIENTS: [(&str, &str); 2] = [("redis-rs", ""), ("redis-rs-classic", "node")];

/// Endpoint for MessagePack of the example server.
const MSGPACK_PATH: &str = "/msgpack/?EIO=4&transport=websocket";

const fn peer(name: &'static str, kind: Kind, program: &'static str, arguments: &'static str) -> Peer {
    Peer { name, kind, program, arguments }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn built_in() -> Vec<Contender> {
        let [tls_server, certificates] = ["tls/fanout_server", "certificates"].map(PathBuf::from);
        let [limit, fanout_server, rust_peers, node_peers, python_peers, python] =
            ["bin/limit", "bin/fanout_server", "peers", "node", "scripts", "python"].map(PathBuf::from);
        let programs = Programs {
            limit,
            cluster_server: fanout_server.with_file_name("cluster_fanout"),
            bare_client: fanout_server.with_file_name("bare_client"),
            fanout_server,
            tls_server,
            certificates,
            rust_peers,
            node_peers,
            python_peers,
            python,
        };
        Contender::built_in(&programs)
    }

    fn load(text: &str) -> Load {
        text.parse().unwrap()
    }

    fn arguments(name: &str, text: &str) -> String {
        built_in().iter().find(|it| it.name() == name).unwrap().arguments(&load(text), 9).join(" ")
    }

    #[test]
    fn fills_in_port_and_pattern() {
        let other: Contender = "other=plain/ws:./other -p {port} --do={pattern} x".parse().unwrap();
        assert_eq!((other.name(), other.program()), ("other", Path::new("./other")));
        assert_eq!(other.arguments(&load("rooms"), 81), ["-p", "81", "--do=room", "x"]);
        assert_eq!((other.kind(&load("rooms")), other.path(&load("rooms"))), (Kind::Plain, Some("/ws")));
        assert!(!other.takes(&load("poll-paced"), true));
        assert!(other.missing().unwrap().contains("./other"));
    }

    #[test]
    fn rejects_invalid_commands() {
        for wrong in ["x", "x=plain", "x=plain:", "=plain:a {port}", "x=udp:a {port}", "x=sio:a"] {
            assert!(wrong.parse::<Contender>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn runs_servers_under_useful_loads() {
        let names = |text: &str| {
            let load = load(text);
            let all = built_in();
            let taking = all.iter().filter(|it| it.takes(&load, false));
            taking.map(|it| it.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("paced:100:64"), ["limit-write", "roomcast-plain", "roomcast-sio"]);
        for (load, limit) in [("poll-paced", "limit-write"), ("poll-saturated", "limit-batch")] {
            assert_eq!(names(load), [limit, "roomcast-sio", "socket.io", "socket.io-tuned", "socketioxide"]);
        }
        let one_thread = PEERS
            .iter()
            .filter(|peer| !["-2-threads", "-msgpack"].iter().any(|it| peer.name.ends_with(it)))
            .count();
        let free = names("free-rooms");
        assert_eq!(
            free[..4],
            ["roomcast-plain", "roomcast-plain-2-threads", "roomcast-sio", "roomcast-sio-2-threads"]
        );
        assert!(free.contains(&"socketioxide-2-threads".to_owned()), "{free:?}");
        assert_eq!(free.len(), 4 + PEERS.iter().filter(|peer| peer.name.ends_with("-2-threads")).count());
        assert_eq!(
            names("text-paced:1000:1024"),
            ["roomcast-plain", "roomcast-plain-compressed", "roomcast-sio", "roomcast-sio-compressed"]
        );
        let both = |suffixes: [&str; 3]| {
            let of = |name: &str| suffixes.map(|suffix| format!("{name}{suffix}"));
            [of("roomcast-plain"), of("roomcast-sio")].concat()
        };
        assert_eq!(names("tls-idle"), both(["", "-tls", "-tls-resumed"]));
        assert_eq!(names("tls-paced").len(), 4);
        let latency = names("latency-30");
        assert_eq!(latency[..3], ["limit-write", "roomcast-plain", "roomcast-sio"]);
        assert!(latency.iter().any(|it| it == "axum-tuned") && latency.iter().all(|it| it != "axum"));
        // One peer speaks MessagePack.
        assert_eq!(names("paced").len(), 2 + 6 + one_thread + 1);
        assert!(
            ["roomcast-sio-msgpack", "socket.io-msgpack"]
                .iter()
                .all(|it| names("rooms").contains(&(*it).into()))
        );
        assert_eq!(names("echo").len(), 2 + 2 + one_thread);
        assert_eq!(names("chat:1000").len(), 1 + 4 + one_thread);
    }

    #[test]
    fn clustered_servers_run_only_in_clusters() {
        let names = |text: &str| {
            let (all, load) = (built_in(), load(text));
            let taking = all.iter().filter(|it| it.takes(&load, true));
            taking.map(|it| it.name().to_owned()).collect::<Vec<_>>()
        };
        let servers =
            ROOMCAST_ADAPTERS.iter().chain(&NODE_ADAPTERS).chain(&ROOMCAST_STREAMS).chain(&NODE_STREAMS);
        let servers: Vec<&str> = servers.map(|(name, _)| *name).collect();
        assert_eq!(names("cluster-paced"), servers);
        assert_eq!(names("cluster-no-members"), servers);
        let bare = BARE_CLIENTS.map(|(name, _)| name);
        assert_eq!(names("cluster-saturated"), [&servers[..], &bare].concat());
        let rooms = load("cluster-rooms");
        let all = built_in();
        let usual: Vec<&str> = all.iter().filter(|it| it.takes(&rooms, false)).map(Contender::name).collect();
        assert_eq!(usual, ["roomcast-native", "roomcast-native-2-redis", "roomcast-native-4-redis"]);
        assert_eq!(all.iter().filter(|it| it.takes(&rooms, true)).count(), servers.len() + 2);
        let two = all.iter().find(|it| it.name() == "roomcast-native-2-redis").unwrap();
        let arguments = two.cluster_arguments().join(" ");
        assert_eq!(arguments, "{port} --redis {redis} --adapter native --redis {redis}");
        let mut with_stream: Vec<&str> = stream_servers().collect();
        with_stream.sort_by_key(|name| servers.iter().position(|server| server == name));
        assert_eq!(names("cluster-sessions"), with_stream);
        assert!(!names("saturated").iter().any(|name| servers.contains(&&**name) || bare.contains(&&**name)));
        let all = built_in();
        let node = all.iter().find(|it| it.name() == "socket.io-sharded").unwrap();
        let arguments = node.cluster_arguments().join(" ");
        assert_eq!(arguments, "node/cluster.js {port} --redis {redis} --adapter sharded");
    }

    #[test]
    fn passes_arguments_to_each_server() {
        assert_eq!(arguments("limit-write", "poll-paced"), "--port 9 --send write --pattern poll");
        assert_eq!(arguments("limit-batch", "echo"), "--port 9 --send batch --pattern echo");
        assert_eq!(arguments("roomcast-sio", "poll-paced"), "9 broadcast --threads 1");
        assert_eq!(arguments("roomcast-plain-mounted", "rooms"), "9 room --mounted");
        assert_eq!(arguments("axum-tuned", "echo"), "9 echo --tuned");
        assert_eq!(arguments("axum-2-threads", "free-paced"), "9 broadcast --tuned --threads 2");
        assert_eq!(arguments("socket.io", "rooms"), "node/socket.io.js 9 room");
        assert_eq!(arguments("socket.io-msgpack", "paced"), "node/socket.io.js 9 broadcast --msgpack");
        assert_eq!(arguments("roomcast-sio-msgpack", "paced"), "9 broadcast --msgpack");
        assert_eq!(arguments("socketify", "echo"), "scripts/fanout.py 9 echo");
        let tls = "9 broadcast --tls certificates/one.crt certificates/one.key";
        assert_eq!(arguments("roomcast-plain-tls", "tls-paced"), tls);
        let pinged = "9 broadcast --threads 1 --ping-interval 2";
        assert_eq!(arguments("roomcast-sio", "connections:5000"), pinged);
        assert_eq!(arguments("axum", "connections:5000"), "9 broadcast");
    }

    #[test]
    fn every_unbuilt_peer_is_named_with_remedy() {
        let all = built_in();
        for peer in PEERS {
            let contender = all.iter().find(|it| it.name() == peer.name).unwrap();
            let missing = contender.missing().unwrap();
            assert!(missing.contains("cargo xtask compare"), "{}: {missing}", peer.name);
        }
        let socketify = all.iter().find(|it| it.name() == "socketify").unwrap().missing();
        assert!(socketify.unwrap().contains("libuv1"));
    }
}
