//! The bare client library: a publisher and a subscriber without servers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use roomcast_loadgen::process::now;
use roomcast_loadgen::{Error, ErrorContext as _};

use crate::child::Running;

/// Publisher and subscriber; see the example `bare_client`.
pub(super) struct BareClients {
    publisher: Client,
    subscriber: Client,
    bytes: usize,
}

struct Client {
    process: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl BareClients {
    /// Starts both by a function of their command.
    pub(super) fn start(
        start: impl Fn(&str, &mut dyn FnMut(&mut Command)) -> Result<Running, Error>,
        bytes: usize,
    ) -> Result<Self, Error> {
        let client = |role: &str| {
            let mut process = start(role, &mut |command| {
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
            })?;
            let pipes = process.0.stdin.take().zip(process.0.stdout.take());
            let (input, output) = pipes.ok_or_else(|| Error::Server("no pipe".into()))?;
            let mut client = Client { process, input, output: BufReader::new(output) };
            client.expect("ready")?;
            Ok(client)
        };
        Ok(Self { subscriber: client("receive")?, publisher: client("publish")?, bytes })
    }

    pub(super) fn pids(&self) -> [u32; 2] {
        [&self.publisher, &self.subscriber].map(|client| client.process.0.id())
    }

    /// Publishes for a time, and waits until all is received; returns the number of messages.
    pub(super) fn run(&mut self, time: Duration) -> Result<u64, Error> {
        let begun = now();
        let mut messages = 0;
        while now() - begun < time {
            self.subscriber.command(&BATCH.to_string())?;
            self.publisher.command(&format!("{BATCH} {}", self.bytes))?;
            self.publisher.expect("done")?;
            self.subscriber.expect("done")?;
            messages += BATCH;
        }
        Ok(messages)
    }
}

impl Client {
    fn command(&mut self, line: &str) -> Result<(), Error> {
        writeln!(self.input, "{line}").doing(|| "command a bare client".into())
    }

    fn expect(&mut self, expected: &str) -> Result<(), Error> {
        let mut line = String::new();
        self.output.read_line(&mut line).doing(|| "read from a bare client".into())?;
        if line.trim_end() == expected {
            return Ok(());
        }
        Err(Error::Server(format!("a bare client ended, or printed {:?}", line.trim_end())))
    }
}

/// Messages that are published before the last one is waited for.
const BATCH: u64 = 32_768;
