use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Load;
use crate::loadgen::Kind;

/// A server to run, and what its clients speak: `NAME=KIND[/PATH]:COMMAND`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    name: String,
    kind: Kind,
    /// Its WebSocket endpoint, if not the usual one
    path: Option<String>,
    program: PathBuf,
    /// `{port}` and `{pattern}` are filled in
    arguments: Vec<String>,
    /// Its clients can also poll
    polls: bool,
    /// One of our limit servers, which is told to poll by its pattern
    limit: bool,
}

impl Contender {
    /// The two limits and the product's example
    pub(super) fn built_in(limit: &Path, fanout_server: &Path) -> Vec<Self> {
        let limit = |send: &str| Self {
            name: format!("limit-{send}"),
            kind: Kind::Plain,
            path: None,
            program: limit.into(),
            arguments: words(&format!("--port {{port}} --send {send} --pattern {{pattern}}")),
            polls: true,
            limit: true,
        };
        let product = |name: &str, kind| Self {
            name: name.into(),
            kind,
            path: None,
            program: fanout_server.into(),
            arguments: words("{port} {pattern} --threads 1"),
            polls: kind == Kind::Sio,
            limit: false,
        };
        let (plain, sio) = (product("roomcast-plain", Kind::Plain), product("roomcast-sio", Kind::Sio));
        vec![limit("write"), limit("batch"), plain, sio]
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can run under this load
    pub(super) fn takes(&self, load: &Load) -> bool {
        !load.polling || self.polls
    }

    pub(super) fn kind(&self, load: &Load) -> Kind {
        if load.polling { Kind::Poll } else { self.kind }
    }

    pub(super) fn path(&self, load: &Load) -> Option<&str> {
        if load.polling { None } else { self.path.as_deref() }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn arguments(&self, load: &Load, port: u16) -> Vec<String> {
        let pattern = if load.polling && self.limit { "poll" } else { load.pattern() };
        let fill = |word: &String| word.replace("{port}", &port.to_string()).replace("{pattern}", pattern);
        self.arguments.iter().map(fill).collect()
    }

    /// Whether its program is there; one without a path is looked up when it is started
    pub(super) fn exists(&self) -> bool {
        self.program.components().count() == 1 || self.program.is_file()
    }

    pub(super) fn how_to_build(&self) -> String {
        let program = self.program.display();
        let build = if self.limit {
            "cargo build --release -p roomcast-benches"
        } else {
            "cargo build --release -p roomcast --example fanout_server"
        };
        match self.name.starts_with("roomcast-") || self.limit {
            true => format!("there is no {program}; build it with `{build}`"),
            false => format!("there is no {program}"),
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
            other => return Err(format!("{other} is neither plain nor sio")),
        };
        let mut words = words(command);
        if name.is_empty() || words.is_empty() {
            return Err("the name or the command is empty".into());
        }
        if !command.contains("{port}") {
            return Err("the command must say where {port} goes".into());
        }
        let program = PathBuf::from(words.remove(0));
        let polls = kind == Kind::Sio;
        Ok(Self { name: name.into(), kind, path, program, arguments: words, polls, limit: false })
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Load {
        text.parse().unwrap()
    }

    #[test]
    fn a_command_is_filled_in() {
        let other: Contender = "other=plain/ws:./other -p {port} --do={pattern} x".parse().unwrap();
        assert_eq!((other.name(), other.program()), ("other", Path::new("./other")));
        assert_eq!(other.arguments(&load("rooms"), 81), ["-p", "81", "--do=room", "x"]);
        assert_eq!((other.kind(&load("rooms")), other.path(&load("rooms"))), (Kind::Plain, Some("/ws")));
        assert!(!other.takes(&load("poll-paced")));
    }

    #[test]
    fn a_command_that_cannot_work_is_refused() {
        for wrong in ["x", "x=plain", "x=plain:", "=plain:a {port}", "x=udp:a {port}", "x=sio:a"] {
            assert!(wrong.parse::<Contender>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_and_product_poll_if_the_load_does() {
        let built_in = Contender::built_in(Path::new("limit"), Path::new("fanout_server"));
        let polling = load("poll-paced");
        let names: Vec<&str> = built_in.iter().filter(|it| it.takes(&polling)).map(Contender::name).collect();
        assert_eq!(names, ["limit-write", "limit-batch", "roomcast-sio"]);
        let arguments = |at: usize, text| built_in[at].arguments(&load(text), 9).join(" ");
        assert_eq!(arguments(0, "poll-paced"), "--port 9 --send write --pattern poll");
        assert_eq!(arguments(1, "echo"), "--port 9 --send batch --pattern echo");
        assert_eq!(arguments(3, "poll-paced"), "9 broadcast --threads 1");
    }
}
