use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Load;
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
    /// Server of another project.
    Peer,
    /// Server given on the command line.
    Given,
}

impl Contender {
    /// Returns the two limits, all variants of Roomcast's example, and the peers.
    pub(super) fn built_in(programs: &Programs) -> Vec<Self> {
        let mut all: Vec<Self> = ["write", "batch"].map(|send| Self::limit(programs, send)).into();
        for (name, kind) in [("roomcast-plain", Kind::Plain), ("roomcast-sio", Kind::Sio)] {
            for (suffix, family, arguments) in [
                ("", Family::Product, "--threads 1"),
                ("-mounted", Family::Mounted, "--mounted"),
                ("-2-threads", Family::Threads, "--threads 2"),
                ("-compressed", Family::Compressed, "--compression"),
                ("-recovery", Family::Recovery, "--recovery"),
            ] {
                // Plain text has no room for an offset, so plain clients cannot recover.
                if family == Family::Recovery && kind == Kind::Plain {
                    continue;
                }
                all.push(Self {
                    name: format!("{name}{suffix}"),
                    family,
                    kind,
                    path: None,
                    program: programs.fanout_server.clone(),
                    arguments: words(&format!("{{port}} {{pattern}} {arguments}")),
                    needs: None,
                    remedy: "cargo build --release -p roomcast --example fanout_server".into(),
                });
            }
        }
        all.extend(PEERS.iter().map(|peer| peer.contender(programs)));
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
            needs: None,
            remedy: "cargo build --release -p roomcast-compare".into(),
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
        let speaks = !load.polling || self.family == Family::Limit || self.kind == Kind::Sio;
        let fan_out = matches!(load.scenario, Scenario::Paced | Scenario::Saturated | Scenario::Rooms);
        let together = fan_out || load.scenario == Scenario::Chat;
        let usual = load.is_usual() && !load.free && !load.text;
        let tells = named
            || match self.family {
                Family::Limit => !load.free && !load.text && self.name == load.base(),
                Family::Product => true,
                Family::Compressed => load.text,
                Family::Mounted => usual && !load.polling && together,
                Family::Recovery => usual && !load.polling && fan_out,
                Family::Threads => load.free,
                Family::Peer | Family::Given => usual,
            };
        speaks && tells
    }

    pub(super) fn kind(&self, load: &Load) -> Kind {
        if load.polling { Kind::Poll } else { self.kind }
    }

    /// Returns whether its clients negotiate compression, which exists only for WebSocket.
    pub(super) fn compresses(&self, load: &Load) -> bool {
        self.family == Family::Compressed && !load.polling
    }

    /// Returns the position in a round, which puts a server next to its baseline.
    ///
    /// The limit is in the middle, Roomcast on both sides of it, and outside are the servers with Roomcast as baseline.
    /// Other servers have no position.
    pub(super) fn place(&self) -> Option<i8> {
        let side = if self.kind == Kind::Plain { -1 } else { 1 };
        match self.family {
            Family::Limit => Some(0),
            Family::Product => Some(side),
            Family::Mounted | Family::Threads | Family::Compressed | Family::Recovery => Some(2 * side),
            Family::Peer | Family::Given => None,
        }
    }

    pub(super) fn path(&self, load: &Load) -> Option<&str> {
        if load.polling { None } else { self.path.as_deref() }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn arguments(&self, load: &Load, port: u16) -> Vec<String> {
        let polls = load.polling && self.family == Family::Limit;
        let pattern = if polls { "poll" } else { load.pattern() };
        let fill = |word: &String| word.replace("{port}", &port.to_string()).replace("{pattern}", pattern);
        self.arguments.iter().map(fill).collect()
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
    /// Folder of the Rust peers.
    pub(super) rust_peers: PathBuf,
    /// Folder of the Node peers.
    pub(super) node_peers: PathBuf,
}

/// Server of another project, in `compare/peers`.
struct Peer {
    name: &'static str,
    kind: Kind,
    /// Script in `compare/peers/node`, or program of `compare/peers/rust`.
    program: &'static str,
    tuned: bool,
}

impl Peer {
    fn contender(&self, programs: &Programs) -> Contender {
        let tuned = if self.tuned { " --tuned" } else { "" };
        let script = programs.node_peers.join(self.program);
        let node = self.program.ends_with(".js");
        let mut arguments = words(&format!("{{port}} {{pattern}}{tuned}"));
        if node {
            arguments.insert(0, script.display().to_string());
        }
        Contender {
            name: self.name.into(),
            family: Family::Peer,
            kind: self.kind,
            path: None,
            program: if node { "node".into() } else { programs.rust_peers.join(self.program) },
            arguments,
            needs: node.then(|| programs.node_peers.join("node_modules/.package-lock.json")),
            remedy: "run `cargo xtask compare`".into(),
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
            needs: None,
        })
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Peers, each set up as its documentation shows; `-tuned` with the one setting known to help.
const PEERS: [Peer; 10] = [
    Peer { name: "ws", kind: Kind::Plain, program: "ws.js", tuned: false },
    Peer { name: "socket.io", kind: Kind::Sio, program: "socket.io.js", tuned: false },
    Peer { name: "socket.io-tuned", kind: Kind::Sio, program: "socket.io.js", tuned: true },
    Peer { name: "socketioxide", kind: Kind::Sio, program: "socketioxide", tuned: false },
    Peer { name: "axum", kind: Kind::Plain, program: "axum", tuned: false },
    Peer { name: "axum-tuned", kind: Kind::Plain, program: "axum", tuned: true },
    Peer { name: "tokio-tungstenite", kind: Kind::Plain, program: "tokio_tungstenite", tuned: false },
    Peer { name: "tokio-tungstenite-tuned", kind: Kind::Plain, program: "tokio_tungstenite", tuned: true },
    Peer { name: "tokio-websockets", kind: Kind::Plain, program: "tokio_websockets", tuned: false },
    Peer { name: "fastwebsockets", kind: Kind::Plain, program: "fastwebsockets", tuned: false },
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn built_in() -> Vec<Contender> {
        let [limit, fanout_server, rust_peers, node_peers] =
            ["bin/limit", "bin/fanout_server", "peers", "node"].map(PathBuf::from);
        Contender::built_in(&Programs { limit, fanout_server, rust_peers, node_peers })
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
        assert_eq!(
            names("poll-saturated"),
            ["limit-batch", "roomcast-sio", "socket.io", "socket.io-tuned", "socketioxide"]
        );
        assert_eq!(
            names("free-rooms"),
            ["roomcast-plain", "roomcast-plain-2-threads", "roomcast-sio", "roomcast-sio-2-threads"]
        );
        assert_eq!(
            names("text-paced:1000:1024"),
            ["roomcast-plain", "roomcast-plain-compressed", "roomcast-sio", "roomcast-sio-compressed"]
        );
        assert_eq!(names("paced").len(), 1 + 5 + PEERS.len());
        assert_eq!(names("echo").len(), 1 + 2 + PEERS.len());
        assert_eq!(names("chat:1000").len(), 1 + 4 + PEERS.len());
    }

    #[test]
    fn passes_arguments_to_each_server() {
        assert_eq!(arguments("limit-write", "poll-paced"), "--port 9 --send write --pattern poll");
        assert_eq!(arguments("limit-batch", "echo"), "--port 9 --send batch --pattern echo");
        assert_eq!(arguments("roomcast-sio", "poll-paced"), "9 broadcast --threads 1");
        assert_eq!(arguments("roomcast-plain-mounted", "rooms"), "9 room --mounted");
        assert_eq!(arguments("axum-tuned", "echo"), "9 echo --tuned");
        assert_eq!(arguments("socket.io", "rooms"), "node/socket.io.js 9 room");
    }
}
